//! One connection of a session, from its first request to its end.
//!
//! A task on the runtime reads; requests are written in place by whoever makes them. When a response
//! is complete the connection goes back to its pool *before* the request is resolved, so that the
//! worker's next request, made in the same turn, finds it there.
//!
//! Here is what it has and what others ask of it. The turns of its task are in `turn`, what it receives is taken apart
//! in `answer`, or past that in `direct`, and its time limits are in `clock`.

mod answer;
mod clock;
mod direct;
mod turn;

use crate::http::codec::ResponseHead;
use crate::http::error::Error;
use crate::http::transport::Transport;
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::body::{Body, Content as BodyContent};
use crate::python::event_loop::Engine;
use crate::python::ffi::GilCell;
use crate::python::pool::{CountedPlace, Key, Pool};
use crate::python::receiving::{Reading, Receiving};
use crate::python::request::{Job, Method};
use crate::python::urls::UrlEntry;
use pyo3::prelude::*;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// How long a connection is trusted after its last answer without a look at its socket: a worker whose next
/// request follows at once does not pay for the system call.
const UNWATCHED: Duration = Duration::from_millis(1);

/// The time limits of one exchange.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deadlines {
    pub(crate) total: Option<Instant>,
    pub(crate) sock_read: Option<Duration>,
}

/// What is known of a response when its request is resolved.
pub(crate) struct Arrived {
    pub(crate) head: ResponseHead,
    /// The head's bytes, followed by the body's if that came whole, plain and in one piece.
    pub(crate) raw: Box<[u8]>,
    pub(crate) content: Content,
}

/// Where the body is.
pub(crate) enum Content {
    /// In [`Arrived::raw`], after the head.
    Inline,
    /// Complete, and decoded; with the ends of its chunks.
    Decoded(BodyContent),
    /// Complete, but it cannot be decoded.
    Broken(Error),
    /// On its way.
    Streaming(Arc<Body>),
    /// The connection speaks another protocol from here on.
    Upgraded(Box<Upgraded>),
}

/// A connection that was upgraded (RFC 9110 section 7.8): it belongs to whoever takes it, and ends when
/// this is dropped.
pub(crate) struct Upgraded {
    pub(crate) transport: Option<Transport>,
    /// What the server has said in the new protocol already.
    pub(crate) rest: Vec<u8>,
    /// It still counts as one of its pool.
    pub(crate) place: Option<CountedPlace>,
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(transport) = &mut self.transport {
            transport.shutdown();
        }
    }
}

/// What the recorder wants to know of a request.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) url: Arc<UrlEntry>,
    pub(crate) began: Instant,
}

/// The exchange that a connection is busy with.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one exchange"
)]
struct Flight {
    /// Who made it, until the response's head is there: the response must not keep itself alive.
    request: Option<Py<Awaitable>>,
    sent: Sent,
    head_request: bool,
    upgrade: bool,
    decompress: bool,
    reading: Option<Arc<Reading>>,
    deadlines: Deadlines,
    last_read: Instant,
    answered: bool,
    uploading: bool,
    /// The body, while it waits for an interim response (RFC 9110 section 10.1.1).
    held: Option<Vec<u8>>,
    interim: u8,
    receiving: Option<Receiving>,
    /// When the head was there, if the body was not.
    head_at: Option<Instant>,
    status: u16,
    received_bytes: u64,
    keep_alive: bool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one connection"
)]
struct State {
    transport: Option<Transport>,
    flight: Option<Flight>,
    outgoing: Vec<u8>,
    sent: usize,
    incoming: Vec<u8>,
    /// Wakes the task.
    waker: Option<Waker>,
    /// The task has been woken, and has not had its turn since.
    woken: bool,
    /// The socket wakes the task when it has something.
    watching: bool,
    /// What the body's reader met when it read by itself: the task's to tell.
    broken: Option<io::Error>,
    drain: Option<Py<Awaitable>>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    rearm: bool,
    closed: bool,
    served: u64,
    idle_since: Instant,
    /// The reader of the body had fallen behind: silence until now was not the server's.
    paused: bool,
}

/// See the module's text.
pub(crate) struct Connection {
    pub(crate) engine: Arc<Engine>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: Key,
    state: GilCell<State>,
}

enum Turn {
    Wait,
    /// The socket has taken everything: somebody waits for that.
    Sent(Py<Awaitable>),
    /// A response to hand over; `reusable` when it is complete.
    Response {
        request: Py<Awaitable>,
        arrived: Arrived,
        complete: Option<Complete>,
    },
    /// More of a body arrived.
    Progress {
        body: Arc<Body>,
        complete: Option<Complete>,
    },
    Over(Option<Error>),
}

