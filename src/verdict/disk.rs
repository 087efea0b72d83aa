//! Fourth rule: a disk that is busy all the time, with work waiting.
//!
//! Owns the thresholds. A busy share alone is weak: fast disks serve several requests at a time, and are busy with one.
//! Called by `judge`.

use super::finding::{Confidence, Evidence, Finding, Resource};
use super::look::{Level, Look, percent, size};
use crate::monitor::Metric;

const BUSY_RATIO: f64 = 0.9;
/// Requests that wait or are served, at a disk that is behind.
const QUEUE: f64 = 2.0;
const PRESSURE_RATIO: f64 = 0.25;
/// Threads that wait for a disk, in the mean. A single writer that waits for every write has a little less than one.
const BLOCKED_THREADS: f64 = 0.6;

pub(super) fn rule(look: &Look, _others: &[Level]) -> Option<Finding> {
    let busy = look
        .mean(Metric::DiskBusyRatio)
        .filter(|ratio| *ratio >= BUSY_RATIO);
    let queue = look.mean(Metric::DiskQueue).filter(|queue| *queue >= QUEUE);
    let pressure = look
        .mean(Metric::IoPressureRatio)
        .filter(|ratio| *ratio >= PRESSURE_RATIO);
    let blocked = look
        .mean(Metric::BlockedThreads)
        .filter(|threads| *threads >= BLOCKED_THREADS);
    if busy.is_none() && pressure.is_none() && blocked.is_none() {
        return None;
    }
    let mut evidence = Vec::new();
    if let Some(busy) = busy {
        let text = format!("a disk was busy {} of the time", percent(busy));
        evidence.push(Evidence::of(Metric::DiskBusyRatio, busy, text));
    }
    if let Some(queue) = queue {
        let text = format!("{queue:.1} requests queued at it");
        evidence.push(Evidence::of(Metric::DiskQueue, queue, text));
    }
    if let Some(pressure) = pressure {
        let text = format!("tasks waited for a disk {} of the time", percent(pressure));
        evidence.push(Evidence::of(Metric::IoPressureRatio, pressure, text));
    }
    if let Some(blocked) = blocked {
        let text = format!("{blocked:.1} of its threads waited for a disk in the mean");
        evidence.push(Evidence::of(Metric::BlockedThreads, blocked, text));
    }
    let bytes = [
        Metric::DiskReadBytesPerSecond,
        Metric::DiskWriteBytesPerSecond,
    ]
    .into_iter()
    .filter_map(|metric| look.mean(metric))
    .sum::<f64>();
    if bytes > 0.0 {
        let text = format!("{} read and written a second", size(bytes));
        evidence.push(Evidence::of(Metric::DiskWriteBytesPerSecond, bytes, text));
    }
    let confidence = match (busy, queue, pressure) {
        (Some(_), Some(_), Some(_)) => Confidence::High,
        (Some(_), None, None) if blocked.is_none() => Confidence::Low,
        _ => Confidence::Medium,
    };
    Finding::from(Resource::Disk, look.source(), confidence, evidence)
}
