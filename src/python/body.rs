//! A response body on its way: the connection fills it, the response's reader empties it.

use super::awaitable::Awaitable;
use super::connection::Connection;
use super::ffi::GilCell;
use super::response::BodyRead;
use super::stream::Stream;
use crate::http::error::Error;
use pyo3::prelude::*;
use std::sync::Arc;

/// How much waits for a slow reader before the connection stops reading: twice aiohttp's 64 KiB
/// buffer, as aiohttp's own flow control has it.
const HIGH_WATER_BYTES: usize = 128 * 1024;

#[derive(Default)]
struct State {
    data: Vec<u8>,
    complete: bool,
    error: Option<Error>,
    waiter: Option<Py<Awaitable>>,
    /// The reader wants all of it, however large.
    whole: bool,
}

/// Where a body comes from.
pub(crate) enum Source {
    Connection(Arc<Connection>),
    Stream(Arc<Stream>),
}

impl Source {
    fn resume(&self, py: Python<'_>) {
        match self {
            Self::Connection(connection) => connection.resume(py),
            Self::Stream(stream) => stream.resume(py),
        }
    }

    fn abort(&self, py: Python<'_>) {
        match self {
            Self::Connection(connection) => connection.abort(py),
            Self::Stream(stream) => stream.abort(py),
        }
    }
}

/// See the module's text.
pub(crate) struct Body {
    source: Source,
    state: GilCell<State>,
}

/// What a reader finds.
pub(crate) enum Available {
    /// Everything that was still unread; `complete` when nothing follows.
    Data {
        data: Vec<u8>,
        complete: bool,
    },
    Failed(Error),
    NotYet,
}

impl Body {
    pub(crate) fn new(source: Source, data: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            source,
            state: GilCell::new(State {
                data,
                ..State::default()
            }),
        })
    }

    pub(crate) fn is_full(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        !state.whole && state.data.len() >= HIGH_WATER_BYTES
    }

    pub(crate) fn is_complete(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).complete
    }

    pub(crate) fn extend<R>(&self, py: Python<'_>, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        fill(&mut self.state.borrow_mut(py).data)
    }

    /// More has come, or the end.
    pub(crate) fn advanced(&self, py: Python<'_>, complete: bool) {
        let waiter = {
            let mut state = self.state.borrow_mut(py);
            state.complete |= complete;
            if state.complete || !state.whole {
                state.waiter.take()
            } else {
                None
            }
        };
        if let Some(waiter) = waiter {
            BodyRead::go_on(waiter.bind(py));
        }
    }

    /// The connection broke before the end.
    pub(crate) fn failed(&self, py: Python<'_>, error: Error) {
        let waiter = {
            let mut state = self.state.borrow_mut(py);
            state.error = Some(error);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            BodyRead::go_on(waiter.bind(py));
        }
    }

    /// Takes what there is: everything up to the end when `whole`, else at least one byte or the end.
    pub(crate) fn take(&self, py: Python<'_>, whole: bool) -> Available {
        let available = {
            let mut state = self.state.borrow_mut(py);
            state.whole |= whole;
            if state.complete || (!whole && !state.data.is_empty()) {
                Available::Data {
                    data: std::mem::take(&mut state.data),
                    complete: state.complete,
                }
            } else if let Some(error) = &state.error {
                Available::Failed(error.clone())
            } else {
                Available::NotYet
            }
        };
        // A reader that had fallen behind has caught up: the connection may read again.
        if !matches!(
            available,
            Available::Failed(_) | Available::Data { complete: true, .. }
        ) {
            self.source.resume(py);
        }
        available
    }

    pub(crate) fn wait(&self, awaitable: &Bound<'_, Awaitable>) {
        self.state.borrow_mut(awaitable.py()).waiter = Some(awaitable.clone().unbind());
    }

    pub(crate) fn stop_waiting(&self, py: Python<'_>) {
        let waiter = self.state.borrow_mut(py).waiter.take();
        drop(waiter);
    }

    /// Nobody will read on: the connection cannot be used for anything else.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        if !self.is_complete(py) {
            self.source.abort(py);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        Python::attach(|py| self.abandon(py));
    }
}
