//! What an instance is told to do, as POSIX shell.
//!
//! Owns the texts and the quoting of everything in them that comes from the user. Each may run twice without harm. Knows
//! nothing of how they get there. Called by the steps of the `ssm` target.

use std::fmt::Write;
use std::time::Duration;

use super::super::target::Service;
use crate::aws::NODE_FOLDER;
use crate::monitor::COLLECTOR;

/// A word that the shell takes as it is.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The name of the run's container.
pub(super) fn container(run: &str) -> String {
    format!("autosizer-{run}")
}

/// Where the run's files are on the instance, as the shell takes it: in memory, so that a full disk does not keep the
/// metrics from coming home.
pub(super) fn run_folder(run: &str) -> String {
    format!("\"${{AUTOSIZER_FOLDER:-{NODE_FOLDER}}}/{run}\"")
}

/// Tells on the error output which file systems have no room left.
pub(super) fn full(run: &str) -> String {
    format!(
        "for place in / {}; do\n\
           df -Pk \"$place\" 2>/dev/null | awk 'NR == 2 && $4 < {LEAST_KIB} {{ print \"{FULL}\" $6 }}'\n\
         done | sort -u >&2\n",
        run_folder(run)
    )
}

/// The file systems that [`full`] told of.
pub(super) fn read_full(stderr: &str) -> Vec<String> {
    let told = stderr.lines().filter_map(|line| line.strip_prefix(FULL));
    told.map(str::to_owned).collect()
}

const FULL: &str = "no room on ";
/// Less than that is none.
const LEAST_KIB: u32 = 256;

/// Every script that needs the container engine begins with this: Podman takes the same words as Docker, and whoever is not
/// root may be allowed to become it.
pub(super) const ENGINE: &str = "if ! command -v docker >/dev/null 2>&1 && command -v podman >/dev/null 2>&1; then\n\
      docker() { podman \"$@\"; }\n\
    elif [ \"$(id -u 2>/dev/null)\" != 0 ] && [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ] &&\n\
      sudo -n true 2>/dev/null; then\n\
      docker() { sudo -n -E docker \"$@\"; }\n\
    fi\n";

/// Waits for the container engine, which the first boot may still be installing; on an instance that is not ours nobody
/// does.
pub(super) fn engine(wait: Duration, is_foreign: bool) -> String {
    let tries = wait.as_secs().max(1);
    let at_once = if is_foreign {
        "command -v docker >/dev/null 2>&1 || { echo 'there is neither Docker nor Podman' >&2; exit 1; }\n"
    } else {
        // Where the script of the first boot did not run the engine may be there all the same.
        "systemctl start docker >/dev/null 2>&1 || true\n"
    };
    format!(
        "{ENGINE}{at_once}tries=0\n\
         until docker info >/dev/null 2>&1; do\n\
           tries=$((tries + 1))\n\
           if [ $tries -ge {tries} ]; then docker info 2>&1 | tail -n 3 >&2; exit 1; fi\n\
           sleep 1\n\
         done\n"
    )
}

/// Gets the image; one that only this machine has is fine too. With `note` it is written down that the image was not there
/// before, so that [`clean`] leaves the machine without it.
pub(super) fn pull(run: &str, image: &str, note: bool) -> String {
    let image = quote(image);
    let noted = if note {
        format!(
            "docker image inspect {image} >/dev/null 2>&1 || printf '%s\\n' {image} >>{}/{IMAGES}\n",
            run_folder(run)
        )
    } else {
        String::new()
    };
    format!(
        "{ENGINE}{noted}docker pull -q {image} >/dev/null || docker image inspect {image} >/dev/null\n\
         docker image inspect -f '{{{{.Id}}}}' {image}\n"
    )
}

/// The file with the images that were not there before.
const IMAGES: &str = "images";
/// The file that tells that there may be a container.
const STARTED: &str = "started";
/// Not every `sleep` knows parts of a second.
const MOMENT: &str = "sleep 0.2 2>/dev/null || sleep 1";

/// Starts the container. `values` is shell text that sets the variables: they reach it by the environment of the command,
/// not by its arguments, which every process of the machine may read.
pub(super) fn start(run: &str, service: &Service, image: &str, values: &str) -> String {
    let name = container(run);
    let mut text = format!(
        "{ENGINE}true 2>/dev/null >{}/{STARTED} || true\n\
         docker rm -f -v {name} >/dev/null 2>&1 || true\n{values}",
        run_folder(run)
    );
    let _ = write!(
        text,
        "docker run -d --name {name} -p {port}:{port}",
        port = service.port
    );
    if let Some(cpus) = service.limits.cpus {
        let _ = write!(text, " --cpus {cpus}");
    }
    if let Some(bytes) = service.limits.memory_bytes {
        let _ = write!(text, " --memory {bytes}b");
    }
    for variable in service.environment.keys() {
        let _ = write!(text, " -e {variable}");
    }
    let _ = write!(text, " {}", quote(image));
    for word in &service.command {
        let _ = write!(text, " {}", quote(word));
    }
    text.push_str(" >/dev/null\n");
    text
}

