//! Several sizings of one service on one page: instance types, or limits, side by side, and then each run whole.
//!
//! Owns what stands above the runs: which row to take and why, a card and a bar for each, the table, and the levels of
//! all rows in one chart. What a row came to is told by the caller, who also knows prices; the runs below are those of a
//! single run's page, folded. Called by `python`.

use std::fmt::Write as _;

use super::html::Page;
use super::model::{
    Across, Axis, Block, Card, Chart, Gauge, Line, Look, Run, Section, Timeline, Tone, Verdict,
};
use super::number::{Number, percent, rate, time};
use super::table::{Cell, Table, cut};
use crate::results::Results;
use crate::sizing::search::{Findings, Interval, Trial, Unit};

/// So many rows have a card; the table has all of them.
const MOST_CARDS: usize = 10;

/// What was sized and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// The command or the image.
    pub service: String,
    /// Where: `on this machine`, `in containers on this machine`, `on EC2 instances`.
    pub place: String,
    /// In the order in which they ran.
    pub rows: Vec<Row>,
    /// The label of the row to take; `None` when none can be recommended.
    pub best: Option<String>,
    /// Why, in a sentence without its full stop; empty when there was nothing to choose from.
    pub reason: String,
    /// What else has to be said (prices, changes), one sentence each.
    pub remarks: Vec<String>,
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// What was varied.
    pub label: String,
    /// Per second; `None` when none was found.
    pub capacity: Option<Interval>,
    /// Whether the capacity is a lower bound only.
    pub at_least: bool,
    /// Whether a trial of its own confirmed it.
    pub confirmed: bool,
    /// The lowest level that reaches it.
    pub workers: Option<f64>,
    /// The median and the 95th percentile of the service times there, in seconds.
    pub p50_p95_seconds: Option<(f64, f64)>,
    /// What limits it, in a word or a few.
    pub limit: Option<String>,
    /// Names of resources, and the share of each that was left.
    pub headroom: Vec<(String, f64)>,
    /// What an hour costs, with its currency.
    pub per_hour: Option<String>,
    /// What a million requests cost, as a number to sort by and with its currency.
    pub per_million: Option<(f64, String)>,
    /// The verdict's sentence.
    pub verdict: Option<String>,
    /// Why there is no result, or only a part of one.
    pub failure: Option<String>,
}

/// The page as one file. `runs` are the documents of those rows that have one, by label.
pub fn page(overview: &Overview, runs: &[(String, Results)]) -> String {
    let shown = opening(overview, runs);
    let mut page = Page::new(&format!("{} · {}", shown.verdict.headline, shown.title));
    page.run(&shown);
    for (label, results) in runs {
        let mut run = Run::of(results);
        // The row's own name says more than that of the scenario, which all of them share.
        run.title.clone_from(label);
        page.folded(&format!("All about {label}"), &run);
    }
    page.finish()
}

fn opening(overview: &Overview, runs: &[(String, Results)]) -> Run {
    let count = overview.rows.len();
    let mut section = Section::new("rows", "Side by side");
    section.blocks.push(bars(overview));
    section.table(table(overview));
    section.chart(levels(runs));
    let mut said = Section::new("verdicts", "What limits each");
    for row in &overview.rows {
        let words = row.failure.as_ref().or(row.verdict.as_ref());
        let words = words.map_or("nothing is known", String::as_str);
        let text = format!("{}: {}", row.label, words.trim_end_matches('.'));
        said.blocks.push(Block::Text(cut(&text, 600) + "."));
    }
    Run {
        title: format!("Sizing of {}", cut(&overview.service, 120)),
        subtitle: format!(
            "{count} {} {}",
            if count == 1 { "try" } else { "tries" },
            overview.place
        ),
        verdict: verdict(overview),
        cards: overview
            .rows
            .iter()
            .take(MOST_CARDS)
            .map(|row| card(row, overview))
            .collect(),
        timeline: Timeline::default(),
        sections: vec![section, said],
    }
}

fn verdict(overview: &Overview) -> Verdict {
    let (headline, tone) = match &overview.best {
        Some(label) => {
            let row = overview.rows.iter().find(|row| &row.label == label);
            let takes = row.and_then(|row| Some((row.capacity?, row.at_least)));
            let takes = takes.map_or_else(String::new, |(capacity, at_least)| {
                let least = if at_least { "at least " } else { "" };
                format!(": it takes {least}{} per second", rate(capacity.mean))
            });
            (format!("Take {label}{takes}."), Tone::Good)
        }
        None if overview.rows.iter().all(|row| row.capacity.is_none()) => {
            ("No capacity was found.".to_owned(), Tone::Bad)
        }
        None => ("None of these can be recommended.".to_owned(), Tone::Warn),
    };
    let mut remarks = Vec::new();
    if !overview.reason.is_empty() {
        remarks.push(sentence(&overview.reason));
    }
    remarks.extend(overview.remarks.iter().map(|text| sentence(text)));
    Verdict {
        headline,
        tone,
        line: String::new(),
        remarks,
    }
}

