//! Molotov: a load tester whose scenarios are Python coroutines and whose engine is Rust.
//!
//! | module | owns |
//! |---|---|
//! | [`http`] | HTTP/1.1 codec, transports, TLS, cookies, content encodings |
//! | [`metrics`] | latency histograms, request names, snapshots |
//! | [`engine`] | counters shared by the processes of a run |
//! | [`schedule`] | when runs are to start, where a rate is set |
//! | [`sizing`] | when an autosizing run ends, what it found, and the search for the capacity |
//! | [`monitor`] | CPU, memory, disk, network and sockets of the target and the generator |
//! | [`verdict`] | what gave out first |
//! | [`results`] | the document of a run, its formats and thresholds |
//! | `aws` | EC2, Run Command, S3 and prices; with the feature of that name |
//! | [`autosizer`] | starting a service, sizing it, and leaving nothing behind |
//! | [`report`] | the page that shows what gave out first, pictures, comparisons |
//! | [`python`] | the extension module: event loop, workers, session |
//!
//! Dependencies point one way: `python` uses every other module, none of them uses `python`.
//! `cargo test --no-default-features` builds and tests everything but `python`.

pub mod autosizer;
#[cfg(feature = "aws")]
pub mod aws;
pub mod engine;
pub mod http;
pub mod metrics;
pub mod monitor;
#[cfg(feature = "python")]
pub mod python;
pub mod report;
pub mod results;
pub mod schedule;
pub mod sizing;
pub mod verdict;

#[cfg(feature = "python")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
