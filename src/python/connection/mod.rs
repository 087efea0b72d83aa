//! One connection of a session, from its first request to its end.
//!
//! A task on the runtime reads; requests are written in place by whoever makes them. When a response
//! is complete the connection goes back to its pool *before* the request is resolved, so that the
//! worker's next request, made in the same turn, finds it there.
//!
//! Longer than usual: reading, writing, time limits and the hand-over are one state machine on one state,
//! and every split of it would make its order of checks harder to see.

mod direct;

use crate::http::codec::{Framing, Limits, ResponseHead};
use crate::http::error::{Error, TimeoutKind};
use crate::http::transport::Transport;
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::body::{Body, Content as BodyContent, HIGH_WATER_BYTES};
use crate::python::carrier::Carrier;
use crate::python::event_loop::Engine;
use crate::python::ffi::GilCell;
use crate::python::pool::{CountedPlace, Key, Pool};
use crate::python::receiving::{Reading, Receiving};
use crate::python::request::{Job, Method};
use crate::python::urls::UrlEntry;
use pyo3::prelude::*;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Interim (1xx) answers that one request may get.
const MAX_INTERIM: u8 = 16;

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
    status: u16,
    received_bytes: u64,
    keep_alive: bool,
}

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

impl State {
    fn wake(&mut self) {
        if !self.woken
            && let Some(waker) = &self.waker
        {
            self.woken = true;
            waker.wake_by_ref();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let flight = self.flight.as_ref()?;
        // While the request is being sent the server has no reason to speak.
        let sending = flight.uploading || flight.held.is_some() || self.sent < self.outgoing.len();
        let silence = flight
            .deadlines
            .sock_read
            .filter(|_| !sending)
            .map(|limit| flight.last_read + limit);
        match (flight.deadlines.total, silence) {
            (Some(total), Some(silence)) => Some(total.min(silence)),
            (total, silence) => total.or(silence),
        }
    }

    fn turn(
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

    /// The socket has nothing, and wakes the task when it has.
    fn not_yet(&mut self, cx: &mut Context<'_>, first: bool) -> Turn {
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

    fn wait(&mut self, cx: &Context<'_>) -> Turn {
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

    /// Whether the head of a response has come, and its body has not ended.
    fn is_receiving(&self) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| flight.receiving.is_some())
    }

    /// Whether a body waits for an interim response.
    fn is_holding(&self) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| flight.held.is_some())
    }

