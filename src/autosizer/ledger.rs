//! What was made and has to be removed, on disk before it is made.
//!
//! Owns one file per run, `RUN.jsonl` in the state folder (`$XDG_STATE_HOME/molotov/autosizer`, by default
//! `~/.local/state/molotov/autosizer`), only appended to and flushed to the disk at every line: which thing is about to
//! be made, and which was removed. The first line names the process that owns the run, so that nobody cleans up behind a
//! run that still goes. The file goes away with the last thing. Holds no secrets: only what removing needs. Written by
//! the targets; read by `autosizer list` and `autosizer gc`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One thing that has to be removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thing {
    /// What it is, which decides who removes it: `process`, `cgroup`, `folder`, `container`, `ec2-instance`,
    /// `security-group`, `s3-prefix` …
    pub kind: String,
    /// Its name or id there, known before it is made: a name we choose, a tag, a client token.
    pub name: String,
    /// What else removing needs: region, socket, endpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Thing {
    /// Without details.
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.into(),
            details: BTreeMap::new(),
        }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// The first: whose run it is.
    Run {
        id: String,
        pid: u32,
        /// Start of that process in clock ticks since boot, by which another one of the same number is told from it.
        start_ticks: u64,
        unix_seconds: u64,
        /// `local`, `container`, `ssm`.
        target: String,
    },
    /// It is about to be made.
    Planned { thing: Thing },
    /// Something about it is known by now (an instance's id): replaces the details of the thing with this kind and name.
    Made { thing: Thing },
    /// It is gone.
    Removed { kind: String, name: String },
}

/// The ledger of a run that goes on in this process.
pub struct Ledger {
    path: PathBuf,
    file: RefCell<Option<File>>,
    things: RefCell<Vec<Thing>>,
}

/// The ledger of some run, as read from disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The run's id.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// `local`, `container`, `ssm`.
    pub target: String,
    /// When it began, in seconds since 1970.
    pub began_unix_seconds: u64,
    /// The process that owns or owned it.
    pub pid: u32,
    /// Whether that process still runs.
    pub is_running: bool,
    /// What is left, in the order of making. Remove it from the last to the first.
    pub things: Vec<Thing>,
}

/// `$XDG_STATE_HOME/molotov/autosizer`, or the same below `~/.local/state`; in the folder for temporary files without a
/// home.
pub fn state_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(set("HOME")?);
        Some(home.join(".local/state"))
    });
    state
        .unwrap_or_else(std::env::temp_dir)
        .join("molotov/autosizer")
}

impl Ledger {
    /// Begins the ledger of a run in `folder`, which is made when missing.
    pub fn begin(folder: &Path, id: &str, target: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{id}.jsonl"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)?;
        let pid = std::process::id();
        let ledger = Self {
            path,
            file: RefCell::new(Some(file)),
            things: RefCell::default(),
        };
        let first = Line::Run {
            id: id.to_owned(),
            pid,
            start_ticks: start_ticks(pid).unwrap_or(0),
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            target: target.to_owned(),
        };
        if let Err(error) = ledger.write(&first) {
            // Nothing was made yet: an empty file would be all that is left.
            let _ = fs::remove_file(&ledger.path);
            return Err(error);
        }
        Ok(ledger)
    }

