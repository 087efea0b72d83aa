//! From nothing to a machine that takes commands and has the image.
//!
//! Owns the order in which things are made, what is tried again and what is not, and writing each down before it is
//! made. Called by the target's `prepare`.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;

use super::super::failure::Failure;
use super::super::ledger::Thing;
use super::super::run::Run;
use super::{
    Measure, Reach, Ssm, TAG_EXPIRES, TAG_OWNER, TAG_RUN, failure, scripts, sealed, timer,
    timestamp, unix_seconds,
};
use crate::aws::ec2::{Instance, InstanceType, Launch, Subnet, Tags};
use crate::aws::{self, Kind, Poll, Session, Status};

/// The kinds of things in the ledger.
pub(super) const INSTANCE: &str = "ec2-instance";
pub(super) const GROUP: &str = "security-group";
pub(super) const FOLDER: &str = "s3-prefix";
/// What a run has on an instance that stays: container, collector, files.
pub(super) const NODE: &str = "instance-service";

/// Architectures that Amazon Linux is made for.
const ARCHITECTURES: [&str; 2] = ["arm64", "x86_64"];

/// What was just made may not be known to every server yet.
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

/// Whether the call that failed may have made something all the same.
fn may_have_worked(error: &aws::Error) -> bool {
    error.is_transient() || error.kind == Kind::Answer
}

fn no_ledger(error: &io::Error) -> Failure {
    Failure::target(format!("the ledger cannot be written: {error}"))
}

