//! `container`: the service is a container of Docker or Podman on this machine.
//!
//! Owns pulling the image, the container with its limits, variables and port (published on 127.0.0.1 only, a free one),
//! its log and exit state, and removing it. The load's own monitor measures it. Every container has a name and a label
//! made of the run's id, known before it is created: that is how `autosizer gc` finds what a crash left. Called by the
//! flow.

mod engine;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, PortBinding};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};
use futures_util::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::engine::{Engine, failure, message, status};
use super::failure::Failure;
use super::ledger::{Thing, start_ticks};
use super::run::Run;
use super::steps::Step;
use super::target::{Address, Collector, Ended, Metrics, ServiceState, Target, kills_so_far};
use crate::monitor::Source;

/// The label whose value is the run's id.
const LABEL: &str = "molotov.autosizer.run";
/// The label that says which process owns it: its pid and its start in clock ticks since boot.
const OWNER: &str = "molotov.autosizer.owner";
/// The engine is not asked for the container's state more often than this.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// An answer that cannot be read is asked for again after this, for at most that long.
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ENDED_WITHIN: Duration = Duration::from_secs(10);
/// A request to create it goes on when the user asks to stop: its end is waited for, or what it makes would be left.
const CREATED_WITHIN: Duration = Duration::from_mins(2);
/// What the shell makes of SIGKILL.
const KILLED: i32 = 137;
/// Removing goes on in the background when the engine is busy.
const REMOVED_WITHIN: Duration = Duration::from_secs(30);

/// A container on this machine.
#[derive(Default)]
pub struct Container {
    engine: Option<Engine>,
    name: String,
    /// Whether it may be there.
    creating: bool,
    /// The request to create it, until it is answered.
    creation: Option<JoinHandle<Result<(), Error>>>,
    /// Kills for lack of memory on this machine before it was started.
    kills: Option<u64>,
    asked: Option<(Instant, ServiceState)>,
    facts: BTreeMap<String, String>,
}

impl Container {
    fn engine(&self) -> Result<&Engine, Failure> {
        self.engine
            .as_ref()
            .ok_or_else(|| Failure::target("no container engine"))
    }

