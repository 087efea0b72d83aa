//! Throughput by level, as far as it is known, and which level is worth a trial next.
//!
//! Owns the search: where the most throughput can be, which level suffices for it, when that is known well enough. How
//! long trials last and how much time there is, is `Search`'s. Pure; rebuilt from all trials for every decision.
//!
//! Between two measured levels throughput can be no higher than its tangents allow: services gain less and less from
//! every further worker, so the line through the two levels before is an upper bound, and so is the line through the two
//! levels behind. Where the bound promises little, no trial is spent; that is what makes the search short.
//!
//! A little longer than usual: a third of it are the tests of these decisions.

use super::super::statistics::{Z_CLEAR, ratio_rose, wilson_lower_at};
use super::Settings;
use super::ramp::same;
use super::result::{Interval, Length, Trial, Unit};

/// A gap between levels is worth a trial when it can hold this much more throughput than the best level.
const WORTHWHILE: f64 = 0.03;

/// When levels are chosen, a slope counts as far as it is more than this many standard errors, or accidents would be
/// followed up.
const SURE: f64 = 1.0;

/// "Within the interval of the best" is taken as no less than the first and no more than the second share.
const WITHIN: (f64, f64) = (0.01, 0.03);

/// Fewest runs of sustainable trials that failures of other trials are compared with.
const ENOUGH_RUNS: u64 = 100;

/// A level that failed this many confirmations has failed, whatever shorter trials say.
const CONFIRMATIONS: usize = 2;

/// Above the highest level measured, this much higher is tried.
const EXPANSION: f64 = 2.0;

/// This many times lower is far below.
const FAR_BELOW: f64 = 2.0;

/// The lowest level that suffices is known well enough when it is at most this much above one that does not.
const KNEE_FACTOR: f64 = 1.25;

/// Rates closer than this share are one level.
const RATE_RESOLUTION: f64 = 0.02;

/// A level at which the service was fine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Good {
    pub(super) level: f64,
    pub(super) throughput: Interval,
    /// By a trial of medium length or a long one.
    measured: bool,
    pub(super) confirmed: bool,
    /// When its last trial began.
    last_seconds: f64,
    /// By how much its throughput changed between a trial of medium length and the long one, beyond what both intervals
    /// explain.
    pub(super) change: f64,
    /// Whether it may have grown by itself, by about one standard error: then others may have as well.
    grown: bool,
}

/// A long trial that finds less than this share of what shorter trials before it found says that the service has changed.
const CHANGED: f64 = 0.9;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// A short trial, to find the way.
    Glance(f64),
    /// A longer one.
    Measure(f64),
    /// The long one.
    Confirm(f64),
    /// The confirmed level is the answer.
    Finished,
    /// Not even the lowest level is sustainable.
    NothingHolds,
}

/// The levels, in order.
#[derive(Debug, Default)]
pub(super) struct Curve {
    pub(super) good: Vec<Good>,
    /// The lowest level that two trials in a row found not to be sustainable.
    pub(super) ceiling: Option<f64>,
    /// A level whose last trial failed and is to be repeated first, and how long that trial was.
    suspect: Option<(f64, Length)>,
    /// No level alone is to blame, but all together fail too often.
    fails_anyway: bool,
}

