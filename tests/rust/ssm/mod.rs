//! The `ssm` target against the test rig: whole flows with real execution, and every failure at every step it can hit.
//!
//! Each case runs in a process of its own (this test binary again), so that it has its own environment, can crash, and
//! can be looked at from outside. After each, the rig's account is counted: nothing may be left in it.

mod case;
mod matrix;
mod random;
mod rig;

use std::time::Duration;

use self::case::SECRET;
use self::rig::Rig;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Runs every case of a part of the matrix, one after the other on one rig; tells all that went wrong.
fn run_part(part: usize) {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let mut wrong = Vec::new();
    let cases = matrix::cases();
    let mine = cases
        .iter()
        .enumerate()
        .filter(|(number, _)| number % PARTS == part);
    let only = std::env::var("SSM_CASE").ok();
    let mut count = 0;
    for (_, case) in mine {
        if only
            .as_ref()
            .is_some_and(|only| !case.name.contains(only.as_str()))
        {
            continue;
        }
        count += 1;
        if let Err(why) = matrix::judge(&rig, case) {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(rig.shows(SECRET), json!([]), "a secret is in the history");
}

/// Parts of the matrix that run beside each other: most of a case is waiting.
const PARTS: usize = 4;

#[test]
fn faults_first_quarter() {
    run_part(0);
}

#[test]
fn faults_second_quarter() {
    run_part(1);
}

#[test]
fn faults_third_quarter() {
    run_part(2);
}

#[test]
fn faults_last_quarter() {
    run_part(3);
}

/// Seeds that are run one after the other on one rig.
fn run_seeds(part: u64, parts: u64) {
    let seeds = random::seeds(part, parts);
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let wrong: Vec<String> = seeds
        .iter()
        .filter_map(|seed| random::run(&rig, *seed).err())
        .collect();
    let count = seeds.len();
    assert!(
        wrong.is_empty(),
        "{} of {count} seeds:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(rig.shows(SECRET), json!([]), "a secret is in the history");
}

#[test]
fn random_faults_of_even_seeds() {
    run_seeds(0, 2);
}

#[test]
fn random_faults_of_odd_seeds() {
    run_seeds(1, 2);
}

#[test]
fn the_matrix_is_large_enough() {
    let cases = matrix::cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let names: std::collections::BTreeSet<&str> =
        cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
}

/// What the child process of a case does.
#[test]
#[ignore = "started by the other tests, with its orders in the environment"]
fn child() {
    case::run();
}

/// A machine ends itself when nobody else does, also after it was stopped and started, and its group is swept later.
#[test]
fn a_machine_ends_itself_after_its_time() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let order = json!({ "crash_at": "engine", "time_to_live": 15 });
    let outcome = rig.run(&order);
    assert!(outcome.crashed, "{outcome:?}");
    let state = rig.state();
    assert_eq!(state["instances"].as_array().unwrap().len(), 1);
    rig.stop_and_start(state["instances"][0].as_str().unwrap());
    rig.wait_until("the machine has ended", Duration::from_mins(1), |state| {
        state["instances"].as_array().unwrap().is_empty()
            && state["processes"].as_array().unwrap().is_empty()
    });
    rig.sweep(&outcome);
    rig.assert_clean("after its time");
}

/// The service gets the very value, and nobody else does: neither the command history nor anything that is written.
#[test]
fn a_value_reaches_the_service_and_nothing_else() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let secret = "it's \"$HOME\" `id` $(id)\\n\n second line of it\r\n\n{{ssm:x}} ä€😀";
    let outcome = rig.run(&json!({ "image": "tells", "secret": secret, "service_log": true }));
    assert_eq!(outcome.failure, None, "{outcome:?}");
    let log = &outcome.service_log;
    let digest = Sha256::digest(secret.as_bytes());
    assert!(log.contains(&format!("{digest:x}")), "{log}");
    assert!(log.contains("***") && log.contains("serving"), "{log}");
    for part in [secret, "second line of it", "{{ssm:x}} ä€😀"] {
        assert!(!outcome.written.contains(part), "{part}");
    }
    // The service has printed it, so the output of the one step that fetched its log has it, as the service wrote it.
    for step in rig.shows("second line of it").as_array().unwrap() {
        let step = step.as_str().unwrap();
        assert!(step.starts_with("service-log-"), "{step}");
    }
    rig.assert_clean("after a secret");
}

/// A log comes home whole, up to its bound, also of a service that has died.
#[test]
fn the_log_of_a_service_comes_home() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let died = rig.run(&json!({ "image": "fails", "service_log": true }));
    assert!(died.failure.is_some());
    assert_eq!(died.service_log, "cannot read kinto.ini\n");
    let long = rig.run(&json!({ "image": "chatters", "service_log": true }));
    assert_eq!(long.failure, None, "{long:?}");
    assert_eq!(long.service_log.lines().count(), 20_001, "{long:?}");
    assert!(long.service_log.starts_with("line 1\n"));
    let refused = json!([{ "action": "command", "step": "service-log-*", "do": "refused" }]);
    rig.add_faults(&refused);
    let pieces = rig.run(&json!({ "image": "chatters", "service_log": true }));
    assert_eq!(pieces.service_log, long.service_log);
    rig.assert_clean("after the logs");
}

