//! One exchange on an HTTP/2 connection, and what the exchanges of a connection share.
//!
//! A task on the runtime carries each exchange: it sends the request, then the body as far as the server
//! lets it, and reads the answer as far as its reader follows. To the rest it is what a
//! [`super::connection`] is: the place of a request, and the source of a body.
//!
//! A little longer than usual, because both directions of an exchange share its flow control and its end.

use super::awaitable::{Awaitable, Outcome};
use super::body::{Body, Content as BodyContent};
use super::carrier::Carrier;
use super::connection::{Arrived, Content, Deadlines, Sent};
use super::event_loop::Engine;
use super::ffi::GilCell;
use super::receiving::{Reading, Receiving as Decoding};
use super::request::Job;
use crate::http::body::BodyDecoder;
use crate::http::codec::{Framing, ResponseHead};
use crate::http::error::{Error, TimeoutKind};
use crate::http::http2::{self, Sender};
use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use pyo3::prelude::*;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::task::AbortHandle;
use tokio::time::Sleep;

/// An HTTP/2 connection that any number of requests use at once. It ends when this is dropped and the last
/// of its exchanges is over.
pub(crate) struct Multiplexed {
    sender: GilCell<Sender>,
    /// It has carried an answer: a failure may be the end of its life rather than the server's refusal.
    served: AtomicBool,
    /// The task that moves the bytes of all streams.
    driver: AbortHandle,
}

impl Multiplexed {
    pub(crate) fn new(sender: Sender, driver: AbortHandle) -> Arc<Self> {
        Arc::new(Self {
            sender: GilCell::new(sender),
            served: AtomicBool::new(false),
            driver,
        })
    }

    /// Lets the connection go: its streams fail as when the server had closed it, and without any it ends with
    /// a goodbye.
    pub(crate) fn end(self: Arc<Self>) {
        if let Err(busy) = Arc::try_unwrap(self) {
            busy.driver.abort();
        }
    }

    /// Whether the server still takes requests, as far as is known.
    pub(crate) fn is_usable(&self, py: Python<'_>) -> bool {
        let mut sender = self.sender.borrow(py).clone();
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(ready, Poll::Ready(Err(_)))
    }
}

struct State {
    sent: Sent,
    /// What the server has not taken yet of the body.
    outgoing: BytesMut,
    /// Nothing more will come.
    fed: bool,
    /// The body waits for an interim response.
    held: bool,
    /// The end of the body has been sent, or nobody wants it.
    upload_over: bool,
    unframing: Option<BodyDecoder>,
    drain: Option<Py<Awaitable>>,
    waker: Option<Waker>,
    task: Option<AbortHandle>,
    /// The status of an answer whose body is on its way.
    answered: Option<u16>,
    received_bytes: u64,
}

/// See the module's text.
pub(crate) struct Stream {
    engine: Arc<Engine>,
    /// When the time for the whole request is over.
    total: Option<Instant>,
    state: GilCell<State>,
}

/// Why an exchange ended without a response.
struct Failed {
    error: Error,
    /// The server has done nothing: the request may be sent once more.
    untouched: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            untouched: false,
        }
    }
}

