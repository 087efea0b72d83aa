//! `autosizer list` and `autosizer gc`: what there is of ours in the account, and ending what is over.
//!
//! Owns the rule: an instance or group ends when its own expiry has passed, or when the run that made it is in a ledger
//! here whose process is gone ([`remove`]). Nobody here can tell whether a run of another machine still goes on: what has not
//! expired ends when its run is named, or when all are asked for. Files in the bucket and services on instances that were
//! not ours carry no tags: they are found by the run's id in their names and in the history of commands, and are over when
//! no run may take that long. Whatever has no tag or name of ours is never touched. Called by `gc` and the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::failure::Failure;
use super::super::ledger::Thing;
use super::super::run::Run;
use super::ending::{Ending, Known, end_instance, end_run, is_gone, remove_these};
use super::launch::{FOLDER, GROUP, INSTANCE, NODE};
use super::{TAG_EXPIRES, TAG_OWNER, TAG_RUN, failure, scripts, timestamp, unix_seconds};
use crate::aws::ec2::{Instance, Tags};
use crate::aws::{self, Command, Kind, Session, Status};

/// An ended instance to let go of its security group.
const ENDED: Duration = Duration::from_mins(5);
/// A launch that nobody answered to be seen: its run has ended, which took a moment too.
const UNSEEN: Duration = Duration::from_secs(3);
/// Removing what is on an instance, and reaching it.
const CLEANED: Duration = Duration::from_mins(2);
const DELIVERY: Duration = Duration::from_mins(1);
/// Times that outputs which came late are removed.
const MOST_LATE: u32 = 10;
/// Commands that were stopped to bring their last outputs.
const SETTLED: Duration = Duration::from_secs(1);
const ENDING: Ending = Ending {
    ended: ENDED,
    unseen: UNSEEN,
};
/// No run lives longer than the longest `--time-to-live`, and a day for its cleaning.
const LONGEST_RUN_SECONDS: u64 = 8 * 86_400;

/// Something of ours in the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// `instance`, `security group`, `folder` of the bucket, or `service` on an instance.
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

/// What is taken to be over besides what has expired.
#[derive(Debug, Clone, Default)]
pub struct Over {
    /// Everything, also of runs that may still go on elsewhere.
    pub all: bool,
    /// Everything of this run.
    pub run: Option<String>,
    /// The bucket and where in it, for folders of runs.
    pub bucket: Option<(String, String)>,
}

impl Over {
    /// Whether a run of which nothing but its id is known is over.
    fn is_run(&self, run: &str) -> bool {
        self.all || self.run.as_deref() == Some(run) || is_old(run, now())
    }

    fn is(&self, left: &Left) -> bool {
        left.is_over || self.all || self.run.as_ref() == Some(&left.run)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since 1970"
)]
fn now() -> u64 {
    unix_seconds() as u64
}

/// Whether it is the id of a run that began longer ago than any takes: ids begin with their time.
fn is_old(run: &str, now: u64) -> bool {
    let oldest = Run::id_at(now.saturating_sub(LONGEST_RUN_SECONDS));
    Run::is_id(run) && run < oldest.as_str()
}

