//! What has to hold for any bytes a server may send: one function for each fuzz target.
//!
//! Each takes one input of the fuzzer, whose first bytes choose limits and where the rest is cut, and panics when a
//! property does not hold. Only the public interface of `molotov::http` is used. Compiled twice: into the fuzz
//! targets, and into the integration tests, which replay the corpus.

mod body;
mod content;
mod cookies;
mod exchange;
mod head;
mod pieces;
mod websocket;

/// Panics when a property does not hold for these bytes.
pub(super) type Check = fn(&[u8]);

/// Every target's name, which is also its folder in the corpus, and its check.
pub(super) const ALL: [(&str, Check); 6] = [
    ("response_head", head::check),
    ("body", body::check),
    ("exchange", exchange::check),
    ("content", content::check),
    ("cookies", cookies::check),
    ("websocket", websocket::check),
];
