//! What may be chosen for `--on ssm`, and how long things may take.
//!
//! Owns the defaults and the step from the command line's texts. Called by the session and by the target itself.

use std::time::Duration;

use serde_json::Value;

use super::super::failure::Failure;
use super::super::options::{Options as Asked, Row};
use super::glances;
use crate::aws;

/// How long each thing may take. The defaults are for AWS; tests are in more of a hurry.
#[derive(Debug, Clone)]
pub struct Patience {
    /// A new instance profile to be known everywhere.
    pub profile: Duration,
    /// A launched instance to run and have an address.
    pub running: Duration,
    /// Its agent to register.
    pub registered: Duration,
    /// Its container engine to be installed.
    pub engine: Duration,
    /// An image to be pulled.
    pub pull: Duration,
    /// The collector to start; Glances takes its time.
    pub collector: Duration,
    /// Any other step.
    pub step: Duration,
    /// An ended instance to let go of its security group.
    pub ended: Duration,
    /// A command to reach an instance whose agent is connected; AWS takes half a minute at least.
    pub delivery: Duration,
    /// Between two looks at whether the instance is still there, while a step runs.
    pub look: Duration,
    /// An agent that lost its connection to come back while there is something to fetch.
    pub back: Duration,
    /// Something that was asked for without an answer to be seen, when it was made.
    pub unseen: Duration,
    /// The last outputs of an instance to arrive in the bucket.
    pub settled: Duration,
    /// An output of which it is known that it was written to arrive there.
    pub late: Duration,
    /// An instance that runs to get the address that was asked for.
    pub address: Duration,
    /// Before a cleaning that failed is tried again; the next pause is longer.
    pub again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            profile: Duration::from_mins(2),
            running: Duration::from_mins(5),
            registered: Duration::from_mins(10),
            engine: Duration::from_mins(5),
            pull: Duration::from_mins(30),
            collector: Duration::from_mins(4),
            step: Duration::from_mins(2),
            ended: Duration::from_mins(5),
            delivery: Duration::from_mins(1),
            look: Duration::from_secs(10),
            back: Duration::from_secs(30),
            unseen: Duration::from_secs(20),
            settled: Duration::from_secs(2),
            late: Duration::from_secs(10),
            address: Duration::from_secs(30),
            again: Duration::from_secs(2),
        }
    }
}

/// Which address of the instance the load goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// The public one. What is measured includes the Internet.
    #[default]
    Public,
    /// The private one, for a load generator inside the VPC.
    Private,
}

/// Who measures on the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Measure {
    /// The shell script that comes with us.
    #[default]
    Own,
    /// A Glances container of this image.
    Glances(String),
}

/// What the user chose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Region and profile.
    pub session: aws::Options,
    /// Such as `m8g.large`. Of a reused instance it is what it is.
    pub instance_type: String,
    /// An instance to use instead of launching one.
    pub instance_id: Option<String>,
    /// An image instead of the newest Amazon Linux 2023.
    pub image_id: Option<String>,
    /// A subnet instead of the default ones.
    pub subnet: Option<String>,
    /// The instance's profile.
    pub instance_profile: String,
    /// The bucket for what commands print.
    pub bucket: String,
    /// Where in it.
    pub prefix: String,
    /// Which address is used.
    pub reach: Reach,
    /// Who may connect, as CIDR, instead of this machine only.
    pub allow_from: Option<String>,
    /// Whether the instance stays for the next run.
    pub keep: bool,
    /// When the machine ends itself.
    pub time_to_live: Duration,
    /// Whose it is, for the tag.
    pub owner: String,
    /// Size of the root volume in GiB.
    pub disk_gib: u32,
    /// Who measures.
    pub measure: Measure,
    /// How long things may take.
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session: aws::Options::default(),
            instance_type: String::new(),
            instance_id: None,
            image_id: None,
            subnet: None,
            instance_profile: String::new(),
            bucket: String::new(),
            prefix: "autosizer".to_owned(),
            reach: Reach::default(),
            allow_from: None,
            keep: false,
            time_to_live: Duration::from_hours(4),
            owner: std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()),
            disk_gib: 20,
            measure: Measure::default(),
            patience: Patience::default(),
        }
    }
}

