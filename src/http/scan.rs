//! The careful half of the response parser: byte by byte, as aiohttp's parser decides, with its words.
//!
//! Owns what `codec`'s fast way leaves: heads that httparse refuses (control characters in a value are fine
//! for aiohttp), heads near a limit, and every refusal with its message. Knows no I/O and keeps no state:
//! it starts from the first byte each time, which is cheap as it is rare. Called by `codec` and, for trailers,
//! by `body`.

use super::{
    codec::{Facts, Fault, Limits, ResponseHead, trim},
    error::{Error, quote},
};

/// A reader of one buffer that remembers where its line began, for the messages.
struct Cursor<'a> {
    buffer: &'a [u8],
    line_start: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.buffer.get(self.at).copied()
    }

    fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.buffer.get(start..end).unwrap_or_default()
    }

    /// Moves to the first byte that `is_end` holds for, or to the end of the buffer.
    fn advance_to(&mut self, is_end: impl Fn(u8) -> bool) {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        self.at += rest
            .iter()
            .position(|&byte| is_end(byte))
            .unwrap_or(rest.len());
    }

    /// The refusal of the byte at the cursor.
    fn refuse(&self, description: &str) -> Error {
        self.refuse_at(description, self.at - self.line_start)
    }

    fn refuse_at(&self, description: &str, offset: usize) -> Error {
        let rest = self.buffer.get(self.line_start..).unwrap_or_default();
        let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Error::at(
            description,
            line.strip_suffix(b"\r").unwrap_or(line),
            offset,
        )
    }
}

/// As [`parse_head`](super::codec::parse_head), without its haste.
#[cold]
pub(super) fn response(
    buffer: &[u8],
    head_request: bool,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Error> {
    let mut cursor = Cursor {
        buffer,
        line_start: 0,
        at: 0,
    };
    cursor.advance_to(|byte| !matches!(byte, b'\r' | b'\n'));
    if cursor.at > limits.max_line_size {
        return Err(Error::line_too_long(buffer, limits.max_line_size));
    }
    cursor.line_start = cursor.at;
    let Some((status, minor_version)) = status_line(&mut cursor, limits)? else {
        return Ok(None);
    };
    let mut facts = Facts::default();
    let mut count = 0;
    loop {
        match field(&mut cursor, limits)? {
            Field::Incomplete => return Ok(None),
            Field::End => {
                return Ok(Some(facts.head(
                    status,
                    minor_version,
                    cursor.at,
                    head_request,
                )));
            }
            Field::Header { name, value } => {
                count += 1;
                if count > limits.max_headers {
                    return Err(Error::bad_response("Too many headers received"));
                }
                facts
                    .note(name, value, buffer)
                    .map_err(|fault| describe(fault, &cursor, name.len() + 1))?;
                cursor.line_start = cursor.at;
            }
        }
    }
}

/// Reads the status line: status and minor version, `None` when it is unfinished.
fn status_line(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Option<(u16, u8)>, Error> {
    for &expected in b"HTTP/" {
        match cursor.peek() {
            None => return Ok(None),
            Some(byte) if byte == expected => cursor.at += 1,
            Some(_) => {
                return Err(
                    cursor.refuse_at("Bad status line:\n  Expected HTTP/, RTSP/ or ICE/", 0)
                );
            }
        }
    }
    let version_start = cursor.at;
    for (expected, otherwise) in [
        (
            b"0123456789".as_slice(),
            "Bad status line:\n  Invalid major version",
        ),
        (b".", "Bad status line:\n  Expected dot"),
        (b"0123456789", "Bad status line:\n  Invalid minor version"),
    ] {
        match cursor.peek() {
            None => return Ok(None),
            Some(byte) if expected.contains(&byte) => cursor.at += 1,
            Some(_) => return Err(cursor.refuse(otherwise)),
        }
    }
    let minor_version = match cursor.slice(version_start, cursor.at) {
        b"1.0" => 0,
        b"1.1" => 1,
        _ => return Err(cursor.refuse("Bad status line:\n  Invalid HTTP version")),
    };
    match cursor.peek() {
        None => return Ok(None),
        Some(b' ') => cursor.at += 1,
        Some(_) => return Err(cursor.refuse("Bad status line:\n  Expected space after version")),
    }
    let mut status = 0_u16;
    for _ in 0..3 {
        match cursor.peek() {
            None => return Ok(None),
            Some(byte) if byte.is_ascii_digit() => {
                status = status * 10 + u16::from(byte - b'0');
                cursor.at += 1;
            }
            Some(_) => return Err(cursor.refuse("Bad status line:\n  Invalid status code")),
        }
    }
    match cursor.peek() {
        None => return Ok(None),
        Some(b' ' | b'\r' | b'\n') => {}
        Some(_) => return Err(cursor.refuse("Bad status line:\n  Invalid response status")),
    }
    if cursor.peek() == Some(b' ') {
        cursor.at += 1;
    }
    let reason_start = cursor.at;
    cursor.advance_to(|byte| matches!(byte, b'\r' | b'\n'));
    if cursor.at - reason_start > limits.max_line_size {
        let reason = cursor.slice(reason_start, cursor.at);
        return Err(Error::reason_too_long(reason, limits.max_line_size));
    }
    if !end_of_line(cursor, "Expected LF after CR")? {
        return Ok(None);
    }
    cursor.line_start = cursor.at;
    Ok(Some((status, minor_version)))
}

enum Field<'a> {
    Incomplete,
    End,
    Header { name: &'a [u8], value: &'a [u8] },
}

/// Reads one header line, or the empty line that ends them.
fn field<'a>(cursor: &mut Cursor<'a>, limits: &Limits) -> Result<Field<'a>, Error> {
    match cursor.peek() {
        None => return Ok(Field::Incomplete),
        Some(b'\r' | b'\n') => {
            return Ok(if end_of_line(cursor, "Expected LF after headers")? {
                Field::End
            } else {
                Field::Incomplete
            });
        }
        // Folded lines are obsolete (RFC 9112 section 5.2) and a way to smuggle: nobody sends them.
        Some(b' ' | b'\t') => return Err(cursor.refuse("Unexpected whitespace after header value")),
        Some(_) => {}
    }
    let name_start = cursor.at;
    cursor.advance_to(|byte| !is_token(byte));
    let name = cursor.slice(name_start, cursor.at);
    if name.len() > limits.max_field_size {
        return Err(Error::line_too_long(name, limits.max_field_size));
    }
    match cursor.peek() {
        None => return Ok(Field::Incomplete),
        Some(b':') if !name.is_empty() => cursor.at += 1,
        Some(_) => return Err(cursor.refuse("Invalid header token")),
    }
    let value_start = cursor.at;
    cursor.advance_to(|byte| matches!(byte, b'\r' | b'\n'));
    let raw = cursor.slice(value_start, cursor.at);
    let value = trim(raw);
    // Bounded with its spaces, or a server could send spaces forever.
    if name.len() + raw.len() > limits.max_field_size + 1 {
        return Err(Error::line_too_long(value, limits.max_field_size));
    }
    if !end_of_line(cursor, "Missing expected LF after header value")? {
        return Ok(Field::Incomplete);
    }
    if value.contains(&0) {
        return Err(Error::bad_response(format!(
            "Invalid HTTP header: {}",
            quote(value)
        )));
    }
    Ok(Field::Header { name, value })
}

