//! Every failure at every step that it can hit, and what has to come of it.
//!
//! Longer than usual: it is a table, in the order of the steps.

use std::time::Duration;

use serde_json::{Value, json};

use super::case::SECRET;
use super::rig::Rig;

/// What has to come of a case.
#[derive(Debug)]
pub(super) enum Expected {
    /// The run comes to its end, with metrics.
    Fine,
    /// It fails, and says these words.
    Fails(Vec<String>),
    /// It fails, and cannot remove everything: a later sweep does.
    LeavesAndSweeps(Vec<String>),
    /// Asked often enough it stops cleaning: a later sweep goes on.
    GivesUpAndSweeps,
    /// Its process crashes: a sweep removes everything.
    CrashesAndSweeps,
}

/// One case.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    faults: Value,
    order: Value,
    expected: Expected,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Steps that run a command on the instance, in their order.
const STEPS: [&str; 4] = ["engine", "pull", "start", "collector"];

/// Calls of a run that must be allowed, with the action and the statement that allows it.
const DENIABLE: [(&str, &str, &str); 11] = [
    ("HeadBucket", "s3:HeadBucket", "OutputBucket"),
    ("DescribeInstanceTypes", "ec2:DescribeInstanceTypes", "Look"),
    ("GetParameter", "ssm:GetParameter", "Image"),
    ("DescribeSubnets", "ec2:DescribeSubnets", "Look"),
    (
        "DescribeInstanceTypeOfferings",
        "ec2:DescribeInstanceTypeOfferings",
        "Look",
    ),
    ("CreateSecurityGroup", "ec2:CreateSecurityGroup", "Launch"),
    ("RunInstances", "ec2:RunInstances", "Launch"),
    (
        "DescribeInstanceInformation",
        "ssm:DescribeInstanceInformation",
        "Look",
    ),
    (
        "AuthorizeSecurityGroupIngress",
        "ec2:AuthorizeSecurityGroupIngress",
        "EndOwn",
    ),
    ("SendCommand", "ssm:SendCommand", "Command"),
    ("GetCommandInvocation", "ssm:GetCommandInvocation", "Look"),
];

/// Calls that are throttled for a while.
const THROTTLED: [(&str, &str, u16); 18] = [
    ("HeadBucket", "SlowDown", 503),
    ("GetParameter", "ThrottlingException", 400),
    ("DescribeSubnets", "RequestLimitExceeded", 503),
    ("DescribeInstanceTypeOfferings", "RequestLimitExceeded", 503),
    ("DescribeSecurityGroups", "RequestLimitExceeded", 503),
    ("AuthorizeSecurityGroupIngress", "Throttling", 400),
    ("ListCommands", "RateExceeded", 400),
    ("DeleteObject", "SlowDown", 503),
    ("DescribeInstanceTypes", "RequestLimitExceeded", 503),
    ("CreateSecurityGroup", "RequestLimitExceeded", 503),
    ("RunInstances", "RequestLimitExceeded", 503),
    ("DescribeInstances", "RequestLimitExceeded", 503),
    ("DescribeInstanceInformation", "ThrottlingException", 400),
    ("SendCommand", "ThrottlingException", 400),
    ("GetCommandInvocation", "ThrottlingException", 400),
    ("TerminateInstances", "RequestLimitExceeded", 503),
    ("DeleteSecurityGroup", "RequestLimitExceeded", 503),
    ("ListObjects", "SlowDown", 503),
];

/// Calls that a run can do without, on an endpoint that does not know them.
const DISPENSABLE: [&str; 11] = [
    "HeadBucket",
    "DescribeInstanceTypes",
    "DescribeInstanceTypeOfferings",
    "DescribeSubnets",
    "DescribeInstanceInformation",
    "AuthorizeSecurityGroupIngress",
    "DescribeSecurityGroups",
    "GetCommandInvocation",
    "GetObject",
    "ListCommands",
    "CreateTags",
];

/// How an endpoint may be that is all right.
const STYLES: [&str; 10] = [
    "paged",
    "private_only",
    "spaced",
    "iso_times",
    "untagged",
    "unfiltered",
    "no_token",
    "step_layout",
    "agent_words",
    "no_code",
];

/// What somebody says who does not know the call.
fn not_offered(call: &str) -> (&'static str, u16) {
    match call {
        "GetParameter"
        | "DescribeInstanceInformation"
        | "SendCommand"
        | "GetCommandInvocation"
        | "ListCommands"
        | "CancelCommand" => ("UnknownOperationException", 400),
        "HeadBucket" | "GetObject" | "ListObjects" => ("NotImplemented", 501),
        _ => ("InvalidAction", 400),
    }
}

