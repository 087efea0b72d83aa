//! The command as a user runs it: the Python it embeds, what it carries, its exit codes and its refusals.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails its test")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

fn molotov() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_molotov"));
    command.env_remove("VIRTUAL_ENV");
    command
}

/// A folder of this test's own below the build folder.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

fn script(name: &str, text: &str) -> PathBuf {
    let path = folder(name).join("loadtest.py");
    fs::write(&path, text).unwrap();
    path
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A virtual environment that says it is of this version; nothing runs its interpreter.
fn environment(name: &str, version: &str) -> PathBuf {
    let path = folder(name);
    fs::create_dir_all(path.join("bin")).unwrap();
    fs::write(path.join("bin/python"), "").unwrap();
    let configuration = format!("home = /usr/bin\nversion = {version}.1\n");
    fs::write(path.join("pyvenv.cfg"), configuration).unwrap();
    path
}

#[test]
fn it_runs_a_scenario_with_the_package_it_carries() {
    let path = script(
        "carried",
        "import sys, molotov, molotov._core
from molotov import scenario
print(molotov.__file__, molotov._core.__spec__.origin, 'MOLOTOV_LAUNCH' in __import__('os').environ)
@scenario()
async def succeed(session):
    pass
",
    );
    let (code, stdout, stderr) = run(molotov().args(["-c", "--single-run"]).arg(path));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        stdout.starts_with("<molotov>/__init__.py built-in False\n"),
        "{stdout}"
    );
    assert!(stdout.contains("SUCCESSES: 1 | FAILURES: 0"), "{stdout}");
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let exits = "from molotov import scenario\nimport sys\n@scenario()\nasync def leave(session):\n    sys.exit(3)\n";
    let path = script("exits", exits);
    assert_eq!(
        run(molotov().args(["-c", "--single-run"]).arg(path)).0,
        Some(3)
    );
    assert_eq!(run(molotov().arg("--no-such-option")).0, Some(2));
    assert_eq!(run(molotov().args(["-c", "missing.py"])).0, Some(1));
}

#[test]
fn by_another_name_it_is_another_command() {
    let (code, stdout, _) = run(molotov().arg0("molotov-report").arg("--help"));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("RESULT.json"), "{stdout}");
    let (code, stdout, _) = run(molotov().arg0("autosizer").args(["run", "--help"]));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("--ready-path"), "{stdout}");
}

#[test]
fn packages_come_from_the_virtual_environment() {
    let path = environment("fitting", env!("MOLOTOV_PYTHON_VERSION"));
    let script = script("prefix", "import sys\nprint(sys.prefix)\n");
    let by_variable = run(molotov().env("VIRTUAL_ENV", &path).arg("-c").arg(&script)).1;
    assert_eq!(by_variable.lines().next(), path.to_str());
    let by_option = run(molotov()
        .arg("--python")
        .arg(path.join("bin/python"))
        .arg("-c")
        .arg(&script))
    .1;
    assert_eq!(by_option.lines().next(), path.to_str());
}

#[test]
fn an_environment_of_another_version_is_refused() {
    let path = environment("other", "3.4");
    let (code, stdout, stderr) = run(molotov().env("VIRTUAL_ENV", &path));
    assert_eq!((code, stdout.as_str()), (Some(126), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("is Python 3.4, but this binary was built for"),
        "{stderr}"
    );
}

#[test]
fn a_path_without_python_is_named() {
    let (code, _, stderr) = run(molotov().args(["--python", "/nowhere"]));
    assert_eq!(code, Some(126));
    let expected = "molotov: --python names /nowhere, where there is no Python interpreter\n";
    assert_eq!(stderr, expected);
}
