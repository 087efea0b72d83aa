//! What is known of one metric of one run, and of the difference of two.
//!
//! Owns the intervals. Pure: numbers come in, intervals go out. Called by `metrics` and `judge`.
//!
//! | what | interval | source |
//! |---|---|---|
//! | means | Student, of batch means | Law, *Simulation Modeling and Analysis*, ch. 9 |
//! | percentiles | between order statistics, binomial | David and Nagaraja, *Order Statistics*, 7.1 |
//! | ratios | Wilson's score | Wilson, JASA 22 (1927) |
//! | differences | square-and-add (MOVER) | Newcombe, *Statistics in Medicine* 17 (1998); Zou and Donner, ibid. 27 (2008) |
//!
//! The first three assume independent values. Seconds of a run are not: batches are as long as the run allows, and where
//! single values are counted the variance is inflated by what batches show (see [`inflation`]).

use std::rc::Rc;

use super::student::{MANY, quantile};
use crate::metrics::Distribution;

/// Fewest batches that say something about the spread.
const FEWEST: usize = 5;

/// Numbers of batches that are tried; the widest interval counts. Few are long ones, which are nearly independent.
const CUTS: [usize; 3] = [20, 10, 6];

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A metric of one run with how well it is known.
#[derive(Debug, Clone)]
pub(super) enum Evidence {
    /// A mean with its standard error.
    Mean {
        value: f64,
        standard_error: f64,
        degrees: f64,
    },
    /// A value whose 95 % interval is known.
    Stated {
        value: f64,
        low: f64,
        high: f64,
        degrees: f64,
    },
    /// A share of samples, which count less when they depend on each other.
    Ratio { hits: f64, samples: f64 },
    /// A percentile of service times, in seconds.
    Quantile {
        of: Rc<Ranks>,
        share: f64,
        inflation: f64,
    },
}

/// Service times in their order, of which any percentile can be had in no time.
#[derive(Debug)]
pub(super) struct Ranks {
    all: Distribution,
    /// In seconds, with how many took at most about that long.
    cumulative: Vec<(f64, u64)>,
}

impl Ranks {
    pub(super) fn new(all: Distribution) -> Rc<Self> {
        let mut total = 0;
        let cumulative = all
            .counts()
            .map(|(microseconds, count)| {
                total += count;
                (microseconds as f64 / 1e6, total)
            })
            .collect();
        Rc::new(Self { all, cumulative })
    }

    pub(super) fn count(&self) -> u64 {
        self.all.count()
    }

    /// That share of them took at most this long, as the results have it.
    fn seconds(&self, share: f64) -> f64 {
        let time = self.all.quantile(share);
        time.map_or(0.0, |time| time.as_secs_f64())
    }

    /// The same within the resolution of the histogram, a thousandth.
    fn about(&self, share: f64) -> f64 {
        let rank = share * self.count() as f64;
        let place = self
            .cumulative
            .partition_point(|(_, count)| (*count as f64) < rank);
        self.cumulative
            .get(place)
            .or(self.cumulative.last())
            .map_or(0.0, |(seconds, _)| *seconds)
    }
}

impl Evidence {
    /// The best guess.
    pub(super) fn value(&self) -> f64 {
        match self {
            Self::Mean { value, .. } | Self::Stated { value, .. } => *value,
            Self::Ratio { hits, samples } => {
                if *samples > 0.0 {
                    hits / samples
                } else {
                    0.0
                }
            }
            Self::Quantile { of, share, .. } => of.seconds(*share),
        }
    }

