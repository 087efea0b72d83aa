//! Samplers on this machine's own `/proc`, watching processes that the test starts.
//!
//! Times are made up: the samplers take whatever clock they are given, so a "second" here is as long as it takes, and
//! what a process used is compared with what the system says it used, never with a clock.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails its test")]
#![expect(
    clippy::print_stdout,
    reason = "a copy of this program tells its port that way"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use molotov::monitor::{
    ControlGroup, Event, Generator, Host, Labelled, Metric, Monitor, Port, ProcessTree, Roots,
    Sample, Sampler,
};

/// A shell that runs one line of its script each time it is told to, and says when it is done.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn new() -> Self {
        Self::of(&mut Command::new("sh"))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(&mut self, command: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{command}").unwrap();
    }

    /// Runs a command and gives what it printed.
    fn run(&mut self, command: &str) -> String {
        self.start(&format!("{command}; echo done"));
        self.until_done()
    }

    fn until_done(&mut self) -> String {
        let mut printed = String::new();
        while !printed.ends_with("done\n") {
            assert!(
                self.output.read_line(&mut printed).unwrap() > 0,
                "the shell ended: {printed}"
            );
        }
        printed
    }

    /// Seconds that the shell and the children it waited for have used, by its own account.
    fn used_seconds(&mut self) -> f64 {
        let times = self.run("times");
        let mut sum = 0.0;
        for time in times.split_whitespace().filter(|word| word.ends_with('s')) {
            let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
            sum += minutes.parse::<f64>().unwrap() * 60.0
                + seconds.replace(',', ".").parse::<f64>().unwrap();
        }
        sum
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tree(shell: &Shell) -> ProcessTree {
    ProcessTree::new(shell.pid(), Roots::system()).unwrap()
}

const BURN: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";

#[test]
fn what_exited_children_used_is_neither_lost_nor_doubled() {
    let mut shell = Shell::new();
    let mut sampler = tree(&shell);
    sampler.sample(at(0)).unwrap();
    let before = shell.used_seconds();
    let mut counted = 0.0;
    let mut second = 0;
    let mut look = |sampler: &mut ProcessTree| {
        second += 1;
        // One made-up second after the other: cores are seconds used.
        let sample = sampler.sample(at(second)).unwrap();
        counted += sample.get(Metric::CpuCoresUsed).unwrap();
        sample
    };
    shell.run(BURN);
    look(&mut sampler);
    // A child and a grandchild, looked at while they run and after they are gone.
    for _ in 0..4 {
        shell.start(&format!("( ( {BURN} ); {BURN} ); echo done"));
        for _ in 0..20 {
            look(&mut sampler);
        }
        shell.until_done();
        look(&mut sampler);
    }
    // Children that were never seen.
    shell.run(&format!("for n in 1 2 3; do ( {BURN} ); done"));
    look(&mut sampler);
    let used = shell.used_seconds() - before;
    let sample = look(&mut sampler);
    assert_eq!(sample.get(Metric::Processes), Some(1.0));
    // Each process and each step is rounded down to ticks of 10 ms, four numbers in the shell's account.
    assert!(
        (counted - used).abs() < 0.3,
        "counted {counted}, used {used}"
    );
    assert!(used > 0.05, "the loops used {used} s");
}

#[test]
fn the_limits_and_sizes_of_a_process_are_there() {
    let mut shell = Shell::new();
    let mut sampler = tree(&shell);
    let before = sampler.sample(at(0)).unwrap();
    shell.run("ulimit -Sn 77; x=$(head -c 40000000 /dev/zero | tr '\\0' a)");
    let mut fresh = tree(&shell);
    let sample = fresh.sample(at(1)).unwrap();
    let grown = sample.get(Metric::MemoryBytes).unwrap() - before.get(Metric::MemoryBytes).unwrap();
    assert!(grown > 30e6, "grew by {grown} bytes");
    assert_eq!(sample.get(Metric::DescriptorLimit), Some(77.0));
    let open = sample.get(Metric::OpenDescriptors).unwrap();
    assert!((3.0..77.0).contains(&open), "{open} descriptors");
    assert!(sample.utilization(Metric::MemoryBytes).unwrap() < 1.0);
    let cores = sample.get(Metric::CpuLimitCores).unwrap();
    assert!(cores > 0.0 && cores <= std::thread::available_parallelism().unwrap().get() as f64);
    assert_eq!(sample.get(Metric::Threads), Some(1.0));
}

#[test]
fn an_exit_is_said_once_and_gaps_follow() {
    let mut shell = Shell::new();
    let mut sampler = tree(&shell);
    sampler.sample(at(0)).unwrap();
    shell.child.kill().unwrap();
    shell.child.wait().unwrap();
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.is_gap()),
        ([Event::Exited].as_slice(), true)
    );
    assert_eq!(sampler.sample(at(2)).unwrap(), Sample::default());
    let error = ProcessTree::new(shell.pid(), Roots::system()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("--monitor pid:{}", shell.pid()))
    );
}

#[test]
fn the_owner_of_a_port_is_found_with_its_queue() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sampler = Port::new(address.port(), Roots::system()).unwrap();
    let waiting: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // A connection is in the queue when the kernel has worked off its last packet, a moment after `connect` returned.
    let mut seconds = 0;
    let queue = std::iter::repeat_with(|| {
        seconds += 1;
        std::thread::yield_now();
        sampler
            .sample(at(seconds))
            .unwrap()
            .get(Metric::AcceptQueue)
    });
    assert!(queue.take(10_000).any(|queue| queue == Some(3.0)));
    drop(waiting);
}

