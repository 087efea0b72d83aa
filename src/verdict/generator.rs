//! First rule: was it the generator that could not give more?
//!
//! Owns the thresholds for CPU, the busiest thread, waiting for a core, loop lag, late starts, descriptors and ports, and
//! the look at higher levels. Called by `judge`.

use super::finding::{Confidence, Evidence, Finding, GeneratorCheck, Resource};
use super::look::{Level, Look, percent};
use crate::monitor::{GENERATOR, Metric, Series};

/// Of all cores it may use, and of one core for the thread that runs the workers.
const CPU_RATIO: f64 = 0.9;
const THREAD_CORES: f64 = 0.9;

/// A thread that runs or waits for a core for this share of the time has hardly anything left, whatever it got of the
/// core. One that sleeps in between keeps up with its load, however long it waits each time.
const WANTED_CORES: f64 = 0.9;

/// From here on there is no doubt that others took the core.
const MUCH_WAITING: f64 = 0.3;

/// Above this the worst lateness of a second, in the mean, is no accident of scheduling, in seconds. The loop looks
/// every 0.1 s, and what is due then is up to that late in every measurement.
const LAG_SECONDS: f64 = 0.1;

/// A lag with less CPU than this comes from calls that block the loop.
const BLOCKING_CPU_RATIO: f64 = 0.5;

/// Less than this of the load that was asked for.
const STARTED_RATIO: f64 = 0.95;

/// Of the descriptors and of the ephemeral ports towards one address.
const NEARLY_ALL: f64 = 0.95;

/// A load that is higher by this and brings less than that share of the throughput it should is held back by something.
const HIGHER_LEVEL: f64 = 1.2;
const SCALES_RATIO: f64 = 0.5;

/// Signs that leave no doubt about a level that is not the one to judge.
const PLAIN: [Metric; 3] = [
    Metric::CpuCoresUsed,
    Metric::HottestThreadCores,
    Metric::WantedThreadWaitCores,
];

/// The check, and what it found.
pub(super) struct Checked {
    pub(super) check: GeneratorCheck,
    pub(super) findings: Vec<Finding>,
}

/// The check at the lowest of the higher levels that hardly brought more, if it was the generator that held it back there.
///
/// The level to judge is the lowest that suffices, where a generator may just have kept up.
pub(super) fn check_above(
    series: Option<&Series>,
    level: &Level,
    others: &[Level],
) -> Option<Checked> {
    let held_back = |other: &&Level| {
        let higher = other.active / level.active;
        let gain = other.per_second / level.per_second - 1.0;
        higher >= HIGHER_LEVEL && gain < SCALES_RATIO * (higher - 1.0)
    };
    others
        .iter()
        .filter(held_back)
        .filter_map(|other| {
            let found = check(series, other).findings.into_iter();
            let mut findings: Vec<Finding> = found.map(|one| one.with_load(other.active)).collect();
            for one in &mut findings {
                one.evidence
                    .retain(|one| one.metric.is_some_and(|metric| PLAIN.contains(&metric)));
            }
            findings.retain(|one| !one.evidence.is_empty());
            let reasons = findings.iter().flat_map(|one| &one.evidence);
            let check = GeneratorCheck {
                valid: Some(false),
                reasons: reasons.map(|one| one.text.clone()).collect(),
                ..check(series, level).check
            };
            (!findings.is_empty()).then_some((other.active, Checked { check, findings }))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, checked)| checked)
}

pub(super) fn check(series: Option<&Series>, level: &Level) -> Checked {
    let mut evidence = Vec::new();
    let mut confidence = Confidence::Medium;
    let mut check = GeneratorCheck::default();
    if let Some(ratio) = level.started_ratio.filter(|ratio| *ratio < STARTED_RATIO) {
        evidence.push(Evidence {
            metric: None,
            value: ratio,
            text: format!("it started only {} of the load asked for", percent(ratio)),
        });
    }
    if let Some(series) = series {
        let look = Look { series, level };
        check.cpu_ratio = look.share(Metric::CpuCoresUsed);
        check.hottest_thread_cores = look.mean(Metric::HottestThreadCores);
        let lag = look.window(Metric::EventLoopLagSeconds);
        check.event_loop_lag_seconds = lag.map(|lag| lag.max);
        if let Some(ratio) = check.cpu_ratio.filter(|ratio| *ratio >= CPU_RATIO) {
            confidence = Confidence::High;
            let text = format!("CPU {} of its cores", percent(ratio));
            evidence.push(Evidence::of(Metric::CpuCoresUsed, ratio, text));
        }
        let hottest = check.hottest_thread_cores;
        if let Some(cores) = hottest.filter(|cores| *cores >= THREAD_CORES) {
            confidence = Confidence::High;
            let text = format!(
                "its busiest thread used {} of a core; more processes (-p) may help",
                percent(cores)
            );
            evidence.push(Evidence::of(Metric::HottestThreadCores, cores, text));
        }
        let waits = look.mean(Metric::WantedThreadWaitCores);
        if let Some(wanted) = look
            .mean(Metric::WantedThreadCores)
            .filter(|wanted| *wanted >= WANTED_CORES)
            && let Some(waits) = waits
            && hottest.is_none_or(|cores| cores < THREAD_CORES)
        {
            if waits >= MUCH_WAITING {
                confidence = Confidence::High;
            }
            let text = format!(
                "it waited for a core {} of the time and used one only {}: other processes on this machine took it",
                percent(waits),
                percent((wanted - waits).max(0.0))
            );
            evidence.push(Evidence::of(Metric::WantedThreadWaitCores, waits, text));
        }
        if let Some(lag) = lag.filter(|lag| lag.mean >= LAG_SECONDS) {
            let blocked = hottest.is_some_and(|cores| cores < BLOCKING_CPU_RATIO)
                && waits.is_none_or(|waits| waits < MUCH_WAITING);
            let why = if blocked {
                ": calls in the scenarios block the event loop"
            } else {
                ""
            };
            let text = format!("event loop up to {:.0} ms late{why}", lag.max * 1000.0);
            evidence.push(Evidence::of(Metric::EventLoopLagSeconds, lag.mean, text));
        }
        for (metric, what) in [
            (Metric::OpenDescriptors, "file descriptors"),
            (Metric::EphemeralPortsUsed, "ephemeral ports"),
        ] {
            if let Some(share) = look.peak_share(metric).filter(|share| *share >= NEARLY_ALL) {
                confidence = Confidence::High;
                let text = format!("{} of its {what} in use", percent(share));
                evidence.push(Evidence::of(metric, share, text));
            }
        }
    }
    let measured = check.cpu_ratio.is_some() || check.hottest_thread_cores.is_some();
    check.valid = (measured || !evidence.is_empty()).then_some(evidence.is_empty());
    check.reasons = evidence.iter().map(|one| one.text.clone()).collect();
    let finding = Finding::from(Resource::Generator, GENERATOR, confidence, evidence);
    Checked {
        check,
        findings: finding.into_iter().collect(),
    }
}
