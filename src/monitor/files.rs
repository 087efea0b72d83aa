//! Reading the kernel's text files.
//!
//! Owns the reused buffer and the few shapes such files have: one number, `key value` lines, lists of cores, PSI. Knows
//! nothing of their meaning. Called by every sampler that reads `/proc`, `/sys` or control groups.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most such files fit; larger ones grow the buffer once.
const FIRST_SIZE: usize = 8 * 1024;

/// Reads files into one buffer.
#[derive(Debug, Default)]
pub(super) struct Files {
    buffer: Vec<u8>,
}

impl Files {
    /// The whole file. Bytes outside ASCII, which only names of processes and mounts have, become `?` where they are
    /// no valid UTF-8.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<&str> {
        let mut file = File::open(path)?;
        if self.buffer.len() < FIRST_SIZE {
            self.buffer.resize(FIRST_SIZE, 0);
        }
        let mut filled = 0;
        loop {
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            match file.read(free) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
        }
        let bytes = self.buffer.get_mut(..filled).unwrap_or_default();
        if std::str::from_utf8(bytes).is_err() {
            for byte in bytes.iter_mut().filter(|byte| !byte.is_ascii()) {
                *byte = b'?';
            }
        }
        std::str::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The number a file consists of; `None` where there is no file or another text such as `max`.
    pub(super) fn number(&mut self, path: &Path) -> Option<u64> {
        self.read(path).ok()?.trim().parse().ok()
    }
}

/// The number after `key` at the start of a line, with or without a colon: `oom_kill 3`, `MemTotal:  8 kB`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        rest.split_whitespace().next()?.parse().ok()
    })
}

/// Microseconds in which some task waited, from a PSI file (`some avg10=… total=…`).
pub(super) fn pressure_some_micros(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.rsplit_once("total=")?.1.trim().parse().ok()
}

/// How many cores a list such as `0-3,8` names; `None` for an empty one.
pub(super) fn cores_in_list(text: &str) -> Option<u64> {
    let mut cores = 0;
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u64 = first.trim().parse().ok()?;
        let last: u64 = last.trim().parse().ok()?;
        cores += last.checked_sub(first)? + 1;
    }
    (cores > 0).then_some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "oom 1\noom_kill 3\nMemTotal:    8 kB\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), Some(1));
        assert_eq!(keyed(text, "MemTotal"), Some(8));
        assert_eq!(keyed(text, "Mem"), None);
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = "some avg10=1.53 avg60=0.87 avg300=0.53 total=57843\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        assert_eq!(pressure_some_micros(text), Some(57_843));
        assert_eq!(pressure_some_micros(""), None);
    }

    #[test]
    fn core_lists_count() {
        assert_eq!(cores_in_list("0-3,8\n"), Some(5));
        assert_eq!(cores_in_list("0\n"), Some(1));
        assert_eq!(cores_in_list("\n"), None);
        assert_eq!(cores_in_list("3-1"), None);
        assert_eq!(cores_in_list("a"), None);
    }

    #[test]
    fn names_that_are_no_text_do_not_hide_the_numbers() {
        let folder = super::super::fixture::Tree::new();
        let path = folder.path("stat");
        std::fs::write(&path, b"12 (a\xffb) R 1").unwrap();
        assert_eq!(Files::default().read(&path).unwrap(), "12 (a?b) R 1");
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert_eq!(Files::default().read(&path).unwrap().len(), 100_000);
    }
}
