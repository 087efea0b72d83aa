//! Failing targets, and what the driver opens.

use std::time::Duration;

use super::super::fixture::{Line, Tree};
use super::super::metric::Metric;
use super::super::sample::{Event, Sample};
use super::super::source::Labelled;
use super::super::{Error, Generator, Sampler};
use super::{GENERATOR, Monitor};

/// Gives its results one after the other.
struct Script(Vec<Result<Sample, Error>>);

impl Sampler for Script {
    fn sample(&mut self, _: Duration) -> Result<Sample, Error> {
        self.0.remove(0)
    }
}

fn machine() -> Tree {
    let tree = Tree::new();
    tree.write(&[
        ("proc/100/stat", &Line::new(100, 1, 10, 0).text()),
        ("proc/stat", "cpu 1 1 1 1\ncpu0 1 1 1 1\n"),
        ("cgroup/cgroup.controllers", "cpu\n"),
        ("cgroup/a/cpu.stat", "usage_usec 5\n"),
        ("out.csv", "timestamp,cpu.total\n"),
    ]);
    tree
}

fn measured() -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::CpuCoresUsed, 1.0);
    sample
}

const fn failed() -> Result<Sample, Error> {
    Err(Error::NoListener { port: 1 })
}

#[test]
fn a_failure_is_said_once_and_then_a_gap() {
    let tree = machine();
    let generator = Generator::new(&[100], tree.roots()).unwrap();
    let mut monitor = Monitor::new(generator);
    let script = vec![Ok(measured()), failed(), failed(), Ok(measured()), failed()];
    monitor.add("script", Box::new(Script(script)));
    for second in 0..5 {
        let rows = monitor.sample_all(Duration::from_secs(second));
        assert_eq!(
            rows.iter().map(|row| row.source).collect::<Vec<_>>(),
            [GENERATOR, "script"]
        );
    }
    let series = monitor.into_series();
    let values: Vec<_> = series[1]
        .points(Metric::CpuCoresUsed)
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, [Some(1.0), None, None, Some(1.0), None]);
    let failed = || Event::Failed {
        message: failed().unwrap_err().to_string(),
    };
    let events: Vec<_> = series[1]
        .events()
        .iter()
        .map(|timed| (timed.time_seconds.to_string(), timed.event.clone()))
        .collect();
    let expected = [("1", failed()), ("3", Event::Recovered), ("4", failed())];
    assert_eq!(
        events,
        expected.map(|(time, event)| (time.to_owned(), event))
    );
}

#[test]
fn sources_are_opened_in_order_and_the_first_that_is_missing_is_the_error() {
    let tree = machine();
    let roots = tree.roots();
    let csv = format!("glances:{}", tree.path("out.csv").display());
    let sources = |texts: &[&str]| -> Vec<Labelled> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let good = sources(&["pid:100", "service=cgroup:/a", "host", &csv]);
    let generator = || Generator::new(&[100], roots.clone()).unwrap();
    let mut monitor = Monitor::open(generator(), &good, &roots).unwrap();
    monitor.sample_all(Duration::ZERO);
    let names: Vec<_> = monitor
        .series()
        .map(|series| series.source.as_str())
        .collect();
    assert_eq!(names, [GENERATOR, "pid:100", "service", "host", &csv]);
    for missing in [
        "pid:5",
        "port:80",
        "cgroup:/b",
        "container:a",
        "glances:no.csv",
    ] {
        let error = Monitor::open(generator(), &sources(&["host", missing]), &roots)
            .err()
            .unwrap();
        assert!(error.to_string().contains(missing), "{error}");
    }
}