    /// Waits while the reader of the body has enough, decodes what is kept before more is read, and reads what needs
    /// no decoding. `None`: read as usual.
    #[inline]
    fn read_body(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Option<Poll<Turn>> {
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

    /// What became of a body with what was decoded of it just now.
    fn progress(&mut self, body: Arc<Body>, decoded: Result<Option<usize>, Error>) -> Turn {
        match decoded {
            Err(error) => Turn::Over(Some(error)),
            Ok(unread) => Turn::Progress {
                body,
                complete: unread.and_then(|unread| self.complete(unread)),
            },
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
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
    fn sent_wholly(&mut self) {
        if let Some(flight) = &mut self.flight
            && flight.deadlines.sock_read.is_some()
        {
            flight.last_read = Instant::now();
            self.rearm = true;
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        loop {
            let Some(due) = self.deadline() else {
                // Idle: the timer may ring once more for nothing, which is cheaper than moving it
                // for each request.
                if self.flight.is_none()
                    && self
                        .timer
                        .as_mut()
                        .is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
                {
                    self.timer = None;
                    self.armed = None;
                }
                return None;
            };
            let now = Instant::now();
            if now >= due {
                let total = self
                    .flight
                    .as_ref()
                    .and_then(|flight| flight.deadlines.total);
                let kind = if total.is_some_and(|total| now >= total) {
                    TimeoutKind::Total
                } else {
                    TimeoutKind::SockRead
                };
                return Some(Error::Timeout(kind));
            }
            let earlier = self.armed.is_some_and(|armed| armed <= due);
            match &mut self.timer {
                Some(timer) if earlier => {
                    if timer.as_mut().poll(cx).is_pending() {
                        return None;
                    }
                    self.armed = None;
                }
                Some(timer) => {
                    timer.as_mut().reset(due.into());
                    self.armed = Some(due);
                }
                None => {
                    self.timer = Some(Box::pin(tokio::time::sleep_until(due.into())));
                    self.armed = Some(due);
                }
            }
        }
    }

    fn read_failed(&mut self, error: io::Error) -> Turn {
        let receiving = self
            .flight
            .as_ref()
            .is_some_and(|flight| flight.receiving.is_some());
        let error = Arc::new(error);
        Turn::Over(Some(if receiving {
            Error::Payload {
                message: format!("Response payload is not completed: {error}"),
            }
        } else {
            Error::Os(error)
        }))
    }

    fn end_of_input(&mut self) -> Turn {
        let Some(flight) = &mut self.flight else {
            return Turn::Over(None);
        };
        let Some(receiving) = &mut flight.receiving else {
            return Turn::Over(Some(Error::Disconnected));
        };
        let ended = receiving.eof();
        match (ended, receiving.body.upgrade()) {
            (Ok(()), Some(body)) => {
                flight.keep_alive = false;
                Turn::Progress {
                    body,
                    complete: self.complete(0),
                }
            }
            (Ok(()), None) => Turn::Over(None),
            (Err(error), _) => Turn::Over(Some(error)),
        }
    }

    fn complete(&mut self, unread_bytes: usize) -> Option<Complete> {
        let flight = self.flight.take()?;
        self.served += 1;
        let now = Instant::now();
        self.idle_since = now;
        self.incoming = Vec::new();
        Some(Complete {
            ended: now,
            // Bytes behind a response belong to no request: such a connection is not trusted again.
            reusable: flight.keep_alive
                && !flight.uploading
                && flight.held.is_none()
                && unread_bytes == 0
                && self.sent >= self.outgoing.len(),
            sent: flight.sent,
            status: flight.status,
            received_bytes: flight.received_bytes,
        })
    }

    /// Takes what was read. `None`: nothing to tell anybody yet.
    fn received(
        &mut self,
        py: Python<'_>,
        connection: &Arc<Connection>,
        data: &[u8],
    ) -> Option<Turn> {
        let Some(flight) = &mut self.flight else {
            // Nobody asked: an answer out of turn, or garbage.
            return Some(Turn::Over(None));
        };
        flight.answered = true;
        flight.received_bytes += data.len() as u64;
        if flight.deadlines.sock_read.is_some() {
            flight.last_read = Instant::now();
        }
        if flight.receiving.is_some() {
            return Some(self.body_received(py, data));
        }
        if self.incoming.is_empty() {
            return self.head_received(py, connection, data);
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.extend_from_slice(data);
        self.head_received(py, connection, &incoming)
    }

    /// The head of the answer itself, behind interim ones, which `data` is moved over. `None`: not there yet.
    fn final_head(
        &mut self,
        py: Python<'_>,
        data: &mut &[u8],
    ) -> Result<Option<ResponseHead>, Error> {
        let Some(flight) = self.flight.as_mut() else {
            return Ok(None);
        };
        let limits = flight
            .reading
            .as_ref()
            .map_or_else(Limits::default, |reading| reading.limits);
        loop {
            let mut heads = flight.sent.url.heads.borrow_mut(py);
            match heads.parse(data, flight.head_request, &limits)? {
                Some(head) if (100..200).contains(&head.status) && head.status != 101 => {
                    flight.interim += 1;
                    if flight.interim > MAX_INTERIM {
                        let message = format!("more than {MAX_INTERIM} interim responses");
                        return Err(Error::BadResponse { message });
                    }
                    if let Some(held) = flight.held.take() {
                        self.outgoing.extend_from_slice(&held);
                    }
                    *data = data.get(head.head_len..).unwrap_or_default();
                }
                head => return Ok(head),
            }
        }
    }

    fn head_received(
        &mut self,
        py: Python<'_>,
        connection: &Arc<Connection>,
        mut data: &[u8],
    ) -> Option<Turn> {
        let head = match self.final_head(py, &mut data) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.incoming = data.to_vec();
                return None;
            }
            Err(error) => return Some(Turn::Over(Some(error))),
        };
        let flight = self.flight.as_mut()?;
        flight.status = head.status;
        flight.keep_alive = head.keep_alive;
        let request = flight.request.take()?;
        let rest = data.get(head.head_len..).unwrap_or_default();
        if head.status == 101 && flight.upgrade {
            let upgraded = Upgraded {
                transport: self.transport.take(),
                rest: rest.to_vec(),
                place: Some(CountedPlace::new(
                    Arc::clone(&connection.pool),
                    connection.key,
                    false,
                )),
            };
            let raw = data.get(..head.head_len).unwrap_or_default().into();
            let content = Content::Upgraded(Box::new(upgraded));
            self.closed = true;
            flight.keep_alive = false;
            return Some(Turn::Response {
                request,
                arrived: Arrived { head, raw, content },
                complete: self.complete(rest.len()),
            });
        }
        let encoding = head.encoding.filter(|_| flight.decompress);
        let framing = match &flight.reading {
            Some(reading) if !reading.until_eof && head.framing == Framing::UntilClose => {
                Framing::Empty
            }
            _ => head.framing,
        };
        if encoding.is_none() {
            let length = match framing {
                Framing::Empty => Some(0),
                Framing::Length(length) => usize::try_from(length).ok(),
                Framing::Chunked | Framing::UntilClose => None,
            };
            if let Some(length) = length.filter(|length| rest.len() >= *length) {
                let raw = data
                    .get(..head.head_len + length)
                    .unwrap_or_default()
                    .into();
                let complete = self.complete(rest.len() - length);
                return Some(Turn::Response {
                    request,
                    arrived: Arrived {
                        head,
                        raw,
                        content: Content::Inline,
                    },
                    complete,
                });
            }
        }
        let raw: Box<[u8]> = data.get(..head.head_len).unwrap_or_default().into();
        let limits = flight.reading.as_ref().map(|reading| reading.decoding);
        let high_water = flight
            .reading
            .as_ref()
            .map_or(HIGH_WATER_BYTES, |reading| reading.high_water);
        let mut receiving = Receiving::new(framing, encoding, limits.unwrap_or_default());
        let mut decoded = BodyContent::default();
        let (content, complete) = match receiving.decode(rest, &mut decoded, high_water) {
            Ok(Some(unread)) => (Content::Decoded(decoded), self.complete(unread)),
            Ok(None) => {
                let carrier = Carrier::Connection(Arc::clone(connection));
                let body = Body::new(carrier, decoded, high_water);
                receiving.body = Arc::downgrade(&body);
                if let Some(flight) = &mut self.flight {
                    flight.receiving = Some(receiving);
                }
                (Content::Streaming(body), None)
            }
            Err(error) => {
                flight.keep_alive = false;
                (Content::Broken(error), self.complete(0))
            }
        };
        Some(Turn::Response {
            request,
            arrived: Arrived { head, raw, content },
            complete,
        })
    }

    fn body_received(&mut self, py: Python<'_>, data: &[u8]) -> Turn {
        let Some(receiving) = self
            .flight
            .as_mut()
            .and_then(|flight| flight.receiving.as_mut())
        else {
            return Turn::Over(None);
        };
        // Nobody will read it: the response is gone.
        let Some(body) = receiving.body.upgrade() else {
            return Turn::Over(None);
        };
        let room = body.room(py);
        let decoded = body.extend(py, |content| receiving.decode(data, content, room));
        self.progress(body, decoded)
    }
}
