//! What happened: load, throughput, failures and service times over the time of the run, and how busy everything was.
//!
//! Owns the charts about the load. Rates are counts of a second by its true length. Called by `run`.

use super::model::{Axis, Block, Chart, Heat, Line, Look, Section, Timeline};
use super::number::{Number, count};
use super::thin::{MOST_POINTS, Thinner};
use super::{opening, resources};
use crate::results::{Point, Results};
use crate::sizing::LatencyRule;

/// Over which the failure ratio is taken, as autosizing does.
const WINDOW_SECONDS: f64 = 60.0;

/// What a point has of something.
type Quantity = fn(&Point) -> Option<f64>;

/// Percentiles of response times.
const RESPONSE_TIMES: [(&str, Quantity); 3] = [
    ("response p50", |point| point.response_p50_seconds),
    ("response p95", |point| point.response_p95_seconds),
    ("response p99", |point| point.response_p99_seconds),
];

/// Rows of a heat map at most; a file may say anything.
const MOST_ROWS: u64 = 200;

/// The charts over time that belong together.
pub(super) fn section(results: &Results, timeline: &mut Timeline) -> Section {
    let mut section = Section::new("load", "What happened");
    let gauges = opening::gauges(results);
    if !gauges.is_empty() {
        let what = match opening::level(results).map(|level| level.active.round()) {
            Some(active) if active >= 2.0 => {
                format!("Used of what there is, while {active:.0} workers were at work")
            }
            _ => "Used of what there is, while one worker was at work".to_owned(),
        };
        section.blocks.push(Block::Gauges(what, gauges));
    }
    let series = Charts::new(results, timeline);
    section.chart(series.throughput(results));
    section.chart(series.service_time(results));
    section.chart(resources::utilisation(results, timeline));
    if results.counts.failed > 0 {
        section.chart(series.failures(results));
    } else if results.counts.succeeded > 0 {
        let text = format!(
            "No run failed: all {} passed.",
            count(results.counts.succeeded)
        );
        section.blocks.push(Block::Text(text));
    }
    if let Some(chart) = heat(results) {
        section.chart(chart);
    }
    section
}

/// The share of failures that a sizing tolerates; `None` for other runs.
pub(super) fn tolerance(results: &Results) -> Option<f64> {
    results.sizing.as_ref()?;
    let percent = results.meta.options.get("sizing_tolerance")?.as_f64()?;
    Some(percent / 100.0)
}

/// The series of a run, thinned.
struct Charts<'a> {
    spans: Vec<(&'a Point, f64)>,
    thinner: Thinner,
    axis: usize,
}

impl<'a> Charts<'a> {
    fn new(results: &'a Results, timeline: &mut Timeline) -> Self {
        let spans: Vec<(&Point, f64)> = results.series.spans().collect();
        let times = spans.iter().map(|(point, _)| point.time_seconds).collect();
        let thinner = Thinner::new(times, MOST_POINTS);
        let axis = timeline.axis(thinner.times());
        Self {
            spans,
            thinner,
            axis,
        }
    }

    fn line(&self, name: &str, unit: &str, of: impl Fn(&Point, f64) -> Option<f64>) -> Line {
        let values: Vec<Option<f64>> = self
            .spans
            .iter()
            .map(|(point, span)| of(point, *span))
            .collect();
        self.of_values(name, unit, &values)
    }

    fn of_values(&self, name: &str, unit: &str, values: &[Option<f64>]) -> Line {
        Line {
            name: name.to_owned(),
            unit: unit.to_owned(),
            axis: Some(self.axis),
            y: self.thinner.values(values),
            ..Line::default()
        }
    }

    fn rate(&self, name: &str, unit: &str, of: impl Fn(&Point) -> u64) -> Line {
        self.line(name, unit, |point, span| {
            (span > 0.0).then(|| of(point) as f64 / span)
        })
    }

    fn throughput(&self, results: &Results) -> Chart {
        let has_requests = results.attempts().tried > 0;
        let mut requests = self.rate("requests answered", "req/s", |point| point.requests);
        requests.strong = true;
        let mut runs = self.rate("runs passed", "runs/s", |point| point.succeeded);
        runs.strong = !has_requests;
        let mut workers = self.line("workers", "workers", |point, _| Some(point.workers as f64));
        workers.look = Look::Steps;
        workers.right = true;
        // What was asked for, where a rate was set.
        let mut wanted = self.line("rate asked for", "runs/s", |point, _| {
            point.target_per_second
        });
        wanted.look = Look::Limit;
        let mut lines = vec![workers, runs, wanted];
        if results.series.0.iter().any(|point| point.not_started > 0) {
            lines.push(self.rate("not started", "runs/s", |point| point.not_started));
        }
        if results.counts.succeeded == 0 {
            lines.push(self.rate("runs failed", "runs/s", |point| point.failed));
        }
        if has_requests {
            lines.insert(0, requests);
        }
        Chart {
            id: "throughput".to_owned(),
            title: "Workers and throughput".to_owned(),
            note: "Where workers keep coming and throughput does not, something has given out."
                .to_owned(),
            left: Axis::new("per second", ""),
            right: Some(Axis::new("workers", "")),
            lines,
            ..Chart::default()
        }
    }

