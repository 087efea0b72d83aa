//! A native request: what to send, where it stands, and what follows a response (redirects, cookies).
//!
//! The arguments a script passes are read by [`super::arguments`]; what they cannot express natively
//! never gets here.
//!
//! Longer than usual: sending, failing, being sent again and following a redirect all change where one
//! request stands, and each may follow any other.

pub(crate) use super::arguments::Method;
use super::arguments::{Body as RequestBody, Options};
use super::awaitable::{Awaitable, Outcome, Task};
use super::carrier::Carrier;
use super::connection::{Arrived, Connection, Deadlines};
use super::errors;
use super::event_loop::Engine;
use super::opening::{Opened, Opening};
use super::pool::{Checkout, CountedPlace, Key, Pool};
use super::receiving::Reading;
use super::reservation::{Reservation, Reserved, Reserving};
use super::response::{self, Response};
use super::session::Session;
use super::stream::{Multiplexed, Stream};
use super::urls::{self, UrlEntry};
use crate::http::codec;
use crate::http::connect::{Endpoint, Route};
use crate::http::encode;
use crate::http::error::{Error, TimeoutKind};
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::task::AbortHandle;

/// How much of a streamed body may wait for the socket.
const UPLOAD_AHEAD_BYTES: usize = 128 * 1024;

/// Where a request stands.
enum Place {
    Unsent,
    Queued,
    Connecting(AbortHandle),
    On(Carrier),
}

/// See the module's text.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one request"
)]
pub(crate) struct Job {
    pub(crate) session: Py<Session>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) method: Method,
    pub(crate) url: Arc<UrlEntry>,
    pub(crate) decompress: bool,
    pub(crate) deadlines: Deadlines,
    /// None before it is sent.
    began: Option<Instant>,
    pub(crate) headers: Vec<(String, String)>,
    body: RequestBody,
    content_type: Option<&'static str>,
    authorization: Option<String>,
    options: Options,
    pool: Arc<Pool>,
    key: Key,
    /// A proxy is told the whole URL.
    absolute: bool,
    /// The body waits for an interim response.
    expect: bool,
    place: Place,
    /// One more try on a fresh connection has been made.
    resent: bool,
    history: Vec<Py<Response>>,
    /// A redirect led to another origin: the session's own credentials stay behind.
    elsewhere: bool,
    /// Who waits for the streamed body to be sent.
    drain: Option<Py<Awaitable>>,
    upload_done: bool,
    /// More of the body is written by the script's side while the request is under way.
    streamed: Vec<u8>,
    /// The `Cookie` header that was added.
    cookies: Option<String>,
    /// The fragment of the redirect's target: never sent, but part of `real_url`.
    fragment: Option<Box<str>>,
    reserving: Reserving,
}

/// Headers that the client added to a request of its own accord, as they were sent.
pub(crate) struct Added {
    /// Nothing of the session's: the headers were complete.
    pub(crate) bare: bool,
    /// After a redirect to another origin the session's credentials stay behind.
    pub(crate) elsewhere: bool,
    pub(crate) cookies: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) content_length: Option<usize>,
    pub(crate) content_type: Option<&'static str>,
}

/// What [`Job::create`] is made from.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one request"
)]
pub(crate) struct Spec {
    pub(crate) method: Method,
    pub(crate) url: Arc<UrlEntry>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: RequestBody,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) authorization: Option<String>,
    pub(crate) options: Options,
    pub(crate) tls: u32,
    pub(crate) route: u32,
    pub(crate) absolute: bool,
    pub(crate) expect: bool,
    pub(crate) decompress: bool,
    /// It was sent before, on a kept connection that had gone: this time on a new one.
    pub(crate) again: bool,
    pub(crate) reserving: Reserving,
}

