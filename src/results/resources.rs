//! What the generator and the targets used, as a table: at the load that was judged, at most, of what, what is left.
//!
//! Owns the choice of rows and their units. Made from the document alone; called by the summary and at the end of a run.

use std::time::Duration;

use super::document::Results;
use crate::monitor::{Metric, Series, Window};

/// One resource: its name, what is measured, and what that is measured against.
struct Row {
    name: &'static str,
    metric: Metric,
    limit: Against,
    unit: Unit,
}

enum Against {
    Metric(Metric),
    Number(f64),
}

#[derive(Clone, Copy)]
enum Unit {
    Cores,
    Bytes,
    Percent,
}

const ROWS: [Row; 5] = [
    Row {
        name: "CPU, cores",
        metric: Metric::CpuCoresUsed,
        limit: Against::Metric(Metric::CpuLimitCores),
        unit: Unit::Cores,
    },
    Row {
        name: "busiest thread, cores",
        metric: Metric::HottestThreadCores,
        limit: Against::Number(1.0),
        unit: Unit::Cores,
    },
    Row {
        name: "memory, MiB",
        metric: Metric::MemoryBytes,
        limit: Against::Metric(Metric::MemoryLimitBytes),
        unit: Unit::Bytes,
    },
    Row {
        name: "busiest disk",
        metric: Metric::DiskBusyRatio,
        limit: Against::Number(1.0),
        unit: Unit::Percent,
    },
    Row {
        name: "busiest link",
        metric: Metric::NetworkBusyRatio,
        limit: Against::Number(1.0),
        unit: Unit::Percent,
    },
];

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Cores => format!("{value:.2}"),
            Self::Bytes => format!("{:.0}", value / 1024.0 / 1024.0),
            Self::Percent => format!("{:.0} %", 100.0 * value),
        }
    }
}

impl Results {
    /// A line for each resource of the generator and of each target, under a heading; empty when nothing was sampled.
    pub fn resource_lines(&self) -> Vec<String> {
        let level = self
            .verdict
            .as_ref()
            .and_then(|verdict| verdict.level.as_ref());
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let (from, to) = level.map_or((Duration::ZERO, Duration::MAX), |level| {
            (seconds(level.from_seconds), seconds(level.to_seconds))
        });
        let sized = self
            .sizing
            .as_ref()
            .and_then(|sizing| sizing.search.as_ref())
            .is_some_and(|search| search.capacity.is_some());
        let when = if sized { "at capacity" } else { "under load" };
        let mut table = vec![["Resources", "", when, "peak", "limit", "left"].map(str::to_owned)];
        for series in &self.monitor {
            let mut source = series.source.as_str();
            let rows = ROWS.iter().filter_map(|row| cells(row, series, from, to));
            let per_request = level.and_then(|level| {
                let cores = series.window(Metric::CpuCoresUsed, from, to)?.mean;
                (level.per_second > 0.0).then(|| {
                    let millis = format!("{:.2}", 1000.0 * cores / level.per_second);
                    let empty = String::new();
                    [
                        "CPU per request, ms".to_owned(),
                        millis,
                        empty.clone(),
                        empty.clone(),
                        empty,
                    ]
                })
            });
            for [name, held, peak, limit, left] in rows.chain(per_request) {
                table.push([source.to_owned(), name, held, peak, limit, left]);
                source = "";
            }
        }
        if table.len() == 1 {
            return Vec::new();
        }
        render(&table)
    }
}

/// Name, value at the load judged, largest value, limit, and what is left of it at that load.
fn cells(row: &Row, series: &Series, from: Duration, to: Duration) -> Option<[String; 5]> {
    let window = |metric, from, to| series.window(metric, from, to).filter(has_samples);
    let held = window(row.metric, from, to)?.mean;
    let peak = window(row.metric, Duration::ZERO, Duration::MAX)?.max;
    let limit = match row.limit {
        Against::Metric(metric) => window(metric, from, to).map(|limit| limit.mean),
        Against::Number(number) => Some(number),
    };
    let left = limit
        .filter(|limit| *limit > 0.0)
        .map(|limit| (1.0 - held / limit).max(0.0));
    let show = |value| row.unit.show(value);
    Some([
        row.name.to_owned(),
        show(held),
        show(peak),
        limit.map(show).unwrap_or_default(),
        left.map(|left| Unit::Percent.show(left))
            .unwrap_or_default(),
    ])
}

fn has_samples(window: &Window) -> bool {
    window.samples > 0
}

/// Names to the left, numbers to the right.
fn render(table: &[[String; 6]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    table
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).enumerate();
            let line: Vec<String> = cells
                .map(|(column, (cell, width))| {
                    if column < 2 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            line.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn what_was_used_stands_beside_its_limit_and_what_is_left() {
        let lines = sample::results().resource_lines();
        assert!(lines[0].starts_with("Resources"), "{lines:#?}");
        let generator = lines.iter().find(|line| line.starts_with("generator"));
        let generator = generator.unwrap();
        assert!(generator.contains("CPU, cores"), "{lines:#?}");
        assert!(generator.contains("2.00"), "{lines:#?}");
        assert!(generator.ends_with('%'), "{lines:#?}");
        let memory = lines.iter().find(|line| line.contains("memory, MiB"));
        // The limit of these samples is 1e9 bytes.
        assert!(memory.unwrap().contains(" 954 "), "{lines:#?}");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("CPU per request, ms"))
        );
        let mut unsampled = sample::results();
        unsampled.monitor.clear();
        assert!(unsampled.resource_lines().is_empty());
    }
}