    /// Goes on with the ledger of a run that has ended, to remove what it left.
    pub(super) fn reopen(entry: &Entry) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(&entry.path)?;
        let ledger = Self {
            path: entry.path.clone(),
            file: RefCell::new(Some(file)),
            things: RefCell::new(entry.things.clone()),
        };
        // The last line may have been cut off.
        if let Some(file) = ledger.file.borrow_mut().as_mut() {
            file.write_all(b"\n")?;
        }
        Ok(ledger)
    }

    /// Writes down a thing before it is made. Nothing may be made when this fails.
    pub fn plan(&self, thing: Thing) -> io::Result<()> {
        self.write(&Line::Planned {
            thing: thing.clone(),
        })?;
        self.things.borrow_mut().push(thing);
        Ok(())
    }

    /// Adds what is known of a planned thing now that it is made: kind and name stay, the details are replaced.
    pub fn made(&self, thing: Thing) -> io::Result<()> {
        self.write(&Line::Made {
            thing: thing.clone(),
        })?;
        replace(&mut self.things.borrow_mut(), thing);
        Ok(())
    }

    /// Writes down that a thing is gone. With the last one the file is removed by [`Ledger::end`].
    pub fn removed(&self, kind: &str, name: &str) {
        self.things
            .borrow_mut()
            .retain(|thing| (thing.kind.as_str(), thing.name.as_str()) != (kind, name));
        // Failing to write it only means that gc finds nothing to remove.
        let _ = self.write(&Line::Removed {
            kind: kind.to_owned(),
            name: name.to_owned(),
        });
    }

    /// What is left.
    pub fn things(&self) -> Vec<Thing> {
        self.things.borrow().clone()
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file when nothing is left; returns whether that is so.
    pub fn end(&self) -> bool {
        let clean = self.things.borrow().is_empty();
        if clean {
            *self.file.borrow_mut() = None;
            let _ = fs::remove_file(&self.path);
        }
        clean
    }

    fn write(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let mut file = self.file.borrow_mut();
        let Some(file) = file.as_mut() else {
            return Ok(());
        };
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

fn replace(things: &mut Vec<Thing>, thing: Thing) {
    let same = |other: &&mut Thing| other.kind == thing.kind && other.name == thing.name;
    match things.iter_mut().find(same) {
        Some(known) => *known = thing,
        None => things.push(thing),
    }
}

/// Start of a process in clock ticks since boot; `None` when there is none, or only a zombie.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// All ledgers in a folder, oldest first. A line that a crash cut off says nothing.
pub fn read_all(folder: &Path) -> io::Result<Vec<Entry>> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for file in files {
        let path = file?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let text = fs::read(&path)?;
            entries.extend(parse(&path, &String::from_utf8_lossy(&text)));
        }
    }
    entries.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(entries)
}

fn parse(path: &Path, text: &str) -> Option<Entry> {
    let id = path.file_stem()?.to_str()?.to_owned();
    let mut entry = Entry {
        id,
        path: path.to_owned(),
        target: String::new(),
        began_unix_seconds: 0,
        pid: 0,
        is_running: false,
        things: Vec::new(),
    };
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Line::Run {
                pid,
                start_ticks: started,
                unix_seconds,
                target,
                ..
            }) => {
                entry.pid = pid;
                entry.target = target;
                entry.began_unix_seconds = unix_seconds;
                entry.is_running = start_ticks(pid) == Some(started);
            }
            Ok(Line::Planned { thing } | Line::Made { thing }) => {
                replace(&mut entry.things, thing);
            }
            Ok(Line::Removed { kind, name }) => entry
                .things
                .retain(|thing| (&thing.kind, &thing.name) != (&kind, &name)),
            // An empty line, or one that a crash cut off.
            Err(_) => {}
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("ledger-{}-{:x}", std::process::id(), fastrand::u64(..));
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn what_is_planned_is_left_until_it_is_removed() {
        let folder = Folder::new();
        let ledger = Ledger::begin(&folder.0, "run-1", "ssm").unwrap();
        ledger.plan(Thing::new("folder", "/a")).unwrap();
        let instance = Thing::new("ec2-instance", "token-1");
        ledger.plan(instance.clone().with("region", "r")).unwrap();
        let known = instance.with("region", "r").with("id", "i-1");
        ledger.made(known.clone()).unwrap();

        let read = read_all(&folder.0).unwrap();
        assert_eq!(read.len(), 1);
        assert!(read[0].is_running);
        assert_eq!(
            (read[0].id.as_str(), read[0].target.as_str()),
            ("run-1", "ssm")
        );
        assert_eq!(read[0].things, [Thing::new("folder", "/a"), known]);
        assert_eq!(read[0].things, ledger.things());

        ledger.removed("ec2-instance", "token-1");
        assert!(!ledger.end());
        ledger.removed("folder", "/a");
        assert!(ledger.end());
        assert!(read_all(&folder.0).unwrap().is_empty());
    }

    #[test]
    fn a_line_cut_off_says_nothing_and_a_dead_owner_is_noticed() {
        let folder = Folder::new();
        let ledger = Ledger::begin(&folder.0, "run-1", "local").unwrap();
        ledger.plan(Thing::new("folder", "/a")).unwrap();
        let path = ledger.path().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let ticks = start_ticks(std::process::id()).unwrap();
        let text = text.replace(&format!("\"start_ticks\":{ticks}"), "\"start_ticks\":1");
        fs::write(&path, text + "{\"event\":\"remov").unwrap();
        let read = read_all(&folder.0).unwrap();
        assert!(!read[0].is_running);
        assert_eq!(read[0].things, [Thing::new("folder", "/a")]);
    }

    #[test]
    fn no_folder_is_no_ledger() {
        assert!(
            read_all(Path::new("/nonexistent/folder"))
                .unwrap()
                .is_empty()
        );
    }
}
