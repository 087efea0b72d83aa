//! What the user asks for, from the texts of options to what the flow takes.
//!
//! Owns the grammar of limits (`0.5,1,2`, `512m,1g`), the rows of a matrix, and the checks that need nothing started. The
//! command line and the configuration file have the same names; they come here as one JSON object. Called by `session`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::failure::Failure;
use super::target::{Limits, Service};

/// No machine has more; also keeps the arithmetic of quotas far from its limits.
const MOST_CPUS: f64 = 100_000.0;
/// The smallest quota of the kernel is 1 % of a core.
const LEAST_CPUS: f64 = 0.01;
const LEAST_MEMORY_BYTES: u64 = 4 * 1024 * 1024;

/// All options of `autosizer run`, as the command line hands them over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// `local`, `container` or `ssm`.
    pub on: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The container image.
    pub image: Option<String>,
    /// The service's port.
    pub port: u16,
    /// Variables for the service.
    pub env: BTreeMap<String, String>,
    /// Where a command runs.
    pub directory: Option<PathBuf>,
    /// The path that answers when it is ready.
    pub ready_path: String,
    /// Seconds until it has to.
    pub ready_timeout: f64,
    /// A copy of the service's log.
    pub service_log: Option<PathBuf>,
    /// What stands behind the port in `SERVER_URL`.
    pub server_path: String,
    /// `0.5,1,2`.
    pub cpus: Option<String>,
    /// `512m,1g`.
    pub memory: Option<String>,
    /// `t3.medium,c8g.large`.
    pub instance_type: Option<String>,
    /// Requests per second that are needed, for the recommendation.
    pub need: Option<f64>,
    /// Where prices are.
    pub prices: Option<PathBuf>,
    /// An earlier result to compare with.
    pub baseline: Option<PathBuf>,
    /// The machine-readable log.
    pub log: Option<PathBuf>,
    /// The document.
    pub json: Option<PathBuf>,
    /// The table.
    pub markdown: Option<PathBuf>,
    /// The table.
    pub csv: Option<PathBuf>,
    /// The page.
    pub html: Option<PathBuf>,
    /// The command line, without values of variables: how to do the same again.
    pub invocation: Vec<String>,
    /// Texts that must not be shown, besides the values of `env`.
    pub secrets: Vec<String>,
    /// Options of one target only, by their names.
    pub target: BTreeMap<String, serde_json::Value>,
}

/// One row of the matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// What the service may use.
    pub limits: Limits,
    /// On which kind of instance.
    pub instance_type: Option<String>,
}

impl Row {
    /// `0.5 CPU, 512 MiB`, `c8g.large` or `no limits`.
    pub fn label(&self) -> String {
        let mut parts: Vec<String> = self.instance_type.iter().cloned().collect();
        parts.extend(self.limits.cpus.map(|cpus| format!("{cpus} CPU")));
        parts.extend(self.limits.memory_bytes.map(memory_words));
        if parts.is_empty() {
            return "no limits".to_owned();
        }
        parts.join(", ")
    }
}

/// `512 MiB`, `1.5 GiB`.
fn memory_words(bytes: u64) -> String {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let mebibytes = bytes as f64 / MEBIBYTE;
    if mebibytes >= 1024.0 {
        let gibibytes = (mebibytes / 1024.0 * 100.0).round() / 100.0;
        return format!("{gibibytes} GiB");
    }
    format!("{} MiB", (mebibytes * 10.0).round() / 10.0)
}

impl Options {
    /// The rows: every CPU limit with every memory limit on every instance type, in the order given.
    pub fn rows(&self) -> Result<Vec<Row>, Failure> {
        let cpus = self
            .cpus
            .as_deref()
            .map_or(Ok(vec![None]), |text| list("--cpus", text, cpus))?;
        let memory = self.memory.as_deref();
        let memory = memory.map_or(Ok(vec![None]), |text| list("--memory", text, memory_bytes))?;
        let types = self.instance_type.as_deref();
        let types = types.map_or(Ok(vec![None]), |text| {
            list("--instance-type", text, |name| Some(name.to_owned()))
        })?;
        let mut rows = Vec::new();
        for instance_type in &types {
            for cpus in &cpus {
                for memory_bytes in &memory {
                    rows.push(Row {
                        limits: Limits {
                            cpus: *cpus,
                            memory_bytes: *memory_bytes,
                        },
                        instance_type: instance_type.clone(),
                    });
                }
            }
        }
        Ok(rows)
    }

    /// The service of a row.
    pub fn service(&self, row: &Row) -> Service {
        Service {
            command: self.command.clone(),
            image: self.image.clone(),
            environment: self.env.clone(),
            directory: self.directory.clone(),
            port: self.port,
            ready_path: self.ready_path.clone(),
            ready_timeout: Duration::try_from_secs_f64(self.ready_timeout).unwrap_or_default(),
            log_file: self.service_log.clone(),
            limits: row.limits,
        }
    }

