//! `local`: the service is a process tree on this machine.
//!
//! Owns its start from an argument vector (no shell reads it), its log, its exit code, and ending all of it. Limits are
//! those of [`limits`]; which processes belong to it tells [`tree`]. The load's own monitor measures it: its control group
//! where it has one, else its process tree. Called by the flow.

mod limits;
mod program;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use self::limits::Limiter;
use self::tree::Belonging;
use super::failure::Failure;
use super::ledger::Thing;
use super::run::Run;
use super::target::{Address, Collector, Ended, Metrics, ServiceState, Target, kills_so_far};
use crate::monitor::Source;

/// The end of a log that is looked at for its last lines.
const LOG_BYTES: u64 = 64 * 1024;

/// A process tree on this machine.
pub struct Local {
    /// Where its log goes unless the user named a file.
    folder: PathBuf,
    program: PathBuf,
    limiter: Limiter,
    child: Option<Child>,
    ended: Option<Ended>,
    belonging: Belonging,
    group: Option<String>,
    /// What the load's monitor watches, as `--monitor` names it.
    measured_by: String,
    /// Kills for lack of memory on this machine before it was started.
    kills: Option<u64>,
}

impl Local {
    /// `folder` is the run's own, for the log; it is not removed here.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            program: PathBuf::new(),
            limiter: Limiter::None,
            child: None,
            ended: None,
            belonging: Belonging::default(),
            group: None,
            measured_by: String::new(),
            kills: None,
        }
    }

    fn log_path(&self, run: &Run) -> PathBuf {
        let given = run.service.log_file.clone();
        given.unwrap_or_else(|| self.folder.join("service.log"))
    }

    fn note_end(&mut self) -> io::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        if let Some(status) = child.try_wait()? {
            let in_group = match &self.limiter {
                Limiter::Group(group) => group.kills() > 0,
                // Somebody else may have been killed at the same time; that this one was is the likelier.
                Limiter::None | Limiter::Systemd(_) => {
                    status.signal() == Some(Signal::KILL.as_raw()) && kills_so_far() > self.kills
                }
            };
            self.ended = Some(Ended {
                exit_code: status.code(),
                signal: status.signal(),
                out_of_memory: in_group,
                disk_full: false,
            });
        }
        Ok(())
    }
}

/// Fails when somebody listens on the port already: the load would go to that service.
fn check_port(port: u16) -> Result<(), Failure> {
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        // Bound and closed at once, never connected to: nothing of it lingers.
        if let Err(error) = TcpListener::bind(SocketAddr::from((address, port))) {
            let what = match error.kind() {
                io::ErrorKind::AddrInUse => format!("port {port} is taken"),
                io::ErrorKind::PermissionDenied => return Ok(()),
                _ => format!("port {port} cannot be used: {error}"),
            };
            return Err(Failure::configuration(what).advise(format!(
                "stop what listens there (`ss -ltnp 'sport = :{port}'` names it), or choose another --port"
            )));
        }
    }
    Ok(())
}

