//! The end of a page: what was started for it, where the run was made, how to repeat it, and how its numbers come about.
//!
//! Owns the text about the method. Secrets are masked once more here: a file may come from elsewhere. Called by `run`.

use super::model::{Block, Section};
use super::number::{bytes, count, duration};
use super::table::cut;
use crate::results::{Results, masked, masked_command};

/// What autosizer started; empty without it.
pub(super) fn service(results: &Results) -> Section {
    let mut section = Section::new("service", "The service");
    let Some(service) = &results.service else {
        return section;
    };
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), cut(&value, 400)));
    let (what, place) = match service.target.as_str() {
        "local" => ("Command", "a process on the load generator's machine"),
        "container" => ("Image", "a container on the load generator's machine"),
        "ssm" => ("Image", "a container on an EC2 instance"),
        _ => ("Service", "unknown"),
    };
    fact(what, service.name.clone());
    fact("It ran as", place.to_owned());
    if let Some(kind) = &service.instance_type {
        fact("Instance type", kind.clone());
    }
    let limit = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
    fact(
        "CPU limit",
        limit(service.cpus.map(|cpus| format!("{cpus} cores"))),
    );
    let memory = service.memory_bytes.map(|limit| bytes(limit as f64));
    fact("Memory limit", limit(memory));
    if let Some(ended) = &service.ended {
        fact("During the test it", ended.clone());
    }
    let shown = service
        .facts
        .iter()
        .filter(|(name, value)| name.as_str() != "instance_type" && !value.is_empty());
    for (name, value) in shown {
        let mut words = name.replace('_', " ");
        if let Some(first) = words.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        fact(&words, value.clone());
    }
    section.blocks.push(Block::Facts(facts));
    for note in &service.notes {
        section
            .blocks
            .push(Block::Text(format!("The metrics: {}.", cut(note, 400))));
    }
    if !service.log.is_empty() {
        section.blocks.push(Block::Text(
            "The last lines of its log before it ended:".to_owned(),
        ));
        section
            .blocks
            .push(Block::Code(cut(&masked(&service.log.join("\n")), 4_000)));
    }
    section
}

pub(super) fn environment(results: &Results) -> Section {
    let mut section = Section::new("environment", "Environment, and how to repeat it");
    let meta = &results.meta;
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push((name.to_owned(), cut(&value, 400)));
        }
    };
    fact("Started", meta.started_at.clone());
    fact("Lasted", duration(meta.elapsed_seconds));
    fact("Load generator", meta.host.clone());
    if meta.cores > 0 {
        fact("Cores it may use", count(meta.cores as u64));
    }
    fact("Processes", count(meta.processes as u64));
    fact("Kernel", meta.kernel.clone());
    fact("Molotov", meta.molotov.clone());
    fact("Python", meta.python.clone());
    fact("Scenarios", meta.scenario_file.clone().unwrap_or_default());
    fact(
        "Their SHA-256",
        meta.scenario_sha256.clone().unwrap_or_default(),
    );
    // Other machines say more of themselves in their options.
    if let Some(kind) = meta
        .options
        .get("instance_type")
        .and_then(|kind| kind.as_str())
    {
        fact("Instance type", kind.to_owned());
    }
    if let Some(exit) = &results.exit {
        fact("Exit code", format!("{}: {}", exit.code, exit.reason));
    }
    section.blocks.push(Block::Facts(facts));
    if !meta.command.is_empty() {
        let command: Vec<String> = masked_command(&meta.command)
            .iter()
            .map(|word| quoted(word))
            .collect();
        let first = command.join(" ");
        section.blocks.push(Block::Text(
            "The same again, with the scenario file of the hash above:".to_owned(),
        ));
        section
            .blocks
            .push(Block::Code(cut(&masked(&first), 4_000)));
    }
    section
}

/// As a shell would read it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+*".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub(super) fn method(results: &Results) -> Section {
    let mut section = Section::new("method", "How these numbers were made");
    let mut texts = vec![
        "Service time is the time from sending a request to its last byte (of a run: from its start to its end). All \
         are kept in histograms with three significant digits from 1 µs to 1 h, merged over all processes; \
         percentiles are read from merged histograms and never averaged."
            .to_owned(),
        if results.starts.is_some() {
            "Runs were started at a rate, whatever became of the earlier ones (an open model). Response time counts \
             from when a run was to start, so a service that stalls is charged for all who wait."
        } else {
            "Workers wait for an answer before they go on (a closed model), so a service that stalls is asked less \
             often meanwhile."
        }
        .to_owned(),
        "Throughput counts responses read to their end. Started runs = succeeded + failed + interrupted, over all \
         processes."
            .to_owned(),
    ];
    if results.sizing.is_some() {
        texts.push(
            "Sizing adds workers until something gives out: the share of failures in the last minute exceeds the \
             tolerance with certainty (lower end of Wilson's 95 % interval), throughput stops growing, or the latency \
             rule breaks. Then it steps back, holds the levels around the best one and confirms it in a trial of its \
             own. A level can be held when its failures are within the tolerance, the latency rule holds and its \
             throughput has no trend."
                .to_owned(),
        );
        texts.push(
            "Intervals are those of batch means: a trial is cut into 6 to 12 batches after its warm-up (MSER), and \
             mean ± t(0.975, n − 1) · s / √n over the batches is the 95 % interval. The capacity's level is the lowest \
             whose throughput lies within the interval of the best."
                .to_owned(),
        );
        texts.push(
            "The dashed curve is the Universal Scalability Law, X(N) = λN / (1 + σ(N − 1) + κN(N − 1)), by least squares \
             over the levels: λ is what one worker does alone, σ contention, κ coherency."
                .to_owned(),
        );
    }
    if results.monitor.len() > 1 {
        texts.push(
            "What limits is asked in this order: the generator, memory, CPU, disk, network, the service itself. Each \
             rule looks at the level that was judged, without its first fifth (five seconds at most)."
                .to_owned(),
        );
    }
    let most = results.series.0.len();
    if most > super::thin::MOST_POINTS {
        texts.push(format!(
            "This run has {} samples per series. The charts draw the smallest and largest value of each stretch of \
             time; the results file has all.",
            count(most as u64)
        ));
    }
    section.blocks.extend(texts.into_iter().map(Block::Text));
    section
}
