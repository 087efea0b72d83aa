//! Conditions on the results, such as `p95<500ms`, `error-rate<1%` or `rps>=200 for GET /x`.
//!
//! Owns what a threshold is and whether it held; the grammar is `grammar`'s. A threshold about something that was never
//! recorded does not hold: a misspelt name must not pass. Tested at the end of a run, and by nobody else.

mod grammar;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::{Results, ServiceTime};
use crate::metrics::{Distribution, Kind, Recorder};
use crate::monitor::{self, GENERATOR, Metric};

pub use grammar::ThresholdError;

/// A condition that the results of a run must meet.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    quantity: Quantity,
    comparison: Comparison,
    limit: f64,
    scope: Scope,
    /// Times are response times, from when runs were to start.
    of_responses: bool,
}

/// What is compared. Times in seconds, shares from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    Percentile(f64),
    Mean,
    Shortest,
    Longest,
    ErrorRatio,
    RequestsPerSecond,
    Runs,
    Requests,
    Failures,
    /// Late starts, and those not made, as a number.
    Late,
    NotStarted,
    /// The same as a share of those intended.
    LateRatio,
    NotStartedRatio,
    Usage(Whose, Use),
    /// Bytes of memory.
    Memory(Whose),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Whose {
    Target,
    Generator,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    Cpu,
    Memory,
    Disk,
    Network,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    Different,
}

/// What a threshold is about.
#[derive(Debug, Clone, PartialEq)]
enum Scope {
    Run,
    Scenario(String),
    /// A request's name; without a host, that of any host.
    Request(String),
}

/// A threshold and whether it held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The threshold as it was written.
    pub threshold: String,
    /// Whether it held.
    pub passed: bool,
    /// What was found, in `unit`; `None` when nothing was recorded.
    pub value: Option<f64>,
    /// What it was compared with.
    pub limit: f64,
    /// `seconds`, `ratio`, `per_second`, `count` or `bytes`.
    pub unit: String,
    /// What was found, in words.
    pub message: String,
}

impl Quantity {
    const fn unit(self) -> &'static str {
        match self {
            Self::Percentile(_) | Self::Mean | Self::Shortest | Self::Longest => "seconds",
            Self::ErrorRatio | Self::LateRatio | Self::NotStartedRatio | Self::Usage(..) => "ratio",
            Self::RequestsPerSecond => "per_second",
            Self::Runs | Self::Requests | Self::Failures | Self::Late | Self::NotStarted => "count",
            Self::Memory(_) => "bytes",
        }
    }
}

impl Quantity {
    const fn is_time(self) -> bool {
        matches!(
            self,
            Self::Percentile(_) | Self::Mean | Self::Shortest | Self::Longest
        )
    }

    const fn is_of_starts(self) -> bool {
        matches!(
            self,
            Self::Late | Self::NotStarted | Self::LateRatio | Self::NotStartedRatio
        )
    }
}

impl Comparison {
    #[expect(clippy::float_cmp, reason = "asked for by the user, of counts mostly")]
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Equal => value == limit,
            Self::Different => value != limit,
        }
    }
}

impl Threshold {
    /// The threshold as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tests it against finished results; `recorder` holds what was recorded for them.
    pub fn outcome(&self, results: &Results, recorder: &Recorder) -> Outcome {
        let value = self.value(results, recorder);
        let passed = value.is_some_and(|value| self.comparison.holds(value, self.limit));
        let unit = self.quantity.unit();
        let message = match value {
            Some(value) => Shown(value, unit).to_string(),
            None => self.missing(),
        };
        Outcome {
            threshold: self.text.clone(),
            passed,
            value,
            limit: self.limit,
            unit: unit.to_owned(),
            message,
        }
    }

    fn missing(&self) -> String {
        match (&self.quantity, &self.scope) {
            (Quantity::Usage(Whose::Target, _) | Quantity::Memory(Whose::Target), _) => {
                "not measured: --monitor names what to measure".to_owned()
            }
            (Quantity::Usage(..) | Quantity::Memory(_), _) => "not measured".to_owned(),
            (quantity, _) if self.of_responses || quantity.is_of_starts() => {
                "not measured: --rate or --stages says when runs are to start".to_owned()
            }
            (_, Scope::Run) => "nothing was recorded".to_owned(),
            (_, Scope::Scenario(name)) => format!("nothing was recorded for scenario {name}"),
            (_, Scope::Request(name)) => format!("nothing was recorded for {name}"),
        }
    }

