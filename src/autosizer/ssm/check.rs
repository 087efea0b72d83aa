//! `autosizer check`: whether a run would be allowed, without starting anything.
//!
//! Owns the list of questions, each answered by itself, so that one missing permission does not hide the next. Called by
//! the command line.

use std::time::Duration;

use super::ending::end_instance;
use super::launch::{architecture, image_parameter};
use super::{Options, Reach, TAG_EXPIRES, TAG_RUN, timer, timestamp, unix_seconds};
use crate::aws::ec2::{InstanceType, Launch, Tags};
use crate::aws::{Error, Kind, Session};

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Such as `credentials`.
    pub question: &'static str,
    /// Whether a run can do with it; `None` when it could not be found out but need not stop a run.
    pub is_fine: Option<bool>,
    /// The answer in words.
    pub answer: String,
}

/// Asks all questions. Costs nothing and makes nothing.
pub async fn check(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |question, is_fine, answer: String| {
        findings.push(Finding {
            question,
            is_fine,
            answer,
        });
    };
    let session = match Session::connect(&options.session).await {
        Ok(session) => session,
        Err(error) => {
            tell("credentials", Some(false), error.to_string());
            return findings;
        }
    };
    match session.identity().await {
        Ok(identity) => tell(
            "credentials",
            Some(true),
            format!("{} in {}", identity.arn, session.region()),
        ),
        // Other calls show whether the credentials are good.
        Err(error) if error.is_absent() => tell("credentials", None, error.to_string()),
        Err(error) => {
            tell("credentials", Some(false), error.to_string());
            return findings;
        }
    }
    match session.check_bucket(&options.bucket).await {
        Ok(()) => tell("bucket", Some(true), options.bucket.clone()),
        Err(error) => tell("bucket", Some(false), error.to_string()),
    }
    match session.role(&options.instance_profile).await {
        Ok(role) if role.role.is_empty() => {
            tell(
                "role",
                Some(false),
                format!("the profile {} has no role", role.profile),
            );
        }
        Ok(role) => tell(
            "role",
            Some(true),
            format!(
                "{}; it needs AmazonSSMManagedInstanceCore and the second policy of `autosizer iam-policy`",
                role.role
            ),
        ),
        Err(error) if error.kind == Kind::NotFound => {
            tell("role", Some(false), error.to_string());
        }
        // Looking at roles is more than a run needs.
        Err(error) => tell("role", None, error.to_string()),
    }
    let kind = match session.instance_type(&options.instance_type).await {
        Ok(kind) => {
            tell("instance type", Some(true), describe(&kind));
            kind
        }
        Err(error) if error.is_absent() => {
            tell("instance type", None, error.to_string());
            InstanceType::of_name(&options.instance_type)
        }
        Err(error) => {
            tell("instance type", Some(false), error.to_string());
            return findings;
        }
    };
    match session.vcpu_quota(&kind.name).await {
        Ok(quota) => tell(
            "quota",
            Some(quota.vcpus >= f64::from(kind.vcpus)),
            format!(
                "{} virtual cores of this class at once ({}), {} needed",
                quota.vcpus, quota.code, kind.vcpus
            ),
        ),
        Err(error) => tell("quota", None, error.to_string()),
    }
    match dry_run(&session, options, &kind).await {
        Ok(answer) => tell("launch", Some(true), answer),
        Err(error) => tell("launch", Some(false), error.to_string()),
    }
    match session.instances(TAG_RUN, None).await {
        Ok(instances) => {
            let running = instances
                .iter()
                .filter(|instance| !instance.is_gone())
                .count();
            tell(
                "left over",
                Some(true),
                format!("{running} instances of autosizer"),
            );
        }
        Err(error) => tell("left over", Some(false), error.to_string()),
    }
    findings
}

fn describe(kind: &InstanceType) -> String {
    let burst = if kind.is_burstable {
        "; its CPU lives on credits: steal and credits falsify a sizing"
    } else {
        ""
    };
    format!(
        "{}: {} virtual cores, {} MiB, {}, network {}{burst}",
        kind.name,
        kind.vcpus,
        kind.memory_mib,
        kind.architectures.join("/"),
        kind.network
    )
}

/// Asks EC2 whether it would launch. Without a security group of ours yet the default one stands in.
async fn dry_run(
    session: &Session,
    options: &Options,
    kind: &InstanceType,
) -> Result<String, Error> {
    let name = architecture(kind)
        .map_err(|failure| Error::new("ssm:GetParameter", Kind::Unsupported, failure.what))?;
    let image = match &options.image_id {
        Some(id) => id.clone(),
        None => session.parameter(&image_parameter(name)).await?,
    };
    let subnets = session.subnets(options.subnet.as_deref()).await?;
    let zones = match session.zones_with(&kind.name).await {
        Err(error) if error.is_absent() => {
            subnets.iter().map(|subnet| subnet.zone.clone()).collect()
        }
        zones => zones?,
    };
    let subnet = subnets
        .iter()
        .find(|subnet| zones.contains(&subnet.zone))
        .ok_or_else(|| {
            Error::new(
                "ec2:DescribeSubnets",
                Kind::Unsupported,
                "no subnet in a zone that offers the type",
            )
        })?;
    let group = session.default_group(&subnet.vpc).await?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds since 1970"
    )]
    let now = unix_seconds() as u64;
    // For an endpoint that launches all the same, and then does not end it.
    let tags = Tags::from([
        (TAG_RUN.to_owned(), "check".to_owned()),
        (TAG_EXPIRES.to_owned(), timestamp(now)),
    ]);
    let user_data = timer::user_data(options.time_to_live);
    let launch = Launch {
        token: "check",
        image: &image,
        instance_type: &kind.name,
        subnet: &subnet.id,
        group: &group.map(|group| group.id).unwrap_or_default(),
        profile: &options.instance_profile,
        public: options.reach == Reach::Public,
        user_data: &user_data,
        tags: &tags,
        disk_gib: options.disk_gib,
        is_burstable: kind.is_burstable,
        dry_run: true,
    };
    match session.launch(&launch).await {
        Err(error) if error.kind == Kind::DryRun => {
            Ok(format!("allowed in {}, with {image}", subnet.zone))
        }
        Err(error) => Err(error),
        Ok(instance) => {
            // An endpoint that does not know dry runs has launched it.
            end_instance(session, &instance.id, Duration::from_secs(20)).await?;
            Err(Error::new(
                "ec2:RunInstances",
                Kind::Answer,
                "the endpoint does not know dry runs",
            ))
        }
    }
}
