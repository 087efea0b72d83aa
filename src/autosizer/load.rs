//! What makes the load.
//!
//! Owns the order that the flow gives and the answer it expects. In production it is the `molotov` command in this
//! process, which forks and drives an event loop of its own: so it is called between the flow's asynchronous steps,
//! never inside one. Implemented by `python`, and by the tests.

use std::path::PathBuf;

use super::failure::Failure;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Variables to set while it runs: `SERVER_URL`, `URL_SERVER`.
    pub environment: Vec<(String, String)>,
    /// Targets for `--monitor`.
    pub monitor: Vec<String>,
    /// Where its results go, as JSON.
    pub results: PathBuf,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadEnd {
    /// Exit code of the command.
    pub exit_code: i32,
}

/// Makes the load, and knows whether the user asked to stop.
pub trait Load {
    /// Runs to the end. Ctrl-C ends it early, with results: `is_interrupted` says so afterwards.
    fn run(&mut self, order: &Order) -> Result<LoadEnd, Failure>;

    /// Whether the user has asked to stop since the start, and how often. Asked ten times a second between steps.
    fn interruptions(&mut self) -> usize;
}
