//! What the path of an interpreter or of a virtual environment stands for.
//!
//! A virtual environment says in its `pyvenv.cfg` what it is; any other interpreter is run once and asked.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Error, built};

/// What an interpreter is asked, one answer per line.
const QUESTIONS: &str = "import sys, sysconfig as s; print('%d.%d' % sys.version_info[:2]); print(sys.base_prefix); \
     print(sys.executable); print(sys.prefix != sys.base_prefix); print(s.get_config_var('LIBDIR') or '')";

/// Where a path came from, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// `--python`
    Option,
    /// `VIRTUAL_ENV`
    Variable,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Option => "--python",
            Self::Variable => "VIRTUAL_ENV",
        })
    }
}

/// One Python as found on the disk.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The interpreter, by the path that keeps it in its environment (links are not followed).
    pub(crate) executable: PathBuf,
    /// `sys.base_prefix`
    pub(crate) base: PathBuf,
    /// `major.minor`
    pub(crate) version: String,
    /// Whether it only adds packages to `base`.
    pub(crate) is_virtual: bool,
    /// Its libpython, where it is known.
    pub(crate) library: Option<PathBuf>,
}

impl Environment {
    /// Reads what `path` is: a folder with `bin/python`, an interpreter, or the name of one on `PATH`.
    pub(crate) fn read(path: &OsStr, origin: Origin) -> Result<Self, Error> {
        let executable = locate(path).ok_or_else(|| Error::NoInterpreter {
            origin,
            path: path.into(),
        })?;
        match Self::from_configuration(&executable) {
            Some(environment) => Ok(environment),
            None => Self::ask(&executable),
        }
    }

    /// A virtual environment, by its `pyvenv.cfg` alone.
    fn from_configuration(executable: &Path) -> Option<Self> {
        let bin = executable.parent()?;
        let text = [bin.parent()?, bin]
            .iter()
            .find_map(|folder| fs::read_to_string(folder.join("pyvenv.cfg")).ok())?;
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                key.trim()
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let version = value("version_info").or_else(|| value("version"))?;
        let mut numbers = version.split('.');
        Some(Self {
            executable: executable.to_owned(),
            base: Path::new(&value("home")?).parent()?.to_owned(),
            version: format!("{}.{}", numbers.next()?, numbers.next()?),
            is_virtual: true,
            library: None,
        })
    }

    /// Runs the interpreter.
    pub(crate) fn ask(executable: &Path) -> Result<Self, Error> {
        let broken = |reason: String| Error::Broken {
            path: executable.to_owned(),
            reason,
        };
        let output = Command::new(executable)
            .args(["-I", "-c", QUESTIONS])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| broken(error.to_string()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(broken(
                text.lines().last().unwrap_or("it failed").to_owned(),
            ));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut answers = text.lines();
        let mut answer = || {
            answers
                .next()
                .ok_or_else(|| broken("it does not answer".to_owned()))
        };
        Ok(Self {
            version: answer()?.to_owned(),
            base: answer()?.into(),
            // Not the path that was run, which may be a wrapper script of a version manager.
            executable: answer()?.into(),
            is_virtual: answer()? == "True",
            library: Some(Path::new(answer()?).join(built::LIBRARY)),
        })
    }

    /// The folder of the libpython that belongs to this environment, if it has one.
    pub(crate) fn library_folder(&self) -> Result<Option<PathBuf>, Error> {
        let library = match &self.library {
            Some(library) => library.clone(),
            None => match Self::ask(&self.executable)?.library {
                Some(library) => library,
                None => return Ok(None),
            },
        };
        let complete = library.exists() && has_standard_library(&self.base);
        Ok(complete.then(|| library.parent().unwrap_or(Path::new("/")).to_owned()))
    }
}

/// Whether Python can start from this prefix. One that was removed may still be named by its environments.
pub(crate) fn has_standard_library(prefix: &Path) -> bool {
    let found = |folder: &str| {
        prefix
            .join(folder)
            .join(format!("python{}/os.py", built::VERSION))
            .exists()
    };
    found("lib") || found("lib64")
}

fn locate(path: &OsStr) -> Option<PathBuf> {
    let given = Path::new(path);
    if given.is_dir() {
        let executable = given.join("bin/python");
        return executable
            .exists()
            .then_some(executable)
            .and_then(|path| std::path::absolute(path).ok());
    }
    if given.components().count() == 1 && !given.exists() {
        return on_path(path);
    }
    given
        .is_file()
        .then(|| std::path::absolute(given).ok())
        .flatten()
}

/// The first file of this name in the folders of `PATH`.
pub(crate) fn on_path(name: &OsStr) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
