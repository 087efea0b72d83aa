//! What the API tells of a container.
//!
//! Owns the fields of `/containers/NAME/json` and `/containers/NAME/stats`, and how Docker, Podman and the two versions
//! of control groups differ in them: Podman leaves out `memory_stats.stats` and `online_cpus`, writes `null` for lists,
//! and gives periods of 0 where no quota is. Called by the sampler.

use serde_json::Value;

use super::super::cgroup::usage::{Traffic, Usage};

/// Memory "limits" from here on mean none.
const UNLIMITED_BYTES: u64 = 1 << 62;

/// The part of an inspection that is used here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inspection {
    pub(super) id: String,
    /// `None` unless it runs.
    pub(super) pid: Option<u32>,
    pub(super) is_running: bool,
    /// With the id this names one run of the container.
    pub(super) started_at: String,
    /// Quota of the container, in cores.
    pub(super) cpu_limit_cores: Option<f64>,
}

impl Inspection {
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let state = value.get("State")?;
        let is_running = state.get("Running")?.as_bool()?;
        let pid = state
            .get("Pid")
            .and_then(Value::as_u64)
            .filter(|pid| *pid > 0);
        let host = value.get("HostConfig");
        let setting = |name: &str| host?.get(name)?.as_f64().filter(|number| *number > 0.0);
        let quota =
            setting("CpuQuota").map(|quota| quota / setting("CpuPeriod").unwrap_or(100_000.0));
        Some(Self {
            id: value.get("Id")?.as_str()?.to_owned(),
            pid: pid
                .filter(|_| is_running)
                .and_then(|pid| u32::try_from(pid).ok()),
            is_running,
            started_at: state
                .get("StartedAt")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            cpu_limit_cores: setting("NanoCpus").map(|nanos| nanos / 1e9).or(quota),
        })
    }
}

/// Reads statistics. The limit in cores is the quota, else the cores of the machine where they are told.
pub(super) fn usage(value: &Value, inspection: &Inspection) -> Usage {
    let number = |path: &str| value.pointer(path).and_then(Value::as_u64);
    let periods = number("/cpu_stats/throttling_data/periods");
    let has_quota =
        inspection.cpu_limit_cores.is_some() || periods.is_some_and(|periods| periods > 0);
    let cores = number("/cpu_stats/online_cpus")
        .filter(|cores| *cores > 0)
        .or_else(|| {
            let each = value
                .pointer("/cpu_stats/cpu_usage/percpu_usage")?
                .as_array()?;
            (!each.is_empty()).then_some(each.len() as u64)
        });
    let memory = |name: &str| number(&format!("/memory_stats/stats/{name}"));
    let (read_bytes, written_bytes) = storage(value).unzip();
    Usage {
        cpu_nanoseconds: number("/cpu_stats/cpu_usage/total_usage"),
        periods: periods.filter(|_| has_quota),
        throttled_periods: number("/cpu_stats/throttling_data/throttled_periods")
            .filter(|_| has_quota),
        cpu_limit_cores: inspection
            .cpu_limit_cores
            .or(cores.map(|cores| cores as f64)),
        memory_charged_bytes: number("/memory_stats/usage"),
        // Version 1 has both, of which the plain one leaves out the groups below.
        memory_inactive_file_bytes: memory("total_inactive_file")
            .or_else(|| memory("inactive_file")),
        memory_limit_bytes: number("/memory_stats/limit")
            .filter(|limit| (1..UNLIMITED_BYTES).contains(limit)),
        swap_bytes: memory("total_swap").or_else(|| memory("swap")),
        threads: number("/pids_stats/current").filter(|threads| *threads > 0),
        thread_limit: number("/pids_stats/limit")
            .filter(|limit| (1..UNLIMITED_BYTES).contains(limit)),
        read_bytes,
        written_bytes,
        network: traffic(value),
        ..Usage::default()
    }
}

/// `read` and `write`, in small letters with version 2 and Docker, in large ones with version 1. No list, or an empty
/// one, is what both write where nothing was read or written and where nothing is known: a gap.
fn storage(value: &Value) -> Option<(u64, u64)> {
    let list = value
        .pointer("/blkio_stats/io_service_bytes_recursive")?
        .as_array()?;
    let sum = |operation: &str| {
        let wanted = |entry: &&Value| {
            entry
                .get("op")
                .and_then(Value::as_str)
                .is_some_and(|op| op.eq_ignore_ascii_case(operation))
        };
        list.iter()
            .filter(wanted)
            .filter_map(|entry| entry.get("value")?.as_u64())
            .sum()
    };
    (!list.is_empty()).then(|| (sum("read"), sum("write")))
}

/// All interfaces added up.
fn traffic(value: &Value) -> Option<Traffic> {
    let interfaces = value.get("networks")?.as_object()?;
    let sum = |name: &str| -> u64 {
        interfaces
            .values()
            .filter_map(|interface| interface.get(name)?.as_u64())
            .sum()
    };
    (!interfaces.is_empty()).then(|| Traffic {
        received_bytes: sum("rx_bytes"),
        received_packets: sum("rx_packets"),
        sent_bytes: sum("tx_bytes"),
        sent_packets: sum("tx_packets"),
        dropped: sum("rx_dropped") + sum("tx_dropped"),
    })
}