    async fn pull(engine: &Engine, image: &str, run: &Run) -> Result<(), Failure> {
        let step = run.steps.begin("pull", &format!("Pulling {image}"));
        // Without a tag the API would pull all of them.
        let name = image.rsplit('/').next().unwrap_or(image);
        let whole = if name.contains([':', '@']) {
            image.to_owned()
        } else {
            format!("{image}:latest")
        };
        let options = CreateImageOptionsBuilder::new().from_image(&whole).build();
        let mut stream = engine.docker.create_image(Some(options), None, None);
        let mut layers: HashMap<String, (i64, i64)> = HashMap::new();
        let doing = format!("pull {image}");
        while let Some(item) = stream.next().await {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    step.failed("Not pulled");
                    return Err(failure(&doing, &error));
                }
            };
            if let Some(error) = item.error_detail {
                step.failed("Not pulled");
                let error = Error::DockerStreamError {
                    error: error.message.unwrap_or_default(),
                };
                return Err(failure(&doing, &error));
            }
            let detail = item
                .progress_detail
                .and_then(|d| Some((d.current?, d.total?)));
            if let (Some(id), Some(detail)) = (item.id, detail) {
                layers.insert(id, detail);
                show_progress(&step, &layers);
            }
        }
        step.done("Pulled");
        Ok(())
    }

    async fn check_image(&mut self, image: &str, run: &Run) -> Result<(), Failure> {
        let engine = self.engine()?.clone();
        let found = match engine.docker.inspect_image(image).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => {
                Self::pull(&engine, image, run).await?;
                let again = engine.docker.inspect_image(image).await;
                again.map_err(|error| failure(&format!("use {image}"), &error))?
            }
            Err(error) => return Err(failure(&format!("look for {image}"), &error)),
        };
        let version = engine.docker.version().await;
        let version = version.map_err(|error| failure("ask the engine for its version", &error))?;
        if let Some(name) = version.version {
            self.facts.insert("engine_version".to_owned(), name);
        }
        if let (Some(image_for), Some(machine)) = (&found.architecture, &version.arch)
            && !image_for.is_empty()
            && image_for != machine
        {
            return Err(Failure::target(format!(
                "the image {image} is for {image_for}, this engine runs {machine}"
            ))
            .advise("choose an image for this architecture, or another machine"));
        }
        let digests = found.repo_digests.unwrap_or_default();
        if let Some(digest) = digests.into_iter().next().or(found.id) {
            self.facts.insert("image_digest".to_owned(), digest);
        }
        Ok(())
    }

    fn body(&self, run: &Run) -> ContainerCreateBody {
        let service = &run.service;
        let port = format!("{}/tcp", service.port);
        let binding = PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            // The engine chooses a free one.
            host_port: Some(String::new()),
        };
        let memory = service
            .limits
            .memory_bytes
            .and_then(|bytes| i64::try_from(bytes).ok());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be below a million cores when it was read"
        )]
        let nano_cpus = service.limits.cpus.map(|cpus| (cpus * 1e9) as i64);
        let environment = service.environment.iter();
        ContainerCreateBody {
            image: service.image.clone(),
            cmd: (!service.command.is_empty()).then(|| service.command.clone()),
            env: Some(
                environment
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            working_dir: service
                .directory
                .as_ref()
                .map(|path| path.display().to_string()),
            exposed_ports: Some(vec![port.clone()]),
            labels: Some(HashMap::from([
                (LABEL.to_owned(), run.id.clone()),
                (OWNER.to_owned(), owner()),
            ])),
            host_config: Some(HostConfig {
                port_bindings: Some(HashMap::from([(port, Some(vec![binding]))])),
                nano_cpus,
                memory,
                // No swap on top: the limit would move the service there instead of showing what it needs.
                memory_swap: memory,
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    async fn ask_state(&self) -> Result<ServiceState, Failure> {
        let engine = self.engine()?;
        let state = match inspect(engine, &self.name).await {
            Ok(answer) => answer.state.unwrap_or_default(),
            // Somebody else removed it.
            Err(error) if status(&error) == Some(404) => {
                return Ok(ServiceState::Ended(Ended::default()));
            }
            Err(error) => return Err(failure("ask for the container's state", &error)),
        };
        if state.running == Some(true) {
            return Ok(ServiceState::Running);
        }
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
        Ok(ServiceState::Ended(Ended {
            exit_code: code,
            signal: None,
            // Podman does not tell under version 1 of control groups.
            out_of_memory: state.oom_killed == Some(true)
                || (code == Some(KILLED) && kills_so_far() > self.kills),
            disk_full: false,
        }))
    }
}

/// What the engine knows of a container. For a moment after its end Podman calls it `stopped`, a word that Docker's API
/// does not have and the client cannot read; then it is `exited`.
async fn inspect(engine: &Engine, name: &str) -> Result<ContainerInspectResponse, Error> {
    let until = Instant::now() + ENDED_WITHIN;
    loop {
        let answer = engine
            .docker
            .inspect_container(name, None::<InspectContainerOptions>)
            .await;
        match answer {
            Err(Error::JsonDataError { .. }) if Instant::now() < until => sleep(ASK_AGAIN).await,
            answer => return answer,
        }
    }
}

fn owner() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", start_ticks(pid).unwrap_or(0))
}

/// Whether the process that a label names still runs.
fn lives(owner: &str) -> bool {
    let parts = owner.split_once(':');
    let parts = parts.and_then(|(pid, ticks)| Some((pid.parse().ok()?, ticks.parse().ok()?)));
    parts.is_some_and(|(pid, ticks): (u32, u64)| start_ticks(pid) == Some(ticks))
}

fn show_progress(step: &Step, layers: &HashMap<String, (i64, i64)>) {
    let (done, total) = layers
        .values()
        .fold((0, 0), |(done, total), (d, t)| (done + d, total + t));
    let mebibytes = |bytes: i64| bytes as f64 / 1024.0 / 1024.0;
    let ratio = (total > 0).then(|| done as f64 / total as f64);
    step.progress(
        ratio,
        &format!("{:.1} of {:.1} MiB", mebibytes(done), mebibytes(total)),
    );
}

impl Target for Container {
    fn name(&self) -> &'static str {
        "container"
    }

    async fn prepare(&mut self, run: &Run) -> Result<(), Failure> {
        let Some(image) = &run.service.image else {
            return Err(Failure::configuration("no image").advise("--image NAME says which"));
        };
        let engine = Engine::find().await?;
        self.facts
            .insert("engine".to_owned(), engine.address.clone());
        self.engine = Some(engine);
        self.check_image(image, run).await
    }

    async fn start(&mut self, run: &Run) -> Result<(), Failure> {
        let engine = self.engine()?.clone();
        let image = run.service.image.as_deref().unwrap_or_default();
        let step = run
            .steps
            .begin("start", &format!("Starting a container of {image}"));
        self.name = format!("molotov-{}", run.id);
        run.ledger
            .plan(Thing::new("container", self.name.clone()).with("engine", &engine.address))
            .map_err(|error| Failure::target(format!("cannot write the ledger: {error}")))?;
        let options = CreateContainerOptionsBuilder::new()
            .name(&self.name)
            .build();
        self.creating = true;
        self.kills = kills_so_far();
        let (docker, body) = (engine.docker.clone(), self.body(run));
        let creation = self.creation.insert(tokio::spawn(async move {
            docker.create_container(Some(options), body).await.map(drop)
        }));
        let created = creation.await;
        self.creation = None;
        let doing = format!("create a container of {image}");
        let created =
            created.map_err(|error| Failure::target(format!("cannot {doing}: {error}")))?;
        if let Err(error) = created {
            step.failed("Not created");
            return Err(failure(&doing, &error));
        }
        let started = engine
            .docker
            .start_container(&self.name, None::<StartContainerOptions>)
            .await;
        if let Err(error) = started {
            step.failed("Not started");
            return Err(failure(&format!("start the container of {image}"), &error));
        }
        step.done(&format!("Started as {}", self.name));
        Ok(())
    }

    async fn address(&mut self, run: &Run) -> Result<Address, Failure> {
        let engine = self.engine()?;
        let answer = inspect(engine, &self.name)
            .await
            .map_err(|error| failure("ask for the container's port", &error))?;
        let wanted = format!("{}/tcp", run.service.port);
        let ports = answer.network_settings.and_then(|settings| settings.ports);
        let bindings = ports.and_then(|mut ports| ports.remove(&wanted).flatten());
        let port = bindings
            .into_iter()
            .flatten()
            .find_map(|binding| binding.host_port?.parse().ok());
        // A container that has ended has no ports any more: the probe tells how it ended.
        Ok(Address {
            host: "127.0.0.1".to_owned(),
            port: port.unwrap_or(run.service.port),
        })
    }

    async fn state(&mut self, _run: &Run) -> Result<ServiceState, Failure> {
        if self.name.is_empty() {
            return Ok(ServiceState::NotStarted);
        }
        if let Some((at, state)) = &self.asked
            && (at.elapsed() < ASK_EVERY || matches!(state, ServiceState::Ended(_)))
        {
            return Ok(state.clone());
        }
        let state = self.ask_state().await?;
        self.asked = Some((Instant::now(), state.clone()));
        Ok(state)
    }

    async fn log(&mut self, run: &Run, lines: usize) -> Result<Vec<String>, Failure> {
        let engine = self.engine()?;
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let mut stream = Box::pin(engine.docker.logs(&self.name, Some(options)));
        let mut bytes = Vec::new();
        while let Some(item) = stream.next().await {
            let item = item.map_err(|error| failure("read the container's log", &error))?;
            bytes.extend_from_slice(&item.into_bytes());
        }
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        let last = all
            .get(all.len().saturating_sub(lines)..)
            .unwrap_or_default();
        Ok(last.iter().map(|line| run.steps.hide(line)).collect())
    }

    async fn start_collector(&mut self, _run: &Run) -> Result<Collector, Failure> {
        if self.engine()?.address.starts_with("unix://") {
            let source = Source::Container(self.name.clone());
            self.facts
                .insert("measured_by".to_owned(), source.to_string());
            return Ok(Collector::Load(source));
        }
        Ok(Collector::None(
            "the monitor reaches an engine by its unix socket only".to_owned(),
        ))
    }

    async fn stop_collector(&mut self, _run: &Run) -> Result<Metrics, Failure> {
        Ok(Metrics::default())
    }

    async fn clean_up(&mut self, run: &Run) -> Result<(), Failure> {
        if !self.creating {
            return Ok(());
        }
        let step = run.steps.begin("remove", "Removing the container");
        if let Some(path) = &run.service.log_file {
            let lines = self.log(run, usize::MAX >> 1).await.unwrap_or_default();
            if let Err(error) = std::fs::write(path, lines.join("\n") + "\n") {
                step.note(&format!("Cannot write {}: {error}", path.display()));
            }
        }
        if let Some(creation) = self.creation.take() {
            let _ = timeout(CREATED_WITHIN, creation).await;
        }
        let engine = self.engine()?;
        match remove_by_name(engine, &self.name).await {
            Ok(()) => {
                step.done("Removed");
                run.ledger.removed("container", &self.name);
                self.creating = false;
                Ok(())
            }
            Err(failure) => {
                step.failed("Not removed");
                Err(failure)
            }
        }
    }

    fn facts(&self) -> BTreeMap<String, String> {
        self.facts.clone()
    }
}

/// Removes it with its volumes, running or not.
async fn remove_by_name(engine: &Engine, name: &str) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match engine.docker.remove_container(name, Some(options)).await {
            Ok(()) => return Ok(()),
            Err(error) if status(&error) == Some(404) => return Ok(()),
            // Busy: being created, or being removed already.
            Err(error)
                if matches!(status(&error), Some(409 | 500))
                    && began.elapsed() < REMOVED_WITHIN => {}
            Err(error) => {
                let what = format!("cannot remove the container {name}: {}", message(&error));
                return Err(Failure::target(what));
            }
        }
        sleep(ASK_EVERY).await;
    }
}

