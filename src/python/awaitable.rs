//! The awaitable that a request (or a body read) returns: a coroutine and an asyncio future in one.
//!
//! Before its first resumption it is a coroutine: `asyncio.create_task`, `gather` and `wait_for` wrap
//! it in a task. Once started it yields itself and follows the future protocol
//! (`_asyncio_future_blocking`, `add_done_callback`, `cancel`, ...), which serves both the engine's own
//! workers, without any Python call, and real asyncio tasks.
//!
//! Longer than usual: the protocols of a coroutine and of a future are one class here.

use super::carrier::Carrier;
use super::event_loop::Engine;
use super::ffi::{self, GilCell, Resume, Sent};
use super::request::Job;
use super::response::{BodyRead, Response};
use super::websocket::{Begun, Operation, Waiting};
use super::worker::Worker;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;

/// What is being waited for.
pub(crate) enum Task {
    /// A request, up to the head of its response.
    Request(Box<Job>),
    /// The rest of a response's body.
    Body(BodyRead),
    /// Until the socket has taken the body of another request.
    Drain(Py<Awaitable>),
    /// Something to do with a websocket, not begun yet.
    WebSocket(Operation),
    /// A message, or room to send, on a websocket.
    WebSocketWait(Waiting),
    /// Taken apart already: the awaitable is done.
    Spent,
}

/// How it ended.
pub(crate) enum Outcome {
    Value(Py<PyAny>),
    Error(PyErr),
    Cancelled(Option<Py<PyAny>>),
}

