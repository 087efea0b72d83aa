//! The confirmed answer: how much the service can take, found by going up, stepping back, searching and confirming.
//!
//! Owns the order of the phases, the time budget and the making of the result. A single trial is `trial`'s, the way up
//! `ramp`'s, the choice of the next level `curve`'s. Pure and deterministic: the same observations give the same
//! decisions. Called by `python`, some five times a second.
//!
//! Short trials first and long ones near the answer is the idea of `MLRsearch` (draft-ietf-bmwg-mlrsearch); unlike
//! there, throughput of a closed loop is measured and not only whether a rate is lost, so that a service which only gets
//! slower has an answer too.

mod answer;
mod curve;
mod per_run;
mod ramp;
mod result;
mod series;
mod trial;
mod usl;

use hdrhistogram::Histogram;

use super::controller::{Controller, Settings as RampSettings, Totals};
use super::rule::LatencyRule;
use super::verdict::Reason;
use curve::{Curve, Step};
use per_run::PerRun;
use trial::{Counts, OpenTrial, Plan, Standard};

pub use result::{
    Capacity, Findings, Flaw, Interval, Length, Limit, Phase, PhaseTime, Ratio, ServiceTimes,
    Trial, Unit,
};
pub use usl::Usl;

/// Levels of the ramp, and every first look at a level.
const SHORT: Plan = Plan {
    phase: Phase::Ramp,
    length: Length::Short,
    shortest_seconds: 2.4,
    longest_seconds: 6.0,
    precision_ratio: 0.1,
    enough_per_second: f64::INFINITY,
    variation: 0.0,
    calm_seconds: 0.0,
    unloaded_seconds: 0.0,
};

/// A level of the ramp that brings this much more throughput than all before it needs no closer look.
const GROWING: f64 = 1.25;

/// Levels that the answer depends on.
const MEDIUM: Plan = Plan {
    phase: Phase::Search,
    length: Length::Medium,
    shortest_seconds: 5.0,
    longest_seconds: 10.0,
    precision_ratio: 0.03,
    enough_per_second: f64::INFINITY,
    variation: 0.0,
    calm_seconds: 0.0,
    unloaded_seconds: 0.0,
};

/// The answer.
const LONG: Plan = Plan {
    phase: Phase::Confirm,
    length: Length::Long,
    shortest_seconds: 30.0,
    longest_seconds: 60.0,
    precision_ratio: 0.03,
    enough_per_second: f64::INFINITY,
    variation: 0.0,
    calm_seconds: 0.0,
    unloaded_seconds: 0.0,
};

/// A first look at a level during the search.
const GLANCE: Plan = Plan {
    phase: Phase::Search,
    ..SHORT
};

/// No confirmation is begun with less time than this, in seconds.
const CONFIRM_AT_LEAST_SECONDS: f64 = 10.0;

/// Once less than this is left of the budget, there is only time to confirm, in seconds.
const RESERVED_SECONDS: f64 = 45.0;

/// Most trials of the search, whatever the budget: beyond it noise is being chased.
const MOST_TRIALS: usize = 24;

/// How levels go up before the search.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Ramp {
    /// By doubling, each level held for some seconds: half a minute to 500 workers.
    #[default]
    Adaptive,
    /// Evenly over so many seconds, as the user wished.
    Even {
        /// From the first level to the highest.
        seconds: f64,
    },
}

/// What a search is to find, and within which bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What levels are numbers of.
    pub unit: Unit,
    /// The lowest level; the ramp begins with it.
    pub first_level: f64,
    /// The highest level, over all processes.
    pub highest_level: f64,
    /// How to get there.
    pub ramp: Ramp,
    /// The ratio (0 to 1) of failed runs that is still fine.
    pub tolerance_ratio: f64,
    /// The optional latency rule.
    pub latency: Option<LatencyRule>,
    /// Time for search and confirmation, after the ramp.
    pub budget_seconds: f64,
}

impl Default for Settings {
    /// 1 to 500 workers, 5 % failures, no latency rule, five minutes after an adaptive ramp.
    fn default() -> Self {
        Self {
            unit: Unit::Workers,
            first_level: 1.0,
            highest_level: 500.0,
            ramp: Ramp::Adaptive,
            tolerance_ratio: 0.05,
            latency: None,
            budget_seconds: 300.0,
        }
    }
}

