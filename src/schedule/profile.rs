//! The rate over time: constant, piecewise linear, or set from outside while the run goes.
//!
//! Owns the integral of the rate (how many starts are expected by a time) and its inverse (when the n-th is due). Called
//! by `starts`, and by whoever wants to know what rate is asked for now.

/// Why points make no profile.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// One point is no line.
    #[error("it takes at least two points, such as '0:0 30s:200'")]
    TooFew,
    /// The run begins at 0.
    #[error("the first point is the rate at 0, such as 0:10, not at {0} s")]
    NotAtZero(f64),
    /// Time only goes on.
    #[error("{then} s follows {before} s: times do not go back")]
    Backwards {
        /// The time of a point.
        before: f64,
        /// That of the next one.
        then: f64,
    },
    /// A rate is a number of starts.
    #[error("{0} is no rate")]
    Rate(f64),
    /// Every rate is 0, or no time passes.
    #[error("nothing would ever start")]
    Nothing,
}

/// A stretch of time in which the rate changes evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Segment {
    from: f64,
    /// Infinite for a rate that never ends.
    to: f64,
    rate: f64,
    /// Change of the rate per second.
    slope: f64,
    /// Expected starts before it.
    before: f64,
}

impl Segment {
    fn expected(&self, elapsed: f64) -> f64 {
        if self.slope == 0.0 {
            // An infinite time at no rate is no start.
            return if self.rate == 0.0 {
                0.0
            } else {
                self.rate * elapsed
            };
        }
        elapsed * (self.rate + 0.5 * self.slope * elapsed)
    }

    fn size(&self) -> f64 {
        self.expected(self.to - self.from)
    }

    /// How long it takes for so many starts. The root of the quadratic in the form that loses no digits.
    fn time_for(&self, starts: f64) -> f64 {
        let root = (self.rate * self.rate + 2.0 * self.slope * starts).max(0.0);
        let seconds = 2.0 * starts / (self.rate + root.sqrt());
        seconds.min(self.to - self.from)
    }
}

/// Starts per second over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    segments: Vec<Segment>,
}

impl Profile {
    /// The same rate for so many seconds, which may be infinite. A rate that is no number above 0 starts nothing.
    pub fn constant(rate: f64, seconds: f64) -> Self {
        let rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
        Self {
            segments: vec![Segment {
                from: 0.0,
                to: seconds.max(0.0),
                rate,
                slope: 0.0,
                before: 0.0,
            }],
        }
    }

    /// Straight lines between points (seconds, starts per second); it ends with the last one. Two points at the same time
    /// are a jump.
    pub fn stages(points: &[(f64, f64)]) -> Result<Self, ProfileError> {
        let [(first, _), _, ..] = points else {
            return Err(ProfileError::TooFew);
        };
        if *first != 0.0 {
            return Err(ProfileError::NotAtZero(*first));
        }
        let sane = |rate: f64| rate.is_finite() && rate >= 0.0;
        if let Some((_, rate)) = points.iter().find(|(_, rate)| !sane(*rate)) {
            return Err(ProfileError::Rate(*rate));
        }
        let mut segments = Vec::new();
        let mut before = 0.0;
        for ((from, rate), (to, next)) in points.iter().zip(points.iter().skip(1)) {
            if !(to >= from && to.is_finite()) {
                return Err(ProfileError::Backwards {
                    before: *from,
                    then: *to,
                });
            }
            if to <= from {
                continue;
            }
            let segment = Segment {
                from: *from,
                to: *to,
                rate: *rate,
                slope: (next - rate) / (to - from),
                before,
            };
            before += segment.size();
            segments.push(segment);
        }
        if before <= 0.0 {
            return Err(ProfileError::Nothing);
        }
        Ok(Self { segments })
    }

    /// The same, ending after so many seconds if it does not end before.
    #[must_use]
    pub fn cut(mut self, seconds: f64) -> Self {
        let seconds = seconds.max(0.0);
        // The first one stays, be it empty: there is always a segment.
        let mut place = 0;
        self.segments.retain(|segment| {
            place += 1;
            place == 1 || segment.from < seconds
        });
        for segment in &mut self.segments {
            segment.to = segment.to.min(seconds);
        }
        self
    }

    /// Another rate from `now` on, without end; what was expected before stays counted.
    #[must_use]
    pub fn from_now_on(&self, now: f64, rate: f64) -> Self {
        let mut next = Self::constant(rate, f64::INFINITY);
        for segment in &mut next.segments {
            segment.from = now;
            segment.before = self.expected(now);
        }
        next
    }

    /// When it ends, in seconds; infinite when it does not.
    pub fn end(&self) -> f64 {
        self.segments.last().map_or(0.0, |last| last.to)
    }

    /// How many starts there are in all, in the mean of a random schedule.
    pub fn total(&self) -> f64 {
        self.segments
            .last()
            .map_or(0.0, |last| last.before + last.size())
    }

