//! Containers as a fake API tells of them, on a unix socket of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::super::fixture::{Line, Tree};
use super::super::metric::Metric;
use super::super::roots::Roots;
use super::super::sample::{Event, Sample};
use super::super::{Error, Sampler};
use super::Container;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Answers by path, which a test may change; `None` is 404.
type Answers = Arc<Mutex<Vec<(&'static str, u16, String)>>>;

struct Api {
    tree: Tree,
    answers: Answers,
}

impl Api {
    fn new() -> Self {
        let tree = Tree::new();
        let listener = UnixListener::bind(tree.path("api.sock")).unwrap();
        let answers = Answers::default();
        let served = Arc::clone(&answers);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                let mut request = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                // The search for a socket connects and says nothing.
                if lines.read_line(&mut request).unwrap_or(0) == 0 {
                    continue;
                }
                let mut line = String::new();
                while lines.read_line(&mut line).unwrap_or(0) > 2 {
                    line.clear();
                }
                let path = request.split(' ').nth(1).unwrap_or_default();
                let answers = served.lock().unwrap();
                let found = answers.iter().find(|(known, _, _)| path.starts_with(known));
                let (status, body) = found.map_or(
                    (404, r#"{"message":"no such container"}"#),
                    |(_, status, body)| (*status, body.as_str()),
                );
                // In two chunks, as Docker sends statistics.
                let (head, tail) = body.split_at(body.len() / 2);
                let chunk = |text: &str| {
                    if text.is_empty() {
                        String::new()
                    } else {
                        format!("{:x}\r\n{text}\r\n", text.len())
                    }
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
                    chunk(head),
                    chunk(tail)
                );
                stream.write_all(answer.as_bytes()).ok();
            }
        });
        Self { tree, answers }
    }

    fn answers(&self, path: &'static str, status: u16, body: impl Into<String>) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, _, _)| *known != path);
        answers.push((path, status, body.into()));
    }

    fn runs(&self, pid: u32, started_at: &str) {
        self.answers(
            "/containers/web/json",
            200,
            inspection(true, pid, started_at),
        );
    }

    fn roots(&self) -> Roots {
        self.tree.roots()
    }
}

fn inspection(running: bool, pid: u32, started_at: &str) -> String {
    format!(
        r#"{{"Id":"{ID}","Name":"/web","State":{{"Status":"x","Running":{running},"Paused":false,"Pid":{pid},"StartedAt":"{started_at}"}},
        "HostConfig":{{"NanoCpus":1500000000,"CpuQuota":0,"CpuPeriod":0,"Memory":0}}}}"#
    )
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[track_caller]
fn holds(sample: &Sample, expected: &[(Metric, Option<f64>)]) {
    for (metric, value) in expected {
        assert_eq!(sample.get(*metric), *value, "{}", metric.name());
    }
}

/// Docker on version 2.
fn docker(second: u64) -> String {
    format!(
        r#"{{"read":"2026-11-25T19:58:24.1Z","preread":"0001-01-01T00:00:00Z","pids_stats":{{"current":9,"limit":18446744073709551615}},
        "blkio_stats":{{"io_service_bytes_recursive":[{{"major":8,"minor":0,"op":"read","value":{}}},{{"major":8,"minor":0,"op":"write","value":{}}}],"io_serviced_recursive":null}},
        "cpu_stats":{{"cpu_usage":{{"total_usage":{},"usage_in_kernelmode":1,"usage_in_usermode":2}},"system_cpu_usage":1,"online_cpus":4,
        "throttling_data":{{"periods":{},"throttled_periods":{},"throttled_time":5}}}},"precpu_stats":{{}},
        "memory_stats":{{"usage":5000,"stats":{{"anon":1,"inactive_file":2000}},"limit":9000}},
        "networks":{{"eth0":{{"rx_bytes":{second},"rx_packets":1,"rx_dropped":0,"tx_bytes":10,"tx_packets":2,"tx_dropped":0}},"eth1":{{"rx_bytes":{second},"tx_bytes":0}}}}}}"#,
        second * 100,
        second * 200,
        second * 700_000_000,
        second * 10,
        second * 2,
    )
}

