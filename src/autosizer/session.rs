//! All rows of one command, one after another.
//!
//! Owns the run of every row (its id, folder, ledger), reading the load's document and adding to it what the target
//! brought home, writing the files after every row so that a crash loses nothing, and the exit code. Called by `python`.
//!
//! Exit codes: that of the load where it ran (0, 1, 98, 99 …), else 1 when the service or its target failed, 104 for
//! what cannot be used, 105 when interrupted. What could not be removed makes 0 a 1.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};

use super::cancel::Cancel;
use super::comparison::{Figures, changes, recommend};
use super::document::Document;
use super::failure::{Failure, Kind};
use super::flow::{self, Outcome};
use super::ledger::{Ledger, Thing};
use super::load::Load;
use super::local::Local;
use super::options::{Options, Row};
use super::prices::{Price, Prices};
use super::run::Run;
use super::steps::Steps;
use super::target::{Metrics, ServiceState, Target};
use crate::monitor::Series;
use crate::results::{self, Results, ServiceFacts};

const FAILED: i32 = 1;
const CONFIGURATION: i32 = 104;
const INTERRUPTED: i32 = 105;

/// What a command found.
#[derive(Debug, Default)]
pub struct Report {
    /// All rows.
    pub document: Document,
    /// The documents of the rows that have one, by label.
    pub runs: Vec<(String, Results)>,
    /// What went wrong, in the order of the rows.
    pub failures: Vec<Failure>,
    /// The exit code.
    pub exit_code: i32,
}

/// A runtime on this thread that leaves no other thread behind when the load forks.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_millis(10))
        .build()
}

/// Makes the page of what was found; with it come the documents of the rows that have one, by label.
pub type Page<'a> = &'a dyn Fn(&Document, &[(String, Results)]) -> String;

