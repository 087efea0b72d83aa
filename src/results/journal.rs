//! Writing the results as the run goes, so that a crash or SIGKILL loses at most the last second.
//!
//! Owns two files. `FILE` is a whole, valid document at any time: it is replaced by renaming a finished one over it.
//! `FILE.partial` is the journal: one line of JSON per second, only ever appended to, and removed when the run is
//! complete. While the run goes, `FILE` has the last five minutes of the time series and nothing of the monitor, so that
//! its cost does not grow with the length of the run; it is written once a second, or less often when that would take
//! more than a hundredth of the time. What a run that died left is put together again by [`read`].
//!
//! Nothing is synced to the disk: this is for a process that dies, not for a machine that does. Something that is no
//! plain file (`/dev/stderr`, a pipe) has no journal and is written to once, at the end.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::collect::conclude;
use super::document::{Counts, FormatError, Results};
use super::series::{Point, Series};
use super::starts::Starts;
use crate::monitor::{self, Event, Metric, Sample};

/// How much of the time series is in a document that is written while the run goes.
const RECENT_POINTS: usize = 300;

/// A document is written again after at least this many times what writing it took.
const COST_FACTOR: u32 = 100;

/// The least time between two documents, in seconds.
const EVERY_SECONDS: f64 = 0.9;

/// A second of the run: a line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Which run it belongs to: a journal may have been left by an earlier one.
    run: f64,
    point: Point,
    counts: Counts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts: Option<Starts>,
    monitor: Vec<Seen>,
}

/// What the monitor saw of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    source: String,
    time_seconds: f64,
    values: BTreeMap<Metric, f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    core_busy_ratios: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
}

/// The two files of a run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    lines_path: PathBuf,
    lines: File,
    next_document: f64,
    samples: Vec<Seen>,
}

impl Journal {
    /// Begins both files. `None` for something that is no plain file.
    pub fn create(path: &Path, results: &mut Results) -> io::Result<Option<Self>> {
        // A link stays what it is: what it points to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            // Whether it can be written to is told now, not after an hour.
            OpenOptions::new().append(true).open(&path)?;
            return Ok(None);
        }
        let journal = beside(&path);
        let lines = File::create(&journal)?;
        results.journal = journal
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let mut created = Self {
            path,
            lines_path: journal,
            lines,
            next_document: 0.0,
            samples: Vec::new(),
        };
        if let Err(error) = created.document(results, 0.0) {
            let _ = fs::remove_file(&created.lines_path);
            return Err(error);
        }
        Ok(Some(created))
    }

    /// Takes a sample of the monitor into the next line.
    pub fn sample(&mut self, source: &str, now: Duration, sample: &Sample) {
        self.samples.push(Seen {
            source: source.to_owned(),
            time_seconds: now.as_secs_f64(),
            values: sample.values().collect(),
            core_busy_ratios: sample.core_busy_ratios.clone(),
            events: sample.events.clone(),
        });
    }

    /// Appends a second.
    pub fn second(&mut self, results: &Results, point: Point) -> io::Result<()> {
        let line = Line {
            run: results.meta.started_unix_seconds,
            point,
            counts: results.counts.clone(),
            starts: results.starts.clone(),
            monitor: std::mem::take(&mut self.samples),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.lines.write_all(&text)
    }

    /// Whether it is time to write the document again.
    pub fn is_due(&self, now: f64) -> bool {
        now >= self.next_document
    }

    /// Replaces the document.
    pub fn document(&mut self, results: &mut Results, now: f64) -> io::Result<()> {
        let began = Instant::now();
        let recent = results
            .series
            .0
            .len()
            .checked_sub(RECENT_POINTS)
            .and_then(|first| results.series.0.get(first..))
            .map(<[Point]>::to_vec);
        let whole = recent.map(|recent| std::mem::replace(&mut results.series, Series(recent)));
        let text = serde_json::to_vec(&*results);
        if let Some(whole) = whole {
            results.series = whole;
        }
        let written = replace(&self.path, &text?);
        let cost = began.elapsed() * COST_FACTOR;
        self.next_document = now + cost.as_secs_f64().max(EVERY_SECONDS);
        written
    }

    /// Writes the whole document and removes the journal.
    pub fn finish(self, results: &Results) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(results)?)?;
        fs::remove_file(&self.lines_path)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Writes a file so that nobody ever sees half of it; what is no plain file is written to directly.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.exists() && !path.is_file() {
        return OpenOptions::new()
            .append(true)
            .open(path)?
            .write_all(content);
    }
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(new);
    let written = fs::write(&new, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Writes an output that is made at the end of a run.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace(&path, content.as_ref())
}

/// Why results cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("can't read {}: {source}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The reason the system gave.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{}: {source}", .path.display())]
    Format {
        /// Which one.
        path: PathBuf,
        /// What it holds.
        source: FormatError,
    },
}

