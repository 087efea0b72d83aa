//! What went wrong, and what to do about it.
//!
//! Owns the text that the user reads at the end: one line with the cause, one with the advice, and the last lines of the
//! service's log where those explain it. Made by every step; printed by the flow's caller.

use std::fmt;

/// Why a sizing did not come to its end; decides the exit code and whether the next of several is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An option or a file cannot be used: nothing was started.
    Configuration,
    /// The place to run the service (engine, cloud, permissions, disk) refused.
    Target,
    /// The service did not start, did not answer, or ended.
    Service,
    /// The load could not be made.
    Load,
    /// The user asked to stop.
    Interrupted,
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// What happened, in one line, without a full stop.
    pub what: String,
    /// What the user can do about it, in one line; empty when there is nothing to say.
    pub advice: String,
    /// The last lines of the service's log, oldest first.
    pub log: Vec<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            advice: String::new(),
            log: Vec::new(),
        }
    }

    /// The place to run the service refused.
    pub fn target(what: impl Into<String>) -> Self {
        Self::new(Kind::Target, what)
    }

    /// The service did not do what it should.
    pub fn service(what: impl Into<String>) -> Self {
        Self::new(Kind::Service, what)
    }

    /// An option cannot be used.
    pub fn configuration(what: impl Into<String>) -> Self {
        Self::new(Kind::Configuration, what)
    }

    /// The user asked to stop.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// The same with the last lines of a log.
    #[must_use]
    pub fn with_log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)?;
        if !self.advice.is_empty() {
            write!(formatter, "\n  {}", self.advice)?;
        }
        if !self.log.is_empty() {
            formatter.write_str("\n  last lines of the service's log:")?;
            for line in &self.log {
                write!(formatter, "\n  | {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_cause_advice_log() {
        let failure = Failure::service("it ended")
            .advise("look at its configuration")
            .with_log(vec!["no such file".to_owned()]);
        assert_eq!(
            failure.to_string(),
            "it ended\n  look at its configuration\n  last lines of the service's log:\n  | no such file"
        );
    }
}
