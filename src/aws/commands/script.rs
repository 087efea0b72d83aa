//! The text that an instance gets.
//!
//! Owns the wrapping of a script: base64, so that nothing in it is touched by a shell, by SSM's `{{ }}` or by the joining
//! of lines; run at most once per run and step; and a last line by which a cut-off output is told from a whole one.
//! Called by the sending and by the reading of commands.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Command;

/// Begins the last line; the exit code follows.
const MARKER: &str = "__sizer_end";

/// Where steps leave their results on the instance, unless `AUTOSIZER_FOLDER` is set there: in memory, because steps have
/// to work with a full disk too.
pub const NODE_FOLDER: &str = "/run/autosizer";

/// Where they are left instead, in this order, where nothing can be made there: by somebody who is not root, or where
/// systemd's folder is missing. One that belongs to somebody else is not used: anybody may make a folder in these.
const OTHER_FOLDERS: &str = "/dev/shm/autosizer /var/tmp/autosizer";

/// Room that results need: those of nearly all steps fit into it.
const ROOM_BYTES: u32 = 65_536;

/// An output, with or without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// All of it, and the script's exit code.
    Whole(String, i32),
    Part(String),
}

/// What goes into the document's `commands`.
///
/// Who finds the step's lock taken waits for the result of whoever took it and repeats that; the lock is a symbolic link
/// because making one, with the owner's number in it, is a single act. Without room for results the script runs all the
/// same: then a second delivery would run it again, which every script of ours bears. 194 is taken away: the agent
/// restarts the machine for it.
pub(super) fn lines(command: &Command<'_>) -> Vec<String> {
    let inner = STANDARD.encode(command.script);
    let mut text = String::new();
    let _ = write!(
        text,
        r#"umask 077
: "${{HOME:=/root}}"
PATH=${{PATH:-/usr/bin}}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for base in "${{AUTOSIZER_FOLDER:-{NODE_FOLDER}}}" {OTHER_FOLDERS}; do
  mkdir -p "$base" 2>/dev/null && [ ! -L "$base" ] && [ -O "$base" ] && [ -w "$base" ] && break
done
AUTOSIZER_FOLDER=$base
export HOME PATH AUTOSIZER_FOLDER
d="$base/{run}/{step}"
script=$(echo {inner} | base64 -d)
mkdir -p "$d" 2>/dev/null && head -c {ROOM_BYTES} /dev/zero 2>/dev/null >"$d/room" && has_room=1 || has_room=
rm -f "$d/room"
if [ -z "$has_room" ]; then
  sh -euc "$script" </dev/null
  rc=$?
  [ "$rc" -eq 194 ] && rc=193
elif ln -s "$$" "$d/lock" 2>/dev/null; then
  sh -euc "$script" </dev/null >"$d/out" 2>"$d/err"
  rc=$?
  [ "$rc" -eq 194 ] && rc=193
  {{ echo "$rc" >"$d/rc.new" && mv "$d/rc.new" "$d/rc"; }} 2>/dev/null
else
  while [ ! -e "$d/rc" ] && kill -0 "$(readlink "$d/lock")" 2>/dev/null; do sleep 1; done
  rc=$(cat "$d/rc" 2>/dev/null || echo 75)
fi
if [ -n "$has_room" ]; then
  cat "$d/err" >&2 2>/dev/null
  cat "$d/out" 2>/dev/null
fi
printf '\n{MARKER} %s\n' "$rc"
exit "$rc"
"#,
        run = command.run,
        step = command.step,
    );
    vec![format!("echo {} | base64 -d | sh", STANDARD.encode(text))]
}

