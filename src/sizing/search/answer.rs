//! From trials to the answer: capacity with its interval, what limits it, and what remains in doubt.
//!
//! Pure functions over the trials; deciding what to measure is `curve`'s. Called by `Search` when somebody asks what has
//! been found.

use super::super::verdict::Reason;
use super::curve::Curve;
use super::ramp::same;
use super::result::{Capacity, Flaw, Interval, Length, Limit, Phase, Trial, Unit};
use super::usl::Usl;
use super::{Search, Settings};

/// Rates down to this part of the best one tell how long runs last there.
const NEAR: f64 = 8.0;

/// A shorter trial confirms nothing, in seconds.
const CONFIRMING_SECONDS: f64 = 20.0;

/// A wider interval (half of it, as a share of the capacity) is worth a word.
const WIDE_RATIO: f64 = 0.1;

/// A level whose throughput changed by more than this share between two trials is worth a word.
const CHANGED_RATIO: f64 = 0.05;

/// Levels nobody measured may bring this much more than the best measured one, or they would have been measured.
const MOST_PROMISED: f64 = 1.03;

/// A level that is lower by at most this factor is the next one.
const NEIGHBOUR: f64 = 1.3;

/// A service has become slower when its runs last this many times longer.
const SLOWER: f64 = 2.0;

/// One level up means this much more workers, and growth means this much more throughput of them.
const NEXT_LEVEL: f64 = 0.1;
const GROWTH: f64 = 0.02;

/// The capacity as far as the trials say.
///
/// Its mean is that of the level that suffices. The interval reaches up by what the best level may bring more, so that it
/// holds the best throughput and not only that of the chosen level; down to the next lower level when the chosen one may
/// fail a little too often; and both ways by what the service changed meanwhile.
pub(super) fn capacity(
    trials: &[Trial],
    broke_at: Option<f64>,
    settings: &Settings,
) -> Option<Capacity> {
    // What was measured before the service died was true then.
    let alive = trials
        .iter()
        .rposition(Trial::sustainable)
        .map_or(0, |place| place + 1);
    let died = dies(trials);
    let counted = if died {
        trials.get(..alive).unwrap_or_default()
    } else {
        trials
    };
    let curve = Curve::of(counted, broke_at, settings.tolerance_ratio);
    let best = curve.best()?;
    let outdates = curve.outdates();
    let knee = outdates.or_else(|| curve.knee())?;
    let trial = counted
        .iter()
        .filter(|trial| same(trial.level, knee.level) && trial.sustainable())
        .max_by(|a, b| a.length.cmp(&b.length))?;
    let own = knee.throughput;
    let change = knee.change;
    let best = curve
        .promise(settings)
        .min(best.throughput.mean * MOST_PROMISED);
    let mut low = (own.low - change).max(0.0);
    if !is_sure(trial, settings) {
        let below = curve.good.iter().rev().find(|good| good.level < knee.level);
        let below = below.filter(|good| good.level * NEIGHBOUR >= knee.level);
        low = below.map_or(low, |good| low.min(good.throughput.low));
    }
    let runs_per_second = Interval {
        mean: own.mean,
        low,
        high: own.high + change + (best - own.mean).max(0.0),
    };
    let responses = trial.requests_per_second.mean / trial.runs_per_second.mean;
    let scaled = |rate: f64| rate * responses;
    let requests_per_second = if own.mean > 0.0 && responses > 0.0 {
        Interval {
            mean: scaled(runs_per_second.mean),
            low: scaled(runs_per_second.low),
            high: scaled(runs_per_second.high),
        }
    } else {
        Interval::default()
    };
    Some(Capacity {
        requests_per_second,
        runs_per_second,
        level: knee.level,
        service_times: trial.service_times,
        confirmed: !died
            && outdates.is_none()
            && knee.confirmed
            && trial.measured_seconds >= CONFIRMING_SECONDS,
        limit: if died {
            Limit::Died
        } else {
            limit(&curve, counted, settings)
        },
    })
}

