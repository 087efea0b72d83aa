//! The state machine: totals in, verdict out.
//!
//! Owns the sliding window and the order of the checks. The formulas are `statistics`', the plateau test `growth`'s, the
//! wording of numbers `verdict`'s. Called a few times a second with the totals of all processes.

use std::collections::VecDeque;

use super::growth::{Comparison, Growth, Point};
use super::rule::LatencyRule;
use super::statistics::{Z_CLEAR, ratio_rose, wilson_lower, wilson_lower_at};
use super::verdict::{Rate, Reason, Verdict, Workers};

/// Fewest samples that a ratio is judged by.
const ENOUGH_SAMPLES: u64 = 100;

/// With no success at all, this many failures are enough.
const ENOUGH_FAILURES: u64 = 20;

/// How long all workers have to be up before the ramp counts as survived, in seconds.
const HOLD_SECONDS: f64 = 10.0;

/// The same when throughput seems to have stopped growing, but not clearly: more evidence may settle it.
const UNSURE_HOLD_SECONDS: f64 = 30.0;

/// The latency rule looks at this much of the window when that holds enough samples: latency answers to the workers of
/// now, not to those of a minute ago.
const LATENCY_SECONDS: f64 = 10.0;

/// What a run is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The ratio (0 to 1) of failed runs that is still fine.
    pub tolerance_ratio: f64,
    /// Workers of the whole ramp, over all processes.
    pub workers: u64,
    /// The optional latency rule.
    pub latency: Option<LatencyRule>,
    /// Length of the sliding window in seconds.
    pub window_seconds: f64,
}

impl Default for Settings {
    /// 5 % of a minute, 500 workers, no latency rule.
    fn default() -> Self {
        Self {
            tolerance_ratio: 0.05,
            workers: 500,
            latency: None,
            window_seconds: 60.0,
        }
    }
}

/// Everything counted since the start of the run, over all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Workers ever started.
    pub workers_started: u64,
    /// HTTP responses.
    pub requests: u64,
    /// Requests slower than the latency rule's limit; 0 without a rule.
    pub slower: u64,
    /// Requests that `slower` is out of; 0 without a rule.
    pub timed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    totals: Totals,
}

/// A ratio that seems too high.
///
/// Too high is what lies above the allowed ratio with 95 % confidence. But whoever looks five times a second sees a
/// chance of one in forty soon enough, so unless it is beyond doubt it has to stay too high for a quarter more samples.
#[derive(Debug, Default)]
struct Suspicion {
    confirmed_at: Option<u64>,
}

impl Suspicion {
    /// Whether the ratio of the window is surely too high. `all` counts the samples of the whole run.
    fn judge(&mut self, (hits, samples): (u64, u64), all: u64, allowed_ratio: f64) -> bool {
        if samples < ENOUGH_SAMPLES || wilson_lower(hits, samples) <= allowed_ratio {
            self.confirmed_at = None;
            return false;
        }
        all >= *self
            .confirmed_at
            .get_or_insert(all.saturating_add(samples / 4))
            || wilson_lower_at(Z_CLEAR, hits, samples) > allowed_ratio
    }
}

/// Watches a ramp and says when it ends.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    /// The sliding window, and one sample before it to subtract.
    samples: VecDeque<Sample>,
    growth: Growth,
    started: Option<f64>,
    complete_since: Option<f64>,
    failing: Suspicion,
    slow: Suspicion,
    verdict: Option<Verdict>,
}

