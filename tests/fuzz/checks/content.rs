//! Content codings: the same content wherever it is cut and however little room there is, bounds kept, other
//! decoders' results.

use std::io::{Read, Write};

use flate2::{Compression, read, write};
use molotov::http::content_encoding::{ContentEncoding, DecodeLimits, Decompressor};

use super::pieces::{cut, options};

const ENCODINGS: [ContentEncoding; 4] = [
    ContentEncoding::Gzip,
    ContentEncoding::Deflate,
    ContentEncoding::Brotli,
    ContentEncoding::Zstandard,
];

/// What a call may add beyond the room it was given: steps are whole.
const STEP_BYTES: usize = 1 << 16;

pub(super) fn check(input: &[u8]) {
    let ([kind, seed, size], text) = options(input);
    let encoding = ENCODINGS[usize::from(kind & 3)];
    let limits = DecodeLimits {
        max_bytes: 1 << (10 + (kind >> 3 & 7) * 2),
        max_ratio: u64::from(size.max(1)) * 16,
    };
    let room = 1 << (size % 20);
    if kind & 4 == 0 {
        let whole = decode(encoding, &[text], usize::MAX, limits);
        assert_eq!(decode(encoding, &cut(text, seed), room, limits), whole);
        if let Some(content) = whole.filter(|_| !text.is_empty()) {
            assert_eq!(elsewhere(encoding, text), Some(content));
        }
    } else {
        round_trip(encoding, text, seed, room);
    }
}

/// The content of a body that comes in `pieces`; `None` when it is refused.
fn decode(
    encoding: ContentEncoding,
    pieces: &[&[u8]],
    room: usize,
    limits: DecodeLimits,
) -> Option<Vec<u8>> {
    let mut decompressor = Decompressor::new(encoding, limits);
    let (mut content, mut received) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let mut output = Vec::new();
            let decoded = decompressor.decompress(rest, &mut output, room).ok()?;
            received += decoded.consumed;
            rest = &rest[decoded.consumed..];
            assert!(output.len() <= room.saturating_add(STEP_BYTES));
            assert_eq!(decompressor.received(), received as u64);
            content.append(&mut output);
            assert!(content.len() as u64 <= limits.max_bytes);
            if decoded.starved {
                assert!(rest.is_empty());
                break;
            }
        }
    }
    decompressor.finish().ok()?;
    Some(content)
}

/// What an independent reader of the same coding makes of the body.
fn elsewhere(encoding: ContentEncoding, body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    match encoding {
        ContentEncoding::Gzip => {
            let mut reader = read::MultiGzDecoder::new(body);
            reader.read_to_end(&mut content).ok()?;
        }
        ContentEncoding::Zstandard => content = zstd::decode_all(body).ok()?,
        ContentEncoding::Brotli => {
            let mut reader = brotli_decompressor::Decompressor::new(body, 4096);
            reader.read_to_end(&mut content).ok()?;
        }
        ContentEncoding::Deflate => {
            // Streams one after the other, the first of which says for all of them whether they have a header.
            let zlib = body.first().is_some_and(|byte| byte & 0x0f == 8);
            let mut rest = body;
            while !rest.is_empty() {
                let used = if zlib {
                    let mut reader = flate2::bufread::ZlibDecoder::new(rest);
                    reader.read_to_end(&mut content).ok()?;
                    reader.total_in()
                } else {
                    let mut reader = flate2::bufread::DeflateDecoder::new(rest);
                    reader.read_to_end(&mut content).ok()?;
                    reader.total_in()
                };
                rest = &rest[usize::try_from(used).ok()?..];
            }
        }
    }
    Some(content)
}

/// What is compressed comes back; less than all of it is refused.
fn round_trip(encoding: ContentEncoding, content: &[u8], seed: u8, room: usize) {
    // Repeated, as short texts do not reach the decoders' windows and steps.
    let content = content.repeat(1 << (seed & 7));
    let body = match encoding {
        ContentEncoding::Gzip => {
            let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&content).unwrap();
            encoder.finish().unwrap()
        }
        ContentEncoding::Deflate if seed & 8 == 0 => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&content).unwrap();
            encoder.finish().unwrap()
        }
        ContentEncoding::Deflate => {
            let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&content).unwrap();
            encoder.finish().unwrap()
        }
        ContentEncoding::Zstandard => zstd::bulk::compress(&content, 1).unwrap(),
        // There is no encoder here: a stream of uncompressed blocks (RFC 7932 section 9.2) has the content as it is.
        ContentEncoding::Brotli => stored_brotli(&content),
    };
    let limits = DecodeLimits {
        max_bytes: content.len() as u64,
        max_ratio: u64::MAX,
    };
    let decode = |body: &[u8], limits| decode(encoding, &cut(body, seed), room, limits);
    assert_eq!(decode(&body, limits).as_ref(), Some(&content));
    if let Some(max_bytes) = limits.max_bytes.checked_sub(1) {
        assert_eq!(
            decode(
                &body,
                DecodeLimits {
                    max_bytes,
                    ..limits
                }
            ),
            None
        );
    }
    // Nothing at all is an empty body.
    if body.len() > 1 {
        let shorter = body.len() - 1 - usize::from(seed) % (body.len() - 1);
        assert_eq!(decode(&body[..shorter], limits), None);
    }
    if encoding != ContentEncoding::Brotli {
        let twice = DecodeLimits {
            max_bytes: 2 * limits.max_bytes,
            ..limits
        };
        let both = decode(&body.repeat(2), twice);
        assert_eq!(both, Some(content.repeat(2)));
    }
}

fn stored_brotli(content: &[u8]) -> Vec<u8> {
    // A window of 16 bits is a single zero bit. Each block: not the last, length in 16 bits, uncompressed.
    let mut bits: Vec<bool> = vec![false];
    let mut body = Vec::new();
    let pack = |bits: &mut Vec<bool>, body: &mut Vec<u8>| {
        for byte in bits.chunks(8) {
            let value = byte
                .iter()
                .enumerate()
                .map(|(place, &bit)| u8::from(bit) << place);
            body.push(value.sum());
        }
        bits.clear();
    };
    for block in content.chunks(1 << 16) {
        let length = block.len() - 1;
        bits.extend([false, false, false]);
        bits.extend((0..16).map(|place| length >> place & 1 != 0));
        bits.push(true);
        pack(&mut bits, &mut body);
        body.extend_from_slice(block);
    }
    // The last block, empty.
    bits.extend([true, true]);
    pack(&mut bits, &mut body);
    body
}
