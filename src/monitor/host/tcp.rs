//! `/proc/net/{netstat,sockstat,tcp,tcp6}`: listening queues, `TIME_WAIT` and ephemeral ports.
//!
//! Owns the reading of socket tables and their price. [`PortMeter`] counts
//! ephemeral ports per remote address, because a port can be used once towards each of them. Called by the host, the
//! generator and the port sampler.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::counter::Counter;
use super::super::files::Files;
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::Sample;

/// Samples between two readings of the socket tables for ephemeral ports, and how many sockets make it one more. Measured
/// on a machine with 24 GB: 1 to 2 ms per table, however empty, since the kernel walks 262,144 hash buckets, and 0.6 µs
/// per socket. So the count of ports costs some 0.5 ms per sample; the samples in between have a gap there.
const SAMPLES_BETWEEN: u64 = 4;
const SOCKETS_PER_SAMPLE: u64 = 1024;

/// State LISTEN of `include/net/tcp_states.h`, as the tables write it.
const LISTEN: &str = "0A";

/// The previous counters of the TCP stack.
#[derive(Debug, Default)]
pub(in super::super) struct TcpMeter {
    overflows: Counter,
    drops: Counter,
}

impl TcpMeter {
    pub(in super::super) fn fill(
        &mut self,
        sample: &mut Sample,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
    ) {
        if let Ok(text) = files.read(&roots.proc("net/netstat")) {
            let [overflows, drops] = extended(text, ["ListenOverflows", "ListenDrops"]);
            sample.set(
                Metric::ListenOverflowsPerSecond,
                self.overflows.rate(now, overflows),
            );
            sample.set(Metric::ListenDropsPerSecond, self.drops.rate(now, drops));
        }
        let sockets = files.read(&roots.proc("net/sockstat")).ok();
        let waiting = sockets.and_then(|text| socket_count(text, "TCP", "tw"));
        sample.set_count(Metric::TimeWaitSockets, waiting);
    }
}

/// Counts ephemeral ports.
#[derive(Debug, Default)]
pub(in super::super) struct PortMeter {
    samples_to_skip: u64,
}

impl PortMeter {
    /// Sets the ports in use towards the remote address that has most of them.
    pub(in super::super) fn fill(&mut self, sample: &mut Sample, roots: &Roots, files: &mut Files) {
        let range = files
            .read(&roots.proc("sys/net/ipv4/ip_local_port_range"))
            .ok();
        let Some((first, last)) = range.and_then(port_range) else {
            return;
        };
        sample.set_count(Metric::EphemeralPortsLimit, u64::from(last - first) + 1);
        if let Some(left) = self.samples_to_skip.checked_sub(1) {
            self.samples_to_skip = left;
            return;
        }
        let mut seen: FxHashSet<(SocketAddr, u16)> = FxHashSet::default();
        let mut read = 0;
        let mut is_read = false;
        for table in tables(roots, files) {
            let complete = each_socket(&roots.proc(table), |socket| {
                read += 1;
                if (first..=last).contains(&socket.local_port) && socket.remote.port() != 0 {
                    // The kernel may list a socket twice when the table changes meanwhile.
                    seen.insert((socket.remote, socket.local_port));
                }
                true
            });
            is_read |= complete;
        }
        self.samples_to_skip = SAMPLES_BETWEEN + read / SOCKETS_PER_SAMPLE;
        if is_read {
            let mut used: FxHashMap<SocketAddr, u64> = FxHashMap::default();
            for (remote, _) in seen {
                *used.entry(remote).or_default() += 1;
            }
            let most = used.into_values().max().unwrap_or(0);
            sample.set_count(Metric::EphemeralPortsUsed, most);
        }
    }
}

/// The socket tables that are worth reading: that of IPv6 only where such sockets are open.
fn tables(roots: &Roots, files: &mut Files) -> impl Iterator<Item = &'static str> {
    let open = files.read(&roots.proc("net/sockstat6")).ok();
    let open = open.and_then(|text| socket_count(text, "TCP6", "inuse"));
    ["net/tcp", "net/tcp6"]
        .into_iter()
        .take(if open == Some(0) { 1 } else { 2 })
}

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Listener {
    /// By which `/proc/PID/fd` names it.
    pub(in super::super) inode: u64,
    /// Connections that wait to be accepted.
    pub(in super::super) queue: u64,
}

