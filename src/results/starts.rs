//! What became of the starts of a schedule: the figures, and the sentences that say them.
//!
//! Owns their names in JSON and their wording. Filled by `collect`; there is none in a run without a rate.

use serde::{Deserialize, Serialize};

/// Starts of an open model, over all processes: intended = started + not started + waiting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Starts {
    /// `poisson` or `constant`.
    pub shape: String,
    /// What the arrivals were drawn with.
    pub seed: u64,
    /// Workers there could be.
    pub most_workers: u64,
    /// Starts that were due.
    pub intended: u64,
    /// Runs that were started for them.
    pub started: u64,
    /// Starts that were given up: the schedule ended, or was changed, before a worker was free.
    pub not_started: u64,
    /// Starts that wait for a worker; 0 once the run is complete.
    pub waiting: u64,
    /// Runs that started more than 10 ms late.
    pub late: u64,
    /// Those of them for which there was no worker: all were busy.
    pub late_without_worker: u64,
    /// By how much the late ones were late, in the mean.
    pub late_mean_seconds: Option<f64>,
    /// By how much the latest one was.
    pub late_max_seconds: Option<f64>,
}

impl Starts {
    /// Share of the intended starts, 0 to 1; 0 of none.
    pub(super) fn share(&self, starts: u64) -> f64 {
        if self.intended == 0 {
            0.0
        } else {
            starts as f64 / self.intended as f64
        }
    }

    /// The same in words, a sentence each.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut first = format!(
            "{} of {} intended starts were made",
            self.started, self.intended
        );
        let workers = match self.most_workers {
            1 => "the only worker was busy".to_owned(),
            most => format!("all {most} workers were busy"),
        };
        if self.not_started > 0 {
            first = format!(
                "{first}, {} were not: no worker was free in time",
                self.not_started
            );
        }
        let mut sentences = vec![first + "."];
        if let (Some(mean), Some(max)) = (self.late_mean_seconds, self.late_max_seconds) {
            let own = self.late.saturating_sub(self.late_without_worker);
            let mut causes = Vec::new();
            if self.late_without_worker > 0 {
                causes.push(format!(
                    "{} because {workers} (-w)",
                    self.late_without_worker
                ));
            }
            if own > 0 {
                causes.push(format!(
                    "{own} because the generator was late, or new workers were set up"
                ));
            }
            sentences.push(format!(
                "{} started late, by {:.0} ms in the mean and {:.0} ms at most: {}.",
                self.late,
                mean * 1000.0,
                max * 1000.0,
                causes.join(", ")
            ));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_well_takes_one_sentence() {
        let starts = Starts {
            intended: 900,
            started: 900,
            ..Starts::default()
        };
        assert_eq!(
            starts.sentences(),
            ["900 of 900 intended starts were made."]
        );
    }

    #[test]
    fn what_did_not_says_why() {
        let starts = Starts {
            most_workers: 20,
            intended: 900,
            started: 800,
            not_started: 100,
            late: 50,
            late_without_worker: 45,
            late_mean_seconds: Some(0.25),
            late_max_seconds: Some(1.5),
            ..Starts::default()
        };
        assert_eq!(
            starts.sentences(),
            [
                "800 of 900 intended starts were made, 100 were not: no worker was free in time.",
                "50 started late, by 250 ms in the mean and 1500 ms at most: 45 because all 20 workers were busy (-w), 5 \
                 because the generator was late, or new workers were set up."
            ]
        );
        assert!((starts.share(45) - 0.05).abs() < 1e-12);
        assert!(Starts::default().share(3).abs() < 1e-12);
    }
}
