//! The one integration binary: checks that need the crate as a whole rather than a single module.

#[cfg(feature = "python")]
mod binary;
mod layers;
mod monitor;
