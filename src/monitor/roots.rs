//! Where the kernel's files and the container API are.
//!
//! Owns the paths, so that every sampler runs on a tree of fixtures as well as on the machine. Made once by the caller
//! and handed to every sampler.

use std::env;
use std::path::{Path, PathBuf};

/// Paths and constants of the machine to look at.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// Sockets at which a container API may answer, best first. `DOCKER_HOST` goes before them.
    pub container_sockets: Vec<PathBuf>,
    /// The value of `DOCKER_HOST`, where it is set and not empty.
    pub docker_host: Option<String>,
    /// Units of `/proc/PID/stat` per second; 100 on nearly every machine.
    pub clock_ticks_per_second: u64,
    /// Unit of resident sets and swap counters.
    pub page_bytes: u64,
}

impl Roots {
    /// This machine's, with `DOCKER_HOST` and `XDG_RUNTIME_DIR` as the environment has them.
    pub fn system() -> Self {
        let set = |name| {
            env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let mut container_sockets = vec![PathBuf::from("/var/run/docker.sock")];
        if let Some(folder) = set("XDG_RUNTIME_DIR") {
            container_sockets.push(Path::new(&folder).join("podman/podman.sock"));
        }
        container_sockets.push(PathBuf::from("/run/podman/podman.sock"));
        Self {
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            cgroup: PathBuf::from("/sys/fs/cgroup"),
            container_sockets,
            docker_host: set("DOCKER_HOST"),
            clock_ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// A file below `/proc`.
    pub(super) fn proc(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    /// A file below `/proc/PID`.
    pub(super) fn of_process(&self, pid: u32, path: &str) -> PathBuf {
        let mut whole = self.proc.join(pid.to_string());
        whole.push(path);
        whole
    }
}