/// Prints whether the container runs, its exit code, and whether it was killed for lack of memory; complains of full file
/// systems.
pub(super) fn state(run: &str) -> String {
    format!(
        "{ENGINE}docker inspect -f '{{{{.State.Running}}}} {{{{.State.ExitCode}}}} {{{{.State.OOMKilled}}}}' {}\n{}",
        container(run),
        full(run),
    )
}

/// Prints the last lines of the container's log.
pub(super) fn log(run: &str, lines: usize) -> String {
    format!(
        "{ENGINE}docker logs --tail {lines} {} 2>&1\n",
        container(run)
    )
}

/// Prints the container's whole log, of a long one the newest part.
pub(super) fn whole_log(run: &str) -> String {
    format!(
        "{ENGINE}docker logs {} 2>&1 | tail -c {LONGEST_LOG}\n",
        container(run)
    )
}

/// Bytes of a log that are brought home.
pub(super) const LONGEST_LOG: usize = 8 << 20;

/// Starts the collector, detached: it must neither hold the command open nor end with it. Prints the machine's clock.
pub(super) fn start_collector(run: &str, rows: u64) -> String {
    format!(
        "{ENGINE}folder={folder}\n\
         mkdir -p \"$folder\"\n\
         rm -f \"$folder/stop\" \"$folder/done\"\n\
         pid=$(docker inspect -f '{{{{.State.Pid}}}}' {name})\n\
         cat >\"$folder/collect.sh\" <<'__autosizer_collector'\n\
         {COLLECTOR}\n\
         __autosizer_collector\n\
         setsid sh \"$folder/collect.sh\" \"$pid\" \"$folder\" 1 {rows} </dev/null >/dev/null 2>&1 &\n\
         echo $! >\"$folder/pid\"\n\
         tries=0\n\
         until [ -s \"$folder/metrics.csv\" ]; do\n\
           tries=$((tries + 1))\n\
           if [ $tries -ge 50 ]; then echo 'the collector does not start' >&2; exit 1; fi\n\
           {MOMENT}\n\
         done\n\
         date +%s.%N\n",
        folder = folder(run),
        name = container(run),
    )
}

/// Stops the collector and prints its rows; complains when it had ended before, and of full file systems.
pub(super) fn stop_collector(run: &str) -> String {
    format!(
        "folder={folder}\n\
         true 2>/dev/null >\"$folder/stop\" || true\n\
         tries=0\n\
         until [ -e \"$folder/done\" ] || [ $tries -ge 15 ]; do tries=$((tries + 1)); {MOMENT}; done\n\
         [ -e \"$folder/done\" ] || echo '{STOPPED_EARLY}' >&2\n\
         {full}\
         cat \"$folder/metrics.csv\"\n",
        folder = folder(run),
        full = full(run),
    )
}

/// What is complained of a collector that did not come to its end.
pub(super) const STOPPED_EARLY: &str = "the collector on the instance ended before the test did";

/// Prints one piece of what a step printed, packed, for when the bucket takes nothing: pieces fit into what comes inline.
pub(super) fn piece(run: &str, step: &str, number: usize) -> String {
    let first = number * PIECE + 1;
    format!(
        "gzip -c {folder}/{step}/out | base64 | tr -d '\\n' | tail -c +{first} | head -c {PIECE}\n",
        folder = run_folder(run),
    )
}

/// Characters of a piece; 24,000 come inline.
pub(super) const PIECE: usize = 20_000;

