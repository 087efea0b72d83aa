//! Runs counted by their requests.
//!
//! Workers that began together end together, so runs of several requests end in waves, and a trial of seconds sees a
//! wave more or less. Their requests come evenly. Owns how many requests a run has and when a trial's throughput is
//! taken from them. Called by `Search` and by `trial`.

use super::result::{Interval, Trial};
use super::trial::Counts;

/// A run of fewer requests ends nearly as evenly as they do.
const SEVERAL: f64 = 1.5;

/// Failed runs make fewer requests than others: no more than this share of them may have failed.
const FEW_FAILURES: f64 = 0.01;

/// It is known well enough when runs in flight can make this much of a difference.
const KNOWN_RATIO: f64 = 0.1;

/// How many responses a run reads in the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PerRun {
    pub(super) responses: f64,
    /// How far that may be off, as a share: nobody knows how much of the runs in flight is done.
    pub(super) error_ratio: f64,
}

impl PerRun {
    /// From the totals of a search; `None` when they do not tell, or runs have a single request.
    pub(super) fn of(totals: Counts) -> Option<Self> {
        let ended = totals.succeeded.saturating_add(totals.failed) as f64;
        if ended < 1.0 || totals.failed as f64 > FEW_FAILURES * ended {
            return None;
        }
        let this = Self {
            responses: totals.responses as f64 / (ended + totals.active / 2.0),
            error_ratio: totals.active / 2.0 / ended,
        };
        (this.error_ratio <= KNOWN_RATIO && this.responses >= SEVERAL).then_some(this)
    }

    /// Whether runs of which so many failed may be counted so.
    pub(super) fn fits(failed: u64, runs: u64) -> bool {
        failed as f64 <= FEW_FAILURES * runs as f64
    }

    /// The trial with the runs per second that its responses tell, where that says more, and the runs that ended do not
    /// contradict it.
    pub(super) fn apply(self, trial: &Trial) -> Trial {
        let responses = trial.requests_per_second;
        let runs = trial.runs_per_second;
        let told = Interval::around(
            responses.mean / self.responses,
            responses.half() / self.responses,
        );
        let edges = trial.active / trial.measured_seconds + self.error_ratio * told.mean;
        let agree = (told.mean - runs.mean).abs() <= told.half() + runs.half() + edges;
        let is_known = Self::fits(trial.failed, trial.runs) && responses.mean > 0.0;
        if is_known && agree && told.half() < runs.half() {
            Trial {
                runs_per_second: told,
                ..trial.clone()
            }
        } else {
            trial.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::Length::Short;
    use super::super::tests::{failing, trial};
    use super::*;

    fn totals(succeeded: u64, responses: u64, active: f64) -> Counts {
        Counts {
            succeeded,
            responses,
            active,
            ..Counts::default()
        }
    }

    /// A trial of 10 s with 50 runs and 150 responses a second, of which the runs come in waves.
    fn waves() -> Trial {
        Trial {
            runs_per_second: Interval::around(55.0, 20.0),
            requests_per_second: Interval::around(150.0, 1.5),
            ..trial(20.0, 0.0, 0.0, Short)
        }
    }

    #[test]
    fn requests_of_a_run_are_known_once_many_have_ended() {
        let per_run = PerRun::of(totals(1000, 3030, 20.0)).unwrap();
        assert!((per_run.responses - 3.0).abs() < 1e-9);
        assert!((per_run.error_ratio - 0.01).abs() < 1e-9);
        assert_eq!(PerRun::of(totals(50, 180, 20.0)), None);
        assert_eq!(PerRun::of(totals(1000, 1000, 20.0)), None);
        assert_eq!(PerRun::of(totals(1000, 0, 20.0)), None);
        let failing = Counts {
            failed: 20,
            ..totals(1000, 3030, 20.0)
        };
        assert_eq!(PerRun::of(failing), None);
    }

    #[test]
    fn waves_are_evened_out() {
        let per_run = PerRun::of(totals(1000, 3030, 20.0)).unwrap();
        let rate = per_run.apply(&waves()).runs_per_second;
        assert!((rate.mean - 50.0).abs() < 1e-9 && (rate.half() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn runs_that_contradict_or_fail_are_counted_themselves() {
        let per_run = PerRun::of(totals(1000, 3030, 20.0)).unwrap();
        let other = Trial {
            runs_per_second: Interval::around(75.0, 5.0),
            ..waves()
        };
        assert_eq!(per_run.apply(&other), other);
        let failing = failing(20.0, Short);
        assert_eq!(per_run.apply(&failing), failing);
    }
}
