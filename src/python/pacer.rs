//! Starts runs when they are due, where a rate is set: hands them to idle workers, and asks for more workers.
//!
//! Owns the idle workers, how many there may be, and the alarm for the next start: a timer of the kernel's on a loop that we
//! drive (asyncio's are a millisecond coarse), else one of the loop's. When starts are due is `schedule`'s, running them
//! `worker`'s. A start for which there is no worker waits, and the first worker to be free takes it, late; it is given up
//! when the schedule ends. One per plan, and none without a rate.

use super::event_loop::Engine;
use super::ffi::{self, GilCell};
use super::plan::Plan;
use super::schedule::{Schedule, monotonic_nanoseconds};
use super::worker::Worker;
use crate::engine::shared::{RunState, Slot};
use crate::schedule::{Share, Starts};
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// A run that starts later than this is late.
const LATE: Duration = Duration::from_millis(10);

/// A run that a worker is to start now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// When it was due.
    pub(crate) due: Instant,
    /// There was no other worker for it.
    starved: bool,
}

impl Start {
    /// Counts whether it is late.
    pub(crate) fn count(&self, slot: &Slot, now: Instant) {
        let late = now.saturating_duration_since(self.due);
        if late <= LATE {
            return;
        }
        let nanoseconds = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        slot.late.fetch_add(1, Ordering::Relaxed);
        slot.starved
            .fetch_add(u64::from(self.starved), Ordering::Relaxed);
        slot.late_nanoseconds
            .fetch_add(nanoseconds, Ordering::Relaxed);
        slot.latest_nanoseconds
            .fetch_max(nanoseconds, Ordering::Relaxed);
    }
}

/// What a worker that asks for a start is told.
pub(crate) enum Answer {
    Run(Start),
    Wait,
    Over,
}

enum Alarm {
    Unset,
    Kernel(Arc<AsyncFd<OwnedFd>>),
    Loop(Option<Py<PyAny>>),
}

struct State {
    starts: Starts,
    /// The beginning of the schedule, on both clocks.
    origin: Option<(Instant, u64)>,
    /// The rate that was last followed.
    rate: f64,
    /// The last one to become idle starts first: few workers stay busy, the others are not needed.
    idle: Vec<Py<Worker>>,
    /// Workers asked for.
    grown: u64,
    /// Workers on their way to ask for a start.
    coming: u64,
    closed: bool,
    alarm: Alarm,
    /// What the alarm is set to, in seconds of the schedule.
    armed: Option<f64>,
}

impl State {
    fn elapsed(&self, now: Instant) -> f64 {
        self.origin.map_or(0.0, |(origin, _)| {
            now.saturating_duration_since(origin).as_secs_f64()
        })
    }
}

/// See the module's text.
pub(crate) struct Pacer {
    most: u64,
    followed: bool,
    on_grow: Py<PyAny>,
    on_close: Py<PyAny>,
    state: GilCell<State>,
}

impl Pacer {
    /// For the process that `shared` counts for. `on_grow` is called with how many workers more are needed, at most `most`
    /// in all; `on_close` once nothing will start any more.
    pub(crate) fn new(
        schedule: &Schedule,
        shared: &RunState,
        most: u64,
        on_grow: Py<PyAny>,
        on_close: Py<PyAny>,
    ) -> Self {
        let share = Share {
            index: shared.own() as u64,
            of: shared.processes() as u64,
        };
        Self {
            most: most.max(1),
            followed: schedule.is_followed(),
            on_grow,
            on_close,
            state: GilCell::new(State {
                starts: schedule.starts(share),
                origin: None,
                rate: 0.0,
                idle: Vec::new(),
                grown: 0,
                coming: 0,
                closed: false,
                alarm: Alarm::Unset,
                armed: None,
            }),
        }
    }

    /// Begins the schedule, or joins the one that another process has begun.
    pub(crate) fn begin(&self, plan: &Bound<'_, Plan>) -> PyResult<()> {
        let py = plan.py();
        let engine = &plan.get().engine;
        let (now, nanoseconds) = (Instant::now(), monotonic_nanoseconds());
        let origin = plan.get().state().origin(nanoseconds);
        let since = Duration::from_nanos(nanoseconds.saturating_sub(origin));
        let alarm = if engine.is_native() {
            let alarm = Arc::new(kernel_alarm(engine)?);
            let (ringing, plan) = (Arc::clone(&alarm), plan.clone().unbind());
            engine.handle.spawn(ring(ringing, plan));
            Alarm::Kernel(alarm)
        } else {
            Alarm::Loop(None)
        };
        {
            let mut state = self.state.borrow_mut(py);
            state.origin = Some((now.checked_sub(since).unwrap_or(now), origin));
            state.alarm = alarm;
        }
        self.dispatch(plan);
        Ok(())
    }

