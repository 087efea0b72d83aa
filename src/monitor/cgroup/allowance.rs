//! What a process may use.
//!
//! Owns the tightest of the cores it may run on (affinity), the quotas of its control group and those above, and the
//! memory limits there, or else the machine's memory. Called by the process samplers and the generator.

use super::super::files::{Files, cores_in_list, keyed};
use super::super::roots::Roots;
use super::hierarchy::{Group, Hierarchy};
use super::{v1, v2};

/// The smaller of two limits, of which either may be missing.
pub(super) fn tighter(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a process may use at the time of asking.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in super::super) struct Allowed {
    pub(in super::super) cores: Option<f64>,
    pub(in super::super) memory_bytes: Option<u64>,
    /// Periods and throttled periods of the closest group with a quota.
    pub(in super::super) throttling: Option<(u64, u64)>,
}

/// Reads it, and remembers where the group of the process last asked about is.
#[derive(Debug)]
pub(in super::super) struct Allowance {
    hierarchy: Hierarchy,
    group: Option<(u32, Option<Group>)>,
}

impl Allowance {
    pub(in super::super) fn new(roots: &Roots) -> Self {
        Self {
            hierarchy: Hierarchy::detect(&roots.cgroup),
            group: None,
        }
    }

    pub(in super::super) fn read(&mut self, pid: u32, roots: &Roots, files: &mut Files) -> Allowed {
        if self.group.as_ref().is_none_or(|(known, _)| *known != pid) {
            self.group = Some((pid, self.hierarchy.group_of(pid, roots, files)));
        }
        let group = self.group.as_ref().and_then(|(_, group)| group.as_ref());
        let (quota, memory, throttling) = match group {
            Some(Group::Two(folder)) => (
                v2::cores(folder, files),
                v2::memory_limit(folder, files),
                v2::throttling(folder, files),
            ),
            Some(group) => (
                v1::cores(group, files),
                v1::memory_limit(group, files),
                v1::throttling(group, files),
            ),
            None => (None, None, None),
        };
        let status = files.read(&roots.of_process(pid, "status")).ok();
        let affinity = status.and_then(|text| {
            let list = text
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            cores_in_list(list)
        });
        let machine = files.read(&roots.proc("meminfo")).ok();
        let machine = machine
            .and_then(|text| keyed(text, "MemTotal"))
            .map(|kilobytes| kilobytes * 1024);
        Allowed {
            cores: tighter(affinity.map(|cores| cores as f64), quota),
            memory_bytes: memory.into_iter().chain(machine).min(),
            throttling,
        }
    }
}
