//! Run Command: one script on one instance, to its end.
//!
//! Owns sending, and following to a terminal state with a deadline of its own. `SendCommand` has no token that would make it
//! idempotent, so a reply that got lost may mean that a script runs twice: [`script`] wraps each so that the second run
//! waits for the first one's result and repeats it. Called by the `ssm` target.
//!
//! | file | owns |
//! |---|---|
//! | `script` | the text that an instance gets, and its last line |
//! | `invocation` | how a command stands |
//! | `output` | getting the whole of what it printed |
//! | `history` | what was sent, also by runs that are no more, and cancelling it |

mod history;
mod invocation;
mod output;
mod script;

use std::time::Duration;

pub use self::history::Sent;
use self::history::comment;
use self::invocation::terminal;
pub use self::script::NODE_FOLDER;
use super::error::{Error, Kind};
use super::retry::Poll;
use super::session::{Session, of_sdk};

/// What AWS calls the document that runs shell scripts.
const DOCUMENT: &str = "AWS-RunShellScript";
/// After a command was accepted its invocation may not be known yet.
const UNKNOWN_FOR: Duration = Duration::from_mins(1);
/// For so long calls about a command may fail in a row before it is given up.
const ANSWER_WITHIN: Duration = Duration::from_mins(3);
/// What delivery and execution may take together beyond their own limits.
const GRACE: Duration = Duration::from_secs(30);

/// A script for an instance.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// The instance.
    pub instance: &'a str,
    /// The run that it belongs to: letters, digits and dashes.
    pub run: &'a str,
    /// Its name within the run, of the same letters; the same step never runs twice on an instance.
    pub step: &'a str,
    /// POSIX shell, run as root with `set -eu`.
    pub script: &'a str,
    /// How long it may run: 5 s to 2 days; the agent takes anything else for an hour.
    pub limit: Duration,
    /// How long it may take to reach the instance: 30 s at least.
    pub delivery: Duration,
    /// Bucket and folder for what it prints; the instance's role has to be allowed to write there.
    pub output: Option<(&'a str, &'a str)>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Exit code 0.
    Success,
    /// Another exit code, or it could not be started.
    Failed,
    /// It ran longer than it may.
    TimedOut,
    /// It never reached the instance: that is gone, or its agent.
    Undelivered,
    /// Somebody cancelled it.
    Cancelled,
}

/// What the agent adds to the complaints of a script that failed, and to what it cuts off.
fn is_of_the_agent(line: &str) -> bool {
    let line = line.trim_matches('-').to_ascii_lowercase();
    line.starts_with("failed to run commands:") || line == "output truncated"
}

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its id, which is in the names of its objects too.
    pub id: String,
    /// How it ended.
    pub status: Status,
    /// AWS's own words for that.
    pub details: String,
    /// Exit code; 137 after a timeout or cancelling.
    pub exit_code: Option<i32>,
    /// What it printed, without our marker.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// Whether `stdout` is all of it.
    pub is_complete: bool,
}

impl Outcome {
    /// The last complaint, else the last line printed: what explains a failure.
    pub fn reason(&self) -> String {
        let last = |text: &str| {
            let lines = text.lines().map(str::trim);
            let mut lines = lines.filter(|line| !line.is_empty() && !is_of_the_agent(line));
            lines.next_back().map(str::to_owned)
        };
        last(&self.stderr)
            .or_else(|| last(&self.stdout))
            .unwrap_or_else(|| self.details.clone())
    }
}

impl Session {
    /// Runs a command to its end. `Err` only where it is not known how it ended, or it was never accepted; what it did
    /// is in the outcome. Dropped half-way it goes on: [`Session::cancel_commands`] ends it.
    pub async fn run(&self, command: &Command<'_>) -> Result<Outcome, Error> {
        let action = "ssm:GetCommandInvocation";
        let id = self.send(command).await?;
        self.in_flight()
            .push((id.clone(), command.instance.to_owned()));
        let total = command.delivery + command.limit + GRACE;
        let mut poll = Poll::within(total).at_most_every(Duration::from_secs(3));
        let mut answered = Duration::ZERO;
        loop {
            match self.invocation(&id, command.instance).await {
                Ok(found) => {
                    answered = poll.elapsed();
                    if let Some(status) = terminal(&found.status, &found.details) {
                        self.in_flight().retain(|(other, _)| *other != id);
                        return Ok(self.completed(command, &id, found.ended(&id, status)).await);
                    }
                }
                // Neither right after it was accepted nor later does it say anything about the command.
                Err(error)
                    if error.kind == Kind::NotFound && poll.elapsed() < answered + UNKNOWN_FOR => {}
                // The command runs on whatever the calls about it do.
                Err(error) if error.is_transient() && poll.elapsed() < answered + ANSWER_WITHIN => {
                }
                Err(error) => return Err(error),
            }
            let what = format!("the end of step {:?} on {}", command.step, command.instance);
            if let Err(error) = poll.wait(action, &what).await {
                // Nobody will read its result any more.
                let _ = self.cancel(&id, command.instance).await;
                return Err(error);
            }
        }
    }

    /// Sends a command. An agent that has just connected may not be known everywhere yet: it gets the time that a command
    /// may take to reach it.
    async fn send(&self, command: &Command<'_>) -> Result<String, Error> {
        let action = "ssm:SendCommand";
        let seconds = command.limit.as_secs().clamp(5, 172_800);
        let delivery = i32::try_from(command.delivery.as_secs().max(30)).unwrap_or(i32::MAX);
        let mut request = self
            .ssm
            .send_command()
            .document_name(DOCUMENT)
            .instance_ids(command.instance)
            .comment(comment(command.run, command.step))
            .timeout_seconds(delivery)
            .parameters("executionTimeout", vec![seconds.to_string()])
            .parameters("commands", script::lines(command));
        if let Some((bucket, prefix)) = command.output {
            request = request
                .output_s3_bucket_name(bucket)
                .output_s3_key_prefix(prefix);
        }
        let mut poll = Poll::within(command.delivery).at_most_every(Duration::from_secs(5));
        let answer = loop {
            let sent = self.again(async || {
                let answer = request.clone().send().await;
                answer.map_err(|error| of_sdk(action, &error))
            });
            match sent.await {
                Err(error) if error.code == "InvalidInstanceId" => {
                    if poll.wait(action, command.instance).await.is_err() {
                        return Err(error);
                    }
                }
                answer => break answer?,
            }
        };
        answer
            .command()
            .and_then(|command| command.command_id().map(str::to_owned))
            .ok_or_else(|| Error::new(action, Kind::Answer, "no command in the answer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_last_line_of_the_script_itself() {
        let reason = |stdout: &str, stderr: &str| {
            let outcome = Outcome {
                id: "c-1".to_owned(),
                status: Status::Failed,
                details: "Failed".to_owned(),
                exit_code: Some(1),
                stdout: stdout.to_owned(),
                stderr: stderr.to_owned(),
                is_complete: true,
            };
            outcome.reason()
        };
        let agent = "failed to run commands: exit status 1";
        for (stdout, stderr, expected) in [
            (
                "",
                &format!("port is taken\n{agent}") as &str,
                "port is taken",
            ),
            ("last\n", agent, "last"),
            ("", agent, "Failed"),
            ("", "why\n--output truncated--", "why"),
            ("x", " \n", "x"),
        ] {
            assert_eq!(reason(stdout, stderr), expected, "{stderr}");
        }
    }
}