/// Where a second copy of this program is told to listen, see below.
const LISTEN: &str = "MOLOTOV_TEST_LISTEN";

/// A service for the next test; nothing at all in an ordinary run.
#[test]
fn service_that_listens_until_it_is_told_to_end() {
    if let Ok(address) = std::env::var(LISTEN) {
        let listener = TcpListener::bind(address).unwrap();
        println!("\nlistening {}", listener.local_addr().unwrap());
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

/// The service and its address; `None` when the address is taken.
fn service(address: &str) -> Option<(Shell, SocketAddr)> {
    let name = "monitor::service_that_listens_until_it_is_told_to_end";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env(LISTEN, address)
        .stderr(Stdio::null());
    let mut service = Shell::of(&mut command);
    let mut line = String::new();
    while service.output.read_line(&mut line).unwrap() > 0 {
        if let Some(address) = line.trim().strip_prefix("listening ") {
            return Some((service, address.parse().unwrap()));
        }
        line.clear();
    }
    None
}

#[test]
fn a_service_is_followed_over_a_restart() {
    let (first, address) = service("127.0.0.1:0").unwrap();
    let mut sampler = Port::new(address.port(), Roots::system()).unwrap();
    let sample = sampler.sample(at(0)).unwrap();
    assert_eq!(
        (sample.events.len(), sample.get(Metric::Processes)),
        (0, Some(1.0))
    );
    drop(first);
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.is_gap()),
        ([Event::Exited].as_slice(), true)
    );
    // The port may have gone to somebody else in the meantime; then there is no coming back to look at.
    let Some((_second, _)) = service(&address.to_string()) else {
        return;
    };
    let sample = sampler.sample(at(2)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.get(Metric::Processes)),
        ([Event::Restarted].as_slice(), Some(1.0))
    );
    assert!(
        sampler
            .sample(at(3))
            .unwrap()
            .get(Metric::CpuCoresUsed)
            .is_some()
    );
}

#[test]
fn the_generators_ports_are_counted() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let mut generator = Generator::new(&[std::process::id()], Roots::system()).unwrap();
    let connections: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let sample = generator.sample(at(0)).unwrap();
    // Earlier users of the port may have left connections in `TIME_WAIT`, which are in the way just as well.
    assert!(sample.get(Metric::EphemeralPortsUsed).unwrap() >= 20.0);
    assert!(sample.utilization(Metric::EphemeralPortsUsed).unwrap() < 1.0);
    assert!(sample.get(Metric::OpenDescriptors).unwrap() >= 21.0);
    assert!(sample.utilization(Metric::OpenDescriptors).unwrap() <= 1.0);
    drop(connections);
}

#[test]
fn this_machine_makes_sense() {
    let mut host = Host::new(Roots::system()).unwrap();
    let first = host.sample(at(0)).unwrap();
    assert_eq!(first.get(Metric::CpuCoresUsed), None);
    let mut shell = Shell::new();
    // Until the clock of the cores has moved.
    let mut sample = first;
    for second in 1..1000 {
        shell.run(BURN);
        sample = host.sample(at(second)).unwrap();
        if sample
            .get(Metric::CpuCoresUsed)
            .is_some_and(|cores| cores > 0.0)
        {
            break;
        }
    }
    let cores = sample.get(Metric::CpuLimitCores).unwrap();
    let used = sample.get(Metric::CpuCoresUsed).unwrap();
    assert!(used > 0.0 && used <= cores, "{used} of {cores}");
    assert_eq!(
        Some(sample.core_busy_ratios.len() as f64),
        sample.get(Metric::CpuLimitCores)
    );
    assert!(
        sample
            .core_busy_ratios
            .iter()
            .all(|ratio| (0.0..=1.0).contains(ratio))
    );
    assert!(sample.utilization(Metric::MemoryBytes).unwrap() < 1.0);
    for (metric, value) in sample.values() {
        assert!(value >= 0.0, "{} is {value}", metric.name());
        assert!(
            !metric.name().ends_with("_ratio")
                || value <= 1.0
                || metric == Metric::NetworkBusyRatio
        );
    }
}

#[test]
fn the_root_control_group_can_be_read() {
    // Whatever version this machine has, and none inside of some containers.
    let Ok(mut sampler) = ControlGroup::new("/", Roots::system()) else {
        return;
    };
    sampler.sample(at(0)).unwrap();
    let sample = sampler.sample(at(1)).unwrap();
    assert!(sample.get(Metric::Processes).unwrap() >= 1.0);
    assert!(sample.events.is_empty());
}

#[test]
fn everything_together_makes_one_series_each() {
    let shell = Shell::new();
    let roots = Roots::system();
    let sources: Vec<Labelled> = [format!("pid:{}", shell.pid()), "host".to_owned()]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let generator = Generator::new(&[std::process::id()], roots.clone()).unwrap();
    let mut monitor = Monitor::open(generator, &sources, &roots).unwrap();
    for second in 0..3 {
        monitor
            .generator()
            .set_event_loop_lag(Duration::from_millis(5));
        assert_eq!(monitor.sample_all(at(second)).len(), 3);
    }
    let series = monitor.into_series();
    let lag = series[0]
        .window(Metric::EventLoopLagSeconds, at(0), at(2))
        .unwrap();
    assert_eq!((lag.samples, lag.max.to_string().as_str()), (3, "0.005"));
    for series in &series {
        assert_eq!(series.len(), 3);
        // The cores' clock may not have moved in between, that of processes is counted from the first look.
        let cpu = series.window(Metric::CpuCoresUsed, at(0), at(2));
        assert!(
            series.source == "host" || cpu.unwrap().samples == 2,
            "{}",
            series.source
        );
    }
}
