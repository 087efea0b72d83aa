//! Reading a threshold.
//!
//! Owns the grammar `QUANTITY COMPARISON NUMBER [UNIT] [for METHOD PATH | for scenario NAME]` and its error texts, one
//! line each. k6's spelling (`p(95)<500`, `rate<0.01`) is understood. Called when options are read.

use std::str::FromStr;

use super::{Comparison, Quantity, Scope, Threshold, Use, Whose};
use crate::metrics::template;

/// Why a text is no threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// No comparison in it.
    #[error("threshold {0:?}: expected a quantity, a comparison and a number, such as 'p95<500ms'")]
    Form(String),
    /// Nothing that is measured.
    #[error(
        "threshold {text:?}: {quantity:?} is not measured; p50 to p99.9, avg, min, max, error-rate, rps, runs, requests, \
         failures, target.cpu, target.memory, target.disk, target.network and the same of generator are; with --rate also \
         response.p95 and its kind, late and not-started"
    )]
    Quantity {
        /// The whole threshold.
        text: String,
        /// Its left side.
        quantity: String,
    },
    /// The right side does not fit the left one.
    #[error("threshold {text:?}: {limit:?} is no {expected}")]
    Limit {
        /// The whole threshold.
        text: String,
        /// Its right side.
        limit: String,
        /// What would fit.
        expected: &'static str,
    },
    /// What follows `for` names nothing.
    #[error("threshold {0:?}: after 'for', expected a request such as GET /x, or scenario NAME")]
    Scope(String),
    /// Resources belong to no request.
    #[error("threshold {text:?}: {quantity} is not measured for a single scenario or request")]
    NotScoped {
        /// The whole threshold.
        text: String,
        /// Its left side.
        quantity: String,
    },
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::Different),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let text = text.trim().to_owned();
        let (condition, scope) = match text.split_once(" for ") {
            Some((condition, scope)) => (condition, Some(scope.trim())),
            None => (text.as_str(), None),
        };
        let Some(at) = condition.find(['<', '>', '=', '!']) else {
            return Err(ThresholdError::Form(text));
        };
        let (left, right) = condition.split_at(at);
        let found = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| Some((right.strip_prefix(sign)?, *comparison)));
        let Some((right, comparison)) = found else {
            return Err(ThresholdError::Form(text));
        };
        let (left, right) = (left.trim(), right.trim());
        let response = left.strip_prefix("response.");
        let known = match response {
            Some(time) => quantity(time).filter(|quantity| quantity.is_time()),
            None => quantity(left),
        };
        let Some(quantity) = known else {
            return Err(ThresholdError::Quantity {
                quantity: left.to_owned(),
                text,
            });
        };
        let wrong = |expected| ThresholdError::Limit {
            text: text.clone(),
            limit: right.to_owned(),
            expected,
        };
        let (quantity, limit) = limit(quantity, right).map_err(wrong)?;
        let scope = match scope {
            None => Scope::Run,
            Some(_) if matches!(quantity, Quantity::Usage(..) | Quantity::Memory(_)) => {
                return Err(ThresholdError::NotScoped {
                    quantity: left.to_owned(),
                    text,
                });
            }
            Some(what) => read_scope(what).ok_or_else(|| ThresholdError::Scope(text.clone()))?,
        };
        let of_responses = response.is_some();
        let fits = match scope {
            Scope::Run => true,
            Scope::Scenario(_) => !quantity.is_of_starts(),
            Scope::Request(_) => !quantity.is_of_starts() && !of_responses,
        };
        if !fits {
            return Err(ThresholdError::NotScoped {
                quantity: left.to_owned(),
                text,
            });
        }
        Ok(Self {
            text,
            quantity,
            comparison,
            limit,
            scope,
            of_responses,
        })
    }
}

fn quantity(text: &str) -> Option<Quantity> {
    let found = match text {
        "med" | "median" => Quantity::Percentile(50.0),
        "avg" | "mean" => Quantity::Mean,
        "min" => Quantity::Shortest,
        "max" => Quantity::Longest,
        "error-rate" | "error_rate" | "error-ratio" | "rate" => Quantity::ErrorRatio,
        "rps" => Quantity::RequestsPerSecond,
        "runs" => Quantity::Runs,
        "requests" => Quantity::Requests,
        "failures" | "failed" => Quantity::Failures,
        "late" => Quantity::Late,
        "not-started" | "not_started" | "dropped_iterations" => Quantity::NotStarted,
        _ => {
            return match text.split_once('.') {
                Some((whose @ ("target" | "generator"), what)) => usage(whose, what),
                _ => percentile(text),
            };
        }
    };
    Some(found)
}

fn usage(whose: &str, what: &str) -> Option<Quantity> {
    let whose = if whose == "target" {
        Whose::Target
    } else {
        Whose::Generator
    };
    let what = match what {
        "cpu" => Use::Cpu,
        "memory" | "mem" => Use::Memory,
        "disk" => Use::Disk,
        "network" | "net" => Use::Network,
        _ => return None,
    };
    Some(Quantity::Usage(whose, what))
}

fn percentile(text: &str) -> Option<Quantity> {
    let number = text.strip_prefix('p')?;
    let number = number
        .strip_prefix('(')
        .and_then(|number| number.strip_suffix(')'))
        .unwrap_or(number);
    let percent = plain_number(number)?;
    (percent > 0.0 && percent < 100.0).then_some(Quantity::Percentile(percent))
}

