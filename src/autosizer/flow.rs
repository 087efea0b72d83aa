//! The order of the steps, and that cleaning always happens.
//!
//! Owns one sizing from `prepare` to `clean_up`. The load runs between two stretches of the runtime, because it forks and
//! has an event loop of its own. Whatever fails or is interrupted, metrics that exist are fetched, and everything that was
//! made is removed. Requests to stop do not end the cleaning, but for the third that comes while it goes on; the ledger
//! keeps what is left for `autosizer gc`.
//! Called by the composition root, once for every row of a matrix.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::failure::{Failure, Kind};
use super::load::{Load, LoadEnd, Order};
use super::probe::{Probe, answers};
use super::run::Run;
use super::target::{Address, Collector, Metrics, ServiceState, Target};
use crate::monitor::SERVICE;

/// How often the user is asked whether to stop.
const LISTEN_EVERY: Duration = Duration::from_millis(100);
/// Between two probes: at first, and at most.
const PROBE_FIRST: Duration = Duration::from_millis(50);
const PROBE_LAST: Duration = Duration::from_secs(1);
/// So many requests to stop during the cleaning end it.
const REQUESTS_TO_GIVE_UP: usize = 3;
/// Lines of the service's log that explain a failure.
const LOG_LINES: usize = 20;

/// What came of a sizing.
#[derive(Debug)]
pub struct Outcome {
    /// How the load ended; `None` when it never began.
    pub load: Option<LoadEnd>,
    /// What the target's collector brought home.
    pub metrics: Metrics,
    /// Whether the service still ran when the load had ended.
    pub service: ServiceState,
    /// The last lines of its log, where it had ended by then.
    pub service_log: Vec<String>,
    /// Why it did not come to its end; the first failure.
    pub failure: Option<Failure>,
    /// Why not everything could be removed.
    pub left_behind: Option<Failure>,
}

impl Outcome {
    /// Nothing was begun.
    pub(super) fn failed(failure: Failure) -> Self {
        Self {
            load: None,
            metrics: Metrics::default(),
            service: ServiceState::NotStarted,
            service_log: Vec::new(),
            failure: Some(failure),
            left_behind: None,
        }
    }
}

/// Sizes the service on the target. `results` is where the load writes its document.
pub fn size<T: Target>(
    runtime: &Runtime,
    target: &mut T,
    run: &Run,
    load: &mut dyn Load,
    results: &Path,
) -> Outcome {
    let mut outcome = Outcome {
        load: None,
        metrics: Metrics::default(),
        service: ServiceState::NotStarted,
        service_log: Vec::new(),
        failure: None,
        left_behind: None,
    };
    let ready = listening(runtime, run, load, run.cancel.guard(before(target, run)));
    match ready {
        Ok((address, collector)) => {
            let order = order(run, &address, &collector, results);
            match load.run(&order) {
                Ok(end) => outcome.load = Some(end),
                Err(failure) => outcome.failure = Some(failure),
            }
            listening(
                runtime,
                run,
                load,
                after(target, run, &collector, &mut outcome),
            );
        }
        Err(failure) => outcome.failure = Some(failure),
    }
    outcome.left_behind = clean_up(runtime, target, run, load).err();
    if load.interruptions() > 0 && outcome.failure.is_none() {
        outcome.failure = Some(Failure::interrupted());
    }
    outcome
}

/// Drives `work` while the user may ask to stop, which sets the run's flag.
fn listening<R>(
    runtime: &Runtime,
    run: &Run,
    load: &mut dyn Load,
    work: impl Future<Output = R>,
) -> R {
    runtime.block_on(async {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LISTEN_EVERY) => {
                    if load.interruptions() > 0 && !run.cancel.is_set() {
                        run.steps.note("Stopping: what was started is removed first");
                        run.cancel.set();
                    }
                }
            }
        }
    })
}

async fn before<T: Target>(target: &mut T, run: &Run) -> Result<(Address, Collector), Failure> {
    target.prepare(run).await?;
    target.start(run).await?;
    let address = target.address(run).await?;
    wait_until_it_answers(target, run, &address).await?;
    let collector = target.start_collector(run).await?;
    if let Collector::None(why) = &collector {
        run.steps
            .note(&format!("Nothing measures what the service uses: {why}"));
    }
    Ok((address, collector))
}

