//! From nothing to a machine that takes commands and has the image.
//!
//! Owns the order in which things are made, what is tried again and what is not, and writing each down before it is
//! made. Called by the target's `prepare`.

use std::cell::Cell;
use std::net::IpAddr;

use super::super::failure::Failure;
use super::super::ledger::Thing;
use super::super::run::Run;
use super::{
    Measure, Reach, Ssm, TAG_EXPIRES, TAG_OWNER, TAG_RUN, failure, scripts, sealed, timer,
    timestamp, unix_seconds,
};
use crate::aws::ec2::{Instance, InstanceType, Launch, Subnet, Tags};
use crate::aws::{Kind, Poll, Session, Status};

/// The kinds of things in the ledger.
pub(super) const INSTANCE: &str = "ec2-instance";
pub(super) const GROUP: &str = "security-group";
pub(super) const FOLDER: &str = "s3-prefix";
/// What a run has on an instance that stays: container, collector, files.
pub(super) const NODE: &str = "instance-service";

/// Architectures that Amazon Linux is made for.
const ARCHITECTURES: [&str; 2] = ["arm64", "x86_64"];

/// Calls that have no such effect twice: an instance that was just made may not be known to every server yet.
const UNKNOWN_FOR: std::time::Duration = std::time::Duration::from_mins(1);

/// The public parameter that names the newest image with an agent. The `minimal` ones have none.
pub(super) fn image_parameter(architecture: &str) -> String {
    format!("/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}")
}

/// The architecture of an instance type that there is an image for.
pub(super) fn architecture(kind: &InstanceType) -> Result<&'static str, Failure> {
    ARCHITECTURES
        .into_iter()
        .find(|name| kind.architectures.iter().any(|other| other == name))
        .ok_or_else(|| Failure::target(format!("there is no Amazon Linux for {}", kind.name)))
}

