//! The outcome as `JUnit` XML, which CI systems show: a test case per threshold and one per scenario.
//!
//! Owns the mapping and the escaping. A scenario fails when a run of it failed; where a threshold says how many may fail,
//! that one judges, and the scenario only fails when none of its runs succeeded. Made from the document alone.

use std::fmt::Write as _;

use super::document::Results;
use super::threshold::{Threshold, scenarios};

struct Case {
    class: &'static str,
    name: String,
    seconds: f64,
    failure: Option<(String, String)>,
}

impl Results {
    /// The outcome as `JUnit` XML.
    pub fn to_junit(&self) -> String {
        let elapsed = self.meta.elapsed_seconds;
        let mut cases: Vec<Case> = self
            .thresholds
            .iter()
            .map(|outcome| Case {
                class: "thresholds",
                name: outcome.threshold.clone(),
                seconds: 0.0,
                failure: (!outcome.passed).then(|| (outcome.message.clone(), String::new())),
            })
            .collect();
        cases.extend(scenarios(self).map(|row| {
            let judged = self
                .thresholds
                .iter()
                .any(|outcome| Threshold::judges_failures(&outcome.threshold, &row.name));
            let failed = if judged {
                row.failed == row.count
            } else {
                row.failed > 0
            };
            let message = format!("{} of {} runs failed", row.failed, row.count);
            Case {
                class: "scenarios",
                name: row.name.clone(),
                seconds: elapsed,
                failure: failed.then(|| (message, self.error_text())),
            }
        }));
        if let Some(exit) = self
            .exit
            .as_ref()
            .filter(|exit| !matches!(exit.code, 0 | 99))
        {
            cases.push(Case {
                class: "run",
                name: "exit code".to_owned(),
                seconds: elapsed,
                failure: Some((format!("{}: {}", exit.code, exit.reason), String::new())),
            });
        }
        self.render(&cases)
    }

    fn error_text(&self) -> String {
        let mut text = String::new();
        for group in &self.errors {
            let _ = writeln!(
                text,
                "{} times {} at {}: {}\n{}",
                group.count, group.kind, group.place, group.message, group.example
            );
        }
        text
    }

    fn render(&self, cases: &[Case]) -> String {
        let failures = cases.iter().filter(|case| case.failure.is_some()).count();
        let numbers = format!(
            "tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{:.3}\"",
            cases.len(),
            self.meta.elapsed_seconds
        );
        let name = self.meta.scenario_file.as_deref().unwrap_or("molotov");
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(out, "<testsuites name=\"molotov\" {numbers}>");
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" {numbers} skipped=\"0\" timestamp=\"{}\" hostname=\"{}\">",
            escaped(name),
            escaped(self.meta.started_at.trim_end_matches('Z')),
            escaped(&self.meta.host),
        );
        for case in cases {
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
                case.class,
                escaped(&case.name),
                case.seconds
            );
            match &case.failure {
                None => out.push_str("/>\n"),
                Some((message, text)) => {
                    let _ = writeln!(
                        out,
                        ">\n      <failure message=\"{}\" type=\"{}\">{}</failure>\n    </testcase>",
                        escaped(message),
                        case.class,
                        escaped(text)
                    );
                }
            }
        }
        out.push_str("  </testsuite>\n</testsuites>\n");
        out
    }
}

/// For text and for attributes. Characters that XML 1.0 does not allow at all become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Otherwise a reader turns it into a blank in an attribute.
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn thresholds_and_scenarios_are_cases() {
        let xml = sample::results().to_junit();
        assert!(
            xml.contains("<testsuites name=\"molotov\" tests=\"3\" failures=\"1\""),
            "{xml}"
        );
        assert!(
            xml.contains("name=\"p95&lt;500ms\" time=\"0.000\"/>"),
            "{xml}"
        );
        assert!(xml.contains("name=\"error-rate&lt;1%\""), "{xml}");
        assert!(
            xml.contains("<failure message=\"10.0 %\" type=\"thresholds\">"),
            "{xml}"
        );
        // Judged by the threshold on the error rate.
        assert!(xml.contains("name=\"browse\" time=\"10.000\"/>"), "{xml}");
    }

    #[test]
    fn without_a_threshold_failed_runs_fail_their_scenario() {
        let mut results = sample::results();
        results.thresholds.remove(1);
        let xml = results.to_junit();
        assert!(xml.contains("message=\"10 of 100 runs failed\""), "{xml}");
        assert!(
            xml.contains("assert 500 == 200 ]]&gt; &amp; \u{fffd}"),
            "{xml}"
        );
    }

    #[test]
    fn a_bad_end_is_a_case() {
        let mut results = sample::results();
        results.exit.as_mut().unwrap().code = 1;
        assert!(
            results
                .to_junit()
                .contains("classname=\"run\" name=\"exit code\"")
        );
    }
}