impl Stream {
    /// Sends a request whose bytes in HTTP/1.1 are `wire`.
    pub(crate) fn start(
        request: &Bound<'_, Awaitable>,
        job: &Job,
        multiplexed: &Arc<Multiplexed>,
        began: Instant,
        wire: &[u8],
    ) -> Result<Arc<Self>, Error> {
        let py = request.py();
        let outgoing = http2::request(wire, job.url.target.tls)?;
        let held = job.held_body();
        let stream = Arc::new(Self {
            engine: Arc::clone(&job.engine),
            total: job.deadlines.total,
            state: GilCell::new(State {
                sent: Sent {
                    method: job.method.clone(),
                    url: Arc::clone(&job.url),
                    began,
                },
                held: held.is_some(),
                outgoing: BytesMut::from(&*held.unwrap_or(outgoing.body)),
                fed: !job.is_uploading(),
                upload_over: false,
                unframing: outgoing.chunked.then(|| BodyDecoder::new(Framing::Chunked)),
                drain: None,
                waker: None,
                task: None,
                answered: None,
                received_bytes: 0,
            }),
        });
        let exchange = Exchange {
            stream: Arc::clone(&stream),
            request: request.clone().unbind(),
            multiplexed: Arc::clone(multiplexed),
            head_request: job.method.is_head(),
            decompress: job.decompress,
            reading: job.reading(),
            clock: Clock {
                deadlines: job.deadlines,
                last_read: began,
                timer: None,
            },
        };
        let sender = multiplexed.sender.borrow(py).clone();
        let task = job.engine.handle.spawn(async move {
            // Boxed, as its size is that of all its steps together.
            let stream = Arc::clone(&exchange.stream);
            Box::pin(exchange.run(sender, outgoing.request)).await;
            Python::attach(|py| stream.end(py));
        });
        stream.state.borrow_mut(py).task = Some(task.abort_handle());
        Ok(stream)
    }

    /// Gives the stream more of a request's body, framed as HTTP/1.1 would have it.
    pub(crate) fn write(&self, py: Python<'_>, data: &[u8]) {
        let mut state = self.state.borrow_mut(py);
        if state.upload_over {
            return;
        }
        match &mut state.unframing {
            None => state.outgoing.extend_from_slice(data),
            Some(decoder) => {
                let mut plain = Vec::new();
                // Our own framing: nothing can be wrong with it.
                let _ = decoder.decode(data, &mut plain);
                state.outgoing.extend_from_slice(&plain);
            }
        }
        state.wake();
    }

    /// Whether the request's body is still on its way.
    pub(crate) fn is_uploading(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        !state.fed && !state.upload_over
    }

    /// Whether the time for the whole request is over.
    pub(crate) fn is_expired(&self) -> bool {
        self.total.is_some_and(|total| Instant::now() >= total)
    }

    /// The streamed body is complete.
    pub(crate) fn upload_done(&self, py: Python<'_>) {
        let mut state = self.state.borrow_mut(py);
        state.fed = true;
        state.wake();
    }

    /// Resolves `waiter` when the server has made room for everything. False: there is room already.
    pub(crate) fn when_sent(&self, waiter: &Bound<'_, Awaitable>) -> bool {
        let mut state = self.state.borrow_mut(waiter.py());
        if state.upload_over || (state.outgoing.is_empty() && !state.held) {
            return false;
        }
        state.drain = Some(waiter.clone().unbind());
        state.wake();
        true
    }

    /// Bytes that the server has made no room for yet.
    pub(crate) fn unsent_bytes(&self, py: Python<'_>) -> usize {
        self.state.borrow(py).outgoing.len()
    }

    /// Goes on reading a body whose reader had fallen behind.
    pub(crate) fn resume(&self, py: Python<'_>) {
        self.state.borrow_mut(py).wake();
    }

    /// Resets the stream; the connection and its other streams go on. The request is not told.
    pub(crate) fn abort(&self, py: Python<'_>) {
        let (task, answered, sent, received_bytes) = {
            let mut state = self.state.borrow_mut(py);
            (
                state.task.take(),
                state.answered.take(),
                state.sent.clone(),
                state.received_bytes,
            )
        };
        if let Some(task) = task {
            task.abort();
        }
        self.end(py);
        // An answer whose body nobody wanted was an answer all the same.
        if let Some(status) = answered {
            self.engine
                .record(py, &sent, Instant::now(), Some(status), received_bytes);
        }
    }

    /// The task has ended: nothing of the body will be sent any more.
    fn end(&self, py: Python<'_>) {
        let waiter = {
            let mut state = self.state.borrow_mut(py);
            state.task = None;
            state.upload_over = true;
            state.outgoing.clear();
            state.drain.take()
        };
        if let Some(waiter) = waiter {
            Awaitable::resolve(waiter.bind(py), Outcome::Value(py.None()));
        }
    }