/// Cases of another endpoint than ours: what it lacks, what it does its own way, what it comes to know late.
#[expect(clippy::too_many_lines, reason = "a table")]
fn of_others() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, faults: Value, expected: Expected| {
        cases.push(Case {
            name,
            faults,
            order: json!({}),
            expected,
        });
    };
    let error = |call: &str, code: &str, status: u16, times: u32, after: u32| json!([{ "action": call, "do": "error", "code": code, "status": status, "times": times, "after": after }]);
    for call in DISPENSABLE {
        let (code, status) = not_offered(call);
        let mut faults = error(call, code, status, 10_000, 0);
        if call == "CreateTags" {
            // What was tagged when it was made is not tagged again.
            let untagged = json!({ "action": "style", "do": "untagged" });
            faults.as_array_mut().unwrap().push(untagged);
        }
        if call == "GetObject" {
            let long =
                json!({ "action": "command", "step": "metrics-*", "do": "inline", "inline": 300 });
            faults.as_array_mut().unwrap().push(long);
        }
        add(format!("{call} is not offered"), faults, Expected::Fine);
    }
    for (call, action) in [
        ("GetParameter", "ssm:GetParameter"),
        ("CreateSecurityGroup", "ec2:CreateSecurityGroup"),
        ("RunInstances", "ec2:RunInstances"),
        ("SendCommand", "ssm:SendCommand"),
    ] {
        let (code, status) = not_offered(call);
        let told = Expected::Fails(words(&[action, "does not know this call"]));
        add(
            format!("{call} is not offered"),
            error(call, code, status, 10_000, 0),
            told,
        );
    }
    for style in STYLES {
        let mut faults = json!([{ "action": "style", "do": style }]);
        if matches!(style, "step_layout" | "agent_words" | "iso_times") {
            let long =
                json!({ "action": "command", "step": "metrics-*", "do": "inline", "inline": 300 });
            faults.as_array_mut().unwrap().push(long);
        }
        if style == "no_token" {
            let lost = json!({ "action": "RunInstances", "do": "lost", "times": 2 });
            faults.as_array_mut().unwrap().push(lost);
        }
        add(format!("the endpoint is {style}"), faults, Expected::Fine);
    }
    for (call, code, status, times, after) in [
        ("SendCommand", "InvalidInstanceId", 400, 3, 0),
        ("GetCommandInvocation", "InvocationDoesNotExist", 400, 3, 2),
        ("RunInstances", "InvalidGroup.NotFound", 400, 2, 0),
        (
            "AuthorizeSecurityGroupIngress",
            "InvalidGroup.NotFound",
            400,
            2,
            0,
        ),
        ("DescribeInstances", "InvalidInstanceID.NotFound", 400, 2, 2),
        (
            "TerminateInstances",
            "InvalidInstanceID.NotFound",
            400,
            1,
            0,
        ),
        ("DeleteSecurityGroup", "InvalidGroup.NotFound", 400, 1, 0),
        ("DeleteSecurityGroup", "InvalidGroup.InUse", 400, 2, 0),
        ("DeleteObject", "NoSuchKey", 404, 2, 0),
    ] {
        add(
            format!("{call} says {code} for a while"),
            error(call, code, status, times, after),
            Expected::Fine,
        );
    }
    for (call, code, status) in [
        ("RunInstances", "RequestExpired", 400),
        ("SendCommand", "ExpiredTokenException", 400),
        ("GetObject", "ExpiredToken", 400),
        ("TerminateInstances", "RequestExpired", 400),
        ("ListObjects", "RequestTimeTooSkewed", 403),
    ] {
        let long =
            json!({ "action": "command", "step": "metrics-*", "do": "inline", "inline": 300 });
        let mut faults = error(call, code, status, 1, 0);
        faults.as_array_mut().unwrap().push(long);
        add(format!("{call} says {code} once"), faults, Expected::Fine);
    }
    for call in [
        "DescribeInstanceTypes",
        "CreateSecurityGroup",
        "RunInstances",
        "DescribeInstances",
        "DescribeInstanceInformation",
        "SendCommand",
        "GetCommandInvocation",
        "ListObjects",
        "TerminateInstances",
    ] {
        let cut = json!([{ "action": call, "do": "cut", "times": 2 }]);
        add(
            format!("the answer of {call} is cut off"),
            cut,
            Expected::Fine,
        );
    }
    let later = json!([{ "action": "command", "do": "late", "seconds": 1.5, "anyway": true }]);
    add("objects come after the end".into(), later, Expected::Fine);
    let elsewhere = json!([{
        "action": "HeadBucket", "do": "error", "code": "PermanentRedirect", "status": 301,
        "headers": { "x-amz-bucket-region": "us-east-2" },
    }]);
    let told = Expected::Fails(words(&["is in us-east-2, not in eu-west-1"]));
    add("the bucket is in another region".into(), elsewhere, told);
    let twice =
        json!([{ "action": "command", "step": "start", "do": "undeliverable", "times": 2 }]);
    add(
        "start is not delivered at first".into(),
        twice,
        Expected::Fine,
    );
    for (status, shown) in [
        ("Undeliverable", "did not reach"),
        ("Terminated", "somebody cancelled"),
    ] {
        let fault =
            json!([{ "action": "command", "step": "pull", "do": "shown", "status": status }]);
        add(
            format!("pull has the state {status}"),
            fault,
            Expected::Fails(words(&[shown])),
        );
    }
    for style in ["untagged", "unfiltered"] {
        // The answer never comes, however often it is asked for: there is an instance whose id nobody knows.
        let faults = json!([
            { "action": "style", "do": style },
            { "action": "RunInstances", "do": "lost" },
        ]);
        let told = Expected::Fails(words(&["ec2:RunInstances"]));
        add(
            format!("no launch is answered by an endpoint that is {style}"),
            faults,
            told,
        );
    }
    cases
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = of_steps();
    cases.extend(of_others());
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_steps() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, faults: Value, order: Value, expected: Expected| {
        cases.push(Case {
            name,
            faults,
            order,
            expected,
        });
    };
    let fails = |text: &[&str]| Expected::Fails(words(text));
    let nothing = || json!([]);
    let plain = || json!({});

    add(
        "nothing goes wrong".into(),
        nothing(),
        plain(),
        Expected::Fine,
    );
    for (operation, action, statement) in DENIABLE {
        let fault = json!([{ "action": operation, "do": "error", "code": "AccessDenied", "status": 403, "message": "no" }]);
        let expected = fails(&[action, &format!("statement {statement:?}")]);
        add(format!("{operation} is denied"), fault, plain(), expected);
    }
    for (operation, code, status) in THROTTLED {
        let fault = json!([{ "action": operation, "do": "error", "code": code, "status": status, "times": 3 }]);
        add(
            format!("{operation} is throttled"),
            fault,
            plain(),
            Expected::Fine,
        );
    }
    for operation in [
        "CreateSecurityGroup",
        "RunInstances",
        "AuthorizeSecurityGroupIngress",
        "SendCommand",
        "TerminateInstances",
        "DeleteSecurityGroup",
    ] {
        let fault = json!([{ "action": operation, "do": "lost", "times": 1 }]);
        add(
            format!("the answer of {operation} is lost"),
            fault,
            plain(),
            Expected::Fine,
        );
    }
    for (state, step) in [
        ("delayed", "pull"),
        ("unknown_status", "start"),
        ("unknown_invocation", "engine"),
    ] {
        let fault = json!([{ "action": "command", "step": step, "do": state, "polls": 3 }]);
        add(
            format!("{step} is {state} for a while"),
            fault,
            plain(),
            Expected::Fine,
        );
    }
    for step in STEPS {
        for (what, told) in [
            ("undeliverable", "did not reach"),
            ("delivery_timed_out", "did not reach"),
            ("cancelled", "somebody cancelled"),
            ("vanish", "is gone"),
            ("agent_lost", "has lost its connection"),
        ] {
            let fault = json!([{ "action": "command", "step": step, "do": what }]);
            add(format!("{step}: {what}"), fault, plain(), fails(&[told]));
        }
    }
    let slow = json!([{ "action": "command", "step": "pull", "do": "timed_out", "seconds": 0.3 }]);
    add(
        "the pull takes too long".into(),
        slow,
        json!({ "image": "slow" }),
        fails(&["took longer"]),
    );
    let late = json!([{ "action": "command", "do": "late", "seconds": 1.0 }]);
    add("objects come late".into(), late, plain(), Expected::Fine);
    let cut = json!([{ "action": "command", "step": "metrics-*", "do": "refused", "inline": 300 }]);
    add(
        "the bucket takes nothing of long metrics".into(),
        cut,
        plain(),
        Expected::Fine,
    );
    let refused = json!([{ "action": "command", "do": "refused" }]);
    add(
        "the bucket takes nothing".into(),
        refused,
        plain(),
        Expected::Fine,
    );

    let profile = "Value (sizer) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
    let young = json!([{ "action": "RunInstances", "do": "error", "code": "InvalidParameterValue", "message": profile, "times": 2 }]);
    add(
        "the profile is not known yet".into(),
        young,
        plain(),
        Expected::Fine,
    );
    let full = |times: u32| json!([{ "action": "RunInstances", "do": "error", "code": "InsufficientInstanceCapacity", "status": 500, "message": "no room", "times": times }]);
    add(
        "the first zone is full".into(),
        full(1),
        plain(),
        Expected::Fine,
    );
    add(
        "all zones are full".into(),
        full(1000),
        plain(),
        fails(&["InsufficientInstanceCapacity", "another --subnet"]),
    );
    let quota = json!([{ "action": "RunInstances", "do": "error", "code": "VcpuLimitExceeded", "message": "limit 0" }]);
    add(
        "the quota is used up".into(),
        quota,
        plain(),
        fails(&["VcpuLimitExceeded", "Service Quotas"]),
    );
    let unknown = json!([{ "action": "DescribeInstances", "do": "error", "code": "InvalidInstanceID.NotFound", "times": 2 }]);
    add(
        "the instance is not known yet".into(),
        unknown,
        plain(),
        Expected::Fine,
    );
    let used = json!([{ "action": "DeleteSecurityGroup", "do": "error", "code": "DependencyViolation", "times": 2 }]);
    add(
        "the group is still in use".into(),
        used,
        plain(),
        Expected::Fine,
    );
    let never = json!([{ "action": "register", "do": "never" }]);
    add(
        "it never registers".into(),
        never,
        json!({ "register_within": 1 }),
        fails(&["to register", "AmazonSSMManagedInstanceCore"]),
    );
    let dead = json!([{ "action": "boot", "do": "vanish" }]);
    add("it ends at boot".into(), dead, plain(), fails(&["ended"]));
    let slow_agent = json!([{ "action": "register", "do": "late", "seconds": 1.0 }]);
    add(
        "it registers late".into(),
        slow_agent,
        plain(),
        Expected::Fine,
    );

    for (image, told) in [
        ("missing", vec!["there is no image missing"]),
        ("arm", vec!["not made for this machine's architecture"]),
        ("large", vec!["disk is full", "--disk"]),
        ("taken", vec!["is taken on the instance"]),
        ("fails", vec!["exit code 3", "cannot read kinto.ini"]),
        ("short-lived", vec!["during the test", "out of breath"]),
        ("fills", vec!["during the test", "No space left on device"]),
    ] {
        add(
            format!("image {image}"),
            nothing(),
            json!({ "image": image }),
            fails(&told),
        );
    }
    add(
        "it never answers".into(),
        nothing(),
        json!({ "image": "silent", "ready_within": 1 }),
        fails(&["did not answer", "thinking"]),
    );

    for step in [
        "connect",
        "launch",
        "register",
        "engine",
        "pull",
        "start",
        "ready",
        "collector",
    ] {
        add(
            format!("stopped at {step}"),
            nothing(),
            json!({ "stops": { step: 1 }, "image": "slow" }),
            fails(&["interrupted"]),
        );
    }
    for (name, stops) in [
        ("stopped while it cleans", json!({ "clean": 1 })),
        ("stopped twice while it cleans", json!({ "clean": 2 })),
        (
            "stopped, and again while it cleans",
            json!({ "pull": 1, "clean": 2 }),
        ),
    ] {
        let used = json!([{ "action": "DeleteSecurityGroup", "do": "slow", "seconds": 1.0 }]);
        let order = json!({ "stops": stops, "image": "slow" });
        add(name.into(), used, order, fails(&["interrupted"]));
    }
    add(
        "stopped three times while it cleans".into(),
        json!([{ "action": "ListCommands", "do": "slow", "seconds": 2.0, "times": 1 }]),
        json!({ "stops": { "clean": 3 } }),
        Expected::GivesUpAndSweeps,
    );
    for step in ["launch", "register", "pull", "ready", "collector", "clean"] {
        add(
            format!("crashed at {step}"),
            nothing(),
            json!({ "crash_at": step, "image": "slow" }),
            Expected::CrashesAndSweeps,
        );
    }
    for (operation, action) in [
        ("TerminateInstances", "ec2:TerminateInstances"),
        ("DeleteSecurityGroup", "ec2:DeleteSecurityGroup"),
        ("DeleteObject", "s3:DeleteObject"),
    ] {
        let denied = |times: u32| json!([{ "action": operation, "do": "error", "code": "AccessDenied", "status": 403, "times": times }]);
        add(
            format!("{operation} is denied once"),
            denied(1),
            plain(),
            Expected::Fine,
        );
        // More often than it is tried.
        let fault = denied(99);
        add(
            format!("{operation} is denied at the end"),
            fault,
            plain(),
            Expected::LeavesAndSweeps(words(&[action, "statement"])),
        );
    }

    for (name, environment, told) in [
        (
            "no credentials",
            json!({ "AWS_ACCESS_KEY_ID": null, "AWS_SECRET_ACCESS_KEY": null }),
            vec!["AWS_PROFILE"],
        ),
        (
            "a wrong key",
            json!({ "AWS_SECRET_ACCESS_KEY": "wrong-wrong-wrong" }),
            vec!["s3:HeadBucket"],
        ),
        ("no region", json!({ "AWS_REGION": null }), vec!["--region"]),
    ] {
        add(
            name.into(),
            nothing(),
            json!({ "environment": environment }),
            fails(&told),
        );
    }
    add(
        "no such bucket".into(),
        nothing(),
        json!({ "bucket": "not-there" }),
        fails(&["there is no bucket \"not-there\""]),
    );
    add(
        "no such type".into(),
        nothing(),
        json!({ "instance_type": "z99.nano" }),
        fails(&["z99.nano"]),
    );
    cases
}

