//! The three layouts, on trees of the test's own making.

use std::time::Duration;

use super::super::fixture::{Line, Tree};
use super::super::metric::Metric;
use super::super::sample::{Event, Sample};
use super::super::{Error, Sampler};
use super::{Allowance, ControlGroup};
use crate::monitor::files::Files;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn values<const N: usize>(sample: &Sample, metrics: [Metric; N]) -> [Option<f64>; N] {
    metrics.map(|metric| sample.get(metric))
}

/// A service in a slice with a tighter quota, and a group below it.
fn version_two() -> Tree {
    let tree = Tree::new();
    tree.write(&[
        ("cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
        ("cgroup/web.slice/cpu.max", "150000 100000\n"),
        ("cgroup/web.slice/memory.max", "1000000000\n"),
        ("cgroup/web.slice/memory.high", "max\n"),
        ("cgroup/web.slice/app.service/cpu.max", "max 100000\n"),
        (
            "cgroup/web.slice/app.service/cpuset.cpus.effective",
            "0-3\n",
        ),
        ("cgroup/web.slice/app.service/memory.max", "max\n"),
        ("cgroup/web.slice/app.service/memory.high", "900000000\n"),
        ("cgroup/web.slice/app.service/memory.current", "600000000\n"),
        ("cgroup/web.slice/app.service/memory.swap.current", "4096\n"),
        ("cgroup/web.slice/app.service/memory.swap.max", "max\n"),
        (
            "cgroup/web.slice/app.service/memory.stat",
            "anon 400000000\nfile 150000000\ninactive_file 100000000\n",
        ),
        (
            "cgroup/web.slice/app.service/memory.events",
            "low 0\nhigh 7\nmax 0\noom 1\noom_kill 1\noom_group_kill 0\n",
        ),
        ("cgroup/web.slice/app.service/pids.current", "12\n"),
        ("cgroup/web.slice/app.service/pids.max", "100\n"),
        ("cgroup/web.slice/app.service/cgroup.procs", "100\n0\n"),
        ("cgroup/web.slice/app.service/below/cgroup.procs", "101\n"),
        ("proc/100/task/100/stat", &Line::new(100, 1, 10, 0).text()),
        ("proc/101/task/101/stat", &Line::new(101, 1, 50, 0).text()),
        // LVM on a disk: the same bytes twice.
        ("sys/dev/block/253:0/slaves/vda/size", "1\n"),
    ]);
    counters_two(&tree, 0);
    tree
}

fn counters_two(tree: &Tree, second: u64) {
    let cpu = format!(
        "usage_usec {}\nuser_usec 1\nsystem_usec 1\nnr_periods {}\nnr_throttled {}\nthrottled_usec 9\n",
        5_000_000 + second * 1_200_000,
        second * 10,
        second * 3
    );
    let io = format!(
        "8:0 rbytes={0} wbytes={1} rios=5 wios=6 dbytes=0 dios=0\n253:0 rbytes={0} wbytes={1} rios=5 wios=6 dbytes=0 dios=0\n",
        second * 1000,
        second * 2000
    );
    let pressure = format!(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        second * 400_000
    );
    tree.write(&[
        ("cgroup/web.slice/app.service/cpu.stat", &cpu),
        ("cgroup/web.slice/app.service/io.stat", &io),
        ("cgroup/web.slice/app.service/cpu.pressure", &pressure),
    ]);
}

#[test]
fn version_two_is_read_with_its_ancestors_limits() {
    let tree = version_two();
    let path = tree.path("cgroup/web.slice/app.service");
    for name in [
        "/web.slice/app.service",
        "web.slice/app.service",
        path.to_str().unwrap(),
    ] {
        counters_two(&tree, 0);
        let mut sampler = ControlGroup::new(name, tree.roots()).unwrap();
        let first = sampler.sample(at(10)).unwrap();
        assert_eq!(first.get(Metric::CpuCoresUsed), None);
        counters_two(&tree, 2);
        tree.write(&[("proc/101/task/101/stat", &Line::new(101, 1, 150, 0).text())]);
        let sample = sampler.sample(at(12)).unwrap();
        assert!(sample.events.is_empty());
        let cpu = [
            Metric::CpuCoresUsed,
            Metric::CpuLimitCores,
            Metric::CpuThrottledRatio,
            Metric::CpuPressureRatio,
            Metric::HottestThreadCores,
        ];
        assert_eq!(
            values(&sample, cpu),
            [Some(1.2), Some(1.5), Some(0.3), Some(0.4), Some(0.5)]
        );
        let memory = [
            Metric::MemoryBytes,
            Metric::MemoryChargedBytes,
            Metric::MemoryLimitBytes,
            Metric::SwapBytes,
            Metric::SwapLimitBytes,
            Metric::MemoryPressureRatio,
        ];
        let expected = [
            Some(500_000_000.0),
            Some(600_000_000.0),
            Some(900_000_000.0),
            Some(4096.0),
            None,
            None,
        ];
        assert_eq!(values(&sample, memory), expected);
        let rest = [
            Metric::DiskReadBytesPerSecond,
            Metric::DiskWriteBytesPerSecond,
            Metric::Threads,
            Metric::ThreadLimit,
            Metric::Processes,
            Metric::OutOfMemoryKills,
        ];
        assert_eq!(
            values(&sample, rest),
            [1000.0, 2000.0, 12.0, 100.0, 2.0, 0.0].map(Some)
        );
        tree.write(&[("proc/101/task/101/stat", &Line::new(101, 1, 50, 0).text())]);
    }
}

#[test]
fn a_group_that_is_removed_and_made_again_exits_and_restarts() {
    let tree = version_two();
    let mut sampler = ControlGroup::new("/web.slice/app.service", tree.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    tree.remove("cgroup/web.slice/app.service");
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(
        (sample.events.as_slice(), sample.is_gap()),
        ([Event::Exited].as_slice(), true)
    );
    assert!(sampler.sample(at(2)).unwrap().events.is_empty());
    counters_two(&tree, 9);
    let sample = sampler.sample(at(3)).unwrap();
    assert_eq!(sample.events, [Event::Restarted]);
    assert_eq!(sample.get(Metric::CpuCoresUsed), None);
    counters_two(&tree, 10);
    let sample = sampler.sample(at(4)).unwrap();
    assert_eq!(sample.get(Metric::CpuCoresUsed), Some(1.2));
}

#[test]
fn a_kill_for_lack_of_memory_is_an_event() {
    let tree = version_two();
    let mut sampler = ControlGroup::new("/web.slice/app.service", tree.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    tree.write(&[(
        "cgroup/web.slice/app.service/memory.events",
        "oom 3\noom_kill 3\n",
    )]);
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(sample.events, [Event::OutOfMemory { kills: 2 }]);
    assert_eq!(sample.get(Metric::OutOfMemoryKills), Some(2.0));
}

#[test]
fn a_group_that_is_not_there_is_named() {
    for tree in [version_two(), hybrid()] {
        let error = ControlGroup::new("/no.slice", tree.roots()).unwrap_err();
        assert!(matches!(error, Error::NoGroup { .. }));
        let text = error.to_string();
        assert!(
            text.contains("cgroup:/no.slice") && text.lines().count() == 1,
            "{text}"
        );
    }
}

/// Docker's layout on version 1, with version 2 mounted beside for PSI.
fn hybrid() -> Tree {
    let tree = Tree::new();
    tree.write(&[
        ("cgroup/unified/cgroup.controllers", "\n"),
        ("cgroup/unified/docker/abc/cgroup.procs", "100\n"),
        ("cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n"),
        ("cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n"),
        ("cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n"),
        (
            "cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us",
            "100000\n",
        ),
        ("cgroup/cpu,cpuacct/docker/abc/cgroup.procs", "100\n"),
        ("cgroup/cpuset/docker/abc/cpuset.cpus", "0,2\n"),
        (
            "cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        ("cgroup/memory/docker/memory.limit_in_bytes", "2000000\n"),
        (
            "cgroup/memory/docker/abc/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        (
            "cgroup/memory/docker/abc/memory.usage_in_bytes",
            "1500000\n",
        ),
        (
            "cgroup/memory/docker/abc/memory.stat",
            "inactive_file 1\nswap 1\ntotal_inactive_file 500000\ntotal_swap 8192\n",
        ),
        (
            "cgroup/memory/docker/abc/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        ),
        ("cgroup/pids/docker/abc/pids.current", "3\n"),
        ("cgroup/pids/docker/abc/pids.max", "max\n"),
    ]);
    counters_one(&tree, 0);
    tree
}

fn counters_one(tree: &Tree, second: u64) {
    let pressure = format!(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\n",
        second * 100_000
    );
    let cpu = format!(
        "nr_periods {}\nnr_throttled {}\nthrottled_time 5\n",
        second * 10,
        second * 9
    );
    let io = format!(
        "8:0 Read {}\n8:0 Write {}\n8:0 Sync 5\n8:0 Async 6\n8:0 Total 7\nTotal 7\n",
        second * 512,
        second * 1024
    );
    tree.write(&[
        (
            "cgroup/cpu,cpuacct/docker/abc/cpuacct.usage",
            &format!("{}\n", second * 480_000_000),
        ),
        ("cgroup/cpu,cpuacct/docker/abc/cpu.stat", &cpu),
        (
            "cgroup/blkio/docker/abc/blkio.throttle.io_service_bytes",
            &io,
        ),
        ("cgroup/unified/docker/abc/cpu.pressure", &pressure),
    ]);
}

#[test]
fn version_one_is_read_from_all_its_trees() {
    let tree = hybrid();
    let inner = tree.path("cgroup/memory/docker/abc");
    for name in ["/docker/abc", inner.to_str().unwrap()] {
        counters_one(&tree, 0);
        let mut sampler = ControlGroup::new(name, tree.roots()).unwrap();
        sampler.sample(at(0)).unwrap();
        counters_one(&tree, 1);
        let sample = sampler.sample(at(1)).unwrap();
        let cpu = [
            Metric::CpuCoresUsed,
            Metric::CpuLimitCores,
            Metric::CpuThrottledRatio,
            Metric::CpuPressureRatio,
        ];
        assert_eq!(
            values(&sample, cpu),
            [Some(0.48), Some(0.5), Some(0.9), Some(0.1)]
        );
        let memory = [
            Metric::MemoryBytes,
            Metric::MemoryChargedBytes,
            Metric::MemoryLimitBytes,
            Metric::SwapBytes,
        ];
        assert_eq!(
            values(&sample, memory),
            [1_000_000.0, 1_500_000.0, 2_000_000.0, 8192.0].map(Some)
        );
        let rest = [
            Metric::DiskReadBytesPerSecond,
            Metric::DiskWriteBytesPerSecond,
            Metric::Threads,
            Metric::ThreadLimit,
            Metric::Processes,
        ];
        assert_eq!(
            values(&sample, rest),
            [Some(512.0), Some(1024.0), Some(3.0), None, Some(1.0)]
        );
    }
}

#[test]
fn plain_version_one_has_no_pressure() {
    let tree = hybrid();
    tree.remove("cgroup/unified");
    let mut sampler = ControlGroup::new("/docker/abc", tree.roots()).unwrap();
    sampler.sample(at(0)).unwrap();
    counters_one(&tree, 1);
    tree.remove("cgroup/unified");
    let sample = sampler.sample(at(1)).unwrap();
    assert_eq!(sample.get(Metric::CpuPressureRatio), None);
    assert_eq!(sample.get(Metric::CpuCoresUsed), Some(0.48));
}

#[test]
fn a_process_may_use_the_tightest_of_everything() {
    let tree = version_two();
    tree.write(&[
        ("proc/meminfo", "MemTotal:       16000000 kB\n"),
        ("proc/100/cgroup", "0::/web.slice/app.service\n"),
        (
            "proc/100/status",
            "Name:\ta\nCpus_allowed:\tf\nCpus_allowed_list:\t0-7\n",
        ),
        ("proc/101/status", "Name:\tb\nCpus_allowed_list:\t3\n"),
        (
            "cgroup/web.slice/cpu.stat",
            "usage_usec 1\nnr_periods 50\nnr_throttled 20\n",
        ),
    ]);
    let roots = tree.roots();
    let mut allowance = Allowance::new(&roots);
    let allowed = allowance.read(100, &roots, &mut Files::default());
    assert_eq!(allowed.cores, Some(1.5));
    assert_eq!(allowed.memory_bytes, Some(900_000_000));
    assert_eq!(allowed.throttling, Some((50, 20)));
    let allowed = allowance.read(101, &roots, &mut Files::default());
    assert_eq!(allowed.cores, Some(1.0));
    assert_eq!(allowed.memory_bytes, Some(16_000_000 * 1024));
    assert_eq!(allowed.throttling, None);
}

#[test]
fn a_process_has_a_group_per_controller_in_version_one() {
    let tree = hybrid();
    tree.write(&[
        (
            "proc/100/cgroup",
            "4:memory:/docker\n3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n0::/\n",
        ),
        ("proc/100/status", "Cpus_allowed_list:\t0-7\n"),
    ]);
    let roots = tree.roots();
    let allowed = Allowance::new(&roots).read(100, &roots, &mut Files::default());
    assert_eq!(allowed.cores, Some(0.5));
    assert_eq!(allowed.memory_bytes, Some(2_000_000));
    assert_eq!(allowed.throttling, Some((0, 0)));
}
