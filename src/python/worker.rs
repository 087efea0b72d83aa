//! One worker (a virtual user): it steps the scenarios' coroutines and counts how they end.
//!
//! A worker stands in for the `asyncio.Task` of the scenario it runs: it is what
//! `asyncio.current_task()` answers there, so that `asyncio.timeout`, `TaskGroup` and cancellation
//! work. When a coroutine waits for a native awaitable, the worker is resumed directly by the
//! connection; for any other future by asyncio's callbacks.
//!
//! Longer than usual: a third of it are the methods of `asyncio.Task`, which belong to the same class.

use super::awaitable::{Awaitable, Subscription, cancelled_error};
use super::ffi::{self, GilCell, Sent};
use super::pacer::{Answer, Start};
use super::plan::{Next, Plan};
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyException, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Runs that never wait give the loop back after this many.
const RUNS_PER_TURN: u32 = 32;

/// The shortest time between two progress lines of one worker.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// Between two runs.
    Idle,
    /// `open_session` is running, for the scenario of this index.
    Opening(usize),
    /// The scenario of this index is running.
    Running(usize),
    /// Asleep after a run.
    Delayed,
    /// Pausing between two runs, because fewer workers are to run, or nothing is due.
    Parked,
    Finished,
}

/// With a rate: what the pacer expects of a worker.
#[derive(Default)]
enum Appointment {
    #[default]
    None,
    /// To ask for a start.
    Ask,
    /// To run this, or it runs it.
    Run(Start),
}

impl Appointment {
    /// The start that was to be made, after which there is none.
    fn take_start(&mut self) -> Option<Start> {
        match std::mem::take(self) {
            Self::Run(start) => Some(start),
            Self::None | Self::Ask => None,
        }
    }
}

struct State {
    activity: Activity,
    coroutine: Option<Py<PyAny>>,
    stepping: bool,
    waiting_for: Option<Py<PyAny>>,
    timer: Option<Py<PyAny>>,
    must_cancel: bool,
    cancel_requests: u32,
    cancel_message: Option<Py<PyAny>>,
    /// The run is being cut by the engine, not by the script.
    interrupting: bool,
    started_runs: u64,
    appointment: Appointment,
    began: Option<Instant>,
    run_began: Option<Instant>,
    reported: Option<Instant>,
    sessions: Vec<(String, Py<PyAny>)>,
    finished: Option<Py<PyAny>>,
    callbacks: Vec<Py<PyAny>>,
    name: String,
}

/// See the module's text. Made by `Plan.worker()`.
#[pyclass(frozen, weakref, dict, module = "molotov._core")]
pub(crate) struct Worker {
    plan: Py<Plan>,
    number: i64,
    context: Py<PyAny>,
    state: GilCell<State>,
}

/// What follows a turn of a coroutine.
enum Turn {
    /// Resume it again, with this exception if any.
    Again(Option<PyErr>),
    /// Somebody will resume the worker.
    Suspended,
    /// It is over.
    Ended(PyResult<Py<PyAny>>),
}

impl Worker {
    pub(crate) fn new(plan: &Bound<'_, Plan>, worker_id: i64) -> PyResult<Self> {
        Ok(Self {
            plan: plan.clone().unbind(),
            number: worker_id,
            context: ffi::copy_context(plan.py())?,
            state: GilCell::new(State {
                activity: Activity::Idle,
                coroutine: None,
                stepping: false,
                waiting_for: None,
                timer: None,
                must_cancel: false,
                cancel_requests: 0,
                cancel_message: None,
                interrupting: false,
                started_runs: 0,
                appointment: match plan.get().pacer {
                    Some(_) => Appointment::Ask,
                    None => Appointment::None,
                },
                began: None,
                run_began: None,
                reported: None,
                sessions: Vec::new(),
                finished: None,
                callbacks: Vec::new(),
                name: format!("molotov-worker-{worker_id}"),
            }),
        })
    }

    /// Goes on until the coroutine waits for something or the worker is finished.
    pub(crate) fn step(slf: &Bound<'_, Self>, exception: Option<PyErr>) {
        let py = slf.py();
        let this = slf.get();
        {
            let mut state = this.state.borrow_mut(py);
            if state.stepping || state.activity == Activity::Finished || state.began.is_none() {
                return;
            }
            state.stepping = true;
            state.waiting_for = None;
        }
        this.advance(slf, exception);
        this.state.borrow_mut(py).stepping = false;
    }

