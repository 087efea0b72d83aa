//! The service that `autosizer` started, in the document of its load test.
//!
//! Owns the facts about it, adding series that were measured elsewhere, and what its end means for the verdict: a service
//! that ends under load has given out, whatever else was near its limit. Called by `autosizer`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::collect::conclude;
use super::document::Results;
use crate::monitor::{self, Metric};
use crate::verdict::{Confidence, Evidence, Finding, Resource};

/// What was started, where, with which limits, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// `local`, `container` or `ssm`.
    pub target: String,
    /// The command or the image, secrets masked.
    pub name: String,
    /// CPU limit in cores.
    pub cpus: Option<f64>,
    /// Memory limit.
    pub memory_bytes: Option<u64>,
    /// Instance type.
    pub instance_type: Option<String>,
    /// How it ended during the test, in words; `None` when it still ran at the end.
    pub ended: Option<String>,
    /// Whether that was for lack of memory.
    pub out_of_memory: bool,
    /// The last lines of its log, when it has ended.
    pub log: Vec<String>,
    /// What else is known: engine, image digest, instance, region.
    pub facts: BTreeMap<String, String>,
    /// What was odd about the metrics, one line each.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Results {
    /// Adds what was started and what was measured there, and judges anew.
    pub fn add_service(&mut self, service: ServiceFacts, series: Vec<monitor::Series>) {
        if !series.is_empty() {
            self.monitor.extend(series);
            conclude(self);
        }
        if let Some(ended) = &service.ended {
            self.judge_end(&service, ended);
        }
        self.service = Some(service);
    }

    fn judge_end(&mut self, service: &ServiceFacts, ended: &str) {
        let Some(verdict) = &mut self.verdict else {
            return;
        };
        let last = service
            .log
            .iter()
            .rev()
            .find(|line| !line.trim().is_empty());
        let last = last.map_or_else(String::new, |line| {
            format!(", its last words: {}", line.trim())
        });
        let what = format!("the service {ended} during the test{last}");
        let resource = if service.out_of_memory {
            Resource::Memory
        } else {
            Resource::Inside
        };
        verdict.findings.insert(
            0,
            Finding {
                resource,
                source: Some(service.name.clone()),
                confidence: Confidence::High,
                evidence: vec![Evidence {
                    metric: service.out_of_memory.then_some(Metric::OutOfMemoryKills),
                    value: 1.0,
                    text: what.clone(),
                }],
            },
        );
        verdict.resource = resource;
        verdict.source = Some(service.name.clone());
        verdict.confidence = Confidence::High;
        verdict.sentence = format!("{what}; {}", verdict.sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_service_that_ended_is_the_verdict() {
        let mut results = sample::results();
        let facts = ServiceFacts {
            name: "kinto".to_owned(),
            ended: Some("ended with exit code 3".to_owned()),
            log: vec![
                "Traceback".to_owned(),
                "KeyError: 'x'".to_owned(),
                String::new(),
            ],
            ..ServiceFacts::default()
        };
        results.add_service(facts.clone(), Vec::new());
        let verdict = results.verdict.as_ref().unwrap();
        assert_eq!(verdict.resource, Resource::Inside);
        assert!(
            verdict.sentence.starts_with(
                "the service ended with exit code 3 during the test, its last words: KeyError: 'x'; "
            ),
            "{}",
            verdict.sentence
        );
        assert_eq!(results.service, Some(facts));
        let text = results.to_json().unwrap();
        assert_eq!(Results::from_json(&text).unwrap(), results);
    }

    #[test]
    fn out_of_memory_is_memory() {
        let mut results = sample::results();
        let facts = ServiceFacts {
            ended: Some("was ended by signal 9, out of memory".to_owned()),
            out_of_memory: true,
            ..ServiceFacts::default()
        };
        results.add_service(facts, Vec::new());
        assert_eq!(results.verdict.unwrap().resource, Resource::Memory);
    }

    #[test]
    fn series_from_elsewhere_are_judged() {
        let mut results = sample::results();
        let before = results.monitor.len();
        results.add_service(
            ServiceFacts::default(),
            vec![monitor::Series::new("remote")],
        );
        assert_eq!(results.monitor.len(), before + 1);
        assert!(results.verdict.is_some());
    }
}
