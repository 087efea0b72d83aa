//! When an autosizing run ends, and what it found.
//!
//! Owns the decision: failures, all failing, throughput that stopped growing, a broken latency rule, the end of the ramp.
//! Pure: totals and the time come in, verdicts go out; it has no clock, starts no worker and prints nothing. Called by
//! `python`; depends on nothing of ours.

mod controller;
mod growth;
mod rule;
mod statistics;
mod verdict;

pub use controller::{Controller, Settings, Totals};
pub use rule::{LatencyRule, RuleError};
pub use statistics::wilson_lower;
pub use verdict::{Reason, Verdict};
