//! All targets of a run, the generator first.
//!
//! Owns the list of samplers and their series, and the rule that a target which fails says so once and is a gap until it
//! can be read again: a monitor never ends a run. Owns no clock: the caller samples once a second, say, and hands in the
//! time since the start of the run, on the same clock as the run's own series. Called by the composition roots.

use std::time::Duration;

use super::cgroup::ControlGroup;
use super::container::Container;
use super::generator::Generator;
use super::glances::Glances;
use super::host::Host;
use super::port::Port;
use super::process::ProcessTree;
use super::roots::Roots;
use super::sample::{Event, Sample};
use super::series::Series;
use super::source::{Labelled, Source};
use super::{Error, Sampler};

/// What the generator's rows and series are called.
pub const GENERATOR: &str = "generator";

/// What the rows and series of a service are called that this program has started itself.
pub const SERVICE: &str = "service";

/// What a target is called in sentences, to follow "CPU of".
pub fn in_words(label: &str) -> &str {
    if label == SERVICE {
        "the service"
    } else {
        label
    }
}

/// One target's sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<'a> {
    /// The target's label, or [`GENERATOR`].
    pub source: &'a str,
    /// What was found.
    pub sample: Sample,
}

/// The samplers of a run.
pub struct Monitor {
    generator: Generator,
    generator_state: State,
    targets: Vec<(Box<dyn Sampler>, State)>,
}

/// What is remembered of a target.
struct State {
    is_failing: bool,
    series: Series,
}

/// Opens what `--monitor` names. Fails when the target is not there to begin with.
pub fn open(source: &Source, roots: &Roots) -> Result<Box<dyn Sampler>, Error> {
    let roots = roots.clone();
    Ok(match source {
        Source::Process(pid) => Box::new(ProcessTree::new(*pid, roots)?),
        Source::Port(port) => Box::new(Port::new(*port, roots)?),
        Source::Container(name) => Box::new(Container::new(name, roots)?),
        Source::ControlGroup(path) => Box::new(ControlGroup::new(path, roots)?),
        Source::Host => Box::new(Host::new(roots)?),
        Source::Glances { path, container } => Box::new(Glances::new(path, container.as_deref())?),
    })
}

impl Monitor {
    /// Opens every source; the first that is not there is the error.
    pub fn open(generator: Generator, targets: &[Labelled], roots: &Roots) -> Result<Self, Error> {
        let mut monitor = Self::new(generator);
        for target in targets {
            monitor.add(target.label.clone(), open(&target.source, roots)?);
        }
        Ok(monitor)
    }

    /// Only the generator.
    pub fn new(generator: Generator) -> Self {
        Self {
            generator,
            generator_state: State::new(GENERATOR),
            targets: Vec::new(),
        }
    }

    /// Adds a target, also one that no [`Source`] names.
    pub fn add(&mut self, label: impl Into<String>, sampler: Box<dyn Sampler>) {
        self.targets.push((sampler, State::new(label)));
    }

    /// The generator, for its processes, targets and event-loop lag.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// Samples the generator and every target, and adds the rows to their series. Takes some milliseconds, except that
    /// a container which is asked for by the API may take up to some seconds: not for the event loop's thread.
    pub fn sample_all(&mut self, now: Duration) -> Vec<Row<'_>> {
        let mut rows = Vec::with_capacity(self.targets.len() + 1);
        rows.push(self.generator_state.take(&mut self.generator, now));
        for (sampler, state) in &mut self.targets {
            rows.push(state.take(sampler.as_mut(), now));
        }
        rows
    }

    /// The series so far, the generator's first.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        let targets = self.targets.iter().map(|(_, state)| &state.series);
        std::iter::once(&self.generator_state.series).chain(targets)
    }

    /// The series at the end of a run.
    pub fn into_series(self) -> Vec<Series> {
        let targets = self.targets.into_iter().map(|(_, state)| state.series);
        std::iter::once(self.generator_state.series)
            .chain(targets)
            .collect()
    }
}

impl State {
    fn new(label: impl Into<String>) -> Self {
        Self {
            is_failing: false,
            series: Series::new(label),
        }
    }

    fn take(&mut self, sampler: &mut dyn Sampler, now: Duration) -> Row<'_> {
        let result = sampler.sample(now);
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        let sample = match result {
            Ok(mut sample) => {
                if was_failing {
                    sample.events.push(Event::Recovered);
                }
                sample
            }
            Err(error) => {
                let mut sample = Sample::default();
                if !was_failing {
                    sample.events.push(Event::Failed {
                        message: error.to_string(),
                    });
                }
                sample
            }
        };
        self.series.push(now, &sample);
        Row {
            source: &self.series.source,
            sample,
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
