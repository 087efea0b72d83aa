//! One process's starts: which are due, which of them wait for a worker, and when the next one is due.
//!
//! Owns two places in the same schedule, the last start that became due and the last one that was taken. What lies
//! between them waits; it takes no memory, however much it is. Called with the time by `python`'s pacer.

use super::arrivals::{Arrivals, Shape, Share};
use super::profile::Profile;

/// A place in the schedule: in front of a start.
#[derive(Debug, Clone)]
struct Place {
    arrivals: Arrivals,
    /// Where the start lies, in units.
    units: f64,
}

impl Place {
    fn pass(&mut self) {
        self.units = self.arrivals.next();
    }
}

/// The starts of one process.
#[derive(Debug, Clone)]
pub struct Starts {
    profile: Profile,
    /// In front of the first start that is not due yet.
    due: Place,
    /// When that is; `None` when there is none.
    due_at: Option<f64>,
    /// In front of the first start that nobody has taken.
    open: Place,
    waiting: u64,
}

impl Starts {
    /// The share of one process in a schedule.
    pub fn new(profile: Profile, shape: Shape, seed: u64, share: Share) -> Self {
        let mut arrivals = Arrivals::new(shape, seed, share);
        let units = arrivals.next();
        let place = Place { arrivals, units };
        Self {
            due_at: profile.time_of(units),
            profile,
            open: place.clone(),
            due: place,
            waiting: 0,
        }
    }

    /// The rate over time that this is a schedule of, for all processes.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// When the next start is due, in seconds; `None` when there is none.
    pub fn next_at(&self) -> Option<f64> {
        self.due_at
    }

    /// Starts that are due and that nobody has taken.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Goes on to `now`; returns how many starts became due.
    pub fn advance(&mut self, now: f64) -> u64 {
        let before = self.waiting;
        while self.due_at.is_some_and(|at| at <= now) {
            self.due.pass();
            self.due_at = self.profile.time_of(self.due.units);
            self.waiting += 1;
        }
        self.waiting - before
    }

    /// Takes the start that has waited longest; returns when it was due.
    pub fn take(&mut self) -> Option<f64> {
        self.waiting = self.waiting.checked_sub(1)?;
        let at = self.profile.time_of(self.open.units);
        self.open.pass();
        at
    }

    /// Gives up so many of the starts that wait, those that have waited longest; returns how many that were.
    pub fn give_up(&mut self, starts: u64) -> u64 {
        let starts = starts.min(self.waiting);
        if starts == self.waiting {
            self.open = self.due.clone();
        } else {
            for _ in 0..starts {
                self.open.pass();
            }
        }
        self.waiting -= starts;
        starts
    }

    /// Another rate from `now` on. What waits belongs to the old one and is given up; returns how many that were.
    ///
    /// To be called after [`advance`](Self::advance) to the same time.
    pub fn set_rate(&mut self, now: f64, rate: f64) -> u64 {
        let given_up = self.give_up(self.waiting);
        self.profile = self.profile.from_now_on(now, rate);
        self.due_at = self.profile.time_of(self.due.units);
        given_up
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn constant(rate: f64, seconds: f64) -> Starts {
        Starts::new(
            Profile::constant(rate, seconds),
            Shape::Constant,
            0,
            Share::ALL,
        )
    }

    #[test]
    fn due_starts_wait_until_they_are_taken() {
        let mut starts = constant(10.0, 1.0);
        assert_eq!((starts.advance(0.0), starts.take()), (0, None));
        assert_eq!(starts.advance(0.3), 3);
        assert_eq!(starts.take(), Some(0.05));
        assert_eq!((starts.waiting(), starts.advance(0.3)), (2, 0));
        assert_eq!(starts.give_up(1), 1);
        assert!((starts.take().unwrap() - 0.25).abs() < 1e-9);
        assert!((starts.next_at().unwrap() - 0.35).abs() < 1e-9);
        assert_eq!(starts.advance(9.0), 7);
        assert_eq!(
            (starts.next_at(), starts.give_up(99), starts.take()),
            (None, 7, None)
        );
    }

    #[test]
    fn a_new_rate_begins_without_what_waited() {
        let mut starts = Starts::new(
            Profile::constant(0.0, f64::INFINITY),
            Shape::Poisson,
            5,
            Share::ALL,
        );
        assert_eq!((starts.advance(100.0), starts.next_at()), (0, None));
        assert_eq!(starts.set_rate(100.0, 50.0), 0);
        assert!(starts.next_at().unwrap() > 100.0);
        let due = starts.advance(110.0);
        assert!((400..600).contains(&due), "{due}");
        assert_eq!(starts.set_rate(110.0, 5.0), due);
        let next = starts.next_at().unwrap();
        assert!(next > 110.0);
        assert_eq!(starts.advance(next), 1);
        assert_eq!(starts.take(), Some(next));
    }

    proptest! {
        #[test]
        fn even_starts_are_as_many_as_expected(
            rate in 1..3000_u32, seconds in 1..50_u32, processes in 1..5_u64, step in 0.001..3.0_f64,
        ) {
            let (rate, seconds) = (f64::from(rate), f64::from(seconds));
            let mut sum = 0;
            for index in 0..processes {
                let share = Share { index, of: processes };
                let mut starts = Starts::new(Profile::constant(rate, seconds), Shape::Constant, 0, share);
                let mut now = 0.0;
                while now < seconds {
                    now += step;
                    let due = starts.advance(now);
                    sum += due;
                    for _ in 0..due {
                        prop_assert!(starts.take().is_some_and(|at| at <= now && at < seconds));
                    }
                }
            }
            prop_assert!((sum as f64 - rate * seconds).abs() < 1e-9, "{sum}");
        }

        #[test]
        fn a_ramp_has_as_many_as_its_area(
            points in prop::collection::vec((0..40_u32, 0..400_u32), 1..6), poisson in any::<bool>(), seed: u64,
        ) {
            let mut time = 0;
            let mut stages = vec![(0.0, 20.0)];
            stages.extend(points.iter().map(|(step, rate)| {
                time += step;
                (f64::from(time), f64::from(*rate))
            }));
            let Ok(profile) = Profile::stages(&stages) else { return Ok(()) };
            let total = profile.total();
            let shape = if poisson { Shape::Poisson } else { Shape::Constant };
            let mut starts = Starts::new(profile, shape, seed, Share::ALL);
            let due = starts.advance(f64::from(time)) as f64;
            if poisson {
                // Six standard deviations.
                prop_assert!((due - total).abs() <= 6.0 * total.sqrt() + 6.0, "{due} {total}");
            } else {
                prop_assert!((due - total).abs() <= 0.5 + 1e-6, "{due} {total}");
            }
            let mut before = 0.0;
            while let Some(at) = starts.take() {
                prop_assert!(at >= before && at <= f64::from(time) + 1e-9);
                before = at;
            }
        }
    }
}
