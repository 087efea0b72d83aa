//! The outcome as Markdown, for a pull request's comment or a CI job's summary page.
//!
//! Owns the layout and the escaping: names, messages and file names come from scripts and servers, and must neither break
//! a table nor mention somebody. Short things first; what is long is folded. Made from the document alone.

use std::fmt::Write as _;

use super::document::{Results, ServiceTime};
use crate::monitor::{GENERATOR, Metric, Series};
use crate::sizing::search::{Findings, Flaw, Trial, Unit};

/// Longer texts are cut: a comment has to stay readable.
const LONGEST: usize = 160;

/// Rows of a table that are shown; the others are folded.
const MOST_ROWS: usize = 12;

/// Rows of a table at all: a comment on GitHub ends at 65,536 characters.
const MOST_FOLDED: usize = 100;

impl Results {
    /// Verdict, thresholds, capacity, counts, service times, resources and errors, as GitHub-flavoured Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        if self.is_recording() {
            let sources = self.monitor.iter().map(|series| escaped(&series.source));
            let _ = writeln!(
                out,
                "## Resources of {}\n",
                sources.collect::<Vec<_>>().join(", ")
            );
        } else {
            let name = self.meta.scenario_file.as_deref().unwrap_or("molotov");
            let _ = writeln!(out, "## {} Load test of {}\n", self.sign(), escaped(name));
        }
        if !self.complete {
            let _ = writeln!(
                out,
                "> ⚠️ The run did not come to its end; these are its first {:.0} s.\n",
                self.meta.elapsed_seconds
            );
        }
        for (place, line) in self.headlines().iter().enumerate() {
            let line = escaped_to(line, 600);
            let _ = if place == 0 {
                writeln!(out, "**{line}**\n")
            } else {
                writeln!(out, "{line}\n")
            };
        }
        self.thresholds_to(&mut out);
        if !self.is_recording() {
            self.figures_to(&mut out);
        }
        if let Some(search) = self
            .sizing
            .as_ref()
            .and_then(|sizing| sizing.search.as_ref())
        {
            levels_to(&mut out, search);
        }
        times_to(&mut out, "service time in ms", &self.service_times);
        times_to(
            &mut out,
            "response time in ms, from the intended start",
            &self.response_times,
        );
        self.resources_to(&mut out);
        self.errors_to(&mut out);
        let meta = &self.meta;
        let mut parts = vec![format!("Molotov {}", meta.molotov).trim_end().to_owned()];
        parts.extend([
            meta.started_at.clone(),
            meta.host.clone(),
            meta.python.clone(),
        ]);
        parts.retain(|part| !part.is_empty());
        let parts: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
        let _ = writeln!(out, "<sub>{}</sub>", parts.join(" · "));
        out
    }

    /// How it went, in a sign.
    fn sign(&self) -> &'static str {
        let failed = self.exit.as_ref().is_some_and(|exit| exit.code != 0);
        if !self.complete {
            "⚠️"
        } else if failed || self.thresholds.iter().any(|outcome| !outcome.passed) {
            "❌"
        } else {
            "✅"
        }
    }

    fn thresholds_to(&self, out: &mut String) {
        if self.thresholds.is_empty() {
            return;
        }
        out.push_str("| | threshold | measured |\n|---|---|--:|\n");
        for outcome in &self.thresholds {
            let mark = if outcome.passed {
                "✓"
            } else {
                "✗ **failed**"
            };
            let _ = writeln!(
                out,
                "| {mark} | {} | {} |",
                escaped(&outcome.threshold),
                escaped(&outcome.message)
            );
        }
        out.push('\n');
    }

    fn figures_to(&self, out: &mut String) {
        let counts = &self.counts;
        let share = |failed: u64, all: u64| {
            if all == 0 {
                String::new()
            } else {
                format!(" ({:.2} %)", failed as f64 / all as f64 * 100.0)
            }
        };
        let _ = writeln!(
            out,
            "| in {:.0} s | attempts | passed | failed | interrupted | passed per second | failed per second | answers |",
            self.meta.elapsed_seconds
        );
        out.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
        let _ = writeln!(
            out,
            "| runs | {} | {} | {}{} | {} | {:.1} | {:.1} | |",
            counts.started,
            counts.succeeded,
            counts.failed,
            share(counts.failed, counts.succeeded + counts.failed),
            counts.interrupted + counts.unfinished,
            self.per_second(counts.succeeded),
            self.per_second(counts.failed)
        );
        let attempts = self.attempts();
        if attempts.tried > 0 {
            let statuses = counts.statuses.iter().filter(|(_, count)| **count > 0);
            let mut answers: Vec<String> = statuses
                .map(|(class, count)| format!("{}: {count}", escaped(class)))
                .collect();
            if attempts.unanswered() > 0 {
                answers.push(format!("no answer: {}", attempts.unanswered()));
            }
            let _ = writeln!(
                out,
                "| requests | {} | {} | {}{} | | {:.1} | {:.1} | {} |",
                attempts.tried,
                attempts.passed(),
                attempts.failed,
                share(attempts.failed, attempts.tried),
                self.per_second(attempts.passed()),
                self.per_second(attempts.failed),
                answers.join(", ")
            );
        }
        out.push('\n');
        for line in &counts.lost_processes {
            let _ = writeln!(out, "> ⚠️ {}\n", escaped(line));
        }
    }

    fn resources_to(&self, out: &mut String) {
        let level = self
            .verdict
            .as_ref()
            .and_then(|verdict| verdict.level.as_ref());
        let Some(level) = level.filter(|_| !self.monitor.is_empty()) else {
            return;
        };
        let bounds =
            [level.from_seconds, level.to_seconds].map(std::time::Duration::try_from_secs_f64);
        let [Ok(from), Ok(to)] = bounds else {
            return;
        };
        let share = |series: &Series, metric: Metric| {
            let used = series.window(metric, from, to)?.mean;
            let limit = series.window(metric.limit()?, from, to)?.mean;
            (limit > 0.0).then_some((used, limit))
        };
        out.push_str(
            "| resources, under the judged load | CPU | of cores | memory | of its limit |\n",
        );
        out.push_str("|---|--:|--:|--:|--:|\n");
        for series in &self.monitor {
            let name = if series.source == GENERATOR {
                "load generator".to_owned()
            } else {
                escaped(&series.source)
            };
            let cpu = share(series, Metric::CpuCoresUsed).map_or_else(
                || "– | –".to_owned(),
                |(used, limit)| format!("{:.0} % | {limit:.1}", used / limit * 100.0),
            );
            let memory = series.window(Metric::MemoryBytes, from, to).map_or_else(
                || "–".to_owned(),
                |window| format!("{:.0} MiB", window.mean / 1024.0 / 1024.0),
            );
            let limit = share(series, Metric::MemoryBytes).map_or_else(
                || "–".to_owned(),
                |(used, limit)| format!("{:.0} %", used / limit * 100.0),
            );
            let _ = writeln!(out, "| {name} | {cpu} | {memory} | {limit} |");
        }
        out.push('\n');
    }

    fn errors_to(&self, out: &mut String) {
        if self.errors.is_empty() {
            return;
        }
        out.push_str("| error | place | count | first said |\n|---|---|--:|---|\n");
        for group in self.errors.iter().take(MOST_ROWS) {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                escaped(&group.kind),
                escaped(&group.place),
                group.count,
                escaped(&group.message)
            );
        }
        let more = self.errors.len().saturating_sub(MOST_ROWS);
        if more > 0 {
            let _ = writeln!(out, "\n… and {more} more kinds");
        }
        out.push('\n');
    }
}

