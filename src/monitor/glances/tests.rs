//! Files as Glances 4.5.8 and Glances 2 write them, cut to the columns that matter.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use super::super::fixture::Tree;
use super::super::metric::Metric;
use super::super::sample::{Event, Sample};
use super::super::series::Series;
use super::super::{Error, Sampler};
use super::Glances;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn history(path: &std::path::Path, container: Option<&str>) -> Result<Series, Error> {
    super::history(path, container).map(|history| history.series)
}

#[track_caller]
fn holds(sample: &Sample, expected: &[(Metric, Option<f64>)]) {
    for (metric, value) in expected {
        assert_eq!(sample.get(*metric), *value, "{}", metric.name());
    }
}

const HOST: &str = "timestamp,cpu.total,cpu.steal,cpu.cpucore,mem.total,mem.available,mem.used,memswap.total,memswap.used,\
    network.eth0.speed,network.eth0.bytes_recv_rate_per_sec,network.eth0.bytes_sent_rate_per_sec,\
    network.lo.bytes_recv_rate_per_sec,diskio.sda.read_bytes_rate_per_sec,diskio.sda.write_bytes_rate_per_sec,\
    diskio.sda1.read_bytes_rate_per_sec,diskio.zram0.read_bytes_rate_per_sec,processcount.total";

fn host_row(second: u32, cpu: &str) -> String {
    format!(
        "2026-11-25 19:58:{second:02},{cpu},10.0,4,1000,400,333,100,7,1048576000,62500000.0,1000.0,9,50.0,60.0,50.0,9,123\r\n"
    )
}

#[test]
fn the_host_is_read_by_its_dotted_columns() {
    let tree = Tree::new();
    let path = tree.path("out.csv");
    tree.write(&[("out.csv", &format!("{HOST}\r\n{}", host_row(1, "0.0")))]);
    let mut sampler = Glances::new(&path, None).unwrap();
    assert!(sampler.sample(at(1)).unwrap().is_gap());
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let row = host_row(2, "60.0");
    let (head, tail) = row.split_at(40);
    file.write_all(head.as_bytes()).unwrap();
    assert!(sampler.sample(at(2)).unwrap().is_gap());
    file.write_all(tail.as_bytes()).unwrap();
    let sample = sampler.sample(at(3)).unwrap();
    holds(
        &sample,
        &[
            (Metric::CpuCoresUsed, Some(2.0)),
            (Metric::CpuLimitCores, Some(4.0)),
            (Metric::CpuStealRatio, Some(0.1)),
            (Metric::MemoryBytes, Some(600.0)),
            (Metric::MemoryLimitBytes, Some(1000.0)),
            (Metric::SwapBytes, Some(7.0)),
            (Metric::NetworkReceiveBytesPerSecond, Some(62_500_000.0)),
            (Metric::NetworkTransmitBytesPerSecond, Some(1000.0)),
            (Metric::NetworkLimitBytesPerSecond, Some(125_000_000.0)),
            (Metric::NetworkBusyRatio, Some(0.5)),
            (Metric::DiskReadBytesPerSecond, Some(50.0)),
            (Metric::DiskWriteBytesPerSecond, Some(60.0)),
            (Metric::Processes, Some(123.0)),
        ],
    );
    assert!(sampler.sample(at(4)).unwrap().is_gap());
}

const CONTAINERS: &str = "timestamp,cpu.total,cpu.cpucore,containers.tested.name,containers.tested.cpu_percent,\
    containers.tested.memory_usage,containers.tested.memory_inactive_file,containers.tested.memory_limit,\
    containers.tested.io_rx,containers.tested.io_wx,containers.tested.network_rx,containers.tested.network_tx,\
    containers.tested.command\n";

#[test]
fn the_only_container_goes_before_the_host() {
    let tree = Tree::new();
    let path = tree.path("out.csv");
    let rows = "2026-11-25 19:58:01,5.0,2,tested,0.0,5000,1000,9000,0,0,0,0,\"run, \"\"fast\"\"\nnow\"\n\
                2026-11-25 19:58:03,5.0,2,tested,150.0,6000,1000,9000,10,20,30,40,x\n\
                2026-11-25 19:58:05,5.0,2,tested,,,,,,,,,x\n";
    tree.write(&[("out.csv", &format!("{CONTAINERS}{rows}"))]);
    let series = history(&path, None).unwrap();
    let cpu: Vec<_> = series.points(Metric::CpuCoresUsed).collect();
    assert_eq!(cpu, [(0.0, None), (2.0, Some(1.5)), (4.0, None)]);
    let memory: Vec<_> = series.points(Metric::MemoryBytes).collect();
    assert_eq!(
        memory,
        [(0.0, Some(4000.0)), (2.0, Some(5000.0)), (4.0, None)]
    );
    let window = series
        .window(Metric::NetworkTransmitBytesPerSecond, at(0), at(9))
        .unwrap();
    assert_eq!(
        (window.samples, window.mean.to_string().as_str()),
        (1, "40")
    );
    let host = history(&path, Some("host")).unwrap();
    assert_eq!(
        host.window(Metric::CpuCoresUsed, at(0), at(9))
            .unwrap()
            .samples,
        3
    );
}

