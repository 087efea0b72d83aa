//! Counters and flags in memory that survives `fork`, so that every process of a run sees the same totals.
//!
//! Owns one anonymous shared mapping: a line of flags, then one [`Slot`] per process. Each process counts into its own
//! slot with relaxed atomics (no lock, no shared cache line on the hot path); readers add the slots up. Does not decide
//! anything and prints nothing. Called by the workers and the session (counting) and by the parent (reading).
//!
//! One of the two modules with `unsafe`: mapping the memory, and viewing it as atomics.

use std::io;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// What can go wrong with the shared counters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the shared mapping.
    #[error("no shared memory for the counters of {processes} processes: {source}")]
    Map {
        /// How many processes the mapping was for.
        processes: usize,
        /// The reason the kernel gave.
        source: io::Error,
    },
    /// A process index without a slot.
    #[error("process {index} has no counters: this run has {processes} process(es)")]
    NoSuchProcess {
        /// The index asked for.
        index: usize,
        /// How many slots there are.
        processes: usize,
    },
    /// A counter name that does not exist.
    #[error("no counter is called {0:?}")]
    NoSuchCounter(String),
    /// Only the gauge of running workers goes down.
    #[error("the counter {0:?} only grows")]
    OnlyGrows(String),
}

/// The counters of one process. Three cache lines, never shared with another process's counters.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slot {
    /// Scenario runs started.
    pub started: AtomicU64,
    /// Scenario runs that ended without an exception.
    pub succeeded: AtomicU64,
    /// Scenario runs that raised.
    pub failed: AtomicU64,
    /// Scenario runs that were cancelled, or died with their process.
    pub interrupted: AtomicU64,
    /// Workers running now.
    pub workers: AtomicI64,
    /// Those of them that pause because the run is to have fewer.
    pub parked: AtomicI64,
    /// Workers ever started.
    pub workers_started: AtomicU64,
    /// HTTP responses read to their end.
    pub requests: AtomicU64,
    /// Requests sent again on a fresh connection because a kept one had been closed.
    pub resent: AtomicU64,
    /// Microseconds between head and last byte of responses whose body came later than the head, all together.
    pub transfer_micros: AtomicU64,
    /// HTTP responses by class: index 1 to 5 is 1xx to 5xx, 0 is any other status.
    pub status_classes: [AtomicU64; 6],
    /// `setup` fixtures that failed.
    pub setup_failed: AtomicU64,
    /// `setup_session` fixtures that failed.
    pub session_setup_failed: AtomicU64,
    /// Starts that a schedule had for this process by now: started, not started, or waiting.
    pub intended: AtomicU64,
    /// Those of them that were given up.
    pub not_started: AtomicU64,
    /// Runs that started late.
    pub late: AtomicU64,
    /// Those of them for which there was no worker: all were busy.
    pub starved: AtomicU64,
    /// By how much the late ones were late, all together.
    pub late_nanoseconds: AtomicU64,
    /// The same of the latest one.
    pub latest_nanoseconds: AtomicU64,
}

/// The plain counters by name, for reading, summing and adding.
pub const COUNTERS: [&str; 15] = [
    "started",
    "succeeded",
    "failed",
    "interrupted",
    "workers_started",
    "requests",
    "resent",
    "transfer_micros",
    "setup_failed",
    "session_setup_failed",
    "intended",
    "not_started",
    "late",
    "starved",
    "late_nanoseconds",
];

/// Names of [`Slot::status_classes`], in its order.
pub const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Slot {
    /// The counter of that name (see [`COUNTERS`] and [`STATUS_CLASSES`]); none for the gauge `workers`.
    pub fn counter(&self, name: &str) -> Option<&AtomicU64> {
        Some(match name {
            "started" => &self.started,
            "succeeded" => &self.succeeded,
            "failed" => &self.failed,
            "interrupted" => &self.interrupted,
            "workers_started" => &self.workers_started,
            "requests" => &self.requests,
            "resent" => &self.resent,
            "transfer_micros" => &self.transfer_micros,
            "setup_failed" => &self.setup_failed,
            "session_setup_failed" => &self.session_setup_failed,
            "intended" => &self.intended,
            "not_started" => &self.not_started,
            "late" => &self.late,
            "starved" => &self.starved,
            "late_nanoseconds" => &self.late_nanoseconds,
            _ => {
                let class = STATUS_CLASSES.iter().position(|class| *class == name)?;
                self.status_classes.get(class)?
            }
        })
    }

    /// Counts one HTTP response, read to its end, under its status class.
    pub fn count_response(&self, status: u16) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let class = match status / 100 {
            class @ 1..=5 => usize::from(class),
            _ => 0,
        };
        if let Some(counter) = self.status_classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// First line of the mapping. Not next to any counter: it is read on every step and written once.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Flags {
    stopped: AtomicBool,
    reached: AtomicBool,
    /// One more than the workers allowed to run, so that fresh memory (0) allows all.
    allowed: AtomicU64,
    /// When the schedule of all processes begins, in nanoseconds of the monotonic clock; 0 before it is known.
    origin: AtomicU64,
    /// The rate that a sizing run asks for, as the bits of an `f64`; 0 starts nothing.
    rate: AtomicU64,
}

