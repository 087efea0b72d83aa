//! Where starts lie when one is expected per unit: in the middle of each unit, or as a Poisson process.
//!
//! Owns the random numbers. The same seed gives the same starts, in every process: each of several processes goes through
//! all of them and keeps every n-th, so that together they start exactly what one process would. Called by `starts`.

use fastrand::Rng;

/// How starts are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// Evenly.
    Constant,
    /// Independently of each other, as users come: the distances are exponential.
    #[default]
    Poisson,
}

/// Which of several processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its number, from 0.
    pub index: u64,
    /// How many there are.
    pub of: u64,
}

impl Share {
    /// The only process there is.
    pub const ALL: Self = Self { index: 0, of: 1 };
}

/// The starts of one process, one after the other, in units.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    shape: Shape,
    share: Share,
    rng: Rng,
    /// How many starts of all processes lie behind.
    passed: u64,
    units: f64,
}

impl Arrivals {
    pub(super) fn new(shape: Shape, seed: u64, share: Share) -> Self {
        Self {
            shape,
            share,
            rng: Rng::with_seed(seed),
            passed: 0,
            units: 0.0,
        }
    }

    /// Where the next start of this process lies.
    pub(super) fn next(&mut self) -> f64 {
        let of = self.share.of.max(1);
        loop {
            let number = self.passed;
            self.passed += 1;
            match self.shape {
                // In the middle: a whole number of units has exactly that many, whatever rounding does to its end.
                Shape::Constant => self.units = number as f64 + 0.5,
                Shape::Poisson => self.units -= (1.0 - self.rng.f64()).ln(),
            }
            if number % of == self.share.index {
                return self.units;
            }
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "units and classes, not below 0"
)]
mod tests {
    use super::*;

    fn all(shape: Shape, seed: u64, share: Share, count: usize) -> Vec<f64> {
        let mut arrivals = Arrivals::new(shape, seed, share);
        (0..count).map(|_| arrivals.next()).collect()
    }

    #[test]
    fn shares_of_processes_make_up_the_whole() {
        for shape in [Shape::Constant, Shape::Poisson] {
            let whole = all(shape, 7, Share::ALL, 300);
            let mut together: Vec<f64> = (0..3)
                .flat_map(|index| all(shape, 7, Share { index, of: 3 }, 100))
                .collect();
            together.sort_by(f64::total_cmp);
            assert_eq!(together, whole);
        }
    }

    /// Chi-square of how many starts fall into each of 4,000 units, against the Poisson distribution with mean 1.
    #[test]
    fn counts_are_poisson() {
        let mut counts = vec![0_usize; 4000];
        for units in all(Shape::Poisson, 1, Share::ALL, 5000) {
            if let Some(count) = counts.get_mut(units as usize) {
                *count += 1;
            }
        }
        let mut expected = (-1.0_f64).exp() * 4000.0;
        let (mut chi_square, mut left) = (0.0, 4000.0);
        for k in 0..5_usize {
            let seen = counts.iter().filter(|count| **count == k).count() as f64;
            chi_square += (seen - expected).powi(2) / expected;
            left -= expected;
            expected /= (k + 1) as f64;
        }
        let seen = counts.iter().filter(|count| **count >= 5).count() as f64;
        chi_square += (seen - left).powi(2) / left;
        // Five degrees of freedom: 20.5 is exceeded once in a thousand seeds, and this one is fixed.
        assert!(chi_square < 20.5, "{chi_square}");
    }

    /// The same for the distances, in ten equally likely classes.
    #[test]
    fn distances_are_exponential_and_independent() {
        let starts = all(Shape::Poisson, 2, Share::ALL, 5001);
        let distances: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let class = |distance: f64| ((1.0 - (-distance).exp()) * 10.0) as usize;
        let mut seen = [0.0_f64; 10];
        for distance in &distances {
            seen[class(*distance).min(9)] += 1.0;
        }
        let chi_square: f64 = seen.iter().map(|n| (n - 500.0).powi(2) / 500.0).sum();
        assert!(chi_square < 27.9, "{chi_square}");
        // Neighbours are not correlated: within four standard errors of 0.
        let pairs = distances.windows(2);
        let correlation: f64 = pairs
            .map(|pair| (pair[0] - 1.0) * (pair[1] - 1.0))
            .sum::<f64>()
            / 5000.0;
        assert!(correlation.abs() < 4.0 / 5000.0_f64.sqrt(), "{correlation}");
    }

    #[test]
    fn a_seed_decides() {
        let of = |seed| all(Shape::Poisson, seed, Share::ALL, 5);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert_eq!(all(Shape::Constant, 3, Share::ALL, 2), [0.5, 1.5]);
    }
}
