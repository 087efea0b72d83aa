//! Response heads: decided at the same byte wherever they are cut, within exact limits, and never smuggled.

use molotov::http::{
    codec::{
        self, Framing, Limits, ResponseHead, header, header_values, headers, parse_head, reason,
    },
    content_encoding::ContentEncoding,
    head_cache::HeadCache,
};

use super::pieces::{cut, options};

/// Longer texts are cut at some places only.
const ALL_PREFIXES_BYTES: usize = 150;

pub(super) fn check(input: &[u8]) {
    let ([flags, size], text) = options(input);
    let head_request = flags & 1 != 0;
    let limits = match flags >> 1 & 3 {
        0 | 1 => Limits::default(),
        2 => Limits {
            max_line_size: usize::from(size),
            max_field_size: usize::from(size),
            max_headers: usize::from(size) / 8,
        },
        _ => Limits {
            max_line_size: 8,
            max_field_size: 300,
            max_headers: 200,
        },
    };
    let whole = parse_head(text, head_request, &limits);
    let decided = whole.as_ref().ok().copied();
    prefixes_agree(text, size, head_request, &limits, decided);
    match whole {
        Ok(Some(found)) => {
            assert!(found.head_len <= text.len());
            let head = &text[..found.head_len];
            is_strict(head);
            says_what_its_headers_say(&found, head, text, head_request);
            limits_are_exact(&found, text, head_request, &limits);
            is_remembered(&found, text, head_request, &limits);
            comes_back(&found, head, head_request);
        }
        Ok(None) => {
            // What is kept while waiting for more is bounded.
            let bound = 2 * limits.max_line_size
                + (limits.max_headers + 1) * (limits.max_field_size + 4)
                + 32;
            assert!(text.len() <= bound, "{} bytes are undecided", text.len());
        }
        Err(_) => {}
    }
}

/// Decided once, at the first byte where it can be, and never otherwise with more bytes.
fn prefixes_agree(
    text: &[u8],
    seed: u8,
    head_request: bool,
    limits: &Limits,
    whole: Option<Option<ResponseHead>>,
) {
    // Every prefix of a short text; of a longer one that would take too long.
    let pieces = cut(
        text,
        if text.len() <= ALL_PREFIXES_BYTES {
            0
        } else {
            seed
        },
    );
    let mut refused = false;
    let mut end = 0;
    for piece in pieces {
        end += piece.len();
        match parse_head(&text[..end], head_request, limits) {
            Ok(None) => assert!(!refused, "a refusal was taken back at {end}"),
            Ok(Some(found)) => {
                assert!(!refused, "a refusal was taken back at {end}");
                assert_eq!(whole, Some(Some(found)), "otherwise with {end} bytes");
                assert!(found.head_len <= end);
            }
            Err(_) => {
                refused = true;
                assert_eq!(whole, None, "only the first {end} bytes are refused");
            }
        }
    }
    if let Some(Some(found)) = whole {
        for end in [found.head_len - 1, found.head_len] {
            let decided = parse_head(&text[..end], head_request, limits);
            assert_eq!(decided.unwrap().is_some(), end == found.head_len);
        }
    }
}

/// The lines of a head without their ends, the empty last one included; blank lines in front are left out.
fn lines(head: &[u8]) -> Vec<&[u8]> {
    let start = head.iter().position(|byte| !b"\r\n".contains(byte));
    let head = &head[start.unwrap()..];
    head.strip_suffix(b"\n")
        .unwrap()
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect()
}

/// Nothing is in an accepted head that another parser may read differently (RFC 9112 sections 2.2, 5 and 11.2).
fn is_strict(head: &[u8]) {
    let lines = lines(head);
    let (last, fields) = lines[1..].split_last().unwrap();
    assert!(last.is_empty());
    assert!(lines.iter().all(|line| !line.contains(&b'\r')));
    let (mut lengths, mut encodings) = (0, 0);
    for line in fields {
        let colon = line.iter().position(|&byte| byte == b':').unwrap();
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && !value.contains(&0));
        // Neither a fold nor a space before the colon.
        let odd = |byte: &u8| !byte.is_ascii_graphic() || b"\"(),/:;<=>?@[\\]{}".contains(byte);
        assert!(!name.iter().any(odd), "{}", name.escape_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            assert!(!value.is_empty() && value.iter().all(u8::is_ascii_digit));
        }
        encodings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
    }
    assert!(lengths <= 1 && (lengths == 0 || encodings == 0));
}

