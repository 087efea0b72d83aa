//! What a picture shows, as data.
//!
//! Owns the choice and the wording of title, verdict and facts; which panels there are is `panels`'. Made from the
//! document alone; nothing here knows a pixel. Drawn by `layout`.

use std::time::Duration;

use super::panels;
use super::scale::{Unit, bytes, service_time, significant};
use crate::monitor::{Metric, Series};
use crate::results::Results;
use crate::verdict::{Resource, Verdict};

/// Colours that people with any colour vision tell apart (Okabe and Ito, "Color Universal Design", 2008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Blue,
    Orange,
    Green,
    Vermillion,
    Purple,
    Grey,
}

impl Ink {
    pub(super) const fn rgb(self) -> (u8, u8, u8) {
        match self {
            Self::Blue => (0, 114, 178),
            Self::Orange => (214, 140, 0),
            Self::Green => (0, 138, 100),
            Self::Vermillion => (205, 84, 0),
            Self::Purple => (170, 84, 140),
            Self::Grey => (120, 126, 134),
        }
    }
}

/// How a line is drawn: never told by its colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    Solid,
    Bold,
    Dashed,
    Dotted,
}

/// One line of a panel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Vec<(f64, Option<f64>)>,
    pub(super) ink: Ink,
    pub(super) stroke: Stroke,
    /// Whether it is read at the right axis.
    pub(super) right: bool,
    /// Whether the area below it is tinted.
    pub(super) filled: bool,
    /// Whether it stays at a value until the next one.
    pub(super) steps: bool,
}

/// A measured point with its interval.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether the level could be held.
    pub(super) good: bool,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) unit: Unit,
    pub(super) logarithmic: bool,
    /// The axis reaches at least this far.
    pub(super) at_least: f64,
}

/// One chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panel {
    pub(super) title: String,
    /// What its values are of.
    pub(super) note: String,
    pub(super) x: Unit,
    pub(super) x_range: (f64, f64),
    pub(super) left: Axis,
    pub(super) right: Option<Axis>,
    pub(super) lines: Vec<Line>,
    pub(super) dots: Vec<Dot>,
    /// Parts of the time, with their names.
    pub(super) bands: Vec<(f64, f64, String)>,
    /// A place that matters, with its name.
    pub(super) mark: Option<(f64, String)>,
    /// What is said when there is nothing to draw.
    pub(super) nothing: String,
}

/// How the run ended, for the label beside the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Doubtful,
    Neutral,
}

/// A number with what it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    pub(super) label: String,
    pub(super) value: String,
    pub(super) note: String,
}

/// A whole picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    pub(super) title: String,
    pub(super) when: String,
    pub(super) badge: (Tone, String),
    pub(super) verdict: String,
    pub(super) details: String,
    pub(super) facts: Vec<Fact>,
    pub(super) panels: Vec<Panel>,
    pub(super) footer: String,
}

impl Scene {
    pub(super) fn of(results: &Results) -> Self {
        let meta = &results.meta;
        let mut lines = results.headlines();
        let only_monitored = results.is_recording();
        // A run that was not to find anything begins with its figures.
        let verdict = if (results.sizing.is_some() || only_monitored) && !lines.is_empty() {
            lines.remove(0)
        } else {
            plain_verdict(results)
        };
        let monitored = results.monitor.first().map(|series| series.source.as_str());
        let name = match (&meta.scenario_file, monitored) {
            (Some(file), _) => file,
            (None, Some(source)) if only_monitored => source,
            _ => "load test",
        };
        let mut when = vec![meta.started_at.clone(), meta.host.clone()];
        if meta.elapsed_seconds > 0.0 {
            when.insert(1, length(meta.elapsed_seconds));
        }
        when.retain(|part| !part.is_empty());
        let version = if meta.molotov.is_empty() {
            "Molotov".to_owned()
        } else {
            format!("Molotov {}", meta.molotov)
        };
        Self {
            title: name.to_owned(),
            when: when.join(" · "),
            badge: badge(results),
            verdict,
            details: details(results, lines),
            facts: if only_monitored {
                monitored_facts(results)
            } else {
                facts(results)
            },
            panels: panels::of(results),
            footer: if meta.command.is_empty() {
                version
            } else {
                format!("{version} · {}", meta.command.join(" "))
            },
        }
    }
}

