//! What one look at one target found.
//!
//! Owns the row of values and the events that came with it. A value that could not be taken is a gap (`None`), never
//! zero: zero is a measurement. Filled by the samplers, read by the series, the reports and the verdict.

use serde::{Deserialize, Serialize};

use super::metric::Metric;

/// Something that happened to a target between two samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Its counters began anew: another process, container or control group stands where the old one stood.
    Restarted,
    /// It is gone; what follows are gaps, unless a restart is noticed.
    Exited,
    /// The kernel killed this many of its processes for lack of memory.
    OutOfMemory {
        /// Kills since the previous sample.
        kills: u64,
    },
    /// It cannot be read any more; said once, gaps follow.
    Failed {
        /// The error's text.
        message: String,
    },
    /// It can be read again.
    Recovered,
}

/// One row of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    values: [Option<f64>; Metric::COUNT],
    /// Busy share of each core in the order of their numbers; empty where that is not known.
    pub core_busy_ratios: Vec<f64>,
    /// What happened since the previous sample.
    pub events: Vec<Event>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            values: [None; Metric::COUNT],
            core_busy_ratios: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl Sample {
    /// The value, or `None` where it could not be taken.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values.get(metric as usize).copied().flatten()
    }

    /// Sets a value; what is no finite number becomes a gap.
    pub fn set(&mut self, metric: Metric, value: impl Into<Option<f64>>) {
        if let Some(slot) = self.values.get_mut(metric as usize) {
            *slot = value.into().filter(|value| value.is_finite());
        }
    }

    /// The same for a count or a size.
    pub(super) fn set_count(&mut self, metric: Metric, value: impl Into<Option<u64>>) {
        self.set(metric, value.into().map(|value| value as f64));
    }

    /// The value as a share of its limit, where both are known and the limit is not zero.
    pub fn utilization(&self, metric: Metric) -> Option<f64> {
        let limit = self.get(metric.limit()?)?;
        (limit > 0.0).then(|| self.get(metric).map(|value| value / limit))?
    }

    /// Whether nothing was measured.
    pub fn is_gap(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// The values that are there, in the order of [`Metric::ALL`].
    pub fn values(&self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        let present = Metric::ALL.iter().zip(&self.values);
        present.filter_map(|(metric, value)| Some((*metric, (*value)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_gap() {
        let mut sample = Sample::default();
        assert!(sample.is_gap());
        sample.set(Metric::CpuCoresUsed, 0.0);
        sample.set(Metric::CpuLimitCores, f64::NAN);
        assert_eq!(sample.get(Metric::CpuCoresUsed), Some(0.0));
        assert_eq!(sample.get(Metric::CpuLimitCores), None);
        assert_eq!(sample.values().count(), 1);
    }

    #[test]
    fn utilization_needs_both_sides() {
        let mut sample = Sample::default();
        sample.set(Metric::CpuCoresUsed, 1.5);
        assert_eq!(sample.utilization(Metric::CpuCoresUsed), None);
        sample.set(Metric::CpuLimitCores, 2.0);
        assert_eq!(sample.utilization(Metric::CpuCoresUsed), Some(0.75));
        assert_eq!(sample.utilization(Metric::CpuLimitCores), None);
    }
}
