//! Websocket frames: the same messages wherever they are cut, within their limit, and back again.

use molotov::http::websocket::{Decoder, Deflater, Failure, Message, encode, mask, opcode};

use super::pieces::{cut, options};

/// An owned message, or what ended the stream.
type Seen = Vec<Result<Message<'static>, Failure>>;

pub(super) fn check(input: &[u8]) {
    let ([flags, seed, limit, key], text) = options(input);
    let compression = flags & 1 != 0;
    // None, short, and aiohttp's default.
    let limit = match flags >> 1 & 3 {
        0 => 0,
        1 => usize::from(limit),
        2 => usize::from(limit) << 8,
        _ => 4 << 20,
    };
    let key = [key, key.rotate_left(3), !key, seed];
    if flags & 8 == 0 {
        let decoder = |text| Decoder::new(limit, compression, text);
        let whole = decode(decoder(true), &[text]);
        assert_eq!(decode(decoder(true), &cut(text, seed)), whole);
        assert_eq!(decode(decoder(true), &cut(text, 0)), whole);
        within_limits(&whole, limit);
        without_text(&whole, &decode(decoder(false), &cut(text, seed)));
        again(&whole, key, seed);
    } else {
        round_trip(text, flags >> 4, key, seed);
    }
}

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

fn decode(mut decoder: Decoder, pieces: &[&[u8]]) -> Seen {
    let mut seen = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.next(&mut rest) {
                Ok(Some(message)) => seen.push(Ok(owned(message))),
                Ok(None) => break,
                Err(failure) => {
                    seen.push(Err(failure));
                    return seen;
                }
            }
        }
        assert!(rest.is_empty());
    }
    seen
}

fn within_limits(seen: &Seen, limit: usize) {
    for message in seen.iter().flatten() {
        match message {
            Message::Text(text) => assert!(limit == 0 || text.len() <= limit),
            Message::Binary(data) | Message::RawText(data) => {
                assert!(limit == 0 || data.len() <= limit);
            }
            Message::Ping(data) | Message::Pong(data) => assert!(data.len() <= 125),
            Message::Close { code, reason } => {
                assert!(reason.len() <= 123);
                assert!(*code == 0 || *code >= 1000);
            }
        }
    }
    for failure in seen.iter().filter_map(|message| message.as_ref().err()) {
        if let Failure::Protocol { code, message } = failure {
            assert!(matches!(code, 1002 | 1007 | 1009) && !message.is_empty());
        }
    }
}

/// Text as bytes is the same text, unchecked.
fn without_text(checked: &Seen, raw: &Seen) {
    for (checked, raw) in checked.iter().zip(raw) {
        match (checked, raw) {
            (Ok(Message::Text(text)), Ok(Message::RawText(data))) => {
                assert_eq!(text.as_bytes(), data.as_ref());
            }
            (Err(Failure::Protocol { code: 1007, .. }), _) => return,
            (checked, raw) => assert_eq!(checked, raw),
        }
    }
    assert_eq!(checked.len(), raw.len());
}

/// The messages of a stream, sent by us, are the same messages.
fn again(seen: &Seen, key: [u8; 4], seed: u8) {
    let mut wire = Vec::new();
    for message in seen.iter().flatten() {
        match message {
            Message::Text(text) => encode(&mut wire, opcode::TEXT, false, text.as_bytes(), key),
            Message::RawText(data) => encode(&mut wire, opcode::TEXT, false, data, key),
            Message::Binary(data) => encode(&mut wire, opcode::BINARY, false, data, key),
            Message::Ping(data) => encode(&mut wire, opcode::PING, false, data, key),
            Message::Pong(data) => encode(&mut wire, opcode::PONG, false, data, key),
            Message::Close { code: 0, .. } => encode(&mut wire, opcode::CLOSE, false, b"", key),
            Message::Close { code, reason } => {
                let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
                encode(&mut wire, opcode::CLOSE, false, &payload, key);
            }
        }
    }
    let back = decode(Decoder::new(0, false, true), &cut(&wire, seed));
    let sent: Seen = seen
        .iter()
        .filter(|message| message.is_ok())
        .cloned()
        .collect();
    assert_eq!(back, sent);
}

/// Messages of any content come back, plain and compressed, whatever the window.
fn round_trip(text: &[u8], choice: u8, key: [u8; 4], seed: u8) {
    let mut masked = text.to_vec();
    mask(&mut masked, key);
    mask(&mut masked, key);
    assert_eq!(masked, text);
    let bits = 9 + choice % 7;
    let mut deflater = Deflater::new(bits, choice & 8 != 0).unwrap();
    let (mut wire, mut sent) = (Vec::new(), Vec::new());
    for (number, piece) in cut(text, seed.max(1)).into_iter().enumerate() {
        let content = piece.repeat(1 + number % 40);
        let mut compressed = Vec::new();
        assert!(deflater.deflate(&content, &mut compressed));
        encode(&mut wire, opcode::BINARY, true, &compressed, key);
        encode(&mut wire, opcode::BINARY, false, &content, key);
        for _ in 0..2 {
            sent.push(Ok(Message::Binary(content.clone().into())));
        }
    }
    let seen = decode(
        Decoder::new(0, true, true),
        &cut(&wire, seed.wrapping_add(1)),
    );
    assert_eq!(seen, sent);
}
