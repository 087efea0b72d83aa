//! The results of a run as one document, and everything that is made of it.
//!
//! Owns the document and its versioned schema (docs/results.schema.json), collecting it second by second, writing it as
//! the run goes, and the other formats, all of which are made from the document alone: a run and `molotov-report` give
//! the same. Draws nothing and decides nothing about the run. Called by `python`.
//!
//! | file | owns |
//! |---|---|
//! | `document` | what the document holds |
//! | `attempts` | what became of requests, and the throughput |
//! | `series` | the run second by second |
//! | `service_time_map` | how many requests took how long, over the time of the run |
//! | `starts` | what became of the starts that a rate asked for |
//! | `collect` | filling the document while the run goes |
//! | `levels` | which loads were held, for the verdict |
//! | `journal` | writing as the run goes, and reading what a dead run left |
//! | `threshold` | `p95<500ms` and its kind: grammar and outcome |
//! | `service` | what `autosizer` started, and what its end means |
//! | `monitored` | documents of what was monitored without a run |
//! | `mask` | secrets in command lines and texts |
//! | `csv`, `junit`, `markdown`, `summary` | the other formats |
//! | `resources` | the table of what was used |

mod attempts;
mod collect;
mod csv;
mod document;
mod journal;
mod junit;
mod levels;
mod markdown;
mod mask;
mod monitored;
mod resources;
#[cfg(test)]
pub(crate) mod sample;
mod series;
mod service;
mod service_time_map;
mod starts;
mod summary;
mod threshold;

pub use attempts::Attempts;
pub use collect::{Collector, Totals};
pub use document::{
    Counts, ErrorGroup, Exit, FormatError, Meta, Output, Ramp, Results, SCHEMA, ServiceTime, Sizing,
};
pub use journal::{Journal, ReadError, read, write};
pub use markdown::escaped_for_markdown;
pub use mask::{masked, masked_command};
pub use series::{Point, Series};
pub use service::ServiceFacts;
pub use service_time_map::ServiceTimeMap;
pub use starts::Starts;
pub use threshold::{Outcome, Threshold, ThresholdError};