impl Left {
    fn of(instance: &Instance, now: &str) -> Self {
        let details = format!("{} {}", instance.instance_type, instance.state);
        Self::new("instance", &instance.id, &instance.tags, details, now)
    }

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
    let instances = instances(session).await?;
    let groups = match session.groups(TAG_RUN, None).await {
        Err(error) if error.kind == Kind::NotOffered => Vec::new(),
        groups => groups.map_err(|error| failure(&error))?,
    };
    let now = timestamp(now());
    let mut left: Vec<Left> = instances
        .iter()
        .map(|instance| Left::of(instance, &now))
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

/// Our instances that have not ended.
async fn instances(session: &Session) -> Result<Vec<Instance>, Failure> {
    let instances = session.instances(TAG_RUN, None).await;
    let mut instances = instances.map_err(|error| failure(&error))?;
    instances.retain(|instance| !instance.is_gone());
    Ok(instances)
}

/// Ends what is over in the region; says what that was. Every part is tried whatever became of the others.
pub async fn sweep(options: &aws::Options, over: &Over) -> Result<Vec<Left>, Failure> {
    let session = Session::connect(options)
        .await
        .map_err(|error| failure(&error))?;
    let mut first: Option<Failure> = None;
    let running = instances(&session).await?;
    let found = find(&session).await?;
    let mut swept: Vec<Left> = found.into_iter().filter(|left| over.is(left)).collect();
    // A group that is used by what goes on goes on too: its instance was kept and used again.
    let used: BTreeSet<&String> = running
        .iter()
        .filter(|instance| !swept.iter().any(|left| left.id == instance.id))
        .flat_map(|instance| &instance.groups)
        .collect();
    swept.retain(|left| !used.contains(&left.id));
    for left in swept.iter().filter(|left| left.what == "instance") {
        if let Err(error) = stop_commands(&session, Some(&left.id), &left.run).await {
            first.get_or_insert(failure(&error));
        }
        if let Err(error) = end_instance(&session, &left.id, UNSEEN).await {
            first.get_or_insert(failure(&error));
        }
    }
    // What it asked for last may come to be seen only now.
    if let Some(run) = &over.run {
        let known = Known {
            unanswered: !swept.iter().any(|left| left.what == "instance"),
            ..Known::default()
        };
        if let Err(error) = end_run(&session, run, &known, ENDING).await {
            first.get_or_insert(failure(&error));
        }
    }
    let groups: Vec<String> = swept
        .iter()
        .filter(|left| left.what == "security group")
        .map(|left| left.id.clone())
        .collect();
    if let Err(error) = remove_these(&session, &groups, ENDED).await {
        first.get_or_insert(failure(&error));
    }
    let living: BTreeSet<String> = running
        .into_iter()
        .filter(|instance| !swept.iter().any(|left| left.id == instance.id))
        .filter_map(|instance| instance.tags.get(TAG_RUN).cloned())
        .collect();
    match services(&session, over, &living).await {
        Ok(cleaned) => swept.extend(cleaned),
        Err(failure) => {
            first.get_or_insert(failure);
        }
    }
    if let Some((bucket, prefix)) = &over.bucket {
        match folders(&session, over, &living, bucket, prefix).await {
            Ok(removed) => swept.extend(removed),
            Err(failure) => {
                first.get_or_insert(failure);
            }
        }
    }
    first.map_or(Ok(swept), Err)
}

/// Whether a run that is over by its age has an instance that was kept and goes on.
fn spares(over: &Over, living: &BTreeSet<String>, run: &str) -> bool {
    living.contains(run) && !over.all && over.run.as_deref() != Some(run)
}

/// Removes what runs that are over have left on instances that go on, which the history of commands tells.
async fn services(
    session: &Session,
    over: &Over,
    living: &BTreeSet<String>,
) -> Result<Vec<Left>, Failure> {
    let sent = match session.sent(None).await {
        // No history, or not for us.
        Err(error) if matches!(error.kind, Kind::NotOffered | Kind::Denied) => {
            return Ok(Vec::new());
        }
        sent => sent.map_err(|error| failure(&error))?,
    };
    // Whether the last that was done there was cleaning, which an order of any kind does not tell.
    let mut places: BTreeMap<(String, String), bool> = BTreeMap::new();
    for sent in sent.iter().filter(|sent| over.is_run(&sent.run)) {
        let is_clean = sent.step.starts_with("clean") && sent.end == Some(Status::Success);
        for instance in &sent.instances {
            let place = (instance.clone(), sent.run.clone());
            *places.entry(place).or_default() |= is_clean;
        }
    }
    let mut cleaned = Vec::new();
    // Most instances of the history are no more.
    let mut there: BTreeMap<String, bool> = BTreeMap::new();
    for ((instance, run), is_clean) in places {
        if is_clean || spares(over, living, &run) {
            continue;
        }
        let is_there = match there.get(&instance) {
            Some(known) => *known,
            None => {
                let connected = session.is_connected(&instance).await;
                connected.ok() == Some(Some(true)) && !is_gone(session, &instance).await
            }
        };
        there.insert(instance.clone(), is_there);
        if !is_there {
            continue;
        }
        clean_node(session, &instance, &run).await?;
        cleaned.push(Left {
            what: "service",
            id: instance,
            run,
            owner: "?".to_owned(),
            expires_at: String::new(),
            details: "on an instance that goes on".to_owned(),
            is_over: true,
        });
    }
    Ok(cleaned)
}

/// Removes the folders of runs that are over.
async fn folders(
    session: &Session,
    over: &Over,
    living: &BTreeSet<String>,
    bucket: &str,
    prefix: &str,
) -> Result<Vec<Left>, Failure> {
    let fail = |error: aws::Error| failure(&error);
    let folder = format!("{}/", prefix.trim_matches('/'));
    let keys = session.objects(bucket, &folder).await.map_err(fail)?;
    let runs: BTreeSet<&str> = keys
        .iter()
        .filter_map(|key| key.strip_prefix(&folder)?.split_once('/'))
        .map(|(run, _)| run)
        .filter(|run| Run::is_id(run))
        .filter(|run| over.is_run(run) && !spares(over, living, run))
        .collect();
    let mut removed = Vec::new();
    for run in runs {
        let name = format!("{folder}{run}");
        let gone = session.remove_objects(bucket, &format!("{name}/")).await;
        let count = gone.map_err(fail)?.len();
        removed.push(Left {
            what: "folder",
            id: name,
            run: run.to_owned(),
            owner: "?".to_owned(),
            expires_at: String::new(),
            details: format!("{count} objects in {bucket}"),
            is_over: true,
        });
    }
    Ok(removed)
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
                unanswered: detail("id").is_none(),
                ..Known::default()
            };
            let stopped = stop_commands(&session, known.instance.as_deref(), &thing.name).await;
            let ended = end_run(&session, &thing.name, &known, ENDING).await;
            ended.and(stopped)
        }
        (GROUP, _) => {
            // The name of the group is that of the run's container.
            let run = thing.name.strip_prefix(&scripts::container(""));
            let known = Known {
                made: detail("id"),
                ..Known::default()
            };
            end_run(&session, run.unwrap_or(&thing.name), &known, ENDING).await
        }
        (_, Some(bucket)) => remove_folder(&session, &bucket, &format!("{}/", thing.name)).await,
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

