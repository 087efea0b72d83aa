//! From a port to processes, on a `/proc` of the test's own making.

use std::os::unix::fs::symlink;
use std::time::Duration;

use super::super::fixture::{Line, Tree};
use super::super::metric::Metric;
use super::super::sample::Event;
use super::super::{Error, Sampler};
use super::Port;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn listens(tree: &Tree, inode: u32, waiting: u32) {
    let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let ours = format!(
        "   0: 00000000:22B8 00000000:0000 0A 00000000:{waiting:08X} 00:00000000 00000000 0 0 {inode} 1\n"
    );
    let other =
        "   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 9 1\n";
    tree.write(&[("proc/net/tcp", &format!("{head}{other}{ours}"))]);
}

fn holds(tree: &Tree, pid: u32, inode: u32, line: &Line) {
    tree.write(&[
        (&format!("proc/{pid}/stat"), &line.text()),
        (&format!("proc/{pid}/comm"), "server\n"),
        (&format!("proc/{pid}/fd/none"), ""),
    ]);
    symlink(
        format!("socket:[{inode}]"),
        tree.path(&format!("proc/{pid}/fd/3")),
    )
    .ok();
}

#[test]
fn holders_and_what_descends_from_them_are_sampled() {
    let tree = Tree::new();
    listens(&tree, 42, 5);
    holds(&tree, 100, 42, &Line::new(100, 1, 0, 0));
    holds(&tree, 101, 42, &Line::new(101, 100, 0, 0));
    tree.write(&[
        ("proc/102/stat", &Line::new(102, 101, 0, 0).text()),
        ("proc/103/stat", &Line::new(103, 1, 0, 0).text()),
    ]);
    let mut sampler = Port::new(8888, tree.roots()).unwrap();
    let sample = sampler.sample(at(0)).unwrap();
    assert_eq!(sample.get(Metric::Processes), Some(3.0));
    assert_eq!(sample.get(Metric::AcceptQueue), Some(5.0));
}

#[test]
fn a_service_that_went_away_and_came_back_is_followed() {
    let tree = Tree::new();
    listens(&tree, 42, 0);
    holds(&tree, 100, 42, &Line::new(100, 1, 0, 0));
    let mut sampler = Port::new(8888, tree.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    tree.remove("proc/100");
    tree.write(&[("proc/net/tcp", "heading\n")]);
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.is_gap()),
        ([Event::Exited].as_slice(), true)
    );
    assert!(sampler.sample(at(2)).unwrap().events.is_empty());
    listens(&tree, 43, 0);
    holds(&tree, 200, 43, &Line::new(200, 1, 70, 0));
    let sample = sampler.sample(at(3)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.get(Metric::CpuCoresUsed)),
        ([Event::Restarted].as_slice(), None)
    );
    holds(&tree, 200, 43, &Line::new(200, 1, 120, 0));
    let sample = sampler.sample(at(4)).unwrap();
    assert_eq!(
        (sample.events.len(), sample.get(Metric::CpuCoresUsed)),
        (0, Some(0.5))
    );
}

#[test]
fn a_service_that_hands_its_port_over_is_followed_at_once() {
    let tree = Tree::new();
    listens(&tree, 42, 0);
    holds(&tree, 100, 42, &Line::new(100, 1, 0, 0));
    let mut sampler = Port::new(8888, tree.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    listens(&tree, 43, 0);
    holds(&tree, 200, 43, &Line::new(200, 1, 0, 0));
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(sample.events, [Event::Restarted]);
    assert_eq!(sample.get(Metric::Processes), Some(1.0));
}

#[test]
fn a_replaced_worker_is_no_restart() {
    let tree = Tree::new();
    listens(&tree, 42, 0);
    holds(&tree, 100, 42, &Line::new(100, 1, 50, 0));
    let mut sampler = Port::new(8888, tree.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    // The process opened another socket, and another process shares it.
    listens(&tree, 43, 0);
    tree.remove("proc/100/fd/3");
    holds(&tree, 100, 43, &Line::new(100, 1, 60, 0));
    holds(&tree, 200, 43, &Line::new(200, 1, 900, 0));
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (sample.events.len(), sample.get(Metric::CpuCoresUsed)),
        (0, Some(0.1))
    );
    holds(&tree, 200, 43, &Line::new(200, 1, 930, 0));
    let sample = sampler.sample(at(2)).unwrap();
    assert_eq!(
        (
            sample.get(Metric::Processes),
            sample.get(Metric::CpuCoresUsed)
        ),
        (Some(2.0), Some(0.3))
    );
}

#[test]
fn a_service_that_closed_its_port_is_sampled_until_it_exits() {
    let tree = Tree::new();
    listens(&tree, 42, 0);
    holds(&tree, 100, 42, &Line::new(100, 1, 50, 0));
    let mut sampler = Port::new(8888, tree.roots()).unwrap();
    tree.write(&[("proc/net/tcp", "heading\n")]);
    let sample = sampler.sample(at(0)).unwrap();
    assert_eq!(
        (
            sample.get(Metric::Processes),
            sample.get(Metric::AcceptQueue)
        ),
        (Some(1.0), None)
    );
    tree.remove("proc/100");
    assert_eq!(sampler.sample(at(1)).unwrap().events, [Event::Exited]);
}

#[test]
fn every_refusal_names_the_port() {
    let tree = Tree::new();
    let refusal = || Port::new(8888, tree.roots()).unwrap_err();
    assert!(matches!(refusal(), Error::NoListener { .. }));
    listens(&tree, 42, 0);
    assert!(matches!(refusal(), Error::HiddenListener { .. }));
    holds(&tree, 100, 42, &Line::new(100, 1, 0, 0));
    tree.write(&[("proc/100/comm", "docker-proxy\n")]);
    let error = refusal();
    assert!(matches!(error, Error::Forwarder { .. }));
    assert!(
        error
            .to_string()
            .contains("port:8888: docker-proxy listens there"),
        "{error}"
    );
}
