//! What a collector on another machine wrote: raw counters of a container and its host.
//!
//! Owns the collector itself ([`COLLECTOR`], a POSIX shell script that needs nothing but awk) and the reading of its
//! rows, because one knows the other's columns. Rates are made here, by the same meters as for this machine's own
//! groups. Called by the `ssm` target of `autosizer`, and by reports of such files.

mod table;

#[cfg(test)]
mod tests;

use std::time::Duration;

use self::table::{Row, Table};
use super::cgroup::usage::{Traffic, TrafficMeter, Usage, UsageMeter};
use super::counter::Counter;
use super::metric::Metric;
use super::sample::{Event, Sample};

/// The script: `sh -s PID FOLDER INTERVAL ROWS`. Ends by itself when `FOLDER/stop` exists.
pub const COLLECTOR: &str = include_str!("collect.sh");

/// Version 1 says "no limit" by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;
const KIB: u64 = 1024;
/// A sector of `/proc/diskstats`, whatever the disk's own is.
const SECTOR_BYTES: u64 = 512;
/// Of the machines this runs on; x86 and Graviton with Amazon's kernels.
const PAGE_BYTES: u64 = 4096;

/// The rows of a collector as samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remote {
    /// Seconds since 1970 on the machine's own clock, and what the container used.
    pub service: Vec<(f64, Sample)>,
    /// The same of the machine.
    pub host: Vec<(f64, Sample)>,
    /// What was odd, one line each.
    pub notes: Vec<String>,
}

/// Reads the collector's rows. A row that was cut off, or is none, is left out and noted; so is a gap.
pub fn remote_history(text: &str) -> Remote {
    let mut table = Table::new(text);
    let mut remote = Remote::default();
    let (mut service, mut host) = (UsageMeter::default(), HostMeter::default());
    let mut last: Option<f64> = None;
    let mut gone = false;
    for row in &mut table {
        let now = Duration::from_secs_f64(row.uptime);
        let time = row.unix_seconds;
        if last.is_some_and(|last| row.uptime <= last) {
            remote
                .notes
                .push("rows of the collector go back in time".to_owned());
            continue;
        }
        last = Some(row.uptime);
        let usage = usage(&row);
        let is_there = usage.cpu_nanoseconds.is_some() || usage.memory_charged_bytes.is_some();
        let mut sample = service.sample(now, &usage);
        if !is_there && !gone {
            sample.events.push(Event::Exited);
        }
        gone = !is_there;
        remote.service.push((time, sample));
        remote.host.push((time, host.sample(now, &row)));
    }
    let times: Vec<f64> = remote.host.iter().map(|(time, _)| *time).collect();
    if let Some(gap) = longest_gap(&times) {
        remote
            .notes
            .push(format!("the collector paused for {gap:.0} s"));
    }
    if table.cut > 0 {
        remote
            .notes
            .push(format!("{} rows of the collector are damaged", table.cut));
    }
    remote
}

/// A pause that is no jitter: more than twice the usual step and a second.
fn longest_gap(times: &[f64]) -> Option<f64> {
    let mut steps: Vec<f64> = times
        .iter()
        .zip(times.iter().skip(1))
        .map(|(one, next)| next - one)
        .collect();
    steps.sort_by(f64::total_cmp);
    let usual = steps.get(steps.len() / 2)?;
    steps
        .last()
        .copied()
        .filter(|longest| *longest > 2.0 * usual + 1.0)
}

fn usage(row: &Row<'_>) -> Usage {
    let limit = |value: Option<u64>| value.filter(|value| *value < NO_LIMIT);
    let quota = row
        .count("quota_us")
        .zip(row.count("period_us").filter(|period| *period > 0));
    let cores = row.list("h_core_used").len();
    Usage {
        cpu_nanoseconds: row.count("cpu_nsec").or_else(|| {
            row.count("cpu_usec")
                .map(|micros| micros.saturating_mul(1000))
        }),
        periods: row.count("periods"),
        throttled_periods: row.count("throttled"),
        cpu_limit_cores: quota
            .map(|(quota, period)| quota as f64 / period as f64)
            .or_else(|| (cores > 0).then_some(cores as f64)),
        memory_charged_bytes: row.count("memory"),
        memory_inactive_file_bytes: row.count("inactive_file"),
        memory_limit_bytes: limit(row.count("memory_max"))
            .or_else(|| row.count("h_memory_kb").map(|kib| kib * KIB)),
        swap_bytes: row.count("swap"),
        out_of_memory_kills: row.count("oom_kill"),
        read_bytes: row.count("read"),
        written_bytes: row.count("written"),
        threads: row.count("pids"),
        thread_limit: row.count("pids_max"),
        cpu_pressure_micros: row.count("psi_cpu"),
        memory_pressure_micros: row.count("psi_memory"),
        io_pressure_micros: row.count("psi_io"),
        network: traffic(
            row,
            ["rx_bytes", "rx_packets", "tx_bytes", "tx_packets", "drops"],
        ),
        ..Usage::default()
    }
}

fn traffic(row: &Row<'_>, names: [&str; 5]) -> Option<Traffic> {
    let [
        received_bytes,
        received_packets,
        sent_bytes,
        sent_packets,
        dropped,
    ] = names.map(|name| row.count(name));
    Some(Traffic {
        received_bytes: received_bytes?,
        received_packets: received_packets?,
        sent_bytes: sent_bytes?,
        sent_packets: sent_packets?,
        dropped: dropped?,
    })
}

