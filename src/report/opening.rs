//! The top of a page: the answer in one sentence, the figures behind it, and how much of everything was used.
//!
//! Owns the wording of the answer and which figures are on the cards. Every number is the document's own.

use super::model::{Card, Gauge, Tone, Verdict};
use super::number::{bytes, count, duration, percent, rate, time};
use crate::monitor::{GENERATOR, Metric, Series};
use crate::results::{Ramp, Results, ServiceTime};
use crate::sizing::Reason;
use crate::sizing::search::{Capacity, Findings, Interval, Limit, ServiceTimes, Unit};
use crate::verdict::{Level, Resource, whose};

/// What was tested.
pub(super) fn title(results: &Results) -> String {
    if let Some(service) = &results.service {
        let what = match results.sizing {
            Some(_) => "Sizing",
            None => "Load test",
        };
        return format!("{what} of {}", super::table::cut(&service.name, 120));
    }
    match results.meta.scenario_file.as_deref() {
        Some(file) => {
            let name = file.rsplit('/').next().unwrap_or(file);
            format!("Load test of {}", super::table::cut(name, 120))
        }
        None => "Load test".to_owned(),
    }
}

/// Within which limits, when, from where, how long.
pub(super) fn subtitle(results: &Results) -> String {
    let meta = &results.meta;
    let mut parts = Vec::new();
    if let Some(service) = &results.service {
        parts.extend(service.instance_type.clone());
        parts.extend(service.cpus.map(|cpus| format!("{cpus} CPU")));
        parts.extend(service.memory_bytes.map(|limit| bytes(limit as f64)));
    }
    if !meta.started_at.is_empty() {
        parts.push(meta.started_at.replace('T', " ").replace('Z', " UTC"));
    }
    parts.push(duration(meta.elapsed_seconds));
    if !meta.host.is_empty() {
        parts.push(format!("from {}", super::table::cut(&meta.host, 80)));
    }
    parts.join(" · ")
}

/// The level that the verdict was passed on.
pub(super) fn level(results: &Results) -> Option<&Level> {
    results.verdict.as_ref()?.level.as_ref()
}

fn findings(results: &Results) -> Option<&Findings> {
    results.sizing.as_ref()?.search.as_ref()
}

fn capacity(results: &Results) -> Option<&Capacity> {
    findings(results)?.capacity.as_ref()
}

fn resource(results: &Results) -> Option<Resource> {
    results.verdict.as_ref().map(|verdict| verdict.resource)
}

/// The rate that counts, and its unit.
fn rate_of(requests: Interval, runs: Interval) -> (Interval, &'static str) {
    if requests.mean > 0.0 {
        (requests, "req/s")
    } else {
        (runs, "runs/s")
    }
}

fn at_level(unit: Unit, level: f64) -> String {
    match unit {
        Unit::Workers if level < 1.5 => "1 worker".to_owned(),
        Unit::Workers => format!("{level:.0} workers"),
        Unit::RunsPerSecond => format!("{} started runs/s", rate(level)),
    }
}

/// Whether the capacity is only what was reached, not what can be.
fn is_lower_bound(results: &Results) -> bool {
    let cut_off = findings(results).is_some_and(|found| found.ramp_ended.is_none());
    let unlimited = capacity(results).is_some_and(|capacity| capacity.limit == Limit::Nothing);
    cut_off || unlimited || resource(results) == Some(Resource::Generator)
}

/// The answer.
pub(super) fn verdict(results: &Results) -> Verdict {
    let mut lines = results.headlines().into_iter();
    let (headline, tone) = headline(results);
    let failed = results.thresholds.iter().filter(|outcome| !outcome.passed);
    let failed = failed.count();
    let mut remarks = Vec::new();
    let mut line = String::new();
    if results.sizing.is_some() {
        line = lines.next().unwrap_or_default();
    }
    if !results.complete {
        remarks.push(format!(
            "The run did not come to its end; this is its first {}.",
            duration(results.meta.elapsed_seconds)
        ));
    }
    if failed > 0 {
        let all = results.thresholds.len();
        let verb = if all == 1 { "threshold" } else { "thresholds" };
        remarks.push(format!("{failed} of {all} {verb} did not hold."));
    }
    remarks.extend(why_nothing_worked(results));
    remarks.extend(lines.map(|line| {
        if line.ends_with('.') {
            line
        } else {
            line + "."
        }
    }));
    remarks.extend(results.counts.lost_processes.iter().cloned());
    Verdict {
        headline,
        tone: if failed > 0 && tone != Tone::Bad {
            Tone::Bad
        } else {
            tone
        },
        line,
        remarks,
    }
}

