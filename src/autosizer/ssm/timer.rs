//! The timer by which the instance ends itself.
//!
//! Owns the scripts that set it: a unit of systemd with the time of the end as it stands on the clock, kept on the disk, so
//! that it outlives a stop and a start of the instance and fires at once when its time passed meanwhile. (A timer that
//! counts from boot would begin anew.) Ending is powering off: the instance was launched to terminate then. Called for
//! the first boot and whenever an instance is used again.

use std::fmt::Write;
use std::time::Duration;

/// The script of the first boot: the timer comes before all else.
pub(super) fn user_data(time_to_live: Duration) -> String {
    format!(
        "#!/bin/sh\n{}command -v docker >/dev/null 2>&1 || dnf -y install docker\nsystemctl enable --now docker\n",
        arm(time_to_live)
    )
}

/// Exit code where nothing can set a timer.
pub(super) const NO_SYSTEMD: i32 = 69;

/// Sets the timer of an instance that is used again.
pub(super) fn arm_again(time_to_live: Duration) -> String {
    format!(
        "command -v systemctl >/dev/null 2>&1 || {{ echo 'there is no systemd' >&2; exit {NO_SYSTEMD}; }}\n{}",
        arm(time_to_live)
    )
}

/// Sets the timer, in place of the one that may be set already.
fn arm(time_to_live: Duration) -> String {
    let seconds = time_to_live.as_secs();
    let mut text = "arm() {\n\
         units=${AUTOSIZER_UNITS:-/etc/systemd/system}\n"
        .to_owned();
    let _ = writeln!(
        text,
        "end=$(date -u -d \"@$(($(date +%s) + {seconds}))\" '+%Y-%m-%d %H:%M:%S UTC') && [ -n \"$end\" ] || return 1"
    );
    text.push_str(
        "mkdir -p \"$units\" &&\n\
         printf '%s\\n' '[Unit]' 'Description=End of this machine' '[Service]' 'Type=oneshot' \
         'ExecStart=/usr/bin/systemctl poweroff' >\"$units/autosizer-ttl.service\" &&\n\
         printf '%s\\n' '[Unit]' 'Description=Time to live of this machine' '[Timer]' \"OnCalendar=$end\" \
         'AccuracySec=1s' 'Persistent=true' '[Install]' 'WantedBy=timers.target' >\"$units/autosizer-ttl.timer\" &&\n\
         systemctl daemon-reload && systemctl enable autosizer-ttl.timer && systemctl restart autosizer-ttl.timer\n\
         }\n\
         systemctl stop autosizer-once.timer >/dev/null 2>&1 || true\n",
    );
    // Where no unit can be written a timer that lasts until the next boot is better than none.
    let _ = writeln!(
        text,
        "arm >/dev/null || systemd-run --on-active={seconds}s --unit=autosizer-once systemctl poweroff"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs the script with programs of ours in place of systemd's, which write down how they were called.
    fn run(systemctl: &str) -> (String, String) {
        let name = format!("timer-{}-{:x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let script = format!(
            "systemctl() {{ echo \"systemctl $*\" >>{0}/calls; {systemctl}; }}\n\
             systemd_run() {{ echo \"systemd-run $*\" >>{0}/calls; }}\n{1}",
            folder.display(),
            arm(Duration::from_hours(1)).replace("systemd-run", "systemd_run"),
        );
        let status = Command::new("sh")
            .args(["-euc", &script])
            .env("AUTOSIZER_UNITS", folder.join("units"))
            .status()
            .unwrap();
        assert!(status.success());
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let answer = (read("units/autosizer-ttl.timer"), read("calls"));
        std::fs::remove_dir_all(&folder).unwrap();
        answer
    }

    #[test]
    fn the_end_is_a_time_on_the_clock() {
        let before = super::super::unix_seconds();
        let (timer, calls) = run("true");
        let end = timer
            .lines()
            .find_map(|line| line.strip_prefix("OnCalendar="))
            .unwrap();
        let output = Command::new("date").args(["-d", end, "+%s"]).output();
        let told: f64 = String::from_utf8(output.unwrap().stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let after = super::super::unix_seconds();
        assert!((before + 3599.0..=after + 3601.0).contains(&told), "{end}");
        assert!(timer.contains("Persistent=true") && timer.contains("WantedBy=timers.target"));
        assert!(
            calls.ends_with("systemctl restart autosizer-ttl.timer\n"),
            "{calls}"
        );
        assert!(!calls.contains("systemd-run"), "{calls}");
    }

    #[test]
    fn without_units_there_is_a_timer_all_the_same() {
        let (_, calls) = run("[ \"$1\" = stop ]");
        assert!(
            calls.ends_with("--on-active=3600s --unit=autosizer-once systemctl poweroff\n"),
            "{calls}"
        );
    }

    #[test]
    fn without_systemd_that_is_told() {
        let status = Command::new("/bin/sh")
            .args(["-euc", &arm_again(Duration::from_hours(1))])
            .env("PATH", "/nonexistent")
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(NO_SYSTEMD));
    }
}