/// The counters and flags of a run. Made before `fork`; share it within a process with an `Arc`.
#[derive(Debug)]
pub struct RunState {
    memory: NonNull<Flags>,
    processes: usize,
    /// This process's slot. Ordinary memory on purpose: after `fork` each process has its own.
    own: AtomicUsize,
}

// SAFETY: the mapping holds atomics only, stays valid until drop, and is never handed out as anything but `&Flags` and
// `&[Slot]`, both of which are `Sync`.
#[expect(unsafe_code, reason = "a pointer to a mapping of atomics")]
unsafe impl Send for RunState {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer to a mapping of atomics")]
unsafe impl Sync for RunState {}

impl RunState {
    /// Counters for that many processes (at least one), all zero.
    pub fn new(processes: usize) -> Result<Self, Error> {
        let processes = processes.max(1);
        let failed = |source| Error::Map { processes, source };
        let length =
            Self::length(processes).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours. It is shared
        // (memmap2's anonymous maps are private: a child's counts would be lost), page aligned, so more than aligned
        // enough for `Flags` and `Slot`, and zero filled, which is a valid value of every atomic in them.
        #[expect(unsafe_code, reason = "an anonymous shared mapping")]
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let memory = NonNull::new(memory.cast::<Flags>())
            .ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self {
            memory,
            processes,
            own: AtomicUsize::new(0),
        })
    }

    fn length(processes: usize) -> Option<usize> {
        processes
            .checked_mul(size_of::<Slot>())?
            .checked_add(size_of::<Flags>())
    }

    fn flags(&self) -> &Flags {
        // SAFETY: `memory` points at a live, aligned mapping that starts with `Flags` (see `new`) and lives as long as
        // `self`; only shared references to it exist, and all mutation goes through atomics.
        #[expect(unsafe_code, reason = "the start of the mapping")]
        unsafe {
            self.memory.as_ref()
        }
    }