/// A disk that fills in the middle costs neither the metrics so far nor the cleaning, and is told.
#[test]
fn a_full_disk_is_told() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let outcome = std::thread::scope(|scope| {
        let running = scope.spawn(|| rig.run(&json!({ "load_seconds": 3 })));
        rig.wait_until("the collector starts", Duration::from_mins(1), |state| {
            let sent = state["commands_sent"].as_array().unwrap();
            sent.contains(&json!("collector"))
        });
        // The look at the service that follows the load.
        rig.add_faults(&json!([{ "action": "command", "step": "state-*", "do": "full" }]));
        running.join().unwrap()
    });
    assert_eq!(outcome.failure, None, "{outcome:?}");
    assert!(outcome.samples >= 2, "{outcome:?}");
    // Whether the collector still came to its next sample, and ended of it, is chance.
    let notes = outcome.answer["notes"].to_string();
    assert!(notes.contains("had no room left on /"), "{outcome:?}");
    rig.assert_clean("with a full disk");
    rig.reset();
    rig.add_faults(&json!([{ "action": "command", "step": "state-*", "do": "full" }]));
    let died = rig.run(&json!({ "image": "fills" }));
    let failure = died.failure.clone().unwrap_or_default();
    for told in ["with its disk full", "No space left on device"] {
        assert!(failure.contains(told), "{died:?}");
    }
    rig.assert_clean("with a full disk");
}

/// Somebody else's instance, or one that is kept, is left as it was when a run on it crashes.
#[test]
fn what_a_crash_leaves_on_a_kept_instance_is_swept() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let first = rig.run(&json!({ "keep": true }));
    assert_eq!(first.failure, None, "{first:?}");
    let state = rig.state();
    let instance = state["instances"][0].as_str().unwrap();
    // The timer of the instance.
    let before = state["processes"].as_array().unwrap().len();
    let order = json!({ "keep": true, "instance_id": instance, "crash_at": "collector" });
    let crashed = rig.run(&order);
    assert!(crashed.crashed && crashed.has_ledger(), "{crashed:?}");
    assert!(rig.state()["processes"].as_array().unwrap().len() > before);
    rig.sweep(&crashed);
    rig.wait_until(
        "nothing but the timer runs",
        Duration::from_secs(20),
        |state| state["processes"].as_array().unwrap().len() == before,
    );
    assert!(!crashed.has_ledger());
    assert_eq!(rig.state()["objects"], json!([]));
    let last = rig.run(&json!({ "instance_id": instance }));
    assert_eq!(last.failure, None, "{last:?}");
    rig.assert_clean("after the last run");
}

