//! Files of control groups, version 1.
//!
//! Owns their names and formats (Documentation/admin-guide/cgroup-v1). Called by the sampler and the allowance.

use super::super::files::{Files, cores_in_list, keyed};
use super::super::roots::Roots;
use super::allowance::tighter;
use super::hierarchy::{Folder, Group};
use super::usage::Usage;
use super::v2;

/// No limit is written as the largest multiple of the page size; nothing real is within a factor of two of it.
const UNLIMITED_BYTES: u64 = 1 << 62;

/// Reads a group; nothing for one of version 2.
pub(super) fn read(group: &Group, roots: &Roots, files: &mut Files) -> Usage {
    let Group::One {
        cpu,
        accounting,
        memory,
        storage,
        tasks,
        unified,
        ..
    } = group
    else {
        return Usage::default();
    };
    let mut usage = Usage {
        cpu_limit_cores: cores(group, files),
        memory_limit_bytes: memory_limit(group, files),
        ..Usage::default()
    };
    if let Some(folder) = accounting {
        usage.cpu_nanoseconds = files.number(&folder.file("cpuacct.usage"));
    }
    if let Some(text) = cpu
        .as_ref()
        .and_then(|folder| files.read(&folder.file("cpu.stat")).ok())
    {
        usage.periods = keyed(text, "nr_periods");
        usage.throttled_periods = keyed(text, "nr_throttled");
    }
    if let Some(folder) = memory {
        usage.memory_charged_bytes = files.number(&folder.file("memory.usage_in_bytes"));
        if let Ok(text) = files.read(&folder.file("memory.stat")) {
            usage.memory_inactive_file_bytes = keyed(text, "total_inactive_file");
            usage.swap_bytes = keyed(text, "total_swap");
        }
        if let Ok(text) = files.read(&folder.file("memory.oom_control")) {
            usage.out_of_memory_kills = keyed(text, "oom_kill");
        }
    }
    if let Some(folder) = storage {
        let names = [
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes",
        ];
        let found = names.iter().find_map(|name| {
            let text = files.read(&folder.file(name)).ok()?;
            Some(service_bytes(text, |device| v2::is_stacked(device, roots)))
        });
        (usage.read_bytes, usage.written_bytes) = found.unzip();
    }
    if let Some(folder) = tasks {
        usage.threads = files.number(&folder.file("pids.current"));
        usage.thread_limit = files.number(&folder.file("pids.max"));
    }
    if let Some(folder) = unified {
        v2::read_pressure(folder, files, &mut usage);
    }
    usage
}

/// The tightest quota on the way up, and the cores of the group.
pub(super) fn cores(group: &Group, files: &mut Files) -> Option<f64> {
    let Group::One { cpu, cores, .. } = group else {
        return None;
    };
    let mut tightest = None;
    for path in cpu.iter().flat_map(Folder::ancestors) {
        tightest = tighter(tightest, quota_cores(path, files));
    }
    let set = cores.as_ref().and_then(|folder| {
        ["cpuset.effective_cpus", "cpuset.cpus"]
            .iter()
            .find_map(|name| cores_in_list(files.read(&folder.file(name)).ok()?))
    });
    tighter(tightest, set.map(|cores| cores as f64))
}

/// A quota of -1 is none.
fn quota_cores(folder: &std::path::Path, files: &mut Files) -> Option<f64> {
    let quota = files.number(&folder.join("cpu.cfs_quota_us"))?;
    let period = files.number(&folder.join("cpu.cfs_period_us"))?;
    (period > 0).then(|| quota as f64 / period as f64)
}

/// The tightest limit on the way up.
pub(super) fn memory_limit(group: &Group, files: &mut Files) -> Option<u64> {
    let Group::One {
        memory: Some(folder),
        ..
    } = group
    else {
        return None;
    };
    let limits = folder
        .ancestors()
        .filter_map(|path| files.number(&path.join("memory.limit_in_bytes")));
    limits.filter(|limit| *limit < UNLIMITED_BYTES).min()
}

/// The periods and throttled periods of the closest group with a quota.
pub(super) fn throttling(group: &Group, files: &mut Files) -> Option<(u64, u64)> {
    let Group::One {
        cpu: Some(folder), ..
    } = group
    else {
        return None;
    };
    folder.ancestors().find_map(|path| {
        quota_cores(path, files)?;
        let text = files.read(&path.join("cpu.stat")).ok()?;
        Some((keyed(text, "nr_periods")?, keyed(text, "nr_throttled")?))
    })
}

/// Bytes read and written: lines `8:0 Read 123`, a `Total` at the end that is left out.
fn service_bytes(text: &str, mut is_stacked: impl FnMut(&str) -> bool) -> (u64, u64) {
    let (mut read, mut written) = (0, 0);
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [device, operation, bytes] = fields.as_slice() else {
            continue;
        };
        let Ok(bytes) = bytes.parse::<u64>() else {
            continue;
        };
        if bytes == 0 || is_stacked(device) {
            continue;
        }
        match *operation {
            "Read" => read += bytes,
            "Write" => written += bytes,
            _ => {}
        }
    }
    (read, written)
}