    fn advance(&self, slf: &Bound<'_, Self>, mut exception: Option<PyErr>) {
        let py = slf.py();
        let plan = self.plan.bind(py).get();
        let mut runs_left = RUNS_PER_TURN;
        // When the last run ended, as long as nothing else has taken time since: saves reading the clock again.
        let mut clock = None;
        loop {
            let coroutine = {
                let mut state = self.state.borrow_mut(py);
                if state.activity == Activity::Delayed {
                    state.timer = None;
                    state.activity = Activity::Idle;
                }
                state
                    .coroutine
                    .as_ref()
                    .map(|coroutine| coroutine.clone_ref(py))
            };
            let Some(coroutine) = coroutine else {
                if runs_left == 0 {
                    self.resume_soon(slf);
                    return;
                }
                runs_left -= 1;
                if !self.begin(slf, plan, &mut clock) {
                    return;
                }
                continue;
            };
            match self.turn(slf, coroutine.bind(py), exception.take()) {
                Turn::Again(next) => exception = next,
                Turn::Suspended => return,
                Turn::Ended(result) => {
                    self.state.borrow_mut(py).coroutine = None;
                    drop(coroutine);
                    if !self.ended(slf, plan, result, &mut clock) {
                        return;
                    }
                }
            }
        }
    }

    fn resume_soon(&self, slf: &Bound<'_, Self>) {
        let engine = &self.plan.bind(slf.py()).get().engine;
        if let Err(error) = engine.call_soon(slf.as_any(), &slf.py().None().into_bound(slf.py())) {
            error.write_unraisable(slf.py(), Some(slf.as_any()));
        }
    }

    /// Starts the next coroutine. False when the worker is finished.
    fn begin(&self, slf: &Bound<'_, Self>, plan: &Plan, clock: &mut Option<Instant>) -> bool {
        let py = slf.py();
        let now = clock.take().unwrap_or_else(Instant::now);
        let (opening_done, started, elapsed) = {
            let state = self.state.borrow(py);
            let opened = match state.activity {
                Activity::Opening(index) => Some(index),
                _ => None,
            };
            (
                opened,
                state.started_runs,
                state
                    .began
                    .map_or(Duration::ZERO, |began| now.saturating_duration_since(began)),
            )
        };
        let next = match opening_done {
            Some(index) => Ok(Next::Run(index)),
            None if plan.pacer.is_some() => self.next_start(py, plan, started, now),
            None => plan.next(py, self.number, started, elapsed),
        };
        let index = match next {
            Ok(Next::Finish) => {
                self.finish(slf, plan, Ok(()));
                return false;
            }
            Ok(Next::Park) => {
                plan.state().slot().parked.fetch_add(1, Ordering::Relaxed);
                self.state.borrow_mut(py).activity = Activity::Parked;
                if let Some(pacer) = &plan.pacer {
                    pacer.rest(slf);
                }
                return false;
            }
            Ok(Next::Run(index)) => index,
            Err(error) => {
                // The picker failed: a run that failed before it had a scenario.
                self.count_start(py, plan, now);
                return self.ended_run(slf, plan, None, Err(error), clock);
            }
        };
        let Some(scenario) = plan.scenarios.get(index) else {
            self.finish(slf, plan, Ok(()));
            return false;
        };
        let session = self.session(py, &scenario.kind);
        let Some(session) = session else {
            let opening = plan
                .callbacks
                .open_session
                .bind(py)
                .call1((slf, &scenario.item));
            return match opening {
                Ok(coroutine) => {
                    let mut state = self.state.borrow_mut(py);
                    state.activity = Activity::Opening(index);
                    state.coroutine = Some(coroutine.unbind());
                    true
                }
                Err(error) => {
                    self.finish(slf, plan, Err(error));
                    false
                }
            };
        };
        if opening_done.is_some() && plan.state().stopped() {
            self.finish(slf, plan, Ok(()));
            return false;
        }
        let now = if plan.has_picker() {
            Instant::now()
        } else {
            now
        };
        let step = self.count_start(py, plan, now);
        if step.is_multiple_of(10)
            && self.progress_is_due(py, now)
            && let Some(progress) = &plan.callbacks.on_progress
            && let Err(error) = progress.bind(py).call1((slf, step))
        {
            error.write_unraisable(py, Some(slf.as_any()));
        }
        let called = match &plan.callbacks.wrap {
            Some(wrap) => wrap.bind(py).call1((slf, &scenario.item, session)),
            None => call_scenario(py, scenario, session.bind(py)),
        };
        match called.and_then(into_iterator) {
            Ok(coroutine) => {
                let mut state = self.state.borrow_mut(py);
                state.activity = Activity::Running(index);
                state.coroutine = Some(coroutine.unbind());
                true
            }
            Err(error) => self.ended_run(slf, plan, Some(index), Err(error), clock),
        }
    }