    /// The slots of all processes, in their order.
    pub fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping is `size_of::<Flags>() + processes * size_of::<Slot>()` bytes (see `new`); both types are
        // 64-byte aligned with sizes that are multiples of 64, so the slots start right behind the flags.
        #[expect(unsafe_code, reason = "the rest of the mapping")]
        unsafe {
            std::slice::from_raw_parts(self.memory.add(1).cast::<Slot>().as_ptr(), self.processes)
        }
    }

    /// How many processes have a slot.
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// From now on this process counts into that slot. To be called in the child, right after `fork`.
    pub fn attach(&self, process: usize) -> Result<(), Error> {
        self.process(process)?;
        self.own.store(process, Ordering::Relaxed);
        Ok(())
    }

    /// The slot this process counts into: the first one until [`attach`](Self::attach) is called.
    pub fn slot(&self) -> &Slot {
        let own = self.own.load(Ordering::Relaxed);
        // `attach` is the only writer and lets no other index in.
        #[expect(clippy::indexing_slicing, reason = "checked once, in attach")]
        &self.slots()[own]
    }

    /// The number of the process that this one counts for.
    pub fn own(&self) -> usize {
        self.own.load(Ordering::Relaxed)
    }

    /// The slot of one process.
    pub fn process(&self, index: usize) -> Result<&Slot, Error> {
        self.slots().get(index).ok_or(Error::NoSuchProcess {
            index,
            processes: self.processes,
        })
    }

    /// A counter's sum over all processes; `None` for a name that is no counter.
    pub fn sum(&self, name: &str) -> Option<u64> {
        self.slots().iter().try_fold(0_u64, |sum, slot| {
            Some(sum.wrapping_add(slot.counter(name)?.load(Ordering::Relaxed)))
        })
    }

    /// Workers running now, in all processes.
    pub fn workers(&self) -> i64 {
        self.slots()
            .iter()
            .map(|slot| slot.workers.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts into this process's slot by name. Only `workers` may go down.
    pub fn add(&self, name: &str, n: i64) -> Result<(), Error> {
        let slot = self.slot();
        if name == "workers" {
            slot.workers.fetch_add(n, Ordering::Relaxed);
            return Ok(());
        }
        let counter = slot
            .counter(name)
            .ok_or_else(|| Error::NoSuchCounter(name.to_owned()))?;
        let n = u64::try_from(n).map_err(|_| Error::OnlyGrows(name.to_owned()))?;
        counter.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }

    /// Closes the books of a process that died: what it had in flight becomes interrupted, its workers are gone, and starts
    /// that waited are given up. Returns how many runs that were. The process must not be running any more.
    pub fn settle(&self, index: usize) -> Result<u64, Error> {
        let slot = self.process(index)?;
        let ended = [&slot.succeeded, &slot.failed, &slot.interrupted]
            .iter()
            .fold(0_u64, |sum, counter| {
                sum.wrapping_add(counter.load(Ordering::Relaxed))
            });
        let lost = slot.started.load(Ordering::Relaxed).saturating_sub(ended);
        slot.interrupted.fetch_add(lost, Ordering::Relaxed);
        let seen = [&slot.started, &slot.not_started]
            .iter()
            .fold(0_u64, |sum, counter| {
                sum.wrapping_add(counter.load(Ordering::Relaxed))
            });
        let waiting = slot.intended.load(Ordering::Relaxed).saturating_sub(seen);
        slot.not_started.fetch_add(waiting, Ordering::Relaxed);
        slot.workers.store(0, Ordering::Relaxed);
        slot.parked.store(0, Ordering::Relaxed);
        Ok(lost)
    }

    /// How many workers may run at a time, over all processes; the others pause between two runs. `None` is all.
    pub fn allowed_workers(&self) -> Option<u64> {
        self.flags().allowed.load(Ordering::Acquire).checked_sub(1)
    }

    /// Sets what [`allowed_workers`](Self::allowed_workers) reads.
    pub fn set_allowed_workers(&self, workers: Option<u64>) {
        let allowed = workers.map_or(0, |workers| workers.saturating_add(1));
        self.flags().allowed.store(allowed, Ordering::Release);
    }

    /// Whether that worker of this process may run. The processes take turns, so that each has its share of any number.
    pub fn may_run(&self, worker: u64) -> bool {
        let Some(allowed) = self.allowed_workers() else {
            return true;
        };
        let (own, processes) = (self.own.load(Ordering::Relaxed), self.processes);
        let place = worker
            .saturating_mul(processes as u64)
            .saturating_add(own as u64);
        place < allowed
    }

    /// When the schedule begins, in nanoseconds of the monotonic clock: `now` for the first process that asks, and the
    /// same then for all.
    pub fn origin(&self, now: u64) -> u64 {
        let origin = &self.flags().origin;
        match origin.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => now,
            Err(known) => known,
        }
    }

    /// The same if it has begun.
    pub fn known_origin(&self) -> Option<u64> {
        Some(self.flags().origin.load(Ordering::Acquire)).filter(|origin| *origin > 0)
    }

    /// The runs that all processes together are to start per second, where that is set while the run goes.
    pub fn rate(&self) -> f64 {
        f64::from_bits(self.flags().rate.load(Ordering::Acquire))
    }

    /// Sets what [`rate`](Self::rate) reads.
    pub fn set_rate(&self, runs_per_second: f64) {
        let bits = runs_per_second.to_bits();
        self.flags().rate.store(bits, Ordering::Release);
    }

    /// By how much the latest start of all was late, in nanoseconds.
    pub fn latest_nanoseconds(&self) -> u64 {
        let slots = self.slots().iter();
        slots
            .map(|slot| slot.latest_nanoseconds.load(Ordering::Relaxed))
            .max()
            .unwrap_or_default()
    }

    /// Workers that pause now, in all processes.
    pub fn parked(&self) -> i64 {
        self.slots()
            .iter()
            .map(|slot| slot.parked.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether the run is to stop, for whatever reason.
    pub fn stopped(&self) -> bool {
        self.flags().stopped.load(Ordering::Acquire)
    }

    /// Tells all processes to stop.
    pub fn stop(&self) {
        self.set_stopped(true);
    }

    /// Sets or clears the flag that [`stopped`](Self::stopped) reads.
    pub fn set_stopped(&self, stopped: bool) {
        self.flags().stopped.store(stopped, Ordering::Release);
    }

    /// Whether autosizing has reached its end.
    pub fn reached(&self) -> bool {
        self.flags().reached.load(Ordering::Acquire)
    }

    /// Sets or clears the flag that [`reached`](Self::reached) reads.
    pub fn set_reached(&self, reached: bool) {
        self.flags().reached.store(reached, Ordering::Release);
    }
}

impl Drop for RunState {
    fn drop(&mut self) {
        if let Some(length) = Self::length(self.processes) {
            // SAFETY: exactly the mapping made in `new`; nothing borrowed from `self` outlives it. Other processes keep
            // their own mapping of the same memory.
            #[expect(unsafe_code, reason = "the mapping made in new")]
            unsafe {
                libc::munmap(self.memory.as_ptr().cast(), length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_fills_whole_cache_lines() {
        assert_eq!(size_of::<Flags>(), 64);
        assert_eq!(size_of::<Slot>() % 64, 0);
        let state = RunState::new(3).unwrap();
        for slot in state.slots() {
            assert_eq!(std::ptr::from_ref(slot).addr() % 64, 0);
        }
    }

    #[test]
    fn counts_go_to_the_attached_slot_and_add_up() {
        let state = RunState::new(2).unwrap();
        state.add("started", 3).unwrap();
        state.attach(1).unwrap();
        state.slot().started.fetch_add(4, Ordering::Relaxed);
        state.add("workers", 2).unwrap();
        state.add("workers", -1).unwrap();
        state.slot().count_response(204);
        state.slot().count_response(999);
        assert_eq!(state.process(0).unwrap().started.load(Ordering::Relaxed), 3);
        assert_eq!(state.sum("started"), Some(7));
        assert_eq!(state.workers(), 1);
        assert_eq!(
            (state.sum("requests"), state.sum("2xx"), state.sum("other")),
            (Some(2), Some(1), Some(1))
        );
        for name in COUNTERS.iter().chain(&STATUS_CLASSES) {
            assert!(state.sum(name).is_some(), "{name}");
        }
    }

    #[test]
    fn wrong_names_and_indices_are_errors() {
        let state = RunState::new(0).unwrap();
        assert_eq!(state.processes(), 1);
        assert!(matches!(
            state.attach(1),
            Err(Error::NoSuchProcess {
                index: 1,
                processes: 1
            })
        ));
        assert!(matches!(state.add("nope", 1), Err(Error::NoSuchCounter(_))));
        assert!(matches!(state.add("failed", -1), Err(Error::OnlyGrows(_))));
        assert!(matches!(RunState::new(usize::MAX), Err(Error::Map { .. })));
    }

    #[test]
    fn a_dead_process_loses_no_run() {
        let state = RunState::new(2).unwrap();
        state.attach(1).unwrap();
        for (name, n) in [
            ("started", 10),
            ("succeeded", 6),
            ("failed", 1),
            ("workers", 3),
        ] {
            state.add(name, n).unwrap();
        }
        assert_eq!(state.settle(1).unwrap(), 3);
        assert_eq!(state.settle(1).unwrap(), 0);
        assert_eq!(state.sum("interrupted"), Some(3));
        assert_eq!(state.workers(), 0);
    }

    #[test]
    fn processes_share_the_allowed_workers_evenly() {
        let state = RunState::new(3).unwrap();
        assert!(state.allowed_workers().is_none() && state.may_run(u64::MAX));
        for allowed in [0, 1, 2, 3, 7, 300] {
            state.set_allowed_workers(Some(allowed));
            assert_eq!(state.allowed_workers(), Some(allowed));
            let of = |process| {
                state.attach(process).unwrap();
                (0..200).filter(|worker| state.may_run(*worker)).count() as u64
            };
            let shares = [of(0), of(1), of(2)];
            assert_eq!(shares.iter().sum::<u64>(), allowed, "{shares:?}");
            assert!(shares[0] - shares[2] <= 1, "{shares:?}");
        }
        state.set_allowed_workers(None);
        assert!(state.may_run(u64::MAX));
    }

    #[test]
    fn flags_are_seen_from_other_threads() {
        let state = std::sync::Arc::new(RunState::new(1).unwrap());
        let other = std::sync::Arc::clone(&state);
        std::thread::spawn(move || {
            other.stop();
            other.set_reached(true);
        })
        .join()
        .unwrap();
        assert!(state.stopped() && state.reached());
    }

    #[test]
    fn the_first_process_says_when_the_schedule_begins() {
        let state = RunState::new(2).unwrap();
        assert_eq!(state.known_origin(), None);
        assert_eq!((state.origin(7), state.origin(9)), (7, 7));
        assert_eq!(state.known_origin(), Some(7));
        assert!(state.rate().abs() < 1e-12);
        state.set_rate(12.5);
        assert!((state.rate() - 12.5).abs() < 1e-12);
    }

    #[test]
    fn starts_that_waited_in_a_dead_process_are_given_up() {
        let state = RunState::new(1).unwrap();
        for (name, n) in [
            ("intended", 10),
            ("started", 6),
            ("not_started", 1),
            ("succeeded", 4),
        ] {
            state.add(name, n).unwrap();
        }
        assert_eq!(state.settle(0).unwrap(), 2);
        assert_eq!(state.sum("not_started"), Some(4));
        assert_eq!(state.settle(0).unwrap(), 0);
        assert_eq!(state.sum("not_started"), Some(4));
    }
}