async fn wait_until_it_answers<T: Target>(
    target: &mut T,
    run: &Run,
    address: &Address,
) -> Result<(), Failure> {
    let service = &run.service;
    let url = format!("{}{}", address.url(), service.ready_path);
    let step = run.steps.begin("ready", &format!("Waiting for {url}"));
    let began = Instant::now();
    let mut pause = PROBE_FIRST;
    loop {
        let why = match answers(address, &service.ready_path).await {
            Probe::Ready(status) => {
                // Another service may answer in place of one that could not take the port.
                if let ServiceState::Ended(ended) = target.state(run).await? {
                    let what = format!(
                        "the service {}, but something else answers on its port",
                        ended.words()
                    );
                    step.failed("The port is taken");
                    let log = target.log(run, LOG_LINES).await.unwrap_or_default();
                    return Err(Failure::service(what)
                        .advise(format!(
                            "stop what listens on port {}, or choose another --port",
                            address.port
                        ))
                        .with_log(log));
                }
                let seconds = began.elapsed().as_secs_f64();
                step.done(&format!(
                    "It answers (status {status}) after {seconds:.1} s"
                ));
                return Ok(());
            }
            Probe::NotReady(why) => why,
        };
        if let ServiceState::Ended(ended) = target.state(run).await? {
            step.failed("It ended");
            let log = target.log(run, LOG_LINES).await.unwrap_or_default();
            return Err(Failure::service(format!(
                "the service {} before it answered",
                ended.words()
            ))
            .advise("run its command by hand; --ready-timeout does not help here")
            .with_log(log));
        }
        let waited = began.elapsed();
        if waited >= service.ready_timeout {
            step.failed("It does not answer");
            let log = target.log(run, LOG_LINES).await.unwrap_or_default();
            return Err(Failure::service(format!(
                "the service did not answer at {url} within {:.0} s: {why}",
                service.ready_timeout.as_secs_f64()
            ))
            .advise("check --port and --ready-path, or give it more time with --ready-timeout")
            .with_log(log));
        }
        let ratio = waited.as_secs_f64() / service.ready_timeout.as_secs_f64();
        step.progress(Some(ratio), &why);
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PROBE_LAST);
    }
}

fn order(run: &Run, address: &Address, collector: &Collector, results: &Path) -> Order {
    let url = address.url();
    let monitor = match collector {
        Collector::Load(source) => vec![format!("{SERVICE}={source}")],
        Collector::Remote | Collector::None(_) => Vec::new(),
    };
    run.steps
        .note(&format!("Running the load test against {url}"));
    Order {
        environment: vec![
            ("SERVER_URL".to_owned(), url.clone()),
            ("URL_SERVER".to_owned(), url),
        ],
        monitor,
        results: results.to_owned(),
    }
}

/// Brings home what there is. Never ends early by a failure of one part.
async fn after<T: Target>(target: &mut T, run: &Run, collector: &Collector, outcome: &mut Outcome) {
    match target.state(run).await {
        Ok(state) => outcome.service = state,
        Err(failure) => {
            outcome.failure.get_or_insert(failure);
        }
    }
    if let ServiceState::Ended(ended) = &outcome.service {
        run.steps
            .note(&format!("The service {} during the test", ended.words()));
        outcome.service_log = target.log(run, LOG_LINES).await.unwrap_or_default();
        let failure = Failure::service(format!("the service {} during the test", ended.words()));
        outcome
            .failure
            .get_or_insert(failure.with_log(outcome.service_log.clone()));
    }
    if *collector == Collector::Remote {
        match target.stop_collector(run).await {
            Ok(metrics) => outcome.metrics = metrics,
            Err(failure) => {
                outcome.failure.get_or_insert(failure);
            }
        }
    }
}

/// Cleans up, whatever happened. Somebody who asks to stop twice wants it to be over, not to leave things running: only
/// the third request during the cleaning ends it.
fn clean_up<T: Target>(
    runtime: &Runtime,
    target: &mut T,
    run: &Run,
    load: &mut dyn Load,
) -> Result<(), Failure> {
    let before = load.interruptions();
    let mut heard = 0;
    let done = runtime.block_on(async {
        let work = target.clean_up(run);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LISTEN_EVERY) => {
                    let asked = load.interruptions().saturating_sub(before);
                    if asked >= REQUESTS_TO_GIVE_UP {
                        return Err(Failure::new(Kind::Interrupted, "the cleaning was interrupted"));
                    }
                    if asked > heard {
                        heard = asked;
                        run.steps.note(&format!(
                            "Still removing what was started; {} more requests to stop leave it to `autosizer gc`",
                            REQUESTS_TO_GIVE_UP - asked
                        ));
                    }
                }
            }
        }
    });
    // The run's folder is the caller's: it still holds the load's results.
    let mut things = run.ledger.things();
    things.retain(|thing| thing.kind != "folder");
    if things.is_empty() {
        return done;
    }
    let names: Vec<String> = things
        .iter()
        .map(|thing| format!("{} {}", thing.kind, thing.name))
        .collect();
    let failure = done.err().unwrap_or_else(|| {
        Failure::target(format!("not everything was removed: {}", names.join(", ")))
    });
    Err(failure.advise(format!(
        "`autosizer gc` removes it; {} knows what is left",
        run.ledger.path().display()
    )))
}
