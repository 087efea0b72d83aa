//! Tests of body framing: whole, in pieces, malformed, endless.

use proptest::prelude::*;

use super::*;

/// Decodes `pieces` one after the other: content, unused bytes, whether complete.
fn run(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), Error> {
    let mut decoder = BodyDecoder::new(framing);
    let mut content = Vec::new();
    let mut unused = Vec::new();
    for piece in pieces {
        let progress = decoder.decode(piece, &mut content)?;
        assert!(progress.complete || progress.consumed == piece.len());
        assert_eq!(progress.complete, decoder.is_complete());
        unused.extend_from_slice(&piece[progress.consumed..]);
    }
    Ok((content, unused, decoder.is_complete()))
}

fn chunked(text: &[u8]) -> Result<(Vec<u8>, Vec<u8>, bool), Error> {
    run(Framing::Chunked, &[text])
}

fn message(result: Result<impl std::fmt::Debug, Error>) -> String {
    match result {
        Err(Error::Payload { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn simple_framings() {
    assert_eq!(
        run(Framing::Empty, &[b"x"]).unwrap(),
        (vec![], b"x".to_vec(), true)
    );
    assert_eq!(
        run(Framing::Length(0), &[b"x"]).unwrap(),
        (vec![], b"x".to_vec(), true)
    );
    let (content, unused, complete) = run(Framing::Length(5), &[b"ab", b"", b"cdefg"]).unwrap();
    assert_eq!(
        (content.as_slice(), unused.as_slice(), complete),
        (b"abcde".as_slice(), b"fg".as_slice(), true)
    );
    let (content, _, complete) = run(Framing::UntilClose, &[b"ab", b"c"]).unwrap();
    assert_eq!((content.as_slice(), complete), (b"abc".as_slice(), false));
}

#[test]
fn chunks_are_accepted_as_aiohttp_does() {
    for text in [
        b"2\r\nok\r\n0\r\n\r\n".as_slice(),
        b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"2  \r\nok\r\n0\r\n\r\n",
        b"2\t\r\nok\r\n0\r\n\r\n",
        b"2;a=b;c=\"d\\\"e\"\r\nok\r\n0;z\r\n\r\n",
        b"2;a\nok\r\n0\r\n\r\n",
        b"2\r\nok\n0\r\n\r\n",
        b"00000000000000000000000002\r\nok\r\n000\r\n\r\n",
        b"2\r\nok\r\n0\r\nX-T: 1\r\nY:\r\n\r\n",
    ] {
        let (content, unused, complete) = chunked(&[text, b"next"].concat()).unwrap();
        assert_eq!((content.as_slice(), complete), (b"ok".as_slice(), true));
        assert_eq!(unused, b"next");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for (text, cause) in [
        (
            b"zz\r\nok".as_slice(),
            "Invalid character in chunk size:\n\n  b'zz'\n    ^",
        ),
        (
            b"\r\nok",
            "Invalid character in chunk size:\n\n  b''\n    ^",
        ),
        (
            b"0x2\r\nok",
            "Invalid character in chunk size:\n\n  b'0x2'\n     ^",
        ),
        (
            b" 2\r\nok",
            "Invalid character in chunk size:\n\n  b' 2'\n    ^",
        ),
        (b"-2\r\nok", "Invalid character in chunk size"),
        (b"2 x\r\nok", "Invalid character in chunk size"),
        (b"2\nok\n0\n\n", "Expected LF after chunk size"),
        (b"2\rok", "Expected LF after chunk size"),
        (b"fffffffffffffffff\r\n", "Chunk size overflow"),
        (b"2;a\0\r\n", "Invalid character in chunk extensions"),
        (b"2;\r\nok", "Invalid character in chunk extensions"),
        (b"2;\nok", "Invalid character in chunk extensions"),
        (
            b"2\r\nokk\r\n",
            "Expected LF after chunk data:\n\n  b'okk'\n      ^",
        ),
        (b"2\r\nok\rx", "Expected LF after chunk data"),
        (
            b"0\r\nX(T: 1\r\n\r\n",
            "Invalid header token:\n\n  b'X(T: 1'\n     ^",
        ),
        (b"0\r\nabc\r\n\r\n", "Invalid header token"),
        (b"0\r\n: x\r\n\r\n", "Invalid header token"),
        (
            b"0\r\nX: a\rb\r\n",
            "Missing expected LF after header value",
        ),
        (b"0\r\nX: a\0b\r\n", "Invalid header value char"),
        (b"0\r\n\rx", "Expected LF after headers"),
    ] {
        let message = message(chunked(text));
        let expected = format!(
            "Response payload is not completed: <TransferEncodingError: 400, message='{cause}"
        );
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut content = Vec::new();
    assert!(decoder.decode(b"x", &mut content).is_err());
    assert!(
        decoder
            .decode(b"2\r\nok\r\n0\r\n\r\n", &mut content)
            .is_err()
    );
    assert!(decoder.eof().is_err());
    assert!(content.is_empty());
}

#[test]
fn endless_framing_is_refused_at_once() {
    for (start, piece) in [
        ("2;", "a"),
        ("2;", ";"),
        ("2 ", " "),
        ("0\r\n", "a"),
        ("0\r\nX:", " "),
        ("0\r\n", "X: y\r\n"),
        ("f", "f"),
    ] {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let mut content = Vec::new();
        let mut result = decoder.decode(start.as_bytes(), &mut content);
        let mut sent = 0;
        while result.is_ok() && sent < MAX_EXTENSION_BYTES * 2 {
            sent += piece.len();
            result = decoder.decode(piece.as_bytes(), &mut content);
        }
        assert!(result.is_err(), "{start:?} {piece:?}");
    }
}

#[test]
fn the_end_comes_too_early() {
    let mut decoder = BodyDecoder::new(Framing::Length(5));
    decoder.decode(b"ok", &mut Vec::new()).unwrap();
    assert_eq!(decoder.plain_bytes(), 3);
    assert_eq!(
        message(decoder.eof()),
        "Response payload is not completed: <ContentLengthError: 400, message='Not enough data to satisfy \
         content length header (received 2 of 5 bytes).'>"
    );
    for text in [
        b"".as_slice(),
        b"5\r\nok",
        b"2\r\nok\r\n",
        b"2\r\nok\r\n0\r\n",
    ] {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        decoder.decode(text, &mut Vec::new()).unwrap();
        assert_eq!(
            message(decoder.eof()),
            "Response payload is not completed: <TransferEncodingError: 400, message='Not enough data to \
             satisfy transfer length header.'>"
        );
    }
    let mut decoder = BodyDecoder::new(Framing::UntilClose);
    decoder.decode(b"ok", &mut Vec::new()).unwrap();
    decoder.eof().unwrap();
    assert!(decoder.is_complete());
}

#[test]
fn chunks_are_written_in_lower_case_hex() {
    let mut out = Vec::new();
    encode_chunk(&[b'x'; 26], &mut out);
    assert!(out.starts_with(b"1a\r\nxx"));
    out.clear();
    encode_chunk(b"", &mut out);
    assert!(out.is_empty());
}

/// Cuts `text` at the given places.
fn cut<'a>(text: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place.index(text.len() + 1))
        .collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in places {
        pieces.push(&text[start..place]);
        start = place;
    }
    pieces.push(&text[start..]);
    pieces
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_wherever_it_is_cut(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut text = Vec::new();
        for chunk in &chunks {
            encode_chunk(chunk, &mut text);
        }
        text.extend_from_slice(LAST_CHUNK);
        text.extend_from_slice(b"next");
        let (content, unused, complete) = run(Framing::Chunked, &cut(&text, &places)).unwrap();
        prop_assert!(complete);
        prop_assert_eq!(content, chunks.concat());
        prop_assert_eq!(unused, b"next");
    }

    #[test]
    fn soup_gives_the_same_wherever_it_is_cut(
        parts in proptest::collection::vec(
            prop_oneof![
                Just(b"\r\n".to_vec()), Just(b"\n".to_vec()), Just(b"0\r\n".to_vec()), Just(b"3\r\nabc".to_vec()),
                Just(b";x=\"y\"".to_vec()), Just(b"X: y".to_vec()), proptest::collection::vec(any::<u8>(), 0..4),
            ],
            0..12,
        ),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let text = parts.concat();
        let whole = chunked(&text);
        let pieces = run(Framing::Chunked, &cut(&text, &places));
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
            prop_assert_eq!(whole, pieces);
        }
    }
}