/// Every level that was measured, the one of the capacity marked.
fn levels_to(out: &mut String, search: &Findings) {
    if search.trials.is_empty() {
        return;
    }
    let unit = match search.unit {
        Unit::Workers => "workers",
        Unit::RunsPerSecond => "started runs/s",
    };
    let has_requests = search
        .trials
        .iter()
        .any(|trial| trial.requests_per_second.mean > 0.0);
    let noun = if has_requests { "req/s" } else { "runs/s" };
    let chosen = search.capacity.as_ref().map(|capacity| capacity.level);
    let is_chosen = |trial: &Trial| {
        trial.sustainable()
            && chosen.is_some_and(|level| (trial.level - level).abs() < 1e-6 * level.max(1.0))
    };
    let mut trials: Vec<&Trial> = search.trials.iter().collect();
    trials.sort_by(|a, b| {
        a.level
            .total_cmp(&b.level)
            .then(a.began_seconds.total_cmp(&b.began_seconds))
    });
    let _ = writeln!(
        out,
        "<details><summary>{} levels measured</summary>\n\n| | {unit} | phase | {noun} | 95 % | p95 ms | failed | |\n\
         |---|--:|---|--:|--:|--:|--:|---|",
        trials.len()
    );
    for trial in trials {
        let rate = if has_requests {
            trial.requests_per_second
        } else {
            trial.runs_per_second
        };
        let p95 = trial.service_times.map_or_else(
            || "–".to_owned(),
            |times| format!("{:.1}", times.p95_seconds * 1000.0),
        );
        let flaws: Vec<String> = trial.flaws.iter().map(Flaw::to_string).collect();
        let _ = writeln!(
            out,
            "| {} | {:.0} | {} | {:.1} | {:.1}–{:.1} | {p95} | {:.2} % | {} |",
            if is_chosen(trial) { "➤" } else { "" },
            trial.level,
            trial.phase.as_str(),
            rate.mean,
            rate.low,
            rate.high,
            trial.failures.ratio * 100.0,
            escaped(&flaws.join(", "))
        );
    }
    out.push_str("\n</details>\n\n");
}

