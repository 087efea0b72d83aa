//! The socket half of a websocket: reads, writes and flow control.
//!
//! A task on the runtime reads and decodes into a queue, and lets a waiting reader go on; frames are
//! written in place by whoever sends them. What a message means for the conversation is decided in
//! [`super::dialogue`], and when in [`super::clock`], on the same state. Sending and receiving stay together
//! here, beyond the usual length, because they share the flow control.

use super::clock::Heartbeat;
use super::dialogue::{Dialogue, Reader};
use super::messages::{self, End, Item, Trouble};
use crate::http::transport::Transport;
use crate::http::websocket::{self, Decoder, Deflater, opcode};
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::connection::Upgraded;
use crate::python::event_loop::Engine;
use crate::python::ffi::GilCell;
use crate::python::pool::CountedPlace;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Messages may wait for a slow reader up to this much, as in aiohttp, before the socket is not read.
const HIGH_WATER_BYTES: usize = 512 * 1024;
/// Reading goes on once no more than this waits.
const LOW_WATER_BYTES: usize = HIGH_WATER_BYTES / 2;
/// What a message counts for besides its bytes, so that tiny ones have a limit too.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// A sender waits for the socket once it has given this much (aiohttp's figure) ...
const SEND_LIMIT_BYTES: usize = 256 * 1024;
/// ... and more than this of it has not been taken.
const UNSENT_LIMIT_BYTES: usize = 64 * 1024;

/// How long a closed connection may take to send what was given before: its server may never read it.
const LINGER: Duration = Duration::from_secs(10);

/// What a websocket is opened with.
pub(super) struct Settings {
    pub(super) max_message_bytes: usize,
    pub(super) decode_text: bool,
    /// Bits of the window that outgoing messages are compressed with; 0 is no compression.
    pub(super) compress: u8,
    pub(super) no_takeover: bool,
    /// How long the server may be silent; its pongs count.
    pub(super) silence: Option<Duration>,
    pub(super) heartbeat: Option<f64>,
}

/// Everything about one websocket; see also [`Dialogue`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one connection"
)]
pub(super) struct State {
    transport: Option<Transport>,
    place: Option<CountedPlace>,
    decoder: Decoder,
    /// Read, but not decoded: the queue is full.
    pub(super) tail: Vec<u8>,
    /// With the bytes that each counts for.
    queue: VecDeque<(Item, usize)>,
    queued_bytes: usize,
    /// Nothing follows what is in the queue, for this reason.
    pub(super) ended: Option<Trouble>,
    outgoing: Vec<u8>,
    sent: usize,
    /// Bytes given since a sender last waited.
    given_bytes: usize,
    drains: Vec<Py<Awaitable>>,
    deflater: Option<Deflater>,
    compress: u8,
    no_takeover: bool,
    /// The connection is closed, or will be once what was given has been sent.
    pub(super) shut: bool,
    pub(super) linger_until: Option<Instant>,
    /// The socket failed.
    broken: bool,
    /// Pings are not answered before the answers to earlier ones have been sent.
    pub(super) blocked: bool,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) silence: Option<Duration>,
    pub(super) last_read: Option<Instant>,
    waker: Option<Waker>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    pub(super) armed: Option<Instant>,
    /// The timer has to be looked at, or the reader to be told something.
    pub(super) attention: bool,
    pub(super) dialogue: Dialogue,
}

/// See the module's text.
pub(crate) struct Channel {
    pub(super) engine: Arc<Engine>,
    pub(super) state: GilCell<State>,
}

enum Turn {
    Wait,
    Progress,
    Sent,
    Over,
}

impl Channel {
    /// Takes the connection over.
    pub(super) fn open(
        py: Python<'_>,
        engine: &Arc<Engine>,
        mut upgraded: Upgraded,
        settings: &Settings,
        dialogue: Dialogue,
    ) -> Arc<Self> {
        let heartbeat = settings
            .heartbeat
            .map(|seconds| Heartbeat::new(seconds, Instant::now()));
        let place = upgraded.place.take();
        let pool = place.as_ref().map(|place| Arc::clone(&place.pool));
        let mut state = State {
            transport: upgraded.transport.take(),
            place,
            decoder: Decoder::new(
                settings.max_message_bytes,
                settings.compress > 0,
                settings.decode_text,
            ),
            tail: Vec::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            ended: None,
            outgoing: Vec::new(),
            sent: 0,
            given_bytes: 0,
            drains: Vec::new(),
            deflater: None,
            compress: settings.compress,
            no_takeover: settings.no_takeover,
            shut: false,
            linger_until: None,
            broken: false,
            blocked: false,
            heartbeat,
            silence: settings.silence,
            last_read: None,
            waker: None,
            timer: None,
            armed: None,
            attention: true,
            dialogue,
        };
        let rest = std::mem::take(&mut upgraded.rest);
        if !rest.is_empty() {
            state.received(py, &rest);
        }
        let channel = Arc::new(Self {
            engine: Arc::clone(engine),
            state: GilCell::new(state),
        });
        if let Some(pool) = pool {
            pool.upgraded(py, &channel);
        }
        engine.handle.spawn(Serving(Arc::clone(&channel)));
        channel
    }

