//! Simulated services with a known truth, over many seeds.

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const LOOK_SECONDS: f64 = 0.2;
const SEEDS: u64 = 60;

/// A ramp: so many workers over so many seconds.
#[derive(Clone, Copy)]
struct Ramp {
    workers: u64,
    seconds: f64,
}

const DEFAULT: Ramp = Ramp {
    workers: 500,
    seconds: 300.0,
};
const DEMO: Ramp = Ramp {
    workers: 60,
    seconds: 60.0,
};
const SHORT: Ramp = Ramp {
    workers: 100,
    seconds: 30.0,
};

impl Ramp {
    fn started(self, seconds: f64) -> u64 {
        let share = (seconds / self.seconds).min(1.0);
        whole(share * self.workers as f64).clamp(1, self.workers)
    }
}

/// A service seen from outside: by workers and time, successful and failed runs per second.
type Service<'a> = &'a dyn Fn(f64, f64) -> (f64, f64);

/// Standard normal by Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    let (a, b) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// A count with that mean and as much spread as independent arrivals have.
fn arrivals(rng: &mut Rng, mean: f64) -> u64 {
    if mean > 50.0 {
        return whole((mean + mean.sqrt() * normal(rng)).max(0.0) - 0.5);
    }
    let (mut n, mut product, limit) = (0, rng.f64(), (-mean).exp());
    while product > limit {
        n += 1;
        product *= rng.f64();
    }
    n
}

struct Outcome {
    verdict: Verdict,
    seconds: f64,
}

/// Runs a ramp until a verdict. `noise` is the spread of a slow disturbance (half of it gone after about two seconds)
/// that multiplies the service's speed, on top of the spread of independent arrivals.
fn run(service: Service, ramp: Ramp, noise: f64, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let settings = Settings {
        workers: ramp.workers,
        ..Settings::default()
    };
    let mut controller = Controller::new(settings);
    let (mut totals, mut disturbance) = (Totals::default(), 0.0);
    let mut look = 0_u32;
    loop {
        let seconds = f64::from(look) * LOOK_SECONDS;
        look += 1;
        totals.workers_started = ramp.started(seconds);
        if let Some(verdict) = controller.observe(seconds + 1000.0, totals) {
            assert_eq!(verdict.workers, totals.workers_started);
            return Outcome { verdict, seconds };
        }
        let memory = (-LOOK_SECONDS / 3.0_f64).exp();
        disturbance = memory * disturbance + (1.0 - memory * memory).sqrt() * normal(&mut rng);
        let pace = (1.0 + noise * disturbance).max(0.05) * LOOK_SECONDS;
        let (ok, failing) = service(totals.workers_started as f64, seconds);
        totals.succeeded += arrivals(&mut rng, ok * pace);
        totals.failed += arrivals(&mut rng, failing * pace);
        totals.requests = 3 * (totals.succeeded + totals.failed);
    }
}

/// The outcomes of all seeds that ended for that reason.
fn ended(service: Service, ramp: Ramp, noise: f64, reason: Reason) -> Vec<Outcome> {
    (0..SEEDS)
        .map(|seed| run(service, ramp, noise, seed))
        .filter(|outcome| outcome.verdict.reason == reason)
        .collect()
}

fn all(service: Service, ramp: Ramp, noise: f64, reason: Reason) -> Vec<Outcome> {
    let outcomes = ended(service, ramp, noise, reason);
    assert_eq!(
        outcomes.len() as u64,
        SEEDS,
        "{reason:?}, noise {noise}, {} workers",
        ramp.workers
    );
    outcomes
}

