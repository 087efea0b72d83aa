//! The text forms of cookies: `Set-Cookie` values, quoting and dates.
//!
//! Owns parsing as aiohttp's parser does it (more tolerant of names than RFC 6265, quoted values may hold
//! semicolons, any attribute that makes no sense is ignored) and the bounds on what a server may send.
//! Which cookies are kept and sent is `cookie`'s business, the only caller.

/// Most bytes of a name and its value together.
const MAX_PAIR_BYTES: usize = 4096;

/// Most bytes of one attribute's value.
const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// Most attributes of a cookie that are looked at.
const MAX_ATTRIBUTES: usize = 32;

/// One `Set-Cookie`, as received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SetCookie {
    pub(super) name: String,
    /// The value as the server wrote it, quotes included.
    pub(super) coded_value: String,
    /// Known attributes by lower-case name; flags have no value. Later ones replace earlier ones.
    pub(super) attributes: Vec<(&'static str, String)>,
}

impl SetCookie {
    /// The value of an attribute; `None` when absent or empty.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(known, _)| *known == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Whether a flag is set.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.attributes.iter().any(|(known, _)| *known == name)
    }

    fn set(&mut self, name: &'static str, value: String) {
        if let Some(slot) = self.attributes.iter_mut().find(|(known, _)| *known == name) {
            slot.1 = value;
        } else {
            self.attributes.push((name, value));
        }
    }
}

/// Reads one `Set-Cookie` value; `None` for what is no cookie.
pub(super) fn parse(header: &str) -> Option<SetCookie> {
    if header.bytes().any(|byte| byte != b'\t' && is_control(byte)) {
        return None;
    }
    let (pair, attributes) = header.split_once(';').unwrap_or((header, ""));
    let (name, coded_value, attributes) = match quoted_pair(header) {
        Some(parts) if pair.contains('"') => parts,
        _ => {
            let (name, value) = pair.split_once('=')?;
            (name, value, attributes)
        }
    };
    let is_blank: &[char] = &[' ', '\t'];
    let (name, coded_value) = (
        name.trim_matches(is_blank),
        coded_value.trim_matches(is_blank),
    );
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        return None;
    }
    if name.len() + coded_value.len() > MAX_PAIR_BYTES
        || unquote(coded_value).bytes().any(is_control)
    {
        return None;
    }
    let mut cookie = SetCookie {
        name: name.to_owned(),
        coded_value: coded_value.to_owned(),
        attributes: Vec::new(),
    };
    apply_attributes(&mut cookie, attributes);
    Some(cookie)
}

/// A first pair whose quoted value may contain semicolons: name, value with quotes, and what follows.
fn quoted_pair(header: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = header.split_once('=')?;
    let rest = rest.trim_start();
    let end = quoted_length(rest)?;
    let (value, tail) = rest.split_at_checked(end)?;
    let tail = tail.trim_start_matches([' ', '\t']);
    if tail.is_empty() {
        return Some((name, value, ""));
    }
    Some((name, value, tail.strip_prefix(';')?))
}

/// The length of the quoted string that `text` starts with.
fn quoted_length(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    if bytes.next()?.1 != b'"' {
        return None;
    }
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next()?;
            }
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn apply_attributes(cookie: &mut SetCookie, mut text: &str) {
    for _ in 0..MAX_ATTRIBUTES {
        text = text.trim_start_matches(|byte: char| byte == ';' || byte.is_ascii_whitespace());
        if text.is_empty() {
            return;
        }
        let name_end = text.find(['=', ';', ' ', '\t']).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(name_end).unwrap_or((text, ""));
        let known = known_attribute(name);
        let (value, rest) = match rest.trim_start_matches([' ', '\t']).strip_prefix('=') {
            // Only dates have spaces inside; elsewhere a space ends the value, semicolon or not.
            Some(rest) => split_value(
                rest.trim_start_matches([' ', '\t']),
                known == Some("expires"),
            ),
            None => ("", rest),
        };
        text = rest;
        match known {
            Some(flag @ ("secure" | "httponly" | "partitioned")) => cookie.set(flag, String::new()),
            Some(known) if value.len() <= MAX_ATTRIBUTE_BYTES => {
                let value = unquote(value);
                if !value.bytes().any(is_control) {
                    cookie.set(known, value);
                }
            }
            _ => {}
        }
    }
}

