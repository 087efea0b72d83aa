//! The recorder: one histogram per scenario and per request name, and what adds up beside it.
//!
//! Owns recording (hot: no allocation, no lock), the cap on request names, and the split between what is new and what
//! a snapshot has carried off. Encoding is `snapshot`'s, text is `table`'s. One per process, called by the workers and
//! the session.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustc_hash::{FxHashMap, FxHasher};

use crate::metrics::distribution::Distribution;
use crate::metrics::{names, snapshot};

/// Request names beyond this many are counted together, under [`OTHER`].
pub const MAX_REQUEST_NAMES: usize = 200;

/// The name of the requests that came after the [`MAX_REQUEST_NAMES`]th name.
pub const OTHER: &str = "other";

/// Times outside one microsecond to one hour are recorded as these.
const SHORTEST_MICROSECONDS: u64 = 1;
const LONGEST_MICROSECONDS: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// URLs remembered with their id, so that repeating one costs no templating. A power of two.
const REMEMBERED_URLS: usize = 64;

/// What a series is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Runs of a scenario.
    Scenario,
    /// Runs of a scenario from when they were to start; only where a rate is set.
    Response,
    /// HTTP requests of one method and path template.
    Request,
}

impl Kind {
    /// The word for it in rows and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scenario => "scenario",
            Self::Response => "response",
            Self::Request => "request",
        }
    }
}

/// A series to record into. Valid for the recorder that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(u32);

/// Everything known of some recordings: mergeable without loss.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) histogram: Histogram<u64>,
    pub(super) failed: u64,
    pub(super) bytes: u64,
    pub(super) sum_microseconds: u64,
    pub(super) min_microseconds: u64,
    pub(super) max_microseconds: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "three significant digits are always valid"
        )]
        let histogram = Histogram::new(SIGNIFICANT_DIGITS).expect("a valid precision");
        Self {
            histogram,
            failed: 0,
            bytes: 0,
            sum_microseconds: 0,
            min_microseconds: u64::MAX,
            max_microseconds: 0,
        }
    }

    fn record(&mut self, service_time: Duration, ok: bool, bytes: u64) {
        // Not `as_micros`: its 128-bit division costs more than the rest of this function.
        let microseconds = service_time
            .as_secs()
            .saturating_mul(1_000_000)
            .saturating_add(u64::from(service_time.subsec_micros()))
            .clamp(SHORTEST_MICROSECONDS, LONGEST_MICROSECONDS);
        // The histogram grows by itself, and an hour is far below what it can grow to.
        let recorded = self.histogram.record(microseconds);
        debug_assert!(recorded.is_ok(), "{recorded:?}");
        self.failed += u64::from(!ok);
        self.bytes = self.bytes.saturating_add(bytes);
        self.sum_microseconds = self.sum_microseconds.saturating_add(microseconds);
        self.min_microseconds = self.min_microseconds.min(microseconds);
        self.max_microseconds = self.max_microseconds.max(microseconds);
    }

    pub(super) fn add(&mut self, other: &Self) {
        let added = self.histogram.add(&other.histogram);
        debug_assert!(added.is_ok(), "{added:?}");
        self.failed = self.failed.saturating_add(other.failed);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sum_microseconds = self.sum_microseconds.saturating_add(other.sum_microseconds);
        self.min_microseconds = self.min_microseconds.min(other.min_microseconds);
        self.max_microseconds = self.max_microseconds.max(other.max_microseconds);
    }

    /// At most this much was needed by that share (0 to 1) of them, in microseconds.
    pub(super) fn quantile(&self, quantile: f64) -> u64 {
        // A histogram answers with the upper end of a bucket, which may lie above anything measured.
        let value = self.histogram.value_at_quantile(quantile);
        value.min(self.max_microseconds).max(self.min_microseconds)
    }

    /// Back to nothing, keeping the histogram's memory.
    fn clear(&mut self) {
        self.histogram.reset();
        self.failed = 0;
        self.bytes = 0;
        self.sum_microseconds = 0;
        self.min_microseconds = u64::MAX;
        self.max_microseconds = 0;
    }
}

#[derive(Debug)]
struct Series {
    kind: Kind,
    name: String,
    /// Recorded here since the last snapshot.
    fresh: Tally,
    /// Carried off by snapshots, or merged from other processes. Most processes never need it.
    settled: Option<Box<Tally>>,
}

impl Series {
    fn settle(&mut self, tally: &Tally) {
        self.settled
            .get_or_insert_with(|| Box::new(Tally::new()))
            .add(tally);
    }

    fn total(&self) -> Tally {
        let mut total = self.fresh.clone();
        if let Some(settled) = &self.settled {
            total.add(settled);
        }
        total
    }
}