fn headline(results: &Results) -> (String, Tone) {
    let counts = &results.counts;
    let ended = counts.succeeded + counts.failed;
    if ended == 0 {
        return (
            "No run ended: there is nothing to tell.".to_owned(),
            Tone::Bad,
        );
    }
    if counts.succeeded == 0 {
        return (
            format!("Nothing worked: all {} runs failed.", count(ended)),
            Tone::Bad,
        );
    }
    let limit = results.verdict.as_ref().and_then(|verdict| {
        let source = whose(verdict.source.as_deref());
        match verdict.resource {
            Resource::Memory | Resource::Cpu | Resource::Disk | Resource::Network => {
                Some(format!("the {} of {source}", verdict.resource.as_str()))
            }
            Resource::Inside => Some("something inside the service, or behind it,".to_owned()),
            Resource::Generator | Resource::Nothing | Resource::Unknown => None,
        }
    });
    if let Some(found) = findings(results) {
        return searched(results, found, limit);
    }
    if let Some(ramp) = results
        .sizing
        .as_ref()
        .and_then(|sizing| sizing.ramp.as_ref())
    {
        return ramped(ramp, limit);
    }
    let failures = match counts.failed {
        0 => "no run failed".to_owned(),
        failed => format!("{} of runs failed", percent(failed as f64 / ended as f64)),
    };
    let text = format!(
        "{} {} over {}; {failures}.",
        rate(results.throughput()),
        results.throughput_unit(),
        duration(results.meta.elapsed_seconds)
    );
    let tone = if counts.failed > 0 {
        Tone::Warn
    } else {
        Tone::Good
    };
    (text, tone)
}

/// What became of the requests of a run of which nothing succeeded, and what was raised most often.
fn why_nothing_worked(results: &Results) -> Vec<String> {
    let counts = &results.counts;
    if counts.succeeded > 0 || counts.failed == 0 {
        return Vec::new();
    }
    let mut remarks = Vec::new();
    let attempts = results.attempts();
    if attempts.tried > 0 {
        remarks.push(match attempts.answered {
            0 => format!("None of {} requests was answered.", count(attempts.tried)),
            answered => format!(
                "Of {} requests {} were answered and {} failed.",
                count(attempts.tried),
                count(answered),
                count(attempts.failed)
            ),
        });
    }
    if let Some(group) = results.errors.iter().max_by_key(|group| group.count) {
        remarks.push(format!(
            "Raised in {} of {} failed runs: {}: {}",
            count(group.count),
            count(counts.failed),
            super::table::cut(&group.kind, 100),
            super::table::cut(group.message.lines().next().unwrap_or_default(), 200)
        ));
    }
    remarks
}

/// What a search for the capacity found.
fn searched(results: &Results, found: &Findings, limit: Option<String>) -> (String, Tone) {
    let Some(capacity) = &found.capacity else {
        return match found.ramp_ended {
            Some(_) => ("No load could be sustained.".to_owned(), Tone::Bad),
            None => (
                "The run ended before it had an answer.".to_owned(),
                Tone::Warn,
            ),
        };
    };
    let (best, unit) = rate_of(capacity.requests_per_second, capacity.runs_per_second);
    let figure = format!("{} {unit}", rate(best.mean));
    let level = at_level(found.unit, capacity.level);
    if resource(results) == Some(Resource::Generator) {
        return (
            format!("At least {figure}: then the load generator gave out, not the service."),
            Tone::Warn,
        );
    }
    if is_lower_bound(results) {
        return (
            format!("At least {figure}, at {level}: nothing gave out."),
            Tone::Warn,
        );
    }
    let text = match limit {
        Some(limit) => format!("{figure} at {level}: then {limit} gives out."),
        None => format!("{figure} at {level} is what this service takes."),
    };
    let tone = if capacity.confirmed {
        Tone::Good
    } else {
        Tone::Warn
    };
    (text, tone)
}