    fn value(&self, results: &Results, recorder: &Recorder) -> Option<f64> {
        let counts = &results.counts;
        let seconds = results.meta.elapsed_seconds;
        let per_second = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
        match (self.quantity, &self.scope) {
            (Quantity::Usage(whose, what), _) => usage(results, whose, what),
            (Quantity::Memory(whose), _) => memory(results, whose),
            (quantity, _) if quantity.is_of_starts() => {
                let starts = results.starts.as_ref()?;
                Some(match quantity {
                    Quantity::Late => starts.late as f64,
                    Quantity::LateRatio => starts.share(starts.late),
                    Quantity::NotStarted => starts.not_started as f64,
                    _ => starts.share(starts.not_started),
                })
            }
            (Quantity::ErrorRatio, Scope::Run) => counts.error_ratio(),
            (Quantity::RequestsPerSecond, Scope::Run) => per_second(counts.requests),
            (Quantity::Runs, Scope::Run) => Some((counts.succeeded + counts.failed) as f64),
            (Quantity::Requests, Scope::Run) => Some(counts.requests as f64),
            (Quantity::Failures, Scope::Run) => Some(counts.failed as f64),
            (quantity, scope) => {
                let times = if self.of_responses {
                    responses(scope, recorder)
                } else {
                    distribution(scope, recorder)
                };
                if times.count() == 0 {
                    return None;
                }
                let time = match quantity {
                    Quantity::Percentile(percent) => times.quantile(percent / 100.0),
                    Quantity::Mean => times.mean(),
                    Quantity::Shortest => times.min(),
                    Quantity::Longest => times.max(),
                    Quantity::ErrorRatio => {
                        return Some(times.failed() as f64 / times.count() as f64);
                    }
                    Quantity::RequestsPerSecond => return per_second(times.count()),
                    Quantity::Failures => return Some(times.failed() as f64),
                    _ => return Some(times.count() as f64),
                };
                time.map(|time| time.as_secs_f64())
            }
        }
    }

    /// Whether this threshold judges how many runs of that scenario may fail.
    pub(super) fn judges_failures(text: &str, scenario: &str) -> bool {
        text.parse::<Self>().is_ok_and(|threshold| {
            matches!(
                threshold.quantity,
                Quantity::ErrorRatio | Quantity::Failures
            ) && match &threshold.scope {
                Scope::Run => true,
                Scope::Scenario(name) => name == scenario,
                Scope::Request(_) => false,
            }
        })
    }
}

/// Response times of all runs, or of a scenario's.
fn responses(scope: &Scope, recorder: &Recorder) -> Distribution {
    recorder.distribution(Kind::Response, |row| match scope {
        Scope::Run => true,
        Scope::Scenario(name) => row == name,
        Scope::Request(_) => false,
    })
}

/// Of the whole run, requests when there were any, else runs.
fn distribution(scope: &Scope, recorder: &Recorder) -> Distribution {
    match scope {
        Scope::Run => {
            let requests = recorder.distribution(Kind::Request, |_| true);
            if requests.count() > 0 {
                requests
            } else {
                recorder.distribution(Kind::Scenario, |_| true)
            }
        }
        Scope::Scenario(name) => recorder.distribution(Kind::Scenario, |row| row == name),
        Scope::Request(name) => recorder.distribution(Kind::Request, |row| is_request(row, name)),
    }
}

/// Whether a row of requests has that name; one without a host (`GET /x`) fits every host.
fn is_request(row: &str, name: &str) -> bool {
    if row == name {
        return true;
    }
    let any_host = name
        .split_once(' ')
        .is_some_and(|(_, path)| path.starts_with('/'));
    let Some((method, rest)) = row.split_once(' ') else {
        return false;
    };
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    any_host && name.split_once(' ') == Some((method, path))
}

/// The time that resources are judged over: that of the verdict's level, else the whole run.
fn judged(results: &Results) -> (Duration, Duration) {
    let level = results
        .verdict
        .as_ref()
        .and_then(|verdict| verdict.level.as_ref());
    let (from, to) = level.map_or((0.0, results.meta.elapsed_seconds), |level| {
        (level.from_seconds, level.to_seconds)
    });
    let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    (time(from), time(to))
}

fn sources(results: &Results, whose: Whose) -> impl Iterator<Item = &monitor::Series> {
    let generator = whose == Whose::Generator;
    results
        .monitor
        .iter()
        .filter(move |series| (series.source == GENERATOR) == generator)
}

/// The largest share of all targets: CPU, disk and network in the mean, memory at its peak.
fn usage(results: &Results, whose: Whose, what: Use) -> Option<f64> {
    let (from, to) = judged(results);
    let of = |series: &monitor::Series| {
        let window = |metric| series.window(metric, from, to);
        let share = |metric: Metric, value: f64| {
            let limit = window(metric.limit()?)?.mean;
            (limit > 0.0).then(|| value / limit)
        };
        match what {
            Use::Cpu => share(Metric::CpuCoresUsed, window(Metric::CpuCoresUsed)?.mean),
            Use::Memory => share(Metric::MemoryBytes, window(Metric::MemoryBytes)?.max),
            Use::Disk => Some(window(Metric::DiskBusyRatio)?.mean),
            Use::Network => Some(window(Metric::NetworkBusyRatio)?.mean),
        }
    };
    sources(results, whose).filter_map(of).reduce(f64::max)
}

fn memory(results: &Results, whose: Whose) -> Option<f64> {
    let (from, to) = judged(results);
    let of = |series: &monitor::Series| Some(series.window(Metric::MemoryBytes, from, to)?.max);
    sources(results, whose).filter_map(of).reduce(f64::max)
}