    /// Counts an exchange that is over: `status` of an answer, none for a broken body.
    fn record(&self, py: Python<'_>, status: Option<u16>) {
        let (sent, received_bytes) = {
            let mut state = self.state.borrow_mut(py);
            state.answered = None;
            (state.sent.clone(), state.received_bytes)
        };
        self.engine
            .record(py, &sent, Instant::now(), status, received_bytes);
    }

    /// Hands the server as much of the body as it has made room for. While there is something to send, the
    /// server has no reason to speak.
    fn pump(&self, cx: &mut Context<'_>, upload: &mut SendStream<Bytes>, clock: &mut Clock) {
        Python::attach(|py| {
            let waiter = {
                let mut state = self.state.borrow_mut(py);
                if !state.upload_over {
                    clock.last_read = Instant::now();
                }
                state.pump(cx, upload)
            };
            if let Some(waiter) = waiter {
                Awaitable::resolve(waiter.bind(py), Outcome::Value(py.None()));
            }
        });
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Gives whoever waits for the body to be gone, when it is.
    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut SendStream<Bytes>,
    ) -> Option<Py<Awaitable>> {
        self.waker = Some(cx.waker().clone());
        if self.held {
            return None;
        }
        while !self.upload_over {
            if self.outgoing.is_empty() {
                if self.fed {
                    // A failure here is one of the stream, which reading tells.
                    let _ = upload.send_data(Bytes::new(), true);
                    self.upload_over = true;
                }
                break;
            }
            upload.reserve_capacity(self.outgoing.len());
            let room = upload.capacity().min(self.outgoing.len());
            if room > 0 {
                let piece = self.outgoing.split_to(room).freeze();
                let last = self.fed && self.outgoing.is_empty();
                self.upload_over = upload.send_data(piece, last).is_err() || last;
                continue;
            }
            match upload.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => {
                    self.upload_over = true;
                    self.outgoing.clear();
                }
                Poll::Pending => return None,
            }
        }
        self.drain.take()
    }
}

/// The time limits of an exchange.
struct Clock {
    deadlines: Deadlines,
    last_read: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Ready with the limit that has run out.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let silence = self.deadlines.sock_read.map(|limit| self.last_read + limit);
        let (due, kind) = match (self.deadlines.total, silence) {
            (None, None) => return Poll::Pending,
            (Some(total), Some(silence)) if silence < total => (silence, TimeoutKind::SockRead),
            (Some(total), _) => (total, TimeoutKind::Total),
            (None, Some(silence)) => (silence, TimeoutKind::SockRead),
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        if timer.deadline() != due.into() {
            timer.as_mut().reset(due.into());
        }
        timer.as_mut().poll(cx).map(|()| Error::Timeout(kind))
    }
}

/// What the task of a stream works with.
struct Exchange {
    stream: Arc<Stream>,
    request: Py<Awaitable>,
    multiplexed: Arc<Multiplexed>,
    head_request: bool,
    decompress: bool,
    reading: Option<Arc<Reading>>,
    clock: Clock,
}

/// A response's body as it arrives.
struct Receiving {
    incoming: RecvStream,
    decoding: Decoding,
}

impl Exchange {
    async fn run(mut self, sender: Sender, head: http::Request<()>) {
        let (mut receiving, mut upload, body) = match self.reach_head(sender, head).await {
            Ok(Some(parts)) => parts,
            Ok(None) => return,
            Err(failed) => {
                let Failed { error, untouched } = failed;
                return Python::attach(|py| {
                    self.stream.state.borrow_mut(py).task = None;
                    Job::failed(self.request.bind(py), error, untouched);
                });
            }
        };
        // From here on the response must not keep itself alive.
        drop(self.request);
        let stream = self.stream;
        let ended = read_on(&stream, &mut self.clock, &mut receiving, &mut upload, &body).await;
        if let Err(error) = ended {
            Python::attach(|py| {
                stream.record(py, None);
                if let Some(body) = body.upgrade() {
                    body.failed(py, error);
                }
            });
        }
    }

