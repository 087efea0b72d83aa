//! Tests of the response head against what aiohttp 3.14 was seen to accept, refuse and say.

use proptest::prelude::*;

use super::*;

fn parse(text: &[u8]) -> Result<Option<ResponseHead>, Error> {
    parse_head(text, false, &Limits::default())
}

fn head(text: &[u8]) -> ResponseHead {
    parse(text).unwrap().unwrap()
}

fn refusal(text: &[u8]) -> String {
    match parse(text) {
        Err(Error::BadResponse { message }) => message,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
    }
}

#[test]
fn a_usual_head() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Type: application/json \r\ncontent-length:2\r\nSet-Cookie: a=b\r\n\
        Content-Encoding: GZip\r\nLocation: /x\r\n\r\n{}";
    let head = head(text);
    assert_eq!(
        (head.status, head.minor_version, head.head_len),
        (200, 1, text.len() - 2)
    );
    assert_eq!((head.framing, head.keep_alive), (Framing::Length(2), true));
    assert_eq!(head.encoding, Some(ContentEncoding::Gzip));
    assert!(head.set_cookie && head.location);
    assert_eq!(head.content_type.get(text), b"application/json");
    let head = &text[..head.head_len];
    assert_eq!(reason(head), b"OK");
    assert_eq!(
        headers(head)[1],
        (b"content-length".as_slice(), b"2".as_slice())
    );
    assert_eq!(
        header(head, "CONTENT-TYPE"),
        Some(b"application/json".as_slice())
    );
    assert_eq!(header(head, "missing"), None);
    assert_eq!(
        header_values(head, "set-cookie").collect::<Vec<_>>(),
        [b"a=b"]
    );
}

#[test]
fn what_is_accepted() {
    for (text, status, framing) in [
        (
            b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n".as_slice(),
            200,
            Framing::Length(2),
        ),
        (b"HTTP/1.1 200 \r\n\r\n", 200, Framing::UntilClose),
        (
            b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n",
            99,
            Framing::Empty,
        ),
        (
            b"HTTP/1.1 999 x\nContent-Length: 2\n\n",
            999,
            Framing::Length(2),
        ),
        (
            b"\r\n\n\r\nHTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\n",
            200,
            Framing::Length(2),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            200,
            Framing::UntilClose,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n",
            200,
            Framing::Chunked,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            200,
            Framing::UntilClose,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            200,
            Framing::Chunked,
        ),
        (
            b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n",
            204,
            Framing::Empty,
        ),
        (b"HTTP/1.1 304 No\r\n\r\n", 304, Framing::Empty),
        (
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            103,
            Framing::Empty,
        ),
        (
            b"HTTP/1.1 200 a\x01b\r\nX: a\x01b\x7f\xe9\r\nContent-Length: 2\r\n\r\n",
            200,
            Framing::Length(2),
        ),
        (
            b"HTTP/1.1 200 \xe9\xe8\r\nContent-Length:  2\t \r\n\r\n",
            200,
            Framing::Length(2),
        ),
    ] {
        let head = head(text);
        assert_eq!(
            (head.status, head.framing),
            (status, framing),
            "{}",
            String::from_utf8_lossy(text)
        );
        // A byte at a time nothing is decided before the end, and then the same.
        for end in 0..head.head_len {
            assert_eq!(parse(&text[..end]).unwrap(), None);
        }
    }
}

