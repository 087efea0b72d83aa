//! `--on ssm`: an EC2 instance, driven by Run Command and nothing else: no key, no port but the service's.
//!
//! Owns the target's options and its steps. Three things end what was started, each without the others: cleaning up at
//! the end of the run, the machine itself after its time to live, and [`sweep`] for what a crash left.
//!
//! | file | owns |
//! |---|---|
//! | `launch` | from nothing to a machine that takes commands |
//! | `node` | one step on the machine, and noticing that it is gone |
//! | `scripts` | the texts that the machine gets |
//! | `sealed` | the values of variables, so that only the machine can read them |
//! | `glances` | measuring by a Glances container instead of our own collector |
//! | `timer` | the end that the machine makes of itself |
//! | `clean` | ending all of it at the end of a run |
//! | `ending` | ending what is in EC2, and seeing that it ends |
//! | `sweep` | `autosizer gc` and `autosizer list` |
//! | `check` | `autosizer check` |
//! | `options` | from the texts of options to what the target takes |
//! | `account` | the texts of the commands that look at the account |
//!
//! Called by the flow through [`Target`]; made by the composition root.

mod account;
mod check;
mod clean;
mod ending;
mod glances;
mod launch;
mod node;
mod options;
mod scripts;
mod sealed;
mod sweep;
mod timer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

pub use self::account::{Command, account};
pub use self::check::{Finding, check};
pub use self::options::{Measure, Options, Patience, Reach};
pub use self::sweep::{Left, Over, list, remove, sweep};
use super::failure::Failure;
use super::prices::Price;
use super::run::{Run, date_of};
use super::target::{Address, Collector, Ended, Metrics, ServiceState, Target, Watched};
use crate::aws::ec2::{Instance, InstanceType};
use crate::aws::{self, Session, Status};
use crate::monitor::{SERVICE, remote_history};

/// The tag by which everything of ours is found; its value is the run's id.
pub const TAG_RUN: &str = "sizer:run";
/// Whose it is.
pub const TAG_OWNER: &str = "sizer:owner";
/// When `autosizer gc` may end it, `2026-11-25T23:59:59Z`.
pub const TAG_EXPIRES: &str = "sizer:expires-at";

/// The Pricing API to answer.
const PRICE_WITHIN: Duration = Duration::from_secs(15);
/// The state of a service that was looked at this long ago is still told.
const STATE_FOR: Duration = Duration::from_secs(3);

/// The target.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about the instance, any of which may hold with any other"
)]
pub struct Ssm {
    options: Options,
    session: Option<Session>,
    kind: Option<InstanceType>,
    instance: Option<Instance>,
    /// Whether the instance is somebody else's, which we neither tag nor end.
    foreign: bool,
    /// Whether the instance may have taken a command of ours.
    commanded: bool,
    /// Whether the instance did not answer the last time.
    lost: bool,
    /// Whether nobody tells which agents are connected.
    is_blind: bool,
    /// Whether things were asked for of which it is not known whether they were made.
    unanswered: bool,
    /// The security group that this run has made.
    group: Option<String>,
    /// The commands whose output has to be in the bucket, now or soon.
    outputs: BTreeSet<String>,
    /// Whether the bucket takes nothing of the instance.
    refused: bool,
    /// Whether the service's container may be there.
    started: bool,
    /// The key for the values of the service's variables.
    key: Option<sealed::PublicKey>,
    /// File systems of the instance that were found full.
    full: Vec<String>,
    image_digest: String,
    /// Numbers the steps that may be taken again.
    steps: u32,
    state: Option<(Instant, ServiceState)>,
    /// Our clock when the collector's machine told its own: earliest and latest, and what it told.
    clock: Option<(f64, f64, f64)>,
}

impl Ssm {
    /// Nothing is called yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            session: None,
            kind: None,
            instance: None,
            foreign: false,
            commanded: false,
            lost: false,
            is_blind: false,
            unanswered: false,
            group: None,
            outputs: BTreeSet::new(),
            refused: false,
            started: false,
            key: None,
            full: Vec::new(),
            image_digest: String::new(),
            steps: 0,
            state: None,
            clock: None,
        }
    }

    fn image(run: &Run) -> Result<&str, Failure> {
        run.service.image.as_deref().ok_or_else(|| {
            Failure::configuration("--on ssm needs an --image: the service runs in a container")
        })
    }

    /// Tells of full file systems, once.
    fn note_full(&mut self, run: &Run, stderr: &str) {
        for place in scripts::read_full(stderr) {
            if !self.full.contains(&place) {
                run.steps
                    .note(&format!("The instance has no room left on {place}"));
                self.full.push(place);
            }
        }
    }

    /// Writes the service's log to the file that was asked for, without what must not be written.
    async fn keep_log(&mut self, run: &Run) {
        // Nothing is waited for while things run that cost money.
        let is_there = self.started && !self.lost;
        let Some(path) = run.service.log_file.clone().filter(|_| is_there) else {
            return;
        };
        let step = run.steps.begin("service-log", "Fetching the service's log");
        let log = match self
            .output(run, "service-log", &scripts::whole_log(&run.id))
            .await
        {
            Ok(outcome) => outcome.stdout,
            Err(failure) => {
                step.failed(&failure.what);
                return;
            }
        };
        if let Err(error) = std::fs::write(&path, run.steps.hide(&log)) {
            step.failed(&format!("Cannot write {}: {error}", path.display()));
            return;
        }
        if log.len() >= scripts::LONGEST_LOG {
            let mebibytes = scripts::LONGEST_LOG >> 20;
            step.note(&format!("Only its last {mebibytes} MiB are kept"));
        }
        step.done("");
    }

    /// What has to be added to the machine's clock to get ours; none while it lies within what can be told.
    fn clock_offset(&self) -> f64 {
        let Some((earliest, latest, told)) = self.clock else {
            return 0.0;
        };
        if told < earliest {
            earliest - told
        } else if told > latest {
            latest - told
        } else {
            0.0
        }
    }
}

