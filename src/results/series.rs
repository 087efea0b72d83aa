//! The run second by second.
//!
//! Owns the points and their columns in JSON: one list per quantity, all of the same length, a gap as `null`. Counts are
//! those of the second, so their sums are the totals. Filled by `collect`, read by the formats and `levels`.

use serde::{Deserialize, Serialize};

/// What happened in about one second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The end of it, in seconds since the start of the run.
    pub time_seconds: f64,
    /// Workers running at that time.
    pub workers: i64,
    /// Runs started.
    pub started: u64,
    /// Runs that ended without an exception.
    pub succeeded: u64,
    /// Runs that raised.
    pub failed: u64,
    /// Runs that were cancelled or lost.
    pub interrupted: u64,
    /// HTTP responses read to their end.
    pub requests: u64,
    /// Bytes of response bodies.
    pub bytes: u64,
    /// Median service time of the requests; of runs, when there are no requests.
    pub p50_seconds: Option<f64>,
    /// Their 95th percentile.
    pub p95_seconds: Option<f64>,
    /// Their 99th percentile.
    pub p99_seconds: Option<f64>,
    /// Time between head and last byte of a response, in the mean; `None` without responses.
    pub transfer_seconds: Option<f64>,
    /// How late the event loop was at worst.
    pub event_loop_lag_seconds: Option<f64>,
    /// Runs that were to be started per second at that time; only where a rate was set, as all that follows.
    #[serde(default)]
    pub target_per_second: Option<f64>,
    /// Starts that became due.
    #[serde(default)]
    pub intended: u64,
    /// Starts that were given up.
    #[serde(default)]
    pub not_started: u64,
    /// Runs that started late.
    #[serde(default)]
    pub late: u64,
    /// Those of them for which all workers were busy.
    #[serde(default)]
    pub late_without_worker: u64,
    /// Median response time of the runs.
    #[serde(default)]
    pub response_p50_seconds: Option<f64>,
    /// Their 95th percentile.
    #[serde(default)]
    pub response_p95_seconds: Option<f64>,
    /// Their 99th percentile.
    #[serde(default)]
    pub response_p99_seconds: Option<f64>,
}

/// All points, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Columns", into = "Columns")]
pub struct Series(pub Vec<Point>);

macro_rules! columns {
    ($($name:ident: $kind:ty,)+; $($paced:ident: $paced_kind:ty,)+) => {
        #[derive(Serialize, Deserialize)]
        struct Columns {
            // What an earlier version did not record yet is missing from its documents.
            $(
                #[serde(default)]
                $name: Vec<$kind>,
            )+
            $(
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                $paced: Vec<$paced_kind>,
            )+
        }

        impl From<Series> for Columns {
            fn from(series: Series) -> Self {
                let paced = if series.is_paced() { series.0.as_slice() } else { &[] };
                Self {
                    $($name: series.0.iter().map(|point| point.$name).collect(),)+
                    $($paced: paced.iter().map(|point| point.$paced).collect(),)+
                }
            }
        }

        impl TryFrom<Columns> for Series {
            type Error = String;

            fn try_from(columns: Columns) -> Result<Self, String> {
                let length = columns.time_seconds.len();
                let mut points = vec![Point::default(); length];
                $(
                    if !columns.$name.is_empty() && columns.$name.len() != length {
                        return Err(format!(
                            "{} has {} values, time_seconds has {length}",
                            stringify!($name),
                            columns.$name.len()
                        ));
                    }
                    for (point, value) in points.iter_mut().zip(columns.$name) {
                        point.$name = value;
                    }
                )+
                $(
                    if !columns.$paced.is_empty() && columns.$paced.len() != length {
                        return Err(format!(
                            "{} has {} values, time_seconds has {length}",
                            stringify!($paced),
                            columns.$paced.len()
                        ));
                    }
                    for (point, value) in points.iter_mut().zip(columns.$paced) {
                        point.$paced = value;
                    }
                )+
                Ok(Self(points))
            }
        }
    };
}

columns! {
    time_seconds: f64,
    workers: i64,
    started: u64,
    succeeded: u64,
    failed: u64,
    interrupted: u64,
    requests: u64,
    bytes: u64,
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    transfer_seconds: Option<f64>,
    event_loop_lag_seconds: Option<f64>,
    ;
    target_per_second: Option<f64>,
    intended: u64,
    not_started: u64,
    late: u64,
    late_without_worker: u64,
    response_p50_seconds: Option<f64>,
    response_p95_seconds: Option<f64>,
    response_p99_seconds: Option<f64>,
}

impl Series {
    /// Whether a rate was set.
    pub fn is_paced(&self) -> bool {
        self.0.iter().any(|point| point.target_per_second.is_some())
    }

    /// Each point with the time since the one before it, in seconds.
    pub fn spans(&self) -> impl Iterator<Item = (&Point, f64)> {
        let before = std::iter::once(0.0).chain(self.0.iter().map(|point| point.time_seconds));
        self.0
            .iter()
            .zip(before)
            .map(|(point, before)| (point, point.time_seconds - before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_columns_of_its_own() {
        let mut series = Series(vec![Point::default(); 2]);
        series.0[1].target_per_second = Some(5.0);
        series.0[1].intended = 4;
        let text = serde_json::to_string(&series).unwrap();
        assert!(text.contains("\"intended\":[0,4]"), "{text}");
        assert_eq!(serde_json::from_str::<Series>(&text).unwrap(), series);
        let short = text.replace("\"intended\":[0,4]", "\"intended\":[4]");
        let error = serde_json::from_str::<Series>(&short).unwrap_err();
        assert!(
            error.to_string().contains("intended has 1 values"),
            "{error}"
        );
    }

    #[test]
    fn columns_of_different_lengths_are_refused() {
        let series = Series(vec![Point::default(); 2]);
        let text = serde_json::to_string(&series).unwrap();
        assert!(text.contains("\"p50_seconds\":[null,null]"), "{text}");
        assert_eq!(serde_json::from_str::<Series>(&text).unwrap(), series);
        assert!(!text.contains("intended"), "{text}");
        let short = text.replace("\"workers\":[0,0]", "\"workers\":[0]");
        let error = serde_json::from_str::<Series>(&short).unwrap_err();
        assert!(
            error.to_string().contains("workers has 1 values"),
            "{error}"
        );
    }
}
