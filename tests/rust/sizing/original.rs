//! The original.
