//! Where the time went: the distribution of service times, and a row for every scenario and request.
//!
//! Owns the percentile chart and the table. Percentiles come from each row's own histogram; those of all requests from
//! the merged one, never from other percentiles. Called by `run`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::model::{Across, Axis, Chart, Line, Section};
use super::number::{Number, bytes, percent};
use super::table::{Cell, Table, cut};
use crate::metrics::{Distribution, Kind, Recorder};
use crate::results::{Results, ServiceTime};

/// Requests and scenarios with a curve of their own: as many as can be told apart.
const MOST_CURVES: usize = 8;

/// Points to the tenfold of rarity: 90 %, 99 %, 99.9 % are a tenfold each.
const POINTS_PER_DECADE: u32 = 12;

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section::new("times", "Service times");
    section.chart(distribution(results));
    section.table(table(results));
    section
}

/// The histogram of a row; `None` when it is damaged.
fn histogram(row: &ServiceTime) -> Option<Distribution> {
    let mut recorder = Recorder::new();
    recorder
        .merge(&STANDARD.decode(&row.histogram).ok()?)
        .ok()?;
    let kinds = [Kind::Request, Kind::Scenario, Kind::Response];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == row.kind)?;
    let distribution = recorder.distribution(kind, |_| true);
    (distribution.count() > 0).then_some(distribution)
}

fn distribution(results: &Results) -> Chart {
    let rows = &results.service_times;
    let mut chosen: Vec<&ServiceTime> = rows.iter().filter(|row| !row.is_scenario()).collect();
    let requests = chosen.len();
    chosen.sort_by_key(|row| std::cmp::Reverse(row.count));
    let mut lines = Vec::new();
    if requests > 1 {
        let mut all = Distribution::default();
        // One at a time: a histogram is large, and there may be thousands.
        for distribution in chosen.iter().filter_map(|row| histogram(row)) {
            all.merge(&distribution);
        }
        lines.extend(curve("all requests", &all, false).map(|line| Line {
            strong: true,
            ..line
        }));
    }
    lines.extend(responses(results));
    let scenarios = rows.iter().filter(|row| row.is_scenario());
    let place = |row: &ServiceTime| if row.is_scenario() { "scenario " } else { "" };
    for row in chosen.into_iter().chain(scenarios).take(MOST_CURVES) {
        if let Some(distribution) = histogram(row) {
            let name = format!("{}{}", place(row), cut(&row.name, 120));
            // Runs are sums of requests: beside those they would only squash the axis.
            let hidden = row.is_scenario() && requests > 0;
            lines.extend(curve(&name, &distribution, hidden));
        }
    }
    Chart {
        id: "distribution".to_owned(),
        title: "Distribution of service times".to_owned(),
        note: "How long all but the slowest took; every mark to the right is ten times rarer."
            .to_owned(),
        across: Across::Share,
        across_title: "share of requests that took at most this long".to_owned(),
        left: Axis::new("service time", "ms").log(),
        lines,
        ..Chart::default()
    }
}

/// Of all runs that a rate asked for, from when they were to start: what waiting adds is between this curve and the others.
fn responses(results: &Results) -> Option<Line> {
    let mut all = Distribution::default();
    for distribution in results.response_times.iter().filter_map(histogram) {
        all.merge(&distribution);
    }
    curve("runs, from their intended start", &all, false)
}

/// Percentiles up to the one that a single sample stands for.
fn curve(name: &str, distribution: &Distribution, hidden: bool) -> Option<Line> {
    if distribution.count() == 0 {
        return None;
    }
    let decades = (distribution.count().max(2) as f64).log10();
    let mut x = Vec::new();
    let mut y = Vec::new();
    let mut step = 0;
    loop {
        let nines = (f64::from(step) / f64::from(POINTS_PER_DECADE)).min(decades);
        let share = 1.0 - 10_f64.powf(-nines);
        let time = distribution.quantile(share)?;
        x.push(Number(nines));
        y.push(Number(time.as_secs_f64() * 1000.0).positive());
        if nines >= decades {
            break;
        }
        step += 1;
    }
    Some(Line {
        name: name.to_owned(),
        unit: "ms".to_owned(),
        x,
        y,
        hidden,
        ..Line::default()
    })
}

fn table(results: &Results) -> Table {
    let mut table = Table::new(
        "times-table",
        if results.response_times.is_empty() {
            "Every scenario and request; service times in milliseconds"
        } else {
            "Every scenario and request; times in milliseconds, responses from the intended start"
        },
        &[
            "name",
            "kind",
            "#attempts",
            "#failed",
            "#mean",
            "#p50",
            "#p90",
            "#p95",
            "#p99",
            "#p99.9",
            "#max",
            "#size",
        ],
    );
    for row in results.service_times.iter().chain(&results.response_times) {
        let failed = if row.count > 0 {
            row.failed as f64 / row.count as f64
        } else {
            0.0
        };
        let size = if row.count > 0 {
            row.bytes as f64 / row.count as f64
        } else {
            0.0
        };
        let mut cells = vec![
            Cell::text(&row.name),
            Cell::text(&row.kind),
            Cell::count(row.count),
            Cell::number(failed, percent(failed)),
        ];
        cells.extend(
            [
                row.mean_seconds,
                row.p50_seconds,
                row.p90_seconds,
                row.p95_seconds,
                row.p99_seconds,
                row.p999_seconds,
                row.max_seconds,
            ]
            .map(Cell::milliseconds),
        );
        cells.push(Cell::number(size, bytes(size)));
        table.rows.push(cells);
    }
    table
}
