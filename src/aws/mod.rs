//! Amazon's side of `autosizer`: EC2, Run Command of Systems Manager, S3, prices and quotas.
//!
//! Owns the calls, their signatures, retries and errors; knows nothing of services under test, containers or
//! monitoring. SSM and S3 go through Amazon's SDK; the few calls of EC2, IAM, STS, Pricing and Service Quotas are signed
//! here with the same credentials, because the SDK's crate for EC2 takes longer to compile than everything else
//! together. All of it respects `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>`.
//!
//! | file | owns |
//! |---|---|
//! | `session` | region, endpoints, clients, signed calls, trying again |
//! | `credentials` | what Amazon's chain has found, until it ends |
//! | `answers` | answers of Systems Manager, cut down to what is read |
//! | `error` | what an error means and which permission is missing |
//! | `retry` | waiting: backoff with jitter, polling with a total deadline |
//! | `ec2` | instances, their types, subnets |
//! | `launch` | launching an instance |
//! | `groups` | security groups |
//! | `managed` | parameters, and which agents are connected |
//! | `commands` | Run Command: sending, following, cancelling, output |
//! | `objects` | S3: reading and removing what commands wrote |
//! | `pricing` | what an instance costs per hour |
//! | `account` | who we are, which role and quotas there are |
//! | `policy` | the permissions that all this needs |
//!
//! Called by the `ssm` target of `autosizer` and its `check`, `gc`, `list` and `iam-policy`. Depends on nothing of ours.

mod account;
mod answers;
mod commands;
mod credentials;
pub mod ec2;
mod error;
mod groups;
mod launch;
mod managed;
mod objects;
pub mod policy;
pub mod pricing;
mod retry;
mod session;
mod xml;

pub use account::{Identity, Quota, Role};
pub use commands::{Command, NODE_FOLDER, Outcome, Sent, Status};
pub use error::{Error, Kind};
pub use retry::Poll;
pub use session::{Options, Session};
