//! Receiving a body straight into the objects that its reader gets.
//!
//! Owns the way past the connection's buffer, for content that needs no decoding: taken by the connection's task when
//! a reader waits, and by a reader itself when the socket may have more. What the objects are is [`Body`]'s business;
//! everything else about a response goes through the module above.

use super::{Complete, Connection, State, Turn};
use crate::python::body::Body;
use pyo3::prelude::*;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

impl State {
    /// Reads on for whoever is reading the body, in place. `None`: what comes next has to be decoded, or wait.
    pub(super) fn read_in_place(
        &mut self,
        py: Python<'_>,
        body: Arc<Body>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Turn>> {
        let flight = self.flight.as_ref()?;
        if flight.receiving.as_ref()?.plain_bytes() == 0 || !body.is_reader_next(py) {
            return None;
        }
        Some(match self.receive_in_place(py, &body, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(None)) => Poll::Ready(self.end_of_input()),
            Poll::Ready(Ok(Some(complete))) => Poll::Ready(Turn::Progress { body, complete }),
            Poll::Ready(Err(error)) => Poll::Ready(self.read_failed(error)),
        })
    }

    /// Receives what there is of plain content; gives the exchange when that was its end, and nothing when the server
    /// has closed the connection.
    fn receive_in_place(
        &mut self,
        py: Python<'_>,
        body: &Body,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Option<Complete>>>> {
        let (Some(flight), Some(transport)) = (self.flight.as_mut(), self.transport.as_mut())
        else {
            return Poll::Ready(Ok(None));
        };
        let Some(receiving) = flight.receiving.as_mut() else {
            return Poll::Ready(Ok(None));
        };
        // No memory for what is not there.
        ready!(transport.poll_read_ready(cx))?;
        let received = body.receive(py, receiving.plain_bytes(), |buffer| {
            transport.poll_read_into(cx, buffer)
        });
        let count = match ready!(received) {
            Ok(0) => return Poll::Ready(Ok(None)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Poll::Ready(Ok(None));
            }
            received => received? as u64,
        };
        flight.received_bytes += count;
        if flight.deadlines.sock_read.is_some() {
            flight.last_read = Instant::now();
        }
        let complete = receiving.took_plain(count);
        Poll::Ready(Ok(Some(if complete { self.complete(0) } else { None })))
    }
}

impl Connection {
    /// Looks for more of `body` at once, on behalf of its reader, for whom nothing waits. The end of the connection
    /// and failures are left to the connection's task.
    pub(crate) fn pull(self: &Arc<Self>, py: Python<'_>, body: &Arc<Body>) {
        let complete = {
            let mut state = self.state.borrow_mut(py);
            let Some(complete) = state.pull(py, body) else {
                return;
            };
            complete
        };
        let done = complete.is_some();
        self.completed(py, complete);
        body.pulled(py, done);
        if done {
            // A connection that is not kept ends with its task.
            self.resume(py);
        }
    }
}

impl State {
    /// `None` when nothing came of it.
    fn pull(&mut self, py: Python<'_>, body: &Arc<Body>) -> Option<Option<Complete>> {
        let receiving = self.flight.as_ref()?.receiving.as_ref()?;
        let ours = std::ptr::eq(receiving.body.as_ptr(), Arc::as_ptr(body));
        if self.closed || !ours || receiving.plain_bytes() == 0 || self.broken.is_some() {
            return None;
        }
        if self.paused {
            self.paused = false;
            if let Some(flight) = &mut self.flight {
                flight.last_read = Instant::now();
            }
        }
        let waker = self.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        let received = self.receive_in_place(py, body, &mut Context::from_waker(&waker));
        self.watching = received.is_pending() && self.waker.is_some();
        match received {
            Poll::Ready(Ok(Some(complete))) => Some(complete),
            Poll::Ready(Err(error)) => {
                self.broken = Some(error);
                None
            }
            Poll::Ready(Ok(None)) | Poll::Pending => None,
        }
    }
}
