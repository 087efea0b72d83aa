//! What a verdict is made of: findings with their evidence, and the sentence that says it.
//!
//! Data and wording only. Made by the rules; serialised by `results`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::look::{Level, percent, size};
use crate::monitor::{Metric, in_words};

/// How texts say that one thread is all there is.
pub(super) const SINGLE_THREADED: &str = "single-threaded limit";

/// What gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The load generator: the target may take more than was measured.
    Generator,
    /// Memory of a target.
    Memory,
    /// CPU of a target.
    Cpu,
    /// A disk of a target.
    Disk,
    /// The network of a target.
    Network,
    /// No resource that was monitored: locks, pools, or a service behind it.
    Inside,
    /// Nothing: more load still brought more throughput.
    Nothing,
    /// There is not enough evidence.
    Unknown,
}

impl Resource {
    /// The word for it in sentences.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generator => "the generator",
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Inside => "the service itself or one behind it",
            Self::Nothing => "nothing yet",
            Self::Unknown => "unknown",
        }
    }
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// One weak sign.
    Low,
    /// A clear sign, which something else might explain.
    Medium,
    /// Signs that leave little doubt.
    High,
}

impl Confidence {
    /// The word for it in sentences.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A number that speaks for a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was measured; `None` for what the run itself tells.
    pub metric: Option<Metric>,
    /// Its value over the level judged, in the metric's unit.
    pub value: f64,
    /// The same in words, such as `CPU 1.94 of 2 cores (97 %)`.
    pub text: String,
}

impl Evidence {
    /// A value of a metric, with its words.
    pub(super) fn of(metric: Metric, value: f64, text: String) -> Self {
        Self {
            metric: Some(metric),
            value,
            text,
        }
    }
}

/// One resource that gave out, or is about to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which one.
    pub resource: Resource,
    /// Whose: the target as `--monitor` names it.
    pub source: Option<String>,
    /// How sure that is.
    pub confidence: Confidence,
    /// Why, the strongest first.
    pub evidence: Vec<Evidence>,
}

impl Finding {
    /// A finding for the collected evidence; `None` without any.
    pub(super) fn from(
        resource: Resource,
        source: &str,
        confidence: Confidence,
        evidence: Vec<Evidence>,
    ) -> Option<Self> {
        (!evidence.is_empty()).then(|| Self {
            resource,
            source: Some(source.to_owned()),
            confidence,
            evidence,
        })
    }

    /// The same, seen under another load than the one that is judged.
    pub(super) fn with_load(mut self, active: f64) -> Self {
        for evidence in &mut self.evidence {
            evidence.text = format!("with {active:.0} in flight: {}", evidence.text);
        }
        self
    }

    /// The number that says it best, in a few words.
    fn number(&self) -> Option<String> {
        let first = self.evidence.first()?;
        let value = first.value;
        Some(match first.metric? {
            Metric::CpuCoresUsed if first.text.contains(SINGLE_THREADED) => {
                format!("{value:.2} cores, single-threaded")
            }
            Metric::CpuCoresUsed => format!("{value:.2} cores"),
            Metric::HottestThreadCores => {
                format!("one core at {}, single-threaded", percent(value))
            }
            Metric::WantedThreadWaitCores => {
                format!(
                    "waits {} of the time for cores that others have",
                    percent(value)
                )
            }
            Metric::CpuThrottledRatio => format!("throttled in {} of the periods", percent(value)),
            Metric::MemoryBytes | Metric::AddressSpaceBytes => size(value),
            Metric::BlockedThreads => format!("{value:.1} threads wait for it"),
            Metric::DiskBusyRatio | Metric::NetworkBusyRatio => {
                format!("{} busy", percent(value))
            }
            _ => return None,
        })
    }

    fn reasons(&self) -> String {
        let texts: Vec<&str> = self.evidence.iter().map(|one| one.text.as_str()).collect();
        texts.join(", ")
    }
}

/// Whether the generator itself was fit to measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorCheck {
    /// `false` when it was saturated: the figures are a lower bound then. `None` when it was not sampled.
    pub valid: Option<bool>,
    /// Why it was not valid, one text each.
    pub reasons: Vec<String>,
    /// CPU used of the cores it may use, 0 to 1, in the mean.
    pub cpu_ratio: Option<f64>,
    /// Cores used by its busiest thread, in the mean; a process runs its workers on one.
    pub hottest_thread_cores: Option<f64>,
    /// How late the event loop was at worst, in seconds.
    pub event_loop_lag_seconds: Option<f64>,
}