#[test]
fn docker_statistics_are_read_where_the_group_is_not_ours() {
    let api = Api::new();
    api.runs(4242, "2026-11-25T10:00:00Z");
    api.answers(
        "/containers/web/stats?stream=false&one-shot=true",
        200,
        docker(1),
    );
    let mut sampler = Container::new("web", api.roots()).unwrap();
    let first = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (first.get(Metric::CpuCoresUsed), first.events.len()),
        (None, 0)
    );
    api.answers(
        "/containers/web/stats?stream=false&one-shot=true",
        200,
        docker(3),
    );
    let sample = sampler.sample(at(3)).unwrap();
    holds(
        &sample,
        &[
            (Metric::CpuCoresUsed, Some(0.7)),
            (Metric::CpuLimitCores, Some(1.5)),
            (Metric::CpuThrottledRatio, Some(0.2)),
            (Metric::CpuPressureRatio, None),
            (Metric::MemoryBytes, Some(3000.0)),
            (Metric::MemoryChargedBytes, Some(5000.0)),
            (Metric::MemoryLimitBytes, Some(9000.0)),
            (Metric::Threads, Some(9.0)),
            (Metric::ThreadLimit, None),
            (Metric::DiskReadBytesPerSecond, Some(100.0)),
            (Metric::DiskWriteBytesPerSecond, Some(200.0)),
            (Metric::NetworkReceiveBytesPerSecond, Some(2.0)),
            (Metric::NetworkTransmitBytesPerSecond, Some(0.0)),
        ],
    );
}

/// Podman 4 leaves out what it does not know, and so do old Dockers on version 1 in other places.
#[test]
fn what_podman_leaves_out_is_a_gap() {
    let api = Api::new();
    let inspection = inspection(true, 7, "a").replace("1500000000", "0");
    api.answers("/containers/web/json", 200, inspection);
    let statistics = |total: u64| {
        format!(
            r#"{{"read":"x","pids_stats":{{"current":3}},"blkio_stats":{{"io_service_bytes_recursive":null}},"num_procs":0,
            "cpu_stats":{{"cpu_usage":{{"total_usage":{total}}},"system_cpu_usage":1,"cpu":0,"throttling_data":{{"periods":0,"throttled_periods":0,"throttled_time":0}}}},
            "memory_stats":{{"usage":6422528,"limit":18446744073709551615}},"networks":null}}"#
        ) + "\n"
    };
    api.answers("/containers/web/stats", 200, statistics(0));
    let mut sampler = Container::new("web", api.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    api.answers("/containers/web/stats", 200, statistics(250_000_000));
    let sample = sampler.sample(at(1)).unwrap();
    let present: Vec<_> = sample.values().collect();
    let expected = [
        (Metric::CpuCoresUsed, 0.25),
        (Metric::MemoryBytes, 6_422_528.0),
        (Metric::MemoryChargedBytes, 6_422_528.0),
        (Metric::Threads, 3.0),
    ];
    assert_eq!(present, expected);
}

#[test]
fn version_one_writes_large_letters_and_totals() {
    let api = Api::new();
    api.runs(7, "a");
    let statistics = |bytes: u64| {
        format!(
            r#"{{"blkio_stats":{{"io_service_bytes_recursive":[{{"op":"Read","value":{bytes}}},{{"op":"Write","value":5}},{{"op":"Total","value":99}}]}},
            "cpu_stats":{{"cpu_usage":{{"total_usage":1,"percpu_usage":[1,2,3]}}}},
            "memory_stats":{{"usage":5000,"limit":9223372036854771712,"stats":{{"inactive_file":1,"total_inactive_file":2000,"total_swap":77}}}}}}"#
        )
    };
    api.answers("/containers/web/stats", 200, statistics(0));
    let mut sampler = Container::new("web", api.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    api.answers("/containers/web/stats", 200, statistics(50));
    let sample = sampler.sample(at(1)).unwrap();
    holds(
        &sample,
        &[
            (Metric::MemoryBytes, Some(3000.0)),
            (Metric::MemoryLimitBytes, None),
            (Metric::SwapBytes, Some(77.0)),
            (Metric::DiskReadBytesPerSecond, Some(50.0)),
            (Metric::DiskWriteBytesPerSecond, Some(0.0)),
        ],
    );
}

