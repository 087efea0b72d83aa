//! How long scenario runs and requests took: recording, merging over processes, reading.
//!
//! Owns the histograms, the names requests are grouped under, the bytes a child sends its parent, and the end-of-run
//! table. Counters of runs are `engine`'s, stop decisions `sizing`'s. Called by `python`; depends on nothing of ours.

mod distribution;
mod handle;
mod names;
mod recorder;
mod snapshot;
mod table;

pub use distribution::Distribution;
pub use handle::SharedRecorder;
pub use names::template;
pub use recorder::{Id, Kind, MAX_REQUEST_NAMES, OTHER, Recorder, Row};
pub use snapshot::CorruptSnapshot;
pub use table::{DEFAULT_WIDTH, render};