    fn failures(&self, results: &Results) -> Chart {
        let mut failures = self.rate("runs failed", "runs/s", |point| point.failed);
        failures.look = Look::Bars;
        let mut ratio = self.of_values("share of the last minute", "%", &self.window_ratio());
        ratio.right = true;
        ratio.strong = true;
        let mut lines = vec![ratio, failures];
        if let Some(tolerance) = tolerance(results) {
            lines.push(self.limit("tolerance", "%", tolerance * 100.0, true));
        }
        Chart {
            id: "failures".to_owned(),
            title: "Failures".to_owned(),
            left: Axis::new("failed runs per second", "").at_least(1.0),
            right: Some(Axis::new("of all runs", "%").at_least(1.0)),
            lines,
            ..Chart::default()
        }
    }

    /// A constant over the whole run.
    fn limit(&self, name: &str, unit: &str, value: f64, right: bool) -> Line {
        let ends = [self.spans.first(), self.spans.last()];
        let ends = ends
            .into_iter()
            .flatten()
            .map(|(point, _)| Number(point.time_seconds));
        Line {
            name: name.to_owned(),
            look: Look::Limit,
            unit: unit.to_owned(),
            x: ends.collect(),
            y: vec![Number(value); 2],
            right,
            ..Line::default()
        }
    }

    /// Failed runs of all that ended within a minute, in percent.
    fn window_ratio(&self) -> Vec<Option<f64>> {
        let (mut first, mut failed, mut ended) = (0, 0, 0);
        let mut ratios = Vec::with_capacity(self.spans.len());
        for (point, _) in &self.spans {
            failed += point.failed;
            ended += point.failed + point.succeeded;
            while let Some((old, _)) = self.spans.get(first) {
                if old.time_seconds > point.time_seconds - WINDOW_SECONDS {
                    break;
                }
                failed -= old.failed.min(failed);
                ended -= (old.failed + old.succeeded).min(ended);
                first += 1;
            }
            ratios.push((ended > 0).then(|| failed as f64 / ended as f64 * 100.0));
        }
        ratios
    }

    fn service_time(&self, results: &Results) -> Chart {
        let milliseconds = |value: Option<f64>| {
            value
                .filter(|value| *value > 0.0)
                .map(|value| value * 1000.0)
        };
        let mut p95 = self.line("p95", "ms", |point, _| milliseconds(point.p95_seconds));
        p95.strong = true;
        let mut lines = vec![
            p95,
            self.line("p50", "ms", |point, _| milliseconds(point.p50_seconds)),
            self.line("p99", "ms", |point, _| milliseconds(point.p99_seconds)),
        ];
        // Only where a rate was set: from when a run was to start, so that waiting counts.
        for (name, of) in RESPONSE_TIMES {
            lines.push(self.line(name, "ms", |point, _| milliseconds(of(point))));
        }
        if let Some(rule) = latency_rule(results) {
            let limit = rule.limit.as_secs_f64() * 1000.0;
            lines.push(self.limit(&rule.text, "ms", limit, false));
        }
        let of = if results.attempts().tried > 0 {
            "request"
        } else {
            "run"
        };
        Chart {
            id: "service-time".to_owned(),
            title: "Service time".to_owned(),
            note: format!(
                "Of every {of} that ended in a second, from sending to the last byte; logarithmic."
            ),
            left: Axis::new("service time", "ms").log(),
            lines,
            ..Chart::default()
        }
    }
}

fn latency_rule(results: &Results) -> Option<LatencyRule> {
    results.sizing.as_ref()?;
    results
        .meta
        .options
        .get("sizing_latency")?
        .as_str()?
        .parse()
        .ok()
}

fn heat(results: &Results) -> Option<Chart> {
    let map = results.service_time_map.as_ref()?;
    let usable = map.column_seconds.is_finite()
        && map.column_seconds > 0.0
        && (1..=100).contains(&map.rows_per_decade);
    let fits = |column: &&Vec<u64>| {
        column.len() > 1
            && column
                .first()
                .is_some_and(|first| first.saturating_add(column.len() as u64) < MOST_ROWS)
    };
    let filled: Vec<&Vec<u64>> = map.columns.iter().filter(fits).collect();
    let first = filled
        .iter()
        .filter_map(|column| column.first())
        .min()
        .copied()?;
    let ends = filled
        .iter()
        .filter_map(|column| Some(column.first()? + column.len() as u64 - 1));
    let end = ends.max()?;
    if !usable {
        return None;
    }
    let columns = map
        .columns
        .iter()
        .map(|column| match (column.first(), column.get(1..)) {
            (Some(row), Some(counts)) if fits(&column) => {
                let mut moved = vec![row - first];
                moved.extend(counts);
                moved
            }
            _ => Vec::new(),
        });
    Some(Chart {
        id: "heat".to_owned(),
        title: "Service times, all of them".to_owned(),
        note: "Each cell counts what ended in that time and took that long: the darker, the more. Two bands are two \
               kinds of answers; a band that rises is a queue."
            .to_owned(),
        left: Axis::new("service time", "ms").log(),
        heat: Some(Heat {
            seconds: map.column_seconds,
            per_decade: map.rows_per_decade,
            first: i64::try_from(first).unwrap_or_default() - 6 * i64::from(map.rows_per_decade),
            rows: usize::try_from(end - first).unwrap_or_default(),
            columns: columns.collect(),
        }),
        ..Chart::default()
    })
}