/// Somebody else's instance is left as it was found, by a run that comes to its end, by one that is stopped, and by the
/// sweep after one that crashed, whoever makes that: all that is known of such a run are the history of commands and names.
#[test]
fn a_foreign_instance_is_left_as_it_was_found() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let first = rig.run(&json!({ "keep": true }));
    assert_eq!(first.failure, None, "{first:?}");
    let before = rig.state();
    let instance = before["instances"][0].as_str().unwrap();
    rig.disown(instance);
    let found = |state: &Value| {
        ["instances", "groups", "objects", "processes", "files"].map(|name| state[name].clone())
    };
    let is_as_before = |when: &str| {
        rig.wait_until(when, Duration::from_secs(30), |state| {
            state["uploads_pending"] == 0
                && state["commands_running"] == 0
                && found(state) == found(&before)
        });
    };
    let order = json!({ "instance_id": instance, "image": "short-lived" });
    let ended = rig.run(&json!({ "instance_id": instance, "image": "tells" }));
    assert_eq!(ended.failure, None, "{ended:?}");
    assert_eq!(ended.left_behind, None, "{ended:?}");
    is_as_before("after a run");
    let failed = rig.run(&order);
    assert!(
        failed.failure.is_some() && failed.left_behind.is_none(),
        "{failed:?}"
    );
    is_as_before("after a failure");
    let stopped =
        rig.run(&json!({ "instance_id": instance, "image": "slow", "stops": { "pull": 1 } }));
    assert_eq!(stopped.left_behind, None, "{stopped:?}");
    is_as_before("after a stop");
    // Nobody knows the instance for a moment: it has not ended for that.
    let unknown = json!([{ "action": "DescribeInstances", "do": "error", "code": "InvalidInstanceID.NotFound", "times": 2, "after": 3 }]);
    rig.add_faults(&unknown);
    let unseen = rig.run(&json!({ "instance_id": instance, "stops": { "collector": 1 } }));
    assert_eq!(unseen.left_behind, None, "{unseen:?}");
    is_as_before("after nobody knew it");
    rig.reset();
    let crashed = rig.run(&json!({ "instance_id": instance, "crash_at": "collector" }));
    assert!(crashed.crashed && crashed.has_ledger(), "{crashed:?}");
    assert_ne!(found(&rig.state()), found(&before));
    rig.sweep(&crashed);
    is_as_before("after a sweep");
    let crashed =
        rig.run(&json!({ "instance_id": instance, "image": "tells", "crash_at": "collector" }));
    let run = crashed.lose_ledger();
    // Which is not over for anybody who only knows the account.
    rig.sweep_over(&json!({}));
    assert_ne!(found(&rig.state()), found(&before));
    rig.sweep_over(&json!({ "run": run }));
    is_as_before("after a sweep without a ledger");
    rig.power_off(instance);
}

/// What a run left that was killed on another machine is found by tags, names and history.
#[test]
fn without_a_ledger_everything_is_found_in_the_account() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    for step in ["launch", "register", "collector", "clean"] {
        rig.reset();
        let crashed = rig.run(&json!({ "crash_at": step, "image": "slow" }));
        assert!(crashed.crashed, "{crashed:?}");
        let run = crashed.lose_ledger();
        rig.sweep_over(&json!({ "run": "20260101-000000-000000" }));
        let swept = rig.sweep_over(&json!({ "run": run }));
        assert!(!swept.crashed, "{swept:?}");
        rig.assert_clean(step);
    }
    let crashed = rig.run(&json!({ "crash_at": "collector" }));
    crashed.lose_ledger();
    rig.sweep_over(&json!({ "all": true }));
    rig.assert_clean("after a sweep of all");
}