#[test]
fn what_is_refused_and_how() {
    for (text, message) in [
        (
            b"garbage\r\n\r\n".as_slice(),
            "Bad status line:\n  Expected HTTP/, RTSP/ or ICE/:\n\n  b'garbage'\n    ^",
        ),
        (
            b"\x15\x03\x01\x00\x02",
            "Bad status line:\n  Expected HTTP/, RTSP/ or ICE/:\n\n  b'\\x15\\x03\\x01\\x00\\x02'\n    ^",
        ),
        (
            b"HTTP/2.1 200 OK\r\n\r\n",
            "Bad status line:\n  Invalid HTTP version:\n\n  b'HTTP/2.1 200 OK'\n            ^",
        ),
        (
            b"HTTP/1.1 20 OK\r\n\r\n",
            "Bad status line:\n  Invalid status code:\n\n  b'HTTP/1.1 20 OK'\n               ^",
        ),
        (
            b"HTTP/1.1 2000 OK\r\n\r\n",
            "Bad status line:\n  Invalid response status:\n\n  b'HTTP/1.1 2000 OK'\n                ^",
        ),
        (
            b"HTTP/1.1  200  OK\r\n\r\n",
            "Bad status line:\n  Invalid status code:\n\n  b'HTTP/1.1  200  OK'\n             ^",
        ),
        (
            b"HTTP/1.1 200 a\rb\r\n\r\n",
            "Expected LF after CR:\n\n  b'HTTP/1.1 200 a\\rb'\n                    ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
            "Duplicate Content-Length:\n\n  b'Content-Length: 3'\n                    ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
            "Invalid character in Content-Length:\n\n  b'Content-Length: 2, 2'\n                     ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n",
            "Invalid character in Content-Length:\n\n  b'Content-Length: +2'\n                    ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "Empty Content-Length:\n\n  b''\n    ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "Content-Length overflow:\n\n  b'Content-Length: 99999999999999999999999'\n                        \
             \x20               ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding can't be present with Content-Length:\n\n  b'Transfer-Encoding: chunked'\n    \
             \x20                 ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
            "Content-Length can't be present with Transfer-Encoding:\n\n  b'Content-Length: 2'\n             \
             \x20     ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX-A: a\rb\r\n\r\n",
            "Missing expected LF after header value:\n\n  b'X-A: a\\rb'\n            ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n",
            "Invalid HTTP header: b'a\\x00b'",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX-A : a\r\n\r\n",
            "Invalid header token:\n\n  b'X-A : a'\n       ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX(A: a\r\n\r\n",
            "Invalid header token:\n\n  b'X(A: a'\n     ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nXA\r\n\r\n",
            "Invalid header token:\n\n  b'XA'\n      ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            "Invalid header token:\n\n  b': a'\n    ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "Unexpected whitespace after header value:\n\n  b' b'\n    ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\nSec-WebSocket-Key1: x\r\n\r\n",
            "Invalid HTTP header: 'Sec-WebSocket-Key1'",
        ),
    ] {
        assert_eq!(refusal(text), message);
    }
}

#[test]
fn versions_are_refused_where_they_go_wrong() {
    for (text, message) in [
        (
            b"HTTP/3 200 OK\r\n\r\n".as_slice(),
            "Bad status line:\n  Expected dot:\n\n  b'HTTP/3 200 OK'\n          ^",
        ),
        (
            b"HTTP/x.1 200 OK\r\n\r\n",
            "Bad status line:\n  Invalid major version:\n\n  b'HTTP/x.1 200 OK'\n         ^",
        ),
        (
            b"HTTP/1.x 200 OK\r\n\r\n",
            "Bad status line:\n  Invalid minor version:\n\n  b'HTTP/1.x 200 OK'\n           ^",
        ),
    ] {
        assert_eq!(refusal(text), message);
    }
}

