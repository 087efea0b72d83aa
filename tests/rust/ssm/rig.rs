//! Starting the rig, running cases against it, counting what is left.
//!
//! The rig is `tests/rig/serve.py`, run by the Python of `RIG_PYTHON` (see the Makefile), which has moto. Without it, or
//! without Podman for the cases that need it, the tests say so and pass.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A run that takes longer hangs: every wait of the cases is bounded far below.
const LONGEST: Duration = Duration::from_mins(5);

/// The rig and its folder; both end with it.
pub(super) struct Rig {
    process: Child,
    folder: PathBuf,
    about: Value,
    count: AtomicU32,
}

/// What a case came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) crashed: bool,
    pub(super) failure: Option<String>,
    pub(super) left_behind: Option<String>,
    pub(super) load: Option<i64>,
    pub(super) samples: u64,
    pub(super) cpu_limit: Option<f64>,
    pub(super) cpu_used: f64,
    pub(super) answer: Value,
    /// The service's log, where it was asked for.
    pub(super) service_log: String,
    /// Everything that the process wrote, its log and its ledgers.
    pub(super) written: String,
    folder: PathBuf,
}

impl Outcome {
    /// Loses the ledger, as somebody on another machine has lost it; the run that it was of.
    pub(super) fn lose_ledger(&self) -> String {
        let mut ledgers = std::fs::read_dir(self.folder.join("ledgers")).unwrap();
        let path = ledgers.next().unwrap().unwrap().path();
        std::fs::remove_file(&path).unwrap();
        path.file_stem().unwrap().to_str().unwrap().to_owned()
    }

    /// Whether a ledger is left.
    pub(super) fn has_ledger(&self) -> bool {
        std::fs::read_dir(self.folder.join("ledgers")).is_ok_and(|mut files| files.next().is_some())
    }
}

/// Makes an image of a real Glances where there is none; its name.
pub(super) fn glances_image() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/glances_image.py");
    let output = Command::new(std::env::var("RIG_PYTHON").unwrap())
        .arg(script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn skipped(why: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "\nSKIPPED: tests of the ssm target: {why}"
    );
}

