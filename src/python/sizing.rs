//! The state machines of `sizing` as Python sees them: `SizingController` for the bare ramp, `SizingSearch` for the
//! confirmed answer.
//!
//! Only converts: totals in; verdicts out as dicts, findings as JSON. The runner of `--sizing` calls them a few times a
//! second.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::metrics::Recorder;
use super::state::RunState;
use crate::sizing::search::{Observation, Ramp, Search, Settings as SearchSettings, Unit};
use crate::sizing::{Controller, LatencyRule, RuleError, Settings, Totals, Verdict};

/// Decides when an autosizing run ends. It has no clock: `now` comes in, in seconds of any monotonic clock.
///
/// `tolerance` is the percentage of failed runs that is still fine, `workers` all workers of the ramp over all processes,
/// `latency_rule` optional, such as "p95<500ms", `window` the length of the sliding window in seconds. `ValueError` for a
/// tolerance outside 0 to 100, a window that is not above 0, and a rule that cannot be read.
#[pyclass(frozen, module = "molotov._core")]
#[derive(Debug)]
pub struct SizingController {
    controller: Mutex<Controller>,
}

impl SizingController {
    fn lock(&self) -> MutexGuard<'_, Controller> {
        self.controller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<RuleError> for PyErr {
    fn from(error: RuleError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

/// Cumulative counts: requests slower than the latency rule's limit, of how many.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Latency {
    slower: u64,
    count: u64,
}

#[pymethods]
impl SizingController {
    #[new]
    #[pyo3(signature = (tolerance = 5.0, workers = 500, latency_rule = None, window = 60.0))]
    fn new(
        tolerance: f64,
        workers: u64,
        latency_rule: Option<&str>,
        window: f64,
    ) -> PyResult<Self> {
        if !(0.0..=100.0).contains(&tolerance) {
            return Err(PyValueError::new_err(format!(
                "the tolerance is a percentage, 0 to 100, not {tolerance}"
            )));
        }
        if !(window > 0.0 && window.is_finite()) {
            return Err(PyValueError::new_err(format!(
                "a window of {window} seconds"
            )));
        }
        let latency = latency_rule.map(str::parse).transpose()?;
        let settings = Settings {
            tolerance_ratio: tolerance / 100.0,
            workers,
            latency,
            window_seconds: window,
        };
        Ok(Self {
            controller: Mutex::new(Controller::new(settings)),
        })
    }

    /// The latency rule's limit in seconds, for `Recorder.slower_than`; `None` without a rule.
    #[getter]
    fn latency_limit(&self) -> Option<f64> {
        self.lock()
            .settings()
            .latency
            .as_ref()
            .map(|rule| rule.limit.as_secs_f64())
    }

    /// Take the totals since the start of the run and return a verdict when they end it, else `None`.
    ///
    /// To be called a few times a second. `latency` is needed for a latency rule only: a dict of the totals `slower` and
    /// `count` (see `Recorder.slower_than`). A verdict is a dict: `reason` (`failures`, `all_failed`, `plateau`,
    /// `latency`; or `ramp_ended`, once all workers have been up for ten seconds, or thirty if it is unclear whether
    /// throughput still grows), `ratio` (percent of failed runs in the window), `workers`, `window_succeeded`,
    /// `window_failed`, `best_workers`, `best_runs_per_second`, `best_requests_per_second`, and `sentence`, which says it
    /// in plain words. All reasons but `ramp_ended` are final.
    #[pyo3(signature = (now, succeeded, failed, workers_started, requests = 0, latency = None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn observe<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        succeeded: u64,
        failed: u64,
        workers_started: u64,
        requests: u64,
        latency: Option<Latency>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (slower, timed) = latency.map_or((0, 0), |latency| (latency.slower, latency.count));
        let totals = Totals {
            succeeded,
            failed,
            workers_started,
            requests,
            slower,
            timed,
        };
        let verdict = self.lock().observe(now, totals);
        verdict.map(|verdict| to_dict(py, &verdict)).transpose()
    }

    /// The verdict of a run that ended, as a dict (see `observe`).
    ///
    /// The answer if there was one; else `ramp_ended` when all workers had been started and nobody interrupted it, else
    /// `interrupted`.
    #[pyo3(signature = (interrupted = false))]
    fn finish<'py>(&self, py: Python<'py>, interrupted: bool) -> PyResult<Bound<'py, PyDict>> {
        let verdict = self.lock().finish(interrupted);
        to_dict(py, &verdict)
    }
}

/// Leads a run to how much the service takes: ramp, search, an independent trial to confirm. It has no clock.
///
/// `workers` is the most there can be, over all processes. With `rate`, the highest one in runs started per second, it
/// searches for that instead; `tolerance` the percentage of failed runs that is still fine;
/// `latency_rule` optional, such as "p95<500ms"; `ramp_up` the length of an even ramp in seconds, `None` for one that
/// doubles; `budget` the seconds for search and confirmation after the ramp. `ValueError` for a tolerance outside 0 to
/// 100, negative seconds, and a rule that cannot be read.
#[pyclass(frozen, module = "molotov._core")]
#[derive(Debug)]
pub struct SizingSearch {
    state: Mutex<Searching>,
}

