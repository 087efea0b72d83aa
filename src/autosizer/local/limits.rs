//! Limiting a local service, and measuring exactly it.
//!
//! Owns a control group of the run's own (version 1 or 2) where this user may make one, and the scope that systemd makes
//! where not. Limits are read back: one that is not kept is an error, never a label. A group without limits is made too
//! when that is allowed, because it counts what a process tree cannot: children that have come and gone. Called by the
//! local target.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::failure::Failure;
use super::super::target::Limits;

const ROOT: &str = "/sys/fs/cgroup";
/// The period of CPU quotas, the kernel's default.
const PERIOD_MICROSECONDS: u64 = 100_000;
/// The kernel takes no smaller quota.
const SMALLEST_QUOTA_MICROSECONDS: u64 = 1000;
const CONTROLLERS_ONE: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];
const GONE_WITHIN: Duration = Duration::from_secs(3);

/// How a service is held to its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Limiter {
    /// Not at all.
    None,
    /// By a control group.
    Group(Group),
    /// By a scope that `systemd-run` makes; its unit's name.
    Systemd(String),
}

/// A control group of the run's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Its path below the root of each hierarchy, as `--monitor cgroup:` takes it.
    pub(super) path: String,
    /// Its folders: one in version 2, one for each controller in version 1.
    pub(super) folders: Vec<PathBuf>,
    is_two: bool,
}

