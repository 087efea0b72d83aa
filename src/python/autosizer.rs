//! `autosizer` for Python: the flow with the `molotov` command as its load.
//!
//! Owns the way between the two: options come as JSON, the load is a Python callable, and whether the user asked to stop is
//! asked of Python, whose signal handlers run only when this thread lets them. Called by `molotov.autosizer`.

use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::autosizer::{
    Document, Failure, Figures, Kind, Load, LoadEnd, Order, Removed, gc, list, run_session,
    runtime, sources_and_changes, state_folder,
};
use crate::report::{html, matrix};
use crate::results::Results;
use crate::sizing::search::Interval;

/// Calls back into Python.
struct PythonLoad<'py> {
    python: Python<'py>,
    run: Bound<'py, PyAny>,
    interruptions: Bound<'py, PyAny>,
    /// What a callable raised: the end of everything, passed on.
    raised: Option<PyErr>,
}

impl Load for PythonLoad<'_> {
    fn run(&mut self, order: &Order) -> Result<LoadEnd, Failure> {
        let results = order.results.display().to_string();
        let arguments = (order.environment.clone(), order.monitor.clone(), results);
        let ended = self.run.call1(arguments).and_then(|code| code.extract());
        match ended {
            Ok(exit_code) => Ok(LoadEnd { exit_code }),
            Err(error) => {
                let what = format!("the load test failed: {error}");
                self.raised.get_or_insert(error);
                Err(Failure::new(Kind::Load, what))
            }
        }
    }

    fn interruptions(&mut self) -> usize {
        // Handlers count; one that raises means the same.
        if let Err(error) = self.python.check_signals() {
            self.raised.get_or_insert(error);
        }
        let count = self.interruptions.call0().and_then(|count| count.extract());
        count.unwrap_or(0) + usize::from(self.raised.is_some())
    }
}

/// Run every row of `options`, a JSON object with the names of the command line.
///
/// `run(environment, monitor, results)` makes the load and returns its exit code; `interruptions()` tells how often the
/// user has asked to stop. Returns the exit code, the table as text, and one text for each failure. Passes on what a
/// callable raises, after everything was removed. `ValueError` for options that are no such object.
#[pyfunction]
pub fn autosize(
    python: Python<'_>,
    options: &str,
    run: Bound<'_, PyAny>,
    interruptions: Bound<'_, PyAny>,
) -> PyResult<(i32, String, Vec<String>)> {
    let options = serde_json::from_str(options)
        .map_err(|error| PyValueError::new_err(format!("options: {error}")))?;
    let mut load = PythonLoad {
        python,
        run,
        interruptions,
        raised: None,
    };
    let found = run_session(&options, &state_folder(), &mut load, &page);
    if let Some(error) = load.raised {
        return Err(error);
    }
    let table = if found.document.rows.is_empty() {
        String::new()
    } else {
        found.document.to_text()
    };
    let mut hidden = crate::autosizer::Secrets::default();
    hidden.add(options.env.values().chain(&options.secrets).cloned());
    let failures = found.failures.iter();
    let failures = failures.map(|failure| hidden.hide(&failure.to_string()));
    Ok((found.exit_code, table, failures.collect()))
}

/// The page of a run, or of several side by side.
fn page(document: &Document, runs: &[(String, Results)]) -> String {
    match runs {
        [(_, results)] if document.rows.len() == 1 => html::page(results),
        runs => matrix::page(&overview(document), runs),
    }
}

/// The page of a file with the several runs of one `autosizer run`; `None` when it holds something else, or cannot be read.
#[pyfunction]
pub fn autosizer_page(path: PathBuf) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let (document, runs) = Document::with_runs(&text)?;
    Some(page(&document, &runs))
}

fn overview(document: &Document) -> matrix::Overview {
    let recommendation = document.recommendation.as_ref();
    let place = match document.target.as_str() {
        "ssm" => "on EC2 instances",
        "container" => "in containers on this machine",
        _ => "on this machine",
    };
    matrix::Overview {
        service: document.service.clone(),
        place: place.to_owned(),
        rows: document.rows.iter().map(row).collect(),
        best: recommendation.and_then(|found| found.label.clone()),
        reason: recommendation.map_or_else(String::new, |found| found.reason.clone()),
        remarks: sources_and_changes(document),
    }
}

