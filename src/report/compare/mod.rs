//! Runs against each other: two releases, two instance types, two backends.
//!
//! Owns the comparison: what is compared, how sure it is, and what each change means. The first run is the baseline.
//! Documents of runs come in, data and texts go out. Called by `python`; the statistics are explained in docs/comparing.md.
//!
//! | file | owns |
//! |---|---|
//! | `metrics` | the metrics of one run, each with its evidence |
//! | `evidence` | intervals of values and of changes |
//! | `student` | Student's distribution |
//! | `judge` | improved, regressed, unchanged, unclear |
//! | `document` | what a comparison holds |
//! | `words` | numbers with their units |
//! | `text`, `markdown`, `page` | for a terminal, for a pull request, with charts |

mod document;
mod evidence;
mod judge;
mod markdown;
mod metrics;
mod page;
mod student;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use document::{Change, Comparison, Metric, Run, SCHEMA, Unit, Value, Verdict};
pub use page::page;

use crate::results::Results;
use crate::verdict::Resource;
use judge::Pair;
use metrics::Known;

/// Of every interval and of the verdicts.
const CONFIDENCE: f64 = 0.95;

/// Compares runs with the first of them. Each comes with the name of its file; changes smaller than `margin` (0.05 is
/// 5 %) do not matter.
pub fn compare(runs: &[(String, Results)], margin: f64) -> Comparison {
    let known: Vec<Vec<Known>> = runs
        .iter()
        .map(|(_, results)| metrics::of(results))
        .collect();
    let mut comparison = Comparison {
        schema: SCHEMA,
        margin,
        confidence: CONFIDENCE,
        runs: runs
            .iter()
            .enumerate()
            .map(|(place, (file, results))| run(place, file, results))
            .collect(),
        metrics: Vec::new(),
        cautions: cautions(runs),
    };
    let Some((baseline, others)) = known.split_first() else {
        return comparison;
    };
    let found: Vec<Vec<Option<&Known>>> = baseline
        .iter()
        .map(|metric| {
            others
                .iter()
                .map(|other| counterpart(baseline, metric, other))
                .collect()
        })
        .collect();
    let mut changes: Vec<Vec<Option<Change>>> = vec![vec![None; others.len()]; baseline.len()];
    for place in 0..others.len() {
        let pairs: Vec<(usize, Pair)> = baseline
            .iter()
            .zip(&found)
            .enumerate()
            .filter_map(|(row, (before, found))| {
                let after = (*found.get(place)?)?;
                Some((row, pair(before, after)))
            })
            .collect();
        let (rows, pairs): (Vec<usize>, Vec<Pair>) = pairs.into_iter().unzip();
        for (row, change) in rows
            .into_iter()
            .zip(judge::judge(&pairs, margin, CONFIDENCE))
        {
            if let Some(slot) = changes
                .get_mut(row)
                .and_then(|changes| changes.get_mut(place))
            {
                *slot = Some(change);
            }
        }
    }
    let rows = baseline.iter().zip(&found).zip(changes);
    comparison.metrics = rows
        .filter(|((_, found), _)| found.iter().any(Option::is_some))
        .map(|((before, found), changes)| Metric {
            id: before.id.to_owned(),
            of: before.of.clone(),
            name: before.name.clone(),
            unit: before.unit,
            more_is_better: before.more_is_better,
            values: std::iter::once(Some(value(before)))
                .chain(found.iter().map(|found| found.map(value)))
                .collect(),
            changes,
        })
        .collect();
    comparison
}

