//! The model of a small run held against a snapshot, and pages of empty, hostile and huge results.

use std::fs;
use std::path::Path;

use super::html::page;
use super::model::{Block, Run, Tone};
use super::table::Cell;
use crate::results::{Counts, ErrorGroup, Meta, Point, Results, Series, ServiceTime, sample};

/// The stored model, which `UPDATE_SNAPSHOTS=1` writes anew.
const SNAPSHOT: &str = "src/report/snapshots/run.json";

fn service_time(name: &str) -> ServiceTime {
    ServiceTime {
        name: name.to_owned(),
        ..sample::results().service_times[1].clone()
    }
}

/// The markup outside the script elements.
fn markup(page: &str) -> &str {
    page.split("<script").next().unwrap()
}

#[test]
fn the_model_is_what_it_was() {
    let model = serde_json::to_string_pretty(&Run::of(&sample::results())).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &model).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap();
    assert!(
        model == stored,
        "the model differs from {SNAPSHOT}; UPDATE_SNAPSHOTS=1 takes it over"
    );
}

#[test]
fn the_answer_comes_first() {
    let page = page(&sample::results());
    let at = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text} is missing"))
    };
    assert!(at("<h1>") < at("class=\"cards\""));
    assert!(at("class=\"cards\"") < at("<figure"));
    assert!(page.contains("Limited by CPU of pid:7 (high confidence)"));
    assert!(page.contains("✗ no"));
}

#[test]
fn what_was_refused_adds_up() {
    let mut results = sample::results();
    (results.sizing, results.verdict) = (None, None);
    results.counts = Counts {
        started: 100,
        failed: 100,
        ..Counts::default()
    };
    for row in &mut results.service_times {
        row.failed = row.count;
    }
    let run = Run::of(&results);
    assert_eq!(run.verdict.headline, "Nothing worked: all 100 runs failed.");
    let remarks = run.verdict.remarks.join(" ");
    assert!(
        remarks.contains("None of 200 requests was answered.")
            && remarks
                .contains("Raised in 10 of 100 failed runs: AssertionError: assert 500 == 200"),
        "{remarks}"
    );
    let throughput = &run.cards[0];
    assert_eq!(
        (throughput.value.as_str(), throughput.unit.as_str()),
        ("0", "req/s")
    );
    assert_eq!(
        throughput.details,
        [
            "0 of 200 requests answered",
            "0 runs/s passed",
            "10 runs/s failed",
            "up to 4 workers"
        ]
    );
    let table = run.sections.iter().find_map(|section| {
        section.blocks.iter().find_map(|block| match block {
            Block::Table(table) if table.id == "outcomes-table" => Some(table),
            _ => None,
        })
    });
    let shown: Vec<String> = table
        .unwrap()
        .rows
        .iter()
        .map(|row| row.iter().map(Cell::shown).collect::<Vec<_>>().join(" | "))
        .collect();
    assert_eq!(
        shown,
        [
            "runs started | 100 | 100 % | 10",
            "runs passed | 0 | 0 % | 0",
            "runs failed | 100 | 100 % | 10",
            "requests tried | 200 | 100 % | 20",
            "requests without an answer | 200 | 100 % | 20",
        ]
    );
}

#[test]
fn nothing_is_a_page_too() {
    let results = Results::new(Meta::default());
    let run = Run::of(&results);
    assert_eq!(
        run.verdict.headline,
        "No run ended: there is nothing to tell."
    );
    assert_eq!(run.verdict.tone, Tone::Bad);
    assert!(page(&results).ends_with("</html>\n"));
}

#[test]
fn one_second_is_a_page_too() {
    let mut results = sample::results();
    results.series = Series(vec![Point::default()]);
    results.meta.elapsed_seconds = f64::NAN;
    assert!(page(&results).ends_with("</html>\n"));
}

#[test]
fn no_text_becomes_markup() {
    let hostile = "</script><script>injected()</script>\"'<img src=x onerror=injected()>{{script}}\u{202e}\u{0}";
    let mut results = sample::results();
    results.meta.scenario_file = Some(hostile.to_owned());
    results.meta.host = hostile.to_owned();
    results.meta.command.push(hostile.to_owned());
    results.service_times = vec![service_time(hostile)];
    results.counts.statuses.insert(hostile.to_owned(), 3);
    results.counts.lost_processes.push(hostile.to_owned());
    results.monitor[1].source = hostile.to_owned();
    results.errors = vec![ErrorGroup {
        kind: hostile.to_owned(),
        place: hostile.to_owned(),
        message: hostile.to_owned(),
        example: hostile.to_owned(),
        ..results.errors[0].clone()
    }];
    let page = page(&results);
    assert!(!markup(&page).contains("<img"));
    assert_eq!(
        page.matches("<script").count(),
        3,
        "data, plotly.js, the page's own"
    );
    assert_eq!(page.matches("</script>").count(), 3);
    assert_eq!(
        page.matches("{{script}}").count(),
        markup(&page).matches("{{script}}").count() + data(&page).matches("{{script}}").count()
    );
}

/// The JSON that the script gets.
fn data(page: &str) -> &str {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    rest.split("</script>").next().unwrap()
}

#[test]
fn secrets_of_a_foreign_file_are_masked() {
    let mut results = sample::results();
    results.meta.command = [
        "molotov",
        "--token",
        "hunter2",
        "http://me:pw@host/?api_key=not-shown",
    ]
    .map(str::to_owned)
    .to_vec();
    let page = page(&results);
    for secret in ["hunter2", "me:pw", "not-shown"] {
        assert!(!page.contains(secret), "{secret}");
    }
}

#[test]
fn many_names_are_rows_and_not_curves() {
    let mut results = sample::results();
    let long = "x".repeat(10_000);
    results.service_times = (0..1_000)
        .map(|number| service_time(&format!("GET h/{number}/{long}")))
        .collect();
    let run = Run::of(&results);
    let times = run
        .sections
        .iter()
        .find(|section| section.id == "times")
        .unwrap();
    let Block::Chart(chart) = &times.blocks[0] else {
        panic!("{times:?}")
    };
    assert_eq!(chart.lines.len(), 9);
    assert!(page(&results).len() < 4_000_000 + super::bundle::PLOTLY.len());
}

#[test]
fn eight_hours_fit() {
    let mut results = sample::results();
    let point = results.series.0[3].clone();
    results.series = Series(
        (1..=28_800_u32)
            .map(|second| Point {
                time_seconds: f64::from(second),
                failed: u64::from(second == 12_345) * 77,
                requests: 20 + u64::from(second % 7),
                p99_seconds: Some(0.1 + f64::from(second) / 1e5),
                ..point.clone()
            })
            .collect(),
    );
    let page = page(&results);
    assert!(
        page.len() < 2_000_000 + super::bundle::PLOTLY.len(),
        "{}",
        page.len()
    );
    let run = Run::of(&results);
    let load = run
        .sections
        .iter()
        .find(|section| section.id == "load")
        .unwrap();
    let failures = load.blocks.iter().find_map(|block| match block {
        Block::Chart(chart) if chart.id == "failures" => Some(chart),
        _ => None,
    });
    let most = failures
        .unwrap()
        .lines
        .iter()
        .flat_map(|line| &line.y)
        .map(|value| value.0)
        .fold(0.0, f64::max);
    assert!(most >= 77.0, "the extreme is lost: {most}");
}
