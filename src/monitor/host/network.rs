//! `/proc/net/dev`: what the network interfaces did.
//!
//! Owns which interfaces count (those with a device behind them; bridges, bonds and tunnels carry the same bytes once
//! more) and the link speed. In a container no interface has a device: then all but the loopback count. Called by the
//! host sampler; the container reads its own with [`traffic`].

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::cgroup::usage::{Traffic, TrafficMeter};
use super::super::counter::Counter;
use super::super::files::Files;
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::Sample;

/// The previous counters.
#[derive(Debug, Default)]
pub(super) struct NetworkMeter {
    total: TrafficMeter,
    links: FxHashMap<String, Link>,
}

/// One interface.
#[derive(Debug, Default)]
struct Link {
    has_device: bool,
    /// `None` where the driver does not say, as virtual machines often don't.
    bytes_per_second: Option<f64>,
    received: Counter,
    sent: Counter,
}

impl NetworkMeter {
    pub(super) fn fill(
        &mut self,
        sample: &mut Sample,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
    ) {
        let Ok(text) = files.read(&roots.proc("net/dev")) else {
            return;
        };
        let seen: Vec<(String, Traffic)> = interfaces(text)
            .filter(|(name, _)| *name != "lo")
            .map(|(name, traffic)| (name.to_owned(), traffic))
            .collect();
        for (name, _) in &seen {
            if !self.links.contains_key(name) {
                self.links
                    .insert(name.clone(), Link::find(name, roots, files));
            }
        }
        let has_device = |name: &str| self.links.get(name).is_some_and(|link| link.has_device);
        let any_device = seen.iter().any(|(name, _)| has_device(name));
        let counted: Vec<&(String, Traffic)> = seen
            .iter()
            .filter(|(name, _)| has_device(name) || !any_device)
            .collect();
        let mut total = Traffic::default();
        let mut busiest: Option<(f64, f64)> = None;
        for (name, traffic) in &counted {
            total.add(traffic);
            let Some(link) = self.links.get_mut(name) else {
                continue;
            };
            let received = link.received.rate(now, Some(traffic.received_bytes));
            let sent = link.sent.rate(now, Some(traffic.sent_bytes));
            if let (Some(received), Some(sent), Some(limit)) =
                (received, sent, link.bytes_per_second)
            {
                let share = received.max(sent) / limit;
                if busiest.is_none_or(|(most, _)| share > most) {
                    busiest = Some((share, limit));
                }
            }
        }
        let total = (!counted.is_empty()).then_some(total);
        self.total.fill(sample, now, total, &mut false);
        sample.set(Metric::NetworkBusyRatio, busiest.map(|(share, _)| share));
        sample.set(
            Metric::NetworkLimitBytesPerSecond,
            busiest.map(|(_, limit)| limit),
        );
    }
}

impl Link {
    fn find(name: &str, roots: &Roots, files: &mut Files) -> Self {
        let folder = roots.sys.join("class/net").join(name);
        // Megabits per second; -1 or an error where it is not known.
        let megabits = files
            .number(&folder.join("speed"))
            .filter(|speed| (1..u64::from(u32::MAX)).contains(speed));
        Self {
            has_device: folder.join("device").exists(),
            bytes_per_second: megabits.map(|megabits| megabits as f64 * 1e6 / 8.0),
            ..Self::default()
        }
    }
}

impl Traffic {
    fn add(&mut self, other: &Self) {
        self.received_bytes += other.received_bytes;
        self.received_packets += other.received_packets;
        self.sent_bytes += other.sent_bytes;
        self.sent_packets += other.sent_packets;
        self.dropped += other.dropped;
    }
}

/// All interfaces but the loopback, added up: what a container's own `/proc/PID/net/dev` holds.
pub(in super::super) fn traffic(text: &str) -> Option<Traffic> {
    let mut counted = interfaces(text).filter(|(name, _)| *name != "lo");
    let mut total = counted.next()?.1;
    for (_, other) in counted {
        total.add(&other);
    }
    Some(total)
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast | bytes packets errs drop …`, after two headings.
fn interfaces(text: &str) -> impl Iterator<Item = (&str, Traffic)> {
    text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let mut numbers = counters.split_ascii_whitespace().map(str::parse::<u64>);
        let mut at = |skipped: usize| numbers.nth(skipped)?.ok();
        let received_bytes = at(0)?;
        let received_packets = at(0)?;
        let received_dropped = at(1)?;
        let sent_bytes = at(4)?;
        let sent_packets = at(0)?;
        let sent_dropped = at(1)?;
        let traffic = Traffic {
            received_bytes,
            received_packets,
            sent_bytes,
            sent_packets,
            dropped: received_dropped + sent_dropped,
        };
        Some((name.trim(), traffic))
    })
}
