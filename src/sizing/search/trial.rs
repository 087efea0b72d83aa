//! One level, held until it is known well enough.
//!
//! Owns the bins of a trial, when it has settled, when it has seen enough, and its judgement. Which level comes next is
//! `curve`'s. Called by `Search` with every look.

use hdrhistogram::Histogram;

use super::super::rule::LatencyRule;
use super::super::statistics::{Z_CLEAR, wilson_lower_at};
use super::per_run::PerRun;
use super::result::{Flaw, Interval, Length, Phase, Ratio, ServiceTimes, Trial, Unit};
use super::series::{Estimate, estimate, trend, warm_up};

/// Shortest bin, in seconds.
const BIN_SECONDS: f64 = 0.35;

/// A level that the generator has not reached after this long, and three runs, is measured as it is.
const REACH_SECONDS: f64 = 5.0;

/// Runs in flight are calm when they are at most this many times what a sustainable level has; after this long a rate is
/// measured whatever is in flight, in seconds.
const CALM: f64 = 2.0;
const DRAIN_SECONDS: f64 = 60.0;

/// How much of the level has to be reached.
const REACHED_RATIO: f64 = 0.98;

/// Time for the service to settle on a new level: this many runs one after the other, within these seconds.
const SETTLE_RUNS: f64 = 1.2;
const SETTLE_SECONDS: (f64, f64) = (0.4, 20.0);

/// A trial lasts at least this many runs one after the other, up to so many seconds.
const SHORTEST_RUNS: f64 = 2.0;
const SHORTEST_RUNS_SECONDS: f64 = 30.0;

/// Runs that take this long without any waiting are slow, in seconds: an answer about them takes time, so that trials
/// which only show the way make do with less.
const SLOW_RUN_SECONDS: f64 = 0.5;

/// Where it only shows the way it then lasts one run as it is at this level, most of which may be waiting, and twice one
/// without any waiting: workers that began together end together, and two of these waves have to be seen.
const FEWER_RUNS: f64 = 1.0;

/// And it need not settle for longer than this many runs without any waiting either: behind a queue throughput is what
/// it is, however long the queue still grows. Only service times would need that, and the long trial has those.
const SETTLE_UNLOADED_RUNS: f64 = 2.0;

/// Throughput beyond that which shows growth by this factor is growth, however little is known of it yet.
const CLEAR_GROWTH: f64 = 1.25;

/// A long trial with fewer runs than this after this share of its time is over: the rest would not make it precise.
const MANY_RUNS: u64 = 1000;
const ENOUGH_OF_LONG: f64 = 0.5;

/// With fewer runs than this it goes on until that time is over.
const FEWEST_RUNS: u64 = 5;

/// Fewest samples that a ratio is judged by, and fewest failures that show that nothing works.
const ENOUGH_SAMPLES: u64 = 100;
const ENOUGH_FAILURES: u64 = 20;

/// A ratio this far above the allowed one needs no further look.
const CLEARLY: f64 = 1.5;

/// Before that, a service gets this long to come to its senses.
const ABORT_SECONDS: f64 = 1.0;

/// A shorter trial has no trend, only moments, in seconds.
const TREND_SECONDS: f64 = 20.0;

/// Change over a trial that is still steady, as a share of the mean.
const STEADY_RATIO: f64 = 0.05;

/// Share of the started runs by which an open model may fall behind.
const BEHIND_RATIO: f64 = 0.015;

/// Share of the runs that may have to wait for a worker, and the share that leaves no doubt.
const STARVED_RATIO: f64 = 0.01;
const FAR_STARVED_RATIO: f64 = 0.5;

/// Share of the level by which it falls behind for certain.
const FAR_BEHIND: f64 = 0.1;

/// Most slices that service times are kept in.
const SLICES: usize = 16;

/// How long a trial is to last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    pub(super) phase: Phase,
    pub(super) length: Length,
    /// At least this long after settling, in seconds.
    pub(super) shortest_seconds: f64,
    /// At most this long.
    pub(super) longest_seconds: f64,
    /// It ends in between when the half width of the interval is this share of the throughput.
    pub(super) precision_ratio: f64,
    /// It needs no precision when throughput is surely above this: it still grows, and that is enough to know.
    pub(super) enough_per_second: f64,
    /// How much throughput varies by what earlier trials say: the squared relative half width of a second's interval.
    pub(super) variation: f64,
    /// How long a run lasts when all is well; 0 when unknown. A rate is held once the runs piled up before are gone.
    pub(super) calm_seconds: f64,
    /// The shortest that runs were at any level, in the mean; 0 when unknown.
    pub(super) unloaded_seconds: f64,
}