impl Curve {
    /// What all trials together say, the later ones over the earlier ones: a service may break, or recover.
    pub(super) fn of(trials: &[Trial], broke_at: Option<f64>, tolerance_ratio: f64) -> Self {
        let mut curve = Self {
            ceiling: broke_at,
            ..Self::default()
        };
        let mut fine: Vec<&Trial> = Vec::new();
        let mut bad_before: Option<f64> = None;
        for (place, trial) in trials.iter().enumerate() {
            let given_up = |level: f64| {
                let failed = trials.iter().take(place + 1).filter(|other| {
                    other.length == Length::Long && !other.sustainable() && same(other.level, level)
                });
                failed.count() >= CONFIRMATIONS
            };
            if trial.sustainable() {
                fine.push(trial);
                bad_before = None;
                curve.suspect = None;
                curve.ceiling = curve
                    .ceiling
                    .filter(|bad| *bad > trial.level * (1.0 + 1e-9));
            } else if bad_before.is_some_and(|level| same(level, trial.level))
                || given_up(trial.level)
            {
                fine.retain(|good| good.level < trial.level * (1.0 - 1e-9));
                curve.ceiling = Some(
                    curve
                        .ceiling
                        .map_or(trial.level, |bad| bad.min(trial.level)),
                );
                curve.suspect = None;
                bad_before = None;
            } else {
                bad_before = Some(trial.level);
                curve.suspect = Some((trial.level, trial.length));
            }
        }
        if fail_anyway(trials, tolerance_ratio) {
            curve.fails_anyway = true;
            return curve;
        }
        fine.sort_by(|a, b| a.level.total_cmp(&b.level));
        curve.good = fine
            .chunk_by(|a, b| same(a.level, b.level))
            .map(pool)
            .collect();
        curve
    }

    /// The level with the most throughput.
    pub(super) fn best(&self) -> Option<&Good> {
        self.good
            .iter()
            .max_by(|a, b| a.throughput.mean.total_cmp(&b.throughput.mean))
    }

    /// The lowest level whose throughput is within the interval of the best.
    pub(super) fn knee(&self) -> Option<&Good> {
        let enough = self.enough();
        // What a long trial said is judged with its own interval, or luck would send the search up and down for ever.
        let confirmed = self
            .good
            .iter()
            .find(|good| good.confirmed && good.throughput.high >= enough);
        confirmed.or_else(|| {
            let first = self
                .good
                .iter()
                .find(|good| good.throughput.mean >= enough)?;
            // Far below, doubt (one standard error) speaks for the lower level: a confirmation will tell.
            self.good
                .iter()
                .find(|good| {
                    let reach = good.throughput.mean + good.throughput.half() / 2.0;
                    good.measured && FAR_BELOW * good.level <= first.level && reach >= enough
                })
                .or(Some(first))
        })
    }

    /// The level of the last long trial when it found far less than what the best one is said to bring, and there was no
    /// time to look at that again: what shorter trials found before is out of date.
    pub(super) fn outdates(&self) -> Option<&Good> {
        let best = self.best()?;
        self.good
            .iter()
            .filter(|good| good.confirmed && good.last_seconds > best.last_seconds)
            .filter(|good| good.throughput.high < CHANGED * best.throughput.mean)
            .max_by(|a, b| a.last_seconds.total_cmp(&b.last_seconds))
    }

    /// The lower end of the interval of the best.
    fn enough(&self) -> f64 {
        self.best().map_or(0.0, |best| {
            let mean = best.throughput.mean;
            let half = best.throughput.half();
            mean - half.clamp(WITHIN.0 * mean, WITHIN.1 * mean)
        })
    }

    /// A level to measure again, because the service has changed since and a confirmation is judged by it.
    fn stale(&self, best: &Good, knee: &Good) -> Option<f64> {
        let enough = self.enough();
        let refused = self
            .good
            .iter()
            .filter(|good| good.confirmed && good.throughput.high < enough)
            .map(|good| good.last_seconds)
            .fold(f64::NEG_INFINITY, f64::max);
        if refused > best.last_seconds {
            return Some(best.level);
        }
        if !knee.confirmed || !knee.grown {
            return None;
        }
        let above = self.good.iter().find(|good| good.level > knee.level);
        let other = if best.level > knee.level {
            Some(best)
        } else {
            above
        };
        other
            .filter(|other| other.last_seconds < knee.last_seconds)
            .map(|other| other.level)
    }

