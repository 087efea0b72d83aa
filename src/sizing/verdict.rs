//! What ended an autosizing run, in numbers and in one sentence.
//!
//! Owns the wording. Deciding is `controller`'s; printing Python's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// More runs failed than tolerated.
    Failures,
    /// No run ever succeeded.
    AllFailed,
    /// Workers kept coming, throughput did not.
    Plateau,
    /// The latency rule was broken.
    Latency,
    /// All workers were up and nothing gave out.
    RampEnded,
    /// Somebody stopped it before.
    Interrupted,
}

impl Reason {
    /// The word for it in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::AllFailed => "all_failed",
            Self::Plateau => "plateau",
            Self::Latency => "latency",
            Self::RampEnded => "ramp_ended",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether something gave out: the run has found its answer.
    pub fn is_answer(self) -> bool {
        matches!(
            self,
            Self::Failures | Self::AllFailed | Self::Plateau | Self::Latency
        )
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Why it ended.
    pub reason: Reason,
    /// Failed runs of all runs in the window, in percent; 0 without runs.
    pub ratio_percent: f64,
    /// Workers started until then.
    pub workers: u64,
    /// Runs that succeeded in the window.
    pub window_succeeded: u64,
    /// Runs that failed in the window.
    pub window_failed: u64,
    /// Successful runs per second at the best level seen.
    pub best_runs_per_second: f64,
    /// Requests per second at that level.
    pub best_requests_per_second: f64,
    /// The fewest workers that reached about that level.
    pub best_workers: u64,
    /// One plain sentence (or two): what ended it, with its evidence.
    pub sentence: String,
}

/// A rate with two or three significant digits.
pub(super) struct Rate(pub(super) f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 < 10.0 {
            2
        } else {
            usize::from(self.0 < 100.0)
        };
        write!(f, "{:.decimals$}", self.0)
    }
}

/// A number of workers, with its noun.
pub(super) struct Workers(pub(super) u64);

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 worker"),
            n => write!(f, "{n} workers"),
        }
    }
}