/// Takes the marker off.
pub(super) fn unmark(stdout: &str) -> Marked {
    let body = stdout.trim_end();
    let (before, last) = body.rsplit_once('\n').unwrap_or(("", body));
    let code = last
        .strip_prefix(MARKER)
        .and_then(|code| code.trim().parse().ok());
    match code {
        Some(code) => Marked::Whole(before.to_owned(), code),
        None => Marked::Part(stdout.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Process;
    use std::time::Duration;

    struct Node(std::path::PathBuf);

    impl Node {
        fn new() -> Self {
            let name = format!("node-{}-{:x}", std::process::id(), fastrand::u64(..));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        /// What the instance would do with the step's text.
        fn text(&self, step: &str, script: &str) -> String {
            let command = Command {
                instance: "i-1",
                run: "r1",
                step,
                script,
                limit: Duration::from_mins(1),
                delivery: Duration::from_secs(30),
                output: None,
            };
            let line = lines(&command).remove(0);
            let encoded = line.split(' ').nth(1).unwrap();
            let text = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            text.replace(NODE_FOLDER, self.0.to_str().unwrap())
        }

        fn run(&self, step: &str, script: &str) -> (Option<i32>, String, String) {
            let output = Process::new("sh")
                .args(["-c", &self.text(step, script)])
                .output()
                .unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (
                output.status.code(),
                text(output.stdout),
                text(output.stderr),
            )
        }
    }

    impl Drop for Node {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_step_runs_once_and_its_result_is_repeated() {
        let node = Node::new();
        let script = format!(
            "echo x >>{0}/count; echo out; echo err >&2; exit 3",
            node.0.display()
        );
        let first = node.run("s", &script);
        assert_eq!(
            first,
            (
                Some(3),
                "out\n\n__sizer_end 3\n".to_owned(),
                "err\n".to_owned()
            )
        );
        assert_eq!(node.run("s", &script), first);
        let count = std::fs::read_to_string(node.0.join("count")).unwrap();
        assert_eq!(count, "x\n");
    }

    #[test]
    fn the_second_of_two_at_once_waits_for_the_first() {
        let node = Node::new();
        let text = node.text("s", "sleep 0.3; echo done");
        let start = || {
            Process::new("sh")
                .args(["-c", &text])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let (one, other) = (start(), start());
        for process in [one, other] {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success());
            assert_eq!(output.stdout, b"done\n\n__sizer_end 0\n");
        }
    }

    #[test]
    fn the_first_failure_ends_a_script_and_no_exit_restarts_the_machine() {
        let node = Node::new();
        assert_eq!(node.run("a", "false\necho no").1, "\n__sizer_end 1\n");
        assert_eq!(node.run("b", "echo $unset").0, Some(2));
        assert_eq!(node.run("c", "exit 194").0, Some(193));
    }

    #[test]
    fn a_script_runs_without_room_for_its_results() {
        let node = Node::new();
        let text = node.text("s", "echo out; echo err >&2; exit 3");
        // A file stands where the folder would be: nothing can be written there, by nobody.
        let text = ["/dev/shm", "/var/tmp", node.0.to_str().unwrap()]
            .iter()
            .fold(text, |text, folder| text.replace(folder, "/dev/null"));
        let output = Process::new("sh").args(["-c", &text]).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"out\n\n__sizer_end 3\n");
        assert_eq!(output.stderr, b"err\n");
    }

    #[test]
    fn another_folder_is_taken_where_nothing_can_be_made() {
        let node = Node::new();
        let other = node.0.join("other");
        let text = node.text("s", "echo \"$AUTOSIZER_FOLDER\"");
        let text = text
            .replace(&format!(":-{}}}", node.0.display()), ":-/dev/null}")
            .replace("/dev/shm/autosizer", other.to_str().unwrap())
            .replace("/var/tmp/autosizer", node.0.join("last").to_str().unwrap());
        // Neither a home nor a path is needed.
        let output = Process::new("/bin/sh")
            .args(["-c", &text])
            .env_clear()
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, format!("{}\n\n__sizer_end 0\n", other.display()));
        assert!(other.join("r1/s/rc").exists());
        // A link that somebody else may have put there is not followed.
        std::fs::remove_dir_all(&other).unwrap();
        std::os::unix::fs::symlink("/tmp", &other).unwrap();
        let output = Process::new("/bin/sh")
            .args(["-c", &text])
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("/last\n"), "{printed}");
    }

    #[test]
    fn nothing_in_a_script_is_touched() {
        let node = Node::new();
        let nasty = "printf '%s' '$(touch x) `id` {{ssm:secret}} \\n \" ä'";
        assert_eq!(
            node.run("a", nasty).1,
            "$(touch x) `id` {{ssm:secret}} \\n \" ä\n__sizer_end 0\n"
        );
    }

    #[test]
    fn a_cut_output_is_noticed() {
        assert_eq!(
            unmark("a\nb\n\n__sizer_end 0\n"),
            Marked::Whole("a\nb\n".to_owned(), 0)
        );
        assert_eq!(unmark("\n__sizer_end 1"), Marked::Whole(String::new(), 1));
        assert_eq!(
            unmark("a\r\n__sizer_end 3\r\n "),
            Marked::Whole("a\r".to_owned(), 3)
        );
        assert_eq!(unmark("a\nb"), Marked::Part("a\nb".to_owned()));
        assert_eq!(
            unmark("a\n__sizer_end"),
            Marked::Part("a\n__sizer_end".to_owned())
        );
        assert_eq!(unmark(""), Marked::Part(String::new()));
    }
}
