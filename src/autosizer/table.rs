//! The rows as a table: on the terminal, as Markdown and CSV.
//!
//! Owns the columns and their words; unknown is shown as `unknown`, never as a number. Made from the document alone.
//! Called by `session`.

use std::fmt::Write as _;

use super::comparison::Figures;
use super::document::Document;

const COLUMNS: [&str; 9] = [
    "row",
    "capacity per s (95 %)",
    "workers",
    "p95 ms",
    "limited by",
    "headroom",
    "per hour",
    "per million",
    "notes",
];

fn cells(row: &Figures) -> [String; 9] {
    let unknown = || "unknown".to_owned();
    let capacity = row.capacity_per_second.map_or_else(unknown, |mean| {
        let least = if row.at_least { "at least " } else { "" };
        let interval = row.capacity_low.zip(row.capacity_high);
        let interval =
            interval.map_or_else(String::new, |(low, high)| format!(" ({low:.0}–{high:.0})"));
        format!("{least}{mean:.0}{interval}")
    });
    let limit = row
        .limit
        .map_or_else(unknown, |limit| limit.as_str().to_owned());
    let headroom: Vec<String> = row
        .headroom
        .iter()
        .map(|(name, ratio)| format!("{name} {:.0} %", ratio * 100.0))
        .collect();
    let money = |value: Option<f64>| {
        let currency = row
            .price
            .as_ref()
            .map_or("", |price| price.currency.as_str());
        value.map_or_else(unknown, |value| format!("{currency} {value:.4}"))
    };
    let mut notes = Vec::new();
    if let Some(failure) = &row.failure {
        notes.push(failure.lines().next().unwrap_or_default().to_owned());
    } else if row.capacity_per_second.is_some() && !row.confirmed {
        notes.push("not confirmed".to_owned());
    }
    [
        row.label.clone(),
        capacity,
        row.workers
            .map_or_else(unknown, |workers| format!("{workers:.0}")),
        row.p95_seconds
            .map_or_else(unknown, |seconds| format!("{:.1}", seconds * 1000.0)),
        limit,
        if headroom.is_empty() {
            unknown()
        } else {
            headroom.join(", ")
        },
        money(row.price.as_ref().map(|price| price.per_hour)),
        money(row.price_per_million),
        notes.join("; "),
    ]
}

/// What stands below the table, one line each: recommendation, prices, changes.
fn remarks(document: &Document) -> Vec<String> {
    let recommended = document
        .recommendation
        .as_ref()
        .map(|found| match &found.label {
            Some(label) => format!("Recommended: {label}, because {}", found.reason),
            None => format!("No recommendation: {}", found.reason),
        });
    recommended
        .into_iter()
        .chain(sources_and_changes(document))
        .collect()
}

/// Where the prices come from, and what changed since the baseline, one line each.
pub fn sources_and_changes(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    let price = document.rows.iter().find_map(|row| row.price.as_ref());
    if let Some(price) = price {
        lines.push(format!("Prices: {}, {}", price.source, price.date));
    }
    for change in &document.changes {
        let by = change
            .change_ratio
            .map_or_else(String::new, |ratio| format!(" by {:+.1} %", ratio * 100.0));
        let rate = |rate: Option<f64>| {
            rate.map_or_else(|| "unknown".to_owned(), |rate| format!("{rate:.0}"))
        };
        lines.push(format!(
            "Against the baseline, {}: {}{by} ({} → {} per second)",
            change.label,
            change.outcome,
            rate(change.before_per_second),
            rate(change.now_per_second)
        ));
    }
    lines
}

impl Document {
    /// Columns padded with spaces, for a terminal.
    pub fn to_text(&self) -> String {
        let rows: Vec<[String; 9]> = self.rows.iter().map(cells).collect();
        let mut widths = COLUMNS.map(|name| name.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        let mut line = |cells: &[String; 9]| {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                let _ = write!(text, "{cell:width$}  ");
            }
            let _ = writeln!(out, "{}", text.trim_end());
        };
        line(&COLUMNS.map(str::to_owned));
        rows.iter().for_each(&mut line);
        for remark in remarks(self) {
            let _ = writeln!(out, "{remark}");
        }
        out
    }