/// Sizes every row. `state` is the folder of the ledgers; `page` makes what `--html` writes.
pub fn run(options: &Options, state: &Path, load: &mut dyn Load, page: Page) -> Report {
    let mut report = Report::default();
    let steps = match Steps::on_stderr(options.log.as_deref()) {
        Ok(steps) => steps,
        Err(error) => {
            let path = options.log.as_deref().unwrap_or(Path::new(""));
            let failure = Failure::configuration(format!("--log {}: {error}", path.display()));
            return report.end(failure);
        }
    };
    steps.add_secrets(options.env.values().cloned());
    steps.add_secrets(options.secrets.iter().cloned());
    let prepared = options.check().and_then(|()| {
        let rows = options.rows()?;
        let prices = options.prices.as_deref().map(Prices::read).transpose()?;
        let baseline = options
            .baseline
            .as_deref()
            .map(Document::baseline)
            .transpose()?;
        let runtime =
            runtime().map_err(|error| Failure::target(format!("no event loop: {error}")))?;
        Ok((rows, prices, baseline, runtime))
    });
    let (rows, prices, baseline, runtime) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return report.end(failure),
    };
    let service = options
        .image
        .clone()
        .unwrap_or_else(|| options.command.join(" "));
    report.document = Document {
        molotov: env!("CARGO_PKG_VERSION").to_owned(),
        target: options.on.clone(),
        service: steps.hide(&service),
        began_unix_seconds: unix_now(),
        ..Document::default()
    };
    let several = rows.len() > 1;
    for (number, row) in rows.iter().enumerate() {
        if several {
            steps.note(&format!(
                "Row {} of {}: {}",
                number + 1,
                rows.len(),
                row.label()
            ));
        }
        let price = match &prices {
            Some(prices) => prices.of(row),
            None => listed(options, &runtime, row),
        };
        let mut figures = Figures::of(row, price);
        let failures = one(
            options,
            state,
            &steps,
            &runtime,
            row,
            load,
            &mut figures,
            &mut report,
        );
        let stop = failures
            .iter()
            .any(|failure| matches!(failure.kind, Kind::Interrupted | Kind::Configuration));
        report.failures.extend(failures);
        report.document.rows.push(figures);
        if several {
            report.document.recommendation = Some(recommend(&report.document.rows, options.need));
        }
        if let Some(baseline) = &baseline {
            report.document.changes = changes(&baseline.rows, &report.document.rows);
        }
        if let Err(failure) = report.write(options, page) {
            report.failures.push(failure);
        }
        if stop {
            break;
        }
    }
    report.decide();
    report
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of a session, borrowed one by one"
)]
fn one(
    options: &Options,
    state: &Path,
    steps: &Steps,
    runtime: &Runtime,
    row: &Row,
    load: &mut dyn Load,
    figures: &mut Figures,
    report: &mut Report,
) -> Vec<Failure> {
    let (run, folder) = match begin(options, state, steps, row) {
        Ok(begun) => begun,
        Err(failure) => {
            figures.failure = Some(steps.hide(&failure.to_string()));
            return vec![failure];
        }
    };
    figures.run.clone_from(&run.id);
    let document = folder.join("results.json");
    let (outcome, facts) = match options.on.as_str() {
        #[cfg(feature = "autosizer")]
        "container" => {
            let mut target = super::container::Container::default();
            flow_of(runtime, &mut target, &run, load, &document)
        }
        "local" => flow_of(
            runtime,
            &mut Local::new(folder.clone()),
            &run,
            load,
            &document,
        ),
        #[cfg(feature = "aws")]
        "ssm" => match super::ssm::Options::of(options, row) {
            Ok(chosen) => flow_of(
                runtime,
                &mut super::ssm::Ssm::new(chosen),
                &run,
                load,
                &document,
            ),
            Err(failure) => (Outcome::failed(failure), BTreeMap::new()),
        },
        other => {
            let failure = Failure::configuration(format!("this build cannot do --on {other}"))
                .advise("use one with the feature that it needs");
            run.ledger.removed("folder", &folder.display().to_string());
            let _ = fs::remove_dir_all(&folder);
            run.ledger.end();
            (Outcome::failed(failure), BTreeMap::new())
        }
    };
    let mut failures: Vec<Failure> = Vec::new();
    figures.load_exit_code = outcome.load.as_ref().map(|end| end.exit_code);
    if outcome.load.is_some() {
        match results::read(&document) {
            Ok(mut results) => {
                complete(&mut results, &outcome, options, row, facts, steps);
                figures.read(&results);
                report.runs.push((figures.label.clone(), results));
            }
            // It was interrupted while it imported the scenarios.
            Err(_) if load.interruptions() > 0 => {}
            Err(error) => failures.push(Failure::new(
                Kind::Load,
                format!("the load test left no results: {error}"),
            )),
        }
    }
    let is_full = is_full(&folder);
    // The load's document has been read: its folder is the last thing to go.
    if let Err(failure) = end_folder(&run, &folder) {
        failures.push(failure);
    }
    failures.extend(outcome.failure);
    failures.extend(outcome.left_behind);
    if is_full && !failures.is_empty() {
        let what = format!("the disk of {} is full", folder.display());
        failures
            .push(Failure::target(what).advise("make room there, or set TMPDIR to another folder"));
    }
    if let Some(first) = failures.first() {
        figures.failure = Some(steps.hide(&first.to_string()));
    }
    failures
}

/// What the provider's own list says; `None` where there is none, or it does not answer.
#[cfg(feature = "aws")]
fn listed(options: &Options, runtime: &Runtime, row: &Row) -> Option<Price> {
    let chosen = (options.on == "ssm").then(|| super::ssm::Options::of(options, row).ok())??;
    runtime.block_on(super::ssm::price(&chosen))
}

#[cfg(not(feature = "aws"))]
fn listed(_: &Options, _: &Runtime, _: &Row) -> Option<Price> {
    None
}

fn flow_of<T: Target>(
    runtime: &Runtime,
    target: &mut T,
    run: &Run,
    load: &mut dyn Load,
    document: &Path,
) -> (Outcome, BTreeMap<String, String>) {
    let outcome = flow::size(runtime, target, run, load, document);
    (outcome, target.facts())
}

/// Begins a run: its id, its ledger, its folder, which only this user may read.
fn begin(
    options: &Options,
    state: &Path,
    steps: &Steps,
    row: &Row,
) -> Result<(Run, PathBuf), Failure> {
    let id = Run::new_id();
    let no_ledger = |error: io::Error| {
        Failure::target(format!(
            "cannot write the ledger in {}: {error}",
            state.display()
        ))
        .advise("make room on the disk, or set XDG_STATE_HOME to a folder of another one")
    };
    let ledger = Ledger::begin(state, &id, &options.on).map_err(no_ledger)?;
    let folder = std::env::temp_dir().join(format!("molotov-autosizer-{id}"));
    if let Err(error) = ledger.plan(Thing::new("folder", folder.display().to_string())) {
        let _ = fs::remove_file(ledger.path());
        return Err(no_ledger(error));
    }
    if let Err(error) = fs::DirBuilder::new().mode(0o700).create(&folder) {
        ledger.removed("folder", &folder.display().to_string());
        ledger.end();
        return Err(
            Failure::target(format!("cannot make {}: {error}", folder.display()))
                .advise("make room there, or set TMPDIR to another folder"),
        );
    }
    let run = Run {
        id,
        service: options.service(row),
        steps: steps.clone(),
        ledger,
        cancel: Cancel::default(),
    };
    Ok((run, folder))
}

