//! Tests of the recorder, its snapshots and its rows.

use proptest::prelude::*;

use super::*;

fn micros(microseconds: u64) -> Duration {
    Duration::from_micros(microseconds)
}

#[test]
fn quantiles_come_from_all_recordings() {
    let mut recorder = Recorder::new();
    let id = recorder.scenario_id("one");
    for millisecond in 1..=1000 {
        recorder.record(
            id,
            Duration::from_millis(millisecond),
            millisecond % 10 != 0,
            7,
        );
    }
    let rows = recorder.rows();
    let row = &rows[0];
    assert_eq!(
        (
            row.kind,
            row.name.as_str(),
            row.count,
            row.failed,
            row.bytes
        ),
        (Kind::Scenario, "one", 1000, 100, 7000)
    );
    assert_eq!(
        (row.min, row.max, row.mean),
        (micros(1000), micros(1_000_000), micros(500_500))
    );
    for (measured, expected) in [
        (row.p50, 500.0),
        (row.p90, 900.0),
        (row.p95, 950.0),
        (row.p99, 990.0),
        (row.p999, 999.0),
    ] {
        let milliseconds = measured.as_secs_f64() * 1e3;
        assert!(
            (milliseconds / expected - 1.0).abs() < 0.001,
            "{milliseconds} instead of {expected}"
        );
    }
}

#[test]
fn times_out_of_range_are_kept_at_its_ends() {
    let mut recorder = Recorder::new();
    let id = recorder.scenario_id("one");
    recorder.record(id, Duration::ZERO, true, 0);
    recorder.record(id, Duration::MAX, false, u64::MAX);
    recorder.record(id, Duration::MAX, false, u64::MAX);
    let rows = recorder.rows();
    assert_eq!(
        (rows[0].min, rows[0].max),
        (micros(1), Duration::from_hours(1))
    );
    let mut parent = Recorder::new();
    parent.merge(&recorder.snapshot()).unwrap();
    assert_eq!(parent.rows(), rows);
}

#[test]
fn names_are_templated_and_remembered() {
    let mut recorder = Recorder::new();
    let first = recorder.request_id("GET", "http://h:80/users/1?x=1");
    for path in [
        "h:80/users/1?x=1",
        "h:80/users/1",
        "h:80/users/22",
        "h:80/users/1",
    ] {
        assert_eq!(recorder.request_id("GET", path), first);
    }
    assert_eq!(recorder.request_id_of("GET", "h:80", "/users/9"), first);
    assert_ne!(recorder.request_id("POST", "h:80/users/1"), first);
    assert_ne!(recorder.request_id("GET", "g:80/users/1"), first);
    assert_ne!(recorder.request_id("GET", "h:80/users/me"), first);
    recorder.request_id("GET", "h?q");
    recorder.record(first, micros(5), true, 0);
    assert_eq!(recorder.rows()[0].name, "GET h:80/users/{id}");
}

#[test]
fn names_beyond_the_cap_count_together_and_come_last() {
    let mut recorder = Recorder::new();
    let letter = |n: usize| char::from(b"ghjklmnopqrstuvwxyz"[n % 19]);
    let name = |n: usize| format!("h/{}{}{}", letter(n / 361), letter(n / 19), letter(n));
    for n in 0..300 {
        let id = recorder.request_id("GET", &name(n));
        recorder.record(id, micros(10), true, 1);
    }
    let scenario = recorder.scenario_id("not capped");
    recorder.record(scenario, micros(10), true, 0);
    let rows = recorder.rows();
    assert_eq!(rows.len(), MAX_REQUEST_NAMES + 2);
    assert_eq!(rows[0].kind, Kind::Scenario);
    assert_eq!((rows[201].name.as_str(), rows[201].count), (OTHER, 100));
    let known = recorder.request_id("GET", &name(0));
    let mut parent = Recorder::new();
    parent.merge(&recorder.snapshot()).unwrap();
    assert_eq!(parent.rows(), rows);
    assert_eq!(recorder.request_id("GET", &name(0)), known);
}