/// Reads the results of a run, also of one that died: the rest comes from its journal then.
pub fn read(path: &Path) -> Result<Results, ReadError> {
    let file = |path: &Path, source| ReadError::File {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(|error| file(path, error))?;
    let mut results = Results::from_json(&text).map_err(|source| ReadError::Format {
        path: path.to_owned(),
        source,
    })?;
    if results.complete {
        return Ok(results);
    }
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match File::open(beside(&real)) {
        Ok(lines) => recover(&mut results, BufReader::new(lines)),
        // Moved away without its journal: the document alone has the last minutes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file(&beside(&real), error)),
    }
    conclude(&mut results);
    Ok(results)
}

/// Takes over what a journal has, up to a line that was cut.
fn recover(results: &mut Results, lines: impl BufRead) {
    let mut points = Vec::new();
    let mut monitored: Vec<monitor::Series> = Vec::new();
    for text in lines.lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Line>(&text) else {
            break;
        };
        if line.run.to_bits() != results.meta.started_unix_seconds.to_bits() {
            return;
        }
        results.meta.elapsed_seconds = line.point.time_seconds;
        results.counts = line.counts;
        results.starts = line.starts;
        points.push(line.point);
        for seen in line.monitor {
            let mut sample = Sample::default();
            sample.core_busy_ratios = seen.core_busy_ratios;
            sample.events = seen.events;
            for (metric, value) in seen.values {
                sample.set(metric, value);
            }
            let place = monitored
                .iter()
                .position(|series| series.source == seen.source)
                .unwrap_or_else(|| {
                    monitored.push(monitor::Series::new(&seen.source));
                    monitored.len() - 1
                });
            if let Some(series) = monitored.get_mut(place) {
                let time = Duration::try_from_secs_f64(seen.time_seconds).unwrap_or_default();
                series.push(time, &sample);
            }
        }
    }
    if points.len() >= results.series.0.len() {
        results.series = Series(points);
        results.monitor = monitored;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::{Collector, Meta, Totals, sample};
    use super::*;
    use crate::metrics::Recorder;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("molotov-journal-{}-{number}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn collector() -> Collector {
        let meta = Meta {
            started_unix_seconds: 1_700_000_000.25,
            ..Meta::default()
        };
        Collector::new(meta, Vec::new())
    }

    fn go_on(
        collector: &mut Collector,
        journal: &mut Journal,
        seconds: std::ops::RangeInclusive<u64>,
    ) {
        for second in seconds {
            let counts = Counts {
                started: second * 3,
                succeeded: second * 3 - 1,
                requests: second * 5,
                ..Counts::default()
            };
            let totals = Totals {
                workers: 4,
                counts,
                ..Totals::default()
            };
            let point = collector.second(second as f64, totals, &Recorder::new(), None);
            let mut cpu = Sample::default();
            cpu.set(Metric::CpuCoresUsed, 1.5);
            journal.sample("pid:7", Duration::from_secs(second), &cpu);
            journal.second(collector.results(), point).unwrap();
        }
    }

    #[test]
    fn a_run_that_died_is_put_together_again() {
        let folder = Folder::new();
        let path = folder.0.join("out.json");
        let mut collector = collector();
        let mut journal = Journal::create(&path, collector.results_mut())
            .unwrap()
            .unwrap();
        assert!(!read(&path).unwrap().complete);
        go_on(&mut collector, &mut journal, 1..=400);
        journal.document(collector.results_mut(), 400.0).unwrap();
        go_on(&mut collector, &mut journal, 401..=402);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            Results::from_json(&text).unwrap().series.0.len(),
            RECENT_POINTS
        );
        // It dies in the middle of a line.
        journal
            .lines
            .write_all(b"{\"run\":1700000000.25,\"poi")
            .unwrap();
        drop(journal);
        let results = read(&path).unwrap();
        assert_eq!(results.series, collector.results().series);
        assert_eq!(
            (results.counts.started, results.counts.unfinished),
            (1206, 1)
        );
        assert!((results.meta.elapsed_seconds - 402.0).abs() < 1e-9);
        assert_eq!(results.monitor[0].len(), 402);
        assert!(results.verdict.is_some());
    }

    #[test]
    fn a_finished_run_leaves_one_file() {
        let folder = Folder::new();
        let path = folder.0.join("out.json");
        let mut results = sample::results();
        let mut journal = Journal::create(&path, &mut results).unwrap().unwrap();
        assert_eq!(folder.names(), ["out.json", "out.json.partial"]);
        assert_eq!(results.journal.as_deref(), Some("out.json.partial"));
        assert!(!journal.is_due(0.5) || journal.is_due(1e9));
        results.journal = None;
        journal.document(&mut results, 1.0).unwrap();
        journal.finish(&results).unwrap();
        assert_eq!(folder.names(), ["out.json"]);
        assert_eq!(read(&path).unwrap(), results);
    }

    #[test]
    fn the_journal_of_another_run_is_not_believed() {
        let folder = Folder::new();
        let path = folder.0.join("out.json");
        let mut collector = collector();
        let mut journal = Journal::create(&path, collector.results_mut())
            .unwrap()
            .unwrap();
        go_on(&mut collector, &mut journal, 1..=3);
        collector.results_mut().meta.started_unix_seconds = 1.0;
        journal.document(collector.results_mut(), 3.0).unwrap();
        assert_eq!(read(&path).unwrap().series.0.len(), 3);
        let mut empty = super::super::Results::new(Meta::default());
        journal.document(&mut empty, 4.0).unwrap();
        assert!(read(&path).unwrap().series.0.is_empty());
    }

    #[test]
    fn links_and_devices_stay_what_they_are() {
        let folder = Folder::new();
        let (real, link) = (folder.0.join("real.json"), folder.0.join("link.json"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        let null = Path::new("/dev/null");
        assert!(
            Journal::create(null, &mut sample::results())
                .unwrap()
                .is_none()
        );
        write(null, "gone").unwrap();
        assert!(!null.is_file());
    }

    #[test]
    fn what_cannot_be_written_or_read_is_an_error_at_once() {
        let folder = Folder::new();
        let nowhere = folder.0.join("nowhere/out.json");
        assert!(Journal::create(&nowhere, &mut sample::results()).is_err());
        assert!(
            read(&nowhere)
                .unwrap_err()
                .to_string()
                .contains("can't read")
        );
        let other = folder.0.join("other.json");
        fs::write(&other, "{}").unwrap();
        let error = read(&other).unwrap_err().to_string();
        assert!(
            error.ends_with("other.json: it is no result of a run: \"schema\" is missing"),
            "{error}"
        );
    }
}