/// Memory that grows while requests are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Whose.
    pub source: String,
    /// Bytes per thousand requests.
    pub bytes_per_thousand_requests: f64,
    /// Bytes per second, over the level judged.
    pub bytes_per_second: f64,
    /// When the limit is reached at that rate, in seconds after the level judged; `None` without a limit.
    pub limit_reached_in_seconds: Option<f64>,
}

/// What limits the service, as far as can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What gave out first.
    pub resource: Resource,
    /// Whose it is.
    pub source: Option<String>,
    /// How sure that is.
    pub confidence: Confidence,
    /// One plain sentence, with the evidence.
    pub sentence: String,
    /// All findings, in the order of the rules.
    pub findings: Vec<Finding>,
    /// The level that was judged.
    pub level: Option<Level>,
    /// Whether the generator was fit to measure.
    pub generator: GeneratorCheck,
    /// Growth of memory, for each target that grows.
    pub memory_growth: Vec<Growth>,
}

impl Verdict {
    pub(super) fn undecided(why: &str) -> Self {
        Self {
            resource: Resource::Unknown,
            source: None,
            confidence: Confidence::Low,
            sentence: why.to_owned(),
            findings: Vec::new(),
            level: None,
            generator: GeneratorCheck::default(),
            memory_growth: Vec::new(),
        }
    }

    pub(super) fn of(
        level: &Level,
        generator: GeneratorCheck,
        findings: Vec<Finding>,
        memory_growth: Vec<Growth>,
        nothing_monitored: bool,
    ) -> Self {
        let mut verdict = match findings.first() {
            Some(first) => Self {
                resource: first.resource,
                source: first.source.clone(),
                confidence: first.confidence,
                sentence: sentence(first, findings.get(1..).unwrap_or_default()),
                ..Self::undecided("")
            },
            None if nothing_monitored => Self::undecided(
                "not enough evidence: no target was monitored (--monitor names one)",
            ),
            None => Self::undecided(
                "not enough evidence: no monitored resource was near its limit, and it is not known whether more load \
                 brings more throughput",
            ),
        };
        verdict.level = Some(level.clone());
        verdict.findings = findings;
        verdict.generator = generator;
        verdict.memory_growth = memory_growth;
        verdict
    }
}

impl Verdict {
    /// The limit in a few words, for the end of the line with the capacity; `None` when nothing is known.
    pub fn brief(&self) -> Option<String> {
        match self.resource {
            Resource::Nothing | Resource::Unknown => None,
            Resource::Generator => Some("the generator was saturated".to_owned()),
            Resource::Inside => Some(format!("limited by {}", self.resource.as_str())),
            Resource::Memory | Resource::Cpu | Resource::Disk | Resource::Network => {
                let number = self.findings.first().and_then(Finding::number);
                Some(format!(
                    "limited by {} of {}{}",
                    self.resource.as_str(),
                    whose(self.source.as_deref()),
                    number.map_or_else(String::new, |number| format!(" ({number})"))
                ))
            }
        }
    }
}

/// What a source is called in sentences, to follow "CPU of".
pub fn whose(source: Option<&str>) -> &str {
    source.map_or("the target", in_words)
}

fn sentence(first: &Finding, rest: &[Finding]) -> String {
    let confidence = first.confidence.as_str();
    let reasons = first.reasons();
    let mut text = match first.resource {
        Resource::Generator => format!(
            "at least this much: the generator was saturated ({reasons}), the target may take more"
        ),
        Resource::Nothing => format!("nothing gave out: {reasons}"),
        Resource::Inside => format!(
            "limited by {} ({confidence} confidence): {reasons}",
            first.resource.as_str()
        ),
        _ => format!(
            "limited by {} of {} ({confidence} confidence): {reasons}",
            first.resource.as_str(),
            whose(first.source.as_deref()),
        ),
    };
    for other in rest {
        let source = whose(other.source.as_deref());
        let _ = match other.resource {
            Resource::Generator => write!(text, "; generator: {}", other.reasons()),
            _ => write!(
                text,
                "; also {} of {source}: {}",
                other.resource.as_str(),
                other.reasons()
            ),
        };
    }
    text
}
