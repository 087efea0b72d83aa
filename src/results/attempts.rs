//! What became of requests, and how much a run got through.
//!
//! Owns the terms that every format uses. A request that was tried is an *attempt*. It is *answered* when a response was
//! read to its end, whatever its status; it has *passed* when that status was below 400, and *failed* otherwise: refused,
//! timed out, cut off, or answered with an error. Runs have passed when they raised nothing.

use super::document::Results;
use crate::metrics::Kind;

/// Requests of a run, over all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Tried: passed + failed, and answered + unanswered.
    pub tried: u64,
    /// Answered, with whatever status.
    pub answered: u64,
    /// Not answered, or with a status of 400 or more.
    pub failed: u64,
}

impl Attempts {
    /// Answered with a status below 400.
    pub const fn passed(self) -> u64 {
        self.tried.saturating_sub(self.failed)
    }

    /// Refused, timed out, cut off.
    pub const fn unanswered(self) -> u64 {
        self.tried.saturating_sub(self.answered)
    }
}

impl Results {
    /// What became of its requests; all zero when its scenarios make none.
    pub fn attempts(&self) -> Attempts {
        let rows = self.service_times.iter();
        let requests = rows.filter(|row| row.kind == Kind::Request.as_str());
        let (tried, failed) = requests.fold((0_u64, 0_u64), |(tried, failed), row| {
            (
                tried.saturating_add(row.count),
                failed.saturating_add(row.failed),
            )
        });
        let answered = self.counts.requests;
        // A run that died may have written its counts and its rows at different times.
        let tried = tried.max(answered);
        Attempts {
            tried,
            answered,
            failed: failed.min(tried),
        }
    }

    /// Requests answered per second over the whole run; without requests, runs that passed.
    pub fn throughput(&self) -> f64 {
        let attempts = self.attempts();
        self.per_second(if attempts.tried > 0 {
            attempts.answered
        } else {
            self.counts.succeeded
        })
    }

    /// What its throughput counts: `req/s`, or `runs/s` when its scenarios make no requests.
    pub fn throughput_unit(&self) -> &'static str {
        if self.attempts().tried > 0 {
            "req/s"
        } else {
            "runs/s"
        }
    }

    /// Of the whole run; 0 for one that took no time.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.meta.elapsed_seconds > 0.0 {
            count as f64 / self.meta.elapsed_seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn requests_add_up() {
        let mut results = sample::results();
        results.service_times[1].failed = 40;
        results.counts.requests = 170;
        let attempts = results.attempts();
        assert_eq!(
            attempts,
            Attempts {
                tried: 200,
                answered: 170,
                failed: 40
            }
        );
        assert_eq!((attempts.passed(), attempts.unanswered()), (160, 30));
        assert_eq!(
            (results.throughput(), results.throughput_unit()),
            (17.0, "req/s")
        );
    }

    #[test]
    fn what_failed_is_no_throughput() {
        let mut results = sample::results();
        results.counts.requests = 0;
        assert_eq!(
            (results.throughput(), results.throughput_unit()),
            (0.0, "req/s")
        );
        results
            .service_times
            .retain(super::super::ServiceTime::is_scenario);
        assert_eq!(
            (results.throughput(), results.throughput_unit()),
            (9.0, "runs/s")
        );
        results.meta.elapsed_seconds = 0.0;
        assert!(results.throughput() == 0.0);
    }
}
