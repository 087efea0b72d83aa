//! Tests of compressed bodies; gzip and deflate against what aiohttp 3.14 was seen to do.

use std::io::Write;

use flate2::{Compression, write};
use proptest::prelude::*;

use super::*;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw(data: &[u8]) -> Vec<u8> {
    let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 3).unwrap()
}

/// Ten thousand times "hello world", made by the reference encoder, as the decoder comes without one.
const BROTLI: &[u8] = &[
    0x5b, 0xaf, 0xad, 0x81, 0xdf, 0x48, 0xe9, 0xe6, 0x4d, 0x54, 0x65, 0x68, 0xc9, 0x06, 0xf2, 0x56,
    0xb3, 0x1c, 0x56, 0x01, 0x64, 0x40, 0xdc, 0x5f, 0xa5, 0x01, 0x00,
];

/// Fifty million zeros.
const BROTLI_BOMB: &[u8] = &[
    0xcb, 0xff, 0xff, 0x3f, 0xf8, 0x27, 0x00, 0xe2, 0xb1, 0x40, 0x20, 0xf7, 0xfe, 0x8f, 0xff, 0xff,
    0x7f, 0xf0, 0x4f, 0x00, 0xc4, 0x61, 0x11, 0x80, 0xee, 0xfd, 0x1f, 0xff, 0xff, 0xff, 0xe0, 0x9f,
    0x00, 0x88, 0xc3, 0x02, 0x00, 0xdd, 0xfb, 0x3f, 0xfe, 0xff, 0xff, 0xc1, 0x3f, 0x01, 0x10, 0x87,
    0x05, 0x00, 0xba, 0xf7, 0x7f, 0xfc, 0xff, 0xff, 0x83, 0x7f, 0x02, 0x20, 0x0e, 0x0b, 0x00, 0x74,
    0xef, 0xff, 0xf2, 0x0f, 0x5e, 0x0f, 0xff, 0x04, 0x40, 0x1c, 0x16, 0x00, 0xe8, 0xa0, 0xeb, 0x01,
];

/// Decodes the body in pieces of `size` bytes.
fn decode(encoding: ContentEncoding, body: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    decode_within(encoding, body, size, usize::MAX, DecodeLimits::default())
}

/// As [`decode`], with room for `room` bytes at a time.
fn decode_within(
    encoding: ContentEncoding,
    body: &[u8],
    size: usize,
    room: usize,
    limits: DecodeLimits,
) -> Result<Vec<u8>, Error> {
    let mut decompressor = Decompressor::new(encoding, limits);
    let mut content = Vec::new();
    for piece in body.chunks(size) {
        let mut rest = piece;
        loop {
            let mut output = Vec::new();
            let decoded = decompressor.decompress(rest, &mut output, room)?;
            // Steps are whole, so that there may be a few more than there was room for.
            assert!(output.len() <= room.saturating_add(64 * 1024));
            content.append(&mut output);
            rest = &rest[decoded.consumed..];
            if decoded.starved {
                assert!(rest.is_empty());
                break;
            }
        }
    }
    decompressor.finish()?;
    Ok(content)
}

