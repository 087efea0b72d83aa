//! Which loads were held, and for how long: what the verdict looks at.
//!
//! Owns the choice of the level to judge. A search knows its trials: the one that confirmed the capacity is judged, or
//! where there was no time for it the longest of a similar load; the others are compared with it. Any other run is cut by the share of the workers that were up; the last minute with
//! (nearly) all of them is judged. Called when the results are concluded.

use super::document::{Results, Sizing};
use super::series::Point;
use crate::sizing::search::{Findings, Flaw, Length, Limit, Trial};
use crate::verdict::Level;

/// The levels of a ramp, as shares of the most workers.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 0.95];

/// What is judged of a long steady load, in seconds.
const JUDGED_SECONDS: f64 = 60.0;

/// Shorter levels say nothing, in seconds.
const SHORTEST_SECONDS: f64 = 2.0;

/// A load of at least this share of the capacity shows what gives out, when there is nothing better.
const SIMILAR_RATIO: f64 = 0.5;

/// The level to judge, and the others.
pub(super) fn of(results: &Results) -> (Option<Level>, Vec<Level>) {
    match &results.sizing {
        Some(sizing) if sizing.search.is_some() => of_search(sizing, &results.series.0),
        _ => of_series(&results.series.0),
    }
}

fn of_search(sizing: &Sizing, points: &[Point]) -> (Option<Level>, Vec<Level>) {
    let Some(findings) = &sizing.search else {
        return (None, Vec::new());
    };
    let judged = judged(findings);
    let mut level = None;
    let mut others = Vec::new();
    for (place, trial) in findings.trials.iter().enumerate() {
        let held = of_trial(trial, sizing.search_began_seconds, points);
        if Some(place) == judged {
            let began = sizing.search_began_seconds;
            level = Some(Level {
                started_ratio: held.started_ratio.or_else(|| not_reached(findings)),
                to_seconds: extended(findings, place).map_or(held.to_seconds, |to| began + to),
                ..held
            });
        } else {
            others.push(held);
        }
    }
    (level, others)
}

/// The place of the trial to judge.
fn judged(findings: &Findings) -> Option<usize> {
    let last = findings.trials.len().checked_sub(1);
    let Some(capacity) = findings.capacity.as_ref().map(|capacity| capacity.level) else {
        return last;
    };
    let longest_from = |lowest: f64, highest: f64| {
        let held =
            findings.trials.iter().enumerate().filter(|(_, trial)| {
                trial.sustainable() && (lowest..=highest).contains(&trial.level)
            });
        held.max_by(|(_, a), (_, b)| a.length.cmp(&b.length))
    };
    let own = longest_from(capacity * (1.0 - 1e-6), capacity * (1.0 + 1e-6));
    let is_longer = |(_, trial): &(usize, &Trial)| trial.length > Length::Short;
    own.filter(is_longer)
        .or_else(|| longest_from(SIMILAR_RATIO * capacity, f64::INFINITY).filter(is_longer))
        .or(own)
        .map(|(place, _)| place)
        .or(last)
}

/// The end of the last of the trials after a short one that asked for no less: alone it has too few samples.
fn extended(findings: &Findings, place: usize) -> Option<f64> {
    let trial = findings
        .trials
        .get(place)
        .filter(|trial| trial.length == Length::Short)?;
    let following = findings.trials.iter().skip(place + 1);
    following
        .take_while(|next| next.sustainable() && next.level >= trial.level * (1.0 - 1e-6))
        .map(|next| next.began_seconds + next.warm_up_seconds + next.measured_seconds)
        .last()
}

/// The share of a rate above the capacity that the generator started, when that is what limits the capacity.
fn not_reached(findings: &Findings) -> Option<f64> {
    let capacity = findings.capacity.as_ref()?;
    let above = findings
        .trials
        .iter()
        .filter(|trial| capacity.limit == Limit::Generator && trial.level > capacity.level);
    above
        .filter_map(|trial| of_trial(trial, 0.0, &[]).started_ratio)
        .reduce(f64::min)
}

fn of_trial(trial: &Trial, began_seconds: f64, points: &[Point]) -> Level {
    let from_seconds = began_seconds + trial.began_seconds + trial.warm_up_seconds;
    let requests = trial.requests_per_second.mean;
    let started_ratio = trial.flaws.iter().find_map(|flaw| match flaw {
        Flaw::NotReached { level } if trial.level > 0.0 => Some(level / trial.level),
        _ => None,
    });
    let to_seconds = from_seconds + trial.measured_seconds;
    let held = points.partition_point(|point| point.time_seconds <= from_seconds)
        ..points.partition_point(|point| point.time_seconds <= to_seconds);
    let held = points.get(held).unwrap_or_default();
    Level {
        from_seconds,
        to_seconds,
        active: trial.active,
        per_second: if requests > 0.0 {
            requests
        } else {
            trial.runs_per_second.mean
        },
        started_ratio,
        failed_ratio: trial.failures.ratio,
        transfer_seconds: transfer_seconds(held),
        bytes_per_second: held.iter().map(|point| point.bytes).sum::<u64>() as f64
            / held.len().max(1) as f64,
    }
}