/// The previous readings of the machine.
#[derive(Debug, Default)]
struct HostMeter {
    cores: Vec<(u64, u64)>,
    stolen: u64,
    swap: [Counter; 2],
    kills: Counter,
    kills_seen: u64,
    disks: [Counter; 2],
    busy: Vec<Counter>,
    queue: Vec<Counter>,
    pressure: [Counter; 3],
    traffic: TrafficMeter,
}

impl HostMeter {
    fn sample(&mut self, now: Duration, row: &Row<'_>) -> Sample {
        let mut sample = Sample::default();
        self.cores(&mut sample, row);
        let total = row.count("h_memory_kb");
        let used = total
            .zip(row.count("h_available_kb"))
            .map(|(total, free)| total.saturating_sub(free));
        sample.set_count(Metric::MemoryBytes, used.map(|kib| kib * KIB));
        sample.set_count(Metric::MemoryLimitBytes, total.map(|kib| kib * KIB));
        let swap = row.count("h_swap_kb");
        let swapped = swap
            .zip(row.count("h_swap_free_kb"))
            .map(|(total, free)| total.saturating_sub(free));
        sample.set_count(Metric::SwapBytes, swapped.map(|kib| kib * KIB));
        sample.set_count(Metric::SwapLimitBytes, swap.map(|kib| kib * KIB));
        let rates = [
            (Metric::SwapInBytesPerSecond, "h_swap_in", PAGE_BYTES),
            (Metric::SwapOutBytesPerSecond, "h_swap_out", PAGE_BYTES),
            (
                Metric::DiskReadBytesPerSecond,
                "h_read_sectors",
                SECTOR_BYTES,
            ),
            (
                Metric::DiskWriteBytesPerSecond,
                "h_written_sectors",
                SECTOR_BYTES,
            ),
        ];
        let counters = self.swap.iter_mut().chain(&mut self.disks);
        for (counter, (metric, name, unit)) in counters.zip(rates) {
            let bytes = row.count(name).map(|count| count.saturating_mul(unit));
            sample.set(metric, counter.rate(now, bytes));
        }
        self.kills(&mut sample, now, row.count("h_oom_kill"));
        // Milliseconds per second: a thousand is always, or one request waiting on average.
        let busy = most(&mut self.busy, now, &row.list("h_disk_busy_ms"));
        sample.set(
            Metric::DiskBusyRatio,
            busy.map(|rate| (rate / 1e3).min(1.0)),
        );
        let queue = most(&mut self.queue, now, &row.list("h_disk_queue_ms"));
        sample.set(Metric::DiskQueue, queue.map(|rate| rate / 1e3));
        let pressures = [
            (Metric::CpuPressureRatio, "h_psi_cpu"),
            (Metric::MemoryPressureRatio, "h_psi_memory"),
            (Metric::IoPressureRatio, "h_psi_io"),
        ];
        for (counter, (metric, name)) in self.pressure.iter_mut().zip(pressures) {
            let step = counter.advance(now, row.count(name), &mut false);
            sample.set(metric, step.map(|step| step.share_of_time(1e6)));
        }
        let names = [
            "h_rx_bytes",
            "h_rx_packets",
            "h_tx_bytes",
            "h_tx_packets",
            "h_drops",
        ];
        self.traffic
            .fill(&mut sample, now, traffic(row, names), &mut false);
        sample.set_count(Metric::Threads, row.count("h_threads"));
        sample
    }

    /// Ratios of the cores' own ticks, as for this machine.
    fn cores(&mut self, sample: &mut Sample, row: &Row<'_>) {
        let cores: Vec<(u64, u64)> = row
            .list("h_core_used")
            .into_iter()
            .zip(row.list("h_core_all"))
            .collect();
        sample.set_count(
            Metric::CpuLimitCores,
            (!cores.is_empty()).then_some(cores.len() as u64),
        );
        let stolen = row.count("h_stolen").unwrap_or(0);
        if cores.len() == self.cores.len() && !cores.is_empty() {
            let mut ticks = 0;
            for ((used, all), (used_before, all_before)) in cores.iter().zip(&self.cores) {
                let all = all.saturating_sub(*all_before);
                let used = used.saturating_sub(*used_before);
                let ratio = if all == 0 {
                    0.0
                } else {
                    (used as f64 / all as f64).min(1.0)
                };
                sample.core_busy_ratios.push(ratio);
                ticks += all;
            }
            if ticks > 0 {
                let ratios = &sample.core_busy_ratios;
                let (used, hottest) = (
                    ratios.iter().sum::<f64>(),
                    ratios.iter().copied().fold(0.0, f64::max),
                );
                sample.set(Metric::CpuCoresUsed, used);
                sample.set(Metric::HottestCoreRatio, hottest);
                let stolen = stolen.saturating_sub(self.stolen) as f64 / ticks as f64;
                sample.set(Metric::CpuStealRatio, stolen);
            }
        }
        self.cores = cores;
        self.stolen = stolen;
    }

    fn kills(&mut self, sample: &mut Sample, now: Duration, kills: Option<u64>) {
        let step = self.kills.advance(now, kills, &mut false);
        let new = step.map_or(0, |step| step.delta);
        self.kills_seen += new;
        sample.set_count(Metric::OutOfMemoryKills, kills.map(|_| self.kills_seen));
        if new > 0 {
            sample.events.push(Event::OutOfMemory { kills: new });
        }
    }
}

/// The fastest of several counters; a change of their number begins anew.
fn most(counters: &mut Vec<Counter>, now: Duration, values: &[u64]) -> Option<f64> {
    if counters.len() != values.len() {
        *counters = vec![Counter::default(); values.len()];
    }
    counters
        .iter_mut()
        .zip(values)
        .filter_map(|(counter, value)| counter.rate(now, Some(*value)))
        .reduce(f64::max)
}
