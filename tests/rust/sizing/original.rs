//! `--sizing` of the original Molotov 2.6, as far as its rule goes, on the same services.
//!
//! 500 workers start evenly within 300 seconds. Successes and failures are counted anew every 60 seconds; once there
//! are 100 of both together, a run stops when failures by successes exceed 5 %.

use super::services::Case;
use super::simulator::World;

const WORKERS: f64 = 500.0;
const RAMP_SECONDS: f64 = 300.0;
const MINUTE: f64 = 60.0;
const LOOK_SECONDS: f64 = 0.1;

/// Where a run of the original stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// Whether it stopped by itself. Else these are the figures at the end of the ramp, where it runs on.
    pub(crate) sized: bool,
    pub(crate) seconds: f64,
    pub(crate) workers: f64,
    /// Successes per second by its own counters of the minute.
    pub(crate) runs_per_second: f64,
}

pub(crate) fn run(case: &Case, seed: u64) -> Stop {
    let mut world = World::new(case.service, seed);
    let (mut minute, mut before) = (0.0, (0, 0));
    loop {
        let workers = (world.now / RAMP_SECONDS * WORKERS).floor() + 1.0;
        let ok = world.counts.succeeded - before.0;
        let failed = world.counts.failed - before.1;
        let seconds = world.now - minute;
        let sized = ok + failed >= 100 && failed as f64 > 0.05 * ok as f64;
        if sized || workers > WORKERS {
            return Stop {
                sized,
                seconds: world.now,
                workers: workers.min(WORKERS),
                runs_per_second: if seconds > 0.0 {
                    ok as f64 / seconds
                } else {
                    0.0
                },
            };
        }
        if seconds >= MINUTE {
            minute = world.now;
            before = (world.counts.succeeded, world.counts.failed);
        }
        world.set_workers(workers as usize);
        world.advance(world.now + LOOK_SECONDS);
    }
}
