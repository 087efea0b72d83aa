//! Body framing: the same content wherever it is cut, by every way to ask for it, and strictly delimited.

use molotov::http::{
    body::{BodyDecoder, LAST_CHUNK, encode_chunk},
    codec::Framing,
};

use super::pieces::{cut, options};

pub(super) fn check(input: &[u8]) {
    let ([kind, seed, low, high], text) = options(input);
    let framing = match kind & 7 {
        0 => Framing::Empty,
        1 => Framing::UntilClose,
        2 => Framing::Length(u64::from(low)),
        3 => Framing::Length(u64::from(low) << (high & 63)),
        _ => Framing::Chunked,
    };
    let whole = run(framing, &[text]);
    assert_eq!(run(framing, &cut(text, seed)), whole);
    assert_eq!(run(framing, &cut(text, 0)), whole);
    assert_eq!(chunk_by_chunk(framing, &cut(text, seed)), whole);
    assert!(whole.content.len() <= text.len());
    match framing {
        Framing::Chunked => {
            if whole.complete {
                assert_eq!(strict_content(&text[..whole.consumed]), whole.content);
            }
            round_trip(text, seed);
        }
        _ => passes(framing, &cut(text, seed), &whole),
    }
}

/// What became of one body.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    content: Vec<u8>,
    consumed: usize,
    complete: bool,
    failed: bool,
    /// Whether the connection may end here.
    may_end: bool,
}

fn outcome(mut decoder: BodyDecoder, content: Vec<u8>, consumed: usize, failed: bool) -> Outcome {
    let complete = decoder.is_complete();
    assert!(!complete || decoder.plain_bytes() == 0);
    let may_end = decoder.eof().is_ok();
    assert!(may_end || !complete);
    if failed {
        // Once failed, always failed, and nothing more comes out.
        let mut more = Vec::new();
        assert!(!may_end && decoder.decode(b"1\r\nx\r\n0\r\n\r\n", &mut more).is_err());
        assert!(more.is_empty());
    }
    Outcome {
        content,
        consumed,
        complete,
        failed,
        may_end,
    }
}

fn run(framing: Framing, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = BodyDecoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let Ok(progress) = decoder.decode(piece, &mut content) else {
            return outcome(decoder, content, 0, true);
        };
        assert_eq!(progress.complete, decoder.is_complete());
        assert!(progress.complete || progress.consumed == piece.len());
        consumed += progress.consumed;
        if progress.complete {
            break;
        }
    }
    outcome(decoder, content, consumed, false)
}

/// As `run`, stopping where a chunk ends, as a reader of chunks does.
fn chunk_by_chunk(framing: Framing, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = BodyDecoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    'pieces: for piece in pieces {
        let mut at = 0;
        loop {
            let before = content.len();
            let Ok(progress) = decoder.decode_chunk(piece, at, &mut content) else {
                return outcome(decoder, content, 0, true);
            };
            // A chunk has content, though it may have come with earlier pieces.
            assert!(!progress.chunk_ended || !content.is_empty());
            assert!(progress.consumed - at >= content.len() - before);
            at = progress.consumed;
            if progress.complete {
                consumed += at;
                break 'pieces;
            }
            if at == piece.len() {
                break;
            }
            assert!(progress.chunk_ended);
        }
        consumed += piece.len();
    }
    outcome(decoder, content, consumed, false)
}

/// Without chunks the content is the input itself, up to the body's end.
fn passes(framing: Framing, pieces: &[&[u8]], whole: &Outcome) {
    let mut decoder = BodyDecoder::new(framing);
    let mut content = Vec::new();
    for piece in pieces {
        let plain = usize::try_from(decoder.plain_bytes()).unwrap_or(usize::MAX);
        let plain = plain.min(piece.len());
        content.extend_from_slice(&piece[..plain]);
        if decoder.took_plain(plain as u64) {
            break;
        }
    }
    assert_eq!(content, whole.content);
    assert_eq!(decoder.is_complete(), whole.complete);
}

/// The content of a complete body in chunks by a second, slower reading of RFC 9112 section 7.1, with what aiohttp
/// forgives: blanks after a size, and a bare line feed after extensions, content and trailers.
fn strict_content(mut text: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = text.iter().position(|&byte| byte == b'\n').unwrap();
        let (line, rest) = (&text[..end], &text[end + 1..]);
        let (line, crlf) = line
            .strip_suffix(b"\r")
            .map_or((line, false), |line| (line, true));
        let semicolon = line.iter().position(|&byte| byte == b';');
        assert!(crlf || semicolon.is_some());
        let size = line[..semicolon.unwrap_or(line.len())].trim_ascii_end();
        assert!(!size.is_empty() && size.iter().all(u8::is_ascii_hexdigit));
        assert!(!line.contains(&b'\r') && !line.contains(&0));
        let size = u64::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
        text = rest;
        if size == 0 {
            break;
        }
        let (chunk, rest) = text.split_at(usize::try_from(size).unwrap());
        content.extend_from_slice(chunk);
        text = rest
            .strip_prefix(b"\r")
            .unwrap_or(rest)
            .strip_prefix(b"\n")
            .unwrap();
    }
    let mut trailers = text.split_inclusive(|&byte| byte == b'\n');
    let last = trailers.next_back().unwrap();
    assert!(last == b"\r\n" || last == b"\n");
    for line in trailers {
        let line = line.strip_suffix(b"\n").unwrap();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.is_empty() && line.contains(&b':') && !line.contains(&b'\r'));
    }
    content
}

/// What is written in chunks is read back, and what follows stays where it is.
fn round_trip(content: &[u8], seed: u8) {
    let mut text = Vec::new();
    for piece in cut(content, seed) {
        encode_chunk(piece, &mut text);
    }
    text.extend_from_slice(LAST_CHUNK);
    let length = text.len();
    text.extend_from_slice(b"HTTP/1.1 ");
    let back = run(Framing::Chunked, &cut(&text, seed.wrapping_add(1)));
    assert_eq!(back.content, content);
    assert!(back.complete && back.consumed == length);
    let cut_off = run(Framing::Chunked, &[&text[..length - 1]]);
    assert!(!cut_off.complete && !cut_off.failed && !cut_off.may_end);
}
