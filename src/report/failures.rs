//! What failed: errors with an example each, classes of answers, thresholds.
//!
//! Owns how they are listed. Called by `run`.

use super::model::{Block, Fault, Section};
use super::number::{count, duration, percent, rate};
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
    section.table(outcomes(results));
    if results.counts.resent > 0 {
        section.blocks.push(Block::Text(format!(
            "{} requests were sent again because a kept connection had been closed.",
            count(results.counts.resent)
        )));
    }
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

/// What became of all runs and requests: the parts of each add up to what was tried.
fn outcomes(results: &Results) -> Table {
    let mut table = Table::new(
        "outcomes-table",
        "What became of every run and every request",
        &["outcome", "#count", "#share", "#per second"],
    );
    let mut add = |what: String, part: u64, all: u64| {
        let share = if all > 0 {
            part as f64 / all as f64
        } else {
            f64::NAN
        };
        let speed = results.per_second(part);
        table.rows.push(vec![
            Cell::text(&what),
            Cell::count(part),
            Cell::number(share, percent(share)),
            Cell::number(speed, rate(speed)),
        ]);
    };
    let counts = &results.counts;
    let all = counts.started;
    add("runs started".to_owned(), all, all);
    for (what, part) in [
        ("passed", counts.succeeded),
        ("failed", counts.failed),
        ("interrupted", counts.interrupted),
        ("under way", counts.unfinished),
    ] {
        if part > 0 || matches!(what, "passed" | "failed") {
            add(format!("runs {what}"), part, all);
        }
    }
    let attempts = results.attempts();
    if attempts.tried > 0 {
        add("requests tried".to_owned(), attempts.tried, attempts.tried);
        for (class, part) in counts.statuses.iter().filter(|(_, part)| **part > 0) {
            let what = format!("requests answered {}", cut(class, 20));
            add(what, *part, attempts.tried);
        }
        let unanswered = attempts.unanswered();
        if unanswered > 0 || attempts.answered == 0 {
            add(
                "requests without an answer".to_owned(),
                unanswered,
                attempts.tried,
            );
        }
    }
    table
}
