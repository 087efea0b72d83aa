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
use super::stream::Multiplexed;
use super::websocket::Channel;
use crate::http::error::Error;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Who keeps idle connections for longer than this keeps them for good.
const LONGEST_WATCH: Duration = Duration::from_hours(24);

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

/// An origin with which HTTP/2 may be spoken.
struct Shared {
    key: Key,
    state: Sharing,
}

enum Sharing {
    /// One request opens the connection, these wait for it.
    Opening(Vec<Py<Awaitable>>),
    Open(Arc<Multiplexed>),
    /// The server speaks HTTP/1.1.
    Refused,
}

#[derive(Default)]
struct State {
    shared: Vec<Shared>,
    /// Every connection that was opened, as far as it still exists.
    all: Vec<Weak<Connection>>,
    /// How many of them there may be before the gone ones are looked for.
    sweep_at: usize,
    idle: Vec<Arc<Connection>>,
    /// Connections in use or being opened.
    busy: usize,
    /// The same by key. Only kept when there is a limit per host.
    busy_at: Vec<(Key, usize)>,
    waiting: VecDeque<Waiting>,
    /// Connections that became websockets. Those that have ended leave when the list would grow.
    websockets: Vec<Weak<Channel>>,
    /// Somebody looks after the idle connections.
    watched: bool,
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
    /// One that is in use by others, too.
    Shared(Arc<Multiplexed>),
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

    /// Finds a connection for a request. `fresh` rules out the idle ones; `multiplex` is whether HTTP/2 may
    /// be spoken.
    #[inline]
    pub(crate) fn checkout(
        &self,
        request: &Bound<'_, Awaitable>,
        key: Key,
        now: Instant,
        fresh: bool,
        multiplex: bool,
    ) -> Checkout {
        let py = request.py();
        let mut state = self.state.borrow_mut(py);
        if multiplex && let Some(checkout) = self.share(&mut state, request, key) {
            return checkout;
        }
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

    /// An HTTP/2 connection, or the wait for one, or the place for it; `None` when HTTP/1.1 is spoken.
    fn share(
        &self,
        state: &mut State,
        request: &Bound<'_, Awaitable>,
        key: Key,
    ) -> Option<Checkout> {
        let py = request.py();
        if let Some(index) = state.shared.iter().position(|shared| shared.key == key) {
            match state.shared.get_mut(index).map(|shared| &mut shared.state) {
                Some(Sharing::Refused) => return None,
                Some(Sharing::Opening(waiting)) => {
                    waiting.push(request.clone().unbind());
                    return Some(Checkout::Queued);
                }
                Some(Sharing::Open(multiplexed)) if multiplexed.is_usable(py) => {
                    return Some(Checkout::Shared(Arc::clone(multiplexed)));
                }
                // It has ended, or takes no more requests.
                Some(Sharing::Open(_)) | None => {
                    state.shared.swap_remove(index);
                }
            }
        }
        self.count(state, key);
        state.shared.push(Shared {
            key,
            state: Sharing::Opening(Vec::new()),
        });
        Some(Checkout::Open)
    }

    /// Whether the connection that is being opened is one that others wait for, too.
    pub(crate) fn is_opening_for_all(&self, py: Python<'_>, key: Key) -> bool {
        let state = self.state.borrow(py);
        state
            .shared
            .iter()
            .any(|shared| shared.key == key && matches!(shared.state, Sharing::Opening(_)))
    }

    /// The connection that was opened for everybody is there. The limits are for the others: it gives its
    /// place back.
    pub(crate) fn shares(&self, py: Python<'_>, key: Key, multiplexed: &Arc<Multiplexed>) {
        let open = Sharing::Open(Arc::clone(multiplexed));
        let waiting = self.state.borrow_mut(py).settle(key, Some(open));
        for request in waiting {
            let checkout = Checkout::Shared(Arc::clone(multiplexed));
            Job::proceed(request.bind(py), checkout);
        }
        self.gone(py, key);
    }

    /// The server speaks HTTP/1.1 after all: everybody gets a connection of his own.
    pub(crate) fn refuses_to_share(&self, py: Python<'_>, key: Key) {
        let waiting = self
            .state
            .borrow_mut(py)
            .settle(key, Some(Sharing::Refused));
        for request in waiting {
            Job::begin_again(request.bind(py));
        }
    }

    /// No connection could be opened, for anybody; with no `error`, the one request that tried has given up.
    pub(crate) fn cannot_share(&self, py: Python<'_>, key: Key, error: Option<&Error>) {
        let waiting = self.state.borrow_mut(py).settle(key, None);
        for request in waiting {
            match error {
                Some(error) => Job::failed(request.bind(py), error.clone(), false),
                None => Job::begin_again(request.bind(py)),
            }
        }
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

    /// Notes a connection that was opened, so that closing the pool ends it whatever it is doing.
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
            if !state.watched {
                state.watched = true;
                self.watch(connection);
            }
            if state.waiting.is_empty() {
                return;
            }
        }
        self.serve_waiting(py);
    }

