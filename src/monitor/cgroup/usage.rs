//! What a group or a container has used and may use, and the samples made of it.
//!
//! Owns the step from counters to rates and from memory charged to the working set (charged less `inactive_file`, the
//! page cache that goes first: the number that Kubernetes evicts by). Filled by `v1`, `v2` and the container API.

use std::time::Duration;

use super::super::counter::{Counter, Step};
use super::super::metric::Metric;
use super::super::process::sampler::throttled_ratio;
use super::super::sample::{Event, Sample};

/// One reading; what could not be read is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in super::super) struct Usage {
    pub(in super::super) cpu_nanoseconds: Option<u64>,
    /// Periods of the quota, and those in which it was used up.
    pub(in super::super) periods: Option<u64>,
    pub(in super::super) throttled_periods: Option<u64>,
    /// The tightest quota or set of cores on the way up.
    pub(in super::super) cpu_limit_cores: Option<f64>,
    pub(in super::super) memory_charged_bytes: Option<u64>,
    pub(in super::super) memory_inactive_file_bytes: Option<u64>,
    pub(in super::super) memory_limit_bytes: Option<u64>,
    pub(in super::super) swap_bytes: Option<u64>,
    pub(in super::super) swap_limit_bytes: Option<u64>,
    pub(in super::super) out_of_memory_kills: Option<u64>,
    pub(in super::super) read_bytes: Option<u64>,
    pub(in super::super) written_bytes: Option<u64>,
    pub(in super::super) threads: Option<u64>,
    pub(in super::super) thread_limit: Option<u64>,
    /// Microseconds in which some task waited.
    pub(in super::super) cpu_pressure_micros: Option<u64>,
    pub(in super::super) memory_pressure_micros: Option<u64>,
    pub(in super::super) io_pressure_micros: Option<u64>,
    pub(in super::super) network: Option<Traffic>,
}

/// Counters of network interfaces, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Traffic {
    pub(in super::super) received_bytes: u64,
    pub(in super::super) received_packets: u64,
    pub(in super::super) sent_bytes: u64,
    pub(in super::super) sent_packets: u64,
    pub(in super::super) dropped: u64,
}

/// The previous readings of every counter.
#[derive(Debug, Default)]
pub(in super::super) struct UsageMeter {
    cpu: Counter,
    periods: Counter,
    throttled: Counter,
    read: Counter,
    written: Counter,
    cpu_pressure: Counter,
    memory_pressure: Counter,
    io_pressure: Counter,
    traffic: TrafficMeter,
    kills: Counter,
    kills_seen: u64,
}

/// The previous readings of network counters.
#[derive(Debug, Default)]
pub(in super::super) struct TrafficMeter {
    received_bytes: Counter,
    received_packets: Counter,
    sent_bytes: Counter,
    sent_packets: Counter,
    dropped: Counter,
}

impl UsageMeter {
    /// Makes a sample of a reading and the one before. Counters of CPU time or traffic that went back are a restart.
    pub(in super::super) fn sample(&mut self, now: Duration, usage: &Usage) -> Sample {
        let mut sample = Sample::default();
        let mut restarted = false;
        let cpu = self.cpu.advance(now, usage.cpu_nanoseconds, &mut restarted);
        sample.set(
            Metric::CpuCoresUsed,
            cpu.map(|step| step.per_second() / 1e9),
        );
        sample.set(Metric::CpuLimitCores, usage.cpu_limit_cores);
        let periods = self.periods.advance(now, usage.periods, &mut restarted);
        let throttled = self
            .throttled
            .advance(now, usage.throttled_periods, &mut restarted);
        sample.set(
            Metric::CpuThrottledRatio,
            throttled_ratio(periods, throttled),
        );

        let working_set = usage
            .memory_charged_bytes
            .map(|charged| charged.saturating_sub(usage.memory_inactive_file_bytes.unwrap_or(0)));
        sample.set_count(Metric::MemoryBytes, working_set);
        sample.set_count(Metric::MemoryChargedBytes, usage.memory_charged_bytes);
        sample.set_count(Metric::MemoryLimitBytes, usage.memory_limit_bytes);
        sample.set_count(Metric::SwapBytes, usage.swap_bytes);
        sample.set_count(Metric::SwapLimitBytes, usage.swap_limit_bytes);
        sample.set_count(Metric::Threads, usage.threads);
        sample.set_count(Metric::ThreadLimit, usage.thread_limit);

        let read = self.read.advance(now, usage.read_bytes, &mut restarted);
        let written = self
            .written
            .advance(now, usage.written_bytes, &mut restarted);
        sample.set(Metric::DiskReadBytesPerSecond, read.map(Step::per_second));
        sample.set(
            Metric::DiskWriteBytesPerSecond,
            written.map(Step::per_second),
        );

        for (metric, counter, micros) in [
            (
                Metric::CpuPressureRatio,
                &mut self.cpu_pressure,
                usage.cpu_pressure_micros,
            ),
            (
                Metric::MemoryPressureRatio,
                &mut self.memory_pressure,
                usage.memory_pressure_micros,
            ),
            (
                Metric::IoPressureRatio,
                &mut self.io_pressure,
                usage.io_pressure_micros,
            ),
        ] {
            let step = counter.advance(now, micros, &mut restarted);
            sample.set(metric, step.map(|step| step.share_of_time(1e6)));
        }
        self.traffic
            .fill(&mut sample, now, usage.network, &mut restarted);
        self.count_kills(&mut sample, now, usage.out_of_memory_kills);
        if restarted {
            sample.events.push(Event::Restarted);
        }
        sample
    }

