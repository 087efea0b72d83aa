//! What a monitored target used over the time of the run, and what was left.
//!
//! Owns which metrics share a chart. A chart without a value is left out by whoever adds it, so a target shows what was
//! measured of it and nothing else. Called by `run` and `load`.

use super::model::{Axis, Block, Chart, Line, Look, Section, Timeline};
use super::number;
use super::table::{Cell, Table};
use super::thin::{MOST_POINTS, Thinner};
use crate::monitor::{Event, GENERATOR, Metric, Series};
use crate::results::Results;
use crate::verdict::{Level, Resource};

/// More cores than this are not drawn one by one; the busiest is, in any case.
const MOST_CORES: usize = 16;

/// A limit further above than this would only flatten what is below.
const LIMIT_IN_SIGHT: f64 = 6.0;

/// In which unit a chart shows bytes: that in which one would say its largest value.
struct Scale {
    unit: &'static str,
    per_second: &'static str,
    factor: f64,
}

impl Scale {
    fn of(most: f64) -> Self {
        const KIBI: f64 = 1024.0;
        let (unit, per_second, size) = if most >= 2.0 * KIBI.powi(3) {
            ("GiB", "GiB/s", KIBI.powi(3))
        } else if most >= KIBI.powi(2) {
            ("MiB", "MiB/s", KIBI.powi(2))
        } else {
            ("KiB", "KiB/s", KIBI)
        };
        Self {
            unit,
            per_second,
            factor: 1.0 / size,
        }
    }
}

/// One target, thinned.
struct Charts<'a> {
    series: &'a Series,
    thinner: Thinner,
    axis: usize,
    id: &'a str,
}

impl<'a> Charts<'a> {
    fn new(id: &'a str, series: &'a Series, timeline: &mut Timeline) -> Self {
        let thinner = Thinner::new(series.times_seconds().to_vec(), MOST_POINTS);
        let axis = timeline.axis(thinner.times());
        Self {
            series,
            thinner,
            axis,
            id,
        }
    }

    fn values(&self, metric: Metric) -> Vec<Option<f64>> {
        self.series.points(metric).map(|(_, value)| value).collect()
    }

    fn most(&self, metric: Metric) -> Option<f64> {
        self.values(metric).into_iter().flatten().reduce(f64::max)
    }

    fn of_values(&self, name: &str, unit: &str, values: &[Option<f64>]) -> Line {
        Line {
            name: name.to_owned(),
            unit: unit.to_owned(),
            axis: Some(self.axis),
            y: self.thinner.values(values),
            ..Line::default()
        }
    }

    fn line(&self, metric: Metric, name: &str, unit: &str, factor: f64) -> Line {
        let values: Vec<Option<f64>> = self
            .values(metric)
            .iter()
            .map(|value| value.map(|value| value * factor))
            .collect();
        self.of_values(name, unit, &values)
    }

    fn strong(&self, metric: Metric, name: &str, unit: &str, factor: f64) -> Line {
        Line {
            strong: true,
            ..self.line(metric, name, unit, factor)
        }
    }

    fn right(&self, metric: Metric, name: &str) -> Line {
        Line {
            right: true,
            ..self.line(metric, name, "%", 100.0)
        }
    }

    fn limit(&self, metric: Metric, name: &str, unit: &str, factor: f64) -> Line {
        Line {
            look: Look::Limit,
            ..self.line(metric, name, unit, factor)
        }
    }

    /// A metric as a share of its limit, in percent.
    fn share(&self, metric: Metric, name: &str) -> Option<Line> {
        let limits = self.values(metric.limit()?);
        let values = self.values(metric);
        let shares: Vec<Option<f64>> = values
            .iter()
            .zip(&limits)
            .map(|(value, limit)| Some((*value)? / limit.filter(|limit| *limit > 0.0)? * 100.0))
            .collect();
        Some(self.of_values(name, "%", &shares))
    }

