//! What a place to run the service has to offer, and the service's description.
//!
//! Owns the trait with the steps of a run in their order, and the types that they share. The flow calls the steps, one at
//! a time, on one thread:
//!
//! `prepare` → `start` → `address` → (probe) → `start_collector` → (load) → `stop_collector` → `clean_up`
//!
//! Rules for every implementation:
//!
//! - **Ledger first**: `run.ledger.plan(…)` before a thing is made, so that `autosizer gc` finishes what a crash left.
//! - **Cancellation**: the flow drops the future of any step but `clean_up` when the user asks to stop. Hold no promise
//!   that only the rest of the future keeps. `clean_up` is never dropped, except by a third request to stop while it runs.
//! - **`clean_up` is idempotent**, works after any prefix of the other steps, and tries everything before it returns the
//!   first failure.
//! - **Steps name themselves**: `run.steps.begin("pull", "Pulling kinto/kinto-server")`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::run::Run;
use crate::monitor::{Sample, Source};

/// What is to be sized.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// The program and its arguments. For a container, what replaces its command; empty keeps it.
    pub command: Vec<String>,
    /// The container image, where there is one.
    pub image: Option<String>,
    /// Variables set for it, on top of what it would have anyway. Their values are secrets.
    pub environment: BTreeMap<String, String>,
    /// Where a command runs; `None` is here (or the image's own directory).
    pub directory: Option<PathBuf>,
    /// The TCP port that it listens on.
    pub port: u16,
    /// The path that answers when it is ready.
    pub ready_path: String,
    /// How long it may take to answer after its start.
    pub ready_timeout: Duration,
    /// Where a copy of its log goes, for the user.
    pub log_file: Option<PathBuf>,
    /// What it may use.
    pub limits: Limits,
}

/// What the service may use; `None` is as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// CPU time per elapsed time: 0.5 is half a core.
    pub cpus: Option<f64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

/// Where the load generator reaches the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port, which may differ from the service's own.
    pub port: u16,
}

impl Address {
    /// `http://HOST:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        if self.host.contains(':') {
            return format!("http://[{}]:{}", self.host, self.port);
        }
        format!("http://{}:{}", self.host, self.port)
    }
}

/// Whether the service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceState {
    /// It was not started.
    NotStarted,
    /// It runs.
    Running,
    /// It has ended.
    Ended(Ended),
}

/// How the service ended, as far as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel ended it, or one of its processes, for lack of memory.
    pub out_of_memory: bool,
    /// Whether the disk of its machine was full then.
    pub disk_full: bool,
}

impl Ended {
    /// In words, to follow "the service".
    pub fn words(&self) -> String {
        let how = match (self.exit_code, self.signal) {
            (_, Some(signal)) => format!("was ended by signal {signal}"),
            (Some(code), None) => format!("ended with exit code {code}"),
            (None, None) => "ended".to_owned(),
        };
        match (self.out_of_memory, self.disk_full) {
            (true, _) => format!("{how}, out of memory"),
            (false, true) => format!("{how}, with its disk full"),
            (false, false) => how,
        }
    }
}

/// Processes that this machine's kernel has killed for lack of memory since it booted; `None` where it does not count them
/// (before Linux 4.13).
pub(super) fn kills_so_far() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/vmstat").ok()?;
    let line = counters
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    line?.trim().parse().ok()
}

/// Who measures what the service uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collector {
    /// The load's own monitor, on this machine: the source to hand it.
    Load(Source),
    /// One that the target has started and will bring the values of by [`Target::stop_collector`].
    Remote,
    /// Nobody; the reason.
    None(String),
}

/// What a collector brought home: one series per thing watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Empty where the load's monitor measured.
    pub watched: Vec<Watched>,
    /// What was odd about them (cut off, gaps, a restart), one line each.
    pub notes: Vec<String>,
}

/// The samples of one thing, on the clock of the load generator.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// The name of the series, such as `service` or `host`.
    pub label: String,
    /// Seconds since 1970 and the sample, in order.
    pub samples: Vec<(f64, Sample)>,
}

/// A place to run the service.
#[expect(
    async_fn_in_trait,
    reason = "the flow runs its futures on one thread and needs no Send"
)]
pub trait Target {
    /// `local`, `container` or `ssm`.
    fn name(&self) -> &'static str;

    /// Makes everything ready that does not run the service yet: checks, pulls an image, launches an instance.
    async fn prepare(&mut self, run: &Run) -> Result<(), Failure>;

    /// Starts the service. Does not wait until it answers.
    async fn start(&mut self, run: &Run) -> Result<(), Failure>;

    /// Where the load generator reaches it; called after `start`.
    async fn address(&mut self, run: &Run) -> Result<Address, Failure>;

    /// Whether it runs; called often while the flow waits, so it should be cheap or throttle itself.
    async fn state(&mut self, run: &Run) -> Result<ServiceState, Failure>;

    /// The last `lines` lines of its log, oldest first; empty when there is none.
    async fn log(&mut self, run: &Run, lines: usize) -> Result<Vec<String>, Failure>;

    /// Starts to measure what it uses.
    async fn start_collector(&mut self, run: &Run) -> Result<Collector, Failure>;

    /// Stops measuring and brings home what there is, also after the service has ended or the load was interrupted.
    async fn stop_collector(&mut self, run: &Run) -> Result<Metrics, Failure>;

    /// Removes everything that was made; see the rules of the module.
    async fn clean_up(&mut self, run: &Run) -> Result<(), Failure>;

    /// Facts for the report, known by the end: `image_digest`, `instance_type`, `cpu_limit_set_by` …
    fn facts(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}
