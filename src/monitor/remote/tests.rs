//! The collector run for real on this machine and on trees of fixtures, and its rows read.

use std::process::Command;

use super::super::fixture::Tree;
use super::super::metric::Metric;
use super::super::sample::Event;
use super::{COLLECTOR, remote_history};

/// Runs the collector for a few rows with the roots given.
fn collect(tree: &Tree, pid: &str, rows: &str, fixture: bool) -> String {
    let folder = tree.path("out");
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", COLLECTOR, "collect", pid]);
    command.arg(&folder).args(["0.02", rows]);
    if fixture {
        command
            .env("CGROUP_ROOT", tree.path("cgroup"))
            .env("PROC_ROOT", tree.path("proc"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(folder.join("done").exists());
    std::fs::read_to_string(folder.join("metrics.csv")).unwrap()
}

/// The machine's own files that every layout needs.
fn machine(tree: &Tree, pid_groups: &str) {
    for (path, text) in [
        ("proc/uptime", "1000.50 900.00\n"),
        ("proc/7/stat", "7 (kinto) S 1 7 7\n"),
        (
            "proc/7/net/dev",
            "Inter-|\n face |\n  lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 5000000000 10 0 1 0 0 0 0 6000000000 20 0 2 0 0 0 0\n",
        ),
        (
            "proc/stat",
            "cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 5 0 5 40 0 0 0 1 0 0\ncpu1 5 0 5 40 0 0 0 2 0 0\nintr 1\n",
        ),
        (
            "proc/meminfo",
            "MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        ),
        ("proc/vmstat", "pswpin 3\npswpout 4\noom_kill 0\n"),
        (
            "proc/diskstats",
            " 259 0 nvme0n1 1 0 16 1 1 0 8 1 0 250 300 0 0\n 259 1 nvme0n1p1 1 0 16 1 1 0 8 1 0 5 5 0 0\n",
        ),
        (
            "proc/pressure/cpu",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345678901\nfull avg10=0.00 total=1\n",
        ),
        (
            "proc/net/dev",
            "h\nh\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  ens5: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\ndocker0: 7 7 0 0 0 0 0 0 7 7 0 0 0 0 0 0\n",
        ),
        ("proc/loadavg", "0.1 0.1 0.1 1/123 456\n"),
        ("proc/7/cgroup", pid_groups),
    ] {
        tree.write(&[(path, text)]);
    }
}

#[test]
fn version_two_has_every_counter_as_it_stands() {
    let tree = Tree::new();
    machine(&tree, "0::/system.slice/docker-abc.scope\n");
    tree.write(&[("cgroup/cgroup.controllers", "cpu memory io pids\n")]);
    let group = "cgroup/system.slice/docker-abc.scope";
    for (name, text) in [
        (
            "cpu.stat",
            "usage_usec 98765432109\nnr_periods 10\nnr_throttled 4\n",
        ),
        ("cpu.max", "150000 100000\n"),
        ("memory.current", "9000000000\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 1\ninactive_file 1000000000\n"),
        ("memory.swap.current", "0\n"),
        ("memory.events", "low 0\noom 2\noom_kill 1\n"),
        ("pids.current", "5\n"),
        ("pids.max", "100\n"),
        (
            "io.stat",
            "259:0 rbytes=4096 wbytes=3000000000 rios=1\n259:1 rbytes=1 wbytes=1\n",
        ),
        ("cpu.pressure", "some avg10=1.00 total=77\n"),
    ] {
        tree.write(&[(&format!("{group}/{name}"), text)]);
    }
    let text = collect(&tree, "7", "1", true);
    let row = text.lines().nth(2).unwrap();
    let expected = "1000.50,98765432109,,10,4,150000,100000,9000000000,,1000000000,0,1,5,100,4097,3000000001,77,,,\
        5000000000,10,6000000000,20,3,10;10,51;52,3,8000,6000,0,0,3,4,0,16,8,250,300,12345678901,,,1,2,3,4,0,123";
    assert_eq!(row, expected);
    let remote = remote_history(&text);
    let sample = &remote.service[0].1;
    assert_eq!(sample.get(Metric::MemoryBytes), Some(8e9));
    assert_eq!(sample.get(Metric::CpuLimitCores), Some(1.5));
    assert_eq!(sample.get(Metric::MemoryLimitBytes), Some(8000.0 * 1024.0));
    assert_eq!(
        remote.host[0].1.get(Metric::MemoryBytes),
        Some(2000.0 * 1024.0)
    );
}

#[test]
fn version_one_finds_controllers_that_are_mounted_together() {
    let tree = Tree::new();
    machine(
        &tree,
        "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:blkio:/docker/abc\n0::/\n",
    );
    for (name, text) in [
        ("cpu,cpuacct/docker/abc/cpuacct.usage", "5000000000\n"),
        (
            "cpu,cpuacct/docker/abc/cpu.stat",
            "nr_periods 3\nnr_throttled 1\nthrottled_time 9\n",
        ),
        ("cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n"),
        ("cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n"),
        ("memory/docker/abc/memory.usage_in_bytes", "4096\n"),
        (
            "memory/docker/abc/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        (
            "memory/docker/abc/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
        (
            "blkio/docker/abc/blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
        ),
    ] {
        tree.write(&[(&format!("cgroup/{name}"), text)]);
    }
    let text = collect(&tree, "7", "1", true);
    let row = text.lines().nth(2).unwrap();
    assert!(
        row.starts_with("1000.50,,5000000000,3,1,,100000,4096,9223372036854771712,,,2,,,10,20,"),
        "{row}"
    );
    let remote = remote_history(&text);
    let sample = &remote.service[0].1;
    assert_eq!(sample.get(Metric::CpuLimitCores), Some(2.0));
    assert_eq!(sample.get(Metric::OutOfMemoryKills), Some(0.0));
}

#[test]
fn this_machine_is_collected() {
    let tree = Tree::new();
    let pid = std::process::id().to_string();
    let text = collect(&tree, &pid, "4", false);
    let remote = remote_history(&text);
    assert_eq!(remote.service.len(), 4);
    let (time, sample) = remote.host.last().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs_f64() - time).abs() < 600.0);
    assert!(sample.get(Metric::MemoryBytes).unwrap() > 1e6);
    assert!(sample.get(Metric::CpuLimitCores).unwrap() >= 1.0);
}

#[test]
fn a_process_that_has_gone_leaves_the_host_and_an_event() {
    let tree = Tree::new();
    let text = collect(&tree, "999999999", "3", false);
    let remote = remote_history(&text);
    assert_eq!(remote.host.len(), 3);
    let exits = remote
        .service
        .iter()
        .filter(|(_, sample)| sample.events.contains(&Event::Exited));
    assert_eq!(exits.count(), 1);
    assert!(
        remote.service[1].1.is_gap() || remote.service[1].1.get(Metric::CpuCoresUsed).is_none()
    );
}

const HEADING: &str =
    "t,cpu_usec,cpu_nsec,memory,quota_us,period_us,h_core_used,h_core_all,h_stolen,h_disk_busy_ms";

#[test]
fn rates_come_from_two_rows() {
    let text = format!(
        "#clock,1700000000,100.0\n{HEADING}\n100.0,0,,10,,,0;0,0;0,0,0;0\n102.0,3000000,,10,,,100;200,200;200,4,1000;500\n"
    );
    let remote = remote_history(&text);
    let (time, service) = &remote.service[1];
    assert!((time - 1_700_000_002.0).abs() < 1e-6);
    assert_eq!(service.get(Metric::CpuCoresUsed), Some(1.5));
    let host = &remote.host[1].1;
    assert_eq!(host.get(Metric::CpuCoresUsed), Some(1.5));
    assert_eq!(host.get(Metric::HottestCoreRatio), Some(1.0));
    assert_eq!(host.get(Metric::CpuStealRatio), Some(0.01));
    assert_eq!(host.get(Metric::DiskBusyRatio), Some(0.5));
    assert!(remote.notes.is_empty());
}

#[test]
fn damage_is_left_out_and_told() {
    let text = format!(
        "{HEADING}\n1,1,,1,,,0,0,0,0\n2,1,,1,,,0,0,0,0\n3,1,,1,,,0,0,0,0\n2,1,,1,,,0,0,0,0\n9,1,,1,,,0,0,0,0\ngarbage\n10,1"
    );
    let remote = remote_history(&text);
    assert_eq!(remote.host.len(), 4);
    assert_eq!(
        remote.notes,
        [
            "rows of the collector go back in time",
            "the collector paused for 6 s",
            "2 rows of the collector are damaged"
        ]
    );
    assert_eq!(remote_history(""), super::Remote::default());
}