/// Removes everything that the run has left on the machine: its containers with what they wrote, the collector, the images
/// that were not there before, and the files. The collector is ended with its children when it does not end by itself; it
/// is told by its own words from whatever else may have its number by now.
pub(super) fn clean(run: &str) -> String {
    format!(
        "{ENGINE}for name in {name} {name}-glances; do\n\
           docker rm -f -v $name >/dev/null 2>&1 || true\n\
           told=$(docker inspect $name 2>&1 >/dev/null) && told='the container stays'\n\
           case \"$told\" in\n\
             *'container stays'*) echo \"$told\" >&2; exit 1 ;;\n\
             *'annot connect'*) [ ! -e {run_folder}/{STARTED} ] || {{ echo \"$told\" >&2; exit 1; }} ;;\n\
           esac\n\
         done\n\
         pid=$(cat {folder}/pid 2>/dev/null || true)\n\
         runs() {{ tr '\\0' ' ' 2>/dev/null <\"/proc/$pid/cmdline\" | grep -qF {folder}; }}\n\
         if [ -n \"$pid\" ] && [ -r \"/proc/$pid/cmdline\" ]; then\n\
           true 2>/dev/null >{folder}/stop || true\n\
           tries=0\n\
           while [ -r \"/proc/$pid/cmdline\" ] && runs && [ $tries -lt 8 ]; do\n\
             tries=$((tries + 1))\n\
             {MOMENT}\n\
           done\n\
           if [ -r \"/proc/$pid/cmdline\" ] && runs; then kill -KILL \"-$pid\" 2>/dev/null || true; fi\n\
         fi\n\
         if [ -f {run_folder}/{IMAGES} ]; then\n\
           while read -r image; do docker rmi \"$image\" >/dev/null 2>&1 || true; done <{run_folder}/{IMAGES}\n\
         fi\n\
         rm -rf {run_folder}\n\
         rmdir \"${{AUTOSIZER_FOLDER:-{NODE_FOLDER}}}\" 2>/dev/null || true\n",
        name = container(run),
        folder = folder(run),
        run_folder = run_folder(run),
    )
}

fn folder(run: &str) -> String {
    format!("{}/metrics", run_folder(run))
}