impl Target for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn prepare(&mut self, run: &Run) -> Result<(), Failure> {
        let service = &run.service;
        let Some(name) = service.command.first() else {
            return Err(Failure::configuration("nothing to start").advise(
                "--command 'PROGRAM ARGUMENTS' says what, or --on container --image NAME",
            ));
        };
        if let Some(directory) = &service.directory
            && !directory.is_dir()
        {
            let what = format!("there is no directory {}", directory.display());
            return Err(Failure::configuration(what).advise("check --directory"));
        }
        self.program = program::find(name, service.directory.as_deref())?;
        check_port(service.port)?;
        self.belonging.mark.clone_from(&run.id);
        self.limiter = limits::limit(&format!("molotov-{}", run.id), &service.limits, |group| {
            let folders: Vec<String> = group
                .folders
                .iter()
                .map(|f| f.display().to_string())
                .collect();
            run.ledger.plan(Thing::new("cgroup", folders.join(":")))
        })?;
        if let Limiter::Group(group) = &self.limiter {
            self.belonging.groups.clone_from(&group.folders);
        }
        Ok(())
    }

    async fn start(&mut self, run: &Run) -> Result<(), Failure> {
        let service = &run.service;
        let shown = service.command.join(" ");
        let step = run.steps.begin("start", &format!("Starting {shown}"));
        let path = self.log_path(run);
        let cannot_log = |error: io::Error| {
            Failure::target(format!(
                "cannot write the service's log {}: {error}",
                path.display()
            ))
        };
        let log = File::create(&path).map_err(cannot_log)?;
        let second = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(cannot_log)?;
        let mut command = self.limiter.wrap(&service.limits, &service.command);
        if self.limiter == Limiter::None {
            command.splice(..1, [self.program.display().to_string()]);
        }
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| Failure::configuration("nothing to start"))?;
        run.ledger
            .plan(Thing::new("process", run.id.clone()))
            .map_err(|error| Failure::target(format!("cannot write the ledger: {error}")))?;
        self.kills = kills_so_far();
        tree::adopt_orphans(true);
        self.belonging.before = Some(tree::descendants());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(&service.environment)
            .env(tree::MARK, &run.id)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            // Ctrl-C on the terminal is for the load, which then prints its result; the service is ended after it.
            .process_group(0);
        if let Some(directory) = &service.directory {
            command.current_dir(directory);
        }
        let child = command.spawn().map_err(|error| {
            Failure::service(format!("cannot start {}: {error}", self.program.display()))
        })?;
        let pid = child.id();
        self.child = Some(child);
        self.group = self.limiter.settle(pid, &service.limits).await?;
        step.done(&format!("Started as process {pid}"));
        Ok(())
    }

    async fn address(&mut self, run: &Run) -> Result<Address, Failure> {
        Ok(Address {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: run.service.port,
        })
    }

    async fn state(&mut self, _run: &Run) -> Result<ServiceState, Failure> {
        self.note_end().map_err(|error| {
            Failure::target(format!("cannot ask for the service's exit code: {error}"))
        })?;
        let Some(ended) = &self.ended else {
            return Ok(match self.child {
                Some(_) => ServiceState::Running,
                None => ServiceState::NotStarted,
            });
        };
        // A command that puts itself into the background ends well, and its children go on.
        let goes_on = ended.exit_code == Some(0) && !self.belonging.processes().is_empty();
        if goes_on {
            return Ok(ServiceState::Running);
        }
        Ok(ServiceState::Ended(ended.clone()))
    }

    async fn log(&mut self, run: &Run, lines: usize) -> Result<Vec<String>, Failure> {
        let path = self.log_path(run);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read()
            .map_err(|error| Failure::target(format!("cannot read {}: {error}", path.display())))?;
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        let last = all
            .get(all.len().saturating_sub(lines)..)
            .unwrap_or_default();
        Ok(last.iter().map(|line| run.steps.hide(line)).collect())
    }

    async fn start_collector(&mut self, run: &Run) -> Result<Collector, Failure> {
        let source = match (&self.group, &self.child) {
            (Some(path), _) => Source::ControlGroup(path.clone()),
            // The first process of a service that put itself into the background is gone.
            (None, Some(child)) if self.ended.is_none() => Source::Process(child.id()),
            (None, _) => Source::Port(run.service.port),
        };
        self.measured_by = source.to_string();
        Ok(Collector::Load(source))
    }

    async fn stop_collector(&mut self, _run: &Run) -> Result<Metrics, Failure> {
        Ok(Metrics::default())
    }

    async fn clean_up(&mut self, run: &Run) -> Result<(), Failure> {
        let mut result = Ok(());
        if self.child.is_some() {
            let step = run.steps.begin("stop", "Stopping the service");
            let left = self.belonging.end().await;
            // Takes the exit code, so that no zombie is left.
            let _ = self.note_end();
            if left.is_empty() {
                step.done("Stopped");
            } else {
                step.failed("Not everything stopped");
                result = Err(still_there(&left));
            }
        }
        if result.is_ok() {
            run.ledger.removed("process", &run.id);
            self.child = None;
        }
        for thing in run.ledger.things() {
            if thing.kind == "cgroup" {
                match remove_group(&thing).await {
                    Ok(()) => run.ledger.removed("cgroup", &thing.name),
                    Err(failure) => result = result.and(Err(failure)),
                }
            }
        }
        tree::adopt_orphans(false);
        result
    }

    fn facts(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("program".to_owned(), self.program.display().to_string()),
            ("limits_kept_by".to_owned(), self.limiter.words().to_owned()),
            ("measured_by".to_owned(), self.measured_by.clone()),
        ])
    }
}

fn still_there(pids: &BTreeSet<u32>) -> Failure {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    Failure::target(format!("these processes do not end: {}", pids.join(", ")))
        .advise("they hang in the kernel, or belong to somebody else")
}

async fn remove_group(thing: &Thing) -> Result<(), Failure> {
    let folders: Vec<PathBuf> = thing.name.split(':').map(PathBuf::from).collect();
    limits::remove(&folders).await
}

/// Removes what a crashed run has left of a local service: `process`, `cgroup` or `folder`; `None` for other things.
pub(super) async fn remove(thing: &Thing) -> Option<Result<(), Failure>> {
    match thing.kind.as_str() {
        "process" => {
            let belonging = Belonging {
                mark: thing.name.clone(),
                ..Belonging::default()
            };
            let left = belonging.end().await;
            Some(if left.is_empty() {
                Ok(())
            } else {
                Err(still_there(&left))
            })
        }
        "cgroup" => {
            let belonging = Belonging {
                // No run has this name: only the group counts.
                mark: "\n".to_owned(),
                groups: thing.name.split(':').map(PathBuf::from).collect(),
                before: None,
            };
            belonging.end().await;
            Some(remove_group(thing).await)
        }
        "folder" => Some(match fs::remove_dir_all(&thing.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::target(format!(
                "cannot remove {}: {error}",
                thing.name
            ))),
            _ => Ok(()),
        }),
        _ => None,
    }
}
