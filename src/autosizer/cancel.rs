//! Being told to stop.
//!
//! Owns one flag that is set once and never taken back, and waiting for it. Set by the flow when its caller reports
//! Ctrl-C or SIGTERM; waited for by everything that takes time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::failure::Failure;

/// A shared flag. Clones are the same flag.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Sets the flag.
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// An error when it is set: for loops that do not wait.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_set() {
            return Err(Failure::interrupted());
        }
        Ok(())
    }

    /// Waits until it is set.
    pub async fn wait(&self) {
        let mut watched = self.0.subscribe();
        // The sender lives as long as `self`: it cannot fail.
        let _ = watched.wait_for(|set| *set).await;
    }

    /// Runs `work` unless or until the flag is set. What `work` holds is dropped then, so whatever it has begun must be
    /// in the ledger already.
    pub async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.wait() => Err(Failure::interrupted()),
            done = work => done,
        }
    }

    /// Sleeps unless or until the flag is set, which is an error.
    pub async fn sleep(&self, time: Duration) -> Result<(), Failure> {
        self.guard(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
        .await
    }
}