    /// The segment of a time; of a time between two, the later one.
    fn at(&self, seconds: f64) -> Option<&Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.from <= seconds);
        self.segments.get(after.checked_sub(1)?)
    }

    /// Starts per second at that time; 0 when it is over.
    pub fn rate(&self, seconds: f64) -> f64 {
        self.at(seconds)
            .filter(|segment| seconds < segment.to)
            .map_or(0.0, |segment| {
                segment.rate + segment.slope * (seconds - segment.from)
            })
    }

    /// How many starts there are before that time.
    pub fn expected(&self, seconds: f64) -> f64 {
        let Some(segment) = self.at(seconds) else {
            return self.segments.first().map_or(0.0, |first| first.before);
        };
        segment.before + segment.expected(seconds.min(segment.to) - segment.from)
    }

    /// The time before which there are so many starts; `None` when there never are.
    pub fn time_of(&self, starts: f64) -> Option<f64> {
        let after = self
            .segments
            .partition_point(|segment| segment.before <= starts);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let left = starts - segment.before;
        (left < segment.size()).then(|| segment.from + segment.time_for(left))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
    }

    #[test]
    fn a_ramp_a_plateau_and_a_jump() {
        let stages = [
            (0.0, 0.0),
            (30.0, 200.0),
            (60.0, 200.0),
            (60.0, 50.0),
            (70.0, 50.0),
        ];
        let profile = Profile::stages(&stages).unwrap();
        assert!(close(profile.total(), 3000.0 + 6000.0 + 500.0));
        assert!(close(profile.end(), 70.0));
        for (seconds, rate, expected) in [
            (0.0, 0.0, 0.0),
            (15.0, 100.0, 750.0),
            (30.0, 200.0, 3000.0),
            (59.0, 200.0, 8800.0),
            (60.0, 50.0, 9000.0),
            (70.0, 0.0, 9500.0),
            (99.0, 0.0, 9500.0),
        ] {
            assert!(close(profile.rate(seconds), rate), "{seconds}");
            assert!(close(profile.expected(seconds), expected), "{seconds}");
        }
        assert!(close(profile.time_of(750.0).unwrap(), 15.0));
        assert_eq!(profile.time_of(9500.1), None);
    }

    #[test]
    fn a_pause_starts_nothing() {
        let stages = [
            (0.0, 10.0),
            (1.0, 10.0),
            (1.0, 0.0),
            (9.0, 0.0),
            (9.0, 10.0),
            (10.0, 10.0),
        ];
        let profile = Profile::stages(&stages).unwrap();
        assert!(close(profile.time_of(9.5).unwrap(), 0.95));
        assert!(close(profile.time_of(10.5).unwrap(), 9.05));
        assert!(close(profile.expected(5.0), 10.0));
    }

    #[test]
    fn a_rate_may_never_end_or_be_none_at_all() {
        let forever = Profile::constant(4.0, f64::INFINITY);
        assert!(close(forever.time_of(4e6).unwrap(), 1e6));
        assert!(forever.end().is_infinite());
        let never = Profile::constant(0.0, f64::INFINITY);
        assert_eq!((never.time_of(0.5), never.total()), (None, 0.0));
        assert_eq!(Profile::constant(f64::NAN, 9.0).time_of(0.0), None);
    }

    #[test]
    fn another_rate_goes_on_where_the_first_one_was() {
        let profile = Profile::constant(10.0, f64::INFINITY).from_now_on(2.0, 5.0);
        assert!(close(profile.expected(2.0), 20.0));
        assert!(close(profile.time_of(20.5).unwrap(), 2.1));
        let stopped = profile.from_now_on(4.0, 0.0);
        assert_eq!(stopped.time_of(30.5), None);
        assert!(close(
            stopped.from_now_on(9.0, 1.0).time_of(30.5).unwrap(),
            9.5
        ));
    }

    #[test]
    fn what_is_no_profile_says_why() {
        for (points, message) in [
            (vec![], "at least two"),
            (vec![(0.0, 1.0)], "at least two"),
            (vec![(1.0, 1.0), (2.0, 1.0)], "at 0"),
            (vec![(0.0, 1.0), (2.0, 1.0), (1.0, 1.0)], "go back"),
            (vec![(0.0, 1.0), (f64::NAN, 1.0)], "go back"),
            (vec![(0.0, 1.0), (2.0, -1.0)], "-1 is no rate"),
            (vec![(0.0, 1.0), (2.0, f64::INFINITY)], "no rate"),
            (vec![(0.0, 0.0), (2.0, 0.0)], "nothing would ever start"),
            (vec![(0.0, 5.0), (0.0, 5.0)], "nothing would ever start"),
        ] {
            let error = Profile::stages(&points).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_inverse_undoes_the_integral(
            steps in prop::collection::vec((0.0..50.0_f64, 0.0..500.0_f64), 2..8), share in 0.0..1.0_f64, cut in 0.1..200.0_f64,
        ) {
            let mut time = 0.0;
            let points: Vec<(f64, f64)> = steps.iter().enumerate().map(|(place, (step, rate))| {
                time += if place == 0 { 0.0 } else { *step };
                (time, *rate)
            }).collect();
            prop_assume!(Profile::stages(&points).is_ok());
            let profile = Profile::stages(&points).unwrap().cut(cut);
            let starts = share * profile.total();
            if let Some(seconds) = profile.time_of(starts) {
                prop_assert!((0.0..=profile.end() + 1e-9).contains(&seconds));
                prop_assert!(close(profile.expected(seconds), starts), "{} {starts}", profile.expected(seconds));
            }
            prop_assert!(profile.end() <= cut);
            prop_assert!(close(profile.expected(profile.end()), profile.total()));
        }
    }
}
