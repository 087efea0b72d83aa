//! The search against simulated services with a known truth, over many seeds.
//!
//! `SIZING_SEEDS` sets how many (20 unless told otherwise); `make simulations` takes 200, checks the same bars and writes
//! `docs/sizing-simulations.md`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and places, made from times and shares"
)]

mod original;
mod services;
mod simulator;
mod table;

use molotov::sizing::Reason;
use molotov::sizing::search::{
    Findings, Flaw, Length, Limit, Observation, Phase, Ramp, Search, Settings, Unit,
};
use services::{Case, Truth, case, cases};
use simulator::World;

const LOOK_SECONDS: f64 = 0.2;

/// Molotov's default ramp, in seconds.
const ORIGINAL_RAMP_SECONDS: f64 = 300.0;

fn seeds() -> u64 {
    std::env::var("SIZING_SEEDS").map_or(20, |seeds| seeds.parse().unwrap())
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
            starved: world.starved,
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
    fn new(findings: Findings, world: &World, case: &Case) -> Self {
        let truth = match case.truth {
            Truth::Capacity(truth) | Truth::UntilDeath(truth) => Some(truth),
            Truth::Drifting(truth) => Some(truth * mean_speed(&findings, world, case)),
            Truth::None => None,
        };
        let capacity = findings.capacity.as_ref();
        let both = capacity.map(|capacity| capacity.runs_per_second).zip(truth);
        Self {
            bias: both.map(|(capacity, truth)| capacity.mean / truth - 1.0),
            covered: both
                .is_some_and(|(capacity, truth)| (capacity.low..=capacity.high).contains(&truth)),
            findings,
        }
    }

    fn confirmed(&self) -> bool {
        self.findings
            .capacity
            .as_ref()
            .is_some_and(|capacity| capacity.confirmed)
    }
}

/// The mean factor of a drift over the trials that the capacity was measured in.
fn mean_speed(findings: &Findings, world: &World, case: &Case) -> f64 {
    let level = findings
        .capacity
        .as_ref()
        .map_or(0.0, |capacity| capacity.level);
    let own = || {
        findings
            .trials
            .iter()
            .filter(|trial| trial.sustainable() && (trial.level - level).abs() < 0.5)
    };
    let longest = own().map(|trial| trial.length).max();
    let measured: Vec<_> = own()
        .filter(|trial| Some(trial.length) == longest)
        .collect();
    let seconds: f64 = measured.iter().map(|trial| trial.measured_seconds).sum();
    let speeds = measured.iter().map(|trial| {
        let from = trial.began_seconds + trial.warm_up_seconds;
        let parts = (0..1000).map(|part| f64::from(part) / 1000.0);
        let speed = parts.map(|part| {
            let at = from + trial.measured_seconds * part;
            case.service.speed.at(at, world.phase)
        });
        speed.sum::<f64>() / 1000.0 * trial.measured_seconds
    });
    speeds.sum::<f64>() / seconds
}

fn outcomes(case: &Case) -> Vec<Outcome> {
    let one = |seed| {
        let mut world = World::new(case.service, seed);
        let findings = search(&mut world, Settings::default());
        Outcome::new(findings, &world, case)
    };
    (0..seeds()).map(one).collect()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: impl IntoIterator<Item = f64>, quantile: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * quantile) as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}

/// The fewest of `seeds` that have to hold for a share of 90 %, three standard errors of luck allowed for few seeds.
fn most(of: usize) -> usize {
    let n = of as f64;
    (0.9 * n
        - if of < 100 {
            3.0 * (0.09 * n).sqrt()
        } else {
            0.0
        })
    .floor() as usize
}

/// The bars that every service with a capacity is held against.
fn hold(name: &str) -> Vec<Outcome> {
    let outcomes = outcomes(&case(name));
    let bias = median(outcomes.iter().map(|outcome| outcome.bias.unwrap()));
    assert!(bias.abs() <= 0.05, "{name}: bias {bias}");
    let covered = outcomes.iter().filter(|outcome| outcome.covered).count();
    assert!(
        covered >= most(outcomes.len()),
        "{name}: {covered} of {} cover",
        outcomes.len()
    );
    outcomes
}

