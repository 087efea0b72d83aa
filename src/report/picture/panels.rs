//! Which panels a run has, and their lines.
//!
//! A run has load, service times, failures (or, when it was sized, the curve of throughput over workers) and resources.
//! What Glances alone recorded has CPU, memory, disk and network. Owns the choice and the thinning of long runs, which
//! keeps extremes. Called by `scene`.

use super::scale::Unit;
use super::scene::{Axis, Dot, Ink, Line, Panel, Stroke};
use crate::monitor::{self, Metric};
use crate::results::{Point, Results};
use crate::sizing::search::{Findings, Phase};

type Points = Vec<(f64, Option<f64>)>;

/// More points than this are no more than the pixels of a panel can show.
const MOST_POINTS: usize = 900;

/// A resource that was never busier than this is not worth a line.
const WORTH_A_LINE: f64 = 0.02;

pub(super) fn of(results: &Results) -> Vec<Panel> {
    if results.is_recording() {
        return vec![
            cpu(results),
            memory(results),
            traffic(
                results,
                "Disk",
                Metric::DiskReadBytesPerSecond,
                Metric::DiskWriteBytesPerSecond,
                ["read", "written"],
            ),
            traffic(
                results,
                "Network",
                Metric::NetworkReceiveBytesPerSecond,
                Metric::NetworkTransmitBytesPerSecond,
                ["received", "sent"],
            ),
        ];
    }
    let search = results
        .sizing
        .as_ref()
        .and_then(|sizing| sizing.search.as_ref());
    let last = match search {
        Some(search) if !search.trials.is_empty() => curve(search),
        _ => failures(results),
    };
    vec![
        load(results),
        service_times(results),
        last,
        resources(results),
    ]
}

fn end_of(results: &Results) -> f64 {
    let last = results
        .series
        .0
        .last()
        .map_or(0.0, |point| point.time_seconds);
    let sampled = results.monitor.iter().filter_map(|series| {
        let (time, _) = series.points(Metric::CpuCoresUsed).last()?;
        Some(time)
    });
    if last > 0.0 {
        last
    } else {
        sampled.fold(0.0, f64::max)
    }
}

fn panel(results: &Results, title: &str, note: &str, left: Axis) -> Panel {
    let search = results
        .sizing
        .as_ref()
        .and_then(|sizing| Some((sizing, sizing.search.as_ref()?)));
    let bands = search.map_or_else(Vec::new, |(sizing, search)| {
        let began = sizing.search_began_seconds;
        let phases = search
            .phases
            .iter()
            .filter(|time| time.phase != Phase::Done);
        phases
            .map(|time| {
                (
                    began + time.began_seconds,
                    began + time.ended_seconds,
                    time.phase.as_str().to_owned(),
                )
            })
            .collect()
    });
    Panel {
        title: title.to_owned(),
        note: note.to_owned(),
        x: Unit::Elapsed,
        x_range: (0.0, end_of(results)),
        left,
        right: None,
        lines: Vec::new(),
        dots: Vec::new(),
        bands,
        mark: None,
        nothing: "nothing was recorded".to_owned(),
    }
}

fn axis(unit: Unit) -> Axis {
    Axis {
        unit,
        logarithmic: false,
        at_least: 0.0,
    }
}

fn line(label: &str, points: Points, ink: Ink, stroke: Stroke) -> Line {
    Line {
        label: label.to_owned(),
        points: thinned(points),
        ink,
        stroke,
        right: false,
        filled: false,
        steps: false,
    }
}

/// At most [`MOST_POINTS`]: of each stretch the smallest and the largest value, in the order of time.
fn thinned(points: Points) -> Points {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    let mut kept = Vec::with_capacity(MOST_POINTS);
    for part in points.chunks(stretch) {
        let by_value = |a: &&(f64, Option<f64>), b: &&(f64, Option<f64>)| {
            a.1.unwrap_or(0.0).total_cmp(&b.1.unwrap_or(0.0))
        };
        let there = || part.iter().filter(|point| point.1.is_some());
        let (Some(low), Some(high)) = (there().min_by(by_value), there().max_by(by_value)) else {
            kept.extend(part.first().copied());
            continue;
        };
        let (first, second) = if low.0 <= high.0 {
            (low, high)
        } else {
            (high, low)
        };
        kept.push(*first);
        if second != first {
            kept.push(*second);
        }
    }
    kept
}