/// A look at the run. Counts are totals since its start, over all processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observation<'a> {
    /// Seconds of any monotonic clock.
    pub now: f64,
    /// Runs started.
    pub started: u64,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// HTTP responses read to their end.
    pub responses: u64,
    /// Workers that run (not parked ones); with a rate, runs in flight.
    pub active: f64,
    /// With a rate: runs that started late because all workers were busy.
    pub starved: u64,
    /// Service times (with a rate, response times) in microseconds since the last look; `None` when nothing is timed.
    pub service_times: Option<&'a Histogram<u64>>,
}

/// What to do until the next look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The level to hold: workers (a whole number), or runs to start per second.
    pub target: f64,
    /// Where the search is.
    pub phase: Phase,
    /// Whether it is over: `Search::findings` has the answer.
    pub done: bool,
}

/// Leads a run to its answer.
#[derive(Debug)]
pub struct Search {
    settings: Settings,
    standard: Standard,
    /// The time of the first look; all other times count from it.
    origin: Option<f64>,
    now: Counts,
    phase: Phase,
    phases: Vec<PhaseTime>,
    /// What leads the way up when the user has set its length.
    even: Option<EvenRamp>,
    ramp_ended: Option<Reason>,
    /// When that was.
    ramp_seconds: Option<f64>,
    /// Where a ramp without trials broke.
    broke_at: Option<f64>,
    /// Levels to be measured before the curve is asked: what such a ramp suggests.
    waiting: Vec<f64>,
    trial: Option<OpenTrial>,
    trials: Vec<Trial>,
    out_of_time: bool,
}

#[derive(Debug)]
struct EvenRamp {
    seconds: f64,
    controller: Controller,
    slower: u64,
    timed: u64,
}

impl Search {
    /// A search that has not looked yet.
    pub fn new(settings: Settings) -> Self {
        let even = match settings.ramp {
            Ramp::Adaptive => None,
            Ramp::Even { seconds } => Some(EvenRamp {
                seconds: seconds.max(0.0),
                controller: Controller::new(RampSettings {
                    tolerance_ratio: settings.tolerance_ratio,
                    workers: whole(settings.highest_level),
                    latency: settings.latency.clone(),
                    ..RampSettings::default()
                }),
                slower: 0,
                timed: 0,
            }),
        };
        let standard = Standard {
            unit: settings.unit,
            tolerance_ratio: settings.tolerance_ratio,
            latency: settings.latency.clone(),
            per_run: None,
        };
        Self {
            settings,
            standard,
            origin: None,
            now: Counts::default(),
            phase: Phase::Ramp,
            phases: Vec::new(),
            even,
            ramp_ended: None,
            ramp_seconds: None,
            broke_at: None,
            waiting: Vec::new(),
            trial: None,
            trials: Vec::new(),
            out_of_time: false,
        }
    }

    /// What the search is to find.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes a look and says what to do until the next one. A look into the past changes nothing.
    pub fn step(&mut self, look: &Observation) -> Decision {
        let origin = match self.origin {
            Some(origin) => origin,
            None => {
                self.enter(Phase::Ramp);
                *self.origin.insert(look.now)
            }
        };
        let seconds = look.now - origin;
        let passes = seconds.is_finite() && seconds >= self.now.seconds;
        if self.phase == Phase::Done || !passes {
            return self.decision();
        }
        self.now = Counts {
            seconds,
            started: look.started,
            succeeded: look.succeeded,
            failed: look.failed,
            responses: look.responses,
            active: look.active,
            starved: look.starved,
        };
        self.note_requests();
        if self.even.is_some() && self.ramp_ended.is_none() {
            self.follow_even_ramp(look);
        } else if let Some(open) = &mut self.trial {
            if let Some(trial) = open.observe(self.now, look.service_times, &self.standard) {
                self.trials.push(trial);
                self.trial = None;
                self.advance();
            }
        } else {
            self.advance();
        }
        self.decision()
    }

    /// What has been found by now, at any time: a run that ends early says what it knows and what it could not confirm.
    pub fn findings(&self) -> Findings {
        let mut trials = self.trials.clone();
        if self.phase != Phase::Done
            && let Some(open) = &self.trial
        {
            trials.extend(open.so_far(&self.standard));
        }
        let trials = self.told(&trials);
        let mut capacity = answer::capacity(&trials, self.broke_at, &self.settings);
        if let (Some(capacity), Some(per_run)) = (&mut capacity, self.standard.per_run) {
            capacity.runs_per_second = capacity.runs_per_second.widened(per_run.error_ratio);
        }
        let unconfirmed = answer::doubts(&trials, capacity.as_ref(), self);
        Findings {
            unit: self.settings.unit,
            usl: (self.settings.unit == Unit::Workers)
                .then(|| answer::explanation(&trials))
                .flatten(),
            capacity,
            ramp_ended: self.ramp_ended,
            trials,
            unconfirmed,
            phases: self.phases.clone(),
            seconds: self.now.seconds,
        }
    }

