//! What the workers of one process run, and until when: scenarios, weights, limits, callbacks.
//!
//! Decides which scenario a worker runs next and whether it may; the stepping is [`super::worker`]'s.

use super::event_loop::{Engine, RunHooks, engine_of};
use super::ffi::GilCell;
use super::metrics::Recorder;
use super::state::RunState;
use super::worker::Worker;
use crate::engine::shared::RunState as SharedState;
use crate::metrics::Id;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One registered scenario.
pub(crate) struct Scenario {
    pub(crate) item: Py<PyDict>,
    pub(crate) name: String,
    pub(crate) function: Py<PyAny>,
    pub(crate) arguments: Option<Py<PyTuple>>,
    pub(crate) keywords: Option<Py<PyDict>>,
    pub(crate) delay: f64,
    pub(crate) kind: String,
    pub(crate) id: Id,
    weight: f64,
}

/// Why a worker does not start another run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Run(usize),
    /// Pause: there are workers enough.
    Park,
    Finish,
}

/// The callbacks into the Python half.
pub(crate) struct Callbacks {
    pub(crate) open_session: Py<PyAny>,
    pub(crate) wrap: Option<Py<PyAny>>,
    pub(crate) on_failure: Py<PyAny>,
    pub(crate) on_progress: Option<Py<PyAny>>,
}

/// The plan of one process. Every argument after `scenarios` is by keyword.
///
/// `duration` and `delay` are in seconds. `max_runs` counts per worker: none or 0 is unlimited, a
/// negative number runs nothing (Molotov's rules).
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct Plan {
    pub(crate) engine: Arc<Engine>,
    pub(crate) run: Arc<RunHooks>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) callbacks: Callbacks,
    pub(crate) delay: f64,
    max_runs: Option<i64>,
    duration: Duration,
    picker: Option<Py<PyAny>>,
    single: Option<usize>,
    single_run: bool,
    total_weight: f64,
    workers: GilCell<Vec<Py<Worker>>>,
    random: GilCell<fastrand::Rng>,
}

impl Plan {
    pub(crate) fn state(&self) -> &SharedState {
        &self.run.state
    }

    /// What a worker does that has started `started` runs, `elapsed` after its own start.
    pub(crate) fn next(
        &self,
        py: Python<'_>,
        worker_id: i64,
        started: u64,
        elapsed: Duration,
    ) -> PyResult<Next> {
        if self.is_over(elapsed) {
            return Ok(Next::Finish);
        }
        let step = i64::try_from(started).unwrap_or(i64::MAX).saturating_add(1);
        if self
            .max_runs
            .is_some_and(|limit| limit != 0 && step > limit)
        {
            return Ok(Next::Finish);
        }
        if !self.may_run(worker_id) {
            return Ok(Next::Park);
        }
        if let Some(single) = self.single {
            return Ok(Next::Run(single));
        }
        if self.single_run {
            let index = usize::try_from(started).unwrap_or(usize::MAX);
            return Ok(if index < self.scenarios.len() {
                Next::Run(index)
            } else {
                Next::Finish
            });
        }
        self.pick(py, worker_id, step).map(Next::Run)
    }

    /// Whether the script chooses the scenarios, in code that may take time.
    pub(crate) fn has_picker(&self) -> bool {
        self.picker.is_some()
    }

    /// Whether a worker that started `elapsed` ago begins no further run, however many are allowed.
    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        let state = self.state();
        state.stopped() || state.reached() || elapsed > self.duration
    }

    /// Whether that worker is one of those allowed to run.
    pub(crate) fn may_run(&self, worker_id: i64) -> bool {
        self.state().may_run(u64::try_from(worker_id).unwrap_or(0))
    }

    fn pick(&self, py: Python<'_>, worker_id: i64, step: i64) -> PyResult<usize> {
        if let Some(picker) = &self.picker {
            let name = picker.bind(py).call1((worker_id, step))?;
            let picked = name.extract::<String>().ok().and_then(|name| {
                self.scenarios
                    .iter()
                    .position(|scenario| scenario.name == name)
            });
            return picked.ok_or_else(|| PyValueError::new_err("Could not pick a scenario"));
        }
        let last = self.scenarios.len().saturating_sub(1);
        if last == 0 {
            return Ok(0);
        }
        let mut left = self.random.borrow_mut(py).f64() * self.total_weight;
        for (index, scenario) in self.scenarios.iter().enumerate() {
            left -= scenario.weight;
            if left < 0.0 {
                return Ok(index);
            }
        }
        Ok(last)
    }

    fn each_worker(&self, py: Python<'_>, act: impl Fn(&Bound<'_, Worker>)) {
        let workers: Vec<Py<Worker>> = self
            .workers
            .borrow(py)
            .iter()
            .map(|worker| worker.clone_ref(py))
            .collect();
        for worker in workers {
            act(worker.bind(py));
        }
    }

    pub(crate) fn forget(&self, worker: &Bound<'_, Worker>) {
        self.workers
            .borrow_mut(worker.py())
            .retain(|known| !known.is(worker));
    }
}

