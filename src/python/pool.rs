//! The idle connections of one session, and the queue of requests that wait for one.

use super::awaitable::Awaitable;
use super::connection::Connection;
use super::ffi::GilCell;
use super::request::Job;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Connections are interchangeable when they go to the same origin with the same TLS settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) origin: u32,
    /// Index of the TLS settings in the session; 0 without TLS.
    pub(crate) tls: u32,
}

#[derive(Default)]
struct State {
    /// Every connection that was opened, as far as it still exists.
    all: Vec<Weak<Connection>>,
    /// How many of them there may be before the gone ones are looked for.
    sweep_at: usize,
    idle: Vec<Arc<Connection>>,
    /// Connections by key, in use, being opened or idle. Only kept when there is a limit.
    open: Vec<(Key, usize)>,
    total: usize,
    waiting: VecDeque<(Key, Py<Awaitable>)>,
    closed: bool,
}

/// See the module's text. A limit of 0 is none.
pub(crate) struct Pool {
    state: GilCell<State>,
    limit: usize,
    limit_per_host: usize,
    keepalive: Duration,
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
    pub(crate) fn new(limit: usize, limit_per_host: usize, keepalive: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: GilCell::default(),
            limit,
            limit_per_host,
            keepalive,
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
        if !fresh {
            while let Some(index) = state.idle.iter().rposition(|idle| idle.key == key) {
                let connection = state.idle.swap_remove(index);
                if connection.is_usable(py, now, self.keepalive) {
                    return Checkout::Idle(connection);
                }
                // Its task takes it out of the count when it ends.
                connection.abort(py);
            }
        }
        if !self.has_room(&mut state, py, key) {
            state.waiting.push_back((key, request.clone().unbind()));
            return Checkout::Queued;
        }
        state.opened(key);
        Checkout::Open
    }

    fn has_room(&self, state: &mut State, py: Python<'_>, key: Key) -> bool {
        if self.limit_per_host > 0 && state.count(key) >= self.limit_per_host {
            return false;
        }
        if self.limit == 0 || state.total < self.limit {
            return true;
        }
        // An idle connection to somewhere else makes room.
        match state.idle.iter().position(|idle| idle.key != key) {
            Some(index) => {
                state.idle.swap_remove(index).abort(py);
                true
            }
            None => false,
        }
    }

    /// Notes a connection that was opened, so that closing the session ends it whatever it is doing.
    pub(crate) fn opened(&self, py: Python<'_>, connection: &Arc<Connection>) {
        let mut state = self.state.borrow_mut(py);
        if state.all.len() >= state.sweep_at {
            state.all.retain(|known| known.strong_count() > 0);
            state.sweep_at = 2 * state.all.len() + 8;
        }
        state.all.push(Arc::downgrade(connection));
    }

    /// Takes back a connection whose exchange has ended.
    #[inline]
    pub(crate) fn put_back(&self, py: Python<'_>, connection: &Arc<Connection>) {
        let next = {
            let mut state = self.state.borrow_mut(py);
            if state.closed || self.keepalive.is_zero() {
                drop(state);
                connection.abort(py);
                return;
            }
            let next = state
                .waiting
                .iter()
                .position(|(key, _)| *key == connection.key);
            let next = next.and_then(|index| state.waiting.remove(index));
            if next.is_none() {
                state.idle.push(Arc::clone(connection));
            }
            next
        };
        if let Some((_, request)) = next {
            Job::proceed(request.bind(py), Checkout::Idle(Arc::clone(connection)));
        } else {
            self.serve_waiting(py);
        }
    }

    /// A connection has ended, or could not be opened.
    pub(crate) fn closed(&self, py: Python<'_>, connection: &Arc<Connection>) {
        self.state
            .borrow_mut(py)
            .idle
            .retain(|idle| !Arc::ptr_eq(idle, connection));
        self.gone(py, connection.key);
    }

    /// The place of a connection that was counted is free again.
    pub(crate) fn gone(&self, py: Python<'_>, key: Key) {
        {
            let mut state = self.state.borrow_mut(py);
            state.total = state.total.saturating_sub(1);
            if let Some(entry) = state.open.iter_mut().find(|(known, _)| *known == key) {
                entry.1 = entry.1.saturating_sub(1);
            }
        }
        self.serve_waiting(py);
    }

    fn serve_waiting(&self, py: Python<'_>) {
        let next = {
            let mut state = self.state.borrow_mut(py);
            if state.waiting.is_empty() {
                return;
            }
            let keys: Vec<Key> = state.waiting.iter().map(|(key, _)| *key).collect();
            let fits = keys
                .into_iter()
                .position(|key| self.has_room(&mut state, py, key));
            let next = fits.and_then(|index| state.waiting.remove(index));
            if let Some((key, _)) = &next {
                state.opened(*key);
            }
            next
        };
        if let Some((_, request)) = next {
            Job::proceed(request.bind(py), Checkout::Open);
        }
    }

    /// A queued request has given up.
    pub(crate) fn leave_queue(&self, py: Python<'_>, is_it: impl Fn(&Py<Awaitable>) -> bool) {
        self.state
            .borrow_mut(py)
            .waiting
            .retain(|(_, request)| !is_it(request));
    }

    /// Ends every connection; requests and readers that wait on one fail as when the server had closed it.
    pub(crate) fn close(&self, py: Python<'_>) {
        let (all, idle) = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            (
                std::mem::take(&mut state.all),
                std::mem::take(&mut state.idle),
            )
        };
        for connection in all.iter().filter_map(Weak::upgrade) {
            connection.end(py);
        }
        drop(idle);
    }
}

impl State {
    fn count(&self, key: Key) -> usize {
        self.open
            .iter()
            .find(|(known, _)| *known == key)
            .map_or(0, |(_, count)| *count)
    }

    fn opened(&mut self, key: Key) {
        self.total += 1;
        match self.open.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 += 1,
            None => self.open.push((key, 1)),
        }
    }
}