/// Runs a case and holds it against what has to come of it; an error says what is wrong.
pub(super) fn judge(rig: &Rig, case: &Case) -> Result<(), String> {
    rig.reset();
    rig.add_faults(&case.faults);
    let outcome = rig.run(&case.order);
    let holds = |condition: bool, what: &str| {
        if condition {
            Ok(())
        } else {
            Err(format!("{what}\n{outcome:#?}"))
        }
    };
    if case
        .faults
        .as_array()
        .is_some_and(|faults| !faults.is_empty())
    {
        holds(rig.state()["faults_taken"] != 0, "its fault never happened")?;
    }
    for secret in [SECRET, "rig/secret/only", "wrong-wrong-wrong"] {
        holds(!outcome.written.contains(secret), "a secret was written")?;
    }
    let told = |told: &[String], text: &Option<String>| {
        let text = text.clone().unwrap_or_default();
        told.iter().all(|word| text.contains(word.as_str()))
    };
    match &case.expected {
        Expected::Fine => {
            holds(!outcome.crashed && outcome.failure.is_none(), "it fails")?;
            holds(outcome.load == Some(0), "the load did not succeed")?;
            holds(outcome.samples > 0, "there are no metrics")?;
            holds(outcome.left_behind.is_none(), "it leaves something")?;
        }
        Expected::Fails(words) => {
            holds(
                told(words, &outcome.failure),
                "it does not say what it should",
            )?;
            holds(outcome.left_behind.is_none(), "it leaves something")?;
        }
        Expected::LeavesAndSweeps(words) => {
            holds(outcome.failure.is_none(), "it fails")?;
            holds(
                told(words, &outcome.left_behind),
                "it does not say what it leaves",
            )?;
            holds(outcome.has_ledger(), "there is no ledger")?;
            rig.reset();
            rig.sweep(&outcome);
        }
        Expected::GivesUpAndSweeps => {
            holds(
                told(
                    &words(&["was interrupted", "autosizer gc"]),
                    &outcome.left_behind,
                ),
                "it does not say that it gives up",
            )?;
            holds(outcome.has_ledger(), "there is no ledger")?;
            rig.sweep(&outcome);
        }
        Expected::CrashesAndSweeps => {
            holds(outcome.crashed, "it does not crash")?;
            holds(outcome.has_ledger(), "there is no ledger")?;
            rig.sweep(&outcome);
        }
    }
    holds(!outcome.has_ledger(), "a ledger is left")?;
    rig.wait_until("no command goes on", Duration::from_secs(20), |state| {
        state["commands_running"] == 0
    });
    let left = rig.left();
    holds(left.is_empty(), &format!("it leaves {left}"))
}
