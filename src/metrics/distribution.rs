//! Several series taken together, and what came to them between two looks.
//!
//! Owns the arithmetic on whole distributions: merging, and the difference of two totals. Percentiles always come from
//! merged histograms, never from other percentiles. Made by the recorder; read by the results, once a second and at the
//! end of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::recorder::Tally;

/// Service times of some requests or runs.
#[derive(Debug, Clone)]
pub struct Distribution(Tally);

impl Default for Distribution {
    /// One with nothing in it.
    fn default() -> Self {
        Self(Tally::new())
    }
}

impl Distribution {
    pub(super) fn add(&mut self, tally: &Tally) {
        self.0.add(tally);
    }

    /// Its buckets, in microseconds.
    pub(super) fn into_histogram(self) -> Histogram<u64> {
        self.0.histogram
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.histogram.len()
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.0.failed
    }

    /// Bytes of response bodies.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The arithmetic mean; `None` of nothing.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.0.sum_microseconds.checked_div(self.count())?;
        Some(Duration::from_micros(mean))
    }

    /// The shortest; `None` of nothing.
    pub fn min(&self) -> Option<Duration> {
        self.of_some(self.0.min_microseconds)
    }

    /// The longest; `None` of nothing.
    pub fn max(&self) -> Option<Duration> {
        self.of_some(self.0.max_microseconds)
    }

    /// That share of them (0 to 1) took at most this long; `None` of nothing.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_micros(self.0.quantile(quantile)))
    }

    /// Its buckets in ascending order: a service time in microseconds, and how many took about that long.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let recorded = self.0.histogram.iter_recorded();
        recorded.map(|bucket| {
            let lowest = self
                .0
                .histogram
                .lowest_equivalent(bucket.value_iterated_to());
            (lowest, bucket.count_at_value())
        })
    }

    /// Takes another one in.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0);
    }

    fn of_some(&self, microseconds: u64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_micros(microseconds))
    }

    /// What came since an earlier total of the same series. Shortest and longest are then those of the buckets. `None`
    /// when the earlier one holds what this one does not.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut new = self.0.clone();
        new.histogram.subtract(&earlier.0.histogram).ok()?;
        new.failed = new.failed.checked_sub(earlier.0.failed)?;
        new.bytes = new.bytes.checked_sub(earlier.0.bytes)?;
        new.sum_microseconds = new
            .sum_microseconds
            .checked_sub(earlier.0.sum_microseconds)?;
        if new.histogram.is_empty() {
            return Some(Self::default());
        }
        new.min_microseconds = new.histogram.min().max(self.0.min_microseconds);
        new.max_microseconds = new.histogram.max().min(self.0.max_microseconds);
        Some(Self(new))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::{Kind, Recorder};

    fn recorded(recorder: &mut Recorder, times: &[u64]) -> Distribution {
        let id = recorder.request_id("GET", "h/x");
        for time in times {
            recorder.record(id, Duration::from_micros(*time), time % 3 > 0, 10);
        }
        recorder.distribution(Kind::Request, |_| true)
    }

    proptest! {
        #[test]
        fn the_difference_is_what_was_recorded_between(
            before in prop::collection::vec(1_u64..10_000_000, 0..50),
            between in prop::collection::vec(1_u64..10_000_000, 0..50),
        ) {
            let mut recorder = Recorder::new();
            let earlier = recorded(&mut recorder, &before);
            let _ = recorder.snapshot();
            let difference = recorded(&mut recorder, &between).since(&earlier).unwrap();
            let alone = recorded(&mut Recorder::new(), &between);
            prop_assert_eq!(difference.count(), alone.count());
            prop_assert_eq!(difference.failed(), alone.failed());
            prop_assert_eq!(difference.bytes(), alone.bytes());
            prop_assert_eq!(difference.mean(), alone.mean());
            let buckets = |one: &Distribution| -> Vec<(u64, u64)> {
                let recorded = one.0.histogram.iter_recorded();
                recorded.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect()
            };
            prop_assert_eq!(buckets(&difference), buckets(&alone));
        }
    }

    #[test]
    fn nothing_has_no_times() {
        let nothing = Distribution::default();
        assert_eq!(nothing.count(), 0);
        assert_eq!(nothing.mean(), None);
        assert_eq!(nothing.quantile(0.5), None);
        assert_eq!(nothing.max(), None);
    }

    #[test]
    fn a_total_is_no_part_of_something_smaller() {
        let large = recorded(&mut Recorder::new(), &[5, 6]);
        let small = recorded(&mut Recorder::new(), &[5]);
        assert!(small.since(&large).is_none());
    }

    #[test]
    fn only_the_wanted_series_count() {
        let mut recorder = Recorder::new();
        let _ = recorded(&mut recorder, &[5]);
        let id = recorder.scenario_id("x");
        recorder.record(id, Duration::from_secs(1), true, 0);
        assert_eq!(
            recorder
                .distribution(Kind::Request, |name| name == "nope")
                .count(),
            0
        );
        let runs = recorder.distribution(Kind::Scenario, |name| name == "x");
        assert_eq!(
            (runs.count(), runs.max()),
            (1, Some(Duration::from_secs(1)))
        );
    }

    #[test]
    fn a_row_comes_back_from_its_snapshot() {
        let mut recorder = Recorder::new();
        let _ = recorded(&mut recorder, &[5, 6, 7_000]);
        let rows = recorder.rows_with_snapshots();
        let mut other = Recorder::new();
        for (_, blob) in &rows {
            other.merge(blob).unwrap();
        }
        assert_eq!(other.rows(), recorder.rows());
        assert_eq!(rows[0].0, recorder.rows()[0]);
    }
}