#[test]
fn the_group_on_this_machine_does_without_statistics() {
    let api = Api::new();
    api.runs(500, "a");
    let group = format!("cgroup/system.slice/docker-{ID}.scope");
    let write = |tree: &Tree, second: u64| {
        let cpu = format!("usage_usec {}\n", second * 250_000);
        let network = format!(
            "a|b\nc|d\n lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\neth0: {} 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
            second * 300
        );
        tree.write(&[
            (&format!("{group}/cpu.stat"), &cpu),
            ("proc/500/net/dev", &network),
        ]);
    };
    api.tree.write(&[
        ("cgroup/cgroup.controllers", "cpu\n"),
        (
            "proc/500/cgroup",
            &format!("0::/system.slice/docker-{ID}.scope\n"),
        ),
        ("proc/500/stat", &Line::new(500, 1, 0, 0).text()),
    ]);
    write(&api.tree, 0);
    let mut sampler = Container::new("web", api.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    // From here on the API is not needed.
    api.answers("/containers/web/json", 500, "{}");
    write(&api.tree, 2);
    let sample = sampler.sample(at(2)).unwrap();
    holds(
        &sample,
        &[
            (Metric::CpuCoresUsed, Some(0.25)),
            (Metric::NetworkReceiveBytesPerSecond, Some(300.0)),
        ],
    );
    // Another process got the number: the container is asked for again.
    let stranger = Line {
        start: 5000,
        ..Line::new(500, 1, 0, 0)
    };
    api.tree.write(&[("proc/500/stat", &stranger.text())]);
    api.answers("/containers/web/json", 200, inspection(false, 0, "a"));
    let sample = sampler.sample(at(3)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.is_gap()),
        ([Event::Exited].as_slice(), true)
    );
    assert_eq!(sampler.sample(at(4)).unwrap(), Sample::default());
}

#[test]
fn a_restart_is_noticed_and_followed() {
    let api = Api::new();
    api.runs(7, "first");
    api.answers("/containers/web/stats", 200, docker(100));
    let mut sampler = Container::new("web", api.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    api.runs(8, "second");
    api.answers("/containers/web/stats", 200, docker(200));
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.get(Metric::CpuCoresUsed)),
        ([Event::Restarted].as_slice(), None)
    );
    assert_eq!(sample.get(Metric::MemoryBytes), Some(3000.0));
    api.answers("/containers/web/stats", 200, docker(201));
    let sample = sampler.sample(at(2)).unwrap();
    assert_eq!(
        (sample.events.len(), sample.get(Metric::CpuCoresUsed)),
        (0, Some(0.7))
    );
}

#[test]
fn every_refusal_is_one_line_that_names_the_container() {
    let api = Api::new();
    let mut errors = vec![Container::new("other", api.roots()).unwrap_err()];
    assert!(matches!(errors[0], Error::NoContainer { .. }));
    api.answers("/containers/web/json", 200, inspection(false, 0, "a"));
    errors.push(Container::new("web", api.roots()).unwrap_err());
    assert!(matches!(errors[1], Error::ContainerNotRunning { .. }));
    let remote = Roots {
        docker_host: Some("tcp://10.0.0.1:2375".to_owned()),
        ..api.roots()
    };
    errors.push(Container::new("web", remote).unwrap_err());
    assert!(matches!(errors[2], Error::DockerHost { .. }));
    let nowhere = Roots {
        container_sockets: vec![api.tree.path("a.sock"), api.tree.path("b.sock")],
        ..api.roots()
    };
    errors.push(Container::new("web", nowhere).unwrap_err());
    let text = errors[3].to_string();
    assert!(
        text.contains("a.sock (not there)") && text.contains("b.sock"),
        "{text}"
    );
    for error in errors {
        let text = error.to_string();
        assert!(
            text.starts_with("--monitor container:") && text.lines().count() == 1,
            "{text}"
        );
    }
}

#[test]
fn docker_host_goes_before_the_usual_places() {
    let api = Api::new();
    api.runs(7, "a");
    let roots = Roots {
        docker_host: Some(format!("unix://{}", api.tree.path("api.sock").display())),
        container_sockets: Vec::new(),
        ..api.roots()
    };
    assert!(Container::new("web", roots).is_ok());
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let api = Api::new();
    for (status, body) in [
        (200, "not json"),
        (200, "{}"),
        (200, ""),
        (500, r#"{"message":"broken\nhere"}"#),
    ] {
        api.answers("/containers/web/json", status, body);
        let error = Container::new("web", api.roots()).unwrap_err();
        assert!(matches!(error, Error::ContainerApi { .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