    /// What a worker does now. `coming`: it was expected.
    pub(crate) fn answer(&self, py: Python<'_>, slot: &Slot, coming: bool, now: Instant) -> Answer {
        let mut state = self.state.borrow_mut(py);
        if coming {
            state.coming = state.coming.saturating_sub(1);
        }
        let Some((origin, _)) = state.origin else {
            return Answer::Wait;
        };
        if !state.closed {
            // A worker may be here before the alarm is.
            let elapsed = state.elapsed(now);
            let due = state.starts.advance(elapsed);
            slot.intended.fetch_add(due, Ordering::Relaxed);
            if !coming && elapsed >= state.starts.profile().end() {
                // The alarm is late: it decides what is still to be made.
                return Answer::Wait;
            }
        }
        let starved =
            !coming && state.idle.is_empty() && state.coming == 0 && state.grown >= self.most;
        match state.starts.take() {
            Some(at) => Answer::Run(Start {
                due: origin + Duration::try_from_secs_f64(at).unwrap_or_default(),
                starved,
            }),
            None if state.closed => Answer::Over,
            None => Answer::Wait,
        }
    }

    /// Takes in a worker that has nothing to do.
    pub(crate) fn rest(&self, worker: &Bound<'_, Worker>) {
        let mut state = self.state.borrow_mut(worker.py());
        state.idle.push(worker.clone().unbind());
    }

    /// Hands out what is due. False when nothing will be due any more.
    pub(crate) fn dispatch(&self, plan: &Bound<'_, Plan>) -> bool {
        let py = plan.py();
        let this = plan.get();
        let shared = this.state();
        let now = Instant::now();
        let (rested, growth, over) = {
            let mut state = self.state.borrow_mut(py);
            if state.closed || state.origin.is_none() {
                return !state.closed;
            }
            if shared.stopped() || shared.reached() {
                // Whoever stopped the run closes the schedule.
                return true;
            }
            let elapsed = state.elapsed(now);
            let slot = shared.slot();
            let due = state.starts.advance(elapsed);
            slot.intended.fetch_add(due, Ordering::Relaxed);
            let rate = shared.rate();
            if self.followed && rate.to_bits() != state.rate.to_bits() {
                state.rate = rate;
                let given_up = state.starts.set_rate(elapsed, rate);
                slot.not_started.fetch_add(given_up, Ordering::Relaxed);
            }
            let waiting = state.starts.waiting();
            let unserved = waiting.saturating_sub(state.coming);
            let kept = state
                .idle
                .len()
                .saturating_sub(usize::try_from(unserved).unwrap_or(usize::MAX));
            let rested = state.idle.split_off(kept);
            let growth = unserved
                .saturating_sub(rested.len() as u64)
                .min(self.most.saturating_sub(state.grown));
            state.grown += growth;
            state.coming += growth + rested.len() as u64;
            let over = state.starts.next_at().is_none()
                && !self.followed
                && (waiting == 0 || elapsed >= state.starts.profile().end());
            (rested, growth, over)
        };
        if growth > 0 {
            if let Err(error) = self.on_grow.bind(py).call1((growth,)) {
                error.write_unraisable(py, Some(plan.as_any()));
            }
            this.engine.notice(py);
        }
        for worker in rested.iter().rev() {
            if !Worker::rouse(worker.bind(py)) {
                let mut state = self.state.borrow_mut(py);
                state.coming = state.coming.saturating_sub(1);
            }
        }
        if over {
            self.close(plan, false);
            return false;
        }
        if let Err(error) = self.arm(plan, now) {
            error.write_unraisable(py, Some(plan.as_any()));
        }
        true
    }

