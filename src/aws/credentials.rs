//! The credentials of one session.
//!
//! Owns keeping what Amazon's chain has found until shortly before its end, and letting go of it when a service says that
//! it has ended already, so that the next call is signed with what the chain has by then. Handed to the SDK's clients and
//! asked by the calls that are signed here: both sign with the same. Called by `session`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider};
use tokio::sync::Mutex;

/// Credentials that end sooner than this are loaded anew.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// The credentials; clones share what is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    chain: SharedCredentialsProvider,
    kept: Arc<Mutex<Option<Credentials>>>,
}

impl Kept {
    /// Nothing is loaded yet.
    pub(super) fn new(chain: SharedCredentialsProvider) -> Self {
        Self {
            chain,
            kept: Arc::default(),
        }
    }

    /// What is kept, or else what the chain has now.
    pub(super) async fn load(&self) -> Result {
        let mut kept = self.kept.lock().await;
        let fresh = |credentials: &Credentials| {
            credentials
                .expiry()
                .is_none_or(|expiry| expiry > SystemTime::now() + RENEW_BEFORE)
        };
        if let Some(credentials) = kept.as_ref().filter(|credentials| fresh(credentials)) {
            return Ok(credentials.clone());
        }
        let credentials = self.chain.provide_credentials().await?;
        *kept = Some(credentials.clone());
        Ok(credentials)
    }

    /// The next call loads them anew.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

impl ProvideCredentials for Kept {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(self.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// New credentials at every look, which end after some time.
    #[derive(Debug)]
    struct Chain(AtomicU32, Option<Duration>);

    impl ProvideCredentials for Chain {
        fn provide_credentials<'a>(&'a self) -> Provided<'a>
        where
            Self: 'a,
        {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let end = self.1.map(|life| SystemTime::now() + life);
            let made = Credentials::new(format!("key-{number}"), "secret", None, end, "test");
            Provided::ready(Ok(made))
        }
    }

    #[tokio::test]
    async fn they_are_kept_until_shortly_before_their_end_or_until_refused() {
        for (life, second) in [
            (None, "key-0"),
            (Some(Duration::from_hours(1)), "key-0"),
            (Some(Duration::from_mins(1)), "key-1"),
        ] {
            let chain = Chain(AtomicU32::new(0), life);
            let kept = Kept::new(SharedCredentialsProvider::new(chain));
            assert_eq!(kept.load().await.unwrap().access_key_id(), "key-0");
            let other = kept.clone().load().await.unwrap();
            assert_eq!(other.access_key_id(), second, "{life:?}");
        }
        let kept = Kept::new(SharedCredentialsProvider::new(Chain(
            AtomicU32::new(0),
            None,
        )));
        kept.load().await.unwrap();
        kept.forget().await;
        assert_eq!(kept.load().await.unwrap().access_key_id(), "key-1");
    }
}