#[test]
fn a_snapshot_holds_only_what_is_new() {
    let mut child = Recorder::new();
    let mut parent = Recorder::new();
    let id = child.scenario_id("one");
    child.record(id, micros(10), true, 0);
    let first = child.snapshot();
    let empty = child.snapshot();
    assert!(empty.len() < 10 && first.len() > empty.len());
    child.record(id, micros(20), false, 0);
    for blob in [&first, &empty, &child.snapshot()] {
        parent.merge(blob).unwrap();
    }
    assert_eq!(parent.rows(), child.rows());
    assert_eq!(parent.rows()[0].count, 2);
    assert!(
        parent.snapshot() == empty,
        "what was merged is not passed on"
    );
}

#[test]
fn slow_requests_are_counted_and_runs_when_there_is_none() {
    let mut recorder = Recorder::new();
    let run = recorder.scenario_id("one");
    recorder.record(run, Duration::from_secs(2), true, 0);
    assert_eq!(recorder.slower_than(Duration::from_secs(1)), (1, 1));
    let request = recorder.request_id("GET", "h/");
    for milliseconds in [1, 499, 500, 600, 700] {
        recorder.record(request, Duration::from_millis(milliseconds), true, 0);
    }
    assert_eq!(recorder.slower_than(Duration::from_millis(550)), (2, 5));
    let mut parent = Recorder::new();
    parent.merge(&recorder.snapshot()).unwrap();
    assert_eq!(parent.slower_than(Duration::from_millis(550)), (2, 5));
    assert_eq!(parent.slower_than(Duration::MAX), (0, 5));
}

type Recording = (usize, u64, bool, u32);

fn recordings() -> impl Strategy<Value = Vec<Recording>> {
    let time = prop_oneof![0_u64..5000, 0_u64..10_000_000, Just(u64::MAX)];
    prop::collection::vec((0_usize..4, time, any::<bool>(), any::<u32>()), 0..300)
}

fn record_all<'a>(recorder: &mut Recorder, recordings: impl Iterator<Item = &'a Recording>) {
    for (series, microseconds, ok, bytes) in recordings {
        let id = match series {
            0 => recorder.scenario_id("a"),
            1 => recorder.scenario_id("GET h/a"),
            2 => recorder.request_id("GET", "h/a"),
            _ => recorder.request_id("GET", "h/users/77"),
        };
        recorder.record(id, micros(*microseconds), *ok, u64::from(*bytes));
    }
}

proptest! {
    #[test]
    fn merging_equals_recording_in_one_place(all in recordings(), processes in 1_usize..4, snapshots in 1_usize..5) {
        let mut single = Recorder::new();
        record_all(&mut single, all.iter());
        let mut parent = Recorder::new();
        let mut blobs = Vec::new();
        for process in 0..processes {
            let mut child = Recorder::new();
            let own: Vec<_> = all.iter().skip(process).step_by(processes).collect();
            for part in own.chunks(own.len() / snapshots + 1) {
                record_all(&mut child, part.iter().copied());
                blobs.push(child.snapshot());
            }
        }
        for blob in blobs.iter().rev() {
            parent.merge(blob).unwrap();
        }
        prop_assert_eq!(parent.rows(), single.rows());
        prop_assert_eq!(parent.slower_than(micros(1000)), single.slower_than(micros(1000)));
    }

    #[test]
    fn a_damaged_snapshot_is_an_error_and_changes_nothing(
        all in recordings(), at: prop::sample::Index, flip in 1_u8.., cut: prop::sample::Index,
    ) {
        let mut child = Recorder::new();
        record_all(&mut child, all.iter());
        let blob = child.snapshot();
        let mut parent = Recorder::new();
        record_all(&mut parent, all.iter().take(3));
        let before = parent.rows();
        let mut flipped = blob.clone();
        flipped[at.index(blob.len())] ^= flip;
        prop_assert!(parent.merge(&flipped).is_err());
        prop_assert!(parent.merge(&blob[..cut.index(blob.len())]).is_err());
        let mut longer = blob.clone();
        longer.push(flip);
        prop_assert!(parent.merge(&longer).is_err());
        prop_assert_eq!(parent.rows(), before);
        parent.merge(&blob).unwrap();
    }
}