/// Time between head and last byte of an answer, in the mean over all answers.
fn transfer_seconds(points: &[Point]) -> Option<f64> {
    let requests: u64 = points.iter().map(|point| point.requests).sum();
    let all = |point: &Point| point.transfer_seconds.unwrap_or(0.0) * point.requests as f64;
    (requests > 0).then(|| points.iter().map(all).sum::<f64>() / requests as f64)
}

fn of_series(points: &[Point]) -> (Option<Level>, Vec<Level>) {
    // Where a rate is set, that is the load; how many workers are busy with it is the service's doing.
    let load = |point: &Point| {
        point
            .target_per_second
            .unwrap_or(point.workers.max(0) as f64)
    };
    let most = points.iter().map(load).fold(0.0, f64::max);
    if most <= 0.0 {
        return (None, Vec::new());
    }
    let has_requests = points.iter().any(|point| point.requests > 0);
    let step = |point: &Point| {
        let share = load(point) / most;
        SHARES.iter().filter(|bound| share >= **bound).count()
    };
    let mut levels: Vec<(usize, Level)> = Vec::new();
    let mut start = 0;
    while let Some(first) = points.get(start) {
        let at = step(first);
        let length = points
            .iter()
            .skip(start)
            .take_while(|point| step(point) == at)
            .count();
        let from = start.checked_sub(1).and_then(|before| points.get(before));
        let mut from_seconds = from.map_or(0.0, |point| point.time_seconds);
        let mut held = points.get(start..start + length).unwrap_or_default();
        start += length;
        let Some(last) = held.last() else { break };
        let to_seconds = last.time_seconds;
        if at == SHARES.len() && to_seconds - from_seconds > JUDGED_SECONDS {
            let cut =
                held.partition_point(|point| point.time_seconds <= to_seconds - JUDGED_SECONDS);
            if let Some(before) = cut.checked_sub(1).and_then(|before| held.get(before)) {
                from_seconds = before.time_seconds;
            }
            held = held.get(cut..).unwrap_or_default();
        }
        let seconds = to_seconds - from_seconds;
        if seconds < SHORTEST_SECONDS || held.is_empty() {
            continue;
        }
        let done: u64 = held
            .iter()
            .map(|point| {
                if has_requests {
                    point.requests
                } else {
                    point.succeeded + point.failed
                }
            })
            .sum();
        let (failed, ended) = held.iter().fold((0, 0), |(failed, ended), point| {
            let all = point.succeeded + point.failed;
            (failed + point.failed, ended + all)
        });
        let bytes: u64 = held.iter().map(|point| point.bytes).sum();
        let active = held.iter().map(|point| point.workers as f64).sum::<f64>() / held.len() as f64;
        levels.push((
            at,
            Level {
                from_seconds,
                to_seconds,
                active,
                per_second: done as f64 / seconds,
                started_ratio: started_ratio(held),
                failed_ratio: failed as f64 / ended.max(1) as f64,
                transfer_seconds: transfer_seconds(held),
                bytes_per_second: bytes as f64 / seconds,
            },
        ));
    }
    let judged = levels.iter().rposition(|(at, _)| *at == SHARES.len());
    let level = judged.map(|place| levels.remove(place).1);
    let others = levels.into_iter().map(|(_, level)| level).collect();
    (level, others)
}