/// What a search asks for.
#[derive(IntoPyObject)]
enum Target {
    Workers(u64),
    Rate(f64),
}

#[derive(Debug)]
struct Searching {
    search: Search,
    /// All service times at the last look.
    times: Option<Histogram<u64>>,
}

impl SizingSearch {
    fn lock(&self) -> MutexGuard<'_, Searching> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl SizingSearch {
    #[new]
    #[pyo3(signature = (workers = 500, tolerance = 5.0, latency_rule = None, ramp_up = None, budget = 300.0, rate = None))]
    fn new(
        workers: u32,
        tolerance: f64,
        latency_rule: Option<&str>,
        ramp_up: Option<f64>,
        budget: f64,
        rate: Option<f64>,
    ) -> PyResult<Self> {
        if !(0.0..=100.0).contains(&tolerance) {
            return Err(PyValueError::new_err(format!(
                "the tolerance is a percentage, 0 to 100, not {tolerance}"
            )));
        }
        let fine = |seconds: f64| seconds >= 0.0 && seconds.is_finite();
        if let Some(seconds) = [Some(budget), ramp_up]
            .into_iter()
            .flatten()
            .find(|seconds| !fine(*seconds))
        {
            return Err(PyValueError::new_err(format!("{seconds} seconds")));
        }
        let latency = latency_rule.map(str::parse::<LatencyRule>).transpose()?;
        if let Some(rate) = rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return Err(PyValueError::new_err(format!("{rate} is no rate")));
        }
        let search = Search::new(SearchSettings {
            unit: rate.map_or(Unit::Workers, |_| Unit::RunsPerSecond),
            highest_level: rate.unwrap_or(f64::from(workers.max(1))),
            ramp: ramp_up.map_or(Ramp::Adaptive, |seconds| Ramp::Even { seconds }),
            tolerance_ratio: tolerance / 100.0,
            latency,
            budget_seconds: budget,
            ..SearchSettings::default()
        });
        Ok(Self {
            state: Mutex::new(Searching {
                search,
                times: None,
            }),
        })
    }

    /// Take the totals of all processes at the time `now` and say how many workers are to run from now on, or at what rate
    /// runs are to start.
    ///
    /// To be called some five times a second. Returns that for `RunState.allowed_workers` or `RunState.rate`, the phase (`ramp`,
    /// `search`, `confirm`, `done`), and whether the search is over.
    fn step(
        &self,
        now: f64,
        state: &Bound<'_, RunState>,
        recorder: &Bound<'_, Recorder>,
    ) -> (Target, &'static str, bool) {
        let counts = state.get().shared();
        let sum = |name: &str| counts.sum(name).unwrap_or_default();
        let mut this = self.lock();
        let is_rate = this.search.settings().unit == Unit::RunsPerSecond;
        let recorder = recorder.get().shared();
        let all = if is_rate {
            recorder.lock().response_times()
        } else {
            recorder.lock().service_times()
        };
        let mut fresh = all.clone();
        // It refuses when requests came after runs: those are other times, and nothing is known of the last look.
        let known = match &this.times {
            Some(times) => fresh.subtract(times).is_ok(),
            None => true,
        };
        this.times = Some(all);
        let decision = this.search.step(&Observation {
            now,
            started: sum("started"),
            succeeded: sum("succeeded"),
            failed: sum("failed"),
            responses: sum("requests"),
            active: (counts.workers() - counts.parked()).max(0) as f64,
            starved: sum("starved"),
            service_times: known.then_some(&fresh),
        });
        let (phase, done) = (decision.phase.as_str(), decision.done);
        if is_rate {
            return (Target::Rate(decision.target), phase, done);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of workers"
        )]
        let workers = decision.target.max(0.0) as u64;
        (Target::Workers(workers), phase, done)
    }

    /// What has been found by now, as JSON; whole once the search is over.
    fn findings(&self) -> PyResult<String> {
        serde_json::to_string(&self.lock().search.findings())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// The answer in a line, such as `412 req/s (95 % 396–425) at 48 workers · p50 61 ms p95 140 ms p99 180 ms`.
    fn headline(&self) -> String {
        self.lock().search.findings().headline()
    }
}

fn to_dict<'py>(py: Python<'py>, verdict: &Verdict) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("reason", verdict.reason.as_str())?;
    dict.set_item("ratio", verdict.ratio_percent)?;
    dict.set_item("workers", verdict.workers)?;
    dict.set_item("window_succeeded", verdict.window_succeeded)?;
    dict.set_item("window_failed", verdict.window_failed)?;
    dict.set_item("best_workers", verdict.best_workers)?;
    dict.set_item("best_runs_per_second", verdict.best_runs_per_second)?;
    dict.set_item("best_requests_per_second", verdict.best_requests_per_second)?;
    dict.set_item("sentence", &verdict.sentence)?;
    Ok(dict)
}
