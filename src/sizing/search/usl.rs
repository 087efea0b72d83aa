//! The Universal Scalability Law (Gunther 1993), fitted to measured levels.
//!
//! Explains a result (waiting for each other, keeping each other informed) and never decides anything. Called when a
//! result is made.

use serde::{Deserialize, Serialize};

/// Fewest different levels that a fit makes sense with.
const ENOUGH_LEVELS: usize = 4;

/// Throughput X(N) = λN / (1 + σ(N−1) + κN(N−1)) at N workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usl {
    /// λ: runs per second of a worker that is alone.
    pub runs_per_second_alone: f64,
    /// σ: the share of the work for which workers wait for each other, 0 to 1.
    pub contention: f64,
    /// κ: the cost of keeping two workers consistent, as a share of the work. Above 0 throughput has a maximum.
    pub coherency: f64,
    /// The number of workers with the most throughput, by the fit; `None` when it never falls.
    pub peak_workers: Option<f64>,
    /// The share of the variance of throughput that the fit explains (R²), at most 1.
    pub explained_ratio: f64,
}

impl Usl {
    /// Least squares over (workers, runs per second).
    ///
    /// N/X is linear in 1/λ, σ/λ and κ/λ. Each level counts by its relative error. Coefficients below zero make no sense
    /// and are fitted again as zero. `None` for fewer than four different levels, or when nothing fits.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let points: Vec<(f64, f64)> = points
            .iter()
            .copied()
            .filter(|(workers, rate)| *workers >= 1.0 && *rate > 0.0 && rate.is_finite())
            .collect();
        let mut levels: Vec<f64> = points.iter().map(|(workers, _)| *workers).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        if levels.len() < ENOUGH_LEVELS {
            return None;
        }
        // Which of the two columns take part, the fullest model first.
        let models = [(true, true), (true, false), (false, true), (false, false)];
        let candidates = models
            .into_iter()
            .filter_map(|model| Self::solve(&points, model));
        // Several may be feasible; the one that explains most wins, and the fullest on a tie.
        candidates.fold(None, |best: Option<Self>, next| match best {
            Some(best) if best.explained_ratio >= next.explained_ratio => Some(best),
            _ => Some(next),
        })
    }

    /// Runs per second at that many workers.
    pub fn throughput(&self, workers: f64) -> f64 {
        let others = workers - 1.0;
        self.runs_per_second_alone * workers
            / (1.0 + self.contention * others + self.coherency * workers * others)
    }

    fn solve(points: &[(f64, f64)], (contention, coherency): (bool, bool)) -> Option<Self> {
        let mut normal = [[0.0; 4]; 3];
        for (workers, rate) in points {
            let time = workers / rate;
            let row = [
                1.0,
                f64::from(u8::from(contention)) * (workers - 1.0),
                f64::from(u8::from(coherency)) * workers * (workers - 1.0),
                time,
            ];
            for (line, left) in normal.iter_mut().zip(row) {
                for (cell, right) in line.iter_mut().zip(row) {
                    *cell += left * right / (time * time);
                }
            }
        }
        // A column that does not take part gets the equation "coefficient = 0".
        if !contention {
            normal[1][1] = 1.0;
        }
        if !coherency {
            normal[2][2] = 1.0;
        }
        let [alone, contending, coherent] = eliminate(normal)?;
        if alone <= 0.0 || contending < 0.0 || coherent < 0.0 {
            return None;
        }
        let mut fit = Self {
            runs_per_second_alone: alone.recip(),
            contention: contending / alone,
            coherency: coherent / alone,
            peak_workers: None,
            explained_ratio: 0.0,
        };
        if fit.coherency > 0.0 && fit.contention < 1.0 {
            fit.peak_workers = Some(((1.0 - fit.contention) / fit.coherency).sqrt());
        }
        let mean = points.iter().map(|(_, rate)| rate).sum::<f64>() / points.len() as f64;
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            points
                .iter()
                .map(|(workers, rate)| of(*workers, *rate).powi(2))
                .sum()
        };
        let all = sum(&|_, rate| rate - mean);
        let left = sum(&|workers, rate| rate - fit.throughput(workers));
        fit.explained_ratio = if all > 0.0 { 1.0 - left / all } else { 0.0 };
        Some(fit)
    }
}

/// Gauss-Jordan on three equations, the right side in the fourth column. `None` when they are dependent.
fn eliminate(mut rows: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|a, b| {
            cell(&rows, *a, column)
                .abs()
                .total_cmp(&cell(&rows, *b, column).abs())
        })?;
        rows.swap(column, pivot);
        let scale = cell(&rows, column, column);
        if scale.abs() < 1e-12 {
            return None;
        }
        let chosen = rows.get(column)?.map(|value| value / scale);
        for (number, row) in rows.iter_mut().enumerate() {
            if number == column {
                *row = chosen;
                continue;
            }
            let factor = row.get(column).copied().unwrap_or_default();
            for (value, other) in row.iter_mut().zip(chosen) {
                *value -= factor * other;
            }
        }
    }
    Some(rows.map(|[.., right]| right))
}

fn cell(rows: &[[f64; 4]; 3], row: usize, column: usize) -> f64 {
    rows.get(row)
        .and_then(|row| row.get(column))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

    fn measured(contention: f64, coherency: f64, noise: f64, seed: u64) -> Vec<(f64, f64)> {
        let truth = Usl {
            runs_per_second_alone: 20.0,
            contention,
            coherency,
            peak_workers: None,
            explained_ratio: 1.0,
        };
        let mut rng = fastrand::Rng::with_seed(seed);
        LEVELS
            .iter()
            .map(|workers| {
                let error = 1.0 + noise * (2.0 * rng.f64() - 1.0);
                (*workers, truth.throughput(*workers) * error)
            })
            .collect()
    }

    #[test]
    fn exact_curves_are_found_again() {
        for (contention, coherency) in [(0.05, 0.0005), (0.2, 0.0), (0.0, 0.001), (0.0, 0.0)] {
            let fit = Usl::fit(&measured(contention, coherency, 0.0, 0)).unwrap();
            assert!((fit.contention - contention).abs() < 1e-6, "{fit:?}");
            assert!((fit.coherency - coherency).abs() < 1e-8, "{fit:?}");
            assert!((fit.runs_per_second_alone - 20.0).abs() < 1e-4);
            assert!(fit.explained_ratio > 0.999_999);
        }
    }

    #[test]
    fn noise_moves_the_peak_little() {
        for seed in 0..100 {
            let fit = Usl::fit(&measured(0.05, 0.0005, 0.05, seed)).unwrap();
            let peak = fit.peak_workers.unwrap();
            assert!((33.0..58.0).contains(&peak), "{fit:?}");
            assert!(fit.contention >= 0.0 && fit.coherency >= 0.0);
            assert!(fit.explained_ratio > 0.9);
        }
    }

    #[test]
    fn too_little_to_go_by_is_no_fit() {
        assert_eq!(Usl::fit(&measured(0.1, 0.0, 0.0, 0)[..3]), None);
        assert_eq!(Usl::fit(&[(4.0, 10.0); 9]), None);
        assert_eq!(Usl::fit(&[(1.0, 0.0), (2.0, f64::NAN), (0.0, 3.0)]), None);
    }
}
