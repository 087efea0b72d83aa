//! A response body on its way: the connection fills it, the response's reader empties it.
//!
//! Owns what has arrived and is not read yet, where the chunks of the wire end in it, and when there is enough of it
//! that the connection has to stop reading. Used by `connection`, `stream` and `response`.

use super::awaitable::Awaitable;
use super::carrier::Carrier;
use super::ffi::GilCell;
use super::response::BodyRead;
use crate::http::error::{Error, TimeoutKind};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// How much waits for a slow reader before the connection stops reading, unless `read_bufsize` says otherwise.
pub(crate) const HIGH_WATER_BYTES: usize = 128 * 1024;

/// Chunk ends that may wait for a slow reader: bodies of tiny chunks are held back by these first.
const MAX_WAITING_ENDS: usize = 16 * 1024;

/// Content in the order in which it came.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    /// Where the wire's chunks end, counted from the body's first byte.
    pub(crate) ends: Vec<u64>,
    /// Bytes that arrived before decompression, if there is any.
    pub(crate) encoded_bytes: Option<u64>,
    /// Bytes that were taken out already.
    taken: u64,
    last_end: u64,
}

impl Content {
    /// A chunk of the wire ends here; chunks that decoded to nothing leave no trace.
    pub(crate) fn end_chunk(&mut self) {
        let here = self.taken + self.data.len() as u64;
        if here > self.last_end {
            self.last_end = here;
            self.ends.push(here);
        }
    }
}

#[derive(Default)]
struct State {
    /// A piece for the reader that waits for one, copied only once.
    piece: Option<Py<PyBytes>>,
    content: Content,
    complete: bool,
    error: Option<Error>,
    waiter: Option<Py<Awaitable>>,
    /// The reader wants all of it, however large.
    whole: bool,
}

/// See the module's text.
pub(crate) struct Body {
    carrier: Carrier,
    high_water: usize,
    state: GilCell<State>,
}

/// What a reader finds.
pub(crate) enum Available<T> {
    /// Everything that was still unread; `complete` when nothing follows.
    Data {
        data: T,
        complete: bool,
    },
    Failed(Error),
    NotYet,
}

impl Body {
    pub(crate) fn new(carrier: Carrier, content: Content, high_water: usize) -> Arc<Self> {
        Arc::new(Self {
            carrier,
            high_water,
            state: GilCell::new(State {
                content,
                ..State::default()
            }),
        })
    }

    /// How much more may be decoded before the reader has taken something.
    pub(crate) fn room(&self, py: Python<'_>) -> usize {
        let state = self.state.borrow(py);
        if state.whole {
            usize::MAX
        } else if state.content.ends.len() >= MAX_WAITING_ENDS {
            0
        } else {
            let piece = state
                .piece
                .as_ref()
                .map_or(0, |piece| piece.as_bytes(py).len());
            self.high_water
                .saturating_sub(state.content.data.len() + piece)
        }
    }

    pub(crate) fn is_complete(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).complete
    }

    /// Whether the next piece may go to a reader at once, without a stop in the buffer.
    pub(crate) fn wants_piece(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.waiter.is_some()
            && !state.whole
            && state.piece.is_none()
            && state.content.data.is_empty()
    }

    /// Makes this the next piece.
    pub(crate) fn put(&self, py: Python<'_>, data: &[u8]) {
        let piece = PyBytes::new(py, data).unbind();
        self.state.borrow_mut(py).piece = Some(piece);
    }

    pub(crate) fn extend<R>(&self, py: Python<'_>, fill: impl FnOnce(&mut Content) -> R) -> R {
        fill(&mut self.state.borrow_mut(py).content)
    }

    /// Takes the chunk ends that have come since the last call.
    pub(crate) fn take_ends(&self, py: Python<'_>) -> Vec<u64> {
        std::mem::take(&mut self.state.borrow_mut(py).content.ends)
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

    /// Takes everything up to the end.
    pub(crate) fn take(&self, py: Python<'_>) -> Available<Vec<u8>> {
        let available = {
            let mut state = self.state.borrow_mut(py);
            state.whole = true;
            if let Some(piece) = state.piece.take() {
                // Its reader gave up before it came.
                let data = [piece.as_bytes(py), &state.content.data].concat();
                state.content.data = data;
            }
            if state.complete {
                Available::Data {
                    data: std::mem::take(&mut state.content.data),
                    complete: true,
                }
            } else {
                state.missing()
            }
        };
        self.catch_up(py, &available);
        available
    }

    /// Takes the next piece: at least one byte, or nothing at the end.
    pub(crate) fn take_piece<'py>(&self, py: Python<'py>) -> Available<Bound<'py, PyBytes>> {
        let available = {
            let mut state = self.state.borrow_mut(py);
            if let Some(piece) = state.piece.take() {
                let data = piece.into_bound(py);
                state.content.taken += data.as_bytes().len() as u64;
                Available::Data {
                    data,
                    complete: state.complete && state.content.data.is_empty(),
                }
            } else if state.complete || !state.content.data.is_empty() {
                let content = &mut state.content;
                let data = PyBytes::new(py, &content.data);
                content.taken += content.data.len() as u64;
                // The buffer stays: the next piece needs one as large.
                content.data.clear();
                Available::Data {
                    data,
                    complete: state.complete,
                }
            } else {
                state.missing()
            }
        };
        self.catch_up(py, &available);
        available
    }

    /// A reader that had fallen behind has caught up: the connection may read again.
    fn catch_up<T>(&self, py: Python<'_>, available: &Available<T>) {
        if !matches!(
            available,
            Available::Failed(_) | Available::Data { complete: true, .. }
        ) {
            self.carrier.resume(py);
        }
    }

    pub(crate) fn wait(&self, awaitable: &Bound<'_, Awaitable>) {
        self.state.borrow_mut(awaitable.py()).waiter = Some(awaitable.clone().unbind());
    }

    pub(crate) fn stop_waiting(&self, py: Python<'_>) {
        let waiter = self.state.borrow_mut(py).waiter.take();
        drop(waiter);
    }

    /// Nobody will read on: the connection cannot be used for anything else, and who waits is told.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        let waiter = self.state.borrow_mut(py).waiter.take();
        if !self.is_complete(py) {
            self.carrier.abort(py);
        }
        if let Some(waiter) = waiter {
            BodyRead::go_on(waiter.bind(py));
        }
    }

    /// Whether the time for the whole request is over.
    pub(crate) fn is_expired(&self, py: Python<'_>) -> bool {
        let failed = matches!(
            self.state.borrow(py).error,
            Some(Error::Timeout(TimeoutKind::Total))
        );
        failed || self.carrier.is_expired(py)
    }

    /// Bytes of the body before decompression; `None` for a body that is not compressed.
    pub(crate) fn encoded_bytes(&self, py: Python<'_>) -> Option<u64> {
        self.state.borrow(py).content.encoded_bytes
    }
}

impl State {
    fn missing<T>(&self) -> Available<T> {
        match &self.error {
            Some(error) => Available::Failed(error.clone()),
            None => Available::NotYet,
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        Python::attach(|py| self.abandon(py));
    }
}
