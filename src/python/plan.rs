//! What the workers of one process run, and until when: scenarios, weights, limits, callbacks.
//!
//! Decides which scenario a worker runs next and whether it may; the stepping is [`super::worker`]'s.

use super::event_loop::{Engine, RunHooks, engine_of};
use super::ffi::GilCell;
use super::metrics::Recorder;
use super::pacer::Pacer;
use super::schedule::Schedule;
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
    /// Where its response times go; only with a rate.
    pub(crate) response: Option<Id>,
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
/// negative number runs nothing (Molotov's rules). With a `schedule`, `duration` is not looked at; `on_grow` is called with
/// how many of at most `workers` more are needed, `on_close` once nothing will start any more.
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct Plan {
    pub(crate) engine: Arc<Engine>,
    pub(crate) run: Arc<RunHooks>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) callbacks: Callbacks,
    pub(crate) delay: f64,
    /// What starts runs, where a rate is set.
    pub(crate) pacer: Option<Pacer>,
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
        if self.is_used_up(started) {
            return Ok(Next::Finish);
        }
        if !self.may_run(worker_id) {
            return Ok(Next::Park);
        }
        self.choose(py, worker_id, started)
    }

    /// Whether a worker that has started so many runs has done its share.
    pub(crate) fn is_used_up(&self, started: u64) -> bool {
        let started = i64::try_from(started).unwrap_or(i64::MAX);
        self.max_runs
            .is_some_and(|limit| limit != 0 && started >= limit)
    }

    /// What a worker runs that may.
    pub(crate) fn choose(&self, py: Python<'_>, worker_id: i64, started: u64) -> PyResult<Next> {
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
        let step = i64::try_from(started).unwrap_or(i64::MAX).saturating_add(1);
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

    /// Whether no worker of this process is left.
    pub(crate) fn is_deserted(&self, py: Python<'_>) -> bool {
        self.workers.borrow(py).is_empty()
    }

    pub(crate) fn forget(&self, worker: &Bound<'_, Worker>) {
        self.workers
            .borrow_mut(worker.py())
            .retain(|known| !known.is(worker));
    }
}

fn read_scenario(
    item: &Bound<'_, PyDict>,
    recorder: &Recorder,
    is_paced: bool,
) -> PyResult<Scenario> {
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
    let response = is_paced.then(|| recorder.shared().lock().response_id(&name));
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
        response,
    })
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (state, recorder, scenarios, *, r#loop, max_runs=None, duration=86400.0, delay=0.0, picker=None, single=None, single_run=false, open_session, wrap=None, on_failure, on_progress=None, schedule=None, workers=1, on_grow=None, on_close=None))]
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
        schedule: Option<&Bound<'_, Schedule>>,
        workers: u64,
        on_grow: Option<Py<PyAny>>,
        on_close: Option<Py<PyAny>>,
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
            .map(|item| read_scenario(item, recorder.get(), schedule.is_some()))
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
        let pacer = match (schedule, on_grow, on_close) {
            (Some(schedule), Some(on_grow), Some(on_close)) => Some(Pacer::new(
                schedule.get(),
                &run.state,
                workers,
                on_grow,
                on_close,
            )),
            (None, _, _) => None,
            _ => {
                return Err(PyValueError::new_err(
                    "a schedule needs on_grow and on_close",
                ));
            }
        };
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
            pacer,
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
    fn stop(slf: &Bound<'_, Self>) {
        slf.get().state().stop();
        Self::close(slf);
        slf.get().each_worker(slf.py(), Worker::end_delay);
    }

    /// Resumes the pausing workers of this process that may run again, or are over. To be called every now and then.
    fn wake(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if let Some(pacer) = &this.pacer {
            pacer.dispatch(slf);
        } else if this.state().slot().parked.load(Ordering::Relaxed) > 0 {
            this.each_worker(slf.py(), Worker::wake);
        }
    }

    /// Begins the schedule. Does nothing without one; `OSError` when there is no timer to be had.
    fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        match &slf.get().pacer {
            Some(pacer) => pacer.begin(slf),
            None => Ok(()),
        }
    }

    /// Starts what is due, as timers of a foreign loop ask for.
    #[pyo3(signature = (_argument=None))]
    fn pace(slf: &Bound<'_, Self>, _argument: Option<&Bound<'_, PyAny>>) {
        if let Some(pacer) = &slf.get().pacer {
            pacer.dispatch(slf);
        }
    }

    /// Starts nothing more; starts that still wait for a worker count as not started. May be called again.
    fn close(slf: &Bound<'_, Self>) {
        if let Some(pacer) = &slf.get().pacer {
            pacer.close(slf, true);
        }
    }

    /// Cancels the run that each worker of this process has in flight.
    fn cancel(slf: &Bound<'_, Self>) {
        slf.get().state().stop();
        Self::close(slf);
        slf.get().each_worker(slf.py(), Worker::interrupt);
    }
}