/// A table of times, the first rows of it shown and the others folded away.
fn times_to(out: &mut String, title: &str, rows: &[ServiceTime]) {
    if rows.is_empty() {
        return;
    }
    let heading = format!(
        "| {title} | attempts | failed | mean | p50 | p90 | p95 | p99 | max |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    out.push_str(&heading);
    for row in rows.iter().take(MOST_ROWS) {
        line(out, row);
    }
    out.push('\n');
    let more = rows.len().saturating_sub(MOST_ROWS);
    if more > 0 {
        let _ = write!(out, "<details><summary>{more} more</summary>\n\n{heading}");
        for row in rows.iter().skip(MOST_ROWS).take(MOST_FOLDED) {
            line(out, row);
        }
        if more > MOST_FOLDED {
            let _ = writeln!(out, "\n… and {} more", more - MOST_FOLDED);
        }
        out.push_str("\n</details>\n\n");
    }
}

fn line(out: &mut String, row: &ServiceTime) {
    let _ = write!(
        out,
        "| {} | {} | {} |",
        escaped(&row.name),
        row.count,
        row.failed
    );
    for seconds in [
        row.mean_seconds,
        row.p50_seconds,
        row.p90_seconds,
        row.p95_seconds,
        row.p99_seconds,
        row.max_seconds,
    ] {
        let _ = write!(out, " {:.1} |", seconds * 1000.0);
    }
    out.push('\n');
}

/// A text as Markdown shows it, cut when it is long: nothing in it is taken for Markdown, HTML, a cell's end, a formula
/// or a mention. Characters that change the direction of what follows are left out.
pub fn escaped_for_markdown(text: &str) -> String {
    escaped(text)
}

fn escaped(text: &str) -> String {
    escaped_to(text, LONGEST)
}

fn escaped_to(text: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len().min(longest * 2));
    for (place, c) in text.chars().enumerate() {
        if place == longest {
            out.push('…');
            break;
        }
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            // GitHub would send the person of that name a message.
            '@' => out.push_str("@<!-- -->"),
            '|' | '*' | '_' | '`' | '\\' | '[' | ']' | '~' | '$' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_whitespace() => out.push(' '),
            c if c.is_control() => {}
            '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    #[test]
    fn the_page_is_this() {
        let text = sample::results().to_markdown();
        // To be looked at when it changes: it is what people see.
        let expected = include_str!("markdown_sample.md");
        assert_eq!(text, expected, "{text}");
    }

    #[test]
    fn names_cannot_break_the_tables() {
        let mut results = sample::results();
        results.service_times[0].name = "a|b\n<script>@all ![x](http://y) \u{202e}".to_owned();
        let text = results.to_markdown();
        assert!(
            text.contains("| a\\|b &lt;script>@<!-- -->all !\\[x\\](http://y)  | 100 | 10 |"),
            "{text}"
        );
        assert!(
            text.starts_with("## ❌ Load test of load &lt;test>.py\n"),
            "{text}"
        );
    }

    #[test]
    fn long_tables_are_folded() {
        let mut results = sample::results();
        let row = results.service_times[0].clone();
        results.service_times = (0..10_000)
            .map(|number| ServiceTime {
                name: format!("{number} {}", "x".repeat(10_000)),
                ..row.clone()
            })
            .collect();
        let text = results.to_markdown();
        assert!(text.contains("<details><summary>9988 more</summary>"));
        assert!(text.contains("… and 9888 more"));
        assert!(text.len() < 65_536, "{}", text.len());
    }

    #[test]
    fn a_dead_run_says_so() {
        let mut results = sample::results();
        results.complete = false;
        assert!(results.to_markdown().contains("did not come to its end"));
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_cell(text in any::<String>()) {
            let out = escaped(&text);
            prop_assert!(!out.contains('\n') && !out.contains('\r'));
            prop_assert!(!out.replace("\\|", "").contains('|') || out.contains("\\\\"));
            prop_assert!(!out.replace("@<!-- -->", "").contains(['<', '@']));
        }
    }
}
