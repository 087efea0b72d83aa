//! Frames taken apart and messages put together, however the bytes arrive.
//!
//! [`Decoder::next`] pulls one message at a time out of the caller's bytes, so that the caller can stop when
//! its queue is full. A message that arrives whole, plain and in one piece is not copied. The checks, their
//! order and their words are those of aiohttp's reader.

use super::deflate::{InflateError, Inflater};
use super::frame::{self, opcode};
use std::borrow::Cow;

/// The longest frame header: two bytes, eight of length, four of mask.
const HEADER_BYTES: usize = 14;

/// Why the connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server broke the protocol or a limit: the code to close with, and why.
    Protocol {
        /// A close code of RFC 6455 section 7.4.1.
        code: u16,
        /// For people.
        message: String,
    },
    /// A compressed message that is no deflate data.
    Corrupt(Vec<u8>),
}

impl Failure {
    fn protocol(code: u16, message: impl Into<String>) -> Self {
        Self::Protocol {
            code,
            message: message.into(),
        }
    }
}

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_TEXT: u16 = 1007;
const MESSAGE_TOO_BIG: u16 = 1009;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Text that was asked for as bytes, and not checked.
    RawText(Cow<'a, [u8]>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
    /// Wants a pong with the same bytes.
    Ping(Cow<'a, [u8]>),
    /// Answers a ping.
    Pong(Cow<'a, [u8]>),
    /// The end. A close frame without a code has code 0.
    Close {
        /// Why, as a number.
        code: u16,
        /// Why, for people.
        reason: String,
    },
}

/// The header of the frame that is being read.
#[derive(Debug, Clone, Copy)]
struct Header {
    opcode: u8,
    /// Bytes of the payload that have not come yet.
    missing: usize,
    mask: Option<[u8; 4]>,
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Decoder {
    max_message_bytes: usize,
    compression: bool,
    decode_text: bool,
    /// An unfinished header.
    head: [u8; HEADER_BYTES],
    head_len: usize,
    header: Option<Header>,
    /// What has come of the present frame's payload.
    payload: Vec<u8>,
    /// The frames of an unfinished message.
    message: Vec<u8>,
    message_opcode: Option<u8>,
    /// Whether the last data frame ended its message.
    finished: bool,
    /// Whether the present message is compressed; unknown before the first.
    compressed: Option<bool>,
    inflater: Option<Inflater>,
}

impl Decoder {
    /// A reader that refuses messages of `max_message_bytes` or more (0: none is refused).
    ///
    /// `compression` tells that permessage-deflate was agreed on. Without `decode_text`, text comes as bytes.
    pub fn new(max_message_bytes: usize, compression: bool, decode_text: bool) -> Self {
        Self {
            max_message_bytes,
            compression,
            decode_text,
            head: [0; HEADER_BYTES],
            head_len: 0,
            header: None,
            payload: Vec::new(),
            message: Vec::new(),
            message_opcode: None,
            finished: false,
            compressed: None,
            inflater: None,
        }
    }

    /// Takes the next message from `input`, which is moved past it. `None`: all of `input` is used up.
    ///
    /// # Errors
    /// [`Failure`], after which the decoder must not be asked again.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Message<'s>>, Failure> {
        loop {
            let header = match self.header {
                Some(header) => header,
                None => match self.read_header(input)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            let Some((here, rest)) = input.split_at_checked(header.missing) else {
                self.payload.extend_from_slice(input);
                self.header = Some(Header {
                    missing: header.missing - input.len(),
                    ..header
                });
                *input = &[];
                return Ok(None);
            };
            *input = rest;
            self.header = None;
            let payload = self.whole_payload(here, header);
            if header.opcode >= opcode::FIRST_CONTROL {
                return self.control(header, payload).map(Some);
            }
            if !self.finished {
                self.begin_message(header.opcode)?;
                self.message.extend_from_slice(&payload);
                continue;
            }
            let (opcode, payload) = self.end_message(header.opcode, payload)?;
            return self.data(opcode, payload).map(Some);
        }
    }

    fn whole_payload<'i>(&mut self, here: &'i [u8], header: Header) -> Cow<'i, [u8]> {
        if self.payload.is_empty() && header.mask.is_none() {
            return Cow::Borrowed(here);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.extend_from_slice(here);
        if let Some(key) = header.mask {
            frame::mask(&mut payload, key);
        }
        Cow::Owned(payload)
    }

    /// The header, checked as far as it has come; `None` when it is not complete.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Failure> {
        let had = self.head_len;
        if !self.fill_head(2, input) {
            return Ok(None);
        }
        let [first, second, ..] = self.head;
        let code = first & 0x0f;
        // Both bytes are checked when the second arrives, and never again: the check notes what it sees.
        if had < 2 {
            self.check_start(first, second)?;
        }
        let length_end = match second & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if !self.fill_head(length_end, input) {
            return Ok(None);
        }
        let length = match length_end {
            2 => u64::from(second & 0x7f),
            end => self
                .head
                .get(2..end)
                .unwrap_or_default()
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if had < length_end {
            self.check_length(code, length)?;
        }
        let masked = second & 0x80 != 0;
        let end = length_end + if masked { 4 } else { 0 };
        if !self.fill_head(end, input) {
            return Ok(None);
        }
        self.head_len = 0;
        let mask = self
            .head
            .get(length_end..end)
            .and_then(|key| key.try_into().ok());
        Ok(Some(Header {
            opcode: code,
            missing: usize::try_from(length).unwrap_or(usize::MAX),
            mask,
        }))
    }

    /// Moves bytes from `input` until the header has `wanted` of them; false when they have not come.
    fn fill_head(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        while self.head_len < wanted {
            let Some((byte, rest)) = input.split_first() else {
                return false;
            };
            if let Some(place) = self.head.get_mut(self.head_len) {
                *place = *byte;
            }
            self.head_len += 1;
            *input = rest;
        }
        true
    }

    fn check_start(&mut self, first: u8, second: u8) -> Result<(), Failure> {
        const RESERVED: &str = "Received frame with non-zero reserved bits";
        let compressed = first & 0x40 != 0;
        let (code, last, length) = (first & 0x0f, first & 0x80 != 0, second & 0x7f);
        if first & 0x30 != 0 || (compressed && !self.compression) {
            return Err(Failure::protocol(PROTOCOL_ERROR, RESERVED));
        }
        if !matches!(code, 0..=2 | 8..=10) {
            let message = format!("Unexpected opcode={code}");
            return Err(Failure::protocol(PROTOCOL_ERROR, message));
        }
        if code >= opcode::FIRST_CONTROL {
            if !last {
                let message = "Received fragmented control frame";
                return Err(Failure::protocol(PROTOCOL_ERROR, message));
            }
            if length > 125 {
                let message = "Control frame payload cannot be larger than 125 bytes";
                return Err(Failure::protocol(PROTOCOL_ERROR, message));
            }
            // The bit means nothing here, and control frames may come in the middle of a message.
            return Ok(());
        }
        if self.finished || self.compressed.is_none() {
            self.compressed = Some(compressed);
        } else if compressed {
            return Err(Failure::protocol(PROTOCOL_ERROR, RESERVED));
        }
        self.finished = last;
        Ok(())
    }

    /// Refuses what is too large before any of it is kept.
    fn check_length(&self, code: u8, length: u64) -> Result<(), Failure> {
        if code >= opcode::FIRST_CONTROL {
            return Ok(());
        }
        let before = self.message.len() as u64;
        let limit = self.max_message_bytes as u64;
        let largest = i64::MAX.cast_unsigned();
        let too_large = length > largest || (limit > 0 && length >= limit.saturating_sub(before));
        if too_large {
            let size = u128::from(length) + u128::from(before);
            let limit = if limit > 0 { limit } else { largest };
            let message = format!("Message size {size} exceeds limit {limit}");
            return Err(Failure::protocol(MESSAGE_TOO_BIG, message));
        }
        Ok(())
    }

    /// A frame that does not end its message has come.
    fn begin_message(&mut self, code: u8) -> Result<(), Failure> {
        match (code, self.message_opcode) {
            (opcode::CONTINUATION, None) => Err(not_started()),
            (opcode::CONTINUATION, Some(_)) => Ok(()),
            (code, Some(_)) => Err(not_finished(code)),
            (code, None) => {
                self.message_opcode = Some(code);
                Ok(())
            }
        }
    }

    /// A frame that ends its message has come: the message's opcode and payload.
    fn end_message<'p>(
        &mut self,
        code: u8,
        payload: Cow<'p, [u8]>,
    ) -> Result<(u8, Cow<'p, [u8]>), Failure> {
        let code = match (code, self.message_opcode) {
            (opcode::CONTINUATION, None) => return Err(not_started()),
            (opcode::CONTINUATION, Some(code)) => {
                self.message_opcode = None;
                code
            }
            // aiohttp forgives a message that began with an empty frame and was never ended.
            (code, _) if self.message.is_empty() => code,
            (code, _) => return Err(not_finished(code)),
        };
        if self.message.is_empty() {
            return Ok((code, payload));
        }
        let mut whole = std::mem::take(&mut self.message);
        whole.extend_from_slice(&payload);
        Ok((code, Cow::Owned(whole)))
    }

    fn data<'p>(&mut self, code: u8, payload: Cow<'p, [u8]>) -> Result<Message<'p>, Failure> {
        let payload = if self.compressed == Some(true) {
            Cow::Owned(self.inflate(&payload)?)
        } else {
            payload
        };
        if code != opcode::TEXT {
            return Ok(Message::Binary(payload));
        }
        if !self.decode_text {
            return Ok(Message::RawText(payload));
        }
        let text = match payload {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        text.map(Message::Text).ok_or_else(invalid_text)
    }

    fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let limit = self.max_message_bytes;
        let inflater = self.inflater.get_or_insert_default();
        inflater
            .inflate(payload, limit)
            .map_err(|error| match error {
                InflateError::Corrupt => Failure::Corrupt(payload.to_vec()),
                InflateError::TooLong => Failure::protocol(
                    MESSAGE_TOO_BIG,
                    format!("Decompressed message exceeds size limit {limit}"),
                ),
                InflateError::TooManyStreams => Failure::protocol(
                    MESSAGE_TOO_BIG,
                    "Compressed message has too many deflate members",
                ),
            })
    }

    fn control<'p>(&self, header: Header, payload: Cow<'p, [u8]>) -> Result<Message<'p>, Failure> {
        match header.opcode {
            opcode::PING => return Ok(Message::Ping(payload)),
            opcode::PONG => return Ok(Message::Pong(payload)),
            _ => {}
        }
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            let Some(byte) = payload.first() else {
                return Ok(Message::Close {
                    code: 0,
                    reason: String::new(),
                });
            };
            let finished = if self.finished { "True" } else { "False" };
            let shown = shown(*byte, header.mask.is_some());
            let message = format!("Invalid close frame: {finished} {} {shown}", header.opcode);
            return Err(Failure::protocol(PROTOCOL_ERROR, message));
        };
        let code = u16::from_be_bytes(*code);
        if !matches!(code, 1000..=1003 | 1006..=1014 | 3000..) {
            let message = format!("Invalid close code: {code}");
            return Err(Failure::protocol(PROTOCOL_ERROR, message));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| invalid_text())?;
        Ok(Message::Close {
            code,
            reason: reason.to_owned(),
        })
    }
}

fn not_started() -> Failure {
    Failure::protocol(PROTOCOL_ERROR, "Continuation frame for non started message")
}

fn not_finished(code: u8) -> Failure {
    let message = format!("The opcode in non-fin frame is expected to be zero, got {code}");
    Failure::protocol(PROTOCOL_ERROR, message)
}

fn invalid_text() -> Failure {
    Failure::protocol(INVALID_TEXT, "Invalid UTF-8 text message")
}

/// One byte as Python shows it.
fn shown(byte: u8, masked: bool) -> String {
    let quoted = match byte {
        b'\t' => "b'\\t'".to_owned(),
        b'\n' => "b'\\n'".to_owned(),
        b'\r' => "b'\\r'".to_owned(),
        b'\\' => "b'\\\\'".to_owned(),
        b'\'' if masked => "b\"\\'\"".to_owned(),
        b'\'' => "b\"'\"".to_owned(),
        b' '..=b'~' => format!("b'{}'", char::from(byte)),
        _ => format!("b'\\x{byte:02x}'"),
    };
    if masked {
        format!("bytearray({quoted})")
    } else {
        quoted
    }
}
