//! Where a response body ends, and request bodies in chunks.
//!
//! Owns the decoding of each [`Framing`] from whatever pieces the socket delivers; never waits, never keeps
//! input back. Content codings are `content_encoding`'s business. Called by the session after the head.

use super::{
    codec::Framing,
    error::{Error, point_at},
    scan::is_token,
};

/// Most bytes of one chunk's extensions. They mean nothing to us, so an endless one is an attack or a bug.
const MAX_EXTENSION_BYTES: usize = 1 << 16;

/// Most bytes of one trailer, and most trailers; aiohttp's defaults for headers.
const MAX_TRAILER_BYTES: usize = 8190;
const MAX_TRAILERS: usize = 128;

/// What ends a body in chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How far a call of [`BodyDecoder::decode`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to this body; all of them unless it is complete.
    pub consumed: usize,
    /// Whether the body is complete.
    pub complete: bool,
    /// Whether a chunk's content ended with the last byte that was appended.
    pub chunk_ended: bool,
}

/// A decoder for the framing of one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    expected: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Complete,
    Failed,
    Length(u64),
    UntilClose,
    /// In a chunk size; `digits` tells whether one has come.
    Size {
        size: u64,
        digits: bool,
    },
    SizeSpace {
        size: u64,
        length: usize,
    },
    Extension {
        size: u64,
        length: usize,
    },
    SizeLineFeed(u64),
    Data(u64),
    DataEnd,
    DataLineFeed,
    TrailerStart {
        count: usize,
    },
    TrailerName {
        count: usize,
        length: usize,
    },
    TrailerValue {
        count: usize,
        length: usize,
    },
    TrailerLineFeed {
        count: usize,
    },
    LastLineFeed,
}

impl BodyDecoder {
    /// A decoder for a body framed so.
    pub fn new(framing: Framing) -> Self {
        let (state, expected) = match framing {
            Framing::Empty | Framing::Length(0) => (State::Complete, 0),
            Framing::Length(length) => (State::Length(length), length),
            Framing::Chunked => (
                State::Size {
                    size: 0,
                    digits: false,
                },
                0,
            ),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        Self { state, expected }
    }

    /// Whether the last byte has come. A body that only the end of the connection ends is never complete.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// How many of the next bytes are content as they are: `u64::MAX` when only the end of the connection ends the
    /// body, zero when the next byte has to be decoded.
    pub fn plain_bytes(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// So many bytes of [`plain_bytes`](Self::plain_bytes) were taken past the decoder. Gives whether the body is
    /// complete.
    pub fn took_plain(&mut self, count: u64) -> bool {
        if let State::Length(left) = self.state {
            let left = left.saturating_sub(count);
            self.state = if left == 0 {
                State::Complete
            } else {
                State::Length(left)
            };
        }
        self.is_complete()
    }

    /// Appends the content in `input` to `output`.
    ///
    /// # Errors
    /// [`Error::Payload`] when the chunks are malformed; every later call fails as well.
    pub fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Progress, Error> {
        let mut at = 0;
        loop {
            let progress = self.decode_chunk(input, at, output)?;
            at = progress.consumed;
            if progress.complete || at >= input.len() {
                return Ok(progress);
            }
        }
    }

    /// As [`decode`](Self::decode), from the byte at `from` on and only up to where the content of a chunk ends.
    ///
    /// `consumed` counts from the beginning of `input`, of which errors quote what came before.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    pub fn decode_chunk(
        &mut self,
        input: &[u8],
        from: usize,
        output: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let rest = input.get(from..).unwrap_or_default();
        match self.state {
            State::Complete => Ok(Progress {
                consumed: from,
                complete: true,
                chunk_ended: false,
            }),
            State::UntilClose => {
                output.extend_from_slice(rest);
                Ok(Progress {
                    consumed: input.len(),
                    complete: false,
                    chunk_ended: false,
                })
            }
            State::Length(left) => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                output.extend_from_slice(rest.get(..take).unwrap_or_default());
                let left = left - take as u64;
                self.state = if left == 0 {
                    State::Complete
                } else {
                    State::Length(left)
                };
                Ok(Progress {
                    consumed: from + take,
                    complete: left == 0,
                    chunk_ended: false,
                })
            }
            _ => self.decode_framed(input, from, output),
        }
    }

    /// Tells that the connection has ended.
    ///
    /// # Errors
    /// [`Error::Payload`] when bytes are missing.
    pub fn eof(&mut self) -> Result<(), Error> {
        match self.state {
            State::Complete => Ok(()),
            State::UntilClose => {
                self.state = State::Complete;
                Ok(())
            }
            State::Length(left) => {
                let (received, expected) = (self.expected - left, self.expected);
                Err(Error::payload(format!(
                    "Response payload is not completed: <ContentLengthError: 400, message='Not enough data \
                     to satisfy content length header (received {received} of {expected} bytes).'>"
                )))
            }
            _ => Err(incomplete(
                "Not enough data to satisfy transfer length header.",
            )),
        }
    }

    fn decode_framed(
        &mut self,
        input: &[u8],
        from: usize,
        output: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let mut at = from;
        while let Some(&byte) = input.get(at) {
            if let State::Data(left) = self.state {
                let rest = input.get(at..).unwrap_or_default();
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                output.extend_from_slice(rest.get(..take).unwrap_or_default());
                at += take;
                let left = left - take as u64;
                if left == 0 {
                    self.state = State::DataEnd;
                    return Ok(Progress {
                        consumed: at,
                        complete: false,
                        chunk_ended: true,
                    });
                }
                self.state = State::Data(left);
                continue;
            }
            match self.state.step(byte) {
                Ok(state) => self.state = state,
                Err(description) => {
                    self.state = State::Failed;
                    return Err(malformed(description, input, at));
                }
            }
            at += 1;
            if self.state == State::Complete {
                return Ok(Progress {
                    consumed: at,
                    complete: true,
                    chunk_ended: false,
                });
            }
        }
        Ok(Progress {
            consumed: at,
            complete: false,
            chunk_ended: false,
        })
    }
}

