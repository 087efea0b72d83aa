//! What the document of a run holds.
//!
//! Owns the fields, their names in JSON, and the schema's version. A name says its unit. Filled by `collect`, read by the
//! formats, by `molotov-report`, and by whoever reads the file: docs/results.schema.json describes it for them.
//!
//! The version goes up when a field changes its meaning or goes away; new fields may come at any time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::mask::{masked, masked_command, masked_option};
use super::series::Series;
use super::service::ServiceFacts;
use super::service_time_map::ServiceTimeMap;
use super::starts::Starts;
use super::threshold::Outcome;
use crate::metrics::{CorruptSnapshot, Kind, Recorder, Row};
use crate::monitor;
use crate::sizing::{Reason, search::Findings};
use crate::verdict::Verdict;

/// The version of the document.
pub const SCHEMA: u32 = 1;

/// Why a text is no document of ours.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Made by a later version.
    #[error("it has schema {0}, this version reads up to {SCHEMA}: use the version that wrote it")]
    Newer(u64),
    /// No results at all, or damaged ones.
    #[error("it is no result of a run: {0}")]
    Json(#[from] serde_json::Error),
    /// It lacks the field that says what it is.
    #[error("it is no result of a run: \"schema\" is missing")]
    NoSchema,
    /// A histogram in it is damaged.
    #[error("a histogram in it is damaged: {0}")]
    Histogram(#[from] CorruptSnapshot),
    /// The same, before it is a snapshot.
    #[error("a histogram in it is damaged: {0}")]
    Base64(#[from] base64::DecodeError),
}

/// Everything known of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The version of this document: [`SCHEMA`].
    pub schema: u32,
    /// Whether the run came to its end; `false` while it goes, and for good when it was killed.
    pub complete: bool,
    /// The file beside this one that has the whole time series, while the run is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// What was run, where, and when.
    pub meta: Meta,
    /// Counts over all processes.
    pub counts: Counts,
    /// Service times of every scenario and request: from sending to the last byte, or from the start of a run to its end.
    pub service_times: Vec<ServiceTime>,
    /// Response times of every scenario's runs, from when they were to start; only where a rate was set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_times: Vec<ServiceTime>,
    /// What became of the starts; only where a rate was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Starts>,
    /// The run second by second.
    pub series: Series,
    /// How many requests took how long, over the time of the run; runs, when there are no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_time_map: Option<ServiceTimeMap>,
    /// What autosizing found.
    pub sizing: Option<Sizing>,
    /// What was monitored, the generator first.
    pub monitor: Vec<monitor::Series>,
    /// What limits the service, and whether the generator was fit to measure; `None` until the run is complete.
    pub verdict: Option<Verdict>,
    /// The thresholds, and whether they held.
    pub thresholds: Vec<Outcome>,
    /// Failed runs, grouped by what was raised and where.
    pub errors: Vec<ErrorGroup>,
    /// How the command ended; `None` until the run is complete.
    pub exit: Option<Exit>,
    /// The files that the run wrote.
    pub files: Vec<Output>,
    /// The service that `autosizer` started for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceFacts>,
}

/// What was run, where, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The command line, secrets masked.
    pub command: Vec<String>,
    /// Version of this program.
    #[serde(default)]
    pub molotov: String,
    /// Version of Python.
    pub python: String,
    /// Name of the machine that made the load.
    pub host: String,
    /// Cores that the load generator may use.
    pub cores: usize,
    /// Name and release of its kernel.
    pub kernel: String,
    /// When the run began, as RFC 3339 in UTC.
    pub started_at: String,
    /// The same, in seconds since 1970.
    pub started_unix_seconds: f64,
    /// How long it took, or has taken by now.
    #[serde(default)]
    pub elapsed_seconds: f64,
    /// Number of processes.
    pub processes: usize,
    /// The file of the scenarios; `None` when they came from elsewhere.
    pub scenario_file: Option<String>,
    /// Its SHA-256, in hexadecimal.
    pub scenario_sha256: Option<String>,
    /// All options by name, secrets masked.
    pub options: Map<String, Value>,
}

impl Meta {
    /// Fills in the hash of the scenario file, when it can be read, and masks secrets.
    pub fn complete(&mut self) {
        if self.scenario_sha256.is_none()
            && let Some(content) = self
                .scenario_file
                .as_ref()
                .and_then(|path| fs::read(path).ok())
        {
            let digest = Sha256::digest(&content);
            self.scenario_sha256 = Some(digest.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }));
        }
        self.command = masked_command(&self.command);
        for (name, value) in &mut self.options {
            mask_value(name, value);
        }
    }
}

