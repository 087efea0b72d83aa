//! Finding the container engine, and saying in words what it refuses.
//!
//! Owns the choice of the socket, the same as the monitor's: `DOCKER_HOST`, else the first of Docker's and Podman's
//! sockets that accepts a connection; and the translation of the API's errors. Called by the container target.

use std::env;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};

use super::super::failure::Failure;

/// Pulling and creating may take long; silence of this many seconds ends a request.
const TIMEOUT_SECONDS: u64 = 300;

/// An engine and how it was reached.
#[derive(Debug, Clone)]
pub(in super::super) struct Engine {
    pub(super) docker: Docker,
    /// `unix:///run/…` or `tcp://127.0.0.1:2375`.
    pub(super) address: String,
}

impl Engine {
    /// The engine of the environment.
    pub(super) async fn find() -> Result<Self, Failure> {
        let host = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        if let Some(host) = host {
            return Self::at(&host).await;
        }
        let mut why = Vec::new();
        for socket in sockets() {
            match UnixStream::connect(&socket) {
                Ok(_) => return Self::at(&format!("unix://{}", socket.display())).await,
                Err(error) => why.push(format!("{} ({})", socket.display(), reason(&error))),
            }
        }
        let not_allowed = why.iter().any(|why| why.ends_with("(not allowed)"));
        let advice = if not_allowed {
            "join the group that owns the socket (`docker` mostly), or run rootless Podman: systemctl --user start podman.socket"
        } else {
            "start one (systemctl start docker, or systemctl --user start podman.socket), or set DOCKER_HOST"
        };
        Err(
            Failure::target(format!("no container engine answers at {}", why.join(", ")))
                .advise(advice),
        )
    }

    /// The engine at an address.
    pub(in super::super) async fn at(address: &str) -> Result<Self, Failure> {
        let refused = |what: String| {
            Failure::target(what)
                .advise("start the engine, or set DOCKER_HOST to the right address")
        };
        let docker = if let Some(path) = address.strip_prefix("unix://") {
            UnixStream::connect(path).map_err(|error| {
                refused(format!(
                    "no container engine answers at {path}: {}",
                    reason(&error)
                ))
            })?;
            Docker::connect_with_unix(address, TIMEOUT_SECONDS, API_DEFAULT_VERSION)
        } else if let Some(host) = address.strip_prefix("tcp://") {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            if !matches!(name, "127.0.0.1" | "localhost" | "[::1]") {
                return Err(Failure::configuration(format!(
                    "DOCKER_HOST names another machine, {name}: ports are published on this one only"
                ))
                .advise("run autosizer on that machine, or use --on ssm"));
            }
            Docker::connect_with_http(address, TIMEOUT_SECONDS, API_DEFAULT_VERSION)
        } else {
            return Err(
                Failure::configuration(format!("DOCKER_HOST is {address:?}"))
                    .advise("unix:///path/of.sock and tcp://127.0.0.1:PORT are understood"),
            );
        };
        let docker = docker
            .map_err(|error| refused(format!("no container engine at {address}: {error}")))?;
        let docker = docker.negotiate_version().await.map_err(|error| {
            refused(format!(
                "the container engine at {address} does not answer: {error}"
            ))
        })?;
        Ok(Self {
            docker,
            address: address.to_owned(),
        })
    }
}

fn sockets() -> Vec<PathBuf> {
    crate::monitor::Roots::system().container_sockets
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        io::ErrorKind::PermissionDenied => "not allowed".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody answers".to_owned(),
        _ => error.to_string(),
    }
}

/// The status of an error that the engine answered with.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, in one line.
pub(super) fn message(error: &Error) -> String {
    let text = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    };
    text.lines().collect::<Vec<_>>().join(" ")
}

/// What a failed request means. `doing` is what was tried, such as `pull kinto`.
pub(super) fn failure(doing: &str, error: &Error) -> Failure {
    let text = message(error);
    let failure = Failure::target(format!("cannot {doing}: {text}"));
    let says = |part: &str| text.to_lowercase().contains(part);
    if says("no space left") {
        failure.advise("the engine's disk is full: remove images and containers that nobody needs (docker system prune)")
    } else if says("exec format error") {
        failure.advise("the image is for another architecture: choose one for this machine")
    } else if says("executable file not found") || says("no such file or directory") {
        failure.advise("the command after the image does not exist in it: check --command")
    } else if says("permission denied") || says("denied: ") || says("unauthorized") {
        failure.advise("log in to the registry first (docker login), or check the image's name")
    } else if says("manifest unknown")
        || says("not found")
        || says("no such image")
        || says("name unknown")
    {
        failure.advise("check the image's name and tag")
    } else if says("no such host")
        || says("dial tcp")
        || says("timeout")
        || says("connection refused")
    {
        failure.advise(
            "the registry cannot be reached from here: load the image beforehand (docker load)",
        )
    } else {
        failure
    }
}
