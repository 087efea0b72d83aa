//! A comparison as a page: the outcome, every metric in a table, and the runs over each other.
//!
//! Owns which series are laid over each other. The runs share one time axis that begins with each of them; the page, its
//! charts and its escaping are those of a single run's report. Called by `python`.

use super::document::{Change, Comparison, Metric, Verdict};
use super::text::ORDER;
use super::words::{amount, change, with_interval};
use crate::monitor::{self, Metric as Sampled};
use crate::report::html::Page;
use crate::report::levels::over_each_other;
use crate::report::model::{Axis, Block, Card, Chart, Line, Run, Section, Timeline, Tone};
use crate::report::opening::capital;
use crate::report::table::{Cell, Table};
use crate::report::thin::{MOST_POINTS, Thinner};
use crate::report::{model, table};
use crate::results::{Point, Results};

/// So many figures stand above the table.
const MOST_CARDS: usize = 6;

/// So many changes stand in the heading, and on the card of a run.
const IN_HEADLINE: usize = 2;
const MOST_CHANGES: usize = 4;

/// Reads one quantity of a second.
type OfSecond = fn(&Point) -> Option<f64>;

/// Times that are laid over each other: the place in the page, the title, what a second has of it.
const TIMES: [(&str, &str, OfSecond); 4] = [
    ("p50", "p50 service time", |point| point.p50_seconds),
    ("p95", "p95 service time", |point| point.p95_seconds),
    ("p99", "p99 service time", |point| point.p99_seconds),
    (
        "response-p95",
        "p95 response time, from the intended start",
        |point| point.response_p95_seconds,
    ),
];

/// The page as one file. `runs` are those that the comparison was made of.
pub fn page(comparison: &Comparison, runs: &[(String, Results)]) -> String {
    let mut timeline = Timeline {
        end: runs
            .iter()
            .map(|(_, results)| results.meta.elapsed_seconds)
            .fold(0.0, f64::max),
        ..Timeline::default()
    };
    let mut sections = vec![who(comparison)];
    sections.extend((1..comparison.runs.len()).map(|place| metrics(comparison, place)));
    sections.push(overlays(comparison, runs, &mut timeline));
    sections.push(levels(comparison, runs));
    sections.extend((1..comparison.runs.len()).map(|place| details(comparison, place)));
    sections.push(method(comparison));
    sections.retain(|section| !section.blocks.is_empty());
    let (headline, tone) = headline(comparison);
    let files: Vec<String> = comparison
        .runs
        .iter()
        .map(|run| format!("{} {}", run.letter, run.file))
        .collect();
    let outcomes = (1..comparison.runs.len()).map(|place| comparison.outcome(place) + ".");
    let cautions = comparison.cautions.iter();
    let cautions = cautions.map(|caution| format!("Caution: {caution}."));
    let shown = Run {
        title: "Load tests compared".to_owned(),
        subtitle: table::cut(&files.join(" · "), 300),
        verdict: model::Verdict {
            headline: headline.clone(),
            tone,
            line: String::new(),
            remarks: outcomes.chain(cautions).collect(),
        },
        cards: cards(comparison),
        timeline,
        sections,
    };
    let mut page = Page::new(&format!("{headline} · Load tests compared"));
    page.run(&shown);
    page.finish()
}

fn headline(comparison: &Comparison) -> (String, Tone) {
    let tone = if comparison.count(Verdict::Regressed) > 0 {
        Tone::Bad
    } else if comparison.count(Verdict::Improved) > 0 {
        Tone::Good
    } else {
        Tone::Plain
    };
    let only = comparison.runs.len() == 2;
    let outcomes: Vec<String> = (1..comparison.runs.len())
        .map(|place| {
            let (said, verdict) = in_short(comparison, place);
            let changes =
                verdict.map_or_else(Vec::new, |verdict| largest(comparison, place, verdict));
            match changes.get(..IN_HEADLINE.min(changes.len())) {
                Some(first) if only && !first.is_empty() => format!("{said}: {}", first.join(", ")),
                _ => said,
            }
        })
        .collect();
    (outcomes.join("; ") + ".", tone)
}

