//! Ending what a run has in EC2, and seeing that it ends.
//!
//! Owns what counts as gone: neither that a call was answered, nor that somebody does not know a thing once, but that it is
//! told to have ended, or is unknown again and again. Answers get lost, and a thing that was made a moment ago is not known
//! everywhere. Looks for things by tag and by name as well as by what is remembered, because a launch whose answer got lost
//! has made an instance too. Called by the cleaning at the end of a run and, for runs that crashed, by `sweep`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{TAG_RUN, scripts};
use crate::aws::ec2::{Group, Instance};
use crate::aws::{Error, Kind, Poll, Session};

/// So often in a row a thing has to be unknown to be gone.
const LOOKS: u32 = 3;
/// Between these looks.
const LOOK: Duration = Duration::from_millis(500);
/// A group whose removal was answered may be listed for so long.
const LISTED_FOR: Duration = Duration::from_secs(15);

/// What a run is known to have made.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// The instance's id.
    pub(super) instance: Option<String>,
    /// Security groups that may be removed when they are ours.
    pub(super) groups: Vec<String>,
    /// The group that the run itself has made, whatever its tags say.
    pub(super) made: Option<String>,
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

/// Whether the instance has surely ended.
pub(super) async fn is_gone(session: &Session, id: &str) -> bool {
    for look in 1..=LOOKS {
        match session.instance(id).await {
            Ok(instance) => return instance.is_gone(),
            Err(error) if error.kind != Kind::NotFound => return false,
            Err(_) if look < LOOKS => tokio::time::sleep(LOOK).await,
            Err(_) => {}
        }
    }
    true
}

/// Ends an instance that was made, and sees that it ends. One that nobody knows gets that time to be known.
pub(super) async fn end_instance(
    session: &Session,
    id: &str,
    unseen: Duration,
) -> Result<(), Error> {
    let mut poll = Poll::within(unseen).at_most_every(Duration::from_secs(2));
    let (mut was_known, mut unknown) = (false, 0);
    loop {
        was_known |= session.terminate(id).await?;
        match session.instance(id).await {
            Ok(instance) if instance.is_gone() => return Ok(()),
            Ok(_) => (was_known, unknown) = (true, 0),
            Err(error) if error.kind == Kind::NotFound => unknown += 1,
            // Who may not look, or cannot, has to take the answer for it.
            Err(error) if was_known && error.kind == Kind::NotOffered => return Ok(()),
            Err(error) => return Err(error),
        }
        if was_known && unknown >= LOOKS {
            return Ok(());
        }
        let what = format!("{id} to end");
        if let Err(error) = poll.wait("ec2:TerminateInstances", &what).await {
            let is_told_to_run = was_known && unknown == 0;
            return if is_told_to_run { Err(error) } else { Ok(()) };
        }
    }
}

/// Ends all instances of a run and removes its security groups.
pub(super) async fn end_run(
    session: &Session,
    run: &str,
    known: &Known,
    ending: Ending,
) -> Result<(), Error> {
    let mut first = None;
    // The one that is known ends whether or not the others can be listed.
    if let Some(id) = &known.instance
        && let Err(error) = end_instance(session, id, ending.unseen).await
    {
        first = Some(error);
    }
    let patience = if known.unanswered {
        ending.unseen
    } else {
        Duration::ZERO
    };
    let found = match find(session, run, known.made.as_deref(), patience).await {
        Ok(found) => found,
        Err(error) => return Err(first.unwrap_or(error)),
    };
    for instance in found.iter().filter(|instance| !instance.is_gone()) {
        if let Err(error) = end_instance(session, &instance.id, ending.unseen).await {
            first.get_or_insert(error);
        }
    }
    // A group that an instance goes on to use would be waited for in vain.
    if let Some(error) = first {
        return Err(error);
    }
    let mut used: BTreeSet<String> = known.groups.iter().cloned().collect();
    used.extend(found.into_iter().flat_map(|instance| instance.groups));
    remove_groups(session, run, &used, known.made.as_deref(), ending.ended).await
}