fn mask_value(name: &str, value: &mut Value) {
    match value {
        Value::String(text) => *text = masked_option(name, text),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_value(name, item)),
        Value::Object(fields) => fields
            .iter_mut()
            .for_each(|(name, item)| mask_value(name, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Counts over all processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs of scenarios started: succeeded + failed + interrupted + unfinished.
    pub started: u64,
    /// Runs that ended without an exception.
    pub succeeded: u64,
    /// Runs that raised.
    pub failed: u64,
    /// Runs that were cancelled, or lost with their process.
    pub interrupted: u64,
    /// Runs under way; 0 once the run is complete.
    pub unfinished: u64,
    /// Workers ever started.
    pub workers_started: u64,
    /// HTTP responses read to their end.
    pub requests: u64,
    /// Those by class of their status: `2xx` and so on.
    pub statuses: BTreeMap<String, u64>,
    /// Requests sent again on a fresh connection because a kept one had been closed.
    pub resent: u64,
    /// Bytes of response bodies.
    pub bytes: u64,
    /// `setup` fixtures that failed.
    pub setup_failed: u64,
    /// `setup_session` fixtures that failed.
    pub session_setup_failed: u64,
    /// Processes that did not end by themselves, one line for each.
    #[serde(default)]
    pub lost_processes: Vec<String>,
}

impl Counts {
    /// Failed runs of all that ended by themselves, 0 to 1; `None` when there was none.
    pub fn error_ratio(&self) -> Option<f64> {
        let ended = self.succeeded + self.failed;
        (ended > 0).then(|| self.failed as f64 / ended as f64)
    }
}

/// Service times of one scenario or of one kind of request, in seconds; or response times of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// `scenario`, `request`, or `response` of a scenario.
    pub kind: String,
    /// The scenario's name, or `METHOD host/path` with identifiers as `{id}`.
    pub name: String,
    /// How many.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Bytes of response bodies.
    pub bytes: u64,
    /// Arithmetic mean.
    pub mean_seconds: f64,
    /// Shortest.
    pub min_seconds: f64,
    /// Half took at most this long.
    pub p50_seconds: f64,
    /// 90 % did.
    pub p90_seconds: f64,
    /// 95 % did.
    pub p95_seconds: f64,
    /// 99 % did.
    pub p99_seconds: f64,
    /// 99.9 % did.
    pub p999_seconds: f64,
    /// Longest.
    pub max_seconds: f64,
    /// All of them as a histogram that can be merged with others: a snapshot of `metrics`, in base64.
    pub histogram: String,
}

impl ServiceTime {
    /// All rows of a recorder, in the order of its table: service times, and response times.
    pub fn all_of(recorder: &Recorder) -> (Vec<Self>, Vec<Self>) {
        let rows = recorder.rows_with_snapshots();
        rows.into_iter()
            .map(|(row, blob)| Self::new(row, &blob))
            .partition(|row| row.kind != Kind::Response.as_str())
    }

    fn new(row: Row, blob: &[u8]) -> Self {
        Self {
            kind: row.kind.as_str().to_owned(),
            name: row.name,
            count: row.count,
            failed: row.failed,
            bytes: row.bytes,
            mean_seconds: row.mean.as_secs_f64(),
            min_seconds: row.min.as_secs_f64(),
            p50_seconds: row.p50.as_secs_f64(),
            p90_seconds: row.p90.as_secs_f64(),
            p95_seconds: row.p95.as_secs_f64(),
            p99_seconds: row.p99.as_secs_f64(),
            p999_seconds: row.p999.as_secs_f64(),
            max_seconds: row.max.as_secs_f64(),
            histogram: STANDARD.encode(blob),
        }
    }

    /// Whether this is a scenario's row.
    pub fn is_scenario(&self) -> bool {
        self.kind == Kind::Scenario.as_str()
    }
}

/// What autosizing found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sizing {
    /// How the ramp ended.
    #[serde(default)]
    pub ramp: Option<Ramp>,
    /// The capacity and all trials, when the run searched for it.
    #[serde(default)]
    pub search: Option<Findings>,
    /// When the search began, in seconds since the start of the run; its own times count from then.
    #[serde(default)]
    pub search_began_seconds: f64,
}

/// How the ramp of a sizing run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Why it ended.
    pub reason: Reason,
    /// Failed runs of all runs in the last minute of it, 0 to 1.
    pub error_ratio: f64,
    /// Workers running then.
    pub workers: u64,
    /// Runs that succeeded in that minute.
    pub window_succeeded: u64,
    /// Runs that failed in it.
    pub window_failed: u64,
    /// The fewest workers that reached about the best throughput; `None` when a search followed, which knows it better.
    #[serde(default)]
    pub best_workers: Option<u64>,
    /// Successful runs per second with them.
    #[serde(default)]
    pub best_runs_per_second: Option<f64>,
    /// Requests per second with them.
    #[serde(default)]
    pub best_requests_per_second: Option<f64>,
    /// The same as a plain sentence.
    pub sentence: String,
}

/// Failed runs with the same exception from the same place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorGroup {
    /// The exception's class, with its module unless that is `builtins`.
    pub kind: String,
    /// `file:line` in the script; empty when it does not come from there.
    pub place: String,
    /// How many.
    pub count: u64,
    /// The first, in seconds since the start of the run.
    pub first_seconds: f64,
    /// The last.
    pub last_seconds: f64,
    /// What the first said.
    pub message: String,
    /// The traceback of the first.
    pub example: String,
}

