//! What was sent, and cancelling it.
//!
//! Owns the comment by which the commands of a run are found again, in the account's history, which Systems Manager keeps
//! for 30 days, also by somebody who knows nothing else of the run; and the commands of this process whose end was not seen
//! yet. Called by cleaning up and by `gc`.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::Status;
use super::invocation::terminal;
use crate::aws::error::{Error, Kind};
use crate::aws::managed::following;
use crate::aws::retry::Poll;
use crate::aws::session::{Session, of_sdk};

const ALL: &str = "ssm:ListCommands";
/// Cancelling is a request: for so long its effect is waited for.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
const WORD: &str = "autosizer";

/// A command of ours in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: String,
    /// The run that sent it.
    pub run: String,
    /// Its step.
    pub step: String,
    /// Where it ran.
    pub instances: Vec<String>,
    /// How it ended; `None` while it goes on.
    pub end: Option<Status>,
}

/// By which the commands of a run are found again.
pub(super) fn comment(run: &str, step: &str) -> String {
    format!("{WORD} {run} {step}")
}

/// `None` for commands that are not ours.
fn read(
    id: Option<&str>,
    comment: Option<&str>,
    instances: Vec<String>,
    status: &str,
) -> Option<Sent> {
    let mut words = comment?.split(' ');
    let (word, run, step) = (words.next()?, words.next()?, words.next()?);
    (word == WORD && words.next().is_none()).then(|| Sent {
        id: id.unwrap_or_default().to_owned(),
        run: run.to_owned(),
        step: step.to_owned(),
        instances,
        end: terminal(status, ""),
    })
}

impl Session {
    pub(super) fn in_flight(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn cancel(&self, id: &str, instance: &str) -> Result<(), Error> {
        let request = self
            .ssm
            .cancel_command()
            .command_id(id)
            .instance_ids(instance);
        self.again(async || {
            let answer = request.clone().send().await;
            answer
                .map(|_| ())
                .map_err(|error| of_sdk("ssm:CancelCommand", &error))
        })
        .await
    }

    /// Our commands in the history, on one instance or on all.
    pub async fn sent(&self, instance: Option<&str>) -> Result<Vec<Sent>, Error> {
        let found = match self.sent_commands(instance).await {
            Err(error) if error.kind == Kind::NotOffered => self.sent_invocations(instance).await,
            found => found,
        };
        let is_there = |sent: &Sent| {
            let on = |instance: &str| sent.instances.iter().any(|other| other == instance);
            sent.instances.is_empty() || instance.is_none_or(on)
        };
        found.map(|found| found.into_iter().filter(is_there).collect())
    }

    async fn sent_commands(&self, instance: Option<&str>) -> Result<Vec<Sent>, Error> {
        let request = self
            .ssm
            .list_commands()
            .set_instance_id(instance.map(str::to_owned));
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let page = self.again(async || {
                let request = request.clone().set_next_token(token.clone());
                request.send().await.map_err(|error| of_sdk(ALL, &error))
            });
            let page = page.await?;
            found.extend(page.commands().iter().filter_map(|command| {
                read(
                    command.command_id(),
                    command.comment(),
                    command.instance_ids().to_vec(),
                    command.status().map_or("", |status| status.as_str()),
                )
            }));
            token = following(page.next_token(), token.as_deref());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// The same by their invocations, for an endpoint that lists nothing else.
    async fn sent_invocations(&self, instance: Option<&str>) -> Result<Vec<Sent>, Error> {
        let action = "ssm:ListCommandInvocations";
        let request = self
            .ssm
            .list_command_invocations()
            .set_instance_id(instance.map(str::to_owned));
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let page = self.again(async || {
                let request = request.clone().set_next_token(token.clone());
                request.send().await.map_err(|error| of_sdk(action, &error))
            });
            let page = page.await?;
            found.extend(page.command_invocations().iter().filter_map(|one| {
                read(
                    one.command_id(),
                    one.comment(),
                    one.instance_id().map(str::to_owned).into_iter().collect(),
                    one.status().map_or("", |status| status.as_str()),
                )
            }));
            token = following(page.next_token(), token.as_deref());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Cancels every command of a run that still goes on on the instance, those included whose sending was answered by
    /// nobody, and waits a moment for their ends. Says how many there were; the first error when one could not be
    /// cancelled, after all others were.
    pub async fn cancel_commands(&self, instance: &str, run: &str) -> Result<usize, Error> {
        let mut first = None;
        let known = self.in_flight().clone();
        let mut open: BTreeSet<String> = known
            .into_iter()
            .filter(|(_, on)| on == instance)
            .map(|(id, _)| id)
            .collect();
        match self.sent(Some(instance)).await {
            Ok(sent) => {
                let ours = sent.into_iter().filter(|sent| sent.run == run);
                open.extend(ours.filter(|sent| sent.end.is_none()).map(|sent| sent.id));
            }
            Err(error) => first = Some(error),
        }
        let mut cancelled = Vec::new();
        for id in open {
            match self.cancel(&id, instance).await {
                Err(error) if error.kind != Kind::NotFound => {
                    first.get_or_insert(error);
                    continue;
                }
                Err(_) => {}
                Ok(()) => cancelled.push(id.clone()),
            }
            self.in_flight().retain(|(other, _)| *other != id);
        }
        self.wait_for_ends(&cancelled, instance).await;
        first.map_or(Ok(cancelled.len()), Err)
    }

    async fn wait_for_ends(&self, ids: &[String], instance: &str) {
        let mut poll = Poll::within(ENDS_WITHIN).at_most_every(Duration::from_secs(1));
        for id in ids {
            while let Ok(found) = self.invocation(id, instance).await {
                let has_ended = terminal(&found.status, &found.details).is_some();
                if has_ended || poll.wait("ssm:CancelCommand", id).await.is_err() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_comments_are_read() {
        let sent = |text: &str| {
            read(
                Some("c-1"),
                Some(text),
                vec!["i-1".to_owned()],
                "InProgress",
            )
        };
        let ours = sent(&comment("r1", "clean-3")).unwrap();
        assert_eq!((ours.run.as_str(), ours.step.as_str()), ("r1", "clean-3"));
        assert_eq!(ours.end, None);
        for other in [
            "",
            "autosizer",
            "autosizer r1",
            "deploy r1 x",
            "autosizer r1 x of mine",
        ] {
            assert_eq!(sent(other), None, "{other}");
        }
        let ended = read(Some("c-1"), Some("autosizer r1 x"), Vec::new(), "TimedOut");
        assert_eq!(ended.unwrap().end, Some(Status::TimedOut));
    }
}
