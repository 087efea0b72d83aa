//! Whether throughput still grows with the workers.
//!
//! Owns the run's history in batches of a second, the plateau test and the best level. Deciding to stop is
//! `controller`'s.
//!
//! The test compares two stretches of the ramp: the last one, in which the workers doubled, with the one before it, in
//! which they doubled as well. If the service still scales, the last one has twice the throughput; if it doesn't, they
//! are equal. Both get longer as the ramp goes on, so evidence grows with it, and runs that last seconds (whose
//! throughput comes in waves) don't matter. Late in a long ramp, stretches in which the workers grow by half are long
//! enough, and see the end of growth sooner. "Stopped growing" means: twice the workers brought less than 11 % more, and
//! hardly (with 97.5 % confidence) more than 23 %.

use super::statistics::{Estimate, batch_means, student_975};

/// Length of a batch.
const BATCH_SECONDS: f64 = 1.0;

/// How stretches are cut: the workers grow by `factor` in each; they are compared from these lengths on, in seconds.
struct Cut {
    factor: f64,
    earlier_seconds: f64,
    recent_seconds: f64,
}

const CUTS: [Cut; 2] = [
    Cut {
        factor: 2.0,
        earlier_seconds: 8.0,
        recent_seconds: 16.0,
    },
    Cut {
        factor: 1.5,
        earlier_seconds: 24.0,
        recent_seconds: 36.0,
    },
];

/// Growth counts as none when throughput follows the workers to this power at most, as measured ...
const FLAT_EXPONENT: f64 = 0.15;

/// ... and at most to this one, as far as can be known with 97.5 % confidence.
const FLAT_EXPONENT_AT_MOST: f64 = 0.3;

/// Fewest successful runs in the earlier stretch.
const ENOUGH_RUNS: f64 = 30.0;

/// For how many batches in a row the test has to hold.
const TIMES_IN_A_ROW: u32 = 3;

/// Shortest window that a best level is measured over, in batches; later it is this part of the run, because the best
/// of many short windows is a lucky one. A minute is long enough for any run.
const LEVEL_BATCHES: usize = 6;
const LEVEL_BATCHES_AT_MOST: usize = 60;
const LEVEL_PART: usize = 5;

/// What is added up over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Point {
    pub(super) seconds: f64,
    pub(super) workers: u64,
    pub(super) succeeded: u64,
    pub(super) requests: u64,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    seconds: f64,
    workers: f64,
    succeeded: f64,
    requests: f64,
}

/// A stretch with its throughput: `throughput` successful runs and `requests` per second at `workers`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Level {
    pub(super) workers: f64,
    pub(super) throughput: f64,
    pub(super) requests: f64,
}

/// What the comparison of the two stretches says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison {
    pub(super) recent: Level,
    /// Recent by earlier throughput, and the upper end of its interval.
    pub(super) ratio: f64,
    pub(super) upper: f64,
    /// The same of the workers.
    pub(super) workers_ratio: f64,
}

impl Comparison {
    /// Whether it is certain enough that throughput has stopped growing.
    fn is_flat(&self) -> bool {
        self.ratio < self.workers_ratio.powf(FLAT_EXPONENT)
            && self.upper < self.workers_ratio.powf(FLAT_EXPONENT_AT_MOST)
    }
}

/// The history of a run's throughput.
#[derive(Debug, Default)]
pub(super) struct Growth {
    last: Option<Point>,
    batches: Vec<Batch>,
    comparison: Option<Comparison>,
    flat_in_a_row: u32,
}