/// One line of results. Times are service times: from the sending of a request (or the start of a run) to its end; of
/// [`Kind::Response`], from when a run was to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Scenario, response or request.
    pub kind: Kind,
    /// The scenario's name, or `METHOD host/path` with identifiers as `{id}`.
    pub name: String,
    /// How many were recorded.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The arithmetic mean.
    pub mean: Duration,
    /// The shortest.
    pub min: Duration,
    /// Half took at most this long.
    pub p50: Duration,
    /// 90 % took at most this long.
    pub p90: Duration,
    /// 95 % took at most this long.
    pub p95: Duration,
    /// 99 % took at most this long.
    pub p99: Duration,
    /// 99.9 % took at most this long.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
    /// Bytes of response bodies.
    pub bytes: u64,
}

impl Row {
    fn new(kind: Kind, name: String, tally: &Tally) -> Self {
        let count = tally.histogram.len();
        let quantile = |quantile: f64| Duration::from_micros(tally.quantile(quantile));
        Self {
            kind,
            name,
            count,
            failed: tally.failed,
            mean: Duration::from_micros(tally.sum_microseconds.checked_div(count).unwrap_or(0)),
            min: Duration::from_micros(tally.min_microseconds),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: Duration::from_micros(tally.max_microseconds),
            bytes: tally.bytes,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let rank = |row: &Self| match row.kind {
            Kind::Scenario | Kind::Response => (row.kind, false, 0),
            Kind::Request => (row.kind, row.name == OTHER, u64::MAX - row.count),
        };
        let ranks = rank(self).cmp(&rank(other));
        ranks.then_with(|| self.name.cmp(&other.name))
    }
}

/// A URL as it was asked for, with the id it got.
#[derive(Debug, Clone, Default)]
struct Remembered {
    hash: u64,
    method: String,
    host: String,
    path: String,
    id: Option<Id>,
}

/// Records service times by scenario and by request name. 3 significant digits from 1 µs to 1 h.
#[derive(Debug)]
pub struct Recorder {
    series: Vec<Series>,
    scenarios: FxHashMap<String, Id>,
    responses: FxHashMap<String, Id>,
    requests: FxHashMap<String, Id>,
    remembered: Box<[Remembered]>,
    scratch: String,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder with nothing in it.
    pub fn new() -> Self {
        Self {
            series: Vec::new(),
            scenarios: FxHashMap::default(),
            responses: FxHashMap::default(),
            requests: FxHashMap::default(),
            remembered: vec![Remembered::default(); REMEMBERED_URLS].into_boxed_slice(),
            scratch: String::new(),
        }
    }

    /// Where runs of that scenario are recorded.
    pub fn scenario_id(&mut self, name: &str) -> Id {
        self.series_id(Kind::Scenario, name)
    }

    /// Where response times of that scenario are recorded: of its runs, from when they were to start.
    pub fn response_id(&mut self, scenario: &str) -> Id {
        self.series_id(Kind::Response, scenario)
    }

    /// Where requests of that method to that host and path are recorded. See [`request_id_of`](Self::request_id_of);
    /// a scheme in front is ignored.
    pub fn request_id(&mut self, method: &str, host_and_path: &str) -> Id {
        let rest = host_and_path
            .split_once("://")
            .map_or(host_and_path, |(_, rest)| rest);
        let path = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(path);
        self.request_id_of(method, host, path)
    }

    /// Where requests of that method to that host (with its port) and path are recorded. The path is templated: query
    /// dropped, identifiers as `{id}`. Asking again for the same URL is cheap and does not allocate.
    pub fn request_id_of(&mut self, method: &str, host: &str, path: &str) -> Id {
        let mut hasher = FxHasher::default();
        (method, host, path).hash(&mut hasher);
        let hash = hasher.finish();
        // Fx leaves its good bits at the top.
        let place = (hash >> 40) as usize % REMEMBERED_URLS;
        if let Some(Remembered {
            hash: seen,
            method: m,
            host: h,
            path: p,
            id: Some(id),
        }) = self.remembered.get(place)
            && *seen == hash
            && m == method
            && h == host
            && p == path
        {
            return *id;
        }
        let mut name = std::mem::take(&mut self.scratch);
        names::template(method, host, path, &mut name);
        let id = self.series_id(Kind::Request, &name);
        self.scratch = name;
        if let Some(remembered) = self.remembered.get_mut(place) {
            remembered.hash = hash;
            for (text, value) in [
                (&mut remembered.method, method),
                (&mut remembered.host, host),
                (&mut remembered.path, path),
            ] {
                text.clear();
                text.push_str(value);
            }
            remembered.id = Some(id);
        }
        id
    }

    fn series_id(&mut self, kind: Kind, name: &str) -> Id {
        let known = match kind {
            Kind::Scenario => &mut self.scenarios,
            Kind::Response => &mut self.responses,
            Kind::Request => &mut self.requests,
        };
        if let Some(id) = known.get(name) {
            return *id;
        }
        let full = kind == Kind::Request
            && known.len() - usize::from(known.contains_key(OTHER)) >= MAX_REQUEST_NAMES;
        if full && name != OTHER {
            return self.series_id(kind, OTHER);
        }
        // A script has a few scenarios and at most 201 request names: this cannot overflow.
        let id = Id(u32::try_from(self.series.len()).unwrap_or(u32::MAX));
        known.insert(name.to_owned(), id);
        self.series.push(Series {
            kind,
            name: name.to_owned(),
            fresh: Tally::new(),
            settled: None,
        });
        id
    }