/// What a failed pull or start means: the cause in our words and what to do about it.
pub(super) fn explain(image: &str, port: u16, complaint: &str) -> (String, &'static str) {
    let lower = complaint.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&[
        "no matching manifest",
        "exec format error",
        "image platform",
        "does not match the detected host",
    ]) {
        (
            format!("the image {image} is not made for this machine's architecture"),
            "choose an instance type of the image's architecture, or build the image for both",
        )
    } else if any(&[
        "manifest unknown",
        "not found",
        "no such image",
        "repository does not exist",
        "image not known",
    ]) {
        (
            format!("there is no image {image}, or it may not be read"),
            "check --image; a private image needs the instance's role to be allowed to pull it",
        )
    } else if any(&[
        "unauthorized",
        "access denied",
        "denied:",
        "authentication required",
    ]) {
        (
            format!("the registry does not give away the image {image}"),
            "a private image needs the instance's role to be allowed to pull it",
        )
    } else if any(&["no space left"]) {
        (
            "the instance's disk is full".to_owned(),
            "give it a larger one with --disk",
        )
    } else if any(&["port is already allocated", "address already in use"]) {
        (
            format!("port {port} is taken on the instance"),
            "choose another --port, or stop what listens there; what a crashed run left there `autosizer gc` removes",
        )
    } else {
        (format!("the container engine says: {complaint}"), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autosizer::Limits;
    use std::collections::BTreeMap;

    #[test]
    fn nothing_of_the_user_is_a_command() {
        let service = Service {
            command: vec!["a b".to_owned(), "$(touch x)".to_owned(), "it's".to_owned()],
            environment: BTreeMap::from([("KEY".to_owned(), "se'cret; reboot".to_owned())]),
            port: 80,
            limits: Limits {
                cpus: Some(0.5),
                memory_bytes: Some(1024),
            },
            ..Service::default()
        };
        let text = start("r1", &service, "x; reboot", "VALUES\n");
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            r"docker run -d --name autosizer-r1 -p 80:80 --cpus 0.5 --memory 1024b -e KEY 'x; reboot' 'a b' '$(touch x)' 'it'\''s' >/dev/null"
        );
        assert!(text.contains("\nVALUES\ndocker run"));
        assert!(!text.contains("cret"));
    }

    #[test]
    fn the_shell_understands_all_of_them() {
        let service = Service {
            port: 1,
            ..Service::default()
        };
        let texts = [
            engine(Duration::from_secs(9), false),
            engine(Duration::from_secs(9), true),
            pull("r", "i", true),
            start("r", &service, "i", ""),
            state("r"),
            log("r", 9),
            start_collector("r", 9),
            stop_collector("r"),
            whole_log("r"),
            piece("r", "log-1", 3),
            clean("r"),
        ];
        for text in texts {
            let output = std::process::Command::new("sh")
                .args(["-n", "-c", &text])
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{text}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    /// A machine with programs of ours in place of its own.
    struct Machine(std::path::PathBuf);

    impl Machine {
        fn new(engine: &str) -> Self {
            use std::os::unix::fs::PermissionsExt;
            let name = format!("scripts-{}-{:x}", std::process::id(), fastrand::u64(..));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(folder.join("bin")).unwrap();
            for tool in [
                "cat", "sleep", "rm", "rmdir", "mkdir", "grep", "setsid", "sh", "tr", "id",
            ] {
                let found =
                    ["/usr/bin", "/bin"].map(|place| std::path::Path::new(place).join(tool));
                let found = found.iter().find(|path| path.exists()).unwrap();
                std::os::unix::fs::symlink(found, folder.join("bin").join(tool)).unwrap();
            }
            let program = folder.join("bin").join(engine);
            // Images are files; there are no containers.
            let text = format!(
                "#!/bin/sh\necho \"$*\" >>{0}/calls\ncase \"$1 $2\" in\n\
                 'image inspect') for last; do :; done; [ -e \"{0}/image-$last\" ] ;;\n\
                 'pull -q') : >\"{0}/image-$3\" ;;\n\
                 rmi*) rm \"{0}/image-$2\" ;;\n\
                 info*) ;;\n\
                 *) exit 1 ;;\nesac\n",
                folder.display()
            );
            std::fs::write(&program, text).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::create_dir_all(folder.join("files/r1/metrics")).unwrap();
            Self(folder)
        }

        fn run(&self, script: &str) -> std::process::Output {
            std::process::Command::new("/bin/sh")
                .args(["-euc", script])
                .env("PATH", self.0.join("bin"))
                .env("AUTOSIZER_FOLDER", self.0.join("files"))
                .output()
                .unwrap()
        }

        fn has(&self, name: &str) -> bool {
            self.0.join(name).exists()
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn podman_does_where_docker_is_missing() {
        let machine = Machine::new("podman");
        for script in [engine(Duration::from_secs(1), true), pull("r1", "i", false)] {
            let output = machine.run(&script);
            assert!(output.status.success(), "{output:?}");
        }
        assert!(machine.has("image-i"));
        let none = Machine::new("nothing");
        let output = none.run(&engine(Duration::from_mins(5), true));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(complaint, "there is neither Docker nor Podman\n");
    }

    #[test]
    fn a_machine_is_left_as_it_was_found() {
        let machine = Machine::new("docker");
        std::fs::write(machine.0.join("image-old"), "").unwrap();
        for image in ["old", "new"] {
            assert!(machine.run(&pull("r1", image, true)).status.success());
        }
        // A collector that does not listen, with a child, and a file of another run.
        let collector = format!(
            "setsid sh -c 'sleep 60; :' x {} </dev/null >/dev/null 2>&1 &\necho $! >{}/pid\n",
            folder("r1"),
            folder("r1")
        );
        assert!(machine.run(&collector).status.success());
        let pid = std::fs::read_to_string(machine.0.join("files/r1/metrics/pid")).unwrap();
        let process = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
        std::fs::write(machine.0.join("files/other"), "").unwrap();
        let output = machine.run(&clean("r1"));
        assert!(output.status.success(), "{output:?}");
        assert!(machine.has("image-old") && !machine.has("image-new"));
        assert!(!machine.has("files/r1") && machine.has("files/other"));
        let is_over = || {
            let state = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        let began = std::time::Instant::now();
        while !is_over() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the collector runs on"
            );
            std::thread::yield_now();
        }
        let calls = std::fs::read_to_string(machine.0.join("calls")).unwrap();
        assert!(calls.contains("rm -f -v autosizer-r1\n"), "{calls}");
        assert!(calls.contains("rm -f -v autosizer-r1-glances\n"), "{calls}");
        std::fs::remove_file(machine.0.join("files/other")).unwrap();
        // Once more, by somebody who does not know that it is clean.
        assert!(machine.run(&clean("r1")).status.success());
        assert!(!machine.has("files"));
    }

    #[test]
    fn complaints_of_engines_have_causes() {
        for (complaint, part) in [
            (
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                "architecture",
            ),
            (
                "manifest for x:y not found: manifest unknown",
                "there is no image",
            ),
            (
                "write /var/lib/docker/x: no space left on device",
                "disk is full",
            ),
            (
                "Bind for 0.0.0.0:80 failed: port is already allocated",
                "port 80 is taken",
            ),
            (
                "something else",
                "the container engine says: something else",
            ),
        ] {
            let (cause, _) = explain("x:y", 80, complaint);
            assert!(cause.contains(part), "{cause}");
        }
    }
}