    /// Closes the connection as soon as everything is sent; a reader finds its end.
    pub(crate) fn shut(&self, py: Python<'_>) {
        let mut state = self.state.borrow_mut(py);
        state.ended.get_or_insert(Trouble::Eof);
        state.shut_down();
    }

    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<()> {
        let mut first = true;
        loop {
            let turn = self.state.borrow_mut(py).turn(py, self, cx, first);
            first = false;
            match turn {
                Turn::Wait => return Poll::Pending,
                Turn::Progress => self.progress(py),
                Turn::Sent => self.release_senders(py),
                Turn::Over => {
                    self.over(py);
                    self.release_senders(py);
                    self.progress(py);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Gives the waiting reader what there is for it.
    fn progress(&self, py: Python<'_>) {
        loop {
            let (reader, end) = {
                let mut state = self.state.borrow_mut(py);
                let Some(mut reader) = state.dialogue.reader.take() else {
                    return;
                };
                match state.advance(&mut reader.stage) {
                    Some(end) => (reader, end),
                    None => {
                        state.dialogue.reader = Some(reader);
                        return;
                    }
                }
            };
            let Reader {
                awaitable, then, ..
            } = reader;
            let outcome = self.conclude(py, then, end);
            Awaitable::resolve(awaitable.bind(py), outcome);
        }
    }

    /// Makes Python objects of an operation's end. Never while the state is borrowed: they may be
    /// collected garbage's finalizers that run here.
    pub(super) fn conclude(&self, py: Python<'_>, then: messages::Then, end: End) -> Outcome {
        let error = match &end {
            End::Item(Item::Error { trouble, kept }) => match trouble.exception(py) {
                Ok(error) => {
                    if *kept {
                        self.state.borrow_mut(py).dialogue.keep(&error);
                    }
                    Some(error)
                }
                Err(error) => return Outcome::Error(error),
            },
            _ => None,
        };
        messages::outcome(py, then, end, error.as_ref())
    }

    fn release_senders(&self, py: Python<'_>) {
        let (drains, broken) = {
            let mut state = self.state.borrow_mut(py);
            (std::mem::take(&mut state.drains), state.broken)
        };
        for waiter in drains {
            let outcome = if broken {
                Outcome::Error(Trouble::Lost.into_error(py))
            } else {
                Outcome::Value(py.None())
            };
            Awaitable::resolve(waiter.bind(py), outcome);
        }
    }

    fn over(&self, py: Python<'_>) {
        let gone = {
            let mut state = self.state.borrow_mut(py);
            state.ended.get_or_insert(Trouble::Eof);
            state.shut = true;
            state.timer = None;
            state.heartbeat = None;
            state.let_go()
        };
        // Here another request may get the place.
        drop(gone);
    }

    /// Waits for the socket on behalf of a sender.
    pub(super) fn add_drain(&self, waiter: &Bound<'_, Awaitable>) {
        let mut state = self.state.borrow_mut(waiter.py());
        state.drains.push(waiter.clone().unbind());
        state.wake();
    }

    pub(super) fn remove_drain(&self, waiter: &Bound<'_, Awaitable>) {
        let removed = {
            let mut state = self.state.borrow_mut(waiter.py());
            let index = state.drains.iter().position(|known| known.is(waiter));
            index.map(|index| state.drains.swap_remove(index))
        };
        drop(removed);
    }

    /// The transport's own and its peer's address.
    pub(super) fn addresses(
        &self,
        py: Python<'_>,
    ) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        let state = self.state.borrow(py);
        let transport = state.transport.as_ref()?;
        Some((transport.local_addr().ok()?, transport.peer_addr().ok()?))
    }
}

/// What a connection leaves behind: dropped outside the state's borrow.
type Remains = (Option<Transport>, Option<CountedPlace>);

/// The task of a channel. Dropped with the runtime, it takes the connection along.
struct Serving(Arc<Channel>);

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Python::attach(|py| self.0.poll(py, cx))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        Python::attach(|py| self.0.over(py));
    }
}

impl State {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next message, if one has come.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let (item, size) = self.queue.pop_front()?;
        let full = self.queued_bytes > LOW_WATER_BYTES;
        self.queued_bytes -= size + MESSAGE_OVERHEAD_BYTES;
        if full && self.queued_bytes <= LOW_WATER_BYTES {
            self.wake();
        }
        Some(item)
    }

