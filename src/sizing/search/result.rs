//! What a search found: the capacity with its interval, and everything that was measured on the way.
//!
//! Data only, made for `--json` and the report; the numbers come from `trial`, `curve` and `Search`. Rates are per
//! second, times in seconds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::statistics::{wilson_lower, wilson_upper};
use super::super::verdict::{Rate, Reason};
use super::usl::Usl;

/// What a level is a number of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Workers, each with one run at a time (closed model).
    #[default]
    Workers,
    /// Runs started per second, whatever becomes of the earlier ones (open model).
    RunsPerSecond,
}

/// A part of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Levels go up until something gives out.
    Ramp,
    /// Levels around the best one are measured.
    Search,
    /// The answer is held in a long trial of its own.
    Confirm,
    /// Nothing is left to do.
    Done,
}

impl Phase {
    /// The word for it in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Search => "search",
            Self::Confirm => "confirm",
            Self::Done => "done",
        }
    }
}

/// How long a trial was meant to be: short ones show the way, medium ones measure, the long one confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Some seconds.
    Short,
    /// Around ten seconds.
    Medium,
    /// Half a minute or more.
    Long,
}

/// When a phase was entered and left, in seconds since the start of the search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Which one. Search and confirm may come several times.
    pub phase: Phase,
    /// From here ...
    pub began_seconds: f64,
    /// ... to here.
    pub ended_seconds: f64,
}

/// A mean with its 95 % interval. Without enough to know an interval it reaches from 0 to twice the mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The best guess.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    pub(super) fn around(mean: f64, half: f64) -> Self {
        let half = if half.is_finite() { half } else { mean };
        Self {
            mean,
            low: (mean - half).max(0.0),
            high: mean + half,
        }
    }

    /// The same, wider by so much of the mean on both sides, as far as the two are independent.
    pub(super) fn widened(self, ratio: f64) -> Self {
        let more = |half: f64| half.hypot(ratio * self.mean);
        Self {
            mean: self.mean,
            low: (self.mean - more(self.mean - self.low)).max(0.0),
            high: self.mean + more(self.high - self.mean),
        }
    }

    /// Half the width, up to the mean.
    pub(super) fn half(&self) -> f64 {
        self.mean - self.low
    }
}

/// A share of some samples with its 95 % interval (Wilson).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The share, 0 to 1; 0 without samples.
    pub ratio: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Ratio {
    pub(super) fn of(hits: u64, samples: u64) -> Self {
        Self {
            ratio: if samples == 0 {
                0.0
            } else {
                hits as f64 / samples as f64
            },
            low: wilson_lower(hits, samples),
            high: wilson_upper(hits, samples),
        }
    }
}

/// Service times of a trial's requests; with a rate, response times of its runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ServiceTimes {
    /// How many there were.
    pub count: u64,
    /// Median.
    pub p50_seconds: f64,
    /// 95th percentile.
    pub p95_seconds: f64,
    /// 99th percentile.
    pub p99_seconds: f64,
    /// The share slower than the latency rule's limit; `None` without a rule.
    pub slower: Option<Ratio>,
}

/// Why a level is not sustainable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "flaw")]
pub enum Flaw {
    /// No run succeeded.
    NothingSucceeded,
    /// More runs failed than tolerated.
    Failures,
    /// The latency rule did not hold.
    Latency,
    /// Throughput had a trend.
    Unsteady {
        /// From the first to the last moment, relative to the mean: -0.1 is a tenth less at the end.
        change_ratio: f64,
    },
    /// Runs piled up: fewer ended than were started.
    FallsBehind {
        /// By how many the runs in flight grew per second.
        runs_per_second: f64,
    },
    /// The level was never reached: the generator started too little.
    NotReached {
        /// What was reached instead.
        level: f64,
    },
    /// Runs started late, because all workers were busy.
    WorkersBusy {
        /// The share of the runs.
        late_ratio: f64,
    },
}

impl Flaw {
    /// What ends a ramp that shows this.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::NothingSucceeded | Self::Failures => Reason::Failures,
            Self::Latency => Reason::Latency,
            Self::Unsteady { .. }
            | Self::FallsBehind { .. }
            | Self::NotReached { .. }
            | Self::WorkersBusy { .. } => Reason::Plateau,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSucceeded => f.write_str("no run succeeded"),
            Self::Failures => f.write_str("more runs failed than tolerated"),
            Self::Latency => f.write_str("the latency rule did not hold"),
            Self::Unsteady { change_ratio } => {
                let how = if *change_ratio < 0.0 { "fell" } else { "rose" };
                let percent = change_ratio.abs() * 100.0;
                write!(f, "throughput {how} by {percent:.0} % during the trial")
            }
            Self::FallsBehind { runs_per_second } => {
                write!(
                    f,
                    "{} more runs/s were started than ended",
                    Rate(*runs_per_second)
                )
            }
            Self::NotReached { level } => {
                write!(f, "the generator reached only {}", Rate(*level))
            }
            Self::WorkersBusy { late_ratio } => {
                let percent = late_ratio * 100.0;
                write!(
                    f,
                    "{percent:.0} % of the runs had to wait for a worker, all were busy"
                )
            }
        }
    }
}