/// How a ramp alone ended.
fn ramped(ramp: &Ramp, limit: Option<String>) -> (String, Tone) {
    let level = at_level(Unit::Workers, ramp.workers as f64);
    match (ramp.reason, limit) {
        (Reason::RampEnded, _) => (format!("Nothing gave out up to {level}."), Tone::Good),
        (Reason::Interrupted, _) => (
            "The run was stopped before its answer.".to_owned(),
            Tone::Warn,
        ),
        (Reason::AllFailed, _) => (format!("Nothing worked at {level}."), Tone::Bad),
        (_, Some(limit)) => (
            format!("{} gave out at {level}.", capital(&limit)),
            Tone::Warn,
        ),
        (Reason::Failures, None) => (format!("Too many runs failed at {level}."), Tone::Warn),
        (Reason::Plateau, None) => (
            format!(
                "More than {} brought no more throughput.",
                at_level(
                    Unit::Workers,
                    ramp.best_workers.unwrap_or(ramp.workers) as f64,
                )
            ),
            Tone::Warn,
        ),
        (Reason::Latency, None) => (format!("Too slow from {level} on."), Tone::Warn),
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Capacity, service time, failures, limiting resource, generator.
pub(super) fn cards(results: &Results) -> Vec<Card> {
    vec![
        throughput_card(results),
        time_card(results),
        failure_card(results),
        limit_card(results),
        generator_card(results),
    ]
}

fn throughput_card(results: &Results) -> Card {
    let Some((found, capacity)) = findings(results).zip(capacity(results)) else {
        let counts = &results.counts;
        let attempts = results.attempts();
        let most = results.series.0.iter().map(|point| point.workers).max();
        let most = u64::try_from(most.unwrap_or_default()).unwrap_or_default();
        let mut details = Vec::new();
        if attempts.unanswered() > 0 {
            details.push(format!(
                "{} of {} requests answered",
                count(attempts.answered),
                count(attempts.tried)
            ));
        } else if attempts.tried > 0 {
            details.push(format!("{} requests, all answered", count(attempts.tried)));
        }
        details.push(format!(
            "{} runs/s passed",
            rate(results.per_second(counts.succeeded))
        ));
        if counts.failed > 0 {
            details.push(format!(
                "{} runs/s failed",
                rate(results.per_second(counts.failed))
            ));
        }
        if most > 0 {
            details.push(format!("up to {}", at_level(Unit::Workers, most as f64)));
        }
        return Card {
            label: "Throughput".to_owned(),
            value: rate(results.throughput()),
            unit: results.throughput_unit().to_owned(),
            status: String::new(),
            tone: Tone::Plain,
            details,
        };
    };
    let (best, unit) = rate_of(capacity.requests_per_second, capacity.runs_per_second);
    let (status, tone) = if is_lower_bound(results) {
        ("lower bound", Tone::Warn)
    } else if capacity.confirmed {
        ("confirmed", Tone::Good)
    } else {
        ("not confirmed", Tone::Warn)
    };
    Card {
        label: "Capacity".to_owned(),
        value: rate(best.mean),
        unit: unit.to_owned(),
        status: status.to_owned(),
        tone,
        details: vec![
            format!("95 % {}–{}", rate(best.low), rate(best.high)),
            format!("at {}", at_level(found.unit, capacity.level)),
        ],
    }
}

fn time_card(results: &Results) -> Card {
    let card = |times: [f64; 3], at: &str| Card {
        label: "Service time p95".to_owned(),
        value: time(times[1])
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
        unit: time(times[1])
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned(),
        status: String::new(),
        tone: Tone::Plain,
        details: vec![
            format!("p50 {}", time(times[0])),
            format!("p99 {}", time(times[2])),
            at.to_owned(),
        ],
    };
    if let Some(ServiceTimes {
        p50_seconds,
        p95_seconds,
        p99_seconds,
        ..
    }) = capacity(results).and_then(|capacity| capacity.service_times)
    {
        return card([p50_seconds, p95_seconds, p99_seconds], "at capacity");
    }
    // Of several kinds of requests the most frequent one: percentiles cannot be averaged.
    let most = |rows: &[ServiceTime]| {
        let rows = rows.iter();
        rows.max_by_key(|row| (!row.is_scenario(), row.count))
            .cloned()
    };
    match most(&results.service_times) {
        Some(row) => {
            let mut card = card(
                [row.p50_seconds, row.p95_seconds, row.p99_seconds],
                &super::table::cut(&row.name, 60),
            );
            card.details.extend(
                most(&results.response_times).map(|row| {
                    format!("{} from the intended start of a run", time(row.p95_seconds))
                }),
            );
            card
        }
        None => Card {
            label: "Service time p95".to_owned(),
            value: "–".to_owned(),
            unit: String::new(),
            status: String::new(),
            tone: Tone::Plain,
            details: vec!["nothing was timed".to_owned()],
        },
    }
}

fn failure_card(results: &Results) -> Card {
    let counts = &results.counts;
    let ratio = counts.error_ratio();
    let tolerance = super::load::tolerance(results);
    let at_capacity = capacity(results).and_then(|_| {
        let trials = &findings(results)?.trials;
        let chosen = capacity(results)?.level;
        let held = trials.iter().rev();
        held.into_iter()
            .find(|trial| (trial.level - chosen).abs() < 0.5)
            .map(|trial| trial.failures.ratio)
    });
    let shown = at_capacity.or(ratio);
    let (status, tone) = match shown {
        None => ("", Tone::Plain),
        Some(0.0) => ("none", Tone::Good),
        Some(ratio) if ratio <= tolerance.unwrap_or(0.0) => ("within tolerance", Tone::Good),
        Some(_) => ("failing", Tone::Bad),
    };
    let mut details = Vec::new();
    if at_capacity.is_some() {
        details.push("at capacity".to_owned());
    }
    if let Some(ratio) = ratio {
        let of = format!(
            "{} of {} runs",
            count(counts.failed),
            count(counts.succeeded + counts.failed)
        );
        details.push(match at_capacity {
            Some(_) => format!("overall {}: {of}", percent(ratio)),
            None => of,
        });
    }
    if let Some(tolerance) = tolerance {
        details.push(format!("tolerance {}", percent(tolerance)));
    }
    Card {
        label: "Failures".to_owned(),
        value: shown.map_or_else(|| "–".to_owned(), |ratio| percent(ratio).replace(" %", "")),
        unit: if shown.is_some() { "%" } else { "" }.to_owned(),
        status: status.to_owned(),
        tone,
        details,
    }
}

fn limit_card(results: &Results) -> Card {
    let mut card = Card {
        label: "Limited by".to_owned(),
        value: "unknown".to_owned(),
        unit: String::new(),
        status: "not enough evidence".to_owned(),
        tone: Tone::Plain,
        details: Vec::new(),
    };
    let Some(verdict) = &results.verdict else {
        return card;
    };
    if let Some(first) = verdict.findings.first() {
        let texts = first
            .evidence
            .iter()
            .map(|evidence| capital(&evidence.text));
        card.details = texts.take(3).collect();
    }
    if let Some(source) = &verdict.source
        && verdict.resource != Resource::Generator
    {
        card.unit = format!("of {}", super::table::cut(whose(Some(source)), 60));
    }
    let confidence = format!("{} confidence", verdict.confidence.as_str());
    let (value, status, tone) = match verdict.resource {
        Resource::Unknown => {
            card.details = vec![if results.monitor.len() > 1 {
                "nothing monitored was near its limit".to_owned()
            } else {
                "name a target with --monitor".to_owned()
            }];
            return card;
        }
        Resource::Nothing => ("nothing yet", confidence, Tone::Good),
        Resource::Inside => ("the service itself", confidence, Tone::Warn),
        Resource::Generator => ("the generator", confidence, Tone::Bad),
        other => (other.as_str(), confidence, Tone::Warn),
    };
    card.value = capital(value);
    card.status = status;
    card.tone = tone;
    card
}

fn generator_card(results: &Results) -> Card {
    let check = results.verdict.as_ref().map(|verdict| &verdict.generator);
    let (value, status, tone) = match check.and_then(|check| check.valid) {
        Some(true) => ("Valid", "had time to spare", Tone::Good),
        Some(false) => ("Saturated", "figures are a lower bound", Tone::Bad),
        None => ("–", "not judged", Tone::Plain),
    };
    let mut details = Vec::new();
    if let Some(check) = check {
        if let Some(ratio) = check.cpu_ratio {
            details.push(format!("CPU {} of its cores", percent(ratio)));
        }
        if let Some(cores) = check.hottest_thread_cores {
            details.push(format!("busiest thread {}", percent(cores)));
        }
        if let Some(lag) = check.event_loop_lag_seconds {
            details.push(format!("event loop late by {} at worst", time(lag)));
        }
    }
    Card {
        label: "Load generator".to_owned(),
        value: value.to_owned(),
        unit: String::new(),
        status: status.to_owned(),
        tone,
        details,
    }
}

/// How much of each resource was used while the level was held that the verdict is about.
pub(super) fn gauges(results: &Results) -> Vec<Gauge> {
    let Some(level) = level(results) else {
        return Vec::new();
    };
    let mut gauges = Vec::new();
    let targets = results.monitor.iter();
    let (generators, targets): (Vec<_>, Vec<_>) =
        targets.partition(|series| series.source == GENERATOR);
    for series in targets.into_iter().chain(generators) {
        of_series(series, level, results, &mut gauges);
    }
    gauges
}

fn of_series(series: &Series, level: &Level, results: &Results, gauges: &mut Vec<Gauge>) {
    let (from, to) = level.settled();
    let mean = |metric: Metric| series.window(metric, from, to).map(|window| window.mean);
    let verdict = results.verdict.as_ref();
    let is_generator = series.source == GENERATOR;
    let limiting = |resource: Resource| {
        verdict.is_some_and(|verdict| {
            if is_generator {
                verdict.resource == Resource::Generator && resource == Resource::Cpu
            } else {
                verdict.resource == resource && verdict.source.as_ref() == Some(&series.source)
            }
        })
    };
    let whose = super::table::cut(whose(Some(&series.source)), 60);
    let label = |what: &str| format!("{what} of {whose}");
    if let (Some(used), Some(limit)) = (mean(Metric::CpuCoresUsed), mean(Metric::CpuLimitCores))
        && limit > 0.0
    {
        gauges.push(Gauge {
            label: label("CPU"),
            ratio: used / limit,
            text: format!("{used:.2} of {} cores", rate(limit)),
            limiting: limiting(Resource::Cpu),
        });
    }
    if is_generator {
        return;
    }
    if let (Some(used), Some(limit)) = (mean(Metric::MemoryBytes), mean(Metric::MemoryLimitBytes))
        && limit > 0.0
    {
        gauges.push(Gauge {
            label: label("memory"),
            ratio: used / limit,
            text: format!("{} of {}", bytes(used), bytes(limit)),
            limiting: limiting(Resource::Memory),
        });
    }
    for (metric, what, resource) in [
        (Metric::DiskBusyRatio, "disk", Resource::Disk),
        (Metric::NetworkBusyRatio, "network", Resource::Network),
    ] {
        if let Some(ratio) = mean(metric) {
            gauges.push(Gauge {
                label: label(what),
                ratio,
                text: "busy".to_owned(),
                limiting: limiting(resource),
            });
        }
    }
}