impl ErrorGroup {
    /// Adds groups that other processes saw, secrets masked; the most frequent first.
    pub fn merge(groups: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut merged: BTreeMap<(String, String), Self> = BTreeMap::new();
        for group in groups {
            let key = (group.kind.clone(), group.place.clone());
            match merged.get_mut(&key) {
                Some(known) => {
                    known.count += group.count;
                    known.last_seconds = known.last_seconds.max(group.last_seconds);
                    if group.first_seconds < known.first_seconds {
                        known.first_seconds = group.first_seconds;
                        known.message = group.message;
                        known.example = group.example;
                    }
                }
                None => {
                    merged.insert(key, group);
                }
            }
        }
        let mut groups: Vec<Self> = merged.into_values().collect();
        groups.sort_by_key(|group| Reverse(group.count));
        for group in &mut groups {
            group.message = masked(&group.message);
            group.example = masked(&group.example);
        }
        groups
    }
}

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// Why it is that, in plain words.
    pub reason: String,
}

/// A file that the run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// `json`, `csv`, `html`, `junit`, `markdown`, `png` or `svg`.
    pub kind: String,
    /// The file; `-` is stdout.
    pub path: String,
}

impl Results {
    /// A document of a run that has not begun.
    pub fn new(meta: Meta) -> Self {
        Self {
            schema: SCHEMA,
            complete: false,
            journal: None,
            meta,
            counts: Counts::default(),
            service_times: Vec::new(),
            response_times: Vec::new(),
            starts: None,
            series: Series::default(),
            service_time_map: None,
            sizing: None,
            monitor: Vec::new(),
            verdict: None,
            thresholds: Vec::new(),
            errors: Vec::new(),
            exit: None,
            files: Vec::new(),
            service: None,
        }
    }

    /// Reads a document.
    pub fn from_json(text: &str) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Version {
            schema: Option<u64>,
        }
        let version: Version = serde_json::from_str(text)?;
        match version.schema {
            None => Err(FormatError::NoSchema),
            Some(newer) if newer > u64::from(SCHEMA) => Err(FormatError::Newer(newer)),
            Some(_) => Ok(serde_json::from_str(text)?),
        }
    }

    /// The document as text, on one line: other programs read it.
    pub fn to_json(&self) -> Result<String, FormatError> {
        Ok(serde_json::to_string(self)?)
    }

    /// The rows as a recorder, from which any percentile and the table can be had.
    pub fn recorder(&self) -> Result<Recorder, FormatError> {
        let mut recorder = Recorder::new();
        for row in self.service_times.iter().chain(&self.response_times) {
            recorder.merge(&STANDARD.decode(&row.histogram)?)?;
        }
        Ok(recorder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn json_keeps_everything() {
        let results = sample::results();
        let text = results.to_json().unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(Results::from_json(&text).unwrap(), results);
    }

    #[test]
    fn percentiles_come_back_from_the_histograms() {
        let results = sample::results();
        let recorder = results.recorder().unwrap();
        let (service_times, response_times) = ServiceTime::all_of(&recorder);
        assert_eq!(service_times, results.service_times);
        assert_eq!(response_times, results.response_times);
    }

    #[test]
    fn other_texts_are_errors_that_say_why() {
        for (text, part) in [
            ("", "no result of a run"),
            ("[]", "no result of a run"),
            ("{}", "\"schema\" is missing"),
            ("{\"schema\": 2}", "reads up to 1"),
            ("{\"schema\": 1}", "missing field"),
        ] {
            let error = Results::from_json(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_in_options_and_commands_are_masked() {
        let options = serde_json::json!({
            "api_token": "abc",
            "statsd_address": "udp://me:pw@h:1",
            "headers": {"Authorization": "xyz", "Accept": "text/html"},
            "workers": 2,
        });
        let mut meta = Meta {
            command: vec!["molotov".to_owned(), "--password=x".to_owned()],
            scenario_file: Some(file!().to_owned()),
            options: options.as_object().cloned().unwrap_or_default(),
            ..Meta::default()
        };
        meta.complete();
        assert_eq!(meta.command[1], "--password=***");
        let expected = serde_json::json!({
            "api_token": "***",
            "statsd_address": "udp://***@h:1",
            "headers": {"Authorization": "***", "Accept": "text/html"},
            "workers": 2,
        });
        assert_eq!(Value::Object(meta.options), expected);
        assert_eq!(meta.scenario_sha256.map(|hash| hash.len()), Some(64));
    }

    #[test]
    fn groups_of_several_processes_become_one() {
        let group = |count, first: f64, message: &str| ErrorGroup {
            kind: "ValueError".to_owned(),
            place: "loadtest.py:7".to_owned(),
            count,
            first_seconds: first,
            last_seconds: first + 1.0,
            message: message.to_owned(),
            example: String::new(),
        };
        let other = ErrorGroup {
            kind: "KeyError".to_owned(),
            ..group(100, 0.0, "x")
        };
        let merged = ErrorGroup::merge([group(2, 3.0, "later"), group(3, 1.0, "first"), other]);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].kind, "KeyError");
        assert_eq!((merged[1].count, merged[1].message.as_str()), (5, "first"));
        assert_eq!(
            (merged[1].first_seconds, merged[1].last_seconds),
            (1.0, 4.0)
        );
    }
}