fn badge(results: &Results) -> (Tone, String) {
    let failed = results.thresholds.iter().filter(|one| !one.passed).count();
    let saturated = results
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.resource == Resource::Generator);
    let code = results.exit.as_ref().map_or(0, |exit| exit.code);
    if !results.complete {
        (Tone::Doubtful, "INCOMPLETE".to_owned())
    } else if failed > 0 {
        (Tone::Bad, "FAILED".to_owned())
    } else if results.counts.failed > 0 && results.counts.succeeded == 0 {
        (Tone::Bad, "ALL FAILED".to_owned())
    } else if saturated {
        (Tone::Doubtful, "LOWER BOUND".to_owned())
    } else if code != 0 {
        (Tone::Bad, format!("EXIT {code}"))
    } else if !results.thresholds.is_empty() {
        (Tone::Good, "PASSED".to_owned())
    } else if results.is_recording() {
        (Tone::Neutral, "RESOURCES".to_owned())
    } else {
        (Tone::Neutral, "FINISHED".to_owned())
    }
}

fn plain_verdict(results: &Results) -> String {
    let counts = &results.counts;
    if counts.started == 0 {
        return "Nothing was run".to_owned();
    }
    let mut parts = vec![format!(
        "{} {} over {}",
        significant(results.throughput()),
        results.throughput_unit(),
        length(results.meta.elapsed_seconds)
    )];
    parts.push(match counts.failed {
        0 => "no run failed".to_owned(),
        failed => format!(
            "{} of {} runs failed",
            significant(failed as f64),
            significant((counts.succeeded + failed) as f64)
        ),
    });
    parts.extend(results.verdict.as_ref().and_then(Verdict::brief));
    parts.join(" · ")
}

/// What follows the verdict: broken thresholds, then its other sentences.
fn details(results: &Results, others: Vec<String>) -> String {
    let broken = results.thresholds.iter().filter(|one| !one.passed);
    let mut parts: Vec<String> = broken
        .map(|one| format!("Not held: {} (was {})", one.threshold, one.message))
        .collect();
    parts.extend(results.counts.lost_processes.iter().cloned());
    parts.extend(others);
    parts.join(" · ")
}

fn facts(results: &Results) -> Vec<Fact> {
    let counts = &results.counts;
    let mut facts = Vec::new();
    let mut add = |label: &str, value: String, note: String| {
        facts.push(Fact {
            label: label.to_owned(),
            value,
            note,
        });
    };
    let search = results
        .sizing
        .as_ref()
        .and_then(|sizing| sizing.search.as_ref());
    let capacity = search.and_then(|search| search.capacity.as_ref());
    if let Some(capacity) = capacity {
        let (rate, noun) = if capacity.requests_per_second.mean > 0.0 {
            (capacity.requests_per_second, "req/s")
        } else {
            (capacity.runs_per_second, "runs/s")
        };
        add(
            "capacity",
            format!("{} {noun}", significant(rate.mean.round())),
            format!(
                "95 %: {}–{}",
                significant(rate.low.round()),
                significant(rate.high.round())
            ),
        );
        let times = capacity
            .service_times
            .map(|times| (times.p50_seconds, times.p95_seconds, times.p99_seconds));
        if let Some((p50, p95, p99)) = times {
            add(
                "p95 at capacity",
                service_time(p95),
                format!("p50 {} · p99 {}", service_time(p50), service_time(p99)),
            );
        }
    } else if counts.started > 0 {
        let attempts = results.attempts();
        add(
            "throughput",
            format!(
                "{} {}",
                significant(results.throughput()),
                results.throughput_unit()
            ),
            if attempts.unanswered() > 0 {
                format!(
                    "{} of {} requests answered",
                    significant(attempts.answered as f64),
                    significant(attempts.tried as f64)
                )
            } else {
                format!(
                    "{} runs/s passed",
                    significant(results.per_second(counts.succeeded))
                )
            },
        );
        let all = results.recorder().ok().map(|recorder| {
            let mut all = recorder.distribution(crate::metrics::Kind::Request, |_| true);
            if all.count() == 0 {
                all = recorder.distribution(crate::metrics::Kind::Scenario, |_| true);
            }
            all
        });
        let at = |share: f64| {
            let time = all.as_ref().and_then(|all| all.quantile(share));
            time.map_or_else(|| "–".to_owned(), |time| service_time(time.as_secs_f64()))
        };
        add(
            "p95 service time",
            at(0.95),
            format!("p50 {} · p99 {}", at(0.5), at(0.99)),
        );
    }
    if let Some(ratio) = counts.error_ratio() {
        let digits = if ratio > 0.0 && ratio < 0.001 { 3 } else { 1 };
        add(
            "failed runs",
            format!("{:.digits$} %", ratio * 100.0),
            format!(
                "{} of {}",
                significant(counts.failed as f64),
                significant((counts.succeeded + counts.failed) as f64)
            ),
        );
    }
    facts.extend(limit_and_generator(results));
    facts
}

