//! Filling the document while the run goes.
//!
//! Owns what has to be remembered between two seconds: the totals and the distribution at the last look. Has no clock:
//! the caller says what time it is, in seconds since the start of the run. Costs nothing per request; a second costs one
//! pass over the histograms. Called by `python`.

use super::document::{Counts, ErrorGroup, Exit, Meta, Results, ServiceTime, Sizing};
use super::levels;
use super::series::Point;
use super::starts::Starts;
use super::threshold::Threshold;
use crate::metrics::{Distribution, Kind, Recorder};
use crate::monitor;
use crate::verdict::{Known, judge};

/// The counters of a run at some time, over all processes.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Workers running now.
    pub workers: i64,
    /// Time between head and last byte of all responses.
    pub transfer_micros: u64,
    /// Counts since the start; `bytes` and `unfinished` are filled in here.
    pub counts: Counts,
    /// With a rate: what is asked for now, in runs per second, and what became of the starts since the beginning.
    pub starts: Option<(f64, Starts)>,
}

/// Collects the results of a run.
#[derive(Debug)]
pub struct Collector {
    results: Results,
    thresholds: Vec<Threshold>,
    last: Counts,
    seen: Distribution,
    responses: Distribution,
    bytes: u64,
    transfer_micros: u64,
}

impl Collector {
    /// For a run that is about to begin.
    pub fn new(meta: Meta, thresholds: Vec<Threshold>) -> Self {
        Self {
            results: Results::new(meta),
            thresholds,
            last: Counts::default(),
            seen: Distribution::default(),
            responses: Distribution::default(),
            bytes: 0,
            transfer_micros: 0,
        }
    }

    /// Around results that were read from a file: nothing is collected any more.
    pub fn of(results: Results) -> Self {
        Self {
            results,
            ..Self::new(Meta::default(), Vec::new())
        }
    }

    /// What has been collected.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// The same, for what only the caller knows: files, errors.
    pub fn results_mut(&mut self) -> &mut Results {
        &mut self.results
    }

    /// Takes a look, about once a second; returns what came since the last one. `lag_seconds` is how late the event loop
    /// was at worst.
    pub fn second(
        &mut self,
        now: f64,
        totals: Totals,
        recorder: &Recorder,
        lag_seconds: Option<f64>,
    ) -> Point {
        let mut counts = totals.counts;
        let mut all = recorder.distribution(Kind::Request, |_| true);
        let bytes = all.bytes();
        if all.count() == 0 {
            all = recorder.distribution(Kind::Scenario, |_| true);
        }
        // It fails once: when the first request comes after runs that had none.
        let fresh = all.since(&self.seen).unwrap_or_else(|| all.clone());
        let quantile = |quantile| fresh.quantile(quantile).map(|time| time.as_secs_f64());
        counts.bytes = bytes;
        let ended = counts.succeeded + counts.failed + counts.interrupted;
        counts.unfinished = counts.started.saturating_sub(ended);
        let last = &self.last;
        let requests = counts.requests.saturating_sub(last.requests);
        let transfer = totals.transfer_micros.saturating_sub(self.transfer_micros);
        let mut point = Point {
            time_seconds: now,
            workers: totals.workers,
            started: counts.started.saturating_sub(last.started),
            succeeded: counts.succeeded.saturating_sub(last.succeeded),
            failed: counts.failed.saturating_sub(last.failed),
            interrupted: counts.interrupted.saturating_sub(last.interrupted),
            requests,
            bytes: bytes.saturating_sub(self.bytes),
            p50_seconds: quantile(0.5),
            p95_seconds: quantile(0.95),
            p99_seconds: quantile(0.99),
            transfer_seconds: (requests > 0).then(|| transfer as f64 / 1e6 / requests as f64),
            event_loop_lag_seconds: lag_seconds,
            ..Point::default()
        };
        let map = &mut self.results.service_time_map;
        map.get_or_insert_default().add(now, &fresh);
        if let Some((target, starts)) = totals.starts {
            self.note_starts(&mut point, target, starts, recorder);
        }
        self.seen = all;
        self.bytes = bytes;
        self.transfer_micros = totals.transfer_micros;
        self.last = counts.clone();
        self.results.counts = counts;
        self.results.meta.elapsed_seconds = now;
        self.results.series.0.push(point.clone());
        point
    }