    /// The same where a rate is set: runs start when they are due.
    fn next_start(
        &self,
        py: Python<'_>,
        plan: &Plan,
        started: u64,
        now: Instant,
    ) -> PyResult<Next> {
        let Some(pacer) = &plan.pacer else {
            return Ok(Next::Finish);
        };
        let state = plan.state();
        if state.stopped() || state.reached() || plan.is_used_up(started) {
            return Ok(Next::Finish);
        }
        let appointment = std::mem::take(&mut self.state.borrow_mut(py).appointment);
        let coming = matches!(appointment, Appointment::Ask);
        match pacer.answer(py, state.slot(), coming, now) {
            Answer::Wait => Ok(Next::Park),
            Answer::Over => Ok(Next::Finish),
            Answer::Run(start) => {
                self.state.borrow_mut(py).appointment = Appointment::Run(start);
                plan.choose(py, self.number, started)
            }
        }
    }

    /// Molotov reports every tenth run; at this engine's speed that would be most of its work.
    fn progress_is_due(&self, py: Python<'_>, now: Instant) -> bool {
        let mut state = self.state.borrow_mut(py);
        let due = state
            .reported
            .is_none_or(|reported| now.saturating_duration_since(reported) >= PROGRESS_EVERY);
        if due {
            state.reported = Some(now);
        }
        due
    }

    fn session(&self, py: Python<'_>, kind: &str) -> Option<Py<PyAny>> {
        let state = self.state.borrow(py);
        state
            .sessions
            .iter()
            .find(|(known, _)| known == kind)
            .map(|(_, session)| session.clone_ref(py))
    }

    fn count_start(&self, py: Python<'_>, plan: &Plan, now: Instant) -> u64 {
        let slot = plan.state().slot();
        slot.started.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.borrow_mut(py);
        state.started_runs += 1;
        state.run_began = Some(now);
        if let Appointment::Run(start) = &state.appointment {
            start.count(slot, now);
        }
        state.started_runs
    }

    /// One resumption, inside the worker's context and as the loop's current task.
    #[inline]
    fn turn(
        &self,
        slf: &Bound<'_, Self>,
        coroutine: &Bound<'_, PyAny>,
        exception: Option<PyErr>,
    ) -> Turn {
        let py = slf.py();
        let engine = &self.plan.bind(py).get().engine;
        let exception = exception.or_else(|| {
            let mut state = self.state.borrow_mut(py);
            std::mem::take(&mut state.must_cancel).then(|| {
                let message = state.cancel_message.take();
                cancelled_error(py, message)
            })
        });
        let stepped = ffi::within_context(self.context.bind(py), || {
            engine.enter_task(slf.as_any())?;
            // An exception is fetched before any other call may clear or replace it.
            let sent = match exception {
                None => ffi::send(coroutine),
                Some(error) => throw(coroutine, error),
            };
            engine.leave_task(slf.as_any())?;
            Ok(sent)
        });
        match stepped.and_then(|sent| sent) {
            Ok(Sent::Yielded(value)) => self.wait_for(slf, &value),
            Ok(Sent::Returned(value)) => Turn::Ended(Ok(value.unbind())),
            Ok(Sent::Raised(error)) | Err(error) => Turn::Ended(Err(error)),
        }
    }

