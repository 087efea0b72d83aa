//! What the monitors cost: CPU milliseconds per sample of each, and per cent of a core at one sample a second.
//!
//! `cargo run --release --no-default-features --example monitor_cost [-- --samples N] [SOURCE …]`. Without sources it
//! starts a tree of 32 idle processes, opens 2,000 connections as a generator has them, and takes itself, that tree, a
//! port, the root control group and the host.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool run by hand, whose output is its purpose"
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use molotov::monitor::{Generator, Roots, Sampler, Source, open};

/// CPU time of this thread, in nanoseconds.
fn thread_nanoseconds() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn main() {
    let mut samples = 30;
    let mut sources = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--samples" {
            samples = arguments.next().unwrap().parse().unwrap();
        } else {
            sources.push(argument);
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connections: Vec<(TcpStream, TcpStream)> = (0..2000)
        .map_while(|_| Some((TcpStream::connect(address).ok()?, listener.accept().ok()?.0)))
        .collect();
    // They end when this program does, since they wait for its end of the pipe.
    let script = "exec 3<&0; for n in $(seq 31); do cat <&3 & done; wait";
    let mut tree = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    if sources.is_empty() {
        sources = ["host".to_owned(), "cgroup:/".to_owned()].into();
        sources.push(format!("pid:{}", tree.id()));
        sources.push(format!("port:{}", address.port()));
    }
    let roots = Roots::system();
    let generator = Generator::new(&[std::process::id()], roots.clone()).unwrap();
    let mut samplers: Vec<(String, Box<dyn Sampler>)> =
        vec![("generator".to_owned(), Box::new(generator))];
    for text in sources {
        match text
            .parse::<Source>()
            .map_err(Into::into)
            .and_then(|source| open(&source, &roots))
        {
            Ok(sampler) => samplers.push((text, sampler)),
            Err(error) => println!("{error}"),
        }
    }
    println!("{} connections, {samples} samples each", connections.len());
    let start = Instant::now();
    let mut total = 0.0;
    for (name, sampler) in &mut samplers {
        sampler.sample(start.elapsed()).unwrap();
        let before = thread_nanoseconds();
        let mut values = 0;
        for _ in 0..samples {
            std::thread::sleep(Duration::from_millis(20));
            values = sampler.sample(start.elapsed()).unwrap().values().count();
        }
        let millis = (thread_nanoseconds() - before) as f64 / 1e6 / f64::from(samples);
        total += millis;
        println!(
            "{name:<24} {millis:7.3} ms/sample {:7.3} % of a core at 1 Hz, {values} values",
            millis / 10.0
        );
    }
    println!(
        "{:<24} {total:7.3} ms/sample {:7.3} % of a core at 1 Hz",
        "together",
        total / 10.0
    );
    drop(tree.stdin.take());
    tree.wait().unwrap();
}