    /// Sends the request and hands the response over at its head; `None` when its body came with it.
    async fn reach_head(
        &mut self,
        sender: Sender,
        head: http::Request<()>,
    ) -> Result<Option<(Receiving, SendStream<Bytes>, Weak<Body>)>, Failed> {
        let mut ready = Box::pin(sender.ready());
        let clock = &mut self.clock;
        let sender = poll_fn(|cx| match ready.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => clock.poll(cx).map(Err),
        });
        let mut sender = sender.await?.map_err(|error| self.failed(&error))?;
        let bodiless = Python::attach(|py| {
            let mut state = self.stream.state.borrow_mut(py);
            // A server that has its hands full lets a request wait here: that is not its service time.
            state.sent.began = Instant::now();
            self.clock.last_read = state.sent.began;
            state.upload_over = state.fed && state.outgoing.is_empty() && !state.held;
            state.upload_over
        });
        let (mut response, mut upload) = sender
            .send_request(head, bodiless)
            .map_err(|error| self.failed(&error))?;
        drop(sender);
        let (stream, clock) = (&self.stream, &mut self.clock);
        let answer = poll_fn(|cx| {
            poll_interim(stream, &mut response, cx);
            stream.pump(cx, &mut upload, clock);
            match Pin::new(&mut response).poll(cx) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => clock.poll(cx).map(Err),
            }
        });
        let (parts, incoming) = answer
            .await?
            .map_err(|error| self.failed(&error))?
            .into_parts();
        self.clock.last_read = Instant::now();
        self.multiplexed.served.store(true, Ordering::Relaxed);
        let reading = self.reading();
        let (raw, head) = http2::response_head(&parts, self.head_request, &reading.limits)?;
        let encoding = head.encoding.filter(|_| self.decompress);
        let mut receiving = Receiving {
            incoming,
            // HTTP/2 says itself where a body ends.
            decoding: Decoding::new(Framing::UntilClose, encoding, reading.decoding),
        };
        Ok(self
            .deliver(raw, head, &mut receiving)
            .await
            .map(|body| (receiving, upload, body)))
    }

    /// Resolves the request with what has arrived; gives the body if there is more to come.
    async fn deliver(
        &mut self,
        raw: Vec<u8>,
        head: ResponseHead,
        receiving: &mut Receiving,
    ) -> Option<Weak<Body>> {
        let high_water = self.reading().high_water;
        let mut content = BodyContent::default();
        let mut received = raw.len();
        // Small bodies come with their head: no reader needs to be woken for them.
        let ended = loop {
            let room = high_water.saturating_sub(content.data.len());
            if room == 0 || receiving.decoding.is_backed_up() {
                break None;
            }
            let next = poll_fn(|cx| Poll::Ready(receiving.incoming.poll_data(cx))).await;
            match next {
                Poll::Pending => break None,
                Poll::Ready(piece) => match receiving.take(piece, &mut content, room) {
                    Ok(Some(count)) => received += count,
                    Ok(None) => break Some(Ok(())),
                    Err(error) => break Some(Err(error)),
                },
            }
        };
        Python::attach(|py| {
            {
                let mut state = self.stream.state.borrow_mut(py);
                state.received_bytes = received as u64;
                state.answered = Some(head.status);
            }
            let content = match &ended {
                None => {
                    let carrier = Carrier::Stream(Arc::clone(&self.stream));
                    Content::Streaming(Body::new(carrier, content, high_water))
                }
                Some(Ok(())) => Content::Decoded(content),
                Some(Err(error)) => Content::Broken(error.clone()),
            };
            let body = match &content {
                Content::Streaming(body) => Some(Arc::downgrade(body)),
                _ => {
                    self.stream.state.borrow_mut(py).task = None;
                    self.stream.record(py, Some(head.status));
                    None
                }
            };
            let arrived = Arrived {
                head,
                raw: raw.into(),
                content,
            };
            Job::arrived(self.request.bind(py), arrived);
            body
        })
    }

    fn reading(&self) -> Reading {
        self.reading.as_deref().copied().unwrap_or_default()
    }

    fn failed(&self, error: &h2::Error) -> Failed {
        let served = self.multiplexed.served.load(Ordering::Relaxed);
        Failed {
            untouched: http2::is_refused(error) || (served && !error.is_reset()),
            error: http2::failure(error),
        }
    }
}