/// Steps over LF or CRLF; `false` when the buffer ends before it does.
fn end_of_line(cursor: &mut Cursor<'_>, description: &str) -> Result<bool, Error> {
    match cursor.peek() {
        None => return Ok(false),
        Some(b'\n') => {
            cursor.at += 1;
            return Ok(true);
        }
        Some(_) => cursor.at += 1,
    }
    match cursor.peek() {
        None => Ok(false),
        Some(b'\n') => {
            cursor.at += 1;
            Ok(true)
        }
        Some(_) => Err(cursor.refuse(description)),
    }
}

fn describe(fault: Fault, cursor: &Cursor<'_>, value_offset: usize) -> Error {
    let line = cursor.slice(cursor.line_start, cursor.at);
    let spaces = line
        .iter()
        .skip(value_offset)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let digits = value_offset + spaces;
    match fault {
        Fault::DuplicateLength => cursor.refuse_at("Duplicate Content-Length", digits),
        Fault::EmptyLength => Error::at("Empty Content-Length", b"", 0),
        Fault::LengthDigit(offset) => {
            cursor.refuse_at("Invalid character in Content-Length", digits + offset)
        }
        Fault::LengthOverflow(offset) => {
            cursor.refuse_at("Content-Length overflow", digits + offset + 1)
        }
        Fault::LengthAfterEncoding => cursor.refuse_at(
            "Content-Length can't be present with Transfer-Encoding",
            value_offset,
        ),
        Fault::EncodingAfterLength => cursor.refuse_at(
            "Transfer-Encoding can't be present with Content-Length",
            value_offset,
        ),
        Fault::OldWebSocket => Error::bad_response("Invalid HTTP header: 'Sec-WebSocket-Key1'"),
    }
}

/// Whether `byte` may be part of a header name (RFC 9110 section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}