    fn note_starts(&mut self, point: &mut Point, target: f64, starts: Starts, recorder: &Recorder) {
        let all = recorder.distribution(Kind::Response, |_| true);
        let fresh = all.since(&self.responses).unwrap_or_default();
        let quantile = |quantile| fresh.quantile(quantile).map(|time| time.as_secs_f64());
        let last = self.results.starts.take().unwrap_or_default();
        point.target_per_second = Some(target);
        point.intended = starts.intended.saturating_sub(last.intended);
        point.not_started = starts.not_started.saturating_sub(last.not_started);
        point.late = starts.late.saturating_sub(last.late);
        point.late_without_worker = starts
            .late_without_worker
            .saturating_sub(last.late_without_worker);
        point.response_p50_seconds = quantile(0.5);
        point.response_p95_seconds = quantile(0.95);
        point.response_p99_seconds = quantile(0.99);
        self.responses = all;
        self.results.starts = Some(starts);
    }

    /// Reads the rows anew, for a document written while the run goes.
    pub fn refresh(&mut self, recorder: &Recorder) {
        let (service_times, response_times) = ServiceTime::all_of(recorder);
        self.results.service_times = service_times;
        self.results.response_times = response_times;
    }

    /// Takes the last look and everything that is known at the end, judges, and tests the thresholds.
    pub fn finish(
        &mut self,
        now: f64,
        totals: Totals,
        recorder: &Recorder,
        sizing: Option<Sizing>,
        monitor: Vec<monitor::Series>,
        errors: Vec<ErrorGroup>,
    ) {
        self.second(now, totals, recorder, None);
        self.refresh(recorder);
        let results = &mut self.results;
        results.sizing = sizing;
        results.monitor = monitor;
        results.errors = ErrorGroup::merge(errors);
        conclude(results);
        results.thresholds = self
            .thresholds
            .iter()
            .map(|threshold| threshold.outcome(results, recorder))
            .collect();
        results.complete = true;
        results.journal = None;
    }

    /// Says how the command ends.
    pub fn exit(&mut self, code: i32, reason: impl Into<String>) {
        self.results.exit = Some(Exit {
            code,
            reason: reason.into(),
        });
    }
}

/// Judges what limits the service. Also for a run that died: everything it needs is in the document.
pub(super) fn conclude(results: &mut Results) {
    let (level, others) = levels::of(results);
    let mut series = results.monitor.iter();
    let generator = series
        .clone()
        .find(|series| series.source == monitor::GENERATOR);
    let targets: Vec<&monitor::Series> = series
        .by_ref()
        .filter(|series| series.source != monitor::GENERATOR)
        .collect();
    let mut answered = 0;
    let requests: Vec<(f64, u64)> = results
        .series
        .0
        .iter()
        .map(|point| {
            answered += point.requests;
            (point.time_seconds, answered)
        })
        .collect();
    let failure = usual_failure(results);
    results.verdict = Some(judge(&Known {
        generator,
        targets: &targets,
        level: level.as_ref(),
        others: &others,
        requests: &requests,
        failure: failure.as_deref(),
    }));
}

