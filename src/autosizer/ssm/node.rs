//! One step on the instance.
//!
//! Owns running a script by Run Command while watching that the machine is still there: Systems Manager itself notices
//! the end of a machine only when the command's time is over. Also fetches long outputs, piece by piece where the bucket
//! takes nothing. Called by the target's steps.

use std::io::Read;
use std::time::Duration;

use base64::Engine;

use super::super::failure::Failure;
use super::super::run::Run;
use super::ending::is_gone;
use super::{Ssm, failure, scripts};
use crate::aws::ec2::Instance;
use crate::aws::{Command, Kind, Outcome, Poll, Session, Status};

/// So often in a row an agent has to be found without a connection: one that restarts is back sooner.
const LOOKS: u32 = 6;
/// Times that the instance is asked when no answer comes, and that a command is sent which does not arrive.
const TRIES: u32 = 3;
/// So often in a row an instance has to be unknown: one that was made a moment ago is not known everywhere.
const UNKNOWN_LOOKS: u32 = 3;
/// Packed rows of more than a day.
const MOST_PIECES: usize = 200;

impl Ssm {
    pub(super) fn session(&self) -> Result<&Session, Failure> {
        self.session
            .as_ref()
            .ok_or_else(|| Failure::target("there is no connection to AWS yet"))
    }

    pub(super) fn instance(&self) -> Result<&Instance, Failure> {
        self.instance
            .as_ref()
            .ok_or_else(|| Failure::target("there is no instance yet"))
    }

    /// A name for a step that may be taken more than once.
    pub(super) fn numbered(&mut self, name: &str) -> String {
        self.steps += 1;
        format!("{name}-{}", self.steps)
    }

    /// The folder of the bucket that this run writes to.
    pub(super) fn folder(&self, run: &Run) -> String {
        format!("{}/{}", self.options.prefix.trim_matches('/'), run.id)
    }

    /// Runs a script to its end, which may be a failure: the outcome says so. An error when that cannot be known. What did
    /// not arrive is sent again while the agent is connected; it runs once all the same. Once the instance did not answer, it
    /// is asked only while its agent is connected: nobody waits for it again and again.
    pub(super) async fn step(
        &mut self,
        run: &Run,
        name: &str,
        script: &str,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        let mut tries = 1;
        loop {
            let outcome = self.sent(run, name, script, limit).await?;
            if outcome.status != Status::Undelivered {
                return Ok(outcome);
            }
            let failure = Failure::target(format!(
                "step {name:?} did not reach {} ({}): its agent is gone",
                self.instance()?.id,
                outcome.details
            ));
            if tries >= TRIES || !self.is_back().await {
                return Err(failure);
            }
            run.steps
                .note(&format!("Sending it again: {}", failure.what));
            tries += 1;
        }
    }

