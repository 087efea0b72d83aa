//! The table of `docs/sizing-simulations.md`, made anew from the simulations.

use std::fmt::Write as _;

use super::services::{Case, Truth, case, cases};
use super::{BY_RATE, MOST_WORKERS, Outcome, by_rate, median, original, outcomes, quantile, seeds};

const TEXT: &str = "\
# The search on simulated services

Every service here is simulated, so its capacity is known and an answer can be held against it. `make simulations`
makes this page anew (some minutes); `tests/rust/sizing` has the services, and the truth about each. `make test` runs
the same with fewer seeds.

- *Truth*: the most successful runs per second over 1 to 500 workers at which at most 5 % of the runs fail in the long
  run. Computed from the model, not measured. For the drifting services it is the mean of the capacity while the answer
  was measured; for the leak, what it could do until it died.
- *Bias*: the answer by the truth, less one; the median over the seeds, and the middle 90 %.
- *Covers*: the share of seeds whose 95 % interval holds the truth. *±*: half its width, median.
- A run is one request but where it says otherwise; the throughput of runs with several is known by their requests, since
  runs that began together end together.
- *Time*: seconds from the start (the ramp included) to the answer; median, and 90 % of the seeds.
- *Confirmed*: the share of seeds whose answer an independent trial confirmed. The others say why not.
- *Original*: bare `--sizing` of Molotov 2.6 on the same service: how many of its runs stop by themselves within the
  five minutes of its ramp, when and with how many workers (medians), and how far the successes per second of its
  minute's counters are from the truth. When a run does not stop, these are its figures at the end of the ramp, from
  where it goes on until somebody ends it.
";

fn percent(value: f64) -> String {
    if value.is_nan() {
        "–".to_owned()
    } else {
        format!("{:+.1} %", value * 100.0)
    }
}

/// Truth, bias, coverage, half width, time and share of confirmed answers, as cells.
fn answer_cells(case: &Case, outcomes: &[Outcome]) -> String {
    let share = |of: &dyn Fn(&Outcome) -> bool| {
        let count = outcomes.iter().filter(|outcome| of(outcome)).count();
        format!("{:.0} %", count as f64 / outcomes.len() as f64 * 100.0)
    };
    let truth = match case.truth {
        Truth::Capacity(truth) | Truth::UntilDeath(truth) => format!("{truth:.0}"),
        Truth::Drifting(truth) => format!("around {truth:.0}"),
        Truth::None => "none".to_owned(),
    };
    let biases = || outcomes.iter().filter_map(|outcome| outcome.bias);
    let seconds = || outcomes.iter().map(|outcome| outcome.findings.seconds);
    let wide = outcomes.iter().filter_map(|outcome| {
        let rate = outcome.findings.capacity.as_ref()?.runs_per_second;
        Some((rate.high - rate.low) / 2.0 / rate.mean)
    });
    let (bias, covers, wide) = if known(case).is_some() {
        (
            format!(
                "{} ({} to {})",
                percent(median(biases())),
                percent(quantile(biases(), 0.05)),
                percent(quantile(biases(), 0.95))
            ),
            share(&|outcome| outcome.covered),
            format!("{:.1} %", median(wide) * 100.0),
        )
    } else {
        let none = share(&|outcome| outcome.findings.capacity.is_none());
        (
            format!("no level, says {none}"),
            "–".to_owned(),
            "–".to_owned(),
        )
    };
    format!(
        "{truth} | {bias} | {covers} | {wide} | {:.0} s ({:.0} s) | {}",
        median(seconds()),
        quantile(seconds(), 0.9),
        share(&Outcome::confirmed),
    )
}

/// The truth where there is one.
fn known(case: &Case) -> Option<f64> {
    match case.truth {
        Truth::Capacity(truth) | Truth::UntilDeath(truth) | Truth::Drifting(truth) => Some(truth),
        Truth::None => None,
    }
}

fn row(case: &Case, outcomes: &[Outcome]) -> String {
    let stops: Vec<_> = (0..seeds().min(50))
        .map(|seed| original::run(case, seed))
        .collect();
    let stopped = stops.iter().filter(|stop| stop.sized).count() as f64 / stops.len() as f64;
    let original = known(case).map_or(f64::NAN, |truth| {
        median(stops.iter().map(|stop| stop.runs_per_second)) / truth - 1.0
    });
    format!(
        "| {} | {} | {:.0} % at {:.0} s, {:.0} workers | {} |",
        case.name,
        answer_cells(case, outcomes),
        stopped * 100.0,
        median(stops.iter().map(|stop| stop.seconds)),
        median(stops.iter().map(|stop| stop.workers)),
        percent(original),
    )
}

/// The same services, searched on the rate at which runs start.
fn rate_rows(page: &mut String) {
    page.push_str(
        "\n## By rate\n\nThe same with `--sizing-on rate`: levels are runs started per second, evenly or at random \
         (Poisson).\n\n\
         | service | starts | truth, runs/s | bias | covers | ± | time | confirmed |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for name in BY_RATE {
        for (poisson, starts) in [(false, "evenly"), (true, "at random")] {
            let case = case(name);
            let cells = answer_cells(&case, &by_rate(&case, poisson, MOST_WORKERS));
            writeln!(page, "| {name} | {starts} | {cells} |").unwrap();
        }
    }
}

#[test]
#[ignore = "makes the page: make simulations"]
fn page() {
    let cases = cases();
    let mut page = format!("{TEXT}\n{} seeds (the original: at most 50).\n\n", seeds());
    page.push_str(
        "| service | truth, runs/s | bias | covers | ± | time | confirmed | original: stops | original: bias |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for case in &cases {
        writeln!(page, "{}", row(case, &outcomes(case))).unwrap();
    }
    rate_rows(&mut page);
    page.push_str("\n## The services\n\n| | |\n|---|---|\n");
    for case in &cases {
        writeln!(page, "| {} | {} |", case.name, case.about).unwrap();
    }
    page.push_str(
        "\nWorkers start their next run at once; between two runs lie client and network, 5 to 50 ms in the mean, \
         exponential. A refusal takes 2 ms.\n",
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sizing-simulations.md");
    std::fs::write(path, page).unwrap();
}
