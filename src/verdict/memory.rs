//! Second rule: memory that hurts now.
//!
//! Owns the thresholds for the limit, swapping, kills and pressure. Growth is `growth`'s. Called by `judge`.

use super::finding::{Confidence, Evidence, Finding, Resource};
use super::look::{Level, Look, percent, size};
use crate::monitor::{Event, Metric};

/// Of the limit: worth naming, and hardly anything else.
const NEAR_RATIO: f64 = 0.9;
const FULL_RATIO: f64 = 0.97;

/// Swapping that is not a leftover from before, in bytes per second.
const SWAPPING_BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;

/// Share of the time in which some task waited for memory.
const PRESSURE_RATIO: f64 = 0.1;
const HEAVY_PRESSURE_RATIO: f64 = 0.3;

pub(super) fn rule(look: &Look, _others: &[Level]) -> Option<Finding> {
    let mut evidence = Vec::new();
    let mut confidence = Confidence::Medium;
    let to = look.level.to_seconds;
    let kills: u64 = look
        .series
        .events()
        .iter()
        .filter(|at| at.time_seconds <= to + 1.0)
        .map(|at| match at.event {
            Event::OutOfMemory { kills } => kills,
            _ => 0,
        })
        .sum();
    if kills > 0 {
        confidence = Confidence::High;
        let plural = if kills == 1 { "" } else { "es" };
        let text = format!("{kills} process{plural} killed for lack of memory");
        evidence.push(Evidence::of(Metric::OutOfMemoryKills, kills as f64, text));
    }
    if let Some(share) = look.peak_share(Metric::MemoryBytes)
        && share >= NEAR_RATIO
        && let (Some(used), Some(limit)) = (
            look.window(Metric::MemoryBytes),
            look.mean(Metric::MemoryLimitBytes),
        )
    {
        if share >= FULL_RATIO {
            confidence = Confidence::High;
        }
        let text = format!(
            "{} of {} in use ({})",
            size(used.max),
            size(limit),
            percent(share)
        );
        evidence.push(Evidence::of(Metric::MemoryBytes, used.max, text));
    }
    let swapped = [Metric::SwapInBytesPerSecond, Metric::SwapOutBytesPerSecond]
        .into_iter()
        .filter_map(|metric| look.mean(metric))
        .sum::<f64>();
    let pressure = look.mean(Metric::MemoryPressureRatio).unwrap_or(0.0);
    if swapped >= SWAPPING_BYTES_PER_SECOND {
        if pressure >= PRESSURE_RATIO {
            confidence = Confidence::High;
        }
        let text = format!("swapping {} a second", size(swapped));
        evidence.push(Evidence::of(Metric::SwapInBytesPerSecond, swapped, text));
    }
    if pressure >= PRESSURE_RATIO {
        if pressure >= HEAVY_PRESSURE_RATIO {
            confidence = Confidence::High;
        }
        let text = format!("tasks waited for memory {} of the time", percent(pressure));
        evidence.push(Evidence::of(Metric::MemoryPressureRatio, pressure, text));
    }
    Finding::from(Resource::Memory, look.source(), confidence, evidence)
}
