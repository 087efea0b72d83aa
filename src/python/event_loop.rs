//! The event loop's native half: asyncio's `select()` drives a tokio runtime on the same thread.
//!
//! [`Driver`] sits behind the selector of a genuine `asyncio.SelectorEventLoop`. While asyncio waits
//! for events, the runtime polls the connections, and completed requests resume their workers right
//! there. The loop gets control back as soon as it has something to do itself: a file descriptor of
//! its own, a new callback, a new timer, a signal, or its timeout.
//!
//! [`Engine`] is what sessions and workers hold: where to spawn, and how to hand a result over.
//! For loops that cannot be driven this way see [`super::bridge`].

use super::arguments::Method;
use super::awaitable::Awaitable;
use super::connection::Sent;
use super::ffi::{self, GilCell};
use super::urls::{UrlCache, UrlEntry};
use crate::engine::shared::RunState;
use crate::http::resolve::Resolver;
use crate::metrics::SharedRecorder;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, Runtime};

/// Where completed requests of a foreign loop wait for that loop's thread.
pub(crate) struct Mailbox {
    pub(crate) queue: GilCell<VecDeque<Py<Awaitable>>>,
    pub(crate) signal: OwnedFd,
}

/// The parts of the asyncio loop that are called often.
pub(crate) struct LoopRefs {
    pub(crate) event_loop: Py<PyAny>,
    call_soon: Py<PyAny>,
    call_later: Py<PyAny>,
    /// asyncio's `_ready` deque; only on a loop that we drive.
    ready: Option<Py<PyAny>>,
    /// `asyncio.tasks._current_tasks`, up to 3.13; 3.14 keeps the current task in the thread state.
    current_tasks: Option<Py<PyDict>>,
    enter_task: Py<PyAny>,
    leave_task: Py<PyAny>,
}

/// Tells tasks apart while the loop holds them; never followed.
type TaskAddress = usize;

#[derive(Default)]
struct EngineState {
    in_select: bool,
    /// A worker's coroutine is being resumed right now.
    in_step: bool,
    /// The task whose entry as the current one was left in place: it is removed once, when `select()` is left,
    /// rather than after each step.
    left: Option<TaskAddress>,
    scheduled: Option<Py<PyList>>,
    scheduled_len: usize,
    waker: Option<Waker>,
    interrupted: bool,
    signal_error: Option<PyErr>,
}

/// What a run wants to know of every request made on its loop.
pub(crate) struct RunHooks {
    pub(crate) state: Arc<RunState>,
    pub(crate) recorder: SharedRecorder,
}

/// One per event loop: the runtime's handle and the way back to the loop.
pub(crate) struct Engine {
    pub(crate) handle: Handle,
    pub(crate) resolver: Resolver,
    pub(crate) urls: GilCell<UrlCache>,
    pub(crate) scratch: GilCell<Vec<u8>>,
    pub(crate) outbox: GilCell<Vec<u8>>,
    pub(crate) run: GilCell<Option<Arc<RunHooks>>>,
    mailbox: Option<Mailbox>,
    state: GilCell<EngineState>,
    refs: OnceLock<LoopRefs>,
}

/// One read of the socket: large enough that an ordinary response arrives whole.
const SCRATCH_BYTES: usize = 64 * 1024;

impl Engine {
    pub(crate) fn new(handle: Handle, mailbox: Option<Mailbox>) -> Self {
        Self {
            handle,
            resolver: Resolver::default(),
            urls: GilCell::new(UrlCache::default()),
            scratch: GilCell::new(vec![0; SCRATCH_BYTES]),
            outbox: GilCell::default(),
            run: GilCell::new(None),
            mailbox,
            state: GilCell::new(EngineState::default()),
            refs: OnceLock::new(),
        }
    }

    /// Binds the engine to its asyncio loop, once.
    pub(crate) fn attach(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let tasks = py.import("asyncio.tasks")?;
        let modern = py.version_info() >= (3, 14);
        let refs = LoopRefs {
            event_loop: event_loop.clone().unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            call_later: event_loop.getattr("call_later")?.unbind(),
            ready: match self.mailbox {
                None => Some(event_loop.getattr("_ready")?.unbind()),
                Some(_) => None,
            },
            current_tasks: if modern {
                None
            } else {
                Some(
                    tasks
                        .getattr("_current_tasks")?
                        .cast_into::<PyDict>()?
                        .unbind(),
                )
            },
            enter_task: tasks.getattr("_enter_task")?.unbind(),
            leave_task: tasks.getattr("_leave_task")?.unbind(),
        };
        self.refs
            .set(refs)
            .map_err(|_| PyRuntimeError::new_err("the loop is attached already"))
    }

