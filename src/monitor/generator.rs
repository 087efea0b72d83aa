//! The load generator itself: is it the target that gives out, or we?
//!
//! Owns the list of the generator's processes (this one and its forked children, given by number: a service that a
//! script starts is none of them) and how late the event loop is, which the caller measures. Each generator process
//! runs its workers on one thread: it is saturated when [`Metric::HottestThreadCores`] comes close to 1, whatever cores
//! are left. Always sampled by the driver.

use std::time::Duration;

use super::files::Files;
use super::host::tcp::PortMeter;
use super::metric::Metric;
use super::process::sampler::ProcessMeter;
use super::process::set::ProcessSet;
use super::roots::Roots;
use super::sample::{Event, Sample};
use super::{Error, Sampler};

/// Samples the processes of the generator.
#[derive(Debug)]
pub struct Generator {
    roots: Roots,
    files: Files,
    meter: ProcessMeter,
    ports: PortMeter,
    event_loop_lag: Option<Duration>,
    has_processes: bool,
}

impl Generator {
    /// Fails when there is no process of the first number; that is normally `std::process::id()`.
    pub fn new(pids: &[u32], roots: Roots) -> Result<Self, Error> {
        let mut meter = ProcessMeter::new(ProcessSet::new(false), roots.clone());
        for (position, pid) in pids.iter().enumerate() {
            if !meter.add_root(*pid) && position == 0 {
                return Err(Error::NoProcess { pid: *pid });
            }
        }
        Ok(Self {
            roots,
            files: Files::default(),
            meter,
            ports: PortMeter::default(),
            event_loop_lag: None,
            has_processes: !pids.is_empty(),
        })
    }

    /// The processes from now on. What those that are not listed any more used until they exited stays counted.
    pub fn set_processes(&mut self, pids: &[u32]) {
        self.meter.replace_roots(pids);
        self.has_processes |= !pids.is_empty();
    }

    /// How late the event loop was since the last sample. Used for one sample; without it that one has a gap.
    pub fn set_event_loop_lag(&mut self, lag: Duration) {
        self.event_loop_lag = Some(lag);
    }
}

impl Sampler for Generator {
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        let (mut sample, roots_alive) = self.meter.sample(now);
        let lag = self.event_loop_lag.take();
        sample.set(
            Metric::EventLoopLagSeconds,
            lag.map(|lag| lag.as_secs_f64()),
        );
        self.ports.fill(&mut sample, &self.roots, &mut self.files);
        if self.has_processes && roots_alive == 0 {
            self.has_processes = false;
            sample.events.push(Event::Exited);
        }
        Ok(sample)
    }
}

#[cfg(test)]
#[path = "generator_tests.rs"]
mod tests;
