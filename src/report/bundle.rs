//! plotly.js as a page carries it: compressed, because most of a page is this.
//!
//! Owns nothing of it: the build script takes it from the `plotly` crate, compresses it (raw deflate, in base64) and
//! notes its SHA-256, by which a page allows that script and no other. Without the feature `report` both are empty, and
//! a page has its figures and tables but no charts. Called by `html`.

/// plotly.js, deflated, in base64.
#[cfg(feature = "report")]
pub(super) const PLOTLY: &str = include_str!(concat!(env!("OUT_DIR"), "/plotly.txt"));

/// The SHA-256 of plotly.js, in base64.
#[cfg(feature = "report")]
pub(super) const PLOTLY_SHA256: &str = include_str!(concat!(env!("OUT_DIR"), "/plotly.sha256"));

#[cfg(not(feature = "report"))]
pub(super) const PLOTLY: &str = "";

#[cfg(not(feature = "report"))]
pub(super) const PLOTLY_SHA256: &str = "";
