//! Ending everything that a run has made.
//!
//! Owns the order: the service's log is fetched, then commands, container, instance, security group and objects go; every
//! part is tried whatever became of the others, and each that is gone leaves the ledger. What failed is tried again: a
//! permission that comes late or a storm of throttling has to leave nothing behind. Looks for things by tag as well as by
//! what is remembered, because a launch whose answer got lost has made an instance too. Called at the end of a run and,
//! for runs that crashed, by `sweep`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::failure::Failure;
use super::super::run::Run;
use super::launch::{FOLDER, GROUP, INSTANCE, NODE};
use super::{Ssm, TAG_RUN, failure, scripts};
use crate::aws::ec2::Instance;
use crate::aws::{self, Kind, Poll, Session, Status};

/// Times that cleaning is tried.
const ROUNDS: u32 = 5;
/// Times that outputs which came late are removed.
const MOST_LATE: u32 = 5;

/// What a run is known to have made.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// The instance's id.
    pub(super) instance: Option<String>,
    /// Security groups that may be removed when they are ours.
    pub(super) groups: Vec<String>,
    /// Whether more may have been made than is known.
    pub(super) unanswered: bool,
}

/// How long ending may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// An instance to let go of its security group.
    pub(super) ended: Duration,
    /// Something of which it is not known whether it was made to be seen.
    pub(super) unseen: Duration,
}

impl Ssm {
    pub(super) async fn clean(&mut self, run: &Run) -> Result<(), Failure> {
        if self.session.is_none() {
            return Ok(());
        }
        self.keep_log(run).await;
        let step = run.steps.begin("clean", "Cleaning up");
        let mut round = 1;
        loop {
            match self.clean_once(run).await {
                Ok(()) => {
                    step.done("");
                    return Ok(());
                }
                Err(failure) if round >= ROUNDS => {
                    step.failed("Not everything could be removed");
                    return Err(failure);
                }
                Err(failure) => {
                    step.note(&format!("Trying again: {}", failure.what));
                    tokio::time::sleep(self.options.patience.again * round).await;
                }
            }
            round += 1;
        }
    }

    /// Tries to remove everything; the first failure.
    async fn clean_once(&mut self, run: &Run) -> Result<(), Failure> {
        let mut first: Option<Failure> = None;
        let mut note = |result: Result<(), Failure>| {
            if let Err(failure) = result {
                first.get_or_insert(failure);
            }
        };
        // A new one that was to stay but never took a command is of no use to the next run.
        let is_used = self.commanded || self.options.instance_id.is_some();
        let mut stays = self.foreign || (self.options.keep && is_used && self.instance.is_some());
        if self.commanded {
            let cancelled = self.cancel(run).await;
            if stays {
                note(cancelled);
                match self.clean_node(run).await {
                    Ok(()) => run.ledger.removed(NODE, &run.id),
                    Err(failure) if self.foreign => note(Err(failure)),
                    Err(failure) => {
                        run.steps.note(&format!(
                            "The instance is ended although it was to stay: {}",
                            failure.what
                        ));
                        stays = false;
                        // From now on it ends in every round.
                        self.options.keep = false;
                    }
                }
            }
        }
        note(if stays {
            self.leave(run)
        } else {
            self.end(run).await
        });
        note(self.remove_objects(run).await);
        first.map_or(Ok(()), Err)
    }

    /// Ends the run's commands. Of an instance that ends they end anyway.
    async fn cancel(&self, run: &Run) -> Result<(), Failure> {
        let (session, instance) = (self.session()?, self.instance()?);
        let cancelled = session.cancel_commands(&instance.id, &run.id).await;
        cancelled.map(|_| ()).map_err(|error| failure(&error))
    }

    /// Removes what is on an instance that stays.
    async fn clean_node(&mut self, run: &Run) -> Result<(), Failure> {
        let name = self.numbered("clean");
        let script = scripts::clean(&run.id);
        let limit = self.options.patience.step;
        let cleaned = self.step(run, &name, &script, limit).await;
        let why = match cleaned {
            Ok(outcome) if outcome.status == Status::Success => {
                // What was on its way when the others were cancelled would come after the cleaning.
                return self.cancel(run).await;
            }
            Ok(outcome) => Failure::target(format!(
                "the container on {} cannot be removed: {}",
                self.instance()?.id,
                outcome.reason()
            )),
            Err(failure) => failure,
        };
        // Of an instance that has ended nothing is left.
        let id = &self.instance()?.id;
        if is_gone(self.session()?, id).await {
            return Ok(());
        }
        Err(why)
    }

