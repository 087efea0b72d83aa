//! Second rule: memory that hurts now, or hurt later in the run: it is what gives out first even when the level judged
//! was still well.
//!
//! Owns the thresholds for the limit, swapping, kills and pressure. Growth is `growth`'s. Called by `judge`.

use super::finding::{Confidence, Evidence, Finding, Resource};
use super::look::{Level, Look, percent, size};
use crate::monitor::{Event, Metric};

/// Of the limit: worth naming, and hardly anything else.
const NEAR_RATIO: f64 = 0.9;
const FULL_RATIO: f64 = 0.97;

/// Of the limit, when last seen, for a target that has exited since: it grows between two looks.
const EXITED_RATIO: f64 = 0.8;

/// Swapping that is not a leftover from before, in bytes per second.
const SWAPPING_BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;

/// Share of the time in which some task waited for memory.
const PRESSURE_RATIO: f64 = 0.1;
const HEAVY_PRESSURE_RATIO: f64 = 0.3;

pub(super) fn rule(look: &Look, _others: &[Level]) -> Option<Finding> {
    let mut evidence = Vec::new();
    let mut confidence = Confidence::Medium;
    let kills: u64 = look
        .series
        .events()
        .iter()
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
    for (metric, limit, what) in [
        (Metric::MemoryBytes, Metric::MemoryLimitBytes, ""),
        (
            Metric::AddressSpaceBytes,
            Metric::AddressSpaceLimitBytes,
            " of address space",
        ),
    ] {
        let Some(full) = fullness(look, metric, limit) else {
            continue;
        };
        if full.share >= FULL_RATIO {
            confidence = Confidence::High;
        }
        let text = format!(
            "{} of {}{what} in use ({}){}",
            size(full.used_bytes),
            size(full.limit_bytes),
            percent(full.share),
            full.when
        );
        evidence.push(Evidence::of(metric, full.used_bytes, text));
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

/// How full it was.
struct Fullness {
    used_bytes: f64,
    limit_bytes: f64,
    share: f64,
    when: &'static str,
}

/// Near its limit at the level judged, or full at another time, or well filled before the target was gone.
fn fullness(look: &Look, metric: Metric, limit: Metric) -> Option<Fullness> {
    let of = |used_bytes: f64, limit_bytes: f64, when| Fullness {
        used_bytes,
        limit_bytes,
        share: used_bytes / limit_bytes,
        when,
    };
    let now = look
        .window(metric)
        .zip(look.mean(limit))
        .map(|(used, limit)| of(used.max, limit, ""))
        .filter(|full| full.share >= NEAR_RATIO);
    if now.is_some() {
        return now;
    }
    let (used, limit) = (look.ever(metric)?, look.ever(limit)?);
    let exited = look
        .series
        .events()
        .iter()
        .any(|at| matches!(at.event, Event::Exited | Event::Restarted));
    let (when, least) = if exited {
        (" before it was gone", EXITED_RATIO)
    } else {
        (" at another time of the run", FULL_RATIO)
    };
    Some(of(used.max, limit.max, when)).filter(|full| full.share >= least)
}