#[test]
fn keep_alive_follows_version_and_tokens() {
    for (text, keep_alive) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".as_slice(), true),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: foo, Close\r\n\r\n", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nProxy-Connection: close\r\n\r\n", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\n", true),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", false),
        (b"HTTP/1.1 200 OK\r\n\r\n", false),
        (b"HTTP/1.1 204 No\r\n\r\n", true),
    ] {
        assert_eq!(head(text).keep_alive, keep_alive, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn answers_to_head_have_no_body() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let head = parse_head(text, true, &Limits::default()).unwrap().unwrap();
    assert_eq!((head.framing, head.keep_alive), (Framing::Empty, true));
}

#[test]
fn limits_hold_exactly() {
    let with = |start: &str, count: usize, end: &str| {
        [start, &"a".repeat(count), end].concat().into_bytes()
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    assert!(parse(&with("HTTP/1.1 200 ", 8190, "\r\n\r\n")).is_ok());
    assert!(
        refusal(&with("HTTP/1.1 200 ", 8191, "\r\n\r\n")).starts_with("Got more than 8190 bytes")
    );
    assert!(parse(&with(&format!("{ok}X: "), 8189, "\r\n\r\n")).is_ok());
    let message = refusal(&with(&format!("{ok}X: "), 8190, "\r\n\r\n"));
    assert_eq!(
        message,
        format!(
            "Got more than 8190 bytes when reading: b'{}...'.",
            "a".repeat(100)
        )
    );
    assert!(parse(&with(ok, 8190, ":\r\n\r\n")).is_ok());
    assert!(refusal(&with(ok, 8191, ":\r\n\r\n")).starts_with("Got more than 8190 bytes"));
    assert!(
        parse(format!("{ok}{}\r\n", "X: a\r\n".repeat(128)).as_bytes())
            .unwrap()
            .is_some()
    );
    let many = format!("{ok}{}\r\n", "X: a\r\n".repeat(129));
    assert_eq!(refusal(many.as_bytes()), "Too many headers received");
}

#[test]
fn endless_input_is_refused_before_it_ends() {
    let bound = 8190 + 100;
    for (start, piece) in [
        ("", "\r\n"),
        ("", "\n"),
        ("HTTP/1.1 200 ", "a"),
        ("HTTP/1.1 200 ", " "),
        ("HTTP/1.1 200 OK\r\n", "a"),
        ("HTTP/1.1 200 OK\r\nX:", " "),
        ("HTTP/1.1 200 OK\r\nX:", "a"),
        ("HTTP/1.1 200 OK\r\nX:", "\u{1}"),
        ("HTTP/1.1 200 OK\r\n", "X:\r\n"),
        ("HTTP/1.1 200 OK\r\n", "Set-Cookie: a=b\r\n"),
    ] {
        let mut text = start.to_owned();
        while text.len() < bound {
            text.push_str(piece);
        }
        assert!(parse(text.as_bytes()).is_err(), "{piece:?}");
    }
}

#[test]
fn small_limits_work_too() {
    let limits = Limits {
        max_line_size: 4,
        max_field_size: 6,
        max_headers: 1,
    };
    let parse = |text: &[u8]| parse_head(text, false, &limits);
    assert!(parse(b"HTTP/1.1 200 Okay\r\nX: abcde\r\n\r\n").is_ok());
    assert!(parse(b"HTTP/1.1 200 Fine!\r\n\r\n").is_err());
    assert!(parse(b"HTTP/1.1 200 OK\r\nX: abcdef\r\n\r\n").is_err());
    assert!(parse(b"HTTP/1.1 200 OK\r\nX: a\r\nY: b\r\n\r\n").is_err());
    let limits = Limits {
        max_headers: 300,
        ..Limits::default()
    };
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: a\r\n".repeat(300));
    assert!(
        parse_head(many.as_bytes(), false, &limits)
            .unwrap()
            .is_some()
    );
}

/// Lines that are nearly right.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"HTTP/1.1 200 OK".to_vec()),
        Just(b"HTTP/1.0 ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"Content-Length: 7".to_vec()),
        Just(b"Transfer-Encoding: chunked".to_vec()),
        Just(b"Connection: close, x".to_vec()),
        Just(b"X: \x01\xff".to_vec()),
        Just(b": ".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn soup_never_panics_and_its_head_can_be_read(text in soup()) {
        if let Ok(Some(found)) = parse(&text) {
            prop_assert!(found.head_len <= text.len());
            let head = &text[..found.head_len];
            let _ = reason(head);
            for (name, value) in headers(head) {
                prop_assert!(name.iter().all(|&byte| scan::is_token(byte)) && !name.is_empty());
                prop_assert!(!value.contains(&b'\r') && !value.contains(&b'\n'));
            }
            prop_assert_eq!(found.content_type.get(&text), header(head, "content-type").unwrap_or_default());
        }
    }

    #[test]
    fn the_fast_way_and_the_careful_way_agree(text in soup()) {
        let careful = scan::response(&text, false, &Limits::default());
        prop_assert_eq!(format!("{:?}", parse(&text)), format!("{careful:?}"));
    }

    #[test]
    fn a_prefix_never_contradicts_the_whole(text in soup()) {
        let whole = parse(&text);
        let mut decided = false;
        for end in 0..text.len() {
            match parse(&text[..end]) {
                Ok(None) => prop_assert!(!decided),
                Ok(Some(head)) => {
                    decided = true;
                    prop_assert_eq!(Some(head), *whole.as_ref().unwrap());
                }
                Err(_) => {
                    decided = true;
                    prop_assert!(whole.is_err());
                }
            }
        }
    }

    #[test]
    fn headers_come_back_as_sent(
        fields in proptest::collection::vec(("[A-Za-z0-9-]{1,12}", "[!-~]([ -~]{0,20}[!-~])?"), 0..20)
    ) {
        let mut text = b"HTTP/1.1 200 Fine\r\n".to_vec();
        for (name, value) in &fields {
            text.extend_from_slice(format!("X-{name}: {value}\r\n").as_bytes());
        }
        text.extend_from_slice(b"\r\nbody");
        let head = head(&text);
        let back: Vec<(String, String)> = headers(&text[..head.head_len])
            .into_iter()
            .map(|(name, value)| (String::from_utf8_lossy(&name[2..]).into(), String::from_utf8_lossy(value).into()))
            .collect();
        prop_assert_eq!(back, fields);
        prop_assert_eq!(&text[head.head_len..], b"body");
    }
}