    fn chart(
        &self,
        name: &str,
        title: &str,
        left: Axis,
        right: Option<Axis>,
        lines: Vec<Line>,
    ) -> Chart {
        let any_right = lines.iter().any(|line| line.right && !line.is_empty());
        Chart {
            id: format!("{}-{name}", self.id),
            title: title.to_owned(),
            left,
            right: right.filter(|_| any_right),
            lines,
            half: true,
            ..Chart::default()
        }
    }

    fn cpu(&self) -> Chart {
        let mut lines = vec![
            self.strong(Metric::CpuCoresUsed, "used", "cores", 1.0),
            self.line(Metric::HottestThreadCores, "busiest thread", "cores", 1.0),
            self.line(Metric::HottestCoreRatio, "busiest core", "cores", 1.0),
            self.limit(Metric::CpuLimitCores, "limit", "cores", 1.0),
            self.right(Metric::CpuThrottledRatio, "throttled"),
            self.right(Metric::CpuStealRatio, "stolen"),
        ];
        if self.series.cores() <= MOST_CORES {
            for core in 0..self.series.cores() {
                let values: Vec<Option<f64>> = self.series.core_points(core).collect();
                let mut line = self.of_values(&format!("core {core}"), "cores", &values);
                line.hidden = true;
                lines.push(line);
            }
        }
        let right = Axis::new("throttled, stolen", "%").at_least(10.0);
        self.chart(
            "cpu",
            "CPU",
            Axis::new("cores", "").at_least(1.0),
            Some(right),
            lines,
        )
    }

    fn memory(&self) -> Chart {
        let most = self.most(Metric::MemoryBytes).unwrap_or_default();
        let limit = self.most(Metric::MemoryLimitBytes);
        let in_sight = limit.filter(|limit| *limit <= most * LIMIT_IN_SIGHT);
        let charged = self.most(Metric::MemoryChargedBytes).unwrap_or_default();
        let scale = Scale::of(in_sight.unwrap_or_default().max(most).max(charged));
        let line = |metric, name| self.line(metric, name, scale.unit, scale.factor);
        let mut lines = vec![
            Line {
                strong: true,
                ..line(Metric::MemoryBytes, "in use")
            },
            line(Metric::MemoryChargedBytes, "with page cache"),
        ];
        if self.most(Metric::SwapBytes) > Some(0.0) {
            lines.push(line(Metric::SwapBytes, "swap"));
        }
        let mut note = String::new();
        if in_sight.is_some() {
            lines.push(self.limit(Metric::MemoryLimitBytes, "limit", scale.unit, scale.factor));
        } else if let Some(limit) = limit {
            note = format!("The limit, {}, is far above.", number::bytes(limit));
        }
        let axis = Axis::new("memory", scale.unit);
        let chart = self.chart("memory", "Memory", axis, None, lines);
        Chart { note, ..chart }
    }

    fn disk(&self) -> Chart {
        self.traffic(
            "disk",
            "Disk",
            [
                (Metric::DiskReadBytesPerSecond, "read"),
                (Metric::DiskWriteBytesPerSecond, "written"),
            ],
            (Metric::DiskBusyRatio, "busy"),
        )
    }

    fn network(&self) -> Chart {
        self.traffic(
            "network",
            "Network",
            [
                (Metric::NetworkReceiveBytesPerSecond, "received"),
                (Metric::NetworkTransmitBytesPerSecond, "sent"),
            ],
            (Metric::NetworkBusyRatio, "of the link"),
        )
    }

    /// Bytes in both directions, and how busy what carries them was.
    fn traffic(
        &self,
        id: &str,
        title: &str,
        directions: [(Metric, &str); 2],
        (busy, name): (Metric, &str),
    ) -> Chart {
        let most = directions.map(|(metric, _)| self.most(metric).unwrap_or_default());
        let scale = Scale::of(most.into_iter().fold(0.0, f64::max));
        let mut lines: Vec<Line> = directions
            .into_iter()
            .map(|(metric, name)| self.line(metric, name, scale.per_second, scale.factor))
            .collect();
        lines.push(Line {
            strong: true,
            ..self.right(busy, name)
        });
        let right = Axis::new(name, "%").at_least(10.0);
        let left = Axis::new("transferred", scale.per_second).at_least(1.0);
        self.chart(id, title, left, Some(right), lines)
    }

