//! When an autosizing run ends, and what it found.
//!
//! Owns the decisions, of two kinds of run. [`Controller`] watches a ramp and says when it ends: failures, all failing,
//! throughput that stopped growing, a broken latency rule, the end of the ramp. [`search::Search`] leads a run itself
//! and answers how much the service can take: ramp, search, an independent trial to confirm.
//!
//! Pure: totals and the time come in, decisions go out; it has no clock, starts no worker and prints nothing. Called by
//! `python`; depends on nothing of ours.

mod controller;
mod growth;
mod rule;
pub mod search;
mod statistics;
mod verdict;

pub use controller::{Controller, Settings, Totals};
pub use rule::{LatencyRule, RuleError};
pub use statistics::{wilson_lower, wilson_upper};
pub use verdict::{Reason, Verdict};