/// Whether the ratios of a sustainable trial are within what is allowed with 95 % confidence.
fn is_sure(trial: &Trial, settings: &Settings) -> bool {
    let slower = trial.service_times.and_then(|times| times.slower);
    let rule = settings.latency.as_ref();
    trial.failures.high <= settings.tolerance_ratio
        && slower
            .zip(rule)
            .is_none_or(|(slower, rule)| slower.high <= rule.allowed_ratio)
}

/// Whether the service stopped working: nothing succeeded in the last two trials, after others had been fine.
fn dies(trials: &[Trial]) -> bool {
    let dead = |trial: &Trial| trial.flaws.first() == Some(&Flaw::NothingSucceeded);
    let [before @ .., second, last] = trials else {
        return false;
    };
    let was_fine = before
        .iter()
        .any(|trial| trial.sustainable() && trial.level >= last.level * (1.0 - 1e-9));
    dead(second) && dead(last) && was_fine
}

/// How long a run lasted in the mean (Little's law), in seconds; infinite when none ended.
fn run_seconds(trial: &Trial) -> f64 {
    trial.active * trial.measured_seconds / trial.runs as f64
}

/// What, other than the service, keeps a rate from being higher.
fn own_limit(curve: &Curve, trials: &[Trial], settings: &Settings) -> Option<Limit> {
    if settings.unit != Unit::RunsPerSecond {
        return None;
    }
    let ceiling = curve.ceiling?;
    let mut latest = trials.iter().rev();
    let above = latest.find(|trial| same(trial.level, ceiling) && trial.runs > 0)?;
    let best = curve.best()?.level;
    // A single short trial has looked at the runs in flight a few times only.
    let near = trials.iter().filter(|trial| {
        trial.sustainable() && trial.level <= best * (1.0 + 1e-9) && NEAR * trial.level >= best
    });
    let (in_flight, runs) = near.fold((0.0, 0.0), |(in_flight, runs), trial| {
        (
            in_flight + trial.active * trial.measured_seconds,
            runs + trial.runs as f64,
        )
    });
    let calm = in_flight / runs;
    above.flaws.iter().find_map(|flaw| match flaw {
        Flaw::WorkersBusy { .. } => (run_seconds(above) < SLOWER * calm).then_some(Limit::Workers),
        Flaw::NotReached { .. } => Some(Limit::Generator),
        _ => None,
    })
}

fn limit(curve: &Curve, trials: &[Trial], settings: &Settings) -> Limit {
    let Some(best) = curve.best() else {
        return Limit::Throughput;
    };
    if let Some(limit) = own_limit(curve, trials, settings) {
        return limit;
    }
    let before = curve.good.iter().rev().find(|good| good.level < best.level);
    let (level, rate) = before.map_or((0.0, 0.0), |good| (good.level, good.throughput.mean));
    let slope = (best.throughput.mean - rate) / (best.level - level);
    let grows = slope * NEXT_LEVEL * best.level > GROWTH * best.throughput.mean;
    if !grows {
        return Limit::Throughput;
    }
    let flaw = curve.ceiling.map(|ceiling| {
        trials
            .iter()
            .rev()
            .find(|trial| same(trial.level, ceiling))
            .and_then(|trial| trial.flaws.first().copied())
    });
    match flaw {
        Some(Some(flaw)) => match flaw.reason() {
            Reason::Latency => Limit::Latency,
            Reason::Failures => Limit::Failures,
            _ => Limit::Throughput,
        },
        Some(None) => Limit::Failures,
        None if best.level >= settings.highest_level * (1.0 - 1e-9) => Limit::Nothing,
        None => Limit::Throughput,
    }
}

