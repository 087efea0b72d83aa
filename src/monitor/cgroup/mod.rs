//! Control groups, version 1, version 2 and both at once.
//!
//! [`hierarchy`] finds the folders of a group; [`v1`] and [`v2`] read them into one [`usage::Usage`]; [`usage`] makes
//! samples of two of those, also for the container API; [`allowance`] tells what a process may use; [`sampler`] is
//! `cgroup:PATH`. Called by the driver, `process` and `container`.

mod allowance;
mod hierarchy;
mod sampler;
pub(super) mod usage;
mod v1;
mod v2;

pub(super) use allowance::Allowance;
pub use sampler::ControlGroup;
pub(super) use sampler::GroupMeter;

#[cfg(test)]
mod tests;
