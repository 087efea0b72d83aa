//! `port:8888`: whoever listens there, and all that descends from them.
//!
//! Owns the way from a port to the processes that hold its listening sockets. Several may: forked workers share one
//! socket, others bind the port each for themselves. When the sockets change or their holders are gone the search begins
//! anew: a service that restarted is followed to its new processes, one that only replaced a worker goes on as it was,
//! and one that closed its socket to finish what it has is sampled until it exits. Called by the driver.

use std::fs;
use std::time::Duration;

use super::files::Files;
use super::host::tcp::{self, Listener};
use super::metric::Metric;
use super::process::sampler::ProcessMeter;
use super::process::set::ProcessSet;
use super::roots::Roots;
use super::sample::{Event, Sample};
use super::{Error, Sampler};

/// Programs that hold a port for a container and only hand connections on.
const FORWARDERS: &[&str] = &[
    "docker-proxy",
    "rootlessport",
    "rootlesskit",
    "slirp4netns",
    "pasta",
];

/// Samples the processes that listen on a port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    roots: Roots,
    files: Files,
    meter: ProcessMeter,
    inodes: Vec<u64>,
    /// Whether the processes of the last search are still followed.
    is_found: bool,
}

impl Port {
    /// Fails when nothing listens, when the listener cannot be seen and when it only forwards to a container.
    pub fn new(port: u16, roots: Roots) -> Result<Self, Error> {
        let mut sampler = Self {
            number: port,
            meter: ProcessMeter::new(ProcessSet::new(true), roots.clone()),
            roots,
            files: Files::default(),
            inodes: Vec::new(),
            is_found: false,
        };
        let listeners = tcp::listeners(port, &sampler.roots, &mut sampler.files);
        sampler.follow(&listeners)?;
        Ok(sampler)
    }

    /// Takes the holders of the sockets as roots, and tells whether they are others than before.
    fn follow(&mut self, listeners: &[Listener]) -> Result<bool, Error> {
        if listeners.is_empty() {
            return Err(Error::NoListener { port: self.number });
        }
        self.inodes = inodes(listeners);
        let pids = holders(&self.inodes, &self.roots);
        if pids.is_empty() {
            return Err(Error::HiddenListener { port: self.number });
        }
        for pid in &pids {
            let name = self
                .files
                .read(&self.roots.of_process(*pid, "comm"))
                .unwrap_or_default()
                .trim();
            if FORWARDERS.contains(&name) {
                return Err(Error::Forwarder {
                    port: self.number,
                    process: name.to_owned(),
                });
            }
        }
        let are_others = !pids.iter().any(|pid| self.meter.contains(*pid));
        if are_others {
            self.meter.restart();
        }
        self.is_found = false;
        for pid in pids {
            self.is_found |= self.meter.add_root(pid);
        }
        if !self.is_found {
            return Err(Error::NoListener { port: self.number });
        }
        Ok(are_others)
    }
}

impl Sampler for Port {
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        let listeners = tcp::listeners(self.number, &self.roots, &mut self.files);
        let (mut sample, roots_alive) = self.meter.sample(now);
        // Sockets decide before processes: a service that reloads may open the port anew while old processes finish.
        let is_moved = !listeners.is_empty() && inodes(&listeners) != self.inodes;
        if is_moved || roots_alive == 0 {
            match self.follow(&listeners) {
                Ok(false) => {}
                Ok(true) => {
                    (sample, _) = self.meter.sample(now);
                    sample.events.push(Event::Restarted);
                }
                Err(error) => {
                    let was_found = std::mem::replace(&mut self.is_found, false);
                    self.meter.restart();
                    // Nothing listens at the moment, which is an exit and no fault of the monitor.
                    let Error::NoListener { .. } = error else {
                        return Err(error);
                    };
                    sample = Sample::default();
                    if was_found {
                        sample.events.push(Event::Exited);
                    }
                }
            }
        }
        if self.is_found && !listeners.is_empty() {
            let waiting = listeners.iter().map(|listener| listener.queue).sum::<u64>();
            sample.set_count(Metric::AcceptQueue, waiting);
        }
        Ok(sample)
    }
}

fn inodes(listeners: &[Listener]) -> Vec<u64> {
    let mut inodes: Vec<u64> = listeners.iter().map(|listener| listener.inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

/// The processes that have one of these sockets open. Reads every descriptor that we may see, so only when needed.
fn holders(inodes: &[u64], roots: &Roots) -> Vec<u32> {
    let names: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let Ok(listing) = fs::read_dir(&roots.proc) else {
        return Vec::new();
    };
    let pids = listing
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        fs::read_dir(roots.of_process(*pid, "fd")).is_ok_and(|descriptors| {
            descriptors.flatten().any(|descriptor| {
                fs::read_link(descriptor.path()).is_ok_and(|target| {
                    names.iter().any(|name| target.as_os_str() == name.as_str())
                })
            })
        })
    };
    let mut pids: Vec<u32> = pids.filter(holds).collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
