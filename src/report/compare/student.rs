//! Student's distribution.
//!
//! Owns its tail and its quantiles, for any degrees of freedom; many are the normal distribution. Pure; called by
//! `evidence`.
//!
//! Sources: the tail is a regularised incomplete beta function (NIST DLMF 8.17, with the continued fraction 8.17.22,
//! evaluated by Lentz's method); the logarithm of the gamma function is Stirling's series (DLMF 5.11.1).

/// From here on the difference to the normal distribution is below 0.2 %, which nobody sees.
pub(super) const MANY: f64 = 1000.0;

/// How likely a value is that is at least `t` away from zero, to either side.
pub(super) fn two_sided_tail(t: f64, degrees: f64) -> f64 {
    let degrees = degrees.clamp(1.0, MANY);
    incomplete_beta(degrees / (degrees + t * t), degrees / 2.0, 0.5)
}

/// How far from zero this share (0 to 1) of all values lies, to both sides.
pub(super) fn quantile(confidence: f64, degrees: f64) -> f64 {
    let tail = 1.0 - confidence;
    if tail >= 1.0 {
        return 0.0;
    }
    if tail <= 0.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided_tail(high, degrees) > tail {
        high *= 2.0;
        if high > 1e12 {
            return high;
        }
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if two_sided_tail(middle, degrees) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front =
        (a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    // The fraction converges fast on this side of the mean only; the other one is its mirror.
    if x < (a + 1.0) / (a + b + 2.0) {
        front / a * continued_fraction(x, a, b)
    } else {
        1.0 - front / b * continued_fraction(1.0 - x, b, a)
    }
}

#[expect(clippy::many_single_char_names, reason = "as the formula has them")]
fn continued_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for number in 1..500 {
        let m = f64::from(number);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        let factor = d * c;
        result *= factor;
        if (factor - 1.0).abs() < 1e-14 {
            break;
        }
    }
    result
}

fn ln_gamma(x: f64) -> f64 {
    // The series is exact enough for large arguments; smaller ones are moved up (DLMF 5.5.1).
    let mut shift = 0.0;
    let mut x = x;
    while x < 12.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series =
        (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (confidence, degrees, expected) in [
            (0.95, 1.0, 12.706),
            (0.95, 5.0, 2.571),
            (0.95, 9.0, 2.262),
            (0.95, 30.0, 2.042),
            (0.99, 5.0, 4.032),
            (0.99, 9.0, 3.250),
            (0.90, 2.0, 2.920),
            (0.998, 10.0, 4.144),
        ] {
            let found = quantile(confidence, degrees);
            assert!(
                (found - expected).abs() < 6e-4,
                "{confidence} {degrees}: {found}"
            );
        }
        // Many degrees are the normal distribution.
        assert!((quantile(0.95, f64::INFINITY) - 1.96).abs() < 0.004);
        assert!((quantile(0.99, 1e9) - 2.576).abs() < 0.006);
    }

    #[test]
    fn one_and_two_degrees_have_closed_forms() {
        for t in [0.1_f64, 1.0, 3.0, 40.0] {
            let one = 1.0 - 2.0 / std::f64::consts::PI * t.atan();
            assert!((two_sided_tail(t, 1.0) - one).abs() < 1e-10);
            let two = 1.0 - t / (2.0 + t * t).sqrt();
            assert!((two_sided_tail(t, 2.0) - two).abs() < 1e-10);
        }
    }

    proptest! {
        #[test]
        fn quantile_and_tail_are_inverse(confidence in 0.001_f64..0.9999, degrees in 1.0_f64..2000.0) {
            let t = quantile(confidence, degrees);
            prop_assert!((two_sided_tail(t, degrees) - (1.0 - confidence)).abs() < 1e-7);
        }

        #[test]
        fn tails_fall(t in 0.0_f64..50.0, more in 0.01_f64..5.0, degrees in 1.0_f64..500.0) {
            prop_assert!(two_sided_tail(t + more, degrees) <= two_sided_tail(t, degrees));
        }
    }
}