/// With a capital letter and a full stop. A name of something (`c8g.large`) stays as it is.
fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    let is_word = first
        .trim_end_matches([':', ','])
        .chars()
        .all(char::is_alphabetic);
    let mut chars = text.chars();
    let mut out = match chars.next() {
        Some(one) if is_word => one.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    };
    if !out.ends_with('.') {
        out.push('.');
    }
    out
}

fn card(row: &Row, overview: &Overview) -> Card {
    let (status, tone) = match row {
        Row {
            failure: Some(_), ..
        } => ("failed", Tone::Bad),
        Row { capacity: None, .. } => ("no capacity found", Tone::Warn),
        Row { at_least: true, .. } => ("lower bound", Tone::Warn),
        Row {
            confirmed: true, ..
        } => ("confirmed", Tone::Good),
        _ => ("not confirmed", Tone::Warn),
    };
    let mut details = Vec::new();
    if overview.best.as_ref() == Some(&row.label) {
        details.push("the one to take".to_owned());
    }
    if let Some(capacity) = row.capacity {
        details.push(format!("95 % {}", ends(capacity)));
    }
    details.extend(
        row.limit
            .as_ref()
            .map(|limit| format!("limited by {limit}")),
    );
    details.extend(
        row.p50_p95_seconds
            .map(|(_, p95)| format!("p95 {}", time(p95))),
    );
    details.extend(
        row.per_million
            .as_ref()
            .map(|(_, price)| format!("{price} per million")),
    );
    Card {
        label: row.label.clone(),
        value: row
            .capacity
            .map_or_else(|| "–".to_owned(), |capacity| rate(capacity.mean)),
        unit: if row.capacity.is_some() { "per s" } else { "" }.to_owned(),
        status: status.to_owned(),
        tone,
        details,
    }
}

fn ends(interval: Interval) -> String {
    format!("{}–{}", rate(interval.low), rate(interval.high))
}

fn bars(overview: &Overview) -> Block {
    let means = overview.rows.iter().filter_map(|row| row.capacity);
    let most = means.map(|capacity| capacity.mean).fold(0.0, f64::max);
    let bars = overview.rows.iter().filter_map(|row| {
        let capacity = row.capacity?;
        Some(Gauge {
            label: row.label.clone(),
            ratio: if most > 0.0 {
                capacity.mean / most
            } else {
                0.0
            },
            text: format!("{} ({})", rate(capacity.mean), ends(capacity)),
            limiting: false,
        })
    });
    Block::Gauges(
        "Capacity per second, as a share of the highest".to_owned(),
        bars.collect(),
    )
}

fn table(overview: &Overview) -> Table {
    let mut table = Table::new(
        "matrix",
        "Every row, at its capacity",
        &[
            "row",
            "#per second",
            "#95 %",
            "#workers",
            "#p50 ms",
            "#p95 ms",
            "limited by",
            "left over",
            "#per hour",
            "#per million",
        ],
    );
    let unknown = || Cell::number(f64::NAN, "unknown");
    for row in &overview.rows {
        let left = row.headroom.iter().fold(String::new(), |mut all, one| {
            let comma = if all.is_empty() { "" } else { ", " };
            let _ = write!(all, "{comma}{} {}", one.0, percent(one.1));
            all
        });
        table.rows.push(vec![
            Cell::text(&row.label),
            row.capacity.map_or_else(unknown, |capacity| {
                let least = if row.at_least { "≥ " } else { "" };
                Cell::number(capacity.mean, format!("{least}{}", rate(capacity.mean)))
            }),
            row.capacity.map_or_else(unknown, |capacity| {
                Cell::number(capacity.low, ends(capacity))
            }),
            row.workers
                .map_or_else(unknown, |workers| Cell::number(workers, rate(workers))),
            row.p50_p95_seconds
                .map_or_else(unknown, |(p50, _)| Cell::milliseconds(p50)),
            row.p50_p95_seconds
                .map_or_else(unknown, |(_, p95)| Cell::milliseconds(p95)),
            Cell::text(row.limit.as_deref().unwrap_or("unknown")),
            Cell::text(if left.is_empty() { "unknown" } else { &left }),
            Cell::text(row.per_hour.as_deref().unwrap_or("unknown")),
            row.per_million
                .as_ref()
                .map_or_else(unknown, |(value, text)| Cell::number(*value, text)),
        ]);
    }
    table
}

fn found(results: &Results) -> Option<&Findings> {
    results.sizing.as_ref()?.search.as_ref()
}