    /// Where the true value is with that confidence, 0 to 1. Never below 0: no metric is.
    pub(super) fn interval(&self, confidence: f64) -> Range {
        match self {
            Self::Mean {
                value,
                standard_error,
                degrees,
            } => {
                let half = quantile(confidence, *degrees) * standard_error;
                around(*value, half, half)
            }
            Self::Stated {
                value,
                low,
                high,
                degrees,
            } => {
                let wider = quantile(confidence, *degrees) / quantile(0.95, *degrees);
                around(*value, (value - low) * wider, (high - value) * wider)
            }
            Self::Ratio { hits, samples } => wilson(*hits, *samples, quantile(confidence, MANY)),
            Self::Quantile {
                of,
                share,
                inflation,
            } => {
                let spread = (share * (1.0 - share) * inflation / of.count() as f64).sqrt();
                let half = quantile(confidence, MANY) * spread;
                let value = of.seconds(*share);
                Range {
                    low: if share - half <= 0.0 {
                        0.0
                    } else {
                        of.about(share - half).min(value)
                    },
                    // Beyond the largest value nothing is known.
                    high: if share + half >= 1.0 {
                        f64::INFINITY
                    } else {
                        of.about(share + half).max(value)
                    },
                }
            }
        }
    }
}

fn around(value: f64, below: f64, above: f64) -> Range {
    Range {
        low: (value - below.max(0.0)).max(0.0),
        high: value + above.max(0.0),
    }
}

fn wilson(hits: f64, samples: f64, z: f64) -> Range {
    if samples <= 0.0 {
        return Range {
            low: 0.0,
            high: 1.0,
        };
    }
    let ratio = hits / samples;
    let z2 = z * z;
    let centre = ratio + z2 / (2.0 * samples);
    let spread = z
        * (ratio * (1.0 - ratio) / samples + z2 / (4.0 * samples * samples))
            .max(0.0)
            .sqrt();
    let scale = 1.0 + z2 / samples;
    Range {
        low: ((centre - spread) / scale).clamp(0.0, ratio),
        high: ((centre + spread) / scale).clamp(ratio, 1.0),
    }
}

/// A mean from consecutive values, by batch means. `None` when there are too few.
pub(super) fn mean_of(values: &[f64]) -> Option<Evidence> {
    let mut widest: Option<(f64, f64, f64)> = None;
    for cut in CUTS {
        let batches = batches(values, cut);
        if batches.len() < FEWEST {
            continue;
        }
        let (error, degrees) = standard_error(&batches);
        let half = error * quantile(0.95, degrees);
        if widest.is_none_or(|(known, ..)| half > known) {
            widest = Some((half, error, degrees));
        }
    }
    let (_, standard_error, degrees) = widest?;
    Some(Evidence::Mean {
        value: mean(values),
        standard_error,
        degrees,
    })
}

/// How many times larger the variance of a mean is than it would be if its values were independent, at least 1.
///
/// `independent` is the variance of the whole under independence, `values` are consecutive parts of the same quantity.
pub(super) fn inflation(values: &[f64], independent: f64) -> f64 {
    match mean_of(values) {
        Some(Evidence::Mean {
            standard_error,
            degrees,
            ..
        }) if independent > 0.0 => {
            // Few batches know their own spread badly; what Student's distribution adds is added here.
            let doubt = quantile(0.95, degrees) / quantile(0.95, MANY);
            ((standard_error * doubt).powi(2) / independent).max(1.0)
        }
        _ => 1.0,
    }
}

/// Means of at most so many consecutive groups of the same size; a remainder at the start is left out.
fn batches(values: &[f64], count: usize) -> Vec<f64> {
    let size = (values.len() / count).max(1);
    let skipped = if values.len() >= count {
        values.len() % size
    } else {
        0
    };
    let whole = values.get(skipped..).unwrap_or_default();
    let all: Vec<f64> = whole.chunks(size).map(mean).collect();
    all.get(all.len().saturating_sub(count)..)
        .unwrap_or_default()
        .to_vec()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the mean of these, and its degrees of freedom.
fn standard_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    ((squares / (n - 1.0) / n).sqrt(), n - 1.0)
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// By their quotient: 0.1 is a tenth more than before.
    Relative,
    /// By their difference, for shares: 0.01 is one percentage point more.
    Absolute,
}

/// By how much the second is more than the first.
pub(super) fn change(before: &Evidence, after: &Evidence, scale: Scale) -> f64 {
    let (a, b) = (before.value(), after.value());
    match scale {
        Scale::Absolute => b - a,
        Scale::Relative if a > 0.0 => b / a - 1.0,
        Scale::Relative if b > 0.0 => f64::INFINITY,
        Scale::Relative => 0.0,
    }
}

