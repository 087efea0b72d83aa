//! Frames, messages, limits and compression, by example and by property.

use super::*;
use proptest::prelude::*;

/// An owned message or the failure that ended the stream.
type Seen = Vec<Result<Message<'static>, Failure>>;

fn owned(message: Message<'_>) -> Message<'static> {
    match message {
        Message::Text(text) => Message::Text(text.into_owned().into()),
        Message::RawText(data) => Message::RawText(data.into_owned().into()),
        Message::Binary(data) => Message::Binary(data.into_owned().into()),
        Message::Ping(data) => Message::Ping(data.into_owned().into()),
        Message::Pong(data) => Message::Pong(data.into_owned().into()),
        Message::Close { code, reason } => Message::Close { code, reason },
    }
}

/// Everything that a decoder makes of these pieces.
fn decode<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut seen = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(message)) => seen.push(Ok(owned(message))),
                Ok(None) => break,
                Err(failure) => {
                    seen.push(Err(failure));
                    return seen;
                }
            }
        }
        assert!(piece.is_empty());
    }
    seen
}

fn plain() -> Decoder {
    Decoder::new(1 << 20, false, true)
}

/// A frame as a server sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(u8::try_from(short).unwrap()),
        middle @ 126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

fn refused(decoder: Decoder, bytes: &[u8]) -> (u16, String) {
    match decode(decoder, [bytes]).pop() {
        Some(Err(Failure::Protocol { code, message })) => (code, message),
        other => panic!("{bytes:?} gave {other:?}"),
    }
}

fn text(text: &str) -> Message<'static> {
    Message::Text(text.to_owned().into())
}

#[test]
fn the_examples_of_rfc_6455() {
    let hello = [0x81, 0x05, b'H', b'e', b'l', b'l', b'o'];
    assert_eq!(decode(plain(), [&hello[..]]), [Ok(text("Hello"))]);
    let masked = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(decode(plain(), [&masked[..]]), [Ok(text("Hello"))]);
    let mut out = Vec::new();
    encode(
        &mut out,
        opcode::TEXT,
        false,
        b"Hello",
        [0x37, 0xfa, 0x21, 0x3d],
    );
    assert_eq!(out, masked);
    let parts = [
        &[0x01, 0x03, b'H', b'e', b'l'][..],
        &[0x80, 0x02, b'l', b'o'],
    ];
    assert_eq!(decode(plain(), parts), [Ok(text("Hello"))]);
}

#[test]
fn the_examples_of_rfc_7692() {
    let compressed = |payload: &[u8]| frame(0xc1, payload);
    let first = compressed(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    // The same word again, as a reference into the window of the first message.
    let second = compressed(&[0xf2, 0x00, 0x11, 0x00, 0x00]);
    let decoder = Decoder::new(1000, true, true);
    assert_eq!(
        decode(decoder, [&first[..], &second]),
        [Ok(text("Hello")), Ok(text("Hello"))]
    );
    // Without compression, and in a final deflate block.
    for payload in [
        &[
            0x00, 0x05, 0x00, 0xfa, 0xff, b'H', b'e', b'l', b'l', b'o', 0x00,
        ][..],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ],
    ] {
        let decoder = Decoder::new(1000, true, true);
        assert_eq!(
            decode(decoder, [&compressed(payload)[..]]),
            [Ok(text("Hello"))]
        );
    }
}

#[test]
fn lengths_take_the_form_that_fits() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload = vec![7; length];
        let mut out = Vec::new();
        encode(&mut out, opcode::BINARY, false, &payload, [1, 2, 3, 4]);
        let header = match length {
            0..126 => 6,
            126..=0xFFFF => 8,
            _ => 14,
        };
        assert_eq!(out.len(), header + length);
        assert_eq!(
            decode(plain(), [&out[..]]),
            [Ok(Message::Binary(payload.into()))]
        );
    }
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes = [
        frame(0x01, b"a"),
        frame(0x89, b"ping"),
        frame(0x00, b"b"),
        frame(0x8a, b""),
        frame(0x80, b"c"),
        frame(0x88, b"\x03\xe9bye"),
    ]
    .concat();
    assert_eq!(
        decode(plain(), [&bytes[..]]),
        [
            Ok(Message::Ping(b"ping".into())),
            Ok(Message::Pong(b"".into())),
            Ok(text("abc")),
            Ok(Message::Close {
                code: 1001,
                reason: "bye".to_owned()
            }),
        ]
    );
}