/// Lets a body go that waits for an interim response, when there is one.
fn poll_interim(stream: &Stream, response: &mut ResponseFuture, cx: &mut Context<'_>) {
    let held = Python::attach(|py| stream.state.borrow(py).held);
    if held && matches!(response.poll_informational(cx), Poll::Ready(Some(Ok(_)))) {
        Python::attach(|py| stream.state.borrow_mut(py).held = false);
    }
}

/// Reads a body to its end, no faster than its reader.
async fn read_on(
    stream: &Arc<Stream>,
    clock: &mut Clock,
    receiving: &mut Receiving,
    upload: &mut SendStream<Bytes>,
    body: &Weak<Body>,
) -> Result<(), Error> {
    let mut paused = false;
    loop {
        let next = poll_fn(|cx| {
            stream.pump(cx, upload, clock);
            let room = Python::attach(|py| body.upgrade().map_or(usize::MAX, |body| body.room(py)));
            // Silence while the reader is behind is not the server's.
            let was_paused = std::mem::replace(&mut paused, room == 0);
            if paused || was_paused {
                clock.last_read = Instant::now();
            }
            if room > 0 {
                if receiving.decoding.is_backed_up() {
                    return Poll::Ready(Ok((None, room)));
                }
                if let Poll::Ready(piece) = receiving.incoming.poll_data(cx) {
                    clock.last_read = Instant::now();
                    return Poll::Ready(Ok((Some(piece), room)));
                }
            }
            clock.poll(cx).map(Err)
        });
        let (piece, room) = next.await?;
        let over = Python::attach(|py| {
            // Nobody will read it: the response is gone.
            let Some(body) = body.upgrade() else {
                return Ok::<bool, Error>(true);
            };
            let count = body.extend(py, |content| match piece {
                Some(piece) => receiving.take(piece, content, room),
                None => receiving
                    .decoding
                    .decode(&[], content, room)
                    .map(|_| Some(0)),
            })?;
            let status = {
                let mut state = stream.state.borrow_mut(py);
                state.received_bytes += count.unwrap_or(0) as u64;
                state.answered
            };
            if count.is_none() {
                stream.record(py, status);
            }
            body.advanced(py, count.is_none());
            Ok(count.is_none())
        })?;
        if over {
            return Ok(());
        }
    }
}

impl Receiving {
    /// Takes a piece of the body, and decodes as much of it as there is `room` for; gives its size, and `None` at
    /// the end. What is decoded already comes first: see [`Decoding::is_backed_up`].
    fn take(
        &mut self,
        piece: Option<Result<Bytes, h2::Error>>,
        content: &mut BodyContent,
        room: usize,
    ) -> Result<Option<usize>, Error> {
        let Some(piece) = piece else {
            self.decoding.eof()?;
            return Ok(None);
        };
        let piece = piece.map_err(|error| http2::broken_body(&error))?;
        self.decoding.decode(&piece, content, room)?;
        // The room is the server's again. A failure is one of the stream, which the next read tells.
        let _ = self.incoming.flow_control().release_capacity(piece.len());
        Ok(Some(piece.len()))
    }
}