    /// Kills since the sampler started, over restarts of the group.
    fn count_kills(&mut self, sample: &mut Sample, now: Duration, kills: Option<u64>) {
        let mut reset = false;
        let step = self.kills.advance(now, kills, &mut reset);
        // A group that began anew shows the kills since then.
        let new = step.map_or(0, |step| step.delta) + if reset { kills.unwrap_or(0) } else { 0 };
        self.kills_seen += new;
        if kills.is_some() {
            sample.set_count(Metric::OutOfMemoryKills, self.kills_seen);
        }
        if new > 0 {
            sample.events.push(Event::OutOfMemory { kills: new });
        }
    }

    /// Forgets the readings, for a group that is known to have begun anew; kills stay counted.
    pub(in super::super) fn restart(&mut self) {
        *self = Self {
            kills_seen: self.kills_seen,
            ..Self::default()
        };
    }
}

impl TrafficMeter {
    /// Sets the rates of a reading.
    pub(in super::super) fn fill(
        &mut self,
        sample: &mut Sample,
        now: Duration,
        traffic: Option<Traffic>,
        reset: &mut bool,
    ) {
        for (metric, counter, value) in [
            (
                Metric::NetworkReceiveBytesPerSecond,
                &mut self.received_bytes,
                traffic.map(|traffic| traffic.received_bytes),
            ),
            (
                Metric::NetworkReceivePacketsPerSecond,
                &mut self.received_packets,
                traffic.map(|traffic| traffic.received_packets),
            ),
            (
                Metric::NetworkTransmitBytesPerSecond,
                &mut self.sent_bytes,
                traffic.map(|traffic| traffic.sent_bytes),
            ),
            (
                Metric::NetworkTransmitPacketsPerSecond,
                &mut self.sent_packets,
                traffic.map(|traffic| traffic.sent_packets),
            ),
            (
                Metric::NetworkDropsPerSecond,
                &mut self.dropped,
                traffic.map(|traffic| traffic.dropped),
            ),
        ] {
            let step = counter.advance(now, value, reset);
            sample.set(metric, step.map(Step::per_second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: u64) -> Usage {
        Usage {
            cpu_nanoseconds: Some(seconds * 500_000_000),
            periods: Some(seconds * 10),
            throttled_periods: Some(seconds * 4),
            memory_charged_bytes: Some(1000),
            memory_inactive_file_bytes: Some(300),
            out_of_memory_kills: Some(2),
            cpu_pressure_micros: Some(seconds * 250_000),
            ..Usage::default()
        }
    }

    #[test]
    fn two_readings_make_rates() {
        let mut meter = UsageMeter::default();
        let first = meter.sample(Duration::from_secs(10), &reading(10));
        assert_eq!(first.get(Metric::CpuCoresUsed), None);
        assert_eq!(first.get(Metric::MemoryBytes), Some(700.0));
        let second = meter.sample(Duration::from_secs(12), &reading(12));
        assert_eq!(second.get(Metric::CpuCoresUsed), Some(0.5));
        assert_eq!(second.get(Metric::CpuThrottledRatio), Some(0.4));
        assert_eq!(second.get(Metric::CpuPressureRatio), Some(0.25));
        assert_eq!(second.get(Metric::MemoryChargedBytes), Some(1000.0));
        assert_eq!(second.get(Metric::SwapBytes), None);
        assert_eq!(second.get(Metric::OutOfMemoryKills), Some(0.0));
        assert!(second.events.is_empty());
    }

    #[test]
    fn a_restart_is_noticed_and_kills_stay_counted() {
        let mut meter = UsageMeter::default();
        meter.sample(Duration::from_secs(1), &reading(100));
        let killed = Usage {
            out_of_memory_kills: Some(5),
            ..reading(101)
        };
        let sample = meter.sample(Duration::from_secs(2), &killed);
        assert_eq!(sample.events, [Event::OutOfMemory { kills: 3 }]);
        let anew = Usage {
            out_of_memory_kills: Some(1),
            ..reading(1)
        };
        let sample = meter.sample(Duration::from_secs(3), &anew);
        assert_eq!(sample.get(Metric::CpuCoresUsed), None);
        assert_eq!(sample.get(Metric::OutOfMemoryKills), Some(4.0));
        assert!(sample.events.contains(&Event::Restarted));
        let sample = meter.sample(Duration::from_secs(4), &reading(2));
        assert_eq!(sample.get(Metric::CpuCoresUsed), Some(0.5));
    }
}
