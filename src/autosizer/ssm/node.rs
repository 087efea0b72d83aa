//! One step on the instance.
//!
//! Owns running a script by Run Command while watching that the machine is still there: Systems Manager itself notices
//! the end of a machine only when the command's time is over. Also fetches the collector's rows, piece by piece where
//! the bucket takes nothing. Called by the target's steps.

use std::io::Read;
use std::time::Duration;

use base64::Engine;

use super::super::failure::Failure;
use super::super::run::Run;
use super::{Ssm, failure, scripts};
use crate::aws::ec2::Instance;
use crate::aws::{Command, Kind, Outcome, Session, Status};

/// Until a command has to have reached a connected instance.
const DELIVERY: Duration = Duration::from_mins(1);
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

    /// Runs a script to its end, which may be a failure: the outcome says so. An error when that cannot be known.
    pub(super) async fn step(
        &mut self,
        run: &Run,
        name: &str,
        script: &str,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        self.commanded = true;
        let (session, instance) = (self.session()?, self.instance()?);
        let folder = self.folder(run);
        let command = Command {
            instance: &instance.id,
            run: &run.id,
            step: name,
            script,
            limit,
            delivery: DELIVERY,
            // The last step's output would come after everything else there has been removed.
            output: (!name.starts_with("clean"))
                .then_some((self.options.bucket.as_str(), folder.as_str())),
        };
        let outcome = tokio::select! {
            outcome = session.run(&command) => outcome.map_err(|error| failure(&error))?,
            why = gone(session, &instance.id, self.options.patience.look) => {
                return Err(Failure::target(format!("the instance {} is gone: {why}", instance.id)));
            }
        };
        match outcome.status {
            Status::Success | Status::Failed => Ok(outcome),
            Status::TimedOut => {
                let seconds = limit.as_secs();
                Err(Failure::target(format!(
                    "step {name:?} took longer than {seconds} s on {}",
                    instance.id
                ))
                .advise("is the instance too small, or the image very large?"))
            }
            Status::Undelivered => Err(Failure::target(format!(
                "step {name:?} did not reach {} ({}): its agent is gone",
                instance.id, outcome.details
            ))),
            Status::Cancelled => Err(Failure::target(format!(
                "somebody cancelled step {name:?} on {}",
                instance.id
            ))),
        }
    }

    /// The collector's rows.
    pub(super) async fn rows(&mut self, run: &Run) -> Result<String, Failure> {
        let name = self.numbered("metrics");
        let script = scripts::stop_collector(&run.id);
        let outcome = self
            .step(run, &name, &script, self.options.patience.step)
            .await?;
        if outcome.status != Status::Success {
            return Err(Failure::target(format!("no metrics: {}", outcome.reason())));
        }
        if outcome.is_complete {
            return Ok(outcome.stdout);
        }
        run.steps.note(&format!(
            "The bucket {} has no output of the instance: fetching it in pieces; may the role of {:?} write there?",
            self.options.bucket, self.options.instance_profile
        ));
        let mut packed = String::new();
        for number in 0..MOST_PIECES {
            let name = self.numbered("piece");
            let script = scripts::piece(&run.id, number);
            let outcome = self
                .step(run, &name, &script, self.options.patience.step)
                .await?;
            let piece = outcome.stdout.trim();
            packed.push_str(piece);
            if piece.len() < scripts::PIECE {
                break;
            }
        }
        unpack(&packed).map_err(|why| Failure::target(format!("the metrics are damaged: {why}")))
    }
}

fn unpack(packed: &str) -> Result<String, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice())
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// Waits until the instance has ended; says why. Errors of the looking are no end.
async fn gone(session: &Session, id: &str, look: Duration) -> String {
    loop {
        tokio::time::sleep(look).await;
        match session.instance(id).await {
            Ok(instance) if instance.is_gone() && instance.reason.is_empty() => {
                return instance.state;
            }
            Ok(instance) if instance.is_gone() => return instance.reason,
            Err(error) if error.kind == Kind::NotFound => return error.message,
            _ => {}
        }
    }
}
