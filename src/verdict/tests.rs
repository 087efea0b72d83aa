//! Synthetic series of each kind, and mixed ones.
//!
//! Longer than usual: the rules are tested together, because their order is half of the verdict.

use std::time::Duration;

use super::*;
use crate::monitor::{Event, Metric, Sample};

const LIMIT_BYTES: f64 = 1e9;

fn level(from: f64, to: f64, active: f64, per_second: f64) -> Level {
    Level {
        from_seconds: from,
        to_seconds: to,
        active,
        per_second,
        ..Level::default()
    }
}

/// A target that idles: a quarter of two cores, a third of its memory; `more` changes that by the second.
fn target(more: impl Fn(u64, &mut Sample)) -> Series {
    let mut series = Series::new("pid:7");
    for second in 0..60 {
        let mut sample = Sample::default();
        for (metric, value) in [
            (Metric::CpuCoresUsed, 0.5),
            (Metric::CpuLimitCores, 2.0),
            (Metric::HottestThreadCores, 0.3),
            (Metric::MemoryBytes, LIMIT_BYTES / 3.0),
            (Metric::MemoryLimitBytes, LIMIT_BYTES),
            (Metric::DiskBusyRatio, 0.1),
            (Metric::NetworkBusyRatio, 0.1),
            (Metric::Processes, 1.0),
        ] {
            sample.set(metric, value);
        }
        more(second, &mut sample);
        series.push(Duration::from_secs(second), &sample);
    }
    series
}

fn steady(values: &[(Metric, f64)]) -> Series {
    target(|_, sample| {
        for (metric, value) in values {
            sample.set(*metric, *value);
        }
    })
}

fn generator(values: &[(Metric, f64)]) -> Series {
    let mut series = steady(values);
    series.source = "generator".to_owned();
    series
}

fn judged(generator: Option<&Series>, target: &Series, others: &[Level]) -> Verdict {
    let requests: Vec<(f64, u64)> = (0_u64..60)
        .map(|second| (second as f64, second * 100))
        .collect();
    judge(&Known {
        generator,
        targets: &[target],
        level: Some(&level(20.0, 59.0, 20.0, 100.0)),
        others,
        requests: &requests,
        failure: None,
    })
}

fn alone(target: &Series) -> Verdict {
    judged(None, target, &[])
}

#[test]
fn a_busy_cpu_is_named_with_its_share() {
    let verdict = alone(&steady(&[(Metric::CpuCoresUsed, 1.94)]));
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Cpu, Confidence::High)
    );
    assert_eq!(
        verdict.sentence,
        "limited by CPU of pid:7 (high confidence): 1.94 of 2 cores in use (97 %)"
    );
    assert_eq!(
        verdict.brief().unwrap(),
        "limited by CPU of pid:7 (1.94 cores)"
    );
    let nearly = alone(&steady(&[(Metric::CpuCoresUsed, 1.84)]));
    assert_eq!(
        (nearly.resource, nearly.confidence),
        (Resource::Cpu, Confidence::Medium)
    );
}

