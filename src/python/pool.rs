//! The connections of one connector, and the queue of requests that wait for one.
//!
//! A limit counts the connections that are busy or being opened, as aiohttp's does: idle ones are free.
//! Whoever waits is served in the order of arrival, past those whose host has its share already. What
//! the connections have in common, and what the numbers in a [`Key`] stand for, is [`super::connector`]'s.

use super::awaitable::{Awaitable, Outcome};
use super::connection::Connection;
use super::connector::Ways;
use super::errors;
use super::ffi::GilCell;
use super::request::Job;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections are interchangeable when they go to the same origin with the same TLS settings by the
/// same route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) origin: u32,
    /// Number of the TLS settings; 0 without TLS.
    pub(crate) tls: u32,
    /// Number of the route; 0 is the connector's own.
    pub(crate) route: u32,
}

struct Waiting {
    key: Key,
    request: Py<Awaitable>,
    /// An idle connection will not do.
    fresh: bool,
}

#[derive(Default)]
struct State {
    idle: Vec<Arc<Connection>>,
    /// Connections in use or being opened.
    busy: usize,
    /// The same by key. Only kept when there is a limit per host.
    busy_at: Vec<(Key, usize)>,
    waiting: VecDeque<Waiting>,
    closed: bool,
}

/// See the module's text. A limit of 0 is none.
pub(crate) struct Pool {
    state: GilCell<State>,
    limit: usize,
    limit_per_host: usize,
    keepalive: Duration,
    pub(crate) ways: Ways,
}

/// How a request gets its connection.
pub(crate) enum Checkout {
    Idle(Arc<Connection>),
    /// Open one: it is counted already.
    Open,
    /// The request waits in the queue.
    Queued,
}

impl Pool {
    pub(crate) fn new(
        limit: usize,
        limit_per_host: usize,
        keepalive: Duration,
        ways: Ways,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: GilCell::default(),
            limit,
            limit_per_host,
            keepalive,
            ways,
        })
    }

    /// Finds a connection for a request. `fresh` rules out the idle ones.
    #[inline]
    pub(crate) fn checkout(
        &self,
        request: &Bound<'_, Awaitable>,
        key: Key,
        now: Instant,
        fresh: bool,
    ) -> Checkout {
        let py = request.py();
        let mut state = self.state.borrow_mut(py);
        if self.has_room(&state, key) {
            return self.take(&mut state, py, key, now, fresh);
        }
        state.waiting.push_back(Waiting {
            key,
            request: request.clone().unbind(),
            fresh,
        });
        Checkout::Queued
    }

    #[inline]
    fn has_room(&self, state: &State, key: Key) -> bool {
        (self.limit == 0 || state.busy < self.limit)
            && (self.limit_per_host == 0 || state.busy_at(key) < self.limit_per_host)
    }

    /// An idle connection, or the place for a new one; either is counted.
    #[inline]
    fn take(
        &self,
        state: &mut State,
        py: Python<'_>,
        key: Key,
        now: Instant,
        fresh: bool,
    ) -> Checkout {
        self.count(state, key);
        if !fresh {
            while let Some(index) = state.idle.iter().rposition(|idle| idle.key == key) {
                let connection = state.idle.swap_remove(index);
                if connection.is_usable(py, now, self.keepalive) {
                    return Checkout::Idle(connection);
                }
                // Its task takes it out of the count when it ends.
                self.count(state, key);
                connection.abort(py);
            }
        }
        Checkout::Open
    }

    #[inline]
    fn count(&self, state: &mut State, key: Key) {
        state.busy += 1;
        if self.limit_per_host > 0 {
            match state.busy_at.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 += 1,
                None => state.busy_at.push((key, 1)),
            }
        }
    }

    #[inline]
    fn discount(&self, state: &mut State, key: Key) {
        state.busy = state.busy.saturating_sub(1);
        if self.limit_per_host > 0
            && let Some(index) = state.busy_at.iter().position(|(known, _)| *known == key)
            && let Some(entry) = state.busy_at.get_mut(index)
        {
            entry.1 = entry.1.saturating_sub(1);
            if entry.1 == 0 {
                state.busy_at.swap_remove(index);
            }
        }
    }

    /// Takes back a connection whose exchange has ended.
    #[inline]
    pub(crate) fn put_back(&self, py: Python<'_>, connection: &Arc<Connection>) {
        {
            let mut state = self.state.borrow_mut(py);
            if state.closed || self.keepalive.is_zero() {
                drop(state);
                // Its task takes it out of the count when it ends.
                connection.abort(py);
                return;
            }
            self.discount(&mut state, connection.key);
            state.idle.push(Arc::clone(connection));
            if state.waiting.is_empty() {
                return;
            }
        }
        self.serve_waiting(py);
    }

    /// A connection has ended.
    pub(crate) fn closed(&self, py: Python<'_>, connection: &Arc<Connection>) {
        {
            let mut state = self.state.borrow_mut(py);
            let before = state.idle.len();
            state.idle.retain(|idle| !Arc::ptr_eq(idle, connection));
            if state.idle.len() < before {
                return;
            }
        }
        self.gone(py, connection.key);
    }

    /// The place of a connection that was counted is free again.
    pub(crate) fn gone(&self, py: Python<'_>, key: Key) {
        {
            let mut state = self.state.borrow_mut(py);
            self.discount(&mut state, key);
        }
        self.serve_waiting(py);
    }

    /// Gives the places that are free to those who have waited longest for them.
    fn serve_waiting(&self, py: Python<'_>) {
        loop {
            let (request, checkout) = {
                let mut state = self.state.borrow_mut(py);
                if state.closed || (self.limit > 0 && state.busy >= self.limit) {
                    return;
                }
                let next = state
                    .waiting
                    .iter()
                    .position(|waiting| self.has_room(&state, waiting.key));
                let Some(next) = next.and_then(|index| state.waiting.remove(index)) else {
                    return;
                };
                // Given up in this very moment.
                if next.request.get().is_done(py) {
                    continue;
                }
                let checkout = self.take(&mut state, py, next.key, Instant::now(), next.fresh);
                (next.request, checkout)
            };
            Job::proceed(request.bind(py), checkout);
        }
    }

    /// A queued request has given up.
    pub(crate) fn leave_queue(&self, py: Python<'_>, is_it: impl Fn(&Py<Awaitable>) -> bool) {
        self.state
            .borrow_mut(py)
            .waiting
            .retain(|waiting| !is_it(&waiting.request));
    }

    pub(crate) fn is_closed(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).closed
    }

    /// Ends every idle connection and every wait; connections in use end when their exchange does.
    pub(crate) fn close(&self, py: Python<'_>) {
        let (idle, waiting) = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            let idle = std::mem::take(&mut state.idle);
            for connection in &idle {
                self.count(&mut state, connection.key);
            }
            (idle, std::mem::take(&mut state.waiting))
        };
        for connection in idle {
            connection.abort(py);
        }
        for waiting in waiting {
            let error = errors::connector_closed(py);
            Awaitable::resolve(waiting.request.bind(py), Outcome::Error(error));
        }
    }
}

impl State {
    fn busy_at(&self, key: Key) -> usize {
        self.busy_at
            .iter()
            .find(|(known, _)| *known == key)
            .map_or(0, |(_, count)| *count)
    }
}
