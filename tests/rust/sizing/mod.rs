//! The search against simulated services with a known truth, over many seeds.
//!
//! `SIZING_SEEDS` sets how many (a dozen unless told otherwise); `make simulations` takes 200 and writes the table of
//! `docs/sizing-simulations.md`.

mod original;
mod services;
mod simulator;

use molotov::sizing::search::{Findings, Observation, Search, Settings, Unit};
use services::{Case, Truth, cases};
use simulator::World;

const LOOK_SECONDS: f64 = 0.2;

fn seeds() -> u64 {
    std::env::var("SIZING_SEEDS").map_or(12, |seeds| seeds.parse().unwrap())
}

/// Runs a search to its end in virtual time.
fn search(world: &mut World, settings: Settings) -> Findings {
    let unit = settings.unit;
    let mut search = Search::new(settings);
    loop {
        let decision = search.step(&Observation {
            now: world.now + 1000.0,
            started: world.counts.started,
            succeeded: world.counts.succeeded,
            failed: world.counts.failed,
            responses: world.counts.responses,
            active: world.active as f64,
            service_times: Some(&world.times),
        });
        world.times.reset();
        if decision.done {
            return search.findings();
        }
        match unit {
            Unit::Workers => world.set_workers(decision.target as usize),
            Unit::RunsPerSecond => world.set_rate(decision.target),
        }
        world.advance(world.now + LOOK_SECONDS);
        assert!(world.now < 3600.0, "no end: {:?}", search.findings());
    }
}

/// What a seed came to.
#[derive(Debug)]
struct Outcome {
    findings: Findings,
    /// Capacity by the truth, less one.
    bias: Option<f64>,
    covered: bool,
}

impl Outcome {
    fn new(findings: Findings, truth: Truth, world: &World, case: &Case) -> Self {
        let truth = match truth {
            Truth::Capacity(truth) | Truth::UntilDeath(truth) => Some(truth),
            Truth::Drifting(truth) => findings.capacity.as_ref().map(|capacity| {
                let own = || {
                    findings.trials.iter().filter(|trial| {
                        trial.sustainable() && (trial.level - capacity.level).abs() < 0.5
                    })
                };
                let longest = own().map(|trial| trial.length).max();
                let long: Vec<_> = own()
                    .filter(|trial| Some(trial.length) == longest)
                    .collect();
                let seconds: f64 = long.iter().map(|trial| trial.measured_seconds).sum();
                let weighted = long.iter().map(|trial| {
                    let from = trial.began_seconds + trial.warm_up_seconds;
                    let parts = (0..1000).map(|part| f64::from(part) / 1000.0);
                    let speed = parts.map(|part| {
                        let at = from + trial.measured_seconds * part;
                        case.service.speed.at(at, world.phase)
                    });
                    speed.sum::<f64>() / 1000.0 * trial.measured_seconds
                });
                truth * weighted.sum::<f64>() / seconds
            }),
            Truth::None => None,
        };
        let capacity = findings.capacity.as_ref().map(|capacity| capacity.runs_per_second);
        let both = capacity.zip(truth);
        Self {
            bias: both.map(|(capacity, truth)| capacity.mean / truth - 1.0),
            covered: both
                .is_some_and(|(capacity, truth)| (capacity.low..=capacity.high).contains(&truth)),
            findings,
        }
    }
}

fn outcomes(case: &Case) -> Vec<Outcome> {
    (0..seeds())
        .map(|seed| {
            let mut world = World::new(case.service, seed);
            let findings = search(&mut world, Settings::default());
            Outcome::new(findings, case.truth, &world, case)
        })
        .collect()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[test]
fn table() {
    for case in cases() {
        let clock = std::time::Instant::now();
        let outcomes = outcomes(&case);
        let n = outcomes.len() as f64;
        let share = |of: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|o| of(o)).count() as f64 / n * 100.0;
        let biases: Vec<f64> = outcomes.iter().filter_map(|o| o.bias).collect();
        println!(
            "{:18} bias {:+.3} ({:+.3}..{:+.3}) covered {:.0}% half {:.3} confirmed {:.0}% secs {:.0} (max {:.0}) level {:.0} trials {:.0} | {:?} ms/seed",
            case.name,
            median(biases.iter().copied()),
            biases.iter().copied().fold(f64::INFINITY, f64::min),
            biases.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            share(&|o| o.covered),
            median(outcomes.iter().filter_map(|o| o.findings.capacity.as_ref()).map(|c| (c.runs_per_second.high - c.runs_per_second.low) / 2.0 / c.runs_per_second.mean)),
            share(&|o| o.findings.capacity.as_ref().is_some_and(|c| c.confirmed)),
            median(outcomes.iter().map(|o| o.findings.seconds)),
            outcomes.iter().map(|o| o.findings.seconds).fold(0.0, f64::max),
            median(outcomes.iter().filter_map(|o| o.findings.capacity.as_ref()).map(|c| c.level)),
            median(outcomes.iter().map(|o| o.findings.trials.len() as f64)),
            clock.elapsed().as_millis() as f64 / n,
        );
        println!("      missed {} too low, {} too high; ramp {:?}", outcomes.iter().filter(|o| !o.covered && o.bias.is_some_and(|b| b < 0.0)).count(), outcomes.iter().filter(|o| !o.covered && o.bias.is_some_and(|b| b > 0.0)).count(), outcomes.iter().map(|o| format!("{:?}", o.findings.ramp_ended)).fold(std::collections::BTreeMap::new(), |mut m, r| { *m.entry(r).or_insert(0) += 1; m }));
        if let Ok(show) = std::env::var("SHOW") && case.name.contains(&show) {
            for o in outcomes.iter().filter(|o| !o.covered || o.bias.is_none_or(|b| b.abs() > 0.05) || o.findings.seconds > 180.0) {
                println!("  {} | ramp {:?} limit {:?} bias {:?} cov {} {:?}", o.findings.headline(), o.findings.ramp_ended, o.findings.capacity.as_ref().map(|c| c.limit), o.bias, o.covered, o.findings.unconfirmed);
                for t in &o.findings.trials {
                    println!("     {:6.1} {:8} {:?} L{:.0} warm {:.1} meas {:.1} X {:.1} [{:.1} {:.1}] fail {:.3} {:?}", t.began_seconds, t.phase.as_str(), t.length, t.level, t.warm_up_seconds, t.measured_seconds, t.runs_per_second.mean, t.runs_per_second.low, t.runs_per_second.high, t.failures.ratio, t.flaws);
                }
            }
        }
    }
}
