//! What the threads of some processes do: the busiest one, waiting for a core, waiting for a disk.
//!
//! Owns the counters each thread had at the last look. A service of which one thread uses a whole core while the others
//! idle has a single-threaded limit, which no total shows; a thread that is ready to run and waits for a core is short
//! of CPU whatever it uses (`/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats.rst: time on a core,
//! time waiting for one, both in nanoseconds). Called by the process set and the control groups.

use std::fs;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::files::Files;
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::Sample;
use super::stat::Stat;

/// Threads looked at per sample on average: reading one costs about 10 µs, so 128 a second stay below 0.2 % of a core.
/// With more threads the search runs every second, third … time, and the others are gaps.
const THREADS_PER_SAMPLE: usize = 128;

/// What was found at one look. All `None` at the first one, and where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in super::super) struct ThreadUse {
    /// Cores used by the busiest thread since the last look; 0 to 1 but for rounding.
    pub(in super::super) hottest_cores: Option<f64>,
    /// Cores that the thread which wanted most used or waited for: close to 1 it never slept.
    pub(in super::super) wanted_cores: Option<f64>,
    /// What that thread waited of it.
    pub(in super::super) wanted_wait_cores: Option<f64>,
    /// Threads that were ready to run and waited for a core, in the mean.
    pub(in super::super) waiting: Option<f64>,
    /// Threads that sleep in the kernel and cannot be interrupted, at this moment: nearly always for a disk.
    pub(in super::super) blocked: Option<u64>,
}

impl ThreadUse {
    pub(in super::super) fn fill(&self, sample: &mut Sample) {
        sample.set(Metric::HottestThreadCores, self.hottest_cores);
        sample.set(Metric::WantedThreadCores, self.wanted_cores);
        sample.set(Metric::WantedThreadWaitCores, self.wanted_wait_cores);
        sample.set(Metric::CpuWaitingThreads, self.waiting);
        sample.set_count(Metric::BlockedThreads, self.blocked);
    }
}

/// The counters of a thread.
#[derive(Debug, Clone, Copy)]
struct Counters {
    ticks: u64,
    /// Nanoseconds on a core and waiting for one.
    scheduled: Option<(u64, u64)>,
}

/// Follows the threads.
#[derive(Debug, Default)]
pub(in super::super) struct ThreadMeter {
    before: FxHashMap<(u32, u32), Counters>,
    taken: Option<Duration>,
    samples_to_skip: usize,
}

/// What the threads did between two looks.
#[derive(Default)]
struct Steps {
    most_ticks: Option<u64>,
    /// Wanted and waited, of the thread that wanted most.
    wanted_nanos: Option<(u64, u64)>,
    waited_nanos: u64,
    blocked: u64,
}

impl ThreadMeter {
    /// Looks at all threads of these processes.
    pub(in super::super) fn observe(
        &mut self,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
        pids: impl Iterator<Item = u32>,
    ) -> ThreadUse {
        if let Some(left) = self.samples_to_skip.checked_sub(1) {
            self.samples_to_skip = left;
            return ThreadUse::default();
        }
        let mut after =
            FxHashMap::with_capacity_and_hasher(self.before.len(), rustc_hash::FxBuildHasher);
        let mut steps = Steps::default();
        for pid in pids {
            let Ok(threads) = fs::read_dir(roots.of_process(pid, "task")) else {
                continue;
            };
            for thread in threads.flatten() {
                let Some(tid) = thread.file_name().to_str().and_then(|tid| tid.parse().ok()) else {
                    continue;
                };
                let mut path = thread.path();
                path.push("stat");
                let Some(stat) = files.read(&path).ok().and_then(Stat::parse) else {
                    continue;
                };
                path.set_file_name("schedstat");
                let counters = Counters {
                    ticks: stat.own_ticks,
                    scheduled: files.read(&path).ok().and_then(scheduled),
                };
                steps.blocked += u64::from(stat.is_blocked);
                if let Some(before) = self.before.get(&(pid, tid)) {
                    steps.add(*before, counters);
                }
                after.insert((pid, tid), counters);
            }
        }
        self.samples_to_skip = after.len() / THREADS_PER_SAMPLE;
        let blocked = (!after.is_empty()).then_some(steps.blocked);
        self.before = after;
        let since = self.taken.replace(now);
        let seconds = since
            .and_then(|since| now.checked_sub(since))
            .map(|elapsed| elapsed.as_secs_f64())
            .filter(|seconds| *seconds > 0.0);
        let Some(seconds) = seconds else {
            return ThreadUse {
                blocked,
                ..ThreadUse::default()
            };
        };
        let cores = |nanos: u64| nanos as f64 / 1e9 / seconds;
        let ticks_per_second = roots.clock_ticks_per_second as f64;
        ThreadUse {
            hottest_cores: steps
                .most_ticks
                .map(|ticks| ticks as f64 / ticks_per_second / seconds),
            wanted_cores: steps.wanted_nanos.map(|(wanted, _)| cores(wanted)),
            wanted_wait_cores: steps.wanted_nanos.map(|(_, waited)| cores(waited)),
            waiting: steps.wanted_nanos.map(|_| cores(steps.waited_nanos)),
            blocked,
        }
    }
}

impl Steps {
    fn add(&mut self, before: Counters, after: Counters) {
        // A thread number used again counts from zero.
        let step = |before: u64, after: u64| after.checked_sub(before).unwrap_or(after);
        self.most_ticks = self.most_ticks.max(Some(step(before.ticks, after.ticks)));
        if let (Some(before), Some(after)) = (before.scheduled, after.scheduled) {
            let (ran, waited) = (step(before.0, after.0), step(before.1, after.1));
            self.wanted_nanos = self.wanted_nanos.max(Some((ran + waited, waited)));
            self.waited_nanos += waited;
        }
    }
}

/// `52772873 77916117 221`: nanoseconds on a core, nanoseconds waiting for one, time slices. All zero where the kernel
/// does not keep them.
fn scheduled(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (ran, waited, slices) = (next()?, next()?, next()?);
    (slices > 0).then_some((ran, waited))
}