    /// A Markdown table.
    pub fn to_markdown(&self) -> String {
        let escaped = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let mut out = format!("## Sizing of {}\n\n", escaped(&self.service));
        let _ = writeln!(out, "| {} |", COLUMNS.join(" | "));
        let _ = writeln!(out, "|---|--:|--:|--:|---|---|--:|--:|---|");
        for row in &self.rows {
            let _ = writeln!(
                out,
                "| {} |",
                cells(row).map(|cell| escaped(&cell)).join(" | ")
            );
        }
        for remark in remarks(self) {
            let _ = write!(out, "\n{}\n", escaped(&remark));
        }
        for row in &self.rows {
            if let Some(verdict) = &row.verdict {
                let _ = write!(out, "\n**{}**: {}\n", escaped(&row.label), escaped(verdict));
            }
        }
        out
    }

    /// One line per row, plain numbers, empty where unknown.
    pub fn to_csv(&self) -> String {
        let mut out = String::from(
            "label,cpus,memory_bytes,instance_type,capacity_per_second,capacity_low,capacity_high,at_least,confirmed,\
             workers,p50_seconds,p95_seconds,p99_seconds,limit,price_per_hour,price_per_million,currency,failure\n",
        );
        for row in &self.rows {
            let number =
                |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            let fields = [
                quoted(&row.label),
                number(row.cpus),
                row.memory_bytes
                    .map_or_else(String::new, |bytes| bytes.to_string()),
                quoted(row.instance_type.as_deref().unwrap_or_default()),
                number(row.capacity_per_second),
                number(row.capacity_low),
                number(row.capacity_high),
                row.at_least.to_string(),
                row.confirmed.to_string(),
                number(row.workers),
                number(row.p50_seconds),
                number(row.p95_seconds),
                number(row.p99_seconds),
                quoted(row.limit.map_or("", |limit| limit.as_str())),
                number(row.price.as_ref().map(|price| price.per_hour)),
                number(row.price_per_million),
                quoted(
                    row.price
                        .as_ref()
                        .map_or("", |price| price.currency.as_str()),
                ),
                quoted(row.failure.as_deref().unwrap_or_default()),
            ];
            let _ = writeln!(out, "{}", fields.join(","));
        }
        out
    }
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Recommendation;
    use super::*;

    fn document() -> Document {
        Document {
            service: "a <b> | \"c\"".to_owned(),
            rows: vec![
                Figures {
                    label: "1 CPU, 512 MiB".to_owned(),
                    capacity_per_second: Some(412.4),
                    capacity_low: Some(400.0),
                    capacity_high: Some(425.0),
                    confirmed: true,
                    ..Figures::default()
                },
                Figures {
                    label: "2 CPU".to_owned(),
                    failure: Some("the service ended, \"oops\"\n  advice".to_owned()),
                    ..Figures::default()
                },
            ],
            recommendation: Some(Recommendation {
                label: Some("1 CPU, 512 MiB".to_owned()),
                reason: "of something".to_owned(),
            }),
            ..Document::default()
        }
    }

    #[test]
    fn unknown_is_said_and_failures_are_one_line() {
        let text = document().to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[1].contains("412 (400–425)") && lines[1].contains("unknown"),
            "{text}"
        );
        assert!(lines[2].ends_with("the service ended, \"oops\""), "{text}");
        assert!(
            lines[3].starts_with("Recommended: 1 CPU, 512 MiB"),
            "{text}"
        );
    }

    #[test]
    fn every_format_escapes() {
        let document = document();
        let markdown = document.to_markdown();
        assert!(
            markdown.starts_with("## Sizing of a <b> \\| \"c\"\n"),
            "{markdown}"
        );
        let csv = document.to_csv();
        assert!(
            csv.contains("\"the service ended, \"\"oops\"\"\n  advice\""),
            "{csv}"
        );
    }
}