    /// Records one run or request. `bytes` is the size of the response body. Does not allocate, except when a time is
    /// longer than any before it.
    #[inline]
    pub fn record(&mut self, id: Id, service_time: Duration, ok: bool, bytes: u64) {
        if let Some(series) = self.series.get_mut(id.0 as usize) {
            series.fresh.record(service_time, ok, bytes);
        }
    }

    /// What was recorded here since the last snapshot, for another recorder's [`merge`](Self::merge). This recorder
    /// keeps it too; what it merged itself is not passed on.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let fresh = || {
            self.series
                .iter()
                .filter(|series| !series.fresh.histogram.is_empty())
        };
        let blob = snapshot::encode(
            fresh().count(),
            fresh().map(|series| (series.kind, series.name.as_str(), &series.fresh)),
        );
        for series in &mut self.series {
            if !series.fresh.histogram.is_empty() {
                let mut fresh = std::mem::replace(&mut series.fresh, Tally::new());
                series.settle(&fresh);
                fresh.clear();
                series.fresh = fresh;
            }
        }
        blob
    }

    /// Adds another recorder's snapshot. Nothing is added when it is corrupt.
    pub fn merge(&mut self, blob: &[u8]) -> Result<(), snapshot::CorruptSnapshot> {
        for (kind, name, tally) in snapshot::decode(blob)? {
            let id = self.series_id(kind, &name);
            if let Some(series) = self.series.get_mut(id.0 as usize) {
                series.settle(&tally);
            }
        }
        Ok(())
    }

    /// All results: scenarios by name, then requests, the most frequent first and [`OTHER`] last.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.totals().map(|(row, _)| row).collect();
        rows.sort_by(Row::order);
        rows
    }

    /// The same, each with all of its recordings as a snapshot of its own, for [`merge`](Self::merge).
    pub fn rows_with_snapshots(&self) -> Vec<(Row, Vec<u8>)> {
        let mut rows: Vec<(Row, Vec<u8>)> = self
            .totals()
            .map(|(row, total)| {
                let alone = std::iter::once((row.kind, row.name.as_str(), &total));
                let blob = snapshot::encode(1, alone);
                (row, blob)
            })
            .collect();
        rows.sort_by(|(a, _), (b, _)| a.order(b));
        rows
    }

    fn totals(&self) -> impl Iterator<Item = (Row, Tally)> {
        let all = self.series.iter().map(|series| (series, series.total()));
        all.filter(|(_, total)| !total.histogram.is_empty())
            .map(|(series, total)| {
                let row = Row::new(series.kind, series.name.clone(), &total);
                (row, total)
            })
    }

    /// Everything recorded for the series of that kind whose name is `wanted`, as one distribution.
    pub fn distribution(&self, kind: Kind, wanted: impl Fn(&str) -> bool) -> Distribution {
        let mut all = Distribution::default();
        let chosen = |series: &&Series| series.kind == kind && wanted(&series.name);
        for series in self.series.iter().filter(chosen) {
            all.add(&series.fresh);
            if let Some(settled) = &series.settled {
                all.add(settled);
            }
        }
        all
    }

    /// The service times of all requests, in microseconds. Of runs, when there was no request.
    pub fn service_times(&self) -> Histogram<u64> {
        let requests = self.distribution(Kind::Request, |_| true);
        if requests.count() == 0 {
            self.distribution(Kind::Scenario, |_| true).into_histogram()
        } else {
            requests.into_histogram()
        }
    }

    /// The response times of all runs, in microseconds; nothing without a rate.
    pub fn response_times(&self) -> Histogram<u64> {
        self.distribution(Kind::Response, |_| true).into_histogram()
    }

    /// How many requests took longer than `limit`, and how many there were. Of runs, when there was no request.
    pub fn slower_than(&self, limit: Duration) -> (u64, u64) {
        let limit = u64::try_from(limit.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let of = |kind: Kind| {
            let tallies = self
                .series
                .iter()
                .filter(move |series| series.kind == kind)
                .flat_map(|series| std::iter::once(&series.fresh).chain(series.settled.as_deref()));
            tallies.fold((0, 0), |(slower, all), tally| {
                // Counting down from the top touches less than half of the buckets.
                let fast_enough = limit > tally.max_microseconds;
                let slow = if fast_enough {
                    0
                } else {
                    tally.histogram.count_between(limit, u64::MAX)
                };
                (slower + slow, all + tally.histogram.len())
            })
        };
        match of(Kind::Request) {
            (_, 0) => of(Kind::Scenario),
            requests => requests,
        }
    }
}

#[cfg(test)]
mod tests;
