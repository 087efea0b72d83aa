//! What was measured over a run, per target and metric.
//!
//! Owns the rows in memory and in JSON, and the questions asked of them: minimum, mean and maximum between two times.
//! Eight bytes per value, and a column only for metrics that were ever there: some 200 bytes per target and second, so
//! a day is 17 MB. Filled by the driver, read by the verdict and the reports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metric::Metric;
use super::sample::{Event, Sample};

/// Values over time; a gap is `null` in JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Option<f64>>", into = "Vec<Option<f64>>")]
struct Column(Vec<f64>);

impl From<Vec<Option<f64>>> for Column {
    fn from(values: Vec<Option<f64>>) -> Self {
        Self(
            values
                .into_iter()
                .map(|value| value.unwrap_or(f64::NAN))
                .collect(),
        )
    }
}

impl From<Column> for Vec<Option<f64>> {
    fn from(column: Column) -> Self {
        column
            .0
            .into_iter()
            .map(|value| (!value.is_nan()).then_some(value))
            .collect()
    }
}

impl PartialEq for Column {
    /// Gaps are equal, which NaNs are not.
    fn eq(&self, other: &Self) -> bool {
        let gaps = |column: &Self| -> Vec<Option<f64>> { column.clone().into() };
        gaps(self) == gaps(other)
    }
}

impl Column {
    /// Adds a value to rows of which there are `before` already; those without one are gaps.
    fn push(&mut self, before: usize, value: f64) {
        self.0.resize(before, f64::NAN);
        self.0.push(value);
    }

    fn get(&self, row: usize) -> Option<f64> {
        self.0.get(row).copied().filter(|value| !value.is_nan())
    }
}

/// The samples of one target. A column may be shorter than the times: the rest are gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The target's label, or `generator`.
    pub source: String,
    times_seconds: Vec<f64>,
    columns: BTreeMap<Metric, Column>,
    /// Busy share of each core, for the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    core_busy_ratios: Vec<Column>,
    events: Vec<TimedEvent>,
}

/// An event and when it was noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedEvent {
    /// Time of the sample, on the clock that the driver was given.
    pub time_seconds: f64,
    /// What happened.
    pub event: Event,
}

/// A metric between two times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Smallest value.
    pub min: f64,
    /// Mean of the values, each with the same weight.
    pub mean: f64,
    /// Largest value.
    pub max: f64,
    /// How many values there were; gaps are none.
    pub samples: usize,
}

impl Series {
    /// An empty one.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            times_seconds: Vec::new(),
            columns: BTreeMap::new(),
            core_busy_ratios: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Adds a sample. Times are expected not to go back.
    pub fn push(&mut self, now: Duration, sample: &Sample) {
        let row = self.times_seconds.len();
        let time_seconds = now.as_secs_f64();
        self.times_seconds.push(time_seconds);
        for (metric, value) in sample.values() {
            self.columns.entry(metric).or_default().push(row, value);
        }
        for (core, ratio) in sample.core_busy_ratios.iter().enumerate() {
            if self.core_busy_ratios.len() <= core {
                self.core_busy_ratios.push(Column::default());
            }
            if let Some(column) = self.core_busy_ratios.get_mut(core) {
                column.push(row, *ratio);
            }
        }
        let events = sample.events.iter().cloned();
        self.events.extend(events.map(|event| TimedEvent {
            time_seconds,
            event,
        }));
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.times_seconds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.times_seconds.is_empty()
    }

    /// What happened, in order.
    pub fn events(&self) -> &[TimedEvent] {
        &self.events
    }

