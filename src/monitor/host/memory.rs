//! `/proc/meminfo` and `/proc/vmstat`: memory, swap and out-of-memory kills.
//!
//! Owns what counts as used: all that is not available (`MemAvailable`, the kernel's own estimate of what could be had
//! without swapping). Called by the host sampler.

use std::time::Duration;

use super::super::counter::Counter;
use super::super::files::{Files, keyed};
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::{Event, Sample};

/// The previous counters.
#[derive(Debug, Default)]
pub(super) struct MemoryMeter {
    swapped_in: Counter,
    swapped_out: Counter,
    kills: Counter,
    kills_seen: u64,
}

impl MemoryMeter {
    pub(super) fn fill(
        &mut self,
        sample: &mut Sample,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
    ) {
        if let Ok(text) = files.read(&roots.proc("meminfo")) {
            let bytes = |key| keyed(text, key).map(|kilobytes| kilobytes * 1024);
            let difference = |all: Option<u64>, free: Option<u64>| Some(all?.saturating_sub(free?));
            let total = bytes("MemTotal");
            sample.set_count(
                Metric::MemoryBytes,
                difference(total, bytes("MemAvailable")),
            );
            sample.set_count(Metric::MemoryLimitBytes, total);
            let swap = bytes("SwapTotal");
            sample.set_count(Metric::SwapBytes, difference(swap, bytes("SwapFree")));
            sample.set_count(Metric::SwapLimitBytes, swap);
        }
        let Ok(text) = files.read(&roots.proc("vmstat")) else {
            return;
        };
        let bytes = |key| keyed(text, key).map(|pages| pages * roots.page_bytes);
        sample.set(
            Metric::SwapInBytesPerSecond,
            self.swapped_in.rate(now, bytes("pswpin")),
        );
        sample.set(
            Metric::SwapOutBytesPerSecond,
            self.swapped_out.rate(now, bytes("pswpout")),
        );
        let kills = keyed(text, "oom_kill");
        let new = self
            .kills
            .advance(now, kills, &mut false)
            .map_or(0, |step| step.delta);
        self.kills_seen += new;
        sample.set_count(Metric::OutOfMemoryKills, kills.map(|_| self.kills_seen));
        if new > 0 {
            sample.events.push(Event::OutOfMemory { kills: new });
        }
    }
}