impl Outcome {
    #[inline]
    fn into_sent(self, py: Python<'_>) -> Sent<'_> {
        match self {
            Self::Value(value) => Sent::Returned(value.into_bound(py)),
            Self::Error(error) => Sent::Raised(error),
            Self::Cancelled(message) => Sent::Raised(cancelled_error(py, message)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Created,
    Pending,
    Done,
    Taken,
}

struct State {
    task: Task,
    phase: Phase,
    blocking: bool,
    cancelled: bool,
    /// By `async with`, not by `await`.
    entered: bool,
    outcome: Option<Outcome>,
    waiter: Option<Py<Worker>>,
    callbacks: Vec<(Py<PyAny>, Option<Py<PyAny>>)>,
    response: Option<Py<Response>>,
    /// The server has answered, but the body of the request is still on its way.
    upload: Option<Carrier>,
}

/// See the module's text.
#[cfg_attr(
    not(feature = "abi3"),
    pyclass(frozen, freelist = 1024, weakref, module = "molotov._core")
)]
#[cfg_attr(feature = "abi3", pyclass(frozen, weakref, module = "molotov._core"))]
pub(crate) struct Awaitable {
    engine: Arc<Engine>,
    state: GilCell<State>,
}

/// Whether a worker may suspend itself on an awaitable.
pub(crate) enum Subscription {
    Waiting,
    DoneAlready,
}

impl Awaitable {
    pub(crate) fn create(
        py: Python<'_>,
        engine: Arc<Engine>,
        task: Task,
    ) -> PyResult<Bound<'_, Self>> {
        let state = State {
            task,
            phase: Phase::Created,
            blocking: false,
            cancelled: false,
            entered: false,
            outcome: None,
            waiter: None,
            callbacks: Vec::new(),
            response: None,
            upload: None,
        };
        Bound::new(
            py,
            Self {
                engine,
                state: GilCell::new(state),
            },
        )
    }

    /// Lets the owner of the task look at it. `None` once the awaitable is done.
    pub(crate) fn with_job<R>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&mut Job) -> R,
    ) -> Option<R> {
        let mut state = self.state.borrow_mut(py);
        if matches!(state.phase, Phase::Done | Phase::Taken) {
            return None;
        }
        match &mut state.task {
            Task::Request(job) => Some(body(job)),
            _ => None,
        }
    }

    /// What a request's body is sent on although the answer is there.
    pub(crate) fn upload(&self, py: Python<'_>) -> Option<Carrier> {
        self.state.borrow(py).upload.clone()
    }

    /// What a wait for a body is to do when there is more of it.
    pub(crate) fn body_read(&self, py: Python<'_>) -> Option<BodyRead> {
        match &self.state.borrow(py).task {
            Task::Body(read) => Some(read.clone_ref(py)),
            _ => None,
        }
    }

    pub(crate) fn is_done(&self, py: Python<'_>) -> bool {
        matches!(self.state.borrow(py).phase, Phase::Done | Phase::Taken)
    }

    /// Ends the wait and hands the result over.
    pub(crate) fn resolve(slf: &Bound<'_, Self>, outcome: Outcome) {
        let this = slf.get();
        let spent = {
            let mut state = this.state.borrow_mut(slf.py());
            if matches!(state.phase, Phase::Done | Phase::Taken) {
                return;
            }
            state.outcome = Some(outcome);
            state.phase = Phase::Done;
            std::mem::replace(&mut state.task, Task::Spent)
        };
        if let Task::Request(mut job) = spent {
            if let Some(waiter) = job.take_drain() {
                Self::resolve(waiter.bind(slf.py()), Outcome::Value(slf.py().None()));
            }
            if job.is_uploading() {
                this.state.borrow_mut(slf.py()).upload = job.carrier();
            }
        }
        this.engine.deliver(slf);
    }

    /// Remembers the response, so that leaving `async with` can release it.
    pub(crate) fn resolve_response(slf: &Bound<'_, Self>, response: Bound<'_, Response>) {
        {
            let mut state = slf.get().state.borrow_mut(slf.py());
            if state.entered {
                response.get().enter(slf.py());
            }
            state.response = Some(response.clone().unbind());
        }
        Self::resolve(slf, Outcome::Value(response.into_any().unbind()));
    }

    /// Resumes whoever waits. Runs on the loop's thread.
    pub(crate) fn wake(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let (waiter, callbacks) = {
            let mut state = slf.get().state.borrow_mut(py);
            (state.waiter.take(), std::mem::take(&mut state.callbacks))
        };
        if let Some(worker) = waiter {
            let worker = worker.bind(py);
            let engine = &slf.get().engine;
            if engine.may_step(py) {
                Worker::step(worker, None);
            } else if let Err(error) = engine.call_soon(worker, slf.as_any()) {
                error.write_unraisable(py, Some(slf.as_any()));
            }
        }
        for (callback, context) in callbacks {
            let called =
                slf.get()
                    .engine
                    .call_soon_in(callback.bind(py), slf.as_any(), context.as_ref());
            if let Err(error) = called {
                error.write_unraisable(py, Some(slf.as_any()));
            }
        }
    }

    /// A worker of ours waits here, without any callback object.
    pub(crate) fn subscribe(&self, worker: &Bound<'_, Worker>) -> Subscription {
        let mut state = self.state.borrow_mut(worker.py());
        state.blocking = false;
        if state.phase == Phase::Done {
            return Subscription::DoneAlready;
        }
        state.waiter = Some(worker.clone().unbind());
        Subscription::Waiting
    }

    /// Begins. Gives the outcome of what needs no wait, if nobody has been told of it.
    fn start(slf: &Bound<'_, Self>) -> Option<Outcome> {
        enum Start {
            Request,
            Body(BodyRead),
            Drain(Py<Awaitable>),
            WebSocket(Operation),
        }
        let py = slf.py();
        let start = {
            let mut state = slf.get().state.borrow_mut(py);
            match &state.task {
                Task::Request(_) => Start::Request,
                Task::Body(read) => Start::Body(read.clone_ref(py)),
                Task::Drain(upload) => Start::Drain(upload.clone_ref(py)),
                Task::WebSocket(_) => match std::mem::replace(&mut state.task, Task::Spent) {
                    Task::WebSocket(operation) => Start::WebSocket(operation),
                    _ => return None,
                },
                Task::WebSocketWait(_) | Task::Spent => return None,
            }
        };
        match start {
            Start::Request => Job::start(slf),
            Start::Body(read) => read.start(slf),
            Start::Drain(upload) => Job::drain(upload.bind(py), slf),
            Start::WebSocket(operation) => match operation.begin(slf) {
                Begun::Done(outcome) => return Some(outcome),
                Begun::Waiting(waiting) => Self::wait_for(slf, waiting),
            },
        }
        None
    }

    /// Notes what a begun operation waits for, unless it is over already.
    pub(crate) fn wait_for(slf: &Bound<'_, Self>, waiting: Waiting) {
        let mut state = slf.get().state.borrow_mut(slf.py());
        if state.phase == Phase::Pending {
            state.task = Task::WebSocketWait(waiting);
        }
    }

    /// What a begun operation waits for.
    fn waiting(&self, py: Python<'_>) -> Option<Waiting> {
        match &self.state.borrow(py).task {
            Task::WebSocketWait(waiting) => Some(waiting.clone_ref(py)),
            _ => None,
        }
    }

    /// Ends the wait without a result. `cancelled`: not just because nobody waits any longer.
    fn abandon(slf: &Bound<'_, Self>, message: Option<Py<PyAny>>, cancelled: bool) -> bool {
        let py = slf.py();
        let outcome = Outcome::Cancelled(message);
        Self::settle(slf, outcome, |task| match task {
            Task::Request(job) => job.abort(py, |other| other.is(slf)),
            Task::Body(read) => read.abort(py),
            Task::WebSocketWait(waiting) => waiting.abort(slf, cancelled),
            Task::WebSocket(_) | Task::Drain(_) | Task::Spent => {}
        })
    }

    /// [`Awaitable::resolve`] for callers that are themselves called by a script: whoever waits is resumed
    /// by the loop, never in place. On the loop's thread only.
    pub(crate) fn resolve_soon(slf: &Bound<'_, Self>, outcome: Outcome) {
        Self::settle(slf, outcome, drop);
    }

    /// Sets the outcome, deals with the task, then lets the loop resume whoever waits.
    fn settle(slf: &Bound<'_, Self>, outcome: Outcome, end: impl FnOnce(Task)) -> bool {
        let py = slf.py();
        let (task, waiter, callbacks) = {
            let mut state = slf.get().state.borrow_mut(py);
            if matches!(state.phase, Phase::Done | Phase::Taken) {
                return false;
            }
            state.phase = Phase::Done;
            state.cancelled = matches!(outcome, Outcome::Cancelled(_));
            state.outcome = Some(outcome);
            let task = std::mem::replace(&mut state.task, Task::Spent);
            (
                task,
                state.waiter.take(),
                std::mem::take(&mut state.callbacks),
            )
        };
        end(task);
        let engine = &slf.get().engine;
        let mut scheduled = Ok(());
        if let Some(worker) = waiter {
            scheduled = scheduled.and(engine.call_soon(worker.bind(py), slf.as_any()));
        }
        for (callback, context) in callbacks {
            let called = engine.call_soon_in(callback.bind(py), slf.as_any(), context.as_ref());
            scheduled = scheduled.and(called);
        }
        if let Err(error) = scheduled {
            error.write_unraisable(py, Some(slf.as_any()));
        }
        true
    }
}