    fn wait_for(&self, slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> Turn {
        let py = slf.py();
        let cancel_now = |future: &Bound<'_, PyAny>| {
            let wanted = self.state.borrow(py).must_cancel;
            if wanted
                && future
                    .call_method0("cancel")
                    .is_ok_and(|done| done.is_truthy().unwrap_or(false))
            {
                self.state.borrow_mut(py).must_cancel = false;
            }
        };
        if let Ok(awaitable) = value.cast_exact::<Awaitable>() {
            return match awaitable.get().subscribe(slf) {
                Subscription::DoneAlready => Turn::Again(None),
                Subscription::Waiting => {
                    self.state.borrow_mut(py).waiting_for = Some(value.clone().unbind());
                    cancel_now(value);
                    Turn::Suspended
                }
            };
        }
        if value.is_none() {
            // `asyncio.sleep(0)`: let everything else have its turn.
            self.resume_soon(slf);
            return Turn::Suspended;
        }
        let name = intern!(py, "_asyncio_future_blocking");
        if !value
            .getattr(name)
            .is_ok_and(|blocking| blocking.is_truthy().unwrap_or(false))
        {
            let text = value
                .repr()
                .map_or_else(|_| String::new(), |text| text.to_string());
            return Turn::Again(Some(PyRuntimeError::new_err(format!(
                "Task got bad yield: {text}"
            ))));
        }
        // No context is passed: the step enters the worker's own, and entering it twice is an error.
        let subscribed = value
            .setattr(name, false)
            .and_then(|()| value.call_method1(intern!(py, "add_done_callback"), (slf,)));
        match subscribed {
            Err(error) => Turn::Again(Some(error)),
            Ok(_) => {
                self.state.borrow_mut(py).waiting_for = Some(value.clone().unbind());
                cancel_now(value);
                Turn::Suspended
            }
        }
    }

    /// A coroutine is over. False when the worker has nothing more to do now.
    fn ended(
        &self,
        slf: &Bound<'_, Self>,
        plan: &Plan,
        result: PyResult<Py<PyAny>>,
        clock: &mut Option<Instant>,
    ) -> bool {
        let py = slf.py();
        let activity = self.state.borrow(py).activity;
        match activity {
            Activity::Opening(index) => match result {
                Ok(session) => {
                    if let Some(scenario) = plan.scenarios.get(index) {
                        let mut state = self.state.borrow_mut(py);
                        if !state
                            .sessions
                            .iter()
                            .any(|(kind, _)| *kind == scenario.kind)
                        {
                            state.sessions.push((scenario.kind.clone(), session));
                        }
                    }
                    true
                }
                Err(error) if ends_worker(py, &error) => {
                    self.finish(slf, plan, Err(error));
                    false
                }
                Err(error) => {
                    // No session, so this run has failed; the next one tries again.
                    self.count_start(py, plan, Instant::now());
                    self.ended_run(slf, plan, Some(index), Err(error), clock)
                }
            },
            Activity::Running(index) => {
                self.ended_run(slf, plan, Some(index), result.map(drop), clock)
            }
            Activity::Idle | Activity::Delayed | Activity::Parked | Activity::Finished => true,
        }
    }

    /// Counts a run. False when the worker sleeps or is finished.
    fn ended_run(
        &self,
        slf: &Bound<'_, Self>,
        plan: &Plan,
        index: Option<usize>,
        result: PyResult<()>,
        clock: &mut Option<Instant>,
    ) -> bool {
        let py = slf.py();
        let now = Instant::now();
        let (elapsed, interrupting, start) = {
            let mut state = self.state.borrow_mut(py);
            state.activity = Activity::Idle;
            // A cancellation that the run swallowed or died of must not hit the next one.
            state.must_cancel = false;
            state.cancel_requests = 0;
            (
                state
                    .run_began
                    .take()
                    .map_or(Duration::ZERO, |began| now.saturating_duration_since(began)),
                state.interrupting,
                state.appointment.take_start(),
            )
        };
        let scenario = index.and_then(|index| plan.scenarios.get(index));
        let respond = |ok: bool| {
            let id = scenario.and_then(|scenario| scenario.response);
            if let (Some(id), Some(start)) = (id, start) {
                let elapsed = now.saturating_duration_since(start.due);
                plan.run.recorder.record(id, elapsed, ok, 0);
            }
        };
        let slot = plan.state().slot();
        let mut delay = plan.delay;
        match result {
            Ok(()) => {
                *clock = Some(now);
                slot.succeeded.fetch_add(1, Ordering::Relaxed);
                respond(true);
                if let Some(scenario) = scenario {
                    plan.run.recorder.record(scenario.id, elapsed, true, 0);
                    delay += scenario.delay;
                }
            }
            Err(error) if interrupting && error.is_instance_of::<CancelledError>(py) => {
                slot.interrupted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                slot.failed.fetch_add(1, Ordering::Relaxed);
                respond(false);
                if let Some(scenario) = scenario {
                    plan.run.recorder.record(scenario.id, elapsed, false, 0);
                }
                let item = scenario.map(|scenario| scenario.item.clone_ref(py));
                let value = error.into_value(py);
                if let Err(error) = plan.callbacks.on_failure.bind(py).call1((slf, item, value)) {
                    error.write_unraisable(py, Some(slf.as_any()));
                }
            }
        }
        if delay <= 0.0 || plan.state().stopped() {
            return true;
        }
        match plan.engine.call_later(delay, slf.as_any()) {
            Ok(timer) => {
                let mut state = self.state.borrow_mut(py);
                state.activity = Activity::Delayed;
                state.timer = Some(timer.unbind());
                false
            }
            Err(error) => {
                self.finish(slf, plan, Err(error));
                false
            }
        }
    }

