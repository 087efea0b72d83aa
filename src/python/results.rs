//! `Results` as Python sees it: the document of `results`.
//!
//! Only converts. What is known to Python alone (options, errors, what autosizing found) comes in as JSON, the counters
//! and histograms are read in Rust. The runner calls it once a second and at the end of a run, `molotov-report` to read.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use super::metrics::Recorder;
use super::monitor::Monitor;
use super::schedule::Schedule;
use super::state::RunState;
use crate::engine::shared::STATUS_CLASSES;
use crate::metrics::DEFAULT_WIDTH;
use crate::monitor::{self, glances_history};
use crate::report;
use crate::report::picture::{self, PictureError};
use crate::results::{
    self, Collector, Counts, ErrorGroup, FormatError, Journal, Meta, Output, ReadError, Sizing,
    Starts, Threshold, Totals,
};

/// The results of a run, as they are collected or as they were read from a file.
///
/// `meta` is a JSON object (see `meta` in docs/results.schema.json), `thresholds` texts such as "p95<500ms". `ValueError`
/// for a threshold that cannot be read.
#[pyclass(frozen, module = "molotov._core")]
pub struct Results {
    state: Mutex<State>,
}

struct State {
    collector: Collector,
    journal: Option<Journal>,
    /// Where the document goes when it is no plain file, and has no journal.
    written_at_end: Option<PathBuf>,
    /// Where a rate is set: when runs start, and how many workers there may be.
    schedule: Option<(Py<Schedule>, u64)>,
}