/// And those for services that have an answer to confirm.
fn hold_confirmed(name: &str) -> Vec<Outcome> {
    let outcomes = hold(name);
    let confirmed = outcomes
        .iter()
        .filter(|outcome| outcome.confirmed())
        .count();
    assert!(
        confirmed >= most(outcomes.len()),
        "{name}: {confirmed} confirmed"
    );
    let seconds = median(outcomes.iter().map(|outcome| outcome.findings.seconds));
    assert!(
        seconds <= 0.6 * ORIGINAL_RAMP_SECONDS,
        "{name}: {seconds} s"
    );
    outcomes
}

fn limits(outcomes: &[Outcome], limit: Limit) -> usize {
    outcomes
        .iter()
        .filter(|outcome| {
            outcome
                .findings
                .capacity
                .as_ref()
                .is_some_and(|capacity| capacity.limit == limit)
        })
        .count()
}

fn median_level(outcomes: &[Outcome]) -> f64 {
    median(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.findings.capacity.as_ref())
            .map(|capacity| capacity.level),
    )
}

#[test]
fn queues_with_refusals() {
    let outcomes = hold_confirmed("M/M/8/64");
    assert!((8.0..=64.0).contains(&median_level(&outcomes)));
    let outcomes = hold_confirmed("thread pool");
    assert!((16.0..=49.0).contains(&median_level(&outcomes)));
}

#[test]
fn the_last_level_before_a_cliff() {
    let outcomes = hold_confirmed("connection limit");
    assert!((30.0..=34.0).contains(&median_level(&outcomes)));
    assert!(limits(&outcomes, Limit::Failures) >= most(outcomes.len()));
}

#[test]
fn what_only_gets_slower_is_sized_at_its_knee() {
    let outcomes = hold_confirmed("only slower");
    let levels: Vec<f64> = outcomes
        .iter()
        .map(|outcome| outcome.findings.capacity.as_ref().unwrap().level)
        .collect();
    assert!(levels.iter().all(|level| *level <= 64.0), "{levels:?}");
    assert!(limits(&outcomes, Limit::Throughput) >= most(outcomes.len()));
}

#[test]
fn slow_runs_take_longer_and_are_no_worse() {
    hold("slow runs");
}

#[test]
fn runs_of_several_requests_are_known_as_well() {
    let outcomes = hold_confirmed("six requests");
    assert!((4.0..=16.0).contains(&median_level(&outcomes)));
    let outcomes = hold_confirmed("waves");
    assert!((36.0..=64.0).contains(&median_level(&outcomes)));
    let half = |outcome: &Outcome| {
        let capacity = outcome.findings.capacity.as_ref().unwrap();
        let rate = capacity.requests_per_second;
        (rate.high - rate.low) / 2.0 / rate.mean
    };
    let half = median(outcomes.iter().map(half));
    assert!(half < 0.05, "{half}");
}

#[test]
fn a_maximum_is_found_and_explained() {
    let outcomes = hold_confirmed("USL curve");
    assert!((23.0..=64.0).contains(&median_level(&outcomes)));
    let fits: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.findings.usl)
        .collect();
    assert!(fits.len() >= most(outcomes.len()));
    let contention = median(fits.iter().map(|fit| fit.contention));
    assert!((0.03..0.07).contains(&contention), "{contention}");
    let peak = median(fits.iter().filter_map(|fit| fit.peak_workers));
    assert!((35.0..55.0).contains(&peak), "{peak}");
}

#[test]
fn no_limit_in_reach_is_said_to_be_none() {
    let outcomes = hold_confirmed("no limit");
    assert_eq!(limits(&outcomes, Limit::Nothing), outcomes.len());
    assert!(outcomes[0].findings.headline().starts_with("at least "));
}

#[test]
fn a_capacity_that_changes() {
    hold_confirmed("drift");
}

#[test]
fn a_noisy_neighbour() {
    hold_confirmed("noisy neighbour");
}

#[test]
fn a_service_that_dies_is_never_confirmed() {
    let outcomes = hold("leak");
    for outcome in &outcomes {
        assert!(!outcome.confirmed());
        let doubts = &outcome.findings.unconfirmed;
        assert!(
            doubts[0].starts_with("The service stopped working"),
            "{doubts:?}"
        );
        // It is noticed soon: 15,000 runs take some 85 seconds.
        assert!(outcome.findings.seconds < 120.0);
    }
    assert_eq!(limits(&outcomes, Limit::Died), outcomes.len());
}

