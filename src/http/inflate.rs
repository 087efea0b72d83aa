//! The gzip and deflate codings (RFC 1950, 1951, 1952), piece by piece.
//!
//! Owns member headers, trailers and what may follow a stream. Behaves as aiohttp does: deflate without the zlib
//! header is recognised by its first byte, and several members in a row are one body, all with or all without it. Called by `content_encoding`,
//! which owns the bounds.

use flate2::{Decompress, FlushDecompress, Status};

use super::content_encoding::{Decoded, Undecodable};

/// Most members in one body.
const MAX_MEMBERS: usize = 1024;

/// Most bytes of a gzip member's header; names and comments have no length of their own.
const MAX_MEMBER_HEADER_BYTES: usize = 1 << 16;

/// How much the output grows at a time.
const STEP_BYTES: usize = 16 * 1024;

#[derive(Debug)]
enum Stage {
    /// Before the first byte, or inside a gzip member's header, of which these bytes have come.
    Header(Vec<u8>),
    Data,
    /// Inside a gzip member's trailer.
    Trailer(Vec<u8>),
    /// After the end of a gzip member or a deflate stream.
    End,
}

/// A decoder for one body.
#[derive(Debug)]
pub(super) struct Inflate {
    gzip: bool,
    /// Whether streams have the header and the checksum of RFC 1950.
    zlib: bool,
    stage: Stage,
    stream: Decompress,
    checksum: flate2::Crc,
    members: usize,
}

impl Inflate {
    pub(super) fn gzip() -> Self {
        Self::new(true)
    }

    pub(super) fn deflate() -> Self {
        Self::new(false)
    }

    fn new(gzip: bool) -> Self {
        Self {
            gzip,
            zlib: false,
            stage: Stage::Header(Vec::new()),
            stream: Decompress::new(false),
            checksum: flate2::Crc::new(),
            members: 0,
        }
    }

    /// Whether the last stream has come to its end.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::End)
    }

    /// Decodes to the end of `output` until about `room` bytes are added.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<Decoded, Undecodable> {
        let full = output.len().saturating_add(room);
        let mut rest = input;
        let mut starved = true;
        while !rest.is_empty() || matches!(self.stage, Stage::Data) {
            match &mut self.stage {
                Stage::Header(seen) if self.gzip => {
                    let before = seen.len();
                    seen.extend_from_slice(rest);
                    match gzip_header_length(seen)? {
                        None if seen.len() > MAX_MEMBER_HEADER_BYTES => return Err(Undecodable),
                        None => rest = &[],
                        Some(length) => {
                            rest = rest
                                .get(length.saturating_sub(before)..)
                                .unwrap_or_default();
                            self.stage = Stage::Data;
                        }
                    }
                }
                Stage::Header(_) => {
                    // The low four bits of a zlib header are 8; a bare stream never starts so in practice.
                    self.zlib = rest.first().is_some_and(|first| first & 0x0f == 8);
                    self.stream = Decompress::new(self.zlib);
                    self.stage = Stage::Data;
                }
                Stage::Data => {
                    rest = self.inflate(rest, output)?;
                    if matches!(self.stage, Stage::Data) {
                        // Spare room in the output means that the decoder has nothing more to give.
                        if rest.is_empty() && output.len() < output.capacity() {
                            break;
                        }
                        if output.len() >= full {
                            starved = false;
                            break;
                        }
                    }
                }
                Stage::Trailer(seen) => {
                    let wanted = 8 - seen.len();
                    let (part, after) = rest.split_at(wanted.min(rest.len()));
                    seen.extend_from_slice(part);
                    rest = after;
                    if let [a, b, c, d, e, f, g, h] = *seen.as_slice() {
                        let sum = u32::from_le_bytes([a, b, c, d]);
                        let amount = u32::from_le_bytes([e, f, g, h]);
                        if sum != self.checksum.sum() || amount != self.checksum.amount() {
                            return Err(Undecodable);
                        }
                        self.stage = Stage::End;
                    }
                }
                Stage::End => self.next_member()?,
            }
        }
        Ok(Decoded {
            consumed: input.len() - rest.len(),
            starved,
        })
    }

    /// Anything after the end has to be one more complete stream.
    fn next_member(&mut self) -> Result<(), Undecodable> {
        self.members += 1;
        if self.members >= MAX_MEMBERS {
            return Err(Undecodable);
        }
        self.stream.reset(self.zlib);
        self.checksum.reset();
        self.stage = if self.gzip {
            Stage::Header(Vec::new())
        } else {
            Stage::Data
        };
        Ok(())
    }

    /// One step of the decoder; returns what is left of the input.
    fn inflate<'a>(
        &mut self,
        input: &'a [u8],
        output: &mut Vec<u8>,
    ) -> Result<&'a [u8], Undecodable> {
        output.reserve(STEP_BYTES);
        let length_before = output.len();
        let in_before = self.stream.total_in();
        let status = self
            .stream
            .decompress_vec(input, output, FlushDecompress::None)
            .map_err(|_| Undecodable)?;
        let consumed = usize::try_from(self.stream.total_in() - in_before).unwrap_or(usize::MAX);
        let fresh = output.get(length_before..).unwrap_or_default();
        if self.gzip {
            self.checksum.update(fresh);
        }
        if status == Status::StreamEnd {
            self.stage = if self.gzip {
                Stage::Trailer(Vec::with_capacity(8))
            } else {
                Stage::End
            };
        } else if consumed == 0
            && fresh.is_empty()
            && !input.is_empty()
            && output.len() < output.capacity()
        {
            return Err(Undecodable);
        }
        Ok(input.get(consumed..).unwrap_or_default())
    }
}

/// The length of the gzip member header that `bytes` starts with (RFC 1952 section 2.3); `None` when
/// unfinished, an error when it is none.
fn gzip_header_length(bytes: &[u8]) -> Result<Option<usize>, Undecodable> {
    const HEADER_CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    for (&byte, expected) in bytes.iter().zip([0x1f, 0x8b, 8]) {
        if byte != expected {
            return Err(Undecodable);
        }
    }
    let Some(&flags) = bytes.get(3) else {
        return Ok(None);
    };
    if flags & 0xe0 != 0 {
        return Err(Undecodable);
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let (Some(&low), Some(&high)) = (bytes.get(at), bytes.get(at + 1)) else {
            return Ok(None);
        };
        at += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(length) = rest.iter().position(|&byte| byte == 0) else {
                return Ok(None);
            };
            at += length + 1;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        let Some((header, &[low, high])) = bytes
            .split_at_checked(at)
            .and_then(|(header, rest)| Some((header, rest.first_chunk::<2>()?)))
        else {
            return Ok(None);
        };
        let mut checksum = flate2::Crc::new();
        checksum.update(header);
        if checksum.sum() & 0xffff != u32::from(u16::from_le_bytes([low, high])) {
            return Err(Undecodable);
        }
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}