    /// Learns how many requests a run has, from when the fewest of all runs were in flight. Of an open model runs end as
    /// evenly as they start.
    fn note_requests(&mut self) {
        if self.settings.unit != Unit::Workers {
            return;
        }
        let error = self
            .standard
            .per_run
            .map_or(f64::MAX, |per_run| per_run.error_ratio);
        if let Some(per_run) = PerRun::of(self.now).filter(|per_run| per_run.error_ratio <= error) {
            self.standard.per_run = Some(per_run);
        }
    }

    /// Trials with the throughput that their requests tell.
    fn told(&self, trials: &[Trial]) -> Vec<Trial> {
        let told = |trial: &Trial| match self.standard.per_run {
            Some(per_run) => per_run.apply(trial),
            None => trial.clone(),
        };
        trials.iter().map(told).collect()
    }

    fn decision(&self) -> Decision {
        let target = match (&self.trial, &self.even) {
            (Some(trial), _) => trial.target(self.settings.unit),
            (None, Some(even)) if self.phase == Phase::Ramp => {
                let share = (self.now.seconds / even.seconds).min(1.0);
                let level = self
                    .settings
                    .first_level
                    .max(share * self.settings.highest_level);
                match self.settings.unit {
                    Unit::Workers => level.floor(),
                    Unit::RunsPerSecond => level,
                }
            }
            _ => self.lowest(),
        };
        Decision {
            target,
            phase: self.phase,
            done: self.phase == Phase::Done,
        }
    }

    /// The bare contract leads, as in a run that only ramps.
    fn follow_even_ramp(&mut self, look: &Observation) {
        let target = self.decision().target;
        let Some(even) = &mut self.even else { return };
        if let (Some(rule), Some(times)) = (&self.settings.latency, look.service_times) {
            let limit = u64::try_from(rule.limit.as_micros()).unwrap_or(u64::MAX);
            even.timed += times.len();
            even.slower += times.len().saturating_sub(times.count_between(0, limit));
        }
        let verdict = even.controller.observe(
            self.now.seconds,
            Totals {
                succeeded: look.succeeded,
                failed: look.failed,
                workers_started: whole(target),
                requests: look.responses,
                slower: even.slower,
                timed: even.timed,
            },
        );
        let Some(verdict) = verdict else { return };
        self.ramp_ended = Some(verdict.reason);
        if matches!(verdict.reason, Reason::Failures | Reason::Latency) {
            self.broke_at = Some(target);
        }
        if verdict.reason != Reason::AllFailed {
            let best = (verdict.best_workers as f64)
                .clamp(self.settings.first_level, self.settings.highest_level);
            let half = (best / 2.0).max(self.settings.first_level).round();
            self.waiting = vec![half, best];
            self.waiting.dedup();
        }
        self.advance();
    }

    /// Chooses the next trial, or ends the search.
    fn advance(&mut self) {
        let trials = self.told(&self.trials);
        if self.ramp_ended.is_none() {
            match ramp::next(&trials, &self.settings) {
                ramp::Next::Hold(level) => {
                    let best = trials.iter().map(|trial| trial.runs_per_second.mean);
                    let enough_per_second = if trials.is_empty() {
                        0.0
                    } else {
                        GROWING * best.fold(0.0, f64::max)
                    };
                    return self.hold(
                        level,
                        Plan {
                            enough_per_second,
                            precision_ratio: match self.settings.unit {
                                Unit::Workers => SHORT.precision_ratio,
                                // Throughput is what was started, unless it falls behind.
                                Unit::RunsPerSecond => f64::INFINITY,
                            },
                            ..SHORT
                        },
                    );
                }
                ramp::Next::Ended(reason) => self.ramp_ended = Some(reason),
            }
        }
        let ramp_seconds = *self.ramp_seconds.get_or_insert(self.now.seconds);
        if self.ramp_ended == Some(Reason::AllFailed) {
            return self.enter(Phase::Done);
        }
        if let Some(level) = self.lifeless() {
            if level <= self.lowest() {
                return self.enter(Phase::Done);
            }
            return self.hold(self.lowest(), GLANCE);
        }
        let curve = Curve::of(&trials, self.broke_at, self.settings.tolerance_ratio);
        let next = curve.next(&self.settings);
        let left = self.settings.budget_seconds - (self.now.seconds - ramp_seconds);
        if left < CONFIRM_AT_LEAST_SECONDS && next != Step::Finished {
            self.out_of_time = true;
            return self.enter(Phase::Done);
        }
        let searched = self
            .trials
            .iter()
            .filter(|trial| trial.phase != Phase::Ramp)
            .count();
        let hurry = left < RESERVED_SECONDS || searched >= MOST_TRIALS;
        if !self.waiting.is_empty() && !hurry {
            let level = self.waiting.remove(0);
            return self.hold(level, MEDIUM);
        }
        let next = match (next, curve.knee()) {
            (Step::Glance(_) | Step::Measure(_), Some(knee)) if hurry && !knee.confirmed => {
                Step::Confirm(knee.level)
            }
            (Step::Glance(_) | Step::Measure(_), Some(_)) if hurry => Step::Finished,
            (next, _) => next,
        };
        match next {
            Step::Glance(level) => self.hold(level, GLANCE),
            Step::Measure(level) => self.hold(level, MEDIUM),
            Step::Confirm(level) => self.hold(
                level,
                Plan {
                    longest_seconds: LONG.longest_seconds.min(left),
                    shortest_seconds: LONG.shortest_seconds.min(left),
                    variation: self.variation(),
                    ..LONG
                },
            ),
            Step::Finished | Step::NothingHolds => self.enter(Phase::Done),
        }
    }

