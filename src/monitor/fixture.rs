//! Trees of files for tests: a `/proc`, `/sys` and control groups as the test wants them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::roots::Roots;

/// A folder of its own, removed at the end.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root =
            std::env::temp_dir().join(format!("molotov-monitor-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes files, given by path and text, with the folders above them.
    pub(super) fn write(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// Roots in this tree: `proc`, `sys`, `cgroup` and a socket `api.sock`.
    pub(super) fn roots(&self) -> Roots {
        Roots {
            proc: self.path("proc"),
            sys: self.path("sys"),
            cgroup: self.path("cgroup"),
            container_sockets: vec![self.path("api.sock")],
            docker_host: None,
            clock_ticks_per_second: 100,
            page_bytes: 4096,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

/// A line of `/proc/PID/stat`.
pub(super) struct Line {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) state: char,
    pub(super) own: u64,
    pub(super) reaped: u64,
    pub(super) threads: u64,
    pub(super) start: u64,
    pub(super) resident: u64,
}

impl Line {
    pub(super) const fn new(pid: u32, parent: u32, own: u64, reaped: u64) -> Self {
        Self {
            pid,
            parent,
            state: 'S',
            own,
            reaped,
            threads: 1,
            start: 1000,
            resident: 10,
        }
    }

    pub(super) fn text(&self) -> String {
        let Self {
            pid,
            parent,
            state,
            own,
            reaped,
            threads,
            start,
            resident,
        } = self;
        let user = own / 2;
        let system = own - user;
        format!(
            "{pid} (a process) {state} {parent} 1 1 0 -1 4194304 1 2 3 4 {user} {system} {reaped} 0 20 0 {threads} 0 \
             {start} 1000000 {resident} 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
    }
}
