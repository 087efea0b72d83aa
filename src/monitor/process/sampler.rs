//! `pid:1234`: a process and all that descends from it.
//!
//! Owns how a set of processes becomes a sample, with the limits of the control group it lives in. Memory is the sum of
//! the resident sets: pages that processes share count once per process, so it is an upper bound for servers that fork.
//! The exact proportional set (`smaps_rollup`) walks every page table under a lock that the target's own page faults
//! need, which is no way to look at something under load. Called by the driver; `port` and `generator` use
//! [`ProcessMeter`].

use std::time::Duration;

use super::super::cgroup::Allowance;
use super::super::counter::{Counter, Step};
use super::super::files::Files;
use super::super::host::cpu::CpuMeter;
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::{Event, Sample};
use super::super::{Error, Sampler};
use super::set::ProcessSet;

/// Samples a process and its descendants. A process of that number which started later is a stranger and not sampled.
#[derive(Debug)]
pub struct ProcessTree {
    meter: ProcessMeter,
    has_root: bool,
}

impl ProcessTree {
    /// Fails when there is no such process.
    pub fn new(pid: u32, roots: Roots) -> Result<Self, Error> {
        let mut meter = ProcessMeter::new(ProcessSet::new(true), roots);
        if !meter.add_root(pid) {
            return Err(Error::NoProcess { pid });
        }
        Ok(Self {
            meter,
            has_root: true,
        })
    }
}

impl Sampler for ProcessTree {
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        let (mut sample, roots_alive) = self.meter.sample(now);
        if self.has_root && roots_alive == 0 {
            self.has_root = false;
            sample.events.push(Event::Exited);
        }
        Ok(sample)
    }
}

/// A set of processes, its counters and its limits.
#[derive(Debug)]
pub(in super::super) struct ProcessMeter {
    roots: Roots,
    files: Files,
    set: ProcessSet,
    allowance: Allowance,
    machine: CpuMeter,
    cpu: Counter,
    read: Counter,
    written: Counter,
    periods: Counter,
    throttled: Counter,
}

impl ProcessMeter {
    pub(in super::super) fn new(set: ProcessSet, roots: Roots) -> Self {
        Self {
            allowance: Allowance::new(&roots),
            roots,
            files: Files::default(),
            set,
            machine: CpuMeter::default(),
            cpu: Counter::default(),
            read: Counter::default(),
            written: Counter::default(),
            periods: Counter::default(),
            throttled: Counter::default(),
        }
    }

    pub(in super::super) fn add_root(&mut self, pid: u32) -> bool {
        self.set.add_root(pid, &self.roots, &mut self.files)
    }

    pub(in super::super) fn replace_roots(&mut self, pids: &[u32]) {
        self.set.replace_roots(pids, &self.roots, &mut self.files);
    }

    pub(in super::super) fn contains(&self, pid: u32) -> bool {
        self.set.contains(pid)
    }

    /// Begins anew with a set that has no members; the next sample has no rates.
    pub(in super::super) fn restart(&mut self) {
        self.set = ProcessSet::new(true);
        for counter in [
            &mut self.cpu,
            &mut self.read,
            &mut self.written,
            &mut self.periods,
            &mut self.throttled,
        ] {
            counter.clear();
        }
    }

    /// The sample, and how many roots live. All gaps when no process is left.
    pub(in super::super) fn sample(&mut self, now: Duration) -> (Sample, usize) {
        let mut sample = Sample::default();
        if self.set.is_empty() {
            return (sample, 0);
        }
        let seen = self.set.observe(now, &self.roots, &mut self.files);
        let ticks = self.cpu.rate(now, Some(seen.ticks));
        let Some(spokesman) = seen.spokesman else {
            return (sample, 0);
        };
        let cores = ticks.map(|ticks| ticks / self.roots.clock_ticks_per_second as f64);
        sample.set(Metric::CpuCoresUsed, cores);
        seen.thread_use.fill(&mut sample);
        let machine = self.files.read(&self.roots.proc("stat")).ok();
        let busy = machine.and_then(|text| self.machine.busy_ratio(text));
        sample.set(Metric::MachineBusyRatio, busy);
        sample.set_count(
            Metric::MemoryBytes,
            seen.resident_pages * self.roots.page_bytes,
        );
        sample.set_count(Metric::Processes, seen.processes);
        sample.set_count(Metric::Threads, seen.threads);
        if let Some((open, limit)) = seen.descriptors {
            sample.set_count(Metric::OpenDescriptors, open);
            sample.set_count(Metric::DescriptorLimit, limit);
        }
        if let Some((used, limit)) = seen.address_space {
            sample.set_count(Metric::AddressSpaceBytes, used);
            sample.set_count(Metric::AddressSpaceLimitBytes, limit);
        }
        let (read, written) = seen.storage.unzip();
        sample.set(Metric::DiskReadBytesPerSecond, self.read.rate(now, read));
        sample.set(
            Metric::DiskWriteBytesPerSecond,
            self.written.rate(now, written),
        );

        let allowed = self.allowance.read(spokesman, &self.roots, &mut self.files);
        sample.set(Metric::CpuLimitCores, allowed.cores);
        sample.set_count(Metric::MemoryLimitBytes, allowed.memory_bytes);
        let (periods, throttled) = allowed.throttling.unzip();
        let mut reset = false;
        let periods = self.periods.advance(now, periods, &mut reset);
        let throttled = self.throttled.advance(now, throttled, &mut reset);
        sample.set(
            Metric::CpuThrottledRatio,
            throttled_ratio(periods, throttled),
        );
        (sample, seen.roots_alive)
    }
}

/// Share of the quota's periods that ended with the group stopped. A group that was idle had no periods and was not
/// stopped.
pub(in super::super) fn throttled_ratio(
    periods: Option<Step>,
    throttled: Option<Step>,
) -> Option<f64> {
    let (periods, throttled) = (periods?.delta, throttled?.delta);
    if periods == 0 {
        return Some(0.0);
    }
    Some((throttled as f64 / periods as f64).min(1.0))
}