impl Job {
    /// The awaitable of a request. Nothing is sent before it is awaited.
    pub(crate) fn create<'py>(
        session: &Bound<'py, Session>,
        engine: &Arc<Engine>,
        pool: &Arc<Pool>,
        spec: Spec,
    ) -> PyResult<Bound<'py, Awaitable>> {
        let key = Key {
            origin: spec.url.origin,
            tls: spec.tls,
            route: spec.route,
        };
        let job = Self {
            session: session.clone().unbind(),
            engine: Arc::clone(engine),
            method: spec.method,
            url: spec.url,
            decompress: spec.decompress,
            deadlines: Deadlines::default(),
            began: None,
            headers: spec.headers,
            body: spec.body,
            content_type: spec.content_type,
            authorization: spec.authorization,
            options: spec.options,
            pool: Arc::clone(pool),
            key,
            absolute: spec.absolute,
            expect: spec.expect,
            place: Place::Unsent,
            resent: spec.again,
            history: Vec::new(),
            elsewhere: false,
            drain: None,
            upload_done: false,
            streamed: Vec::new(),
            cookies: None,
            fragment: None,
            reserving: spec.reserving,
        };
        Awaitable::create(
            session.py(),
            Arc::clone(engine),
            Task::Request(Box::new(job)),
        )
    }

    /// Sends the request.
    #[inline]
    pub(crate) fn start(slf: &Bound<'_, Awaitable>) {
        let py = slf.py();
        let now = Instant::now();
        let checkout = slf.get().with_job(py, |job| {
            job.began = Some(now);
            let timeouts = job.options.timeouts;
            job.deadlines.total = timeouts.total.map(|total| now + total);
            job.deadlines.sock_read = timeouts.sock_read;
            let reserved = match &job.reserving {
                Reserving::Made(reservation) => reservation.get().take(py),
                _ => None,
            };
            if job.resent && !matches!(job.reserving, Reserving::Only) {
                job.engine.record_resent(py);
            }
            (
                reserved,
                job.session.get().is_closed(py) || job.pool.is_closed(py),
                Arc::clone(&job.pool),
                job.key,
                job.may_multiplex(),
                job.resent,
            )
        });
        let Some((reserved, closed, pool, key, multiplex, fresh)) = checkout else {
            return;
        };
        if closed {
            let error = pyo3::exceptions::PyRuntimeError::new_err("Session is closed");
            return Awaitable::resolve(slf, Outcome::Error(error));
        }
        match reserved {
            None => Self::proceed_at(slf, pool.checkout(slf, key, now, fresh, multiplex), now),
            Some(Reserved::Own(connection)) => Self::send_on(slf, connection, now),
            Some(Reserved::Shared(multiplexed)) => Self::send_beside(slf, &multiplexed, now),
        }
    }

    /// Goes on with the connection that was found, or without one.
    pub(crate) fn proceed(slf: &Bound<'_, Awaitable>, checkout: Checkout) {
        Self::proceed_at(slf, checkout, Instant::now());
    }

    /// Looks for a connection anew.
    pub(crate) fn begin_again(slf: &Bound<'_, Awaitable>) {
        Self::check_out(slf, Instant::now(), false);
    }

    fn check_out(slf: &Bound<'_, Awaitable>, now: Instant, fresh: bool) {
        let parts = slf.get().with_job(slf.py(), |job| {
            (Arc::clone(&job.pool), job.key, job.may_multiplex())
        });
        if let Some((pool, key, multiplex)) = parts {
            Self::proceed_at(slf, pool.checkout(slf, key, now, fresh, multiplex), now);
        }
    }

    /// Whether HTTP/2 may be spoken: not to a proxy.
    #[inline]
    fn may_multiplex(&self) -> bool {
        !self.absolute && self.pool.ways.may_multiplex(self.url.target.tls)
    }

    fn proceed_at(slf: &Bound<'_, Awaitable>, checkout: Checkout, now: Instant) {
        match checkout {
            Checkout::Idle(connection) => Self::use_own(slf, connection, now),
            Checkout::Shared(multiplexed) => Self::use_shared(slf, &multiplexed, now),
            Checkout::Open => Self::open(slf),
            Checkout::Queued => {
                slf.get()
                    .with_job(slf.py(), |job| job.place = Place::Queued);
                Self::limit_wait(slf);
            }
        }
    }

    /// Sends the request on a connection of its own, or keeps that for later.
    #[inline]
    fn use_own(slf: &Bound<'_, Awaitable>, connection: Arc<Connection>, now: Instant) {
        if Self::only_reserves(slf) {
            Self::reserved(slf, Reserved::Own(connection));
        } else {
            Self::send_on(slf, connection, now);
        }
    }

    fn use_shared(slf: &Bound<'_, Awaitable>, multiplexed: &Arc<Multiplexed>, now: Instant) {
        if Self::only_reserves(slf) {
            Self::reserved(slf, Reserved::Shared(Arc::clone(multiplexed)));
        } else {
            Self::send_beside(slf, multiplexed, now);
        }
    }

    #[inline]
    fn only_reserves(slf: &Bound<'_, Awaitable>) -> bool {
        let only = |job: &mut Self| matches!(job.reserving, Reserving::Only);
        slf.get().with_job(slf.py(), only).unwrap_or(false)
    }

    #[cold]
    fn reserved(slf: &Bound<'_, Awaitable>, reserved: Reserved) {
        let outcome = match Py::new(slf.py(), Reservation::new(reserved)) {
            Ok(reservation) => Outcome::Value(reservation.into_any()),
            Err(error) => Outcome::Error(error),
        };
        Awaitable::resolve(slf, outcome);
    }

    #[inline]
    fn send_on(slf: &Bound<'_, Awaitable>, connection: Arc<Connection>, now: Instant) {
        let py = slf.py();
        let rendered = slf.get().with_job(py, |job| {
            let mut wire = job.engine.outbox.borrow_mut(py);
            wire.clear();
            let cookies = job.render(py, &mut wire)?;
            job.cookies = cookies;
            connection.submit(slf, job, now, &wire);
            if !job.streamed.is_empty() {
                connection.write(py, &std::mem::take(&mut job.streamed));
            }
            let sent = job
                .drain
                .take()
                .filter(|waiter| !connection.when_sent(waiter.bind(py)));
            job.place = Place::On(Carrier::Connection(Arc::clone(&connection)));
            Ok(sent)
        });
        match rendered {
            Some(Ok(None)) => {}
            Some(Ok(Some(waiter))) => {
                Awaitable::resolve(waiter.bind(py), Outcome::Value(py.None()));
            }
            // Given up meanwhile: the connection is as good as before.
            None => connection.pool.put_back(py, &connection),
            Some(Err(error)) => {
                connection.pool.put_back(py, &connection);
                Self::failed(slf, error, false);
            }
        }
    }

    /// Sends the request on a connection that others use, too.
    fn send_beside(slf: &Bound<'_, Awaitable>, multiplexed: &Arc<Multiplexed>, now: Instant) {
        let py = slf.py();
        let sent = slf.get().with_job(py, |job| {
            let mut wire = job.engine.outbox.borrow_mut(py);
            wire.clear();
            let cookies = job.render(py, &mut wire)?;
            job.cookies = cookies;
            let stream = Stream::start(slf, job, multiplexed, now, &wire)?;
            if !job.streamed.is_empty() {
                stream.write(py, &std::mem::take(&mut job.streamed));
            }
            let sent = job
                .drain
                .take()
                .filter(|waiter| !stream.when_sent(waiter.bind(py)));
            job.place = Place::On(Carrier::Stream(stream));
            Ok(sent)
        });
        match sent {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(waiter))) => {
                Awaitable::resolve(waiter.bind(py), Outcome::Value(py.None()));
            }
            Some(Err(error)) => Self::failed(slf, error, false),
        }
    }

    /// Ends a wait in the queue when the time is up.
    fn limit_wait(slf: &Bound<'_, Awaitable>) {
        let py = slf.py();
        let limits = slf
            .get()
            .with_job(py, |job| (job.connect_limit(), Arc::clone(&job.engine)));
        let Some((Some((due, kind)), engine)) = limits else {
            return;
        };
        let request = slf.clone().unbind();
        engine.handle.spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            Python::attach(|py| {
                let request = request.bind(py);
                let queued = request.get().with_job(py, |job| {
                    let queued = matches!(job.place, Place::Queued);
                    if queued {
                        job.pool.leave_queue(py, |other| other.is(request));
                    }
                    queued
                });
                if queued == Some(true) {
                    Job::failed(request, Error::Timeout(kind), false);
                }
            });
        });
    }

    /// Until when there must be a connection, and which timeout that is.
    fn connect_limit(&self) -> Option<(Instant, TimeoutKind)> {
        let connect = self
            .options
            .timeouts
            .connect
            .map(|limit| Instant::now() + limit);
        match (self.deadlines.total, connect) {
            (Some(total), Some(connect)) if connect < total => {
                Some((connect, TimeoutKind::Connect))
            }
            (Some(total), _) => Some((total, TimeoutKind::Total)),
            (None, Some(connect)) => Some((connect, TimeoutKind::Connect)),
            (None, None) => None,
        }
    }

    /// Opens a connection whose place in the pool is counted already.
    fn open(slf: &Bound<'_, Awaitable>) {
        let py = slf.py();
        let opening = slf.get().with_job(py, |job| {
            let target = &job.url.target;
            let endpoint = Endpoint {
                host: target.host.clone(),
                port: target.port,
                tls: target.tls,
            };
            Opening {
                endpoint,
                tls: job.pool.ways.tls(py, job.key.tls),
                route: job.pool.ways.route(py, job.key.route),
                engine: Arc::clone(&job.engine),
                sock_connect: job.options.timeouts.sock_connect,
                limit: job.connect_limit(),
                place: CountedPlace::new(
                    Arc::clone(&job.pool),
                    job.key,
                    job.may_multiplex() && job.pool.is_opening_for_all(py, job.key),
                ),
            }
        });
        let Some(opening) = opening else {
            return;
        };
        let request = slf.clone().unbind();
        let runtime = opening.engine.handle.clone();
        let task = runtime.spawn(async move {
            let opened = opening.open().await;
            let Opening { engine, place, .. } = opening;
            Python::attach(|py| Job::opened(request.bind(py), opened, engine, place));
        });
        let abort = task.abort_handle();
        slf.get()
            .with_job(py, |job| job.place = Place::Connecting(abort));
    }

    fn opened(
        slf: &Bound<'_, Awaitable>,
        opened: Result<Opened, Error>,
        engine: Arc<Engine>,
        mut place: CountedPlace,
    ) {
        let py = slf.py();
        let opened = opened.and_then(|opened| {
            if place.pool.is_closed(py) {
                return Err(Error::Closed);
            }
            Ok(opened)
        });
        match opened {
            Ok(Opened::Shared(connection)) => {
                place.keep();
                let (sender, driver) = *connection;
                let driver = engine.handle.spawn(async move {
                    // How it ended is told to each of its streams.
                    let _ = driver.await;
                });
                let multiplexed = Multiplexed::new(sender, driver.abort_handle());
                Self::use_shared(slf, &multiplexed, Instant::now());
                place.pool.shares(py, place.key, &multiplexed);
            }
            Ok(Opened::Own(transport)) => {
                place.keep();
                if place.shared {
                    place.pool.refuses_to_share(py, place.key);
                }
                let connection = Connection::new(
                    Arc::clone(&engine),
                    Arc::clone(&place.pool),
                    place.key,
                    transport,
                );
                place.pool.opened(py, &connection);
                engine.handle.spawn(Arc::clone(&connection).serve());
                if slf.get().is_done(py) {
                    place.pool.put_back(py, &connection);
                } else {
                    Self::use_own(slf, connection, Instant::now());
                }
            }
            Err(error) => {
                if std::mem::take(&mut place.shared) {
                    place.pool.cannot_share(py, place.key, Some(&error));
                }
                drop(place);
                Self::failed(slf, error, false);
            }
        }
    }

    /// Writes the request's bytes, head and body; gives the `Cookie` header that was added.
    fn render(&self, py: Python<'_>, wire: &mut Vec<u8>) -> Result<Option<String>, Error> {
        let target = &self.url.target;
        let session = self.session.get();
        wire.extend_from_slice(self.method.as_str().as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(if self.absolute {
            self.url.text.as_bytes()
        } else {
            target.path_and_query.as_bytes()
        });
        wire.extend_from_slice(b" HTTP/1.1\r\n");
        let given = |name: &str| {
            self.headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let mut cookies = None;
        if self.options.bare {
            if !given("host") {
                put(wire, "Host", &target.authority);
            }
            for (name, value) in &self.headers {
                encode::write_header(wire, name.as_bytes(), value.as_bytes())?;
            }
        } else {
            let defaults = session.defaults(py);
            if self.headers.is_empty() && !self.elsewhere {
                if !defaults.has_host {
                    put(wire, "Host", &target.authority);
                }
                wire.extend_from_slice(&defaults.block);
            } else {
                if !defaults.has_host && !given("host") {
                    put(wire, "Host", &target.authority);
                }
                for (name, value) in &defaults.headers {
                    let left_behind = self.elsewhere && name.eq_ignore_ascii_case("authorization");
                    if !left_behind && !given(name) {
                        put(wire, name, value);
                    }
                }
                for (name, value) in &self.headers {
                    encode::write_header(wire, name.as_bytes(), value.as_bytes())?;
                }
                for (name, value) in &defaults.automatic {
                    if !given(name) {
                        put(wire, name, value);
                    }
                }
            }
            drop(defaults);
            if !given("cookie") {
                cookies = session.cookie_header(py, target);
            }
            if let Some(cookies) = &cookies {
                put(wire, "Cookie", cookies);
            }
            if let Some(authorization) = &self.authorization {
                encode::write_header(wire, b"Authorization", authorization.as_bytes())?;
            }
        }
        if let Some(length) = self.content_length() {
            use std::io::Write;
            // Writing to a vector cannot fail.
            let _ = write!(wire, "Content-Length: {length}\r\n");
        }
        if let Some(content_type) = self.added_content_type(py) {
            put(wire, "Content-Type", content_type);
        }
        wire.extend_from_slice(b"\r\n");
        if let RequestBody::Bytes(bytes) = &self.body
            && !self.expect
        {
            wire.extend_from_slice(bytes);
        }
        Ok(cookies)
    }

    /// The body that is to be sent when the server asks for it; `None` when nothing waits for that.
    pub(crate) fn held_body(&self) -> Option<Vec<u8>> {
        self.expect.then(|| match &self.body {
            RequestBody::Bytes(bytes) => bytes.clone(),
            RequestBody::None | RequestBody::Streamed => Vec::new(),
        })
    }

    fn is_given(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The value of the `Content-Length` that is added.
    fn content_length(&self) -> Option<usize> {
        let length = match &self.body {
            RequestBody::Streamed => return None,
            RequestBody::None if self.method.expects_body() => 0,
            RequestBody::None => return None,
            RequestBody::Bytes(bytes) => bytes.len(),
        };
        (!self.is_given("content-length") && !self.is_given("transfer-encoding")).then_some(length)
    }

    /// The value of the `Content-Type` that is added; aiohttp gives every POST, PUT and PATCH one.
    fn added_content_type(&self, py: Python<'_>) -> Option<&'static str> {
        if self.options.bare {
            return None;
        }
        let content_type = self
            .content_type
            .or_else(|| self.method.posts().then_some("application/octet-stream"))?;
        let given =
            self.is_given("content-type") || self.session.get().defaults(py).has_content_type;
        (!given).then_some(content_type)
    }

    /// What `request_info` tells besides the script's headers and the session's.
    fn added(&self, py: Python<'_>) -> Added {
        Added {
            bare: self.options.bare,
            elsewhere: self.elsewhere,
            cookies: self.cookies.clone(),
            authorization: self.authorization.clone(),
            content_length: self.content_length(),
            content_type: self.added_content_type(py),
        }
    }

    /// The head of a response is there.
    pub(crate) fn arrived(slf: &Bound<'_, Awaitable>, arrived: Arrived) {
        let py = slf.py();
        let job = slf.get().with_job(py, |job| job.conclude(py, arrived));
        match job {
            None => {}
            Some(Next::Deliver {
                response,
                check_status,
            }) => match Bound::new(py, response) {
                Ok(response) => {
                    if check_status && let Err(error) = Response::check_status(&response) {
                        response.get().leave(py);
                        return Awaitable::resolve(slf, Outcome::Error(error));
                    }
                    Awaitable::resolve_response(slf, response);
                }
                Err(error) => Awaitable::resolve(slf, Outcome::Error(error)),
            },
            Some(Next::Follow { response, location }) => match Bound::new(py, response) {
                Ok(response) => Self::follow(slf, &response, &location),
                Err(error) => Awaitable::resolve(slf, Outcome::Error(error)),
            },
        }
    }

    /// Turns what arrived into a response, and decides whether it is the last one.
    fn conclude(&mut self, py: Python<'_>, arrived: Arrived) -> Next {
        let head = arrived.head;
        let session = self.session.get();
        if head.set_cookie && !self.options.bare {
            for (name, value) in codec::headers(&arrived.raw) {
                if name.eq_ignore_ascii_case(b"set-cookie") {
                    let value = String::from_utf8_lossy(value);
                    session.take_cookie(py, &self.url.target, &value, SystemTime::now());
                }
            }
        }
        let added = self.added(py);
        let redirect = self.options.follow && matches!(head.status, 301 | 302 | 303 | 307 | 308);
        let location = redirect.then(|| {
            codec::header(&arrived.raw, "location").or_else(|| codec::header(&arrived.raw, "uri"))
        });
        let location = location
            .flatten()
            .map(|value| String::from_utf8_lossy(value).into_owned());
        let response = Response::new(
            self.session.clone_ref(py),
            Arc::clone(&self.engine),
            self.method.clone(),
            Arc::clone(&self.url),
            if self.headers.is_empty() {
                Vec::new()
            } else {
                self.headers.clone()
            },
            added,
            self.fragment.clone(),
            self.history
                .iter()
                .map(|earlier| earlier.clone_ref(py))
                .collect(),
            arrived,
        );
        match location {
            Some(location) => Next::Follow { response, location },
            None => Next::Deliver {
                response,
                check_status: self.options.raise_for_status && head.status >= 400,
            },
        }
    }

    /// Follows a redirect, with aiohttp's rules for the method, the body and the credentials.
    fn follow(slf: &Bound<'_, Awaitable>, response: &Bound<'_, Response>, location: &str) {
        let py = slf.py();
        let current = response.get().url_text().to_owned();
        let next = Self::redirect_target(py, &current, location);
        let followed = slf.get().with_job(py, |job| -> PyResult<()> {
            job.history.push(response.clone().unbind());
            if job.history.len() >= job.options.max_redirects {
                let history: Vec<_> = job
                    .history
                    .iter()
                    .map(|earlier| earlier.clone_ref(py))
                    .collect();
                return Err(errors::too_many_redirects(py, &history));
            }
            let text = next?;
            let (text, fragment) = text.split_once('#').unwrap_or((&text, ""));
            job.fragment = (!fragment.is_empty()).then(|| fragment.into());
            let url = urls::encoded(py, &job.engine, text)
                .map_err(|error| errors::of(py, error, &job.url, &job.method, None))?;
            let status = response.get().status_code();
            let becomes_get = (status == 303 && !job.method.is_head())
                || (matches!(status, 301 | 302) && job.method.as_str() == "POST");
            if becomes_get {
                job.method = Method::known("GET");
                job.body = RequestBody::None;
                job.content_type = None;
                // The script's own Content-Type stays, as with aiohttp; what frames a body must not.
                job.headers.retain(|(name, _)| {
                    !["content-length", "transfer-encoding"]
                        .iter()
                        .any(|dropped| name.eq_ignore_ascii_case(dropped))
                });
            }
            if url.origin != job.url.origin {
                let (old, new) = (&job.url.target, &url.target);
                let upgrade = old.host == new.host && !old.tls && new.tls;
                if !upgrade {
                    job.authorization = None;
                    job.headers.retain(|(name, _)| {
                        !["authorization", "cookie", "proxy-authorization"]
                            .iter()
                            .any(|secret| name.eq_ignore_ascii_case(secret))
                    });
                    job.elsewhere = true;
                }
                let secure = url.target.tls;
                job.key = Key {
                    origin: url.origin,
                    tls: if secure { job.key.tls.max(1) } else { 0 },
                    route: job.key.route,
                };
            }
            job.url = url;
            job.place = Place::Unsent;
            job.resent = false;
            Ok(())
        });
        response.get().leave(py);
        match followed {
            None => {}
            Some(Err(error)) => Awaitable::resolve(slf, Outcome::Error(error)),
            Some(Ok(())) => Self::begin_again(slf),
        }
    }

    fn redirect_target(py: Python<'_>, current: &str, location: &str) -> PyResult<String> {
        let target = py
            .import("molotov._redirect")?
            .call_method1(intern!(py, "next_url"), (current, location))?;
        target.extract()
    }

    /// The exchange broke. `stale`: on a kept connection that was closed before any answer.
    pub(crate) fn failed(slf: &Bound<'_, Awaitable>, mut error: Error, stale: bool) {
        let py = slf.py();
        let mut resendable = false;
        let again = slf.get().with_job(py, |job| {
            let closed = job.pool.is_closed(py);
            if closed && matches!(error, Error::Disconnected | Error::Os(_)) {
                error = Error::Closed;
            }
            // RFC 9110, 9.2.2: only idempotent requests may be sent again unasked.
            let allowed = stale && !closed && !job.resent && job.method.is_idempotent();
            let streamed = matches!(job.body, RequestBody::Streamed);
            resendable = allowed && streamed;
            let again = allowed && !streamed;
            if again {
                job.resent = true;
                job.place = Place::Unsent;
            }
            again.then(|| Arc::clone(&job.engine))
        });
        match again {
            Some(Some(engine)) => {
                engine.record_resent(py);
                Self::check_out(slf, Instant::now(), true);
            }
            Some(None) => {
                let made = slf.get().with_job(py, |job| job.exception(py, error));
                if let Some(error) = made {
                    if resendable {
                        // Whether its source can be read again is for the Python half to find out.
                        let _ = error.value(py).setattr("_molotov_resendable", true);
                    }
                    Awaitable::resolve(slf, Outcome::Error(error));
                }
            }
            None => {}
        }
    }

    /// What the script gets for a failed exchange, which is counted.
    fn exception(&self, py: Python<'_>, error: Error) -> PyErr {
        let began = self.began.unwrap_or_else(Instant::now);
        self.engine
            .record_failure(py, &self.url, &self.method, began);
        if matches!(
            error,
            Error::ProxyRefused { .. } | Error::ProxyGarbage { .. }
        ) && let Route::Proxy(proxy) = &*self.pool.ways.route(py, self.key.route)
        {
            return errors::of_proxy(py, error, &self.url, proxy);
        }
        let headers = matches!(error, Error::BadResponse { .. }).then(|| {
            response::sent_headers(
                py,
                self.session.get(),
                &self.url,
                &self.headers,
                &self.added(py),
            )
        });
        let unverified = self.options.unverified;
        errors::of_request(
            py,
            error,
            &self.url,
            &self.method,
            headers.and_then(Result::ok),
            unverified,
        )
    }

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

    /// Whether it asks for another protocol: a 101 then makes the connection something else.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.is_given("upgrade")
    }

    /// How the answer is read, where that is not the usual way.
    pub(crate) fn reading(&self) -> Option<Arc<Reading>> {
        self.options.reading.clone()
    }

    /// What the request went out on.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        match &self.place {
            Place::On(carrier) => Some(carrier.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_uploading(&self) -> bool {
        matches!(self.body, RequestBody::Streamed) && !self.upload_done
    }

    /// The request is given up: its connection cannot be used again.
    pub(crate) fn abort(&self, py: Python<'_>, is_it: impl Fn(&Py<Awaitable>) -> bool) {
        match &self.place {
            Place::Unsent => {}
            Place::Queued => self.pool.leave_queue(py, is_it),
            Place::Connecting(task) => task.abort(),
            Place::On(carrier) => carrier.abort(py),
        }
    }
}

enum Next {
    Deliver {
        response: Response,
        check_status: bool,
    },
    Follow {
        response: Response,
        location: String,
    },
}

fn put(wire: &mut Vec<u8>, name: &str, value: &str) {
    wire.extend_from_slice(name.as_bytes());
    wire.extend_from_slice(b": ");
    wire.extend_from_slice(value.as_bytes());
    wire.extend_from_slice(b"\r\n");
}