impl Results {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<FormatError> for PyErr {
    fn from(error: FormatError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

impl From<PictureError> for PyErr {
    fn from(error: PictureError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

impl From<ReadError> for PyErr {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File { .. } => PyOSError::new_err(error.to_string()),
            ReadError::Format { .. } => PyValueError::new_err(error.to_string()),
        }
    }
}

/// The same errors as `--monitor` has, in the words of a command that reads a file.
fn recording_error(error: monitor::Error) -> PyErr {
    match error {
        monitor::Error::Read { path, source } => {
            PyOSError::new_err(format!("can't read {}: {source}", path.display()))
        }
        monitor::Error::NoGlancesColumns { path } => PyValueError::new_err(format!(
            "{}: it is no CSV file of Glances: no column is known",
            path.display()
        )),
        monitor::Error::GlancesContainer {
            path,
            problem,
            names,
        } => PyValueError::new_err(format!(
            "{}: {problem}; --container takes one of {}",
            path.display(),
            if names.is_empty() {
                "host".to_owned()
            } else {
                format!("{names}, host")
            }
        )),
        other => PyValueError::new_err(other.to_string()),
    }
}

fn read_json<'de, T: serde::Deserialize<'de>>(text: &'de str) -> PyResult<T> {
    serde_json::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn totals(state: &Bound<'_, RunState>, schedule: Option<&(Py<Schedule>, u64)>) -> Totals {
    let starts = schedule.map(|(schedule, most_workers)| {
        let schedule = schedule.bind(state.py()).get();
        (
            schedule.asked(state),
            starts(state, schedule, *most_workers),
        )
    });
    let state = state.get().shared();
    let sum = |name: &str| state.sum(name).unwrap_or_default();
    let mut counts = Counts {
        succeeded: sum("succeeded"),
        failed: sum("failed"),
        interrupted: sum("interrupted"),
        workers_started: sum("workers_started"),
        requests: sum("requests"),
        statuses: STATUS_CLASSES
            .iter()
            .map(|class| ((*class).to_owned(), sum(class)))
            .collect(),
        resent: sum("resent"),
        setup_failed: sum("setup_failed"),
        session_setup_failed: sum("session_setup_failed"),
        ..Counts::default()
    };
    // Read last: a run that ends meanwhile was started before it.
    counts.started = sum("started");
    Totals {
        workers: state.workers() - state.parked(),
        transfer_micros: sum("transfer_micros"),
        counts,
        starts,
    }
}

fn starts(state: &Bound<'_, RunState>, schedule: &Schedule, most_workers: u64) -> Starts {
    let state = state.get().shared();
    let sum = |name: &str| state.sum(name).unwrap_or_default();
    let (shape, seed) = schedule.described();
    let (started, not_started) = (sum("started"), sum("not_started"));
    let (late, starved) = (sum("late"), sum("starved"));
    let seconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64();
    // Read last: what is started or given up meanwhile was intended before it.
    let intended = sum("intended");
    Starts {
        shape: shape.to_owned(),
        seed,
        most_workers,
        intended,
        started,
        not_started,
        waiting: intended.saturating_sub(started + not_started),
        late,
        late_without_worker: starved.min(late),
        late_mean_seconds: sum("late_nanoseconds").checked_div(late).map(seconds),
        late_max_seconds: (late > 0).then(|| seconds(state.latest_nanoseconds())),
    }
}

#[pymethods]
impl Results {
    #[new]
    #[pyo3(signature = (meta, thresholds = Vec::new()))]
    fn new(meta: &str, thresholds: Vec<String>) -> PyResult<Self> {
        let mut meta: Meta = read_json(meta)?;
        env!("CARGO_PKG_VERSION").clone_into(&mut meta.molotov);
        meta.complete();
        let thresholds: Vec<Threshold> = thresholds
            .iter()
            .map(|text| {
                text.parse().map_err(|error: results::ThresholdError| {
                    PyValueError::new_err(error.to_string())
                })
            })
            .collect::<PyResult<_>>()?;
        Ok(Self {
            state: Mutex::new(State {
                collector: Collector::new(meta, thresholds),
                journal: None,
                written_at_end: None,
                schedule: None,
            }),
        })
    }

    /// Read the results of a run; also of one that died, from what it left.
    ///
    /// `OSError` when the file cannot be read, `ValueError` when it holds something else.
    #[staticmethod]
    fn read(path: PathBuf) -> PyResult<Self> {
        Ok(Self {
            state: Mutex::new(State {
                collector: Collector::of(results::read(&path)?),
                journal: None,
                written_at_end: None,
                schedule: None,
            }),
        })
    }

    /// Write the document to this file from now on, as the run goes. `OSError` when that is not possible.
    fn begin(&self, path: PathBuf) -> PyResult<()> {
        let mut state = self.lock();
        let journal = Journal::create(&path, state.collector.results_mut())?;
        if journal.is_none() {
            state.written_at_end = Some(path);
        }
        state.journal = journal;
        Ok(())
    }

    /// Say when runs start, with at most so many workers over all processes. Before the first look.
    fn set_schedule(&self, schedule: Py<Schedule>, most_workers: u64) {
        self.lock().schedule = Some((schedule, most_workers));
    }

    /// Take a look, about once a second; `now` is in seconds since the start of the run, `lag` how late the event loop
    /// was at worst.
    ///
    /// Returns whether it is time for `document`. `OSError` when the journal cannot be written; it is given up then.
    #[pyo3(signature = (now, state, recorder, lag = None, monitor = None))]
    fn second(
        &self,
        now: f64,
        state: &Bound<'_, RunState>,
        recorder: &Bound<'_, Recorder>,
        lag: Option<f64>,
        monitor: Option<&Bound<'_, Monitor>>,
    ) -> PyResult<bool> {
        let mut this = self.lock();
        let this = &mut *this;
        let shared = recorder.get().shared();
        let totals = totals(state, this.schedule.as_ref());
        let point = this.collector.second(now, totals, &shared.lock(), lag);
        let taken = monitor.map(|monitor| monitor.get().take());
        let Some(journal) = &mut this.journal else {
            return Ok(false);
        };
        for one in taken.into_iter().flatten() {
            journal.sample(&one.source, one.time, &one.sample);
        }
        if let Err(error) = journal.second(this.collector.results(), point) {
            this.journal = None;
            return Err(error.into());
        }
        Ok(journal.is_due(now))
    }

    /// Write the document anew while the run goes. `errors` is a JSON list (see `errors` in the schema).
    ///
    /// `OSError` when that is not possible; the next time may do.
    fn document(&self, now: f64, recorder: &Bound<'_, Recorder>, errors: &str) -> PyResult<()> {
        let errors: Vec<ErrorGroup> = read_json(errors)?;
        let mut this = self.lock();
        let this = &mut *this;
        this.collector.refresh(&recorder.get().shared().lock());
        this.collector.results_mut().errors = ErrorGroup::merge(errors);
        if let Some(journal) = &mut this.journal {
            journal.document(this.collector.results_mut(), now)?;
        }
        Ok(())
    }

    /// Take the last look, judge, and test the thresholds. `sizing` is JSON, `lost` has a line for each process lost.
    #[pyo3(signature = (now, state, recorder, errors, sizing = None, lost = Vec::new(), monitor = None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn finish(
        &self,
        now: f64,
        state: &Bound<'_, RunState>,
        recorder: &Bound<'_, Recorder>,
        errors: &str,
        sizing: Option<&str>,
        lost: Vec<String>,
        monitor: Option<&Bound<'_, Monitor>>,
    ) -> PyResult<()> {
        let errors: Vec<ErrorGroup> = read_json(errors)?;
        let sizing: Option<Sizing> = sizing.map(read_json).transpose()?;
        let series = monitor.map_or_else(Vec::new, |monitor| monitor.get().series());
        let mut this = self.lock();
        let mut totals = totals(state, this.schedule.as_ref());
        totals.counts.lost_processes = lost;
        let shared = recorder.get().shared();
        this.collector
            .finish(now, totals, &shared.lock(), sizing, series, errors);
        Ok(())
    }

    /// The thresholds that did not hold.
    fn failed_thresholds(&self) -> Vec<String> {
        let this = self.lock();
        let outcomes = this.collector.results().thresholds.iter();
        outcomes
            .filter(|outcome| !outcome.passed)
            .map(|outcome| outcome.threshold.clone())
            .collect()
    }

    /// Say how the command ends. May be said again: writing may fail.
    fn exit(&self, code: i32, reason: &str) {
        self.lock().collector.exit(code, reason);
    }

    /// Say which files were written (kind and path), and write the document if it has a file.
    ///
    /// `OSError` when that is not possible.
    fn end(&self, files: Vec<(String, String)>) -> PyResult<()> {
        let mut this = self.lock();
        let files = files.into_iter();
        this.collector.results_mut().files =
            files.map(|(kind, path)| Output { kind, path }).collect();
        let journal = this.journal.take();
        let path = this.written_at_end.take();
        let results = this.collector.results();
        if let Some(journal) = journal {
            journal.finish(results)?;
        } else if let Some(path) = path {
            results::write(&path, results.to_json()?)?;
        }
        Ok(())
    }

    /// What Glances exported, as results of no run: resources and, as far as they tell, a verdict.
    ///
    /// `container` is one of those in the file, or `host`; without it the only container is taken, else the host.
    /// `command` is what stands in the document as the command line. `OSError` when the file cannot be read,
    /// `ValueError` when it holds something else or not that container.
    #[staticmethod]
    #[pyo3(signature = (path, container = None, command = Vec::new()))]
    fn glances(path: PathBuf, container: Option<&str>, command: Vec<String>) -> PyResult<Self> {
        let history = glances_history(&path, container).map_err(recording_error)?;
        if history.series.is_empty() {
            return Err(PyValueError::new_err(format!(
                "{}: it has no rows with a time",
                path.display()
            )));
        }
        let mut meta = Meta {
            command,
            started_at: history.began,
            molotov: env!("CARGO_PKG_VERSION").to_owned(),
            ..Meta::default()
        };
        meta.complete();
        let results = results::Results::of_recording(history.series, meta);
        Ok(Self {
            state: Mutex::new(State {
                collector: Collector::of(results),
                schedule: None,
                journal: None,
                written_at_end: None,
            }),
        })
    }

    /// One picture of the results as a PNG file. `ValueError` when it cannot be drawn.
    fn picture(&self) -> PyResult<Vec<u8>> {
        let this = self.lock();
        Ok(picture::png(this.collector.results())?)
    }

    /// The results as `json`, `csv`, `html`, `junit`, `markdown`, `svg` or `summary`; `width` is that of a summary.
    ///
    /// `ValueError` for another format.
    #[pyo3(signature = (format, width = None))]
    fn render(&self, format: &str, width: Option<usize>) -> PyResult<String> {
        let this = self.lock();
        let results = this.collector.results();
        Ok(match format {
            "json" => results.to_json()? + "\n",
            "csv" => results.to_csv(),
            "junit" => results.to_junit(),
            "markdown" => results.to_markdown(),
            "html" => report::html::page(results),
            "svg" => picture::svg(results)?,
            "summary" => results.to_summary(width.unwrap_or(DEFAULT_WIDTH))?,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "there is no format {format:?}"
                )));
            }
        })
    }

    /// Write them to a file, whole or not at all, as one of those or as `png`. `ValueError` for another format,
    /// `OSError` when it cannot be written.
    fn write(&self, format: &str, path: PathBuf) -> PyResult<()> {
        if format == "png" {
            return Ok(results::write(&path, self.picture()?)?);
        }
        Ok(results::write(&path, self.render(format, None)?)?)
    }

    /// What was found, one sentence each: what limits the service, and whether its memory grows.
    fn headlines(&self) -> Vec<String> {
        self.lock().collector.results().headlines()
    }

    /// What limits the service, in a word: `generator`, `memory`, `cpu`, `disk`, `network`, `inside`, `nothing` or
    /// `unknown`; `None` before the end.
    #[getter]
    fn limit(&self) -> Option<String> {
        let state = self.lock();
        let resource = state.collector.results().verdict.as_ref()?.resource;
        serde_json::to_value(resource)
            .ok()?
            .as_str()
            .map(str::to_owned)
    }

    /// A table of what the generator and the targets used, a line each; empty when nothing was sampled.
    fn resource_lines(&self) -> Vec<String> {
        self.lock().collector.results().resource_lines()
    }

    /// One line for each threshold, with a tick or a cross.
    fn threshold_lines(&self) -> Vec<String> {
        self.lock().collector.results().threshold_lines()
    }
}
