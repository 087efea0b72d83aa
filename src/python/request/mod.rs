//! A native request: what to send, where it stands, and what follows a response (redirects, cookies).
//!
//! The arguments a script passes are read by [`super::arguments`]; what they cannot express natively
//! never gets here.
//!
//! Here is what a request is, how it starts and how it fails. Its way to a connection is in `way`, its bytes are in
//! `render`, what follows an answer in `answered`, and bodies written meanwhile in `upload`.

mod answered;
mod render;
mod upload;
mod way;

use crate::http::connect::Route;
use crate::http::error::Error;
pub(crate) use crate::python::arguments::Method;
use crate::python::arguments::{Body as RequestBody, Options};
use crate::python::awaitable::{Awaitable, Outcome, Task};
use crate::python::carrier::Carrier;
use crate::python::connection::Deadlines;
use crate::python::errors;
use crate::python::event_loop::Engine;
use crate::python::pool::{Key, Pool};
use crate::python::receiving::Reading;
use crate::python::reservation::{Reserved, Reserving};
use crate::python::response::{self, Response};
use crate::python::session::Session;
use crate::python::urls::UrlEntry;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::AbortHandle;

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
