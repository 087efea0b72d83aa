//! A request's body that the script's side writes piece by piece, while the request is under way.
//!
//! Owns where the pieces go, and how much of them may wait for the socket.

use super::{Job, Place, RequestBody};
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::carrier::Carrier;
use pyo3::prelude::*;

/// How much of a streamed body may wait for the socket.
const UPLOAD_AHEAD_BYTES: usize = 128 * 1024;

impl Job {
    /// Appends to the body of a streamed request. False when `drain` should wait before it gives more.
    pub(crate) fn feed(slf: &Bound<'_, Awaitable>, data: &[u8]) -> bool {
        let py = slf.py();
        let write = |carrier: &Carrier| {
            carrier.write(py, data);
            carrier.unsent_bytes(py)
        };
        let unsent = slf.get().with_job(py, |job| match &job.place {
            Place::On(carrier) => write(carrier),
            _ => {
                job.streamed.extend_from_slice(data);
                job.streamed.len()
            }
        });
        let unsent = unsent.or_else(|| slf.get().upload(py).map(|carrier| write(&carrier)));
        unsent.unwrap_or(0) < UPLOAD_AHEAD_BYTES
    }

    /// The body is complete: the connection may be used again after the response.
    pub(crate) fn fed(slf: &Bound<'_, Awaitable>) {
        let py = slf.py();
        slf.get().with_job(py, |job| {
            job.upload_done = true;
            if let Place::On(carrier) = &job.place {
                carrier.upload_done(py);
            }
        });
        if let Some(carrier) = slf.get().upload(py) {
            carrier.upload_done(py);
        }
    }

    /// Resolves `waiter` once what was fed is on its way; at once when the request is over.
    pub(crate) fn drain(slf: &Bound<'_, Awaitable>, waiter: &Bound<'_, Awaitable>) {
        let py = slf.py();
        let waits = slf.get().with_job(py, |job| match &job.place {
            Place::On(carrier) => carrier.when_sent(waiter),
            _ => {
                job.drain = Some(waiter.clone().unbind());
                true
            }
        });
        let waits = waits.or_else(|| {
            let carrier = slf.get().upload(py)?;
            Some(carrier.when_sent(waiter))
        });
        if waits != Some(true) {
            Awaitable::resolve(waiter, Outcome::Value(py.None()));
        }
    }

    /// Ends the wait for the body to be sent, whatever became of the request.
    pub(crate) fn take_drain(&mut self) -> Option<Py<Awaitable>> {
        self.drain.take()
    }

    pub(crate) fn is_uploading(&self) -> bool {
        matches!(self.body, RequestBody::Streamed) && !self.upload_done
    }
}
