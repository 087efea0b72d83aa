//! A request's way to its connection: an idle one, one that others use too, a new one, or a place in the queue.
//!
//! Owns the steps between the start of a request and the writing of its bytes. Which connections there are is the
//! pool's business, and how one is opened that of `opening`.

use super::{Job, Place};
use crate::http::connect::Endpoint;
use crate::http::error::{Error, TimeoutKind};
use crate::python::awaitable::{Awaitable, Outcome};
use crate::python::carrier::Carrier;
use crate::python::connection::Connection;
use crate::python::event_loop::Engine;
use crate::python::opening::{Opened, Opening};
use crate::python::pool::{Checkout, CountedPlace};
use crate::python::reservation::{Reservation, Reserved, Reserving};
use crate::python::stream::{Multiplexed, Stream};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Instant;

impl Job {
    /// Goes on with the connection that was found, or without one.
    pub(crate) fn proceed(slf: &Bound<'_, Awaitable>, checkout: Checkout) {
        Self::proceed_at(slf, checkout, Instant::now());
    }

    /// Looks for a connection anew.
    pub(crate) fn begin_again(slf: &Bound<'_, Awaitable>) {
        Self::check_out(slf, Instant::now(), false);
    }

    pub(super) fn check_out(slf: &Bound<'_, Awaitable>, now: Instant, fresh: bool) {
        let parts = slf.get().with_job(slf.py(), |job| {
            (Arc::clone(&job.pool), job.key, job.may_multiplex())
        });
        if let Some((pool, key, multiplex)) = parts {
            Self::proceed_at(slf, pool.checkout(slf, key, now, fresh, multiplex), now);
        }
    }

    /// Whether HTTP/2 may be spoken: not to a proxy.
    #[inline]
    pub(super) fn may_multiplex(&self) -> bool {
        !self.absolute && self.pool.ways.may_multiplex(self.url.target.tls)
    }

    pub(super) fn proceed_at(slf: &Bound<'_, Awaitable>, checkout: Checkout, now: Instant) {
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
    pub(super) fn use_own(slf: &Bound<'_, Awaitable>, connection: Arc<Connection>, now: Instant) {
        if Self::only_reserves(slf) {
            Self::reserved(slf, Reserved::Own(connection));
        } else {
            Self::send_on(slf, connection, now);
        }
    }

    pub(super) fn use_shared(
        slf: &Bound<'_, Awaitable>,
        multiplexed: &Arc<Multiplexed>,
        now: Instant,
    ) {
        if Self::only_reserves(slf) {
            Self::reserved(slf, Reserved::Shared(Arc::clone(multiplexed)));
        } else {
            Self::send_beside(slf, multiplexed, now);
        }
    }

    #[inline]
    pub(super) fn only_reserves(slf: &Bound<'_, Awaitable>) -> bool {
        let only = |job: &mut Self| matches!(job.reserving, Reserving::Only);
        slf.get().with_job(slf.py(), only).unwrap_or(false)
    }

    #[cold]
    pub(super) fn reserved(slf: &Bound<'_, Awaitable>, reserved: Reserved) {
        let outcome = match Py::new(slf.py(), Reservation::new(reserved)) {
            Ok(reservation) => Outcome::Value(reservation.into_any()),
            Err(error) => Outcome::Error(error),
        };
        Awaitable::resolve(slf, outcome);
    }

    #[inline]
    pub(super) fn send_on(slf: &Bound<'_, Awaitable>, connection: Arc<Connection>, now: Instant) {
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
    pub(super) fn send_beside(
        slf: &Bound<'_, Awaitable>,
        multiplexed: &Arc<Multiplexed>,
        now: Instant,
    ) {
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
    pub(super) fn limit_wait(slf: &Bound<'_, Awaitable>) {
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
    pub(super) fn connect_limit(&self) -> Option<(Instant, TimeoutKind)> {
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
    pub(super) fn open(slf: &Bound<'_, Awaitable>) {
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

    pub(super) fn opened(
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
}