    /// What to do next.
    pub(super) fn next(&self, settings: &Settings) -> Step {
        if self.fails_anyway {
            return Step::NothingHolds;
        }
        match self.suspect {
            Some((level, Length::Short)) => return Step::Glance(level),
            Some((level, _)) => return Step::Measure(level),
            None => {}
        }
        let (Some(best), Some(knee)) = (self.best(), self.knee()) else {
            let lowest = settings.first_level.min(settings.highest_level);
            return match self.ceiling {
                Some(bad) if bad <= lowest * (1.0 + 1e-9) => Step::NothingHolds,
                _ => Step::Glance(lowest),
            };
        };
        if let Some(level) = self.stale(best, knee) {
            return Step::Measure(level);
        }
        if knee.confirmed {
            return Step::Finished;
        }
        if let Some((level, gap)) = self.worthwhile(best, settings) {
            return if gap > 1.5 {
                Step::Glance(level)
            } else {
                Step::Measure(level)
            };
        }
        if !best.measured {
            return Step::Measure(best.level);
        }
        if !knee.measured {
            return Step::Measure(knee.level);
        }
        let lower = self.good.iter().rev().find(|good| good.level < knee.level);
        if let Some(lower) = lower
            && knee.level / lower.level > KNEE_FACTOR
            && let Some(level) = between(lower.level, knee.level, settings)
        {
            return Step::Measure(level);
        }
        Step::Confirm(knee.level)
    }

    /// The most throughput that levels beside the best one may have, by what is known around them.
    pub(super) fn promise(&self, settings: &Settings) -> f64 {
        self.best().map_or(0.0, |best| {
            let gaps = self.gaps(best, 0.0, settings);
            gaps.iter()
                .filter(|gap| gap.level.is_some())
                .map(|gap| gap.promise)
                .fold(best.throughput.mean, f64::max)
        })
    }

    /// A level beside the best one where throughput may be clearly higher, and the factor between its neighbours.
    fn worthwhile(&self, best: &Good, settings: &Settings) -> Option<(f64, f64)> {
        let bound = best.throughput.mean * (1.0 + WORTHWHILE);
        self.gaps(best, SURE, settings)
            .iter()
            .filter(|gap| gap.promise > bound)
            .find_map(|gap| Some((gap.level?, gap.factor)))
    }

    /// The gap above the best level and the one below.
    fn gaps(&self, best: &Good, sure: f64, settings: &Settings) -> Vec<Gap> {
        let place = self.good.partition_point(|good| good.level < best.level);
        let at = |offset: isize| {
            place
                .checked_add_signed(offset)
                .and_then(|place| self.good.get(place))
        };
        let measured = at(1).map(|good| good.level).or(self.ceiling);
        let end = measured
            .unwrap_or(EXPANSION * best.level)
            .min(settings.highest_level);
        let above = Gap {
            promise: highest([at(-1), Some(best), at(1), at(2)].map(point), end, sure),
            level: match measured {
                Some(_) => between(best.level, end, settings),
                None => (end > best.level * (1.0 + 1e-9)).then_some(end),
            },
            factor: end / best.level,
        };
        let Some(left) = at(-1) else {
            return vec![above];
        };
        let below = Gap {
            promise: highest(
                [at(-2), Some(left), Some(best), at(1)].map(point),
                best.level,
                sure,
            ),
            level: between(left.level, best.level, settings),
            factor: best.level / left.level,
        };
        vec![above, below]
    }
}

/// The levels between two measured ones.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The most throughput there can be.
    promise: f64,
    /// The level to measure; `None` when there is none worth telling apart.
    level: Option<f64>,
    /// The higher end by the lower one.
    factor: f64,
}

