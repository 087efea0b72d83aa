//! Getting the whole of what a command printed.
//!
//! Owns the way from what came inline, which is cut off after 24,000 characters, to the object in S3. The last line of every
//! script tells whether all is there, and is also the exit code's own word. Called when a command has ended.

use std::time::Duration;

use super::script::{Marked, unmark};
use super::{Command, Outcome, Status};
use crate::aws::error::Error;
use crate::aws::retry::Poll;
use crate::aws::session::Session;

/// Between the end of a command and its objects in S3.
const OUTPUT_WITHIN: Duration = Duration::from_secs(10);

impl Outcome {
    /// Takes a text that is the whole output, or more of it than there was; whether it is the whole.
    fn take(&mut self, text: &str) -> bool {
        match unmark(text) {
            Marked::Whole(text, code) => {
                self.stdout = text;
                self.is_complete = true;
                // What the script itself says of its end holds, whatever was made of it on the way.
                if matches!(self.status, Status::Success | Status::Failed) {
                    self.exit_code = Some(code);
                    self.status = if code == 0 {
                        Status::Success
                    } else {
                        Status::Failed
                    };
                }
            }
            Marked::Part(text) if text.len() > self.stdout.len() => self.stdout = text,
            Marked::Part(_) => {}
        }
        self.is_complete
    }
}

impl Session {
    /// Completes the output: what came inline when its end is there, else the object in S3. What came inline is better than
    /// nothing: the caller sees that it is not all.
    pub(super) async fn completed(
        &self,
        command: &Command<'_>,
        id: &str,
        mut outcome: Outcome,
    ) -> Outcome {
        let inline = std::mem::take(&mut outcome.stdout);
        if outcome.take(&inline) || outcome.status == Status::Undelivered {
            return outcome;
        }
        let Some((bucket, prefix)) = command.output else {
            return outcome;
        };
        // A script that was killed has no end to wait for.
        let ended = matches!(outcome.status, Status::Success | Status::Failed);
        let folder = format!(
            "{}/{id}/{}/",
            prefix.trim_end_matches('/'),
            command.instance
        );
        let mut poll = Poll::within(OUTPUT_WITHIN).at_most_every(Duration::from_secs(2));
        loop {
            match self.printed(bucket, &folder).await {
                Ok(Some(bytes)) if outcome.take(&String::from_utf8_lossy(&bytes)) => {
                    return outcome;
                }
                Err(error) if !error.is_transient() => return outcome,
                _ => {}
            }
            if !ended || poll.wait("s3:GetObject", &folder).await.is_err() {
                return outcome;
            }
        }
    }

    /// The object with what was printed: where the agent puts it, or in whatever folder below is called otherwise.
    async fn printed(&self, bucket: &str, folder: &str) -> Result<Option<Vec<u8>>, Error> {
        let usual = format!("{folder}awsrunShellScript/0.awsrunShellScript/stdout");
        if let Some(bytes) = self.object(bucket, &usual).await? {
            return Ok(Some(bytes));
        }
        let keys = self.objects(bucket, folder).await?;
        match keys.iter().find(|key| key.ends_with("/stdout")) {
            Some(key) => self.object(bucket, key).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: Status) -> Outcome {
        Outcome {
            id: "c-1".to_owned(),
            status,
            details: String::new(),
            exit_code: None,
            stdout: String::new(),
            stderr: String::new(),
            is_complete: false,
        }
    }

    #[test]
    fn the_scripts_own_word_of_its_end_holds() {
        for (told, text, status, code) in [
            (
                Status::Success,
                "out\n\n__sizer_end 3\n",
                Status::Failed,
                Some(3),
            ),
            (
                Status::Failed,
                "out\n\n__sizer_end 0\n",
                Status::Success,
                Some(0),
            ),
            (
                Status::TimedOut,
                "out\n\n__sizer_end 0\n",
                Status::TimedOut,
                None,
            ),
        ] {
            let mut outcome = outcome(told);
            assert!(outcome.take(text));
            assert_eq!(
                (outcome.status, outcome.exit_code),
                (status, code),
                "{told:?}"
            );
            assert_eq!(outcome.stdout, "out\n");
        }
    }

    #[test]
    fn the_longer_part_is_kept() {
        let mut outcome = outcome(Status::Success);
        assert!(!outcome.take("abc\n--output truncated--"));
        assert!(!outcome.take("ab"));
        assert_eq!(outcome.stdout, "abc\n--output truncated--");
        assert!(outcome.take("abcd\n__sizer_end 0"));
        assert_eq!(outcome.stdout, "abcd");
    }
}