    /// Ends idle connections whose time is over, until there is none left.
    #[cold]
    fn watch(&self, connection: &Connection) {
        if self.keepalive > LONGEST_WATCH {
            return;
        }
        let (pool, keepalive) = (Arc::downgrade(&connection.pool), self.keepalive);
        connection.engine.handle.spawn(async move {
            loop {
                tokio::time::sleep(keepalive).await;
                let Some(pool) = pool.upgrade() else { return };
                if !Python::attach(|py| pool.sweep(py)) {
                    return;
                }
            }
        });
    }

    /// Whether idle connections are left.
    fn sweep(&self, py: Python<'_>) -> bool {
        let now = Instant::now();
        let (over, left) = {
            let mut state = self.state.borrow_mut(py);
            let (left, over): (Vec<_>, Vec<_>) = std::mem::take(&mut state.idle)
                .into_iter()
                .partition(|idle| idle.is_usable(py, now, self.keepalive));
            // Their tasks take them out of the count when they end.
            for connection in &over {
                self.count(&mut state, connection.key);
            }
            state.idle = left;
            state.watched = !state.idle.is_empty();
            (over, state.watched)
        };
        for connection in over {
            connection.abort(py);
        }
        left
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
        let mut state = self.state.borrow_mut(py);
        state.waiting.retain(|waiting| !is_it(&waiting.request));
        for shared in &mut state.shared {
            if let Sharing::Opening(waiting) = &mut shared.state {
                waiting.retain(|request| !is_it(request));
            }
        }
    }

    pub(crate) fn is_closed(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).closed
    }

    /// Keeps track of a connection that has become a websocket.
    pub(crate) fn upgraded(&self, py: Python<'_>, channel: &Arc<Channel>) {
        let mut state = self.state.borrow_mut(py);
        if state.websockets.len() == state.websockets.capacity() {
            state
                .websockets
                .retain(|channel| channel.strong_count() > 0);
        }
        state.websockets.push(Arc::downgrade(channel));
    }

    /// Ends every websocket; whoever waits for a message of it is told.
    pub(crate) fn close_websockets(&self, py: Python<'_>) {
        let channels = std::mem::take(&mut self.state.borrow_mut(py).websockets);
        for channel in channels.iter().filter_map(Weak::upgrade) {
            channel.shut(py);
        }
    }

    /// Ends every connection but websockets, and every wait; who waits for something on one is told.
    pub(crate) fn close(&self, py: Python<'_>) {
        let (all, shared, waiting) = {
            let mut state = self.state.borrow_mut(py);
            state.closed = true;
            // Their tasks take them out of the count when they end.
            for connection in std::mem::take(&mut state.idle) {
                self.count(&mut state, connection.key);
            }
            let mut waiting: Vec<Py<Awaitable>> = std::mem::take(&mut state.waiting)
                .into_iter()
                .map(|waiting| waiting.request)
                .collect();
            let mut open = Vec::new();
            for shared in std::mem::take(&mut state.shared) {
                match shared.state {
                    Sharing::Opening(requests) => waiting.extend(requests),
                    Sharing::Open(multiplexed) => open.push(multiplexed),
                    Sharing::Refused => {}
                }
            }
            (std::mem::take(&mut state.all), open, waiting)
        };
        for connection in all.iter().filter_map(Weak::upgrade) {
            connection.end(py);
        }
        for multiplexed in shared {
            multiplexed.end();
        }
        for request in waiting {
            let error = errors::connector_closed(py);
            Awaitable::resolve(request.bind(py), Outcome::Error(error));
        }
    }
}

impl State {
    /// Ends the opening of a shared connection; gives those who waited for it.
    fn settle(&mut self, key: Key, outcome: Option<Sharing>) -> Vec<Py<Awaitable>> {
        let index = self
            .shared
            .iter()
            .position(|shared| shared.key == key && matches!(shared.state, Sharing::Opening(_)));
        let Some(index) = index else {
            return Vec::new();
        };
        let settled = self.shared.swap_remove(index);
        if let Some(state) = outcome.filter(|_| !self.closed) {
            self.shared.push(Shared { key, state });
        }
        match settled.state {
            Sharing::Opening(waiting) => waiting,
            _ => Vec::new(),
        }
    }

    fn busy_at(&self, key: Key) -> usize {
        self.busy_at
            .iter()
            .find(|(known, _)| *known == key)
            .map_or(0, |(_, count)| *count)
    }
}

/// Counts for a connection in its pool until [`CountedPlace::keep`]: while it is opened, and when it is no longer
/// one of HTTP.
pub(crate) struct CountedPlace {
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: Key,
    /// Others wait for the same connection.
    pub(crate) shared: bool,
    kept: bool,
}

impl CountedPlace {
    pub(crate) fn new(pool: Arc<Pool>, key: Key, shared: bool) -> Self {
        Self {
            pool,
            key,
            shared,
            kept: false,
        }
    }

    /// The connection itself counts from now on.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for CountedPlace {
    fn drop(&mut self) {
        if !self.kept {
            Python::attach(|py| {
                if self.shared {
                    self.pool.cannot_share(py, self.key, None);
                }
                self.pool.gone(py, self.key);
            });
        }
    }
}
