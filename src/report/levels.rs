//! What the service did under each load that was held: throughput and service times against workers.
//!
//! Owns the two charts and the table of trials. The fitted curve is an explanation, so it is dashed and named as such.
//! Called by `run`.

use super::model::{Across, Axis, Block, Chart, Line, Look, Section};
use super::number::{Number, duration, percent, rate};
use super::table::{Cell, Table};
use crate::results::Results;
use crate::sizing::search::{Findings, Interval, Trial, Unit, Usl};

/// Points of the fitted curve.
const CURVE_POINTS: u32 = 80;

/// Of the differences between levels, from which on a fit is shown.
const ENOUGH_EXPLAINED: f64 = 0.5;

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section::new("levels", "Under each load");
    let Some(found) = results
        .sizing
        .as_ref()
        .and_then(|sizing| sizing.search.as_ref())
    else {
        return section;
    };
    if found.trials.is_empty() {
        return section;
    }
    let has_requests = found
        .trials
        .iter()
        .any(|trial| trial.requests_per_second.mean > 0.0);
    section.chart(throughput(found, has_requests));
    section.chart(service_time(found));
    section.blocks.extend(explained(found).map(Block::Text));
    section.table(table(found, has_requests));
    section
}

fn across(unit: Unit) -> &'static str {
    match unit {
        Unit::Workers => "workers",
        Unit::RunsPerSecond => "runs started per second",
    }
}

fn done(trial: &Trial, has_requests: bool) -> Interval {
    if has_requests {
        trial.requests_per_second
    } else {
        trial.runs_per_second
    }
}

/// Whether the interval is known: without one it reaches from nothing to twice the mean.
fn is_known(interval: Interval) -> bool {
    interval.low > 0.0 && interval.high < 2.0 * interval.mean
}

fn points(name: &str, unit: &str, trials: &[&Trial], of: impl Fn(&Trial) -> Interval) -> Line {
    let intervals: Vec<Interval> = trials.iter().map(|trial| of(trial)).collect();
    let end = |interval: &Interval, value: f64| {
        Number(if is_known(*interval) { value } else { f64::NAN })
    };
    Line {
        name: name.to_owned(),
        look: Look::Points,
        unit: unit.to_owned(),
        x: trials.iter().map(|trial| Number(trial.level)).collect(),
        y: intervals
            .iter()
            .map(|interval| Number(interval.mean))
            .collect(),
        low: intervals
            .iter()
            .map(|interval| end(interval, interval.low))
            .collect(),
        high: intervals
            .iter()
            .map(|interval| end(interval, interval.high))
            .collect(),
        notes: trials
            .iter()
            .map(|trial| format!("{}, {}", trial.phase.as_str(), flaws(trial)))
            .collect(),
        ..Line::default()
    }
}

fn throughput(found: &Findings, has_requests: bool) -> Chart {
    let unit = if has_requests { "req/s" } else { "runs/s" };
    let (good, bad): (Vec<&Trial>, Vec<&Trial>) =
        found.trials.iter().partition(|trial| trial.sustainable());
    let mut lines = vec![
        Line {
            strong: true,
            ..points("can be held", unit, &good, |trial| {
                done(trial, has_requests)
            })
        },
        points("cannot be held", unit, &bad, |trial| {
            done(trial, has_requests)
        }),
    ];
    if let Some(curve) = curve(found, has_requests, unit) {
        lines.push(curve);
    }
    if let Some(capacity) = &found.capacity {
        let best = if has_requests {
            capacity.requests_per_second
        } else {
            capacity.runs_per_second
        };
        lines.push(Line {
            name: "capacity".to_owned(),
            look: Look::Star,
            unit: unit.to_owned(),
            x: vec![Number(capacity.level)],
            y: vec![Number(best.mean)],
            low: vec![Number(best.low)],
            high: vec![Number(best.high)],
            ..Line::default()
        });
    }
    Chart {
        id: "levels-throughput".to_owned(),
        title: format!("Throughput against {}", across(found.unit)),
        note: "Every level that was held, with its 95 % interval.".to_owned(),
        across: Across::Level,
        across_title: across(found.unit).to_owned(),
        left: Axis::new("throughput", unit),
        lines,
        half: true,
        ..Chart::default()
    }
}

/// Every level that several runs have measured, with a series for each of them.
pub(super) fn over_each_other<'a>(runs: impl Iterator<Item = (String, &'a Results)>) -> Chart {
    let mut chart = Chart {
        id: "over-levels".to_owned(),
        title: "Throughput against load".to_owned(),
        note: "Every level that was measured, with its 95 % interval.".to_owned(),
        across: Across::Level,
        left: Axis::new("per second", ""),
        ..Chart::default()
    };
    let mut units = Vec::new();
    for (name, results) in runs {
        let sizing = results.sizing.as_ref();
        let Some(found) = sizing.and_then(|sizing| sizing.search.as_ref()) else {
            continue;
        };
        let mut trials: Vec<&Trial> = found.trials.iter().collect();
        trials.sort_by(|one, other| one.level.total_cmp(&other.level));
        let has_requests = trials
            .iter()
            .any(|trial| trial.requests_per_second.mean > 0.0);
        let unit = if has_requests { "req/s" } else { "runs/s" };
        let line = points(&name, unit, &trials, |trial| done(trial, has_requests));
        chart.lines.push(line);
        units.push(across(found.unit));
    }
    units.dedup();
    chart.across_title = units.join(", or ");
    chart
}

