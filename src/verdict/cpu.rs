//! Third rule: CPU, also of a single thread or a single process that cannot use more than one core, and CPU that other
//! processes of the machine take.
//!
//! Owns the thresholds. Called by `judge`.

use super::finding::{Confidence, Evidence, Finding, Resource, SINGLE_THREADED};
use super::look::{Level, Look, percent};
use crate::monitor::Metric;

const BUSY_RATIO: f64 = 0.9;
const FULL_RATIO: f64 = 0.95;

/// Share of the quota's periods in which the group was stopped. A group that uses its quota up is stopped in nearly all.
const THROTTLED_RATIO: f64 = 0.25;

/// Share of the time in which some task waited for a core, and the utilization without which it says little: a few
/// threads that wake together wait for each other on idle cores too.
const PRESSURE_RATIO: f64 = 0.4;
const PRESSED_CPU_RATIO: f64 = 0.7;

/// One core for one thread, while so many may be used.
const ONE_CORE: f64 = 0.9;
const SEVERAL_CORES: f64 = 1.5;

/// A process whose threads take turns (a global lock) uses about one core, whatever it is given.
const TURNS_CORES: std::ops::RangeInclusive<f64> = 0.9..=1.15;
/// A thread that runs or waits for a core for this share of the time never sleeps; so much of it is waiting when others
/// have the core.
const WANTED_CORES: f64 = 0.9;
const WAITS_CORES: f64 = 0.1;

/// The whole machine is busy, and so many threads wait for a core: a pool of threads of which none is always busy.
const MACHINE_RATIO: f64 = 0.95;
const WAITING_THREADS: f64 = 0.5;
const GOOD_PART: f64 = 0.25;

/// How far its use may differ between two levels, and how far apart these have to be.
const SAME_RATIO: f64 = 0.1;
const HIGHER_LEVEL: f64 = 1.2;

pub(super) fn rule(look: &Look, others: &[Level]) -> Option<Finding> {
    let share = look.share(Metric::CpuCoresUsed);
    let mut evidence = Vec::new();
    let mut confidence = Confidence::Medium;
    if let (Some(share), Some(used), Some(limit)) = (
        share.filter(|share| *share >= BUSY_RATIO),
        look.mean(Metric::CpuCoresUsed),
        look.mean(Metric::CpuLimitCores),
    ) {
        if share >= FULL_RATIO {
            confidence = Confidence::High;
        }
        let decimals = if limit.fract() == 0.0 { 0 } else { 2 };
        let text = format!(
            "{used:.2} of {limit:.decimals$} cores in use ({})",
            percent(share)
        );
        evidence.push(Evidence::of(Metric::CpuCoresUsed, used, text));
    }
    if let Some(throttled) = look
        .mean(Metric::CpuThrottledRatio)
        .filter(|ratio| *ratio >= THROTTLED_RATIO)
    {
        if share.is_some_and(|share| share >= PRESSED_CPU_RATIO) {
            confidence = Confidence::High;
        }
        let text = format!(
            "throttled by its quota in {} of the periods",
            percent(throttled)
        );
        evidence.push(Evidence::of(Metric::CpuThrottledRatio, throttled, text));
    }
    if let Some(pressure) = look
        .mean(Metric::CpuPressureRatio)
        .filter(|ratio| *ratio >= PRESSURE_RATIO)
        && share.is_some_and(|share| share >= PRESSED_CPU_RATIO)
    {
        let text = format!("tasks waited for a core {} of the time", percent(pressure));
        evidence.push(Evidence::of(Metric::CpuPressureRatio, pressure, text));
    }
    if evidence.is_empty() {
        return one_core(look, others).or_else(|| taken_by_others(look));
    }
    if let Some(steal) = look
        .mean(Metric::CpuStealRatio)
        .filter(|ratio| *ratio >= 0.1)
    {
        let text = format!(
            "the hypervisor gave {} of the time to others",
            percent(steal)
        );
        evidence.push(Evidence::of(Metric::CpuStealRatio, steal, text));
    }
    Finding::from(Resource::Cpu, look.source(), confidence, evidence)
}

