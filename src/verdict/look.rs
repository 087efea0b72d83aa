//! Reading one target's metrics over one level of load.
//!
//! Owns the window and the means that the rules compare. The first fifth of a level, five seconds at most, is left out:
//! caches fill and rates settle there. Called by the rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::monitor::{Metric, Series, Window};

/// What is left out at the start of a level, as a share of it and in seconds.
const SETTLING_RATIO: f64 = 0.2;
const SETTLING_SECONDS: f64 = 5.0;

/// Fewer samples than this say nothing.
const ENOUGH_SAMPLES: usize = 3;

/// A load that was held for some time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Since when, in seconds since the start of the run.
    pub from_seconds: f64,
    /// Until when.
    pub to_seconds: f64,
    /// Workers running, or runs in flight, in the mean.
    pub active: f64,
    /// Requests answered per second; runs, when there are no requests.
    pub per_second: f64,
    /// The share of the load asked for that the generator really started; `None` where nothing was asked.
    pub started_ratio: Option<f64>,
    /// The share of the runs that failed.
    #[serde(default)]
    pub failed_ratio: f64,
    /// Time between head and last byte of an answer, in the mean; `None` without answers.
    #[serde(default)]
    pub transfer_seconds: Option<f64>,
    /// Bytes of answers per second.
    #[serde(default)]
    pub bytes_per_second: f64,
}

impl Level {
    /// The two in the order of their load.
    pub(super) fn lower_first<'a>(&'a self, other: &'a Self) -> (&'a Self, &'a Self) {
        if other.active < self.active {
            (other, self)
        } else {
            (self, other)
        }
    }
}

impl Level {
    /// The part of it that counts, from and to: what settles at its start is left out.
    pub fn settled(&self) -> (Duration, Duration) {
        let span = self.to_seconds - self.from_seconds;
        let settling = (span * SETTLING_RATIO).clamp(0.0, SETTLING_SECONDS);
        let at = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        (at(self.from_seconds + settling), at(self.to_seconds))
    }
}

/// One target during one level.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) series: &'a Series,
    pub(super) level: &'a Level,
}

impl<'a> Look<'a> {
    pub(super) fn source(&self) -> &'a str {
        &self.series.source
    }

    /// The same target during another level.
    pub(super) fn during(&self, level: &'a Level) -> Self {
        Self {
            series: self.series,
            level,
        }
    }

    pub(super) fn from(&self) -> Duration {
        self.level.settled().0
    }

    pub(super) fn to(&self) -> Duration {
        self.level.settled().1
    }

    /// A metric over the whole run; `None` when it was never there.
    pub(super) fn ever(&self, metric: Metric) -> Option<Window> {
        self.series.window(metric, Duration::ZERO, Duration::MAX)
    }

    /// A metric during the level; `None` with too few samples.
    pub(super) fn window(&self, metric: Metric) -> Option<Window> {
        self.series
            .window(metric, self.from(), self.to())
            .filter(|window| window.samples >= ENOUGH_SAMPLES)
    }

    pub(super) fn mean(&self, metric: Metric) -> Option<f64> {
        self.window(metric).map(|window| window.mean)
    }

    /// Its mean as a share of the mean of its limit.
    pub(super) fn share(&self, metric: Metric) -> Option<f64> {
        let limit = self.mean(metric.limit()?).filter(|limit| *limit > 0.0)?;
        Some(self.mean(metric)? / limit)
    }

    /// Its largest value as a share of the mean of its limit.
    pub(super) fn peak_share(&self, metric: Metric) -> Option<f64> {
        let limit = self.mean(metric.limit()?).filter(|limit| *limit > 0.0)?;
        Some(self.window(metric)?.max / limit)
    }
}

/// A share as percent, such as `97 %`.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

/// A size in the unit that fits.
pub(super) fn size(bytes: f64) -> String {
    const UNITS: [(f64, &str); 3] = [
        (1024.0 * 1024.0 * 1024.0, "GiB"),
        (1024.0 * 1024.0, "MiB"),
        (1024.0, "KiB"),
    ];
    let unit = UNITS.iter().find(|(unit, _)| bytes.abs() >= *unit);
    match unit {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

/// A time ahead, such as `40 s`, `12 min` or `3.5 h`.
pub(super) fn time(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
