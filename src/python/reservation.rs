//! A connection that is kept for a request which is still to be sent.
//!
//! Owns the pause between the two: listeners are told of a request when its connection is there and nothing has been
//! sent. Made by `request` for an exchange that only reserves, and used up by the one that follows; what is not used
//! goes back to its pool.

use super::connection::Connection;
use super::ffi::GilCell;
use super::stream::Multiplexed;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request will be sent on.
pub(crate) enum Reserved {
    Own(Arc<Connection>),
    Shared(Arc<Multiplexed>),
}

/// See the module's text.
#[pyclass(frozen, module = "molotov._core")]
pub(crate) struct Reservation(GilCell<Option<Reserved>>);

/// What an exchange does about its connection.
pub(crate) enum Reserving {
    /// It looks for one and uses it.
    No,
    /// It looks for one, and gives a [`Reservation`] instead of a response.
    Only,
    /// It uses this one, if that is still good.
    Made(Py<Reservation>),
}

impl Reservation {
    pub(crate) fn new(reserved: Reserved) -> Self {
        Self(GilCell::new(Some(reserved)))
    }

    /// Takes the connection, unless it has ended meanwhile.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<Reserved> {
        let reserved = self.0.borrow_mut(py).take()?;
        let usable = match &reserved {
            Reserved::Own(connection) => connection.is_usable(py, Instant::now(), Duration::MAX),
            Reserved::Shared(multiplexed) => multiplexed.is_usable(py),
        };
        if usable {
            return Some(reserved);
        }
        if let Reserved::Own(connection) = reserved {
            // Its task takes it out of the count when it ends.
            connection.abort(py);
        }
        None
    }
}

#[pymethods]
impl Reservation {
    /// Gives the connection back unused.
    fn release(&self, py: Python<'_>) {
        if let Some(Reserved::Own(connection)) = self.take(py) {
            connection.pool.put_back(py, &connection);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        Python::attach(|py| self.release(py));
    }
}
