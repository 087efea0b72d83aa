//! Decides which Python the binary embeds: the library, the standard library and the environment.
//!
//! Owns the first stage's decisions, without loading Python: [`arguments`] takes `--python` out of the
//! command line, [`environment`] reads what a path is, this module puts the [`Launch`] together. The second
//! stage (`python.rs`, `embed.rs`) carries it out. Called by `main.rs` only.

pub(crate) mod arguments;
pub(crate) mod environment;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use environment::{Environment, Origin};

/// Hands the [`Launch`] to the second stage; it removes the variable before any scenario runs.
pub(crate) const VARIABLE: &str = "MOLOTOV_LAUNCH";

/// The Python this binary was built for, as the build script saw it.
pub(crate) mod built {
    /// `major.minor`.
    pub(crate) const VERSION: &str = env!("MOLOTOV_PYTHON_VERSION");
    /// `sys.base_prefix`: where the standard library is.
    pub(crate) const HOME: &str = env!("MOLOTOV_PYTHON_HOME");
    /// The folder of libpython.
    pub(crate) const FOLDER: &str = env!("MOLOTOV_PYTHON_FOLDER");
    /// The file name of libpython that the binary is linked to; empty when linked statically.
    pub(crate) const LIBRARY: &str = env!("MOLOTOV_PYTHON_LIBRARY");
}

/// Why Python cannot be started; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `--python` came last.
    #[error("--python needs the path of a Python interpreter or of a virtual environment")]
    NoPath,
    /// The named interpreter does not exist.
    #[error("{origin} names {path}, where there is no Python interpreter", path = .path.display())]
    NoInterpreter {
        /// Where the path came from.
        origin: Origin,
        /// What it names.
        path: PathBuf,
    },
    /// The named interpreter does not answer.
    #[error("{path} is no working Python interpreter: {reason}", path = .path.display())]
    Broken {
        /// The interpreter.
        path: PathBuf,
        /// What running it gave.
        reason: String,
    },
    /// A different minor version: its packages do not fit.
    #[error(
        "{path} is Python {found}, but this binary was built for Python {}: name an environment of that version \
         with --python, or build the binary anew with PYO3_PYTHON={path} cargo install --path . --force",
        built::VERSION,
        path = .path.display()
    )]
    Version {
        /// The interpreter.
        path: PathBuf,
        /// Its `major.minor`.
        found: String,
    },
    /// Another installation, which has no shared library to load.
    #[error(
        "{path} comes without {library}: name a virtual environment instead, made by \
         {home}/bin/python{version} -m venv",
        path = .0.display(), library = built::LIBRARY, home = built::HOME, version = built::VERSION
    )]
    NotShared(PathBuf),
    /// No libpython anywhere.
    #[error(
        "{library} is not in {folder} any more, nor anywhere else: install Python {version} with its shared \
         library, or name one that has it with --python",
        library = built::LIBRARY, folder = built::FOLDER, version = built::VERSION
    )]
    NoLibrary,
    /// The second program is not beside the first.
    #[error("{} is missing: install molotov again", .0.display())]
    Incomplete(PathBuf),
    /// The second program does not start.
    #[error("cannot start {}: {}", .0.display(), .1)]
    Exec(PathBuf, io::Error),
    /// The kernel does not say where this program is.
    #[error("cannot tell where this program is: {0}")]
    NoSelf(io::Error),
}

/// What the second stage starts Python with.
#[derive(Debug, PartialEq)]
pub(crate) struct Launch {
    /// Where the standard library is.
    home: PathBuf,
    /// `sys.executable`, by which Python finds the environment's packages.
    executable: PathBuf,
    /// The folder of libpython where the dynamic linker would not look by itself.
    library_folder: Option<PathBuf>,
}