#[test]
fn broken_frames_are_refused() {
    let reserved = "Received frame with non-zero reserved bits".to_owned();
    for first in [0x91, 0xa1, 0xc1, 0xf1, 0xc9] {
        assert_eq!(
            refused(plain(), &frame(first, b"x")),
            (1002, reserved.clone())
        );
    }
    // With compression, a control frame's bit is ignored, but that of a later fragment is not.
    let deflating = || Decoder::new(1000, true, true);
    let ping = frame(0xc9, b"x");
    assert_eq!(
        decode(deflating(), [&ping[..]]),
        [Ok(Message::Ping(b"x".into()))]
    );
    let late = [frame(0x01, b"x"), frame(0xc0, b"y")].concat();
    assert_eq!(refused(deflating(), &late), (1002, reserved));
    for code in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(
            refused(plain(), &frame(0x80 | code, b"")),
            (1002, format!("Unexpected opcode={code}"))
        );
    }
    for (bytes, message) in [
        (frame(0x08, b""), "Received fragmented control frame"),
        (
            frame(0x89, &[0; 126]),
            "Control frame payload cannot be larger than 125 bytes",
        ),
        (
            frame(0x80, b"x"),
            "Continuation frame for non started message",
        ),
        (
            frame(0x00, b"x"),
            "Continuation frame for non started message",
        ),
        (
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
            "The opcode in non-fin frame is expected to be zero, got 1",
        ),
        (
            [frame(0x01, b"x"), frame(0x02, b"y")].concat(),
            "The opcode in non-fin frame is expected to be zero, got 2",
        ),
        (
            frame(0x88, b"\x03"),
            "Invalid close frame: False 8 b'\\x03'",
        ),
        (frame(0x88, b"'"), "Invalid close frame: False 8 b\"'\""),
        (
            [frame(0x81, b"x"), frame(0x88, b"\\")].concat(),
            "Invalid close frame: True 8 b'\\\\'",
        ),
    ] {
        assert_eq!(refused(plain(), &bytes), (1002, message.to_owned()));
    }
}

#[test]
fn close_codes_are_checked() {
    for code in [1000_u16, 1003, 1006, 1007, 1014, 3000, 4999, 5000, 65_535] {
        let bytes = frame(0x88, &code.to_be_bytes());
        let reason = String::new();
        assert_eq!(
            decode(plain(), [&bytes[..]]),
            [Ok(Message::Close { code, reason })]
        );
    }
    for code in [0_u16, 999, 1004, 1005, 1015, 1016, 2999] {
        assert_eq!(
            refused(plain(), &frame(0x88, &code.to_be_bytes())),
            (1002, format!("Invalid close code: {code}"))
        );
    }
}

#[test]
fn text_has_to_be_utf_8() {
    let invalid = (1007, "Invalid UTF-8 text message".to_owned());
    for payload in [
        &b"\xff"[..],
        b"caf\xc3",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ] {
        assert_eq!(refused(plain(), &frame(0x81, payload)), invalid);
        let raw = Decoder::new(1000, false, false);
        assert_eq!(
            decode(raw, [&frame(0x81, payload)[..]]),
            [Ok(Message::RawText(payload.to_vec().into()))]
        );
    }
    assert_eq!(refused(plain(), &frame(0x88, b"\x03\xe8\xff")), invalid);
    // A character may be cut by frames.
    let cut = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xac")].concat();
    assert_eq!(decode(plain(), [&cut[..]]), [Ok(text("\u{20ac}"))]);
}

