//! The name a request is grouped under: its method and its path with the identifiers taken out.
//!
//! Owns the rules of what looks like an identifier. Pure text in, text out; the recorder calls it for each new URL.

/// What an identifier in a path becomes.
const IDENTIFIER: &str = "{id}";

/// Segments shorter than this are never taken for random text: too many words look like it.
const LONG: usize = 16;

/// Writes `METHOD host/path` into `name` (cleared first), without query and fragment, identifiers as `{id}`.
///
/// A segment is an identifier when it is numeric (also a date, a version or an address), a UUID, at least eight
/// hexadecimal digits, or long and random-looking; a file extension behind it stays.
pub fn template(method: &str, host: &str, path: &str, name: &mut String) {
    name.clear();
    name.push_str(method);
    name.push(' ');
    name.push_str(host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    for (position, segment) in path.split('/').enumerate() {
        if position > 0 {
            name.push('/');
        }
        if is_identifier(segment) {
            name.push_str(IDENTIFIER);
            continue;
        }
        match segment.rsplit_once('.') {
            Some((stem, extension)) if is_extension(extension) && is_identifier(stem) => {
                name.push_str(IDENTIFIER);
                name.push('.');
                name.push_str(extension);
            }
            _ => name.push_str(segment),
        }
    }
}

fn is_extension(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn is_identifier(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    is_numeric(bytes) || is_uuid(bytes) || is_hexadecimal(bytes) || is_random(bytes)
}

fn is_numeric(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_digit)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"-._:,".contains(byte))
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(position, byte)| match position {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
}

fn is_hexadecimal(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"0x").unwrap_or(bytes);
    digits.len() >= 8 && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Long text that no person would write: letters and digits mixed up, capitals in the middle, hardly a vowel.
fn is_random(bytes: &[u8]) -> bool {
    if bytes.len() < LONG
        || !bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.=+~:%".contains(byte))
    {
        return false;
    }
    let count = |test: fn(&u8) -> bool| bytes.iter().filter(|byte| test(byte)).count();
    let pairs = |test: fn(&u8, &u8) -> bool| {
        bytes
            .windows(2)
            .filter(|pair| matches!(pair, [a, b] if test(a, b)))
            .count()
    };
    let letter_digit = pairs(|a, b| {
        a.is_ascii_alphabetic() && b.is_ascii_digit()
            || a.is_ascii_digit() && b.is_ascii_alphabetic()
    });
    if letter_digit >= 4 {
        return true;
    }
    // CamelCase has single capitals; random text has them in rows.
    let capitals_in_a_row = pairs(|a, b| a.is_ascii_uppercase() && b.is_ascii_uppercase());
    let into_capitals = pairs(|a, b| a.is_ascii_lowercase() && b.is_ascii_uppercase());
    if capitals_in_a_row >= 2 && into_capitals >= 3 {
        return true;
    }
    let letters = count(u8::is_ascii_alphabetic);
    let vowels = count(|byte| b"aeiouyAEIOUY".contains(byte));
    let consonants_in_a_row = bytes
        .split(|byte| !byte.is_ascii_alphabetic() || b"aeiouyAEIOUY".contains(byte))
        .map(<[u8]>::len)
        .max()
        .unwrap_or_default();
    letters >= LONG && (vowels * 4 < letters || consonants_in_a_row >= 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> String {
        let mut name = String::new();
        template("GET", "h:1", path, &mut name);
        name
    }

    #[test]
    fn identifiers_are_taken_out() {
        for (path, expected) in [
            ("/users/42", "/users/{id}"),
            ("/users/42/?page=7", "/users/{id}/"),
            ("/2024-02-29/report", "/{id}/report"),
            ("/a/0b6e8a10-5c5b-4a51-8f21-6a9ed0f6a2c4/b", "/a/{id}/b"),
            ("/A/0B6E8A10-5C5B-4A51-8F21-6A9ED0F6A2C4", "/A/{id}"),
            ("/commit/deadbeef", "/commit/{id}"),
            ("/o/0xdeadbeef01", "/o/{id}"),
            ("/img/3f9a8b7c1d.png#x", "/img/{id}.png"),
            ("/token/eyJhbGciOiJIUzI1NiJ9", "/token/{id}"),
            ("/token/kQxWzRTvBnMpLsDf", "/token/{id}"),
            ("/c/xkqzvbnmtrwpsdfg", "/c/{id}"),
            ("/s/a8Kd02jLq91MzP4x", "/s/{id}"),
        ] {
            assert_eq!(name(path), format!("GET h:1{expected}"), "{path}");
        }
    }

    #[test]
    fn words_stay() {
        for path in [
            "",
            "/",
            "/v1/",
            "/v1/buckets/default/collections/tasks/records",
            "/api/v2.1/getUserAccountSettingsById",
            "/feed/deadbee",
            "/internationalization/workflow-definitions",
            "/ec2-user-data-v1-beta2/catchphrase",
            "/static/app.min.js",
            "/__heartbeat__",
            "/caf%C3%A9/été",
        ] {
            assert_eq!(name(path), format!("GET h:1{path}"));
        }
    }
}
