//! The `molotov` command: finds the Python to embed, then becomes `molotov-python`, which embeds it.
//!
//! Two programs, because one that is linked to libpython cannot say what to do when there is none: the
//! dynamic linker ends it before its first instruction. This one is linked to the C library only.

mod launcher;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::{env, io};

use launcher::{Error, Launch, arguments};

/// Exit code when Python cannot be started: the one that shells use for a command that cannot run.
const CANNOT_START: u8 = 126;

fn main() -> ExitCode {
    let Err(error) = start();
    #[expect(
        clippy::print_stderr,
        reason = "the one message of a command that cannot start"
    )]
    {
        eprintln!("molotov: {error}");
    }
    ExitCode::from(CANNOT_START)
}

/// Replaces this process. Returns only when that fails.
fn start() -> Result<std::convert::Infallible, Error> {
    let mut all = env::args_os();
    let name = all.next().unwrap_or_else(|| "molotov".into());
    let (python, rest) = arguments::take_python(all)?;
    let launch = Launch::find(python.as_deref())?;
    let program = env::current_exe()
        .map_err(Error::NoSelf)?
        .with_file_name("molotov-python");
    let mut command = Command::new(&program);
    command.arg0(name).args(rest);
    command.env(launcher::VARIABLE, launch.encode());
    if let Some(path) = launch.library_path() {
        command.env("LD_LIBRARY_PATH", path);
    }
    match command.exec() {
        error if error.kind() == io::ErrorKind::NotFound => Err(Error::Incomplete(program)),
        error => Err(Error::Exec(program, error)),
    }
}
