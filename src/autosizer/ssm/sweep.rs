//! `autosizer list` and `autosizer gc`: what there is of ours in the account, and ending what is over.
//!
//! Owns the rule: an instance or group ends when its own expiry has passed, or when the run that made it is in a ledger
//! here whose process is gone ([`remove`]). Whatever has no tag of ours is never touched. Called by `gc` and the command
//! line.

use std::time::Duration;

use super::super::failure::Failure;
use super::super::ledger::Thing;
use super::clean::{Ending, Known, end_instances, is_gone, remove_groups};
use super::launch::{FOLDER, GROUP, INSTANCE, NODE};
use super::{TAG_EXPIRES, TAG_OWNER, TAG_RUN, failure, scripts, timestamp, unix_seconds};
use crate::aws::ec2::Tags;
use crate::aws::{self, Command, Session, Status};

/// An ended instance to let go of its security group.
const ENDED: Duration = Duration::from_mins(5);
/// A launch that nobody answered to be seen: its run has ended, which took a moment too.
const UNSEEN: Duration = Duration::from_secs(3);
/// Removing what is on an instance, and reaching it.
const CLEANED: Duration = Duration::from_mins(2);
const DELIVERY: Duration = Duration::from_mins(1);

/// Something of ours in the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// `instance` or `security group`.
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// The run that made it.
    pub run: String,
    /// Whose it is.
    pub owner: String,
    /// When it may be ended; empty when that is not known.
    pub expires_at: String,
    /// Type and state of an instance, the name of a group.
    pub details: String,
    /// Whether its time is over.
    pub is_over: bool,
}

impl Left {
    fn new(what: &'static str, id: &str, tags: &Tags, details: String, now: &str) -> Self {
        let tag = |name: &str| tags.get(name).cloned().unwrap_or_default();
        let expires_at = tag(TAG_EXPIRES);
        Self {
            what,
            id: id.to_owned(),
            run: tag(TAG_RUN),
            owner: tag(TAG_OWNER),
            // Only what has the form of a time is compared: anything else may have been put there by hand.
            is_over: expires_at.len() == now.len() && expires_at.as_str() < now,
            expires_at,
            details,
        }
    }
}

/// Everything of ours in the region.
pub async fn list(options: &aws::Options) -> Result<Vec<Left>, Failure> {
    let session = Session::connect(options)
        .await
        .map_err(|error| failure(&error))?;
    find(&session).await
}

async fn find(session: &Session) -> Result<Vec<Left>, Failure> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds since 1970"
    )]
    let now = timestamp(unix_seconds() as u64);
    let instances = session
        .instances("tag-key", &[TAG_RUN])
        .await
        .map_err(|error| failure(&error))?;
    let groups = session
        .groups("tag-key", &[TAG_RUN])
        .await
        .map_err(|error| failure(&error))?;
    let mut left: Vec<Left> = instances
        .iter()
        .filter(|instance| !instance.is_gone())
        .map(|instance| {
            let details = format!("{} {}", instance.instance_type, instance.state);
            Left::new("instance", &instance.id, &instance.tags, details, &now)
        })
        .collect();
    left.extend(groups.iter().map(|group| {
        Left::new(
            "security group",
            &group.id,
            &group.tags,
            group.name.clone(),
            &now,
        )
    }));
    Ok(left)
}

/// Ends what is over in the region; says what that was.
pub async fn sweep(options: &aws::Options) -> Result<Vec<Left>, Failure> {
    let session = Session::connect(options)
        .await
        .map_err(|error| failure(&error))?;
    let found = find(&session).await?;
    let over: Vec<Left> = found.into_iter().filter(|left| left.is_over).collect();
    let mut first: Option<aws::Error> = None;
    for left in over.iter().filter(|left| left.what == "instance") {
        if let Err(error) = session.terminate(&left.id).await {
            first.get_or_insert(error);
        }
    }
    let groups: Vec<String> = over
        .iter()
        .filter(|left| left.what == "security group")
        .map(|left| left.id.clone())
        .collect();
    if let Err(error) = remove_groups(&session, &groups, ENDED).await {
        first.get_or_insert(error);
    }
    first.map_or(Ok(over), |error| Err(failure(&error)))
}

/// Removes a thing of a ledger; `None` when it is none of ours. Everything is looked for by its tag or name, because a
/// run that crashed may not have come to know its id.
pub async fn remove(thing: &Thing) -> Option<Result<(), Failure>> {
    let detail = |name: &str| thing.details.get(name).cloned();
    if !matches!(thing.kind.as_str(), INSTANCE | GROUP | FOLDER | NODE) {
        return None;
    }
    let options = aws::Options {
        region: detail("region"),
        profile: detail("profile"),
    };
    let session = match Session::connect(&options).await {
        Ok(session) => session,
        Err(error) => return Some(Err(failure(&error))),
    };
    if thing.kind == NODE {
        let id = detail("id").unwrap_or_default();
        return Some(clean_node(&session, &id, &thing.name).await);
    }
    let removed = match (thing.kind.as_str(), detail("bucket")) {
        (INSTANCE, _) => {
            let known = Known {
                instance: detail("id"),
                groups: Vec::new(),
                unanswered: detail("id").is_none(),
            };
            let ending = Ending {
                ended: ENDED,
                unseen: UNSEEN,
            };
            end_instances(&session, &thing.name, &known, ending).await
        }
        (GROUP, _) => remove_named(&session, &thing.name).await,
        (_, Some(bucket)) => {
            let folder = format!("{}/", thing.name);
            session.remove_objects(&bucket, &folder).await.map(|_| ())
        }
        (_, None) => Ok(()),
    };
    Some(removed.map_err(|error| failure(&error)))
}

/// Removes what a run has on an instance that it did not launch.
async fn clean_node(session: &Session, id: &str, run: &str) -> Result<(), Failure> {
    if is_gone(session, id).await {
        return Ok(());
    }
    let cancelled = session.cancel_commands(id, run).await;
    cancelled.map_err(|error| failure(&error))?;
    let script = scripts::clean(run);
    let step = format!("clean-{:x}", fastrand::u32(..));
    let command = Command {
        instance: id,
        run,
        step: &step,
        script: &script,
        limit: CLEANED,
        delivery: DELIVERY,
        output: None,
    };
    let outcome = session
        .run(&command)
        .await
        .map_err(|error| failure(&error))?;
    if outcome.status == Status::Success {
        return Ok(());
    }
    let what = format!("{id} cannot be cleaned: {}", outcome.reason());
    Err(Failure::target(what))
}

async fn remove_named(session: &Session, name: &str) -> Result<(), aws::Error> {
    let groups = session.groups("group-name", &[name]).await?;
    let ids: Vec<String> = groups.into_iter().map(|group| group.id).collect();
    remove_groups(session, &ids, ENDED).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_that_has_passed_is_over() {
        let now = "2026-11-25T12:00:00Z";
        for (expires, is_over) in [
            ("2026-11-25T11:59:59Z", true),
            ("2026-11-25T12:00:01Z", false),
            ("never", false),
            ("", false),
        ] {
            let tags = Tags::from([(TAG_EXPIRES.to_owned(), expires.to_owned())]);
            let left = Left::new("instance", "i-1", &tags, String::new(), now);
            assert_eq!(left.is_over, is_over, "{expires}");
        }
    }
}
