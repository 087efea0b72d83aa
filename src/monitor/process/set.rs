//! The processes that belong to a target, and what they used.
//!
//! Owns who is in: the roots, and with `follow_children` all that descends from them, told from strangers with the same
//! number by the time they started. Owns the totals, which never lose or double what a process used before it exited:
//! the kernel adds it to the parent when the parent waits for it, so a parent's growth counts less what was seen of the
//! vanished child before. What a child used after the last look is only lost when nobody waits for it (`SIGCHLD`
//! ignored, or its parent is outside). Called by the process tree, the port and the generator.

use std::fs;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::files::Files;
use super::super::roots::Roots;
use super::stat::Stat;
use super::threads::{ThreadMeter, ThreadUse};

/// A process known not to belong is looked at again every so many samples, in case its number was given to another.
const RECHECK_SAMPLES: usize = 16;

/// What is known of one member.
#[derive(Debug)]
struct Member {
    pid: u32,
    is_root: bool,
    stat: Stat,
    storage: Option<Storage>,
    limits: Option<Limits>,
    /// What vanished children had used and this parent has not shown yet.
    debt: Use,
    /// What it has waited for since the last look, and what it read and wrote.
    step: Use,
}

/// Soft limits of a process (`/proc/PID/limits`); `None` where there is none.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    descriptors: Option<u64>,
    address_space_bytes: Option<u64>,
}

/// `read_bytes` and `write_bytes` of `/proc/PID/io`: what really went to or came from disks.
#[derive(Debug, Clone, Copy)]
struct Storage {
    read_bytes: u64,
    written_bytes: u64,
}

/// CPU ticks and disk bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Use {
    ticks: u64,
    read_bytes: u64,
    written_bytes: u64,
}

/// What the processes of a set are and have used.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Observation {
    /// CPU time since the set began, in clock ticks.
    pub(in super::super) ticks: u64,
    /// Bytes read from and written to disks since then; `None` where the system does not let us know.
    pub(in super::super) storage: Option<(u64, u64)>,
    pub(in super::super) resident_pages: u64,
    pub(in super::super) processes: u64,
    pub(in super::super) threads: u64,
    pub(in super::super) thread_use: ThreadUse,
    /// Open descriptors and their limit, of the process closest to it.
    pub(in super::super) descriptors: Option<(u64, Option<u64>)>,
    /// Virtual memory and its limit (`RLIMIT_AS`), of the process closest to it; `None` without any limit.
    pub(in super::super) address_space: Option<(u64, u64)>,
    /// How many of the roots are still alive.
    pub(in super::super) roots_alive: usize,
    /// A living member to ask for limits, a root if possible.
    pub(in super::super) spokesman: Option<u32>,
}

/// The processes of one target.
#[derive(Debug)]
pub(in super::super) struct ProcessSet {
    follow_children: bool,
    /// Parents stand before their children: a parent read first cannot show a child that is then read as alive.
    members: Vec<Member>,
    outsiders: FxHashMap<u32, u64>,
    /// Whether what newcomers used before this look belongs to the time before the set began.
    is_baseline: bool,
    total: Use,
    threads: ThreadMeter,
    looks: usize,
    size_counts_descriptors: Option<bool>,
}

impl ProcessSet {
    pub(in super::super) fn new(follow_children: bool) -> Self {
        Self {
            follow_children,
            members: Vec::new(),
            outsiders: FxHashMap::default(),
            is_baseline: true,
            total: Use::default(),
            threads: ThreadMeter::default(),
            looks: 0,
            size_counts_descriptors: None,
        }
    }

    /// Takes a process in; what it used so far does not count. False when there is none of that number.
    pub(in super::super) fn add_root(
        &mut self,
        pid: u32,
        roots: &Roots,
        files: &mut Files,
    ) -> bool {
        if let Some(member) = self.members.iter_mut().find(|member| member.pid == pid) {
            member.is_root = true;
            return true;
        }
        let Some(stat) = read_stat(pid, roots, files).filter(|stat| !stat.is_dead) else {
            return false;
        };
        let storage = read_storage(pid, roots, files);
        self.members.push(Member::new(pid, true, stat, storage));
        self.outsiders.clear();
        self.is_baseline = true;
        true
    }

    /// Lets everything go that is not among these, and takes in the others.
    pub(in super::super) fn replace_roots(
        &mut self,
        pids: &[u32],
        roots: &Roots,
        files: &mut Files,
    ) {
        for member in &mut self.members {
            member.is_root = pids.contains(&member.pid);
        }
        if !self.follow_children {
            // What left the list and still runs is another's from now on.
            self.members.retain(|member| {
                member.is_root
                    || read_stat(member.pid, roots, files).is_none_or(|stat| stat.is_dead)
            });
        }
        for pid in pids {
            self.add_root(*pid, roots, files);
        }
    }