fn split_value(text: &str, whole: bool) -> (&str, &str) {
    let end = quoted_length(text).unwrap_or_else(|| {
        if whole {
            text.find(';').unwrap_or(text.len())
        } else {
            text.find([';', ' ', '\t']).unwrap_or(text.len())
        }
    });
    let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    (value.trim_end(), rest)
}

fn known_attribute(name: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] = [
        "path",
        "domain",
        "max-age",
        "expires",
        "secure",
        "httponly",
        "samesite",
        "partitioned",
        "version",
        "comment",
    ];
    KNOWN
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known))
}

const fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

const fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

/// A value without its quotes and escapes; unquoted ones as they are.
pub(super) fn unquote(coded: &str) -> String {
    let Some(inner) = coded
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return coded.to_owned();
    };
    let mut value = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            value.push(letter);
            continue;
        }
        let octal = rest.as_str().get(..3).filter(|digits| {
            digits.starts_with(['0', '1', '2', '3'])
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'))
        });
        if let Some(code) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            value.push(char::from(code));
            rest.nth(2);
        } else {
            // A single backslash at the end stays.
            value.push(rest.next().unwrap_or('\\'));
        }
    }
    value
}

/// A value as `http.cookies` writes it: in quotes unless it is a plain word.
pub(super) fn quote(value: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'
            )
            || matches!(byte, b'_' | b'`' | b'|' | b'~' | b':')
    };
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    let mut coded = String::with_capacity(value.len() + 2);
    coded.push('"');
    for letter in value.chars() {
        match letter {
            '"' => coded.push_str("\\\""),
            '\\' => coded.push_str("\\\\"),
            ' ' | '(' | ')' | '/' | '<' | '=' | '>' | '?' | '@' | '[' | ']' | '{' | '}' => {
                coded.push(letter);
            }
            _ => match u8::try_from(letter) {
                Ok(byte) if !plain(byte) => {
                    for digit in [byte >> 6, byte >> 3 & 7, byte & 7] {
                        coded.push(char::from(b'0' + digit));
                    }
                    // The escape goes in front of its three digits.
                    coded.insert(coded.len() - 3, '\\');
                }
                _ => coded.push(letter),
            },
        }
    }
    coded.push('"');
    coded
}

/// Seconds since 1970 of a cookie date in any of its spellings (RFC 6265 section 5.1.1); `None` when it is none.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let is_delimiter =
        |letter: char| matches!(letter, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~');
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        if time.is_none() {
            time = parse_time(token);
            if time.is_some() {
                continue;
            }
        }
        if day.is_none() {
            day = leading_number(token, 1, 2);
            if day.is_some() {
                continue;
            }
        }
        if month.is_none() {
            month = parse_month(token);
            if month.is_some() {
                continue;
            }
        }
        if year.is_none() {
            year = leading_number(token, 2, 4);
        }
    }
    let ((hour, minute, second), day, month) = (time?, day?, month?);
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if !(1..=31).contains(&day) || year < 1601 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = hour * 3600 + minute * 60 + second;
    Some((days_since_1970(year, month) + day - 1) * 86_400 + seconds)
}

