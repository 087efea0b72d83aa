//! `Comparison` as Python sees it: runs against each other, of `report::compare`.
//!
//! Only converts. `molotov-report compare` makes one.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::report::compare::{self, Verdict};
use crate::results;

/// Several runs against the first of them.
///
/// `margin` is the share (0.05 is 5 %) below which a change does not matter. `OSError` when a file cannot be read,
/// `ValueError` when it holds no results, or for fewer than two files.
#[pyclass(frozen, module = "molotov._core")]
pub struct Comparison {
    comparison: compare::Comparison,
    runs: Vec<(String, results::Results)>,
}

#[pymethods]
impl Comparison {
    #[new]
    #[pyo3(signature = (paths, margin = 0.05))]
    fn new(paths: Vec<PathBuf>, margin: f64) -> PyResult<Self> {
        if paths.len() < 2 {
            return Err(PyValueError::new_err("a comparison needs two runs"));
        }
        if !(0.0..=1.0).contains(&margin) {
            return Err(PyValueError::new_err(
                "the margin has to be between 0 and 1",
            ));
        }
        let runs = paths
            .iter()
            .map(|path| Ok((path.display().to_string(), results::read(path)?)))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(Self {
            comparison: compare::compare(&runs, margin),
            runs,
        })
    }

    /// As `text`, `json`, `markdown` or `html`. `ValueError` for another format.
    fn render(&self, format: &str) -> PyResult<String> {
        Ok(match format {
            "text" => self.comparison.to_text(),
            "json" => {
                let text = serde_json::to_string(&self.comparison);
                text.map_err(|error| PyValueError::new_err(error.to_string()))? + "\n"
            }
            "markdown" => self.comparison.to_markdown(),
            "html" => compare::page(&self.comparison, &self.runs),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "there is no format {format:?}"
                )));
            }
        })
    }

    /// Write it to a file, whole or not at all. `ValueError` for another format, `OSError` when it cannot be written.
    fn write(&self, format: &str, path: PathBuf) -> PyResult<()> {
        Ok(results::write(&path, self.render(format)?)?)
    }

    /// How many metrics have `improved`, `regressed`, are `unchanged` or `unclear`, over all runs. `ValueError` for
    /// another word.
    fn count(&self, verdict: &str) -> PyResult<usize> {
        let verdicts = [
            Verdict::Improved,
            Verdict::Regressed,
            Verdict::Unchanged,
            Verdict::Unclear,
        ];
        let known = verdicts.into_iter().find(|known| known.as_str() == verdict);
        known
            .map(|known| self.comparison.count(known))
            .ok_or_else(|| PyValueError::new_err(format!("there is no verdict {verdict:?}")))
    }
}