    fn finish(&self, slf: &Bound<'_, Self>, plan: &Plan, result: PyResult<()>) {
        let py = slf.py();
        let (finished, callbacks) = {
            let mut state = self.state.borrow_mut(py);
            state.activity = Activity::Finished;
            state.coroutine = None;
            if state.appointment.take_start().is_some() {
                // Its run never began.
                let slot = plan.state().slot();
                slot.not_started.fetch_add(1, Ordering::Relaxed);
            }
            (state.finished.take(), std::mem::take(&mut state.callbacks))
        };
        plan.forget(slf);
        if let Some(pacer) = &plan.pacer {
            pacer.left(self.plan.bind(py));
        }
        let told: PyResult<()> = finished.map_or(Ok(()), |future| {
            let future = future.bind(py);
            if future.call_method0("done")?.is_truthy()? {
                return Ok(());
            }
            match result {
                Ok(()) => future.call_method1("set_result", (py.None(),))?,
                Err(error) => future.call_method1("set_exception", (error.into_value(py),))?,
            };
            Ok(())
        });
        plan.engine.notice(py);
        if let Err(error) = told {
            error.write_unraisable(py, Some(slf.as_any()));
        }
        for callback in callbacks {
            if let Err(error) = plan.engine.call_soon(callback.bind(py), slf.as_any()) {
                error.write_unraisable(py, Some(slf.as_any()));
            }
        }
    }

    /// Resumes an idle worker for a run that is due. False when it is not idle.
    pub(crate) fn rouse(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        let this = slf.get();
        let plan = this.plan.bind(py).get();
        {
            let mut state = this.state.borrow_mut(py);
            if state.activity != Activity::Parked {
                return false;
            }
            state.activity = Activity::Idle;
            state.appointment = Appointment::Ask;
        }
        plan.state().slot().parked.fetch_sub(1, Ordering::Relaxed);
        if plan.engine.may_step(py) {
            Self::step(slf, None);
        } else {
            this.resume_soon(slf);
        }
        true
    }

    /// Resumes a pausing worker if it may run again or is over.
    pub(crate) fn wake(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let plan = this.plan.bind(py).get();
        let elapsed = {
            let state = this.state.borrow(py);
            state.began.map_or(Duration::ZERO, |began| began.elapsed())
        };
        if plan.may_run(this.number) || plan.is_over(elapsed) {
            this.unpark(slf, plan);
        }
    }

    fn unpark(&self, slf: &Bound<'_, Self>, plan: &Plan) {
        {
            let mut state = self.state.borrow_mut(slf.py());
            if state.activity != Activity::Parked {
                return;
            }
            // At once: a second call before the worker's turn must not resume it twice.
            state.activity = Activity::Idle;
        }
        plan.state().slot().parked.fetch_sub(1, Ordering::Relaxed);
        self.resume_soon(slf);
    }

