//! Documents of what was monitored without a run of ours, such as a file that Glances exported.
//!
//! Owns which part of such a recording is judged, and its plain text. No load is known, so only what a resource shows by
//! itself can be found: "nothing near its limit" does not say that more would have been possible.

use std::fmt::Write as _;
use std::time::Duration;

use super::document::{Meta, Results};
use crate::monitor::{Metric, Series};
use crate::verdict::{Known, Level, judge};

/// How long a stretch is judged, in seconds: as with a run, the load of a minute.
const JUDGED_SECONDS: f64 = 60.0;

/// The resources whose busiest minute is looked for.
const RESOURCES: [Metric; 4] = [
    Metric::CpuCoresUsed,
    Metric::MemoryBytes,
    Metric::DiskBusyRatio,
    Metric::NetworkBusyRatio,
];

impl Results {
    /// A finished document of this recording alone. The busiest minute of its CPU is judged; without CPU, of what was
    /// measured.
    pub fn of_recording(series: Series, meta: Meta) -> Self {
        let length = series
            .points(Metric::CpuCoresUsed)
            .last()
            .map_or(0.0, |(time, _)| time);
        let mut results = Self::new(meta);
        results.meta.elapsed_seconds = length;
        let metric = RESOURCES
            .into_iter()
            .find(|metric| series.points(*metric).any(|(_, value)| value.is_some()));
        let level = metric.map(|metric| busiest(&series, metric, length));
        results.verdict = Some(judge(&Known {
            targets: &[&series],
            level: level.as_ref(),
            ..Known::default()
        }));
        results.monitor = vec![series];
        results.complete = true;
        results
    }

    /// Whether this is of something that was monitored without a run.
    pub fn is_recording(&self) -> bool {
        self.series.0.is_empty()
            && self.counts.started == 0
            && !self.monitor.is_empty()
            && self.complete
    }

    /// What was used, as a plain text: verdict, then every metric with mean, peak and limit.
    pub(super) fn recording_summary(&self) -> String {
        let mut out = String::new();
        for line in self.headlines() {
            let _ = writeln!(out, "{line}");
        }
        if let Some(level) = self
            .verdict
            .as_ref()
            .and_then(|verdict| verdict.level.as_ref())
        {
            let _ = writeln!(
                out,
                "Judged from {:.0} s to {:.0} s of {:.0} s, where it was busiest.",
                level.from_seconds, level.to_seconds, self.meta.elapsed_seconds
            );
        }
        for series in &self.monitor {
            let _ = writeln!(
                out,
                "\n{:<40} {:>12} {:>12} {:>12}",
                series.source, "mean", "at most", "limit"
            );
            for metric in series.metrics() {
                let whole = |metric| series.window(metric, Duration::ZERO, Duration::MAX);
                let is_limit = Metric::ALL
                    .iter()
                    .any(|other| other.limit() == Some(metric));
                let Some(window) = whole(metric).filter(|_| !is_limit) else {
                    continue;
                };
                let limit = metric
                    .limit()
                    .and_then(whole)
                    .map_or_else(String::new, |limit| amount(metric, limit.max));
                let _ = writeln!(
                    out,
                    "  {:<38} {:>12} {:>12} {limit:>12}",
                    metric.name().replace('_', " "),
                    amount(metric, window.mean),
                    amount(metric, window.max)
                );
            }
        }
        out
    }
}

/// The stretch in which a metric was highest in the mean.
fn busiest(series: &Series, metric: Metric, length: f64) -> Level {
    let at = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let mean = |from: f64| {
        let window = series.window(metric, at(from), at(from + JUDGED_SECONDS));
        window.map_or(f64::NEG_INFINITY, |window| window.mean)
    };
    let last = (length - JUDGED_SECONDS).max(0.0);
    let starts = series
        .points(metric)
        .map(|(time, _)| time)
        .filter(|time| *time <= last);
    let from = starts
        .reduce(|best, start| {
            if mean(start) > mean(best) {
                start
            } else {
                best
            }
        })
        .unwrap_or(0.0);
    Level {
        from_seconds: from,
        to_seconds: (from + JUDGED_SECONDS).min(length),
        ..Level::default()
    }
}

/// A value in the unit that its metric's name tells.
fn amount(metric: Metric, value: f64) -> String {
    let name = metric.name();
    if name.ends_with("_ratio") {
        format!("{:.1} %", value * 100.0)
    } else if name.ends_with("bytes") {
        format!("{:.1} MiB", value / 1024.0 / 1024.0)
    } else if name.ends_with("bytes_per_second") {
        format!("{:.1} KiB/s", value / 1024.0)
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Sample;
    use crate::verdict::Resource;

    /// Five minutes of two cores, all of it used in the fourth.
    fn recording(busy: f64) -> Series {
        let mut series = Series::new("glances:x.csv#tested");
        for second in 0..300_u64 {
            let mut sample = Sample::default();
            sample.set(
                Metric::CpuCoresUsed,
                if (180..240).contains(&second) {
                    busy
                } else {
                    0.1
                },
            );
            sample.set(Metric::CpuLimitCores, 2.0);
            sample.set(Metric::MemoryBytes, 1e8);
            sample.set(Metric::MemoryLimitBytes, 1e9);
            series.push(Duration::from_secs(second), &sample);
        }
        series
    }

    #[test]
    fn the_busiest_minute_is_judged() {
        let results = Results::of_recording(recording(1.97), Meta::default());
        let verdict = results.verdict.as_ref().unwrap();
        assert_eq!(verdict.resource, Resource::Cpu, "{}", verdict.sentence);
        let level = verdict.level.as_ref().unwrap();
        assert!((178.0..=182.0).contains(&level.from_seconds), "{level:?}");
        let text = results.to_summary(100).unwrap();
        assert!(
            text.starts_with("Limited by CPU of glances:x.csv#tested"),
            "{text}"
        );
        assert!(
            text.contains("cpu cores used") && text.contains("2.00"),
            "{text}"
        );
        assert!(!text.contains("Runs "), "{text}");
    }

    #[test]
    fn nothing_busy_is_not_enough_evidence() {
        let results = Results::of_recording(recording(0.3), Meta::default());
        let verdict = results.verdict.unwrap();
        assert_eq!(verdict.resource, Resource::Unknown);
    }

    #[test]
    fn an_empty_recording_says_so() {
        let results = Results::of_recording(Series::new("glances:x.csv"), Meta::default());
        assert!(
            results
                .to_summary(100)
                .unwrap()
                .starts_with("Not enough evidence")
        );
        assert!(results.to_markdown().contains("Not enough evidence"));
    }
}
