//! The outcome as plain text: what `molotov-report summary` prints, and the lines that the end of a run adds.
//!
//! Owns the wording and the order: verdict first, then thresholds, counts, resources, service times, errors. Made from the document
//! alone.

use std::fmt::Write as _;
use std::time::Duration;

use super::document::{FormatError, Results};
use crate::metrics::render;
use crate::verdict::{Resource, Verdict, whose};

impl Results {
    /// What was found, one sentence each: capacity, limit, generator. Empty when there is nothing to say.
    pub fn headlines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(sizing) = &self.sizing {
            if let Some(search) = &sizing.search {
                // A run that ended within its ramp has found nothing, not even that there is nothing.
                if search.capacity.is_some() || search.ramp_ended.is_some() {
                    lines.push(self.capacity_line(&search.headline(), search.ramp_ended.is_none()));
                }
                lines.extend(search.unconfirmed.iter().cloned());
            } else if let Some(ramp) = &sizing.ramp {
                lines.push(ramp.sentence.clone());
            }
        }
        if let Some(starts) = &self.starts {
            lines.extend(starts.sentences());
        }
        let Some(verdict) = &self.verdict else {
            return lines;
        };
        // Without anything monitored, or asked for, "unknown" is no news.
        if verdict.resource != Resource::Unknown || self.monitor.len() > 1 || self.is_recording() {
            lines.push(sentence(&verdict.sentence));
        }
        for growth in &verdict.memory_growth {
            lines.push(format!(
                "Memory of {} grows by {:.1} MiB per 1,000 requests",
                whose(Some(&growth.source)),
                growth.bytes_per_thousand_requests / 1024.0 / 1024.0
            ));
        }
        lines
    }

    /// How much, and what limits it: a saturated generator makes it a lower bound, and so does a ramp that was cut off
    /// before anything gave out.
    fn capacity_line(&self, headline: &str, cut_off: bool) -> String {
        let verdict = self.verdict.as_ref();
        let saturated = verdict.is_some_and(|verdict| verdict.resource == Resource::Generator);
        let (word, headline) = if saturated || cut_off {
            (
                "AT LEAST",
                headline.strip_prefix("at least ").unwrap_or(headline),
            )
        } else {
            ("CAPACITY", headline)
        };
        match verdict.and_then(Verdict::brief) {
            Some(brief) => format!("{word} {headline} · {brief}"),
            None => format!("{word} {headline}"),
        }
    }

    /// One line for each threshold, with a tick or a cross.
    pub fn threshold_lines(&self) -> Vec<String> {
        let widths = self
            .thresholds
            .iter()
            .map(|outcome| outcome.threshold.chars().count());
        let width = widths.max().unwrap_or_default();
        self.thresholds
            .iter()
            .map(|outcome| {
                let mark = if outcome.passed { '✓' } else { '✗' };
                format!("{mark} {:<width$}  {}", outcome.threshold, outcome.message)
            })
            .collect()
    }

    /// Everything as plain text of at most `width` columns.
    pub fn to_summary(&self, width: usize) -> Result<String, FormatError> {
        if self.is_recording() {
            return Ok(self.recording_summary());
        }
        let counts = &self.counts;
        let mut blocks: Vec<String> = Vec::new();
        let mut first = self.headlines();
        if !self.complete {
            first.insert(
                0,
                format!(
                    "The run did not come to its end; these are its first {:.0} s.",
                    self.meta.elapsed_seconds
                ),
            );
        }
        blocks.push(first.join("\n"));
        blocks.push(self.threshold_lines().join("\n"));
        let mut text = format!(
            "Runs            {} started, {} succeeded, {} failed, {} interrupted",
            counts.started, counts.succeeded, counts.failed, counts.interrupted
        );
        if counts.unfinished > 0 {
            let _ = write!(text, ", {} unfinished", counts.unfinished);
        }
        let statuses: Vec<String> = counts
            .statuses
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(class, count)| format!("{class}: {count}"))
            .collect();
        if !statuses.is_empty() {
            let _ = write!(text, "\nHTTP responses  {}", statuses.join("  "));
        }
        let attempts = self.attempts();
        if attempts.tried > 0 {
            let _ = write!(
                text,
                "\nRequests        {} tried, {} passed, {} failed ({} without an answer)",
                attempts.tried,
                attempts.passed(),
                attempts.failed,
                attempts.unanswered()
            );
        }
        let what = if attempts.tried > 0 {
            "requests answered"
        } else {
            "runs passed"
        };
        let _ = write!(
            text,
            "\nThroughput      {:.1} {what} per second over {:.1} s",
            self.throughput(),
            self.meta.elapsed_seconds
        );
        blocks.push(text);
        blocks.push(counts.lost_processes.join("\n"));
        blocks.push(self.resource_lines().join("\n"));
        let elapsed = Duration::try_from_secs_f64(self.meta.elapsed_seconds).unwrap_or_default();
        let table = render(&self.recorder()?.rows(), elapsed, width);
        blocks.push(table.trim_end().to_owned());
        let errors = self.errors.iter().map(|group| {
            let place = if group.place.is_empty() {
                String::new()
            } else {
                format!(" at {}", group.place)
            };
            let message = group.message.replace('\n', " ");
            format!("{:>7} × {}{place}: {message}", group.count, group.kind)
        });
        blocks.push(errors.collect::<Vec<_>>().join("\n"));
        blocks.retain(|block| !block.is_empty());
        Ok(blocks.join("\n\n") + "\n")
    }
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn the_verdict_comes_first() {
        let results = sample::results();
        let text = results.to_summary(100).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "More workers brought no more runs.");
        assert!(
            lines[1].starts_with("Limited by CPU of pid:7 (high confidence)"),
            "{text}"
        );
        assert_eq!(lines[3], "✓ p95<500ms      95.0 ms");
        assert_eq!(lines[4], "✗ error-rate<1%  10.0 %");
        assert!(
            text.contains("100 started, 90 succeeded, 10 failed, 0 interrupted\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "Requests        200 tried, 200 passed, 0 failed (0 without an answer)\n\
                 Throughput      20.0 requests answered per second over 10.0 s"
            ),
            "{text}"
        );
        assert!(
            text.contains("10 × AssertionError at load <test>.py:7: assert 500"),
            "{text}"
        );
    }

    #[test]
    fn a_run_that_died_says_so() {
        let mut results = sample::results();
        results.complete = false;
        results.counts.unfinished = 3;
        let text = results.to_summary(100).unwrap();
        assert!(
            text.starts_with("The run did not come to its end; these are its first 10 s."),
            "{text}"
        );
        assert!(text.contains("0 interrupted, 3 unfinished"), "{text}");
    }
}