fn message(result: Result<Vec<u8>, Error>) -> String {
    match result {
        Err(Error::Payload { message } | Error::BadResponse { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_come_out_as_they_went_in() {
    let data = b"hello world".repeat(10_000);
    for size in [1, 7, 100, 1 << 20] {
        assert_eq!(
            decode(ContentEncoding::Gzip, &gzip(&data), size).unwrap(),
            data
        );
        assert_eq!(
            decode(ContentEncoding::Deflate, &zlib(&data), size).unwrap(),
            data
        );
        assert_eq!(
            decode(ContentEncoding::Deflate, &raw(&data), size).unwrap(),
            data
        );
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(
            decode(ContentEncoding::Gzip, &two, size).unwrap(),
            b"onetwo"
        );
        let two = [zlib(b"one"), zlib(b"two")].concat();
        assert_eq!(
            decode(ContentEncoding::Deflate, &two, size).unwrap(),
            b"onetwo"
        );
        // Found by fuzzing: the second one was expected to have a header.
        let two = [raw(b"one"), raw(b"two")].concat();
        assert_eq!(
            decode(ContentEncoding::Deflate, &two, size).unwrap(),
            b"onetwo"
        );
    }
    assert_eq!(decode(ContentEncoding::Gzip, b"", 1).unwrap(), b"");
    assert_eq!(decode(ContentEncoding::Deflate, b"", 1).unwrap(), b"");
}

#[test]
fn gzip_headers_may_have_every_field() {
    let body = flate2::GzBuilder::new()
        .filename("name")
        .comment("words")
        .extra(vec![1, 2, 3]);
    let mut encoder = body.write(Vec::new(), Compression::fast());
    encoder.write_all(b"content").unwrap();
    let body = encoder.finish().unwrap();
    for size in [1, 1000] {
        assert_eq!(
            decode(ContentEncoding::Gzip, &body, size).unwrap(),
            b"content"
        );
    }
}

#[test]
fn the_checksum_of_a_gzip_header_is_checked() {
    // Found by fuzzing: any checksum was accepted.
    let plain = gzip(b"content");
    let mut header = plain[..10].to_vec();
    header[3] |= 2;
    let mut checksum = flate2::Crc::new();
    checksum.update(&header);
    let [low, high, ..] = checksum.sum().to_le_bytes();
    for size in [1, 1000] {
        let body = [header.as_slice(), &[low, high], &plain[10..]].concat();
        let decoded = decode(ContentEncoding::Gzip, &body, size);
        assert_eq!(decoded.unwrap(), b"content");
        let body = [header.as_slice(), &[low, !high], &plain[10..]].concat();
        assert!(decode(ContentEncoding::Gzip, &body, size).is_err());
    }
}

#[test]
fn brotli_and_zstandard_come_out_as_they_went_in() {
    let data = b"hello world".repeat(10_000);
    let two_frames = [zstandard(&data), zstandard(b"more")].concat();
    for size in [1, 7, 100, 1 << 20] {
        for room in [1, 1000, usize::MAX] {
            let decode = |encoding, body: &[u8]| {
                decode_within(encoding, body, size, room, DecodeLimits::default()).unwrap()
            };
            assert_eq!(decode(ContentEncoding::Brotli, BROTLI), data);
            assert_eq!(decode(ContentEncoding::Zstandard, &zstandard(&data)), data);
            assert_eq!(
                decode(ContentEncoding::Zstandard, &two_frames),
                [data.as_slice(), b"more"].concat()
            );
            assert_eq!(decode(ContentEncoding::Gzip, &gzip(&data)), data);
            assert_eq!(decode(ContentEncoding::Deflate, &zlib(&data)), data);
        }
    }
}

#[test]
fn truncated_bodies_fail() {
    let data = b"hello world".repeat(10);
    for (encoding, name, body) in [
        (ContentEncoding::Gzip, "gzip", gzip(&data)),
        (ContentEncoding::Deflate, "deflate", zlib(&data)),
        (ContentEncoding::Deflate, "deflate", raw(&data)),
        (ContentEncoding::Brotli, "br", BROTLI.to_vec()),
        (ContentEncoding::Zstandard, "zstd", zstandard(&data)),
    ] {
        for cut in 1..body.len() {
            let expected = format!(
                "Response payload is not completed: <ContentEncodingError: 400, message='{name}'>"
            );
            assert_eq!(
                message(decode(encoding, &body[..body.len() - cut], 1000)),
                expected,
                "{name} without its last {cut} bytes"
            );
        }
        assert_eq!(decode(encoding, b"", 1000).unwrap(), b"");
    }
}

#[test]
fn nonsense_is_refused() {
    let body = gzip(b"hello");
    let mut broken = body.clone();
    let end = broken.len();
    broken[end - 8] ^= 1;
    let bad_gzip = "400, message:\n  Can not decode content-encoding: gzip";
    for body in [
        b"ok".to_vec(),
        broken,
        [body.as_slice(), b"garbage"].concat(),
        [body.as_slice(), b"\0\0"].concat(),
    ] {
        for size in [1, 1000] {
            assert_eq!(
                message(decode(ContentEncoding::Gzip, &body, size)),
                bad_gzip
            );
        }
    }
    let body = [zlib(b"hello"), b"xx".to_vec()].concat();
    let bad_deflate = "400, message:\n  Can not decode content-encoding: deflate";
    assert_eq!(
        message(decode(ContentEncoding::Deflate, &body, 1000)),
        bad_deflate
    );
    for (encoding, body, name) in [
        (ContentEncoding::Brotli, b"\xff\xff\xff\xff".to_vec(), "br"),
        (ContentEncoding::Brotli, [BROTLI, b"x"].concat(), "br"),
        (ContentEncoding::Zstandard, b"nonsense".to_vec(), "zstd"),
    ] {
        assert_eq!(
            message(decode(encoding, &body, 1000)),
            format!("400, message:\n  Can not decode content-encoding: {name}")
        );
    }
}

#[test]
fn many_members_are_refused() {
    let body = gzip(b"").repeat(1025);
    assert!(decode(ContentEncoding::Gzip, &body, 1 << 20).is_err());
    let name = [
        b"\x1f\x8b\x08\x08\0\0\0\0\0\0".as_slice(),
        &vec![b'x'; 1 << 16],
    ]
    .concat();
    assert!(decode(ContentEncoding::Gzip, &name, 4096).is_err());
}

#[test]
fn a_bomb_is_stopped() {
    let zeros = vec![0; 50_000_000];
    let all = usize::MAX;
    for (encoding, bomb) in [
        (ContentEncoding::Gzip, gzip(&zeros)),
        (ContentEncoding::Zstandard, zstandard(&zeros)),
        (ContentEncoding::Brotli, BROTLI_BOMB.to_vec()),
    ] {
        let small = DecodeLimits {
            max_bytes: 1000,
            max_ratio: u64::MAX,
        };
        assert_eq!(
            message(decode_within(encoding, &bomb, all, all, small)),
            "Response payload decodes to more than 1000 bytes"
        );
        let tight = DecodeLimits {
            max_bytes: u64::MAX,
            max_ratio: 100,
        };
        assert_eq!(
            message(decode_within(encoding, &bomb, all, all, tight)),
            "Response payload decodes to more than 100 times its size"
        );
        let none = DecodeLimits {
            max_bytes: u64::MAX,
            max_ratio: u64::MAX,
        };
        assert_eq!(
            decode_within(encoding, &bomb, all, 1 << 20, none).unwrap(),
            zeros
        );
    }
    // What gzip reaches at best is no bomb by default.
    assert_eq!(
        decode(ContentEncoding::Gzip, &gzip(&zeros), all).unwrap(),
        zeros
    );
    assert!(decode(ContentEncoding::Brotli, BROTLI_BOMB, all).is_err());
}

proptest! {
    #[test]
    fn any_body_in_any_pieces(data in proptest::collection::vec(any::<u8>(), 0..3000), size in 1_usize..64) {
        prop_assert_eq!(&decode(ContentEncoding::Gzip, &gzip(&data), size).unwrap(), &data);
        prop_assert_eq!(&decode(ContentEncoding::Deflate, &zlib(&data), size).unwrap(), &data);
        prop_assert_eq!(&decode(ContentEncoding::Zstandard, &zstandard(&data), size).unwrap(), &data);
    }

    #[test]
    fn soup_never_panics(data in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..64) {
        let _ = decode(ContentEncoding::Deflate, &data, size);
        let _ = decode(ContentEncoding::Brotli, &data, size);
        let _ = decode(ContentEncoding::Zstandard, &[b"\x28\xb5\x2f\xfd".as_slice(), &data].concat(), size);
        let _ = decode(ContentEncoding::Gzip, &[b"\x1f\x8b\x08".as_slice(), &data].concat(), size);
        let mut body = gzip(b"hello world, hello world");
        for (slot, byte) in body.iter_mut().skip(10).zip(&data) {
            *slot ^= byte;
        }
        let _ = decode(ContentEncoding::Gzip, &body, size);
    }
}
