//! Ending everything that a run has made.
//!
//! Owns the order: commands, container, instance, security group, objects; every part is tried whatever became of the
//! others, and each that is gone leaves the ledger. Looks for things by tag as well as by what is remembered, because a
//! launch whose answer got lost has made an instance too. Called at the end of a run and, for runs that crashed, by
//! `sweep`.

use std::time::Duration;

use super::super::failure::Failure;
use super::super::run::Run;
use super::launch::{FOLDER, GROUP, INSTANCE};
use super::{Ssm, TAG_RUN, failure, scripts};
use crate::aws::{self, Kind, Poll, Session};

impl Ssm {
    pub(super) async fn clean(&mut self, run: &Run) -> Result<(), Failure> {
        if self.session.is_none() {
            return Ok(());
        }
        let step = run.steps.begin("clean", "Cleaning up");
        // One that was to stay but never took a command is of no use to the next run.
        let stays = self.foreign || (self.options.keep && self.commanded);
        let mut first: Option<Failure> = None;
        let mut note = |failure: Failure| {
            first.get_or_insert(failure);
        };
        if self.commanded {
            let (session, instance) = (self.session()?, self.instance()?);
            // Of an instance that ends they end anyway.
            let cancelled = session.cancel_commands(&instance.id, &run.id).await;
            if let (Err(error), true) = (cancelled, stays) {
                note(failure(&error));
            }
        }
        if stays && self.commanded {
            let name = self.numbered("clean");
            match self
                .step(
                    run,
                    &name,
                    &scripts::clean(&run.id),
                    self.options.patience.step,
                )
                .await
            {
                Ok(_) => {}
                Err(failure) => note(failure),
            }
        }
        let session = self.session()?;
        let forget = || {
            run.ledger.removed(INSTANCE, &run.id);
            run.ledger.removed(GROUP, &scripts::container(&run.id));
        };
        if stays {
            let id = &self.instance()?.id;
            step.note(&format!("{id} stays; use it again with --instance-id {id}"));
            forget();
        } else {
            match end_instances(session, &run.id, self.options.patience.ended).await {
                Ok(()) => forget(),
                Err(error) => note(failure(&error)),
            }
            // The group of an instance that was taken over has the name of the run that made it.
            if let Some(instance) = &self.instance
                && let Err(error) =
                    remove_groups(session, &instance.groups, self.options.patience.ended).await
            {
                note(failure(&error));
            }
        }
        let folder = self.folder(run);
        match session
            .remove_objects(&self.options.bucket, &format!("{folder}/"))
            .await
        {
            Ok(_) => run.ledger.removed(FOLDER, &folder),
            Err(error) => note(failure(&error)),
        }
        match first {
            Some(failure) => {
                step.failed("Not everything could be removed");
                Err(failure)
            }
            None => {
                step.done("");
                Ok(())
            }
        }
    }
}

/// Ends all instances of a run and removes its security groups.
pub(super) async fn end_instances(
    session: &Session,
    run: &str,
    patience: Duration,
) -> Result<(), aws::Error> {
    let mut first = None;
    // What was launched a moment ago may not be listed yet, but then its id is known; both ways lead here by the tag.
    let instances = session.instances(&format!("tag:{TAG_RUN}"), &[run]).await?;
    for instance in instances.iter().filter(|instance| !instance.is_gone()) {
        if let Err(error) = session.terminate(&instance.id).await {
            first.get_or_insert(error);
        }
    }
    let groups = session.groups(&format!("tag:{TAG_RUN}"), &[run]).await?;
    let ids: Vec<String> = groups.into_iter().map(|group| group.id).collect();
    if let Err(error) = remove_groups(session, &ids, patience).await {
        first.get_or_insert(error);
    }
    first.map_or(Ok(()), Err)
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
