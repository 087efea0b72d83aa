//! A recorder that the workers, the session and Python share within one process.
//!
//! Owns the lock around it. All callers run on one thread at a time, so the lock is never contended: it costs two
//! uncontended atomic operations, and spares the whole program a promise about threads it would have to keep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::recorder::{Id, Recorder};

/// A shared [`Recorder`]; cloning it shares it.
#[derive(Debug, Clone, Default)]
pub struct SharedRecorder(Arc<Mutex<Recorder>>);

impl SharedRecorder {
    /// A new recorder, shared with nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The recorder itself. Hold it for a few statements, never across a call into Python.
    pub fn lock(&self) -> MutexGuard<'_, Recorder> {
        // A panic while recording leaves counts behind that are at worst one off.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Recorder::scenario_id`].
    pub fn scenario_id(&self, name: &str) -> Id {
        self.lock().scenario_id(name)
    }

    /// See [`Recorder::request_id`].
    pub fn request_id(&self, method: &str, host_and_path: &str) -> Id {
        self.lock().request_id(method, host_and_path)
    }

    /// See [`Recorder::request_id_of`].
    pub fn request_id_of(&self, method: &str, host: &str, path: &str) -> Id {
        self.lock().request_id_of(method, host, path)
    }

    /// See [`Recorder::record`].
    #[inline]
    pub fn record(&self, id: Id, service_time: Duration, ok: bool, bytes: u64) {
        self.lock().record(id, service_time, ok, bytes);
    }
}
