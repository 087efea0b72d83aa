//! Recordings as bytes: what a child process sends its parent through a pipe.
//!
//! Owns the format and its checks: any input is either a whole snapshot or an error. Called by the recorder only; both
//! ends are the same build, so there is one version and no compatibility to keep.
//!
//! Format: one byte of version, then variable-length integers (7 bits per byte, low first) and names; the CRC-32 of all
//! of it closes. Histogram buckets are written as the distance to the previous one and their count, empty ones not at
//! all: a snapshot of a fifth of a second takes some hundred bytes.

use super::recorder::{Kind, Tally};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Above this no recorder writes a value: one hour in microseconds, rounded up to a bucket.
const HIGHEST_VALUE: u64 = 1 << 32;

/// The bytes are not a snapshot, or not all of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("corrupt snapshot of {length} bytes: {reason}")]
pub struct CorruptSnapshot {
    /// How many bytes were given.
    pub length: usize,
    /// What is wrong with them.
    pub reason: &'static str,
}

pub(super) fn encode<'a>(
    count: usize,
    series: impl Iterator<Item = (Kind, &'a str, &'a Tally)>,
) -> Vec<u8> {
    let mut out = vec![VERSION];
    write(&mut out, count as u64);
    for (kind, name, tally) in series {
        out.push(match kind {
            Kind::Scenario => 0,
            Kind::Request => 1,
            Kind::Response => 2,
        });
        write(&mut out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        for number in [
            tally.failed,
            tally.bytes,
            tally.sum_microseconds,
            tally.min_microseconds,
            tally.max_microseconds,
        ] {
            write(&mut out, number);
        }
        write(&mut out, tally.histogram.iter_recorded().count() as u64);
        let mut previous = 0;
        for bucket in tally.histogram.iter_recorded() {
            write(&mut out, bucket.value_iterated_to() - previous);
            write(&mut out, bucket.count_at_value());
            previous = bucket.value_iterated_to();
        }
    }
    let checksum = checksum(&out);
    out.extend_from_slice(&checksum);
    out
}

pub(super) fn decode(blob: &[u8]) -> Result<Vec<(Kind, String, Tally)>, CorruptSnapshot> {
    read_all(blob).map_err(|reason| CorruptSnapshot {
        length: blob.len(),
        reason,
    })
}

fn read_all(blob: &[u8]) -> Result<Vec<(Kind, String, Tally)>, &'static str> {
    let (body, sum) = blob
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or("too short")?;
    if *sum != checksum(body) {
        return Err("the checksum does not match");
    }
    let mut reader = Reader(body);
    if reader.byte()? != VERSION {
        return Err("unknown version");
    }
    // Not trusted for an allocation: each series is read before the next one is believed.
    let count = reader.number()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(reader.series()?);
    }
    if reader.0.is_empty() {
        Ok(all)
    } else {
        Err("bytes after the end")
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (byte, rest) = self.0.split_first().ok_or("it ends early")?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too large")
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let length = usize::try_from(self.number()?).map_err(|_| "a name is too long")?;
        let (text, rest) = self.0.split_at_checked(length).ok_or("a name ends early")?;
        self.0 = rest;
        std::str::from_utf8(text)
            .map(str::to_owned)
            .map_err(|_| "a name is not text")
    }

    fn series(&mut self) -> Result<(Kind, String, Tally), &'static str> {
        let kind = match self.byte()? {
            0 => Kind::Scenario,
            1 => Kind::Request,
            2 => Kind::Response,
            _ => return Err("unknown kind of series"),
        };
        let name = self.text()?;
        let mut tally = Tally::new();
        tally.failed = self.number()?;
        tally.bytes = self.number()?;
        tally.sum_microseconds = self.number()?;
        tally.min_microseconds = self.number()?;
        tally.max_microseconds = self.number()?;
        let mut value = 0_u64;
        for _ in 0..self.number()? {
            value = value
                .checked_add(self.number()?)
                .filter(|value| *value <= HIGHEST_VALUE)
                .ok_or("a time is too long")?;
            let count = self.number()?;
            tally
                .histogram
                .record_n(value, count)
                .map_err(|_| "a time is too long")?;
        }
        let count = tally.histogram.len();
        if count == 0 || tally.failed > count || tally.min_microseconds > tally.max_microseconds {
            return Err("its counts contradict each other");
        }
        Ok((kind, name, tally))
    }
}

fn write(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits are wanted")]
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 128")]
    out.push(number as u8);
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive(number: u64) {
            let mut out = Vec::new();
            write(&mut out, number);
            let mut reader = Reader(&out);
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert!(reader.0.is_empty());
        }

        #[test]
        fn no_bytes_panic_even_with_the_right_checksum(mut bytes: Vec<u8>) {
            prop_assert!(decode(&bytes).is_err());
            let sum = checksum(&bytes);
            bytes.extend_from_slice(&sum);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn overlong_numbers_are_errors() {
        assert!(Reader(&[0xff; 12]).number().is_err());
        assert!(Reader(&[0xff]).number().is_err());
    }

    #[test]
    fn a_forged_count_costs_no_memory() {
        let mut bytes = vec![VERSION];
        write(&mut bytes, u64::MAX);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        assert!(decode(&bytes).is_err());
    }
}
