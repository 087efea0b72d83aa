//! Showing what happens.
//!
//! Owns the lines on stderr (`[21 seconds ago] Pulling the image`: how long ago the run began), the progress bar of the
//! step that takes time when stderr is a terminal, and the machine-readable log: one JSON object per line with
//! `unix_seconds`, `elapsed_seconds`, `step`, `event` (`begin`, `note`, `progress`, `done`, `failed`), `text` and
//! `ratio`. Every text passes [`Secrets`]. Called by the flow and by targets.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::secrets::Secrets;

/// Progress is drawn and logged at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
const BAR_CELLS: usize = 24;

/// Shows the steps of a run. Clones show in the same place.
#[derive(Clone)]
pub struct Steps(Rc<Shared>);

struct Shared {
    began: Instant,
    secrets: RefCell<Secrets>,
    state: RefCell<State>,
}

struct State {
    out: Box<dyn Write>,
    is_terminal: bool,
    log: Option<File>,
    /// Whether a progress bar stands on the last line.
    bar: bool,
    last_progress: Option<Instant>,
}

/// One step that has begun. Ends by [`Step::done`] or [`Step::failed`]; dropped without either it was interrupted.
pub struct Step {
    steps: Steps,
    name: &'static str,
    ended: bool,
}

impl Steps {
    /// On stderr; `log` is the file for the machine-readable log, which is made anew.
    pub fn on_stderr(log: Option<&Path>) -> io::Result<Self> {
        let is_terminal = io::stderr().is_terminal();
        Self::new(Box::new(io::stderr()), is_terminal, log)
    }

    /// Anywhere.
    pub fn new(out: Box<dyn Write>, is_terminal: bool, log: Option<&Path>) -> io::Result<Self> {
        Ok(Self(Rc::new(Shared {
            began: Instant::now(),
            secrets: RefCell::default(),
            state: RefCell::new(State {
                out,
                is_terminal,
                log: log.map(File::create).transpose()?,
                bar: false,
                last_progress: None,
            }),
        })))
    }

    /// Hides these values from now on.
    pub fn add_secrets(&self, values: impl IntoIterator<Item = String>) {
        self.0.secrets.borrow_mut().add(values);
    }

    /// A text without secrets.
    pub fn hide(&self, text: &str) -> String {
        self.0.secrets.borrow().hide(text)
    }

    /// Begins a step. `name` is for the machine-readable log: lower case, stable; `text` is the line shown.
    pub fn begin(&self, name: &'static str, text: &str) -> Step {
        self.line(text);
        self.log(name, "begin", text, None);
        Step {
            steps: self.clone(),
            name,
            ended: false,
        }
    }

    /// Shows a line that belongs to no step.
    pub fn note(&self, text: &str) {
        self.line(text);
        self.log("", "note", text, None);
    }

    fn line(&self, text: &str) {
        let text = self.hide(text);
        let ago = ago(self.0.began.elapsed());
        let mut state = self.0.state.borrow_mut();
        state.end_bar();
        for line in text.lines() {
            // Nobody can be told when stderr is closed.
            let _ = writeln!(state.out, "[{ago}] {line}");
        }
        let _ = state.out.flush();
    }

    fn log(&self, step: &str, event: &str, text: &str, ratio: Option<f64>) {
        let text = self.hide(text);
        let elapsed = self.0.began.elapsed();
        let mut state = self.0.state.borrow_mut();
        let Some(log) = &mut state.log else { return };
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut entry = Map::new();
        entry.insert("unix_seconds".into(), json!(rounded(unix)));
        entry.insert("elapsed_seconds".into(), json!(rounded(elapsed)));
        if !step.is_empty() {
            entry.insert("step".into(), json!(step));
        }
        entry.insert("event".into(), json!(event));
        entry.insert("text".into(), json!(text));
        if let Some(ratio) = ratio {
            entry.insert("ratio".into(), json!(ratio));
        }
        let line = Value::Object(entry).to_string() + "\n";
        // A full disk must not end the run.
        let _ = log.write_all(line.as_bytes());
    }
}

impl State {
    fn end_bar(&mut self) {
        if std::mem::take(&mut self.bar) {
            let _ = write!(self.out, "\r\x1b[K");
        }
    }
}

