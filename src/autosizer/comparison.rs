//! Rows side by side: which to take, and what changed since an earlier result.
//!
//! Owns the figures of a row, read from the document of its run, the recommendation with its reason, and the comparison
//! with a baseline. Two capacities differ only where their intervals do not meet: no winner from noise. Pure. Called by
//! `session`; shown by `table`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::Row;
use super::prices::Price;
use crate::monitor::{GENERATOR, Metric};
use crate::results::Results;
use crate::verdict::Resource;

/// The figures of one row. What a file of an earlier version does not have is unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// What was varied: `1 CPU, 512 MiB`, `c8g.large`.
    pub label: String,
    /// The run's id; empty when it never began.
    pub run: String,
    /// CPU limit in cores.
    pub cpus: Option<f64>,
    /// Memory limit.
    pub memory_bytes: Option<u64>,
    /// Instance type.
    pub instance_type: Option<String>,
    /// Requests per second (runs per second for scenarios without HTTP) that it takes; `None` when none was found.
    pub capacity_per_second: Option<f64>,
    /// Lower end of its 95 % interval.
    pub capacity_low: Option<f64>,
    /// Upper end.
    pub capacity_high: Option<f64>,
    /// Whether it is a lower bound only: the generator was saturated, or nothing gave out.
    pub at_least: bool,
    /// Whether a trial of its own confirmed it.
    pub confirmed: bool,
    /// The lowest level that reaches it, in workers.
    pub workers: Option<f64>,
    /// Service times there.
    pub p50_seconds: Option<f64>,
    /// 95 % took at most this long.
    pub p95_seconds: Option<f64>,
    /// 99 % did.
    pub p99_seconds: Option<f64>,
    /// What limits it, in a word: `cpu`, `memory`, … as in the verdict.
    pub limit: Option<Resource>,
    /// The verdict's sentence.
    pub verdict: Option<String>,
    /// The share of each resource that was left at capacity, 0 to 1: `cpu`, `memory`, `disk`, `network`.
    pub headroom: BTreeMap<String, f64>,
    /// What an hour costs; `None` is unknown.
    pub price: Option<Price>,
    /// What a million requests cost at capacity.
    pub price_per_million: Option<f64>,
    /// Exit code of the load; `None` when it never began.
    pub load_exit_code: Option<i32>,
    /// Why there is no result, or only a part of one.
    pub failure: Option<String>,
}

/// Which row to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recommendation {
    /// Its label; `None` when none can be recommended.
    pub label: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
}

/// A row against the same row of an earlier result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The label of both.
    pub label: String,
    /// Capacity then.
    pub before_per_second: Option<f64>,
    /// Capacity now.
    pub now_per_second: Option<f64>,
    /// Now against then: 0.1 is a tenth more.
    pub change_ratio: Option<f64>,
    /// `improved`, `regressed`, `unchanged` or `unclear`.
    pub outcome: String,
}

impl Figures {
    /// What is known of a row before it has run.
    pub fn of(row: &Row, price: Option<Price>) -> Self {
        Self {
            label: row.label(),
            cpus: row.limits.cpus,
            memory_bytes: row.limits.memory_bytes,
            instance_type: row.instance_type.clone(),
            price,
            ..Self::default()
        }
    }

    /// Adds what its run found.
    pub fn read(&mut self, results: &Results) {
        let search = results
            .sizing
            .as_ref()
            .and_then(|sizing| sizing.search.as_ref());
        if let Some(verdict) = &results.verdict {
            self.limit = Some(verdict.resource);
            self.verdict = Some(verdict.sentence.clone());
        }
        if let Some(capacity) = search.and_then(|search| search.capacity.as_ref()) {
            let with_requests = capacity.requests_per_second.mean > 0.0;
            let rate = if with_requests {
                capacity.requests_per_second
            } else {
                capacity.runs_per_second
            };
            self.capacity_per_second = Some(rate.mean);
            self.capacity_low = Some(rate.low);
            self.capacity_high = Some(rate.high);
            self.confirmed = capacity.confirmed;
            self.workers = Some(capacity.level);
            self.at_least = self.limit == Some(Resource::Generator)
                || capacity.limit == crate::sizing::search::Limit::Nothing
                || search.is_some_and(|search| search.ramp_ended.is_none());
            self.p50_seconds = capacity.service_times.map(|times| times.p50_seconds);
            self.p95_seconds = capacity.service_times.map(|times| times.p95_seconds);
            self.p99_seconds = capacity.service_times.map(|times| times.p99_seconds);
            if let Some(price) = self.price.as_ref().filter(|_| rate.mean > 0.0) {
                self.price_per_million = Some(price.per_hour / 3600.0 / rate.mean * 1e6);
            }
        }
        self.headroom = headroom(results);
    }

    fn low(&self) -> f64 {
        self.capacity_low.unwrap_or(0.0)
    }

    fn mean(&self) -> f64 {
        self.capacity_per_second.unwrap_or(0.0)
    }
}

