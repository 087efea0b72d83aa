//! The Zstandard coding (RFC 8878), piece by piece. Called by `content_encoding`, which owns the bounds.

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::content_encoding::{Decoded, Undecodable};

/// How much the output grows at a time.
const STEP_BYTES: usize = 16 * 1024;

/// A decoder for one body: one frame, or several in a row.
pub(super) struct Zstandard {
    decoder: Decoder<'static>,
    /// At the end of a frame.
    finished: bool,
}

impl Zstandard {
    pub(super) fn new() -> Result<Self, Undecodable> {
        Ok(Self {
            decoder: Decoder::new().map_err(|_| Undecodable)?,
            finished: false,
        })
    }

    /// Whether the last frame has come to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Decodes to the end of `output` until about `room` bytes are added.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<Decoded, Undecodable> {
        let full = output.len().saturating_add(room);
        let mut source = InBuffer::around(input);
        loop {
            if source.pos == input.len() && self.finished {
                return Ok(Decoded {
                    consumed: source.pos,
                    starved: true,
                });
            }
            let length = output.len();
            output.resize(length + STEP_BYTES, 0);
            let fresh = output.get_mut(length..).unwrap_or_default();
            let mut target = OutBuffer::around(fresh);
            let hint = self.decoder.run(&mut source, &mut target);
            let written = target.pos();
            output.truncate(length + written);
            self.finished = hint.map_err(|_| Undecodable)? == 0;
            // A step that was not filled has emptied the decoder.
            if source.pos == input.len() && written < STEP_BYTES {
                return Ok(Decoded {
                    consumed: source.pos,
                    starved: true,
                });
            }
            if output.len() >= full {
                return Ok(Decoded {
                    consumed: source.pos,
                    starved: false,
                });
            }
        }
    }
}
