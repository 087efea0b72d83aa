//! Fewer points for charts of long runs, without losing what sticks out.
//!
//! Owns which points stay: of every stretch of time the smallest and the largest value of each series, in the order in
//! which they came, and the last point of all. A stretch is the same for all series of one source, so that they share
//! their times; a value is moved by less than one stretch, which is under a thousandth of the run. Pure; called by
//! the files here that make charts.

use super::number::{Number, instant};

/// Points per series at most: two for each pixel of a wide chart.
pub(super) const MOST_POINTS: usize = 2400;

/// Which samples share a stretch.
#[derive(Debug, Clone)]
pub(super) struct Thinner {
    times: Vec<f64>,
    /// Samples per stretch; 1 keeps all.
    stretch: usize,
}

impl Thinner {
    /// For samples at those times, of which at most `most` stay.
    pub(super) fn new(times: Vec<f64>, most: usize) -> Self {
        let stretch = if times.len() <= most {
            1
        } else {
            // Two points per stretch, and the last.
            times.len().div_ceil((most.max(3) - 1) / 2)
        };
        Self { times, stretch }
    }

    /// The times that all series share.
    pub(super) fn times(&self) -> Vec<f64> {
        if self.stretch == 1 {
            return self.times.iter().copied().map(instant).collect();
        }
        let ends = self.times.chunks(self.stretch).flat_map(|stretch| {
            let first = stretch.first().copied().unwrap_or_default();
            let last = stretch.last().copied().unwrap_or(first);
            [instant(first), instant(first.midpoint(last))]
        });
        ends.chain(self.times.last().copied().map(instant))
            .collect()
    }

    /// What stays of a series that has a value, or a gap, for each of the times.
    pub(super) fn values(&self, values: &[Option<f64>]) -> Vec<Number> {
        let finite = |value: &Option<f64>| value.filter(|value| value.is_finite());
        if self.stretch == 1 {
            return values.iter().map(|value| finite(value).into()).collect();
        }
        let pairs = values.chunks(self.stretch).flat_map(|stretch| {
            let mut lowest: Option<(usize, f64)> = None;
            let mut highest: Option<(usize, f64)> = None;
            for (place, value) in stretch.iter().enumerate() {
                let Some(value) = finite(value) else { continue };
                if lowest.is_none_or(|(_, low)| value < low) {
                    lowest = Some((place, value));
                }
                if highest.is_none_or(|(_, high)| value > high) {
                    highest = Some((place, value));
                }
            }
            match (lowest, highest) {
                (Some(low), Some(high)) if low.0 <= high.0 => [Number(low.1), Number(high.1)],
                (Some(low), Some(high)) => [Number(high.1), Number(low.1)],
                _ => [Number(f64::NAN); 2],
            }
        });
        let last = values.last().map(|value| Number::from(finite(value)));
        pairs.chain(last).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(count: usize) -> Vec<f64> {
        (1..=count).map(|second| second as f64).collect()
    }

    #[test]
    fn short_runs_stay_as_they_are() {
        let thinner = Thinner::new(seconds(3), 3);
        assert_eq!(thinner.times(), [1.0, 2.0, 3.0]);
        let kept = thinner.values(&[Some(5.0), None, Some(f64::INFINITY)]);
        assert_eq!(serde_json::to_string(&kept).unwrap(), "[5,null,null]");
    }

    #[test]
    fn nothing_is_nothing() {
        let thinner = Thinner::new(Vec::new(), 10);
        assert!(thinner.times().is_empty());
        assert!(thinner.values(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn extremes_and_the_last_value_stay(
            values in prop::collection::vec(prop::option::of(-1e3_f64..1e3), 1..400),
            most in 3_usize..50,
        ) {
            let thinner = Thinner::new(seconds(values.len()), most);
            let kept = thinner.values(&values);
            let times = thinner.times();
            prop_assert_eq!(kept.len(), times.len());
            prop_assert!(kept.len() <= most.max(values.len().min(most)), "{} > {most}", kept.len());
            prop_assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
            let fold = |all: &mut dyn Iterator<Item = f64>| {
                all.filter(|value| !value.is_nan())
                    .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
            };
            let before = fold(&mut values.iter().map(|value| value.unwrap_or(f64::NAN)));
            let after = fold(&mut kept.iter().map(|value| value.0));
            prop_assert_eq!(before, after);
            let last = kept.last().unwrap().0;
            prop_assert_eq!((!last.is_nan()).then_some(last), *values.last().unwrap());
        }
    }
}