/// Where a group of this name would be, best first; nothing is made yet.
fn candidates(name: &str) -> Vec<Group> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        // Delegated to this user beside its own group, or below the root for the superuser.
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let beside = own.and_then(|own| Path::new(own).parent().map(Path::to_owned));
        let mut parents: Vec<PathBuf> = beside.into_iter().collect();
        parents.push(PathBuf::from("/"));
        return parents
            .into_iter()
            .map(|parent| {
                let path = parent.join(name);
                let below = path.strip_prefix("/").unwrap_or(&path);
                Group {
                    folders: vec![root.join(below)],
                    path: path.display().to_string(),
                    is_two: true,
                }
            })
            .collect();
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for controller in CONTROLLERS_ONE {
        // `cpu` and `cpuacct` may be links to one hierarchy.
        if let Ok(mount) = fs::canonicalize(root.join(controller)) {
            let folder = mount.join(name);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    if folders.is_empty() {
        return Vec::new();
    }
    vec![Group {
        path: format!("/{name}"),
        folders,
        is_two: false,
    }]
}

/// Makes a group, or else tells why not. `plan` is called before anything is made.
pub(super) fn limit(
    name: &str,
    limits: &Limits,
    mut plan: impl FnMut(&Group) -> io::Result<()>,
) -> Result<Limiter, Failure> {
    let unlimited = *limits == Limits::default();
    let mut why = "there are no control groups here".to_owned();
    for group in candidates(name) {
        plan(&group).map_err(|error| {
            Failure::target(format!("cannot write the ledger: {error}"))
                .advise("make room on the disk, or set XDG_STATE_HOME to another one")
        })?;
        match group.make(limits) {
            Ok(()) => return Ok(Limiter::Group(group)),
            Err(reason) => {
                group.remove_now();
                why = reason;
            }
        }
    }
    if unlimited {
        return Ok(Limiter::None);
    }
    if Path::new("/run/systemd/system").exists()
        && super::program::find("systemd-run", None).is_ok()
    {
        return Ok(Limiter::Systemd(name.to_owned()));
    }
    Err(
        Failure::configuration(format!("--cpus and --memory cannot be kept here: {why}"))
            .advise("run it as root, use --on container, or leave the limits out"),
    )
}

impl Group {
    /// Makes the folders and sets the limits; the reason when that is not possible.
    fn make(&self, limits: &Limits) -> Result<(), String> {
        for folder in &self.folders {
            if self.is_two {
                self.enable(folder);
            }
            fs::create_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        if let Some(cpus) = limits.cpus {
            let quota = quota(cpus);
            if self.is_two {
                self.set("cpu.max", &format!("{quota} {PERIOD_MICROSECONDS}"))?;
            } else {
                self.set("cpu.cfs_period_us", &PERIOD_MICROSECONDS.to_string())?;
                self.set("cpu.cfs_quota_us", &quota.to_string())?;
            }
        }
        if let Some(bytes) = limits.memory_bytes {
            // The kernel counts in pages.
            let bytes = (bytes / 4096 * 4096).to_string();
            if self.is_two {
                self.set("memory.max", &bytes)?;
                // Otherwise the limit would move the service to the swap instead of showing what it needs.
                let _ = self.set("memory.swap.max", "0");
            } else {
                self.set("memory.limit_in_bytes", &bytes)?;
                let _ = self.set("memory.memsw.limit_in_bytes", &bytes);
            }
        }
        Ok(())
    }

    /// Lets the parent hand its controllers on; where it cannot, setting the limit fails and says so.
    fn enable(&self, folder: &Path) {
        if let Some(parent) = folder.parent() {
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory");
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+io +pids");
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), String> {
        let mut reason = format!("no controller has {file}");
        for folder in &self.folders {
            let path = folder.join(file);
            if !path.exists() {
                continue;
            }
            match fs::write(&path, value).and_then(|()| fs::read_to_string(&path)) {
                Ok(read) if read.trim() == value => return Ok(()),
                Ok(read) => {
                    reason = format!(
                        "{} became {} instead of {value}",
                        path.display(),
                        read.trim()
                    );
                }
                Err(error) => reason = format!("{}: {error}", path.display()),
            }
        }
        Err(reason)
    }

    /// How many of its processes the kernel has killed for lack of memory.
    pub(super) fn kills(&self) -> u64 {
        let files = self.folders.iter().flat_map(|folder| {
            [
                folder.join("memory.events"),
                folder.join("memory.oom_control"),
            ]
        });
        files
            .filter_map(|file| fs::read_to_string(file).ok())
            .filter_map(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
                line.and_then(|count| count.trim().parse::<u64>().ok())
            })
            .sum()
    }

    fn remove_now(&self) {
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Removes a group's folders once its processes are gone; the first that stays.
pub(in super::super) async fn remove(folders: &[PathBuf]) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let mut left = None;
        for folder in folders {
            match fs::remove_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    left = Some(format!("cannot remove {}: {error}", folder.display()));
                }
                _ => {}
            }
        }
        match left {
            None => return Ok(()),
            Some(what) if began.elapsed() > GONE_WITHIN => return Err(Failure::target(what)),
            // The kernel takes a moment to notice that the last process has gone.
            Some(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

impl Limiter {
    /// The command that starts `command` within the limits.
    pub(super) fn wrap(&self, limits: &Limits, command: &[String]) -> Vec<String> {
        let mut whole: Vec<String> = Vec::new();
        match self {
            Self::None => {}
            Self::Group(group) => {
                // The shell joins the group and then becomes the program: nothing of it ever runs outside. The words of
                // the command are arguments, never text of the script.
                whole.extend(["/bin/sh", "-c", JOIN, "autosizer"].map(str::to_owned));
                whole.push(group.folders.len().to_string());
                let files = group
                    .folders
                    .iter()
                    .map(|folder| folder.join("cgroup.procs"));
                whole.extend(files.map(|file| file.display().to_string()));
            }
            Self::Systemd(unit) => {
                whole.push("systemd-run".to_owned());
                if !rustix::process::geteuid().is_root() {
                    whole.push("--user".to_owned());
                }
                whole.extend(["--scope", "--quiet", "--collect"].map(str::to_owned));
                whole.push(format!("--unit={unit}"));
                if let Some(cpus) = limits.cpus {
                    whole.push(format!("--property=CPUQuota={:.2}%", cpus * 100.0));
                }
                if let Some(bytes) = limits.memory_bytes {
                    whole.push(format!("--property=MemoryMax={bytes}"));
                    whole.push("--property=MemorySwapMax=0".to_owned());
                }
                whole.push("--".to_owned());
            }
        }
        whole.extend_from_slice(command);
        whole
    }

    /// Whether the process of `systemd-run` is where its limits hold; the group then. For the other ways it was checked
    /// when the group was made.
    pub(super) async fn settle(
        &self,
        pid: u32,
        limits: &Limits,
    ) -> Result<Option<String>, Failure> {
        let unit = match self {
            Self::None => return Ok(None),
            Self::Group(group) => return Ok(Some(group.path.clone())),
            Self::Systemd(unit) => format!("/{unit}.scope"),
        };
        let began = Instant::now();
        let path = loop {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
            if let Some(path) = paths.into_iter().find(|path| path.ends_with(&unit)) {
                break path.to_owned();
            }
            if began.elapsed() > GONE_WITHIN {
                return Err(Failure::target(
                    "systemd-run did not put the service into a scope of its own",
                )
                .advise("run it as root, use --on container, or leave the limits out"));
            }
            sleep(Duration::from_millis(20)).await;
        };
        let folder = Path::new(ROOT).join(path.trim_start_matches('/'));
        let kept = |file: &str, wanted: bool| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            !wanted || (!text.is_empty() && !text.starts_with("max"))
        };
        if !kept("cpu.max", limits.cpus.is_some())
            || !kept("memory.max", limits.memory_bytes.is_some())
        {
            return Err(Failure::target(
                "systemd did not set the limits: its user manager may not control them",
            )
            .advise("run it as root, use --on container, or leave the limits out"));
        }
        Ok(Some(path))
    }

    /// In words, for the report.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Group(group) if group.is_two => "control group, version 2",
            Self::Group(_) => "control group, version 1",
            Self::Systemd(_) => "systemd scope",
        }
    }
}

/// Writes its own pid into the first N arguments, then becomes the rest.
const JOIN: &str = "n=$1; shift; while [ \"$n\" -gt 0 ]; do echo $$ > \"$1\" || exit 125; shift; n=$((n-1)); done; exec \"$@\"";

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be positive and below a million cores when it was read"
)]
fn quota(cpus: f64) -> u64 {
    ((cpus * PERIOD_MICROSECONDS as f64).round() as u64).max(SMALLEST_QUOTA_MICROSECONDS)
}
