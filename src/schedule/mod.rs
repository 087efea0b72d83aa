//! When runs are to start in an open model: at a rate of their own, whatever became of the runs before them.
//!
//! | module | owns |
//! |---|---|
//! | `profile` | the rate over time, its integral and the inverse of that |
//! | `arrivals` | where starts lie when the rate is one: evenly, or as a Poisson process |
//! | `starts` | one process's share of them: which are due, which wait for a worker |
//!
//! Pure: no clock and no worker in it. Times are seconds since the first moment of the schedule. Starts of a profile come
//! from starts at a rate of one by its inverse integral, which makes them exact for any profile (and, of Poisson
//! arrivals, a Poisson process with that rate: L. Devroye, Non-Uniform Random Variate Generation, VI.1.3). Called by
//! `python`.

mod arrivals;
mod profile;
mod starts;

pub use arrivals::{Shape, Share};
pub use profile::{Profile, ProfileError};
pub use starts::Starts;