/// Where that change is with this confidence: the distances of both ends are squared and added.
pub(super) fn change_interval(
    before: &Evidence,
    after: &Evidence,
    scale: Scale,
    confidence: f64,
) -> Range {
    let (a, b) = (before.interval(confidence), after.interval(confidence));
    let (first, second) = (before.value(), after.value());
    let combine = |first: f64, a: Range, second: f64, b: Range| {
        let change = second - first;
        Range {
            low: change - (second - b.low).hypot(a.high - first),
            high: change + (b.high - second).hypot(first - a.low),
        }
    };
    match scale {
        Scale::Absolute => combine(first, a, second, b),
        // Quotients are differences of logarithms.
        Scale::Relative if first > 0.0 && second > 0.0 => {
            let log = |range: Range| Range {
                low: range.low.ln(),
                high: range.high.ln(),
            };
            let range = combine(first.ln(), log(a), second.ln(), log(b));
            Range {
                low: range.low.exp() - 1.0,
                high: range.high.exp() - 1.0,
            }
        }
        // Nothing is left: of the logarithm of nought only the largest quotient is known.
        Scale::Relative if second <= 0.0 && a.low > 0.0 => Range {
            low: -1.0,
            high: b.high / a.low - 1.0,
        },
        Scale::Relative => Range {
            low: -1.0,
            high: f64::INFINITY,
        },
    }
}