/// The fitted law, if it says something: one that leaves most unexplained would only mislead.
fn believable(found: &Findings) -> Option<Usl> {
    found
        .usl
        .filter(|usl| usl.explained_ratio >= ENOUGH_EXPLAINED && usl.contention <= 1.0)
}

/// The fitted law, in the unit of the chart: it is fitted to runs.
fn curve(found: &Findings, has_requests: bool, unit: &str) -> Option<Line> {
    let usl = believable(found)?;
    let per_run = if has_requests {
        let sums = found
            .trials
            .iter()
            .fold((0.0, 0.0), |(requests, runs), trial| {
                (
                    requests + trial.requests_per_second.mean,
                    runs + trial.runs_per_second.mean,
                )
            });
        sums.0 / sums.1
    } else {
        1.0
    };
    let most = found
        .trials
        .iter()
        .map(|trial| trial.level)
        .fold(1.0, f64::max);
    let levels = (0..=CURVE_POINTS).map(|step| {
        let share = f64::from(step) / f64::from(CURVE_POINTS);
        1.0 + (most * 1.1 - 1.0) * share
    });
    let levels: Vec<f64> = levels.collect();
    Some(Line {
        name: "fitted (USL)".to_owned(),
        look: Look::Curve,
        unit: unit.to_owned(),
        y: levels
            .iter()
            .map(|level| Number(usl.throughput(*level) * per_run))
            .collect(),
        x: levels.into_iter().map(Number).collect(),
        ..Line::default()
    })
}

fn service_time(found: &Findings) -> Chart {
    let mut trials: Vec<&Trial> = found
        .trials
        .iter()
        .filter(|trial| trial.service_times.is_some())
        .collect();
    // Of several at a level the longest: it knows most.
    trials.sort_by(|one, other| {
        let longest = || other.measured_seconds.total_cmp(&one.measured_seconds);
        one.level.total_cmp(&other.level).then_with(longest)
    });
    trials.dedup_by(|one, kept| one.level.total_cmp(&kept.level).is_eq());
    let line = |name: &str, of: fn(&crate::sizing::search::ServiceTimes) -> f64| Line {
        name: name.to_owned(),
        unit: "ms".to_owned(),
        x: trials.iter().map(|trial| Number(trial.level)).collect(),
        y: trials
            .iter()
            .filter_map(|trial| trial.service_times.as_ref())
            .map(|times| Number(of(times) * 1000.0).positive())
            .collect(),
        ..Line::default()
    };
    Chart {
        id: "levels-service-time".to_owned(),
        title: format!("Service time against {}", across(found.unit)),
        note:
            "While there is capacity left it stays level; beyond, every worker only waits longer."
                .to_owned(),
        across: Across::Level,
        across_title: across(found.unit).to_owned(),
        left: Axis::new("service time", "ms").log(),
        lines: vec![
            Line {
                strong: true,
                ..line("p95", |times| times.p95_seconds)
            },
            line("p50", |times| times.p50_seconds),
            line("p99", |times| times.p99_seconds),
        ],
        half: true,
        ..Chart::default()
    }
}

/// What the fit says, in words.
fn explained(found: &Findings) -> Option<String> {
    let usl = believable(found)?;
    let peak = usl
        .peak_workers
        .filter(|peak| peak.is_finite())
        .map_or_else(
            || "by this law throughput never falls again".to_owned(),
            |peak| format!("by this law it peaks at {} workers", rate(peak.round())),
        );
    Some(format!(
        "The Universal Scalability Law, fitted to these levels, explains {} of the differences: one worker alone makes \
         {} runs per second, workers wait for each other during {} of the work (contention), and keeping two of them \
         consistent costs {:.3} % of it (coherency); {peak}. It explains, and decides nothing.",
        percent(usl.explained_ratio),
        rate(usl.runs_per_second_alone),
        percent(usl.contention),
        usl.coherency * 100.0,
    ))
}

fn flaws(trial: &Trial) -> String {
    if trial.sustainable() {
        return "can be held".to_owned();
    }
    let texts: Vec<String> = trial.flaws.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn table(found: &Findings, has_requests: bool) -> Table {
    let level = format!("#{}", across(found.unit));
    let throughput = if has_requests { "#req/s" } else { "#runs/s" };
    let mut table = Table::new(
        "levels-table",
        "Every level that was held, in the order of time",
        &[
            "trial",
            &level,
            throughput,
            "#95 % interval",
            "#p50 ms",
            "#p95 ms",
            "#p99 ms",
            "#failed",
            "#measured",
            "judged",
        ],
    );
    for (number, trial) in found.trials.iter().enumerate() {
        let interval = done(trial, has_requests);
        let known = if is_known(interval) {
            format!("{}–{}", rate(interval.low), rate(interval.high))
        } else {
            "–".to_owned()
        };
        let of = |of: fn(&crate::sizing::search::ServiceTimes) -> f64| match &trial.service_times {
            Some(times) => Cell::milliseconds(of(times)),
            None => Cell::number(f64::NAN, "–"),
        };
        table.rows.push(vec![
            Cell::number(
                number as f64,
                format!("{} {}", number + 1, trial.phase.as_str()),
            ),
            Cell::number(trial.level, rate(trial.level)),
            Cell::number(interval.mean, rate(interval.mean)),
            Cell::number(interval.high - interval.low, known),
            of(|times| times.p50_seconds),
            of(|times| times.p95_seconds),
            of(|times| times.p99_seconds),
            Cell::number(trial.failures.ratio, percent(trial.failures.ratio)),
            Cell::number(trial.measured_seconds, duration(trial.measured_seconds)),
            Cell::text(&flaws(trial)),
        ]);
    }
    table
}