/// What a trial is judged by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standard {
    pub(super) unit: Unit,
    pub(super) tolerance_ratio: f64,
    pub(super) latency: Option<LatencyRule>,
    /// What is known of the requests of a run.
    pub(super) per_run: Option<PerRun>,
}

/// Totals since the start of the search.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) seconds: f64,
    pub(super) started: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) responses: u64,
    pub(super) active: f64,
    pub(super) starved: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    seconds: f64,
    started: u64,
    succeeded: u64,
    failed: u64,
    responses: u64,
    active: f64,
    starved: u64,
}

/// Service times of some consecutive bins.
#[derive(Debug)]
struct Slice {
    bins: usize,
    times: Histogram<u64>,
}

/// A trial that is going on.
#[derive(Debug)]
pub(super) struct OpenTrial {
    level: f64,
    plan: Plan,
    /// Counts when it began.
    first: Counts,
    reached: Option<f64>,
    /// Counts at the last end of a bin, once settled.
    mark: Option<Counts>,
    bins: Vec<Bin>,
    /// Service times of the bin that is not over yet.
    current: Option<Histogram<u64>>,
    slices: Vec<Slice>,
    bins_per_slice: usize,
    /// How long a run lasts at this level, once known.
    run_seconds: Option<f64>,
}

impl OpenTrial {
    pub(super) fn new(level: f64, plan: Plan, first: Counts) -> Self {
        Self {
            level,
            plan,
            first,
            reached: None,
            mark: None,
            bins: Vec::new(),
            current: None,
            slices: Vec::new(),
            bins_per_slice: 1,
            run_seconds: None,
        }
    }

    /// What to ask of the generator: the level, or half a rate while piled up runs are worked off.
    pub(super) fn target(&self, unit: Unit) -> f64 {
        if unit == Unit::RunsPerSecond && self.reached.is_none() && self.plan.calm_seconds > 0.0 {
            self.level / 2.0
        } else {
            self.level
        }
    }

    /// Takes a look; the finished trial once it is known well enough. `times` are those since the last look.
    pub(super) fn observe(
        &mut self,
        now: Counts,
        times: Option<&Histogram<u64>>,
        standard: &Standard,
    ) -> Option<Trial> {
        self.note_run_length(now);
        let Some(mark) = self.mark else {
            if self.settled(now, standard) {
                self.mark = Some(now);
            }
            return None;
        };
        if let Some(times) = times {
            match &mut self.current {
                Some(current) => add(current, times),
                None => self.current = Some(times.clone()),
            }
        }
        if now.seconds - mark.seconds < BIN_SECONDS {
            return None;
        }
        self.mark = Some(now);
        self.bins.push(Bin {
            seconds: now.seconds - mark.seconds,
            started: now.started.saturating_sub(mark.started),
            succeeded: now.succeeded.saturating_sub(mark.succeeded),
            failed: now.failed.saturating_sub(mark.failed),
            responses: now.responses.saturating_sub(mark.responses),
            active: now.active,
            starved: now.starved.saturating_sub(mark.starved),
        });
        self.close_slice();
        // Merging histograms is the expensive part.
        let trial = self.judge(standard, standard.latency.is_some());
        self.is_over(&trial, standard)
            .then(|| self.judge(standard, true))
    }

    /// The trial as far as it got; `None` when it has measured nothing.
    pub(super) fn so_far(&self, standard: &Standard) -> Option<Trial> {
        (!self.bins.is_empty()).then(|| self.judge(standard, true))
    }

    /// Little's law: a run lasts as long as the workers are many and the throughput is small.
    fn note_run_length(&mut self, now: Counts) {
        let ended = |counts: Counts| counts.succeeded.saturating_add(counts.failed);
        let runs = ended(now).saturating_sub(ended(self.first)) as f64;
        let seconds = now.seconds - self.first.seconds;
        if runs > 0.0 && runs >= now.active.min(20.0) {
            self.run_seconds = Some(now.active.max(1.0) * seconds / runs);
        }
    }