#[test]
fn background_failures_within_the_tolerance_stop_nothing() {
    for name in [
        "1 % failures",
        "2 % failures",
        "3 % failures",
        "4 % failures",
    ] {
        let outcomes = hold_confirmed(name);
        let stopped = outcomes
            .iter()
            .filter(|outcome| outcome.findings.ramp_ended == Some(Reason::Failures))
            .count();
        assert_eq!(stopped, 0, "{name}");
    }
}

#[test]
fn background_failures_beyond_it_leave_no_level() {
    for name in ["6 % failures", "8 % failures"] {
        let outcomes = outcomes(&case(name));
        let confirmed = outcomes
            .iter()
            .filter(|outcome| outcome.confirmed())
            .count();
        assert!(confirmed * 20 <= outcomes.len(), "{name}: {confirmed}");
        let none = outcomes
            .iter()
            .filter(|outcome| outcome.findings.capacity.is_none());
        assert!(none.count() >= most(outcomes.len()) * 8 / 9, "{name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let case = case("noisy neighbour");
    let run = || search(&mut World::new(case.service, 7), Settings::default());
    assert_eq!(run(), run());
}

/// The services that are searched on the rate as well.
const BY_RATE: [&str; 3] = ["only slower", "M/M/8/64", "thread pool"];

/// Workers that may make a rate.
const MOST_WORKERS: usize = 500;

fn by_rate(case: &Case, poisson: bool, workers: usize) -> Vec<Outcome> {
    (0..seeds())
        .map(|seed| {
            let mut world = World::new(case.service, seed);
            world.poisson = poisson;
            world.most = workers;
            let settings = Settings {
                unit: Unit::RunsPerSecond,
                highest_level: 100_000.0,
                ..Settings::default()
            };
            Outcome::new(search(&mut world, settings), &world, case)
        })
        .collect()
}

#[test]
fn a_rate_is_searched_like_workers() {
    for name in BY_RATE {
        for poisson in [false, true] {
            let case = case(name);
            let outcomes = by_rate(&case, poisson, MOST_WORKERS);
            let without = outcomes.iter().find(|outcome| outcome.bias.is_none());
            assert!(without.is_none(), "{name}, {poisson}: {without:#?}");
            let bias = median(outcomes.iter().filter_map(|outcome| outcome.bias));
            assert!(bias.abs() <= 0.05, "{name}, {poisson}: {bias}");
            let confirmed = outcomes
                .iter()
                .filter(|outcome| outcome.confirmed())
                .count();
            assert!(
                confirmed >= most(outcomes.len()),
                "{name}, {poisson}: {confirmed}"
            );
            let covered = outcomes.iter().filter(|outcome| outcome.covered).count();
            assert!(
                covered >= most(outcomes.len()),
                "{name}, {poisson}: {covered} cover"
            );
            let seconds = median(outcomes.iter().map(|outcome| outcome.findings.seconds));
            // The median of a few seeds may well be a third higher.
            let luck = if outcomes.len() < 100 { 1.33 } else { 1.0 };
            assert!(
                seconds <= 0.6 * ORIGINAL_RAMP_SECONDS * luck,
                "{name}, {poisson}: {seconds} s"
            );
        }
    }
}

#[test]
fn too_few_workers_for_a_rate_are_told_apart_from_a_slow_service() {
    // 200 runs/s of 50 ms keep 10 workers busy; four do for 80.
    let outcomes = by_rate(&case("only slower"), false, 4);
    for outcome in &outcomes {
        let findings = &outcome.findings;
        let capacity = findings.capacity.as_ref().unwrap();
        assert_eq!(capacity.limit, Limit::Workers, "{findings:?}");
        assert!(
            (55.0..90.0).contains(&capacity.runs_per_second.mean),
            "{capacity:?}"
        );
        assert!(findings.headline().starts_with("at least "));
        let doubts = findings.unconfirmed.join(" ");
        assert!(doubts.contains("more workers may bring more"), "{doubts}");
        let busy = |flaw: &Flaw| matches!(flaw, Flaw::WorkersBusy { .. });
        assert!(
            findings
                .trials
                .iter()
                .any(|trial| trial.flaws.iter().any(busy))
        );
    }
}

#[test]
fn a_latency_rule_is_a_limit() {
    let case = case("only slower");
    // The truth from half an hour at each level: here at most 5 % of the runs may take longer than 85 ms.
    let truth = (1..=16)
        .filter_map(|workers| {
            let mut world = World::new(case.service, 99);
            world.set_workers(workers);
            world.advance(1800.0);
            let within = world.times.count_between(0, 85_000) as f64;
            let share = within / world.times.len() as f64;
            (share >= 0.95).then_some(world.counts.succeeded as f64 / 1800.0)
        })
        .fold(0.0, f64::max);
    assert!(
        (150.0..195.0).contains(&truth),
        "the rule binds below the knee: {truth}"
    );
    let settings = Settings {
        latency: Some("p95<85ms".parse().unwrap()),
        ..Settings::default()
    };
    let mut biases = Vec::new();
    for seed in 0..seeds() {
        let findings = search(&mut World::new(case.service, seed), settings.clone());
        let capacity = findings.capacity.unwrap();
        let p95_seconds = capacity.service_times.unwrap().p95_seconds;
        assert!(p95_seconds <= 0.0855, "{p95_seconds}");
        biases.push(capacity.runs_per_second.mean / truth - 1.0);
    }
    assert!(median(biases.iter().copied()).abs() < 0.05, "{biases:?}");
}

#[test]
fn a_ramp_of_a_given_length_is_kept() {
    let case = case("only slower");
    let ramp_seconds = 120.0;
    for seed in 0..seeds() {
        let mut world = World::new(case.service, seed);
        let settings = Settings {
            ramp: Ramp::Even {
                seconds: ramp_seconds,
            },
            highest_level: 100.0,
            ..Settings::default()
        };
        let findings = search(&mut world, settings);
        let ramp = findings.phases[0];
        assert_eq!(ramp.phase, Phase::Ramp);
        assert!(ramp.ended_seconds <= ramp_seconds + 31.0);
        let outcome = Outcome::new(findings, &world, &case);
        assert!(outcome.confirmed());
        assert!(outcome.bias.unwrap().abs() < 0.1, "{outcome:?}");
    }
}

#[test]
fn short_of_time_it_says_what_is_missing() {
    let case = case("only slower");
    for (budget_seconds, confirms) in [(5.0, false), (15.0, false), (60.0, true)] {
        let settings = Settings {
            budget_seconds,
            ..Settings::default()
        };
        let findings = search(&mut World::new(case.service, 1), settings);
        let ramp = findings.phases[0];
        assert!(findings.seconds - ramp.ended_seconds <= budget_seconds + 5.0);
        assert_eq!(
            findings.capacity.as_ref().unwrap().confirmed,
            confirms,
            "{findings:?}"
        );
        assert_eq!(
            findings.unconfirmed.is_empty(),
            confirms,
            "{:?}",
            findings.unconfirmed
        );
        let long = findings
            .trials
            .iter()
            .any(|trial| trial.length == Length::Long);
        assert_eq!(long, budget_seconds > 10.0);
    }
}

#[test]
fn findings_survive_json() {
    let findings = search(
        &mut World::new(case("USL curve").service, 3),
        Settings::default(),
    );
    let json = serde_json::to_string(&findings).unwrap();
    let again: Findings = serde_json::from_str(&json).unwrap();
    // Without its `float_roundtrip`, serde_json reads the last digit of some numbers differently.
    let rounded = |findings: &Findings| {
        let trials = findings.trials.iter();
        let levels = trials.map(|trial| (trial.level, trial.length, trial.flaws.clone()));
        (
            findings.headline(),
            findings.ramp_ended,
            findings.phases.len(),
            levels.collect::<Vec<_>>(),
        )
    };
    assert_eq!(rounded(&again), rounded(&findings));
    for key in [
        "\"requests_per_second\":{\"mean\":",
        "\"ramp_ended\":\"plateau\"",
        "\"contention\":",
    ] {
        assert!(json.contains(key), "{key}");
    }
}

#[test]
fn every_case_is_held_against_a_bar() {
    let source = include_str!("mod.rs");
    for case in cases() {
        assert!(
            source.contains(&format!("\"{}\"", case.name)),
            "{}",
            case.name
        );
    }
}