    pub(super) fn push(&mut self, item: Item, size: usize) {
        self.queued_bytes += size + MESSAGE_OVERHEAD_BYTES;
        self.queue.push_back((item, size));
    }

    /// A time limit was set: whether the timer rings early enough.
    pub(super) fn arm(&mut self, due: Instant) {
        if self.armed.is_none_or(|armed| due < armed) {
            self.attention = true;
            self.wake();
        }
    }

    pub(super) fn stop_heartbeat(&mut self) {
        self.heartbeat = None;
    }

    /// Sends one frame. True when the sender should wait for the socket.
    ///
    /// `compress`: bits of the window for this message only.
    pub(super) fn send(
        &mut self,
        outbox: &mut Vec<u8>,
        code: u8,
        payload: &[u8],
        compress: Option<u8>,
    ) -> Result<bool, Trouble> {
        if self.dialogue.close_sent && code & opcode::CLOSE == 0 {
            return Err(Trouble::Gone);
        }
        let compressed = code < opcode::FIRST_CONTROL && (compress.is_some() || self.compress > 0);
        let mut deflated = Vec::new();
        if compressed {
            let mut own = compress.and_then(|bits| Deflater::new(bits, self.no_takeover));
            let deflater = match &mut own {
                Some(own) => Some(own),
                None => {
                    if self.deflater.is_none() {
                        self.deflater = Deflater::new(self.compress, self.no_takeover);
                    }
                    self.deflater.as_mut()
                }
            };
            if !deflater.is_some_and(|deflater| deflater.deflate(payload, &mut deflated)) {
                return Err(Trouble::Gone);
            }
        }
        if self.shut {
            return Err(Trouble::Gone);
        }
        let payload = if compressed { &deflated } else { payload };
        // RFC 6455 wants a key that the payload's author cannot guess. Here that is the tester himself.
        let key = fastrand::u32(..).to_ne_bytes();
        if self.sent < self.outgoing.len() {
            let before = self.outgoing.len();
            websocket::encode(&mut self.outgoing, code, compressed, payload, key);
            self.given_bytes += self.outgoing.len() - before;
        } else {
            outbox.clear();
            websocket::encode(outbox, code, compressed, payload, key);
            self.given_bytes += outbox.len();
            self.write(outbox);
        }
        if self.given_bytes <= SEND_LIMIT_BYTES {
            return Ok(false);
        }
        self.given_bytes = 0;
        Ok(self.unsent_bytes() > UNSENT_LIMIT_BYTES)
    }