    fn pressure(&self) -> Chart {
        let lines = vec![
            self.line(Metric::CpuPressureRatio, "for CPU", "%", 100.0),
            self.line(Metric::MemoryPressureRatio, "for memory", "%", 100.0),
            self.line(Metric::IoPressureRatio, "for disks", "%", 100.0),
        ];
        let chart = self.chart(
            "pressure",
            "Waiting for resources (PSI)",
            Axis::new("of the time", "%").at_least(10.0),
            None,
            lines,
        );
        Chart {
            note: "Share of the time in which some task had to wait.".to_owned(),
            ..chart
        }
    }

    fn sockets(&self) -> Chart {
        let lines = vec![
            self.line(Metric::AcceptQueue, "waiting to be accepted", "", 1.0),
            self.line(
                Metric::ListenOverflowsPerSecond,
                "turned away per second",
                "",
                1.0,
            ),
            self.line(Metric::ListenDropsPerSecond, "dropped per second", "", 1.0),
            self.line(
                Metric::NetworkDropsPerSecond,
                "packets dropped per second",
                "",
                1.0,
            ),
        ];
        self.chart(
            "sockets",
            "Connections waiting or lost",
            Axis::new("connections", "").at_least(1.0),
            None,
            lines,
        )
    }
}

/// All that is known of one target: charts, and a table of peaks.
pub(super) fn section(
    id: &str,
    title: &str,
    series: &Series,
    level: Option<&Level>,
    timeline: &mut Timeline,
) -> Section {
    let mut section = Section::new(id, &super::table::cut(title, 120));
    let charts = Charts::new(id, series, timeline);
    if let Some(text) = events(series) {
        section.blocks.push(Block::Text(text));
    }
    section.chart(charts.cpu());
    section.chart(charts.memory());
    let mut idle = Vec::new();
    for chart in [
        charts.disk(),
        charts.network(),
        charts.pressure(),
        charts.sockets(),
    ] {
        // Zeros all the way need no picture.
        if chart
            .lines
            .iter()
            .any(|line| line.y.iter().any(|value| value.0 > 0.0))
        {
            section.chart(chart);
        } else if !chart.is_empty() {
            idle.push(chart.title);
        }
    }
    if !idle.is_empty() {
        section.blocks.push(Block::Text(format!(
            "Measured, and zero all the time: {}.",
            idle.join(", ")
        )));
    }
    section.table(table(id, series, level));
    section
}

/// How busy everything was, each as a share of what there is: the one that reaches the top first is the answer.
pub(super) fn utilisation(results: &Results, timeline: &mut Timeline) -> Chart {
    let verdict = results.verdict.as_ref();
    let mut lines = Vec::new();
    for series in &results.monitor {
        let charts = Charts::new("", series, timeline);
        let generator = series.source == GENERATOR;
        let is = |resource: Resource| {
            verdict.is_some_and(|verdict| {
                let own = verdict.source.as_ref() == Some(&series.source);
                verdict.resource == resource && own && !generator
            })
        };
        let whose = super::table::cut(crate::verdict::whose(Some(&series.source)), 60);
        let name = |what: &str| format!("{what} of {whose}");
        let mut add = |line: Option<Line>, strong: bool, hidden: bool| {
            if let Some(line) = line.filter(|line| !line.is_empty()) {
                let look = if strong { Look::Culprit } else { Look::Line };
                lines.push(Line {
                    look,
                    hidden,
                    strong,
                    ..line
                });
            }
        };
        let saturated = verdict.is_some_and(|verdict| verdict.resource == Resource::Generator);
        let cpu = charts.share(Metric::CpuCoresUsed, &name("CPU"));
        add(cpu, is(Resource::Cpu) || (generator && saturated), false);
        if generator {
            continue;
        }
        let memory = charts.share(Metric::MemoryBytes, &name("memory"));
        add(memory, is(Resource::Memory), false);
        let disk = charts.line(Metric::DiskBusyRatio, &name("disk"), "%", 100.0);
        add(Some(disk), is(Resource::Disk), false);
        let network = charts.line(Metric::NetworkBusyRatio, &name("network"), "%", 100.0);
        add(Some(network), is(Resource::Network), false);
        let thread = charts.line(
            Metric::HottestThreadCores,
            &name("busiest thread"),
            "%",
            100.0,
        );
        add(Some(thread), false, true);
    }
    // What limits is drawn last, on top, and named first.
    lines.sort_by_key(|line| !line.strong);
    Chart {
        id: "utilisation".to_owned(),
        title: "How busy everything was".to_owned(),
        note: "Each resource as a share of its limit: what reaches 100 % first gives out first."
            .to_owned(),
        left: Axis::new("used of its limit", "%").at_least(100.0),
        lines,
        ..Chart::default()
    }
}

