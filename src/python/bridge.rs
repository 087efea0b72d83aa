//! Serves sessions on event loops that are not ours (uvloop, a framework's own loop).
//!
//! The runtime runs on a thread of its own, which holds the GIL only while it has something to do.
//! Completed requests are queued and announced in batches through an eventfd that the foreign loop
//! watches, so that a busy loop pays one wake-up for many responses.

use super::awaitable::Awaitable;
use super::event_loop::{Engine, EngineHandle, Mailbox, build_runtime};
use super::ffi::{self, GilCell};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The engine of one foreign loop.
#[pyclass(frozen, weakref, module = "molotov._core")]
pub(crate) struct Bridge {
    engine: Arc<Engine>,
    thread: GilCell<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

#[pymethods]
impl Bridge {
    #[new]
    fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (runtime, place) = build_runtime()?;
        let mailbox = Mailbox {
            queue: GilCell::new(VecDeque::new()),
            signal: ffi::event_fd()?,
        };
        let engine = Arc::new(Engine::new(runtime.handle().clone(), Some(mailbox)));
        engine.attach(event_loop)?;
        let _ = place.set(Arc::downgrade(&engine));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("molotov-bridge".into())
            .spawn(move || {
                Python::attach(|_| {
                    // The runtime's park hooks give the GIL away while it waits.
                    let _ = runtime.block_on(stopped);
                    runtime.shutdown_background();
                });
            })?;
        Ok(Self {
            engine,
            thread: GilCell::new(Some((stop, thread))),
        })
    }

    /// The engine that sessions on this loop use.
    #[getter]
    fn engine(&self) -> EngineHandle {
        EngineHandle(Arc::clone(&self.engine))
    }

    /// The descriptor that becomes readable when results wait.
    fn fileno(&self) -> RawFd {
        self.engine
            .mailbox()
            .map_or(-1, |mailbox| mailbox.signal.as_raw_fd())
    }

    /// Hands over every result that waits. The loop calls it when `fileno()` is readable.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let Some(mailbox) = self.engine.mailbox() else {
            return Ok(());
        };
        let mut counter = [0; 8];
        // Nothing to read only means that another call was first.
        let _ = std::fs::File::from(mailbox.signal.try_clone()?).read(&mut counter);
        let batch = std::mem::take(&mut *mailbox.queue.borrow_mut(py));
        for awaitable in batch {
            Awaitable::wake(awaitable.bind(py));
        }
        Ok(())
    }

    /// Ends the thread and every connection on it.
    fn close(&self, py: Python<'_>) {
        let thread = self.thread.borrow_mut(py).take();
        if let Some((stop, thread)) = thread {
            let _ = stop.send(());
            // A panic of that thread was reported on stderr when it happened.
            let _ = py.detach(|| thread.join());
        }
    }
}
