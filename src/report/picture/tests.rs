//! Pictures of ordinary and of odd runs.
//!
//! With `MOLOTOV_PICTURES` set to a folder they are written there, for the eye.

use std::env;
use std::fs;
use std::path::Path;

use super::*;
use crate::monitor;
use crate::results::{Meta, Point, sample};

/// Draws it both ways, and keeps it where somebody wants to look at it.
fn drawn(name: &str, results: &Results) -> (Vec<u8>, String) {
    let picture = png(results).unwrap();
    let text = svg(results).unwrap();
    if let Some(folder) = env::var_os("MOLOTOV_PICTURES") {
        fs::write(Path::new(&folder).join(format!("{name}.png")), &picture).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.svg")), &text).unwrap();
    }
    (picture, text)
}

/// Width, height and pixels of a PNG.
fn decoded(picture: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

/// How many pixels have nearly that colour: thin lines hardly ever cover one whole.
fn coloured(pixels: &[u8], ink: (u8, u8, u8)) -> usize {
    const NEAR: u8 = 48;
    let wanted = [ink.0, ink.1, ink.2];
    let near = |pixel: &&[u8]| pixel.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= NEAR);
    pixels.chunks(3).filter(near).count()
}

fn empty() -> Results {
    Results::new(Meta::default())
}

#[test]
fn the_picture_has_its_size_and_its_lines() {
    let (picture, text) = drawn("sample", &sample::results());
    let (width, height, pixels) = decoded(&picture);
    assert_eq!((width, height), (1200, 800));
    assert!(picture.len() < 300_000, "{}", picture.len());
    // Throughput and CPU are blue, failures vermillion.
    for ink in [(0, 114, 178), (205, 84, 0)] {
        assert!(coloured(&pixels, ink) > 100, "{ink:?}");
    }
    assert!(
        text.starts_with("<svg width=\"1200\" height=\"800\" viewBox=\"0 0 9600 6400\""),
        "{}",
        &text[..120]
    );
    for word in [
        "FAILED",
        "More workers brought no more runs.",
        "target CPU",
        "requests answered per second",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn the_same_document_gives_the_same_picture() {
    let results = sample::results();
    assert_eq!(png(&results).unwrap(), png(&results).unwrap());
}

#[test]
fn nothing_is_a_picture_too() {
    let (picture, text) = drawn("nothing", &empty());
    assert_eq!(decoded(&picture).0, 1200);
    assert!(text.contains("Nothing was run") && text.contains("INCOMPLETE"));
    assert!(text.contains("nothing was monitored"));
}

#[test]
fn one_second_is_drawn_as_points() {
    let mut results = empty();
    results.complete = true;
    results.counts.started = 3;
    results.counts.succeeded = 3;
    results.series.0.push(Point {
        time_seconds: 1.0,
        workers: 1,
        succeeded: 3,
        requests: 3,
        p50_seconds: Some(0.01),
        p95_seconds: Some(f64::NAN),
        p99_seconds: Some(0.0),
        ..Point::default()
    });
    let (picture, _) = drawn("one", &results);
    assert!(coloured(&decoded(&picture).2, (0, 114, 178)) > 10);
}

#[test]
fn hostile_texts_stay_texts() {
    let mut results = sample::results();
    let name = format!(
        "</text><script>alert(1)</script>\u{202e}\"&{}",
        "x".repeat(10_000)
    );
    results.meta.scenario_file = Some(name.clone());
    results.meta.command = vec![name.clone(); 20];
    results.monitor[1].source.clone_from(&name);
    results.thresholds[1].message.clone_from(&name);
    if let Some(verdict) = &mut results.verdict {
        verdict.sentence.clone_from(&name);
        verdict.source = Some(name);
    }
    results.sizing = None;
    let (_, text) = drawn("hostile", &results);
    assert!(!text.contains("<script") && !text.contains('\u{202e}'));
    assert!(text.contains("&lt;script&gt;"));
    assert!(text.len() < 200_000, "{}", text.len());
}

#[test]
fn eight_hours_are_thinned() {
    let mut results = sample::results();
    let points = (1..=28_800_u32).map(|second| Point {
        time_seconds: f64::from(second),
        workers: 50,
        requests: 100 + u64::from(second % 13),
        p50_seconds: Some(0.01 + f64::from(second % 17) / 1e4),
        p95_seconds: Some(0.05),
        p99_seconds: None,
        ..Point::default()
    });
    results.series.0 = points.collect();
    let (picture, text) = drawn("long", &results);
    assert!(
        picture.len() < 400_000 && text.len() < 1_500_000,
        "{} {}",
        picture.len(),
        text.len()
    );
}

#[test]
fn what_was_only_monitored_has_four_panels() {
    let mut results = empty();
    results.complete = true;
    results.monitor = sample::results().monitor.split_off(1);
    assert_ne!(results.monitor[0].source, monitor::GENERATOR);
    let (_, text) = drawn("monitored", &results);
    for title in ["CPU", "Memory", "Disk", "Network"] {
        assert!(text.contains(title), "{title}");
    }
}