fn median(outcomes: &[Outcome], of: fn(&Outcome) -> f64) -> f64 {
    let mut values: Vec<f64> = outcomes.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Kinto with its memory backend as measured: 123 runs/s with one worker, 163 with ten to fifty, 95 with a hundred.
fn kinto(workers: f64, _: f64) -> (f64, f64) {
    let throughput = if workers < 10.0 {
        118.0 + 4.5 * workers
    } else if workers < 50.0 {
        163.0
    } else {
        (163.0 - (workers - 50.0) * 1.36).max(90.0)
    };
    (throughput, 0.0)
}

#[test]
fn a_service_that_scales_is_never_stopped() {
    let fast = |workers: f64, _: f64| (2.0 * workers, 0.0);
    let slow = |workers: f64, _: f64| (0.2 * workers, 0.0);
    for ramp in [DEFAULT, DEMO, SHORT] {
        for noise in [0.05, 0.15, 0.3] {
            for service in [&fast as Service, &slow] {
                let outcomes = all(service, ramp, noise, Reason::RampEnded);
                let sentence = &outcomes[0].verdict.sentence;
                assert!(
                    sentence.starts_with(&format!("At least {} workers, ", ramp.workers)),
                    "{sentence}"
                );
            }
        }
    }
}

#[test]
fn runs_that_last_seconds_are_not_taken_for_a_plateau() {
    // Workers of the first d seconds finish a run, then those of the first two d, and so on: throughput rises in steps.
    for length in [5.0, 12.0, 20.0] {
        let waves = |workers: f64, seconds: f64| {
            let ramp_rate = if seconds < DEMO.seconds {
                1.0
            } else {
                workers / DEMO.seconds
            };
            (ramp_rate * (seconds / length).floor() * 5.0, 0.0)
        };
        let cut = ended(&waves, DEMO, 0.1, Reason::Plateau);
        assert!(cut.is_empty(), "{length} s: {} of {SEEDS}", cut.len());
    }
}

#[test]
fn a_service_that_stalls_for_a_while_is_not_stopped() {
    for stall in [20.0, 40.0, 100.0] {
        let service = |workers: f64, seconds: f64| {
            let speed = if (stall..stall + 6.0).contains(&seconds) {
                0.3
            } else {
                2.0
            };
            (workers * speed, 0.0)
        };
        all(&service, DEFAULT, 0.05, Reason::RampEnded);
    }
}

#[test]
fn kinto_ends_on_its_plateau() {
    for (ramp, noise) in [
        (DEFAULT, 0.05),
        (DEFAULT, 0.15),
        (DEMO, 0.05),
        (SHORT, 0.05),
    ] {
        let outcomes = all(&kinto, ramp, noise, Reason::Plateau);
        assert!(outcomes.iter().all(|outcome| outcome.seconds > 30.0));
        assert!(median(&outcomes, |outcome| outcome.seconds) < 45.0);
        let best = median(&outcomes, |outcome| outcome.verdict.best_runs_per_second);
        assert!((best / 163.0 - 1.0).abs() < 0.1 + noise, "{best}");
        assert!(median(&outcomes, |outcome| outcome.verdict.best_workers as f64) <= 50.0);
    }
    let fallen = run(&kinto, SHORT, 0.05, 1).verdict.sentence;
    assert!(
        fallen.starts_with("Throughput fell by ") && fallen.ends_with(" to 100 workers."),
        "{fallen}"
    );
    let flat = run(&kinto, DEFAULT, 0.05, 0).verdict.sentence;
    assert!(
        flat.starts_with("Throughput stopped growing although workers kept coming: "),
        "{flat}"
    );
}

#[test]
fn a_knee_is_found_where_it_is() {
    for (knee, ramp) in [
        (20.0, DEFAULT),
        (20.0, SHORT),
        (100.0, DEFAULT),
        (250.0, DEFAULT),
    ] {
        let service = |workers: f64, _: f64| (5.0 * workers.min(knee), 0.0);
        let outcomes = ended(&service, ramp, 0.05, Reason::Plateau);
        assert!(
            outcomes.len() as u64 * 10 >= SEEDS * 9,
            "knee {knee}: {} of {SEEDS}",
            outcomes.len()
        );
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.verdict.workers as f64 > 1.4 * knee),
            "knee {knee}"
        );
        let best = median(&outcomes, |outcome| outcome.verdict.best_runs_per_second);
        assert!(
            (best / (5.0 * knee) - 1.0).abs() < 0.1,
            "knee {knee}: {best}"
        );
    }
}

