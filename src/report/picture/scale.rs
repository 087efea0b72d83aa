//! The scales of a panel: where a value is, which ticks there are, and what they say.
//!
//! Owns round numbers and units. Called by `plot`; values of facts are formatted here too.

/// What the numbers of a scale are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things: workers.
    Count,
    /// Something per second.
    PerSecond,
    /// Service times, in seconds.
    ServiceTime,
    /// 0 to 1, shown in percent.
    Ratio,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Seconds since the start of the run.
    Elapsed,
}

/// From a value to a place between 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    unit: Unit,
    step: f64,
}

/// Steps of a time axis that people count in, in seconds.
const TIME_STEPS: [f64; 20] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
    3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0,
];

impl Scale {
    /// From zero to the largest value, rounded up to one of about `ticks` ticks.
    pub(super) fn from_zero(largest: f64, unit: Unit, ticks: u32) -> Self {
        let largest = if largest.is_finite() && largest > 0.0 {
            largest
        } else if unit == Unit::Ratio {
            0.01
        } else {
            1.0
        };
        let base = base_of(unit, largest);
        let mut step = nice(largest / base / f64::from(ticks)) * base;
        if unit == Unit::Count {
            step = step.max(1.0).round();
        }
        let mut high = (largest / step - 1e-9).ceil() * step;
        // A share of at most everything never has a tick above it.
        if unit == Unit::Ratio && largest <= 1.0 {
            high = high.min(1.0);
        }
        Self {
            low: 0.0,
            high,
            logarithmic: false,
            unit,
            step,
        }
    }

    /// Seconds from one time to another, not rounded.
    pub(super) fn time(from: f64, to: f64, ticks: u32) -> Self {
        let span = if to - from > 0.0 { to - from } else { 1.0 };
        let wanted = span / f64::from(ticks);
        let step = TIME_STEPS.iter().find(|step| **step >= wanted);
        Self {
            low: from,
            high: from + span,
            logarithmic: false,
            unit: Unit::Elapsed,
            step: step
                .copied()
                .unwrap_or_else(|| (wanted / 86_400.0).ceil() * 86_400.0),
        }
    }

    /// A logarithmic one around positive values; without any from 1 ms to 1 s.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, unit: Unit) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (1e-3, 1.0) } else { (low, high) };
        let mut low = round_down(low * 0.98);
        let mut high = round_up(high * 1.02);
        if high / low < 4.0 {
            low = round_down(low * 0.99);
            high = round_up(high * 1.01);
        }
        Self {
            low,
            high,
            logarithmic: true,
            unit,
            step: 0.0,
        }
    }

    /// Where a value is, 0 at the low end and 1 at the high one; what lies outside is put at the edge.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if place.is_finite() {
            place.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Values with their labels, from low to high.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        const MOST: usize = 24;
        let values: Vec<f64> = if self.logarithmic {
            let decades = (self.high / self.low).log10();
            let steps: &[f64] = if decades <= 2.7 {
                &[1.0, 2.0, 5.0]
            } else {
                &[1.0]
            };
            let mut values = Vec::new();
            let mut decade = 10_f64.powf(self.low.log10().floor());
            while decade <= self.high * 1.001 && values.len() < MOST {
                values.extend(steps.iter().map(|step| step * decade));
                decade *= 10.0;
            }
            values.retain(|value| (self.low * 0.999..=self.high * 1.001).contains(value));
            values
        } else {
            let first = (self.low / self.step - 1e-9).ceil();
            (0..MOST)
                .map(|number| (first + number as f64) * self.step)
                .take_while(|value| *value <= self.high + self.step * 1e-6)
                .collect()
        };
        let largest = self.high.abs().max(self.low.abs());
        values
            .into_iter()
            .map(|value| (value, self.label(value, largest)))
            .collect()
    }

    fn label(&self, value: f64, largest: f64) -> String {
        match self.unit {
            Unit::Elapsed => elapsed(value, self.step),
            Unit::ServiceTime => service_time(value),
            Unit::Ratio => trimmed(value * 100.0, self.step * 100.0, " %"),
            Unit::Bytes | Unit::BytesPerSecond => {
                let base = base_of(self.unit, largest);
                let per = if self.unit == Unit::Bytes { "" } else { "/s" };
                trimmed(
                    value / base,
                    self.step / base,
                    &format!(" {}{per}", name_of(base)),
                )
            }
            Unit::Count | Unit::PerSecond => {
                if largest >= 10_000.0 {
                    trimmed(value / 1000.0, self.step / 1000.0, "k")
                } else {
                    trimmed(value, self.step, "")
                }
            }
        }
    }
}

/// A number with as many decimals as its step has.
fn trimmed(value: f64, step: f64, unit: &str) -> String {
    let decimals = (0..4_usize).find(|decimals| {
        let scaled = step * 10_f64.powi(i32::try_from(*decimals).unwrap_or(0));
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
    });
    let decimals = decimals.unwrap_or(4);
    let value = if value.abs() < 1e-12 { 0.0 } else { value };
    format!("{value:.decimals$}{unit}")
}

