//! `--collector glances`: a Glances container beside the service, as the article that this tool follows had it.
//!
//! Owns its scripts, and reading its export as the series of the service and the host. Glances fixes the columns of its file
//! by its first row, in which a container may still be missing: so it is started anew until the service is in them. Called
//! by the target in place of its own collector's.

use super::super::target::{Metrics, Watched};
use super::scripts::{ENGINE, container, full, quote, run_folder};
use crate::monitor::{SERVICE, glances_rows};

/// The image of the Glances project.
pub(super) const IMAGE: &str = "nicolargo/glances:latest";
/// Times that Glances is started until it sees the service.
const STARTS: u32 = 5;
/// Seconds for it to write its first row.
const FIRST_ROW: u32 = 30;

/// The name of its container.
pub(super) fn name(run: &str) -> String {
    format!("{}-glances", container(run))
}

/// Starts Glances and waits until it exports the service. Prints the machine's clock.
pub(super) fn start(run: &str, image: &str) -> String {
    format!(
        "{ENGINE}folder={folder}/metrics\n\
         mkdir -p \"$folder\"\n\
         starts=0\n\
         until head -n 1 \"$folder/metrics.csv\" 2>/dev/null | grep -qF 'containers.{service}.cpu_percent'; do\n\
           starts=$((starts + 1))\n\
           if [ $starts -gt {STARTS} ]; then echo 'Glances does not see the container' >&2; exit 1; fi\n\
           docker rm -f -v {name} >/dev/null 2>&1 || true\n\
           rm -f \"$folder/metrics.csv\"\n\
           docker run -d --name {name} --pid host --network host -e TZ=UTC \
             -e 'GLANCES_OPT=-q --export csv --export-csv-file /evidence/metrics.csv --time 1' \
             -v /var/run/docker.sock:/var/run/docker.sock:ro -v \"$folder:/evidence\" {image} >/dev/null\n\
           tries=0\n\
           until [ -s \"$folder/metrics.csv\" ]; do\n\
             tries=$((tries + 1))\n\
             running=$(docker inspect -f '{{{{.State.Running}}}}' {name})\n\
             if [ $tries -ge $(({FIRST_ROW} * 5)) ] || [ \"$running\" != true ]; then\n\
               docker logs --tail 3 {name} >&2; exit 1\n\
             fi\n\
             sleep 0.2\n\
           done\n\
         done\n\
         date +%s.%N\n",
        folder = run_folder(run),
        service = container(run),
        name = name(run),
        image = quote(image),
    )
}

/// Ends Glances and prints its file.
pub(super) fn stop(run: &str) -> String {
    format!(
        "{ENGINE}folder={folder}/metrics\n\
         docker rm -f -v {name} >/dev/null 2>&1 || true\n\
         {full}\
         cat \"$folder/metrics.csv\"\n",
        folder = run_folder(run),
        name = name(run),
        full = full(run),
    )
}

/// What its file tells of the service and of the host.
pub(super) fn read(run: &str, text: &str) -> Metrics {
    let mut metrics = Metrics::default();
    for (label, subject) in [(SERVICE, container(run)), ("host", "host".to_owned())] {
        match glances_rows(text, &subject) {
            Ok(samples) => metrics.watched.push(Watched {
                label: label.to_owned(),
                samples,
            }),
            Err(error) => metrics.notes.push(error.to_string()),
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Metric;

    #[test]
    fn service_and_host_are_told_apart() {
        let text = "timestamp,cpu.total,cpu.cpucore,mem.total,containers.autosizer-r1.cpu_percent\r\n\
                    2026-11-25 19:58:24,10.0,2,100,0.0\r\n2026-11-25 19:58:25,50.0,2,100,80.0\r\n";
        let metrics = read("r1", text);
        let [service, host] = metrics.watched.as_slice() else {
            panic!("{metrics:?}");
        };
        assert_eq!(
            (service.label.as_str(), host.label.as_str()),
            ("service", "host")
        );
        let (time, sample) = &service.samples[1];
        // 2026-11-25 19:58:25 UTC.
        assert!((time - 1_795_636_705.0).abs() < 1e-9, "{time}");
        assert_eq!(sample.get(Metric::CpuCoresUsed), Some(0.8));
        assert_eq!(host.samples[1].1.get(Metric::CpuCoresUsed), Some(1.0));
    }

    #[test]
    fn a_file_without_the_service_is_told() {
        let metrics = read("r1", "timestamp,cpu.total\n2026-11-25 19:58:24,10.0\n");
        assert_eq!(metrics.watched.len(), 1);
        assert!(metrics.notes[0].contains("autosizer-r1"), "{metrics:?}");
    }
}
