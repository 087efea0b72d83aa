//! The metrics of one run, each with its evidence.
//!
//! Owns what is compared and over which part of the run. A run that was sized is judged where its capacity was confirmed:
//! its other seconds are overload. Any other run is judged while (nearly) all workers were up. Called by `mod`.

use std::rc::Rc;
use std::time::Duration;

use super::document::Unit;
use super::evidence::{Evidence, Ranks, Scale, inflation, mean_of};
use crate::metrics::{Kind, Recorder};
use crate::monitor::{self, Metric as Sampled};
use crate::results::{Point, Results, ServiceTime};
use crate::sizing::search::{self, Capacity, Limit, Trial};
use crate::verdict::Resource;

/// Names with fewer samples than this say nothing about percentiles.
const FEWEST_SAMPLES: u64 = 100;

/// The most frequent names are compared, so many at most.
const MOST_NAMES: usize = 40;

/// Shares of the most workers from which a run is steady.
const STEADY_SHARE: f64 = 0.95;

/// Slices of the judged time, for what is sampled.
const SLICES: u32 = 10;

/// Looks closer together than this are no second of their own.
const SHORTEST_SECONDS: f64 = 0.3;

/// What one run knows of one metric.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: &'static str,
    pub(super) of: Option<String>,
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) more_is_better: bool,
    pub(super) evidence: Evidence,
    pub(super) at_least: bool,
}

impl Known {
    fn new(id: &'static str, name: impl Into<String>, unit: Unit, evidence: Evidence) -> Self {
        Self {
            id,
            of: None,
            name: name.into(),
            unit,
            more_is_better: matches!(unit, Unit::RequestsPerSecond | Unit::RunsPerSecond),
            evidence,
            at_least: false,
        }
    }

    fn of(self, name: &str) -> Self {
        Self {
            name: format!("{} of {name}", self.name),
            of: Some(name.to_owned()),
            ..self
        }
    }

    /// Shares are compared by their difference, everything else by its quotient.
    pub(super) fn scale(&self) -> Scale {
        match self.unit {
            Unit::Ratio => Scale::Absolute,
            _ => Scale::Relative,
        }
    }
}

/// All metrics of a run, the most important first.
pub(super) fn of(results: &Results) -> Vec<Known> {
    let search = results
        .sizing
        .as_ref()
        .and_then(|sizing| sizing.search.as_ref());
    let mut known = Vec::new();
    let window = match search
        .and_then(|search| search.capacity.as_ref().map(|capacity| (search, capacity)))
    {
        Some((search, capacity)) => {
            let window = judged(results).unwrap_or_default();
            known.push(capacity_of(results, capacity));
            known.extend(at_capacity(results, search.unit, capacity, window));
            known.extend(failures_of(capacity, &search.trials));
            window
        }
        // Levels between too little and too much are no steady load.
        None if results.sizing.is_some() => return known,
        None => {
            let window = steady(&results.series.0);
            let spans = seconds(results, window);
            known.extend(throughput(results, &spans));
            known.extend(service_times(results, &spans));
            known.extend(response_times(results, &spans));
            known.extend(failures(results, &spans));
            known.extend(by_name(results, &spans));
            window
        }
    };
    known.extend(resources(results, window));
    known
}

/// When the load was judged, in seconds since the start.
type Span = (f64, f64);

fn judged(results: &Results) -> Option<Span> {
    let level = results.verdict.as_ref()?.level.as_ref()?;
    Some((level.from_seconds, level.to_seconds))
}

/// What was asked of the service: a rate where one was set, else workers.
pub(super) fn load(point: &Point) -> f64 {
    point
        .target_per_second
        .unwrap_or(point.workers.max(0) as f64)
}

/// From the first to the last look with (nearly) all of the load.
fn steady(points: &[Point]) -> Span {
    let most = points.iter().map(load).fold(0.0, f64::max);
    let full = |point: &&Point| most > 0.0 && load(point) >= STEADY_SHARE * most;
    let from = points.iter().position(|point| full(&point));
    let to = points
        .iter()
        .rev()
        .find(full)
        .map_or(0.0, |point| point.time_seconds);
    let before = from
        .and_then(|place| place.checked_sub(1))
        .and_then(|place| points.get(place));
    // What began within the ramp is left out, if anything remains.
    let first = if before.is_some() {
        from.and_then(|place| points.get(place))
    } else {
        None
    };
    (first.map_or(0.0, |point| point.time_seconds), to)
}