    pub(crate) fn refs(&self) -> PyResult<&LoopRefs> {
        self.refs
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the engine has no event loop yet"))
    }

    /// Whether the loop is driven natively (and not through the bridge).
    pub(crate) fn is_native(&self) -> bool {
        self.mailbox.is_none()
    }

    pub(crate) fn event_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.refs()?.event_loop.clone_ref(py))
    }

    /// `loop.call_soon(callback, argument)`
    pub(crate) fn call_soon(
        &self,
        callback: &Bound<'_, PyAny>,
        argument: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.refs()?
            .call_soon
            .bind(callback.py())
            .call1((callback, argument))?;
        self.notice(callback.py());
        Ok(())
    }

    /// `loop.call_soon(callback, argument, context=context)`
    pub(crate) fn call_soon_in(
        &self,
        callback: &Bound<'_, PyAny>,
        argument: &Bound<'_, PyAny>,
        context: Option<&Py<PyAny>>,
    ) -> PyResult<()> {
        let py = callback.py();
        let Some(context) = context else {
            return self.call_soon(callback, argument);
        };
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        self.refs()?
            .call_soon
            .bind(py)
            .call((callback, argument), Some(&keywords))?;
        self.notice(py);
        Ok(())
    }

    /// `loop.call_later(delay, callback, None)`; gives the timer handle.
    pub(crate) fn call_later<'py>(
        &self,
        delay: f64,
        callback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        let handle = self
            .refs()?
            .call_later
            .bind(py)
            .call1((delay, callback, py.None()))?;
        self.notice(py);
        Ok(handle)
    }

    /// Makes `task` the current task of the loop.
    #[inline]
    pub(crate) fn enter_task(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let refs = self.refs()?;
        let entered = self.state.borrow_mut(py).left.take() == Some(task.as_ptr().addr());
        if let Some(tasks) = &refs.current_tasks {
            if !entered {
                tasks.bind(py).set_item(&refs.event_loop, task)?;
            }
        } else {
            refs.enter_task.bind(py).call1((&refs.event_loop, task))?;
        }
        self.state.borrow_mut(py).in_step = true;
        Ok(())
    }

    /// Ends [`Engine::enter_task`]. Inside `select()` nobody looks at the current task until the next
    /// step replaces it, so the entry stays until `select()` is left.
    #[inline]
    pub(crate) fn leave_task(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let refs = self.refs()?;
        let in_select = {
            let mut state = self.state.borrow_mut(py);
            state.in_step = false;
            state.in_select
        };
        let Some(tasks) = &refs.current_tasks else {
            return refs
                .leave_task
                .bind(py)
                .call1((&refs.event_loop, task))
                .map(drop);
        };
        if in_select {
            self.state.borrow_mut(py).left = Some(task.as_ptr().addr());
            return Ok(());
        }
        tasks.bind(py).del_item(&refs.event_loop)
    }

    /// Whether a worker may be resumed in place: inside `select()` and not by another worker's step. An
    /// asyncio task, or a worker, that is the cause keeps being the current task until it is done.
    pub(crate) fn may_step(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.in_select && !state.in_step
    }

    /// Leaves `select()` soon when asyncio itself has got something to do since it was entered.
    #[inline]
    pub(crate) fn notice(&self, py: Python<'_>) {
        let mut state = self.state.borrow_mut(py);
        if state.in_select
            && state.waker.is_some()
            && self.loop_is_due(py, &state)
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
    }

    fn loop_is_due(&self, py: Python<'_>, state: &EngineState) -> bool {
        let Some(ready) = self.refs.get().and_then(|refs| refs.ready.as_ref()) else {
            return false;
        };
        state.interrupted
            || state.signal_error.is_some()
            || ready.bind(py).len().unwrap_or(1) > 0
            || state
                .scheduled
                .as_ref()
                .is_some_and(|list| list.bind(py).len() != state.scheduled_len)
    }

    /// Hands a completed awaitable to whoever waits for it: at once on a loop that we drive, through
    /// the mailbox on a foreign loop.
    pub(crate) fn deliver(&self, awaitable: &Bound<'_, Awaitable>) {
        let py = awaitable.py();
        match &self.mailbox {
            None => {
                Awaitable::wake(awaitable);
                self.notice(py);
            }
            Some(mailbox) => {
                let first = {
                    let mut queue = mailbox.queue.borrow_mut(py);
                    queue.push_back(awaitable.clone().unbind());
                    queue.len() == 1
                };
                if first {
                    // A full counter means that the loop was told already.
                    let _ = nix_write(&mailbox.signal);
                }
            }
        }
    }

    /// Counts an exchange: a response read to its end, or (`status` of none) a failure.
    #[inline]
    pub(crate) fn record(
        &self,
        py: Python<'_>,
        sent: &Sent,
        ended: Instant,
        status: Option<u16>,
        received_bytes: u64,
    ) {
        let run = self.run.borrow(py);
        let Some(run) = run.as_ref() else { return };
        let mut recorder = run.recorder.lock();
        let name = sent.url.name(py, sent.method.as_str(), &mut recorder);
        recorder.record(
            name,
            ended.saturating_duration_since(sent.began),
            status.is_some_and(|status| status < 400),
            received_bytes,
        );
        if let Some(status) = status {
            run.state.slot().count_response(status);
        }
    }

    /// Counts the time in which the body of a response came, when that was later than its head.
    pub(crate) fn record_transfer(&self, py: Python<'_>, time: Duration) {
        if let Some(run) = self.run.borrow(py).as_ref() {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let total = &run.state.slot().transfer_micros;
            total.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// Counts a request that got no response.
    pub(crate) fn record_failure(
        &self,
        py: Python<'_>,
        url: &Arc<UrlEntry>,
        method: &Method,
        began: Instant,
    ) {
        let sent = Sent {
            method: method.clone(),
            url: Arc::clone(url),
            began,
        };
        self.record(py, &sent, Instant::now(), None, 0);
    }

    /// Counts a request that was sent a second time.
    pub(crate) fn record_resent(&self, py: Python<'_>) {
        if let Some(run) = self.run.borrow(py).as_ref() {
            run.state.slot().resent.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn mailbox(&self) -> Option<&Mailbox> {
        self.mailbox.as_ref()
    }

    fn unparked(&self, py: Python<'_>, signal: Result<(), PyErr>) {
        if let Err(error) = signal {
            self.state.borrow_mut(py).signal_error = Some(error);
        }
        self.notice(py);
    }
}

fn nix_write(fd: &OwnedFd) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::File::from(fd.try_clone()?).write_all(&1_u64.to_ne_bytes())
}

/// A current-thread runtime that gives the GIL away while it has nothing to do.
///
/// Returns the runtime and the place where its engine is to be put.
pub(crate) fn build_runtime() -> std::io::Result<(Runtime, Arc<OnceLock<Weak<Engine>>>)> {
    let place: Arc<OnceLock<Weak<Engine>>> = Arc::default();
    let engine = Arc::clone(&place);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(ffi::release_gil)
        .on_thread_unpark(move || {
            let signal = ffi::restore_gil();
            if let Some(engine) = engine.get().and_then(Weak::upgrade) {
                Python::attach(|py| engine.unparked(py, signal));
            }
        })
        .build()?;
    Ok((runtime, place))
}

/// Drives the runtime from inside `selector.select()`.
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct Driver {
    engine: Arc<Engine>,
    poller: GilCell<Option<Poller>>,
}

struct Poller {
    /// asyncio's own epoll descriptor, watched by the runtime. Declared first: dropped first.
    asyncio: AsyncFd<OwnedFd>,
    runtime: Runtime,
}

#[pymethods]
impl Driver {
    /// A driver for the selector whose epoll descriptor is `fd`.
    #[new]
    fn new(fd: RawFd) -> PyResult<Self> {
        let (runtime, place) = build_runtime()?;
        let asyncio = {
            let _context = runtime.enter();
            ffi::watch(fd)?
        };
        let engine = Arc::new(Engine::new(runtime.handle().clone(), None));
        let _ = place.set(Arc::downgrade(&engine));
        Ok(Self {
            engine,
            poller: GilCell::new(Some(Poller { asyncio, runtime })),
        })
    }

    /// Binds the driver to the loop whose selector it serves.
    fn attach(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        self.engine.attach(event_loop)
    }

    /// The engine of this loop.
    #[getter]
    fn engine(&self) -> EngineHandle {
        EngineHandle(Arc::clone(&self.engine))
    }

    /// Ends the present wait, or the next one, at once.
    fn interrupt(&self, py: Python<'_>) {
        self.engine.state.borrow_mut(py).interrupted = true;
        self.engine.notice(py);
    }

    /// Runs for at most `timeout` seconds (negative: without limit).
    ///
    /// True when the selector's own descriptors may have events.
    fn drive(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let poller = self.poller.borrow(py);
        let Some(poller) = poller.as_ref() else {
            return Err(PyRuntimeError::new_err("the event loop is closed"));
        };
        let engine = &self.engine;
        // `BaseEventLoop.__init__` may look at the selector before the loop is attached.
        let Ok(refs) = engine.refs() else {
            return Ok(true);
        };
        let scheduled = refs
            .event_loop
            .bind(py)
            .getattr(intern!(py, "_scheduled"))?
            .cast_into::<PyList>()?;
        {
            let mut state = engine.state.borrow_mut(py);
            state.scheduled_len = scheduled.len();
            state.scheduled = Some(scheduled.unbind());
            state.in_select = true;
        }
        let selectable = poller.wait(engine, timeout);
        let (signal, leave) = {
            let mut state = engine.state.borrow_mut(py);
            state.in_select = false;
            state.interrupted = false;
            state.waker = None;
            state.scheduled = None;
            (state.signal_error.take(), state.left.take().is_some())
        };
        if leave && let Some(tasks) = &refs.current_tasks {
            // A step that failed to enter leaves no entry behind: nothing to remove then.
            let _ = tasks.bind(py).del_item(&refs.event_loop);
        }
        signal.map_or(Ok(selectable), Err)
    }

    /// Ends the runtime and every connection on it.
    fn close(&self, py: Python<'_>) {
        let poller = self.poller.borrow_mut(py).take();
        if let Some(Poller { asyncio, runtime }) = poller {
            {
                let _context = runtime.enter();
                drop(asyncio);
            }
            // Name look-ups in flight run on helper threads: not worth waiting for.
            runtime.shutdown_background();
        }
    }
}

impl Poller {
    fn wait(&self, engine: &Engine, timeout: f64) -> bool {
        let sleep = (timeout > 0.0).then(|| {
            let _context = self.runtime.enter();
            // A day is the longest wait: asyncio's own limit, and far inside the timer's range.
            tokio::time::sleep(Duration::from_secs_f64(timeout.min(86_400.0)))
        });
        let mut sleep = pin!(sleep);
        // With a timeout of zero the runtime still gets one turn, so that a busy loop cannot starve
        // the connections.
        let mut had_turn = timeout != 0.0;
        self.runtime.block_on(std::future::poll_fn(|cx| {
            if had_turn && Python::attach(|py| engine.loop_is_due(py, &engine.state.borrow(py))) {
                return Poll::Ready(true);
            }
            while let Poll::Ready(readiness) = self.asyncio.poll_read_ready(cx) {
                let Ok(mut readiness) = readiness else {
                    return Poll::Ready(true);
                };
                if ffi::has_events(self.asyncio.as_raw_fd()) {
                    return Poll::Ready(true);
                }
                readiness.clear_ready();
            }
            if let Some(sleep) = sleep.as_mut().as_pin_mut()
                && sleep.poll(cx).is_ready()
            {
                return Poll::Ready(false);
            }
            if !had_turn {
                had_turn = true;
                // A deferred wake: the runtime polls the other tasks and the sockets first.
                return match pin!(tokio::task::yield_now()).poll(cx) {
                    Poll::Ready(()) => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                };
            }
            if timeout == 0.0 {
                return Poll::Ready(false);
            }
            Python::attach(|py| {
                let mut state = engine.state.borrow_mut(py);
                if !state
                    .waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(cx.waker()))
                {
                    state.waker = Some(cx.waker().clone());
                }
            });
            Poll::Pending
        }))
    }
}

/// An [`Engine`] as Python passes it around.
#[pyclass(frozen, name = "Engine", module = "molotov._core")]
pub(crate) struct EngineHandle(pub(crate) Arc<Engine>);

#[pymethods]
impl EngineHandle {
    /// Whether the loop is driven natively rather than through the bridge.
    #[getter]
    fn native(&self) -> bool {
        self.0.is_native()
    }
}

/// The engine of `event_loop`, made on first use when it is a foreign loop.
pub(crate) fn engine_of(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Engine>> {
    let py = event_loop.py();
    let handle = py
        .import("molotov._loop")?
        .call_method1("engine_of", (event_loop,))?;
    Ok(Arc::clone(&handle.cast::<EngineHandle>()?.get().0))
}
