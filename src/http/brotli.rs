//! The Brotli coding (RFC 7932), piece by piece. Called by `content_encoding`, which owns the bounds.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::content_encoding::{Decoded, Undecodable};

/// How much the output grows at a time.
const STEP_BYTES: usize = 16 * 1024;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// A decoder for one body.
pub(super) struct Brotli {
    state: State,
    finished: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let (bytes, words, codes) = (
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        Self {
            state: BrotliState::new(bytes, words, codes),
            finished: false,
        }
    }

    /// Whether the stream has come to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Decodes to the end of `output` until about `room` bytes are added. Nothing may follow the stream.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<Decoded, Undecodable> {
        if self.finished {
            return if input.is_empty() {
                Ok(Decoded {
                    consumed: 0,
                    starved: true,
                })
            } else {
                Err(Undecodable)
            };
        }
        let full = output.len().saturating_add(room);
        let mut available_in = input.len();
        let mut at = 0;
        loop {
            let length = output.len();
            output.resize(length + STEP_BYTES, 0);
            let mut available_out = STEP_BYTES;
            let mut written = length;
            let mut total = 0;
            let result = BrotliDecompressStream(
                &mut available_in,
                &mut at,
                input,
                &mut available_out,
                &mut written,
                output,
                &mut total,
                &mut self.state,
            );
            output.truncate(written);
            match result {
                BrotliResult::ResultSuccess => {
                    self.finished = true;
                    if available_in > 0 {
                        return Err(Undecodable);
                    }
                    return Ok(Decoded {
                        consumed: at,
                        starved: true,
                    });
                }
                BrotliResult::NeedsMoreInput => {
                    return Ok(Decoded {
                        consumed: at,
                        starved: true,
                    });
                }
                BrotliResult::NeedsMoreOutput if output.len() >= full => {
                    return Ok(Decoded {
                        consumed: at,
                        starved: false,
                    });
                }
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => return Err(Undecodable),
            }
        }
    }
}
