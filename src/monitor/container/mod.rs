//! `container:NAME`: a container of Docker or Podman.
//!
//! Owns the choice of the way: the container's control group and network namespace on this machine, found by the pid
//! that the API tells (cheap, with throttling and pressure); else the API's statistics (Docker Desktop and other virtual
//! machines, rootless set-ups that hide the group). Owns its restarts: one run of a container is known by its id and the
//! time it started. [`api`] is the client, [`stats`] the fields. Called by the driver.

mod api;
mod stats;

use std::time::Duration;

use serde_json::Value;

use self::api::Api;
use self::stats::Inspection;
use super::cgroup::GroupMeter;
use super::cgroup::usage::UsageMeter;
use super::files::Files;
use super::host::network;
use super::process::stat::Stat;
use super::roots::Roots;
use super::sample::{Event, Sample};
use super::{Error, Sampler};

/// Samples a container.
#[derive(Debug)]
pub struct Container {
    name: String,
    roots: Roots,
    files: Files,
    api: Api,
    /// The run that is followed; `None` while the container does not run.
    run: Option<Run>,
    /// Counters of the API's statistics.
    usage: UsageMeter,
}

/// One run of the container.
#[derive(Debug)]
struct Run {
    inspection: Inspection,
    direct: Option<Direct>,
}

/// The way that does without the API.
#[derive(Debug)]
struct Direct {
    pid: u32,
    /// By which another process of this number is told from it.
    start_ticks: u64,
    group: GroupMeter,
}

impl Container {
    /// Fails without an API, without such a container, and when it does not run.
    pub fn new(name: &str, roots: Roots) -> Result<Self, Error> {
        let api = Api::find(name, &roots)?;
        let mut sampler = Self {
            name: name.to_owned(),
            roots,
            files: Files::default(),
            api,
            run: None,
            usage: UsageMeter::default(),
        };
        match sampler.inspect()? {
            None => Err(Error::NoContainer { name: sampler.name }),
            Some(inspection) if !inspection.is_running => {
                Err(Error::ContainerNotRunning { name: sampler.name })
            }
            Some(inspection) => {
                sampler.run = Some(sampler.follow(inspection));
                Ok(sampler)
            }
        }
    }

    /// `None` when there is no such container.
    fn inspect(&self) -> Result<Option<Inspection>, Error> {
        let path = format!("/containers/{}/json", self.name);
        let Some(value) = self.api.get(&path)? else {
            return Ok(None);
        };
        match Inspection::parse(&value) {
            Some(inspection) => Ok(Some(inspection)),
            None => Err(self
                .api
                .unexpected(&format!("no State.Running or Id in {path}"))),
        }
    }

    fn follow(&mut self, inspection: Inspection) -> Run {
        let direct = self.direct(&inspection);
        Run { inspection, direct }
    }

    /// The way on this machine. The pid may be one of a virtual machine's: only a group that carries the container's id
    /// is the container's.
    fn direct(&mut self, inspection: &Inspection) -> Option<Direct> {
        let pid = inspection.pid?;
        let text = self
            .files
            .read(&self.roots.of_process(pid, "cgroup"))
            .ok()?;
        if inspection.id.len() < 12 || !text.contains(&inspection.id) {
            return None;
        }
        Some(Direct {
            pid,
            start_ticks: self.start_ticks(pid)?,
            group: GroupMeter::of_process(pid, &self.roots)?,
        })
    }

    fn start_ticks(&mut self, pid: u32) -> Option<u64> {
        let stat = self
            .files
            .read(&self.roots.of_process(pid, "stat"))
            .ok()
            .and_then(Stat::parse)?;
        (!stat.is_dead).then_some(stat.start_ticks)
    }

    /// A sample without the API; `None` when that way does not lead there, or no more.
    fn sample_direct(&mut self, now: Duration) -> Option<Sample> {
        let (pid, start_ticks) = {
            let direct = self.run.as_ref()?.direct.as_ref()?;
            (direct.pid, direct.start_ticks)
        };
        if self.start_ticks(pid) != Some(start_ticks) {
            return None;
        }
        let text = self.files.read(&self.roots.of_process(pid, "net/dev")).ok();
        let traffic = text.and_then(network::traffic);
        let direct = self.run.as_mut()?.direct.as_mut()?;
        Some(
            direct
                .group
                .sample_with(now, |usage| usage.network = traffic),
        )
    }

    fn sample_by_api(&mut self, now: Duration) -> Result<Sample, Error> {
        let Some(run) = &self.run else {
            return Ok(Sample::default());
        };
        let value = self.statistics()?;
        let usage = value
            .as_ref()
            .map(|value| stats::usage(value, &run.inspection));
        Ok(usage
            .map(|usage| self.usage.sample(now, &usage))
            .unwrap_or_default())
    }

    /// One-shot statistics, since without it Docker waits a second or two for a second reading.
    fn statistics(&self) -> Result<Option<Value>, Error> {
        self.api.get(&format!(
            "/containers/{}/stats?stream=false&one-shot=true",
            self.name
        ))
    }
}

impl Sampler for Container {
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        if let Some(sample) = self.sample_direct(now) {
            return Ok(sample);
        }
        let inspection = self.inspect()?.filter(|inspection| inspection.is_running);
        let Some(inspection) = inspection else {
            let mut sample = Sample::default();
            if self.run.take().is_some() {
                sample.events.push(Event::Exited);
            }
            return Ok(sample);
        };
        let is_same = self.run.as_ref().is_some_and(|run| {
            run.inspection.id == inspection.id && run.inspection.started_at == inspection.started_at
        });
        if !is_same {
            self.usage.restart();
            self.run = Some(self.follow(inspection));
        } else if let Some(run) = &mut self.run {
            // Limits may have been changed; the direct way has failed for this run.
            run.inspection = inspection;
            run.direct = None;
        }
        let mut sample = match self.sample_direct(now) {
            Some(sample) => sample,
            None => self.sample_by_api(now)?,
        };
        if !is_same {
            sample.events.push(Event::Restarted);
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests;