    /// Whether no process is left.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.members.iter().all(|member| member.stat.is_dead)
    }

    /// Whether the process of this number was a living member at the last look.
    pub(in super::super) fn contains(&self, pid: u32) -> bool {
        self.members
            .iter()
            .any(|member| member.pid == pid && !member.stat.is_dead)
    }

    /// Looks at every member.
    pub(in super::super) fn observe(
        &mut self,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
    ) -> Observation {
        let gone = self.update_members(roots, files);
        self.settle(&gone);
        if self.follow_children {
            self.admit(roots, files);
        }
        self.is_baseline = false;
        self.looks += 1;
        self.describe(now, roots, files)
    }

    /// Reads every member again and returns those who left. Own CPU time counts here.
    fn update_members(&mut self, roots: &Roots, files: &mut Files) -> Vec<Member> {
        let mut gone = Vec::new();
        let total = &mut self.total;
        let members = std::mem::take(&mut self.members);
        self.members = members
            .into_iter()
            .filter_map(|mut member| {
                let same = |stat: &Stat| stat.start_ticks == member.stat.start_ticks;
                let Some(stat) = read_stat(member.pid, roots, files).filter(same) else {
                    gone.push(member);
                    return None;
                };
                total.ticks += stat.own_ticks.saturating_sub(member.stat.own_ticks);
                member.step = Use {
                    ticks: stat.reaped_ticks.saturating_sub(member.stat.reaped_ticks),
                    ..Use::default()
                };
                let storage = read_storage(member.pid, roots, files);
                if let (Some(before), Some(after)) = (member.storage, storage) {
                    member.step.read_bytes = after.read_bytes.saturating_sub(before.read_bytes);
                    member.step.written_bytes =
                        after.written_bytes.saturating_sub(before.written_bytes);
                }
                member.storage = storage.or(member.storage);
                member.stat = stat;
                Some(member)
            })
            .collect();
        gone
    }

    /// Counts what parents waited for, less what was counted while those children lived.
    fn settle(&mut self, gone: &[Member]) {
        let mut known: FxHashMap<u32, Use> = FxHashMap::default();
        for member in gone {
            if let Some(heir) = self.heir(member, gone) {
                // Its debt too: children it waited for after it was read are in what its parent inherits.
                let inherited = known.entry(heir).or_default();
                inherited.add(member.used());
                inherited.add(member.debt);
            }
        }
        for member in &mut self.members {
            let seen = known.get(&member.pid).copied();
            if !self.follow_children && seen.is_none() && member.debt == Use::default() {
                // It waited for processes that are none of this set's.
                member.step.ticks = 0;
            }
            let (counted, debt) = member.step.less(seen.unwrap_or_default(), member.debt);
            self.total.add(counted);
            member.debt = debt;
        }
    }

    /// The living ancestor that inherits what a vanished member used.
    fn heir(&self, member: &Member, gone: &[Member]) -> Option<u32> {
        let mut parent = member.stat.parent;
        for _ in 0..=gone.len() {
            if self.members.iter().any(|live| live.pid == parent) {
                return Some(parent);
            }
            parent = gone.iter().find(|other| other.pid == parent)?.stat.parent;
        }
        None
    }

    /// Finds processes that are new and descend from a member.
    fn admit(&mut self, roots: &Roots, files: &mut Files) {
        let Ok(listing) = fs::read_dir(&roots.proc) else {
            return;
        };
        let mut inside: FxHashSet<u32> = self.members.iter().map(|member| member.pid).collect();
        let mut outsiders =
            FxHashMap::with_capacity_and_hasher(self.outsiders.len(), rustc_hash::FxBuildHasher);
        let mut candidates = Vec::new();
        let numbers = listing
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for (position, pid) in numbers.filter(|pid| !inside.contains(pid)).enumerate() {
            let known = self.outsiders.get(&pid).copied();
            let is_due = (position + self.looks).is_multiple_of(RECHECK_SAMPLES);
            if let Some(start_ticks) = known.filter(|_| !is_due) {
                outsiders.insert(pid, start_ticks);
            } else if let Some(stat) = read_stat(pid, roots, files) {
                if known == Some(stat.start_ticks) {
                    outsiders.insert(pid, stat.start_ticks);
                } else {
                    candidates.push((pid, stat));
                }
            }
        }
        while let Some(position) = candidates
            .iter()
            .position(|(_, stat)| inside.contains(&stat.parent))
        {
            let (pid, stat) = candidates.swap_remove(position);
            let member = Member::new(pid, false, stat, read_storage(pid, roots, files));
            if !self.is_baseline {
                self.total.add(member.used());
            }
            inside.insert(pid);
            self.members.push(member);
        }
        outsiders.extend(
            candidates
                .into_iter()
                .map(|(pid, stat)| (pid, stat.start_ticks)),
        );
        self.outsiders = outsiders;
    }

    fn describe(&mut self, now: Duration, roots: &Roots, files: &mut Files) -> Observation {
        let refresh = self.looks % RECHECK_SAMPLES == 1;
        let by_size = *self
            .size_counts_descriptors
            .get_or_insert_with(|| size_counts_descriptors(roots));
        let mut observation = Observation {
            ticks: self.total.ticks,
            ..Observation::default()
        };
        let mut fullest = -1.0;
        let mut most_address_space = -1.0;
        for member in self
            .members
            .iter_mut()
            .filter(|member| !member.stat.is_dead)
        {
            observation.processes += 1;
            observation.threads += member.stat.threads;
            observation.resident_pages += member.stat.resident_pages;
            observation.roots_alive += usize::from(member.is_root);
            observation.spokesman.get_or_insert(member.pid);
            if member.storage.is_some() {
                observation.storage = Some((self.total.read_bytes, self.total.written_bytes));
            }
            if refresh || member.limits.is_none() {
                member.limits = read_limits(member.pid, roots, files);
            }
            let limits = member.limits.unwrap_or_default();
            if let Some(limit) = limits.address_space_bytes {
                let used = member.stat.address_space_bytes;
                let share = used as f64 / limit as f64;
                if share > most_address_space {
                    most_address_space = share;
                    observation.address_space = Some((used, limit));
                }
            }
            if let Some(open) = count_descriptors(member.pid, roots, by_size) {
                let share = limits
                    .descriptors
                    .map_or(0.0, |limit| open as f64 / limit as f64);
                if share > fullest {
                    fullest = share;
                    observation.descriptors = Some((open, limits.descriptors));
                }
            }
        }
        let living = self.members.iter().filter(|member| !member.stat.is_dead);
        observation.thread_use =
            self.threads
                .observe(now, roots, files, living.map(|member| member.pid));
        observation
    }
}

