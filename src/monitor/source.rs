//! What `--monitor` names.
//!
//! Owns the grammar `[LABEL=]KIND:WHAT` and its error texts; whether the target exists is found out by the samplers.
//! Called when options are read; the label, or else the source as the user wrote it, names rows and series.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::driver::GENERATOR;

/// A target to monitor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A process and all that descends from it.
    Process(u32),
    /// Whoever listens on this TCP port, with what descends from it.
    Port(u16),
    /// A Docker or Podman container, by name or id.
    Container(String),
    /// A control group, by its path below the cgroup root or in the file system.
    ControlGroup(String),
    /// The machine that this process runs on.
    Host,
    /// A CSV file that Glances writes.
    Glances {
        /// The file.
        path: PathBuf,
        /// A container in it, or `host`; `None` takes the only container, else the host.
        container: Option<String>,
    },
}

/// A source with what its rows and series are called: `kinto=port:8888`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The label that was given, or the source's own text.
    pub label: String,
    /// What is monitored.
    pub source: Source,
}

/// Why a text names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such kind.
    #[error(
        "--monitor {0:?}: expected pid:1234, port:8888, container:NAME, cgroup:PATH, host or glances:FILE.csv, with or \
         without LABEL= before it"
    )]
    Kind(String),
    /// Nothing follows the colon.
    #[error("--monitor {kind}: needs {what} after the colon")]
    Empty {
        /// The kind, with its colon.
        kind: &'static str,
        /// What has to follow.
        what: &'static str,
    },
    /// Nothing to call it by, or the name that the generator has.
    #[error("--monitor {0:?}: a label is some words before the equals sign, and not \"generator\"")]
    Label(String),
    /// `host` takes no name.
    #[error("--monitor {0:?}: only this machine can be named, as plain host")]
    Host(String),
    /// Not a process number.
    #[error("--monitor pid:{0}: not the number of a process; `pgrep -f NAME` finds it")]
    Process(String),
    /// Not a port number.
    #[error("--monitor port:{0}: not a port; those are 1 to 65535")]
    Port(String),
    /// Not a container's name.
    #[error(
        "--monitor container:{0}: not a container's name or id; letters, digits, '_', '.' and '-' are allowed"
    )]
    Container(String),
    /// Leads out of the tree of control groups.
    #[error("--monitor cgroup:{0}: '..' is not allowed in the path of a control group")]
    ControlGroup(String),
}

impl FromStr for Source {
    type Err = SourceError;

    /// Reads `pid:1234`, `port:8888`, `container:web`, `cgroup:/system.slice/web.service`, `host`, `glances:file.csv`
    /// and `glances:file.csv#container`.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        if text == "host" {
            return Ok(Self::Host);
        }
        let Some((kind, what)) = text.split_once(':') else {
            return Err(SourceError::Kind(text.to_owned()));
        };
        match kind {
            "pid" => {
                let what = required("pid:", "the number of a process", what)?;
                match plain_number(what).filter(|pid| *pid > 0) {
                    Some(pid) => Ok(Self::Process(pid)),
                    None => Err(SourceError::Process(what.to_owned())),
                }
            }
            "port" => {
                let what = required("port:", "a port", what)?;
                match plain_number(what).filter(|port| *port > 0) {
                    Some(port) => Ok(Self::Port(port)),
                    None => Err(SourceError::Port(what.to_owned())),
                }
            }
            "container" => {
                let what = required("container:", "a container's name or id", what)?;
                if is_container_name(what) {
                    Ok(Self::Container(what.to_owned()))
                } else {
                    Err(SourceError::Container(what.to_owned()))
                }
            }
            "cgroup" => {
                let what = required("cgroup:", "the path of a control group", what)?;
                if what.split('/').any(|part| part == "..") {
                    return Err(SourceError::ControlGroup(what.to_owned()));
                }
                Ok(Self::ControlGroup(what.to_owned()))
            }
            "glances" => {
                let what = required("glances:", "the path of a CSV file", what)?;
                let (path, container) = match what.rsplit_once('#') {
                    Some((path, name)) if !path.is_empty() && is_container_name(name) => {
                        (path, Some(name.to_owned()))
                    }
                    _ => (what, None),
                };
                Ok(Self::Glances {
                    path: PathBuf::from(path),
                    container,
                })
            }
            "host" => Err(SourceError::Host(text.to_owned())),
            _ => Err(SourceError::Kind(text.to_owned())),
        }
    }
}

