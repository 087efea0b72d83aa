//! What the columns of a Glances file mean.
//!
//! Owns both generations: today's `plugin.key.item` with plain cells, and that of Glances 2 with `plugin_key_item`,
//! where containers are in `sensors_NAME_cpu`, `…_memory`, `…_network` and `…_io` (or another plugin's name in front),
//! each cell a Python dictionary as text. Units are those of the Glances 4.5.8 and 2.11.1 sources: CPU percent of one
//! core for containers and of all cores for the host, bytes and bytes per second, link speed in steps of 2^20 bits.
//! Called by the sampler.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::counter::Counter;
use super::super::metric::Metric;
use super::super::sample::Sample;
use super::dictionary;

/// A row's cells by their column.
pub(super) struct Row<'a> {
    pub(super) positions: &'a FxHashMap<String, usize>,
    pub(super) cells: &'a [String],
    /// Glances writes 0 for rates before it has looked twice: in a file's first row they are gaps.
    pub(super) is_first: bool,
}

impl Row<'_> {
    fn cell(&self, column: &str) -> Option<&str> {
        let cell = self.cells.get(*self.positions.get(column)?)?.trim();
        (!cell.is_empty()).then_some(cell)
    }

    /// A number; empty cells and `None` are gaps.
    fn number(&self, column: &str) -> Option<f64> {
        self.cell(column)?.parse().ok()
    }

    fn rate(&self, column: &str) -> Option<f64> {
        (!self.is_first).then(|| self.number(column))?
    }
}

/// What the file is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The machine Glances ran on.
    Host {
        interfaces: Vec<String>,
        disks: Vec<String>,
    },
    /// A container, today's columns.
    Container { name: String },
    /// A container in Glances 2; `prefix` is all before `cpu`.
    Old { name: String, prefix: String },
}

/// The containers and the host that a heading has columns of.
pub(super) fn subjects(heading: &[String]) -> Vec<Subject> {
    let mut found: Vec<Subject> = Vec::new();
    let (mut interfaces, mut disks, mut is_host) = (Vec::new(), Vec::new(), false);
    for column in heading {
        let subject = if let Some(rest) = column.strip_prefix("containers.") {
            // A container's name may hold points; the item does not.
            rest.rsplit_once('.').map(|(name, _)| Subject::Container {
                name: name.to_owned(),
            })
        } else {
            old_container(column)
        };
        if let Some(subject) = subject.filter(|subject| !found.contains(subject)) {
            found.push(subject);
        }
        let key_of = |plugin: &str, item: &str| {
            let key = column.strip_prefix(plugin)?.strip_suffix(item)?;
            (!key.is_empty()).then(|| key.to_owned())
        };
        interfaces
            .extend(key_of("network.", ".bytes_recv_rate_per_sec").filter(|name| name != "lo"));
        let is_memory = |name: &str| {
            ["loop", "ram", "zram"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        disks.extend(key_of("diskio.", ".read_bytes_rate_per_sec").filter(|name| !is_memory(name)));
        is_host |= column == "cpu.total" || column == "mem.total";
    }
    // `sda` and `sda1` count the same bytes.
    let whole = disks.clone();
    disks.retain(|name| !whole.iter().any(|disk| is_partition(name, disk)));
    if is_host {
        found.push(Subject::Host { interfaces, disks });
    }
    found
}

fn is_partition(name: &str, disk: &str) -> bool {
    let Some(rest) = name.strip_prefix(disk).filter(|rest| !rest.is_empty()) else {
        return false;
    };
    // `nvme0n1p2`, `mmcblk0p1`, but `sda2`: disks whose name ends in a digit put a p between.
    let digits = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        rest.strip_prefix('p').unwrap_or_default()
    } else {
        rest
    };
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The CPU column tells that there is a container; `sensors_tested_cpu` is one of `tested`.
fn old_container(column: &str) -> Option<Subject> {
    let prefix = column.strip_suffix("cpu")?;
    let (plugin, name) = prefix.strip_suffix('_')?.split_once('_')?;
    let is_plugin = matches!(plugin, "sensors" | "docker");
    (is_plugin && !name.is_empty()).then(|| Subject::Old {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    })
}

impl Subject {
    /// The container's name, or `host`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Host { .. } => "host",
            Self::Container { name } | Self::Old { name, .. } => name,
        }
    }

    /// Makes a sample of a row. `counters` are those of the old columns.
    pub(super) fn sample(
        &self,
        row: &Row<'_>,
        now: Duration,
        counters: &mut [Counter; 4],
    ) -> Sample {
        match self {
            Self::Host { interfaces, disks } => host(row, interfaces, disks),
            Self::Container { name } => container(row, name),
            Self::Old { prefix, .. } => old(row, prefix, now, counters),
        }
    }
}

