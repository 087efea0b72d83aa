//! Compressed bodies: gzip and deflate, decoded as they arrive.
//!
//! Owns the decoder and its bounds; where the body ends is `body`'s business. Behaves as aiohttp does:
//! deflate without the zlib header is recognised by its first byte, gzip may be several members in a row, a
//! truncated gzip body is what could be decoded of it, a truncated deflate body is an error.

use flate2::{Decompress, FlushDecompress, Status};

use super::error::Error;

/// Most bytes one body may decode to: a bound against bombs, far above what a response is.
pub const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Most gzip members in one body.
const MAX_MEMBERS: usize = 1024;

/// Most bytes of a gzip member's header; names and comments have no length of their own.
const MAX_MEMBER_HEADER_BYTES: usize = 1 << 16;

/// How much the output grows at a time.
const STEP_BYTES: usize = 16 * 1024;

/// What a body is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or bare RFC 1951 as some servers send it.
    Deflate,
    /// Not decoded here: reading such a body is an error, as in aiohttp without the Brotli package.
    Brotli,
    /// Not decoded here: reading such a body is an error, as in aiohttp without a Zstandard package.
    Zstandard,
}

impl ContentEncoding {
    /// The coding that a `Content-Encoding` value names; `None` for unknown ones and lists, which stay encoded.
    #[inline]
    pub fn from_header(value: &[u8]) -> Option<Self> {
        if value.eq_ignore_ascii_case(b"gzip") {
            Some(Self::Gzip)
        } else if value.eq_ignore_ascii_case(b"deflate") {
            Some(Self::Deflate)
        } else if value.eq_ignore_ascii_case(b"br") {
            Some(Self::Brotli)
        } else if value.eq_ignore_ascii_case(b"zstd") {
            Some(Self::Zstandard)
        } else {
            None
        }
    }
}

/// A decoder for one body.
#[derive(Debug)]
pub struct Decompressor {
    encoding: ContentEncoding,
    stage: Stage,
    inflate: Decompress,
    checksum: flate2::Crc,
    members: usize,
    received: u64,
    decoded: u64,
}

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

impl Decompressor {
    /// A decoder for a body in `encoding`.
    pub fn new(encoding: ContentEncoding) -> Self {
        Self {
            encoding,
            stage: Stage::Header(Vec::new()),
            inflate: Decompress::new(false),
            checksum: flate2::Crc::new(),
            members: 0,
            received: 0,
            decoded: 0,
        }
    }

    /// Decodes all of `input`, the next part of the body, to the end of `output`.
    ///
    /// # Errors
    /// [`Error::Payload`] when the bytes are not what they claim or decode to more than
    /// [`MAX_DECODED_BYTES`]; [`Error::BadResponse`] for a coding that is not supported.
    pub fn decompress(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), Error> {
        match self.encoding {
            ContentEncoding::Brotli => {
                return Err(Error::bad_response(
                    "Can not decode content-encoding: brotli (br). Please install `Brotli`",
                ));
            }
            ContentEncoding::Zstandard => {
                return Err(Error::bad_response(
                    "Can not decode content-encoding: zstandard (zstd). Please install `backports.zstd`",
                ));
            }
            ContentEncoding::Gzip | ContentEncoding::Deflate => {}
        }
        self.received += input.len() as u64;
        while !input.is_empty() {
            match &mut self.stage {
                Stage::Header(seen) if self.encoding == ContentEncoding::Gzip => {
                    let before = seen.len();
                    seen.extend_from_slice(input);
                    match gzip_header_length(seen) {
                        Err(()) => return Err(self.undecodable()),
                        Ok(None) if seen.len() > MAX_MEMBER_HEADER_BYTES => {
                            return Err(self.undecodable());
                        }
                        Ok(None) => return Ok(()),
                        Ok(Some(length)) => {
                            input = input
                                .get(length.saturating_sub(before)..)
                                .unwrap_or_default();
                            self.stage = Stage::Data;
                        }
                    }
                }
                Stage::Header(_) => {
                    // The low four bits of a zlib header are 8; a bare stream never starts so in practice.
                    let zlib = input.first().is_some_and(|first| first & 0x0f == 8);
                    self.inflate = Decompress::new(zlib);
                    self.stage = Stage::Data;
                }
                Stage::Data => input = self.inflate(input, output)?,
                Stage::Trailer(seen) => {
                    let wanted = 8 - seen.len();
                    let (part, rest) = input.split_at(wanted.min(input.len()));
                    seen.extend_from_slice(part);
                    input = rest;
                    if let [a, b, c, d, e, f, g, h] = *seen.as_slice() {
                        let sum = u32::from_le_bytes([a, b, c, d]);
                        let amount = u32::from_le_bytes([e, f, g, h]);
                        if sum != self.checksum.sum() || amount != self.checksum.amount() {
                            return Err(self.undecodable());
                        }
                        self.stage = Stage::End;
                    }
                }
                Stage::End => {
                    // Anything after the end has to be one more complete stream.
                    self.members += 1;
                    if self.members >= MAX_MEMBERS {
                        return Err(self.undecodable());
                    }
                    self.inflate
                        .reset(self.encoding == ContentEncoding::Deflate);
                    self.checksum.reset();
                    self.stage = if self.encoding == ContentEncoding::Gzip {
                        Stage::Header(Vec::new())
                    } else {
                        Stage::Data
                    };
                }
            }
        }
        Ok(())
    }