impl Controller {
    /// A controller for one run.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            samples: VecDeque::new(),
            growth: Growth::default(),
            started: None,
            complete_since: None,
            failing: Suspicion::default(),
            slow: Suspicion::default(),
            verdict: None,
        }
    }

    /// What the run is judged by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes the totals at the time `now` (seconds of any monotonic clock) and says whether that ends the run.
    ///
    /// An answer (something gave out) stays: later calls return it again. [`Reason::RampEnded`] is returned from when
    /// all workers have been up for ten seconds (thirty, if it is unclear whether throughput
    /// still grows), and may be followed by an answer if the run goes on.
    pub fn observe(&mut self, now: f64, totals: Totals) -> Option<Verdict> {
        if self.verdict.is_some() {
            return self.verdict.clone();
        }
        if !now.is_finite() || self.samples.back().is_some_and(|last| now < last.seconds) {
            return None;
        }
        let started = *self.started.get_or_insert(now);
        if self.samples.is_empty() {
            // Whatever was counted before the first look belongs to the run.
            self.samples.push_back(Sample {
                seconds: now,
                totals: Totals::default(),
            });
        }
        self.samples.push_back(Sample {
            seconds: now,
            totals,
        });
        let window_start = now - self.settings.window_seconds;
        while self
            .samples
            .get(1)
            .is_some_and(|second| second.seconds <= window_start)
        {
            self.samples.pop_front();
        }
        if totals.workers_started >= self.settings.workers {
            self.complete_since.get_or_insert(now);
        }
        self.growth.observe(Point {
            seconds: now - started,
            workers: totals.workers_started,
            succeeded: totals.succeeded,
            requests: totals.requests,
        });
        self.verdict = self.failures();
        if self.verdict.is_none() {
            self.verdict = self.latency();
        }
        if self.verdict.is_none() {
            self.verdict = self.plateau(totals.workers_started);
        }
        if self.verdict.is_some() {
            return self.verdict.clone();
        }
        let hold = if self.unsure() {
            UNSURE_HOLD_SECONDS
        } else {
            HOLD_SECONDS
        };
        let survived = self.complete_since.is_some_and(|since| now - since >= hold);
        survived.then(|| self.nothing_gave_out())
    }

    /// Whether throughput grows so little that it may have stopped.
    fn unsure(&self) -> bool {
        self.growth
            .comparison()
            .is_some_and(|comparison| comparison.ratio < comparison.workers_ratio.sqrt())
    }

    /// The verdict when the run ended otherwise: the answer if there was one, else the end of the ramp, or that
    /// somebody interrupted it.
    pub fn finish(&self, interrupted: bool) -> Verdict {
        if let Some(verdict) = &self.verdict {
            return verdict.clone();
        }
        let complete = self.current().workers_started >= self.settings.workers;
        if complete && !interrupted {
            return self.nothing_gave_out();
        }
        let how = if interrupted {
            "was interrupted"
        } else {
            "ended"
        };
        let best = self.growth.best();
        let reached = if best.throughput > 0.0 {
            format!(
                ": at least {} so far",
                self.rates(best.throughput, best.requests)
            )
        } else {
            String::new()
        };
        self.conclude(
            Reason::Interrupted,
            format!(
                "The run {how} at {} of {} before anything gave out{reached}.",
                self.current().workers_started,
                Workers(self.settings.workers),
            ),
        )
    }

    fn current(&self) -> Totals {
        self.samples
            .back()
            .map(|sample| sample.totals)
            .unwrap_or_default()
    }

    /// Failed and all runs between two samples.
    fn runs(first: Option<&Sample>, second: Option<&Sample>) -> (u64, u64) {
        let (Some(first), Some(second)) = (first, second) else {
            return (0, 0);
        };
        let failed = second.totals.failed.saturating_sub(first.totals.failed);
        let succeeded = second
            .totals
            .succeeded
            .saturating_sub(first.totals.succeeded);
        (failed, failed.saturating_add(succeeded))
    }

    fn failures(&mut self) -> Option<Verdict> {
        let totals = self.current();
        if totals.succeeded == 0 && totals.failed >= ENOUGH_FAILURES {
            return Some(self.conclude(
                Reason::AllFailed,
                format!(
                    "All of the first {} runs failed, none succeeded: the service or the script does not work, \
                     which says nothing about its size.",
                    totals.failed
                ),
            ));
        }
        let (failed, runs) = Self::runs(self.samples.front(), self.samples.back());
        let all = totals.succeeded.saturating_add(totals.failed);
        if !self
            .failing
            .judge((failed, runs), all, self.settings.tolerance_ratio)
        {
            return None;
        }
        let length = match (self.samples.front(), self.samples.back()) {
            (Some(first), Some(last)) => last.seconds - first.seconds,
            _ => 0.0,
        };
        let background = if self.failures_rose() {
            ""
        } else {
            " They did not grow with the workers: this looks like a failing service or script rather than overload."
        };
        Some(self.conclude(
            Reason::Failures,
            format!(
                "{:.1} % of the runs of the last {length:.0} s failed ({failed} of {runs}), \
                 more than the tolerated {} %, with {}.{background}",
                percent(failed, runs),
                tidy(self.settings.tolerance_ratio * 100.0),
                Workers(totals.workers_started),
            ),
        ))
    }

    /// Whether the second half of the window's runs fails more than the first, as under overload.
    fn failures_rose(&self) -> bool {
        let (first, last) = (self.samples.front(), self.samples.back());
        let (_, runs) = Self::runs(first, last);
        let middle = self
            .samples
            .iter()
            .find(|sample| Self::runs(first, Some(sample)).1 >= runs / 2);
        let half = Self::runs(first, middle);
        // All in one look: the failures came too fast to have been there before.
        half.1 == runs || ratio_rose(half, Self::runs(middle, last))
    }

    fn latency(&mut self) -> Option<Verdict> {
        let rule = self.settings.latency.as_ref()?;
        let last = *self.samples.back()?;
        let since = |sample: &Sample| {
            let slower = last.totals.slower.saturating_sub(sample.totals.slower);
            (
                slower,
                last.totals.timed.saturating_sub(sample.totals.timed),
            )
        };
        let recent = self.samples.iter().rev().find(|sample| {
            last.seconds - sample.seconds >= LATENCY_SECONDS && since(sample).1 >= ENOUGH_SAMPLES
        });
        let (slower, timed) = since(recent.or_else(|| self.samples.front())?);
        if !self
            .slow
            .judge((slower, timed), last.totals.timed, rule.allowed_ratio)
        {
            return None;
        }
        let unit = if last.totals.requests > 0 {
            "requests"
        } else {
            "runs"
        };
        Some(self.conclude(
            Reason::Latency,
            format!(
                "{} no longer holds with {}: {:.1} % of the last {timed} {unit} took longer.",
                rule.text,
                Workers(last.totals.workers_started),
                percent(slower, timed),
            ),
        ))
    }

    fn plateau(&self, workers: u64) -> Option<Verdict> {
        let Comparison { recent, .. } = self.growth.plateau()?;
        let best = self.growth.best();
        let change = 1.0 - recent.throughput / best.throughput;
        let now = self.rates(recent.throughput, recent.requests);
        let peak = self.rates(best.throughput, best.requests);
        let at = Workers(whole(best.workers));
        let up_to = Workers(workers);
        Some(self.conclude(
            Reason::Plateau,
            if change > 0.15 {
                format!(
                    "Throughput fell by {:.0} % although workers kept coming: {peak} with about {at}, {now} on the \
                     way to {up_to}.",
                    change * 100.0
                )
            } else {
                format!(
                    "Throughput stopped growing although workers kept coming: {peak} with about {at}, {now} on the \
                     way to {up_to}."
                )
            },
        ))
    }

    fn nothing_gave_out(&self) -> Verdict {
        let best = self.growth.best();
        let unsure = if self.unsure() {
            " Throughput grew less than the workers did at the end, but not clearly enough to call it the limit."
        } else {
            ""
        };
        self.conclude(
            Reason::RampEnded,
            format!(
                "At least {}, {}; nothing gave out.{unsure}",
                Workers(self.current().workers_started),
                self.rates(best.throughput, best.requests),
            ),
        )
    }

    fn rates(&self, runs: f64, requests: f64) -> String {
        // Scenarios of one request need no second number.
        if self.current().requests > 0 && (requests - runs).abs() > 0.01 * runs {
            format!("{} runs/s ({} requests/s)", Rate(runs), Rate(requests))
        } else {
            format!("{} runs/s", Rate(runs))
        }
    }

    fn conclude(&self, reason: Reason, sentence: String) -> Verdict {
        let (failed, runs) = Self::runs(self.samples.front(), self.samples.back());
        let best = self.growth.best();
        Verdict {
            reason,
            ratio_percent: percent(failed, runs),
            workers: self.current().workers_started,
            window_succeeded: runs - failed,
            window_failed: failed,
            best_runs_per_second: best.throughput,
            best_requests_per_second: best.requests,
            best_workers: whole(best.workers),
            sentence,
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64 * 100.0
    }
}

/// Without the trailing digits that a percentage gets from being a ratio in between.
fn tidy(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of workers, rounded up"
)]
fn whole(workers: f64) -> u64 {
    workers.ceil() as u64
}

#[cfg(test)]
mod tests;
