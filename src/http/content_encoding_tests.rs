//! Tests of compressed bodies against what aiohttp 3.14 was seen to do.

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

/// Decodes the body in pieces of `size` bytes.
fn decode(encoding: ContentEncoding, body: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let mut decompressor = Decompressor::new(encoding);
    let mut output = Vec::new();
    for piece in body.chunks(size) {
        decompressor.decompress(piece, &mut output)?;
    }
    decompressor.finish()?;
    Ok(output)
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
fn truncated_gzip_gives_what_there_is_and_truncated_deflate_fails() {
    let data = b"hello world".repeat(10);
    let body = gzip(&data);
    assert_eq!(
        decode(ContentEncoding::Gzip, &body[..5], 1000).unwrap(),
        b""
    );
    assert_eq!(
        decode(ContentEncoding::Gzip, &body[..body.len() - 4], 1000).unwrap(),
        data
    );
    for body in [zlib(&data), raw(&data)] {
        let cut = &body[..body.len() - 3];
        let expected =
            "Response payload is not completed: <ContentEncodingError: 400, message='deflate'>";
        assert_eq!(
            message(decode(ContentEncoding::Deflate, cut, 1000)),
            expected
        );
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
    let unsupported = message(decode(ContentEncoding::Brotli, b"x", 1));
    assert_eq!(
        unsupported,
        "Can not decode content-encoding: brotli (br). Please install `Brotli`"
    );
}

#[test]
fn many_members_are_refused() {
    let body = gzip(b"").repeat(MAX_MEMBERS + 1);
    assert!(decode(ContentEncoding::Gzip, &body, 1 << 20).is_err());
    let name = [
        b"\x1f\x8b\x08\x08\0\0\0\0\0\0".as_slice(),
        &vec![b'x'; MAX_MEMBER_HEADER_BYTES],
    ]
    .concat();
    assert!(decode(ContentEncoding::Gzip, &name, 4096).is_err());
}

#[test]
fn a_bomb_is_stopped() {
    let mut decompressor = Decompressor::new(ContentEncoding::Gzip);
    decompressor.decoded = MAX_DECODED_BYTES - 10;
    let mut output = Vec::new();
    let result = decompressor.decompress(&gzip(&[0; 1000]), &mut output);
    assert!(matches!(result, Err(Error::Payload { .. })));
}

proptest! {
    #[test]
    fn any_body_in_any_pieces(data in proptest::collection::vec(any::<u8>(), 0..3000), size in 1_usize..64) {
        prop_assert_eq!(&decode(ContentEncoding::Gzip, &gzip(&data), size).unwrap(), &data);
        prop_assert_eq!(&decode(ContentEncoding::Deflate, &zlib(&data), size).unwrap(), &data);
    }

    #[test]
    fn soup_never_panics(data in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..64) {
        let _ = decode(ContentEncoding::Deflate, &data, size);
        let _ = decode(ContentEncoding::Gzip, &[b"\x1f\x8b\x08".as_slice(), &data].concat(), size);
        let mut body = gzip(b"hello world, hello world");
        for (slot, byte) in body.iter_mut().skip(10).zip(&data) {
            *slot ^= byte;
        }
        let _ = decode(ContentEncoding::Gzip, &body, size);
    }
}