impl Options {
    /// From what the command line asked for; the names are those of the options, with underscores.
    pub fn of(asked: &Asked, row: &Row) -> Result<Self, Failure> {
        let text = |name: &str| {
            let value = asked.target.get(name).and_then(Value::as_str);
            value.map(str::to_owned).filter(|value| !value.is_empty())
        };
        let is_set = |name: &str| asked.target.get(name).and_then(Value::as_bool) == Some(true);
        let needed = |name: &str, value: Option<String>| {
            value.ok_or_else(|| {
                Failure::configuration(format!("--on ssm needs --{name}")).advise(
                    "docs/aws.md says what has to be there once; `autosizer check` looks at it",
                )
            })
        };
        let defaults = Self::default();
        let instance_id = text("instance_id");
        let reused = instance_id.is_some();
        let optional = |value: Option<String>| {
            if reused {
                Some(value.unwrap_or_default())
            } else {
                value
            }
        };
        let number = |name: &str| asked.target.get(name).and_then(Value::as_f64);
        let time_to_live = match number("time_to_live") {
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|time| (60..=7 * 86_400).contains(&time.as_secs()))
                .ok_or_else(|| Failure::configuration("--time-to-live is a minute to a week"))?,
            None => defaults.time_to_live,
        };
        Ok(Self {
            session: aws::Options {
                region: text("region"),
                profile: text("profile"),
            },
            instance_type: needed("instance-type", optional(row.instance_type.clone()))?,
            instance_profile: needed("instance-profile", optional(text("instance_profile")))?,
            bucket: needed("bucket", text("bucket"))?,
            prefix: text("prefix").unwrap_or(defaults.prefix),
            image_id: text("ami"),
            subnet: text("subnet"),
            reach: if is_set("private_address") {
                Reach::Private
            } else {
                Reach::Public
            },
            allow_from: text("allow_from"),
            keep: is_set("keep"),
            time_to_live,
            owner: text("owner").unwrap_or(defaults.owner),
            disk_gib: match number("disk") {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "within a range"
                )]
                Some(gib) if (8.0..=16_384.0).contains(&gib) => gib as u32,
                Some(_) => return Err(Failure::configuration("--disk takes 8 to 16384 GiB")),
                None => defaults.disk_gib,
            },
            measure: match (text("collector").as_deref(), text("glances_image")) {
                (Some("glances"), image) => {
                    Measure::Glances(image.unwrap_or_else(|| glances::IMAGE.to_owned()))
                }
                (Some("native") | None, None) => Measure::Own,
                (_, Some(_)) => {
                    return Err(Failure::configuration(
                        "--glances-image goes with --collector glances",
                    ));
                }
                (Some(other), None) => {
                    return Err(Failure::configuration(format!("--collector is {other:?}"))
                        .advise("it takes native or glances"));
                }
            },
            patience: defaults.patience,
            instance_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_named() {
        let mut asked = Asked::default();
        let row = Row {
            instance_type: Some("t3.medium".to_owned()),
            ..Row::default()
        };
        let missing = |asked: &Asked, row: &Row| Options::of(asked, row).unwrap_err().what;
        assert!(missing(&asked, &Row::default()).contains("--instance-type"));
        assert!(missing(&asked, &row).contains("--instance-profile"));
        asked
            .target
            .insert("instance_profile".to_owned(), "p".into());
        assert!(missing(&asked, &row).contains("--bucket"));
        asked.target.insert("bucket".to_owned(), "b".into());
        let options = Options::of(&asked, &row).unwrap();
        assert_eq!(
            (options.instance_type.as_str(), options.keep),
            ("t3.medium", false)
        );
        asked.target.insert("disk".to_owned(), 3.into());
        assert!(missing(&asked, &row).contains("--disk"));
    }

    #[test]
    fn a_reused_instance_needs_the_bucket_only() {
        let mut asked = Asked::default();
        asked.target.insert("instance_id".to_owned(), "i-1".into());
        asked.target.insert("bucket".to_owned(), "b".into());
        assert_eq!(
            Options::of(&asked, &Row::default())
                .unwrap()
                .instance_id
                .as_deref(),
            Some("i-1")
        );
    }
}