/// The looks that are worth a point, each with the time it covers. The last one often comes a moment after the one
/// before it: too short for a rate or a percentile.
fn looks(results: &Results) -> impl Iterator<Item = (&Point, f64)> {
    const SHORTEST_SECONDS: f64 = 0.3;
    let only = results.series.0.len() == 1;
    results
        .series
        .spans()
        .filter(move |(_, span)| only || *span > SHORTEST_SECONDS)
}

fn per_second(results: &Results, of: impl Fn(&Point) -> u64) -> Points {
    looks(results)
        .map(|(point, span)| {
            (
                point.time_seconds,
                (span > 0.0).then(|| of(point) as f64 / span),
            )
        })
        .collect()
}

fn times(results: &Results, of: impl Fn(&Point) -> Option<f64>) -> Points {
    looks(results)
        .map(|(point, _)| (point.time_seconds, of(point)))
        .collect()
}

fn load(results: &Results) -> Panel {
    let has_requests = results.attempts().tried > 0;
    let noun = if has_requests {
        "requests answered per second"
    } else {
        "runs passed per second"
    };
    let mut panel = panel(results, "Load", "", axis(Unit::PerSecond));
    panel.right = Some(axis(Unit::Count));
    let rate = per_second(results, |point| {
        if has_requests {
            point.requests
        } else {
            point.succeeded
        }
    });
    panel.lines.push(Line {
        filled: true,
        ..line(noun, rate, Ink::Blue, Stroke::Solid)
    });
    let workers = times(results, |point| Some(point.workers.max(0) as f64));
    panel.lines.push(Line {
        right: true,
        steps: true,
        ..line("workers (right)", workers, Ink::Orange, Stroke::Dashed)
    });
    panel
}

fn service_times(results: &Results) -> Panel {
    let logarithmic = Axis {
        unit: Unit::ServiceTime,
        logarithmic: true,
        at_least: 0.0,
    };
    let title = if results.attempts().tried > 0 {
        "Service time of requests"
    } else {
        "Service time of runs"
    };
    let mut panel = panel(results, title, "", logarithmic);
    panel.lines = vec![
        line(
            "p99",
            times(results, |point| point.p99_seconds),
            Ink::Vermillion,
            Stroke::Dotted,
        ),
        line(
            "p95",
            times(results, |point| point.p95_seconds),
            Ink::Purple,
            Stroke::Dashed,
        ),
        line(
            "p50",
            times(results, |point| point.p50_seconds),
            Ink::Blue,
            Stroke::Bold,
        ),
    ];
    panel
}

fn failures(results: &Results) -> Panel {
    let mut panel = panel(results, "Failures", "", axis(Unit::PerSecond));
    let failed = per_second(results, |point| point.failed);
    if results.counts.failed > 0 {
        panel.lines.push(Line {
            filled: true,
            ..line(
                "failed runs per second",
                failed,
                Ink::Vermillion,
                Stroke::Solid,
            )
        });
        let ratio = times(results, |point| {
            let ended = point.succeeded + point.failed;
            (ended > 0).then(|| point.failed as f64 / ended as f64)
        });
        panel.right = Some(axis(Unit::Ratio));
        panel.lines.push(Line {
            right: true,
            ..line("share of runs (right)", ratio, Ink::Grey, Stroke::Dotted)
        });
    } else {
        panel.bands.clear();
        "no run failed".clone_into(&mut panel.nothing);
    }
    panel
}

