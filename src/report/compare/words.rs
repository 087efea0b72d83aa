//! Numbers with their units, the same in every text of a comparison.

use super::document::{Change, Metric, Unit, Value};

/// A value without its interval: `412 req/s`, `61.2 ms`.
pub(super) fn amount(unit: Unit, value: f64) -> String {
    if !value.is_finite() {
        return "∞".to_owned();
    }
    match unit {
        Unit::RequestsPerSecond => format!("{} req/s", digits(value)),
        Unit::RunsPerSecond => format!("{} runs/s", digits(value)),
        Unit::Seconds if value >= 10.0 => format!("{} s", digits(value)),
        Unit::Seconds => format!("{} ms", digits(value * 1e3)),
        Unit::CoreSecondsPerRequest => format!("{} ms", digits(value * 1e3)),
        Unit::Ratio => format!("{} %", digits(value * 100.0)),
        Unit::Bytes => format!("{} MiB", digits(value / 1024.0 / 1024.0)),
    }
}

/// A value with its interval: `412 req/s (396–425)`.
pub(super) fn with_interval(unit: Unit, value: &Value) -> String {
    let bare = |number: f64| {
        let text = amount(unit, number);
        text.split(' ').next().unwrap_or_default().to_owned()
    };
    let least = if value.at_least { "≥ " } else { "" };
    let (low, high) = if unit == Unit::Seconds && value.value < 10.0 && value.high >= 10.0 {
        // Both ends in the unit of the value.
        (
            digits(value.low * 1e3),
            if value.high.is_finite() {
                digits(value.high * 1e3)
            } else {
                "∞".to_owned()
            },
        )
    } else {
        (bare(value.low), bare(value.high))
    };
    format!("{least}{} ({low}–{high})", amount(unit, value.value))
}

/// A change with its interval: `+12.3 % (+8.1 to +16.5)`; of shares in percentage points.
pub(super) fn change(metric: &Metric, change: &Change) -> String {
    let unit = if metric.unit == Unit::Ratio {
        "pp"
    } else {
        "%"
    };
    format!(
        "{} {unit} ({} to {})",
        signed(change.change),
        signed(change.low),
        signed(change.high)
    )
}

fn signed(share: f64) -> String {
    let percent = share * 100.0;
    if percent.is_infinite() {
        return if percent > 0.0 { "+∞" } else { "−∞" }.to_owned();
    }
    let decimals = if percent.abs() >= 99.95 {
        0
    } else if percent.abs() >= 0.995 || percent.abs() < 0.005 {
        1
    } else {
        2
    };
    let text = format!("{:.decimals$}", percent.abs());
    // What rounds to nothing has no sign.
    if text.chars().all(|c| c == '0' || c == '.') {
        "0".to_owned()
    } else if percent < 0.0 {
        format!("−{text}")
    } else {
        format!("+{text}")
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let decimals = if value >= 99.95 || value == 0.0 {
        0
    } else if value >= 9.995 {
        1
    } else if value >= 0.9995 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        for (unit, value, text) in [
            (Unit::RequestsPerSecond, 412.34, "412 req/s"),
            (Unit::Seconds, 0.0612, "61.2 ms"),
            (Unit::Seconds, 12.34, "12.3 s"),
            (Unit::Ratio, 0.0123, "1.23 %"),
            (Unit::Bytes, 1_048_576.0 * 250.0, "250 MiB"),
            (Unit::Seconds, f64::INFINITY, "∞"),
        ] {
            assert_eq!(amount(unit, value), text);
        }
    }

    #[test]
    fn changes_have_signs() {
        for (share, text) in [
            (0.123, "+12.3"),
            (-0.05, "−5.0"),
            (0.0, "0"),
            (-1e-7, "0"),
            (0.0042, "+0.42"),
            (2.0, "+200"),
        ] {
            assert_eq!(signed(share), text);
        }
        assert_eq!(signed(f64::INFINITY), "+∞");
    }
}