    /// Starts nothing more, except what workers are coming for, unless the run is `stopped`. What else waits is given up.
    pub(crate) fn close(&self, plan: &Bound<'_, Plan>, stopped: bool) {
        let py = plan.py();
        let this = plan.get();
        let (idle, first) = {
            let mut state = self.state.borrow_mut(py);
            let slot = this.state().slot();
            let first = !state.closed && state.origin.is_some();
            if first && stopped {
                let elapsed = state.elapsed(Instant::now());
                let due = state.starts.advance(elapsed);
                slot.intended.fetch_add(due, Ordering::Relaxed);
            }
            state.closed = true;
            let served = if stopped { 0 } else { state.coming };
            let unserved = state.starts.waiting().saturating_sub(served);
            let given_up = state.starts.give_up(unserved);
            slot.not_started.fetch_add(given_up, Ordering::Relaxed);
            (std::mem::take(&mut state.idle), first)
        };
        for worker in &idle {
            Worker::end_delay(worker.bind(py));
        }
        if !first {
            return;
        }
        // The alarm's task ends when it rings the last time.
        if let Err(error) = self
            .silence(py)
            .and_then(|()| self.on_close.bind(py).call0().map(drop))
        {
            error.write_unraisable(py, Some(plan.as_any()));
        }
        this.engine.notice(py);
    }

    /// A worker has ended: with `-r`, all there may be can be used up.
    pub(crate) fn left(&self, plan: &Bound<'_, Plan>) {
        let used_up = {
            let state = self.state.borrow(plan.py());
            !state.closed && state.grown >= self.most && state.coming == 0
        };
        if used_up && plan.get().is_deserted(plan.py()) {
            self.close(plan, true);
        }
    }

    /// Sets the alarm to the next start, or to the end of the schedule.
    fn arm(&self, plan: &Bound<'_, Plan>, now: Instant) -> PyResult<()> {
        let py = plan.py();
        let mut state = self.state.borrow_mut(py);
        let end = state.starts.profile().end();
        let next = state.starts.next_at().or(end.is_finite().then_some(end));
        if next == state.armed {
            return Ok(());
        }
        state.armed = next;
        let (Some(next), Some((_, origin))) = (next, state.origin) else {
            return Ok(());
        };
        let elapsed = state.elapsed(now);
        match &mut state.alarm {
            Alarm::Unset => Ok(()),
            Alarm::Kernel(alarm) => {
                let after = Duration::try_from_secs_f64(next).unwrap_or(Duration::MAX);
                set(alarm, Duration::from_nanos(origin).saturating_add(after))
            }
            Alarm::Loop(timer) => {
                if let Some(timer) = timer.take() {
                    timer.bind(py).call_method0(intern!(py, "cancel"))?;
                }
                let pace = plan.getattr(intern!(py, "pace"))?;
                let handle = plan
                    .get()
                    .engine
                    .call_later((next - elapsed).max(0.0), &pace)?;
                *timer = Some(handle.unbind());
                Ok(())
            }
        }
    }

    fn silence(&self, py: Python<'_>) -> PyResult<()> {
        match &mut self.state.borrow_mut(py).alarm {
            Alarm::Unset => Ok(()),
            Alarm::Kernel(alarm) => set(alarm, Duration::from_nanos(1)),
            Alarm::Loop(timer) => match timer.take() {
                Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
                None => Ok(()),
            },
        }
    }
}

fn kernel_alarm(engine: &Engine) -> PyResult<AsyncFd<OwnedFd>> {
    let wrong = |error: std::io::Error| PyOSError::new_err(format!("no timer: {error}"));
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, flags).map_err(|error| wrong(error.into()))?;
    let _context = engine.handle.enter();
    ffi::watch(timer.as_raw_fd()).map_err(wrong)
}

/// Sets the alarm to a time of the monotonic clock.
fn set(alarm: &AsyncFd<OwnedFd>, at: Duration) -> PyResult<()> {
    let never = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let timer = Itimerspec {
        it_interval: never,
        it_value: Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at.subsec_nanos()),
        },
    };
    timerfd_settime(alarm.get_ref(), TimerfdTimerFlags::ABSTIME, &timer)
        .map(drop)
        .map_err(|error| PyOSError::new_err(format!("the timer cannot be set: {error}")))
}

/// Dispatches whenever the alarm rings, until the schedule is closed.
async fn ring(alarm: Arc<AsyncFd<OwnedFd>>, plan: Py<Plan>) {
    // The descriptor is not read: it is watched edge by edge, and setting the timer again clears it.
    while let Ok(mut ready) = alarm.readable().await {
        ready.clear_ready();
        let goes_on = Python::attach(|py| {
            let plan = plan.bind(py);
            plan.get()
                .pacer
                .as_ref()
                .is_some_and(|pacer| pacer.dispatch(plan))
        });
        if !goes_on {
            break;
        }
    }
    Python::attach(|_| drop(plan));
}