    /// One sending of a script. An outcome is one of success, failure or never having arrived.
    async fn sent(
        &mut self,
        run: &Run,
        name: &str,
        script: &str,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        // What is dropped half-way may have reached the instance.
        self.commanded = true;
        let (session, instance) = (self.session()?, self.instance()?);
        let id = instance.id.clone();
        if self.lost && !is_connected(session, &id).await {
            return Err(Failure::target(format!("the agent of {id} is still gone")));
        }
        let folder = self.folder(run);
        let command = Command {
            instance: &id,
            run: &run.id,
            step: name,
            script,
            limit,
            // Where nobody tells that the agent has registered, the command waits for it.
            delivery: if self.is_blind {
                self.options.patience.registered
            } else {
                self.options.patience.delivery
            },
            // The last step's output would come after everything else there has been removed.
            output: (!name.starts_with("clean"))
                .then_some((self.options.bucket.as_str(), folder.as_str())),
        };
        let ended = tokio::select! {
            outcome = session.run(&command) => outcome.map_err(|error| {
                (matches!(error.kind, Kind::TimedOut | Kind::NotFound), failure(&error))
            }),
            why = gone(session, &id, self.options.patience.look) => {
                Err((true, Failure::target(why)))
            }
        };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err((lost, failure)) => {
                self.lost = lost;
                return Err(failure);
            }
        };
        self.lost = outcome.status == Status::Undelivered;
        match outcome.status {
            Status::Success | Status::Failed => {
                if command.output.is_some() {
                    self.outputs.insert(outcome.id.clone());
                }
                Ok(outcome)
            }
            Status::Undelivered => Ok(outcome),
            Status::TimedOut => {
                let seconds = limit.as_secs();
                Err(Failure::target(format!(
                    "step {name:?} took longer than {seconds} s on {id}"
                ))
                .advise("is the instance too small, or the image very large?"))
            }
            Status::Cancelled => Err(Failure::target(format!(
                "somebody cancelled step {name:?} on {id}"
            ))),
        }
    }

    /// Runs a script that only looks, so that it may be tried again when it did not arrive or its result did not: as long
    /// as the instance is there its agent gets some time to come back. Also says under which name it ran.
    pub(super) async fn look(
        &mut self,
        run: &Run,
        what: &str,
        script: &str,
    ) -> Result<(String, Outcome), Failure> {
        let mut tries = 1;
        loop {
            let name = self.numbered(what);
            let limit = self.options.patience.step;
            match self.step(run, &name, script, limit).await {
                Ok(outcome) => return Ok((name, outcome)),
                Err(failure) if tries >= TRIES || !self.is_back().await => return Err(failure),
                Err(failure) => run.steps.note(&format!("Trying again: {}", failure.what)),
            }
            tries += 1;
        }
    }

    /// Whether the agent is connected, now or soon.
    async fn is_back(&self) -> bool {
        let (Ok(session), Ok(instance)) = (self.session(), self.instance()) else {
            return false;
        };
        let mut poll = Poll::within(self.options.patience.back);
        loop {
            if is_connected(session, &instance.id).await {
                return true;
            }
            if is_gone(session, &instance.id).await
                || poll
                    .wait("ssm:DescribeInstanceInformation", "the agent")
                    .await
                    .is_err()
            {
                return false;
            }
        }
    }

    /// Runs a script that only looks and brings home all that it prints, through the bucket or, where that takes nothing,
    /// in pieces.
    pub(super) async fn output(
        &mut self,
        run: &Run,
        what: &str,
        script: &str,
    ) -> Result<Outcome, Failure> {
        let (name, mut outcome) = self.look(run, what, script).await?;
        if outcome.status != Status::Success {
            return Err(Failure::target(format!("no {what}: {}", outcome.reason())));
        }
        if outcome.is_complete {
            return Ok(outcome);
        }
        run.steps.note(&format!(
            "The bucket {} has no output of the instance: fetching it in pieces; may the role of {:?} write there?",
            self.options.bucket, self.options.instance_profile
        ));
        self.refused = true;
        match self.pieces(run, &name).await {
            Ok(text) => {
                outcome.stdout = text;
                outcome.is_complete = true;
            }
            Err(failure) if outcome.stdout.is_empty() => return Err(failure),
            Err(_) => run.steps.note(&format!(
                "The {what} on the instance cannot be fetched whole: what came is kept"
            )),
        }
        Ok(outcome)
    }

    async fn pieces(&mut self, run: &Run, step: &str) -> Result<String, Failure> {
        let mut packed = String::new();
        for number in 0..MOST_PIECES {
            let name = self.numbered("piece");
            let script = scripts::piece(&run.id, step, number);
            let outcome = self
                .step(run, &name, &script, self.options.patience.step)
                .await?;
            let piece = outcome.stdout.trim();
            packed.push_str(piece);
            if piece.len() < scripts::PIECE {
                break;
            }
        }
        unpack(&packed)
            .map_err(|why| Failure::target(format!("what step {step:?} printed is damaged: {why}")))
    }
}

/// Whether commands may arrive, as far as anybody tells.
async fn is_connected(session: &Session, id: &str) -> bool {
    match session.is_connected(id).await {
        Ok(connected) => connected == Some(true),
        Err(error) => error.kind == Kind::NotOffered,
    }
}

fn unpack(packed: &str) -> Result<String, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .map_err(|error| error.to_string())?;
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut unpacked)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&unpacked).into_owned())
}

/// Waits until the instance has ended, or its agent has lost the connection for some looks in a row; says so. Errors of
/// the looking are no end.
async fn gone(session: &Session, id: &str, look: Duration) -> String {
    let (mut unconnected, mut unknown) = (0, 0);
    loop {
        tokio::time::sleep(look).await;
        let found = session.instance(id).await;
        if found.is_ok() {
            unknown = 0;
        }
        match found {
            Ok(instance) if instance.is_gone() => {
                let why = if instance.reason.is_empty() {
                    instance.state
                } else {
                    instance.reason
                };
                return format!("the instance {id} is gone: {why}");
            }
            Err(error) if error.kind == Kind::NotFound => {
                unknown += 1;
                if unknown >= UNKNOWN_LOOKS {
                    return format!("the instance {id} is gone: {}", error.message);
                }
            }
            _ => {}
        }
        match session.is_connected(id).await {
            Ok(Some(true)) => unconnected = 0,
            Ok(_) => unconnected += 1,
            Err(_) => {}
        }
        if unconnected >= LOOKS {
            return format!("the agent of {id} has lost its connection to Systems Manager");
        }
    }
}