#[test]
fn a_throttled_group_is_limited_by_cpu() {
    let verdict = alone(&steady(&[
        (Metric::CpuCoresUsed, 1.5),
        (Metric::CpuThrottledRatio, 0.8),
    ]));
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Cpu, Confidence::High)
    );
    assert!(
        verdict.sentence.contains("throttled by its quota in 80 %"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn pressure_counts_only_where_the_cpu_is_busy() {
    let pressed = [(Metric::CpuPressureRatio, 0.6)];
    assert_eq!(alone(&steady(&pressed)).resource, Resource::Unknown);
    let busy = [(Metric::CpuPressureRatio, 0.6), (Metric::CpuCoresUsed, 1.6)];
    assert_eq!(alone(&steady(&busy)).resource, Resource::Cpu);
}

#[test]
fn a_pinned_thread_is_a_single_threaded_limit() {
    let verdict = alone(&steady(&[
        (Metric::CpuCoresUsed, 1.1),
        (Metric::HottestThreadCores, 0.98),
    ]));
    assert_eq!(
        verdict.brief().unwrap(),
        "limited by CPU of pid:7 (one core at 98 %, single-threaded)"
    );
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Cpu, Confidence::High)
    );
    assert!(
        verdict.sentence.contains("single-threaded limit"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn threads_that_take_turns_use_one_core_at_every_level() {
    let service = steady(&[(Metric::CpuCoresUsed, 1.0)]);
    let verdict = judged(None, &service, &[level(0.0, 19.0, 10.0, 100.0)]);
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Cpu, Confidence::Medium)
    );
    assert!(
        verdict.sentence.contains("take turns"),
        "{}",
        verdict.sentence
    );
    // Several processes can use more.
    let several = steady(&[(Metric::CpuCoresUsed, 1.0), (Metric::Processes, 4.0)]);
    assert_eq!(alone(&several).resource, Resource::Unknown);
}

#[test]
fn what_is_busy_under_a_higher_load_that_brings_no_more_is_the_limit() {
    // One request after the other: client and network have a tenth of the time.
    let service = target(|second, sample| {
        let used = if second < 20 { 1.0 } else { 0.87 };
        sample.set(Metric::CpuCoresUsed, used);
    });
    let flat = level(0.0, 19.0, 160.0, 100.0);
    let verdict = judged(None, &service, std::slice::from_ref(&flat));
    assert_eq!(verdict.resource, Resource::Cpu, "{}", verdict.sentence);
    let text = "with 160 in flight: its one process used 1.00 cores";
    assert!(verdict.sentence.contains(text), "{}", verdict.sentence);
    let brief = verdict.brief().unwrap();
    assert!(brief.contains("1.00 cores, single-threaded"), "{brief}");
    // More throughput there is another matter.
    let more = level(0.0, 19.0, 30.0, 150.0);
    let verdict = judged(None, &service, &[more]);
    assert_ne!(verdict.resource, Resource::Cpu, "{}", verdict.sentence);
}

#[test]
fn memory_near_its_limit_comes_before_a_busy_cpu() {
    let verdict = alone(&steady(&[
        (Metric::CpuCoresUsed, 1.99),
        (Metric::MemoryBytes, 0.98 * LIMIT_BYTES),
    ]));
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Memory, Confidence::High)
    );
    assert_eq!(verdict.findings[1].resource, Resource::Cpu);
    assert!(
        verdict.sentence.contains("also CPU of pid:7"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn swapping_pressure_and_kills_are_memory() {
    let swapping = alone(&steady(&[(Metric::SwapOutBytesPerSecond, 5e6)]));
    assert_eq!(
        (swapping.resource, swapping.confidence),
        (Resource::Memory, Confidence::Medium)
    );
    let pressed = alone(&steady(&[(Metric::MemoryPressureRatio, 0.4)]));
    assert_eq!(
        (pressed.resource, pressed.confidence),
        (Resource::Memory, Confidence::High)
    );
    let killed = alone(&target(|second, sample| {
        if second == 30 {
            sample.events.push(Event::OutOfMemory { kills: 2 });
        }
    }));
    assert_eq!(killed.resource, Resource::Memory);
    assert!(
        killed.sentence.contains("2 processes killed"),
        "{}",
        killed.sentence
    );
}

#[test]
fn growth_says_when_the_limit_is_reached() {
    let growing = target(|second, sample| {
        sample.set(Metric::MemoryBytes, 3e8 + 1e6 * second as f64);
    });
    let verdict = alone(&growing);
    assert_eq!(verdict.resource, Resource::Memory);
    let growth = &verdict.memory_growth[0];
    assert!(
        (growth.bytes_per_thousand_requests - 1e7).abs() < 1e3,
        "{growth:?}"
    );
    // 641 MB are left, at 1 MB/s.
    assert!(
        (growth.limit_reached_in_seconds.unwrap() - 641.0).abs() < 1.0,
        "{growth:?}"
    );
    assert!(
        verdict.sentence.contains("in 11 min"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn growth_yields_to_what_limits_now_but_is_told() {
    let growing = target(|second, sample| {
        sample.set(Metric::MemoryBytes, 3e8 + 1e6 * second as f64);
        sample.set(Metric::CpuCoresUsed, 2.0);
    });
    let verdict = alone(&growing);
    assert_eq!(verdict.resource, Resource::Cpu);
    assert!(
        verdict.sentence.contains("; also memory of pid:7"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn slow_growth_is_reported_and_is_no_verdict() {
    let growing = target(|second, sample| {
        sample.set(Metric::MemoryBytes, 3e8 + 1e5 * second as f64);
    });
    let verdict = alone(&growing);
    assert_eq!(verdict.resource, Resource::Unknown);
    assert_eq!(verdict.memory_growth.len(), 1);
    let noisy = target(|second, sample| {
        let noise = if second % 2 == 0 { 5e7 } else { 0.0 };
        sample.set(Metric::MemoryBytes, 3e8 + noise);
    });
    assert!(alone(&noisy).memory_growth.is_empty());
}

#[test]
fn a_disk_needs_more_than_a_busy_share_to_be_sure() {
    let busy = alone(&steady(&[(Metric::DiskBusyRatio, 0.97)]));
    assert_eq!(
        (busy.resource, busy.confidence),
        (Resource::Disk, Confidence::Low)
    );
    let queued = alone(&steady(&[
        (Metric::DiskBusyRatio, 0.97),
        (Metric::DiskQueue, 8.0),
        (Metric::IoPressureRatio, 0.5),
    ]));
    assert_eq!(
        (queued.resource, queued.confidence),
        (Resource::Disk, Confidence::High)
    );
    assert!(
        queued.sentence.contains("8.0 requests queued"),
        "{}",
        queued.sentence
    );
}

#[test]
fn a_full_link_is_the_network() {
    let verdict = alone(&steady(&[
        (Metric::NetworkBusyRatio, 0.96),
        (Metric::NetworkLimitBytesPerSecond, 125e6),
    ]));
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Network, Confidence::High)
    );
    assert!(
        verdict.sentence.contains("96 % full of 119.2 MiB a second"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn drops_at_a_flat_packet_rate_are_the_network() {
    let dropping = steady(&[
        (Metric::NetworkReceivePacketsPerSecond, 90_000.0),
        (Metric::NetworkDropsPerSecond, 50.0),
    ]);
    assert_eq!(alone(&dropping).resource, Resource::Unknown);
    let others = [level(0.0, 19.0, 10.0, 99.0)];
    assert_eq!(judged(None, &dropping, &others).resource, Resource::Network);
}

#[test]
fn a_saturated_generator_comes_first() {
    let busy = generator(&[
        (Metric::CpuCoresUsed, 1.98),
        (Metric::HottestThreadCores, 0.99),
    ]);
    let verdict = judged(Some(&busy), &steady(&[(Metric::CpuCoresUsed, 2.0)]), &[]);
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Generator, Confidence::High)
    );
    assert_eq!(verdict.generator.valid, Some(false));
    assert_eq!(verdict.generator.reasons.len(), 2);
    assert!(
        verdict.sentence.starts_with("at least this much"),
        "{}",
        verdict.sentence
    );
    assert_eq!(verdict.findings[1].resource, Resource::Cpu);
}

#[test]
fn each_sign_of_a_saturated_generator_suffices() {
    for values in [
        &[(Metric::HottestThreadCores, 0.95)][..],
        &[(Metric::EventLoopLagSeconds, 0.4)],
        &[
            (Metric::OpenDescriptors, 1020.0),
            (Metric::DescriptorLimit, 1024.0),
        ],
        &[
            (Metric::EphemeralPortsUsed, 28_000.0),
            (Metric::EphemeralPortsLimit, 28_232.0),
        ],
    ] {
        let verdict = judged(Some(&generator(values)), &steady(&[]), &[]);
        assert_eq!(verdict.resource, Resource::Generator, "{values:?}");
    }
    let idle = judged(Some(&generator(&[])), &steady(&[]), &[]);
    assert_eq!(
        (idle.generator.valid, idle.resource),
        (Some(true), Resource::Unknown)
    );
}

#[test]
fn a_lag_without_cpu_is_a_blocking_call() {
    let blocked = generator(&[(Metric::EventLoopLagSeconds, 0.4)]);
    let verdict = judged(Some(&blocked), &steady(&[]), &[]);
    assert!(
        verdict.sentence.contains("block the event loop"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn late_starts_are_the_generator_even_unsampled() {
    let late = Level {
        started_ratio: Some(0.8),
        ..level(20.0, 59.0, 20.0, 100.0)
    };
    let verdict = judge(&Known {
        level: Some(&late),
        ..Known::default()
    });
    assert_eq!(verdict.resource, Resource::Generator);
    assert!(
        verdict.sentence.contains("only 80 %"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn more_load_without_more_throughput_and_nothing_busy_is_inside() {
    let idle = steady(&[]);
    let verdict = judged(None, &idle, &[level(0.0, 19.0, 10.0, 99.0)]);
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Inside, Confidence::Medium)
    );
    assert!(
        verdict.sentence.contains("from 10 to 20 in flight"),
        "{}",
        verdict.sentence
    );
    // Four times the load for a fifth more is hardly more either; for twice as much it is.
    let with = |per_second| judged(None, &idle, &[level(0.0, 19.0, 80.0, per_second)]).resource;
    assert_eq!(with(120.0), Resource::Inside);
    assert_eq!(with(200.0), Resource::Unknown);
}

#[test]
fn more_load_with_more_throughput_is_no_limit() {
    let verdict = judged(None, &steady(&[]), &[level(0.0, 19.0, 10.0, 52.0)]);
    assert_eq!(verdict.resource, Resource::Nothing);
    assert!(
        verdict.sentence.starts_with("nothing gave out"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn a_full_accept_queue_is_inside() {
    let verdict = alone(&steady(&[(Metric::ListenOverflowsPerSecond, 12.0)]));
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Inside, Confidence::High)
    );
}

#[test]
fn without_evidence_there_is_no_verdict() {
    assert_eq!(alone(&steady(&[])).resource, Resource::Unknown);
    let gaps = Series::new("host");
    assert_eq!(
        judged(None, &gaps, &[level(0.0, 19.0, 10.0, 99.0)]).resource,
        Resource::Unknown
    );
    let nothing = judge(&Known {
        level: Some(&level(0.0, 9.0, 1.0, 1.0)),
        ..Known::default()
    });
    assert!(
        nothing.sentence.contains("--monitor"),
        "{}",
        nothing.sentence
    );
    let no_level = judge(&Known::default());
    assert_eq!(no_level.resource, Resource::Unknown);
}

#[test]
fn a_peak_in_the_settling_time_is_not_judged() {
    let early = target(|second, sample| {
        if second < 24 {
            sample.set(Metric::CpuCoresUsed, 2.0);
        }
    });
    assert_eq!(alone(&early).resource, Resource::Unknown);
}

#[test]
fn json_keeps_a_verdict() {
    let verdict = alone(&steady(&[(Metric::CpuCoresUsed, 1.94)]));
    let text = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
}

#[test]
fn a_generator_that_waits_for_its_core_is_saturated() {
    let starved = generator(&[
        (Metric::HottestThreadCores, 0.3),
        (Metric::WantedThreadCores, 0.99),
        (Metric::WantedThreadWaitCores, 0.69),
    ]);
    let verdict = judged(Some(&starved), &steady(&[]), &[]);
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Generator, Confidence::High)
    );
    let said = "waited for a core 69 % of the time and used one only 30 %";
    assert!(verdict.sentence.contains(said), "{}", verdict.sentence);
    assert_eq!(verdict.generator.valid, Some(false));
    // It waits, but sleeps often enough to keep up.
    let crowded = generator(&[
        (Metric::HottestThreadCores, 0.3),
        (Metric::WantedThreadCores, 0.7),
        (Metric::WantedThreadWaitCores, 0.4),
    ]);
    let verdict = judged(Some(&crowded), &steady(&[]), &[]);
    assert_eq!(verdict.generator.valid, Some(true));
}

#[test]
fn a_generator_that_gives_out_above_the_level_is_the_limit() {
    // At the level it just keeps up; with twice the load it does not, and hardly more comes back.
    let at = |from: f64, to: f64, second: u64| (from..to).contains(&(second as f64));
    let mut series = target(|second, sample| {
        let (wanted, waits) = if at(0.0, 20.0, second) {
            (0.99, 0.7)
        } else {
            (0.85, 0.6)
        };
        sample.set(Metric::WantedThreadCores, wanted);
        sample.set(Metric::WantedThreadWaitCores, waits);
    });
    series.source = "generator".to_owned();
    let above = |per_second| [level(0.0, 19.0, 40.0, per_second)];
    let verdict = judged(Some(&series), &steady(&[]), &above(115.0));
    assert_eq!(verdict.resource, Resource::Generator);
    assert_eq!(verdict.generator.valid, Some(false));
    let said = "with 40 in flight: it waited for a core 70 % of the time";
    assert!(verdict.sentence.contains(said), "{}", verdict.sentence);
    // Where twice the load brings nearly twice as much, nothing held it back.
    let verdict = judged(Some(&series), &steady(&[]), &above(180.0));
    assert_eq!(verdict.generator.valid, Some(true));
    // A target that is busy at the level is what limits it.
    let busy = steady(&[(Metric::CpuCoresUsed, 1.95)]);
    let verdict = judged(Some(&series), &busy, &above(115.0));
    assert_eq!(verdict.resource, Resource::Cpu);
    assert_eq!(verdict.generator.valid, Some(true));
}

#[test]
fn a_target_that_waits_for_its_core_is_limited_by_the_cpu_that_others_have() {
    let squeezed = alone(&steady(&[
        (Metric::HottestThreadCores, 0.5),
        (Metric::WantedThreadCores, 0.97),
        (Metric::WantedThreadWaitCores, 0.47),
    ]));
    assert_eq!(squeezed.resource, Resource::Cpu);
    let said = "its busiest thread never slept: it ran 50 % of the time and waited 47 %";
    assert!(squeezed.sentence.contains(said), "{}", squeezed.sentence);
    let only = alone(&steady(&[
        (Metric::Threads, 1.0),
        (Metric::WantedThreadCores, 0.97),
        (Metric::WantedThreadWaitCores, 0.47),
    ]));
    assert!(
        only.sentence.ends_with("single-threaded limit"),
        "{}",
        only.sentence
    );
    // A pool of threads, none of which is always busy, on a machine that is.
    let pool = [
        (Metric::MachineBusyRatio, 0.99),
        (Metric::CpuWaitingThreads, 3.0),
    ];
    assert_eq!(alone(&steady(&pool)).resource, Resource::Cpu);
    // One that hardly uses any would hardly gain by more.
    let light = [
        pool[0],
        (Metric::CpuWaitingThreads, 0.6),
        (Metric::CpuCoresUsed, 0.05),
    ];
    assert_eq!(alone(&steady(&light)).resource, Resource::Unknown);
    // Its threads take turns, and the one whose turn it is waits.
    let turns = [
        pool[0],
        (Metric::CpuWaitingThreads, 0.7),
        (Metric::CpuCoresUsed, 0.25),
    ];
    assert_eq!(alone(&steady(&turns)).resource, Resource::Cpu);
    // The machine has cores to spare: waiting is only the bustle of waking up together.
    let idle = [
        (Metric::MachineBusyRatio, 0.6),
        (Metric::CpuWaitingThreads, 3.0),
    ];
    assert_eq!(alone(&steady(&idle)).resource, Resource::Unknown);
}

#[test]
fn an_address_space_that_is_full_is_memory_also_outside_the_level_judged() {
    let leaking = target(|second, sample| {
        // Full for a moment, before the level.
        sample.set(
            Metric::AddressSpaceBytes,
            if second == 5 { 9.9e8 } else { 5e8 },
        );
        sample.set(Metric::AddressSpaceLimitBytes, LIMIT_BYTES);
    });
    let verdict = alone(&leaking);
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Memory, Confidence::High)
    );
    let said = "of address space in use (99 %) at another time of the run";
    assert!(verdict.sentence.contains(said), "{}", verdict.sentence);
}

#[test]
fn memory_that_was_well_filled_when_the_target_was_gone_is_named() {
    let filled = |share: f64, exits: bool| {
        alone(&target(|second, sample| {
            sample.set(
                Metric::MemoryBytes,
                if second == 58 {
                    share * LIMIT_BYTES
                } else {
                    3e8
                },
            );
            if exits && second == 59 {
                *sample = Sample::default();
                sample.events.push(Event::Exited);
            }
        }))
        .resource
    };
    assert_eq!(filled(0.85, true), Resource::Memory);
    assert_eq!(filled(0.85, false), Resource::Unknown);
    assert_eq!(filled(0.5, true), Resource::Unknown);
}

#[test]
fn threads_that_wait_for_a_disk_are_the_disk() {
    let verdict = alone(&steady(&[
        (Metric::BlockedThreads, 5.0),
        (Metric::DiskWriteBytesPerSecond, 3e6),
    ]));
    assert_eq!(
        (verdict.resource, verdict.confidence),
        (Resource::Disk, Confidence::Medium)
    );
    let said = "5.0 of its threads waited for a disk";
    assert!(verdict.sentence.contains(said), "{}", verdict.sentence);
    let now_and_then = steady(&[(Metric::BlockedThreads, 0.2)]);
    assert_eq!(alone(&now_and_then).resource, Resource::Unknown);
}

#[test]
fn answers_that_take_longer_while_no_more_come_are_bandwidth() {
    let with = |level: Level, transfer: f64| Level {
        transfer_seconds: Some(transfer),
        bytes_per_second: 1e7,
        ..level
    };
    let judged = |low: f64, high: f64, service: &Series| {
        judge(&Known {
            targets: &[service],
            level: Some(&with(level(20.0, 59.0, 2.0, 100.0), low)),
            others: &[with(level(0.0, 19.0, 8.0, 101.0), high)],
            ..Known::default()
        })
    };
    let narrow = judged(0.018, 0.078, &steady(&[]));
    assert_eq!(narrow.resource, Resource::Network);
    assert!(
        narrow.sentence.contains("9.5 MiB a second: bandwidth"),
        "{}",
        narrow.sentence
    );
    // A stream of fixed length: something else keeps more of them from coming.
    assert_eq!(
        judged(0.018, 0.018, &steady(&[])).resource,
        Resource::Inside
    );
    // A server that has no CPU left answers slowly as well.
    let busy = steady(&[(Metric::CpuCoresUsed, 1.98)]);
    assert_eq!(judged(0.018, 0.078, &busy).resource, Resource::Cpu);
}

#[test]
fn runs_that_fail_with_more_load_are_a_limit_inside_unless_a_resource_is_full_there() {
    let judged = |service: &Series| {
        let broken = Level {
            failed_ratio: 0.12,
            ..level(40.0, 59.0, 31.0, 300.0)
        };
        judge(&Known {
            targets: &[service],
            level: Some(&level(0.0, 39.0, 30.0, 300.0)),
            others: &[broken, level(0.0, 10.0, 15.0, 150.0)],
            failure: Some("AssertionError: 429"),
            ..Known::default()
        })
    };
    let verdict = judged(&steady(&[]));
    assert_eq!(verdict.resource, Resource::Inside);
    let said = "with 31 instead of 30 in flight 12 % of the runs failed (mostly AssertionError: 429) while";
    assert!(verdict.sentence.contains(said), "{}", verdict.sentence);
    let full_there = target(|second, sample| {
        if second >= 40 {
            sample.set(Metric::CpuCoresUsed, 1.99);
        }
    });
    assert_eq!(judged(&full_there).resource, Resource::Cpu);
}
