//! `/proc/stat`: what the cores did.
//!
//! Owns the times of each core. Ratios are of the core's own ticks rather than of the clock, so that rounding and cores
//! that were offline do no harm. Called by the host sampler, and by that of processes for the share of the whole machine.

use super::super::metric::Metric;
use super::super::sample::Sample;

/// Ticks of one core since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    used: u64,
    stolen: u64,
    idle: u64,
}

/// The previous times of each core, by its number.
#[derive(Debug, Default)]
pub(in super::super) struct CpuMeter {
    before: Vec<Option<Times>>,
}

impl Times {
    /// `user nice system idle iowait irq softirq steal guest guest_nice`; guests are in `user` already (`proc_stat(5)`).
    fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut numbers = fields.map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
        let mut later = || next().unwrap_or(0);
        let (waiting, hard, soft, stolen) = (later(), later(), later(), later());
        Some(Self {
            used: user + nice + system + hard + soft,
            stolen,
            idle: idle + waiting,
        })
    }

    /// Waiting for I/O may go back a little; what matters is that no step is negative.
    fn since(self, before: Self) -> Self {
        Self {
            used: self.used.saturating_sub(before.used),
            stolen: self.stolen.saturating_sub(before.stolen),
            idle: self.idle.saturating_sub(before.idle),
        }
    }

    fn all(self) -> u64 {
        self.used + self.stolen + self.idle
    }
}

impl CpuMeter {
    /// Busy share of all cores since the last time, time given to other machines included.
    pub(in super::super) fn busy_ratio(&mut self, text: &str) -> Option<f64> {
        let mut sample = Sample::default();
        self.fill(&mut sample, text);
        let stolen = sample.get(Metric::CpuStealRatio)?;
        Some((sample.utilization(Metric::CpuCoresUsed)? + stolen).min(1.0))
    }

    /// Sets what the cores did since the last time; nothing but the number of cores on the first.
    pub(in super::super) fn fill(&mut self, sample: &mut Sample, text: &str) {
        let (mut used, mut stolen, mut all, mut cores) = (0.0, 0, 0, 0_u64);
        let mut now = Vec::with_capacity(self.before.len());
        for line in text.lines().take_while(|line| line.starts_with("cpu")) {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next().unwrap_or_default();
            let Ok(number) = name.trim_start_matches("cpu").parse::<usize>() else {
                continue;
            };
            let Some(times) = Times::parse(fields) else {
                continue;
            };
            cores += 1;
            if now.len() <= number {
                now.resize(number + 1, None);
            }
            if let Some(slot) = now.get_mut(number) {
                *slot = Some(times);
            }
            let Some(before) = self.before.get(number).copied().flatten() else {
                continue;
            };
            let step = times.since(before);
            let ratio = if step.all() == 0 {
                0.0
            } else {
                step.used as f64 / step.all() as f64
            };
            sample.core_busy_ratios.push(ratio);
            used += ratio;
            stolen += step.stolen;
            all += step.all();
        }
        self.before = now;
        sample.set_count(Metric::CpuLimitCores, (cores > 0).then_some(cores));
        if all > 0 {
            sample.set(Metric::CpuCoresUsed, used);
            sample.set(Metric::CpuStealRatio, stolen as f64 / all as f64);
            let hottest = sample.core_busy_ratios.iter().copied().fold(0.0, f64::max);
            sample.set(Metric::HottestCoreRatio, hottest);
        }
    }
}
