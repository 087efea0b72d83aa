//! A response body on its way: the connection fills it, the response's reader empties it.
//!
//! Owns what has arrived and is not read yet, where the chunks of the wire end in it, and when there is enough of it
//! that the connection has to stop reading. Used by `connection`, `stream` and `response`.

use super::awaitable::Awaitable;
use super::carrier::Carrier;
use super::ffi::{BytesWriter, GilCell};
use super::response::BodyRead;
use crate::http::error::{Error, TimeoutKind};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};
use tokio::io::ReadBuf;

/// How much waits for a slow reader before the connection stops reading, unless `read_bufsize` says otherwise.
pub(crate) const HIGH_WATER_BYTES: usize = 128 * 1024;

/// Chunk ends that may wait for a slow reader: bodies of tiny chunks are held back by these first.
const MAX_WAITING_ENDS: usize = 16 * 1024;

/// Largest and smallest piece that is received for a reader at once. The kernel gives no more bytes per CPU-second
/// in larger ones (measured from 64 KiB to 4 MiB on loopback), and these stay in the processor's cache.
const MOST_PIECE_BYTES: usize = 256 * 1024;
const LEAST_PIECE_BYTES: usize = 16 * 1024;

/// How many bytes a reader takes from the socket by itself before everybody else on the loop gets a turn.
const CREDIT_BYTES: usize = 4 * 1024 * 1024;

/// Memory for a whole body is taken at once up to this, whatever length the server promises.
const MOST_TRUSTED_BYTES: usize = 64 * 1024 * 1024;

/// A body that is read as a whole is gathered where its reader will have it from this size on.
const LEAST_LANDING_BYTES: usize = 64 * 1024;

/// Content in the order in which it came.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    /// Where the wire's chunks end, counted from the body's first byte.
    pub(crate) ends: Vec<u64>,
    /// Bytes that arrived before decompression, if there is any.
    pub(crate) encoded_bytes: Option<u64>,
    /// What a reader of the whole body has gathered: it comes before `data`.
    landing: Option<BytesWriter>,
    /// Bytes that were taken out already.
    taken: u64,
    last_end: u64,
}

impl Content {
    /// A chunk of the wire ends here; chunks that decoded to nothing leave no trace.
    pub(crate) fn end_chunk(&mut self) {
        let landed = self.landing.as_ref().map_or(0, BytesWriter::filled);
        let here = self.taken + (landed + self.data.len()) as u64;
        if here > self.last_end {
            self.last_end = here;
            self.ends.push(here);
        }
    }

    /// Moves what was decoded to what the reader of the whole body has gathered, if that is worth it.
    fn land(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.landing.is_none() && self.data.len() < LEAST_LANDING_BYTES {
            return Ok(());
        }
        let writer = match self.landing.take() {
            Some(writer) => writer,
            None => BytesWriter::with_capacity(py, MOST_PIECE_BYTES)?,
        };
        let filled = writer.filled();
        let mut writer = if writer.room() < self.data.len() {
            writer.reserve(py, filled + filled.max(self.data.len()))?
        } else {
            writer
        };
        writer.fill(py, |buffer| buffer.put_slice(&self.data));
        // The buffer stays: what follows needs one as large.
        self.data.clear();
        self.landing = Some(writer);
        Ok(())
    }
}

struct State {
    /// A piece for the reader that waits for one, received in place.
    piece: Option<Py<PyBytes>>,
    /// How large the next piece may be: what it takes depends on how much the last ones brought.
    piece_bytes: usize,
    /// The most that the reader takes at once.
    wanted_bytes: usize,
    credit_bytes: usize,
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

/// A body that has come to its end.
pub(crate) enum Whole {
    Data(Vec<u8>),
    Bytes(Py<PyBytes>),
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
                piece: None,
                piece_bytes: MOST_PIECE_BYTES / 4,
                wanted_bytes: usize::MAX,
                credit_bytes: CREDIT_BYTES,
                content,
                complete: false,
                error: None,
                waiter: None,
                whole: false,
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

    /// Whether what comes next may be [received](Self::receive) where the reader will have it, past the buffer.
    pub(crate) fn is_reader_next(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.whole || (state.waiter.is_some() && state.is_drained())
    }

    /// Lets `read` put the next bytes, of which `left` may be content, where the reader will have them. Gives how
    /// many there were.
    pub(crate) fn receive(
        &self,
        py: Python<'_>,
        left: u64,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let state = &mut *self.state.borrow_mut(py);
        if state.whole {
            state.receive_whole(py, left, read)
        } else {
            state.receive_piece(py, left.min(self.high_water.saturating_mul(2)), read)
        }
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
            state.credit_bytes = CREDIT_BYTES;
            if state.whole && state.content.land(py).is_err() {
                state.error = Some(Error::payload("out of memory"));
                state.complete = false;
                state.waiter.take()
            } else if state.complete || !state.whole {
                state.waiter.take()
            } else {
                None
            }
        };
        if let Some(waiter) = waiter {
            BodyRead::go_on(waiter.bind(py));
        }
    }

