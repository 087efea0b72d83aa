//! What failed: errors with an example each, classes of answers, thresholds.
//!
//! Owns how they are listed. Called by `run`.

use std::fmt::Write as _;

use super::model::{Block, Fault, Section};
use super::number::{count, duration, percent};
use super::table::{Cell, Table, cut};
use crate::results::Results;

/// Errors shown; the document has all.
const MOST_ERRORS: usize = 50;

/// Characters of a message and of a traceback.
const MOST_MESSAGE: usize = 2_000;
const MOST_EXAMPLE: usize = 20_000;

/// The thresholds of the run.
pub(super) fn thresholds(results: &Results) -> Section {
    let mut section = Section::new("thresholds", "Thresholds");
    let mut table = Table::new(
        "thresholds-table",
        "What was asked for, and what was measured",
        &["threshold", "held", "measured"],
    );
    for outcome in &results.thresholds {
        let held = if outcome.passed { "✓ yes" } else { "✗ no" };
        table.rows.push(vec![
            Cell::text(&outcome.threshold),
            Cell::number(f64::from(u8::from(outcome.passed)), held),
            Cell::text(&outcome.message),
        ]);
    }
    section.table(table);
    section
}

/// Errors and answers.
pub(super) fn section(results: &Results) -> Section {
    let mut section = Section::new("failed", "Failures and answers");
    let counts = &results.counts;
    let mut runs = format!(
        "Of {} runs started {} succeeded, {} failed and {} were interrupted",
        count(counts.started),
        count(counts.succeeded),
        count(counts.failed),
        count(counts.interrupted)
    );
    if counts.unfinished > 0 {
        let _ = write!(runs, "; {} were under way", count(counts.unfinished));
    }
    let answered: u64 = counts
        .statuses
        .values()
        .fold(0, |sum, count| sum.saturating_add(*count));
    let statuses: Vec<String> = counts
        .statuses
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(class, number)| {
            let share = percent(*number as f64 / answered as f64);
            format!("{} × {} ({share})", count(*number), cut(class, 20))
        })
        .collect();
    if !statuses.is_empty() {
        let _ = write!(runs, ". Answers: {}", statuses.join(", "));
    }
    if counts.resent > 0 {
        let _ = write!(
            runs,
            ". {} requests were sent again because a kept connection had been closed",
            count(counts.resent)
        );
    }
    section.blocks.push(Block::Text(runs + "."));
    let faults: Vec<Fault> = results
        .errors
        .iter()
        .take(MOST_ERRORS)
        .map(|group| Fault {
            kind: cut(&group.kind, 200),
            place: cut(&group.place, 300),
            count: format!(
                "{} ×, from {} to {}",
                count(group.count),
                duration(group.first_seconds),
                duration(group.last_seconds)
            ),
            message: cut(&group.message, MOST_MESSAGE),
            example: cut(&group.example, MOST_EXAMPLE),
        })
        .collect();
    if !faults.is_empty() {
        section.blocks.push(Block::Faults(faults));
    }
    if results.errors.len() > MOST_ERRORS {
        section.blocks.push(Block::Text(format!(
            "{} more kinds of errors are in the results file.",
            results.errors.len() - MOST_ERRORS
        )));
    }
    section
}