fn host(row: &Row<'_>, interfaces: &[String], disks: &[String]) -> Sample {
    let mut sample = Sample::default();
    let cores = row.number("cpu.cpucore");
    let steal = row.number("cpu.steal");
    // Busy is all that is not idle, stolen time included.
    let busy = row
        .number("cpu.total")
        .map(|busy| (busy - steal.unwrap_or(0.0)).max(0.0));
    sample.set(
        Metric::CpuCoresUsed,
        busy.zip(cores).map(|(busy, cores)| busy / 100.0 * cores),
    );
    sample.set(Metric::CpuLimitCores, cores);
    sample.set(Metric::CpuStealRatio, steal.map(|steal| steal / 100.0));
    let total = row.number("mem.total");
    let used = total
        .zip(row.number("mem.available"))
        .map(|(total, available)| total - available);
    sample.set(Metric::MemoryBytes, used.or_else(|| row.number("mem.used")));
    sample.set(Metric::MemoryLimitBytes, total);
    sample.set(Metric::SwapBytes, row.number("memswap.used"));
    sample.set(Metric::SwapLimitBytes, row.number("memswap.total"));
    sample.set(Metric::Processes, row.number("processcount.total"));
    sample.set(Metric::Threads, row.number("processcount.thread"));
    let sum = |plugin: &str, keys: &[String], item: &str| {
        let values = keys
            .iter()
            .filter_map(|key| row.rate(&format!("{plugin}.{key}.{item}")));
        values.reduce(|sum, value| sum + value)
    };
    for (metric, item) in [
        (
            Metric::NetworkReceiveBytesPerSecond,
            "bytes_recv_rate_per_sec",
        ),
        (
            Metric::NetworkTransmitBytesPerSecond,
            "bytes_sent_rate_per_sec",
        ),
    ] {
        sample.set(metric, sum("network", interfaces, item));
    }
    for (metric, item) in [
        (Metric::DiskReadBytesPerSecond, "read_bytes_rate_per_sec"),
        (Metric::DiskWriteBytesPerSecond, "write_bytes_rate_per_sec"),
    ] {
        sample.set(metric, sum("diskio", disks, item));
    }
    let mut busiest: Option<(f64, f64)> = None;
    for interface in interfaces {
        let of = |item: &str| row.rate(&format!("network.{interface}.{item}"));
        let (Some(received), Some(sent), Some(speed)) = (
            of("bytes_recv_rate_per_sec"),
            of("bytes_sent_rate_per_sec"),
            of("speed"),
        ) else {
            continue;
        };
        // Glances multiplies megabits by 2^20.
        let limit = speed / f64::from(1 << 20) * 1e6 / 8.0;
        let share = received.max(sent) / limit;
        if limit > 0.0 && busiest.is_none_or(|(most, _)| share > most) {
            busiest = Some((share, limit));
        }
    }
    sample.set(Metric::NetworkBusyRatio, busiest.map(|(share, _)| share));
    sample.set(
        Metric::NetworkLimitBytesPerSecond,
        busiest.map(|(_, limit)| limit),
    );
    sample
}

fn container(row: &Row<'_>, name: &str) -> Sample {
    let mut sample = Sample::default();
    let column = |item: &str| format!("containers.{name}.{item}");
    let number = |item: &str| row.number(&column(item));
    sample.set(
        Metric::CpuCoresUsed,
        row.rate(&column("cpu_percent"))
            .map(|percent| percent / 100.0),
    );
    sample.set(
        Metric::CpuLimitCores,
        number("cpu_limit")
            .filter(|cores| *cores > 0.0)
            // Without a quota a container may use what its host has.
            .or_else(|| row.number("cpu.cpucore")),
    );
    let usage = number("memory_usage");
    let inactive = number("memory_inactive_file").unwrap_or(0.0);
    sample.set(Metric::MemoryChargedBytes, usage);
    sample.set(
        Metric::MemoryBytes,
        usage.map(|usage| (usage - inactive).max(0.0)),
    );
    sample.set(
        Metric::MemoryLimitBytes,
        number("memory_limit").filter(|limit| *limit > 0.0),
    );
    for (metric, item) in [
        (Metric::DiskReadBytesPerSecond, "io_rx"),
        (Metric::DiskWriteBytesPerSecond, "io_wx"),
        (Metric::NetworkReceiveBytesPerSecond, "network_rx"),
        (Metric::NetworkTransmitBytesPerSecond, "network_tx"),
    ] {
        sample.set(metric, row.rate(&column(item)));
    }
    sample
}

fn old(row: &Row<'_>, prefix: &str, now: Duration, counters: &mut [Counter; 4]) -> Sample {
    let mut sample = Sample::default();
    let cell = |item: &str| {
        row.cell(&format!("{prefix}{item}"))
            .map(dictionary::numbers)
            .unwrap_or_default()
    };
    let (cpu, memory, network, io) = (cell("cpu"), cell("memory"), cell("network"), cell("io"));
    let cores = cpu
        .get("total")
        .filter(|_| !row.is_first)
        .map(|percent| percent / 100.0);
    sample.set(Metric::CpuCoresUsed, cores);
    sample.set(Metric::MemoryBytes, memory.get("usage").copied());
    sample.set(Metric::MemoryLimitBytes, memory.get("limit").copied());
    let columns = [
        (
            Metric::NetworkReceiveBytesPerSecond,
            &network,
            "rx",
            "cumulative_rx",
        ),
        (
            Metric::NetworkTransmitBytesPerSecond,
            &network,
            "tx",
            "cumulative_tx",
        ),
        (Metric::DiskReadBytesPerSecond, &io, "ior", "cumulative_ior"),
        (
            Metric::DiskWriteBytesPerSecond,
            &io,
            "iow",
            "cumulative_iow",
        ),
    ];
    for ((metric, numbers, step, total), counter) in columns.into_iter().zip(counters) {
        let counted = numbers.get(total).map(|total| whole(*total));
        let by_counter = counter.rate(now, counted);
        // The cell's own time is the better one: rows may be written later than they were measured.
        let seconds = numbers
            .get("time_since_update")
            .filter(|seconds| **seconds > 0.0);
        let by_cell = seconds
            .zip(numbers.get(step))
            .map(|(seconds, step)| step / seconds);
        sample.set(metric, by_cell.filter(|_| !row.is_first).or(by_counter));
    }
    sample
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes are whole and not negative; what is not saturates"
)]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}