/// The looks within that time, each with the seconds it covers.
fn seconds(results: &Results, (from, to): Span) -> Vec<(&Point, f64)> {
    let spans = results.series.spans();
    spans
        .filter(|(point, span)| {
            *span > SHORTEST_SECONDS
                && point.time_seconds - span >= from - 1e-6
                && point.time_seconds <= to + 1e-6
        })
        .collect()
}

fn rate_unit(results: &Results) -> Unit {
    if results.attempts().tried > 0 {
        Unit::RequestsPerSecond
    } else {
        Unit::RunsPerSecond
    }
}

fn capacity_of(results: &Results, capacity: &Capacity) -> Known {
    let (rate, unit) = if capacity.requests_per_second.mean > 0.0 {
        (capacity.requests_per_second, Unit::RequestsPerSecond)
    } else {
        (capacity.runs_per_second, Unit::RunsPerSecond)
    };
    let saturated = results
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.resource == Resource::Generator);
    let evidence = Evidence::Stated {
        value: rate.mean,
        low: rate.low,
        high: rate.high,
        // The fewest batches that the search takes its intervals from.
        degrees: 5.0,
    };
    Known {
        at_least: saturated || capacity.limit == Limit::Nothing,
        ..Known::new("capacity", "capacity", unit, evidence)
    }
}

/// Reads one quantity of a second.
type OfSecond = fn(&Point) -> Option<f64>;

/// A percentile of times, in the whole run and in each second.
#[derive(Debug, Clone, Copy)]
struct Percentile {
    id: &'static str,
    name: &'static str,
    share: f64,
    of: OfSecond,
}

const SERVICE: [Percentile; 3] = [
    Percentile {
        id: "p50",
        name: "p50",
        share: 0.5,
        of: |point| point.p50_seconds,
    },
    Percentile {
        id: "p95",
        name: "p95",
        share: 0.95,
        of: |point| point.p95_seconds,
    },
    Percentile {
        id: "p99",
        name: "p99",
        share: 0.99,
        of: |point| point.p99_seconds,
    },
];

/// From when a run was to start, so that waiting counts.
const RESPONSE: [Percentile; 3] = [
    Percentile {
        id: "response_p50",
        name: "p50 response time",
        share: 0.5,
        of: |point| point.response_p50_seconds,
    },
    Percentile {
        id: "response_p95",
        name: "p95 response time",
        share: 0.95,
        of: |point| point.response_p95_seconds,
    },
    Percentile {
        id: "response_p99",
        name: "p99 response time",
        share: 0.99,
        of: |point| point.response_p99_seconds,
    },
];

/// What the search measured at the capacity: response times when it searched for a rate.
fn at_capacity(
    results: &Results,
    searched: search::Unit,
    capacity: &Capacity,
    window: Span,
) -> Vec<Known> {
    let Some(times) = capacity.service_times else {
        return Vec::new();
    };
    let spans = seconds(results, window);
    let values = [times.p50_seconds, times.p95_seconds, times.p99_seconds];
    let percentiles = match searched {
        search::Unit::Workers => SERVICE,
        search::Unit::RunsPerSecond => RESPONSE,
    };
    let pairs = percentiles.into_iter().zip(values);
    let known = pairs.filter_map(|(Percentile { id, name, of, .. }, value)| {
        // The search keeps no histogram: how well its percentile is known is told by the same percentile of each second.
        let values: Vec<f64> = spans.iter().filter_map(|(point, _)| of(point)).collect();
        let Some(Evidence::Mean {
            value: mean,
            standard_error,
            degrees,
        }) = mean_of(&values)
        else {
            return None;
        };
        let evidence = Evidence::Mean {
            value,
            standard_error: if mean > 0.0 {
                standard_error * value / mean
            } else {
                standard_error
            },
            degrees,
        };
        Some(Known::new(
            id,
            format!("{name} at capacity"),
            Unit::Seconds,
            evidence,
        ))
    });
    known.collect()
}