    /// Tells that the body is complete.
    ///
    /// # Errors
    /// [`Error::Payload`] for a deflate body that ends too early.
    pub fn finish(&mut self) -> Result<(), Error> {
        if self.encoding == ContentEncoding::Deflate
            && self.received > 0
            && !matches!(self.stage, Stage::End)
        {
            return Err(Error::payload(
                "Response payload is not completed: <ContentEncodingError: 400, message='deflate'>",
            ));
        }
        Ok(())
    }

    /// Decodes from `input` until it is used up or the stream ends; returns what is left of it.
    fn inflate<'a>(
        &mut self,
        mut input: &'a [u8],
        output: &mut Vec<u8>,
    ) -> Result<&'a [u8], Error> {
        loop {
            output.reserve(STEP_BYTES);
            let length_before = output.len();
            let in_before = self.inflate.total_in();
            let status = self
                .inflate
                .decompress_vec(input, output, FlushDecompress::None)
                .map_err(|_| self.undecodable())?;
            let consumed =
                usize::try_from(self.inflate.total_in() - in_before).unwrap_or(usize::MAX);
            input = input.get(consumed..).unwrap_or_default();
            let fresh = output.get(length_before..).unwrap_or_default();
            let produced = fresh.len();
            if self.encoding == ContentEncoding::Gzip {
                self.checksum.update(fresh);
            }
            self.decoded += produced as u64;
            if self.decoded > MAX_DECODED_BYTES {
                return Err(Error::payload(format!(
                    "Response payload decodes to more than {MAX_DECODED_BYTES} bytes"
                )));
            }
            if status == Status::StreamEnd {
                self.stage = if self.encoding == ContentEncoding::Gzip {
                    Stage::Trailer(Vec::with_capacity(8))
                } else {
                    Stage::End
                };
                return Ok(input);
            }
            // Spare room in the output means that the decoder has nothing more to give.
            let drained = output.len() < output.capacity();
            if input.is_empty() && drained {
                return Ok(input);
            }
            if consumed == 0 && produced == 0 && drained {
                return Err(self.undecodable());
            }
        }
    }

    #[cold]
    fn undecodable(&self) -> Error {
        let name = match self.encoding {
            ContentEncoding::Gzip => "gzip",
            ContentEncoding::Deflate => "deflate",
            ContentEncoding::Brotli => "br",
            ContentEncoding::Zstandard => "zstd",
        };
        Error::payload(format!(
            "400, message:\n  Can not decode content-encoding: {name}"
        ))
    }
}

/// The length of the gzip member header that `bytes` starts with (RFC 1952 section 2.3); `None` when
/// unfinished, an error when it is none.
fn gzip_header_length(bytes: &[u8]) -> Result<Option<usize>, ()> {
    const HEADER_CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    for (&byte, expected) in bytes.iter().zip([0x1f, 0x8b, 8]) {
        if byte != expected {
            return Err(());
        }
    }
    let Some(&flags) = bytes.get(3) else {
        return Ok(None);
    };
    if flags & 0xe0 != 0 {
        return Err(());
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
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}

#[cfg(test)]
#[path = "content_encoding_tests.rs"]
mod tests;