    fn settled(&mut self, now: Counts, standard: &Standard) -> bool {
        let elapsed = now.seconds - self.first.seconds;
        let run_seconds = self.run_seconds.unwrap_or(0.0);
        if self.reached.is_none() {
            let (close, patience) = match standard.unit {
                Unit::Workers => (
                    (now.active - self.level).abs() <= (1.0 - REACHED_RATIO) * self.level + 0.5,
                    REACH_SECONDS + (3.0 * run_seconds).min(SHORTEST_RUNS_SECONDS),
                ),
                Unit::RunsPerSecond => (
                    self.plan.calm_seconds <= 0.0
                        || now.active <= CALM * self.level * self.plan.calm_seconds + 10.0,
                    DRAIN_SECONDS,
                ),
            };
            if !close && elapsed < patience {
                return false;
            }
            self.reached = Some(now.seconds);
        }
        let since = now.seconds - self.reached.unwrap_or(now.seconds);
        let unloaded = self.plan.unloaded_seconds;
        let is_quick = self.only_shows_the_way() && standard.latency.is_none();
        let wait = match self.run_seconds {
            Some(seconds) if is_quick => {
                let seconds = seconds.min(SETTLE_UNLOADED_RUNS * unloaded);
                (SETTLE_RUNS * seconds).clamp(SETTLE_SECONDS.0, SETTLE_SECONDS.1)
            }
            Some(seconds) => (SETTLE_RUNS * seconds).clamp(SETTLE_SECONDS.0, SETTLE_SECONDS.1),
            // Nothing has ended yet.
            None => SETTLE_SECONDS.1,
        };
        since >= wait
    }

    /// Files the service times of the bin that has just ended.
    fn close_slice(&mut self) {
        let Some(times) = self.current.take() else {
            return;
        };
        match self.slices.last_mut() {
            Some(last) if last.bins < self.bins_per_slice => {
                last.bins += 1;
                add(&mut last.times, &times);
            }
            _ => self.slices.push(Slice { bins: 1, times }),
        }
        if self.slices.len() > SLICES {
            self.bins_per_slice *= 2;
            let mut halved: Vec<Slice> = Vec::with_capacity(SLICES);
            for slice in self.slices.drain(..) {
                match halved.last_mut() {
                    Some(last) if last.bins + slice.bins <= self.bins_per_slice => {
                        last.bins += slice.bins;
                        add(&mut last.times, &slice.times);
                    }
                    _ => halved.push(slice),
                }
            }
            self.slices = halved;
        }
    }

    /// Whether a trial of slow runs is one of those that may be less thorough than others.
    fn only_shows_the_way(&self) -> bool {
        self.plan.length < Length::Long && self.plan.unloaded_seconds >= SLOW_RUN_SECONDS
    }

    fn is_over(&self, trial: &Trial, standard: &Standard) -> bool {
        let seconds: f64 = self.bins.iter().map(|bin| bin.seconds).sum();
        if seconds >= ABORT_SECONDS && Self::is_hopeless(trial, standard) {
            return true;
        }
        let runs_seconds = self.run_seconds.map_or(0.0, |seconds| {
            let unloaded = self.plan.unloaded_seconds;
            let enough = if self.only_shows_the_way() {
                (FEWER_RUNS * seconds).max(SHORTEST_RUNS * unloaded)
            } else {
                SHORTEST_RUNS * seconds
            };
            enough.min(SHORTEST_RUNS_SECONDS)
        });
        let shortest = self.plan.shortest_seconds.max(runs_seconds);
        if trial.runs < FEWEST_RUNS && seconds < SHORTEST_RUNS_SECONDS {
            return false;
        }
        if seconds < shortest {
            return false;
        }
        let few = self.plan.length == Length::Long && trial.runs < MANY_RUNS;
        let longest = self.plan.longest_seconds * if few { ENOUGH_OF_LONG } else { 1.0 };
        if seconds >= longest.max(shortest) {
            return true;
        }
        // Looking again and again until the interval happens to be narrow makes it too narrow.
        if !self.is_time_to_judge(seconds, shortest) {
            return false;
        }
        let told = standard.per_run.map(|per_run| per_run.apply(trial));
        let throughput = told.as_ref().unwrap_or(trial).runs_per_second;
        let growth = CLEAR_GROWTH * self.plan.enough_per_second;
        if self.only_shows_the_way() && trial.failed == 0 && throughput.mean > growth {
            return true;
        }
        let precise = throughput.half() <= self.plan.precision_ratio * throughput.mean
            || throughput.low > self.plan.enough_per_second;
        let clear = |ratio: &Ratio, allowed: f64| {
            ratio.low > allowed || ratio.high <= allowed || self.plan.length == Length::Short
        };
        let failures_clear = clear(&trial.failures, standard.tolerance_ratio);
        let slower_clear = match (&standard.latency, trial.service_times) {
            (Some(rule), Some(times)) => times
                .slower
                .is_none_or(|slower| clear(&slower, rule.allowed_ratio)),
            _ => true,
        };
        precise && failures_clear && slower_clear
    }