/// Tells that something was done without.
fn without(run: &Run, error: &aws::Error, what: &str) {
    run.steps.note(&format!("{what}: {error}"));
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
        if matches!(kind, NODE | INSTANCE)
            && let Some(id) = &self.options.instance_id
        {
            thing = thing.with("id", id.as_str());
        }
        run.ledger.plan(thing).map_err(|error| no_ledger(&error))
    }

    /// Writes down the id of what was made.
    fn made(&self, run: &Run, kind: &str, name: &str, id: &str) -> Result<(), Failure> {
        let made = self.thing(kind, name).with("id", id);
        run.ledger.made(made).map_err(|error| no_ledger(&error))
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
        let kind = kind(run, session, &instance.instance_type).await?;
        let foreign = !instance.tags.contains_key(TAG_RUN);
        run.steps.note(&format!(
            "Using {id}, {} in {}",
            instance.instance_type, instance.zone
        ));
        // Known before anything is done with it: what is to stay must stay whatever interrupts this.
        self.foreign = foreign;
        self.kind = Some(kind);
        self.instance = Some(instance);
        // Written down first: from the new tag on it is this run's to end.
        if foreign || self.options.keep {
            self.plan(run, NODE, &run.id)?;
        } else {
            self.plan(run, INSTANCE, &run.id)?;
        }
        if !foreign {
            self.mark(run, id).await?;
        }
        Ok(())
    }

    /// Puts our tags on what may be found again without them too.
    async fn mark(&self, run: &Run, id: &str) -> Result<(), Failure> {
        match self.session()?.tag(id, &self.tags(run)).await {
            Err(error) if error.kind == Kind::NotOffered => {
                without(
                    run,
                    &error,
                    "Only the ledger of this run knows what it has made",
                );
                Ok(())
            }
            marked => marked.map_err(|error| failure(&error)),
        }
    }

    /// Launches an instance and waits until it runs.
    pub(super) async fn launch(&mut self, run: &Run) -> Result<(), Failure> {
        let text = format!("Launching {}", self.options.instance_type);
        let step = run.steps.begin("launch", &text);
        let session = self.session()?;
        let kind = kind(run, session, &self.options.instance_type).await?;
        let image = match &self.options.image_id {
            Some(id) => id.clone(),
            None => {
                let name = image_parameter(architecture(&kind)?);
                let found = session.parameter(&name).await;
                found.map_err(|error| {
                    failure(&error).advise("--ami names an image without asking for the newest")
                })?
            }
        };
        let subnets = self.subnets(run, session, &kind).await?;
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
                self.unanswered = may_have_worked(&error);
                return Err(failure(&error));
            }
        };
        self.group = Some(group.id.clone());
        self.made(run, GROUP, &name, &group.id)?;
        if !group.tags.contains_key(TAG_RUN) {
            self.mark(run, &group.id).await?;
        }
        let user_data = timer::user_data(self.options.time_to_live);
        let unanswered = Cell::new(true);
        let launched = self.launch_somewhere(run, &subnets, &unanswered, |token, subnet| Launch {
            token,
            image: &image,
            instance_type: &self.options.instance_type,
            subnet,
            group: &group.id,
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
        step.note(&format!("{} in {}", instance.id, instance.zone));
        let (id, is_marked) = (instance.id.clone(), instance.tags.contains_key(TAG_RUN));
        self.kind = Some(kind);
        self.instance = Some(instance);
        self.made(run, INSTANCE, &run.id, &id)?;
        if !is_marked {
            self.mark(run, &id).await?;
        }
        let running = self.wait_until_running(&id).await?;
        if self.options.reach == Reach::Public && running.public_address.is_none() {
            run.steps.note(&format!(
                "{id} has no public address: its private one is used"
            ));
            self.options.reach = Reach::Private;
        }
        self.instance = Some(running);
        step.done("It runs");
        Ok(())
    }

    /// Subnets in zones that have the type; where none can be asked for, the choice is EC2's.
    async fn subnets(
        &self,
        run: &Run,
        session: &Session,
        kind: &InstanceType,
    ) -> Result<Vec<Subnet>, Failure> {
        let chosen = self.options.subnet.as_deref();
        let subnets = match session.subnets(chosen).await {
            Err(error) if error.is_absent() => {
                without(run, &error, "The subnet is not looked at");
                let id = chosen.unwrap_or_default().to_owned();
                return Ok(vec![Subnet {
                    id,
                    ..Subnet::default()
                }]);
            }
            subnets => subnets.map_err(|error| failure(&error))?,
        };
        let zones = match session.zones_with(&kind.name).await {
            Err(error) if error.is_absent() => {
                without(run, &error, "Every zone is taken to have the type");
                return Ok(subnets);
            }
            zones => zones.map_err(|error| failure(&error))?,
        };
        // The type is there, as was told before: it is offered somewhere.
        if zones.is_empty() {
            run.steps
                .note("Which zones have the type is not told: every one is taken to");
            return Ok(subnets);
        }
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
                unanswered.set(answer.as_ref().is_err_and(may_have_worked));
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
                    // The group was made a moment ago.
                    Err(error)
                        if error.code.starts_with("InvalidGroup")
                            && error.kind == Kind::NotFound
                            && poll.elapsed() < UNKNOWN_FOR =>
                    {
                        poll.wait(error.action, "the security group")
                            .await
                            .map_err(|_| failure(&error))?;
                    }
                    Err(error) if matches!(error.kind, Kind::NoCapacity | Kind::Unsupported) => {
                        let zone = if subnet.zone.is_empty() {
                            "EC2"
                        } else {
                            &subnet.zone
                        };
                        run.steps
                            .note(&format!("{zone} has no room: {}", error.code));
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
        let mut runs_since = None;
        loop {
            match session.instance(id).await {
                Ok(instance) if instance.is_gone() => {
                    let what = format!("the instance {id} ended at once: {}", instance.reason);
                    return Err(Failure::target(what));
                }
                Ok(instance) if instance.state == "running" => {
                    let since = *runs_since.get_or_insert(poll.elapsed());
                    // A public address comes with the instance or never.
                    let waited = poll.elapsed().saturating_sub(since);
                    let is_late = waited >= self.options.patience.address;
                    let has_any = is_late && instance.private_address.is_some();
                    if has_any || self.address_of(&instance).is_some() {
                        return Ok(instance);
                    }
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
            match session.is_connected(&id).await {
                Ok(Some(true)) => {
                    step.done("");
                    return Ok(());
                }
                Ok(_) => {}
                // Whether it takes commands shows when one is sent.
                Err(error) if error.kind == Kind::NotOffered => {
                    without(run, &error, "Which agents are connected is not told");
                    step.done("");
                    self.is_blind = true;
                    return Ok(());
                }
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(failure(&error)),
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
            let script = timer::arm_again(self.options.time_to_live);
            let outcome = self.step(run, "timer", &script, patience.step).await?;
            if outcome.exit_code == Some(timer::NO_SYSTEMD) {
                run.steps.note(
                    "The instance has no systemd and cannot end itself: `autosizer gc` ends it when its time is over",
                );
            } else if outcome.status != Status::Success {
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
        let mut script = scripts::engine(patience.engine, self.foreign);
        if !run.service.environment.is_empty() {
            script.push_str(&sealed::make_key(&run.id, self.foreign));
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
        let script = scripts::pull(&run.id, image, self.foreign);
        let limit = self.options.patience.pull;
        let outcome = self.step(run, name, &script, limit).await?;
        if outcome.status != Status::Success {
            // The first complaint is the registry's, the last one is that it is not there either.
            let complaint = outcome
                .stderr
                .lines()
                .find(|line| !line.trim().is_empty())
                .map_or_else(|| outcome.reason(), str::to_owned);
            let (what, advice) = scripts::explain(image, run.service.port, &complaint);
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
        let group = match &self.group {
            Some(group) => group.clone(),
            None => {
                let ours = session.groups(TAG_RUN, None).await;
                let ours = ours.map_err(|error| failure(&error))?;
                let Some(group) = ours.into_iter().find(|group| groups.contains(&group.id)) else {
                    run.steps.note(
                        "No security group of the instance is ours: its port has to be open already",
                    );
                    return Ok(());
                };
                group.id
            }
        };
        match session.let_in(&group, run.service.port, &cidr).await {
            Err(error) if error.kind == Kind::NotOffered => {
                without(run, &error, "The port has to be open already");
                Ok(())
            }
            opened => opened.map_err(|error| failure(&error)),
        }
    }
}

/// What the type is; an endpoint that tells nothing of types has at least their names.
async fn kind(run: &Run, session: &Session, name: &str) -> Result<InstanceType, Failure> {
    match session.instance_type(name).await {
        Err(error) if error.is_absent() => {
            without(run, &error, "Of the type only its name is known");
            Ok(InstanceType::of_name(name))
        }
        kind => kind.map_err(|error| failure(&error)),
    }
}
