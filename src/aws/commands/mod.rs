//! Run Command: one script on one instance, to its end.
//!
//! Owns sending, following to a terminal state with a deadline of its own, cancelling, and getting the whole output.
//! `SendCommand` has no token that would make it idempotent, so a reply that got lost may mean that a script runs twice:
//! [`script`] wraps each so that the second run waits for the first one's result and repeats it. Called by the `ssm`
//! target.

mod script;

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ssm::types::PingStatus;

use self::script::Marked;
pub use self::script::NODE_FOLDER;
use super::error::{Error, Kind};
use super::retry::Poll;
use super::session::{Session, of_sdk};

/// What AWS calls the document that runs shell scripts.
const DOCUMENT: &str = "AWS-RunShellScript";
/// After a command was accepted its invocation may not be known yet.
const UNKNOWN_FOR: Duration = Duration::from_mins(1);
/// Between the end of a command and its objects in S3.
const OUTPUT_WITHIN: Duration = Duration::from_secs(10);
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

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
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
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| !line.trim().is_empty())
                .collect();
            lines.last().map(|line| line.trim().to_owned())
        };
        last(&self.stderr)
            .or_else(|| last(&self.stdout))
            .unwrap_or_else(|| self.details.clone())
    }
}

impl Session {
    /// The value of a public parameter, such as the newest image.
    pub async fn parameter(&self, name: &str) -> Result<String, Error> {
        let action = "ssm:GetParameter";
        let answer = self.ssm.get_parameter().name(name).send().await;
        let answer = answer.map_err(|error| {
            let mut error = of_sdk(action, &error);
            if error.kind == Kind::NotFound && error.message.is_empty() {
                error.message = format!("there is no parameter {name}");
            }
            error
        })?;
        answer
            .parameter()
            .and_then(|parameter| parameter.value().map(str::to_owned))
            .ok_or_else(|| Error::new(action, Kind::Answer, format!("{name} has no value")))
    }

    /// Whether the instance's agent is connected; `None` when it has never registered.
    pub async fn is_connected(&self, instance: &str) -> Result<Option<bool>, Error> {
        let filter = aws_sdk_ssm::types::InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .values(instance)
            .build();
        let action = "ssm:DescribeInstanceInformation";
        let filter =
            filter.map_err(|error| Error::new(action, Kind::Invalid, error.to_string()))?;
        let answer = self
            .ssm
            .describe_instance_information()
            .filters(filter)
            .send()
            .await
            .map_err(|error| of_sdk(action, &error))?;
        let ours = answer
            .instance_information_list()
            .iter()
            .find(|known| known.instance_id() == Some(instance));
        Ok(ours.map(|known| known.ping_status() == Some(&PingStatus::Online)))
    }

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
            let found = self
                .ssm
                .get_command_invocation()
                .command_id(&id)
                .instance_id(command.instance)
                .send()
                .await
                .map_err(|error| of_sdk(action, &error));
            match found {
                Ok(found) => {
                    answered = poll.elapsed();
                    let status = found.status().map(|status| status.as_str().to_owned());
                    let details = found.status_details().unwrap_or_default();
                    if let Some(status) = terminal(status.as_deref().unwrap_or_default(), details) {
                        self.in_flight().retain(|(other, _)| *other != id);
                        let outcome = Outcome {
                            status,
                            details: details.to_owned(),
                            exit_code: Some(found.response_code()).filter(|code| *code >= 0),
                            stdout: found
                                .standard_output_content()
                                .unwrap_or_default()
                                .to_owned(),
                            stderr: found
                                .standard_error_content()
                                .unwrap_or_default()
                                .to_owned(),
                            is_complete: false,
                        };
                        return self.with_output(command, &id, outcome).await;
                    }
                }
                Err(error) if error.kind == Kind::NotFound && poll.elapsed() < UNKNOWN_FOR => {}
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
        let answer = request
            .send()
            .await
            .map_err(|error| of_sdk(action, &error))?;
        answer
            .command()
            .and_then(|command| command.command_id().map(str::to_owned))
            .ok_or_else(|| Error::new(action, Kind::Answer, "no command in the answer"))
    }