/// How likely such a change is by chance when nothing changed: one minus the confidence whose interval touches zero.
pub(super) fn chance(before: &Evidence, after: &Evidence, scale: Scale) -> f64 {
    let excludes_zero = |confidence: f64| {
        let range = change_interval(before, after, scale, confidence);
        range.low > 0.0 || range.high < 0.0
    };
    let (mut low, mut high) = (0.0, 1.0);
    if !excludes_zero(1e-9) {
        return 1.0;
    }
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if excludes_zero(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    1.0 - low
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::{Kind, Recorder};

    fn ratio(hits: u32, samples: u32) -> Evidence {
        Evidence::Ratio {
            hits: f64::from(hits),
            samples: f64::from(samples),
        }
    }

    #[test]
    fn differences_of_ratios_are_newcombes() {
        // His example (a), method 10: 56 of 70 against 48 of 80 is 0.2, from 0.0524 to 0.3339.
        let range = change_interval(&ratio(48, 80), &ratio(56, 70), Scale::Absolute, 0.95);
        assert!((range.low - 0.0524).abs() < 1e-3, "{range:?}");
        assert!((range.high - 0.3339).abs() < 1e-3, "{range:?}");
        let range = change_interval(&ratio(0, 10), &ratio(0, 10), Scale::Absolute, 0.95);
        assert!((range.low + 0.2775).abs() < 1e-3 && (range.high - 0.2775).abs() < 1e-3);
    }

    #[test]
    fn nothing_left_is_a_change() {
        let mean = |value, standard_error| Evidence::Mean {
            value,
            standard_error,
            degrees: 9.0,
        };
        let (before, nothing) = (mean(100.0, 1.0), mean(0.0, 0.0));
        let range = change_interval(&before, &nothing, Scale::Relative, 0.95);
        assert_eq!((range.low, range.high), (-1.0, -1.0));
        assert!(chance(&before, &nothing, Scale::Relative) < 1e-6);
        // What may have been nothing before tells nothing.
        let range = change_interval(&mean(1.0, 2.0), &nothing, Scale::Relative, 0.95);
        assert!(range.high.is_infinite());
    }

    #[test]
    fn percentiles_lie_between_order_statistics() {
        let mut recorder = Recorder::new();
        let id = recorder.request_id("GET", "h/x");
        for number in 1..=1000 {
            recorder.record(id, Duration::from_millis(number), true, 0);
        }
        let of = |inflation| Evidence::Quantile {
            of: Ranks::new(recorder.distribution(Kind::Request, |_| true)),
            share: 0.95,
            inflation,
        };
        // Ranks 950 plus and minus 1.96 times the root of 1000 · 0.95 · 0.05 = 13.5.
        let range = of(1.0).interval(0.95);
        assert!(
            (range.low - 0.936).abs() < 0.003 && (range.high - 0.964).abs() < 0.003,
            "{range:?}"
        );
        let wide = of(4.0).interval(0.95);
        assert!(
            (wide.low - 0.923).abs() < 0.003 && (wide.high - 0.977).abs() < 0.003,
            "{wide:?}"
        );
        assert!(of(100.0).interval(0.95).high.is_infinite());
    }

    #[test]
    fn too_few_values_have_no_interval() {
        assert!(mean_of(&[]).is_none() && mean_of(&[1.0; 4]).is_none());
        let Some(Evidence::Mean {
            value,
            standard_error,
            degrees,
        }) = mean_of(&[2.0; 5])
        else {
            panic!("five values are enough");
        };
        assert_eq!((value, standard_error, degrees), (2.0, 0.0, 4.0));
    }

    #[test]
    fn slow_waves_widen_the_interval() {
        let error = |values: &[f64]| match mean_of(values) {
            Some(Evidence::Mean { standard_error, .. }) => standard_error,
            _ => f64::NAN,
        };
        let fast: Vec<f64> = (0..120).map(|n| f64::from(n % 2)).collect();
        let slow: Vec<f64> = (0..120).map(|n| f64::from((n / 20) % 2)).collect();
        assert!(error(&slow) > 10.0 * error(&fast));
        let independent = 0.25 / 120.0;
        assert!((inflation(&fast, independent) - 1.0).abs() < 1e-9);
        assert!(inflation(&slow, independent) > 10.0);
    }

    fn evidence() -> impl Strategy<Value = Evidence> {
        prop_oneof![
            (0.001_f64..1e6, 0.0_f64..0.5, 2.0_f64..40.0).prop_map(|(value, relative, degrees)| {
                Evidence::Mean {
                    value,
                    standard_error: value * relative,
                    degrees,
                }
            }),
            (0.001_f64..1e6, 0.0_f64..0.5, 0.0_f64..0.5).prop_map(|(value, below, above)| {
                Evidence::Stated {
                    value,
                    low: value * (1.0 - below),
                    high: value * (1.0 + above),
                    degrees: 9.0,
                }
            }),
            (0_u32..500, 1_u32..500).prop_map(|(hits, more)| ratio(hits, hits + more)),
        ]
    }

    proptest! {
        #[test]
        fn intervals_hold_their_value_and_grow(one in evidence(), confidence in 0.01_f64..0.99) {
            let (small, large) = (one.interval(confidence), one.interval(confidence + 0.009));
            prop_assert!(small.low <= one.value() * (1.0 + 1e-12) && one.value() <= small.high * (1.0 + 1e-12));
            prop_assert!(large.low <= small.low && small.high <= large.high);
        }

        #[test]
        fn changes_turn_round(a in evidence(), b in evidence(), confidence in 0.5_f64..0.99) {
            let there = change_interval(&a, &b, Scale::Absolute, confidence);
            let back = change_interval(&b, &a, Scale::Absolute, confidence);
            let size = a.value() + b.value() + 1.0;
            prop_assert!((there.low + back.high).abs() < 1e-9 * size);
            prop_assert!((there.high + back.low).abs() < 1e-9 * size);
            prop_assert!((chance(&a, &b, Scale::Absolute) - chance(&b, &a, Scale::Absolute)).abs() < 1e-6);
        }

        #[test]
        fn chance_and_interval_agree(a in evidence(), b in evidence()) {
            for scale in [Scale::Absolute, Scale::Relative] {
                let range = change_interval(&a, &b, scale, 0.95);
                let excludes = range.low > 0.0 || range.high < 0.0;
                let chance = chance(&a, &b, scale);
                prop_assert!((0.0..=1.0).contains(&chance));
                if (chance - 0.05).abs() > 1e-6 {
                    prop_assert_eq!(excludes, chance < 0.05);
                }
            }
        }

        #[test]
        fn nothing_differs_from_itself(a in evidence()) {
            prop_assert!(chance(&a, &a, Scale::Absolute) > 0.999);
            prop_assert!(change(&a, &a, Scale::Relative).abs() < 1e-12);
        }
    }
}
