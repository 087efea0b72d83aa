//! One turn of a connection's task: what is to be done, and in which order.
//!
//! Owns the order of writing, time limits, holding back and reading, and when the task sleeps. What the bytes mean is
//! [`super::answer`]'s business, and who is told what comes of a turn is that of the module above.

use super::{Connection, State, Turn};
use pyo3::prelude::*;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

impl State {
    pub(super) fn turn(
        &mut self,
        py: Python<'_>,
        connection: &Arc<Connection>,
        cx: &mut Context<'_>,
        first: bool,
    ) -> Turn {
        self.watching = false;
        loop {
            if self.closed {
                return Turn::Over(None);
            }
            self.flush(cx);
            if self.rearm {
                self.rearm = false;
                if let Some(error) = self.poll_timer(cx) {
                    return Turn::Over(Some(error));
                }
            }
            if self.drain.is_some()
                && self.sent >= self.outgoing.len()
                && !self.is_holding()
                && let Some(waiter) = self.drain.take()
            {
                return Turn::Sent(waiter);
            }
            match self.read_body(py, cx) {
                None => {}
                Some(Poll::Ready(turn)) => return turn,
                Some(Poll::Pending) => return self.not_yet(cx, first),
            }
            let mut scratch = connection.engine.scratch.borrow_mut(py);
            let Some(transport) = self.transport.as_mut() else {
                return Turn::Over(None);
            };
            let count = match transport.poll_read(cx, &mut scratch) {
                Poll::Pending => {
                    drop(scratch);
                    return self.not_yet(cx, first);
                }
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Poll::Ready(Err(error)) => return self.read_failed(error),
            };
            let data = scratch.get(..count).unwrap_or_default();
            let turn = if data.is_empty() {
                Some(self.end_of_input())
            } else {
                self.received(py, connection, data)
            };
            if let Some(turn) = turn {
                return turn;
            }
        }
    }

    /// Waits while the reader of the body has enough, decodes what is kept before more is read, and reads what needs
    /// no decoding. `None`: read as usual.
    #[inline]
    pub(super) fn read_body(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Option<Poll<Turn>> {
        let flight = self.flight.as_mut()?;
        let receiving = flight.receiving.as_mut()?;
        let body = receiving.body.upgrade()?;
        let room = body.room(py);
        if room == 0 {
            self.paused = true;
            return Some(Poll::Ready(self.wait(cx)));
        }
        if self.paused {
            self.paused = false;
            flight.last_read = Instant::now();
        }
        if let Some(error) = self.broken.take() {
            return Some(Poll::Ready(self.read_failed(error)));
        }
        if !receiving.is_backed_up() {
            return self.read_in_place(py, body, cx);
        }
        let decoded = body.extend(py, |content| receiving.decode(&[], content, room));
        Some(Poll::Ready(self.progress(body, decoded)))
    }

    /// The socket has nothing, and wakes the task when it has.
    pub(super) fn not_yet(&mut self, cx: &mut Context<'_>, first: bool) -> Turn {
        // Woken without data: perhaps it was the timer. While a body comes without a pause, data is there whenever
        // the timer rings.
        if (first || self.is_receiving())
            && let Some(error) = self.poll_timer(cx)
        {
            return Turn::Over(Some(error));
        }
        self.watching = true;
        self.wait(cx)
    }

    pub(super) fn wait(&mut self, cx: &Context<'_>) -> Turn {
        self.woken = false;
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
        Turn::Wait
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        let Some(transport) = self.transport.as_mut() else {
            return;
        };
        while self.sent < self.outgoing.len() {
            let rest = self.outgoing.get(self.sent..).unwrap_or_default();
            match transport.poll_write(cx, rest) {
                Poll::Ready(Ok(count)) => self.sent += count,
                // Reading tells what became of the connection.
                Poll::Ready(Err(_)) => self.sent = self.outgoing.len(),
                Poll::Pending => return,
            }
        }
        if self.sent > 0 {
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(4096);
            // A failed flush shows as a failed read.
            let _ = transport.poll_flush(cx);
            self.sent_wholly();
            return;
        }
        // A failed flush shows as a failed read.
        let _ = transport.poll_flush(cx);
    }

    /// The request is out: from now on silence counts.
    pub(super) fn sent_wholly(&mut self) {
        if let Some(flight) = &mut self.flight
            && flight.deadlines.sock_read.is_some()
        {
            flight.last_read = Instant::now();
            self.rearm = true;
        }
    }

    /// Whether the head of a response has come, and its body has not ended.
    pub(super) fn is_receiving(&self) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| flight.receiving.is_some())
    }

    /// Whether a body waits for an interim response.
    pub(super) fn is_holding(&self) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| flight.held.is_some())
    }

    pub(super) fn wake(&mut self) {
        if !self.woken
            && let Some(waker) = &self.waker
        {
            self.woken = true;
            waker.wake_by_ref();
        }
    }
}
