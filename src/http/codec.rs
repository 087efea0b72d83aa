//! The response head: where it ends, what it says about the body and the connection.
//!
//! Owns the types of a parsed head and the fast way to get one: httparse, no allocation, no copy. Whatever
//! httparse refuses, or what is long enough to break a limit, goes through `scan`, which decides as aiohttp's
//! parser does and finds the words for a refusal. Headers stay bytes until somebody asks for them.
//!
//! Called by the session for each response, and by `body` for trailers.

use std::mem::MaybeUninit;

use super::{content_encoding::ContentEncoding, error::Error, scan};

/// The number of interim (1xx) responses after which a server is not going to answer.
pub const MAX_INTERIM_RESPONSES: usize = 100;

/// Headers that fit the array on the stack; aiohttp's default for the most headers of a response.
const HEADERS_ON_STACK: usize = 128;

/// How much of a head is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the reason phrase.
    pub max_line_size: usize,
    /// Most bytes of one header, name and value together.
    pub max_field_size: usize,
    /// Most headers.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line_size: 8190,
            max_field_size: 8190,
            max_headers: HEADERS_ON_STACK,
        }
    }
}

/// How the end of the body is known (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// That many bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Everything until the server closes the connection.
    UntilClose,
}

/// A part of the head, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// The position of `part` inside `whole`; both must come from the same buffer.
    #[inline]
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match (u32::try_from(start), u32::try_from(part.len())) {
            (Ok(start), Ok(length)) => Self { start, length },
            _ => Self::default(),
        }
    }

    /// The bytes, from the head that this position was taken in.
    #[inline]
    pub fn get(self, head: &[u8]) -> &[u8] {
        let start = self.start as usize;
        head.get(start..start + self.length as usize)
            .unwrap_or_default()
    }
}

/// What the session needs of a response head before anybody reads its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one head"
)]
pub struct ResponseHead {
    /// The status code, 0 to 999.
    pub status: u16,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// The head was translated from HTTP/2.
    pub http2: bool,
    /// Bytes of the head with the empty line that ends it; the body starts there.
    pub head_len: usize,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection can carry another request after this body.
    pub keep_alive: bool,
    /// What the body is compressed with.
    pub encoding: Option<ContentEncoding>,
    /// Whether there is a `Set-Cookie`.
    pub set_cookie: bool,
    /// Whether there is a `Location`.
    pub location: bool,
    /// The value of `Content-Type`, without surrounding spaces; empty when absent.
    pub content_type: Span,
}

/// What is wrong with a header that concerns framing. `scan` turns it into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    DuplicateLength,
    EmptyLength,
    /// The offset of the digit, inside the value.
    LengthDigit(usize),
    LengthOverflow(usize),
    LengthAfterEncoding,
    EncodingAfterLength,
    OldWebSocket,
}

/// What the headers say, gathered one by one.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, one per header"
)]
pub(super) struct Facts {
    length: Option<u64>,
    transfer_encoding: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    encoding: Option<ContentEncoding>,
    set_cookie: bool,
    location: bool,
    content_type: Span,
}

impl Facts {
    /// Takes one header in. `value` has no surrounding spaces and lies in `buffer`.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8], value: &[u8], buffer: &[u8]) -> Result<(), Fault> {
        // By length first: most headers are told apart without looking at a letter.
        match name.len() {
            8 if name.eq_ignore_ascii_case(b"location") => self.location = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.note_connection(value),
            10 if name.eq_ignore_ascii_case(b"set-cookie") => self.set_cookie = true,
            12 if name.eq_ignore_ascii_case(b"content-type")
                && self.content_type == Span::default() =>
            {
                self.content_type = Span::of(value, buffer);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.transfer_encoding {
                    return Err(Fault::LengthAfterEncoding);
                }
                if self.length.is_some() {
                    return Err(Fault::DuplicateLength);
                }
                self.length = Some(parse_length(value)?);
            }
            16 if name.eq_ignore_ascii_case(b"content-encoding") => {
                self.encoding = ContentEncoding::from_header(value);
            }
            // Never standard, but aiohttp's parser takes it for the same.
            16 if name.eq_ignore_ascii_case(b"proxy-connection") => self.note_connection(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.length.is_some() {
                    return Err(Fault::EncodingAfterLength);
                }
                self.transfer_encoding = true;
                let last = value
                    .rsplit(|&byte| byte == b',')
                    .next()
                    .unwrap_or_default();
                self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            18 if name.eq_ignore_ascii_case(b"sec-websocket-key1") => {
                return Err(Fault::OldWebSocket);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        for token in value.split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            }
        }
    }