impl Ssm {
    pub(super) fn tags(&self, run: &Run) -> Tags {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds since 1970"
        )]
        let now = unix_seconds() as u64;
        Tags::from([
            (TAG_RUN.to_owned(), run.id.clone()),
            (TAG_OWNER.to_owned(), self.options.owner.clone()),
            (
                TAG_EXPIRES.to_owned(),
                timestamp(now + self.options.time_to_live.as_secs()),
            ),
            ("Name".to_owned(), scripts::container(&run.id)),
        ])
    }

    /// A thing with what finding it again needs.
    fn thing(&self, kind: &str, name: &str) -> Thing {
        let region = self
            .session
            .as_ref()
            .map(Session::region)
            .unwrap_or_default();
        let mut thing = Thing::new(kind, name).with("region", region);
        if let Some(profile) = &self.options.session.profile {
            thing = thing.with("profile", profile.as_str());
        }
        thing
    }

    fn plan(&self, run: &Run, kind: &str, name: &str) -> Result<(), Failure> {
        let mut thing = self.thing(kind, name);
        if kind == FOLDER {
            thing = thing.with("bucket", self.options.bucket.as_str());
        }
        if kind == NODE
            && let Some(id) = &self.options.instance_id
        {
            thing = thing.with("id", id.as_str());
        }
        run.ledger
            .plan(thing)
            .map_err(|error| Failure::target(format!("the ledger cannot be written: {error}")))
    }

    /// Credentials and bucket: both are needed by everything else, and neither costs anything to try.
    pub(super) async fn connect(&mut self, run: &Run) -> Result<(), Failure> {
        let step = run.steps.begin("connect", "Connecting to AWS");
        let session = Session::connect(&self.options.session)
            .await
            .map_err(|error| failure(&error))?;
        session
            .check_bucket(&self.options.bucket)
            .await
            .map_err(|error| failure(&error))?;
        step.done("");
        self.session = Some(session);
        let folder = self.folder(run);
        self.plan(run, FOLDER, &folder)
    }

    /// Takes an instance that is there already. Only one of ours is tagged and ended.
    pub(super) async fn reuse(&mut self, run: &Run, id: &str) -> Result<(), Failure> {
        let session = self.session()?;
        let instance = session
            .instance(id)
            .await
            .map_err(|error| failure(&error))?;
        if instance.state != "running" {
            let what = format!("the instance {id} is {}", instance.state);
            return Err(
                Failure::target(what).advise("start it, or leave --instance-id away to launch one")
            );
        }
        let kind = session
            .instance_type(&instance.instance_type)
            .await
            .map_err(|error| failure(&error))?;
        let foreign = !instance.tags.contains_key(TAG_RUN);
        if !foreign {
            session
                .tag(id, &self.tags(run))
                .await
                .map_err(|error| failure(&error))?;
            if !self.options.keep {
                self.plan(run, INSTANCE, &run.id)?;
            }
        }
        if foreign || self.options.keep {
            self.plan(run, NODE, &run.id)?;
        }
        run.steps.note(&format!(
            "Using {id}, {} in {}",
            instance.instance_type, instance.zone
        ));
        self.foreign = foreign;
        self.kind = Some(kind);
        self.instance = Some(instance);
        Ok(())
    }

    /// Launches an instance and waits until it runs.
    pub(super) async fn launch(&mut self, run: &Run) -> Result<(), Failure> {
        let text = format!("Launching {}", self.options.instance_type);
        let step = run.steps.begin("launch", &text);
        let session = self.session()?;
        let fail = |error| failure(&error);
        let kind = session
            .instance_type(&self.options.instance_type)
            .await
            .map_err(fail)?;
        let image = match &self.options.image_id {
            Some(id) => id.clone(),
            None => {
                let name = image_parameter(architecture(&kind)?);
                session.parameter(&name).await.map_err(fail)?
            }
        };
        let subnets = self.subnets(session, &kind).await?;
        let tags = self.tags(run);
        let name = scripts::container(&run.id);
        let vpc = subnets
            .first()
            .map(|subnet| subnet.vpc.clone())
            .unwrap_or_default();
        self.plan(run, GROUP, &name)?;
        self.plan(run, INSTANCE, &run.id)?;
        self.unanswered = true;
        let session = self.session()?;
        let group = match session.make_group(&name, &vpc, &tags).await {
            Ok(group) => group,
            Err(error) => {
                self.unanswered = error.is_transient();
                return Err(failure(&error));
            }
        };
        let user_data = timer::user_data(self.options.time_to_live);
        let unanswered = Cell::new(true);
        let launched = self.launch_somewhere(run, &subnets, &unanswered, |token, subnet| Launch {
            token,
            image: &image,
            instance_type: &self.options.instance_type,
            subnet,
            group: &group,
            profile: &self.options.instance_profile,
            public: self.options.reach == Reach::Public,
            user_data: &user_data,
            tags: &tags,
            disk_gib: self.options.disk_gib,
            is_burstable: kind.is_burstable,
            dry_run: false,
        });
        let launched = launched.await;
        self.unanswered = unanswered.get();
        let instance = launched?;
        let made = self
            .thing(INSTANCE, &run.id)
            .with("id", instance.id.as_str());
        run.ledger
            .made(made)
            .map_err(|error| Failure::target(format!("the ledger cannot be written: {error}")))?;
        step.note(&format!("{} in {}", instance.id, instance.zone));
        let id = instance.id.clone();
        self.kind = Some(kind);
        self.instance = Some(instance);
        let running = self.wait_until_running(&id).await?;
        self.instance = Some(running);
        step.done("It runs");
        Ok(())
    }

    /// Subnets in zones that have the type.
    async fn subnets(
        &self,
        session: &Session,
        kind: &InstanceType,
    ) -> Result<Vec<Subnet>, Failure> {
        let chosen = self.options.subnet.as_deref();
        let subnets = session
            .subnets(chosen)
            .await
            .map_err(|error| failure(&error))?;
        let zones = session
            .zones_with(&kind.name)
            .await
            .map_err(|error| failure(&error))?;
        let fitting: Vec<Subnet> = subnets
            .into_iter()
            .filter(|subnet| zones.contains(&subnet.zone))
            .collect();
        if fitting.is_empty() {
            let what = format!(
                "no subnet lies in a zone that offers {} ({})",
                kind.name,
                zones.join(", ")
            );
            return Err(Failure::target(what).advise("choose another --subnet or --instance-type"));
        }
        Ok(fitting)
    }

    /// Tries one subnet after the other while there is no room; a profile that is not known yet gets time. `unanswered`
    /// tells afterwards whether something may have been launched without our knowing.
    async fn launch_somewhere<'a>(
        &self,
        run: &Run,
        subnets: &'a [Subnet],
        unanswered: &Cell<bool>,
        launch: impl Fn(&'a str, &'a str) -> Launch<'a>,
    ) -> Result<Instance, Failure> {
        let session = self.session()?;
        let mut poll = Poll::within(self.options.patience.profile);
        let mut last = None;
        for subnet in subnets {
            // One token per subnet: the same one with another subnet would be an error.
            let token = format!("{}-{}", run.id, subnet.id);
            loop {
                let mut order = launch("", &subnet.id);
                order.token = &token;
                let answer = session.launch(&order).await;
                unanswered.set(matches!(&answer, Err(error) if error.is_transient()));
                match answer {
                    Ok(instance) => return Ok(instance),
                    Err(error) if error.kind == Kind::NotPropagated => {
                        run.steps
                            .note("The instance profile is not known everywhere yet");
                        if poll
                            .wait(error.action, "the instance profile")
                            .await
                            .is_err()
                        {
                            return Err(failure(&error).advise(
                                "is --instance-profile the name of a profile with a role? `autosizer check` tells",
                            ));
                        }
                    }
                    Err(error) if matches!(error.kind, Kind::NoCapacity | Kind::Unsupported) => {
                        run.steps
                            .note(&format!("{} has no room: {}", subnet.zone, error.code));
                        last = Some(error);
                        break;
                    }
                    Err(error) => return Err(failure(&error)),
                }
            }
        }
        Err(last.map_or_else(
            || Failure::target("there is no subnet"),
            |error| failure(&error),
        ))
    }

    async fn wait_until_running(&self, id: &str) -> Result<Instance, Failure> {
        let session = self.session()?;
        let mut poll = Poll::within(self.options.patience.running);
        loop {
            match session.instance(id).await {
                Ok(instance) if instance.is_gone() => {
                    let what = format!("the instance {id} ended at once: {}", instance.reason);
                    return Err(Failure::target(what));
                }
                Ok(instance)
                    if instance.state == "running" && self.address_of(&instance).is_some() =>
                {
                    return Ok(instance);
                }
                Ok(_) => {}
                Err(error) if error.kind == Kind::NotFound && poll.elapsed() < UNKNOWN_FOR => {}
                Err(error) => return Err(failure(&error)),
            }
            let what = format!("{id} to run and have an address");
            poll.wait("ec2:DescribeInstances", &what).await.map_err(|error| {
                failure(&error).advise("does the subnet give public addresses? --private-address uses the other one")
            })?;
        }
    }

    fn address_of(&self, instance: &Instance) -> Option<IpAddr> {
        match self.options.reach {
            Reach::Public => instance.public_address,
            Reach::Private => instance.private_address,
        }
    }

    pub(super) fn chosen_address(&self) -> Result<IpAddr, Failure> {
        let instance = self.instance()?;
        self.address_of(instance).ok_or_else(|| {
            Failure::target(format!("the instance {} has no such address", instance.id))
                .advise("--private-address uses the private one")
        })
    }

    /// Waits for the agent.
    pub(super) async fn wait_until_registered(&mut self, run: &Run) -> Result<(), Failure> {
        let step = run
            .steps
            .begin("register", "Waiting for the instance's agent");
        let (session, id) = (self.session()?, self.instance()?.id.clone());
        let total = self.options.patience.registered;
        let mut poll = Poll::within(total);
        loop {
            let connected = session
                .is_connected(&id)
                .await
                .map_err(|error| failure(&error))?;
            if connected == Some(true) {
                step.done("");
                return Ok(());
            }
            if let Ok(instance) = session.instance(&id).await
                && instance.is_gone()
            {
                step.failed("The instance has ended");
                let what = format!(
                    "the instance {id} ended before its agent registered: {}",
                    instance.reason
                );
                return Err(Failure::target(what));
            }
            step.progress(
                Some(poll.elapsed().as_secs_f64() / total.as_secs_f64()),
                "not registered yet",
            );
            let what = format!("{id} to register with Systems Manager");
            if let Err(error) = poll.wait("ssm:DescribeInstanceInformation", &what).await {
                step.failed("It does not register");
                return Err(failure(&error).advise(
                    "its role needs AmazonSSMManagedInstanceCore, its subnet a way to the Internet or endpoints of ssm, ssmmessages and ec2messages",
                ));
            }
        }
    }

    /// Timer, firewall, engine and image.
    pub(super) async fn make_ready(&mut self, run: &Run) -> Result<(), Failure> {
        let patience = self.options.patience.clone();
        if self.options.instance_id.is_some() && !self.foreign {
            let script = timer::arm(self.options.time_to_live);
            let outcome = self.step(run, "timer", &script, patience.step).await?;
            if outcome.status != Status::Success {
                let what = format!(
                    "the timer that ends the instance cannot be set: {}",
                    outcome.reason()
                );
                return Err(Failure::target(what));
            }
        }
        self.open_port(run).await?;
        let step = run
            .steps
            .begin("engine", "Waiting for the container engine");
        let mut script = scripts::engine(patience.engine);
        if !run.service.environment.is_empty() {
            script.push_str(&sealed::make_key(&run.id));
        }
        let outcome = self
            .step(run, "engine", &script, patience.engine * 2)
            .await?;
        if outcome.exit_code == Some(sealed::NO_OPENSSL) {
            step.failed("It has no openssl");
            return Err(Failure::target(
                "the instance has no openssl, so the values of --env cannot be sent to it secretly",
            )
            .advise(
                "take an --ami that has it; Systems Manager would keep open values for 30 days",
            ));
        }
        if outcome.status != Status::Success {
            step.failed("It does not answer");
            let what = format!(
                "the container engine of the instance does not answer: {}",
                outcome.reason()
            );
            return Err(Failure::target(what).advise("Docker is installed at the first boot: can the instance reach Amazon's package repositories?"));
        }
        self.key = sealed::PublicKey::read(&outcome.stdout);
        if self.key.is_none() && !run.service.environment.is_empty() {
            step.failed("It has no key");
            return Err(Failure::target(
                "the instance has made no key for the values of --env",
            ));
        }
        step.done("");
        let image = Self::image(run)?;
        self.image_digest = self.pull(run, "pull", image).await?;
        if let Measure::Glances(image) = self.options.measure.clone() {
            self.pull(run, "pull-glances", &image).await?;
        }
        Ok(())
    }

    /// Gets an image onto the instance; its digest.
    async fn pull(
        &mut self,
        run: &Run,
        name: &'static str,
        image: &str,
    ) -> Result<String, Failure> {
        let step = run.steps.begin(name, &format!("Pulling {image}"));
        let outcome = self
            .step(run, name, &scripts::pull(image), self.options.patience.pull)
            .await?;
        if outcome.status != Status::Success {
            // The first complaint is the registry's, the last one is that it is not there either.
            let complaint = outcome
                .stderr
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default();
            let (what, advice) = scripts::explain(image, run.service.port, complaint);
            step.failed(&what);
            return Err(Failure::target(what).advise(advice));
        }
        step.done("");
        Ok(outcome.stdout.trim().to_owned())
    }

    /// Lets this machine in to the service's port, through a group of ours.
    async fn open_port(&mut self, run: &Run) -> Result<(), Failure> {
        if self.foreign {
            return Ok(());
        }
        let session = self.session()?;
        let address = self.chosen_address()?;
        let groups = self.instance()?.groups.clone();
        let cidr = match &self.options.allow_from {
            Some(cidr) => cidr.clone(),
            None => {
                let private = self.options.reach == Reach::Private;
                let own = session
                    .own_address(address, private)
                    .await
                    .map_err(|error| failure(&error))?;
                format!("{own}/{}", if own.is_ipv4() { 32 } else { 128 })
            }
        };
        let ours = session
            .groups("tag-key", &[TAG_RUN])
            .await
            .map_err(|error| failure(&error))?;
        let Some(group) = ours.iter().find(|group| groups.contains(&group.id)) else {
            run.steps
                .note("No security group of the instance is ours: its port has to be open already");
            return Ok(());
        };
        session
            .let_in(&group.id, run.service.port, &cidr)
            .await
            .map_err(|error| failure(&error))
    }
}