    /// Cuts a sleep or a pause between two runs.
    pub(crate) fn end_delay(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        this.unpark(slf, this.plan.bind(py).get());
        let timer = {
            let state = slf.get().state.borrow(py);
            if state.activity != Activity::Delayed {
                return;
            }
            state.timer.as_ref().map(|timer| timer.clone_ref(py))
        };
        if let Some(timer) = timer
            && let Err(error) = timer.bind(py).call_method0("cancel")
        {
            error.write_unraisable(py, Some(slf.as_any()));
        }
        slf.get().resume_soon(slf);
    }

    /// Cancels what is in flight; a run cut like that counts as interrupted.
    pub(crate) fn interrupt(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let activity = slf.get().state.borrow(py).activity;
        match activity {
            Activity::Delayed | Activity::Parked => Self::end_delay(slf),
            Activity::Finished => {}
            Activity::Idle | Activity::Opening(_) | Activity::Running(_) => {
                slf.get().state.borrow_mut(py).interrupting = true;
                if let Err(error) = slf.get().request_cancel(py, None) {
                    error.write_unraisable(py, Some(slf.as_any()));
                }
            }
        }
    }

    fn request_cancel(&self, py: Python<'_>, message: Option<Py<PyAny>>) -> PyResult<bool> {
        let waiting_for = {
            let mut state = self.state.borrow_mut(py);
            if state.activity == Activity::Finished {
                return Ok(false);
            }
            state.cancel_requests += 1;
            state
                .waiting_for
                .as_ref()
                .map(|future| future.clone_ref(py))
        };
        if let Some(future) = waiting_for {
            let cancelled = match &message {
                Some(message) => future.bind(py).call_method1("cancel", (message,))?,
                None => future.bind(py).call_method0("cancel")?,
            };
            if cancelled.is_truthy()? {
                return Ok(true);
            }
        }
        let mut state = self.state.borrow_mut(py);
        state.must_cancel = true;
        state.cancel_message = message;
        Ok(true)
    }
}

/// Whether what `open_session` raised is the worker's end rather than a failed run: a fixture that
/// failed, a cancellation, an exit.
fn ends_worker(py: Python<'_>, error: &PyErr) -> bool {
    if error.is_instance_of::<CancelledError>(py) || !error.is_instance_of::<PyException>(py) {
        return true;
    }
    py.import(intern!(py, "molotov.exceptions"))
        .and_then(|module| module.getattr(intern!(py, "FixtureError")))
        .is_ok_and(|fixture_error| error.is_instance(py, &fixture_error))
}

fn call_scenario<'py>(
    py: Python<'py>,
    scenario: &super::plan::Scenario,
    session: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let function = scenario.function.bind(py);
    if scenario.arguments.is_none() && scenario.keywords.is_none() {
        return function.call1((session,));
    }
    let mut arguments = vec![session.clone()];
    if let Some(more) = &scenario.arguments {
        arguments.extend(more.bind(py).iter());
    }
    let keywords = scenario.keywords.as_ref().map(|keywords| keywords.bind(py));
    function.call(PyTuple::new(py, arguments)?, keywords)
}

/// A coroutine steps as it is; any other awaitable through its `__await__`.
#[inline]
fn into_iterator(awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = awaitable.py();
    if ffi::is_coroutine(&awaitable) || awaitable.hasattr(intern!(py, "send"))? {
        return Ok(awaitable);
    }
    match awaitable.getattr_opt(intern!(py, "__await__"))? {
        Some(method) => method.call0(),
        None => Err(PyTypeError::new_err(format!(
            "object {} can't be used in 'await' expression",
            awaitable.get_type().name()?
        ))),
    }
}

fn throw<'py>(coroutine: &Bound<'py, PyAny>, error: PyErr) -> Sent<'py> {
    let py = coroutine.py();
    match coroutine.call_method1(intern!(py, "throw"), (error.into_value(py),)) {
        Ok(value) => Sent::Yielded(value),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            match error.value(py).getattr(intern!(py, "value")) {
                Ok(value) => Sent::Returned(value),
                Err(error) => Sent::Raised(error),
            }
        }
        Err(error) => Sent::Raised(error),
    }
}

#[pymethods]
impl Worker {
    /// The worker's number, from 0, in its process.
    #[getter]
    fn worker_id(&self) -> i64 {
        self.number
    }

