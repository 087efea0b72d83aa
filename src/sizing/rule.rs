//! The optional latency rule, such as `p95<500ms`.
//!
//! Owns its grammar. A rule about a percentile is a rule about a ratio: `p95<500ms` is broken when more than 5 % take
//! longer than 500 ms, which is how the controller tests it. Called when options are read, and by the controller.

use std::str::FromStr;
use std::time::Duration;

/// At most `allowed_ratio` of the requests may take longer than `limit`.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRule {
    /// The rule as it was written.
    pub text: String,
    /// What the percentile has to stay below.
    pub limit: Duration,
    /// The share (0 to 1) that may be slower.
    pub allowed_ratio: f64,
}

/// Why a text is no latency rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not of the form `percentile < time`.
    #[error("latency rule {0:?}: expected a percentile, '<' and a time, such as p95<500ms")]
    Form(String),
    /// The left side is no percentile between 0 and 100.
    #[error("latency rule {rule:?}: {percentile:?} is no percentile; p50 to p99.9 are, and med")]
    Percentile {
        /// The whole rule.
        rule: String,
        /// Its left side.
        percentile: String,
    },
    /// The right side is no time above zero.
    #[error("latency rule {rule:?}: {limit:?} is no time; 500ms, 1.5s and 800us are")]
    Limit {
        /// The whole rule.
        rule: String,
        /// Its right side.
        limit: String,
    },
}

impl FromStr for LatencyRule {
    type Err = RuleError;

    /// Reads `p95<500ms`, `p99.9 <= 1.5 s`, `p(95)<500`, `med<80ms`. Without a unit it is milliseconds.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let rule = text.trim().to_owned();
        let Some((percentile, limit)) = rule.split_once('<') else {
            return Err(RuleError::Form(rule));
        };
        let percentile = percentile.trim();
        let limit = limit.strip_prefix('=').unwrap_or(limit).trim();
        let Some(percent) = percent(percentile) else {
            return Err(RuleError::Percentile {
                percentile: percentile.to_owned(),
                rule: rule.clone(),
            });
        };
        let Some(time) = time(limit) else {
            return Err(RuleError::Limit {
                limit: limit.to_owned(),
                rule: rule.clone(),
            });
        };
        Ok(Self {
            limit: time,
            allowed_ratio: 1.0 - percent / 100.0,
            text: rule,
        })
    }
}

fn percent(text: &str) -> Option<f64> {
    if text == "med" {
        return Some(50.0);
    }
    let number = text.strip_prefix('p')?;
    let number = number
        .strip_prefix('(')
        .and_then(|number| number.strip_suffix(')'))
        .unwrap_or(number);
    plain_number(number).filter(|percent| *percent > 0.0 && *percent < 100.0)
}

fn time(text: &str) -> Option<Duration> {
    let unit = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let seconds = match unit.trim() {
        "us" | "µs" => 1e-6,
        "ms" | "" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return None,
    } * plain_number(number)?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
}

/// Digits and one point: what `f64` reads beyond that (`inf`, `1e9`, `+1`) is no way to write a rule.
fn plain_number(text: &str) -> Option<f64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read() {
        for (text, limit, allowed) in [
            ("p95<500ms", 500_000, 0.05),
            (" p99.9 <= 1.5 s ", 1_500_000, 0.001),
            ("p(95)<500", 500_000, 0.05),
            ("med<800us", 800, 0.5),
            ("p50<1m", 60_000_000, 0.5),
        ] {
            let rule: LatencyRule = text.parse().unwrap();
            assert_eq!(rule.limit, Duration::from_micros(limit), "{text}");
            assert!((rule.allowed_ratio - allowed).abs() < 1e-9, "{text}");
            assert_eq!(rule.text, text.trim());
        }
    }

    #[test]
    fn anything_else_is_an_error_that_says_why() {
        for (text, part) in [
            ("", "expected a percentile"),
            ("p95>500ms", "expected a percentile"),
            ("95<500ms", "\"95\" is no percentile"),
            ("p100<1s", "\"p100\" is no percentile"),
            ("p<1s", "\"p\" is no percentile"),
            ("max<1s", "\"max\" is no percentile"),
            ("p95<", "\"\" is no time"),
            ("p95<0ms", "\"0ms\" is no time"),
            ("p95<1h", "\"1h\" is no time"),
            ("p95<1.2.3s", "\"1.2.3s\" is no time"),
            ("pinf<1s", "\"pinf\" is no percentile"),
        ] {
            let error = text.parse::<LatencyRule>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", percent in "[p0-9.()]{0,6}", limit in "[0-9.µumsin ]{0,8}") {
            let _ = text.parse::<LatencyRule>();
            let _ = format!("{percent}<{limit}").parse::<LatencyRule>();
        }
    }
}