/// The rows of our own collector.
fn own_metrics(text: &str) -> Metrics {
    let remote = remote_history(text);
    let watched = |label: &str, samples| Watched {
        label: label.to_owned(),
        samples,
    };
    Metrics {
        watched: vec![
            watched(SERVICE, remote.service),
            watched("host", remote.host),
        ],
        notes: remote.notes,
    }
}

/// What the row's instance type costs by the Pricing API; `None` when that is not known.
pub async fn price(options: &Options) -> Option<Price> {
    let asked = async {
        let session = Session::connect(&options.session).await.ok()?;
        let price = session.price(&options.instance_type).await.ok()??;
        Some((session, price))
    };
    // Not worth more waiting: nobody can interrupt it yet.
    let (session, price) = tokio::time::timeout(PRICE_WITHIN, asked).await.ok()??;
    Some(Price {
        per_hour: price.usd_per_hour,
        currency: "USD".to_owned(),
        source: format!("AWS Pricing API, on demand, Linux, {}", session.region()),
        date: price.date.chars().take(10).collect(),
    })
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// `2026-11-25T23:59:59Z`: times of the same form sort as texts.
fn timestamp(unix_seconds: u64) -> String {
    let (year, month, day) = date_of(unix_seconds / 86_400);
    let time = unix_seconds % 86_400;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// An error of AWS as a failure of the run.
fn failure(error: &aws::Error) -> Failure {
    let advice = match error.kind {
        aws::Kind::Denied => {
            "`autosizer iam-policy` prints the whole policy, `autosizer check` tries it"
        }
        aws::Kind::Throttled => {
            "other programs use up the account's allowance of calls; try again later"
        }
        aws::Kind::NoAnswer => "check the network and AWS_ENDPOINT_URL",
        _ => "",
    };
    Failure::target(error.to_string()).advise(advice)
}

impl Target for Ssm {
    fn name(&self) -> &'static str {
        "ssm"
    }

    async fn prepare(&mut self, run: &Run) -> Result<(), Failure> {
        Self::image(run)?;
        let names = run.service.environment.keys();
        if let Some(name) = names.into_iter().find(|name| !sealed::is_name(name)) {
            return Err(
                Failure::configuration(format!("--env {name:?}: no shell can set that"))
                    .advise("names are of letters, digits and underscores"),
            );
        }
        self.connect(run).await?;
        match self.options.instance_id.clone() {
            Some(id) => self.reuse(run, &id).await?,
            None => self.launch(run).await?,
        }
        self.wait_until_registered(run).await?;
        // Large, because the futures of the SDK are.
        Box::pin(self.make_ready(run)).await
    }

    async fn start(&mut self, run: &Run) -> Result<(), Failure> {
        let image = Self::image(run)?;
        let step = run.steps.begin("start", &format!("Starting {image}"));
        let values = match self.key {
            Some(key) => sealed::export(&run.id, key, &run.service.environment)?,
            None => String::new(),
        };
        let script = scripts::start(&run.id, &run.service, image, &values);
        self.started = true;
        let outcome = self
            .step(run, "start", &script, self.options.patience.step)
            .await?;
        if outcome.status != Status::Success {
            let complaint = run.steps.hide(&outcome.reason());
            let (what, advice) = scripts::explain(image, run.service.port, &complaint);
            step.failed(&what);
            return Err(Failure::service(what).advise(advice));
        }
        step.done("");
        Ok(())
    }

    async fn address(&mut self, run: &Run) -> Result<Address, Failure> {
        let address = self.chosen_address()?;
        Ok(Address {
            host: address.to_string(),
            port: run.service.port,
        })
    }

    async fn state(&mut self, run: &Run) -> Result<ServiceState, Failure> {
        if let Some((at, state)) = &self.state
            && at.elapsed() < STATE_FOR
        {
            return Ok(state.clone());
        }
        let script = scripts::state(&run.id);
        let (_, outcome) = self.look(run, "state", &script).await?;
        let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
        let state = match words.as_slice() {
            ["true", ..] => ServiceState::Running,
            ["false", code, killed] => ServiceState::Ended(Ended {
                exit_code: code.parse().ok(),
                signal: None,
                out_of_memory: *killed == "true",
                disk_full: !scripts::read_full(&outcome.stderr).is_empty(),
            }),
            _ if outcome.status == Status::Failed => ServiceState::NotStarted,
            _ => {
                let what = format!(
                    "the state of the service is not known: {}",
                    outcome.reason()
                );
                return Err(Failure::target(what));
            }
        };
        self.note_full(run, &outcome.stderr);
        self.state = Some((Instant::now(), state.clone()));
        Ok(state)
    }

    async fn log(&mut self, run: &Run, lines: usize) -> Result<Vec<String>, Failure> {
        let script = scripts::log(&run.id, lines);
        let (_, outcome) = self.look(run, "log", &script).await?;
        let all: Vec<String> = outcome
            .stdout
            .lines()
            .map(|line| run.steps.hide(line))
            .collect();
        let skipped = all.len().saturating_sub(lines);
        Ok(all.into_iter().skip(skipped).collect())
    }

    async fn start_collector(&mut self, run: &Run) -> Result<Collector, Failure> {
        let step = run.steps.begin("collector", "Starting the collector");
        // A state from before the load is not one from after it.
        self.state = None;
        let rows = self.options.time_to_live.as_secs();
        let script = match &self.options.measure {
            Measure::Own => scripts::start_collector(&run.id, rows),
            Measure::Glances(image) => glances::start(&run.id, image),
        };
        let before = unix_seconds();
        let outcome = self
            .step(run, "collector", &script, self.options.patience.collector)
            .await?;
        if outcome.status != Status::Success {
            step.failed("It does not start");
            return Ok(Collector::None(outcome.reason()));
        }
        if let Ok(told) = outcome.stdout.trim().parse::<f64>() {
            self.clock = Some((before, unix_seconds(), told));
        }
        step.done("");
        Ok(Collector::Remote)
    }

    async fn stop_collector(&mut self, run: &Run) -> Result<Metrics, Failure> {
        let step = run.steps.begin("metrics", "Fetching the metrics");
        let script = match self.options.measure {
            Measure::Own => scripts::stop_collector(&run.id),
            Measure::Glances(_) => glances::stop(&run.id),
        };
        let outcome = match self.output(run, "metrics", &script).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                step.failed("They cannot be fetched");
                return Err(failure);
            }
        };
        let Metrics {
            mut watched,
            mut notes,
        } = match self.options.measure {
            Measure::Own => own_metrics(&outcome.stdout),
            Measure::Glances(_) => glances::read(&run.id, &outcome.stdout),
        };
        let samples = watched.iter().map(|watched| watched.samples.len()).max();
        step.done(&format!("{} samples", samples.unwrap_or(0)));
        let offset = self.clock_offset();
        for (time, _) in watched.iter_mut().flat_map(|watched| &mut watched.samples) {
            *time += offset;
        }
        if !outcome.is_complete {
            notes.push("the last metrics could not be fetched".to_owned());
        }
        if outcome.stderr.contains(scripts::STOPPED_EARLY) {
            notes.push(scripts::STOPPED_EARLY.to_owned());
        }
        self.note_full(run, &outcome.stderr);
        for place in &self.full {
            notes.push(format!("the instance had no room left on {place}"));
        }
        if offset.abs() > 1.0 {
            notes.push(format!("the instance's clock was off by {:.0} s", -offset));
        }
        Ok(Metrics { watched, notes })
    }

    async fn clean_up(&mut self, run: &Run) -> Result<(), Failure> {
        Box::pin(self.clean(run)).await
    }

    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let mut add = |name: &str, value: String| {
            if !value.is_empty() {
                facts.insert(name.to_owned(), value);
            }
        };
        add("image_digest", self.image_digest.clone());
        if let Some(session) = &self.session {
            add("region", session.region().to_owned());
        }
        if let Some(kind) = &self.kind {
            // Nothing is known where it is 0.
            let known = |number: u64| (number > 0).then(|| number.to_string());
            add("vcpus", known(u64::from(kind.vcpus)).unwrap_or_default());
            add("memory_mib", known(kind.memory_mib).unwrap_or_default());
            add("network", kind.network.clone());
            if kind.is_burstable {
                add("cpu_credits", "unlimited".to_owned());
            }
        }
        if let Some(instance) = &self.instance {
            add("instance_type", instance.instance_type.clone());
            add("instance_id", instance.id.clone());
            add("zone", instance.zone.clone());
            add("architecture", instance.architecture.clone());
        }
        let reach = match self.options.reach {
            Reach::Public => "public address: the Internet lies between",
            Reach::Private => "private address",
        };
        add("network_path", reach.to_owned());
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_texts() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(1_795_651_199), "2026-11-25T23:59:59Z");
    }

    #[test]
    fn a_clock_is_corrected_only_where_it_must_be_wrong() {
        let mut ssm = Ssm::new(Options::default());
        for (told, offset) in [(11.0, 0.0), (9.0, 1.0), (15.0, -3.0)] {
            ssm.clock = Some((10.0, 12.0, told));
            assert!((ssm.clock_offset() - offset).abs() < 1e-9);
        }
    }
}