/// What became of a run in a few words, and the verdict that they stand for.
fn in_short(comparison: &Comparison, place: usize) -> (String, Option<Verdict>) {
    let letter = comparison
        .runs
        .get(place)
        .map_or("", |run| run.letter.as_str());
    let [regressed, improved, unclear, unchanged] =
        ORDER.map(|verdict| comparison.count_of(place, verdict));
    let (what, verdict) = match (regressed, improved) {
        (0, 0) if unclear > 0 => ("has no change that is certain", None),
        (0, 0) if unchanged > 0 => ("is unchanged", None),
        (0, 0) => ("has nothing that can be compared", None),
        (0, _) => ("has improved", Some(Verdict::Improved)),
        (_, 0) => ("has regressed", Some(Verdict::Regressed)),
        (..) => (
            "has regressed in some and improved in others",
            Some(Verdict::Regressed),
        ),
    };
    (format!("{letter} {what}"), verdict)
}

/// The changes of the run as a whole that have that verdict, in the order of the metrics: `throughput −30.1 %`.
fn largest(comparison: &Comparison, place: usize, verdict: Verdict) -> Vec<String> {
    let whole = comparison
        .having(place, verdict)
        .filter(|metric| metric.of.is_none());
    let named = whole.filter_map(|metric| {
        let one = metric.changes.get(place.saturating_sub(1))?.as_ref()?;
        Some(format!("{} {}", metric.name, change_parts(metric, one).0))
    });
    named.collect()
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Improved => Tone::Good,
        Verdict::Regressed => Tone::Bad,
        Verdict::Unclear => Tone::Warn,
        Verdict::Unchanged => Tone::Plain,
    }
}

/// Of two runs what became of each figure, of several what became of each run.
fn cards(comparison: &Comparison) -> Vec<Card> {
    if comparison.runs.len() > 2 {
        let others = (1..comparison.runs.len()).take(MOST_CARDS);
        return others.map(|place| card_of_run(comparison, place)).collect();
    }
    let whole = comparison
        .metrics
        .iter()
        .filter(|metric| metric.of.is_none());
    let cards = whole.filter_map(|metric| {
        let one = metric.changes.iter().flatten().next()?;
        let unit = metric.unit;
        let details = metric
            .values
            .iter()
            .zip(&comparison.runs)
            .filter_map(|(value, run)| {
                let value = value.as_ref()?;
                let least = if value.at_least { "≥ " } else { "" };
                Some(format!(
                    "{} {least}{}",
                    run.letter,
                    amount(unit, value.value)
                ))
            });
        let (value, _) = change_parts(metric, one);
        Some(Card {
            label: capital(&metric.name),
            value,
            unit: String::new(),
            status: one.verdict.as_str().to_owned(),
            tone: tone(one.verdict),
            details: details.collect(),
        })
    });
    cards.take(MOST_CARDS).collect()
}

fn card_of_run(comparison: &Comparison, place: usize) -> Card {
    let (_, verdict) = in_short(comparison, place);
    let counted = verdict.unwrap_or(Verdict::Unchanged);
    let mut details = largest(comparison, place, Verdict::Regressed);
    details.extend(largest(comparison, place, Verdict::Improved));
    details.truncate(MOST_CHANGES);
    details.push(format!(
        "{} unclear",
        comparison.count_of(place, Verdict::Unclear)
    ));
    Card {
        label: comparison.pair(place),
        value: comparison.count_of(place, counted).to_string(),
        unit: counted.as_str().to_owned(),
        status: verdict
            .map_or("no certain change", Verdict::as_str)
            .to_owned(),
        tone: tone(counted),
        details,
    }
}

/// A change in words, and its interval.
fn change_parts(metric: &Metric, one: &Change) -> (String, String) {
    let text = change(metric, one);
    match text.split_once(" (") {
        Some((value, interval)) => (value.to_owned(), interval.trim_end_matches(')').to_owned()),
        None => (text, String::new()),
    }
}

fn who(comparison: &Comparison) -> Section {
    let mut section = Section::new("runs", "The runs");
    let mut table = Table::new(
        "runs-table",
        "The first is the baseline",
        &["run", "file", "began", "scenario", "from", "found"],
    );
    for run in &comparison.runs {
        table.rows.push(vec![
            Cell::text(&run.letter),
            Cell::text(&run.file),
            Cell::text(&run.started_at),
            Cell::text(run.scenario_file.as_deref().unwrap_or("–")),
            Cell::text(&run.host),
            Cell::text(&run.headline),
        ]);
    }
    section.table(table);
    section
}

