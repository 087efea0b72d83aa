//! Ending everything that a run has made.
//!
//! Owns the order: the service's log is fetched, then commands, container, instance, security group and objects go; every
//! part is tried whatever became of the others, and each that is gone leaves the ledger. What failed is tried again: a
//! permission that comes late or a storm of throttling has to leave nothing behind. How things of EC2 end, and seeing that
//! they do, is `ending`'s. Called at the end of a run.

use std::collections::BTreeSet;

use super::super::failure::Failure;
use super::super::run::Run;
use super::ending::{Ending, Known, end_run, is_gone};
use super::launch::{FOLDER, GROUP, INSTANCE, NODE};
use super::{Ssm, failure, scripts};
use crate::aws::{self, Kind, Poll, Status};

/// Times that cleaning is tried.
const ROUNDS: u32 = 6;
/// Times that outputs which came late are removed.
const MOST_LATE: u32 = 5;

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
                // Where cancelling is not known at all, what was begun ends by its own limit.
                match cancelled {
                    Err(error) if error.kind == Kind::NotOffered => {
                        run.steps
                            .note(&format!("Commands that still run go on: {error}"));
                    }
                    Err(error) => note(Err(failure(&error))),
                    Ok(()) => {}
                }
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

    /// Ends the run's commands. Of an instance that ends they end anyway, but their records would say that they go on.
    async fn cancel(&self, run: &Run) -> Result<(), aws::Error> {
        let (Some(session), Some(instance)) = (&self.session, &self.instance) else {
            return Ok(());
        };
        let cancelled = session.cancel_commands(&instance.id, &run.id).await;
        cancelled.map(|_| ())
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
                return match self.cancel(run).await {
                    Err(error) if error.kind != Kind::NotOffered => Err(failure(&error)),
                    _ => Ok(()),
                };
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
        if !self.commanded {
            run.ledger.removed(NODE, &run.id);
        }
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
            made: self.group.clone(),
            unanswered: self.unanswered,
        };
        let ending = Ending {
            ended: self.options.patience.ended,
            unseen: self.options.patience.unseen,
        };
        end_run(self.session()?, &run.id, &known, ending)
            .await
            .map_err(|error| failure(&error))?;
        forget(run);
        run.ledger.removed(NODE, &run.id);
        Ok(())
    }

    /// Removes what commands have written. Which outputs there must be is known: those that are not there yet are waited for,
    /// because whoever brings them may be later than the end of the command, and of the instance.
    async fn remove_objects(&mut self, run: &Run) -> Result<(), Failure> {
        let folder = self.folder(run);
        let prefix = format!("{folder}/");
        let session = self.session()?;
        let patience = &self.options.patience;
        let mut late = Poll::within(patience.late).at_most_every(patience.late / 5);
        let mut awaited: BTreeSet<String> = if self.refused {
            BTreeSet::new()
        } else {
            self.outputs.clone()
        };
        let mut looks = 0;
        loop {
            let removed = session.remove_objects(&self.options.bucket, &prefix).await;
            let removed = removed.map_err(|error| failure(&error))?;
            awaited.retain(|id| !removed.iter().any(|key| key.contains(id.as_str())));
            if !awaited.is_empty() {
                if late
                    .wait("s3:ListBucket", "the last outputs")
                    .await
                    .is_err()
                {
                    awaited.clear();
                }
                continue;
            }
            // Once more, to see that they are gone and that commands which were stopped have not brought any since.
            let is_quiet = removed.is_empty() && (looks > 0 || !self.commanded);
            if is_quiet || looks >= MOST_LATE {
                break;
            }
            looks += 1;
            if self.commanded {
                tokio::time::sleep(patience.settled).await;
            }
        }
        self.outputs.clear();
        run.ledger.removed(FOLDER, &folder);
        Ok(())
    }
}

fn forget(run: &Run) {
    run.ledger.removed(INSTANCE, &run.id);
    run.ledger.removed(GROUP, &scripts::container(&run.id));
}