/// The parsed facts, found once more by asking for the headers one by one.
fn says_what_its_headers_say(found: &ResponseHead, head: &[u8], text: &[u8], head_request: bool) {
    let all = headers(head);
    for (name, _) in &all {
        let name = std::str::from_utf8(name).unwrap();
        assert_eq!(header(head, name), header_values(head, name).next());
        assert!(header(head, &name.to_ascii_uppercase()).is_some());
    }
    let status: u16 = std::str::from_utf8(&lines(head)[0][9..12])
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(found.status, status);
    let length = header(head, "content-length").map(|digits| {
        let digits = std::str::from_utf8(digits).unwrap();
        digits.parse::<u64>().unwrap()
    });
    let encodings: Vec<&[u8]> = header_values(head, "transfer-encoding").collect();
    let chunked = encodings.last().is_some_and(|value| {
        let last = value.rsplit(|&byte| byte == b',').next().unwrap();
        last.trim_ascii().eq_ignore_ascii_case(b"chunked")
    });
    let bodiless = head_request || status / 100 == 1 || status == 204 || status == 304;
    let framing = match (length, encodings.is_empty()) {
        _ if bodiless => Framing::Empty,
        (None, false) if chunked => Framing::Chunked,
        (None, _) => Framing::UntilClose,
        (Some(0), _) => Framing::Empty,
        (Some(length), _) => Framing::Length(length),
    };
    assert_eq!(found.framing, framing);
    let tokens: Vec<Vec<u8>> = header_values(head, "connection")
        .chain(header_values(head, "proxy-connection"))
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|token| token.trim_ascii().to_ascii_lowercase())
        .collect();
    let says = |token: &[u8]| tokens.iter().any(|said| said == token);
    let persistent = found.minor_version == 1 || says(b"keep-alive");
    let kept = persistent && !says(b"close") && framing != Framing::UntilClose;
    assert_eq!(found.keep_alive, kept);
    let coding = header_values(head, "content-encoding").last();
    assert_eq!(
        found.encoding,
        coding.and_then(ContentEncoding::from_header)
    );
    assert_eq!(found.set_cookie, header(head, "set-cookie").is_some());
    assert_eq!(found.location, header(head, "location").is_some());
    // The first one that says anything.
    let mut types = header_values(head, "content-type").filter(|value| !value.is_empty());
    assert_eq!(
        found.content_type.get(text),
        types.next().unwrap_or_default()
    );
}

/// Limits that just suffice change nothing (and take the careful way); one less refuses.
fn limits_are_exact(found: &ResponseHead, text: &[u8], head_request: bool, limits: &Limits) {
    let head = &text[..found.head_len];
    let blank = head
        .iter()
        .position(|byte| !b"\r\n".contains(byte))
        .unwrap();
    let lines = lines(head);
    let fields = &lines[1..lines.len() - 1];
    let field_size = |line: &&[u8]| {
        let name = line.iter().position(|&byte| byte == b':').unwrap();
        // The colon does not count; a name alone may be as long as a whole field.
        (line.len() - 1).saturating_sub(1).max(name)
    };
    let tight = Limits {
        max_line_size: reason(head).len().max(blank),
        max_field_size: fields.iter().map(field_size).max().unwrap_or(0),
        max_headers: fields.len(),
    };
    assert!(tight.max_line_size <= limits.max_line_size);
    assert!(tight.max_field_size <= limits.max_field_size);
    assert!(tight.max_headers <= limits.max_headers);
    let parse = |limits: Limits| parse_head(text, head_request, &limits);
    assert_eq!(parse(tight).unwrap(), Some(*found));
    if let Some(max_line_size) = tight.max_line_size.checked_sub(1) {
        assert!(
            parse(Limits {
                max_line_size,
                ..tight
            })
            .is_err()
        );
    }
    if let Some(max_field_size) = tight.max_field_size.checked_sub(1) {
        assert!(
            parse(Limits {
                max_field_size,
                ..tight
            })
            .is_err()
        );
    }
    if let Some(max_headers) = tight.max_headers.checked_sub(1) {
        assert!(
            parse(Limits {
                max_headers,
                ..tight
            })
            .is_err()
        );
    }
}

/// The cache gives what the parser gives, whatever comes after the head.
fn is_remembered(found: &ResponseHead, text: &[u8], head_request: bool, limits: &Limits) {
    let mut cache = HeadCache::default();
    let again = [&text[..found.head_len], b"HTTP/1.1 200 OK\r\n\r\n"].concat();
    for bytes in [text, &again, text] {
        assert_eq!(
            cache.parse(bytes, head_request, limits).unwrap(),
            Some(*found)
        );
    }
    let other = cache.parse(&again, !head_request, limits);
    let parsed = codec::parse_head(&again, !head_request, limits);
    assert_eq!(other.unwrap(), parsed.unwrap());
}

/// Written anew from its parts it means the same.
fn comes_back(found: &ResponseHead, head: &[u8], head_request: bool) {
    let start = format!("HTTP/1.{} {:03} ", found.minor_version, found.status);
    let mut text = start.into_bytes();
    text.extend_from_slice(reason(head));
    text.extend_from_slice(b"\r\n");
    for (name, value) in headers(head) {
        text.extend([name, b": ", value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    let unlimited = Limits {
        max_line_size: usize::MAX / 4,
        max_field_size: usize::MAX / 4,
        max_headers: usize::MAX / 4,
    };
    let again = parse_head(&text, head_request, &unlimited)
        .unwrap()
        .unwrap();
    let same = ResponseHead {
        head_len: again.head_len,
        content_type: again.content_type,
        ..*found
    };
    assert_eq!(again, same);
    assert_eq!(again.head_len, text.len());
    assert_eq!(reason(&text), reason(head));
    assert_eq!(headers(&text), headers(head));
}
