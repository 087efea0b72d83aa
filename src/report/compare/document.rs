//! What a comparison holds, as `molotov-report compare --json` writes it.
//!
//! Data only. Filled by `judge`; read by the texts and by whoever reads the JSON: docs/comparison.schema.json describes it.
//! The version goes up when a field changes its meaning or goes away; new fields may come at any time. A number
//! that is not known, or not finite, is `null`.

use serde::Serialize;

/// The version of this document.
pub const SCHEMA: u32 = 1;

/// Several runs, the others against the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The version of this document: [`SCHEMA`].
    pub schema: u32,
    /// Changes smaller than this share do not matter, 0 to 1.
    pub margin: f64,
    /// Of every interval, 0 to 1.
    pub confidence: f64,
    /// The runs; the first is the baseline.
    pub runs: Vec<Run>,
    /// Every metric that the baseline and at least one other run have.
    pub metrics: Vec<Metric>,
    /// What makes the runs hard to compare, one sentence each.
    pub cautions: Vec<String>,
}

/// One of the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its letter, the baseline's is `A`.
    pub letter: String,
    /// The file it was read from.
    pub file: String,
    /// When it began.
    pub started_at: String,
    /// The scenario file.
    pub scenario_file: Option<String>,
    /// Where the load came from.
    pub host: String,
    /// What was found, in one sentence.
    pub headline: String,
}

/// What a value is an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests per second.
    RequestsPerSecond,
    /// Runs of scenarios per second.
    RunsPerSecond,
    /// Seconds.
    Seconds,
    /// 0 to 1.
    Ratio,
    /// Seconds of one core for each request.
    CoreSecondsPerRequest,
    /// Bytes.
    Bytes,
}

/// One quantity in all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Which, the same in every comparison: `capacity`, `throughput`, `p50`, `p95`, `p99`,
    /// `response_p50`, `response_p95`, `response_p99`, `failed_runs`, `cpu_per_request` or `memory`.
    pub id: String,
    /// The request, the scenario or the monitored target it is of; `None` for the run as a whole.
    pub of: Option<String>,
    /// The same in words.
    pub name: String,
    /// Of its values.
    pub unit: Unit,
    /// Whether more of it is better.
    pub more_is_better: bool,
    /// In the order of the runs; `None` where a run does not have it.
    pub values: Vec<Option<Value>>,
    /// Of each run but the first against the first.
    pub changes: Vec<Option<Change>>,
}

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Value {
    /// The best guess.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Whether it is only a lower bound: the generator was saturated, or nothing gave out.
    pub at_least: bool,
}

/// What became of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It changed for the better, surely, and by enough to matter.
    Improved,
    /// For the worse.
    Regressed,
    /// If it changed at all, then by too little to matter.
    Unchanged,
    /// The runs do not tell.
    Unclear,
}

impl Verdict {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Regressed => "regressed",
            Self::Unchanged => "unchanged",
            Self::Unclear => "unclear",
        }
    }

    /// A sign that says it without colour.
    pub const fn sign(self) -> char {
        match self {
            Self::Improved => '✓',
            Self::Regressed => '✗',
            Self::Unchanged => '=',
            Self::Unclear => '?',
        }
    }
}

/// By how much a metric changed against the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// What that means.
    pub verdict: Verdict,
    /// 0.1 is a tenth more; for ratios the difference itself, 0.01 is one percentage point more.
    pub change: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How likely such a change is by chance when nothing changed, 0 to 1, not yet adjusted for the number of metrics.
    pub chance: f64,
}

impl Comparison {
    /// How many changes have that verdict, over all runs.
    pub fn count(&self, verdict: Verdict) -> usize {
        let changes = self
            .metrics
            .iter()
            .flat_map(|metric| metric.changes.iter().flatten());
        changes.filter(|change| change.verdict == verdict).count()
    }

    /// The same for one run, by its place.
    pub fn count_of(&self, run: usize, verdict: Verdict) -> usize {
        let place = run.saturating_sub(1);
        let changes = self
            .metrics
            .iter()
            .filter_map(|metric| metric.changes.get(place)?.as_ref());
        changes.filter(|change| change.verdict == verdict).count()
    }
}
