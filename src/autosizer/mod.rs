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
//! | `container` | a container of Docker or Podman on this machine (feature `autosizer`) |
//! | `ssm` | an EC2 instance, with the feature `aws` |
//! | `load` | what makes the load |
//! | `run` | what one run shares: its id, cancellation, deadlines |
//! | `probe` | waiting until the service answers |
//! | `failure` | what went wrong, and what to do about it |
//! | `steps` | showing what happens, on a terminal, as lines, as JSON lines |
//! | `secrets` | values that must not be shown or written |
//! | `ledger` | what was made and has to be removed, on disk before it is made |
//! | `gc` | removing what runs have left |
//! | `session`, `options` | all rows of one command, and what was asked for |
//! | `prices`, `comparison` | what a row costs, which one to take, what changed |
//! | `document`, `table` | what was found, as JSON, text, Markdown, CSV |

mod cancel;
mod comparison;
#[cfg(feature = "autosizer")]
mod container;
mod document;
mod failure;
mod flow;
mod gc;
mod ledger;
mod load;
mod local;
mod options;
mod prices;
mod probe;
mod run;
mod secrets;
mod session;
#[cfg(feature = "aws")]
pub mod ssm;
mod steps;
mod table;
mod target;

pub use cancel::Cancel;
pub use comparison::{Change, Figures, Recommendation, changes, recommend};
#[cfg(feature = "autosizer")]
pub use container::Container;
pub use document::Document;
pub use failure::{Failure, Kind};
pub use flow::{Outcome, size};
pub use gc::{Found, Removed, gc, list};
pub use ledger::{Entry, Ledger, Thing, read_all, state_folder};
pub use load::{Load, LoadEnd, Order};
pub use local::Local;
pub use options::{Options, Row};
pub use prices::{Price, Prices, Resources};
pub use probe::{Probe, answers};
pub use run::Run;
pub use secrets::Secrets;
pub use session::{Page, Report, run as run_session, runtime};
pub use steps::{Step, Steps};
pub use table::sources_and_changes;
pub use target::{
    Address, Collector, Ended, Limits, Metrics, Service, ServiceState, Target, Watched,
};