fn elapsed(seconds: f64, step: f64) -> String {
    if seconds.abs() < 1e-9 {
        "0".to_owned()
    } else if step < 60.0 && seconds < 300.0 {
        trimmed(seconds, step, " s")
    } else if step < 60.0 {
        let minutes = (seconds / 60.0).floor();
        format!("{minutes:.0}:{:02.0} min", seconds - minutes * 60.0)
    } else if step < 3600.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.0} h", seconds / 3600.0)
    }
}

/// A service time in the unit that keeps it short.
pub(super) fn service_time(seconds: f64) -> String {
    let (value, unit) = if seconds >= 1.0 {
        (seconds, "s")
    } else if seconds >= 1e-3 {
        (seconds * 1e3, "ms")
    } else {
        (seconds * 1e6, "µs")
    };
    format!("{} {unit}", significant(value))
}

/// An amount of memory or traffic.
pub(super) fn bytes(amount: f64) -> String {
    let base = base_of(Unit::Bytes, amount);
    format!("{} {}", significant(amount / base), name_of(base))
}

/// A number with about three digits that count.
pub(super) fn significant(value: f64) -> String {
    let decimals = if value >= 99.95 || (value - value.round()).abs() < 1e-9 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    if decimals > 0 {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        grouped(&text)
    }
}

/// Thousands apart, so that long numbers can be read.
fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.chars().count() - place;
        if place > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let found = [1.0, 2.0, 2.5, 5.0, 10.0]
        .iter()
        .find(|step| **step * power >= value * 0.999_999);
    found.copied().unwrap_or(10.0) * power
}

fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let found = [5.0, 2.0, 1.0].iter().find(|step| **step * power <= value);
    found.copied().unwrap_or(1.0) * power
}

fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0]
        .iter()
        .find(|step| **step * power >= value);
    found.copied().unwrap_or(10.0) * power
}

const BYTES: [(f64, &str); 5] = [
    (1.0, "B"),
    (1024.0, "KiB"),
    (1_048_576.0, "MiB"),
    (1_073_741_824.0, "GiB"),
    (1_099_511_627_776.0, "TiB"),
];

fn base_of(unit: Unit, largest: f64) -> f64 {
    match unit {
        Unit::Bytes | Unit::BytesPerSecond => BYTES
            .iter()
            .rev()
            .find(|(base, _)| largest >= *base)
            .map_or(1.0, |(base, _)| *base),
        _ => 1.0,
    }
}

fn name_of(base: f64) -> &'static str {
    BYTES
        .iter()
        .find(|(known, _)| (known - base).abs() < 0.5)
        .map_or("B", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&Scale::from_zero(412.0, Unit::PerSecond, 4)),
            ["0", "200", "400", "600"]
        );
        assert_eq!(
            labels(&Scale::from_zero(3.0, Unit::Count, 4)),
            ["0", "1", "2", "3"]
        );
        assert_eq!(
            labels(&Scale::from_zero(0.97, Unit::Ratio, 4)),
            ["0 %", "25 %", "50 %", "75 %", "100 %"]
        );
        assert_eq!(
            labels(&Scale::from_zero(38_000.0, Unit::PerSecond, 4)),
            ["0k", "10k", "20k", "30k", "40k"]
        );
        assert_eq!(
            labels(&Scale::from_zero(300.0 * 1_048_576.0, Unit::Bytes, 3)),
            ["0 MiB", "100 MiB", "200 MiB", "300 MiB"]
        );
    }

    #[test]
    fn times_are_counted_as_people_do() {
        assert_eq!(
            labels(&Scale::time(0.0, 40.0, 5)),
            ["0", "10 s", "20 s", "30 s", "40 s"]
        );
        assert_eq!(
            labels(&Scale::time(0.0, 600.0, 5)),
            ["0", "2 min", "4 min", "6 min", "8 min", "10 min"]
        );
        assert_eq!(
            labels(&Scale::time(0.0, 28_800.0, 5)),
            ["0", "2 h", "4 h", "6 h", "8 h"]
        );
    }

    #[test]
    fn logarithmic_ticks_hold_the_values() {
        let scale = Scale::logarithmic([0.004, 0.31].into_iter(), Unit::ServiceTime);
        assert_eq!(
            labels(&scale),
            [
                "2 ms", "5 ms", "10 ms", "20 ms", "50 ms", "100 ms", "200 ms", "500 ms"
            ]
        );
        assert!(scale.place(0.004) > 0.0 && scale.place(0.31) < 1.0);
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (1.234, "1.23"),
            (45.67, "45.7"),
            (412.3, "412"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(significant(value), text);
        }
        assert_eq!(service_time(0.000_25), "250 µs");
        assert_eq!(service_time(0.0612), "61.2 ms");
    }

    proptest! {
        #[test]
        fn no_value_breaks_a_scale(value: f64, other: f64, ticks in 1_u32..9) {
            for unit in [Unit::Count, Unit::PerSecond, Unit::Ratio, Unit::Bytes, Unit::BytesPerSecond] {
                let scale = Scale::from_zero(value.abs() % 1e18, unit, ticks);
                prop_assert!((0.0..=1.0).contains(&scale.place(other)));
                prop_assert!(scale.ticks().len() <= 24);
            }
            let scale = Scale::logarithmic([value, other].into_iter(), Unit::ServiceTime);
            prop_assert!((0.0..=1.0).contains(&scale.place(other)));
            prop_assert!(Scale::time(0.0, value.abs() % 1e9, ticks).ticks().len() <= 24);
        }
    }
}