fn curve(search: &Findings) -> Panel {
    let has_requests = search
        .trials
        .iter()
        .any(|trial| trial.requests_per_second.mean > 0.0);
    let mut dots: Vec<Dot> = search
        .trials
        .iter()
        .map(|trial| {
            let rate = if has_requests {
                trial.requests_per_second
            } else {
                trial.runs_per_second
            };
            Dot {
                x: trial.level,
                value: rate.mean,
                low: rate.low,
                high: rate.high,
                good: trial.sustainable(),
            }
        })
        .collect();
    dots.sort_by(|a, b| a.x.total_cmp(&b.x));
    let most = dots.last().map_or(1.0, |dot| dot.x);
    let (title, x) = match search.unit {
        crate::sizing::search::Unit::Workers => ("Throughput over workers", Unit::Count),
        crate::sizing::search::Unit::RunsPerSecond => {
            ("Throughput over started runs", Unit::PerSecond)
        }
    };
    // An interval that is not known reaches to twice the mean: it must not flatten the rest.
    let highest = dots.iter().map(|dot| dot.value).fold(0.0, f64::max);
    Panel {
        title: title.to_owned(),
        note: if has_requests {
            "requests per second"
        } else {
            "runs per second"
        }
        .to_owned(),
        x,
        x_range: (0.0, most * 1.05),
        left: Axis {
            at_least: highest * 1.15,
            ..axis(Unit::PerSecond)
        },
        right: None,
        lines: law(search, has_requests, most).into_iter().collect(),
        dots,
        bands: Vec::new(),
        mark: search.capacity.as_ref().map(|capacity| {
            let what = if capacity.confirmed {
                "capacity"
            } else {
                "capacity, not confirmed"
            };
            (capacity.level, what.to_owned())
        }),
        nothing: "no level was measured".to_owned(),
    }
}

/// The curve by the Universal Scalability Law, where it fits; it explains runs, so requests are scaled.
fn law(search: &Findings, has_requests: bool, most: f64) -> Option<Line> {
    const PIECES: u32 = 60;
    let law = search.usl.as_ref()?;
    let sum =
        |of: fn(&crate::sizing::search::Trial) -> f64| search.trials.iter().map(of).sum::<f64>();
    let runs = sum(|trial| trial.runs_per_second.mean);
    let scale = if has_requests && runs > 0.0 {
        sum(|trial| trial.requests_per_second.mean) / runs
    } else {
        1.0
    };
    let points = (0..=PIECES).map(|piece| {
        let workers = most * f64::from(piece) / f64::from(PIECES);
        let rate = law.throughput(workers) * scale;
        (workers, rate.is_finite().then_some(rate))
    });
    Some(line(
        "scalability law",
        points.collect(),
        Ink::Grey,
        Stroke::Dashed,
    ))
}

/// A metric over its limit, 0 to 1 and more.
fn used(series: &monitor::Series, metric: Metric) -> Points {
    let Some(limit) = metric.limit() else {
        return series.points(metric).collect();
    };
    let limits = series.points(limit);
    series
        .points(metric)
        .zip(limits)
        .map(|((time, value), (_, limit))| {
            let limit = limit.filter(|limit| *limit > 0.0);
            (time, value.zip(limit).map(|(value, limit)| value / limit))
        })
        .collect()
}

fn highest(points: &Points) -> Option<f64> {
    let values = points.iter().filter_map(|(_, value)| *value);
    values.fold(None, |most: Option<f64>, value| {
        Some(most.map_or(value, |most| most.max(value)))
    })
}

fn resources(results: &Results) -> Panel {
    let ratio = Axis {
        at_least: 1.0,
        ..axis(Unit::Ratio)
    };
    let mut panel = panel(results, "Resources, of what there is", "", ratio);
    let targets: Vec<&monitor::Series> = results
        .monitor
        .iter()
        .filter(|series| series.source != monitor::GENERATOR)
        .collect();
    let several = targets.len() > 1;
    for series in targets.iter().take(2) {
        let named = |what: &str| {
            if several {
                format!("{what} {}", series.source)
            } else {
                format!("target {what}")
            }
        };
        let is_first = std::ptr::eq(*series, *targets.first().unwrap_or(series));
        let kinds = [
            (Metric::CpuCoresUsed, "CPU", Ink::Blue, Stroke::Bold, true),
            (
                Metric::MemoryBytes,
                "memory",
                Ink::Green,
                Stroke::Solid,
                true,
            ),
            (
                Metric::DiskBusyRatio,
                "disk",
                Ink::Purple,
                Stroke::Dotted,
                false,
            ),
            (
                Metric::NetworkBusyRatio,
                "network",
                Ink::Vermillion,
                Stroke::Dotted,
                false,
            ),
        ];
        for (metric, what, ink, stroke, always) in kinds {
            let points = used(series, metric);
            let Some(most) = highest(&points) else {
                continue;
            };
            if always || (most > WORTH_A_LINE && !several) {
                let stroke = if is_first { stroke } else { Stroke::Dashed };
                panel.lines.push(line(&named(what), points, ink, stroke));
            }
        }
    }
    if let Some(generator) = results
        .monitor
        .iter()
        .find(|series| series.source == monitor::GENERATOR)
    {
        let points = used(generator, Metric::CpuCoresUsed);
        if highest(&points).is_some() {
            panel
                .lines
                .push(line("generator CPU", points, Ink::Grey, Stroke::Dashed));
        }
    }
    if targets.is_empty() {
        "no target was monitored (--monitor names one)".clone_into(&mut panel.note);
    } else if targets.len() > 2 {
        panel.note = format!("two of {} targets", targets.len());
    }
    "nothing was monitored (--monitor names a target)".clone_into(&mut panel.nothing);
    panel
}

