//! `Recorder` as Python sees it: the histograms of `metrics`.
//!
//! Only converts. Used by the runner (snapshots, table); the workers and the session take the shared part out and record
//! in Rust.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::metrics::{CorruptSnapshot, DEFAULT_WIDTH, SharedRecorder, render};

/// Service times by scenario and by request name, as histograms: 3 significant digits, 1 µs to 1 h.
#[pyclass(frozen, module = "molotov._core")]
#[derive(Debug)]
pub struct Recorder {
    shared: SharedRecorder,
}

impl Recorder {
    /// The recorder itself, for Rust callers that record.
    pub fn shared(&self) -> SharedRecorder {
        self.shared.clone()
    }
}

impl From<CorruptSnapshot> for PyErr {
    fn from(error: CorruptSnapshot) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

#[pymethods]
impl Recorder {
    #[new]
    fn new() -> Self {
        Self {
            shared: SharedRecorder::new(),
        }
    }

    /// What was recorded here since the last snapshot, as bytes for another recorder's `merge`. Nothing is lost here.
    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.shared.lock().snapshot())
    }

    /// Add another recorder's snapshot.
    ///
    /// `ValueError` when it is corrupt; nothing is added then.
    fn merge(&self, blob: &[u8]) -> PyResult<()> {
        Ok(self.shared.lock().merge(blob)?)
    }

    /// Record one run ("scenario") or request ("request") of `seconds`.
    ///
    /// For sessions written in Python. A request's name is its method, a space, host and path. `ValueError` for another
    /// kind, or seconds that are negative or no number.
    #[pyo3(signature = (kind, name, seconds, ok = true, bytes = 0))]
    fn record(&self, kind: &str, name: &str, seconds: f64, ok: bool, bytes: u64) -> PyResult<()> {
        let time = duration(seconds)?;
        let mut recorder = self.shared.lock();
        let id = match (kind, name.split_once(' ')) {
            ("scenario", _) => recorder.scenario_id(name),
            ("request", Some((method, url))) => recorder.request_id(method, url),
            ("request", None) => recorder.request_id("", name),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "kind is 'scenario' or 'request', not {kind:?}"
                )));
            }
        };
        recorder.record(id, time, ok, bytes);
        Ok(())
    }

    /// All results as dicts: scenarios by name, then requests, the most frequent first. Times are seconds.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = self.shared.lock().rows();
        let list = PyList::empty(py);
        for row in rows {
            let dict = PyDict::new(py);
            dict.set_item("kind", row.kind.as_str())?;
            dict.set_item("name", row.name)?;
            dict.set_item("count", row.count)?;
            dict.set_item("failed", row.failed)?;
            for (name, time) in [
                ("mean", row.mean),
                ("min", row.min),
                ("p50", row.p50),
                ("p90", row.p90),
                ("p95", row.p95),
                ("p99", row.p99),
                ("p999", row.p999),
                ("max", row.max),
            ] {
                dict.set_item(name, time.as_secs_f64())?;
            }
            dict.set_item("bytes", row.bytes)?;
            list.append(dict)?;
        }
        Ok(list)
    }

    /// The end-of-run table, one line per scenario and request name; empty when nothing was recorded.
    ///
    /// `elapsed` (seconds) is what rates are taken over; `width` defaults to 100 columns. `ValueError` for a negative
    /// `elapsed`.
    #[pyo3(signature = (elapsed, width = None))]
    fn table(&self, elapsed: f64, width: Option<usize>) -> PyResult<String> {
        let rows = self.shared.lock().rows();
        Ok(render(
            &rows,
            duration(elapsed)?,
            width.unwrap_or(DEFAULT_WIDTH),
        ))
    }

    /// How many requests took longer than `seconds`, and how many there were; of runs, when there was no request.
    ///
    /// `ValueError` for negative seconds.
    fn slower_than(&self, seconds: f64) -> PyResult<(u64, u64)> {
        Ok(self.shared.lock().slower_than(duration(seconds)?))
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("{seconds} seconds: {error}")))
}