    /// Precision is judged after the shortest time and whenever half of it has passed again.
    fn is_time_to_judge(&self, seconds: f64, shortest: f64) -> bool {
        let looks = |seconds: f64| (2.0 * seconds / shortest).floor();
        let last = self.bins.last().map_or(0.0, |bin| bin.seconds);
        looks(seconds) > looks(seconds - last)
    }

    /// Whether more of the same would be a waste of time.
    fn is_hopeless(trial: &Trial, standard: &Standard) -> bool {
        let nothing = trial.failed == trial.runs && trial.failed >= ENOUGH_FAILURES;
        let clearly = |hits: u64, samples: u64, allowed: f64| {
            samples >= ENOUGH_SAMPLES
                && wilson_lower_at(Z_CLEAR, hits, samples) > (CLEARLY * allowed).min(1.0)
        };
        let failing = clearly(trial.failed, trial.runs, standard.tolerance_ratio);
        let slow = match (&standard.latency, trial.service_times) {
            (Some(rule), Some(times)) => times.slower.is_some_and(|slower| {
                clearly(hits(slower, times.count), times.count, rule.allowed_ratio)
            }),
            _ => false,
        };
        let behind = trial.flaws.iter().any(|flaw| match flaw {
            // Twice the scatter that makes it a flaw: looking again and again, chance would come to that soon.
            Flaw::FallsBehind { runs_per_second } => {
                let certain = 2.0 * scatter_per_second(trial);
                *runs_per_second > certain.max(FAR_BEHIND * trial.level)
            }
            Flaw::WorkersBusy { late_ratio } => *late_ratio > FAR_STARVED_RATIO,
            _ => false,
        });
        nothing || failing || slow || behind
    }

    fn judge(&self, standard: &Standard, with_times: bool) -> Trial {
        let rates = |bins: &[Bin], of: fn(&Bin) -> u64| -> Vec<f64> {
            bins.iter()
                .map(|bin| of(bin) as f64 / bin.seconds)
                .collect()
        };
        let all = |of: fn(&Bin) -> u64| self.bins.iter().map(of).sum::<u64>();
        let failed = all(|bin| bin.failed);
        let by_responses =
            standard.per_run.is_some() && PerRun::fits(failed, failed + all(|bin| bin.succeeded));
        // What shows whether throughput is steady.
        let progress: fn(&Bin) -> u64 = if by_responses {
            |bin| bin.responses
        } else {
            |bin| bin.succeeded
        };
        let cut = warm_up(&rates(&self.bins, progress));
        let bins = self.bins.get(cut..).unwrap_or_default();
        let seconds: f64 = bins.iter().map(|bin| bin.seconds).sum();
        let cut_seconds: f64 = self.bins.iter().take(cut).map(|bin| bin.seconds).sum();
        let total = |of: fn(&Bin) -> u64| bins.iter().map(of).sum::<u64>();
        let settled = self.mark.map_or(0.0, |mark| mark.seconds)
            - self.bins.iter().map(|bin| bin.seconds).sum::<f64>();
        let interval = |rates: &[f64]| {
            estimate(rates, seconds).map_or_else(Interval::default, |Estimate { mean, half }| {
                // A quiet moment does not make a service steadier than it was all the time before.
                let known = mean * (self.plan.variation / seconds).sqrt();
                Interval::around(mean, half.max(known))
            })
        };
        let successes = rates(bins, |bin| bin.succeeded);
        let (succeeded, failed) = (total(|bin| bin.succeeded), total(|bin| bin.failed));
        let mut trial = Trial {
            level: self.level,
            phase: self.plan.phase,
            length: self.plan.length,
            began_seconds: self.first.seconds,
            warm_up_seconds: settled - self.first.seconds + cut_seconds,
            measured_seconds: seconds,
            active: bins.iter().map(|bin| bin.active).sum::<f64>() / bins.len().max(1) as f64,
            runs_per_second: interval(&successes),
            requests_per_second: interval(&rates(bins, |bin| bin.responses)),
            runs: succeeded + failed,
            failed,
            failures: Ratio::of(failed, succeeded + failed),
            service_times: with_times
                .then(|| self.service_times(cut, standard))
                .flatten(),
            flaws: Vec::new(),
        };
        trial.flaws = flaws(&trial, &rates(bins, progress), bins, standard);
        trial
    }

