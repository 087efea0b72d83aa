//! Why a target cannot be monitored.
//!
//! Owns the causes as data; every text is one line, names what the user typed and says how to mend it. Returned by
//! every other file of this folder; `crate::Error` of the callers turns them into exit codes.

use std::io;
use std::path::PathBuf;

use super::source::SourceError;

/// A target that cannot be monitored, at the start or from now on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text after `--monitor` is no source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no such process.
    #[error("--monitor pid:{pid}: there is no such process; `pgrep -f NAME` finds its number")]
    NoProcess {
        /// As typed.
        pid: u32,
    },
    /// No socket listens on the port.
    #[error(
        "--monitor port:{port}: nothing listens there; start the service first, or name it by pid:, container: or cgroup:"
    )]
    NoListener {
        /// As typed.
        port: u16,
    },
    /// A socket listens, but its process belongs to somebody else.
    #[error(
        "--monitor port:{port}: the process that listens there cannot be seen; run as its user or as root, or name its pid"
    )]
    HiddenListener {
        /// As typed.
        port: u16,
    },
    /// The listener only hands connections on to a container.
    #[error(
        "--monitor port:{port}: {process} listens there, which only forwards to a container; name that: container:NAME"
    )]
    Forwarder {
        /// As typed.
        port: u16,
        /// Name of the forwarding program.
        process: String,
    },
    /// There is no such control group.
    #[error(
        "--monitor cgroup:{path}: there is no such control group below {root}; `systemd-cgls` shows what there is"
    )]
    NoGroup {
        /// As typed.
        path: String,
        /// Where control groups are mounted.
        root: PathBuf,
    },
    /// No Docker or Podman API answers.
    #[error(
        "--monitor container:{name}: no container API; looked at {looked_at}; start Docker or `podman system service`, or set DOCKER_HOST"
    )]
    NoContainerApi {
        /// As typed.
        name: String,
        /// The sockets tried, with what went wrong at each.
        looked_at: String,
    },
    /// `DOCKER_HOST` is of a kind that cannot be used.
    #[error("--monitor container:{name}: DOCKER_HOST is {host:?}; only unix:///PATH is supported")]
    DockerHost {
        /// As typed.
        name: String,
        /// The variable's value.
        host: String,
    },
    /// The API knows no such container.
    #[error(
        "--monitor container:{name}: there is no such container; `docker ps` or `podman ps` lists them"
    )]
    NoContainer {
        /// As typed.
        name: String,
    },
    /// The container exists and does not run.
    #[error("--monitor container:{name}: it is not running; start it first")]
    ContainerNotRunning {
        /// As typed.
        name: String,
    },
    /// The API answered with something unexpected.
    #[error("container API at {socket}: {detail}")]
    ContainerApi {
        /// The socket asked.
        socket: PathBuf,
        /// What was wrong with the answer.
        detail: String,
    },
    /// A file that has to be there cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CSV file cannot be opened.
    #[error(
        "--monitor glances:{path}: {source}; write it with `glances --export csv --export-csv-file {path}`",
        path = path.display()
    )]
    GlancesFile {
        /// As typed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CSV file has no column that we know.
    #[error(
        "--monitor glances:{path}: no known column; write it with `glances --export csv --export-csv-file {path}`",
        path = path.display()
    )]
    NoGlancesColumns {
        /// As typed.
        path: PathBuf,
    },
    /// The CSV file has no such container, or several and none was chosen.
    #[error(
        "--monitor glances:{path}: {problem}; name one: glances:{path}#NAME, with NAME one of {names}, or host",
        path = path.display()
    )]
    GlancesContainer {
        /// As typed.
        path: PathBuf,
        /// What is wrong with the choice.
        problem: String,
        /// The containers in the file.
        names: String,
    },
}

impl Error {
    /// Wraps what the system said about a path.
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Read { path, source }
    }
}