fn end_folder(run: &Run, folder: &Path) -> Result<(), Failure> {
    let name = folder.display().to_string();
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::target(format!("cannot remove {name}: {error}")));
        }
        _ => run.ledger.removed("folder", &name),
    }
    run.ledger.end();
    Ok(())
}

/// Whether nothing more can be written there: the reason behind many other failures.
fn is_full(folder: &Path) -> bool {
    const ROOM_BYTES: usize = 64 * 1024;
    let probe = folder.join("room");
    let written = fs::write(&probe, vec![0; ROOM_BYTES]);
    let _ = fs::remove_file(&probe);
    written.is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

/// Adds what only the flow knows: the target's series, what the service was, how it ended.
fn complete(
    results: &mut Results,
    outcome: &Outcome,
    options: &Options,
    row: &Row,
    facts: BTreeMap<String, String>,
    steps: &Steps,
) {
    // The load wrote into the run's own folder, which goes away.
    results.files.clear();
    if !options.invocation.is_empty() {
        let words = options.invocation.iter();
        results.meta.command = words.map(|word| steps.hide(word)).collect();
    }
    let series = series_of(&outcome.metrics, results.meta.started_unix_seconds);
    let ended = match &outcome.service {
        ServiceState::Ended(ended) => Some(ended),
        ServiceState::Running | ServiceState::NotStarted => None,
    };
    let name = options
        .image
        .clone()
        .unwrap_or_else(|| options.command.join(" "));
    results.add_service(
        ServiceFacts {
            target: options.on.clone(),
            name: steps.hide(&name),
            cpus: row.limits.cpus,
            memory_bytes: row.limits.memory_bytes,
            instance_type: row.instance_type.clone(),
            ended: ended.map(super::target::Ended::words),
            out_of_memory: ended.is_some_and(|ended| ended.out_of_memory),
            log: outcome.service_log.clone(),
            facts,
            notes: outcome.metrics.notes.clone(),
        },
        series,
    );
}

/// Series on the load's clock, which begins at `began_unix_seconds`. What was sampled before it is left out.
fn series_of(metrics: &Metrics, began_unix_seconds: f64) -> Vec<Series> {
    let watched = metrics.watched.iter().map(|watched| {
        let mut series = Series::new(watched.label.clone());
        for (unix_seconds, sample) in &watched.samples {
            if let Ok(time) = Duration::try_from_secs_f64(unix_seconds - began_unix_seconds) {
                series.push(time, sample);
            }
        }
        series
    });
    watched.collect()
}

fn unix_now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

impl Report {
    fn end(mut self, failure: Failure) -> Self {
        self.failures.push(failure);
        self.decide();
        self
    }

    fn decide(&mut self) {
        let has = |kind| self.failures.iter().any(|failure| failure.kind == kind);
        let load = self
            .document
            .rows
            .iter()
            .filter_map(|row| row.load_exit_code);
        self.exit_code = if has(Kind::Interrupted) {
            INTERRUPTED
        } else if has(Kind::Configuration) {
            CONFIGURATION
        } else if let Some(code) = load.into_iter().find(|code| *code != 0) {
            code
        } else if self.failures.is_empty() {
            0
        } else {
            FAILED
        };
    }

    fn write(&self, options: &Options, page: Page) -> Result<(), Failure> {
        let runs: Vec<Results> = self
            .runs
            .iter()
            .map(|(_, results)| results.clone())
            .collect();
        let write = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String, String>| {
            let Some(path) = path else { return Ok(()) };
            let cannot =
                |why: String| Failure::target(format!("cannot write {}: {why}", path.display()));
            let text = text().map_err(cannot)?;
            results::write(path, &text).map_err(|error| cannot(error.to_string()))
        };
        let document = &self.document;
        write(&options.json, &|| {
            document.to_json(&runs).map_err(|error| error.to_string())
        })?;
        write(&options.csv, &|| Ok(document.to_csv()))?;
        write(&options.markdown, &|| Ok(document.to_markdown()))?;
        write(&options.html, &|| Ok(page(document, &self.runs)))
    }
}