/// The share of the starts asked for that were made, where a rate was set and it was not for want of workers.
fn started_ratio(points: &[Point]) -> Option<f64> {
    let sum = |of: fn(&Point) -> u64| points.iter().map(of).sum::<u64>();
    let intended = sum(|point| point.intended);
    let starved = sum(|point| point.not_started + point.late_without_worker);
    (intended > 0 && starved == 0).then(|| sum(|point| point.started) as f64 / intended as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(workers: impl Fn(u64) -> i64, seconds: u64) -> Vec<Point> {
        (1..=seconds)
            .map(|second| Point {
                time_seconds: second as f64,
                workers: workers(second),
                requests: u64::try_from(workers(second)).unwrap() * 10,
                ..Point::default()
            })
            .collect()
    }

    #[test]
    fn a_steady_run_is_judged_by_its_last_minute() {
        let (level, others) = of_series(&run(|_| 10, 100));
        let level = level.unwrap();
        assert_eq!((level.from_seconds, level.to_seconds), (40.0, 100.0));
        assert!((level.per_second - 100.0).abs() < 1e-9);
        assert!(others.is_empty());
    }

    #[test]
    fn a_ramp_is_cut_into_levels() {
        let ramp = run(|second| i64::try_from(second.min(40)).unwrap(), 60);
        let (level, others) = of_series(&ramp);
        let level = level.unwrap();
        assert_eq!((level.from_seconds, level.to_seconds), (37.0, 60.0));
        assert_eq!(others.len(), 4);
        assert!(
            others
                .windows(2)
                .all(|pair| pair[0].active < pair[1].active)
        );
    }

    #[test]
    fn a_rate_is_a_level_of_its_own() {
        let paced = |second: u64| Point {
            time_seconds: second as f64,
            workers: i64::try_from(second % 7).unwrap(),
            target_per_second: Some(if second <= 10 { 20.0 } else { 100.0 }),
            intended: 100,
            started: 80,
            ..Point::default()
        };
        let mut points: Vec<Point> = (1..=30).map(paced).collect();
        let (level, others) = of_series(&points);
        let level = level.unwrap();
        assert_eq!((level.from_seconds, level.to_seconds), (10.0, 30.0));
        assert_eq!(level.started_ratio, Some(0.8));
        assert_eq!(others.len(), 1);
        // That workers were busy is not the generator's fault.
        points[20].late_without_worker = 1;
        assert_eq!(of_series(&points).0.unwrap().started_ratio, None);
    }

    /// What a search found: the capacity, and trials of these levels and lengths one after the other, 10 s each.
    fn found(capacity: f64, trials: &[(f64, Length)]) -> Findings {
        let trials: Vec<serde_json::Value> = trials
            .iter()
            .enumerate()
            .map(|(place, (level, length))| {
                serde_json::json!({
                    "level": level, "phase": "search", "length": length, "began_seconds": 10 * place,
                    "warm_up_seconds": 1, "measured_seconds": 9, "active": level, "runs": 900, "failed": 0,
                    "runs_per_second": {"mean": 100, "low": 99, "high": 101},
                    "requests_per_second": {"mean": 100, "low": 99, "high": 101},
                    "failures": {"ratio": 0, "low": 0, "high": 0.004}, "service_times": null, "flaws": [],
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "unit": "workers", "ramp_ended": "plateau", "trials": trials, "usl": null, "unconfirmed": [],
            "phases": [], "seconds": 60,
            "capacity": {
                "requests_per_second": {"mean": 100, "low": 99, "high": 101},
                "runs_per_second": {"mean": 100, "low": 99, "high": 101},
                "level": capacity, "service_times": null, "confirmed": true, "limit": "throughput",
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_trial_to_judge_is_the_longest_of_the_capacity() {
        let trials = [
            (8.0, Length::Short),
            (16.0, Length::Medium),
            (8.0, Length::Long),
        ];
        assert_eq!(judged(&found(8.0, &trials)), Some(2));
        assert_eq!(judged(&found(16.0, &trials)), Some(1));
    }

    #[test]
    fn a_longer_trial_of_a_similar_load_stands_in_for_a_short_one() {
        let mut trials = vec![
            (16.0, Length::Short),
            (32.0, Length::Short),
            (64.0, Length::Short),
        ];
        let short = found(32.0, &trials);
        assert_eq!(judged(&short), Some(1));
        assert_eq!(extended(&short, 1), Some(30.0));
        trials.push((4.0, Length::Long));
        assert_eq!(judged(&found(32.0, &trials)), Some(1));
        trials.push((16.0, Length::Long));
        let longer = found(32.0, &trials);
        assert_eq!(judged(&longer), Some(4));
        assert_eq!(extended(&longer, 4), None);
    }

    #[test]
    fn the_way_down_is_not_judged() {
        let (level, _) = of_series(&run(|second| if second < 30 { 8 } else { 1 }, 40));
        assert!((level.unwrap().to_seconds - 29.0).abs() < 1e-9);
    }

    #[test]
    fn without_workers_or_time_there_is_no_level() {
        assert_eq!(of_series(&[]), (None, Vec::new()));
        assert_eq!(of_series(&run(|_| 0, 9)), (None, Vec::new()));
        assert_eq!(of_series(&run(|_| 3, 1)), (None, Vec::new()));
    }
}
