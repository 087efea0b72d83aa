//! Compressed bodies, decoded as they arrive: which coding, how much of it, and how far it may expand.
//!
//! Owns the bounds; the codings themselves are in `inflate`, `brotli` and `zstandard`, and where the body ends is
//! `body`'s business. Input is taken only as far as there is room for what it decodes to, so that a slow reader
//! holds a compressed body back as well. Unlike aiohttp, which gives what could be decoded of a truncated gzip body,
//! every truncated body is an error: half an answer must not count as one.

use super::{brotli::Brotli, error::Error, inflate::Inflate, zstandard::Zstandard};

/// How much is decoded before the bounds are looked at again.
const STEP_BYTES: usize = 64 * 1024;

/// Decoded bytes below which the ratio does not matter.
const RATIO_FREE_BYTES: u64 = 16 << 20;

/// How far one body may expand. A body beyond either bound is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most bytes that a body decodes to; `u64::MAX` for no bound.
    pub max_bytes: u64,
    /// Most decoded bytes per encoded one, once 16 MiB are decoded; `u64::MAX` for no bound.
    pub max_ratio: u64,
}

impl Default for DecodeLimits {
    /// 1 GiB, and twice what deflate reaches at best (1032 to 1).
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_ratio: 2064,
        }
    }
}

/// What a body is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or bare RFC 1951 as some servers send it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
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

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
        }
    }
}

/// How far one call of a decoder came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that were used.
    pub consumed: usize,
    /// Whether nothing more can be decoded before more input comes.
    pub starved: bool,
}

/// The bytes are not what they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecodable;

enum Coding {
    Inflate(Box<Inflate>),
    Brotli(Box<Brotli>),
    Zstandard(Box<Zstandard>),
    /// The decoder could not be made.
    Broken,
}

/// A decoder for one body.
pub struct Decompressor {
    encoding: ContentEncoding,
    coding: Coding,
    limits: DecodeLimits,
    received: u64,
    decoded: u64,
}

impl Decompressor {
    /// A decoder for a body in `encoding`.
    pub fn new(encoding: ContentEncoding, limits: DecodeLimits) -> Self {
        let coding = match encoding {
            ContentEncoding::Gzip => Coding::Inflate(Box::new(Inflate::gzip())),
            ContentEncoding::Deflate => Coding::Inflate(Box::new(Inflate::deflate())),
            ContentEncoding::Brotli => Coding::Brotli(Box::new(Brotli::new())),
            ContentEncoding::Zstandard => match Zstandard::new() {
                Ok(decoder) => Coding::Zstandard(Box::new(decoder)),
                Err(Undecodable) => Coding::Broken,
            },
        };
        Self {
            encoding,
            coding,
            limits,
            received: 0,
            decoded: 0,
        }
    }

    /// Decodes `input`, the next part of the body, to the end of `output`, until about `room` bytes are added.
    ///
    /// What was not consumed has to be given again; without input it goes on with what is decoded already.
    ///
    /// # Errors
    /// [`Error::Payload`] when the bytes are not what they claim or break the limits.
    pub fn decompress(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<Decoded, Error> {
        let mut consumed = 0;
        let full = output.len().saturating_add(room);
        loop {
            let rest = input.get(consumed..).unwrap_or_default();
            let before = output.len();
            let step = STEP_BYTES.min(full.saturating_sub(before));
            if step == 0 {
                return Ok(Decoded {
                    consumed,
                    starved: false,
                });
            }
            let decoded = match &mut self.coding {
                Coding::Inflate(decoder) => decoder.decode(rest, output, step),
                Coding::Brotli(decoder) => decoder.decode(rest, output, step),
                Coding::Zstandard(decoder) => decoder.decode(rest, output, step),
                Coding::Broken => Err(Undecodable),
            };
            let decoded = decoded.map_err(|Undecodable| self.undecodable())?;
            consumed += decoded.consumed;
            self.received += decoded.consumed as u64;
            self.decoded += (output.len() - before) as u64;
            self.check()?;
            if decoded.starved {
                return Ok(Decoded {
                    consumed,
                    starved: true,
                });
            }
        }
    }

    /// Bytes that were used so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Tells that the body is complete.
    ///
    /// # Errors
    /// [`Error::Payload`] for a body that ends too early. Nothing at all is an empty body.
    pub fn finish(&mut self) -> Result<(), Error> {
        let finished = match &self.coding {
            Coding::Inflate(decoder) => decoder.is_finished(),
            Coding::Brotli(decoder) => decoder.is_finished(),
            Coding::Zstandard(decoder) => decoder.is_finished(),
            Coding::Broken => false,
        };
        if finished || self.received == 0 {
            return Ok(());
        }
        let name = self.encoding.name();
        Err(Error::payload(format!(
            "Response payload is not completed: <ContentEncodingError: 400, message='{name}'>"
        )))
    }

    fn check(&self) -> Result<(), Error> {
        let DecodeLimits {
            max_bytes,
            max_ratio,
        } = self.limits;
        if self.decoded > max_bytes {
            return Err(Error::payload(format!(
                "Response payload decodes to more than {max_bytes} bytes"
            )));
        }
        if self.decoded > RATIO_FREE_BYTES && self.decoded / max_ratio.max(1) > self.received.max(1)
        {
            return Err(Error::payload(format!(
                "Response payload decodes to more than {max_ratio} times its size"
            )));
        }
        Ok(())
    }

    #[cold]
    fn undecodable(&self) -> Error {
        Error::payload(format!(
            "400, message:\n  Can not decode content-encoding: {}",
            self.encoding.name()
        ))
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Decompressor")
            .field("encoding", &self.encoding)
            .field("received", &self.received)
            .field("decoded", &self.decoded)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "content_encoding_tests.rs"]
mod tests;
