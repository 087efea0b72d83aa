//! What a series of rates says: where its warm-up ends, its mean with an interval, whether it has a trend.
//!
//! Owns the formulas for dependent data: neighbours in time are alike, so nothing here counts single runs as evidence.
//! Pure functions over the bins of one trial. Called by `trial`.

use super::super::statistics::student_975;

/// Into how many batches a series is cut for its interval. The wider interval counts: the finer cut knows the spread
/// better, the coarser one sees disturbances that last longer than a batch.
const CUTS: [usize; 2] = [12, 6];

/// Fewest rates that have an interval.
const ENOUGH_RATES: usize = 3;

/// A warm-up differs from the rest by this many half widths.
const CLEARLY: f64 = 1.5;

/// Batches of the trend test.
const TREND_BATCHES: usize = 12;

/// A mean with its 95 % interval's half width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    /// Infinite when there is too little to know it.
    pub(super) half: f64,
}

/// How many rates at the start are warm-up.
///
/// MSER (White 1997): cut where the standard error of what is left is smallest, at most half of the series. That alone
/// also cuts away an accidental dip and so makes noise look small; hence the cut stays only when what it takes away
/// differs from the rest by clearly more than its interval.
pub(super) fn warm_up(rates: &[f64]) -> usize {
    let n = rates.len();
    let mut best = (0, f64::INFINITY);
    for cut in 0..=n / 2 {
        let Some(rest) = rates.get(cut..) else { break };
        let error = squares(rest) / (rest.len() as f64).powi(2);
        // Ties go to the shorter cut.
        if error < best.1 * (1.0 - 1e-9) {
            best = (cut, error);
        }
    }
    let (cut, _) = best;
    let (head, rest) = rates.split_at(cut);
    if head.is_empty() || rest.len() < ENOUGH_RATES {
        return 0;
    }
    let error = half_width(rest, CUTS[1]) * (1.0 + rest.len() as f64 / head.len() as f64).sqrt();
    if (mean(head) - mean(rest)).abs() > CLEARLY * error {
        cut
    } else {
        0
    }
}

/// The mean rate over `seconds` with an interval from batch means. `None` for no rates.
pub(super) fn estimate(rates: &[f64], seconds: f64) -> Option<Estimate> {
    if rates.is_empty() || seconds <= 0.0 {
        return None;
    }
    let half = CUTS
        .iter()
        .map(|count| half_width(rates, *count))
        .fold(0.0, f64::max);
    // Counting whole runs is never more exact than one run.
    let half = half.max(1.0 / seconds);
    Some(Estimate {
        mean: mean(rates),
        half,
    })
}

fn half_width(rates: &[f64], count: usize) -> f64 {
    let batches = batches(rates, count);
    let n = batches.len() as f64;
    if batches.len() < ENOUGH_RATES {
        return f64::INFINITY;
    }
    student_975(n - 1.0) * (squares(&batches) / (n - 1.0) / n).sqrt()
}

/// The relative change over the series when it is more than accident and more than `allowed`; else `None`.
///
/// A straight line through batch means; its change counts as far as it is known with 97.5 % confidence.
pub(super) fn trend(rates: &[f64], allowed: f64) -> Option<f64> {
    let batches = batches(rates, TREND_BATCHES);
    let n = batches.len() as f64;
    let level = mean(&batches);
    if batches.len() < 6 || level <= 0.0 {
        return None;
    }
    let middle = (n - 1.0) / 2.0;
    let places = || (0..batches.len()).map(|place| place as f64 - middle);
    let spread: f64 = places().map(|place| place * place).sum();
    let slope: f64 = places()
        .zip(&batches)
        .map(|(place, rate)| place * (rate - level))
        .sum::<f64>()
        / spread;
    let left: f64 = places()
        .zip(&batches)
        .map(|(place, rate)| (rate - level - slope * place).powi(2))
        .sum();
    let error = (left / (n - 2.0) / spread).sqrt();
    let change = slope * n / level;
    let certain = student_975(n - 2.0) * error * n / level;
    (change.abs() - certain > allowed).then_some(change)
}