/// What was left of each resource at capacity: of the service, where it is known, else of the host.
fn headroom(results: &Results) -> BTreeMap<String, f64> {
    let Some(level) = results
        .verdict
        .as_ref()
        .and_then(|verdict| verdict.level.as_ref())
    else {
        return BTreeMap::new();
    };
    let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let (from, to) = (time(level.from_seconds), time(level.to_seconds));
    let mut left = BTreeMap::new();
    for series in results
        .monitor
        .iter()
        .filter(|series| series.source != GENERATOR)
    {
        let mean = |metric| series.window(metric, from, to).map(|window| window.mean);
        let used = [
            ("cpu", Metric::CpuCoresUsed),
            ("memory", Metric::MemoryBytes),
            ("disk", Metric::DiskBusyRatio),
            ("network", Metric::NetworkBusyRatio),
        ];
        for (name, metric) in used {
            let share = match metric.limit() {
                Some(limit) => mean(metric)
                    .zip(mean(limit))
                    .map(|(used, limit)| used / limit),
                None => mean(metric),
            };
            if let Some(share) = share.filter(|share| share.is_finite()) {
                let headroom = (1.0 - share).clamp(0.0, 1.0);
                // The tightest of several things watched.
                left.entry(name.to_owned())
                    .and_modify(|known: &mut f64| *known = known.min(headroom))
                    .or_insert(headroom);
            }
        }
    }
    left
}

/// Which row to take. `need` is in requests per second.
pub fn recommend(rows: &[Figures], need: Option<f64>) -> Recommendation {
    let none = |reason: String| Recommendation {
        label: None,
        reason,
    };
    let known: Vec<&Figures> = rows
        .iter()
        .filter(|row| row.capacity_per_second.is_some() && row.failure.is_none())
        .collect();
    if known.is_empty() {
        return none("no row has a capacity".to_owned());
    }
    let enough: Vec<&Figures> = match need {
        Some(need) => known
            .iter()
            .copied()
            .filter(|row| row.low() >= need)
            .collect(),
        None => known.clone(),
    };
    if enough.is_empty() {
        let best = known
            .iter()
            .copied()
            .max_by(|a, b| a.low().total_cmp(&b.low()));
        let best = best.map_or_else(String::new, |row| {
            format!(
                ": {} takes {:.0} to {:.0} per second at best",
                row.label,
                row.low(),
                row.capacity_high.unwrap_or(0.0)
            )
        });
        return none(format!(
            "no row takes {:.0} requests per second for certain{best}",
            need.unwrap_or(0.0)
        ));
    }
    let takes = need.map_or_else(String::new, |need| {
        format!("of those that take {need:.0} requests per second, ")
    });
    if enough.iter().all(|row| row.price.is_some()) {
        return by_price(&enough, need, &takes);
    }
    by_capacity(&enough, need, &takes)
}

/// With a need the lowest price per hour counts, without one the lowest price per request.
fn by_price(rows: &[&Figures], need: Option<f64>, takes: &str) -> Recommendation {
    let cost = |row: &Figures| match need {
        Some(_) => row
            .price
            .as_ref()
            .map_or(f64::INFINITY, |price| price.per_hour),
        None => row.price_per_million.unwrap_or(f64::INFINITY),
    };
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let Some(best) = sorted.first() else {
        return Recommendation {
            label: None,
            reason: String::new(),
        };
    };
    let currency = best
        .price
        .as_ref()
        .map_or("USD", |price| price.currency.as_str());
    let unit = if need.is_some() {
        "per hour"
    } else {
        "per million requests"
    };
    let mut reason = format!(
        "{takes}{} is the cheapest: {currency} {:.4} {unit}",
        best.label,
        cost(best)
    );
    if let Some(next) = sorted.get(1) {
        let more = (cost(next) / cost(best) - 1.0) * 100.0;
        let _ = write!(reason, "; {} costs {more:.0} % more", next.label);
    }
    Recommendation {
        label: Some(best.label.clone()),
        reason: reason + caveat(best),
    }
}

/// Without prices: the first row (rows are given from small to large) whose capacity none of the others surely exceeds.
fn by_capacity(rows: &[&Figures], need: Option<f64>, takes: &str) -> Recommendation {
    let picked = |row: &Figures, reason: String| Recommendation {
        label: Some(row.label.clone()),
        reason: format!(
            "{takes}{reason}{}; prices are unknown (--prices)",
            caveat(row)
        ),
    };
    let mut by_size = rows.to_vec();
    by_size.sort_by(|a, b| {
        let size = |row: &Figures| {
            (
                row.cpus.unwrap_or(f64::INFINITY),
                row.memory_bytes.unwrap_or(u64::MAX),
            )
        };
        let (a, b) = (size(a), size(b));
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    });
    let highest = rows.iter().map(|row| row.low()).fold(0.0, f64::max);
    let is_best = |row: &&&Figures| row.at_least || row.capacity_high.unwrap_or(0.0) >= highest;
    let smallest = if need.is_some() {
        by_size.first()
    } else {
        by_size.iter().find(is_best)
    };
    let Some(row) = smallest else {
        return Recommendation {
            label: None,
            reason: "no row has a capacity".to_owned(),
        };
    };
    if rows.len() == 1 {
        return picked(
            row,
            format!(
                "{} is the only row: {:.0} per second",
                row.label,
                row.mean()
            ),
        );
    }
    if need.is_some() {
        return picked(row, format!("{} is the smallest", row.label));
    }
    picked(
        row,
        format!(
            "{} is the smallest that none of the others surely exceeds: {:.0} per second",
            row.label,
            row.mean()
        ),
    )
}

