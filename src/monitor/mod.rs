//! What the target and the generator use: CPU, memory, disk, network, sockets, against their limits.
//!
//! Owns the samplers, one small type per kind of target behind [`Sampler`], their closed set of metrics ([`Metric`]),
//! the rows ([`Sample`]) and their series ([`Series`]). Decides nothing: which limit gave out is told by the verdict,
//! from windows of the series. No clock and no thread either: the caller samples and says what time it is.
//!
//! To wire it up:
//!
//! 1. Parse each `--monitor` text as [`Labelled`] when options are read; its error is one line for the user.
//! 2. Before the run, `Generator::new(&[std::process::id()], Roots::system())`, then [`Monitor::open`] with the sources:
//!    a target that is not there is an error at once. After forking, `monitor.generator().set_processes(…)` with all
//!    pids.
//! 3. Once a second, on a thread of its own in the parent process: `set_event_loop_lag`, then
//!    [`Monitor::sample_all`] with the time since the start of the run. The rows are for the screen, their events for
//!    the log.
//! 4. At the end, [`Monitor::into_series`]; the verdict asks `series.window(metric, from, to)` over the time the
//!    capacity was held.
//!
//! All samplers together take some 6 ms of CPU per sample, 0.6 % of a core at one a second (2,000 connections, a tree
//! of 32 processes): `cargo run --release --no-default-features --example monitor_cost` measures it.
//!
//! | file | owns |
//! |---|---|
//! | `source` | the grammar of `--monitor` |
//! | `metric`, `sample`, `series` | names, one row, all rows |
//! | `process` | `pid:`, a process tree, and fixed lists of processes |
//! | `port` | `port:`, whoever listens there |
//! | `cgroup` | `cgroup:`, version 1, version 2 and hybrid; what a process may use |
//! | `container` | `container:`, by control group or by the Docker and Podman API |
//! | `host` | `host`, this machine |
//! | `glances` | `glances:`, a CSV file that Glances writes |
//! | `remote` | a collector for other machines, and its rows |
//! | `generator` | the load generator itself |
//! | `driver` | all targets of a run |
//! | `roots`, `files`, `counter` | where things are, reading them, rates |
//!
//! Called by the composition roots; `report`, `outputs` and `ui` read its rows and series. Depends on nothing of ours.

mod cgroup;
mod container;
mod counter;
mod driver;
mod error;
mod files;
#[cfg(test)]
mod fixture;
mod generator;
mod glances;
mod host;
mod metric;
mod port;
mod process;
mod remote;
mod roots;
mod sample;
mod series;
mod source;

use std::time::Duration;

pub use cgroup::ControlGroup;
pub use container::Container;
pub use driver::{GENERATOR, Monitor, Row, SERVICE, in_words, open};
pub use error::Error;
pub use generator::Generator;
pub use glances::{Glances, History, history as glances_history, rows as glances_rows};
pub use host::Host;
pub use metric::Metric;
pub use port::Port;
pub use process::ProcessTree;
pub use remote::{COLLECTOR, Remote, remote_history};
pub use roots::Roots;
pub use sample::{Event, Sample};
pub use series::{Series, TimedEvent, Window};
pub use source::{Labelled, Source, SourceError};

/// Takes samples of one target.
pub trait Sampler: Send {
    /// Looks at the target. `now` is any clock that does not go back; rates are over the time between two calls, so the
    /// first sample has none. A target that has exited is a sample without values, not an error; an error may pass.
    fn sample(&mut self, now: Duration) -> Result<Sample, Error>;
}
