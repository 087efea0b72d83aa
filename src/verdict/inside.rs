//! Last rule: nothing that was monitored is near its limit.
//!
//! Owns the difference between "more load brings no more" or "with more load runs fail" (then the limit is inside the
//! service, or behind it) and "more load still brings more" (then nothing gave out). With one level only, neither can be told. Called by `judge`.

use super::Known;
use super::finding::{Confidence, Evidence, Finding, Resource};
use super::look::{Level, Look, percent};
use crate::monitor::Metric;

/// A load that is higher by this, and brings less than that more throughput.
const HIGHER_LEVEL: f64 = 1.2;
const SAME_RATIO: f64 = 1.05;
/// Or this share of what it should bring: from ten to fifty in flight hardly more is no more either.
const HARDLY_RATIO: f64 = 0.1;
/// Brings more than this share of what it should.
const GROWS_RATIO: f64 = 0.5;

/// With a higher load so many more of the runs fail.
const FAILS_RATIO: f64 = 0.03;

/// Of descriptors and threads.
const NEARLY_ALL: f64 = 0.95;
const OVERFLOWS_PER_SECOND: f64 = 0.5;

pub(super) fn rule(looks: &[Look], known: &Known) -> Option<Finding> {
    let others = known.others;
    let level = looks.first()?.level;
    // Without CPU nothing is known of the most likely resource.
    let measured = looks
        .iter()
        .any(|look| look.mean(Metric::CpuCoresUsed).is_some());
    let mut evidence: Vec<Evidence> = looks.iter().flat_map(limits).collect();
    let own = !evidence.is_empty();
    // The plainest of them: with the least gain.
    let gain = |other: &Level| {
        let (low, high) = level.lower_first(other);
        high.per_second / low.per_second
    };
    let flat = others
        .iter()
        .filter(|other| brings_no_more(level, other))
        .min_by(|a, b| gain(a).total_cmp(&gain(b)));
    if let Some(other) = flat {
        let (low, high) = level.lower_first(other);
        evidence.push(Evidence {
            metric: None,
            value: high.per_second,
            text: format!(
                "from {:.0} to {:.0} in flight throughput went from {:.0} to {:.0} a second while nothing monitored was \
                 busy: locks, pools, or a service behind it",
                low.active, high.active, low.per_second, high.per_second
            ),
        });
    }
    let broken = breaks(level, others).filter(|_| flat.is_none());
    if let Some(other) = broken {
        let why = known
            .failure
            .map_or_else(String::new, |why| format!(" (mostly {why})"));
        evidence.push(Evidence {
            metric: None,
            value: other.failed_ratio,
            text: format!(
                "with {:.0} instead of {:.0} in flight {} of the runs failed{why} while nothing monitored was busy: a limit \
                 on what it serves at once, or a service behind it",
                other.active,
                level.active,
                percent(other.failed_ratio)
            ),
        });
    }
    if own || (measured && (flat.is_some() || broken.is_some())) {
        let confidence = if own {
            Confidence::High
        } else {
            Confidence::Medium
        };
        return Some(Finding {
            resource: Resource::Inside,
            source: looks.first().map(|look| look.source().to_owned()),
            confidence,
            evidence,
        });
    }
    let lower = others
        .iter()
        .filter(|other| other.active > 0.0 && level.active / other.active >= HIGHER_LEVEL)
        .max_by(|a, b| a.active.total_cmp(&b.active))?;
    let gained = level.per_second / lower.per_second - 1.0;
    let wanted = level.active / lower.active - 1.0;
    if !measured || gained < GROWS_RATIO * wanted {
        return None;
    }
    Some(Finding {
        resource: Resource::Nothing,
        source: None,
        confidence: Confidence::Medium,
        evidence: vec![Evidence {
            metric: None,
            value: gained,
            text: format!(
                "{:.0} instead of {:.0} in flight still brought {} more throughput",
                level.active,
                lower.active,
                percent(gained)
            ),
        }],
    })
}

/// The lowest of the higher loads at which clearly more runs fail.
pub(super) fn breaks<'a>(level: &Level, others: &'a [Level]) -> Option<&'a Level> {
    others
        .iter()
        .filter(|other| {
            other.active > level.active && other.failed_ratio >= level.failed_ratio + FAILS_RATIO
        })
        .min_by(|a, b| a.active.total_cmp(&b.active))
}

/// The higher loads that bring no more, and at which no more runs fail.
pub(super) fn flat_above<'a>(
    level: &Level,
    others: &'a [Level],
) -> impl Iterator<Item = &'a Level> {
    others.iter().filter(|other| {
        other.active > level.active
            && other.failed_ratio < level.failed_ratio + FAILS_RATIO
            && brings_no_more(level, other)
    })
}

fn brings_no_more(level: &Level, other: &Level) -> bool {
    let (low, high) = level.lower_first(other);
    low.active > 0.0
        && high.active / low.active >= HIGHER_LEVEL
        && high.per_second
            <= low.per_second
                * SAME_RATIO.max(1.0 + HARDLY_RATIO * (high.active / low.active - 1.0))
}

/// Limits of the target that are no resource of the machine.
fn limits(look: &Look) -> Vec<Evidence> {
    let mut found = Vec::new();
    for (metric, what) in [
        (Metric::OpenDescriptors, "file descriptors"),
        (Metric::Threads, "threads"),
    ] {
        if let Some(share) = look.peak_share(metric).filter(|share| *share >= NEARLY_ALL) {
            let text = format!("{} of its {what} in use", percent(share));
            found.push(Evidence::of(metric, share, text));
        }
    }
    let overflows = look.mean(Metric::ListenOverflowsPerSecond);
    if let Some(rate) = overflows.filter(|rate| *rate >= OVERFLOWS_PER_SECOND) {
        let text = format!("{rate:.1} connections a second turned away: the accept queue was full");
        found.push(Evidence::of(Metric::ListenOverflowsPerSecond, rate, text));
    }
    found
}