/// What limits the service, and whether the generator was fit to measure.
fn limit_and_generator(results: &Results) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |label: &str, value: String, note: String| {
        facts.push(Fact {
            label: label.to_owned(),
            value,
            note,
        });
    };
    let Some(verdict) = &results.verdict else {
        return Vec::new();
    };
    let source = verdict.source.clone().unwrap_or_default();
    let (value, note) = match verdict.resource {
        Resource::Unknown => ("not known".to_owned(), "not enough evidence".to_owned()),
        Resource::Inside => ("the service".to_owned(), "or one behind it".to_owned()),
        Resource::Nothing => ("nothing yet".to_owned(), source),
        resource => (
            resource.as_str().trim_start_matches("the ").to_owned(),
            format!("{} confidence · {source}", verdict.confidence.as_str()),
        ),
    };
    add("limited by", value, note.trim_end_matches(" · ").to_owned());
    let generator = &verdict.generator;
    let cpu = generator
        .cpu_ratio
        .map_or_else(String::new, |ratio| format!("CPU {:.0} %", ratio * 100.0));
    match generator.valid {
        Some(true) => add("generator", "fit".to_owned(), cpu),
        Some(false) => add("generator", "saturated".to_owned(), cpu),
        None => {}
    }
    facts
}

/// What is known of a target without a run: means and peaks.
fn monitored_facts(results: &Results) -> Vec<Fact> {
    let Some(series) = results.monitor.first() else {
        return Vec::new();
    };
    let limit = |metric: Metric| whole(series, metric.limit()?).map(|(_, most)| most);
    let mut facts = Vec::new();
    if let Some((mean, most)) = whole(series, Metric::CpuCoresUsed) {
        let of = limit(Metric::CpuCoresUsed)
            .map_or_else(String::new, |limit| format!(" of {}", significant(limit)));
        facts.push(Fact {
            label: "CPU, at most".to_owned(),
            value: format!("{}{of} cores", significant(most)),
            note: format!("{} in the mean", significant(mean)),
        });
    }
    if let Some((mean, most)) = whole(series, Metric::MemoryBytes) {
        let of = limit(Metric::MemoryBytes)
            .map_or_else(String::new, |limit| format!(" · limit {}", bytes(limit)));
        facts.push(Fact {
            label: "memory, at most".to_owned(),
            value: bytes(most),
            note: format!("{} in the mean{of}", bytes(mean)),
        });
    }
    let pairs = [
        (
            "network",
            Metric::NetworkReceiveBytesPerSecond,
            Metric::NetworkTransmitBytesPerSecond,
            ["received", "sent"],
        ),
        (
            "disk",
            Metric::DiskReadBytesPerSecond,
            Metric::DiskWriteBytesPerSecond,
            ["read", "written"],
        ),
    ];
    for (what, first, second, names) in pairs {
        let (one, other) = (whole(series, first), whole(series, second));
        if let Some((mean, most)) = one {
            facts.push(Fact {
                label: format!("{what}, {}", names[0]),
                value: format!("{}/s", bytes(mean)),
                note: match other {
                    Some((mean, _)) => format!("{} {}/s", names[1], bytes(mean)),
                    None => format!("at most {}/s", bytes(most)),
                },
            });
        }
    }
    facts
}

/// Mean and maximum over everything that was sampled.
fn whole(series: &Series, metric: Metric) -> Option<(f64, f64)> {
    let window = series.window(metric, Duration::ZERO, Duration::MAX)?;
    Some((window.mean, window.max))
}

/// A length of time in words.
fn length(seconds: f64) -> String {
    let whole = seconds.round();
    if whole < 120.0 {
        format!("{whole:.0} s")
    } else if whole < 7200.0 {
        format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
    } else {
        format!(
            "{:.0} h {:.0} min",
            (whole / 3600.0).floor(),
            (whole % 3600.0 / 60.0).floor()
        )
    }
}
