//! Processes: one and all that descends from it, or a fixed list.
//!
//! [`set`] follows who belongs and accounts for those who left; [`threads`] looks at their threads; [`stat`] reads
//! the kernel's line; [`sampler`] makes samples of it. Called by the driver, and by `port`, `generator`, `cgroup`.

pub(super) mod sampler;
pub(super) mod set;
pub(super) mod stat;
pub(super) mod threads;

pub use sampler::ProcessTree;