/// The levels of all rows over each other.
fn levels(runs: &[(String, Results)]) -> Chart {
    let is_rate = runs
        .iter()
        .filter_map(|(_, results)| found(results))
        .any(|found| found.unit == Unit::RunsPerSecond);
    let mut chart = Chart {
        id: "rows-levels".to_owned(),
        title: "Throughput under each load".to_owned(),
        note: "Every level that was held on each row, with its 95 % interval.".to_owned(),
        across: Across::Level,
        across_title: if is_rate {
            "runs started per second"
        } else {
            "workers"
        }
        .to_owned(),
        left: Axis::new("throughput", "per s"),
        ..Chart::default()
    };
    for (label, results) in runs {
        let Some(found) = found(results) else {
            continue;
        };
        let mut trials: Vec<&Trial> = found.trials.iter().collect();
        trials.sort_by(|one, other| one.level.total_cmp(&other.level));
        let done = |trial: &&Trial| {
            if trial.requests_per_second.mean > 0.0 {
                trial.requests_per_second
            } else {
                trial.runs_per_second
            }
        };
        // Without an interval it reaches from nothing to twice the mean.
        let end = |interval: Interval, value: f64| {
            let known = interval.low > 0.0 && interval.high < 2.0 * interval.mean;
            Number(if known { value } else { f64::NAN })
        };
        let rates: Vec<Interval> = trials.iter().map(done).collect();
        chart.lines.push(Line {
            name: label.clone(),
            look: Look::Points,
            unit: "per s".to_owned(),
            x: trials.iter().map(|trial| Number(trial.level)).collect(),
            y: rates.iter().map(|rate| Number(rate.mean)).collect(),
            low: rates.iter().map(|rate| end(*rate, rate.low)).collect(),
            high: rates.iter().map(|rate| end(*rate, rate.high)).collect(),
            ..Line::default()
        });
    }
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview() -> Overview {
        let row = |label: &str, mean: f64| Row {
            label: label.to_owned(),
            capacity: Some(Interval {
                mean,
                low: mean - 10.0,
                high: mean + 10.0,
            }),
            confirmed: true,
            limit: Some("CPU".to_owned()),
            per_million: Some((0.06, "USD 0.0600".to_owned())),
            ..Row::default()
        };
        Overview {
            service: "kinto <1>".to_owned(),
            place: "on EC2 instances".to_owned(),
            rows: vec![
                row("t3.medium", 200.0),
                row("c8g.large", 400.0),
                Row {
                    label: "m8g.large".to_owned(),
                    failure: Some("no room".to_owned()),
                    ..Row::default()
                },
            ],
            best: Some("c8g.large".to_owned()),
            reason: "c8g.large is the cheapest: USD 0.0600 per million requests".to_owned(),
            remarks: vec!["prices: a list, 2026-11-01".to_owned()],
        }
    }

    #[test]
    fn the_answer_comes_first_and_says_why() {
        let run = opening(&overview(), &[]);
        assert_eq!(
            run.verdict.headline,
            "Take c8g.large: it takes 400 per second."
        );
        assert_eq!(
            run.verdict.remarks,
            [
                "c8g.large is the cheapest: USD 0.0600 per million requests.",
                "Prices: a list, 2026-11-01."
            ]
        );
        let status: Vec<&str> = run.cards.iter().map(|card| card.status.as_str()).collect();
        assert_eq!(status, ["confirmed", "confirmed", "failed"]);
        assert_eq!(run.cards[1].details[0], "the one to take");
    }

    #[test]
    fn bars_are_shares_of_the_highest_and_unknown_is_no_bar() {
        let Block::Gauges(_, bars) = bars(&overview()) else {
            panic!("no bars")
        };
        let shares: Vec<f64> = bars.iter().map(|bar| bar.ratio).collect();
        assert_eq!(shares, [0.5, 1.0]);
    }

    #[test]
    fn unknown_is_said_in_the_table() {
        let table = table(&overview());
        let last: Vec<&str> = table.rows[2].iter().map(Cell::shown).collect();
        assert_eq!(last[1..], ["unknown"; 9]);
    }

    #[test]
    fn no_capacity_is_no_recommendation() {
        let mut overview = overview();
        overview.best = None;
        assert_eq!(
            verdict(&overview).headline,
            "None of these can be recommended."
        );
        overview.rows.retain(|row| row.capacity.is_none());
        assert_eq!(verdict(&overview).headline, "No capacity was found.");
    }

    #[test]
    fn names_of_others_are_escaped() {
        let page = page(&overview(), &[]);
        assert!(page.contains("Sizing of kinto &lt;1&gt;"));
        assert!(!page.contains("kinto <1>"));
    }
}
