//! From evidence to verdicts.
//!
//! Owns the rules. A change counts when it is more than chance and more than the margin; it is "unchanged" when its whole
//! interval lies within the margin; everything else is "unclear". Many metrics are judged at once, so one in twenty would
//! seem to change by chance alone: what is more than chance is decided by the procedure of Benjamini and Hochberg
//! (J. R. Stat. Soc. B 57, 1995) over all metrics of a run. When nothing changed, the chance of any false verdict is then
//! at most one minus the confidence, not that many for each metric. Called by `mod`.

use super::document::{Change, Verdict};
use super::evidence::{Evidence, Scale, chance, change, change_interval};

/// The margin of a share of failures is this part of the others': 5 % is half a percentage point.
const ABSOLUTE_MARGIN: f64 = 0.1;

/// One metric in two runs.
pub(super) struct Pair<'a> {
    pub(super) before: &'a Evidence,
    pub(super) after: &'a Evidence,
    pub(super) scale: Scale,
    pub(super) more_is_better: bool,
    /// Whether the values are lower bounds only.
    pub(super) before_at_least: bool,
    pub(super) after_at_least: bool,
}

/// Judges all metrics of a run against the baseline's, in their order.
pub(super) fn judge(pairs: &[Pair], margin: f64, confidence: f64) -> Vec<Change> {
    let chances: Vec<f64> = pairs
        .iter()
        .map(|pair| chance(pair.before, pair.after, pair.scale))
        .collect();
    let bound = largest_chance(&chances, 1.0 - confidence);
    let judged = pairs.iter().zip(chances);
    judged
        .map(|(pair, chance)| {
            let range = change_interval(pair.before, pair.after, pair.scale, confidence);
            let change = change(pair.before, pair.after, pair.scale);
            let margin = match pair.scale {
                Scale::Relative => margin,
                Scale::Absolute => margin * ABSOLUTE_MARGIN,
            };
            let verdict = if chance <= bound && change.abs() >= margin {
                if (change > 0.0) == pair.more_is_better {
                    Verdict::Improved
                } else {
                    Verdict::Regressed
                }
            } else if -margin <= range.low && range.high <= margin {
                Verdict::Unchanged
            } else {
                Verdict::Unclear
            };
            Change {
                verdict: bounded(pair, change, verdict),
                change,
                low: range.low,
                high: range.high,
                chance,
            }
        })
        .collect()
}

/// A lower bound can be passed, but not fallen short of.
fn bounded(pair: &Pair, change: f64, verdict: Verdict) -> Verdict {
    let is_known = match (pair.before_at_least, pair.after_at_least) {
        (false, false) => true,
        (false, true) => change > 0.0,
        (true, false) => change < 0.0,
        (true, true) => false,
    };
    let says_something = matches!(verdict, Verdict::Improved | Verdict::Regressed);
    let has_bound = pair.before_at_least || pair.after_at_least;
    if (says_something && is_known) || !has_bound {
        verdict
    } else {
        Verdict::Unclear
    }
}

/// The largest chance that still counts as a change: of the sorted ones the last that is at most its share of `alpha`.
/// Below every chance when none is.
fn largest_chance(chances: &[f64], alpha: f64) -> f64 {
    let mut sorted = chances.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let shares = (1..).map(|rank| f64::from(rank) / count * alpha);
    let found = sorted
        .iter()
        .zip(shares)
        .filter(|(chance, share)| *chance <= share);
    found.map(|(chance, _)| *chance).last().unwrap_or(-1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mean(value: f64, relative_error: f64) -> Evidence {
        Evidence::Mean {
            value,
            standard_error: value * relative_error,
            degrees: 19.0,
        }
    }

    fn verdict(
        before: &Evidence,
        after: &Evidence,
        more_is_better: bool,
        at_least: (bool, bool),
    ) -> Verdict {
        let pair = Pair {
            before,
            after,
            scale: Scale::Relative,
            more_is_better,
            before_at_least: at_least.0,
            after_at_least: at_least.1,
        };
        judge(&[pair], 0.05, 0.95)[0].verdict
    }

    #[test]
    fn a_change_has_to_be_sure_and_large_enough() {
        let exact = (false, false);
        assert_eq!(
            verdict(&mean(100.0, 0.01), &mean(120.0, 0.01), true, exact),
            Verdict::Improved
        );
        assert_eq!(
            verdict(&mean(100.0, 0.01), &mean(120.0, 0.01), false, exact),
            Verdict::Regressed
        );
        // Sure, but small: half of it would not matter.
        assert_eq!(
            verdict(&mean(100.0, 0.001), &mean(102.0, 0.001), true, exact),
            Verdict::Unchanged
        );
        assert_eq!(
            verdict(&mean(100.0, 0.01), &mean(104.0, 0.01), true, exact),
            Verdict::Unclear
        );
        assert_eq!(
            verdict(&mean(100.0, 0.2), &mean(120.0, 0.2), true, exact),
            Verdict::Unclear
        );
    }

    #[test]
    fn lower_bounds_can_only_be_passed() {
        let (low, high) = (mean(100.0, 0.01), mean(150.0, 0.01));
        assert_eq!(verdict(&low, &high, true, (false, true)), Verdict::Improved);
        assert_eq!(verdict(&high, &low, true, (false, true)), Verdict::Unclear);
        assert_eq!(
            verdict(&high, &low, true, (true, false)),
            Verdict::Regressed
        );
        assert_eq!(verdict(&low, &high, true, (true, false)), Verdict::Unclear);
        assert_eq!(verdict(&low, &low, true, (true, true)), Verdict::Unclear);
    }

    #[test]
    fn benjamini_and_hochbergs_own_example() {
        // The fifteen sorted chances of their section 3.2: the first four count at 0.05.
        let chances = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        assert!((largest_chance(&chances, 0.05) - 0.0095).abs() < 1e-12);
        assert!(largest_chance(&[], 0.05) < 0.0);
    }

    proptest! {
        #[test]
        fn never_looser_than_one_test(chances in prop::collection::vec(0.0_f64..=1.0, 1..40)) {
            prop_assert!(largest_chance(&chances, 0.05) <= 0.05);
        }

        #[test]
        fn better_and_worse_are_mirrored(a in 1.0_f64..100.0, b in 1.0_f64..100.0, error in 0.0_f64..0.3) {
            let (a, b) = (mean(a, error), mean(b, error));
            let up = verdict(&a, &b, true, (false, false));
            let down = verdict(&a, &b, false, (false, false));
            let mirrored = match up {
                Verdict::Improved => Verdict::Regressed,
                Verdict::Regressed => Verdict::Improved,
                other => other,
            };
            prop_assert_eq!(down, mirrored);
        }
    }
}