    /// More has come for a reader that looked by itself, or the end.
    pub(crate) fn pulled(&self, py: Python<'_>, complete: bool) {
        self.state.borrow_mut(py).complete |= complete;
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
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<Available<Whole>> {
        let available = {
            let state = &mut *self.state.borrow_mut(py);
            state.whole = true;
            if let Some(piece) = state.piece.take() {
                // Its reader gave up before it came.
                let data = [piece.as_bytes(py), &state.content.data].concat();
                state.content.data = data;
            }
            if state.complete {
                let data = match state.content.landing.take() {
                    Some(landing) => Whole::Bytes(landing.finish(py)?),
                    None => Whole::Data(std::mem::take(&mut state.content.data)),
                };
                Available::Data {
                    data,
                    complete: true,
                }
            } else {
                state.missing()
            }
        };
        self.catch_up(py, &available);
        Ok(available)
    }

    /// Takes the next piece: at least one byte, or nothing at the end. What has not come yet is taken from the
    /// socket, if it is there, no more than `most` bytes of it.
    pub(crate) fn take_piece<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        most: usize,
    ) -> PyResult<Available<Bound<'py, PyBytes>>> {
        let mut available = self.take_arrived(py)?;
        if matches!(available, Available::NotYet) && self.may_pull(py, most) {
            self.carrier.pull(py, self);
            available = self.take_arrived(py)?;
        }
        self.catch_up(py, &available);
        Ok(available)
    }

    fn take_arrived<'py>(&self, py: Python<'py>) -> PyResult<Available<Bound<'py, PyBytes>>> {
        let state = &mut *self.state.borrow_mut(py);
        if let Some(landing) = state.content.landing.take() {
            // Whoever wanted all of it has given up.
            state.whole = false;
            if landing.filled() > 0 {
                state.piece = Some(landing.finish(py)?);
            }
        }
        let content = &mut state.content;
        let data = if let Some(piece) = state.piece.take() {
            piece.into_bound(py)
        } else if state.complete || !content.data.is_empty() {
            let data = PyBytes::new(py, &content.data);
            // The buffer stays: the next piece needs one as large.
            content.data.clear();
            data
        } else {
            return Ok(state.missing());
        };
        content.taken += data.as_bytes().len() as u64;
        Ok(Available::Data {
            data,
            complete: state.complete && content.data.is_empty(),
        })
    }

    /// Whether the reader may look for more itself, rather than let the others on the loop have their turn.
    fn may_pull(&self, py: Python<'_>, most: usize) -> bool {
        let mut state = self.state.borrow_mut(py);
        state.whole = false;
        state.wanted_bytes = most.max(1);
        state.credit_bytes > 0
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
    /// Nothing waits for the reader.
    fn is_drained(&self) -> bool {
        self.piece.is_none() && self.content.landing.is_none() && self.content.data.is_empty()
    }

    fn receive_piece(
        &mut self,
        py: Python<'_>,
        most: usize,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        let size = self.piece_bytes.min(self.wanted_bytes).min(most);
        let mut writer = BytesWriter::with_capacity(py, size).map_err(no_memory)?;
        ready!(writer.fill(py, read))?;
        let count = writer.filled();
        if count >= self.piece_bytes {
            self.piece_bytes = (count * 2).min(MOST_PIECE_BYTES);
        } else if count < self.piece_bytes / 4 && count < size {
            self.piece_bytes = (self.piece_bytes / 2).max(LEAST_PIECE_BYTES);
        }
        self.credit_bytes = self.credit_bytes.saturating_sub(count);
        if count > 0 {
            self.piece = Some(writer.finish(py).map_err(no_memory)?);
        }
        Poll::Ready(Ok(count))
    }

    fn receive_whole(
        &mut self,
        py: Python<'_>,
        left: usize,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        let content = &mut self.content;
        let mut writer = match content.landing.take() {
            Some(writer) => writer,
            None => {
                let size = match left {
                    usize::MAX => MOST_PIECE_BYTES,
                    left => left.min(MOST_TRUSTED_BYTES),
                };
                BytesWriter::with_capacity(py, content.data.len() + size).map_err(no_memory)?
            }
        };
        if writer.room() <= content.data.len() {
            let here = writer.filled() + content.data.len();
            let more = here.max(MOST_PIECE_BYTES).min(left);
            writer = writer.reserve(py, here + more).map_err(no_memory)?;
        }
        let writer = content.landing.insert(writer);
        if !content.data.is_empty() {
            let before = std::mem::take(&mut content.data);
            writer.fill(py, |buffer| buffer.put_slice(&before));
        }
        let filled = writer.filled();
        ready!(writer.fill(py, read))?;
        Poll::Ready(Ok(writer.filled() - filled))
    }

    fn missing<T>(&self) -> Available<T> {
        match &self.error {
            Some(error) => Available::Failed(error.clone()),
            None => Available::NotYet,
        }
    }
}

fn no_memory(_: PyErr) -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}

impl Drop for Body {
    fn drop(&mut self) {
        Python::attach(|py| self.abandon(py));
    }
}
