//! What carries one exchange: a connection of its own, or a stream of one that is shared.
//!
//! Owns nothing but the choice: to requests and bodies both are one thing, on which a request's body goes out and
//! a response's body comes in. Made by `request`; used by `body` and `awaitable`.

use super::awaitable::Awaitable;
use super::body::Body;
use super::connection::Connection;
use super::stream::Stream;
use pyo3::prelude::*;
use std::sync::Arc;

/// See the module's text.
#[derive(Clone)]
pub(crate) enum Carrier {
    Connection(Arc<Connection>),
    Stream(Arc<Stream>),
}

impl Carrier {
    /// Gives it more of the request's body, framed as HTTP/1.1 has it.
    pub(crate) fn write(&self, py: Python<'_>, data: &[u8]) {
        match self {
            Self::Connection(connection) => connection.write(py, data),
            Self::Stream(stream) => stream.write(py, data),
        }
    }

    /// Bytes of the request's body that the server has made no room for yet.
    pub(crate) fn unsent_bytes(&self, py: Python<'_>) -> usize {
        match self {
            Self::Connection(connection) => connection.unsent_bytes(py),
            Self::Stream(stream) => stream.unsent_bytes(py),
        }
    }

    /// Resolves `waiter` when the request's body is on its way as far as it was given. False: it is already.
    pub(crate) fn when_sent(&self, waiter: &Bound<'_, Awaitable>) -> bool {
        match self {
            Self::Connection(connection) => connection.when_sent(waiter),
            Self::Stream(stream) => stream.when_sent(waiter),
        }
    }

    /// Whether more of the request's body may come.
    pub(crate) fn is_uploading(&self, py: Python<'_>) -> bool {
        match self {
            Self::Connection(connection) => connection.is_uploading(py),
            Self::Stream(stream) => stream.is_uploading(py),
        }
    }

    /// The request's body is complete.
    pub(crate) fn upload_done(&self, py: Python<'_>) {
        match self {
            Self::Connection(connection) => connection.upload_done(py),
            Self::Stream(stream) => stream.upload_done(py),
        }
    }

    /// Goes on reading a body whose reader had fallen behind.
    pub(crate) fn resume(&self, py: Python<'_>) {
        match self {
            Self::Connection(connection) => connection.resume(py),
            Self::Stream(stream) => stream.resume(py),
        }
    }

    /// Looks for more of a body on behalf of its reader, for whom nothing waits. A stream has its own task do that.
    pub(crate) fn pull(&self, py: Python<'_>, body: &Arc<Body>) {
        match self {
            Self::Connection(connection) => connection.pull(py, body),
            Self::Stream(_) => {}
        }
    }

    /// Whether the time for the whole request is over.
    pub(crate) fn is_expired(&self, py: Python<'_>) -> bool {
        match self {
            Self::Connection(connection) => connection.is_expired(py),
            Self::Stream(stream) => stream.is_expired(),
        }
    }

    /// Ends the exchange; its request is not told.
    pub(crate) fn abort(&self, py: Python<'_>) {
        match self {
            Self::Connection(connection) => connection.abort(py),
            Self::Stream(stream) => stream.abort(py),
        }
    }
}