/// How late the event loop of the generator was.
pub(super) fn lag(results: &Results, timeline: &mut Timeline) -> Section {
    let mut section = Section::new("generator", "The load generator itself");
    let values: Vec<Option<f64>> = results
        .series
        .0
        .iter()
        .map(|point| point.event_loop_lag_seconds.map(|lag| lag * 1000.0))
        .collect();
    if values.iter().all(Option::is_none) {
        return section;
    }
    let times = results.series.0.iter().map(|point| point.time_seconds);
    let thinner = Thinner::new(times.collect(), MOST_POINTS);
    let axis = timeline.axis(thinner.times());
    section.chart(Chart {
        id: "generator-lag".to_owned(),
        title: "Event loop".to_owned(),
        note: "How late timers ran, at worst in a second. Late timers make service times look longer than they are."
            .to_owned(),
        left: Axis::new("late by", "ms").at_least(10.0),
        lines: vec![Line {
            name: "late by".to_owned(),
            unit: "ms".to_owned(),
            axis: Some(axis),
            y: thinner.values(&values),
            strong: true,
            ..Line::default()
        }],
        half: true,
        ..Chart::default()
    });
    section
}

fn events(series: &Series) -> Option<String> {
    let texts: Vec<String> = series
        .events()
        .iter()
        .take(20)
        .map(|event| {
            let what = match &event.event {
                Event::Restarted => "restarted".to_owned(),
                Event::Exited => "exited".to_owned(),
                Event::OutOfMemory { kills } => format!("{kills} killed for lack of memory"),
                Event::Failed { message } => {
                    format!("could not be read: {}", super::table::cut(message, 200))
                }
                Event::Recovered => "could be read again".to_owned(),
            };
            format!("after {} {what}", number::duration(event.time_seconds))
        })
        .collect();
    (!texts.is_empty()).then(|| format!("Events: {}.", texts.join("; ")))
}