impl State {
    /// The state after one byte of framing; the description of the fault when there cannot be one.
    #[inline]
    fn step(self, byte: u8) -> Result<Self, &'static str> {
        Ok(match self {
            Self::Size { size, digits } => match (byte, char::from(byte).to_digit(16)) {
                (_, Some(digit)) => {
                    if size >> 60 != 0 {
                        return Err("Chunk size overflow");
                    }
                    Self::Size {
                        size: size << 4 | u64::from(digit),
                        digits: true,
                    }
                }
                _ if !digits => return Err("Invalid character in chunk size"),
                (b'\r', _) => Self::SizeLineFeed(size),
                (b';', _) => Self::Extension { size, length: 0 },
                (b' ' | b'\t', _) => Self::SizeSpace { size, length: 0 },
                (b'\n', _) => return Err("Expected LF after chunk size"),
                _ => return Err("Invalid character in chunk size"),
            },
            // Some servers pad the size.
            Self::SizeSpace { size, length } => match byte {
                b'\r' => Self::SizeLineFeed(size),
                b';' => Self::Extension { size, length: 0 },
                b' ' | b'\t' if length < MAX_EXTENSION_BYTES => Self::SizeSpace {
                    size,
                    length: length + 1,
                },
                _ => return Err("Invalid character in chunk size"),
            },
            Self::Extension { size, length } => match byte {
                // An extension has a name (RFC 9112 section 7.1.1).
                b'\r' if length > 0 => Self::SizeLineFeed(size),
                b'\n' if length > 0 => Self::after_size(size),
                b'\t' | b' '..=b'~' | 0x80.. if length < MAX_EXTENSION_BYTES => Self::Extension {
                    size,
                    length: length + 1,
                },
                _ => return Err("Invalid character in chunk extensions"),
            },
            Self::SizeLineFeed(size) => match byte {
                b'\n' => Self::after_size(size),
                _ => return Err("Expected LF after chunk size"),
            },
            Self::DataEnd => match byte {
                b'\r' => Self::DataLineFeed,
                b'\n' => Self::Size {
                    size: 0,
                    digits: false,
                },
                _ => return Err("Expected LF after chunk data"),
            },
            Self::DataLineFeed => match byte {
                b'\n' => Self::Size {
                    size: 0,
                    digits: false,
                },
                _ => return Err("Expected LF after chunk data"),
            },
            Self::TrailerStart { count } => match byte {
                b'\r' => Self::LastLineFeed,
                b'\n' => Self::Complete,
                _ if count == MAX_TRAILERS => return Err("Too many trailers received"),
                _ if is_token(byte) => Self::TrailerName {
                    count: count + 1,
                    length: 1,
                },
                _ => return Err("Invalid header token"),
            },
            Self::TrailerName { count, length } => match byte {
                _ if length == MAX_TRAILER_BYTES => return Err("Trailer too long"),
                b':' => Self::TrailerValue {
                    count,
                    length: length + 1,
                },
                _ if is_token(byte) => Self::TrailerName {
                    count,
                    length: length + 1,
                },
                _ => return Err("Invalid header token"),
            },
            Self::TrailerValue { count, length } => match byte {
                b'\r' => Self::TrailerLineFeed { count },
                b'\n' => Self::TrailerStart { count },
                0 => return Err("Invalid header value char"),
                _ if length == MAX_TRAILER_BYTES => return Err("Trailer too long"),
                _ => Self::TrailerValue {
                    count,
                    length: length + 1,
                },
            },
            Self::TrailerLineFeed { count } => match byte {
                b'\n' => Self::TrailerStart { count },
                _ => return Err("Missing expected LF after header value"),
            },
            Self::LastLineFeed => match byte {
                b'\n' => Self::Complete,
                _ => return Err("Expected LF after headers"),
            },
            Self::Failed | Self::Complete | Self::Length(_) | Self::UntilClose | Self::Data(_) => {
                return Err("Body already failed");
            }
        })
    }

    fn after_size(size: u64) -> Self {
        if size == 0 {
            Self::TrailerStart { count: 0 }
        } else {
            Self::Data(size)
        }
    }
}

/// Appends `data` as one chunk. Nothing for no data: an empty chunk would end the body.
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0_u8; 16];
    let mut start = digits.len();
    let mut left = data.len();
    while left > 0 {
        start -= 1;
        if let (Some(slot), Some(digit)) =
            (digits.get_mut(start), b"0123456789abcdef".get(left & 15))
        {
            *slot = *digit;
        }
        left >>= 4;
    }
    out.reserve(data.len() + digits.len() + 4);
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cold]
fn incomplete(message: &str) -> Error {
    Error::payload(format!(
        "Response payload is not completed: <TransferEncodingError: 400, message='{message}'>"
    ))
}

/// The refusal of the byte at `at`, with the line it is in as far as this input shows it.
#[cold]
fn malformed(description: &str, input: &[u8], at: usize) -> Error {
    const SHOWN: usize = 100;
    let (before, after) = input.split_at(at.min(input.len()));
    let before = before
        .rsplit(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let before = before
        .get(before.len().saturating_sub(SHOWN)..)
        .unwrap_or_default();
    let after = after
        .split(|&byte| byte == b'\r' || byte == b'\n')
        .next()
        .unwrap_or_default();
    let after = after.get(..SHOWN).unwrap_or(after);
    incomplete(&point_at(
        description,
        &[before, after].concat(),
        before.len(),
    ))
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