/// A value in its unit, as people write it.
struct Shown<'a>(f64, &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        match self.1 {
            "seconds" if value < 10.0 => write!(f, "{} ms", digits(value * 1000.0)),
            "seconds" => write!(f, "{} s", digits(value)),
            "ratio" => write!(f, "{} %", digits(value * 100.0)),
            "per_second" => write!(f, "{}/s", digits(value)),
            "bytes" => write!(f, "{} MiB", digits(value / 1024.0 / 1024.0)),
            _ => write!(f, "{value}"),
        }
    }
}

/// Three digits, more only in front of the point.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// The scenario rows of a document.
pub(super) fn scenarios(results: &Results) -> impl Iterator<Item = &ServiceTime> {
    results.service_times.iter().filter(|row| row.is_scenario())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn outcome(text: &str) -> Outcome {
        let results = sample::results();
        let recorder = results.recorder().unwrap();
        text.parse::<Threshold>()
            .unwrap()
            .outcome(&results, &recorder)
    }

    #[test]
    fn values_are_those_of_the_document() {
        for (text, passed, message) in [
            ("p95<500ms", true, "95.0 ms"),
            ("p(95)<50", false, "95.0 ms"),
            ("med<=60ms", true, "50.0 ms"),
            ("max<0.2s", true, "100 ms"),
            ("avg>1ms", true, "50.5 ms"),
            ("error-rate<1%", false, "10.0 %"),
            ("error-rate<=0.1", true, "10.0 %"),
            ("rps>=20", true, "20.0/s"),
            ("rps>20", false, "20.0/s"),
            ("runs>=100", true, "100"),
            ("failures==10", true, "10"),
            ("requests!=200", false, "200"),
            ("p50<60ms for GET /x", true, "50.0 ms"),
            ("requests==100 for GET h:1/x", true, "100"),
            ("error-rate==0 for POST /items/42", true, "0.00 %"),
            ("p95<2s for scenario browse", true, "950 ms"),
            ("runs>=100 for scenario browse", true, "100"),
            ("target.cpu<80%", false, "97.0 %"),
            ("target.memory<90%", true, "50.0 %"),
            ("target.memory<600MB", true, "477 MiB"),
            ("generator.cpu<50%", true, "20.0 %"),
        ] {
            let outcome = outcome(text);
            assert_eq!(
                (outcome.passed, outcome.message.as_str()),
                (passed, message),
                "{text}"
            );
            assert_eq!(outcome.threshold, text);
        }
    }

    #[test]
    fn what_was_never_recorded_does_not_pass() {
        for (text, message) in [
            (
                "p95<500ms for GET /nope",
                "nothing was recorded for GET /nope",
            ),
            (
                "p95<500ms for scenario nope",
                "nothing was recorded for scenario nope",
            ),
            (
                "target.disk<80%",
                "not measured: --monitor names what to measure",
            ),
        ] {
            let outcome = outcome(text);
            assert!(!outcome.passed && outcome.value.is_none());
            assert_eq!(outcome.message, message);
        }
    }

    #[test]
    fn starts_and_response_times_are_those_of_a_rate() {
        let mut results = sample::results();
        let mut recorder = results.recorder().unwrap();
        for text in ["response.p95<1s", "late<1%", "not-started==0"] {
            let threshold: Threshold = text.parse().unwrap();
            let outcome = threshold.outcome(&results, &recorder);
            assert!(!outcome.passed, "{text}");
            assert!(outcome.message.contains("--rate"), "{}", outcome.message);
        }
        results.starts = Some(super::super::Starts {
            intended: 200,
            started: 190,
            not_started: 10,
            late: 4,
            ..super::super::Starts::default()
        });
        let id = recorder.response_id("browse");
        for milliseconds in 1..=100 {
            recorder.record(id, Duration::from_millis(20 * milliseconds), true, 0);
        }
        for (text, passed, message) in [
            ("response.p95<2s", true, "1901 ms"),
            ("response.max<1s for scenario browse", false, "2000 ms"),
            ("late<1%", false, "2.00 %"),
            ("late<5", true, "4"),
            ("not-started<=10", true, "10"),
            ("dropped_iterations==0", false, "10"),
            ("not-started<6%", true, "5.00 %"),
            ("p95<100ms", true, "95.0 ms"),
        ] {
            let threshold: Threshold = text.parse().unwrap();
            let outcome = threshold.outcome(&results, &recorder);
            let found = (outcome.passed, outcome.message.as_str());
            assert_eq!(found, (passed, message), "{text}");
        }
    }

    #[test]
    fn hosts_may_be_left_out_but_paths_not() {
        assert!(is_request("GET h:1/x", "GET /x"));
        assert!(is_request("GET h:1", "GET /"));
        assert!(!is_request("GET h:1/x/y", "GET /y"));
        assert!(!is_request("POST h:1/x", "GET /x"));
        assert!(!is_request("GET h:1/x", "GET other/x"));
    }
}