/// Means of at most `count` consecutive groups of equal size; a remainder at the start is left out.
fn batches(rates: &[f64], count: usize) -> Vec<f64> {
    let size = (rates.len() / count).max(1);
    let whole = rates.len() - rates.len() % size;
    let mut means: Vec<f64> = rates
        .get(rates.len() - whole..)
        .unwrap_or_default()
        .chunks(size)
        .map(mean)
        .collect();
    let extra = means.len().saturating_sub(count);
    means.drain(..extra);
    means
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sum of the squared distances from the mean.
fn squares(values: &[f64]) -> f64 {
    let middle = mean(values);
    values.iter().map(|value| (value - middle).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noisy(n: usize, seed: u64, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..n)
            .map(|place| of(place as f64) + (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0)
            .collect()
    }

    #[test]
    fn warm_up_is_found_and_noise_is_not() {
        let start = |place: f64| if place < 10.0 { 40.0 } else { 100.0 };
        let cuts: Vec<usize> = (0..100)
            .map(|seed| warm_up(&noisy(60, seed, start)))
            .collect();
        assert!(cuts.iter().all(|cut| *cut >= 10), "{cuts:?}");
        let close = cuts.iter().filter(|cut| **cut <= 15).count();
        assert!(close > 80, "{cuts:?}");
        let cuts = (0..200)
            .filter(|seed| warm_up(&noisy(60, *seed, |_| 100.0)) > 0)
            .count();
        assert!(cuts < 10, "{cuts}");
        assert_eq!(warm_up(&[]), 0);
        assert_eq!(warm_up(&[1.0, 2.0]), 0);
    }

    #[test]
    fn intervals_cover_the_mean() {
        let covered = (0..1000)
            .filter(|seed| {
                let estimate = estimate(&noisy(60, *seed, |_| 100.0), 30.0).unwrap();
                (estimate.mean - 100.0).abs() <= estimate.half
            })
            .count();
        assert!((950..1000).contains(&covered), "{covered}");
    }

    #[test]
    fn intervals_of_dependent_rates_are_wider() {
        let slow = |place: f64| 100.0 + 3.0 * (place / 5.0).sin();
        let (plain, waves) = (noisy(60, 1, |_| 100.0), noisy(60, 1, slow));
        let half = |rates: &[f64]| estimate(rates, 30.0).unwrap().half;
        assert!(half(&waves) > 1.5 * half(&plain));
        assert!(estimate(&[5.0, 5.0], 1.0).unwrap().half.is_infinite());
        assert!((estimate(&[5.0; 9], 4.0).unwrap().half - 0.25).abs() < 1e-9);
        assert_eq!(estimate(&[], 1.0), None);
    }

    #[test]
    fn only_a_clear_trend_is_a_trend() {
        let falls = |place: f64| 100.0 - place / 3.0;
        let found = (0..200)
            .filter(|seed| trend(&noisy(60, *seed, falls), 0.05).is_some_and(|c| c < -0.15))
            .count();
        assert_eq!(found, 200);
        let found = (0..500)
            .filter(|seed| trend(&noisy(60, *seed, |_| 20.0), 0.05).is_some())
            .count();
        assert!(found < 10, "{found}");
        assert_eq!(trend(&[0.0; 30], 0.05), None);
    }

    proptest! {
        #[test]
        fn no_rates_panic(rates in prop::collection::vec(0.0..1e9_f64, 0..80)) {
            prop_assert!(warm_up(&rates) <= rates.len() / 2);
            if let Some(Estimate { mean, half }) = estimate(&rates, 1.0) {
                prop_assert!(mean >= 0.0 && half > 0.0);
            }
            let _ = trend(&rates, 0.05);
        }
    }
}