    fn leave(&self, run: &Run) -> Result<(), Failure> {
        let id = &self.instance()?.id;
        if !self.foreign {
            run.steps
                .note(&format!("{id} stays; use it again with --instance-id {id}"));
        }
        forget(run);
        Ok(())
    }

    async fn end(&self, run: &Run) -> Result<(), Failure> {
        let known = Known {
            instance: self.instance.as_ref().map(|instance| instance.id.clone()),
            // The group of an instance that was taken over has the name of the run that made it.
            groups: self
                .instance
                .iter()
                .flat_map(|instance| instance.groups.clone())
                .collect(),
            unanswered: self.unanswered,
        };
        let ending = Ending {
            ended: self.options.patience.ended,
            unseen: self.options.patience.unseen,
        };
        end_instances(self.session()?, &run.id, &known, ending)
            .await
            .map_err(|error| failure(&error))?;
        forget(run);
        run.ledger.removed(NODE, &run.id);
        Ok(())
    }

    /// Removes what commands have written, also what the last ones write while that is going on.
    async fn remove_objects(&self, run: &Run) -> Result<(), Failure> {
        let (session, folder) = (self.session()?, self.folder(run));
        let prefix = format!("{folder}/");
        let remove = async || {
            session
                .remove_objects(&self.options.bucket, &prefix)
                .await
                .map_err(|error| failure(&error))
        };
        remove().await?;
        if self.commanded {
            for _ in 0..MOST_LATE {
                tokio::time::sleep(self.options.patience.settled).await;
                if remove().await? == 0 {
                    break;
                }
            }
        }
        run.ledger.removed(FOLDER, &folder);
        Ok(())
    }
}

fn forget(run: &Run) {
    run.ledger.removed(INSTANCE, &run.id);
    run.ledger.removed(GROUP, &scripts::container(&run.id));
}

/// Whether the instance has surely ended.
pub(super) async fn is_gone(session: &Session, id: &str) -> bool {
    match session.instance(id).await {
        Ok(instance) => instance.is_gone(),
        Err(error) => error.kind == Kind::NotFound,
    }
}

/// Ends all instances of a run and removes its security groups.
pub(super) async fn end_instances(
    session: &Session,
    run: &str,
    known: &Known,
    ending: Ending,
) -> Result<(), aws::Error> {
    let mut first = None;
    let mut unseen = known.unanswered;
    // The one that is known ends whether or not the others can be listed.
    if let Some(id) = &known.instance {
        match session.terminate(id).await {
            Ok(is_known) => unseen |= !is_known,
            Err(error) => first = Some(error),
        }
    }
    let patience = if unseen {
        ending.unseen
    } else {
        Duration::ZERO
    };
    let found = match find(session, run, patience).await {
        Ok(found) => found,
        Err(error) => return Err(first.unwrap_or(error)),
    };
    for instance in found.iter().filter(|instance| !instance.is_gone()) {
        if let Err(error) = session.terminate(&instance.id).await {
            first.get_or_insert(error);
        }
    }
    // A group that an instance goes on to use would be waited for in vain.
    if let Some(error) = first {
        return Err(error);
    }
    let mut ids: BTreeSet<String> = known.groups.iter().cloned().collect();
    ids.extend(found.into_iter().flat_map(|instance| instance.groups));
    let groups = session.groups(&format!("tag:{TAG_RUN}"), &[run]).await?;
    ids.extend(groups.into_iter().map(|group| group.id));
    let ids: Vec<String> = ids.into_iter().collect();
    remove_groups(session, &ids, ending.ended).await
}

/// The instances of a run. What was asked for a moment ago may not be listed yet: it gets that time to be seen.
async fn find(session: &Session, run: &str, unseen: Duration) -> Result<Vec<Instance>, aws::Error> {
    let mut poll = Poll::within(unseen).at_most_every(Duration::from_secs(2));
    loop {
        let found = session.instances(&format!("tag:{TAG_RUN}"), &[run]).await?;
        if !found.is_empty() || poll.wait("ec2:DescribeInstances", run).await.is_err() {
            return Ok(found);
        }
    }
}

/// Removes those of the groups that are ours, as soon as their instances let go of them.
pub(super) async fn remove_groups(
    session: &Session,
    ids: &[String],
    patience: Duration,
) -> Result<(), aws::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let ours = session.groups("tag-key", &[TAG_RUN]).await?;
    for group in ours.iter().filter(|group| ids.contains(&group.id)) {
        let mut poll = Poll::within(patience);
        loop {
            match session.remove_group(&group.id).await {
                Ok(()) => break,
                Err(error) if error.kind == Kind::InUse => {
                    poll.wait(
                        error.action,
                        &format!("the instance of {} to end", group.id),
                    )
                    .await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
