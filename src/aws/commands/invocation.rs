//! How a command on an instance stands.
//!
//! Owns asking for it, by `GetCommandInvocation` or, where an endpoint knows only the lists, by `ListCommandInvocations`,
//! and which states are ends. Called while a command is followed.

use std::sync::atomic::Ordering;

use aws_sdk_ssm::types::{CommandInvocationStatus, CommandPlugin};

use super::{Outcome, Status};
use crate::aws::error::{Error, Kind};
use crate::aws::managed::following;
use crate::aws::session::{Session, of_sdk};

/// Between what was printed and what was complained in the output of a list.
const COMPLAINTS: &str = "\n----------ERROR-------\n";

/// What is told of a command on an instance.
#[derive(Debug, Default)]
pub(super) struct Invocation {
    pub(super) status: String,
    pub(super) details: String,
    code: i32,
    stdout: String,
    stderr: String,
}

impl Invocation {
    /// The outcome, as far as it came inline.
    pub(super) fn ended(self, id: &str, status: Status) -> Outcome {
        // A code of success that comes with a failure says nothing: some leave it out.
        let says = self.code > 0 || self.code == 0 && status == Status::Success;
        Outcome {
            id: id.to_owned(),
            status,
            details: self.details,
            exit_code: says.then_some(self.code),
            stdout: self.stdout,
            stderr: self.stderr,
            is_complete: false,
        }
    }
}

impl Session {
    pub(super) async fn invocation(&self, id: &str, instance: &str) -> Result<Invocation, Error> {
        if !self.only_lists.load(Ordering::Relaxed) {
            match self.got(id, instance).await {
                Err(error) if error.kind == Kind::NotOffered => {
                    self.only_lists.store(true, Ordering::Relaxed);
                }
                found => return found,
            }
        }
        self.listed(id, instance).await
    }

    async fn got(&self, id: &str, instance: &str) -> Result<Invocation, Error> {
        let request = self
            .ssm
            .get_command_invocation()
            .command_id(id)
            .instance_id(instance);
        let found = self.again(async || {
            let answer = request.clone().send().await;
            answer.map_err(|error| of_sdk("ssm:GetCommandInvocation", &error))
        });
        let found = found.await?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Ok(Invocation {
            status: text(found.status().map(CommandInvocationStatus::as_str)),
            details: text(found.status_details()),
            code: found.response_code(),
            stdout: text(found.standard_output_content()),
            stderr: text(found.standard_error_content()),
        })
    }

    async fn listed(&self, id: &str, instance: &str) -> Result<Invocation, Error> {
        let action = "ssm:ListCommandInvocations";
        let request = self
            .ssm
            .list_command_invocations()
            .command_id(id)
            .instance_id(instance)
            .details(true);
        let mut token = None;
        loop {
            let page = self.again(async || {
                let request = request.clone().set_next_token(token.clone());
                request.send().await.map_err(|error| of_sdk(action, &error))
            });
            let page = page.await?;
            let ours = page
                .command_invocations()
                .iter()
                .find(|one| one.instance_id() == Some(instance));
            if let Some(found) = ours {
                let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                let plugin = found.command_plugins().first();
                let output = text(plugin.and_then(|plugin| plugin.output()));
                let (stdout, stderr) = parts(&output);
                return Ok(Invocation {
                    status: text(found.status().map(CommandInvocationStatus::as_str)),
                    details: text(found.status_details()),
                    code: plugin.map_or(-1, CommandPlugin::response_code),
                    stdout,
                    stderr,
                });
            }
            token = following(page.next_token(), token.as_deref());
            if token.is_none() {
                let why = format!("the command {id} is not listed");
                return Err(Error::new(action, Kind::NotFound, why));
            }
        }
    }
}

fn parts(output: &str) -> (String, String) {
    let (stdout, stderr) = output.split_once(COMPLAINTS).unwrap_or((output, ""));
    (stdout.to_owned(), stderr.to_owned())
}

/// The end that a state means; `None` while it may still change, which an unknown one may. The words of either may come in
/// the place of the other, and with spaces in them.
pub(super) fn terminal(status: &str, details: &str) -> Option<Status> {
    let plain = |text: &str| text.replace([' ', '_'], "").to_ascii_lowercase();
    let words = [plain(details), plain(status)];
    let is = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    if is(&[
        "deliverytimedout",
        "undeliverable",
        "invalidplatform",
        "accessdenied",
    ]) {
        return Some(Status::Undelivered);
    }
    if is(&["terminated"]) {
        return Some(Status::Cancelled);
    }
    if is(&["executiontimedout"]) {
        return Some(Status::TimedOut);
    }
    let [details, status] = words;
    match if status.is_empty() { details } else { status }.as_str() {
        "success" => Some(Status::Success),
        "failed" => Some(Status::Failed),
        "timedout" => Some(Status::TimedOut),
        "cancelled" | "canceled" => Some(Status::Cancelled),
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
            ("", "", None),
            ("InProgress", "Success", None),
            ("Success", "Success", Some(Status::Success)),
            ("Success", "", Some(Status::Success)),
            ("Failed", "Failed", Some(Status::Failed)),
            ("Failed", "Undeliverable", Some(Status::Undelivered)),
            ("Undeliverable", "", Some(Status::Undelivered)),
            ("Failed", "Invalid Platform", Some(Status::Undelivered)),
            ("Failed", "AccessDenied", Some(Status::Undelivered)),
            ("TimedOut", "Delivery Timed Out", Some(Status::Undelivered)),
            ("Delivery Timed Out", "", Some(Status::Undelivered)),
            ("TimedOut", "ExecutionTimedOut", Some(Status::TimedOut)),
            ("ExecutionTimedOut", "", Some(Status::TimedOut)),
            ("TimedOut", "", Some(Status::TimedOut)),
            ("Cancelled", "Cancelled", Some(Status::Cancelled)),
            ("Terminated", "", Some(Status::Cancelled)),
            ("Failed", "Terminated", Some(Status::Cancelled)),
            ("Failed", "Nonsense", Some(Status::Failed)),
        ] {
            assert_eq!(terminal(status, details), expected, "{status} {details}");
        }
    }

    #[test]
    fn a_list_has_complaints_behind_the_output() {
        let output = "out\n\n__sizer_end 3\n\n----------ERROR-------\nerr\n";
        let (stdout, stderr) = parts(output);
        assert_eq!(
            (stdout.as_str(), stderr.as_str()),
            ("out\n\n__sizer_end 3\n", "err\n")
        );
        assert_eq!(parts("out"), ("out".to_owned(), String::new()));
    }

    #[test]
    fn a_code_of_success_with_a_failure_says_nothing() {
        let code = |code: i32, status: Status| {
            let found = Invocation {
                code,
                ..Invocation::default()
            };
            found.ended("c-1", status).exit_code
        };
        assert_eq!(code(0, Status::Success), Some(0));
        assert_eq!(code(0, Status::Failed), None);
        assert_eq!(code(3, Status::Failed), Some(3));
        assert_eq!(code(-1, Status::TimedOut), None);
    }
}