/// An endpoint that lists everybody's things for whatever is asked does not make us end them.
#[test]
fn nobody_elses_things_are_ended() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let other = rig.bystander();
    rig.add_faults(&json!([{ "action": "style", "do": "unfiltered" }]));
    let outcome = rig.run(&json!({}));
    assert_eq!(outcome.failure, None, "{outcome:?}");
    assert_eq!(rig.state()["instances"], json!([other]));
    let crashed = rig.run(&json!({ "crash_at": "engine" }));
    rig.sweep(&crashed);
    rig.sweep_over(&json!({ "all": true }));
    assert_eq!(rig.state()["instances"], json!([other]));
    rig.power_off(&other);
    rig.assert_clean("after the bystander");
}

/// An instance that stays is used again, and ends with the run that does not keep it.
#[test]
fn an_instance_is_kept_and_used_again() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let first = rig.run(&json!({ "keep": true }));
    assert_eq!(first.failure, None, "{first:?}");
    let state = rig.state();
    let instance = state["instances"][0].as_str().unwrap().to_owned();
    assert_eq!(state["objects"], json!([]), "the objects of the first run");
    let second = rig.run(&json!({ "keep": true, "instance_id": instance }));
    assert_eq!(second.failure, None, "{second:?}");
    assert!(second.samples > 0);
    assert_eq!(rig.state()["instances"], json!([instance]));
    let third = rig.run(&json!({ "instance_id": instance }));
    assert_eq!(third.failure, None, "{third:?}");
    rig.assert_clean("after the third run");
    assert_eq!(rig.state()["launched"].as_array().unwrap().len(), 1);
}

/// What `check` asks is answered, and costs nothing.
#[test]
fn the_account_is_checked() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let answer = rig.run(&json!({ "do": "check" })).answer;
    for question in [
        "credentials",
        "bucket",
        "role",
        "instance type",
        "quota",
        "launch",
        "left over",
    ] {
        assert_eq!(answer[question][0], true, "{question}: {answer:#}");
    }
    assert_eq!(rig.state()["launched"], json!([]));
    let denied = json!([{ "action": "RunInstances", "do": "error", "code": "UnauthorizedOperation", "status": 403 }]);
    rig.add_faults(&denied);
    let answer = rig
        .run(&json!({ "do": "check", "bucket": "not-there" }))
        .answer;
    let told = |question: &str| answer[question][1].as_str().unwrap().to_owned();
    assert!(told("bucket").contains("there is no bucket"), "{answer:#}");
    assert!(
        told("launch").contains("statement \"Launch\""),
        "{answer:#}"
    );
    assert_eq!(
        rig.run(&json!({ "do": "list" })).answer,
        json!({ "left": [] })
    );
}

/// Whole machines: a container per instance and a container in it for the service.
#[test]
fn the_flow_in_containers() {
    let Some(rig) = Rig::start("podman") else {
        return;
    };
    let outcome = rig.run(&json!({
        "image": "localhost/rig-service:1", "command": ["{port}"], "cpus": 0.5, "load_seconds": 4,
    }));
    assert_eq!(outcome.failure, None, "{outcome:?}");
    assert!(outcome.samples >= 3, "{outcome:?}");
    assert!(
        outcome
            .cpu_limit
            .is_some_and(|cores| (cores - 0.5).abs() < 0.01),
        "{outcome:?}"
    );
    assert!(outcome.cpu_used > 0.0, "{outcome:?}");
    rig.assert_clean("in containers");
    let glances = rig::glances_image();
    let outcome = rig.run(&json!({
        "image": "localhost/rig-service:1", "command": ["{port}"], "cpus": 0.5, "load_seconds": 4,
        "glances": glances,
    }));
    assert_eq!(outcome.failure, None, "{outcome:?}");
    assert!(outcome.samples >= 3, "{outcome:?}");
    // Podman tells Glances no CPU time of a container before, so that it sees none used; of the host it sees it itself.
    assert!(
        outcome.answer["host_cpu_used"].as_f64() > Some(0.0),
        "{outcome:?}"
    );
    rig.assert_clean("after Glances");
}