fn failures_of(capacity: &Capacity, trials: &[Trial]) -> Option<Known> {
    let at_level = trials.iter().filter(|trial| {
        trial.sustainable() && (trial.level - capacity.level).abs() < 1e-6 * capacity.level.max(1.0)
    });
    let (failed, runs) = at_level.fold((0, 0), |(failed, runs), trial| {
        (failed + trial.failed, runs + trial.runs)
    });
    (runs > 0).then(|| {
        let evidence = Evidence::Ratio {
            hits: failed as f64,
            samples: runs as f64,
        };
        Known::new(
            "failed_runs",
            "failed runs at capacity",
            Unit::Ratio,
            evidence,
        )
    })
}

fn throughput(results: &Results, spans: &[(&Point, f64)]) -> Option<Known> {
    let unit = rate_unit(results);
    let rates: Vec<f64> = spans
        .iter()
        .map(|(point, span)| {
            let done = match unit {
                Unit::RequestsPerSecond => point.requests,
                _ => point.succeeded,
            };
            done as f64 / span
        })
        .collect();
    let saturated = results
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.resource == Resource::Generator);
    Some(Known {
        at_least: saturated,
        ..Known::new("throughput", "throughput", unit, mean_of(&rates)?)
    })
}

/// How much less a time counts than an independent one, by the seconds of the run.
fn dependence(all: &Rc<Ranks>, percentile: Percentile, spans: &[(&Point, f64)]) -> f64 {
    let values: Vec<f64> = spans
        .iter()
        .filter_map(|(point, _)| (percentile.of)(point))
        .collect();
    let alone = Evidence::Quantile {
        of: Rc::clone(all),
        share: percentile.share,
        inflation: 1.0,
    };
    let range = alone.interval(0.95);
    let independent = ((range.high - range.low) / 2.0 / 1.96).powi(2);
    if independent.is_finite() {
        inflation(&values, independent)
    } else {
        1.0
    }
}

/// The service times of all requests, or of all runs when there are none.
fn everything(results: &Results) -> Option<(Rc<Ranks>, Kind)> {
    let recorder = results.recorder().ok()?;
    [Kind::Request, Kind::Scenario]
        .into_iter()
        .map(|kind| (recorder.distribution(kind, |_| true), kind))
        .find(|(all, _)| all.count() > 0)
        .map(|(all, kind)| (Ranks::new(all), kind))
}

fn service_times(results: &Results, spans: &[(&Point, f64)]) -> Vec<Known> {
    let Some((all, kind)) = everything(results) else {
        return Vec::new();
    };
    let what = if kind == Kind::Request {
        "service time"
    } else {
        "time of a run"
    };
    of_all(&all, SERVICE, spans, |percentile| {
        format!("{} {what}", percentile.name)
    })
}

/// Where a rate was set: all runs, and each scenario when there are several.
fn response_times(results: &Results, spans: &[(&Point, f64)]) -> Vec<Known> {
    let Ok(recorder) = results.recorder() else {
        return Vec::new();
    };
    let all = Ranks::new(recorder.distribution(Kind::Response, |_| true));
    let mut known = of_all(&all, RESPONSE, spans, |percentile| {
        percentile.name.to_owned()
    });
    known.extend(of_each(
        &results.response_times,
        Kind::Response,
        &recorder,
        (&all, RESPONSE),
        spans,
    ));
    known
}

fn of_all(
    all: &Rc<Ranks>,
    percentiles: [Percentile; 3],
    spans: &[(&Point, f64)],
    name: impl Fn(Percentile) -> String,
) -> Vec<Known> {
    if all.count() < FEWEST_SAMPLES {
        return Vec::new();
    }
    let known = percentiles.into_iter().map(|percentile| {
        let evidence = Evidence::Quantile {
            inflation: dependence(all, percentile, spans),
            of: Rc::clone(all),
            share: percentile.share,
        };
        Known::new(percentile.id, name(percentile), Unit::Seconds, evidence)
    });
    known.collect()
}

fn by_name(results: &Results, spans: &[(&Point, f64)]) -> Vec<Known> {
    let (Some((all, kind)), Ok(recorder)) = (everything(results), results.recorder()) else {
        return Vec::new();
    };
    of_each(
        &results.service_times,
        kind,
        &recorder,
        (&all, SERVICE),
        spans,
    )
}