/// The number in the quantity's unit; what is wrong with it otherwise. Memory may be in bytes too.
fn limit(quantity: Quantity, text: &str) -> Result<(Quantity, f64), &'static str> {
    let unit = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let unit = unit.trim();
    let number = plain_number(number);
    let share = |number: f64| match unit {
        "%" => Some(number / 100.0),
        // 1 could be meant as percent; nobody needs a share of all.
        "" if number < 1.0 => Some(number),
        _ => None,
    };
    let read = |value: Option<f64>, expected| value.map(|value| (quantity, value)).ok_or(expected);
    match quantity {
        Quantity::Percentile(_) | Quantity::Mean | Quantity::Shortest | Quantity::Longest => {
            let seconds = match unit {
                "us" | "µs" => 1e-6,
                "ms" | "" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                _ => return Err("time; 500ms, 1.5s and 800us are"),
            };
            read(
                number.map(|number| number * seconds),
                "time; 500ms, 1.5s and 800us are",
            )
        }
        Quantity::ErrorRatio => read(number.and_then(share), "share; 1% and 0.01 are"),
        Quantity::RequestsPerSecond => {
            let number = number.filter(|_| matches!(unit, "" | "/s"));
            read(number, "rate; 200 and 200/s are")
        }
        Quantity::Usage(whose, Use::Memory) => {
            if let Some(bytes) = bytes(unit) {
                let number = number.ok_or("size; 500MB and 2GiB are")?;
                return Ok((Quantity::Memory(whose), number * bytes));
            }
            read(
                number.and_then(share),
                "share or size; 90%, 0.9 and 500MB are",
            )
        }
        Quantity::Usage(..) | Quantity::Memory(_) => {
            read(number.and_then(share), "share; 80% and 0.8 are")
        }
        Quantity::Late | Quantity::NotStarted if unit == "%" => {
            let ratio = if quantity == Quantity::Late {
                Quantity::LateRatio
            } else {
                Quantity::NotStartedRatio
            };
            let number = number.ok_or("number or share; 10 and 1% are")?;
            Ok((ratio, number / 100.0))
        }
        Quantity::Late | Quantity::NotStarted => read(
            number.filter(|_| unit.is_empty()),
            "number or share; 10 and 1% are",
        ),
        Quantity::LateRatio
        | Quantity::NotStartedRatio
        | Quantity::Runs
        | Quantity::Requests
        | Quantity::Failures => read(number.filter(|_| unit.is_empty()), "number"),
    }
}

fn bytes(unit: &str) -> Option<f64> {
    Some(match unit {
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

fn read_scope(text: &str) -> Option<Scope> {
    if let Some(name) = text.strip_prefix("scenario ") {
        let name = name.trim();
        return (!name.is_empty()).then(|| Scope::Scenario(name.to_owned()));
    }
    let (method, url) = text.split_once(' ')?;
    let url = url.trim();
    if url.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    let mut name = String::new();
    template(method, host, path, &mut name);
    Some(Scope::Request(name))
}

/// Digits and one point: what `f64` reads beyond that (`inf`, `1e9`, `+1`) is no way to write a threshold.
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
    fn texts_are_read() {
        let read = |text: &str| text.parse::<Threshold>().unwrap();
        let threshold = read(" p99.9 <= 1.5 s for scenario long name ");
        assert_eq!(threshold.quantity, Quantity::Percentile(99.9));
        assert_eq!(
            (threshold.comparison, threshold.limit),
            (Comparison::AtMost, 1.5)
        );
        assert_eq!(threshold.scope, Scope::Scenario("long name".to_owned()));
        assert_eq!(threshold.text(), "p99.9 <= 1.5 s for scenario long name");
        assert!((read("rps>=200/s").limit - 200.0).abs() < 1e-9);
        assert_eq!(read("rate<0.01").quantity, Quantity::ErrorRatio);
        assert!((read("target.cpu<80%").limit - 0.8).abs() < 1e-9);
        assert_eq!(
            read("target.memory<2GiB").quantity,
            Quantity::Memory(Whose::Target)
        );
        for (text, name) in [
            ("max<1s for GET /users/42?x=1", "GET /users/{id}"),
            ("max<1s for GET /users/{id}", "GET /users/{id}"),
            ("max<1s for PUT http://h:80/x", "PUT h:80/x"),
        ] {
            assert_eq!(read(text).scope, Scope::Request(name.to_owned()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_one_line_that_says_why() {
        for (text, part) in [
            ("", "expected a quantity"),
            ("p95", "expected a quantity"),
            ("p95=5", "expected a quantity"),
            ("p100<5ms", "\"p100\" is not measured"),
            ("latency<5ms", "\"latency\" is not measured"),
            ("target.fan<5%", "\"target.fan\" is not measured"),
            ("p95<", "\"\" is no time"),
            ("p95<5h", "\"5h\" is no time"),
            ("p95<-5", "\"-5\" is no time"),
            ("error-rate<1", "\"1\" is no share; 1% and 0.01 are"),
            ("rps>10ms", "\"10ms\" is no rate"),
            ("runs>10%", "\"10%\" is no number"),
            ("target.memory<5", "\"5\" is no share or size"),
            ("p95<5 for", "\"5 for\" is no time"),
            ("p95<5 for x", "after 'for'"),
            ("p95<5 for get /x", "after 'for'"),
            ("target.cpu<80% for GET /x", "not measured for a single"),
            ("late<1% for scenario x", "not measured for a single"),
            ("response.p95<1s for GET /x", "not measured for a single"),
            ("response.rps>1", "\"response.rps\" is not measured"),
            ("late<1s", "\"1s\" is no number or share"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(
                error.contains(part) && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", left in "[a-z0-9.()]{0,8}", right in "[0-9.%µumsGiB/ ]{0,8}", scope in ".{0,9}") {
            let _ = text.parse::<Threshold>();
            let _ = format!("{left}<{right} for {scope}").parse::<Threshold>();
        }
    }
}