    fn service_times(&self, cut: usize, standard: &Standard) -> Option<ServiceTimes> {
        let mut all: Option<Histogram<u64>> = None;
        let mut place = 0;
        for slice in &self.slices {
            // A slice that is warm-up in part is left out, unless nothing else is left.
            let begins = place;
            place += slice.bins;
            if begins < cut && place < self.bins.len() {
                continue;
            }
            match &mut all {
                Some(all) => add(all, &slice.times),
                None => all = Some(slice.times.clone()),
            }
        }
        let times = all.filter(|times| !times.is_empty())?;
        let at = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e6;
        let slower = standard.latency.as_ref().map(|rule| {
            let limit = u64::try_from(rule.limit.as_micros()).unwrap_or(u64::MAX);
            let within = times.count_between(0, limit);
            Ratio::of(times.len() - within.min(times.len()), times.len())
        });
        Some(ServiceTimes {
            count: times.len(),
            p50_seconds: at(0.5),
            p95_seconds: at(0.95),
            p99_seconds: at(0.99),
            slower,
        })
    }
}

fn add(to: &mut Histogram<u64>, times: &Histogram<u64>) {
    // It grows by itself: only a fixed upper bound could refuse.
    let added = to.add(times);
    debug_assert!(added.is_ok(), "{added:?}");
}

/// By how much starts and ends of independent runs differ by chance, at most one time in forty. Before the first one has
/// ended there may be one more on its way.
fn scatter_per_second(trial: &Trial) -> f64 {
    2.0 * (2.0 * trial.runs.max(1) as f64).sqrt() / trial.measured_seconds
}

/// Everything that speaks against the level of this trial.
fn flaws(trial: &Trial, progress: &[f64], bins: &[Bin], standard: &Standard) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if trial.failed == trial.runs {
        flaws.push(Flaw::NothingSucceeded);
    } else if too_many(trial.failures, standard.tolerance_ratio, trial.length) {
        flaws.push(Flaw::Failures);
    }
    if let (Some(rule), Some(times)) = (&standard.latency, trial.service_times)
        && times
            .slower
            .is_some_and(|slower| too_many(slower, rule.allowed_ratio, trial.length))
    {
        flaws.push(Flaw::Latency);
    }
    if trial.measured_seconds >= TREND_SECONDS
        && let Some(change_ratio) = trend(progress, STEADY_RATIO)
    {
        flaws.push(Flaw::Unsteady { change_ratio });
    }
    if trial.measured_seconds <= 0.0 {
        return flaws;
    }
    match standard.unit {
        Unit::Workers => {
            if trial.active < REACHED_RATIO * trial.level - 0.5 {
                flaws.push(Flaw::NotReached {
                    level: trial.active,
                });
            }
        }
        Unit::RunsPerSecond => {
            let started = bins.iter().map(|bin| bin.started).sum::<u64>() as f64;
            let rate = started / trial.measured_seconds;
            // Independent arrivals scatter by the root of their number.
            let scatter = 3.0 * (trial.level / trial.measured_seconds).sqrt();
            let starved = bins.iter().map(|bin| bin.starved).sum::<u64>() as f64;
            if starved > STARVED_RATIO * started {
                flaws.push(Flaw::WorkersBusy {
                    late_ratio: (starved / started).min(1.0),
                });
            } else if rate < REACHED_RATIO * trial.level - scatter {
                flaws.push(Flaw::NotReached { level: rate });
            }
            let behind = (started - trial.runs as f64) / trial.measured_seconds;
            if behind > (BEHIND_RATIO * rate).max(scatter_per_second(trial)) {
                flaws.push(Flaw::FallsBehind {
                    runs_per_second: behind,
                });
            }
        }
    }
    flaws
}

/// A short trial only knows what is certain; the longer ones have looked until it was, or go by what they saw.
fn too_many(ratio: Ratio, allowed: f64, length: Length) -> bool {
    ratio.ratio > allowed && (length > Length::Short || ratio.low > allowed)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count again, from its share"
)]
fn hits(ratio: Ratio, samples: u64) -> u64 {
    (ratio.ratio * samples as f64).round() as u64
}
