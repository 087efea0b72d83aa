//! The way up: which level follows, and what ends the ramp.
//!
//! Owns the shape of the ramp that nobody prescribed: the level doubles, each one is held just long enough to judge it.
//! A ramp of a given length is `Controller`'s. Pure functions over the trials. Called by `Search`.

use super::super::verdict::Reason;
use super::Settings;
use super::curve::fail_anyway;
use super::result::{Trial, Unit};

/// Each level is this much higher than the one before.
const FACTOR: f64 = 2.0;

/// Throughput has stopped growing when four times the level brings no more than this, as measured ...
const FLAT: f64 = 1.15;

/// ... and hardly more than this, and the last doubling no more than that.
const FLAT_AT_MOST: f64 = 1.7;
const FLAT_LAST: f64 = 1.08;

/// With fewer workers than this it is no plateau yet: a worker keeps its connection and so the process that accepted it,
/// and a few of them may share one by chance while the others have nothing to do.
const ENOUGH_WORKERS: f64 = 16.0;

/// Throughput has collapsed when it is hardly more than this share of the best.
const COLLAPSED: f64 = 0.8;

/// What comes next on the way up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    Hold(f64),
    Ended(Reason),
}

/// A level that does not hold is tried twice: one bad moment says nothing.
pub(super) fn next(trials: &[Trial], settings: &Settings) -> Next {
    let Some(last) = trials.last() else {
        return Next::Hold(settings.first_level.min(settings.highest_level));
    };
    if let Some(flaw) = last.flaws.first() {
        let again = trials
            .iter()
            .rev()
            .nth(1)
            .filter(|before| same(before.level, last.level) && !before.sustainable());
        if again.is_none() {
            return Next::Hold(last.level);
        }
        let nothing_ever = trials.iter().all(|trial| trial.failed == trial.runs);
        return Next::Ended(if nothing_ever {
            Reason::AllFailed
        } else {
            flaw.reason()
        });
    }
    if fail_anyway(trials, settings.tolerance_ratio) {
        return Next::Ended(Reason::Failures);
    }
    if last.level >= settings.highest_level {
        return Next::Ended(Reason::RampEnded);
    }
    if stopped_growing(trials, settings.unit) {
        return Next::Ended(Reason::Plateau);
    }
    Next::Hold((last.level * FACTOR).min(settings.highest_level))
}

fn stopped_growing(trials: &[Trial], unit: Unit) -> bool {
    let good: Vec<&Trial> = trials.iter().filter(|trial| trial.sustainable()).collect();
    let [.., earlier, before, last] = good.as_slice() else {
        return false;
    };
    // Throughput of one level by that of another, and the upper end of its interval.
    let ratio = |high: &Trial, low: &Trial| {
        let (a, b) = (high.runs_per_second, low.runs_per_second);
        let ratio = a.mean / b.mean;
        let error = (a.half() / a.mean).hypot(b.half() / b.mean);
        (ratio, ratio * (1.0 + error))
    };
    let (growth, growth_at_most) = ratio(last, earlier);
    let is_spread = unit != Unit::Workers || last.level >= ENOUGH_WORKERS;
    let flat = is_spread
        && growth < FLAT
        && growth_at_most < FLAT_AT_MOST
        && ratio(last, before).0 < FLAT_LAST;
    let collapsed = good.iter().any(|trial| ratio(last, trial).1 < COLLAPSED);
    flat || collapsed
}

pub(super) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::super::result::{Flaw, Length::Short};
    use super::super::tests::{failing, trial};
    use super::*;

    fn after(trials: &[Trial]) -> Next {
        next(trials, &Settings::default())
    }

    #[test]
    fn levels_double_up_to_the_highest() {
        assert_eq!(after(&[]), Next::Hold(1.0));
        assert_eq!(after(&[trial(1.0, 10.0, 1.0, Short)]), Next::Hold(2.0));
        assert_eq!(after(&[trial(256.0, 10.0, 1.0, Short)]), Next::Hold(500.0));
        let highest = after(&[trial(500.0, 10.0, 1.0, Short)]);
        assert_eq!(highest, Next::Ended(Reason::RampEnded));
    }

    #[test]
    fn two_failures_in_a_row_end_it() {
        let mut trials = vec![trial(1.0, 10.0, 1.0, Short), failing(2.0, Short)];
        assert_eq!(after(&trials), Next::Hold(2.0));
        trials.push(failing(2.0, Short));
        assert_eq!(after(&trials), Next::Ended(Reason::Failures));
        trials.pop();
        trials.push(trial(2.0, 20.0, 1.0, Short));
        assert_eq!(after(&trials), Next::Hold(4.0));
    }

    #[test]
    fn nothing_ever_is_another_matter() {
        let nothing = Trial {
            failed: 1000,
            flaws: vec![Flaw::NothingSucceeded],
            ..failing(1.0, Short)
        };
        let ended = after(&[nothing.clone(), nothing]);
        assert_eq!(ended, Next::Ended(Reason::AllFailed));
    }

    #[test]
    fn a_plateau_needs_two_doublings() {
        let up = trial(8.0, 100.0, 5.0, Short);
        let flat = trial(16.0, 103.0, 5.0, Short);
        assert_eq!(after(&[up.clone(), flat.clone()]), Next::Hold(32.0));
        let plateau = [up.clone(), flat.clone(), trial(32.0, 104.0, 5.0, Short)];
        assert_eq!(after(&plateau), Next::Ended(Reason::Plateau));
        let unclear = [up.clone(), flat.clone(), trial(32.0, 104.0, 80.0, Short)];
        assert_eq!(after(&unclear), Next::Hold(64.0));
        let collapsed = [
            trial(4.0, 90.0, 5.0, Short),
            up,
            trial(16.0, 50.0, 5.0, Short),
        ];
        assert_eq!(after(&collapsed), Next::Ended(Reason::Plateau));
    }

    #[test]
    fn a_few_connections_to_one_of_many_processes_are_no_plateau() {
        let flat = |level| trial(level, 98.0, 1.0, Short);
        let mut trials = vec![flat(1.0), flat(2.0), flat(4.0)];
        assert_eq!(after(&trials), Next::Hold(8.0));
        trials.push(flat(8.0));
        assert_eq!(after(&trials), Next::Hold(16.0));
        trials.push(flat(16.0));
        assert_eq!(after(&trials), Next::Ended(Reason::Plateau));
        let by_rate = Settings {
            unit: Unit::RunsPerSecond,
            ..Settings::default()
        };
        assert_eq!(next(&trials[..3], &by_rate), Next::Ended(Reason::Plateau));
    }
}
