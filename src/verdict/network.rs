//! Fifth rule: a link that is full, by bytes or by packets.
//!
//! Owns the thresholds, and the sign that needs no monitor: answers whose bytes take ever longer to come while no more of
//! them come (a narrow link, a proxy or a bucket that limits the rate). Many machines limit packets per second long before bytes; that shows as drops at a packet rate
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

/// The share of a run that passes between head and last byte of its answers.
const TRANSFER_RATIO: f64 = 0.5;
/// How much of the growth of the load has to show in that time: a stream of fixed length does not grow.
const TRANSFER_GROWS_RATIO: f64 = 0.5;

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

/// A limit of bandwidth that only shows in the answers. Asked when no resource is busy, or slow answers may be its doing.
pub(super) fn slow_answers(looks: &[Look], level: &Level, others: &[Level]) -> Option<Finding> {
    let source = looks.first()?.source();
    let stretched = |other: &Level| {
        let (low, high) = level.lower_first(other);
        let (before, after) = (low.transfer_seconds?, high.transfer_seconds?);
        let growth = high.active / low.active;
        let share = after * high.per_second / high.active;
        let longer = after / before.max(1e-6);
        (low.active > 0.0
            && growth >= LOWER_LEVEL
            && high.per_second <= low.per_second * SAME_RATIO
            && share >= TRANSFER_RATIO
            && longer - 1.0 >= TRANSFER_GROWS_RATIO * (growth - 1.0))
            .then(|| Evidence {
                metric: None,
                value: share,
                text: format!(
                    "{} of a run passed between head and last byte of its answers, and with {:.0} instead of {:.0} in \
                     flight they took {longer:.1} times as long while no more came than {} a second: bandwidth",
                    percent(share),
                    high.active,
                    low.active,
                    size(high.bytes_per_second.max(low.bytes_per_second))
                ),
            })
    };
    let evidence = others.iter().filter_map(stretched);
    let most = evidence.max_by(|a, b| a.value.total_cmp(&b.value))?;
    Finding::from(Resource::Network, source, Confidence::Medium, vec![most])
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
