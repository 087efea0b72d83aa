//! `host`: the machine that this process runs on.
//!
//! Owns the sample; its parts are [`cpu`], [`disk`], [`network`], [`memory`] and [`tcp`], of which the last is the
//! generator's too. Inside a container it shows what the container is allowed to see of the machine. Called by the
//! driver.

pub(super) mod cpu;
mod disk;
mod memory;
pub(super) mod network;
pub(super) mod tcp;

use std::time::Duration;

use super::counter::Counter;
use super::files::{Files, pressure_some_micros};
use super::metric::Metric;
use super::roots::Roots;
use super::sample::Sample;
use super::{Error, Sampler};

/// Samples the machine.
#[derive(Debug)]
pub struct Host {
    roots: Roots,
    files: Files,
    cpu: cpu::CpuMeter,
    memory: memory::MemoryMeter,
    disk: disk::DiskMeter,
    network: network::NetworkMeter,
    tcp: tcp::TcpMeter,
    ports: tcp::PortMeter,
    pressure: [Counter; 3],
}

impl Host {
    /// Fails when `/proc/stat` cannot be read.
    pub fn new(roots: Roots) -> Result<Self, Error> {
        let mut files = Files::default();
        let path = roots.proc("stat");
        files.read(&path).map_err(Error::read(path))?;
        Ok(Self {
            roots,
            files,
            cpu: cpu::CpuMeter::default(),
            memory: memory::MemoryMeter::default(),
            disk: disk::DiskMeter::default(),
            network: network::NetworkMeter::default(),
            tcp: tcp::TcpMeter::default(),
            ports: tcp::PortMeter::default(),
            pressure: [Counter::default(); 3],
        })
    }
}

impl Sampler for Host {
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        let mut sample = Sample::default();
        let (roots, files) = (&self.roots, &mut self.files);
        let path = roots.proc("stat");
        let text = files.read(&path).map_err(Error::read(path))?;
        self.cpu.fill(&mut sample, text);
        self.memory.fill(&mut sample, now, roots, files);
        self.disk.fill(&mut sample, now, roots, files);
        self.network.fill(&mut sample, now, roots, files);
        self.tcp.fill(&mut sample, now, roots, files);
        self.ports.fill(&mut sample, roots, files);
        let metrics = [
            (Metric::CpuPressureRatio, "pressure/cpu"),
            (Metric::MemoryPressureRatio, "pressure/memory"),
            (Metric::IoPressureRatio, "pressure/io"),
        ];
        for (counter, (metric, name)) in self.pressure.iter_mut().zip(metrics) {
            let micros = files
                .read(&roots.proc(name))
                .ok()
                .and_then(pressure_some_micros);
            let step = counter.advance(now, micros, &mut false);
            sample.set(metric, step.map(|step| step.share_of_time(1e6)));
        }
        fill_totals(&mut sample, roots, files);
        Ok(sample)
    }
}

/// Descriptors and threads of the whole machine.
fn fill_totals(sample: &mut Sample, roots: &Roots, files: &mut Files) {
    if let Ok(text) = files.read(&roots.proc("sys/fs/file-nr")) {
        let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
        sample.set_count(Metric::OpenDescriptors, fields.next().and_then(Result::ok));
        sample.set_count(Metric::DescriptorLimit, fields.nth(1).and_then(Result::ok));
    }
    if let Ok(text) = files.read(&roots.proc("loadavg")) {
        let tasks = text
            .split_ascii_whitespace()
            .nth(3)
            .and_then(|field| field.split_once('/'));
        sample.set_count(Metric::Threads, tasks.and_then(|(_, all)| all.parse().ok()));
    }
}

#[cfg(test)]
mod tests;