#[test]
fn messages_have_a_limit() {
    let limited = || Decoder::new(10, false, true);
    assert_eq!(
        decode(limited(), [&frame(0x82, &[0; 9])[..]]),
        [Ok(Message::Binary(vec![0; 9].into()))]
    );
    // The header is enough.
    assert_eq!(
        refused(limited(), &[0x82, 10]),
        (1009, "Message size 10 exceeds limit 10".to_owned())
    );
    let parts = [frame(0x02, &[0; 6]), vec![0x00, 4]].concat();
    assert_eq!(
        refused(limited(), &parts),
        (1009, "Message size 10 exceeds limit 10".to_owned())
    );
    let unlimited = Decoder::new(0, false, true);
    let huge = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        refused(unlimited, &huge),
        (
            1009,
            "Message size 9223372036854775808 exceeds limit 9223372036854775807".to_owned()
        )
    );
    let all = [0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255];
    assert_eq!(refused(limited(), &all).0, 1009);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let mut bomb = Vec::new();
    assert!(
        Deflater::new(15, false)
            .unwrap()
            .deflate(&vec![0; 1 << 20], &mut bomb)
    );
    assert!(bomb.len() < 50_000, "{}", bomb.len());
    assert_eq!(
        refused(Decoder::new(100_000, true, true), &frame(0xc2, &bomb)),
        (
            1009,
            "Decompressed message exceeds size limit 100000".to_owned()
        )
    );
}

#[test]
fn streams_may_end_inside_a_message_but_not_for_ever() {
    // A final, empty block: the stream ends, and the next begins.
    let endings = |count| [0x03, 0x00].repeat(count);
    let few = frame(0xc2, &endings(500));
    assert_eq!(
        decode(Decoder::new(100_000, true, true), [&few[..]]),
        [Ok(Message::Binary(b"".into()))]
    );
    assert_eq!(
        refused(
            Decoder::new(100_000, true, true),
            &frame(0xc2, &endings(1100))
        ),
        (
            1009,
            "Compressed message has too many deflate members".to_owned()
        )
    );
}

#[test]
fn corrupt_messages_are_told_from_broken_frames() {
    let bytes = frame(0xc1, b"\xff\xff\xff");
    assert_eq!(
        decode(Decoder::new(1000, true, true), [&bytes[..]]),
        [Err(Failure::Corrupt(b"\xff\xff\xff".to_vec()))]
    );
}

#[test]
fn windows_are_between_9_and_15_bits() {
    for bits in [0, 8, 16, 31, 255] {
        assert!(Deflater::new(bits, false).is_none());
    }
    for bits in 9..=15 {
        assert!(Deflater::new(bits, true).is_some());
    }
}

#[test]
fn a_small_window_is_kept_to() {
    // Random bytes, twice, 600 apart: a window of 512 bytes cannot see the first of them.
    let mut random = fastrand::Rng::with_seed(1);
    let half: Vec<u8> = (0..600).map(|_| random.u8(..)).collect();
    let whole = [half.clone(), half].concat();
    let size = |bits| {
        let mut out = Vec::new();
        assert!(
            Deflater::new(bits, false)
                .unwrap()
                .deflate(&whole, &mut out)
        );
        out.len()
    };
    assert!(size(15) < 800, "{}", size(15));
    assert!(size(9) > 1000, "{}", size(9));
}

#[test]
fn a_header_may_be_cut_anywhere() {
    // Found by fuzzing: cut after two of its bytes, the header of a compressed first part was refused.
    let mut random = fastrand::Rng::with_seed(1);
    let content: Vec<u8> = (0..200).map(|_| random.u8(..)).collect();
    let mut compressed = Vec::new();
    assert!(
        Deflater::new(15, false)
            .unwrap()
            .deflate(&content, &mut compressed)
    );
    // A length of two bytes, and an empty end with a mask.
    let data = [frame(0x42, &compressed), vec![0x80, 0x80, 1, 2, 3, 4]].concat();
    for place in 0..data.len() {
        let pieces = [&data[..place], b"", &data[place..]];
        let seen = decode(Decoder::new(1000, true, true), pieces);
        assert_eq!(seen, [Ok(Message::Binary(content.clone().into()))]);
    }
}

