//! The host on a `/proc` and `/sys` of the test's own making.

use std::time::Duration;

use super::super::fixture::Tree;
use super::super::metric::Metric;
use super::super::sample::{Event, Sample};
use super::super::{Error, Sampler};
use super::Host;

fn machine() -> Tree {
    let tree = Tree::new();
    tree.write(&[
        ("proc/loadavg", "0.1 0.2 0.3 2/345 999\n"),
        ("proc/sys/fs/file-nr", "1216\t0\t100000\n"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("proc/net/sockstat", "sockets: used 17\nTCP: inuse 3 orphan 0 tw 10 alloc 1 mem 230\n"),
        (
            "proc/net/tcp",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1\n\
             1: 0100007F:8001 0A00000A:0050 01 00000000:00000000 00:00000000 00000000 0 0 2 1\n\
             2: 0100007F:8002 0A00000A:0050 06 00000000:00000000 00:00000000 00000000 0 0 0 3\n\
             3: 0100007F:8003 0A00000A:0051 01 00000000:00000000 00:00000000 00000000 0 0 4 1\n\
             4: 0100007F:0050 0A00000A:8005 01 00000000:00000000 00:00000000 00000000 0 0 5 1\n",
        ),
        ("sys/block/vda/size", "1\n"),
        ("sys/block/loop0/size", "1\n"),
        ("sys/block/dm-0/slaves/vda/size", "1\n"),
        ("sys/class/net/eth0/device/uevent", "\n"),
        ("sys/class/net/eth0/speed", "1000\n"),
        ("sys/class/net/veth1/speed", "10000\n"),
    ]);
    counters(&tree, 0);
    tree
}

fn counters(tree: &Tree, second: u64) {
    // Core 0: 50 used, 25 stolen, 25 idle of 100 ticks; core 1 idle.
    let stat = format!(
        "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 {} 0 {} {} {} 0 {} {} 999 0\ncpu1 5 0 5 {} 0 0 0 0 0 0\nintr 5 0\nbtime 1\n",
        100 + second * 30,
        second * 15,
        second * 20,
        second * 5,
        second * 5,
        second * 25,
        second * 100,
    );
    let meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nSwapTotal: 500 kB\nSwapFree: 300 kB\n";
    let vmstat = format!(
        "pswpin {}\npswpout {}\noom_kill {}\n",
        second * 2,
        second * 3,
        second
    );
    let disk = |name: &str| {
        format!(
            "   8       0 {name} 10 0 {} 5 10 0 {} 5 0 {} {} 0 0 0 0 0 0\n",
            second * 8,
            second * 16,
            second * 600,
            second * 2500
        )
    };
    let disks = ["vda", "vda1", "loop0", "dm-0"].map(disk).concat();
    let interface = |name: &str| {
        format!(
            "  {name}: {} {} 0 {} 0 0 0 0 {} {} 0 {} 0 0 0 0\n",
            second * 1000,
            second * 10,
            second,
            second * 62_500_000,
            second * 20,
            second * 2
        )
    };
    let interfaces = format!(
        "Inter-| Receive\n face |bytes\n{}",
        ["lo", "eth0", "veth1"].map(interface).concat()
    );
    let netstat = format!(
        "TcpExt: TW ListenOverflows ListenDrops\nTcpExt: 9 {} {}\n",
        second * 4,
        second * 5
    );
    let pressure = format!(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\n",
        second * 200_000
    );
    tree.write(&[
        ("proc/stat", &stat),
        ("proc/meminfo", meminfo),
        ("proc/vmstat", &vmstat),
        ("proc/diskstats", &disks),
        ("proc/net/dev", &interfaces),
        ("proc/net/netstat", &netstat),
        ("proc/pressure/cpu", &pressure),
        ("proc/pressure/io", &pressure),
    ]);
}

fn second_sample(tree: &Tree) -> Sample {
    counters(tree, 0);
    let mut host = Host::new(tree.roots()).unwrap();
    host.sample(Duration::from_secs(100)).unwrap();
    counters(tree, 2);
    host.sample(Duration::from_secs(102)).unwrap()
}

#[track_caller]
fn holds(sample: &Sample, expected: &[(Metric, Option<f64>)]) {
    for (metric, value) in expected {
        assert_eq!(sample.get(*metric), *value, "{}", metric.name());
    }
}

#[test]
fn every_part_is_read() {
    let sample = second_sample(&machine());
    holds(
        &sample,
        &[
            (Metric::CpuCoresUsed, Some(0.5)),
            (Metric::CpuLimitCores, Some(2.0)),
            (Metric::CpuStealRatio, Some(0.125)),
            (Metric::HottestCoreRatio, Some(0.5)),
            (Metric::CpuPressureRatio, Some(0.2)),
            (Metric::MemoryBytes, Some(600.0 * 1024.0)),
            (Metric::MemoryLimitBytes, Some(1000.0 * 1024.0)),
            (Metric::MemoryPressureRatio, None),
            (Metric::SwapBytes, Some(200.0 * 1024.0)),
            (Metric::SwapLimitBytes, Some(500.0 * 1024.0)),
            (Metric::SwapInBytesPerSecond, Some(2.0 * 4096.0)),
            (Metric::SwapOutBytesPerSecond, Some(3.0 * 4096.0)),
            (Metric::OutOfMemoryKills, Some(2.0)),
            (Metric::DiskReadBytesPerSecond, Some(8.0 * 512.0)),
            (Metric::DiskWriteBytesPerSecond, Some(16.0 * 512.0)),
            (Metric::DiskBusyRatio, Some(0.6)),
            (Metric::DiskQueue, Some(2.5)),
            (Metric::IoPressureRatio, Some(0.2)),
            (Metric::NetworkReceiveBytesPerSecond, Some(1000.0)),
            (Metric::NetworkTransmitPacketsPerSecond, Some(20.0)),
            (Metric::NetworkDropsPerSecond, Some(3.0)),
            (Metric::NetworkLimitBytesPerSecond, Some(125_000_000.0)),
            (Metric::NetworkBusyRatio, Some(0.5)),
            (Metric::OpenDescriptors, Some(1216.0)),
            (Metric::DescriptorLimit, Some(100_000.0)),
            (Metric::Threads, Some(345.0)),
            (Metric::ListenOverflowsPerSecond, Some(4.0)),
            (Metric::ListenDropsPerSecond, Some(5.0)),
            (Metric::TimeWaitSockets, Some(10.0)),
            (Metric::EphemeralPortsLimit, Some(28_232.0)),
        ],
    );
    assert_eq!(sample.core_busy_ratios, [0.5, 0.0]);
    assert_eq!(sample.events, [Event::OutOfMemory { kills: 2 }]);
}

#[test]
fn ports_are_those_towards_the_address_that_uses_most() {
    let tree = machine();
    let mut host = Host::new(tree.roots()).unwrap();
    let sample = host.sample(Duration::ZERO).unwrap();
    holds(&sample, &[(Metric::EphemeralPortsUsed, Some(2.0))]);
}

#[test]
fn what_the_machine_does_not_have_is_a_gap() {
    let tree = machine();
    for path in [
        "proc/vmstat",
        "proc/diskstats",
        "proc/net",
        "proc/pressure",
        "proc/sys",
        "proc/loadavg",
    ] {
        tree.remove(path);
    }
    let mut host = Host::new(tree.roots()).unwrap();
    host.sample(Duration::from_secs(0)).unwrap();
    let sample = host.sample(Duration::from_secs(1)).unwrap();
    let present: Vec<Metric> = sample.values().map(|(metric, _)| metric).collect();
    let expected = [
        Metric::CpuLimitCores,
        Metric::MemoryBytes,
        Metric::MemoryLimitBytes,
        Metric::SwapBytes,
        Metric::SwapLimitBytes,
    ];
    assert_eq!(present, expected);
}

#[test]
fn in_a_container_all_but_the_loopback_count() {
    let tree = machine();
    tree.remove("sys/class/net/eth0/device");
    let sample = second_sample(&tree);
    holds(
        &sample,
        &[
            (Metric::NetworkReceiveBytesPerSecond, Some(2000.0)),
            (Metric::NetworkBusyRatio, Some(0.5)),
        ],
    );
}

#[test]
fn without_proc_there_is_no_host() {
    let tree = Tree::new();
    let error = Host::new(tree.roots()).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    assert!(error.to_string().contains(tree.root().to_str().unwrap()));
}