/// The same metric in another run. Targets are matched by their name, or else by their place: another port or container
/// is the same target in another run.
fn counterpart<'a>(baseline: &[Known], metric: &Known, other: &'a [Known]) -> Option<&'a Known> {
    let same = |one: &&Known| one.id == metric.id && one.unit == metric.unit;
    let named = other.iter().filter(same).find(|one| one.of == metric.of);
    if named.is_some() || metric.of.is_none() || !matches!(metric.id, "cpu_per_request" | "memory")
    {
        return named;
    }
    let place = baseline
        .iter()
        .filter(same)
        .position(|one| one.of == metric.of)?;
    let one = other.iter().filter(same).nth(place)?;
    let taken = baseline.iter().filter(same).any(|known| known.of == one.of);
    (!taken).then_some(one)
}

fn pair<'a>(before: &'a Known, after: &'a Known) -> Pair<'a> {
    Pair {
        before: &before.evidence,
        after: &after.evidence,
        scale: before.scale(),
        more_is_better: before.more_is_better,
        before_at_least: before.at_least,
        after_at_least: after.at_least,
    }
}

fn value(known: &Known) -> Value {
    let range = known.evidence.interval(CONFIDENCE);
    Value {
        value: known.evidence.value(),
        low: range.low,
        high: range.high,
        at_least: known.at_least,
    }
}

fn run(place: usize, file: &str, results: &Results) -> Run {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let letter = LETTERS.chars().nth(place);
    let first = results.headlines().into_iter().next();
    Run {
        letter: letter.map_or_else(|| format!("run {}", place + 1), String::from),
        file: file.to_owned(),
        started_at: results.meta.started_at.clone(),
        scenario_file: results.meta.scenario_file.clone(),
        host: results.meta.host.clone(),
        headline: match first {
            Some(line) if results.sizing.is_some() => line,
            _ => format!(
                "{:.1} {} over {:.0} s, {} of {} runs failed",
                results.throughput(),
                results.throughput_unit(),
                results.meta.elapsed_seconds,
                results.counts.failed,
                results.counts.succeeded + results.counts.failed
            ),
        },
    }
}

/// What makes the runs hard to compare.
fn cautions(runs: &[(String, Results)]) -> Vec<String> {
    let mut cautions = Vec::new();
    for (place, (file, results)) in runs.iter().enumerate() {
        let name = run(place, file, results).letter;
        if !results.complete {
            cautions.push(format!("{name} did not come to its end"));
        }
        if results
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.resource == Resource::Generator)
        {
            cautions.push(format!(
                "in {name} the generator was saturated: its figures are lower bounds"
            ));
        }
        if results.sizing.is_some() && metrics::of(results).is_empty() {
            cautions.push(format!(
                "{name} was sized but found no capacity, so nothing of it is compared"
            ));
        }
    }
    let Some(((_, first), others)) = runs.split_first() else {
        return cautions;
    };
    let differs =
        |of: fn(&Results) -> String| others.iter().any(|(_, other)| of(other) != of(first));
    if others
        .iter()
        .any(|(_, other)| other.sizing.is_some() != first.sizing.is_some())
    {
        cautions.push(
            "some runs were sized and some were not: only what both have is compared".to_owned(),
        );
    }
    if differs(|one| one.meta.scenario_sha256.clone().unwrap_or_default()) {
        cautions.push("the scenario files differ".to_owned());
    }
    let most = |one: &Results| {
        let most = one.series.0.iter().map(metrics::load).fold(0.0, f64::max);
        format!("{most:.3}")
    };
    if first.sizing.is_none() && differs(|one| one.starts.is_some().to_string()) {
        cautions.push(
            "some runs were started at a rate and some by workers that wait: throughput and times are not of the same load"
                .to_owned(),
        );
    } else if first.sizing.is_none() && differs(most) {
        let what = if first.starts.is_some() {
            "rates were asked for"
        } else {
            "numbers of workers were at work"
        };
        cautions.push(format!(
            "different {what}, and throughput and service times go with them"
        ));
    }
    if differs(|one| {
        format!(
            "{} {} {}",
            one.meta.host, one.meta.cores, one.meta.processes
        )
    }) {
        cautions.push(
            "the load came from different machines, cores or numbers of processes".to_owned(),
        );
    }
    cautions
}
