//! What holds for any run, and the small decisions; the answers as a whole are held against simulated services in
//! `tests/rust/sizing`.

use proptest::prelude::*;

use super::*;

/// A trial without flaws at that level, with so much throughput and its half width.
pub(super) fn trial(level: f64, runs_per_second: f64, half: f64, length: Length) -> Trial {
    Trial {
        level,
        phase: Phase::Search,
        length,
        began_seconds: 0.0,
        warm_up_seconds: 0.0,
        measured_seconds: 10.0,
        active: level,
        runs_per_second: Interval::around(runs_per_second, half),
        requests_per_second: Interval::around(runs_per_second, half),
        runs: 1000,
        failed: 0,
        failures: Ratio::of(0, 1000),
        service_times: None,
        flaws: Vec::new(),
    }
}

/// The same, failing.
pub(super) fn failing(level: f64, length: Length) -> Trial {
    Trial {
        failed: 500,
        failures: Ratio::of(500, 1000),
        flaws: vec![Flaw::Failures],
        ..trial(level, 50.0, 5.0, length)
    }
}

/// A service as a function: workers to successful and failed runs per second. Returns the findings and all targets.
fn run(settings: Settings, service: impl Fn(f64) -> (f64, f64)) -> (Findings, Vec<f64>) {
    let mut search = Search::new(settings);
    let (mut succeeded, mut failed, mut targets) = (0.0, 0.0, Vec::new());
    let mut target = 0.0;
    for look in 0..20_000 {
        let decision = search.step(&Observation {
            now: f64::from(look) * 0.2,
            started: count(succeeded + failed),
            succeeded: count(succeeded),
            failed: count(failed),
            responses: 3 * count(succeeded),
            active: target,
            starved: 0,
            service_times: None,
        });
        if decision.done {
            return (search.findings(), targets);
        }
        target = decision.target;
        targets.push(target);
        let (ok, failing) = service(target);
        succeeded += ok * 0.2;
        failed += failing * 0.2;
    }
    panic!("no end: {:?}", search.findings());
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
fn count(runs: f64) -> u64 {
    runs as u64
}

#[test]
fn levels_go_up_and_the_answer_is_confirmed_where_the_knee_is() {
    let (findings, targets) = run(Settings::default(), |n| (10.0 * n.min(40.0), 0.0));
    assert_eq!(targets.first(), Some(&1.0));
    let capacity = findings.capacity.clone().unwrap();
    assert!(capacity.confirmed && capacity.limit == Limit::Throughput);
    assert!(
        (38.0..=46.0).contains(&capacity.level),
        "{}",
        capacity.level
    );
    assert!((capacity.runs_per_second.mean - 400.0).abs() < 20.0);
    // Three responses a run.
    assert!((capacity.requests_per_second.mean / capacity.runs_per_second.mean - 3.0).abs() < 0.01);
    assert_eq!(findings.ramp_ended, Some(Reason::Plateau));
    let phases: Vec<Phase> = findings.phases.iter().map(|time| time.phase).collect();
    assert_eq!(phases, [Phase::Ramp, Phase::Search, Phase::Confirm]);
    assert!(
        findings.unconfirmed.is_empty(),
        "{:?}",
        findings.unconfirmed
    );
    let headline = findings.headline();
    assert!(
        headline.contains(" req/s (95 % ") && headline.contains(" workers"),
        "{headline}"
    );
}

#[test]
fn a_cliff_is_approached_to_the_last_worker() {
    let cliff = |n: f64| (10.0 * n.min(30.0), (n - 30.0).max(0.0) * 300.0);
    let (findings, _) = run(Settings::default(), cliff);
    let capacity = findings.capacity.unwrap();
    assert!((capacity.level - 30.0).abs() < 1e-9, "{}", capacity.level);
    assert!(capacity.confirmed && capacity.limit == Limit::Failures);
    assert_eq!(findings.ramp_ended, Some(Reason::Failures));
}

#[test]
fn nothing_but_failures_ends_it_at_once() {
    let (findings, _) = run(Settings::default(), |n| (0.0, 50.0 * n));
    assert_eq!(findings.ramp_ended, Some(Reason::AllFailed));
    assert_eq!(findings.capacity, None);
    assert_eq!(findings.headline(), "no level was sustainable");
    assert!(findings.seconds < 10.0);
    assert_eq!(findings.unconfirmed[0], "Nothing succeeded, not even once.");
}

#[test]
fn what_does_not_hold_with_one_worker_does_not_hold() {
    let (findings, _) = run(Settings::default(), |n| (30.0 * n, 4.0 * n));
    assert_eq!(findings.capacity, None);
    assert!(
        findings
            .unconfirmed
            .iter()
            .any(|doubt| doubt.starts_with("Not even 1 worker")),
        "{:?}",
        findings.unconfirmed
    );
}

#[test]
fn an_interrupted_search_says_what_it_knows() {
    let mut search = Search::new(Settings::default());
    for look in 0..40 {
        let seconds = f64::from(look) * 0.2;
        let _ = search.step(&Observation {
            now: seconds,
            succeeded: count(seconds * 50.0),
            active: search.decision().target,
            ..Observation::default()
        });
    }
    let findings = search.findings();
    assert!(!findings.capacity.unwrap().confirmed);
    assert_eq!(findings.unconfirmed, ["The run ended during the ramp."]);
    assert!(findings.trials.len() >= 2);
}

#[test]
fn a_generator_that_starts_too_little_is_told_apart() {
    // It never gets beyond 20 workers, whatever is asked.
    let mut search = Search::new(Settings::default());
    let mut succeeded = 0.0;
    let mut target = 0.0_f64;
    for look in 0..20_000 {
        let active = target.min(20.0);
        let decision = search.step(&Observation {
            now: f64::from(look) * 0.2,
            succeeded: count(succeeded),
            active,
            ..Observation::default()
        });
        if decision.done {
            break;
        }
        target = decision.target;
        succeeded += target.min(20.0) * 2.0;
    }
    let findings = search.findings();
    assert!(findings.capacity.unwrap().level <= 20.5);
    let not_reached = |flaw: &Flaw| matches!(flaw, Flaw::NotReached { .. });
    assert!(
        findings
            .trials
            .iter()
            .any(|trial| trial.flaws.iter().any(not_reached))
    );
}

proptest! {
    #[test]
    fn no_observations_panic_and_targets_stay_within_bounds(
        looks in prop::collection::vec((prop::num::f64::ANY, any::<[u32; 4]>(), 0.0..600.0_f64), 1..200),
        growing in any::<bool>(), even in any::<bool>(), rate in any::<bool>(), tolerance_ratio in 0.0..=1.0_f64,
    ) {
        let settings = Settings {
            unit: if rate { Unit::RunsPerSecond } else { Unit::Workers },
            ramp: if even { Ramp::Even { seconds: 30.0 } } else { Ramp::Adaptive },
            latency: Some("p95<500ms".parse().unwrap()),
            tolerance_ratio,
            ..Settings::default()
        };
        let (first, highest) = (settings.first_level, settings.highest_level);
        let mut search = Search::new(settings);
        let mut times = Histogram::<u64>::new(3).unwrap();
        let (mut now, mut sums) = (0.0, [0_u64; 4]);
        for (time, counts, active) in looks {
            now = if growing { now + time.abs() % 10.0 } else { time };
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(count % 1000);
            }
            times.reset();
            times.record_n(u64::from(counts[3]), u64::from(counts[0] % 50)).unwrap();
            let [started, succeeded, failed, responses] = sums;
            let decision = search.step(&Observation {
                now, started, succeeded, failed, responses, active, starved: failed, service_times: Some(&times),
            });
            // While runs that piled up are worked off, half of a rate.
            let lowest = if rate { first / 2.0 } else { first };
            prop_assert!(decision.done || (lowest..=highest).contains(&decision.target), "{decision:?}");
            let findings = search.findings();
            prop_assert!(!findings.headline().is_empty());
            if let Some(capacity) = findings.capacity {
                let rate = capacity.runs_per_second;
                prop_assert!(rate.low <= rate.mean && rate.mean <= rate.high);
            }
        }
    }
}
