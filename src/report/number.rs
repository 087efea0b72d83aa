//! Numbers as the page says and stores them.
//!
//! Owns rounding and units in texts: one way to write a rate, a time, a share, a size. Called by the other files here.

use serde::{Serialize, Serializer};

/// Digits that a chart can show.
const DIGITS: i32 = 4;

/// A number of a chart: four significant digits, whole numbers without a point, `null` for what is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl Number {
    /// Itself when a logarithmic axis can show it, else a gap.
    pub(super) fn positive(self) -> Self {
        Self(if self.0 > 0.0 { self.0 } else { f64::NAN })
    }
}

impl From<Option<f64>> for Number {
    fn from(value: Option<f64>) -> Self {
        Self(value.unwrap_or(f64::NAN))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.0.is_finite() {
            return serializer.serialize_none();
        }
        let value = rounded(self.0, DIGITS);
        if value.fract() == 0.0 && value.abs() < 1e15 {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole and far below the largest i64"
            )]
            serializer.serialize_i64(value as i64)
        } else {
            serializer.serialize_f64(value)
        }
    }
}

/// A time on the axis of a chart: to the hundredth of a second.
pub(super) fn instant(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

fn rounded(value: f64, digits: i32) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a finite number's exponent is small"
    )]
    let exponent = value.abs().log10().floor() as i32;
    let places = digits - 1 - exponent;
    if places >= 0 {
        // By powers of ten above one: their inverses are not exact.
        let scale = 10_f64.powi(places.min(300));
        (value * scale).round() / scale
    } else {
        let scale = 10_f64.powi(-places);
        (value / scale).round() * scale
    }
}

/// A count with its thousands apart: `12,345`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With two or three significant digits, as the closing lines of a run have it: `6.37`, `63.7`, `637`, `12,345`.
pub(super) fn rate(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value >= 99.95 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive here, and a rate"
        )]
        return count(value.round() as u64);
    }
    let decimals = if value < 9.995 { 2 } else { 1 };
    let text = format!("{value:.decimals$}");
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        text
    }
}

/// A time: `0.85 ms`, `63 ms`, `1.20 s`, `12.0 s`.
pub(super) fn time(seconds: f64) -> String {
    let milliseconds = seconds * 1000.0;
    if !seconds.is_finite() {
        "–".to_owned()
    } else if milliseconds < 1.0 {
        format!("{milliseconds:.2} ms")
    } else if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 1000.0 {
        format!("{milliseconds:.0} ms")
    } else if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// How long something lasted: `42 s`, `5 min 3 s`, `8 h 2 min`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive here, and no run lasts that long"
    )]
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// A share of 0 to 1: `0.02 %`, `4.7 %`, `97 %`.
pub(super) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if !percent.is_finite() {
        "–".to_owned()
    } else if percent == 0.0 {
        "0 %".to_owned()
    } else if percent < 0.095 {
        format!("{percent:.2} %")
    } else if percent < 9.95 {
        format!("{percent:.1} %").replace(".0 ", " ")
    } else {
        format!("{percent:.0} %")
    }
}

/// A size: `512 B`, `1.5 KiB`, `640 MiB`.
pub(super) fn bytes(value: f64) -> String {
    let mut value = value;
    if !value.is_finite() {
        return "–".to_owned();
    }
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1023.95 {
            let decimals = usize::from(unit != "B" && value.abs() < 99.95);
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_store_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (12_345_678.0, "12350000"),
            (0.123_456, "0.1235"),
            (2.0 / 3.0 * 100.0, "66.67"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
            (-1.5, "-1.5"),
            (5e-320, "0"),
        ] {
            let stored = serde_json::to_string(&Number(value)).unwrap();
            assert_eq!(stored, text, "{value}");
        }
    }

    #[test]
    fn texts_say_their_units() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        let rates = [6.374, 63.74, 637.4, 12_345.0, 5.0, f64::NAN].map(rate);
        assert_eq!(rates, ["6.37", "63.7", "637", "12,345", "5", "–"]);
        let times = [0.000_85, 0.0063, 0.063, 1.2, 12.0].map(time);
        assert_eq!(times, ["0.85 ms", "6.3 ms", "63 ms", "1.20 s", "12.0 s"]);
        let spans = [4.0, 42.0, 303.0, 300.0, 28_920.0].map(duration);
        assert_eq!(spans, ["4.0 s", "42 s", "5 min 3 s", "5 min", "8 h 2 min"]);
        let shares = [0.0, 0.0002, 0.047, 0.05, 0.97].map(percent);
        assert_eq!(shares, ["0 %", "0.02 %", "4.7 %", "5 %", "97 %"]);
        let sizes = [512.0, 1536.0, 671_088_640.0, 2e15].map(bytes);
        assert_eq!(sizes, ["512 B", "1.5 KiB", "640 MiB", "1819.0 TiB"]);
    }
}