/// An exchange that has ended well.
struct Complete {
    ended: Instant,
    /// From the head to the last byte, if they came apart.
    transfer: Option<Duration>,
    reusable: bool,
    sent: Sent,
    status: u16,
    received_bytes: u64,
}

impl Connection {
    pub(crate) fn new(
        engine: Arc<Engine>,
        pool: Arc<Pool>,
        key: Key,
        transport: Transport,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            pool,
            key,
            state: GilCell::new(State {
                transport: Some(transport),
                flight: None,
                outgoing: Vec::new(),
                sent: 0,
                incoming: Vec::new(),
                waker: None,
                woken: false,
                watching: false,
                broken: None,
                drain: None,
                timer: None,
                armed: None,
                rearm: false,
                closed: false,
                served: 0,
                idle_since: Instant::now(),
                paused: false,
            }),
        })
    }

    /// Serves the connection until it ends. Spawned once.
    pub(crate) async fn serve(self: Arc<Self>) {
        std::future::poll_fn(|cx| Python::attach(|py| self.poll(py, cx))).await;
    }

    /// Whether an idle connection may carry another request.
    ///
    /// One that has been idle for longer than the engine can have looked away is looked at: an answer that nobody
    /// asked for must not become the answer to this request.
    pub(crate) fn is_usable(&self, py: Python<'_>, now: Instant, keepalive: Duration) -> bool {
        let mut state = self.state.borrow_mut(py);
        let idle = now.saturating_duration_since(state.idle_since);
        if state.closed || idle > keepalive {
            return false;
        }
        idle < UNWATCHED || !state.transport.as_mut().is_some_and(Transport::is_stale)
    }

    /// Sends a request whose bytes are `wire`. The connection must be idle.
    #[inline]
    pub(crate) fn submit(
        &self,
        request: &Bound<'_, Awaitable>,
        job: &Job,
        began: Instant,
        wire: &[u8],
    ) {
        let py = request.py();
        let mut state = self.state.borrow_mut(py);
        state.flight = Some(Flight {
            request: Some(request.clone().unbind()),
            head_request: job.method.is_head(),
            upgrade: job.is_upgrade(),
            decompress: job.decompress,
            reading: job.reading(),
            sent: Sent {
                method: job.method.clone(),
                url: Arc::clone(&job.url),
                began,
            },
            deadlines: job.deadlines,
            last_read: began,
            answered: false,
            uploading: job.is_uploading(),
            held: job.held_body(),
            interim: 0,
            receiving: None,
            head_at: None,
            status: 0,
            received_bytes: 0,
            keep_alive: true,
        });
        let written = if state.sent < state.outgoing.len() {
            Ok(0)
        } else {
            match state.transport.as_mut() {
                Some(transport) => transport.try_write(wire),
                None => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        let mut wake = false;
        match written {
            Ok(count) if count == wire.len() => {}
            Ok(count) => {
                state
                    .outgoing
                    .extend_from_slice(wire.get(count..).unwrap_or_default());
                wake = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.outgoing.extend_from_slice(wire);
                wake = true;
            }
            // The answer may be there all the same (an early refusal): reading will tell.
            Err(_) => wake = true,
        }
        let deadline = state.deadline();
        if deadline.is_some_and(|due| state.armed.is_none_or(|armed| due < armed)) {
            state.rearm = true;
            wake = true;
        }
        if wake || state.transport.as_ref().is_some_and(Transport::is_tls) {
            state.wake();
        }
    }

    /// Gives the connection more of a request's body.
    pub(crate) fn write(&self, py: Python<'_>, data: &[u8]) {
        let mut state = self.state.borrow_mut(py);
        if let Some(held) = state
            .flight
            .as_mut()
            .and_then(|flight| flight.held.as_mut())
        {
            held.extend_from_slice(data);
            return;
        }
        state.outgoing.extend_from_slice(data);
        state.wake();
    }

    /// Whether the present request's body is still on its way.
    pub(crate) fn is_uploading(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.flight.as_ref().is_some_and(|flight| flight.uploading)
    }

    /// The streamed body of the present request is complete.
    pub(crate) fn upload_done(&self, py: Python<'_>) {
        let mut state = self.state.borrow_mut(py);
        if let Some(flight) = &mut state.flight {
            flight.uploading = false;
            state.sent_wholly();
            state.wake();
        }
    }

    /// Whether the time for the present exchange is over.
    pub(crate) fn is_expired(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        let total = state
            .flight
            .as_ref()
            .and_then(|flight| flight.deadlines.total);
        total.is_some_and(|total| Instant::now() >= total)
    }

    /// Resolves `waiter` when the socket has taken everything. False: it has already.
    pub(crate) fn when_sent(&self, waiter: &Bound<'_, Awaitable>) -> bool {
        let mut state = self.state.borrow_mut(waiter.py());
        if state.closed || (state.sent >= state.outgoing.len() && !state.is_holding()) {
            return false;
        }
        state.drain = Some(waiter.clone().unbind());
        state.wake();
        true
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn unsent_bytes(&self, py: Python<'_>) -> usize {
        let state = self.state.borrow(py);
        let held = state
            .flight
            .as_ref()
            .and_then(|flight| flight.held.as_ref());
        state.outgoing.len().saturating_sub(state.sent) + held.map_or(0, Vec::len)
    }

    /// Goes on reading a body whose reader had fallen behind.
    pub(crate) fn resume(&self, py: Python<'_>) {
        let mut state = self.state.borrow_mut(py);
        if !state.watching {
            state.wake();
        }
    }

    /// Ends the connection, whatever it is doing; its request is not told.
    pub(crate) fn abort(&self, py: Python<'_>) {
        let flight = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            state.wake();
            state.flight.take()
        };
        let Some(flight) = flight else { return };
        // An answer whose body nobody wanted (a redirect's, most often) was an answer all the same.
        if flight.receiving.is_some() {
            self.engine.record(
                py,
                &flight.sent,
                Instant::now(),
                Some(flight.status),
                flight.received_bytes,
            );
        }
    }

    /// Ends the connection because its session is closed; who waits for something on it is told.
    pub(crate) fn end(&self, py: Python<'_>) {
        let flight = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            state.wake();
            state.flight.take()
        };
        let Some(mut flight) = flight else { return };
        match &mut flight.receiving {
            Some(receiving) => {
                self.engine.record(
                    py,
                    &flight.sent,
                    Instant::now(),
                    None,
                    flight.received_bytes,
                );
                if let Some(body) = receiving.body.upgrade() {
                    let error = receiving.eof().err().unwrap_or(Error::Disconnected);
                    body.failed(py, error);
                }
            }
            None => {
                if let Some(request) = flight.request.take() {
                    Job::failed(request.bind(py), Error::Closed, false);
                }
            }
        }
    }

    fn poll(self: &Arc<Self>, py: Python<'_>, cx: &mut Context<'_>) -> Poll<()> {
        let mut first = true;
        loop {
            let turn = self.state.borrow_mut(py).turn(py, self, cx, first);
            first = false;
            match turn {
                Turn::Wait => return Poll::Pending,
                Turn::Sent(waiter) => {
                    Awaitable::resolve(waiter.bind(py), Outcome::Value(py.None()));
                }
                Turn::Response {
                    request,
                    arrived,
                    complete,
                } => {
                    self.completed(py, complete);
                    Job::arrived(request.bind(py), arrived);
                }
                Turn::Progress { body, complete } => {
                    let done = complete.is_some();
                    self.completed(py, complete);
                    body.advanced(py, done);
                }
                Turn::Over(error) => {
                    self.over(py, error);
                    return Poll::Ready(());
                }
            }
        }
    }

    fn completed(self: &Arc<Self>, py: Python<'_>, complete: Option<Complete>) {
        let Some(complete) = complete else { return };
        self.engine.record(
            py,
            &complete.sent,
            complete.ended,
            Some(complete.status),
            complete.received_bytes,
        );
        if let Some(transfer) = complete.transfer {
            self.engine.record_transfer(py, transfer);
        }
        if complete.reusable {
            self.pool.put_back(py, self);
        } else {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
        }
    }

    fn over(self: &Arc<Self>, py: Python<'_>, error: Option<Error>) {
        let (handed_over, flight, served, transport, drain) = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            state.timer = None;
            let handed_over = state.transport.is_none();
            (
                handed_over,
                state.flight.take(),
                state.served,
                state.transport.take(),
                state.drain.take(),
            )
        };
        if let Some(waiter) = drain {
            Awaitable::resolve(waiter.bind(py), Outcome::Value(py.None()));
        }
        if let Some(mut transport) = transport {
            transport.shutdown();
        }
        // Without its transport it is somebody else's, and so is its place in the pool.
        if !handed_over {
            self.pool.closed(py, self);
        }
        let Some(flight) = flight else { return };
        let error = error.unwrap_or(Error::Disconnected);
        match flight.receiving {
            Some(receiving) => {
                self.engine.record(
                    py,
                    &flight.sent,
                    Instant::now(),
                    None,
                    flight.received_bytes,
                );
                if let Some(body) = receiving.body.upgrade() {
                    body.failed(py, error);
                }
            }
            None => {
                let stale = served > 0
                    && !flight.answered
                    && matches!(error, Error::Disconnected | Error::Os(_));
                if let Some(request) = flight.request {
                    Job::failed(request.bind(py), error, stale);
                }
            }
        }
    }
}
