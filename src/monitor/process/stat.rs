//! `/proc/PID/stat` and `/proc/PID/task/TID/stat`.
//!
//! Owns the meaning of the fields (`proc_pid_stat(5)`). Called by the process set and the thread meter.

/// The fields that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Stat {
    /// Dead and not yet waited for, or about to be.
    pub(in super::super) is_dead: bool,
    /// Sleeps in the kernel and cannot be interrupted, nearly always because it waits for a disk.
    pub(in super::super) is_blocked: bool,
    pub(in super::super) parent: u32,
    /// Virtual memory.
    pub(in super::super) address_space_bytes: u64,
    /// User and system time of all its threads, exited ones included, in clock ticks.
    pub(in super::super) own_ticks: u64,
    /// The same of the children it has waited for, and of theirs.
    pub(in super::super) reaped_ticks: u64,
    pub(in super::super) threads: u64,
    /// When it started, in ticks since boot: with the pid it names a process for good.
    pub(in super::super) start_ticks: u64,
    pub(in super::super) resident_pages: u64,
}

impl Stat {
    /// Reads the line. The name, which may hold spaces and brackets, ends at the last `)`.
    pub(in super::super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let user = number(9)?;
        let system = number(0)?;
        // Signed in the kernel's format; never negative in practice.
        let reaped_user = number(0)?;
        let reaped_system = number(0)?;
        let threads = number(2)?;
        let start_ticks = number(1)?;
        let address_space_bytes = number(0)?;
        let resident_pages = number(0)?;
        Some(Self {
            is_dead: matches!(state, "Z" | "X" | "x"),
            is_blocked: state == "D",
            parent,
            address_space_bytes,
            own_ticks: user + system,
            reaped_ticks: reaped_user + reaped_system,
            threads,
            start_ticks,
            resident_pages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let line = "77 (a ) R (b) S 12 77 77 0 -1 4194304 120 5 0 0 31 9 200 40 20 0 6 0 26046 3133440 409 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let expected = Stat {
            is_dead: false,
            is_blocked: false,
            parent: 12,
            address_space_bytes: 3_133_440,
            own_ticks: 40,
            reaped_ticks: 240,
            threads: 6,
            start_ticks: 26_046,
            resident_pages: 409,
        };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn a_cut_line_is_no_reading() {
        assert_eq!(Stat::parse("77 (a) S 12 77"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