/// Whether the share of failures is surely too high without having grown with the level: then no level is to blame, and
/// each trial for itself may look as if it was within the tolerance.
pub(super) fn fail_anyway(trials: &[Trial], tolerance_ratio: f64) -> bool {
    let count = |good: bool| {
        trials
            .iter()
            .filter(|trial| trial.sustainable() == good)
            .fold((0, 0), |(failed, runs), trial| {
                (failed + trial.failed, runs + trial.runs)
            })
    };
    let (fine, bad) = (count(true), count(false));
    fine.1 >= ENOUGH_RUNS
        && !ratio_rose(fine, bad)
        && wilson_lower_at(Z_CLEAR, fine.0 + bad.0, fine.1 + bad.1) > tolerance_ratio
}

/// A level, its throughput, and how unsure that is (about one standard error).
type Point = (f64, f64, f64);

fn point(good: Option<&Good>) -> Option<Point> {
    good.map(|good| {
        (
            good.level,
            good.throughput.mean,
            good.throughput.half() / 2.0,
        )
    })
}

/// The most throughput that the tangents allow between the second and the third point (or `end`, without a third).
///
/// A slope counts as far as it is more than `sure` standard errors.
fn highest([first, second, third, fourth]: [Option<Point>; 4], end: f64, sure: f64) -> f64 {
    let Some(near) = second else { return 0.0 };
    let (x, y, _) = near;
    // Without a level before, throughput grows at most as from nothing.
    let rise = slope(first.unwrap_or((0.0, 0.0, 0.0)), near, sure);
    let (Some(far), Some(beyond)) = (third, fourth) else {
        return y + rise * (end - x);
    };
    let (x3, y3, _) = far;
    let fall = slope(beyond, far, sure);
    if rise + fall <= 0.0 {
        return y.max(y3);
    }
    let crossing = ((y3 - y + fall * x3 + rise * x) / (rise + fall)).clamp(x, x3);
    y + rise * (crossing - x)
}

/// How much throughput rises per level from one point to the other, so many standard errors taken off, and not below 0;
/// either may be the higher level.
fn slope(from: Point, to: Point, sure: f64) -> f64 {
    let ((x, y, error), (x2, y2, error2)) = (from, to);
    ((y2 - y - sure * error.hypot(error2)) / (x2 - x).abs()).max(0.0)
}

/// A level between two others, by the geometric mean; `None` when there is none worth telling apart.
fn between(low: f64, high: f64, settings: &Settings) -> Option<f64> {
    let middle = (low * high).sqrt();
    match settings.unit {
        Unit::Workers => {
            let middle = middle.round().clamp(low + 1.0, (high - 1.0).max(low + 1.0));
            (middle < high - 1e-9).then_some(middle)
        }
        Unit::RunsPerSecond => (high / low > 1.0 + RATE_RESOLUTION).then_some(middle),
    }
}

