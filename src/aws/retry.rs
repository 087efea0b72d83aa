//! Waiting for AWS.
//!
//! Owns how long to wait between two tries: exponential backoff with full jitter for calls that failed, and for things
//! that take their time a poller whose steps grow, with one deadline for all of them. Called by the signed calls and by
//! everything that waits for an instance or a command.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, Kind};

/// Tries of one call, the first included.
pub(super) const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Pause before the next try, after `failed` of them: anything up to a bound that doubles, so that many clients which
/// were throttled together do not come back together (Brooker, "Exponential backoff and jitter").
pub(super) fn pause(failed: u32) -> Duration {
    let bound = FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)))
        .min(LONGEST_PAUSE);
    bound.mul_f64(fastrand::f64())
}

/// Looks again and again until a deadline.
#[derive(Debug, Clone)]
pub struct Poll {
    started: Instant,
    deadline: Instant,
    step: Duration,
    longest: Duration,
}

impl Poll {
    /// A quarter of a second at first, then longer by half each time up to ten seconds: what is ready at once is seen
    /// at once, and a minute costs some fifteen calls.
    pub fn within(total: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            deadline: started + total,
            step: Duration::from_millis(250),
            longest: Duration::from_secs(10),
        }
    }

    /// The same with shorter longest steps, for what a person or a measurement waits for.
    #[must_use]
    pub fn at_most_every(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// How long it has been waited for.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until it is time to look again; fails when the time is over. `what` completes "waited 60 s for …".
    pub async fn wait(&mut self, action: &'static str, what: &str) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.deadline {
            let waited = (now - self.started).as_secs();
            return Err(Error::new(
                action,
                Kind::TimedOut,
                format!("waited {waited} s for {what}"),
            ));
        }
        // A tenth of jitter: parallel runs do not poll in step.
        let step = self.step.mul_f64(0.95 + 0.1 * fastrand::f64());
        tokio::time::sleep_until((now + step).min(self.deadline)).await;
        self.step = self.step.mul_f64(1.5).min(self.longest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for failed in 1..40 {
            let bound = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failed - 1));
            let pause = pause(failed);
            assert!(pause <= bound.min(LONGEST_PAUSE));
        }
    }

    #[test]
    fn a_poll_ends_at_its_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut poll = Poll::within(Duration::from_millis(30));
            let mut looks = 0;
            let error = loop {
                match poll.wait("ssm:SendCommand", "nothing").await {
                    Ok(()) => looks += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(looks, 1);
            assert_eq!(error.kind, Kind::TimedOut);
            assert!(error.to_string().contains("for nothing"));
        });
    }
}