/// The instances of a run: those with its tag, or else, because an endpoint may not know tags at creation, those in the
/// group that it has made. What was asked for a moment ago may not be listed yet: it gets that time to be seen.
async fn find(
    session: &Session,
    run: &str,
    made: Option<&str>,
    unseen: Duration,
) -> Result<Vec<Instance>, Error> {
    let mut poll = Poll::within(unseen).at_most_every(Duration::from_secs(2));
    loop {
        let mut found = session.instances(TAG_RUN, Some(run)).await?;
        if found.is_empty() {
            found = in_own_group(session, run, made, false).await?;
        }
        if !found.is_empty() {
            return Ok(found);
        }
        if poll.wait("ec2:DescribeInstances", run).await.is_err() {
            break;
        }
    }
    if unseen.is_zero() {
        return Ok(Vec::new());
    }
    // The last look, where something may have been launched: at everything.
    in_own_group(session, run, made, true).await
}

async fn in_own_group(
    session: &Session,
    run: &str,
    made: Option<&str>,
    among_all: bool,
) -> Result<Vec<Instance>, Error> {
    let mut groups: BTreeSet<String> = made.map(str::to_owned).into_iter().collect();
    match session.groups_named(&scripts::container(run)).await {
        Err(error) if error.kind == Kind::NotOffered => {}
        named => groups.extend(named?.into_iter().map(|group| group.id)),
    }
    let mut found = Vec::new();
    for group in groups {
        match session.instances_in(&group, among_all).await {
            // The group went meanwhile, or nobody can be asked so.
            Err(error)
                if matches!(
                    error.kind,
                    Kind::NotFound | Kind::NotOffered | Kind::Invalid
                ) => {}
            instances => found.extend(instances?),
        }
    }
    // One that was kept is another run's by now.
    found.retain(|instance| instance.tags.get(TAG_RUN).is_none_or(|of| of == run));
    Ok(found)
}

/// Removes the groups of a run, and those of its instances that are ours, as soon as these let go of them: until they are
/// listed no more.
async fn remove_groups(
    session: &Session,
    run: &str,
    used: &BTreeSet<String>,
    made: Option<&str>,
    patience: Duration,
) -> Result<(), Error> {
    let mut poll = Poll::within(patience);
    let mut listed = Poll::within(LISTED_FOR.min(patience));
    loop {
        let (left, is_listed): (Vec<String>, bool) = match of_run(session, run, used, made).await {
            // An endpoint that lists no groups has at least this one.
            Err(error) if error.kind == Kind::NotOffered => {
                (made.map(str::to_owned).into_iter().collect(), false)
            }
            left => (left?, true),
        };
        let mut in_use = None;
        for id in &left {
            match session.remove_group(id).await {
                Err(error) if error.kind == Kind::InUse => in_use = Some((id, error)),
                removed => removed?,
            }
        }
        match in_use {
            Some((id, error)) => {
                let what = format!("the instance of {id} to end");
                poll.wait(error.action, &what).await?;
                listed = Poll::within(LISTED_FOR.min(patience));
            }
            None if left.is_empty() || !is_listed => return Ok(()),
            // All removals were answered.
            None => {
                if listed
                    .wait("ec2:DescribeSecurityGroups", run)
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
        }
    }
}

/// The groups that may be removed with a run.
async fn of_run(
    session: &Session,
    run: &str,
    used: &BTreeSet<String>,
    made: Option<&str>,
) -> Result<Vec<String>, Error> {
    let tagged = session.groups(TAG_RUN, None).await?;
    // An endpoint that does not know tags at creation still knows the name.
    let named = session.groups_named(&scripts::container(run)).await?;
    let is_own = |group: &Group| {
        group.tags.get(TAG_RUN).is_some_and(|of| of == run)
            || used.contains(&group.id)
            || made == Some(group.id.as_str())
    };
    let own = tagged.into_iter().filter(is_own);
    let ids: BTreeSet<String> = own.chain(named).map(|group| group.id).collect();
    Ok(ids.into_iter().collect())
}

/// Removes these groups, whose instances have ended.
pub(super) async fn remove_these(
    session: &Session,
    ids: &[String],
    patience: Duration,
) -> Result<(), Error> {
    let mut poll = Poll::within(patience);
    for id in ids {
        loop {
            match session.remove_group(id).await {
                Err(error) if error.kind == Kind::InUse => {
                    let what = format!("the instance of {id} to end");
                    poll.wait(error.action, &what).await?;
                }
                removed => break removed?,
            }
        }
    }
    Ok(())
}
