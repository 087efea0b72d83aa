//! The simulated services and the truth about each.
//!
//! Truth is the highest throughput (successful runs per second) over 1 to 500 workers for which the share of failures
//! in the long run is within the tolerance of 5 % and the latency rule, if there is one, holds. It is computed from the
//! model, not measured: see the function of each service.

use super::simulator::{Service, Speed, Work};

/// What is true of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Truth {
    /// The highest sustainable throughput.
    Capacity(f64),
    /// That, times the mean of the drift over the trial that confirmed it: it changes and only holds for then.
    Drifting(f64),
    /// The throughput that it had until it died.
    UntilDeath(f64),
    /// No level is sustainable.
    None,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) service: Service,
    pub(crate) truth: Truth,
}

const PLAIN: Service = Service {
    slots: 8,
    queue: usize::MAX,
    work: Work::Exponential(0.04),
    away: 0.01,
    steps: 1,
    think: 0.0,
    speed: Speed::Constant,
    failing: 0.0,
    dies_after: None,
};

/// The Universal Scalability Law with a maximum of 215 runs/s at 44 runs at once.
pub(crate) fn usl(n: f64) -> f64 {
    20.0 * n / (1.0 + 0.05 * (n - 1.0) + 0.0005 * n * (n - 1.0))
}

/// Throughput and failure ratio of a service with `slots`, `queue`, exponential work and refusals, for that many workers.
///
/// Birth and death of runs in the service: n+1 arrives at (workers − n)/away, one departs at min(n, slots)/work. A
/// refused run returns to being away, which changes no state.
pub(crate) fn refusing(
    workers: usize,
    slots: usize,
    queue: usize,
    work: f64,
    away: f64,
) -> (f64, f64) {
    let most = workers.min(slots + queue);
    let mut weights = vec![1.0_f64];
    for n in 0..most {
        let arriving = (workers - n) as f64 / away;
        let departing = (n + 1).min(slots) as f64 / work;
        let next = weights[n] * arriving / departing;
        weights.push(next);
        if next > 1e200 {
            for weight in &mut weights {
                *weight /= 1e200;
            }
        }
    }
    let all: f64 = weights.iter().sum();
    let throughput = weights
        .iter()
        .enumerate()
        .map(|(n, weight)| weight / all * n.min(slots) as f64 / work)
        .sum::<f64>();
    let refused = if most == slots + queue {
        weights[most] / all * (workers - most) as f64 / away
    } else {
        0.0
    };
    (throughput, refused / (throughput + refused))
}

/// The highest throughput within the tolerance over 1 to 500 workers.
pub(crate) fn best_refusing(slots: usize, queue: usize, work: f64, away: f64) -> f64 {
    (1..=500)
        .map(|workers| refusing(workers, slots, queue, work, away))
        .filter(|(_, failing)| *failing <= 0.05)
        .map(|(throughput, _)| throughput)
        .fold(0.0, f64::max)
}

/// All of them, in the order of the page.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = queues();
    cases.extend(several_steps());
    cases.extend(changing());
    cases.extend(failing());
    cases
}