/// Several trials of one level as one. The longest kind counts, because the short ones only showed the way; of long ones
/// all, of others the last, because a service may change.
fn pool(trials: &[&Trial]) -> Good {
    let longest = trials
        .iter()
        .map(|trial| trial.length)
        .max()
        .unwrap_or(Length::Short);
    let of = |length: Length| trials.iter().filter(move |trial| trial.length == length);
    let first = if longest == Length::Long {
        0
    } else {
        of(longest).count().saturating_sub(1)
    };
    let kept = || of(longest).skip(first);
    let seconds: f64 = kept().map(|trial| trial.measured_seconds).sum();
    let mean: f64 = kept()
        .map(|trial| trial.runs_per_second.mean * trial.measured_seconds / seconds)
        .sum();
    let half = kept()
        .map(|trial| (trial.runs_per_second.half() * trial.measured_seconds / seconds).powi(2))
        .sum::<f64>()
        .sqrt();
    // By how much the long trials are above each one of medium length, and what both intervals explain of it.
    let apart: Vec<(f64, f64)> = of(Length::Medium)
        .filter(|_| longest == Length::Long)
        .map(|trial| trial.runs_per_second)
        .map(|rate| (mean - rate.mean, rate.half().hypot(half)))
        .collect();
    Good {
        level: trials.first().map_or(0.0, |trial| trial.level),
        throughput: Interval::around(mean, half),
        measured: longest >= Length::Medium,
        confirmed: longest == Length::Long,
        last_seconds: trials
            .iter()
            .map(|trial| trial.began_seconds)
            .fold(0.0, f64::max),
        change: apart
            .iter()
            .map(|(apart, explained)| apart.abs() - explained)
            .fold(0.0, f64::max),
        grown: apart
            .iter()
            .any(|(apart, explained)| *apart > explained / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::Length::{Long, Medium, Short};
    use super::super::result::Ratio;
    use super::super::tests::{failing, trial};
    use super::*;

    fn next(trials: &[Trial]) -> Step {
        Curve::of(trials, None, 0.05).next(&Settings::default())
    }

    fn level(step: Step) -> f64 {
        match step {
            Step::Glance(level) | Step::Measure(level) | Step::Confirm(level) => level,
            Step::Finished | Step::NothingHolds => f64::NAN,
        }
    }

    #[test]
    fn a_bad_moment_is_looked_at_again() {
        let trials = [trial(8.0, 80.0, 1.0, Short), failing(16.0, Short)];
        assert_eq!(next(&trials), Step::Glance(16.0));
        let recovered = [trials.as_slice(), &[trial(16.0, 160.0, 1.0, Short)]].concat();
        assert_eq!(Curve::of(&recovered, None, 0.05).ceiling, None);
    }

    #[test]
    fn a_cliff_is_bracketed() {
        let mut trials = vec![
            trial(8.0, 80.0, 1.0, Short),
            trial(16.0, 160.0, 2.0, Short),
            failing(32.0, Short),
            failing(32.0, Short),
        ];
        let (mut low, mut high) = (16.0, 32.0);
        for _ in 0..12 {
            let step = next(&trials);
            if let Step::Confirm(level) = step {
                assert!((level - 20.0).abs() < 1e-9, "{level}");
                return;
            }
            let level = level(step);
            assert!((low..high).contains(&level), "{step:?} in {low} to {high}");
            if level <= 20.0 {
                low = level;
                trials.push(trial(level, 10.0 * level, 2.0, Medium));
            } else {
                high = level;
                trials.extend([failing(level, Short), failing(level, Short)]);
            }
        }
        panic!("no end: {trials:?}");
    }

    #[test]
    fn no_trial_is_spent_where_nothing_is_to_be_found() {
        let mut trials = vec![
            trial(8.0, 80.0, 1.0, Short),
            trial(16.0, 160.0, 1.0, Short),
            trial(32.0, 200.0, 1.0, Short),
            trial(64.0, 200.0, 1.0, Short),
            trial(128.0, 200.1, 1.0, Medium),
        ];
        // The best is known; the lowest level that suffices comes first, then whether a lower one would do.
        assert_eq!(next(&trials), Step::Measure(32.0));
        trials.push(trial(32.0, 200.0, 1.0, Medium));
        assert_eq!(next(&trials), Step::Measure(23.0));
        trials.push(trial(23.0, 190.0, 1.0, Medium));
        assert_eq!(next(&trials), Step::Measure(27.0));
        trials.push(trial(27.0, 195.0, 1.0, Medium));
        assert_eq!(next(&trials), Step::Confirm(32.0));
        trials.push(trial(32.0, 199.0, 1.0, Long));
        assert_eq!(next(&trials), Step::Finished);
    }

    #[test]
    fn a_confirmation_that_disagrees_is_judged_by_a_fresh_look() {
        let later = |trial: Trial, began_seconds| Trial {
            began_seconds,
            ..trial
        };
        let mut trials = vec![
            trial(16.0, 199.0, 2.0, Medium),
            later(trial(32.0, 200.0, 2.0, Medium), 1.0),
            trial(13.0, 180.0, 2.0, Medium),
            later(trial(16.0, 170.0, 2.0, Long), 2.0),
        ];
        assert_eq!(next(&trials), Step::Measure(32.0));
        trials.push(later(trial(32.0, 171.0, 2.0, Medium), 3.0));
        let curve = Curve::of(&trials, None, 0.05);
        assert_eq!(curve.next(&Settings::default()), Step::Measure(13.0));
        assert!(curve.good.iter().any(|good| good.change > 20.0));
    }

    #[test]
    fn what_a_long_trial_outdates_is_known() {
        let later = |trial: Trial, began_seconds| Trial {
            began_seconds,
            ..trial
        };
        let mut trials = vec![
            trial(16.0, 632.0, 40.0, Short),
            later(trial(32.0, 590.0, 40.0, Short), 3.0),
            later(trial(16.0, 433.0, 7.0, Long), 6.0),
        ];
        let level = |trials: &[Trial]| {
            let curve = Curve::of(trials, None, 0.05);
            curve.outdates().map(|good| good.level)
        };
        assert_eq!(level(&trials), Some(16.0));
        // Once the other one was looked at again, it is not.
        trials.push(later(trial(32.0, 590.0, 40.0, Short), 40.0));
        assert_eq!(level(&trials), None);
    }

    #[test]
    fn two_failed_confirmations_are_final() {
        let trials = [
            trial(30.0, 300.0, 2.0, Medium),
            failing(33.0, Long),
            trial(33.0, 330.0, 2.0, Medium),
            failing(33.0, Long),
        ];
        let curve = Curve::of(&trials, None, 0.05);
        assert_eq!(curve.ceiling, Some(33.0));
        assert_eq!(curve.good.len(), 1);
    }

    #[test]
    fn failures_that_no_level_is_to_blame_for_end_it() {
        let few = |level, length| Trial {
            failed: 70,
            failures: Ratio::of(70, 1000),
            ..trial(level, 100.0, 5.0, length)
        };
        let trials: Vec<Trial> = [1.0, 2.0, 4.0, 8.0].map(|level| few(level, Short)).into();
        assert!(fail_anyway(&trials, 0.05));
        assert_eq!(next(&trials), Step::NothingHolds);
        assert!(!fail_anyway(&trials, 0.08));
        let overload = [trial(1.0, 10.0, 1.0, Short), failing(2.0, Short)];
        assert!(!fail_anyway(&overload, 0.05));
    }

    #[test]
    fn tangents_bound_what_lies_between() {
        let points = |xy: [(f64, f64); 4]| xy.map(|(x, y)| Some((x, y, 0.0)));
        // Up by 10 per level, then flat: the gap holds what the left line allows.
        let flat = points([(10.0, 100.0), (20.0, 200.0), (40.0, 220.0), (80.0, 220.0)]);
        assert!((highest(flat, 40.0, 0.0) - 220.0).abs() < 1e-9);
        // And the right one, where throughput falls.
        let falling = points([(10.0, 100.0), (20.0, 200.0), (40.0, 220.0), (80.0, 180.0)]);
        let crossing = highest(falling, 40.0, 0.0);
        assert!((220.0..240.0).contains(&crossing), "{crossing}");
        let open = [
            Some((10.0, 100.0, 0.0)),
            Some((20.0, 200.0, 0.0)),
            None,
            None,
        ];
        assert!((highest(open, 30.0, 0.0) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn levels_in_between_are_whole_workers() {
        let settings = Settings::default();
        assert_eq!(between(16.0, 32.0, &settings), Some(23.0));
        assert_eq!(between(1.0, 3.0, &settings), Some(2.0));
        assert_eq!(between(30.0, 31.0, &settings), None);
        let rates = Settings {
            unit: Unit::RunsPerSecond,
            ..settings
        };
        assert!((between(100.0, 121.0, &rates).unwrap() - 110.0).abs() < 1e-9);
        assert_eq!(between(100.0, 101.0, &rates), None);
    }
}
