//! The generator's list, its lag and its ports.

use std::time::Duration;

use super::super::fixture::{Line, Tree};
use super::super::metric::Metric;
use super::super::sample::Event;
use super::super::{Error, Sampler};
use super::Generator;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn machine() -> Tree {
    let tree = Tree::new();
    let socket = |number: u16, remote: &str| {
        format!(
            "   1: 0100007F:{number:04X} {remote} 01 00000000:00000000 00:00000000 00000000 0 0 2 1\n"
        )
    };
    let table: String = (40_000..40_004)
        .map(|port| socket(port, "0A00000A:0050"))
        .chain((40_010..40_020).map(|port| socket(port, "0B00000A:0050")))
        .chain([socket(80, "0A00000A:0050")])
        .collect();
    tree.write(&[
        ("proc/100/stat", &Line::new(100, 1, 100, 0).text()),
        ("proc/101/stat", &Line::new(101, 100, 100, 0).text()),
        ("proc/102/stat", &Line::new(102, 100, 100, 0).text()),
        ("proc/100/status", "Cpus_allowed_list:\t0-1\n"),
        ("proc/net/tcp", &table),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ]);
    tree
}

#[test]
fn only_listed_processes_count() {
    let tree = machine();
    let mut generator = Generator::new(&[100], tree.roots()).unwrap();
    generator.set_processes(&[100, 101]);
    generator.sample(at(0)).unwrap();
    tree.write(&[
        ("proc/100/stat", &Line::new(100, 1, 130, 0).text()),
        ("proc/101/stat", &Line::new(101, 100, 150, 0).text()),
        ("proc/102/stat", &Line::new(102, 100, 199, 0).text()),
    ]);
    let sample = generator.sample(at(1)).unwrap();
    assert_eq!(sample.get(Metric::CpuCoresUsed), Some(0.8));
    assert_eq!(sample.utilization(Metric::CpuCoresUsed), Some(0.4));
    assert_eq!(sample.get(Metric::Processes), Some(2.0));
}

#[test]
fn ports_are_counted_towards_the_busiest_address() {
    let tree = machine();
    let mut generator = Generator::new(&[100], tree.roots()).unwrap();
    let sample = generator.sample(at(0)).unwrap();
    assert_eq!(sample.get(Metric::EphemeralPortsUsed), Some(10.0));
    assert_eq!(sample.get(Metric::EphemeralPortsLimit), Some(28_232.0));
}

#[test]
fn lag_is_that_of_one_sample() {
    let tree = machine();
    let mut generator = Generator::new(&[100], tree.roots()).unwrap();
    generator.set_event_loop_lag(Duration::from_millis(250));
    let lags = [0, 1].map(|second| {
        generator
            .sample(at(second))
            .unwrap()
            .get(Metric::EventLoopLagSeconds)
    });
    assert_eq!(lags, [Some(0.25), None]);
}

#[test]
fn its_end_is_said_once() {
    let tree = machine();
    let mut generator = Generator::new(&[100], tree.roots()).unwrap();
    generator.sample(at(0)).unwrap();
    tree.remove("proc/100");
    let events = [1, 2].map(|second| generator.sample(at(second)).unwrap().events);
    assert_eq!(events, [vec![Event::Exited], vec![]]);
    let error = Generator::new(&[7], tree.roots()).unwrap_err();
    assert!(matches!(error, Error::NoProcess { pid: 7 }));
}

#[test]
fn socket_tables_are_read_the_less_often_the_longer_they_are() {
    for (sockets, pause) in [(10_u16, 4), (3000, 6)] {
        let tree = machine();
        let line = |port| {
            format!(
                "   1: 0100007F:{port:04X} 0A00000A:0050 01 00000000:00000000 00:00000000 00000000 0 0 2 1\n"
            )
        };
        let lines: String = (40_000..40_000 + sockets).map(line).collect();
        // The last one twice, as the kernel may list it when the table changes meanwhile.
        let table = lines + &line(40_000 + sockets - 1);
        tree.write(&[("proc/net/tcp", &table)]);
        let mut generator = Generator::new(&[100], tree.roots()).unwrap();
        let counts: Vec<_> = (0..pause + 2)
            .map(|second| generator.sample(at(second)).unwrap())
            .map(|sample| sample.get(Metric::EphemeralPortsUsed))
            .collect();
        let (first, rest) = counts.split_first().unwrap();
        let (last, between) = rest.split_last().unwrap();
        let expected = Some(f64::from(sockets));
        assert_eq!((*first, *last), (expected, expected));
        assert!(between.iter().all(Option::is_none));
    }
}
