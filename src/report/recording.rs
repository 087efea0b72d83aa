//! What was monitored without a run, as a page shows it: the answer as far as it goes, and every resource over time.
//!
//! Owns the order of that shorter story. Called by `run` for documents that hold nothing else.

use super::model::{Card, Mark, Phase, Run, Section, Timeline, Tone, Verdict};
use super::number::instant;
use super::{number, opening, resources};
use crate::monitor::{Metric, Series};
use crate::results::Results;
use crate::verdict::{Confidence, Resource};

pub(super) fn run(results: &Results) -> Run {
    let mut timeline = Timeline {
        end: instant(results.meta.elapsed_seconds),
        ..Timeline::default()
    };
    let level = opening::level(results);
    if let Some(level) = level {
        timeline.phases.push(Phase {
            name: "judged".to_owned(),
            from: instant(level.from_seconds),
            to: instant(level.to_seconds),
        });
        timeline.marks.push(Mark {
            name: "busiest".to_owned(),
            at: instant(level.from_seconds),
        });
    }
    let mut sections: Vec<Section> = Vec::new();
    for (place, series) in results.monitor.iter().enumerate() {
        let title = format!("Resources of {}", series.source);
        let id = format!("target-{place}");
        sections.push(resources::section(
            &id,
            &title,
            series,
            level,
            &mut timeline,
        ));
    }
    sections.retain(|section| !section.blocks.is_empty());
    let source = results
        .monitor
        .first()
        .map_or("", |series| series.source.as_str());
    Run {
        title: format!("Resources of {}", super::table::cut(source, 120)),
        subtitle: opening::subtitle(results),
        verdict: verdict(results),
        cards: results.monitor.first().map_or_else(Vec::new, cards),
        timeline,
        sections,
    }
}

fn verdict(results: &Results) -> Verdict {
    let mut lines = results.headlines().into_iter();
    let known = results.verdict.as_ref();
    let tone = match known.map(|verdict| (verdict.resource, verdict.confidence)) {
        None | Some((Resource::Unknown | Resource::Nothing, _)) => Tone::Plain,
        Some((_, Confidence::High)) => Tone::Bad,
        Some(_) => Tone::Warn,
    };
    let first = lines
        .next()
        .unwrap_or_else(|| "Nothing was recorded".to_owned());
    // What was not found needs no heading of three lines.
    let (headline, reason) = match first.split_once(": ") {
        Some((short, reason)) if tone == Tone::Plain => (
            format!("{short}."),
            Some(format!("{}.", opening::capital(reason))),
        ),
        _ => (first, None),
    };
    Verdict {
        headline,
        tone,
        line: String::new(),
        remarks: reason
            .into_iter()
            .chain(lines)
            .chain(["No load is known of this recording: that nothing was near its limit does not say that more would \
                     have been possible."
                .to_owned()])
            .collect(),
    }
}

fn cards(series: &Series) -> Vec<Card> {
    let whole = |metric: Metric| {
        let window = series.window(metric, std::time::Duration::ZERO, std::time::Duration::MAX)?;
        Some((window.mean, window.max))
    };
    let limit = |metric: Metric| Some(whole(metric.limit()?)?.1);
    let mut cards = Vec::new();
    let mut add = |label: &str, metric: Metric, shown: &dyn Fn(f64) -> String| {
        if let Some((mean, most)) = whole(metric) {
            let mut details = vec![format!("{} in the mean", shown(mean))];
            details.extend(limit(metric).map(|limit| format!("limit {}", shown(limit))));
            let text = shown(most);
            let (value, unit) = text.split_once(' ').unwrap_or((&text, ""));
            cards.push(Card {
                label: format!("{label}, at most"),
                value: value.to_owned(),
                unit: unit.to_owned(),
                status: String::new(),
                tone: Tone::Plain,
                details,
            });
        }
    };
    add("CPU", Metric::CpuCoresUsed, &|cores| {
        format!("{cores:.2} cores")
    });
    add("Memory", Metric::MemoryBytes, &number::bytes);
    let rate = |value: f64| format!("{}/s", number::bytes(value));
    add(
        "Network, received",
        Metric::NetworkReceiveBytesPerSecond,
        &rate,
    );
    add(
        "Network, sent",
        Metric::NetworkTransmitBytesPerSecond,
        &rate,
    );
    add("Disk, read", Metric::DiskReadBytesPerSecond, &rate);
    add("Disk, written", Metric::DiskWriteBytesPerSecond, &rate);
    cards
}
