//! The child process of a case: one run of the flow, as its orders say.
//!
//! Orders come by the environment as JSON, the outcome goes to a file as JSON. The load is real requests; whoever wants
//! to stop the run, or crash it, says at which step.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use molotov::autosizer::ssm::{Measure, Options, Over, Patience, Ssm, check, list, sweep};
use molotov::autosizer::{
    Cancel, Failure, Ledger, Limits, Load, LoadEnd, Order, Run, Service, Steps, Target, gc, size,
};
use molotov::monitor::Metric;
use serde_json::{Value, json};

/// A value that must be nowhere but in the service.
pub(super) const SECRET: &str = "hunter2-hunter2-hunter2";

/// Requests for a while.
struct Requests {
    log: PathBuf,
    /// How often to ask to stop when a step has begun.
    stops: Vec<(String, usize)>,
    crash_at: Option<String>,
    time: Duration,
}

/// Whether a step has begun, by the machine-readable log.
fn has_begun(log: &Path, step: &str) -> bool {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .any(|entry| entry["step"] == step && entry["event"] == "begin")
}

impl Load for Requests {
    fn run(&mut self, order: &Order) -> Result<LoadEnd, Failure> {
        let url = &order
            .environment
            .iter()
            .find(|(name, _)| name == "SERVER_URL")
            .unwrap()
            .1;
        let address = url.strip_prefix("http://").unwrap();
        let began = Instant::now();
        let mut answered = 0;
        while began.elapsed() < self.time {
            if let Ok(mut stream) = TcpStream::connect(address) {
                let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                answered += usize::from(answer.ends_with("ok"));
            }
        }
        Ok(LoadEnd {
            exit_code: i32::from(answered == 0),
        })
    }

    fn interruptions(&mut self) -> usize {
        if self
            .crash_at
            .as_ref()
            .is_some_and(|step| has_begun(&self.log, step))
        {
            std::process::abort();
        }
        self.stops
            .iter()
            .filter(|(step, _)| has_begun(&self.log, step))
            .map(|(_, count)| count)
            .sum()
    }
}

/// `"stops": { "pull": 1, "clean": 2 }`.
fn stops(order: &Value) -> Vec<(String, usize)> {
    let stops = order["stops"].as_object().into_iter().flatten();
    stops
        .filter_map(|(step, count)| Some((step.clone(), usize::try_from(count.as_u64()?).ok()?)))
        .collect()
}

fn options(order: &Value, bucket: &str, profile: &str) -> Options {
    let text = |name: &str| order[name].as_str().map(str::to_owned);
    Options {
        session: molotov::aws::Options::default(),
        instance_type: text("instance_type").unwrap_or_else(|| "t3.medium".to_owned()),
        instance_id: text("instance_id"),
        image_id: text("ami"),
        instance_profile: profile.to_owned(),
        bucket: text("bucket").unwrap_or_else(|| bucket.to_owned()),
        keep: order["keep"] == true,
        time_to_live: Duration::from_secs(order["time_to_live"].as_u64().unwrap_or(600)),
        owner: "tests".to_owned(),
        measure: text("glances").map_or(Measure::Own, Measure::Glances),
        patience: Patience {
            registered: Duration::from_secs(order["register_within"].as_u64().unwrap_or(60)),
            engine: Duration::from_secs(20),
            step: Duration::from_mins(1),
            look: Duration::from_millis(500),
            back: Duration::from_secs(5),
            unseen: Duration::from_secs(2),
            settled: Duration::from_millis(order["settled_millis"].as_u64().unwrap_or(50)),
            again: Duration::from_millis(200),
            late: Duration::from_secs(3),
            address: Duration::from_secs(1),
            ..Patience::default()
        },
        ..Options::default()
    }
}