impl Launch {
    /// Chooses: the path given, else `VIRTUAL_ENV`, else the Python that the binary was built for.
    pub(crate) fn find(python: Option<&OsStr>) -> Result<Self, Error> {
        let environment = match (
            python,
            env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()),
        ) {
            (Some(path), _) => Some(Environment::read(path, Origin::Option)?),
            (None, Some(path)) => Some(Environment::read(&path, Origin::Variable)?),
            (None, None) => None,
        };
        Self::choose(
            environment,
            Path::new(built::FOLDER).join(built::LIBRARY).exists()
                && environment::has_standard_library(Path::new(built::HOME)),
        )
    }

    fn choose(environment: Option<Environment>, built_library: bool) -> Result<Self, Error> {
        if let Some(found) = &environment
            && found.version != built::VERSION
        {
            return Err(Error::Version {
                path: found.executable.clone(),
                found: found.version.clone(),
            });
        }
        let own_home = PathBuf::from(built::HOME);
        match environment {
            // The standard library must be that of libpython: some of its modules are in there. A virtual
            // environment only adds packages, so it fits any build of the same minor version.
            Some(found) if built_library && (found.is_virtual || found.base == own_home) => {
                Ok(Self {
                    home: own_home,
                    executable: found.executable,
                    library_folder: None,
                })
            }
            Some(found) => match found.library_folder()? {
                Some(folder) => Ok(Self {
                    home: found.base,
                    executable: found.executable,
                    library_folder: Some(folder),
                }),
                None if built_library => Err(Error::NotShared(found.executable)),
                None => Err(Error::NoLibrary),
            },
            None if built_library => {
                let executable = own_home
                    .join("bin")
                    .join(format!("python{}", built::VERSION));
                Ok(Self {
                    home: own_home,
                    executable,
                    library_folder: None,
                })
            }
            None => {
                let name = format!("python{}", built::VERSION);
                let found = environment::on_path(OsStr::new(&name)).ok_or(Error::NoLibrary)?;
                let found = Environment::ask(&found)?;
                let folder = found.library_folder()?.ok_or(Error::NoLibrary)?;
                Ok(Self {
                    home: found.base,
                    executable: found.executable,
                    library_folder: Some(folder),
                })
            }
        }
    }

    /// `LD_LIBRARY_PATH` for the second stage, where it has to change.
    pub(crate) fn library_path(&self) -> Option<OsString> {
        let mut path = self.library_folder.clone()?.into_os_string();
        if let Some(before) = env::var_os("LD_LIBRARY_PATH").filter(|before| !before.is_empty()) {
            path.push(":");
            path.push(before);
        }
        Some(path)
    }

    /// The value of [`VARIABLE`]: home, executable, and the folder that was put into `LD_LIBRARY_PATH`.
    pub(crate) fn encode(&self) -> OsString {
        let mut text = self.home.clone().into_os_string();
        text.push("\n");
        text.push(&self.executable);
        text.push("\n");
        text.push(self.library_folder.as_deref().unwrap_or(Path::new("")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(version: &str, is_virtual: bool) -> Environment {
        Environment {
            executable: "/venv/bin/python".into(),
            base: "/other".into(),
            version: version.into(),
            is_virtual,
            library: None,
        }
    }

    #[test]
    fn a_virtual_environment_gets_the_standard_library_of_the_built_one() {
        let launch = Launch::choose(Some(environment(built::VERSION, true)), true).unwrap();
        assert_eq!(launch.home, Path::new(built::HOME));
        assert_eq!(launch.executable, Path::new("/venv/bin/python"));
        assert_eq!(launch.library_path(), None);
    }

    #[test]
    fn another_minor_version_is_refused() {
        let error = Launch::choose(Some(environment("3.1", true)), true).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/venv/bin/python is Python 3.1, but this binary was built for")
        );
    }

    #[test]
    fn without_the_built_library_an_installation_brings_its_own() {
        let mut other = environment(built::VERSION, false);
        other.library = Some(Path::new(built::FOLDER).join(built::LIBRARY));
        other.base = built::HOME.into();
        let launch = Launch::choose(Some(other), false).unwrap();
        assert_eq!(launch.home, Path::new(built::HOME));
        assert_eq!(
            launch.library_folder.as_deref(),
            Some(Path::new(built::FOLDER))
        );
        let encoded = format!("{}\n/venv/bin/python\n{}", built::HOME, built::FOLDER);
        assert_eq!(launch.encode(), encoded.as_str());
    }

    #[test]
    fn another_installation_without_a_library_is_refused() {
        let mut other = environment(built::VERSION, false);
        other.library = Some("/nowhere/libpython.so".into());
        assert!(matches!(
            Launch::choose(Some(other), true),
            Err(Error::NotShared(_))
        ));
    }
}