/// Services that stay as they are.
fn queues() -> Vec<Case> {
    vec![
        Case {
            name: "M/M/8/64",
            about: "8 slots of 40 ms (exponential), 56 wait, others are refused at once",
            service: Service { queue: 56, ..PLAIN },
            truth: Truth::Capacity(best_refusing(8, 56, 0.04, 0.01)),
        },
        Case {
            name: "thread pool",
            about: "16 threads of 80 ms (40 to 120), a listen queue of 32, others are refused",
            service: Service {
                slots: 16,
                queue: 32,
                work: Work::Even(0.08),
                away: 0.005,
                ..PLAIN
            },
            // At 48 workers none is refused and a thread is free less than once in 10^12 moments.
            truth: Truth::Capacity(16.0 / 0.08),
        },
        Case {
            name: "connection limit",
            about: "30 runs at once of 50 ms, no queue: the best level is the last before the cliff",
            service: Service {
                slots: 30,
                queue: 0,
                work: Work::Exponential(0.05),
                ..PLAIN
            },
            truth: Truth::Capacity(best_refusing(30, 0, 0.05, 0.01)),
        },
        Case {
            name: "only slower",
            about: "4 slots of 20 ms, everybody may wait: never fails",
            service: Service {
                slots: 4,
                work: Work::Exponential(0.02),
                ..PLAIN
            },
            truth: Truth::Capacity(200.0),
        },
        Case {
            name: "slow runs",
            about: "20 slots of 1.5 s, everybody may wait: 13 runs/s",
            service: Service {
                slots: 20,
                work: Work::Exponential(1.5),
                ..PLAIN
            },
            truth: Truth::Capacity(20.0 / 1.5),
        },
        Case {
            name: "USL curve",
            about: "throughput 215 runs/s at 44 workers, 110 at 500",
            service: Service {
                slots: usize::MAX,
                work: Work::Curve(usl),
                away: 1e-6,
                ..PLAIN
            },
            truth: Truth::Capacity((1..=500).map(|n| usl(f64::from(n))).fold(0.0, f64::max)),
        },
        Case {
            name: "no limit",
            about: "scales to 500 workers and beyond: 909 runs/s there",
            service: Service {
                slots: usize::MAX,
                work: Work::Exponential(0.5),
                away: 0.05,
                ..PLAIN
            },
            truth: Truth::Capacity(500.0 / 0.55),
        },
    ]
}

/// Runs of several requests.
fn several_steps() -> Vec<Case> {
    vec![
        Case {
            name: "six requests",
            about: "runs of six requests, 4 at once, 3 ms each (exponential), everybody may wait",
            service: Service {
                slots: 4,
                work: Work::Exponential(0.003),
                away: 0.001,
                steps: 6,
                ..PLAIN
            },
            truth: Truth::Capacity(4.0 / (6.0 * 0.003)),
        },
        Case {
            name: "waves",
            about: "runs of three requests, 6 at once, always 40 ms each, with 200 ms of thinking before every one: runs \
                    that began together end together",
            service: Service {
                slots: 6,
                work: Work::Fixed(0.04),
                away: 0.0005,
                steps: 3,
                think: 0.2,
                ..PLAIN
            },
            truth: Truth::Capacity(6.0 / (3.0 * 0.04)),
        },
    ]
}

/// Services that change by themselves.
fn changing() -> Vec<Case> {
    vec![
        Case {
            name: "drift",
            about: "as only slower, but capacity swings by 15 % in 400 s",
            service: Service {
                slots: 4,
                work: Work::Exponential(0.02),
                speed: Speed::Drift {
                    amplitude: 0.15,
                    period: 400.0,
                },
                ..PLAIN
            },
            truth: Truth::Drifting(200.0),
        },
        Case {
            name: "noisy neighbour",
            about: "as only slower, but at 60 % of the speed for 2 s in every 10, at random",
            service: Service {
                slots: 4,
                work: Work::Exponential(0.02),
                speed: Speed::Neighbour {
                    slowed: 0.6,
                    busy: 2.0,
                    idle: 8.0,
                },
                ..PLAIN
            },
            truth: Truth::Capacity(200.0 * (0.6 * 2.0 + 8.0) / 10.0),
        },
        Case {
            name: "leak",
            about: "as M/M/8/64, but dead after 15,000 runs",
            service: Service {
                queue: 56,
                dies_after: Some(15_000),
                ..PLAIN
            },
            truth: Truth::UntilDeath(best_refusing(8, 56, 0.04, 0.01)),
        },
    ]
}

/// Services that fail whatever the load.
fn failing() -> Vec<Case> {
    let one = |(name, failing)| {
        let service = Service { failing, ..PLAIN };
        Case {
            name,
            about: "8 slots of 40 ms, everybody may wait, failures whatever the load",
            service,
            truth: if failing <= 0.05 {
                Truth::Capacity(8.0 / 0.04 * (1.0 - failing))
            } else {
                Truth::None
            },
        }
    };
    [
        ("1 % failures", 0.01),
        ("2 % failures", 0.02),
        ("3 % failures", 0.03),
        ("4 % failures", 0.04),
        ("6 % failures", 0.06),
        ("8 % failures", 0.08),
    ]
    .map(one)
    .into()
}

pub(crate) fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}
