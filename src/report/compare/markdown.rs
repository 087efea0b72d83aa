//! A comparison for a pull request's comment or a CI job's summary page.
//!
//! Owns the layout: the outcome, what changed in a table, the rest folded away. Names come from outside and are escaped
//! as in the Markdown of a run.

use std::fmt::Write as _;

use super::document::{Comparison, Verdict};
use super::text::ORDER;
use super::words::{change, with_interval};
use crate::results::escaped_for_markdown as escaped;

impl Comparison {
    /// GitHub-flavoured Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = "## Load tests compared\n\n".to_owned();
        for place in 1..self.runs.len() {
            let regressed = self.count_of(place, Verdict::Regressed);
            let mark = if regressed > 0 {
                "❌"
            } else if self.count_of(place, Verdict::Improved) > 0 {
                "✅"
            } else {
                "➖"
            };
            let _ = writeln!(out, "{mark} **{}**\n", self.outcome(place));
        }
        out.push_str("| | run | began | found |\n|---|---|---|---|\n");
        for run in &self.runs {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                run.letter,
                escaped(&run.file),
                escaped(&run.started_at),
                escaped(&run.headline)
            );
        }
        out.push('\n');
        for caution in &self.cautions {
            let _ = writeln!(out, "> ⚠️ {}\n", escaped(caution));
        }
        let several = self.runs.len() > 2;
        for place in 1..self.runs.len() {
            if several {
                let _ = writeln!(out, "### {}\n", self.pair(place));
            }
            let [regressed, improved, unclear, unchanged] = ORDER;
            self.table(&mut out, place, &[regressed, improved, unclear]);
            let count = self.count_of(place, unchanged);
            if count > 0 {
                let _ = writeln!(out, "<details><summary>{count} unchanged</summary>\n");
                self.table(&mut out, place, &[unchanged]);
                out.push_str("</details>\n\n");
            }
        }
        let _ = writeln!(
            out,
            "<sub>Intervals hold with {:.0} % confidence; changes below {} % do not matter (of failed runs a tenth of \
             that, in percentage points, pp). ≥ is a lower bound.</sub>",
            self.confidence * 100.0,
            self.margin_percent()
        );
        out
    }

    fn table(&self, out: &mut String, place: usize, verdicts: &[Verdict]) {
        let letter = |place: usize| self.runs.get(place).map_or("", |run| run.letter.as_str());
        if verdicts
            .iter()
            .all(|verdict| self.count_of(place, *verdict) == 0)
        {
            return;
        }
        let _ = writeln!(
            out,
            "| | metric | {} | {} | change |\n|---|---|--:|--:|--:|",
            letter(0),
            letter(place)
        );
        for verdict in verdicts {
            for metric in self.having(place, *verdict) {
                let value = |place: usize| match metric.values.get(place) {
                    Some(Some(value)) => with_interval(metric.unit, value),
                    _ => "–".to_owned(),
                };
                if let Some(Some(one)) = metric.changes.get(place - 1) {
                    let _ = writeln!(
                        out,
                        "| {} {} | {} | {} | {} | {} |",
                        verdict.sign(),
                        verdict.as_str(),
                        escaped(&metric.name),
                        value(0),
                        value(place),
                        change(metric, one)
                    );
                }
            }
        }
        out.push('\n');
    }
}
