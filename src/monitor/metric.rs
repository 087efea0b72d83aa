//! What is measured: a closed set of metrics, each with its unit in its name.
//!
//! Owns the names that appear in files and reports, and which metric is the limit of which. Values are always `f64`;
//! how each is taken is told by the sampler that takes it. Called by every sampler, the series and the verdict.

use serde::{Deserialize, Serialize};

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A measured quantity. A ratio lies between 0 and 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Metric {
            $($(#[$doc])* $variant,)+
        }

        impl Metric {
            /// Every metric, in the order in which reports show them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in files, the same as in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

metrics! {
    /// CPU time per elapsed time: 1.5 is one and a half cores. Stolen time is not in it.
    CpuCoresUsed = "cpu_cores_used",
    /// Cores that may be used: the tightest of affinity, cpuset and quota.
    CpuLimitCores = "cpu_limit_cores",
    /// Cores used by the busiest thread; close to 1 it is a single-threaded limit.
    HottestThreadCores = "hottest_thread_cores",
    /// Cores that the thread which wanted most used or waited for; close to 1 it never slept.
    WantedThreadCores = "wanted_thread_cores",
    /// What that thread waited of it: ready to run, but others had the cores.
    WantedThreadWaitCores = "wanted_thread_wait_cores",
    /// Threads that were ready to run and waited for a core, in the mean (run-queue delay).
    CpuWaitingThreads = "cpu_waiting_threads",
    /// Busy share of all cores of the machine, whoever used them.
    MachineBusyRatio = "machine_busy_ratio",
    /// Busy share of the busiest core.
    HottestCoreRatio = "hottest_core_ratio",
    /// Share of all cores' time that the hypervisor gave to others.
    CpuStealRatio = "cpu_steal_ratio",
    /// Share of the quota's periods in which the group was stopped for having used it up.
    CpuThrottledRatio = "cpu_throttled_ratio",
    /// Share of the time in which some task waited for a core (PSI `some`).
    CpuPressureRatio = "cpu_pressure_ratio",
    /// Memory that cannot be reclaimed at will: working set, resident set or host memory not available.
    MemoryBytes = "memory_bytes",
    /// Everything charged to the group, reclaimable page cache included.
    MemoryChargedBytes = "memory_charged_bytes",
    /// What memory may grow to.
    MemoryLimitBytes = "memory_limit_bytes",
    /// Virtual memory of the process closest to its limit; only where there is one.
    AddressSpaceBytes = "address_space_bytes",
    /// What it may grow to (`RLIMIT_AS` of that process).
    AddressSpaceLimitBytes = "address_space_limit_bytes",
    /// Swap in use.
    SwapBytes = "swap_bytes",
    /// What swap may grow to.
    SwapLimitBytes = "swap_limit_bytes",
    /// Pages read back from swap.
    SwapInBytesPerSecond = "swap_in_bytes_per_second",
    /// Pages written to swap.
    SwapOutBytesPerSecond = "swap_out_bytes_per_second",
    /// Processes killed for lack of memory since the sampler started.
    OutOfMemoryKills = "out_of_memory_kills",
    /// Share of the time in which some task waited for memory (PSI `some`).
    MemoryPressureRatio = "memory_pressure_ratio",
    /// Share of the time in which the busiest disk had requests in flight.
    DiskBusyRatio = "disk_busy_ratio",
    /// Requests waiting or in flight at the disk with the longest queue, on average.
    DiskQueue = "disk_queue",
    /// Bytes read from disks.
    DiskReadBytesPerSecond = "disk_read_bytes_per_second",
    /// Bytes written to disks.
    DiskWriteBytesPerSecond = "disk_write_bytes_per_second",
    /// Share of the time in which some task waited for a disk (PSI `some`).
    IoPressureRatio = "io_pressure_ratio",
    /// Threads that waited for a disk at the moment of the sample (uninterruptible sleep).
    BlockedThreads = "blocked_threads",
    /// Bytes received.
    NetworkReceiveBytesPerSecond = "network_receive_bytes_per_second",
    /// Bytes sent.
    NetworkTransmitBytesPerSecond = "network_transmit_bytes_per_second",
    /// Packets received.
    NetworkReceivePacketsPerSecond = "network_receive_packets_per_second",
    /// Packets sent.
    NetworkTransmitPacketsPerSecond = "network_transmit_packets_per_second",
    /// Packets dropped by the interfaces, in both directions.
    NetworkDropsPerSecond = "network_drops_per_second",
    /// The busier direction of the busiest link against its speed.
    NetworkBusyRatio = "network_busy_ratio",
    /// Speed of the busiest link, in each direction.
    NetworkLimitBytesPerSecond = "network_limit_bytes_per_second",
    /// Open file descriptors; of several processes the one closest to its limit.
    OpenDescriptors = "open_descriptors",
    /// What they may grow to (`RLIMIT_NOFILE` of that process, `file-max` of a host).
    DescriptorLimit = "descriptor_limit",
    /// Processes alive.
    Processes = "processes",
    /// Threads alive.
    Threads = "threads",
    /// What threads may grow to (`pids.max`).
    ThreadLimit = "thread_limit",
    /// Connections that wait to be accepted on the listening socket.
    AcceptQueue = "accept_queue",
    /// Connections turned away because an accept queue was full (`ListenOverflows`).
    ListenOverflowsPerSecond = "listen_overflows_per_second",
    /// Connection attempts dropped at listening sockets for any reason (`ListenDrops`).
    ListenDropsPerSecond = "listen_drops_per_second",
    /// Sockets in `TIME_WAIT`.
    TimeWaitSockets = "time_wait_sockets",
    /// Ephemeral ports in use towards one remote address and port: the target, or the one that uses most.
    EphemeralPortsUsed = "ephemeral_ports_used",
    /// Ports in `ip_local_port_range`.
    EphemeralPortsLimit = "ephemeral_ports_limit",
    /// How late the event loop ran its timers; handed in from outside.
    EventLoopLagSeconds = "event_loop_lag_seconds",
}

impl Metric {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The metric that this one cannot exceed, where there is one.
    pub const fn limit(self) -> Option<Self> {
        match self {
            Self::CpuCoresUsed => Some(Self::CpuLimitCores),
            Self::MemoryBytes | Self::MemoryChargedBytes => Some(Self::MemoryLimitBytes),
            Self::AddressSpaceBytes => Some(Self::AddressSpaceLimitBytes),
            Self::SwapBytes => Some(Self::SwapLimitBytes),
            Self::OpenDescriptors => Some(Self::DescriptorLimit),
            Self::Threads => Some(Self::ThreadLimit),
            Self::EphemeralPortsUsed => Some(Self::EphemeralPortsLimit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_uses_the_names() {
        for metric in Metric::ALL {
            let expected = format!("{:?}", metric.name());
            assert_eq!(serde_json::to_string(metric).unwrap(), expected);
        }
    }

    #[test]
    fn positions_follow_the_list() {
        for (position, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, position);
        }
    }
}
