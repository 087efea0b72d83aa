//! Faults at random: one to three of them at whatever calls and steps, on an endpoint of whatever style, from a seed.
//!
//! Whatever happens, a run ends, says so in one line, keeps the metrics that it could get, and leaves nothing; where it was
//! hindered for good it says so, and a sweep leaves nothing. `SSM_SEEDS=100-400` runs other seeds than those of the
//! ordinary tests, `SSM_SEEDS=137` one.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::case::SECRET;
use super::rig::{Outcome, Rig};

/// Calls of a run, from its first to its last.
const CALLS: [&str; 20] = [
    "HeadBucket",
    "DescribeInstanceTypes",
    "GetParameter",
    "DescribeSubnets",
    "DescribeInstanceTypeOfferings",
    "CreateSecurityGroup",
    "RunInstances",
    "DescribeInstances",
    "DescribeInstanceInformation",
    "DescribeSecurityGroups",
    "AuthorizeSecurityGroupIngress",
    "SendCommand",
    "GetCommandInvocation",
    "GetObject",
    "ListCommands",
    "CancelCommand",
    "TerminateInstances",
    "DeleteSecurityGroup",
    "ListObjects",
    "DeleteObject",
];
/// Those without which nothing can be removed.
const REMOVING: [&str; 6] = [
    "DescribeInstances",
    "DescribeSecurityGroups",
    "TerminateInstances",
    "DeleteSecurityGroup",
    "ListObjects",
    "DeleteObject",
];
const STEPS: [&str; 7] = [
    "engine",
    "pull",
    "start",
    "state-*",
    "collector",
    "metrics-*",
    "service-log-*",
];

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// The run comes to its end all the same.
    Mild,
    /// It may fail, and removes everything.
    Harsh,
    /// It may also fail to remove everything.
    Hindering,
}

/// What is not known for a moment, though it is there.
const UNKNOWN: [(&str, &str); 7] = [
    ("DescribeInstances", "InvalidInstanceID.NotFound"),
    ("TerminateInstances", "InvalidInstanceID.NotFound"),
    ("SendCommand", "InvalidInstanceId"),
    ("GetCommandInvocation", "InvocationDoesNotExist"),
    ("DeleteSecurityGroup", "InvalidGroup.NotFound"),
    ("CancelCommand", "InvalidCommandId"),
    ("DeleteObject", "NoSuchKey"),
];
/// How the endpoint may be.
const STYLES: [&str; 9] = [
    "paged",
    "private_only",
    "spaced",
    "iso_times",
    "untagged",
    "unfiltered",
    "step_layout",
    "agent_words",
    "no_code",
];

fn choice_of<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

fn choice<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    choice_of(random, from)
}

/// Whether Systems Manager answers the call.
fn is_json(call: &str) -> bool {
    matches!(
        call,
        "GetParameter"
            | "DescribeInstanceInformation"
            | "SendCommand"
            | "GetCommandInvocation"
            | "ListCommands"
            | "CancelCommand"
    )
}

