//! Removing what runs have left that did not come to their end.
//!
//! Owns the walk over the ledgers and over labelled containers that are in none, and the rule that nothing of a run whose
//! process still lives is touched. Each kind of thing is removed by the target that made it. Called by
//! `autosizer gc` and `autosizer list`.

use std::path::Path;

use super::failure::Failure;
use super::ledger::{Entry, Ledger, Thing, read_all};
use super::local;

/// What became of one thing.
#[derive(Debug)]
pub struct Removed {
    /// The run that made it.
    pub run: String,
    /// What it is.
    pub thing: Thing,
    /// Whether it is gone now.
    pub result: Result<(), Failure>,
}

/// What is there: the runs with a ledger in `folder`, and containers of runs without one.
#[derive(Debug, Default)]
pub struct Found {
    /// Runs, oldest first.
    pub entries: Vec<Entry>,
    /// Containers that belong to no ledger here and to no living process.
    pub strays: Vec<Thing>,
}

/// Looks for everything that runs have made.
pub async fn list(folder: &Path) -> Result<Found, Failure> {
    let entries = read_all(folder)
        .map_err(|error| Failure::target(format!("cannot read {}: {error}", folder.display())))?;
    let known = |thing: &Thing| {
        let same = |other: &Thing| other.kind == thing.kind && other.name == thing.name;
        entries.iter().any(|entry| entry.things.iter().any(same))
    };
    let strays = strays().await;
    let strays = strays.into_iter().filter(|thing| !known(thing)).collect();
    Ok(Found { entries, strays })
}

/// Removes everything whose run has ended.
pub async fn gc(folder: &Path) -> Result<Vec<Removed>, Failure> {
    let found = list(folder).await?;
    let mut removed = Vec::new();
    for entry in found.entries.iter().filter(|entry| !entry.is_running) {
        let Ok(ledger) = Ledger::reopen(entry) else {
            continue;
        };
        for thing in entry.things.iter().rev() {
            let result = remove(thing).await;
            if result.is_ok() {
                ledger.removed(&thing.kind, &thing.name);
            }
            removed.push(Removed {
                run: entry.id.clone(),
                thing: thing.clone(),
                result,
            });
        }
        ledger.end();
    }
    for thing in found.strays {
        let result = remove(&thing).await;
        let run = thing.details.get("run").cloned().unwrap_or_default();
        removed.push(Removed { run, thing, result });
    }
    Ok(removed)
}

async fn remove(thing: &Thing) -> Result<(), Failure> {
    if let Some(result) = local::remove(thing).await {
        return result;
    }
    #[cfg(feature = "autosizer")]
    if let Some(result) = super::container::remove(thing).await {
        return result;
    }
    #[cfg(feature = "aws")]
    if let Some(result) = super::ssm::remove(thing).await {
        return result;
    }
    Err(
        Failure::target(format!("this build cannot remove a {}", thing.kind))
            .advise("use the build that made it"),
    )
}

#[cfg(feature = "autosizer")]
async fn strays() -> Vec<Thing> {
    super::container::labelled().await
}

#[cfg(not(feature = "autosizer"))]
#[expect(clippy::unused_async, reason = "the other one asks an engine")]
async fn strays() -> Vec<Thing> {
    Vec::new()
}