fn read_scenario(item: &Bound<'_, PyDict>, recorder: &Recorder) -> PyResult<Scenario> {
    let get = |key: &str| item.get_item(key);
    let required = |key: &str| {
        get(key)?.ok_or_else(|| PyValueError::new_err(format!("a scenario has no {key:?}")))
    };
    let name: String = required("name")?.extract()?;
    let number = |key: &str, default: f64| match get(key)? {
        Some(value) => value.extract::<f64>(),
        None => Ok(default),
    };
    let arguments = get("args")?.map(Bound::cast_into::<PyTuple>).transpose()?;
    let keywords = get("kw")?.map(Bound::cast_into::<PyDict>).transpose()?;
    let id = recorder.shared().scenario_id(&name);
    Ok(Scenario {
        function: required("func")?.unbind(),
        arguments: arguments
            .filter(|tuple| !tuple.is_empty())
            .map(Bound::unbind),
        keywords: keywords.filter(|dict| !dict.is_empty()).map(Bound::unbind),
        delay: number("delay", 0.0)?,
        weight: number("weight", 1.0)?,
        kind: match get("kind")? {
            Some(kind) => kind.extract()?,
            None => "http".to_owned(),
        },
        item: item.clone().unbind(),
        name,
        id,
    })
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (state, recorder, scenarios, *, r#loop, max_runs=None, duration=86400.0, delay=0.0, picker=None, single=None, single_run=false, open_session, wrap=None, on_failure, on_progress=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only in Python")]
    fn new(
        state: &Bound<'_, RunState>,
        recorder: &Bound<'_, Recorder>,
        scenarios: Vec<Bound<'_, PyDict>>,
        r#loop: &Bound<'_, PyAny>,
        max_runs: Option<i64>,
        duration: f64,
        delay: f64,
        picker: Option<Py<PyAny>>,
        single: Option<&str>,
        single_run: bool,
        open_session: Py<PyAny>,
        wrap: Option<Py<PyAny>>,
        on_failure: Py<PyAny>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let py = state.py();
        let engine = engine_of(r#loop)?;
        let run = Arc::new(RunHooks {
            state: state.get().shared(),
            recorder: recorder.get().shared(),
        });
        *engine.run.borrow_mut(py) = Some(Arc::clone(&run));
        let scenarios = scenarios
            .iter()
            .map(|item| read_scenario(item, recorder.get()))
            .collect::<PyResult<Vec<_>>>()?;
        if scenarios.is_empty() {
            return Err(PyValueError::new_err("a plan needs at least one scenario"));
        }
        let single = single
            .map(|name| {
                scenarios
                    .iter()
                    .position(|scenario| scenario.name == name)
                    .ok_or_else(|| {
                        PyValueError::new_err(format!("Can't find {name:?} in registered scenarii"))
                    })
            })
            .transpose()?;
        Ok(Self {
            total_weight: scenarios.iter().map(|scenario| scenario.weight).sum(),
            duration: Duration::try_from_secs_f64(duration.max(0.0)).unwrap_or(Duration::MAX),
            callbacks: Callbacks {
                open_session,
                wrap,
                on_failure,
                on_progress,
            },
            workers: GilCell::new(Vec::new()),
            random: GilCell::new(fastrand::Rng::new()),
            engine,
            run,
            scenarios,
            delay,
            max_runs,
            picker,
            single,
            single_run,
        })
    }

    /// Whether the event loop is driven natively rather than through the bridge.
    #[getter]
    fn native(&self) -> bool {
        self.engine.is_native()
    }

    /// A new worker of this plan.
    fn worker<'py>(slf: &Bound<'py, Self>, worker_id: i64) -> PyResult<Bound<'py, Worker>> {
        let worker = Bound::new(slf.py(), Worker::new(slf, worker_id)?)?;
        slf.get()
            .workers
            .borrow_mut(slf.py())
            .push(worker.clone().unbind());
        Ok(worker)
    }

    /// Stops every process: steps in flight go on, sleeps end, no new run starts.
    fn stop(&self, py: Python<'_>) {
        self.state().stop();
        self.each_worker(py, Worker::end_delay);
    }

    /// Resumes the pausing workers of this process that may run again, or are over. To be called every now and then.
    fn wake(&self, py: Python<'_>) {
        if self.state().slot().parked.load(Ordering::Relaxed) > 0 {
            self.each_worker(py, Worker::wake);
        }
    }

    /// Cancels the run that each worker of this process has in flight.
    fn cancel(&self, py: Python<'_>) {
        self.state().stop();
        self.each_worker(py, Worker::interrupt);
    }
}
