//! `Monitor` as Python sees it: the samplers of `monitor`, on a thread of their own.
//!
//! Owns the thread and its clock. It never touches Python, so a busy event loop does not keep it from sampling, and a
//! slow container API does not keep the event loop from running. Made before a run forks, started after it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::monitor::{Generator, Labelled, Monitor as Samplers, Roots, Sample, Series};

const EVERY: Duration = Duration::from_secs(1);

/// Samples the generator, and the targets named as `pid:1234`, `port:8888`, `container:NAME`, `cgroup:PATH`, `host` or
/// `glances:FILE.csv`, once a second. `LABEL=` before one is what its rows are called.
///
/// `ValueError` for a text that names no target, and for a target that is not there.
#[pyclass(frozen, module = "molotov._core")]
pub struct Monitor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One sample that nobody has taken yet.
pub(crate) struct Taken {
    pub(crate) source: String,
    pub(crate) time: Duration,
    pub(crate) sample: Sample,
}

struct Shared {
    samplers: Mutex<Samplers>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    lag: Option<Duration>,
    taken: Vec<Taken>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Samples until it is stopped.
    fn run(&self, began: Instant) {
        let mut due = Instant::now();
        loop {
            let lag = lock(&self.state).lag.take();
            self.sample(began.elapsed(), lag);
            due = (due + EVERY).max(Instant::now());
            let mut state = lock(&self.state);
            loop {
                let left = due.saturating_duration_since(Instant::now());
                if state.stopped {
                    return;
                }
                if left.is_zero() {
                    break;
                }
                let waited = self.wake.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn sample(&self, now: Duration, lag: Option<Duration>) {
        let mut samplers = lock(&self.samplers);
        if let Some(lag) = lag {
            samplers.generator().set_event_loop_lag(lag);
        }
        let rows: Vec<Taken> = samplers
            .sample_all(now)
            .into_iter()
            .map(|row| Taken {
                source: row.source.to_owned(),
                time: now,
                sample: row.sample,
            })
            .collect();
        lock(&self.state).taken.extend(rows);
    }
}

impl Monitor {
    /// The samples since the last call.
    pub(crate) fn take(&self) -> Vec<Taken> {
        std::mem::take(&mut lock(&self.shared.state).taken)
    }

    /// Everything sampled so far, the generator first.
    pub(crate) fn series(&self) -> Vec<Series> {
        lock(&self.shared.samplers).series().cloned().collect()
    }
}

#[pymethods]
impl Monitor {
    #[new]
    fn new(sources: Vec<String>) -> PyResult<Self> {
        let wrong = |error: String| PyValueError::new_err(error);
        let sources: Vec<Labelled> = sources
            .iter()
            .map(|text| text.parse().map_err(|error| wrong(format!("{error}"))))
            .collect::<PyResult<_>>()?;
        let roots = Roots::system();
        let generator = Generator::new(&[std::process::id()], roots.clone())
            .map_err(|error| wrong(error.to_string()))?;
        let samplers = Samplers::open(generator, &sources, &roots).map_err(|error| {
            let text = error.to_string();
            // Errors about a target name the option themselves.
            wrong(if text.starts_with("--monitor") {
                text
            } else {
                format!("--monitor: {text}")
            })
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                samplers: Mutex::new(samplers),
                state: Mutex::default(),
                wake: Condvar::new(),
            }),
            thread: Mutex::new(None),
        })
    }

    /// Begin to sample, on a thread; the run has been going on for `elapsed` seconds. `pids` are the generator's.
    ///
    /// `OSError` when there is no thread to be had.
    fn start(&self, elapsed: f64, pids: Vec<u32>) -> PyResult<()> {
        lock(&self.shared.samplers).generator().set_processes(&pids);
        let elapsed = Duration::try_from_secs_f64(elapsed).unwrap_or_default();
        let now = Instant::now();
        let began = now.checked_sub(elapsed).unwrap_or(now);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("molotov-monitor".into())
            .spawn(move || shared.run(began))
            .map_err(|error| PyOSError::new_err(format!("no thread for the monitor: {error}")))?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// How late the event loop was at worst since the last call, in seconds.
    fn set_lag(&self, seconds: f64) {
        let lag = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let mut state = lock(&self.shared.state);
        state.lag = Some(state.lag.unwrap_or_default().max(lag));
    }

    /// Stop sampling and wait for the thread. Safe to call again.
    fn stop(&self, py: Python<'_>) {
        lock(&self.shared.state).stopped = true;
        self.shared.wake.notify_all();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A sampler may be waiting for a container's API: other threads of Python go on meanwhile.
            py.detach(|| thread.join()).unwrap_or_default();
        }
    }
}
