//! `cgroup:PATH`: a control group with the groups below it.
//!
//! Owns the group's coming and going (a folder that was removed and made again is another group) and the search for its
//! busiest thread. Called by the driver; `container` uses [`GroupMeter`].

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::files::Files;
use super::super::metric::Metric;
use super::super::process::threads::ThreadMeter;
use super::super::roots::Roots;
use super::super::sample::{Event, Sample};
use super::super::{Error, Sampler};
use super::hierarchy::{Group, Hierarchy};
use super::usage::{Usage, UsageMeter};
use super::{v1, v2};

/// Samples a control group.
#[derive(Debug)]
pub struct ControlGroup {
    path: String,
    hierarchy: Hierarchy,
    meter: GroupMeter,
}

impl ControlGroup {
    /// Fails when there is no such group. The path is one below the root or in the file system.
    pub fn new(path: &str, roots: Roots) -> Result<Self, Error> {
        let hierarchy = Hierarchy::detect(&roots.cgroup);
        let Some(group) = hierarchy.group(path) else {
            return Err(Error::NoGroup {
                path: path.to_owned(),
                root: roots.cgroup,
            });
        };
        Ok(Self {
            path: path.to_owned(),
            hierarchy,
            meter: GroupMeter::new(group, roots),
        })
    }
}

impl Sampler for ControlGroup {
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        if !self.meter.exists()
            && let Some(group) = self.hierarchy.group(&self.path)
        {
            self.meter.group = group;
        }
        Ok(self.meter.sample(now))
    }
}

/// A group and its counters.
#[derive(Debug)]
pub(in super::super) struct GroupMeter {
    roots: Roots,
    files: Files,
    group: Group,
    /// Number of the group's folder, by which one made again is told from the old one.
    identity: Option<u64>,
    is_gone: bool,
    usage: UsageMeter,
    threads: ThreadMeter,
}

impl GroupMeter {
    pub(super) fn new(group: Group, roots: Roots) -> Self {
        let mut meter = Self {
            roots,
            files: Files::default(),
            group,
            identity: None,
            is_gone: false,
            usage: UsageMeter::default(),
            threads: ThreadMeter::default(),
        };
        meter.identity = meter.read_identity();
        meter
    }

    /// The meter of the group a process is in; `None` where its folder cannot be seen.
    pub(in super::super) fn of_process(pid: u32, roots: &Roots) -> Option<Self> {
        let hierarchy = Hierarchy::detect(&roots.cgroup);
        let group = hierarchy.group_of(pid, roots, &mut Files::default())?;
        Some(Self::new(group, roots.clone()))
    }

    fn read_identity(&self) -> Option<u64> {
        let metadata = fs::metadata(&self.group.main_folder()?.path).ok()?;
        Some(metadata.ino())
    }

    fn exists(&self) -> bool {
        self.read_identity().is_some()
    }

    pub(in super::super) fn sample(&mut self, now: Duration) -> Sample {
        self.sample_with(now, |_| {})
    }

    /// A sample of a reading to which `add` adds what the group's files do not tell.
    pub(in super::super) fn sample_with(
        &mut self,
        now: Duration,
        add: impl FnOnce(&mut Usage),
    ) -> Sample {
        let identity = self.read_identity();
        if identity.is_none() {
            let mut sample = Sample::default();
            if !self.is_gone {
                self.is_gone = true;
                sample.events.push(Event::Exited);
            }
            return sample;
        }
        let is_another = self.is_gone || identity != self.identity;
        if is_another {
            self.usage.restart();
            self.threads = ThreadMeter::default();
        }
        self.is_gone = false;
        self.identity = identity;
        let mut usage = match &self.group {
            Group::Two(folder) => v2::read(folder, &self.roots, &mut self.files),
            group @ Group::One { .. } => v1::read(group, &self.roots, &mut self.files),
        };
        add(&mut usage);
        let mut sample = self.usage.sample(now, &usage);
        if is_another {
            sample.events.push(Event::Restarted);
        }
        let pids = self.pids();
        sample.set_count(
            Metric::Processes,
            pids.as_ref().map(|pids| pids.len() as u64),
        );
        let pids = pids.unwrap_or_default();
        let thread_use = self
            .threads
            .observe(now, &self.roots, &mut self.files, pids.into_iter());
        thread_use.fill(&mut sample);
        sample
    }

    /// The processes in the group and the groups below.
    fn pids(&mut self) -> Option<Vec<u32>> {
        let mut pids = Vec::new();
        let mut folders: Vec<PathBuf> = vec![self.group.main_folder()?.path.clone()];
        let mut is_listed = false;
        while let Some(folder) = folders.pop() {
            if let Ok(text) = self.files.read(&folder.join("cgroup.procs")) {
                is_listed = true;
                // 0 stands for a process that our pid namespace does not have.
                pids.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<u32>().ok())
                        .filter(|pid| *pid > 0),
                );
            }
            folders.extend(folders_in(&folder));
        }
        is_listed.then_some(pids)
    }
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let folders = listing
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}