    fn write(&mut self, data: &[u8]) {
        let Some(transport) = self.transport.as_mut() else {
            return;
        };
        let count = match transport.try_write(data) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.broke();
                return;
            }
        };
        let rest = data.get(count..).unwrap_or_default();
        self.outgoing.extend_from_slice(rest);
        if !rest.is_empty() || transport.is_tls() {
            self.wake();
        }
    }

    /// Whether so much waits for the socket that nothing should be sent unasked.
    pub(super) fn is_congested(&self) -> bool {
        !self.shut && self.unsent_bytes() > SEND_LIMIT_BYTES
    }

    /// Whether the next message is a ping.
    pub(super) fn ping_is_next(&self) -> bool {
        matches!(self.queue.front(), Some((Item::Ping(_), _)))
    }

    fn unsent_bytes(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// The socket has failed: nothing that was given will arrive.
    fn broke(&mut self) {
        self.broken = true;
        self.outgoing.clear();
        self.sent = 0;
        self.shut = true;
        self.ended.get_or_insert(Trouble::Eof);
        self.attention = true;
        self.wake();
    }

    /// Lets the task close the connection, once what was given has been sent.
    pub(super) fn shut_down(&mut self) {
        self.shut = true;
        self.heartbeat = None;
        if self.unsent_bytes() > 0 && self.linger_until.is_none() {
            self.linger_until = Some(Instant::now() + LINGER);
        }
        self.attention = true;
        self.wake();
    }

    fn let_go(&mut self) -> Remains {
        if let Some(transport) = &mut self.transport {
            transport.shutdown();
        }
        self.tail = Vec::new();
        self.outgoing = Vec::new();
        self.sent = 0;
        (self.transport.take(), self.place.take())
    }

    fn turn(
        &mut self,
        py: Python<'_>,
        channel: &Channel,
        cx: &mut Context<'_>,
        first: bool,
    ) -> Turn {
        loop {
            self.flush(cx);
            if self.transport.is_none() || (self.shut && self.unsent_bytes() == 0) {
                return Turn::Over;
            }
            if !self.drains.is_empty() && self.unsent_bytes() == 0 {
                return Turn::Sent;
            }
            if self.blocked && self.unsent_bytes() == 0 {
                self.blocked = false;
                return Turn::Progress;
            }
            if std::mem::take(&mut self.attention) {
                // The end of the conversation is news for a reader, too.
                let news = self.ended.is_some();
                if self.poll_timer(cx) {
                    return self.after_timer();
                }
                if news {
                    return Turn::Progress;
                }
            }
            if self.shut {
                return self.wait(cx, first);
            }
            if !self.tail.is_empty() && self.queued_bytes <= LOW_WATER_BYTES {
                let tail = std::mem::take(&mut self.tail);
                self.decode(py, &tail);
                return Turn::Progress;
            }
            if !self.tail.is_empty() || self.queued_bytes > HIGH_WATER_BYTES {
                return self.wait(cx, first);
            }
            let mut scratch = channel.engine.scratch.borrow_mut(py);
            let Some(transport) = self.transport.as_mut() else {
                return Turn::Over;
            };
            match transport.poll_read(cx, &mut scratch) {
                Poll::Pending => {
                    drop(scratch);
                    return self.wait(cx, first);
                }
                Poll::Ready(Ok(0)) => self.end_of_input(),
                Poll::Ready(Ok(count)) => {
                    self.received(py, scratch.get(..count).unwrap_or_default());
                    return Turn::Progress;
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.end_of_input();
                }
                Poll::Ready(Err(_)) => self.broke(),
            }
        }
    }

    /// Nothing to do now. `first`: perhaps it was the timer that woke the task.
    fn wait(&mut self, cx: &mut Context<'_>, first: bool) -> Turn {
        if first && self.poll_timer(cx) {
            return self.after_timer();
        }
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
        Turn::Wait
    }

    fn end_of_input(&mut self) {
        self.ended.get_or_insert(Trouble::Eof);
        self.shut_down();
    }

    /// A reader is told before the connection is given up; then the other limits are looked at.
    fn after_timer(&mut self) -> Turn {
        self.attention = true;
        if self
            .linger_until
            .is_some_and(|until| until <= Instant::now())
        {
            self.outgoing.clear();
            self.sent = 0;
        }
        Turn::Progress
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        let Some(transport) = self.transport.as_mut() else {
            return;
        };
        while self.sent < self.outgoing.len() {
            let rest = self.outgoing.get(self.sent..).unwrap_or_default();
            match transport.poll_write(cx, rest) {
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(_)) => return self.broke(),
                Poll::Pending => return,
            }
        }
        if self.sent > 0 {
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(4096);
        }
        // A failed flush shows as a failed read.
        let _ = transport.poll_flush(cx);
    }

    /// Takes what the server said.
    fn received(&mut self, py: Python<'_>, data: &[u8]) {
        if self.heartbeat.is_some() || self.silence.is_some() {
            let now = Instant::now();
            self.last_read = Some(now);
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.heard(now);
            }
        }
        self.decode(py, data);
    }

    fn decode(&mut self, py: Python<'_>, mut data: &[u8]) {
        // After a failure the rest means nothing, but the end of the connection is still waited for.
        while self.ended.is_none() {
            if self.queued_bytes > HIGH_WATER_BYTES && !data.is_empty() {
                self.tail = data.to_vec();
                return;
            }
            match self.decoder.next(&mut data) {
                Ok(None) => return,
                Ok(Some(message)) => {
                    let (item, size) = Item::new(py, message);
                    self.push(item, size);
                }
                Err(failure) => self.ended = Some(Trouble::Frame(failure)),
            }
        }
    }
}
