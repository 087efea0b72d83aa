//! The outcome as Markdown, for a pull request's comment or a CI job's summary page.
//!
//! Owns the layout. Made from the document alone.

use std::fmt::Write as _;

use super::document::{Results, ServiceTime};

impl Results {
    /// Verdict, thresholds, counts, service times and errors.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let name = self.meta.scenario_file.as_deref().unwrap_or("molotov");
        let _ = writeln!(out, "## Load test of {}\n", escaped(name));
        for line in self.headlines() {
            let _ = writeln!(out, "{}\n", escaped(&line));
        }
        if !self.thresholds.is_empty() {
            out.push_str("| | threshold | measured |\n|---|---|---|\n");
            for outcome in &self.thresholds {
                let mark = if outcome.passed { "✓" } else { "✗" };
                let _ = writeln!(
                    out,
                    "| {mark} | {} | {} |",
                    escaped(&outcome.threshold),
                    escaped(&outcome.message)
                );
            }
            out.push('\n');
        }
        if !self.service_times.is_empty() {
            table(&mut out, "service time in ms", &self.service_times);
        }
        if !self.response_times.is_empty() {
            let title = "response time in ms, from the intended start";
            table(&mut out, title, &self.response_times);
        }
        if !self.errors.is_empty() {
            out.push_str("| error | place | count | first said |\n|---|---|--:|---|\n");
            for group in &self.errors {
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} |",
                    escaped(&group.kind),
                    escaped(&group.place),
                    group.count,
                    escaped(&group.message)
                );
            }
            out.push('\n');
        }
        out
    }
}

fn table(out: &mut String, title: &str, rows: &[ServiceTime]) {
    let _ = writeln!(
        out,
        "| {title} | count | failed | mean | p50 | p90 | p95 | p99 | max |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    for row in rows {
        line(out, row);
    }
    out.push('\n');
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

/// What Markdown, HTML and its tables would take for their own.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '|' | '*' | '_' | '`' | '\\' | '[' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn names_cannot_break_the_tables() {
        let mut results = sample::results();
        results.service_times[0].name = "a|b\n<script>".to_owned();
        let text = results.to_markdown();
        assert!(text.contains("| a\\|b &lt;script> | 100 | 10 |"), "{text}");
        assert!(
            text.starts_with("## Load test of load &lt;test>.py\n"),
            "{text}"
        );
        assert!(text.contains("| ✗ | error-rate&lt;1% | 10.0 % |"), "{text}");
        assert!(text.contains("Limited by CPU of pid:7"), "{text}");
    }
}