    /// The head, now that all its headers are in.
    #[inline]
    pub(super) fn head(
        self,
        status: u16,
        minor_version: u8,
        head_len: usize,
        head_request: bool,
    ) -> ResponseHead {
        let framing = if head_request || matches!(status, 100..=199 | 204 | 304) {
            Framing::Empty
        } else if self.chunked {
            Framing::Chunked
        } else if self.transfer_encoding {
            // A coding that is not chunked ends with the connection (RFC 9112 section 6.3, rule 4).
            Framing::UntilClose
        } else {
            match self.length {
                Some(0) => Framing::Empty,
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            }
        };
        let asked = if minor_version == 0 {
            self.keep_alive
        } else {
            true
        };
        ResponseHead {
            status,
            minor_version,
            head_len,
            framing,
            keep_alive: asked && !self.close && framing != Framing::UntilClose,
            encoding: self.encoding,
            http2: false,
            set_cookie: self.set_cookie,
            location: self.location,
            content_type: self.content_type,
        }
    }
}

fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() {
        return Err(Fault::EmptyLength);
    }
    let mut length = 0_u64;
    for (offset, &byte) in value.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return Err(Fault::LengthDigit(offset));
        }
        length = length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(byte - b'0')))
            .ok_or(Fault::LengthOverflow(offset))?;
    }
    Ok(length)
}

/// Reads the response head that `buffer` starts with; `None` when it is not all there yet.
///
/// Interim responses (1xx) are returned like others: the caller skips them, at most
/// [`MAX_INTERIM_RESPONSES`] in a row. `head_request` tells that the answer has no body whatever it says.
///
/// # Errors
/// [`Error::BadResponse`] as soon as the bytes cannot become an acceptable head: also when an unfinished line
/// is already longer than its limit, so that the caller's buffer stays bounded.
#[inline]
pub fn parse_head(
    buffer: &[u8],
    head_request: bool,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Error> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_ON_STACK];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        buffer,
        &mut headers,
    );
    let smallest_limit = limits.max_line_size.min(limits.max_field_size);
    match parsed {
        Ok(httparse::Status::Complete(head_len)) if head_len <= smallest_limit => {
            let (Some(status), Some(minor_version)) = (response.code, response.version) else {
                return scan::response(buffer, head_request, limits);
            };
            if response.headers.len() > limits.max_headers {
                return scan::response(buffer, head_request, limits);
            }
            let mut facts = Facts::default();
            for header in response.headers.iter() {
                if facts
                    .note(header.name.as_bytes(), header.value.trim_ascii(), buffer)
                    .is_err()
                {
                    return scan::response(buffer, head_request, limits);
                }
            }
            Ok(Some(facts.head(
                status,
                minor_version,
                head_len,
                head_request,
            )))
        }
        // Too short to break a limit: nothing to say before the rest has come.
        // (A header takes three bytes at least.)
        Ok(httparse::Status::Partial)
            if buffer.len() <= smallest_limit && buffer.len() / 3 <= limits.max_headers =>
        {
            Ok(None)
        }
        _ => scan::response(buffer, head_request, limits),
    }
}

/// The headers of a head that [`parse_head`] accepted, as (name, value) in order; values without surrounding
/// spaces.
pub fn headers(head: &[u8]) -> Vec<(&[u8], &[u8])> {
    fields(head).collect()
}

/// The reason phrase of a head that [`parse_head`] accepted; empty when absent.
pub fn reason(head: &[u8]) -> &[u8] {
    let line = lines(skip_blank(head)).next().unwrap_or_default();
    // `HTTP/1.1 200 ` is thirteen bytes; no other length was accepted.
    line.get(13..).unwrap_or_default()
}

/// The first value of the header `name`, in a head that [`parse_head`] accepted.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(head)
        .find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// All values of the header `name`, in order, such as the cookies of a response.
pub fn header_values<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields(head)
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(skip_blank(head))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let colon = line
                .iter()
                .position(|&byte| byte == b':')
                .unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            (name, trim(value.get(1..).unwrap_or_default()))
        })
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// What follows the empty lines before a status line (RFC 9112 section 2.2 lets a client skip them).
fn skip_blank(head: &[u8]) -> &[u8] {
    let start = head
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(head.len());
    head.get(start..).unwrap_or_default()
}

/// A field value without the spaces and tabs around it.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
