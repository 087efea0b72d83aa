//! What gave out first: the generator, a resource of the target, or something inside the service.
//!
//! Owns the rules and their order, and the numbers that are printed as evidence. Pure: series of the monitor and the
//! levels of the run come in, a verdict goes out. A rule that lacks its metric says nothing; when no rule can say
//! anything, neither does the verdict. Made at the end of a run by `results`.
//!
//! | file | owns |
//! |---|---|
//! | `finding` | what a verdict is made of |
//! | `look` | reading one target's metrics over one level |
//! | `generator`, `memory`, `cpu`, `disk`, `network`, `inside` | the rules, in this order |
//! | `growth` | memory that grows with the requests |
//!
//! Two signs of memory differ. What hurts now (near the limit, swapping, kills, pressure) comes before every other
//! resource, because it makes all of them look busy. Growth that will hit the limit does not hurt yet: it is the verdict
//! only when nothing else is, and is told in any case.

mod cpu;
mod disk;
mod finding;
mod generator;
mod growth;
mod inside;
mod look;
mod memory;
mod network;
#[cfg(test)]
mod tests;

pub use finding::{
    Confidence, Evidence, Finding, GeneratorCheck, Growth, Resource, Verdict, whose,
};
pub use look::Level;

use crate::monitor::Series;
use look::Look;

/// All that is known of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The generator's series, if it was sampled.
    pub generator: Option<&'a Series>,
    /// The series of the targets.
    pub targets: &'a [&'a Series],
    /// The level to judge: the confirmed one, or the last.
    pub level: Option<&'a Level>,
    /// Other levels that were held, in any order.
    pub others: &'a [Level],
    /// Requests answered since the start of the run, by its time in seconds.
    pub requests: &'a [(f64, u64)],
    /// What most of the failed runs raised, in a few words.
    pub failure: Option<&'a str>,
}

type Rule = fn(&Look, &[Level]) -> Option<Finding>;

/// The rules about resources of targets, in their order.
const RULES: [Rule; 4] = [memory::rule, cpu::rule, disk::rule, network::rule];

/// Those that a higher load may answer. Memory is left out: runs in flight need some, whatever limits them.
const RULES_ABOVE: [Rule; 3] = [cpu::rule, disk::rule, network::rule];

/// What is busy under a higher load that brings no more. The lowest load that suffices need not fill what limits it: where
/// one request is made after the other, client and network have their share of the time.
fn busy_above(looks: &[Look], level: &Level, others: &[Level]) -> Vec<Finding> {
    let mut flat: Vec<&Level> = inside::flat_above(level, others).collect();
    flat.sort_by(|a, b| b.active.total_cmp(&a.active));
    let at = |there: &&Level| -> Vec<Finding> {
        let rules = RULES_ABOVE.iter();
        let found = rules.flat_map(|rule| {
            let looks = looks.iter().map(|look| look.during(there));
            looks.filter_map(|look| rule(&look, others))
        });
        found.map(|one| one.with_load(there.active)).collect()
    };
    flat.iter()
        .map(at)
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Applies the rules.
pub fn judge(known: &Known) -> Verdict {
    let Some(level) = known.level else {
        return Verdict::undecided("not enough evidence: no load was held long enough to judge");
    };
    let mut generator = generator::check(known.generator, level);
    let growth = growth::of_all(known);
    let looks: Vec<Look> = known
        .targets
        .iter()
        .map(|series| Look { series, level })
        .collect();
    let busy = |looks: &[Look]| -> Vec<Finding> {
        RULES
            .iter()
            .flat_map(|rule| looks.iter().filter_map(|look| rule(look, known.others)))
            .collect()
    };
    let mut resources = busy(&looks);
    if resources.is_empty()
        && let Some(broken) = inside::breaks(level, known.others)
    {
        // Well below its limits where runs succeed, it may reach one where they fail.
        let there: Vec<Look> = looks.iter().map(|look| look.during(broken)).collect();
        resources = busy(&there);
    }
    if resources.is_empty() {
        resources = busy_above(&looks, level, known.others);
    }
    if resources.is_empty()
        && generator.findings.is_empty()
        && let Some(above) = generator::check_above(known.generator, level, known.others)
    {
        generator = above;
    }
    let mut findings = generator.findings;
    if resources.is_empty() {
        let slow = network::slow_answers(&looks, level, known.others);
        resources.extend(slow.or_else(|| cpu::crowded(&looks)));
    }
    findings.extend(resources);
    let full = |one: &Growth| {
        findings.iter().any(|found| {
            found.resource == Resource::Memory && found.source.as_ref() == Some(&one.source)
        })
    };
    // What is full already need not be said to become so.
    let filling = growth.iter().filter(|one| !full(one));
    let filling: Vec<Finding> = filling.filter_map(Growth::finding).collect();
    findings.extend(filling);
    if findings.is_empty() {
        findings.extend(inside::rule(&looks, known));
    }
    Verdict::of(level, generator.check, findings, growth, looks.is_empty())
}