/// What could not be confirmed, one sentence each.
pub(super) fn doubts(
    trials: &[Trial],
    capacity: Option<&Capacity>,
    search: &Search,
) -> Vec<String> {
    let mut doubts = Vec::new();
    let unit = search.settings.unit;
    if dies(trials) {
        doubts.push(format!(
            "The service stopped working: nothing succeeds any more with {}, where it was fine before.",
            at(trials.last().map_or(0.0, |trial| trial.level), unit)
        ));
    } else if search.ramp_ended == Some(Reason::AllFailed) {
        doubts.push("Nothing succeeded, not even once.".to_owned());
    } else if search.phase != Phase::Done {
        doubts.push(format!(
            "The run ended during the {}.",
            search.phase.as_str()
        ));
    } else if search.out_of_time {
        doubts.push(format!(
            "The {:.0} s for search and confirmation were over before an answer was confirmed.",
            search.settings.budget_seconds
        ));
    }
    let Some(capacity) = capacity else {
        if let Some(trial) = trials.iter().rev().find(|trial| !trial.sustainable())
            && let Some(flaw) = trial.flaws.first()
        {
            doubts.push(format!(
                "Not even {} was sustainable: {flaw}.",
                at(trial.level, unit)
            ));
        }
        return doubts;
    };
    for trial in trials.iter().filter(|trial| trial.length == Length::Long) {
        if let Some(flaw) = trial.flaws.first() {
            doubts.push(format!(
                "A confirmation with {} failed: {flaw}.",
                at(trial.level, unit)
            ));
        }
    }
    let own = trials
        .iter()
        .filter(|trial| same(trial.level, capacity.level) && trial.sustainable());
    if let Some(last) = own.clone().next_back() {
        if last.length == Length::Long && last.measured_seconds < CONFIRMING_SECONDS {
            doubts.push(format!(
                "The confirming trial was cut to {:.0} s.",
                last.measured_seconds
            ));
        }
        if last.failures.high > search.settings.tolerance_ratio {
            doubts.push(format!(
                "{:.1} % of the runs failed, which is not surely within the tolerance of {} % (95 % {:.1}–{:.1} %).",
                last.failures.ratio * 100.0,
                search.settings.tolerance_ratio * 100.0,
                last.failures.low * 100.0,
                last.failures.high * 100.0,
            ));
        }
        for earlier in own.filter(|trial| trial.length < last.length) {
            let (then, now) = (earlier.runs_per_second, last.runs_per_second);
            let change = now.mean / then.mean - 1.0;
            let apart = now.high < then.low || now.low > then.high;
            if apart && change.abs() > CHANGED_RATIO {
                doubts.push(format!(
                    "Throughput with {} changed by {:+.0} % between {:.0} s and {:.0} s.",
                    at(capacity.level, unit),
                    change * 100.0,
                    earlier.began_seconds,
                    last.began_seconds
                ));
            }
        }
    }
    let half = capacity.runs_per_second.mean - capacity.runs_per_second.low;
    if capacity.confirmed && half > WIDE_RATIO * capacity.runs_per_second.mean {
        doubts.push(format!(
            "The interval is wide: the service varies, or {:.0} runs were too few.",
            capacity.runs_per_second.mean * CONFIRMING_SECONDS
        ));
    }
    if capacity.limit == Limit::Workers {
        doubts.push(
            "With a higher rate all workers were busy, although the service was no slower: more workers may bring more."
                .to_owned(),
        );
    }
    if capacity.limit == Limit::Generator {
        doubts.push("With a higher rate the generator started too little.".to_owned());
    }
    if capacity.limit == Limit::Nothing {
        doubts.push(format!(
            "Nothing gave out up to {}, the highest level allowed.",
            at(capacity.level, unit)
        ));
    }
    doubts
}

/// The law fitted to the levels at which nothing broke.
pub(super) fn explanation(trials: &[Trial]) -> Option<Usl> {
    let points: Vec<(f64, f64)> = trials
        .iter()
        .filter(|trial| trial.sustainable())
        .map(|trial| (trial.level, trial.runs_per_second.mean))
        .collect();
    Usl::fit(&points)
}

fn at(level: f64, unit: Unit) -> String {
    match unit {
        Unit::Workers if level < 1.5 => "1 worker".to_owned(),
        Unit::Workers => format!("{level:.0} workers"),
        Unit::RunsPerSecond => format!("{level:.1} started runs/s"),
    }
}