/// One level, held and measured once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Workers, or runs started per second.
    pub level: f64,
    /// The phase it belongs to.
    pub phase: Phase,
    /// How long it was meant to be.
    pub length: Length,
    /// When the level was set, in seconds since the start of the search.
    pub began_seconds: f64,
    /// What was cut off before measuring: reaching the level and warming up.
    pub warm_up_seconds: f64,
    /// How long it was measured.
    pub measured_seconds: f64,
    /// Workers running, or runs in flight, in the mean.
    pub active: f64,
    /// Successful runs per second. Of runs with several requests what these tell, where that is more exact than `runs` by
    /// `measured_seconds`: runs that began together end together.
    pub runs_per_second: Interval,
    /// Responses read to their end per second.
    pub requests_per_second: Interval,
    /// Runs that ended.
    pub runs: u64,
    /// Those that failed.
    pub failed: u64,
    /// The share that failed.
    pub failures: Ratio,
    /// `None` when nothing was timed.
    pub service_times: Option<ServiceTimes>,
    /// What speaks against the level; it is sustainable when nothing does.
    pub flaws: Vec<Flaw>,
}

impl Trial {
    /// Whether the service can do this for good, as far as the trial can tell.
    pub fn sustainable(&self) -> bool {
        self.flaws.is_empty()
    }
}

/// What keeps the capacity from being higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The next level fails too often.
    Failures,
    /// The next level breaks the latency rule.
    Latency,
    /// Higher levels bring no more throughput.
    Throughput,
    /// Nothing: the highest level allowed still brought more.
    Nothing,
    /// The service stopped working.
    Died,
    /// With a rate: the workers, which were all busy although the service had not become slower.
    Workers,
    /// With a rate: the generator, which could not start more.
    Generator,
}

/// The capacity: the best sustainable throughput, and the lowest level that reaches it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Responses per second; all zero for scenarios without HTTP.
    pub requests_per_second: Interval,
    /// Successful runs per second.
    pub runs_per_second: Interval,
    /// The lowest level whose throughput is within the interval of the best.
    pub level: f64,
    /// Service times at that level.
    pub service_times: Option<ServiceTimes>,
    /// Whether an independent trial of its own confirmed it.
    pub confirmed: bool,
    /// What keeps it from being higher.
    pub limit: Limit,
}

/// All that a search knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// What levels are numbers of.
    pub unit: Unit,
    /// `None` when no level was sustainable.
    pub capacity: Option<Capacity>,
    /// What ended the ramp; `None` as long as it lasts.
    pub ramp_ended: Option<Reason>,
    /// Every trial, in the order of time.
    pub trials: Vec<Trial>,
    /// The explanation by the Universal Scalability Law; `None` for rates and when it does not fit.
    pub usl: Option<Usl>,
    /// What could not be confirmed, one sentence each.
    pub unconfirmed: Vec<String>,
    /// The phases in the order of time.
    pub phases: Vec<PhaseTime>,
    /// From the first look to the last, in seconds.
    pub seconds: f64,
}

impl Findings {
    /// The answer in a line: `412 req/s (95 % 396–425) at 48 workers · p50 61 ms p95 140 ms p99 180 ms`.
    pub fn headline(&self) -> String {
        let Some(capacity) = &self.capacity else {
            return "no level was sustainable".to_owned();
        };
        let (rate, noun) = if capacity.requests_per_second.mean > 0.0 {
            (capacity.requests_per_second, "req/s")
        } else {
            (capacity.runs_per_second, "runs/s")
        };
        let at_least = match capacity.limit {
            Limit::Nothing | Limit::Workers | Limit::Generator => "at least ",
            _ => "",
        };
        let level = match self.unit {
            Unit::Workers if capacity.level < 1.5 => "1 worker".to_owned(),
            Unit::Workers => format!("{:.0} workers", capacity.level),
            Unit::RunsPerSecond => format!(
                "{} runs/s offered, {} achieved",
                Rate(capacity.level),
                Rate(capacity.runs_per_second.mean)
            ),
        };
        let times = capacity.service_times.map_or_else(String::new, |times| {
            format!(
                " · p50 {} p95 {} p99 {}",
                Time(times.p50_seconds),
                Time(times.p95_seconds),
                Time(times.p99_seconds)
            )
        });
        let unconfirmed = if capacity.confirmed {
            ""
        } else {
            " · not confirmed"
        };
        format!(
            "{at_least}{} {noun} (95 % {}–{}) at {level}{times}{unconfirmed}",
            Rate(rate.mean),
            Rate(rate.low),
            Rate(rate.high),
        )
    }
}

/// A time in milliseconds, or in seconds from ten on.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0 * 1000.0;
        if milliseconds >= 10_000.0 {
            write!(f, "{:.1} s", self.0)
        } else if milliseconds >= 10.0 {
            write!(f, "{milliseconds:.0} ms")
        } else {
            write!(f, "{milliseconds:.1} ms")
        }
    }
}
