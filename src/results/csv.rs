//! The time series as CSV: one line per second, for spreadsheets and charts.
//!
//! Owns the columns. Times are milliseconds, as people plot them; what was monitored follows, one column per source and
//! metric, with the last sample of that second. Made from the document alone.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::document::Results;
use crate::monitor::{Metric, Series};

const COLUMNS: &str = "time_seconds,workers,started,succeeded,failed,interrupted,requests,bytes,requests_per_second,\
                       p50_ms,p95_ms,p99_ms,event_loop_lag_ms";

/// What follows where a rate was set.
const PACED: &str =
    ",target_per_second,intended,not_started,late,response_p50_ms,response_p95_ms,response_p99_ms";

impl Results {
    /// The run second by second. A gap is an empty cell; lines end with CR LF (RFC 4180).
    pub fn to_csv(&self) -> String {
        let monitored: Vec<(String, HashMap<u64, f64>)> = self
            .monitor
            .iter()
            .flat_map(|series| series.metrics().map(move |metric| (series, metric)))
            .map(|(series, metric)| {
                let title = format!("{}.{}", series.source, metric.name());
                (title, by_second(series, metric))
            })
            .collect();
        let is_paced = self.series.is_paced();
        let mut out = COLUMNS.to_owned();
        if is_paced {
            out.push_str(PACED);
        }
        for (title, _) in &monitored {
            out.push(',');
            out.push_str(&cell(title));
        }
        out.push_str("\r\n");
        for (point, seconds) in self.series.spans() {
            let rate = if seconds > 0.0 {
                format!("{:.1}", point.requests as f64 / seconds)
            } else {
                String::new()
            };
            let _ = write!(
                out,
                "{:.3},{},{},{},{},{},{},{},{rate}",
                point.time_seconds,
                point.workers,
                point.started,
                point.succeeded,
                point.failed,
                point.interrupted,
                point.requests,
                point.bytes,
            );
            times(
                &mut out,
                &[
                    point.p50_seconds,
                    point.p95_seconds,
                    point.p99_seconds,
                    point.event_loop_lag_seconds,
                ],
            );
            if is_paced {
                out.push(',');
                if let Some(target) = point.target_per_second {
                    let _ = write!(out, "{target}");
                }
                let _ = write!(
                    out,
                    ",{},{},{}",
                    point.intended, point.not_started, point.late
                );
                times(
                    &mut out,
                    &[
                        point.response_p50_seconds,
                        point.response_p95_seconds,
                        point.response_p99_seconds,
                    ],
                );
            }
            let second = whole(point.time_seconds);
            for (_, values) in &monitored {
                out.push(',');
                if let Some(value) = values.get(&second) {
                    let _ = write!(out, "{value}");
                }
            }
            out.push_str("\r\n");
        }
        out
    }
}

fn times(out: &mut String, times: &[Option<f64>]) {
    for time in times {
        out.push(',');
        if let Some(seconds) = time {
            let _ = write!(out, "{:.3}", seconds * 1000.0);
        }
    }
}

fn by_second(series: &Series, metric: Metric) -> HashMap<u64, f64> {
    series
        .points(metric)
        .filter_map(|(time, value)| Some((whole(time), value?)))
        .collect()
}

/// The second that a time belongs to. The monitor and the run look at slightly different times: the nearest counts.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a run, not below 0"
)]
fn whole(seconds: f64) -> u64 {
    seconds.max(0.0).round() as u64
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn a_rate_has_columns_of_its_own() {
        let mut results = sample::results();
        results.series.0[0].target_per_second = Some(12.5);
        results.series.0[0].intended = 10;
        results.series.0[0].response_p95_seconds = Some(0.25);
        let csv = results.to_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].contains("lag_ms,target_per_second,intended,"));
        assert!(
            lines[1].contains(",2.000,12.5,10,0,0,,250.000,,"),
            "{}",
            lines[1]
        );
        let cells = |line: &str| line.split(',').count();
        assert!(
            lines.iter().all(|line| cells(line) == cells(lines[0])),
            "{csv}"
        );
    }

    #[test]
    fn one_line_per_second_and_as_many_cells_in_each() {
        let mut results = sample::results();
        results.monitor[1].source = "glances:a,\"b\".csv".to_owned();
        let csv = results.to_csv();
        let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 11);
        assert!(
            lines[0].contains(",\"glances:a,\"\"b\"\".csv.cpu_cores_used\","),
            "{}",
            lines[0]
        );
        let cells = |line: &str| line.split(',').count();
        // The quoted titles have a comma each.
        assert_eq!(cells(lines[0]) - 4, cells(lines[1]));
        assert!(
            lines
                .iter()
                .skip(1)
                .all(|line| cells(line) == cells(lines[1])),
            "{csv}"
        );
        assert!(
            lines[1].starts_with("1.000,4,10,9,1,0,20,0,20.0,,,,2.000,0.4,2,"),
            "{}",
            lines[1]
        );
    }
}
