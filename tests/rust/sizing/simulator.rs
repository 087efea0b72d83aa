//! A load generator and a service in virtual time, event by event.
//!
//! Owns the clock, the workers (closed model) or the arrivals (open model), the service's queue and the counters that a
//! real run would have. A minute of a service with 200 runs per second takes some milliseconds. What services there are
//! and what their truth is, is `services`'.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use fastrand::Rng;
use hdrhistogram::Histogram;

/// How long the service works on a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Exponential, with this mean in seconds.
    Exponential(f64),
    /// Between half and one and a half of this mean in seconds.
    Even(f64),
    /// Always this long, in seconds.
    Fixed(f64),
    /// As long as n runs at once take when throughput is `curve(n)` per second.
    Curve(fn(f64) -> f64),
}

/// How fast the service is, as a factor over time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Speed {
    Constant,
    /// 1 + amplitude · sin(2π t / period + phase), with a phase by the seed.
    Drift {
        amplitude: f64,
        period: f64,
    },
    /// Slowed to `slowed` for exponential times of mean `busy`, and not for others of mean `idle`.
    Neighbour {
        slowed: f64,
        busy: f64,
        idle: f64,
    },
}

/// A service: `slots` requests are worked on, `queue` more may wait, the others are refused at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) slots: usize,
    pub(crate) queue: usize,
    pub(crate) work: Work,
    /// Mean of the exponential time before every request: client and network, in seconds.
    pub(crate) away: f64,
    /// Requests that a run makes, one after the other.
    pub(crate) steps: u32,
    /// What a scenario sleeps before each of them, in seconds.
    pub(crate) think: f64,
    pub(crate) speed: Speed,
    /// The share of runs that fail whatever the load.
    pub(crate) failing: f64,
    /// It serves this many runs, and then refuses all.
    pub(crate) dies_after: Option<u64>,
}

pub(crate) const REFUSAL_SECONDS: f64 = 0.002;

/// A run that starts later than this is late.
const LATE_SECONDS: f64 = 0.01;

#[derive(Debug, Clone, Copy)]
enum What {
    Arrive,
    Depart,
    Refused,
    /// The next arrival of an open model.
    Start,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    at: f64,
    number: u64,
    what: What,
    run: usize,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    /// The earliest is the greatest, for the heap.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at.total_cmp(&self.at)).then(other.number.cmp(&self.number))
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) started: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) responses: u64,
}

pub(crate) struct World {
    pub(crate) now: f64,
    pub(crate) counts: Counts,
    /// Service times since they were last taken, in microseconds.
    pub(crate) times: Histogram<u64>,
    /// Workers that run, or runs in flight.
    pub(crate) active: usize,
    /// The phase of a drift, 0 to 2π.
    pub(crate) phase: f64,
    service: Service,
    rng: Rng,
    events: BinaryHeap<Event>,
    number: u64,
    /// Closed model: workers beyond this many pause. Open model: none.
    target: usize,
    rate: Option<f64>,
    /// Open model: starts are a Poisson process rather than even.
    pub(crate) poisson: bool,
    /// Open model: most runs at a time. A start beyond waits until one ends; it is given up when the rate changes.
    pub(crate) most: usize,
    /// When starts that wait were due.
    late: VecDeque<f64>,
    pub(crate) starved: u64,
    /// When the request of each worker (or open run) began; `None` while it pauses.
    began: Vec<Option<f64>>,
    /// Requests that the run still has to make.
    left: Vec<u32>,
    busy: usize,
    waiting: VecDeque<usize>,
    served: u64,
    slowed: bool,
    change_at: f64,
}

