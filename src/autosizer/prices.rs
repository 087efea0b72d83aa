//! What an hour costs.
//!
//! Owns the file that `--prices` names and its arithmetic. A price that is not in it stays unknown, never zero; every price
//! carries its source and date. The format, in TOML:
//!
//! ```toml
//! source = "on-demand list prices, eu-west-1"
//! date = "2026-11-01"
//! currency = "USD"
//!
//! [instances]            # per hour
//! "t3.medium" = 0.0456
//!
//! [resources]            # for limits without an instance
//! cpu_hour = 0.04        # one core
//! memory_gib_hour = 0.005
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::options::Row;

/// A table of prices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Where they come from.
    pub source: String,
    /// Of which day they are.
    pub date: String,
    /// In which currency.
    #[serde(default = "dollars")]
    pub currency: String,
    /// Per hour, by instance type.
    #[serde(default)]
    pub instances: BTreeMap<String, f64>,
    /// For limits without an instance.
    #[serde(default)]
    pub resources: Resources,
}

/// Prices of parts of a machine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// One core for an hour.
    pub cpu_hour: Option<f64>,
    /// One GiB for an hour.
    pub memory_gib_hour: Option<f64>,
}

/// What a row costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// Per hour.
    pub per_hour: f64,
    /// `USD`.
    #[serde(default = "dollars")]
    pub currency: String,
    /// Where that comes from.
    #[serde(default)]
    pub source: String,
    /// Of which day it is.
    #[serde(default)]
    pub date: String,
}

fn dollars() -> String {
    "USD".to_owned()
}

impl Prices {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::configuration(format!("--prices {shown}: {error}")))?;
        let prices: Self = toml::from_str(&text).map_err(|error| {
            let what = error.message().lines().collect::<Vec<_>>().join(" ");
            Failure::configuration(format!("--prices {shown}: {what}"))
                .advise("docs/autosizer.md describes the format")
        })?;
        let all = prices.instances.values().copied();
        let parts = [prices.resources.cpu_hour, prices.resources.memory_gib_hour];
        if all
            .chain(parts.into_iter().flatten())
            .any(|price| !(price >= 0.0 && price.is_finite()))
        {
            return Err(Failure::configuration(format!(
                "--prices {shown}: a price is not a number from 0 on"
            )));
        }
        Ok(prices)
    }

    /// The price of a row; `None` when a part of it is unknown.
    pub fn of(&self, row: &Row) -> Option<Price> {
        let per_hour = match &row.instance_type {
            Some(name) => *self.instances.get(name)?,
            None => {
                let cpus = row.limits.cpus? * self.resources.cpu_hour?;
                let memory = match row.limits.memory_bytes {
                    Some(bytes) => {
                        bytes as f64 / f64::from(1 << 30) * self.resources.memory_gib_hour?
                    }
                    None => 0.0,
                };
                cpus + memory
            }
        };
        Some(Price {
            per_hour,
            currency: self.currency.clone(),
            source: self.source.clone(),
            date: self.date.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Limits;
    use super::*;

    #[test]
    fn unknown_stays_unknown() {
        let prices: Prices = toml::from_str(
            "source = \"list\"\ndate = \"2026-11-01\"\n[instances]\n\"a.large\" = 0.5\n[resources]\ncpu_hour = 0.04\n",
        )
        .unwrap();
        let row = |name: Option<&str>, cpus, memory_bytes| Row {
            limits: Limits { cpus, memory_bytes },
            instance_type: name.map(str::to_owned),
        };
        let price = |row: Row| prices.of(&row).map(|price| price.per_hour);
        assert_eq!(price(row(Some("a.large"), None, None)), Some(0.5));
        assert_eq!(price(row(Some("b.large"), None, None)), None);
        assert_eq!(price(row(None, Some(2.0), None)), Some(0.08));
        assert_eq!(price(row(None, Some(2.0), Some(1 << 30))), None);
        assert_eq!(price(row(None, None, None)), None);
    }
}