/// What a metric is called, and how its values are written.
fn described(metric: Metric) -> (&'static str, fn(f64) -> String) {
    let plain: fn(f64) -> String = number::rate;
    match metric {
        Metric::CpuCoresUsed => ("CPU, cores used", plain),
        Metric::HottestThreadCores => ("busiest thread, cores", plain),
        Metric::HottestCoreRatio => ("busiest core", number::percent),
        Metric::WantedThreadCores => ("busiest thread, cores used or waited for", plain),
        Metric::WantedThreadWaitCores => ("of those, waited for", plain),
        Metric::CpuWaitingThreads => ("threads waiting for CPU", plain),
        Metric::MachineBusyRatio => ("CPU of the whole machine busy", number::percent),
        Metric::AddressSpaceBytes => ("virtual memory", number::bytes),
        Metric::BlockedThreads => ("threads waiting for a disk", plain),
        Metric::CpuStealRatio => ("CPU time stolen", number::percent),
        Metric::CpuThrottledRatio => ("CPU quota throttled", number::percent),
        Metric::CpuPressureRatio => ("waiting for CPU (PSI)", number::percent),
        Metric::MemoryBytes => ("memory in use", number::bytes),
        Metric::MemoryChargedBytes => ("memory with page cache", number::bytes),
        Metric::SwapBytes => ("swap in use", number::bytes),
        Metric::SwapInBytesPerSecond => ("read from swap per second", number::bytes),
        Metric::SwapOutBytesPerSecond => ("written to swap per second", number::bytes),
        Metric::OutOfMemoryKills => ("killed for lack of memory", plain),
        Metric::MemoryPressureRatio => ("waiting for memory (PSI)", number::percent),
        Metric::DiskBusyRatio => ("disk busy", number::percent),
        Metric::DiskQueue => ("disk queue", plain),
        Metric::DiskReadBytesPerSecond => ("disk read per second", number::bytes),
        Metric::DiskWriteBytesPerSecond => ("disk written per second", number::bytes),
        Metric::IoPressureRatio => ("waiting for disks (PSI)", number::percent),
        Metric::NetworkReceiveBytesPerSecond => ("network received per second", number::bytes),
        Metric::NetworkTransmitBytesPerSecond => ("network sent per second", number::bytes),
        Metric::NetworkReceivePacketsPerSecond => ("packets received per second", plain),
        Metric::NetworkTransmitPacketsPerSecond => ("packets sent per second", plain),
        Metric::NetworkDropsPerSecond => ("packets dropped per second", plain),
        Metric::NetworkBusyRatio => ("network link used", number::percent),
        Metric::OpenDescriptors => ("open file descriptors", plain),
        Metric::Processes => ("processes", plain),
        Metric::Threads => ("threads", plain),
        Metric::AcceptQueue => ("connections waiting to be accepted", plain),
        Metric::ListenOverflowsPerSecond => ("connections turned away per second", plain),
        Metric::ListenDropsPerSecond => ("connections dropped per second", plain),
        Metric::TimeWaitSockets => ("sockets in TIME_WAIT", plain),
        Metric::EphemeralPortsUsed => ("ephemeral ports used", plain),
        Metric::EventLoopLagSeconds => ("event loop late by", number::time),
        Metric::CpuLimitCores
        | Metric::MemoryLimitBytes
        | Metric::SwapLimitBytes
        | Metric::NetworkLimitBytesPerSecond
        | Metric::DescriptorLimit
        | Metric::ThreadLimit
        | Metric::AddressSpaceLimitBytes
        | Metric::EphemeralPortsLimit => ("limit", plain),
    }
}

fn is_limit(metric: Metric) -> bool {
    described(metric).0 == "limit"
}

fn table(id: &str, series: &Series, level: Option<&Level>) -> Table {
    let caption = match level {
        Some(level) => format!(
            "Figures over the level judged ({} to {}) and at the peak; what stayed at zero is left out",
            number::duration(level.from_seconds),
            number::duration(level.to_seconds)
        ),
        None => "Figures at the peak; what stayed at zero is left out".to_owned(),
    };
    let titles = [
        "resource",
        "#mean at that level",
        "#peak of the run",
        "#limit",
        "#left",
    ];
    let mut table = Table::new(&format!("{id}-table"), &caption, &titles);
    let end = std::time::Duration::MAX;
    for metric in series.metrics().filter(|metric| !is_limit(*metric)) {
        let (name, text) = described(metric);
        let (from, to) = level.map_or((end, end), Level::settled);
        let Some(whole) = series.window(metric, std::time::Duration::ZERO, end) else {
            continue;
        };
        if whole.max <= 0.0 {
            continue;
        }
        let mean = series.window(metric, from, to).map(|window| window.mean);
        let limit = metric.limit().and_then(|limit| {
            let window = series.window(limit, std::time::Duration::ZERO, end)?;
            Some(window.max).filter(|limit| *limit > 0.0)
        });
        let is_share = metric.name().ends_with("busy_ratio");
        let left = match (mean, limit) {
            (Some(mean), Some(limit)) => Some(1.0 - mean / limit),
            (Some(mean), None) if is_share => Some(1.0 - mean),
            _ => None,
        };
        let cell = |value: Option<f64>, text: &dyn Fn(f64) -> String| match value {
            Some(value) => Cell::number(value, text(value)),
            None => Cell::number(f64::NAN, "–"),
        };
        table.rows.push(vec![
            Cell::text(name),
            cell(mean, &text),
            cell(Some(whole.max), &text),
            cell(limit, &text),
            cell(left, &|left| number::percent(left.max(0.0))),
        ]);
    }
    table
}
