//! Fifth rule: a link that is full, by bytes or by packets.
//!
//! Owns the thresholds. Many machines limit packets per second long before bytes; that shows as drops at a packet rate
//! that no longer grows with the load. Called by `judge`.

use super::finding::{Confidence, Evidence, Finding, Resource};
use super::look::{Level, Look, percent, size};
use crate::monitor::Metric;

const BUSY_RATIO: f64 = 0.85;
const FULL_RATIO: f64 = 0.95;
const DROPS_PER_SECOND: f64 = 1.0;
/// The packet rate of a higher load is the same up to this, and a load is lower by at least that.
const SAME_RATIO: f64 = 1.05;
const LOWER_LEVEL: f64 = 1.2;

pub(super) fn rule(look: &Look, others: &[Level]) -> Option<Finding> {
    let mut evidence = Vec::new();
    let mut confidence = Confidence::Medium;
    if let Some(busy) = look
        .mean(Metric::NetworkBusyRatio)
        .filter(|ratio| *ratio >= BUSY_RATIO)
    {
        if busy >= FULL_RATIO {
            confidence = Confidence::High;
        }
        let of = look
            .mean(Metric::NetworkLimitBytesPerSecond)
            .map_or_else(String::new, |limit| format!(" of {} a second", size(limit)));
        let text = format!("a link was {} full{of}", percent(busy));
        evidence.push(Evidence::of(Metric::NetworkBusyRatio, busy, text));
    }
    if let Some(drops) = look
        .mean(Metric::NetworkDropsPerSecond)
        .filter(|drops| *drops >= DROPS_PER_SECOND)
        && let Some(packets) = packets(look)
    {
        let flat = others
            .iter()
            .filter(|other| other.active > 0.0 && look.level.active / other.active >= LOWER_LEVEL)
            .filter_map(|other| packets_during(look, other))
            .any(|before| packets <= before * SAME_RATIO);
        if flat {
            let text = format!(
                "{drops:.0} packets a second dropped at {packets:.0} packets a second, which more load no longer raises"
            );
            evidence.push(Evidence::of(Metric::NetworkDropsPerSecond, drops, text));
        }
    }
    Finding::from(Resource::Network, look.source(), confidence, evidence)
}

fn packets_during(look: &Look, level: &Level) -> Option<f64> {
    packets(&look.during(level))
}

/// Packets per second in the busier direction.
fn packets(look: &Look) -> Option<f64> {
    [
        Metric::NetworkReceivePacketsPerSecond,
        Metric::NetworkTransmitPacketsPerSecond,
    ]
    .into_iter()
    .filter_map(|metric| look.mean(metric))
    .reduce(f64::max)
}