#[test]
fn a_limit_on_connections_is_found_at_once() {
    // What nginx's `limit_conn 30` looks like: each worker beyond the limit fails some hundred times a second.
    let limited = |workers: f64, _: f64| (75.0, (workers - 30.0).max(0.0) * 300.0);
    for (ramp, noise) in [(DEFAULT, 0.3), (DEMO, 0.05), (SHORT, 0.15)] {
        for outcome in all(&limited, ramp, noise, Reason::Failures) {
            let Verdict {
                workers,
                ratio_percent,
                sentence,
                ..
            } = outcome.verdict;
            assert!((31..=33).contains(&workers), "{workers}");
            assert!(
                ratio_percent > 5.0 && sentence.ends_with(&format!(" with {workers} workers.")),
                "{sentence}"
            );
        }
    }
}

#[test]
fn failures_within_the_tolerance_rarely_stop_a_run() {
    for (ratio, most) in [(0.0495, SEEDS * 3 / 10), (0.04, SEEDS / 15)] {
        let service = |workers: f64, _: f64| (workers * 2.0 * (1.0 - ratio), workers * 2.0 * ratio);
        for ramp in [DEFAULT, DEMO, SHORT] {
            let stopped = ended(&service, ramp, 0.05, Reason::Failures).len() as u64;
            assert!(
                stopped <= most,
                "{ratio}, {} workers: {stopped} of {SEEDS}",
                ramp.workers
            );
        }
    }
}

#[test]
fn background_failures_stop_a_run_and_are_told_from_overload() {
    let service = |workers: f64, _: f64| (workers * 2.0 * 0.92, workers * 2.0 * 0.08);
    for ramp in [DEFAULT, DEMO, SHORT] {
        let outcomes = all(&service, ramp, 0.05, Reason::Failures);
        let told = outcomes
            .iter()
            .filter(|outcome| {
                outcome
                    .verdict
                    .sentence
                    .contains("They did not grow with the workers")
            })
            .count() as u64;
        assert!(told * 10 >= SEEDS * 9, "{told} of {SEEDS}");
        assert!(outcomes.iter().all(|outcome| outcome.verdict.workers > 1));
    }
}

#[test]
fn overload_that_fails_slowly_is_not_called_background() {
    let service = |workers: f64, _: f64| {
        let served = (4.0 * workers).min(200.0);
        (served, (4.0 * workers - served) * 0.5)
    };
    for outcome in all(&service, DEFAULT, 0.05, Reason::Failures) {
        assert!(
            !outcome.verdict.sentence.contains("did not grow"),
            "{}",
            outcome.verdict.sentence
        );
        assert!((50..80).contains(&outcome.verdict.workers));
    }
}

#[test]
fn nothing_but_failures_ends_a_run_at_once() {
    let mut controller = Controller::new(Settings::default());
    let mut observe = |now, failed| {
        controller.observe(
            now,
            Totals {
                failed,
                workers_started: 1,
                ..Totals::default()
            },
        )
    };
    assert_eq!(observe(0.0, 0), None);
    assert_eq!(observe(0.2, 19), None);
    let verdict = observe(0.4, 20).unwrap();
    assert_eq!((verdict.reason, verdict.workers), (Reason::AllFailed, 1));
    assert!((verdict.ratio_percent - 100.0).abs() < 1e-9);
    assert!(
        verdict
            .sentence
            .starts_with("All of the first 20 runs failed, none succeeded")
    );
    assert_eq!(observe(0.6, 40).as_ref(), Some(&verdict), "an answer stays");
    assert_eq!(controller.finish(true), verdict);
}