/// The run as a whole.
fn metrics(comparison: &Comparison, place: usize) -> Section {
    let mut section = Section::new(&format!("against-{place}"), &comparison.pair(place));
    let caption = comparison.outcome(place);
    let id = format!("metrics-{place}");
    let whole = |metric: &Metric| metric.of.is_none();
    section.table(table_of(comparison, place, (&id, &caption), whole));
    if section.blocks.is_empty() {
        let text = "There is no figure of the whole run that both have.".to_owned();
        section.blocks.push(Block::Text(text));
    }
    section
}

/// Each request, scenario and target.
fn details(comparison: &Comparison, place: usize) -> Section {
    let title = format!("{} in detail", comparison.pair(place));
    let mut section = Section::new(&format!("details-{place}"), &title);
    let id = format!("details-{place}-table");
    let caption = "Each request, each scenario and each monitored target";
    let part = |metric: &Metric| metric.of.is_some();
    section.table(table_of(comparison, place, (&id, caption), part));
    section
}

/// The metrics that are wanted, what changed first.
fn table_of(
    comparison: &Comparison,
    place: usize,
    (id, caption): (&str, &str),
    wanted: impl Fn(&Metric) -> bool,
) -> Table {
    let letter = |place: usize| {
        comparison
            .runs
            .get(place)
            .map_or("", |run| run.letter.as_str())
    };
    let (before, after) = (format!("#{}", letter(0)), format!("#{}", letter(place)));
    let titles = [
        "metric",
        "verdict",
        &before,
        &after,
        "#change",
        "#95 % interval",
    ];
    let mut table = Table::new(id, caption, &titles);
    for verdict in ORDER {
        for metric in comparison
            .having(place, verdict)
            .filter(|metric| wanted(metric))
        {
            let Some(Some(one)) = metric.changes.get(place.saturating_sub(1)) else {
                continue;
            };
            let value = |place: usize| match metric.values.get(place) {
                Some(Some(value)) => Cell::number(value.value, with_interval(metric.unit, value)),
                _ => Cell::text("–"),
            };
            let (change, interval) = change_parts(metric, one);
            table.rows.push(vec![
                Cell::text(&metric.name),
                Cell::text(&format!("{} {}", verdict.sign(), verdict.as_str())),
                value(0),
                value(place),
                Cell::number(one.change, change),
                Cell::number(one.low, interval),
            ]);
        }
    }
    table
}

/// Each run's series over its own time.
fn overlays(
    comparison: &Comparison,
    runs: &[(String, Results)],
    timeline: &mut Timeline,
) -> Section {
    let mut section = Section::new("overlays", "Over each other");
    let mut throughput = timed("throughput", "Throughput", Axis::new("per second", ""));
    let mut workers = timed("workers", "Workers", Axis::new("workers", ""));
    let mut failures = timed(
        "failures",
        "Failed runs",
        Axis::new("share of the runs", "%"),
    );
    let mut times: Vec<Chart> = TIMES
        .iter()
        .map(|(id, title, _)| timed(id, title, Axis::new("time", "ms").log()))
        .collect();
    let mut cpu = timed("cpu", "CPU of the target", Axis::new("cores", ""));
    let mut memory = timed("memory", "Memory of the target", Axis::new("memory", "MiB"));
    for ((_, results), run) in runs.iter().zip(&comparison.runs) {
        let spans: Vec<(&Point, f64)> = results.series.spans().collect();
        let thinner = Thinner::new(
            spans.iter().map(|(point, _)| point.time_seconds).collect(),
            MOST_POINTS,
        );
        let axis = timeline.axis(thinner.times());
        let line = |unit: &str, of: &dyn Fn(&Point, f64) -> Option<f64>| {
            let values: Vec<Option<f64>> =
                spans.iter().map(|(point, span)| of(point, *span)).collect();
            Line {
                name: run.letter.clone(),
                unit: unit.to_owned(),
                axis: Some(axis),
                y: thinner.values(&values),
                ..Line::default()
            }
        };
        let has_requests = results.attempts().tried > 0;
        let unit = results.throughput_unit();
        throughput.lines.push(line(unit, &|point, span| {
            let done = if has_requests {
                point.requests
            } else {
                point.succeeded
            };
            (span > 0.3).then(|| done as f64 / span)
        }));
        workers
            .lines
            .push(line("workers", &|point, _| Some(point.workers as f64)));
        failures.lines.push(line("%", &|point, _| {
            let ended = point.succeeded + point.failed;
            (ended > 0).then(|| point.failed as f64 / ended as f64 * 100.0)
        }));
        for (chart, (.., of)) in times.iter_mut().zip(TIMES) {
            chart.lines.push(line("ms", &|point, _| {
                of(point)
                    .filter(|seconds| *seconds > 0.0)
                    .map(|seconds| seconds * 1000.0)
            }));
        }
        targets(run, results, timeline, &mut cpu, &mut memory);
    }
    section.chart(throughput);
    section.chart(workers);
    for chart in times {
        section.chart(chart);
    }
    section.chart(failures);
    section.chart(cpu);
    section.chart(memory);
    section
}