/// The sockets that listen on a port. The kernel lists them before all others, so the reading stops early.
pub(in super::super) fn listeners(port: u16, roots: &Roots, files: &mut Files) -> Vec<Listener> {
    let mut found = Vec::new();
    for table in tables(roots, files) {
        each_socket(&roots.proc(table), |socket| {
            if socket.is_listening && socket.local_port == port {
                found.push(Listener {
                    inode: socket.inode,
                    queue: socket.receive_queue,
                });
            }
            socket.is_listening
        });
    }
    found
}

/// One line of a socket table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    local_port: u16,
    remote: SocketAddr,
    is_listening: bool,
    /// Bytes not read yet; of a listening socket connections not accepted yet.
    receive_queue: u64,
    inode: u64,
}

impl Socket {
    /// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000 1000 0 4242 …` (`proc_pid_net(5)`).
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let local = address(fields.nth(1)?)?;
        let remote = address(fields.next()?)?;
        let state = fields.next()?;
        let receive_queue = u64::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
        let inode = fields.nth(4)?.parse().ok()?;
        Some(Self {
            local_port: local.port(),
            remote,
            is_listening: state == LISTEN,
            receive_queue,
            inode,
        })
    }
}

/// Calls `visit` for each socket until it says no. False where there is no table, as without IPv6.
fn each_socket(path: &Path, mut visit: impl FnMut(Socket) -> bool) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // The kernel hands out about a page at a time: a larger buffer would not save a call, and a small one lets the
    // search for listeners stop early.
    let mut lines = BufReader::with_capacity(4096, file);
    let mut line = String::new();
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
        if let Some(socket) = Socket::parse(&line)
            && !visit(socket)
        {
            return true;
        }
    }
}

/// `0100007F:1F90`: 32-bit words in the machine's byte order, the port in network order. Addresses of IPv4 that a
/// socket of IPv6 has are given as those of IPv4.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    let host = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(host)?)),
        32 => {
            let mut bytes = [0; 16];
            for (position, target) in bytes.chunks_exact_mut(4).enumerate() {
                target.copy_from_slice(&word(host.get(position * 8..position * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_ascii_whitespace();
    let (first, last) = (ports.next()?.parse().ok()?, ports.next()?.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Counters of `TcpExt`: a line of names and a line of numbers.
fn extended<const N: usize>(text: &str, names: [&str; N]) -> [Option<u64>; N] {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(titles), Some(numbers)) = (lines.next(), lines.next()) else {
        return [None; N];
    };
    let mut found = [None; N];
    for (title, number) in titles
        .split_ascii_whitespace()
        .zip(numbers.split_ascii_whitespace())
    {
        for (name, slot) in names.iter().zip(&mut found) {
            if title == *name {
                *slot = number.parse().ok();
            }
        }
    }
    found
}

/// A count of `/proc/net/sockstat`: `TCP: inuse 1 orphan 0 tw 10`.
fn socket_count(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'))?;
    let mut fields = line.split_ascii_whitespace();
    fields.find(|field| *field == name)?;
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_shows_its_queue() {
        let line = "   0: 0100007F:22B8 00000000:0000 0A 00000000:0000001F 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0\n";
        let socket = Socket::parse(line).unwrap();
        let expected = Socket {
            local_port: 8888,
            remote: "0.0.0.0:0".parse().unwrap(),
            is_listening: true,
            receive_queue: 31,
            inode: 4242,
        };
        assert_eq!(socket, expected);
        assert_eq!(
            Socket::parse("  sl  local_address rem_address   st tx_queue"),
            None
        );
    }

    #[test]
    fn mapped_addresses_are_plain_ones() {
        let mapped = address("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(mapped, "127.0.0.1:80".parse().unwrap());
        let plain = address("00000000000000000000000001000000:0050").unwrap();
        assert_eq!(plain, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn counters_are_found_by_their_titles() {
        let text = "TcpExt: A ListenOverflows ListenDrops\nTcpExt: 1 2 3\nIpExt: X\nIpExt: 9\n";
        assert_eq!(
            extended(text, ["ListenDrops", "ListenOverflows", "No"]),
            [Some(3), Some(2), None]
        );
        let text = "sockets: used 17\nTCP: inuse 1 orphan 0 tw 10 alloc 1 mem 230\nTCP6: inuse 4\n";
        assert_eq!(socket_count(text, "TCP", "tw"), Some(10));
        assert_eq!(socket_count(text, "TCP6", "tw"), None);
    }
}