#[test]
fn empty_messages_compress_to_something() {
    let mut deflater = Deflater::new(15, false).unwrap();
    let mut bytes = Vec::new();
    for message in [&b""[..], b"", b"x", b"", b""] {
        let mut compressed = Vec::new();
        assert!(deflater.deflate(message, &mut compressed));
        assert!(!compressed.is_empty());
        bytes.extend(frame(0xc2, &compressed));
    }
    let seen = decode(Decoder::new(1000, true, true), [&bytes[..]]);
    let binary = |data: &[u8]| Ok(Message::Binary(data.to_vec().into()));
    let expected = [
        binary(b""),
        binary(b""),
        binary(b"x"),
        binary(b""),
        binary(b""),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn takeover_makes_the_second_message_smaller() {
    let message = b"some text that is worth remembering, for it will come again";
    for (no_takeover, smaller) in [(false, true), (true, false)] {
        let mut deflater = Deflater::new(15, no_takeover).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert!(deflater.deflate(message, &mut first));
        assert!(deflater.deflate(message, &mut second));
        assert_eq!(second.len() * 2 < first.len(), smaller);
    }
}

fn cut<'a>(data: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place.index(data.len() + 1))
        .collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in places.into_iter().chain([data.len()]) {
        pieces.push(&data[start..end]);
        start = end;
    }
    pieces
}

/// Frames that are mostly right.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        "\\PC{0,40}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 120..140),
        Just(vec![b'x'; 66_000]),
    ];
    let first = prop_oneof![
        4 => Just(0x81_u8),
        4 => Just(0x82),
        2 => Just(0x01),
        2 => Just(0x00),
        2 => Just(0x80),
        1 => Just(0x89),
        1 => Just(0x8a),
        1 => Just(0x88),
        1 => Just(0xc1),
        1 => any::<u8>(),
    ];
    let part = (first, payload, any::<Option<[u8; 4]>>()).prop_map(|(first, payload, key)| {
        let mut bytes = frame(first, &payload);
        if let Some(key) = key {
            let start = bytes.len() - payload.len();
            bytes[1] |= 0x80;
            mask(&mut bytes[start..], key);
            bytes.splice(start..start, key);
        }
        bytes
    });
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        data in stream(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        compression in any::<bool>(),
        limit in prop_oneof![Just(0_usize), Just(100), Just(1 << 20)],
    ) {
        let decoder = || Decoder::new(limit, compression, true);
        prop_assert_eq!(decode(decoder(), [&data[..]]), decode(decoder(), cut(&data, &places)));
    }

    #[test]
    fn byte_by_byte_makes_no_difference(data in stream(), compression in any::<bool>()) {
        let short = &data[..data.len().min(3000)];
        let decoder = || Decoder::new(1 << 20, compression, true);
        prop_assert_eq!(decode(decoder(), [short]), decode(decoder(), short.chunks(1)));
    }

    #[test]
    fn soup_never_panics(
        data in proptest::collection::vec(any::<u8>(), 0..400),
        size in 1_usize..40,
        compression in any::<bool>(),
        limit in 0_usize..300,
    ) {
        for seen in decode(Decoder::new(limit, compression, true), data.chunks(size)).into_iter().flatten() {
            if let Message::Text(text) = seen {
                prop_assert!(limit == 0 || text.len() <= limit);
            }
        }
    }

    #[test]
    fn what_is_sent_is_received(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 1..6),
        key in any::<[u8; 4]>(),
        bits in 9_u8..=15,
        no_takeover in any::<bool>(),
        repeated in 1_usize..30,
    ) {
        let mut wire = Vec::new();
        let mut deflater = Deflater::new(bits, no_takeover).unwrap();
        for message in &messages {
            let message = message.repeat(repeated);
            encode(&mut wire, opcode::BINARY, false, &message, key);
            let mut compressed = Vec::new();
            prop_assert!(deflater.deflate(&message, &mut compressed));
            encode(&mut wire, opcode::BINARY, true, &compressed, key);
        }
        let seen = decode(Decoder::new(0, true, true), wire.chunks(1000));
        let expected: Seen = messages
            .iter()
            .flat_map(|message| {
                let message = Message::Binary(message.repeat(repeated).into());
                [Ok(message.clone()), Ok(message)]
            })
            .collect();
        prop_assert_eq!(seen, expected);
    }
}