/// The most frequent of several names. How much their values depend on each other is taken from all of them together.
fn of_each(
    rows: &[ServiceTime],
    kind: Kind,
    recorder: &Recorder,
    (all, percentiles): (&Rc<Ranks>, [Percentile; 3]),
    spans: &[(&Point, f64)],
) -> Vec<Known> {
    let enough = |row: &&ServiceTime| row.kind == kind.as_str() && row.count >= FEWEST_SAMPLES;
    let mut rows: Vec<_> = rows.iter().filter(enough).collect();
    if rows.len() < 2 {
        return Vec::new();
    }
    let inflations = percentiles.map(|percentile| dependence(all, percentile, spans));
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    let mut known = Vec::new();
    for row in rows.into_iter().take(MOST_NAMES) {
        let one = Ranks::new(recorder.distribution(kind, |name| name == row.name));
        for (
            Percentile {
                id, name, share, ..
            },
            inflation,
        ) in percentiles.into_iter().zip(inflations)
        {
            let evidence = Evidence::Quantile {
                of: Rc::clone(&one),
                share,
                inflation,
            };
            known.push(Known::new(id, name, Unit::Seconds, evidence).of(&row.name));
        }
    }
    known
}

fn failures(results: &Results, spans: &[(&Point, f64)]) -> Option<Known> {
    let counts = &results.counts;
    let (failed, ended) = (
        counts.failed as f64,
        (counts.succeeded + counts.failed) as f64,
    );
    if ended <= 0.0 {
        return None;
    }
    let ratio = failed / ended;
    let values: Vec<f64> = spans
        .iter()
        .filter_map(|(point, _)| {
            let ended = point.succeeded + point.failed;
            (ended > 0).then(|| point.failed as f64 / ended as f64)
        })
        .collect();
    let inflation = inflation(&values, ratio * (1.0 - ratio) / ended);
    let evidence = Evidence::Ratio {
        hits: failed / inflation,
        samples: ended / inflation,
    };
    Some(Known::new(
        "failed_runs",
        "failed runs",
        Unit::Ratio,
        evidence,
    ))
}

/// CPU for each request and memory of every target, over slices of the judged time.
fn resources(results: &Results, (from, to): Span) -> Vec<Known> {
    let targets = results
        .monitor
        .iter()
        .filter(|series| series.source != monitor::GENERATOR);
    let mut known = Vec::new();
    for series in targets {
        let (mut cores, mut memory) = (Vec::new(), Vec::new());
        for slice in 0..SLICES {
            let at = |slice: u32| from + (to - from) * f64::from(slice) / f64::from(SLICES);
            let (start, end) = (at(slice), at(slice + 1));
            let bounds = (
                Duration::try_from_secs_f64(start),
                Duration::try_from_secs_f64(end),
            );
            let (Ok(begins), Ok(ends)) = bounds else {
                continue;
            };
            let used = series.window(Sampled::CpuCoresUsed, begins, ends);
            if let (Some(used), Some(rate)) = (used, rate_between(results, start, end)) {
                cores.push(used.mean / rate);
            }
            memory.extend(
                series
                    .window(Sampled::MemoryBytes, begins, ends)
                    .map(|window| window.mean),
            );
        }
        if let Some(evidence) = mean_of(&cores) {
            let per = if results.attempts().tried > 0 {
                "CPU per request"
            } else {
                "CPU per run"
            };
            known.push(
                Known::new(
                    "cpu_per_request",
                    per,
                    Unit::CoreSecondsPerRequest,
                    evidence,
                )
                .of(&series.source),
            );
        }
        if let Some(evidence) = mean_of(&memory) {
            known.push(Known::new("memory", "memory", Unit::Bytes, evidence).of(&series.source));
        }
    }
    known
}

/// Requests answered per second between two times; runs, when there are no requests.
fn rate_between(results: &Results, from: f64, to: f64) -> Option<f64> {
    let has_requests = results.attempts().tried > 0;
    let (mut done, mut time) = (0.0, 0.0);
    for (point, span) in results.series.spans() {
        let start = point.time_seconds - span;
        let shared = point.time_seconds.min(to) - start.max(from);
        if shared > 0.0 && span > 0.0 {
            let count = if has_requests {
                point.requests
            } else {
                point.succeeded + point.failed
            };
            done += count as f64 * shared / span;
            time += shared;
        }
    }
    (done > 0.0 && time > 0.0).then(|| done / time)
}