impl Resume for Awaitable {
    #[inline]
    fn resume<'py>(slf: &Bound<'py, Self>) -> Sent<'py> {
        let py = slf.py();
        let phase = slf.get().state.borrow(py).phase;
        if phase == Phase::Created {
            {
                let mut state = slf.get().state.borrow_mut(py);
                state.phase = Phase::Pending;
                state.blocking = true;
            }
            if let Some(outcome) = Self::start(slf) {
                slf.get().state.borrow_mut(py).phase = Phase::Taken;
                return outcome.into_sent(py);
            }
        }
        let mut state = slf.get().state.borrow_mut(py);
        match state.phase {
            Phase::Done => {
                state.phase = Phase::Taken;
                let outcome = state.outcome.take();
                drop(state);
                outcome.map_or_else(|| Sent::Raised(reused()), |outcome| outcome.into_sent(py))
            }
            Phase::Taken => Sent::Raised(reused()),
            Phase::Created | Phase::Pending => {
                state.blocking = true;
                Sent::Yielded(slf.clone().into_any())
            }
        }
    }
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}

/// `asyncio.CancelledError`, with the message that `cancel()` was given.
pub(crate) fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    let made = py.import("asyncio").and_then(|asyncio| {
        let class = asyncio.getattr(intern!(py, "CancelledError"))?;
        match message {
            Some(message) => class.call1((message,)),
            None => class.call0(),
        }
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

#[pymethods]
impl Awaitable {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match Self::resume(slf) {
            Sent::Yielded(value) => Ok(value),
            Sent::Returned(value) => Err(ffi::stop_iteration(value)),
            Sent::Raised(error) => Err(error),
        }
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        slf: &Bound<'_, Self>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        let py = slf.py();
        let exit = py.get_type::<pyo3::exceptions::PyGeneratorExit>();
        let cancelled = !kind.is(&exit) && !kind.is_instance(&exit)?;
        Self::abandon(slf, None, cancelled);
        slf.get().state.borrow_mut(slf.py()).phase = Phase::Taken;
        Err(match value {
            Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => {
                PyErr::from_value(value)
            }
            Some(value) => PyErr::from_value(kind.call1((value,))?),
            None => PyErr::from_value(kind),
        })
    }

    fn close(slf: &Bound<'_, Self>) {
        Self::abandon(slf, None, false);
        slf.get().state.borrow_mut(slf.py()).phase = Phase::Taken;
    }

    fn __aenter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf.get().state.borrow_mut(slf.py()).entered = true;
        slf
    }

    // Three named arguments: a variadic signature would build a tuple for each call.
    #[pyo3(signature = (kind=None, value=None, traceback=None))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        kind: Option<&Bound<'py, PyAny>>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Ready>> {
        let _ = (kind, value, traceback);
        let py = slf.py();
        let response = slf.get().state.borrow_mut(py).response.take();
        if let Some(response) = response {
            response.get().leave(py);
        }
        Ready::none(py)
    }

    /// `None` until it is started: asyncio then takes it for a coroutine, not for a future.
    #[getter(_asyncio_future_blocking)]
    fn blocking(&self, py: Python<'_>) -> Option<bool> {
        let state = self.state.borrow(py);
        (state.phase != Phase::Created).then_some(state.blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, py: Python<'_>, value: bool) {
        self.state.borrow_mut(py).blocking = value;
    }

    /// Whether more of a streamed request's body can be sent: before the answer, and after it too.
    fn _uploading(&self, py: Python<'_>) -> bool {
        if self.is_done(py) {
            self.upload(py)
                .is_some_and(|carrier| carrier.is_uploading(py))
        } else {
            true
        }
    }

    /// More of a streamed request's body. False: await `_drain()` before giving more.
    fn _feed(slf: &Bound<'_, Self>, data: &[u8]) -> bool {
        Job::feed(slf, data)
    }

    /// The end of a streamed request's body.
    fn _fed(slf: &Bound<'_, Self>) {
        Job::fed(slf);
    }

    /// Waits until the socket has taken what was fed.
    fn _drain<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let engine = Arc::clone(&slf.get().engine);
        Self::create(slf.py(), engine, Task::Drain(slf.clone().unbind()))
    }

    /// Goes on with the end of a websocket, once its reader has been told.
    fn _go_on(slf: &Bound<'_, Self>) {
        if let Some(waiting) = slf.get().waiting(slf.py()) {
            waiting.go_on(slf);
        }
    }

    /// The body's source broke: the request fails with `error`.
    fn _fail(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) {
        let py = slf.py();
        slf.get()
            .with_job(py, |job| job.abort(py, |other| other.is(slf)));
        Self::resolve(slf, Outcome::Error(PyErr::from_value(error)));
    }

    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.engine.event_loop(py)
    }

    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let this = slf.get();
        {
            let mut state = this.state.borrow_mut(slf.py());
            if matches!(state.phase, Phase::Created | Phase::Pending) {
                state.callbacks.push((callback.unbind(), context));
                return Ok(());
            }
        }
        this.engine
            .call_soon_in(&callback, slf.as_any(), context.as_ref())
    }

    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = callback.py();
        let callbacks = std::mem::take(&mut self.state.borrow_mut(py).callbacks);
        let before = callbacks.len();
        let mut kept = Vec::with_capacity(before);
        for (known, context) in callbacks {
            if !known.bind(py).eq(callback)? {
                kept.push((known, context));
            }
        }
        let removed = before - kept.len();
        self.state.borrow_mut(py).callbacks.extend(kept);
        Ok(removed)
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.is_done(py)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).cancelled
    }

    /// Tells a task that it may go on: the value or the error comes from the resumption itself.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let message = match &self.state.borrow(py).outcome {
            Some(Outcome::Cancelled(message)) => message.as_ref().map(|m| m.clone_ref(py)),
            _ => return Ok(()),
        };
        Err(cancelled_error(py, message))
    }

    fn exception(&self) -> Option<Py<PyAny>> {
        None
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> bool {
        Self::abandon(slf, msg, true)
    }

    /// What the coroutine protocol's inspectors look for.
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<Py<PyAny>> {
        match name {
            "cr_await" | "cr_frame" | "cr_code" => Ok(slf.py().None()),
            "cr_running" => Ok(false
                .into_pyobject(slf.py())?
                .to_owned()
                .into_any()
                .unbind()),
            _ => Err(PyAttributeError::new_err(format!(
                "'_RequestContextManager' object has no attribute '{name}'"
            ))),
        }
    }
}

