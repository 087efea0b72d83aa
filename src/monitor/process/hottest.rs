//! The busiest thread of some processes.
//!
//! Owns the ticks each thread had at the last look. A service of which one thread uses a whole core while the others
//! idle has a single-threaded limit, which no total shows. Called by the process set and the control groups.

use std::fs;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::files::Files;
use super::super::roots::Roots;
use super::stat::Stat;

/// Threads looked at per sample on average: reading one costs about 5 µs, so 256 a second stay below 0.2 % of a core.
/// With more threads the search runs every second, third … time, and the others are gaps.
const THREADS_PER_SAMPLE: usize = 256;

/// Finds the busiest thread.
#[derive(Debug, Default)]
pub(in super::super) struct Hottest {
    ticks: FxHashMap<(u32, u32), u64>,
    taken: Option<Duration>,
    samples_to_skip: usize,
}

impl Hottest {
    /// Cores used by the busiest thread of these processes since the last look; 0 to 1 but for rounding.
    pub(in super::super) fn observe(
        &mut self,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
        pids: impl Iterator<Item = u32>,
    ) -> Option<f64> {
        if let Some(left) = self.samples_to_skip.checked_sub(1) {
            self.samples_to_skip = left;
            return None;
        }
        let mut ticks =
            FxHashMap::with_capacity_and_hasher(self.ticks.len(), rustc_hash::FxBuildHasher);
        let mut most = None;
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
                if let Some(before) = self.ticks.get(&(pid, tid)) {
                    // A thread number used again counts from zero.
                    let step = stat
                        .own_ticks
                        .checked_sub(*before)
                        .unwrap_or(stat.own_ticks);
                    most = most.max(Some(step));
                }
                ticks.insert((pid, tid), stat.own_ticks);
            }
        }
        self.samples_to_skip = ticks.len() / THREADS_PER_SAMPLE;
        self.ticks = ticks;
        let since = self.taken.replace(now)?;
        let seconds = now.checked_sub(since)?.as_secs_f64();
        let most = most? as f64 / roots.clock_ticks_per_second as f64;
        (seconds > 0.0).then(|| most / seconds)
    }
}
