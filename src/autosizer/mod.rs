//! `autosizer`: start a service, size it, bring the evidence home, leave nothing behind.
//!
//! Owns the flow of one sizing and everything that it leaves: the steps shown, the run's ledger, the cleaning. What is
//! started where is told by a [`Target`]; the load itself is a [`Load`], in production the `molotov` command in the same
//! process. Depends on no Python. Called by `python`.
//!
//! | file | owns |
//! |---|---|
//! | `flow` | the order of the steps, and that cleaning always happens |
//! | `target` | what a place to run the service has to offer, and the service's description |
//! | `local` | a process tree on this machine |
//! | `ssm` | an EC2 instance, with the feature `aws` |
//! | `load` | what makes the load |
//! | `run` | what one run shares: its id, cancellation, deadlines |
//! | `probe` | waiting until the service answers |
//! | `failure` | what went wrong, and what to do about it |
//! | `steps` | showing what happens, on a terminal, as lines, as JSON lines |
//! | `secrets` | values that must not be shown or written |
//! | `ledger` | what was made and has to be removed, on disk before it is made |

mod cancel;
mod failure;
mod flow;
mod ledger;
mod load;
mod probe;
mod run;
mod secrets;
#[cfg(feature = "aws")]
pub mod ssm;
mod steps;
mod target;

pub use cancel::Cancel;
pub use failure::{Failure, Kind};
pub use flow::{Outcome, size};
pub use ledger::{Entry, Ledger, Thing, read_all, state_folder};
pub use load::{Load, LoadEnd, Order};
pub use probe::{Probe, answers};
pub use run::Run;
pub use secrets::Secrets;
pub use steps::{Step, Steps};
pub use target::{
    Address, Collector, Ended, Limits, Metrics, Service, ServiceState, Target, Watched,
};