impl Growth {
    /// Takes the totals of now.
    pub(super) fn observe(&mut self, point: Point) {
        let Some(last) = self.last else {
            self.last = Some(point);
            return;
        };
        let seconds = point.seconds - last.seconds;
        if seconds < BATCH_SECONDS {
            return;
        }
        self.last = Some(point);
        self.batches.push(Batch {
            seconds,
            workers: f64::midpoint(last.workers as f64, point.workers as f64),
            succeeded: point.succeeded.saturating_sub(last.succeeded) as f64,
            requests: point.requests.saturating_sub(last.requests) as f64,
        });
        let workers = point.workers as f64;
        let [young, late] = CUTS.map(|cut| self.compare(&cut, workers));
        self.comparison = late.filter(Comparison::is_flat).or(young).or(late);
        match self.comparison {
            Some(comparison) if comparison.is_flat() => self.flat_in_a_row += 1,
            _ => self.flat_in_a_row = 0,
        }
    }

    /// The comparison, once it has been certain for long enough that throughput has stopped growing.
    pub(super) fn plateau(&self) -> Option<Comparison> {
        self.comparison
            .filter(|_| self.flat_in_a_row >= TIMES_IN_A_ROW)
    }

    /// The last comparison, whatever it says.
    pub(super) fn comparison(&self) -> Option<Comparison> {
        self.comparison
    }

    fn compare(&self, cut: &Cut, workers: f64) -> Option<Comparison> {
        // Workers only grow, so both stretches are contiguous.
        let start_of = |workers: f64| {
            self.batches
                .partition_point(|batch| batch.workers < workers)
        };
        let (start, middle) = (
            start_of(workers / cut.factor.powi(2)),
            start_of(workers / cut.factor),
        );
        let earlier = self.batches.get(start..middle)?;
        let recent = self.batches.get(middle..)?;
        let length = |batches: &[Batch]| batches.iter().map(|batch| batch.seconds).sum::<f64>();
        let earlier_runs: f64 = earlier.iter().map(|batch| batch.succeeded).sum();
        if length(earlier) < cut.earlier_seconds
            || length(recent) < cut.recent_seconds
            || earlier_runs < ENOUGH_RUNS
        {
            return None;
        }
        let (before, after) = (level(earlier), level(recent));
        let (a, b) = (throughput(earlier)?, throughput(recent)?);
        let ratio = b.mean / a.mean;
        // Delta method. One run more or less is the least there is to be unsure about.
        let relative = |estimate: Estimate, seconds: f64| {
            (estimate.squared_error + seconds.powi(-2)) / a.mean.powi(2)
        };
        let error =
            (relative(b, length(recent)) + ratio * ratio * relative(a, length(earlier))).sqrt();
        let upper = ratio + student_975(a.degrees.min(b.degrees)) * error;
        Some(Comparison {
            recent: after,
            ratio,
            upper,
            workers_ratio: after.workers / before.workers,
        })
    }

    /// The best level, with the fewest workers that came within 5 % of it.
    pub(super) fn best(&self) -> Level {
        let length = (self.batches.len() / LEVEL_PART).clamp(LEVEL_BATCHES, LEVEL_BATCHES_AT_MOST);
        let levels = || {
            self.batches
                .windows(length.min(self.batches.len().max(1)))
                .map(level)
        };
        let best = levels()
            .max_by(|a, b| a.throughput.total_cmp(&b.throughput))
            .unwrap_or_default();
        let first = levels().find(|level| level.throughput >= 0.95 * best.throughput);
        Level {
            workers: first.map_or(best.workers, |first| first.workers),
            ..best
        }
    }
}

fn throughput(batches: &[Batch]) -> Option<Estimate> {
    let rates: Vec<f64> = batches
        .iter()
        .map(|batch| batch.succeeded / batch.seconds)
        .collect();
    batch_means(&rates)
}

fn level(batches: &[Batch]) -> Level {
    let seconds: f64 = batches.iter().map(|batch| batch.seconds).sum();
    let sum = |of: fn(&Batch) -> f64| batches.iter().map(of).sum::<f64>();
    Level {
        workers: sum(|batch| batch.workers * batch.seconds) / seconds,
        throughput: sum(|batch| batch.succeeded) / seconds,
        requests: sum(|batch| batch.requests) / seconds,
    }
}