/// Ends the commands of a run, on the instance that is known or wherever the history tells. Those of an instance that ends
/// end anyway, but their records would say that they go on. Without a history, or the right to change it, that is so.
async fn stop_commands(
    session: &Session,
    instance: Option<&str>,
    run: &str,
) -> Result<(), aws::Error> {
    let may_do_without =
        |error: &aws::Error| matches!(error.kind, Kind::NotOffered | Kind::Denied | Kind::NotFound);
    let places: BTreeSet<String> = match instance {
        Some(id) => BTreeSet::from([id.to_owned()]),
        None => match session.sent(None).await {
            Err(error) if may_do_without(&error) => BTreeSet::new(),
            sent => sent?
                .into_iter()
                .filter(|sent| sent.run == run && sent.end.is_none())
                .flat_map(|sent| sent.instances)
                .collect(),
        },
    };
    for id in places {
        match session.cancel_commands(&id, run).await {
            Err(error) if !may_do_without(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes a folder, and once more what commands that were stopped have brought since.
async fn remove_folder(session: &Session, bucket: &str, folder: &str) -> Result<(), aws::Error> {
    for _ in 0..MOST_LATE {
        if session.remove_objects(bucket, folder).await?.is_empty() {
            break;
        }
        tokio::time::sleep(SETTLED).await;
    }
    Ok(())
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

    #[test]
    fn a_run_is_old_by_its_id() {
        // 2026-11-26 04:40:00.
        let now = 1_795_668_000;
        for (run, expected) in [
            ("20261117-000000-3f9a1c", true),
            ("20261118-044000-000000", false),
            ("20261126-043959-3f9a1c", false),
            ("20261117-00000-3f9a1c", false),
            ("20261117x000000-3f9a1c", false),
            ("check", false),
            ("", false),
        ] {
            assert_eq!(is_old(run, now), expected, "{run}");
        }
    }

    #[test]
    fn what_has_not_expired_is_over_only_when_it_is_asked_for() {
        let now = "2026-11-25T12:00:00Z";
        let tags = Tags::from([
            (TAG_EXPIRES.to_owned(), "2026-11-25T13:00:00Z".to_owned()),
            (TAG_RUN.to_owned(), "r1".to_owned()),
        ]);
        let left = Left::new("instance", "i-1", &tags, String::new(), now);
        let over = |all: bool, run: Option<&str>| Over {
            all,
            run: run.map(str::to_owned),
            bucket: None,
        };
        assert!(!over(false, None).is(&left) && !over(false, Some("r2")).is(&left));
        assert!(over(true, None).is(&left) && over(false, Some("r1")).is(&left));
        assert!(over(false, Some("r1")).is_run("r1") && !over(false, None).is_run("r1"));
    }
}
