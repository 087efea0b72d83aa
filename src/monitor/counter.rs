//! From counters to rates.
//!
//! Owns the rule that a rate needs two readings and the time that really passed between them, and that a counter which
//! went back has begun anew: no rate then, and a mark for the sampler. Called by every sampler.

use std::time::Duration;

/// One ever-growing number and its last reading.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counter {
    last: Option<(Duration, u64)>,
}

/// What a counter did between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) delta: u64,
    pub(super) seconds: f64,
}

impl Step {
    /// Growth per second.
    pub(super) fn per_second(self) -> f64 {
        self.delta as f64 / self.seconds
    }

    /// Share of the time, for counters of time in units of which a second has `units`; never above 1.
    pub(super) fn share_of_time(self, units: f64) -> f64 {
        (self.per_second() / units).min(1.0)
    }
}

impl Counter {
    /// Takes a reading. `None` for the first one, a missing one, one at the same time and one that went back; in the
    /// last case `reset` is set. After a missing reading the next step spans the gap.
    pub(super) fn advance(
        &mut self,
        now: Duration,
        value: Option<u64>,
        reset: &mut bool,
    ) -> Option<Step> {
        let value = value?;
        let Some((at, before)) = self.last else {
            self.last = Some((now, value));
            return None;
        };
        let seconds = now.checked_sub(at).map_or(0.0, |time| time.as_secs_f64());
        if value < before {
            *reset = true;
            self.last = Some((now, value));
            return None;
        }
        if seconds <= 0.0 {
            return None;
        }
        self.last = Some((now, value));
        Some(Step {
            delta: value - before,
            seconds,
        })
    }

    /// The same for counters of the kernel that may go back a little without meaning anything.
    pub(super) fn rate(&mut self, now: Duration, value: Option<u64>) -> Option<f64> {
        self.advance(now, value, &mut false).map(Step::per_second)
    }

    /// Forgets the last reading.
    pub(super) fn clear(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_rate_uses_the_time_that_passed() {
        let mut counter = Counter::default();
        assert_eq!(counter.rate(at(0), Some(100)), None);
        assert_eq!(counter.rate(at(2500), Some(350)), Some(100.0));
        assert_eq!(counter.rate(at(2500), Some(400)), None);
        assert_eq!(counter.rate(at(3500), Some(450)), Some(100.0));
    }

    #[test]
    fn a_missing_reading_is_spanned() {
        let mut counter = Counter::default();
        counter.rate(at(0), Some(0));
        assert_eq!(counter.rate(at(1000), None), None);
        assert_eq!(counter.rate(at(2000), Some(10)), Some(5.0));
    }

    #[test]
    fn a_counter_that_went_back_began_anew() {
        let mut counter = Counter::default();
        let mut reset = false;
        counter.advance(at(0), Some(1000), &mut reset);
        assert_eq!(counter.advance(at(1000), Some(5), &mut reset), None);
        assert!(reset);
        assert_eq!(counter.rate(at(2000), Some(9)), Some(4.0));
    }
}
