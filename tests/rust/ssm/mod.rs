//! The `ssm` target against the test rig: whole flows with real execution, and every failure at every step it can hit.
//!
//! Each case runs in a process of its own (this test binary again), so that it has its own environment, can crash, and
//! can be looked at from outside. After each, the rig's account is counted: nothing may be left in it.

mod case;
mod matrix;
mod rig;

use std::time::Duration;

use self::rig::Rig;
use serde_json::json;

/// Runs every case of a part of the matrix, one after the other on one rig; tells all that went wrong.
fn run_part(part: usize, parts: usize) {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let mut wrong = Vec::new();
    let cases = matrix::cases();
    let mine = cases
        .iter()
        .enumerate()
        .filter(|(number, _)| number % parts == part);
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
}

#[test]
fn faults_first_quarter() {
    run_part(0, 4);
}

#[test]
fn faults_second_quarter() {
    run_part(1, 4);
}

#[test]
fn faults_third_quarter() {
    run_part(2, 4);
}

#[test]
fn faults_last_quarter() {
    run_part(3, 4);
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

/// A machine ends itself when nobody else does, and its group is swept later.
#[test]
fn a_machine_ends_itself_after_its_time() {
    let Some(rig) = Rig::start("folder") else {
        return;
    };
    let order = json!({ "crash_at": "register", "time_to_live": 10 });
    let outcome = rig.run(&order);
    assert!(outcome.crashed, "{outcome:?}");
    assert_eq!(rig.state()["instances"].as_array().unwrap().len(), 1);
    rig.wait_until("the machine has ended", Duration::from_mins(1), |state| {
        state["instances"].as_array().unwrap().is_empty()
            && state["processes"].as_array().unwrap().is_empty()
    });
    rig.sweep(&outcome);
    rig.assert_clean("after its time");
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
}