    async fn cancel(&self, id: &str, instance: &str) -> Result<(), Error> {
        self.ssm
            .cancel_command()
            .command_id(id)
            .instance_ids(instance)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| of_sdk("ssm:CancelCommand", &error))
    }

    fn in_flight(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels every command of a run that still goes on on the instance, those included whose sending was answered by
    /// nobody. Says how many there were.
    pub async fn cancel_commands(&self, instance: &str, run: &str) -> Result<usize, Error> {
        let action = "ssm:ListCommands";
        let mut cancelled = 0;
        let known = std::mem::take(&mut *self.in_flight());
        for (id, on) in known.iter().filter(|(_, on)| on == instance) {
            self.cancel(id, on).await?;
            cancelled += 1;
        }
        let mut next = None;
        loop {
            let page = self
                .ssm
                .list_commands()
                .instance_id(instance)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| of_sdk(action, &error))?;
            for command in page.commands() {
                let goes_on = command
                    .status()
                    .is_some_and(|status| matches!(status.as_str(), "Pending" | "InProgress"));
                let ours = command
                    .comment()
                    .is_some_and(|text| text.starts_with(&comment(run, "")));
                let id = command.command_id().filter(|id| {
                    let is_done = known.iter().any(|(done, _)| done == id);
                    !is_done
                });
                if let (true, true, Some(id)) = (goes_on, ours, id) {
                    self.cancel(id, instance).await?;
                    cancelled += 1;
                }
            }
            next = page
                .next_token()
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if next.is_none() {
                return Ok(cancelled);
            }
        }
    }

    /// Completes the output: what came inline when its end is there, else the object in S3.
    async fn with_output(
        &self,
        command: &Command<'_>,
        id: &str,
        mut outcome: Outcome,
    ) -> Result<Outcome, Error> {
        match script::unmark(&outcome.stdout) {
            Marked::Whole(text) => {
                outcome.stdout = text;
                outcome.is_complete = true;
                return Ok(outcome);
            }
            Marked::Part(text) => outcome.stdout = text,
        }
        let Some((bucket, prefix)) = command.output else {
            return Ok(outcome);
        };
        if outcome.status == Status::Undelivered {
            return Ok(outcome);
        }
        // A script that was killed has no end to wait for.
        let ended = matches!(outcome.status, Status::Success | Status::Failed);
        let key = format!(
            "{}/{id}/{}/awsrunShellScript/0.awsrunShellScript/stdout",
            prefix.trim_end_matches('/'),
            command.instance
        );
        let mut poll = Poll::within(OUTPUT_WITHIN).at_most_every(Duration::from_secs(2));
        loop {
            let text = match self.object(bucket, &key).await {
                Ok(bytes) => bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                // What came inline is better than nothing; the caller sees that it is not all.
                Err(error) if !error.is_transient() => return Ok(outcome),
                Err(_) => None,
            };
            match text.as_deref().map(script::unmark) {
                Some(Marked::Whole(text)) => {
                    outcome.stdout = text;
                    outcome.is_complete = true;
                    return Ok(outcome);
                }
                Some(Marked::Part(text)) if text.len() > outcome.stdout.len() => {
                    outcome.stdout = text;
                }
                _ => {}
            }
            if !ended || poll.wait("s3:GetObject", &key).await.is_err() {
                return Ok(outcome);
            }
        }
    }
}

/// By which the commands of a run are found again.
fn comment(run: &str, step: &str) -> String {
    format!("autosizer {run} {step}")
}

/// The end that a state means; `None` while it may still change, which an unknown one may.
fn terminal(status: &str, details: &str) -> Option<Status> {
    let plain = |text: &str| text.replace(' ', "");
    let (status, details) = (plain(status), plain(details));
    match details.as_str() {
        "DeliveryTimedOut" | "Undeliverable" | "InvalidPlatform" | "AccessDenied" => {
            return Some(Status::Undelivered);
        }
        "Terminated" => return Some(Status::Cancelled),
        _ => {}
    }
    match status.as_str() {
        "Success" => Some(Status::Success),
        "Failed" => Some(Status::Failed),
        "TimedOut" => Some(Status::TimedOut),
        "Cancelled" => Some(Status::Cancelled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_ends_are_ends() {
        for (status, details, expected) in [
            ("Pending", "Pending", None),
            ("InProgress", "In Progress", None),
            ("Delayed", "Delayed", None),
            ("Cancelling", "Cancelling", None),
            ("Pondering", "Pondering", None),
            ("Success", "Success", Some(Status::Success)),
            ("Failed", "Failed", Some(Status::Failed)),
            ("Failed", "Undeliverable", Some(Status::Undelivered)),
            ("TimedOut", "Delivery Timed Out", Some(Status::Undelivered)),
            ("TimedOut", "ExecutionTimedOut", Some(Status::TimedOut)),
            ("Cancelled", "Cancelled", Some(Status::Cancelled)),
            ("Failed", "Terminated", Some(Status::Cancelled)),
            ("Failed", "Nonsense", Some(Status::Failed)),
        ] {
            assert_eq!(terminal(status, details), expected, "{status} {details}");
        }
    }
}
