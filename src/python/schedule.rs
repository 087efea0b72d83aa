//! `Schedule` as Python sees it: when the runs of an open model start.
//!
//! Converts options into a `schedule::Profile`, and looks at the monotonic clock that all processes share. Made once per
//! run, before it forks; each process's `Plan` takes its own share.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::state::RunState;
use crate::engine::shared::RunState as SharedState;
use crate::schedule::{Profile, Shape, Share, Starts};

const NANOSECONDS: f64 = 1e9;

/// The monotonic clock, in nanoseconds; never 0.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    (seconds * 1_000_000_000 + nanoseconds).max(1)
}

/// When runs start. `stages` are points (seconds, runs per second) of straight lines, `rate` is one for all the time; with
/// neither, the rate is what `RunState.rate` says while the run goes.
///
/// `shape` is "poisson" or "constant"; the same `seed` gives the same starts. `duration` cuts it, in seconds. `ValueError`
/// for stages that are none, and for another shape.
#[pyclass(frozen, module = "molotov._core")]
#[derive(Debug)]
pub struct Schedule {
    profile: Profile,
    shape: Shape,
    seed: u64,
    followed: bool,
}

impl Schedule {
    /// One process's share.
    pub(crate) fn starts(&self, share: Share) -> Starts {
        Starts::new(self.profile.clone(), self.shape, self.seed, share)
    }

    /// Whether the rate is set from outside while the run goes.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed
    }

    /// The shape's word, and the seed.
    pub(crate) fn described(&self) -> (&'static str, u64) {
        let shape = match self.shape {
            Shape::Constant => "constant",
            Shape::Poisson => "poisson",
        };
        (shape, self.seed)
    }

    fn elapsed(state: &SharedState) -> Option<f64> {
        let origin = state.known_origin()?;
        Some(monotonic_nanoseconds().saturating_sub(origin) as f64 / NANOSECONDS)
    }
}

#[pymethods]
impl Schedule {
    #[new]
    #[pyo3(signature = (stages=None, rate=None, *, shape="poisson", seed=0, duration=None))]
    fn new(
        stages: Option<Vec<(f64, f64)>>,
        rate: Option<f64>,
        shape: &str,
        seed: u64,
        duration: Option<f64>,
    ) -> PyResult<Self> {
        let wrong = |text: String| PyValueError::new_err(text);
        let shape = match shape {
            "poisson" => Shape::Poisson,
            "constant" => Shape::Constant,
            _ => return Err(wrong(format!("there is no shape {shape:?}"))),
        };
        let duration = duration.unwrap_or(f64::INFINITY);
        let profile = match (&stages, rate) {
            (Some(points), _) => Profile::stages(points)
                .map_err(|error| wrong(error.to_string()))?
                .cut(duration),
            (None, Some(rate)) if rate > 0.0 && rate.is_finite() => {
                Profile::constant(rate, duration)
            }
            (None, Some(rate)) => return Err(wrong(format!("{rate} is no rate"))),
            (None, None) => Profile::constant(0.0, duration),
        };
        Ok(Self {
            profile,
            shape,
            seed,
            followed: stages.is_none() && rate.is_none(),
        })
    }

    /// When it ends, in seconds after its beginning; infinite when it does not.
    #[getter]
    fn end(&self) -> f64 {
        self.profile.end()
    }

    /// How many runs it starts in all; of Poisson arrivals, in the mean.
    #[getter]
    fn total(&self) -> f64 {
        self.profile.total()
    }

    /// The runs per second that all processes together are to start at this moment; 0 before the schedule begins.
    pub(crate) fn asked(&self, state: &Bound<'_, RunState>) -> f64 {
        let state = state.get().shared();
        if self.followed {
            return state.rate();
        }
        Self::elapsed(&state).map_or(0.0, |seconds| self.profile.rate(seconds))
    }

    /// Count what a process that died would have started by now as not started; returns how many that were.
    ///
    /// `IndexError` when there is no such process.
    fn lose(&self, state: &Bound<'_, RunState>, process: usize) -> PyResult<u64> {
        let state = state.get().shared();
        let slot = state.process(process)?;
        let Some(seconds) = Self::elapsed(&state).filter(|_| !self.followed) else {
            return Ok(0);
        };
        let share = Share {
            index: process as u64,
            of: state.processes() as u64,
        };
        let due = self.starts(share).advance(seconds);
        let lost = due.saturating_sub(slot.intended.load(Ordering::Relaxed));
        slot.intended.fetch_add(lost, Ordering::Relaxed);
        slot.not_started.fetch_add(lost, Ordering::Relaxed);
        Ok(lost)
    }
}