fn parse_time(token: &str) -> Option<(i64, i64, i64)> {
    let mut parts = token.splitn(3, ':');
    let whole =
        |part: &str| leading_number(part, 1, 2).filter(|_| part.len() <= 2 && is_digits(part));
    let (hour, minute) = (whole(parts.next()?)?, whole(parts.next()?)?);
    Some((hour, minute, leading_number(parts.next()?, 1, 2)?))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_month(token: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let start = token.get(..3)?;
    (1..)
        .zip(MONTHS)
        .find(|(_, name)| start.eq_ignore_ascii_case(name))
        .map(|(month, _)| month)
}

/// The number in front of `token`, of at least `least` digits, looking at `most` at the most.
fn leading_number(token: &str, least: usize, most: usize) -> Option<i64> {
    let count = token
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    if count < least {
        return None;
    }
    token.get(..count)?.parse().ok()
}

/// Days from 1970-01-01 to the first of `month` in the Gregorian calendar.
fn days_since_1970(year: i64, month: i64) -> i64 {
    // Years from March on, so that the leap day is the last one.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_their_spellings() {
        for (text, seconds) in [
            ("Wed, 09 Jun 2021 10:18:14 GMT", Some(1_623_233_894)),
            ("Wednesday, 09-Jun-21 10:18:14 GMT", Some(1_623_233_894)),
            ("Wed Jun  9 10:18:14 2021", Some(1_623_233_894)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800)),
            ("1 Jan 1601 0:0:0", Some(-11_644_473_600)),
            ("31 Dec 1600 0:0:0", None),
            ("Wed, 09 Jun 2021 25:18:14 GMT", None),
            ("Wed, 32 Jun 2021 10:18:14 GMT", None),
            ("Wed, 09 Foo 2021 10:18:14 GMT", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text), seconds, "{text}");
        }
    }

    #[test]
    fn values_are_quoted_as_python_does() {
        for (value, coded) in [
            ("", "\"\""),
            ("abc.-_!", "abc.-_!"),
            ("a b", "\"a b\""),
            ("a/b==", "\"a/b==\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("a,b;c", "\"a\\054b\\073c\""),
            ("\u{e9}", "\"\\351\""),
        ] {
            assert_eq!(quote(value), coded);
            assert_eq!(unquote(coded), value);
        }
        assert_eq!(unquote("\"a\\"), "\"a\\");
        assert_eq!(unquote("\""), "\"");
        assert_eq!(unquote("\"a\\400b\""), "a400b");
    }

    #[test]
    fn what_is_a_cookie() {
        let cookie =
            parse("a=b; Path=/x; Secure; HttpOnly; SameSite=Lax; Max-Age=5; foo=bar").unwrap();
        assert_eq!(
            (cookie.name.as_str(), cookie.coded_value.as_str()),
            ("a", "b")
        );
        assert_eq!(cookie.attribute("path"), Some("/x"));
        assert!(cookie.flag("secure") && cookie.flag("httponly"));
        assert_eq!(cookie.attribute("max-age"), Some("5"));
        assert_eq!(parse("a=").unwrap().coded_value, "");
        assert_eq!(parse("a=b=c").unwrap().coded_value, "b=c");
        assert_eq!(parse(" a =\tb ").unwrap().coded_value, "b");
        assert_eq!(parse("a=\"x;y\"; path=/").unwrap().coded_value, "\"x;y\"");
        assert_eq!(parse("a=\"x;y; path=/").unwrap().coded_value, "\"x");
        assert_eq!(parse("a=b; path=/ secure").unwrap().attributes.len(), 2);
        let dated = parse("a=b; Expires=Wed, 09 Jun 2021 10:18:14 GMT; path=/").unwrap();
        assert_eq!(
            dated.attribute("expires"),
            Some("Wed, 09 Jun 2021 10:18:14 GMT")
        );
        for text in [
            "",
            "a",
            "=b",
            "a\0=b",
            "a=b\n",
            "a,b=c",
            "a\"=b",
            "a=\"\\012\"",
            "; a=b",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&format!("a={}", "b".repeat(4096))), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_the_parser(text in "\\PC*", bytes in proptest::collection::vec(0_u8..128, 0..80)) {
            let _ = parse(&text);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let _ = (parse(&text), parse_date(&text), parse(&format!("a=b; {text}")));
        }

        #[test]
        fn quoting_and_back(value in "[ -\u{ff}]*") {
            proptest::prop_assert_eq!(unquote(&quote(&value)), value.clone());
        }
    }
}
