//! A run as a page shows it: which sections there are, and in which order.
//!
//! Owns the order of the story: the answer, what happened over time, what the service did under each load, what every
//! resource did, where the time went, what failed, how to repeat it. The parts are made by the files beside this one.

use super::model::{Mark, Phase, Run, Section, Timeline};
use super::number::instant;
use super::{closing, failures, levels, load, opening, recording, resources, times};
use crate::monitor::{GENERATOR, in_words};
use crate::results::Results;
use crate::sizing::search;

impl Run {
    /// Everything that a page shows of a run. Never fails: what the document lacks, the page lacks.
    pub fn of(results: &Results) -> Self {
        if results.is_recording() {
            return recording::run(results);
        }
        let mut timeline = timeline(results);
        let mut sections = vec![
            load::section(results, &mut timeline),
            failures::thresholds(results),
            levels::section(results),
        ];
        let (generators, targets): (Vec<_>, Vec<_>) = results
            .monitor
            .iter()
            .partition(|series| series.source == GENERATOR);
        // Of what fails the errors come before the resources.
        let failing = results.counts.failed > 0;
        if failing {
            sections.push(failures::section(results));
        }
        for (number, series) in targets.into_iter().enumerate() {
            let id = format!("target-{number}");
            let title = format!("Resources of {}", in_words(&series.source));
            let level = opening::level(results);
            sections.push(resources::section(
                &id,
                &title,
                series,
                level,
                &mut timeline,
            ));
        }
        sections.push(times::section(results));
        if !failing {
            sections.push(failures::section(results));
        }
        let mut generator = resources::lag(results, &mut timeline);
        for series in generators {
            let level = opening::level(results);
            let own = resources::section("generator", "", series, level, &mut timeline);
            generator.blocks.extend(own.blocks);
        }
        sections.push(generator);
        sections.push(closing::service(results));
        sections.push(closing::environment(results));
        sections.push(closing::method(results));
        sections.retain(|section: &Section| !section.blocks.is_empty());
        Self {
            title: opening::title(results),
            subtitle: opening::subtitle(results),
            verdict: opening::verdict(results),
            cards: opening::cards(results),
            timeline,
            sections,
        }
    }
}

/// The axis of time with the phases and the moments that matter.
fn timeline(results: &Results) -> Timeline {
    let last = results.series.0.last().map(|point| point.time_seconds);
    let end = results.meta.elapsed_seconds.max(last.unwrap_or_default());
    let end = if end.is_finite() { end } else { 0.0 };
    let mut timeline = Timeline {
        end: instant(end),
        ..Timeline::default()
    };
    let Some(sizing) = &results.sizing else {
        return timeline;
    };
    let offset = sizing.search_began_seconds;
    let Some(findings) = &sizing.search else {
        if let Some(ramp) = &sizing.ramp
            && ramp.reason.is_answer()
        {
            timeline.marks.push(Mark {
                name: "gave out".to_owned(),
                at: instant(end),
            });
        }
        return timeline;
    };
    for phase in &findings.phases {
        let from = (offset + phase.began_seconds).clamp(0.0, end);
        let to = (offset + phase.ended_seconds).clamp(from, end);
        if phase.phase != search::Phase::Done && to > from {
            timeline.phases.push(Phase {
                name: phase.phase.as_str().to_owned(),
                from: instant(from),
                to: instant(to),
            });
        }
        let broke = findings
            .ramp_ended
            .is_some_and(crate::sizing::Reason::is_answer);
        if phase.phase == search::Phase::Ramp && broke {
            timeline.marks.push(Mark {
                name: "gave out".to_owned(),
                at: instant(to),
            });
        }
    }
    if let (Some(_), Some(level)) = (&findings.capacity, opening::level(results)) {
        timeline.marks.push(Mark {
            name: "capacity".to_owned(),
            at: instant(level.from_seconds.clamp(0.0, end)),
        });
    }
    timeline
}
