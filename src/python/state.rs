//! `RunState` as Python sees it: the shared counters of `engine::shared`.
//!
//! Only converts names, numbers and errors. Used by the runner (flags, totals), and by the workers and the session, which
//! take the shared part out and count in Rust.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyIndexError, PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::shared::{COUNTERS, Error, RunState as Shared, STATUS_CLASSES, Slot};

/// Counters and flags of a run, in memory shared by all its processes. Make it before forking.
///
/// `processes` is how many slots of counters there are (0 counts as 1). `OSError` when the kernel gives no shared memory.
#[pyclass(frozen, module = "molotov._core")]
#[derive(Debug)]
pub struct RunState {
    shared: Arc<Shared>,
}

impl RunState {
    /// The counters themselves, for Rust callers that count.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn sum(&self, name: &str) -> u64 {
        self.shared.sum(name).unwrap_or_default()
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Map { .. } => PyOSError::new_err(message),
            Error::NoSuchProcess { .. } => PyIndexError::new_err(message),
            Error::NoSuchCounter(_) => PyKeyError::new_err(message),
            Error::OnlyGrows(_) => PyValueError::new_err(message),
        }
    }
}

#[pymethods]
impl RunState {
    #[new]
    #[pyo3(signature = (processes = 1))]
    fn new(processes: usize) -> PyResult<Self> {
        Ok(Self {
            shared: Arc::new(Shared::new(processes)?),
        })
    }

    /// From now on this process counts into that slot; to be called in the child right after the fork.
    ///
    /// Until then it is slot 0. `IndexError` when there is no such slot.
    fn attach(&self, process: usize) -> PyResult<()> {
        Ok(self.shared.attach(process)?)
    }

    /// Add `n` to a counter of this process. Only `workers` takes a negative number.
    ///
    /// `KeyError` for an unknown counter, `ValueError` for a negative `n`.
    #[pyo3(signature = (name, n = 1))]
    fn add(&self, name: &str, n: i64) -> PyResult<()> {
        Ok(self.shared.add(name, n)?)
    }

    /// All counters of one process, by name. `IndexError` when there is no such process.
    fn process<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyDict>> {
        let slot = self.shared.process(index)?;
        let counters = PyDict::new(py);
        for name in COUNTERS {
            counters.set_item(name, read(slot, name))?;
        }
        counters.set_item("workers", slot.workers.load(Ordering::Relaxed))?;
        for name in STATUS_CLASSES {
            counters.set_item(name, read(slot, name))?;
        }
        Ok(counters)
    }

    /// Close the books of a process that has died: its runs in flight become interrupted, its workers go.
    ///
    /// Returns how many runs that were. `IndexError` when there is no such process.
    fn settle(&self, index: usize) -> PyResult<u64> {
        Ok(self.shared.settle(index)?)
    }

    /// How many processes have a slot.
    #[getter]
    fn processes(&self) -> usize {
        self.shared.processes()
    }

    /// Scenario runs started, over all processes: always succeeded + failed + interrupted once a run has ended.
    #[getter]
    fn started(&self) -> u64 {
        self.sum("started")
    }

    /// Scenario runs that ended without an exception.
    #[getter]
    fn succeeded(&self) -> u64 {
        self.sum("succeeded")
    }

    /// Scenario runs that raised.
    #[getter]
    fn failed(&self) -> u64 {
        self.sum("failed")
    }

    /// Scenario runs cancelled, or lost with their process.
    #[getter]
    fn interrupted(&self) -> u64 {
        self.sum("interrupted")
    }

    /// Workers running now.
    #[getter]
    fn workers(&self) -> i64 {
        self.shared.workers()
    }

    /// Those of them that pause, because more were started than `allowed_workers`.
    #[getter]
    fn parked(&self) -> i64 {
        self.shared.parked()
    }

    /// How many workers may run at a time, over all processes; `None` is all. The others keep their sessions and pause
    /// between two runs, until `Plan.wake` finds that they may run again.
    #[getter]
    fn allowed_workers(&self) -> Option<u64> {
        self.shared.allowed_workers()
    }

    #[setter]
    fn set_allowed_workers(&self, workers: Option<u64>) {
        self.shared.set_allowed_workers(workers);
    }

    /// Whether the worker of that number, from 0 in this process, is among those allowed to run.
    fn may_run(&self, worker: u64) -> bool {
        self.shared.may_run(worker)
    }

    /// Workers ever started.
    #[getter]
    fn workers_started(&self) -> u64 {
        self.sum("workers_started")
    }

    /// HTTP responses read to their end.
    #[getter]
    fn requests(&self) -> u64 {
        self.sum("requests")
    }

    /// Requests sent again on a fresh connection because a kept one had been closed.
    #[getter]
    fn resent(&self) -> u64 {
        self.sum("resent")
    }

    /// HTTP responses by class: `2xx` to `5xx` always, `1xx` and `other` only when there were any.
    #[getter]
    fn statuses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statuses = PyDict::new(py);
        for name in STATUS_CLASSES {
            let count = self.sum(name);
            if count > 0 || !matches!(name, "1xx" | "other") {
                statuses.set_item(name, count)?;
            }
        }
        Ok(statuses)
    }

    /// `setup` fixtures that failed.
    #[getter]
    fn setup_failed(&self) -> u64 {
        self.sum("setup_failed")
    }

    /// `setup_session` fixtures that failed.
    #[getter]
    fn session_setup_failed(&self) -> u64 {
        self.sum("session_setup_failed")
    }

    /// Starts that a schedule had by now, over all processes: started, not started, or waiting for a worker.
    #[getter]
    fn intended(&self) -> u64 {
        self.sum("intended")
    }

    /// Those of them that were given up.
    #[getter]
    fn not_started(&self) -> u64 {
        self.sum("not_started")
    }

    /// Runs that started more than 10 ms late.
    #[getter]
    fn late(&self) -> u64 {
        self.sum("late")
    }

    /// Those of them that had to wait for a worker, because all were busy.
    #[getter]
    fn starved(&self) -> u64 {
        self.sum("starved")
    }

    /// The runs that all processes together are to start per second, where a `Schedule` leaves that open.
    #[getter]
    fn rate(&self) -> f64 {
        self.shared.rate()
    }

    #[setter]
    fn set_rate(&self, runs_per_second: f64) {
        self.shared.set_rate(runs_per_second);
    }

    /// Whether all processes are to stop.
    #[getter]
    fn stopped(&self) -> bool {
        self.shared.stopped()
    }

    #[setter]
    fn set_stopped(&self, stopped: bool) {
        self.shared.set_stopped(stopped);
    }

    /// Whether autosizing has reached its end.
    #[getter]
    fn reached(&self) -> bool {
        self.shared.reached()
    }

    #[setter]
    fn set_reached(&self, reached: bool) {
        self.shared.set_reached(reached);
    }

    fn __repr__(&self) -> String {
        format!(
            "<RunState started={} succeeded={} failed={} interrupted={} workers={}>",
            self.started(),
            self.succeeded(),
            self.failed(),
            self.interrupted(),
            self.workers()
        )
    }
}

fn read(slot: &Slot, name: &str) -> u64 {
    slot.counter(name)
        .map_or(0, |counter| counter.load(Ordering::Relaxed))
}