fn shown(results: &Results) -> impl Iterator<Item = (&monitor::Series, Ink, Stroke)> {
    const LOOKS: [(Ink, Stroke); 3] = [
        (Ink::Blue, Stroke::Bold),
        (Ink::Orange, Stroke::Dashed),
        (Ink::Grey, Stroke::Dotted),
    ];
    let looks = results.monitor.iter().zip(LOOKS);
    looks.map(|(series, (ink, stroke))| (series, ink, stroke))
}

fn cpu(results: &Results) -> Panel {
    let mut panel = panel(results, "CPU", "cores", axis(Unit::Count));
    panel.left.unit = Unit::PerSecond;
    for (series, ink, stroke) in shown(results) {
        let points: Points = series.points(Metric::CpuCoresUsed).collect();
        if highest(&points).is_some() {
            panel.lines.push(Line {
                filled: true,
                ..line("used", points, ink, stroke)
            });
        }
        let limits: Points = series.points(Metric::CpuLimitCores).collect();
        if let Some(most) = highest(&limits) {
            panel.left.at_least = most;
            panel
                .lines
                .push(line("available", limits, Ink::Grey, Stroke::Dashed));
        }
    }
    panel
}

fn memory(results: &Results) -> Panel {
    let mut panel = panel(results, "Memory", "", axis(Unit::Bytes));
    for (series, ink, stroke) in shown(results) {
        let points: Points = series.points(Metric::MemoryBytes).collect();
        let Some(most) = highest(&points) else {
            continue;
        };
        panel.lines.push(Line {
            filled: true,
            ..line("in use", points, ink, stroke)
        });
        let limits: Points = series.points(Metric::MemoryLimitBytes).collect();
        match highest(&limits) {
            // A limit far above would press the curve flat: it is said, not drawn.
            Some(limit) if limit <= 4.0 * most => {
                panel
                    .lines
                    .push(line("limit", limits, Ink::Grey, Stroke::Dashed));
            }
            Some(limit) => panel.note = format!("limit {:.1} GiB", limit / 1_073_741_824.0),
            None => {}
        }
    }
    panel
}

fn traffic(
    results: &Results,
    title: &str,
    first: Metric,
    second: Metric,
    names: [&str; 2],
) -> Panel {
    let mut panel = panel(results, title, "", axis(Unit::BytesPerSecond));
    let looks = [(Ink::Blue, Stroke::Solid), (Ink::Orange, Stroke::Dashed)];
    for series in results.monitor.iter().take(1) {
        for ((metric, name), (ink, stroke)) in [first, second].into_iter().zip(names).zip(looks) {
            let points: Points = series.points(metric).collect();
            if highest(&points).is_some() {
                panel.lines.push(line(name, points, ink, stroke));
            }
        }
    }
    panel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_extremes_and_the_order() {
        let points: Points = (0..28_800_u32)
            .map(|second| {
                let value = match second {
                    777 => 1e6,
                    9_999 => -5.0,
                    _ => f64::from(second % 7),
                };
                (f64::from(second), (second % 100 != 3).then_some(value))
            })
            .collect();
        let thin = thinned(points);
        assert!(thin.len() <= MOST_POINTS);
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(thin.contains(&(777.0, Some(1e6))) && thin.contains(&(9_999.0, Some(-5.0))));
    }

    #[test]
    fn long_gaps_stay_gaps() {
        let points: Points = (0..5_000_u32)
            .map(|second| (f64::from(second), None))
            .collect();
        assert!(thinned(points).iter().all(|point| point.1.is_none()));
    }
}
