//! Several sizes of a service as a page: which to take, all of them in a table and over each other, each run to unfold.
//!
//! Owns the page. What the rows are and say is the caller's: they come as texts, with numbers to sort them by. Called by
//! `python` for `autosizer`.

use super::html::Page;
use super::model::{Block, Card, Gauge, Run, Section, Timeline, Tone, Verdict};
use super::number::rate;
use super::table::{Cell, Table, cut};
use super::{levels, opening};
use crate::results::Results;

/// So many rows have a card of their own.
const MOST_CARDS: usize = 10;

/// What is shown.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// What was sized.
    pub title: String,
    /// When, and where.
    pub subtitle: String,
    /// Which row to take; empty when none is recommended.
    pub headline: String,
    /// What else there is to say, one sentence each.
    pub remarks: Vec<String>,
    /// The heads of the table; those of numbers begin with `#`.
    pub columns: &'a [&'a str],
    /// The cells of each row, and what those of numbers are sorted by. The first is the label.
    pub rows: Vec<Vec<(Option<f64>, String)>>,
    /// The label of the row to take.
    pub best: Option<&'a str>,
    /// The runs of the rows that have one, by label.
    pub runs: &'a [(String, Results)],
}

/// The page as one file.
pub fn page(matrix: &Matrix) -> String {
    let failed = matrix.runs.len() < matrix.rows.len();
    let tone = match (matrix.best, failed) {
        (Some(_), false) => Tone::Good,
        (Some(_), true) | (None, false) => Tone::Warn,
        (None, true) => Tone::Bad,
    };
    let mut sections = vec![rows(matrix), loads(matrix)];
    sections.retain(|section| !section.blocks.is_empty());
    let shown = Run {
        title: cut(&matrix.title, 200),
        subtitle: matrix.subtitle.clone(),
        verdict: Verdict {
            headline: if matrix.headline.is_empty() {
                format!(
                    "{} of {} sizes were measured.",
                    matrix.runs.len(),
                    matrix.rows.len()
                )
            } else {
                matrix.headline.clone()
            },
            tone,
            line: String::new(),
            remarks: matrix.remarks.clone(),
        },
        cards: cards(matrix),
        timeline: Timeline::default(),
        sections,
    };
    let mut page = Page::new(&format!("{} · {}", shown.verdict.headline, shown.title));
    page.run(&shown);
    for (label, results) in matrix.runs {
        page.folded(
            &format!("The run of {}", cut(label, 120)),
            &Run::of(results),
        );
    }
    page.finish()
}

/// The capacity of each row, and what limits it.
fn cards(matrix: &Matrix) -> Vec<Card> {
    let all = matrix.runs.iter().map(|(label, results)| {
        let mut cards = opening::cards(results).into_iter();
        let mut card = cards.next().unwrap_or_else(|| Card {
            label: String::new(),
            value: String::new(),
            unit: String::new(),
            status: String::new(),
            tone: Tone::Plain,
            details: Vec::new(),
        });
        let limit = cards.find(|card| card.label == "Limited by");
        card.label = if matrix.best == Some(label.as_str()) {
            format!("★ {}", cut(label, 80))
        } else {
            cut(label, 80)
        };
        card.details
            .extend(limit.map(|limit| format!("limited by: {} {}", limit.value, limit.unit)));
        card
    });
    all.take(MOST_CARDS).collect()
}

fn rows(matrix: &Matrix) -> Section {
    let mut section = Section::new("rows", "Every size");
    let capacities: Vec<(&str, opening::Answer)> = matrix
        .runs
        .iter()
        .filter_map(|(label, results)| Some((label.as_str(), opening::answer(results)?)))
        .collect();
    let most = capacities
        .iter()
        .map(|(_, found)| found.rate.mean)
        .fold(0.0, f64::max);
    let gauges = capacities.iter().map(|(label, found)| Gauge {
        label: cut(label, 80),
        ratio: if most > 0.0 {
            found.rate.mean / most
        } else {
            0.0
        },
        text: format!(
            "{}{} {} ({}–{})",
            if found.at_least { "≥ " } else { "" },
            rate(found.rate.mean),
            found.unit,
            rate(found.rate.low),
            rate(found.rate.high)
        ),
        limiting: false,
    });
    let gauges: Vec<Gauge> = gauges.collect();
    if gauges.len() > 1 {
        section.blocks.push(Block::Gauges(
            "Capacity, as a share of the largest".to_owned(),
            gauges,
        ));
    }
    let mut table = Table::new("rows-table", "What each size takes", matrix.columns);
    for row in &matrix.rows {
        let is_best = row
            .first()
            .is_some_and(|(_, label)| matrix.best == Some(label.as_str()));
        let cells = row.iter().enumerate().map(|(place, (value, text))| {
            let is_number = table.columns.get(place).is_some_and(|column| column.number);
            let mark = if is_best && place == 0 { "★ " } else { "" };
            if is_number {
                Cell::number(value.unwrap_or(f64::NAN), text)
            } else {
                Cell::text(&format!("{mark}{text}"))
            }
        });
        let cells = cells.collect();
        table.rows.push(cells);
    }
    section.table(table);
    section
}

/// What every size did under each load.
fn loads(matrix: &Matrix) -> Section {
    let mut section = Section::new("loads", "Under each load");
    let named = matrix
        .runs
        .iter()
        .map(|(label, results)| (cut(label, 60), results));
    section.chart(levels::over_each_other(named));
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

    #[test]
    fn every_row_is_there_and_no_text_becomes_markup() {
        let hostile = "<u>\"x\"</script>";
        let runs = [
            (hostile.to_owned(), sample::results()),
            ("2 CPU".to_owned(), sample::results()),
        ];
        let matrix = Matrix {
            title: format!("Sizing of {hostile}"),
            subtitle: String::new(),
            headline: "Take 2 CPU.".to_owned(),
            remarks: vec![hostile.to_owned()],
            columns: &["row", "#capacity", "notes"],
            rows: [hostile, "2 CPU", "4 CPU"]
                .map(|label| {
                    vec![
                        (None, label.to_owned()),
                        (Some(412.0), "412 (400–425)".to_owned()),
                        (None, hostile.to_owned()),
                    ]
                })
                .to_vec(),
            best: Some("2 CPU"),
            runs: &runs,
        };
        let page = page(&matrix);
        let markup = page.split("<script").next().unwrap();
        assert!(!markup.contains("<u>"), "a text became markup");
        assert_eq!(markup.matches("<details class=\"run\">").count(), 2);
        assert_eq!(markup.matches("<h1>").count(), 1);
        for text in ["★ 2 CPU", "4 CPU", "412 (400–425)", "Take 2 CPU."] {
            assert!(markup.contains(text), "{text}");
        }
    }
}