impl World {
    pub(crate) fn new(service: Service, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5eed_0000);
        let phase = rng.f64() * std::f64::consts::TAU;
        Self {
            now: 0.0,
            counts: Counts::default(),
            times: Histogram::new(3).unwrap(),
            active: 0,
            phase,
            service,
            rng,
            events: BinaryHeap::new(),
            number: 0,
            target: 0,
            rate: None,
            poisson: false,
            most: usize::MAX,
            late: VecDeque::new(),
            starved: 0,
            began: Vec::new(),
            left: Vec::new(),
            busy: 0,
            waiting: VecDeque::new(),
            served: 0,
            slowed: false,
            change_at: 0.0,
        }
    }

    /// So many workers from now on: more start at once, those too many pause after their run.
    pub(crate) fn set_workers(&mut self, workers: usize) {
        self.target = workers;
        for worker in 0..workers {
            if self.began.len() <= worker {
                self.began.push(None);
                self.left.push(0);
            }
            if self.began[worker].is_none() {
                self.active += 1;
                self.begin(worker);
            }
        }
    }

    /// So many runs started per second from now on, evenly.
    pub(crate) fn set_rate(&mut self, rate: f64) {
        let before = self.rate.replace(rate);
        if before.is_none() {
            self.schedule(0.0, What::Start, 0);
        } else if before != Some(rate) {
            self.late.clear();
        }
    }

    pub(crate) fn advance(&mut self, until: f64) {
        while let Some(event) = self.events.peek().copied()
            && event.at <= until
        {
            self.events.pop();
            self.now = event.at;
            match event.what {
                What::Arrive => self.arrive(event.run),
                What::Depart => self.depart(event.run),
                What::Refused => self.end(event.run, false),
                What::Start => self.start_open(),
            }
        }
        self.now = until;
    }

    fn schedule(&mut self, after: f64, what: What, run: usize) {
        self.number += 1;
        self.events.push(Event {
            at: self.now + after,
            number: self.number,
            what,
            run,
        });
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.rng.f64()).ln()
    }

    fn begin(&mut self, run: usize) {
        self.counts.started += 1;
        self.left[run] = self.service.steps;
        self.request(run);
    }

    fn request(&mut self, run: usize) {
        let think = self.service.think;
        self.began[run] = Some(self.now + think);
        let away = self.exponential(self.service.away);
        self.schedule(think + away, What::Arrive, run);
    }

    fn start_open(&mut self) {
        let Some(rate) = self.rate else { return };
        if self.active < self.most {
            self.began.push(None);
            self.left.push(0);
            self.active += 1;
            self.begin(self.began.len() - 1);
        } else {
            self.late.push_back(self.now);
        }
        let after = if self.poisson {
            self.exponential(1.0 / rate)
        } else {
            1.0 / rate
        };
        self.schedule(after, What::Start, 0);
    }

    fn arrive(&mut self, run: usize) {
        let dead = self
            .service
            .dies_after
            .is_some_and(|runs| self.served >= runs);
        if !dead && self.busy < self.service.slots {
            self.work_on(run);
        } else if !dead && self.waiting.len() < self.service.queue {
            self.waiting.push_back(run);
        } else {
            self.schedule(REFUSAL_SECONDS, What::Refused, run);
        }
    }

    fn work_on(&mut self, run: usize) {
        self.busy += 1;
        let seconds = match self.service.work {
            Work::Exponential(mean) => self.exponential(mean),
            Work::Even(mean) => mean * (0.5 + self.rng.f64()),
            Work::Fixed(seconds) => seconds,
            Work::Curve(curve) => {
                let n = self.busy as f64;
                self.exponential(n / curve(n))
            }
        };
        let speed = self.speed();
        self.schedule(seconds / speed, What::Depart, run);
    }

    fn speed(&mut self) -> f64 {
        match self.service.speed {
            Speed::Constant => 1.0,
            Speed::Drift { .. } => self.service.speed.at(self.now, self.phase),
            Speed::Neighbour { slowed, busy, idle } => {
                while self.change_at <= self.now {
                    // The first change begins with an idle time.
                    self.slowed = self.change_at > 0.0 && !self.slowed;
                    let mean = if self.slowed { busy } else { idle };
                    self.change_at += self.exponential(mean).max(1e-6);
                }
                if self.slowed { slowed } else { 1.0 }
            }
        }
    }

    fn depart(&mut self, run: usize) {
        self.busy -= 1;
        self.served += 1;
        if let Some(next) = self.waiting.pop_front() {
            self.work_on(next);
        }
        self.counts.responses += 1;
        let began = self.began[run].unwrap();
        let microseconds = ((self.now - began) * 1e6) as u64;
        self.times.record(microseconds.max(1)).unwrap();
        self.left[run] -= 1;
        if self.left[run] > 0 {
            return self.request(run);
        }
        let ok = self.rng.f64() >= self.service.failing;
        self.end(run, ok);
    }

    fn end(&mut self, run: usize, ok: bool) {
        if ok {
            self.counts.succeeded += 1;
        } else {
            self.counts.failed += 1;
        }
        if self.rate.is_none() && run < self.target {
            self.begin(run);
        } else if let Some(due) = self.late.pop_front() {
            self.starved += u64::from(self.now - due > LATE_SECONDS);
            self.begin(run);
        } else {
            self.began[run] = None;
            self.active -= 1;
        }
    }
}

impl Speed {
    /// The factor of a drift at that time.
    pub(crate) fn at(self, now: f64, phase: f64) -> f64 {
        match self {
            Self::Drift { amplitude, period } => {
                1.0 + amplitude * (std::f64::consts::TAU * now / period + phase).sin()
            }
            _ => 1.0,
        }
    }
}