/// What more than half of the failed runs raised, on a short line.
fn usual_failure(results: &Results) -> Option<String> {
    const LONGEST: usize = 60;
    let all: u64 = results.errors.iter().map(|group| group.count).sum();
    let most = results.errors.iter().max_by_key(|group| group.count)?;
    if 2 * most.count <= all {
        return None;
    }
    let class = most.kind.rsplit('.').next().unwrap_or_default();
    let text = format!("{class}: {}", most.message.replace('\n', " "));
    let text = text.trim_end_matches([':', ' ']);
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn totals(started: u64, failed: u64, requests: u64) -> Totals {
        Totals {
            workers: 2,
            transfer_micros: requests * 2_000,
            counts: Counts {
                started,
                succeeded: started.saturating_sub(failed + 1),
                failed,
                requests,
                ..Counts::default()
            },
            starts: None,
        }
    }

    #[test]
    fn what_most_runs_raised_is_said_shortly() {
        let group = |kind: &str, message: &str, count| ErrorGroup {
            kind: kind.to_owned(),
            place: "load.py:7".to_owned(),
            count,
            first_seconds: 0.0,
            last_seconds: 1.0,
            message: message.to_owned(),
            example: String::new(),
        };
        let of = |errors| {
            let mut results = Results::new(Meta::default());
            results.errors = errors;
            usual_failure(&results)
        };
        let refused = group("aiohttp.ClientError", "refused\nby peer", 51);
        let other = group("AssertionError", "", 50);
        assert_eq!(
            of(vec![refused.clone(), other.clone()]).unwrap(),
            "ClientError: refused by peer"
        );
        assert_eq!(of(vec![other.clone()]).unwrap(), "AssertionError");
        assert_eq!(of(vec![other.clone(), other]), None);
        assert_eq!(of(Vec::new()), None);
        let long = of(vec![group("E", &"x".repeat(90), 1)]).unwrap();
        assert_eq!(long.chars().count(), 61);
    }

    #[test]
    fn points_add_up_to_the_counts() {
        let mut recorder = Recorder::new();
        let id = recorder.request_id("GET", "h/x");
        let mut collector = Collector::new(Meta::default(), Vec::new());
        for second in 1..=5_u64 {
            recorder.record(id, Duration::from_millis(10 * second), true, 100);
            let seen = totals(second * 10, second, second);
            collector.second(second as f64, seen, &recorder, Some(0.01));
        }
        collector.finish(
            5.5,
            totals(50, 5, 5),
            &recorder,
            None,
            Vec::new(),
            Vec::new(),
        );
        let results = collector.results();
        let sum = |of: fn(&Point) -> u64| results.series.0.iter().map(of).sum::<u64>();
        assert_eq!(sum(|point| point.started), results.counts.started);
        assert_eq!(sum(|point| point.failed), results.counts.failed);
        assert_eq!(sum(|point| point.requests), 5);
        assert_eq!(sum(|point| point.bytes), results.counts.bytes);
        assert_eq!(results.counts.unfinished, 1);
        let p50 = results.series.0[2].p50_seconds.unwrap();
        assert!((p50 - 0.03).abs() < 0.001, "{p50}");
        assert_eq!(results.series.0[5].p50_seconds, None);
        assert_eq!(results.series.0[2].transfer_seconds, Some(0.002));
        assert_eq!(results.series.0[5].transfer_seconds, None);
        assert!(results.complete && results.verdict.is_some());
    }

    #[test]
    fn starts_of_a_rate_are_noted_by_second() {
        let mut recorder = Recorder::new();
        let id = recorder.response_id("a");
        let mut collector = Collector::new(Meta::default(), Vec::new());
        for second in 1..=3_u64 {
            recorder.record(id, Duration::from_millis(100 * second), true, 0);
            let starts = Starts {
                intended: 12 * second,
                started: 10 * second,
                not_started: 2 * second,
                ..Starts::default()
            };
            let seen = Totals {
                starts: Some((12.0, starts)),
                ..totals(second * 10, 0, 0)
            };
            let point = collector.second(second as f64, seen, &recorder, None);
            assert_eq!((point.intended, point.not_started), (12, 2));
            let p95 = point.response_p95_seconds.unwrap();
            assert!((p95 - 0.1 * second as f64).abs() < 0.001, "{p95}");
        }
        assert_eq!(collector.results().starts.as_ref().unwrap().intended, 36);
        collector.refresh(&recorder);
        let results = collector.results();
        assert!(results.service_times.is_empty());
        assert_eq!(results.response_times[0].count, 3);
        let again = results.recorder().unwrap();
        assert_eq!(again.rows(), recorder.rows());
    }

    #[test]
    fn requests_that_come_after_runs_replace_them() {
        let mut recorder = Recorder::new();
        let run = recorder.scenario_id("a");
        recorder.record(run, Duration::from_secs(9), true, 0);
        let mut collector = Collector::new(Meta::default(), Vec::new());
        let point = collector.second(1.0, Totals::default(), &recorder, None);
        assert!(point.p50_seconds.unwrap() > 8.9);
        let id = recorder.request_id("GET", "h/x");
        recorder.record(id, Duration::from_millis(5), true, 0);
        let point = collector.second(2.0, Totals::default(), &recorder, None);
        assert!(point.p50_seconds.unwrap() < 0.006, "{point:?}");
    }
}
