//! What the processes of a run share while it runs.
//!
//! Owns the counters and the stop flags. Deciding when to stop is `sizing`'s and the workers'; printing is Python's.
//! Called by `python` only.

pub mod shared;

pub use shared::{RunState, Slot};