/// The CPU and the memory of a run's targets.
fn targets(
    run: &super::document::Run,
    results: &Results,
    timeline: &mut Timeline,
    cpu: &mut Chart,
    memory: &mut Chart,
) {
    for series in results
        .monitor
        .iter()
        .filter(|series| series.source != monitor::GENERATOR)
    {
        let times = series
            .points(Sampled::CpuCoresUsed)
            .map(|(time, _)| time)
            .collect();
        let thinner = Thinner::new(times, MOST_POINTS);
        let axis = timeline.axis(thinner.times());
        let line = |metric: Sampled, unit: &str, scale: f64| {
            let values: Vec<Option<f64>> = series
                .points(metric)
                .map(|(_, value)| value.map(|value| value * scale))
                .collect();
            Line {
                name: table::cut(&format!("{} {}", run.letter, series.source), 60),
                unit: unit.to_owned(),
                axis: Some(axis),
                y: thinner.values(&values),
                ..Line::default()
            }
        };
        cpu.lines.push(line(Sampled::CpuCoresUsed, "cores", 1.0));
        memory
            .lines
            .push(line(Sampled::MemoryBytes, "MiB", 1.0 / 1_048_576.0));
    }
}

fn timed(id: &str, title: &str, left: Axis) -> Chart {
    Chart {
        id: format!("over-{id}"),
        title: title.to_owned(),
        left,
        half: true,
        ..Chart::default()
    }
}

/// Every level that the runs measured.
fn levels(comparison: &Comparison, runs: &[(String, Results)]) -> Section {
    let mut section = Section::new("levels", "Under each load");
    let named = runs.iter().zip(&comparison.runs);
    section.chart(over_each_other(
        named.map(|((_, results), run)| (run.letter.clone(), results)),
    ));
    section
}

fn method(comparison: &Comparison) -> Section {
    let mut section = Section::new("method", "How this was decided");
    for text in [
        format!(
            "A metric has improved or regressed when its change is more than chance and at least {} % (--margin). It is \
             unchanged when its whole interval lies within that margin; otherwise the runs do not tell. Intervals hold \
             with {:.0} % confidence; because many metrics are judged at once, what is more than chance is decided over all \
             of them (Benjamini and Hochberg), so that two runs of the same service differ in any metric at most once in \
             {:.0} comparisons.",
            comparison.margin_percent(),
            comparison.confidence * 100.0,
            1.0 / (1.0 - comparison.confidence)
        ),
        "Means come with Student's interval of batch means, percentiles with that between order statistics, shares with \
         Wilson's; what depends on its neighbours counts for less. Changes combine both intervals (MOVER). Failed runs are \
         compared in percentage points, with a tenth of the margin. A capacity that is a lower bound can only be passed."
            .to_owned(),
        "What differs between two runs but stays the same within each (another neighbour on the same machine, a cold cache) \
         is in no interval: where it matters, run each side more than once."
            .to_owned(),
    ] {
        section.blocks.push(Block::Text(text));
    }
    section
}