pub(super) fn run() {
    let Ok(order) = std::env::var("RIG_ORDER") else {
        return;
    };
    let order: Value = serde_json::from_str(&order).unwrap();
    let variable = |name: &str| std::env::var(name).unwrap();
    let folder = PathBuf::from(variable("RIG_CASE_FOLDER"));
    let options = options(&order, &variable("RIG_BUCKET"), &variable("RIG_PROFILE"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ledgers = folder.join("ledgers");
    let answer = match order["do"].as_str().unwrap_or("size") {
        "sweep" => {
            let removed = runtime.block_on(gc(&ledgers)).unwrap();
            assert!(removed.iter().all(|one| one.result.is_ok()), "{removed:?}");
            let over = Over {
                all: order["over"]["all"] == true,
                run: order["over"]["run"].as_str().map(str::to_owned),
                bucket: Some((options.bucket.clone(), options.prefix.clone())),
            };
            let left = runtime.block_on(sweep(&options.session, &over)).unwrap();
            json!({ "removed": removed.len(), "swept": left.len() })
        }
        "list" => {
            let left = runtime.block_on(list(&options.session)).unwrap();
            json!({ "left": left.iter().map(|left| left.what).collect::<Vec<_>>() })
        }
        "check" => {
            let findings = runtime.block_on(check(&options));
            let findings: BTreeMap<&str, Value> = findings
                .into_iter()
                .map(|finding| (finding.question, json!([finding.is_fine, finding.answer])))
                .collect();
            json!(findings)
        }
        _ => size_once(&runtime, &order, options, &folder, &ledgers),
    };
    std::fs::write(folder.join("outcome.json"), answer.to_string()).unwrap();
}

fn size_once(
    runtime: &tokio::runtime::Runtime,
    order: &Value,
    options: Options,
    folder: &Path,
    ledgers: &Path,
) -> Value {
    let port: u16 = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = |name: &str| order[name].as_str().map(str::to_owned);
    let log = folder.join("log.jsonl");
    let steps = Steps::on_stderr(Some(&log)).unwrap();
    steps.add_secrets([SECRET.to_owned()]);
    steps.add_secrets(text("secret"));
    let id = Run::new_id();
    let run = Run {
        ledger: Ledger::begin(ledgers, &id, "ssm").unwrap(),
        id,
        service: Service {
            image: Some(text("image").unwrap_or_else(|| "kinto".to_owned())),
            command: order["command"]
                .as_array()
                .map(|words| {
                    words
                        .iter()
                        .map(|word| word.as_str().unwrap().replace("{port}", &port.to_string()))
                        .collect()
                })
                .unwrap_or_default(),
            environment: BTreeMap::from([(
                "SERVICE_TOKEN".to_owned(),
                text("secret").unwrap_or_else(|| SECRET.to_owned()),
            )]),
            log_file: (order["service_log"] == true).then(|| folder.join("service.log")),
            port,
            ready_path: "/".to_owned(),
            ready_timeout: Duration::from_secs(order["ready_within"].as_u64().unwrap_or(30)),
            limits: Limits {
                cpus: order["cpus"].as_f64(),
                memory_bytes: None,
            },
            ..Service::default()
        },
        steps,
        cancel: Cancel::default(),
    };
    let mut load = Requests {
        log,
        stops: stops(order),
        crash_at: text("crash_at"),
        time: Duration::from_secs_f64(order["load_seconds"].as_f64().unwrap_or(0.3)),
    };
    let mut target = Ssm::new(options);
    let outcome = size(
        runtime,
        &mut target,
        &run,
        &mut load,
        &folder.join("results.json"),
    );
    // The session's last act, once nothing is left.
    run.ledger.end();
    let series = |label: &str| {
        let mut watched = outcome.metrics.watched.iter();
        watched.find(|watched| watched.label == label)
    };
    let values = |label: &str, metric: Metric| -> Vec<f64> {
        let samples = series(label)
            .into_iter()
            .flat_map(|watched| &watched.samples);
        samples
            .filter_map(|(_, sample)| sample.get(metric))
            .collect()
    };
    let most = |label: &str| {
        let used = values(label, Metric::CpuCoresUsed);
        used.into_iter().fold(0.0, f64::max)
    };
    json!({
        "failure": outcome.failure.as_ref().map(ToString::to_string),
        "left_behind": outcome.left_behind.as_ref().map(ToString::to_string),
        "load": outcome.load.as_ref().map(|end| end.exit_code),
        "samples": series("service").map_or(0, |watched| watched.samples.len()),
        "cpu_limit": values("service", Metric::CpuLimitCores).last(),
        "cpu_used": most("service"),
        "host_cpu_used": most("host"),
        "memory_bytes": values("service", Metric::MemoryBytes).last(),
        "facts": target.facts(),
        "notes": outcome.metrics.notes,
    })
}
