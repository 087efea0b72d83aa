//! `glances:FILE.csv`: what Glances exported, while it writes or afterwards.
//!
//! Owns the file: the heading, the rows that were added since the last look, which container or the host it is read
//! for. [`Glances`] samples a file that grows; [`history`] and [`rows`] read a finished one by its timestamps. [`csv`]
//! cuts records, [`columns`] knows what they mean, [`dictionary`] reads the old cells. Called by the driver and reports.

mod columns;
mod csv;
mod dictionary;
mod timestamp;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustc_hash::FxHashMap;

use self::columns::{Row, Subject};
use super::counter::Counter;
use super::sample::{Event, Sample};
use super::series::Series;
use super::source::Source;
use super::{Error, Sampler};

/// Rows longer than their heading are cut and shorter ones have gaps, as Glances' own readers take them.
#[derive(Debug)]
pub struct Glances {
    path: PathBuf,
    wanted: Option<String>,
    offset: u64,
    pending: Pending,
    table: Option<Table>,
}

/// Bytes that are no complete record yet.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    text: String,
}

/// The heading, and what is read by it.
#[derive(Debug)]
struct Table {
    positions: FxHashMap<String, usize>,
    subject: Subject,
    counters: [Counter; 4],
    has_row: bool,
}

impl Glances {
    /// Fails when the file cannot be read, has no column that we know, or does not have the wanted container. A file
    /// that is still empty is fine: Glances writes the heading with its first row.
    pub fn new(path: &Path, container: Option<&str>) -> Result<Self, Error> {
        let mut sampler = Self {
            path: path.to_owned(),
            wanted: container.map(str::to_owned),
            offset: 0,
            pending: Pending::default(),
            table: None,
        };
        // Rows that are there already are of the time before the run.
        let (records, _) = sampler.records()?;
        if let Some(table) = &mut sampler.table {
            table.has_row = !records.is_empty();
        }
        Ok(sampler)
    }

    /// The records since the last look, without the heading, and whether the file began anew.
    fn records(&mut self) -> Result<(Vec<Vec<String>>, bool), Error> {
        let mut file = File::open(&self.path).map_err(|source| Error::GlancesFile {
            path: self.path.clone(),
            source,
        })?;
        let length = file.metadata().map_err(Error::read(&self.path))?.len();
        let is_new = length < self.offset;
        if is_new {
            self.offset = 0;
            self.pending = Pending::default();
            self.table = None;
        }
        let mut added = Vec::new();
        file.seek(SeekFrom::Start(self.offset))
            .map_err(Error::read(&self.path))?;
        let read = file
            .read_to_end(&mut added)
            .map_err(Error::read(&self.path))?;
        self.offset += read as u64;
        self.pending.add(&added);
        let mut records = csv::take_records(&mut self.pending.text);
        if self.table.is_none() && !records.is_empty() {
            let heading = records.remove(0);
            self.table = Some(Table::new(&self.path, self.wanted.as_deref(), &heading)?);
        }
        Ok((records, is_new))
    }
}

impl Sampler for Glances {
    /// The newest row since the last look. Glances may write less often than we look: then it is a gap.
    fn sample(&mut self, now: Duration) -> Result<Sample, Error> {
        let (records, is_new) = self.records()?;
        let mut sample = Sample::default();
        if let Some(table) = &mut self.table {
            for record in &records {
                sample = table.sample(record, now);
            }
        }
        if is_new {
            sample.events.push(Event::Restarted);
        }
        Ok(sample)
    }
}

impl Pending {
    /// A character that is cut at the end waits for its rest; bytes that are no text become replacement characters.
    fn add(&mut self, added: &[u8]) {
        self.bytes.extend_from_slice(added);
        let end = match std::str::from_utf8(&self.bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.bytes.len(),
        };
        let whole: Vec<u8> = self.bytes.drain(..end).collect();
        self.text.push_str(&String::from_utf8_lossy(&whole));
    }
}

