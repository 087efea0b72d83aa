//! Decoding one response body as it arrives: framing first, then its compression.
//!
//! Owns what is between the socket's bytes and the content: the decoders, and compressed bytes that have to wait
//! because the content they hold has no room yet. Used by `connection` only.

use super::body::{Body, Content, HIGH_WATER_BYTES};
use crate::http::body::BodyDecoder;
use crate::http::codec::{Framing, Limits};
use crate::http::content_encoding::{ContentEncoding, DecodeLimits, Decompressor};
use crate::http::error::Error;
use std::collections::VecDeque;
use std::sync::Weak;

/// How one response is read, where that is not the usual way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) limits: Limits,
    pub(crate) decoding: DecodeLimits,
    /// A body without a length goes on until the server closes; else there is none.
    pub(crate) until_eof: bool,
    /// How many bytes may wait for a slow reader.
    pub(crate) high_water: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            decoding: DecodeLimits::default(),
            until_eof: true,
            high_water: HIGH_WATER_BYTES,
        }
    }
}

/// A body under way.
pub(crate) struct Receiving {
    /// Who is to get it.
    pub(crate) body: Weak<Body>,
    framing: BodyDecoder,
    compressed: Option<Box<Compressed>>,
}

/// Content that was unframed, but not decompressed yet.
struct Compressed {
    decompressor: Decompressor,
    waiting: Vec<u8>,
    /// Where in `waiting` a chunk of the wire ends.
    ends: VecDeque<usize>,
    /// The decompressor may have more without more input.
    behind: bool,
    /// Bytes that came after the body's last one, once that is here.
    unread: Option<usize>,
}

impl Receiving {
    pub(crate) fn new(
        framing: Framing,
        encoding: Option<ContentEncoding>,
        limits: DecodeLimits,
    ) -> Self {
        let compressed = encoding.map(|encoding| {
            Box::new(Compressed {
                decompressor: Decompressor::new(encoding, limits),
                waiting: Vec::new(),
                ends: VecDeque::new(),
                behind: false,
                unread: None,
            })
        });
        Self {
            body: Weak::new(),
            framing: BodyDecoder::new(framing),
            compressed,
        }
    }

    /// Whether there is more to decode before anything is read.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.compressed
            .as_ref()
            .is_some_and(|compressed| compressed.behind)
    }

    /// Decodes what arrived, and as much of what waits as there is `room` for in bytes.
    ///
    /// Gives the number of bytes behind the body once all of it is in `content`.
    pub(crate) fn decode(
        &mut self,
        data: &[u8],
        content: &mut Content,
        room: usize,
    ) -> Result<Option<usize>, Error> {
        let mut at = 0;
        let mut unread = None;
        while at < data.len() || (at == 0 && self.framing.is_complete()) {
            let output = match &mut self.compressed {
                None => &mut content.data,
                Some(compressed) => &mut compressed.waiting,
            };
            let progress = self.framing.decode_chunk(data, at, output)?;
            at = progress.consumed;
            if progress.chunk_ended {
                match &mut self.compressed {
                    None => content.end_chunk(),
                    Some(compressed) => compressed.ends.push_back(compressed.waiting.len()),
                }
            }
            if progress.complete {
                unread = Some(data.len() - at);
                break;
            }
        }
        match &mut self.compressed {
            None => Ok(unread),
            Some(compressed) => {
                if compressed.unread.is_none() {
                    compressed.unread = unread;
                }
                compressed.decompress(content, room)
            }
        }
    }

    /// How many of the next bytes are content as they are; see [`BodyDecoder::plain_bytes`].
    pub(crate) fn plain_bytes(&self) -> u64 {
        if self.compressed.is_some() {
            0
        } else {
            self.framing.plain_bytes()
        }
    }

    /// So many of them were taken. Gives whether the body is complete.
    pub(crate) fn took_plain(&mut self, count: u64) -> bool {
        self.framing.took_plain(count)
    }

    /// The server has closed the connection.
    pub(crate) fn eof(&mut self) -> Result<(), Error> {
        self.framing.eof()?;
        match &mut self.compressed {
            Some(compressed) => compressed.decompressor.finish(),
            None => Ok(()),
        }
    }
}

impl Compressed {
    fn decompress(&mut self, content: &mut Content, room: usize) -> Result<Option<usize>, Error> {
        let full = content.data.len().saturating_add(room);
        let mut at = 0;
        loop {
            let end = self.ends.front().copied().unwrap_or(self.waiting.len());
            let input = self.waiting.get(at..end).unwrap_or_default();
            let left = full.saturating_sub(content.data.len());
            let decoded = self
                .decompressor
                .decompress(input, &mut content.data, left)?;
            at += decoded.consumed;
            self.behind = !decoded.starved;
            if self.behind {
                break;
            }
            match self.ends.pop_front() {
                Some(_) => content.end_chunk(),
                None => break,
            }
        }
        content.encoded_bytes = Some(self.decompressor.received());
        self.waiting.drain(..at);
        for end in &mut self.ends {
            *end = end.saturating_sub(at);
        }
        if self.behind || self.unread.is_none() {
            return Ok(None);
        }
        self.decompressor.finish()?;
        Ok(self.unread)
    }
}