/// CPU that the target wanted for certain and others had.
fn taken_by_others(look: &Look) -> Option<Finding> {
    let found = |confidence, metric, value, text: String| {
        let evidence = vec![Evidence::of(metric, value, text)];
        Finding::from(Resource::Cpu, look.source(), confidence, evidence)
    };
    let wanted = look.mean(Metric::WantedThreadCores);
    if let (Some(wanted), Some(waits)) = (
        wanted.filter(|wanted| *wanted >= WANTED_CORES),
        look.mean(Metric::WantedThreadWaitCores)
            .filter(|waits| *waits >= WAITS_CORES),
    ) {
        let threads = look.mean(Metric::Threads);
        let is_alone = threads.is_some_and(|threads| threads < 1.5)
            && look
                .mean(Metric::CpuLimitCores)
                .is_some_and(|limit| limit >= SEVERAL_CORES);
        let (which, also) = if is_alone {
            (
                "only",
                format!("; one is all it can use, a {SINGLE_THREADED}"),
            )
        } else {
            ("busiest", String::new())
        };
        let text = format!(
            "its {which} thread never slept: it ran {} of the time and waited {} for a core that other processes of the \
             machine had{also}",
            percent((wanted - waits).max(0.0)),
            percent(waits)
        );
        return found(
            Confidence::Medium,
            Metric::WantedThreadWaitCores,
            waits,
            text,
        );
    }
    None
}

/// A machine without idle cores on which the target uses a good part of them and waits for more, or never sleeps: a pool
/// of threads of which none is always busy. Asked when nothing else is found: waiting for a core may be all there is to it.
pub(super) fn crowded(looks: &[Look]) -> Option<Finding> {
    looks.iter().find_map(|look| crowded_one(look))
}

fn crowded_one(look: &Look) -> Option<Finding> {
    let machine = look
        .mean(Metric::MachineBusyRatio)
        .filter(|ratio| *ratio >= MACHINE_RATIO)?;
    let waiting = look
        .mean(Metric::CpuWaitingThreads)
        .filter(|threads| *threads >= WAITING_THREADS)?;
    let used = look.mean(Metric::CpuCoresUsed)?;
    let uses_much = look
        .share(Metric::CpuCoresUsed)
        .is_some_and(|share| share >= GOOD_PART);
    // Threads that take turns: one of them runs or waits for a core at any time.
    if !uses_much && used + waiting < WANTED_CORES {
        return None;
    }
    let text = format!(
        "all cores of the machine were {} busy, and {waiting:.1} of its threads waited for one in the mean; it used \
         {used:.2} itself, other processes the rest",
        percent(machine)
    );
    let evidence = vec![Evidence::of(Metric::CpuWaitingThreads, waiting, text)];
    Finding::from(Resource::Cpu, look.source(), Confidence::Low, evidence)
}

/// One core pinned while others idle.
fn one_core(look: &Look, others: &[Level]) -> Option<Finding> {
    let limit = look.mean(Metric::CpuLimitCores)?;
    if limit < SEVERAL_CORES {
        return None;
    }
    let found = |confidence, metric, value, text: String| {
        let evidence = vec![Evidence::of(metric, value, text)];
        Finding::from(Resource::Cpu, look.source(), confidence, evidence)
    };
    if let Some(cores) = look
        .mean(Metric::HottestThreadCores)
        .filter(|cores| *cores >= ONE_CORE)
    {
        let text = format!(
            "one thread used {} of a core while others idled: a {SINGLE_THREADED}",
            percent(cores)
        );
        return found(Confidence::High, Metric::HottestThreadCores, cores, text);
    }
    let used = look.mean(Metric::CpuCoresUsed)?;
    let alone = look
        .mean(Metric::Processes)
        .is_some_and(|processes| processes < 1.5);
    if alone && TURNS_CORES.contains(&used) {
        let elsewhere = others
            .iter()
            .filter(|other| {
                let (low, high) = (
                    other.active.min(look.level.active),
                    other.active.max(look.level.active),
                );
                low > 0.0 && high / low >= HIGHER_LEVEL
            })
            .filter_map(|other| look.during(other).mean(Metric::CpuCoresUsed));
        let same = elsewhere
            .filter(|cores| (cores / used - 1.0).abs() <= SAME_RATIO)
            .count();
        let confidence = if same > 0 {
            Confidence::Medium
        } else {
            Confidence::Low
        };
        let text = format!(
            "its one process used {used:.2} cores of {limit:.0}: its threads take turns (a global lock, as Python's), \
             so this is a {SINGLE_THREADED}"
        );
        return found(confidence, Metric::CpuCoresUsed, used, text);
    }
    // Work that wanders between cores never pins one; a core that is pinned says that a single thread is.
    let core = look
        .mean(Metric::HottestCoreRatio)
        .filter(|ratio| *ratio >= FULL_RATIO)?;
    let text = format!("one core was {} busy while others idled", percent(core));
    found(Confidence::Low, Metric::HottestCoreRatio, core, text)
}