    /// The number of the present run, from 1; `None` before the first.
    #[getter(step)]
    fn step_id(&self, py: Python<'_>) -> Option<u64> {
        let started = self.state.borrow(py).started_runs;
        (started > 0).then_some(started)
    }

    /// The open sessions by kind.
    #[getter]
    fn sessions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let sessions = PyDict::new(py);
        for (kind, session) in &self.state.borrow(py).sessions {
            sessions.set_item(kind, session)?;
        }
        Ok(sessions)
    }

    /// The HTTP session, once it is open.
    #[getter(session)]
    fn http_session(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.session(py, "http")
    }

    /// Starts the worker. The future ends when the worker has run everything it was to run, and
    /// raises what `open_session` raised.
    fn run<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let engine = &this.plan.bind(py).get().engine;
        let future = engine
            .event_loop(py)?
            .bind(py)
            .call_method0("create_future")?;
        {
            let mut state = this.state.borrow_mut(py);
            if state.began.is_some() {
                return Err(PyRuntimeError::new_err("the worker is running already"));
            }
            state.began = Some(Instant::now());
            state.finished = Some(future.clone().unbind());
        }
        this.resume_soon(slf);
        Ok(future)
    }

    #[pyo3(signature = (future=None))]
    fn __call__(slf: &Bound<'_, Self>, future: Option<&Bound<'_, PyAny>>) {
        let _ = future;
        Self::step(slf, None);
    }

    /// As `asyncio.Task.cancel`: raises `CancelledError` inside the run in flight.
    #[pyo3(signature = (msg=None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        self.request_cancel(py, msg)
    }

    /// As `asyncio.Task.cancelling`.
    fn cancelling(&self, py: Python<'_>) -> u32 {
        self.state.borrow(py).cancel_requests
    }

    /// As `asyncio.Task.uncancel`.
    fn uncancel(&self, py: Python<'_>) -> u32 {
        let mut state = self.state.borrow_mut(py);
        state.cancel_requests = state.cancel_requests.saturating_sub(1);
        if state.cancel_requests == 0 {
            state.must_cancel = false;
        }
        state.cancel_requests
    }

    #[getter(_must_cancel)]
    fn must_cancel(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).must_cancel
    }

    #[getter(_fut_waiter)]
    fn future_waited_for(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .borrow(py)
            .waiting_for
            .as_ref()
            .map(|future| future.clone_ref(py))
    }

    /// As `asyncio.Task.done`.
    fn done(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).activity == Activity::Finished
    }

    /// As `asyncio.Task.cancelled`.
    fn cancelled(&self) -> bool {
        false
    }

    /// As `asyncio.Task.get_name`.
    fn get_name(&self, py: Python<'_>) -> String {
        self.state.borrow(py).name.clone()
    }

    /// As `asyncio.Task.set_name`.
    fn set_name(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state.borrow_mut(value.py()).name = value.str()?.to_string();
        Ok(())
    }

    /// As `asyncio.Task.get_coro`.
    fn get_coro(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .borrow(py)
            .coroutine
            .as_ref()
            .map(|coroutine| coroutine.clone_ref(py))
    }

    /// As `asyncio.Task.get_context`.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    /// As `asyncio.Task.get_loop`.
    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.plan.bind(py).get().engine.event_loop(py)
    }

    /// As `asyncio.Task.get_stack`.
    #[pyo3(signature = (*, limit=None))]
    fn get_stack<'py>(&self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        let frame = match self.get_coro(py) {
            Some(coroutine) => coroutine.bind(py).getattr_opt("cr_frame")?,
            None => None,
        };
        let frames = frame.filter(|frame| !frame.is_none() && limit != Some(0));
        Ok(pyo3::types::PyList::new(py, frames)?.into_any())
    }

    /// As `asyncio.Task.add_done_callback`; called when the worker, not the run, is over.
    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(&self, py: Python<'_>, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        let _ = context;
        self.state.borrow_mut(py).callbacks.push(callback);
    }

    /// As `asyncio.Task.remove_done_callback`.
    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> usize {
        let mut state = self.state.borrow_mut(callback.py());
        let before = state.callbacks.len();
        state.callbacks.retain(|known| !known.is(callback));
        before - state.callbacks.len()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = self.state.borrow(py);
        format!("<Worker {} run {}>", self.number, state.started_runs)
    }
}
