//! The few formulas the decisions rest on.
//!
//! Pure functions, called within `sizing` only.

/// Two-sided 95 % of the normal distribution.
pub(super) const Z_95: f64 = 1.96;

/// Beyond doubt even for somebody who looks again and again: two-sided 99.7 % of the normal distribution.
pub(super) const Z_CLEAR: f64 = 3.0;

/// The lower end of the Wilson score interval (95 %) of a ratio, 0 to 1; 0 without samples.
///
/// Unlike the normal approximation it holds for few samples and ratios near 0.
pub fn wilson_lower(hits: u64, samples: u64) -> f64 {
    wilson_lower_at(Z_95, hits, samples)
}

/// The upper end of the same interval; 1 without samples.
pub fn wilson_upper(hits: u64, samples: u64) -> f64 {
    // The interval is symmetric: few hits are many misses.
    1.0 - wilson_lower(samples.saturating_sub(hits), samples)
}

/// The lower end at another confidence, given as a quantile of the normal distribution.
pub(super) fn wilson_lower_at(z: f64, hits: u64, samples: u64) -> f64 {
    if samples == 0 {
        return 0.0;
    }
    let n = samples as f64;
    let ratio = hits as f64 / n;
    let z2 = z * z;
    let centre = ratio + z2 / (2.0 * n);
    let spread = z
        * (ratio * (1.0 - ratio) / n + z2 / (4.0 * n * n))
            .max(0.0)
            .sqrt();
    ((centre - spread) / (1.0 + z2 / n)).clamp(0.0, 1.0)
}

/// Whether the second ratio is higher than the first, with 95 % confidence (pooled two-proportion test).
pub(super) fn ratio_rose(first: (u64, u64), second: (u64, u64)) -> bool {
    let (a, n) = (first.0 as f64, first.1 as f64);
    let (b, m) = (second.0 as f64, second.1 as f64);
    if n == 0.0 || m == 0.0 {
        return false;
    }
    let pooled = (a + b) / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    b / m - a / n > Z_95 * error
}

/// Mean and squared standard error of rates, from the means of consecutive groups (at most six of them), so that
/// neighbours which move together do not pass for independent evidence. Needs three rates.
pub(super) fn batch_means(rates: &[f64]) -> Option<Estimate> {
    const GROUPS: usize = 6;
    if rates.len() < 3 {
        return None;
    }
    let groups: Vec<f64> = rates
        .chunks(rates.len().div_ceil(GROUPS))
        .map(|group| group.iter().sum::<f64>() / group.len() as f64)
        .collect();
    let n = groups.len() as f64;
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let variance = groups.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(Estimate {
        mean,
        squared_error: variance / n,
        degrees: n - 1.0,
    })
}

/// A mean and how well it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) squared_error: f64,
    pub(super) degrees: f64,
}

/// The 97.5 % quantile of Student's distribution, within 2 % from 3 degrees of freedom on.
pub(super) fn student_975(degrees: f64) -> f64 {
    // Expansion in 1/degrees (Cornish-Fisher), its coefficients at the normal quantile.
    Z_95 + 2.372 / degrees + 2.823 / degrees.powi(2) + 2.556 / degrees.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        for (hits, samples, lower) in [
            (10, 100, 0.0552),
            (0, 100, 0.0),
            (1, 10, 0.0179),
            (100, 100, 0.963),
            (81, 263, 0.2553),
        ] {
            assert!(
                (wilson_lower(hits, samples) - lower).abs() < 5e-4,
                "{hits} of {samples}"
            );
        }
        assert!(wilson_lower(0, 0).abs() < f64::EPSILON);
        assert!((wilson_upper(10, 100) - 0.1744).abs() < 5e-4);
        assert!((wilson_upper(0, 10) - 0.2775).abs() < 5e-4);
        assert!((wilson_upper(0, 0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn student_is_close_to_the_tables() {
        for (degrees, value) in [
            (3.0, 3.182),
            (4.0, 2.776),
            (6.0, 2.447),
            (9.0, 2.262),
            (30.0, 2.042),
        ] {
            let relative: f64 = student_975(degrees) / value - 1.0;
            assert!(relative.abs() < 0.02, "{degrees}: {}", student_975(degrees));
        }
    }

    #[test]
    fn only_a_clear_rise_is_a_rise() {
        assert!(ratio_rose((0, 500), (50, 500)));
        assert!(!ratio_rose((40, 500), (45, 500)));
        assert!(!ratio_rose((0, 0), (5, 5)));
        assert!(!ratio_rose((0, 5), (0, 5)));
    }
}
