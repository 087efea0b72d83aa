//! A comparison for a terminal.
//!
//! Owns the layout: who is who, the outcome in one line per run, then a table; what changed comes first, and a sign says
//! what a colour would.

use std::fmt::Write as _;

use super::document::{Comparison, Metric, Verdict};
use super::words::{change, with_interval};

/// A name longer than this is cut.
const LONGEST_NAME: usize = 48;

impl Comparison {
    /// Plain text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for run in &self.runs {
            let _ = writeln!(
                out,
                "{}  {}  {}\n   {}",
                clean(&run.letter),
                clean(&run.file),
                clean(&run.started_at),
                clean(&run.headline)
            );
        }
        for caution in &self.cautions {
            let _ = writeln!(out, "!  {}", clean(caution));
        }
        for place in 1..self.runs.len() {
            out.push('\n');
            self.one(&mut out, place);
        }
        let _ = write!(
            out,
            "\nIntervals hold with {:.0} % confidence. Changes below {} % do not matter (--margin). Failed runs are \
             compared\nin percentage points (pp), a tenth of that.\n",
            self.confidence * 100.0,
            self.margin_percent()
        );
        out
    }

    fn one(&self, out: &mut String, place: usize) {
        let _ = writeln!(out, "{}", self.outcome(place));
        let mut rows: Vec<[String; 5]> = Vec::new();
        for verdict in ORDER {
            for metric in self.having(place, verdict) {
                let value = |place: usize| match metric.values.get(place) {
                    Some(Some(value)) => with_interval(metric.unit, value),
                    _ => "–".to_owned(),
                };
                let Some(Some(one)) = metric.changes.get(place - 1) else {
                    continue;
                };
                rows.push([
                    format!("{} {}", verdict.sign(), verdict.as_str()),
                    cut(&clean(&metric.name)),
                    value(0),
                    value(place),
                    change(metric, one),
                ]);
            }
        }
        if rows.is_empty() {
            out.push_str("There is nothing that both have.\n");
            return;
        }
        let letter = |place: usize| {
            self.runs
                .get(place)
                .map_or_else(String::new, |run| run.letter.clone())
        };
        rows.insert(
            0,
            [
                String::new(),
                String::new(),
                letter(0),
                letter(place),
                "change".to_owned(),
            ],
        );
        let widths: Vec<usize> = (0..5)
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            let _ = writeln!(out, "  {}", line.trim_end());
        }
    }

    /// `B against A: 1 regressed, 2 improved, 4 unchanged, 0 unclear`.
    pub(super) fn outcome(&self, place: usize) -> String {
        let counts: Vec<String> = ORDER
            .iter()
            .map(|verdict| format!("{} {}", self.count_of(place, *verdict), verdict.as_str()))
            .collect();
        format!("{}: {}", self.pair(place), counts.join(", "))
    }

    /// `B against A`.
    pub(super) fn pair(&self, place: usize) -> String {
        let letter = |place: usize| self.runs.get(place).map_or("", |run| run.letter.as_str());
        format!("{} against {}", letter(place), letter(0))
    }

    /// The margin in percent, without digits that say nothing.
    pub(super) fn margin_percent(&self) -> f64 {
        (self.margin * 1e5).round() / 1e3
    }

    /// The metrics with that verdict, in their order.
    pub(super) fn having(&self, place: usize, verdict: Verdict) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().filter(move |metric| {
            let change = metric
                .changes
                .get(place.saturating_sub(1))
                .and_then(Option::as_ref);
            change.is_some_and(|change| change.verdict == verdict)
        })
    }
}

/// What matters first.
pub(super) const ORDER: [Verdict; 4] = [
    Verdict::Regressed,
    Verdict::Improved,
    Verdict::Unclear,
    Verdict::Unchanged,
];

/// Without what would move the cursor of a terminal or turn its text round.
fn clean(text: &str) -> String {
    let shown = text.chars().filter(|c| {
        !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    shown.collect()
}

fn cut(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(LONGEST_NAME - 1).collect();
    format!("{kept}…")
}