#[test]
fn the_window_slides() {
    let mut controller = Controller::new(Settings::default());
    let mut totals = Totals {
        workers_started: 1,
        ..Totals::default()
    };
    // A bad start is forgotten a minute later: 4 of 100, then none.
    for second in 0..=61 {
        totals.succeeded += if second == 1 { 96 } else { 10 };
        totals.failed += if second == 1 { 4 } else { 0 };
        assert_eq!(controller.observe(f64::from(second), totals), None);
    }
    let verdict = controller.finish(true);
    assert_eq!(
        (
            verdict.reason,
            verdict.window_failed,
            verdict.window_succeeded
        ),
        (Reason::Interrupted, 0, 600)
    );
    assert!(
        verdict
            .sentence
            .starts_with("The run was interrupted at 1 of 500 workers"),
        "{}",
        verdict.sentence
    );
    // The failures of now count against the last minute only.
    totals.failed += 60;
    let verdict = controller.observe(62.0, totals).unwrap();
    assert_eq!((verdict.window_failed, verdict.window_succeeded), (60, 590));
    assert!(
        verdict
            .sentence
            .starts_with("9.2 % of the runs of the last 60 s failed (60 of 650)"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn fewer_than_a_hundred_runs_prove_nothing() {
    let mut controller = Controller::new(Settings::default());
    let totals = |succeeded, failed| Totals {
        succeeded,
        failed,
        workers_started: 1,
        ..Totals::default()
    };
    assert_eq!(controller.observe(0.0, totals(1, 98)), None);
    assert_eq!(
        controller
            .observe(0.2, totals(1, 99))
            .map(|verdict| verdict.reason),
        Some(Reason::Failures)
    );
}

#[test]
fn the_latency_rule_is_a_rule_about_a_ratio() {
    let rule = "p95<500ms".parse().unwrap();
    let mut controller = Controller::new(Settings {
        latency: Some(rule),
        ..Settings::default()
    });
    let mut totals = Totals {
        workers_started: 7,
        ..Totals::default()
    };
    for look in 0..200 {
        totals.succeeded += 10;
        totals.requests += 10;
        totals.timed += 10;
        // 4 % are slow: within the rule.
        totals.slower += u64::from(look % 5 < 2);
        assert_eq!(
            controller.observe(f64::from(look) * LOOK_SECONDS, totals),
            None
        );
    }
    let mut looks = 0;
    let verdict = loop {
        looks += 1;
        totals.succeeded += 10;
        totals.timed += 10;
        totals.slower += 3;
        if let Some(verdict) = controller.observe(40.0 + f64::from(looks) * LOOK_SECONDS, totals) {
            break verdict;
        }
    };
    assert!(looks < 30, "{looks}");
    assert_eq!(verdict.reason, Reason::Latency);
    assert!(
        verdict
            .sentence
            .starts_with("p95<500ms no longer holds with 7 workers: "),
        "{}",
        verdict.sentence
    );
}

#[test]
fn a_run_without_a_look_or_a_run_has_a_verdict_too() {
    let controller = Controller::new(Settings::default());
    let verdict = controller.finish(false);
    assert_eq!(verdict.reason, Reason::Interrupted);
    assert_eq!(
        verdict.sentence,
        "The run ended at 0 of 500 workers before anything gave out."
    );
}

#[test]
fn the_end_of_the_ramp_is_a_result() {
    let mut controller = Controller::new(Settings {
        workers: 2,
        ..Settings::default()
    });
    let mut totals = Totals {
        workers_started: 2,
        ..Totals::default()
    };
    for second in 0..10 {
        totals.succeeded += 20;
        assert_eq!(controller.observe(f64::from(second), totals), None);
    }
    let verdict = controller.observe(10.0, totals).unwrap();
    assert_eq!(verdict.reason, Reason::RampEnded);
    assert_eq!(
        verdict.sentence,
        "At least 2 workers, 20.0 runs/s; nothing gave out."
    );
    assert_eq!(controller.finish(false), verdict);
    assert_eq!(controller.finish(true).reason, Reason::Interrupted);
}

proptest! {
    #[test]
    fn no_totals_panic_and_windows_add_up(
        steps in prop::collection::vec((prop::num::f64::ANY, any::<[u64; 6]>()), 1..50),
        growing in any::<bool>(), tolerance_ratio in 0.0..=1.0_f64,
    ) {
        let rule = "p95<500ms".parse().unwrap();
        let mut controller = Controller::new(Settings { latency: Some(rule), tolerance_ratio, ..Settings::default() });
        let mut now = 0.0;
        for (time, [succeeded, failed, workers_started, requests, slower, timed]) in steps {
            now = if growing { now + time.abs() % 10.0 } else { time };
            let totals = Totals { succeeded, failed, workers_started, requests, slower, timed };
            let _ = controller.observe(now, totals);
            let verdict = controller.finish(growing);
            prop_assert!((0.0..=100.0).contains(&verdict.ratio_percent));
            prop_assert!(verdict.sentence.ends_with('.'));
        }
    }
}