#[test]
fn old_cells_are_dictionaries() {
    let tree = Tree::new();
    let path = tree.path("old.csv");
    let row = |second: u32, total: f64, received: u32, since: &str| {
        format!(
            "2017-05-01 10:00:{second:02},\"{{'total': {total}}}\",\"{{'usage': 5000, 'limit': 9000, 'max_usage': 7000}}\",\
             \"{{'rx': 300, 'tx': 0, 'cumulative_rx': {received}, 'cumulative_tx': 10{since}}}\",\
             \"{{'cumulative_ior': {received}, 'cumulative_iow': 0}}\",too,long\n"
        )
    };
    let heading = "timestamp,sensors_tested_cpu,sensors_tested_memory,sensors_tested_network,sensors_tested_io\n";
    let rows = [
        row(0, 0.0, 1000, ""),
        row(2, 80.0, 1600, ""),
        row(4, 50.0, 1900, ", 'time_since_update': 3"),
    ]
    .concat();
    tree.write(&[(
        "old.csv",
        &format!("{heading}{rows}2017-05-01 10:00:06,,\n"),
    )]);
    let series = history(&path, None).unwrap();
    let points = |metric| {
        series
            .points(metric)
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        points(Metric::CpuCoresUsed),
        [None, Some(0.8), Some(0.5), None]
    );
    assert_eq!(
        points(Metric::MemoryBytes),
        [Some(5000.0), Some(5000.0), Some(5000.0), None]
    );
    assert_eq!(points(Metric::MemoryLimitBytes)[0], Some(9000.0));
    assert_eq!(
        points(Metric::NetworkReceiveBytesPerSecond),
        [None, Some(300.0), Some(100.0), None]
    );
    assert_eq!(
        points(Metric::DiskReadBytesPerSecond),
        [None, Some(300.0), Some(150.0), None]
    );
    assert_eq!(
        points(Metric::DiskWriteBytesPerSecond),
        [None, Some(0.0), Some(0.0), None]
    );
}

#[test]
fn a_file_that_begins_anew_is_read_from_its_heading() {
    let tree = Tree::new();
    let path = tree.path("out.csv");
    tree.write(&[(
        "out.csv",
        &format!("{HOST}\n{}{}", host_row(1, "9"), host_row(2, "9")),
    )]);
    let mut sampler = Glances::new(&path, None).unwrap();
    tree.write(&[(
        "out.csv",
        "timestamp,cpu.total,cpu.cpucore\n2026-11-25 20:00:00,50.0,2\n",
    )]);
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(sample.events, [Event::Restarted]);
    assert_eq!(sample.get(Metric::CpuCoresUsed), Some(1.0));
}

#[test]
fn an_empty_file_waits_for_its_heading() {
    let tree = Tree::new();
    tree.write(&[("out.csv", "")]);
    let mut sampler = Glances::new(&tree.path("out.csv"), None).unwrap();
    assert!(sampler.sample(at(1)).unwrap().is_gap());
    tree.write(&[("out.csv", &format!("{HOST}\n{}", host_row(1, "60.0")))]);
    let sample = sampler.sample(at(2)).unwrap();
    assert_eq!(sample.get(Metric::MemoryBytes), Some(600.0));
    assert_eq!(sample.get(Metric::NetworkReceiveBytesPerSecond), None);
}

#[test]
fn every_refusal_is_one_line_that_names_the_file() {
    let tree = Tree::new();
    let several = "timestamp,containers.a.b.cpu_percent,containers.c.cpu_percent,cpu.total\n";
    tree.write(&[
        ("none.csv", "timestamp,load.min1\n"),
        ("several.csv", several),
    ]);
    let path = tree.path("several.csv");
    let errors = [
        Glances::new(&tree.path("missing.csv"), None).unwrap_err(),
        Glances::new(&tree.path("none.csv"), None).unwrap_err(),
        Glances::new(&path, None).unwrap_err(),
        Glances::new(&path, Some("d")).unwrap_err(),
    ];
    assert!(matches!(errors[0], Error::GlancesFile { .. }));
    assert!(matches!(errors[1], Error::NoGlancesColumns { .. }));
    for error in &errors[2..] {
        assert!(
            error.to_string().contains("one of a.b, c, or host"),
            "{error}"
        );
    }
    for error in errors {
        let text = error.to_string();
        assert!(
            text.starts_with("--monitor glances:") && text.lines().count() == 1,
            "{text}"
        );
    }
    assert!(Glances::new(&path, Some("a.b")).is_ok());
    assert!(Glances::new(&path, Some("host")).is_ok());
}

#[test]
fn a_history_knows_when_it_began() {
    let tree = Tree::new();
    let path = tree.path("out.csv");
    tree.write(&[(
        "out.csv",
        &format!("{HOST}\r\n{}{}", host_row(7, "1.0"), host_row(9, "2.0")),
    )]);
    let history = super::history(&path, None).unwrap();
    assert_eq!(history.began, "2026-11-25 19:58:07");
    assert_eq!(history.series.len(), 2);
    tree.write(&[("out.csv", "")]);
    assert_eq!(super::history(&path, None).unwrap().began, "");
}