impl Member {
    fn new(pid: u32, is_root: bool, stat: Stat, storage: Option<Storage>) -> Self {
        Self {
            pid,
            is_root,
            stat,
            storage,
            limits: None,
            debt: Use::default(),
            step: Use::default(),
        }
    }

    /// All it has used as last seen, with the children it waited for: what its parent will inherit.
    fn used(&self) -> Use {
        Use {
            ticks: self.stat.own_ticks + self.stat.reaped_ticks,
            read_bytes: self.storage.map_or(0, |storage| storage.read_bytes),
            written_bytes: self.storage.map_or(0, |storage| storage.written_bytes),
        }
    }
}

impl Use {
    fn add(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
    }

    /// What of this growth is new, given what was already counted, and what remains to be subtracted next time: the
    /// parent may have been read just before it waited. An older debt is dropped, since then nobody waited at all.
    fn less(self, known: Self, debt: Self) -> (Self, Self) {
        let one = |step: u64, known: u64, debt: u64| {
            let rest = step.saturating_sub(debt);
            (rest.saturating_sub(known), known.saturating_sub(rest))
        };
        let ticks = one(self.ticks, known.ticks, debt.ticks);
        let read = one(self.read_bytes, known.read_bytes, debt.read_bytes);
        let written = one(self.written_bytes, known.written_bytes, debt.written_bytes);
        let split = |ticks, read_bytes, written_bytes| Self {
            ticks,
            read_bytes,
            written_bytes,
        };
        (
            split(ticks.0, read.0, written.0),
            split(ticks.1, read.1, written.1),
        )
    }
}

fn read_stat(pid: u32, roots: &Roots, files: &mut Files) -> Option<Stat> {
    files
        .read(&roots.of_process(pid, "stat"))
        .ok()
        .and_then(Stat::parse)
}

fn read_storage(pid: u32, roots: &Roots, files: &mut Files) -> Option<Storage> {
    let text = files.read(&roots.of_process(pid, "io")).ok()?;
    Some(Storage {
        read_bytes: super::super::files::keyed(text, "read_bytes")?,
        written_bytes: super::super::files::keyed(text, "write_bytes")?,
    })
}

fn read_limits(pid: u32, roots: &Roots, files: &mut Files) -> Option<Limits> {
    let text = files.read(&roots.of_process(pid, "limits")).ok()?;
    // The soft limit comes first; `unlimited` is no number.
    let soft = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Limits {
        descriptors: soft("Max open files"),
        address_space_bytes: soft("Max address space"),
    })
}

/// Since Linux 6.2 the size of `/proc/PID/fd` is the number of descriptors, which spares listing thousands of them.
fn size_counts_descriptors(roots: &Roots) -> bool {
    let folder = roots.proc("self/fd");
    let (Ok(metadata), Ok(listing)) = (fs::metadata(&folder), fs::read_dir(&folder)) else {
        return false;
    };
    // Listing opens one itself, and other threads come and go.
    let listed = listing.count() as u64;
    metadata.len() > 0 && metadata.len().abs_diff(listed) < 64
}

fn count_descriptors(pid: u32, roots: &Roots, by_size: bool) -> Option<u64> {
    let folder = roots.of_process(pid, "fd");
    if by_size {
        // Only the owner may list it; the size is there for everybody, so it may be known where the list is not.
        return Some(fs::metadata(folder).ok()?.len());
    }
    Some(fs::read_dir(folder).ok()?.count() as u64)
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
