//! Files of control groups, version 2.
//!
//! Owns their names and formats (Documentation/admin-guide/cgroup-v2.rst). Called by the sampler and the allowance.

use super::super::files::{Files, cores_in_list, keyed, pressure_some_micros};
use super::super::roots::Roots;
use super::hierarchy::Folder;
use super::usage::Usage;

/// Reads a group.
pub(super) fn read(folder: &Folder, roots: &Roots, files: &mut Files) -> Usage {
    let mut usage = Usage {
        cpu_limit_cores: cores(folder, files),
        memory_limit_bytes: memory_limit(folder, files),
        memory_charged_bytes: files.number(&folder.file("memory.current")),
        swap_bytes: files.number(&folder.file("memory.swap.current")),
        swap_limit_bytes: files.number(&folder.file("memory.swap.max")),
        threads: files.number(&folder.file("pids.current")),
        thread_limit: files.number(&folder.file("pids.max")),
        ..Usage::default()
    };
    if let Ok(text) = files.read(&folder.file("cpu.stat")) {
        usage.cpu_nanoseconds = keyed(text, "usage_usec").map(|micros| micros.saturating_mul(1000));
        usage.periods = keyed(text, "nr_periods");
        usage.throttled_periods = keyed(text, "nr_throttled");
    }
    if let Ok(text) = files.read(&folder.file("memory.stat")) {
        usage.memory_inactive_file_bytes = keyed(text, "inactive_file");
    }
    if let Ok(text) = files.read(&folder.file("memory.events")) {
        usage.out_of_memory_kills = keyed(text, "oom_kill");
    }
    if let Ok(text) = files.read(&folder.file("io.stat")) {
        let (read, written) = storage(text, |device| is_stacked(device, roots));
        usage.read_bytes = Some(read);
        usage.written_bytes = Some(written);
    }
    read_pressure(folder, files, &mut usage);
    usage
}

/// PSI, which the hybrid layout has too.
pub(super) fn read_pressure(folder: &Folder, files: &mut Files, usage: &mut Usage) {
    let mut some = |name| {
        files
            .read(&folder.file(name))
            .ok()
            .and_then(pressure_some_micros)
    };
    usage.cpu_pressure_micros = some("cpu.pressure");
    usage.memory_pressure_micros = some("memory.pressure");
    usage.io_pressure_micros = some("io.pressure");
}

/// The tightest quota on the way up, and the cores of the group.
pub(super) fn cores(folder: &Folder, files: &mut Files) -> Option<f64> {
    let mut tightest: Option<f64> = None;
    for path in folder.ancestors() {
        let quota = files.read(&path.join("cpu.max")).ok().and_then(quota_cores);
        tightest = super::allowance::tighter(tightest, quota);
    }
    let set = files
        .read(&folder.file("cpuset.cpus.effective"))
        .ok()
        .and_then(cores_in_list);
    super::allowance::tighter(tightest, set.map(|cores| cores as f64))
}

/// `max 100000` or `50000 100000`: microseconds of CPU time per period.
fn quota_cores(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// The tightest `memory.max` or `memory.high` on the way up: above the latter the kernel slows the group down, which
/// gives out just as well.
pub(super) fn memory_limit(folder: &Folder, files: &mut Files) -> Option<u64> {
    let mut tightest: Option<u64> = None;
    for path in folder.ancestors() {
        for name in ["memory.max", "memory.high"] {
            let limit = files.number(&path.join(name));
            tightest = tightest.into_iter().chain(limit).min();
        }
    }
    tightest
}

/// The periods and throttled periods of the closest group with a quota.
pub(super) fn throttling(folder: &Folder, files: &mut Files) -> Option<(u64, u64)> {
    folder.ancestors().find_map(|path| {
        files
            .read(&path.join("cpu.max"))
            .ok()
            .and_then(quota_cores)?;
        let text = files.read(&path.join("cpu.stat")).ok()?;
        Some((keyed(text, "nr_periods")?, keyed(text, "nr_throttled")?))
    })
}

/// Bytes read and written: `8:0 rbytes=1 wbytes=2 rios=…` for every device that is no stack of others.
fn storage(text: &str, mut is_stacked: impl FnMut(&str) -> bool) -> (u64, u64) {
    let (mut read, mut written) = (0, 0);
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(device) = fields.next() else {
            continue;
        };
        let (mut device_read, mut device_written) = (0, 0);
        for field in fields {
            if let Some(bytes) = field.strip_prefix("rbytes=") {
                device_read = bytes.parse().unwrap_or(0);
            } else if let Some(bytes) = field.strip_prefix("wbytes=") {
                device_written = bytes.parse().unwrap_or(0);
            }
        }
        if (device_read > 0 || device_written > 0) && !is_stacked(device) {
            read += device_read;
            written += device_written;
        }
    }
    (read, written)
}

/// Whether a device such as LVM or RAID lies on others, which count the same bytes once more.
pub(super) fn is_stacked(device: &str, roots: &Roots) -> bool {
    let slaves = roots.sys.join("dev/block").join(device).join("slaves");
    std::fs::read_dir(slaves).is_ok_and(|mut listing| listing.next().is_some())
}
