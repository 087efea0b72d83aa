//! One message compressed or decompressed as permessage-deflate has it (RFC 7692 section 7.2).
//!
//! A message is a raw deflate stream that ends with an empty stored block, whose last four bytes are not
//! sent. The window goes on from message to message unless that was ruled out.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a sender leaves out at the end of a message, and a receiver puts back.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How much the output grows at a time.
const STEP_BYTES: usize = 4096;

/// Most deflate streams in one message: aiohttp's bound.
const MAX_STREAMS: usize = 1024;

/// Compresses the messages of one connection.
#[derive(Debug)]
pub struct Deflater {
    compress: Compress,
    flush: FlushCompress,
}

impl Deflater {
    /// A compressor whose window has `2 ** window_bits` bytes; `None` unless that is 9 to 15.
    ///
    /// With `no_takeover` no message refers to an earlier one.
    pub fn new(window_bits: u8, no_takeover: bool) -> Option<Self> {
        (9..=15).contains(&window_bits).then(|| Self {
            // The fastest level, as aiohttp uses: a load generator's time is better spent elsewhere.
            compress: Compress::new_with_window_bits(Compression::fast(), false, window_bits),
            flush: if no_takeover {
                FlushCompress::Full
            } else {
                FlushCompress::Sync
            },
        })
    }

    /// Appends the compressed `message` to `out`. False when the compressor broke.
    #[must_use]
    pub fn deflate(&mut self, mut message: &[u8], out: &mut Vec<u8>) -> bool {
        out.reserve(message.len() / 2 + 64);
        let start = out.len();
        loop {
            let before = self.compress.total_in();
            if self
                .compress
                .compress_vec(message, out, self.flush)
                .is_err()
            {
                return false;
            }
            let taken = self.compress.total_in() - before;
            message = message
                .get(usize::try_from(taken).unwrap_or(usize::MAX)..)
                .unwrap_or_default();
            // Spare room means that everything, flush included, is out.
            if message.is_empty() && out.len() < out.capacity() {
                break;
            }
            out.reserve(STEP_BYTES);
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if out.len() == start {
            // A second flush of nothing gives nothing: RFC 7692 section 7.2.3.6 has the byte for it.
            out.push(0);
        }
        true
    }
}

/// Why a message cannot be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InflateError {
    /// It is no deflate data.
    Corrupt,
    /// It is longer than the limit.
    TooLong,
    /// It is made of too many streams.
    TooManyStreams,
}

/// Decompresses the messages of one connection.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        // The largest window serves every sender.
        Self(Decompress::new(false))
    }
}

impl Inflater {
    /// Decompresses one message. `limit` is the most bytes it may have; 0 is no limit.
    pub(super) fn inflate(
        &mut self,
        payload: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, InflateError> {
        let mut out = Vec::with_capacity(payload.len().saturating_mul(2).min(64 * 1024));
        let mut streams = 1;
        for mut part in [payload, TAIL.as_slice()] {
            while !part.is_empty() || out.len() == out.capacity() {
                out.reserve(STEP_BYTES);
                let (in_before, out_before) = (self.0.total_in(), out.len());
                let status = self
                    .0
                    .decompress_vec(part, &mut out, FlushDecompress::Sync)
                    .map_err(|_| InflateError::Corrupt)?;
                let taken = usize::try_from(self.0.total_in() - in_before).unwrap_or(usize::MAX);
                part = part.get(taken..).unwrap_or_default();
                if limit > 0 && out.len() > limit {
                    return Err(InflateError::TooLong);
                }
                if status == Status::StreamEnd {
                    // A sender may end its stream within a message; what follows is a new one.
                    self.0.reset(false);
                    if part.is_empty() {
                        break;
                    }
                    streams += 1;
                    if streams > MAX_STREAMS {
                        return Err(InflateError::TooManyStreams);
                    }
                } else if taken == 0 && out.len() == out_before {
                    if part.is_empty() {
                        break;
                    }
                    return Err(InflateError::Corrupt);
                }
            }
        }
        Ok(out)
    }
}