fn row(figures: &Figures) -> matrix::Row {
    let price = figures.price.as_ref();
    let money = |value: f64| {
        price.map_or_else(String::new, |price| {
            format!("{} {value:.4}", price.currency)
        })
    };
    let ends = figures.capacity_low.zip(figures.capacity_high);
    matrix::Row {
        label: figures.label.clone(),
        capacity: figures
            .capacity_per_second
            .zip(ends)
            .map(|(mean, (low, high))| Interval { mean, low, high }),
        at_least: figures.at_least,
        confirmed: figures.confirmed,
        workers: figures.workers,
        p50_p95_seconds: figures.p50_seconds.zip(figures.p95_seconds),
        limit: figures.limit.map(|limit| limit.as_str().to_owned()),
        headroom: figures
            .headroom
            .iter()
            .map(|(name, share)| (name.clone(), *share))
            .collect(),
        per_hour: price.map(|price| money(price.per_hour)),
        per_million: figures.price_per_million.map(|value| (value, money(value))),
        verdict: figures.verdict.clone(),
        failure: figures.failure.clone(),
    }
}

/// What runs have made and not removed, one line for each; `OSError` when the ledgers cannot be read.
#[pyfunction]
pub fn autosizer_list() -> PyResult<Vec<String>> {
    let found = runtime()?
        .block_on(list(&state_folder()))
        .map_err(|failure| PyOSError::new_err(failure.to_string()))?;
    let mut lines = Vec::new();
    for entry in found.entries {
        let state = if entry.is_running {
            format!("running as process {}", entry.pid)
        } else {
            "ended, `autosizer gc` removes what it left".to_owned()
        };
        lines.push(format!("{}  {}  {state}", entry.id, entry.target));
        lines.extend(
            entry
                .things
                .iter()
                .map(|thing| format!("  {} {}", thing.kind, thing.name)),
        );
    }
    for thing in found.strays {
        lines.push(format!("{} {}  of no known run", thing.kind, thing.name));
    }
    Ok(lines)
}

/// Remove what runs have left that ended without removing it. Returns one line for each thing, and whether all are gone.
///
/// `OSError` when the ledgers cannot be read.
#[pyfunction]
pub fn autosizer_gc(python: Python<'_>) -> PyResult<(Vec<String>, bool)> {
    let runtime = runtime()?;
    let removed: Vec<Removed> = python
        .detach(|| runtime.block_on(gc(&state_folder())))
        .map_err(|failure| PyOSError::new_err(failure.to_string()))?;
    let all = removed.iter().all(|one| one.result.is_ok());
    let lines = removed.iter().map(|one| {
        let what = format!("{} {} of {}", one.thing.kind, one.thing.name, one.run);
        match &one.result {
            Ok(()) => format!("removed {what}"),
            Err(failure) => format!("not removed: {what}: {failure}"),
        }
    });
    Ok((lines.collect(), all))
}

/// Look at the AWS account: `what` is `check`, `list`, `gc` or `iam-policy`, `options` as for `autosize`.
///
/// Returns lines to show, and whether all is well. `OSError` when AWS refuses, or when this build cannot do it.
#[pyfunction]
pub fn autosizer_account(
    python: Python<'_>,
    what: &str,
    options: &str,
) -> PyResult<(Vec<String>, bool)> {
    let options: crate::autosizer::Options = serde_json::from_str(options)
        .map_err(|error| PyValueError::new_err(format!("options: {error}")))?;
    python
        .detach(|| account(what, &options))
        .map_err(|failure| PyOSError::new_err(failure.to_string()))
}

#[cfg(feature = "aws")]
fn account(
    what: &str,
    options: &crate::autosizer::Options,
) -> Result<(Vec<String>, bool), Failure> {
    use crate::autosizer::ssm::{Command, account};
    let command = match what {
        "check" => Command::Check,
        "list" => Command::List,
        "gc" => Command::Sweep,
        "iam-policy" => Command::Policy,
        other => return Err(Failure::configuration(format!("no such command: {other}"))),
    };
    let runtime = runtime().map_err(|error| Failure::target(format!("no event loop: {error}")))?;
    runtime.block_on(account(command, options))
}

#[cfg(not(feature = "aws"))]
fn account(what: &str, _: &crate::autosizer::Options) -> Result<(Vec<String>, bool), Failure> {
    Err(
        Failure::configuration(format!("this build cannot do {what}: it has no AWS"))
            .advise("install a wheel, or build with --features aws"),
    )
}

/// A TOML file as JSON: `CPython` has no reader of its own before 3.11.
///
/// `OSError` when it cannot be read, `ValueError` with the line when it is no TOML.
#[pyfunction]
pub fn read_toml(path: PathBuf) -> PyResult<String> {
    let text = std::fs::read_to_string(path)?;
    let value: toml::Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            text.get(..span.start)
                .unwrap_or_default()
                .matches('\n')
                .count()
                + 1
        });
        PyValueError::new_err(format!("line {line}: {}", error.message()))
    })?;
    serde_json::to_string(&value).map_err(|error| PyValueError::new_err(error.to_string()))
}