    /// The mean variation of throughput in the trials that measured it, with their interval as the measure.
    fn variation(&self) -> f64 {
        let measured: Vec<f64> = self
            .told(&self.trials)
            .iter()
            .filter(|trial| trial.length >= Length::Medium && trial.sustainable())
            .map(|trial| {
                let rate = trial.runs_per_second;
                (rate.half() / rate.mean).powi(2) * trial.measured_seconds
            })
            .collect();
        measured.iter().sum::<f64>() / measured.len().max(1) as f64
    }

    /// How long a run lasted in the mean of each sustainable trial (Little's law), with the trial's level.
    fn run_seconds(&self) -> impl Iterator<Item = (f64, f64)> {
        self.trials
            .iter()
            .filter(|trial| trial.sustainable() && trial.runs > 0)
            .map(|trial| {
                let seconds = trial.active * trial.measured_seconds / trial.runs as f64;
                (trial.level, seconds)
            })
    }

    /// The longest of them: of the levels up to this one, if there are any, since runs queue at higher ones.
    fn calm_seconds(&self, level: f64) -> f64 {
        let longest = |most: f64| {
            self.run_seconds()
                .filter(|(level, _)| *level <= most)
                .map(|(_, seconds)| seconds)
                .fold(0.0, f64::max)
        };
        let here = longest(level * (1.0 + 1e-9));
        if here > 0.0 { here } else { longest(f64::MAX) }
    }

    fn lowest(&self) -> f64 {
        self.settings.first_level.min(self.settings.highest_level)
    }

    /// The level of the last two trials when nothing succeeded in them although it had done so at that level or a
    /// higher one.
    fn lifeless(&self) -> Option<f64> {
        let [before @ .., second, last] = self.trials.as_slice() else {
            return None;
        };
        let dead = |trial: &Trial| trial.flaws.first() == Some(&Flaw::NothingSucceeded);
        let was_fine = before
            .iter()
            .any(|trial| trial.sustainable() && trial.level >= last.level * (1.0 - 1e-9));
        (dead(second) && dead(last) && was_fine).then_some(last.level)
    }

    fn hold(&mut self, level: f64, plan: Plan) {
        self.enter(plan.phase);
        let plan = Plan {
            calm_seconds: self.calm_seconds(level),
            unloaded_seconds: self
                .run_seconds()
                .map(|(_, seconds)| seconds)
                .reduce(f64::min)
                .unwrap_or(0.0),
            ..plan
        };
        self.trial = Some(OpenTrial::new(level, plan, self.now));
    }

    fn enter(&mut self, phase: Phase) {
        let seconds = self.now.seconds;
        if let Some(last) = self.phases.last_mut() {
            last.ended_seconds = seconds;
            if last.phase == phase {
                return;
            }
        }
        self.phase = phase;
        if phase != Phase::Done {
            self.phases.push(PhaseTime {
                phase,
                began_seconds: seconds,
                ended_seconds: seconds,
            });
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of workers, not below 0"
)]
fn whole(workers: f64) -> u64 {
    workers.max(0.0) as u64
}

#[cfg(test)]
mod tests;
