//! What people look at: pictures and comparisons, made from documents of runs alone.
//!
//! Owns no measurement and no file: documents come in, text and bytes go out. Called by `python`.
//!
//! | folder | owns |
//! |---|---|
//! | `compare` | runs against each other |
//! | `picture` | the one-picture summary as PNG and SVG |

pub mod compare;
pub mod picture;