impl Rig {
    /// Starts one with the kind of machines; `None` where it cannot run here, which is said aloud.
    pub(super) fn start(machines: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Ok(python) = std::env::var("RIG_PYTHON") else {
            skipped("RIG_PYTHON is not set; `make test-aws` sets it");
            return None;
        };
        if machines == "podman" && std::env::var_os("RIG_PODMAN_SOCKET").is_none() {
            skipped(
                "no Podman (RIG_PODMAN_SOCKET is not set); machines are folders instead of containers",
            );
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("molotov-rig-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig");
        let service = |requests: &str| {
            json!([
                python,
                "-S",
                "-E",
                here.join("service.py"),
                "{port}",
                requests
            ])
        };
        let shell = |script: &str| json!(["sh", "-c", script]);
        let images = json!({
            "kinto": { "argv": service("1000000") },
            "short-lived": { "argv": service("5") },
            "fills": { "argv": json!([python, "-S", "-E", here.join("service.py"), "{port}", "5", "/dev/full"]) },
            // Tells what it has got without telling it.
            "tells": { "argv": shell(&format!(
                "printf %s \"$SERVICE_TOKEN\" | sha256sum; printf '%s\\n' \"$SERVICE_TOKEN\"; exec '{python}' -S -E '{}' {{port}}",
                here.join("service.py").display()
            )) },
            "chatters": { "argv": shell(&format!(
                "seq -f 'line %g' 20000; exec '{python}' -S -E '{}' {{port}}",
                here.join("service.py").display()
            )) },
            "fails": { "argv": shell("echo cannot read kinto.ini; exit 3") },
            "silent": { "argv": shell("echo thinking; sleep 300") },
            "arm": { "argv": service("1"), "architecture": "arm64" },
            "large": { "argv": service("1"), "disk_full": true },
            "taken": { "argv": service("1"), "port_taken": true },
            "slow": { "argv": service("1000000"), "pull_seconds": 1.5 },
        });
        std::fs::write(folder.join("images.json"), images.to_string()).unwrap();
        let mut process = Command::new(&python)
            .arg(here.join("serve.py"))
            .args(["--machines", machines, "--folder"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let about = serde_json::from_str(&line).unwrap();
        Some(Self {
            process,
            folder,
            about,
            count: AtomicU32::new(0),
        })
    }

    fn control(&self, path: &str, body: &Value) -> Value {
        let endpoint = self.about["endpoint"].as_str().unwrap();
        let mut stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: rig\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    pub(super) fn state(&self) -> Value {
        self.control("/rig/state", &json!({}))
    }

    pub(super) fn reset(&self) {
        self.control("/rig/reset", &json!({}));
    }

    pub(super) fn add_faults(&self, faults: &Value) {
        self.control("/rig/faults", faults);
    }

    /// Runs a case in a process of its own.
    pub(super) fn run(&self, order: &Value) -> Outcome {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.run_in(order, &self.folder.join(format!("case-{number}")))
    }

    fn run_in(&self, order: &Value, folder: &Path) -> Outcome {
        std::fs::create_dir_all(folder).unwrap();
        let _ = std::fs::remove_file(folder.join("outcome.json"));
        let text = |name: &str| self.about[name].as_str().unwrap().to_owned();
        let endpoint = text("endpoint");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--ignored",
                "--exact",
                "ssm::child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("RIG_ORDER", order.to_string())
            .env("RIG_CASE_FOLDER", folder)
            .env("RIG_BUCKET", text("bucket"))
            .env("RIG_PROFILE", text("profile"))
            .env("HOME", folder)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("AUTOSIZER_ADDRESS_URL", format!("{endpoint}/rig/address"))
            .env("AWS_REGION", text("region"))
            .env("AWS_ACCESS_KEY_ID", text("access_key"))
            .env("AWS_SECRET_ACCESS_KEY", text("secret_key"))
            .env_remove("AWS_PROFILE");
        for (name, value) in order["environment"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Into a file: a process that is killed must not keep the reading of a pipe waiting.
        let errors = folder.join("stderr");
        let mut process = command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let mut too_late = false;
        while process.try_wait().unwrap().is_none() {
            if began.elapsed() > LONGEST && !too_late {
                too_late = true;
                process.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
        let mut written = String::from_utf8_lossy(&read(errors)).into_owned();
        written.push_str(&String::from_utf8_lossy(&read(folder.join("log.jsonl"))));
        written.push_str(&String::from_utf8_lossy(&read(folder.join("service.log"))));
        for ledger in std::fs::read_dir(folder.join("ledgers"))
            .into_iter()
            .flatten()
            .flatten()
        {
            written.push_str(&std::fs::read_to_string(ledger.path()).unwrap_or_default());
        }
        assert!(!too_late, "it does not end:\n{written}");
        let Ok(answer) = std::fs::read_to_string(folder.join("outcome.json")) else {
            return Outcome {
                crashed: true,
                written,
                folder: folder.to_owned(),
                ..Outcome::default()
            };
        };
        written.push_str(&answer);
        let service_log = String::from_utf8_lossy(&read(folder.join("service.log"))).into_owned();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Outcome {
            crashed: false,
            failure: text("failure"),
            left_behind: text("left_behind"),
            load: answer["load"].as_i64(),
            samples: answer["samples"].as_u64().unwrap_or(0),
            cpu_limit: answer["cpu_limit"].as_f64(),
            cpu_used: answer["cpu_used"].as_f64().unwrap_or(0.0),
            written,
            folder: folder.to_owned(),
            service_log,
            answer,
        }
    }

    /// The steps in whose command or output a text stands, whatever it is wrapped in.
    pub(super) fn shows(&self, text: &str) -> Value {
        self.control("/rig/shows", &json!({ "text": text }))
    }

    pub(super) fn stop_and_start(&self, instance: &str) {
        let path = format!("/rig/stop-start?instance={instance}");
        self.control(&path, &json!({}));
    }

    /// Runs `gc` for what a case has left.
    pub(super) fn sweep(&self, outcome: &Outcome) -> Outcome {
        self.run_in(&json!({ "do": "sweep" }), &outcome.folder)
    }

    /// Runs `gc` for what no ledger here knows of.
    pub(super) fn sweep_over(&self, over: &Value) -> Outcome {
        self.run(&json!({ "do": "sweep", "over": over }))
    }

    /// Makes an instance somebody else's.
    pub(super) fn disown(&self, instance: &str) {
        let path = format!("/rig/disown?instance={instance}");
        self.control(&path, &json!({}));
    }

    /// Launches an instance that has nothing to do with us.
    pub(super) fn bystander(&self) -> String {
        let answer = self.control("/rig/bystander", &json!({}));
        answer.as_str().unwrap().to_owned()
    }

    pub(super) fn power_off(&self, instance: &str) {
        let path = format!("/rig/power-off?instance={instance}");
        self.control(&path, &json!({}));
    }

    /// What is left in the account, also of what was still on its way; empty when nothing is.
    pub(super) fn left(&self) -> String {
        self.wait_until("all outputs have come", Duration::from_mins(1), |state| {
            state["uploads_pending"] == 0
        });
        let state = self.state();
        let mut left = String::new();
        for name in ["instances", "groups", "objects", "processes", "files"] {
            if !state[name].as_array().unwrap().is_empty() {
                let _ = write!(left, "{name}: {} ", state[name]);
            }
        }
        left
    }

    pub(super) fn assert_clean(&self, when: &str) {
        assert_eq!(self.left(), "", "{when}");
    }

    pub(super) fn wait_until(&self, what: &str, limit: Duration, holds: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        loop {
            let state = self.state();
            if holds(&state) {
                return;
            }
            assert!(began.elapsed() < limit, "{what}: {state}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It ends with its standard input, after its machines.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
