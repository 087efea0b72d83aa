//! How many requests took how long, over the time of the run: what a heat map shows.
//!
//! Owns the cells and their bound: never more than [`MOST_COLUMNS`] columns. When a run outgrows them, two neighbours
//! become one, so the map of a day is no larger than that of ten minutes. Filled by `collect`, read by the report.

use serde::{Deserialize, Serialize};

use crate::metrics::Distribution;

/// Columns of time at most.
const MOST_COLUMNS: usize = 600;

/// Rows to the tenfold: neighbours differ by a quarter.
const ROWS_PER_DECADE: u32 = 10;

/// Counts in cells of time and service time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceTimeMap {
    /// Width of a column, in seconds; the first begins with the run.
    pub column_seconds: f64,
    /// Rows to the tenfold: row `r` has the service times from 10^(r / rows) microseconds up to the next row's.
    pub rows_per_decade: u32,
    /// Of each column the number of the first row that counts anything, followed by the counts from that row on; empty
    /// when nothing ended in that time.
    pub columns: Vec<Vec<u64>>,
}

impl Default for ServiceTimeMap {
    fn default() -> Self {
        Self {
            column_seconds: 1.0,
            rows_per_decade: ROWS_PER_DECADE,
            columns: Vec::new(),
        }
    }
}

impl ServiceTimeMap {
    /// Adds what ended in the second up to `now`, in seconds since the start of the run.
    pub fn add(&mut self, now: f64, fresh: &Distribution) {
        if fresh.count() == 0 || !now.is_finite() {
            return;
        }
        let mut place = self.place(now);
        while place >= MOST_COLUMNS {
            self.halve();
            place = self.place(now);
        }
        if self.columns.len() <= place {
            self.columns.resize(place + 1, Vec::new());
        }
        let rows = f64::from(self.rows_per_decade);
        let counts = fresh.counts().map(|(microseconds, count)| {
            let row = (microseconds.max(1) as f64).log10() * rows;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a logarithm of a number from 1 on"
            )]
            let row = row as u64;
            (row, count)
        });
        if let Some(column) = self.columns.get_mut(place) {
            *column = merged(column, counts);
        }
    }

    fn place(&self, now: f64) -> usize {
        let place = (now / self.column_seconds).ceil() - 1.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 on; what is too large saturates"
        )]
        let place = place.max(0.0) as usize;
        place
    }

    /// Two neighbours become one.
    fn halve(&mut self) {
        self.column_seconds *= 2.0;
        let pairs = self.columns.chunks(2).map(|pair| match pair {
            [one, other] => merged(one, cells(other)),
            rest => rest.concat(),
        });
        self.columns = pairs.collect();
    }
}

/// The rows of a column with their counts.
fn cells(column: &[u64]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let first = column.first().copied().unwrap_or_default();
    let counts = column.get(1..).unwrap_or_default();
    (first..).zip(counts.iter().copied())
}

/// A column with more counts, which come in the order of their rows.
fn merged(column: &[u64], more: impl IntoIterator<Item = (u64, u64)>) -> Vec<u64> {
    let mut all: Vec<(u64, u64)> = cells(column).chain(more).collect();
    all.sort_by_key(|(row, _)| *row);
    let (Some((first, _)), Some((last, _))) = (all.first(), all.last()) else {
        return Vec::new();
    };
    let first = *first;
    let length = usize::try_from(last - first).unwrap_or_default() + 2;
    let mut out = vec![0; length];
    if let Some(head) = out.first_mut() {
        *head = first;
    }
    for (row, count) in all {
        let place = usize::try_from(row - first).unwrap_or_default() + 1;
        if let Some(cell) = out.get_mut(place) {
            *cell += count;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Kind, Recorder};

    fn taken(milliseconds: &[u64]) -> Distribution {
        let mut recorder = Recorder::new();
        let id = recorder.request_id("GET", "h/x");
        for time in milliseconds {
            recorder.record(id, Duration::from_millis(*time), true, 0);
        }
        recorder.distribution(Kind::Request, |_| true)
    }

    fn total(map: &ServiceTimeMap) -> u64 {
        map.columns
            .iter()
            .flat_map(|column| cells(column))
            .map(|(_, count)| count)
            .sum()
    }

    #[test]
    fn times_fall_into_their_rows() {
        let mut map = ServiceTimeMap::default();
        map.add(1.0, &taken(&[1, 1, 10]));
        map.add(3.2, &taken(&[100]));
        map.add(3.9, &taken(&[50]));
        // 1 ms is 10^3 µs, so row 30; 50 ms is 10^4.699.
        assert_eq!(map.columns[0], [30, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(map.columns[1..3], [Vec::<u64>::new(), Vec::new()]);
        assert_eq!(map.columns[3], [46, 1, 0, 0, 1]);
    }

    #[test]
    fn a_day_keeps_its_counts_in_bounds() {
        let mut map = ServiceTimeMap::default();
        let second = taken(&[5, 7]);
        for now in 1..=86_400 {
            map.add(f64::from(now), &second);
        }
        assert_eq!(total(&map), 2 * 86_400);
        assert!(map.columns.len() <= MOST_COLUMNS);
        assert_eq!(map.columns.len(), 338);
        assert!((map.column_seconds - 256.0).abs() < f64::EPSILON);
    }

    #[test]
    fn nothing_adds_nothing() {
        let mut map = ServiceTimeMap::default();
        map.add(7.0, &Distribution::default());
        map.add(f64::NAN, &taken(&[1]));
        assert_eq!(map, ServiceTimeMap::default());
    }
}