impl Step {
    /// Shows a line that belongs to the step.
    pub fn note(&self, text: &str) {
        self.steps.line(text);
        self.steps.log(self.name, "note", text, None);
    }

    /// Shows how far it has come: `ratio` from 0 to 1 where that is known. May be called as often as one likes. On a
    /// terminal it is a bar that the next line replaces; elsewhere nothing is printed.
    pub fn progress(&self, ratio: Option<f64>, text: &str) {
        let ratio = ratio.map(|ratio| ratio.clamp(0.0, 1.0));
        {
            let mut state = self.steps.0.state.borrow_mut();
            let now = Instant::now();
            let soon = |last: Instant| now.duration_since(last) < PROGRESS_EVERY;
            if state.last_progress.is_some_and(soon) {
                return;
            }
            state.last_progress = Some(now);
            if state.is_terminal {
                let text = self.steps.hide(text);
                let bar = ratio.map(bar).unwrap_or_default();
                let _ = write!(state.out, "\r\x1b[K  {bar}{text}");
                let _ = state.out.flush();
                state.bar = true;
            }
        }
        self.steps.log(self.name, "progress", text, ratio);
    }

    /// It has come to its end. An empty text shows nothing.
    pub fn done(mut self, text: &str) {
        self.ended = true;
        if text.is_empty() {
            self.steps.0.state.borrow_mut().end_bar();
        } else {
            self.steps.line(text);
        }
        self.steps.log(self.name, "done", text, None);
    }

    /// It has failed. The failure itself is shown at the end of the run.
    pub fn failed(mut self, text: &str) {
        self.ended = true;
        self.steps.line(text);
        self.steps.log(self.name, "failed", text, None);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.steps.0.state.borrow_mut().end_bar();
            self.steps.log(self.name, "failed", "not finished", None);
        }
    }
}

fn bar(ratio: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a ratio of a few cells"
    )]
    let full = (ratio * BAR_CELLS as f64) as usize;
    format!(
        "[{}{}] {:3.0} % ",
        "#".repeat(full),
        ".".repeat(BAR_CELLS.saturating_sub(full)),
        ratio * 100.0
    )
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// `now`, `21 seconds ago`, `3 minutes ago`, `1 hour ago`.
fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0 => return "now".to_owned(),
        1..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        _ => (seconds / 3600, "hour"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Page(Rc<RefCell<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    #[test]
    fn times_read_as_people_say_them() {
        let texts: Vec<String> = [0, 1, 21, 119, 120, 3700, 7200]
            .into_iter()
            .map(|seconds| ago(Duration::from_secs(seconds)))
            .collect();
        assert_eq!(
            texts,
            [
                "now",
                "1 second ago",
                "21 seconds ago",
                "119 seconds ago",
                "2 minutes ago",
                "61 minutes ago",
                "2 hours ago"
            ]
        );
    }

    #[test]
    fn plain_lines_have_no_bar_and_no_secret() {
        let page = Page::default();
        let folder = std::env::temp_dir().join(format!("steps-{}", std::process::id()));
        let steps = Steps::new(Box::new(page.clone()), false, Some(&folder)).unwrap();
        steps.add_secrets(["hunter2hunter2".to_owned()]);
        let step = steps.begin("pull", "Pulling with hunter2hunter2");
        step.progress(Some(0.5), "half");
        step.done("Pulled");
        drop(steps.begin("start", "Starting"));
        let log = std::fs::read_to_string(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(
            page.text(),
            "[now] Pulling with ***\n[now] Pulled\n[now] Starting\n"
        );
        let events: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let seen: Vec<&str> = events
            .iter()
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert_eq!(seen, ["begin", "progress", "done", "begin", "failed"]);
        assert!(!log.contains("hunter2"), "{log}");
    }

    #[test]
    fn a_terminal_has_a_bar_that_the_next_line_replaces() {
        let page = Page::default();
        let steps = Steps::new(Box::new(page.clone()), true, None).unwrap();
        let step = steps.begin("pull", "Pulling");
        step.progress(Some(0.5), "3 of 6 layers");
        step.done("Pulled");
        let text = page.text();
        assert!(
            text.contains(
                "\r\x1b[K  [############............]  50 % 3 of 6 layers\r\x1b[K[now] Pulled"
            ),
            "{text:?}"
        );
    }
}