/// Codes and statuses of throttling and trouble, as the service of the call has them.
fn trouble(random: &mut Rng, call: &str) -> (&'static str, u16) {
    match (
        random.bool(),
        is_json(call),
        call.contains("Object") || call == "HeadBucket",
    ) {
        (true, true, _) => ("ThrottlingException", 400),
        (true, _, true) => ("SlowDown", 503),
        (true, ..) => ("RequestLimitExceeded", 503),
        (false, true, _) => ("InternalServerError", 500),
        (false, ..) => ("InternalError", 500),
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn fault(random: &mut Rng) -> (Value, Harm) {
    let call = choice(random, &CALLS);
    let step = choice(random, &STEPS);
    let after = random.u32(..4);
    match random.u32(..17) {
        0..3 => {
            let (code, status) = trouble(random, call);
            let times = random.u32(1..3);
            (
                json!({ "action": call, "do": "error", "code": code, "status": status, "times": times, "after": after }),
                Harm::Mild,
            )
        }
        3..5 => (
            json!({ "action": call, "do": "lost", "times": random.u32(1..3), "after": after }),
            Harm::Mild,
        ),
        5 => (
            json!({ "action": call, "do": "slow", "seconds": random.f64() * 1.5, "times": 2, "after": after }),
            Harm::Mild,
        ),
        6 => {
            let state = choice(random, &["delayed", "unknown_status", "unknown_invocation"]);
            (
                json!({ "action": "command", "step": step, "do": state, "polls": random.u32(1..4) }),
                Harm::Mild,
            )
        }
        7 => (
            json!({ "action": "command", "step": step, "do": "late", "seconds": random.f64() }),
            Harm::Mild,
        ),
        8 => (
            json!({ "action": "command", "step": step, "do": "agent_lost", "seconds": 1.0 + random.f64() * 6.0, "times": 1 }),
            Harm::Harsh,
        ),
        9 => {
            let end = choice(
                random,
                &[
                    "undeliverable",
                    "delivery_timed_out",
                    "cancelled",
                    "vanish",
                    "agent_lost",
                    "refused",
                ],
            );
            (
                json!({ "action": "command", "step": step, "do": end, "times": 1 }),
                Harm::Harsh,
            )
        }
        10 => {
            let boot = random.bool();
            let fault = if boot {
                json!({ "action": "boot", "do": "vanish" })
            } else {
                json!({ "action": "register", "do": "late", "seconds": random.f64() * 3.0 })
            };
            (fault, if boot { Harm::Harsh } else { Harm::Mild })
        }
        14 => (
            json!({ "action": call, "do": "cut", "times": random.u32(1..3), "after": after }),
            Harm::Mild,
        ),
        15 if call != "HeadBucket" => {
            // The head of a bucket has no body that could say so.
            let code = if is_json(call) {
                "ExpiredTokenException"
            } else if call.contains("Object") {
                "ExpiredToken"
            } else {
                "RequestExpired"
            };
            (
                json!({ "action": call, "do": "error", "code": code, "status": 400, "times": 1, "after": after }),
                Harm::Mild,
            )
        }
        16 => {
            let (call, code) = choice_of(random, &UNKNOWN);
            (
                json!({ "action": call, "do": "error", "code": code, "status": 400, "times": random.u32(1..3), "after": random.u32(1..6) }),
                Harm::Mild,
            )
        }
        11 => (
            json!({ "action": call, "do": "error", "code": "AccessDenied", "status": 403, "times": random.u32(1..3), "after": after }),
            Harm::Harsh,
        ),
        12 => {
            // Late, and for good.
            let harm = if REMOVING.contains(&call) {
                Harm::Hindering
            } else {
                Harm::Harsh
            };
            (
                json!({ "action": call, "do": "error", "code": "AccessDenied", "status": 403, "after": after }),
                harm,
            )
        }
        _ => {
            // A storm that outlasts the tries of a call.
            let (code, status) = trouble(random, call);
            let harm = if REMOVING.contains(&call) {
                Harm::Hindering
            } else {
                Harm::Harsh
            };
            (
                json!({ "action": call, "do": "error", "code": code, "status": status, "times": 10, "after": after }),
                harm,
            )
        }
    }
}

/// One run with the faults of a seed; an error says what is wrong.
pub(super) fn run(rig: &Rig, seed: u64) -> Result<(), String> {
    let mut random = Rng::with_seed(seed);
    let (mut faults, harms): (Vec<Value>, Vec<Harm>) =
        (0..random.usize(1..4)).map(|_| fault(&mut random)).unzip();
    if random.bool() {
        faults.push(json!({ "action": "style", "do": choice(&mut random, &STYLES) }));
    }
    let harm = harms.into_iter().max().unwrap_or(Harm::Mild);
    let stops = match random.u32(..6) {
        0 => {
            json!({ choice(&mut random, &["launch", "engine", "start", "collector", "clean"]): 1 })
        }
        1 => {
            json!({ choice(&mut random, &["register", "pull", "ready", "metrics"]): 1, "clean": 1 })
        }
        _ => json!({}),
    };
    let is_stopped = stops != json!({});
    let order = json!({
        "stops": stops, "service_log": random.bool(), "settled_millis": 300,
    });
    rig.reset();
    rig.add_faults(&json!(faults));
    let outcome = rig.run(&order);
    let about = || format!("seed {seed}: {faults:?} {order}\n{outcome:#?}");
    judge(rig, &outcome, harm, is_stopped).map_err(|why| format!("{why}\n{}", about()))
}

fn judge(rig: &Rig, outcome: &Outcome, harm: Harm, is_stopped: bool) -> Result<(), String> {
    let holds = |condition: bool, what: &str| condition.then_some(()).ok_or(what.to_owned());
    holds(!outcome.crashed, "it crashes")?;
    holds(!outcome.written.contains(SECRET), "a secret was written")?;
    if let Some(failure) = &outcome.failure {
        let first = failure.lines().next().unwrap_or_default();
        holds(
            (8..700).contains(&first.len()),
            "its failure is no clear line",
        )?;
    }
    if harm == Harm::Mild && !is_stopped {
        holds(outcome.failure.is_none(), "it fails")?;
        holds(outcome.load == Some(0), "the load did not succeed")?;
        holds(outcome.samples > 0, "there are no metrics")?;
    }
    // Whoever has made a load and says that nothing is wrong has its metrics.
    if outcome.load.is_some() && outcome.failure.is_none() {
        holds(outcome.samples > 0, "the metrics are lost without a word")?;
    }
    match &outcome.left_behind {
        None => holds(!outcome.has_ledger(), "a ledger is left")?,
        Some(told) => {
            holds(harm == Harm::Hindering, "it leaves something")?;
            holds(told.contains("autosizer gc"), "it does not say what to do")?;
            holds(outcome.has_ledger(), "there is no ledger")?;
            rig.reset();
            rig.sweep(outcome);
            holds(!outcome.has_ledger(), "a ledger is left by the sweep")?;
        }
    }
    let left = rig.left();
    holds(left.is_empty(), &format!("it leaves {left}"))?;
    rig.wait_until("no command goes on", Duration::from_secs(20), |state| {
        state["commands_running"] == 0
    });
    Ok(())
}

/// The seeds of this part of the tests.
pub(super) fn seeds(part: u64, parts: u64) -> Vec<u64> {
    let text = std::env::var("SSM_SEEDS").unwrap_or_else(|_| "1-12".to_owned());
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let number = |text: &str| text.trim().parse::<u64>().expect("SSM_SEEDS is N or N-M");
    (number(first)..=number(last))
        .filter(|seed| seed % parts == part)
        .collect()
}