impl FromStr for Labelled {
    type Err = SourceError;

    /// Reads what [`Source`] reads, with or without `LABEL=` before it. A label has no colon: an equals sign behind one
    /// belongs to a path.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parts = text.split_once('=');
        let Some((label, what)) = parts.filter(|(label, _)| !label.contains(':')) else {
            let source: Source = text.parse()?;
            return Ok(Self {
                label: source.to_string(),
                source,
            });
        };
        let label = label.trim();
        if label.is_empty() || label == GENERATOR || label.contains(char::is_control) {
            return Err(SourceError::Label(text.trim().to_owned()));
        }
        Ok(Self {
            label: label.to_owned(),
            source: what.parse()?,
        })
    }
}

fn required<'a>(
    kind: &'static str,
    what: &'static str,
    text: &'a str,
) -> Result<&'a str, SourceError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(SourceError::Empty { kind, what });
    }
    Ok(text)
}

/// Digits only: what `parse` reads beyond that (`+1`) is no way to write a pid or a port.
fn plain_number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// What Docker and Podman allow in a name; nothing else may get into the path of a request.
fn is_container_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(allowed)
}

impl fmt::Display for Source {
    /// As the user would type it; the label of rows and series.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(formatter, "pid:{pid}"),
            Self::Port(port) => write!(formatter, "port:{port}"),
            Self::Container(name) => write!(formatter, "container:{name}"),
            Self::ControlGroup(path) => write!(formatter, "cgroup:{path}"),
            Self::Host => formatter.write_str("host"),
            Self::Glances { path, container } => {
                write!(formatter, "glances:{}", path.display())?;
                match container {
                    Some(name) => write!(formatter, "#{name}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_and_prints_the_same() {
        for text in [
            "pid:1234",
            "port:8888",
            "container:web-1",
            "cgroup:/system.slice/web.service",
            "host",
            "glances:out/file.csv",
            "glances:out/file.csv#tested",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_are_one_line_that_names_the_text() {
        for text in [
            "",
            "1234",
            "pod:1",
            "pid:",
            "pid:abc",
            "pid:0",
            "pid:-3",
            "pid:+3",
            "pid:99999999999",
            "port:65536",
            "port:0",
            "port: ",
            "container:a/../b",
            "container:",
            "container:-x",
            "cgroup:",
            "cgroup:/a/../../etc",
            "host:other",
            "glances:",
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.starts_with("--monitor "), "{error}");
            assert!(error.contains(text.trim()), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_label_names_what_follows_it() {
        let read = |text: &str| text.parse::<Labelled>().map(|one| (one.label, one.source));
        let port = Source::Port(8888);
        assert_eq!(
            read("service=port:8888"),
            Ok(("service".to_owned(), port.clone()))
        );
        assert_eq!(
            read("port:8888"),
            Ok(("port:8888".to_owned(), port.clone()))
        );
        assert_eq!(
            read(" our shop = port:8888"),
            Ok(("our shop".to_owned(), port))
        );
        let (label, source) = read("glances:a=b.csv").unwrap();
        assert_eq!(label, "glances:a=b.csv");
        assert_eq!(source.to_string(), label);
        for text in ["=port:8888", "generator=host", "a\nb=host", "kinto=8888"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("--monitor "), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_hash_in_a_file_name_is_only_a_choice_where_a_name_follows() {
        let source: Source = "glances:a#b/c.csv".parse().unwrap();
        let expected = Source::Glances {
            path: "a#b/c.csv".into(),
            container: None,
        };
        assert_eq!(source, expected);
    }
}
