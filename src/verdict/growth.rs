//! Memory that grows with the requests, and when it will be full.
//!
//! Owns the fit: a least-squares line of memory over the requests answered, from the first level that is known to the end
//! of the last, told only where the line explains most of what memory did. Called by `judge`.

use super::Known;
use super::finding::{Confidence, Evidence, Finding, Growth, Resource};
use super::look::{size, time};
use crate::monitor::{Metric, Series};

/// Fewer samples are no line.
const ENOUGH_SAMPLES: usize = 8;
/// The share of the variance that the line has to explain (R²).
const EXPLAINED_RATIO: f64 = 0.6;
/// Less growth than this over the whole time is noise of an allocator, in bytes.
const LEAST_BYTES: f64 = 1024.0 * 1024.0;
/// A limit further away than this is no verdict, in seconds.
const SOON_SECONDS: f64 = 3600.0;

pub(super) fn of_all(known: &Known) -> Vec<Growth> {
    let of = |series: &&Series| of_one(series, known);
    known.targets.iter().filter_map(of).collect()
}

fn of_one(series: &Series, known: &Known) -> Option<Growth> {
    let level = known.level?;
    let from = known
        .others
        .iter()
        .map(|other| other.from_seconds)
        .fold(level.from_seconds, f64::min);
    let to = known
        .others
        .iter()
        .map(|other| other.to_seconds)
        .fold(level.to_seconds, f64::max);
    let points: Vec<(f64, f64)> = series
        .points(Metric::MemoryBytes)
        .filter(|(at, _)| (from..=to).contains(at))
        .filter_map(|(at, bytes)| Some((requests_at(known.requests, at)?, bytes?)))
        .collect();
    let line = Line::through(&points)?;
    let requests = points.last()?.0 - points.first()?.0;
    let grown = line.slope * requests;
    if line.explained < EXPLAINED_RATIO || grown < LEAST_BYTES {
        return None;
    }
    let bytes_per_second = line.slope * level.per_second;
    let last = points.last()?.1;
    let last_of = |metric: Metric| {
        series
            .points(metric)
            .filter_map(|(at, value)| value.filter(|_| at <= to))
            .last()
    };
    // Whichever limit is closer: that of memory, or that of a process's address space, which grows with it.
    let room = last_of(Metric::MemoryLimitBytes).map(|limit| limit - last);
    let address_space = last_of(Metric::AddressSpaceLimitBytes)
        .zip(last_of(Metric::AddressSpaceBytes))
        .map(|(limit, used)| limit - used);
    let limit_reached_in_seconds = room
        .into_iter()
        .chain(address_space)
        .reduce(f64::min)
        .filter(|_| bytes_per_second > 0.0)
        .map(|room| (room / bytes_per_second).max(0.0));
    Some(Growth {
        source: series.source.clone(),
        bytes_per_thousand_requests: line.slope * 1000.0,
        bytes_per_second,
        limit_reached_in_seconds,
    })
}

/// Requests answered by then; between two times in proportion.
fn requests_at(requests: &[(f64, u64)], at: f64) -> Option<f64> {
    let after = requests.partition_point(|(time, _)| *time < at);
    let (end, count) = *requests.get(after)?;
    let (start, before) = match after.checked_sub(1) {
        Some(previous) => *requests.get(previous)?,
        None => (0.0, 0),
    };
    if end <= start {
        return Some(count as f64);
    }
    let share = (at - start) / (end - start);
    Some(before as f64 + share * count.saturating_sub(before) as f64)
}

struct Line {
    slope: f64,
    explained: f64,
}

impl Line {
    /// Least squares; `None` for too few points, or points that all have the same place.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < ENOUGH_SAMPLES {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| {
            points.iter().map(|(a, b)| of(a - x, b - y)).sum::<f64>()
        };
        let (xx, yy, xy) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
        (xx > 0.0 && yy > 0.0).then(|| Self {
            slope: xy / xx,
            explained: xy * xy / (xx * yy),
        })
    }
}

impl Growth {
    /// The growth as a finding, when the limit is near.
    pub(super) fn finding(&self) -> Option<Finding> {
        let seconds = self
            .limit_reached_in_seconds
            .filter(|seconds| *seconds <= SOON_SECONDS)?;
        let text = format!(
            "it grows by {} per 1,000 requests and reaches the limit in {} at this rate",
            size(self.bytes_per_thousand_requests),
            time(seconds)
        );
        Some(Finding {
            resource: Resource::Memory,
            source: Some(self.source.clone()),
            confidence: Confidence::Medium,
            evidence: vec![Evidence {
                metric: None,
                value: self.bytes_per_second,
                text,
            }],
        })
    }
}