/// Removes what a crashed run has left; `None` when the thing is no container.
pub(super) async fn remove(thing: &Thing) -> Option<Result<(), Failure>> {
    if thing.kind != "container" {
        return None;
    }
    let address = thing.details.get("engine")?;
    Some(match Engine::at(address).await {
        Ok(engine) => remove_by_name(&engine, &thing.name).await,
        Err(failure) => Err(failure),
    })
}

/// Containers that carry the label and whose owner has ended. None when no engine answers.
pub(super) async fn labelled() -> Vec<Thing> {
    let Ok(engine) = Engine::find().await else {
        return Vec::new();
    };
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let found = engine
        .docker
        .list_containers(Some(options))
        .await
        .unwrap_or_default();
    let name_of = |names: Option<Vec<String>>| {
        let first = names?.into_iter().next()?;
        Some(first.trim_start_matches('/').to_owned())
    };
    found
        .into_iter()
        .filter_map(|container| {
            let mut labels = container.labels.unwrap_or_default();
            if labels.get(OWNER).is_some_and(|owner| lives(owner)) {
                return None;
            }
            let run = labels.remove(LABEL);
            let thing = Thing::new("container", name_of(container.names)?)
                .with("engine", &engine.address)
                .with("run", run.unwrap_or_default());
            Some(thing)
        })
        .collect()
}