enum Settled {
    Value(Py<PyAny>),
    Error(PyErr),
}

/// An awaitable whose result is known already.
#[cfg_attr(
    not(feature = "abi3"),
    pyclass(frozen, freelist = 256, module = "molotov._core")
)]
#[cfg_attr(feature = "abi3", pyclass(frozen, module = "molotov._core"))]
pub(crate) struct Ready(GilCell<Option<Settled>>);

impl Ready {
    /// Gives `result` to whoever awaits; an error is raised there, not here.
    #[inline]
    pub(crate) fn settle<'py>(
        py: Python<'py>,
        result: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let settled = match result {
            Ok(value) => Settled::Value(value.unbind()),
            Err(error) => Settled::Error(error),
        };
        Bound::new(py, Self(GilCell::new(Some(settled))))
    }

    /// `None`, as often as it is awaited.
    pub(crate) fn none(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        use pyo3::sync::PyOnceLock;
        static NONE: PyOnceLock<Py<Ready>> = PyOnceLock::new();
        NONE.get_or_try_init(py, || Py::new(py, Ready(GilCell::new(None))))
            .map(|ready| ready.bind(py).clone())
    }
}

impl Resume for Ready {
    #[inline]
    fn resume<'py>(slf: &Bound<'py, Self>) -> Sent<'py> {
        let py = slf.py();
        match slf.get().0.borrow_mut(py).take() {
            Some(Settled::Value(value)) => Sent::Returned(value.into_bound(py)),
            Some(Settled::Error(error)) => Sent::Raised(error),
            None => Sent::Returned(py.None().into_bound(py)),
        }
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match Self::resume(slf) {
            Sent::Yielded(value) => Ok(value),
            Sent::Returned(value) => Err(ffi::stop_iteration(value)),
            Sent::Raised(error) => Err(error),
        }
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        Err(PyErr::from_value(value.unwrap_or(kind)))
    }

    fn close(&self, py: Python<'_>) {
        self.0.borrow_mut(py).take();
    }
}