fn caveat(row: &Figures) -> &'static str {
    if row.at_least {
        " (its capacity is a lower bound)"
    } else if row.confirmed {
        ""
    } else {
        " (its capacity is not confirmed)"
    }
}

/// Every row that both results have.
pub fn changes(before: &[Figures], now: &[Figures]) -> Vec<Change> {
    now.iter()
        .filter_map(|row| {
            let old = before.iter().find(|old| old.label == row.label)?;
            Some(change(old, row))
        })
        .collect()
}

fn change(old: &Figures, new: &Figures) -> Change {
    let ends = |row: &Figures| Some((row.capacity_low?, row.capacity_high?));
    let outcome = match (ends(old), ends(new)) {
        // A lower bound meets everything above it.
        (Some(_), Some(_)) if old.at_least || new.at_least => "unclear",
        (Some((_, old_high)), Some((new_low, _))) if new_low > old_high => "improved",
        (Some((old_low, _)), Some((_, new_high))) if new_high < old_low => "regressed",
        (Some(_), Some(_)) => "unchanged",
        _ => "unclear",
    };
    let ratio = old.capacity_per_second.zip(new.capacity_per_second);
    Change {
        label: new.label.clone(),
        before_per_second: old.capacity_per_second,
        now_per_second: new.capacity_per_second,
        change_ratio: ratio
            .filter(|(old, _)| *old > 0.0)
            .map(|(old, new)| new / old - 1.0),
        outcome: outcome.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, cpus: f64, low: f64, high: f64, per_hour: Option<f64>) -> Figures {
        let mean = f64::midpoint(low, high);
        Figures {
            label: label.to_owned(),
            cpus: Some(cpus),
            capacity_per_second: Some(mean),
            capacity_low: Some(low),
            capacity_high: Some(high),
            confirmed: true,
            price: per_hour.map(|per_hour| Price {
                per_hour,
                currency: "USD".to_owned(),
                source: "test".to_owned(),
                date: "2026-11-01".to_owned(),
            }),
            price_per_million: per_hour.map(|per_hour| per_hour / 3600.0 / mean * 1e6),
            ..Figures::default()
        }
    }

    fn label(rows: &[Figures], need: Option<f64>) -> Option<String> {
        recommend(rows, need).label
    }

    #[test]
    fn without_prices_it_is_the_smallest_that_none_surely_exceeds() {
        let rows = [
            row("1", 1.0, 95.0, 105.0, None),
            row("2", 2.0, 180.0, 200.0, None),
            row("4", 4.0, 185.0, 205.0, None),
        ];
        assert_eq!(label(&rows, None).as_deref(), Some("2"));
        assert_eq!(label(&rows, Some(90.0)).as_deref(), Some("1"));
        assert_eq!(label(&rows, Some(500.0)), None);
        assert!(
            recommend(&rows, Some(500.0))
                .reason
                .contains("no row takes 500")
        );
    }

    #[test]
    fn with_prices_it_is_the_cheapest_per_request_or_per_hour() {
        let rows = [
            row("small", 1.0, 95.0, 105.0, Some(0.1)),
            row("large", 4.0, 390.0, 410.0, Some(0.3)),
        ];
        assert_eq!(label(&rows, None).as_deref(), Some("large"));
        assert_eq!(label(&rows, Some(50.0)).as_deref(), Some("small"));
        let reason = recommend(&rows, None).reason;
        assert!(reason.contains("small costs 33 % more"), "{reason}");
    }

    #[test]
    fn a_row_without_capacity_is_never_recommended() {
        let mut failed = row("1", 1.0, 95.0, 105.0, None);
        failed.failure = Some("it died".to_owned());
        assert_eq!(label(&[failed, Figures::default()], None), None);
    }

    #[test]
    fn only_intervals_that_do_not_meet_differ() {
        let outcome = |old: (f64, f64), new: (f64, f64)| {
            let old = row("x", 1.0, old.0, old.1, None);
            let new = row("x", 1.0, new.0, new.1, None);
            changes(&[old], &[new]).remove(0).outcome
        };
        assert_eq!(outcome((90.0, 110.0), (111.0, 120.0)), "improved");
        assert_eq!(outcome((90.0, 110.0), (105.0, 120.0)), "unchanged");
        assert_eq!(outcome((90.0, 110.0), (70.0, 89.0)), "regressed");
        let mut bound = row("x", 1.0, 200.0, 210.0, None);
        bound.at_least = true;
        assert_eq!(
            changes(&[row("x", 1.0, 90.0, 110.0, None)], &[bound])[0].outcome,
            "unclear"
        );
    }
}
