//! The document of an autosizing: all rows, the recommendation, the runs' own documents.
//!
//! Owns its fields, reading an earlier one for `--baseline`, and the file's shape: a single run's results with the key
//! `autosizer` added, so that `molotov-report` reads it; several runs as `{"schema", "autosizer", "runs"}`. Called by
//! `session`, and by `python` for `molotov-report`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::comparison::{Change, Figures, Recommendation};
use super::failure::Failure;
use super::options::Row;
use super::target::Limits;
use crate::results::{Results, SCHEMA};

/// What was found, without the runs' own documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// Version of this program.
    pub molotov: String,
    /// `local`, `container` or `ssm`.
    pub target: String,
    /// What was sized: the command or the image.
    pub service: String,
    /// When it began, in seconds since 1970.
    pub began_unix_seconds: f64,
    /// One for each combination of limits or instance types.
    pub rows: Vec<Figures>,
    /// Which one to take; `None` for a single row.
    pub recommendation: Option<Recommendation>,
    /// Against `--baseline`.
    pub changes: Vec<Change>,
}

impl Document {
    /// The file's content. `runs` are the documents of those rows that have one.
    pub fn to_json(&self, runs: &[Results]) -> Result<String, serde_json::Error> {
        let own = serde_json::to_value(self)?;
        let whole = match runs {
            [one] if self.rows.len() == 1 => {
                let mut whole = serde_json::to_value(one)?;
                if let Value::Object(fields) = &mut whole {
                    fields.insert("autosizer".to_owned(), own);
                }
                whole
            }
            _ => json!({"schema": SCHEMA, "autosizer": own, "runs": runs}),
        };
        Ok(whole.to_string() + "\n")
    }

    /// What a file with several runs holds, with the documents of those rows that have one, by label; `None` for anything
    /// else.
    pub fn with_runs(text: &str) -> Option<(Self, Vec<(String, Results)>)> {
        #[derive(Deserialize)]
        struct File {
            autosizer: Document,
            runs: Vec<Results>,
        }
        let file: File = serde_json::from_str(text).ok()?;
        let labelled = file.runs.into_iter().map(|results| {
            let row = results.service.as_ref().map(|service| Row {
                limits: Limits {
                    cpus: service.cpus,
                    memory_bytes: service.memory_bytes,
                },
                instance_type: service.instance_type.clone(),
            });
            (row.unwrap_or_default().label(), results)
        });
        Some((file.autosizer, labelled.collect()))
    }

    /// Reads the rows of an earlier result.
    pub fn baseline(path: &Path) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct File {
            autosizer: Document,
        }
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::configuration(format!("--baseline {shown}: {error}")))?;
        let file: File = serde_json::from_str(&text).map_err(|error| {
            let what = format!("--baseline {shown}: it is no result of autosizer: {error}");
            Failure::configuration(what).advise("give what an earlier run wrote by --json")
        })?;
        Ok(file.autosizer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(text: &str) -> Result<Document, Failure> {
        let name = format!("baseline-{}-{:x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let read = Document::baseline(&path);
        fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn a_file_from_before_a_field_existed_is_a_baseline() {
        let whole = Document {
            rows: vec![Figures {
                label: "1 CPU".to_owned(),
                capacity_per_second: Some(100.0),
                capacity_low: Some(95.0),
                capacity_high: Some(105.0),
                ..Figures::default()
            }],
            recommendation: Some(Recommendation::default()),
            changes: vec![Change::default()],
            ..Document::default()
        };
        let whole = serde_json::to_value(whole).unwrap();
        let is_there = |key: &str| !matches!(key, "label" | "capacity_low" | "capacity_high");
        let row = whole["rows"][0].as_object().unwrap();
        for missing in row.keys().filter(|key| is_there(key)) {
            let mut older = whole.clone();
            older["rows"][0].as_object_mut().unwrap().remove(missing);
            let text = json!({ "autosizer": older }).to_string();
            let read = baseline(&text).unwrap_or_else(|failure| panic!("{missing}: {failure}"));
            assert_eq!(read.rows[0].capacity_low, Some(95.0), "{missing}");
        }
        let first = r#"{"autosizer":{"rows":[{"label":"x","price":{"per_hour":0.1}}],
            "recommendation":{"label":"x"},"changes":[{"label":"x"}]}}"#;
        let read = baseline(first).unwrap();
        assert_eq!(read.rows[0].price.as_ref().unwrap().currency, "USD");
        assert!(!read.rows[0].at_least && read.rows[0].capacity_low.is_none());
    }

    #[test]
    fn what_is_no_result_says_why() {
        let failure = baseline(r#"{"autosizer":{"rows":[{"label":7}]}}"#).unwrap_err();
        let text = failure.to_string();
        assert!(
            text.contains("no result of autosizer: invalid type"),
            "{text}"
        );
    }
}