    /// The metrics that were there at least once.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> + '_ {
        self.columns.keys().copied()
    }

    /// Every sample's time in seconds and value, gaps included.
    pub fn points(&self, metric: Metric) -> impl Iterator<Item = (f64, Option<f64>)> + '_ {
        let column = self.columns.get(&metric);
        let times = self.times_seconds.iter().enumerate();
        times.map(move |(row, time)| (*time, column.and_then(|column| column.get(row))))
    }

    /// How many cores have a busy share.
    pub fn cores(&self) -> usize {
        self.core_busy_ratios.len()
    }

    /// The busy share of a core, by its number, at every sample; gaps included.
    pub fn core_points(&self, core: usize) -> impl Iterator<Item = Option<f64>> + '_ {
        let column = self.core_busy_ratios.get(core);
        (0..self.len()).map(move |row| column.and_then(|column| column.get(row)))
    }

    /// The time of every sample, in seconds.
    pub fn times_seconds(&self) -> &[f64] {
        &self.times_seconds
    }

    /// The metric from `from` to `to`, both included; `None` when there is no value in between.
    pub fn window(&self, metric: Metric, from: Duration, to: Duration) -> Option<Window> {
        self.summarise(self.columns.get(&metric)?, from, to)
    }

    /// The same for the busy share of each core, by its number.
    pub fn core_windows(&self, from: Duration, to: Duration) -> Vec<Option<Window>> {
        self.core_busy_ratios
            .iter()
            .map(|column| self.summarise(column, from, to))
            .collect()
    }

    fn summarise(&self, column: &Column, from: Duration, to: Duration) -> Option<Window> {
        let first = self
            .times_seconds
            .partition_point(|time| *time < from.as_secs_f64());
        let end = self
            .times_seconds
            .partition_point(|time| *time <= to.as_secs_f64());
        let mut window: Option<Window> = None;
        let mut sum = 0.0;
        for value in (first..end).filter_map(|row| column.get(row)) {
            let seen = window.get_or_insert(Window {
                min: value,
                mean: value,
                max: value,
                samples: 0,
            });
            sum += value;
            seen.samples += 1;
            seen.min = seen.min.min(value);
            seen.max = seen.max.max(value);
            seen.mean = sum / seen.samples as f64;
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn series() -> Series {
        let mut series = Series::new("pid:1");
        for (second, value) in [None, Some(1.0), Some(3.0), None, Some(8.0)]
            .into_iter()
            .enumerate()
        {
            let mut sample = Sample::default();
            sample.set(Metric::CpuCoresUsed, value);
            if second == 2 {
                sample.set(Metric::MemoryBytes, 123_456_789_012.0);
                sample.core_busy_ratios = vec![0.25, 1.0];
                sample.events.push(Event::Restarted);
            }
            series.push(at(second as u64), &sample);
        }
        series
    }

    #[test]
    fn a_window_includes_both_ends_and_no_gap() {
        let series = series();
        let window = series.window(Metric::CpuCoresUsed, at(1), at(3)).unwrap();
        let expected = Window {
            min: 1.0,
            mean: 2.0,
            max: 3.0,
            samples: 2,
        };
        assert_eq!(window, expected);
        assert_eq!(series.window(Metric::CpuCoresUsed, at(3), at(3)), None);
        assert_eq!(series.window(Metric::DiskQueue, at(0), at(9)), None);
        assert_eq!(series.window(Metric::CpuCoresUsed, at(3), at(1)), None);
        let cores = series.core_windows(at(0), at(9));
        assert_eq!(cores.len(), 2);
        assert_eq!(cores[1].unwrap().samples, 1);
    }

    #[test]
    fn json_keeps_everything() {
        let series = series();
        let text = serde_json::to_string(&series).unwrap();
        assert!(
            text.contains("\"cpu_cores_used\":[null,1.0,3.0,null,8.0]"),
            "{text}"
        );
        assert!(text.contains("\"event\":\"restarted\""), "{text}");
        assert_eq!(serde_json::from_str::<Series>(&text).unwrap(), series);
    }

    #[test]
    fn points_have_their_gaps() {
        let points: Vec<_> = series().points(Metric::MemoryBytes).collect();
        let expected = [
            (0.0, None),
            (1.0, None),
            (2.0, Some(123_456_789_012.0)),
            (3.0, None),
            (4.0, None),
        ];
        assert_eq!(points, expected);
    }
}