    /// What is wrong with them, as far as that can be told without starting anything.
    pub fn check(&self) -> Result<(), Failure> {
        if self.port == 0 {
            return Err(
                Failure::configuration("no port").advise("--port N says where the service listens")
            );
        }
        for (name, path) in [
            ("--ready-path", &self.ready_path),
            ("--server-path", &self.server_path),
        ] {
            let fits = path.is_empty() || path.starts_with('/');
            if !fits || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(Failure::configuration(format!("{name} is {path:?}"))
                    .advise("it begins with a slash and holds no spaces"));
            }
        }
        if !(self.ready_timeout > 0.0 && self.ready_timeout < 1e6) {
            return Err(Failure::configuration(format!(
                "--ready-timeout is {}",
                self.ready_timeout
            )));
        }
        if self.need.is_some_and(|need| need.is_nan() || need <= 0.0) {
            return Err(Failure::configuration(
                "--need takes requests per second, more than 0",
            ));
        }
        match self.on.as_str() {
            "local" if self.image.is_some() => Err(Failure::configuration(
                "--image does not go with --on local",
            )
            .advise("use --on container")),
            "local" if self.command.is_empty() => Err(Failure::configuration("nothing to start")
                .advise("--command 'PROGRAM ARGUMENTS' says what, or --on container --image NAME")),
            "container" | "ssm" if self.image.is_none() => {
                Err(Failure::configuration("no image").advise("--image NAME says which"))
            }
            "local" | "container" if self.instance_type.is_some() => Err(Failure::configuration(
                format!("--instance-type does not go with --on {}", self.on),
            )
            .advise("use --cpus and --memory, or --on ssm")),
            "local" | "container" if self.target.contains_key("collector") => {
                Err(Failure::configuration(format!(
                    "--collector does not go with --on {}",
                    self.on
                ))
                .advise("what the service uses is measured from here; `--monitor glances:FILE` of molotov reads a Glances that runs already"))
            }
            "local" | "container" | "ssm" => Ok(()),
            other => Err(Failure::configuration(format!("--on is {other:?}"))
                .advise("it takes local, container or ssm")),
        }
    }
}

fn list<T>(
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<Option<T>>, Failure> {
    text.split(',')
        .map(|part| {
            let part = part.trim();
            let value = (!part.is_empty()).then(|| read(part)).flatten();
            value.map(Some).ok_or_else(|| {
                let advice = match name {
                    "--cpus" => "it takes cores such as 0.5 or 0.5,1,2",
                    "--memory" => "it takes sizes such as 512m or 512m,1g, from 4m on",
                    _ => "it takes names separated by commas",
                };
                Failure::configuration(format!("{name} is {text:?}")).advise(advice)
            })
        })
        .collect()
}

fn cpus(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let cpus: f64 = plain.then(|| text.parse().ok())??;
    (LEAST_CPUS..=MOST_CPUS).contains(&cpus).then_some(cpus)
}

/// Binary units, as Docker and Kubernetes read them: `512m`, `512Mi`, `512MiB`, `1g`, `1.5g`; plain numbers are bytes.
fn memory_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "ki" | "kb" | "kib" => 1 << 10,
        "m" | "mi" | "mb" | "mib" => 1 << 20,
        "g" | "gi" | "gb" | "gib" => 1 << 30,
        "t" | "ti" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * unit as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within u64"
    )]
    let bytes = (bytes < 1e18).then_some(bytes as u64)?;
    (bytes >= LEAST_MEMORY_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cpus: &str, memory: &str) -> Result<Vec<String>, Failure> {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let options = Options {
            cpus: set(cpus),
            memory: set(memory),
            ..Options::default()
        };
        Ok(options.rows()?.iter().map(Row::label).collect())
    }

    #[test]
    fn every_limit_meets_every_other() {
        assert_eq!(rows("", "").unwrap(), ["no limits"]);
        assert_eq!(rows("0.5, 1,2", "").unwrap(), ["0.5 CPU", "1 CPU", "2 CPU"]);
        assert_eq!(
            rows("1,2", "512m,1.5GiB").unwrap(),
            [
                "1 CPU, 512 MiB",
                "1 CPU, 1.5 GiB",
                "2 CPU, 512 MiB",
                "2 CPU, 1.5 GiB"
            ]
        );
    }

    #[test]
    fn what_is_no_limit_is_named() {
        for (cpus, memory) in [
            ("0", ""),
            ("-1", ""),
            ("1,,2", ""),
            ("one", ""),
            ("nan", ""),
            ("1e9", ""),
            ("", "512"),
            ("", "1x"),
            ("", "m"),
            ("", "-5m"),
            ("", "99999999t"),
        ] {
            let failure = rows(cpus, memory).unwrap_err().to_string();
            assert!(
                failure.contains("--cpus is") || failure.contains("--memory is"),
                "{failure}"
            );
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let good = Options {
            on: "local".to_owned(),
            command: vec!["x".to_owned()],
            port: 1,
            ready_path: "/".to_owned(),
            ready_timeout: 1.0,
            ..Options::default()
        };
        assert!(good.check().is_ok());
        let wrong: [fn(&mut Options); 7] = [
            |options| options.port = 0,
            |options| options.image = Some("i".to_owned()),
            |options| options.command.clear(),
            |options| options.on = "container".to_owned(),
            |options| options.on = "moon".to_owned(),
            |options| options.ready_path = "x y".to_owned(),
            |options| options.instance_type = Some("t3.micro".to_owned()),
        ];
        for spoil in wrong {
            let mut options = good.clone();
            spoil(&mut options);
            assert!(options.check().is_err(), "{options:?}");
        }
    }
}
