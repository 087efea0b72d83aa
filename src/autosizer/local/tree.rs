//! Finding and ending every process of a service.
//!
//! Owns three ways to know that a process belongs to it, because each alone misses some: it carries the run's mark in its
//! environment (also after a double fork, also when we have crashed meanwhile); it is in the run's control group; it
//! descends from us and did not before the service was started (also with an environment of its own: orphans become our
//! children, see [`adopt_orphans`]). Called by the local target and by `autosizer gc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use tokio::time::{Instant, sleep};

use super::super::ledger::start_ticks;

/// The variable whose value is the run's id.
pub(in super::super) const MARK: &str = "MOLOTOV_AUTOSIZER_RUN";

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// After SIGKILL a process may hang in the kernel; more than this is not waited for.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What tells a service's processes from others.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Belonging {
    /// The run's id.
    pub(in super::super) mark: String,
    /// Folders of its control group.
    pub(in super::super) groups: Vec<PathBuf>,
    /// Our descendants before it was started; `None` when ours are not to be looked at.
    pub(in super::super) before: Option<BTreeSet<u32>>,
}

/// From now on orphans below this process become its children, instead of init's.
pub(super) fn adopt_orphans(adopt: bool) {
    let me = adopt.then(rustix::process::getpid);
    // Without it (it needs Linux 3.4) the other two ways are left.
    let _ = set_child_subreaper(me);
}

/// The descendants of this process.
pub(super) fn descendants() -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut left = vec![std::process::id()];
    while let Some(pid) = left.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
            {
                if found.insert(child) {
                    left.push(child);
                }
            }
        }
    }
    found
}

impl Belonging {
    /// The processes that run, without zombies.
    pub(in super::super) fn processes(&self) -> BTreeSet<u32> {
        let mut found = marked(&self.mark);
        for group in &self.groups {
            let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(
                pids.split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        if let Some(before) = &self.before {
            found.extend(descendants().difference(before));
        }
        found.remove(&std::process::id());
        found.retain(|pid| start_ticks(*pid).is_some());
        found
    }

    /// Ends them: asks, then kills, until none is left. Returns those that would not go.
    pub(in super::super) async fn end(&self) -> BTreeSet<u32> {
        let began = Instant::now();
        let mut asked = BTreeSet::new();
        loop {
            let left = self.processes();
            self.reap();
            let waited = began.elapsed();
            if left.is_empty() || waited > GRACE + GIVE_UP {
                return left;
            }
            for pid in &left {
                if waited > GRACE {
                    send(*pid, Signal::KILL);
                } else if asked.insert(*pid) {
                    send(*pid, Signal::TERM);
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Takes the exit codes of adopted orphans, so that they do not stay as zombies.
    fn reap(&self) {
        let Some(before) = &self.before else { return };
        for pid in descendants().difference(before) {
            let is_zombie = start_ticks(*pid).is_none();
            if let Some(pid) = pid_of(*pid).filter(|_| is_zombie) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        // It may have gone meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// The processes that carry the mark in their environment.
fn marked(id: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return found;
    };
    let wanted = format!("{MARK}={id}");
    for process in processes.flatten() {
        let Some(pid) = pid_in(&process.path()) else {
            continue;
        };
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            found.insert(pid);
        }
    }
    found
}

fn pid_in(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}