impl Table {
    fn new(path: &Path, wanted: Option<&str>, heading: &[String]) -> Result<Self, Error> {
        let subjects = columns::subjects(heading);
        let positions = heading
            .iter()
            .enumerate()
            .map(|(position, column)| (column.clone(), position));
        Ok(Self {
            positions: positions.collect(),
            subject: choose(path, wanted, subjects)?,
            counters: [Counter::default(); 4],
            has_row: false,
        })
    }

    fn sample(&mut self, cells: &[String], now: Duration) -> Sample {
        let row = Row {
            positions: &self.positions,
            cells,
            is_first: !std::mem::replace(&mut self.has_row, true),
        };
        self.subject.sample(&row, now, &mut self.counters)
    }
}

/// The wanted subject; without a wish the only container, else the host.
fn choose(path: &Path, wanted: Option<&str>, mut subjects: Vec<Subject>) -> Result<Subject, Error> {
    let containers: Vec<&str> = subjects
        .iter()
        .map(Subject::name)
        .filter(|name| *name != "host")
        .collect();
    let names = containers.join(", ");
    let problem = match wanted {
        Some(name) => format!("it has no container {name:?}"),
        None if containers.len() > 1 => "it has several containers".to_owned(),
        None if subjects.is_empty() => {
            return Err(Error::NoGlancesColumns {
                path: path.to_owned(),
            });
        }
        // Containers stand before the host.
        None => return Ok(subjects.swap_remove(0)),
    };
    let found = wanted.and_then(|name| subjects.iter().position(|subject| subject.name() == name));
    match found {
        Some(position) => Ok(subjects.swap_remove(position)),
        None => Err(Error::GlancesContainer {
            path: path.to_owned(),
            problem,
            names,
        }),
    }
}

/// What a finished file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Its rows, from the first one on.
    pub series: Series,
    /// The time of the first row as the file has it: Glances writes local time without a zone. Empty without rows.
    pub began: String,
}

/// Reads a finished file. Times are those of its `timestamp` column, counted from the first row; a row without one, or
/// with one that goes back, is left out.
pub fn history(path: &Path, container: Option<&str>) -> Result<History, Error> {
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let text = String::from_utf8_lossy(&bytes);
    let source = Source::Glances {
        path: path.to_owned(),
        container: container.map(str::to_owned),
    };
    let mut history = History {
        series: Series::new(source.to_string()),
        began: String::new(),
    };
    for row in finished(path, container, &text)? {
        if history.series.is_empty() {
            history.began = row.timestamp;
        }
        history.series.push(row.since, &row.sample);
    }
    Ok(history)
}

/// The rows of what a Glances wrote whose local time was UTC, with their times as seconds since 1970; `container` may be
/// `host`.
pub fn rows(text: &str, container: &str) -> Result<Vec<(f64, Sample)>, Error> {
    let epoch = timestamp::seconds("1970-01-01 00:00:00").unwrap_or_default();
    let rows = finished(Path::new("the export of Glances"), Some(container), text)?;
    let timed = |row: FinishedRow| ((row.seconds - epoch) as f64, row.sample);
    Ok(rows.into_iter().map(timed).collect())
}

/// A row of a finished file.
struct FinishedRow {
    timestamp: String,
    /// On the calendar of [`timestamp::seconds`].
    seconds: i64,
    /// Since the first row.
    since: Duration,
    sample: Sample,
}

fn finished(path: &Path, container: Option<&str>, text: &str) -> Result<Vec<FinishedRow>, Error> {
    let mut text = format!("{text}\n");
    let mut records = csv::take_records(&mut text).into_iter();
    let Some(heading) = records.next() else {
        return Ok(Vec::new());
    };
    let mut table = Table::new(path, container, &heading)?;
    let mut rows: Vec<FinishedRow> = Vec::new();
    let mut first = None;
    for record in records {
        let position = table.positions.get("timestamp");
        let time = position.and_then(|position| record.get(*position));
        let Some((time, seconds)) = time.and_then(|time| Some((time, timestamp::seconds(time)?)))
        else {
            continue;
        };
        let since = seconds - *first.get_or_insert(seconds);
        if let Ok(since) = u64::try_from(since) {
            let since = Duration::from_secs(since);
            rows.push(FinishedRow {
                timestamp: time.clone(),
                seconds,
                since,
                sample: table.sample(&record, since),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
