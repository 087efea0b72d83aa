//! A small document that the tests of this module share.

use std::time::Duration;

use super::*;
use crate::metrics::Recorder;
use crate::monitor::{Metric, Sample, Series as MonitorSeries};
use crate::sizing::Reason;

/// What was recorded: 100 runs of `browse`, 200 requests of 1 to 100 ms, a tenth of the runs failed.
pub(crate) fn recorder() -> Recorder {
    let mut recorder = Recorder::new();
    let run = recorder.scenario_id("browse");
    let get = recorder.request_id("GET", "h:1/x");
    let post = recorder.request_id("POST", "h:1/items/7");
    for number in 1..=100_u64 {
        recorder.record(run, Duration::from_millis(10 * number), number % 10 > 0, 0);
        recorder.record(get, Duration::from_millis(number), true, 50);
        recorder.record(post, Duration::from_millis(number), true, 0);
    }
    recorder
}

fn monitored(source: &str, cores: f64, bytes: f64) -> MonitorSeries {
    let mut series = MonitorSeries::new(source);
    for second in 0..10 {
        let mut sample = Sample::default();
        sample.set(Metric::CpuCoresUsed, cores);
        sample.set(Metric::CpuLimitCores, 2.0);
        sample.set(Metric::MemoryBytes, bytes);
        sample.set(Metric::MemoryLimitBytes, 1e9);
        series.push(Duration::from_secs(second), &sample);
    }
    series
}

/// A finished run of ten seconds.
pub(crate) fn results() -> Results {
    let recorder = recorder();
    let meta = Meta {
        command: vec![
            "molotov".to_owned(),
            "--json".to_owned(),
            "x.json".to_owned(),
        ],
        scenario_file: Some("load <test>.py".to_owned()),
        ..Meta::default()
    };
    let thresholds = ["p95<500ms", "error-rate<1%"].map(|text| text.parse().unwrap());
    let mut collector = Collector::new(meta, thresholds.into());
    let totals = |second: u64| Totals {
        workers: if second < 10 { 4 } else { 0 },
        transfer_micros: second * 20 * 5_000,
        counts: Counts {
            started: second * 10,
            succeeded: second * 9,
            failed: second,
            requests: second * 20,
            statuses: [("2xx".to_owned(), second * 20)].into(),
            workers_started: 4,
            ..Counts::default()
        },
        ..Totals::default()
    };
    for second in 1..=9 {
        collector.second(second as f64, totals(second), &Recorder::new(), Some(0.002));
    }
    let sizing = Sizing {
        ramp: Some(Ramp {
            reason: Reason::Plateau,
            error_ratio: 0.1,
            workers: 4,
            window_succeeded: 90,
            window_failed: 10,
            best_runs_per_second: Some(10.0),
            best_requests_per_second: Some(20.0),
            best_workers: Some(3),
            sentence: "More workers brought no more runs.".to_owned(),
        }),
        ..Sizing::default()
    };
    let monitor = vec![
        monitored("generator", 0.4, 1e8),
        monitored("pid:7", 1.94, 5e8),
    ];
    let error = ErrorGroup {
        kind: "AssertionError".to_owned(),
        place: "load <test>.py:7".to_owned(),
        count: 10,
        first_seconds: 0.5,
        last_seconds: 9.5,
        message: "assert 500 == 200 ]]> & \u{1}".to_owned(),
        example: "Traceback ...".to_owned(),
    };
    collector.finish(
        10.0,
        totals(10),
        &recorder,
        Some(sizing),
        monitor,
        vec![error],
    );
    collector.exit(99, "a threshold failed");
    collector.results_mut().files.push(Output {
        kind: "json".to_owned(),
        path: "x.json".to_owned(),
    });
    collector.results().clone()
}
