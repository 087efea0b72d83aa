//! `/proc/diskstats`: what the disks did.
//!
//! Owns which devices count (whole disks that are no stack of others and no memory) and the step from times to busy
//! share and queue length (Documentation/admin-guide/iostats.rst). A disk that serves many requests at once, as `NVMe`
//! does, may be busy all the time and still have room: the queue and the pressure tell. Called by the host sampler.

use std::fs;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::counter::Counter;
use super::super::files::Files;
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::Sample;

/// A sector of these counters, whatever the disk's own is.
const SECTOR_BYTES: u64 = 512;

/// The previous counters of each disk; `None` for devices that do not count.
#[derive(Debug, Default)]
pub(super) struct DiskMeter {
    disks: FxHashMap<String, Option<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    read: Counter,
    written: Counter,
    busy: Counter,
    queued: Counter,
}

impl DiskMeter {
    pub(super) fn fill(
        &mut self,
        sample: &mut Sample,
        now: Duration,
        roots: &Roots,
        files: &mut Files,
    ) {
        let Ok(text) = files.read(&roots.proc("diskstats")) else {
            return;
        };
        let mut totals: [Option<f64>; 2] = [None; 2];
        let mut most: [Option<f64>; 2] = [None; 2];
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace().skip(2);
            let Some(name) = fields.next() else {
                continue;
            };
            if !self.disks.contains_key(name) {
                let disk = is_disk(name, roots).then(Disk::default);
                self.disks.insert(name.to_owned(), disk);
            }
            let Some(Some(disk)) = self.disks.get_mut(name) else {
                continue;
            };
            // reads merged sectors ms | writes merged sectors ms | in flight, busy ms, ms times requests
            let numbers: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
            let bytes = |position| {
                numbers
                    .get(position)
                    .map(|sectors: &u64| sectors * SECTOR_BYTES)
            };
            let rates = [
                disk.read.rate(now, bytes(2)),
                disk.written.rate(now, bytes(6)),
            ];
            for (total, rate) in totals.iter_mut().zip(rates) {
                *total = rate.map(|rate| total.unwrap_or(0.0) + rate).or(*total);
            }
            let busy = disk.busy.advance(now, numbers.get(9).copied(), &mut false);
            let queued = disk.queued.rate(now, numbers.get(10).copied());
            let shares = [
                busy.map(|step| step.share_of_time(1e3)),
                queued.map(|millis| millis / 1e3),
            ];
            for (most, share) in most.iter_mut().zip(shares) {
                *most = share.map(|share| most.unwrap_or(0.0).max(share)).or(*most);
            }
        }
        let [read, written] = totals;
        let [busy, queue] = most;
        sample.set(Metric::DiskReadBytesPerSecond, read);
        sample.set(Metric::DiskWriteBytesPerSecond, written);
        sample.set(Metric::DiskBusyRatio, busy);
        sample.set(Metric::DiskQueue, queue);
    }
}

/// Partitions have no folder of their own there; a `/` in a name is written `!`.
fn is_disk(name: &str, roots: &Roots) -> bool {
    if ["loop", "ram", "zram", "sr", "fd"].iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }) {
        return false;
    }
    let folder = roots.sys.join("block").join(name.replace('/', "!"));
    let is_stacked =
        fs::read_dir(folder.join("slaves")).is_ok_and(|mut listing| listing.next().is_some());
    folder.is_dir() && !is_stacked
}
