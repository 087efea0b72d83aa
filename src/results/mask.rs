//! Secrets that must not end up in a file.
//!
//! Owns what counts as one: passwords in URLs, values of options, parameters and headers whose names say so, and bearer
//! tokens. Errs on the side of masking. Called when the document is filled.

/// What stands for a secret.
const MASK: &str = "***";

/// A name that contains one of these belongs to a secret.
const WORDS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "credential",
    "authorization",
    "accesskey",
];

fn is_secret(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    plain == "auth" || plain == "pwd" || WORDS.iter().any(|word| plain.contains(word))
}

/// A command line without its secrets.
pub fn masked_command<S: AsRef<str>>(words: &[S]) -> Vec<String> {
    let mut masked = Vec::with_capacity(words.len());
    let mut value_follows = false;
    for word in words {
        let word = word.as_ref();
        let hides = value_follows && !word.starts_with('-');
        let is_bare_option = word.starts_with("--") && !word.contains('=');
        value_follows = is_bare_option && is_secret(word);
        masked.push(if hides {
            MASK.to_owned()
        } else {
            self::masked(word)
        });
    }
    masked
}

/// The value of an option, or nothing of it when the option's name says that it is a secret.
pub(super) fn masked_option(name: &str, value: &str) -> String {
    if is_secret(name) {
        MASK.to_owned()
    } else {
        masked(value)
    }
}

/// A text without its secrets.
pub fn masked(text: &str) -> String {
    let text = without_user_info(text);
    let text = without_bearer(&text);
    without_named_values(&text)
}

/// `scheme://user:password@host` becomes `scheme://***@host`.
fn without_user_info(text: &str) -> String {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '\'' | '"' | ')'))
            .unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str(MASK);
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The word after `Bearer` or `Basic`.
fn without_bearer(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = ["Bearer ", "bearer ", "Basic ", "basic "]
            .iter()
            .filter_map(|word| rest.find(word).map(|at| (at, word.len())))
            .min();
        let Some((at, length)) = found else {
            out.push_str(rest);
            return out;
        };
        let (before, after) = rest.split_at(at + length);
        out.push_str(before);
        let end = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/=".contains(c)))
            .unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        // "Basic usage" is no secret; what is long enough to be one is masked.
        out.push_str(if word.len() >= 8 { MASK } else { word });
        rest = after;
    }
}

/// `name=value` and `name: value` where the name says that the value is a secret.
fn without_named_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at);
        let quoted = before.ends_with(['\'', '"']);
        let named = before.trim_end_matches(['\'', '"']);
        let name = named
            .rfind(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
            .map_or(named, |at| {
                let width = named.get(at..).and_then(|rest| rest.chars().next());
                named
                    .get(at + width.map_or(1, char::len_utf8)..)
                    .unwrap_or_default()
            });
        let sign = after.get(..1).unwrap_or_default();
        let value = after.get(1..).unwrap_or_default();
        out.push_str(before);
        out.push_str(sign);
        rest = value;
        // A colon also ends words in prose and in `http:`; there the value is separated or named by a header.
        if !is_secret(name) || (sign == ":" && value.starts_with("//")) {
            continue;
        }
        let blanks = value.len() - value.trim_start_matches(' ').len();
        let (blank, value) = value.split_at(blanks);
        if value.is_empty() || value.starts_with(MASK) || (sign == "=" && blanks > 0 && !quoted) {
            continue;
        }
        out.push_str(blank);
        let (open, value) = match value.chars().next() {
            Some(quote @ ('\'' | '"')) => (Some(quote), value.get(1..).unwrap_or_default()),
            _ => (None, value),
        };
        let end = match open {
            Some(quote) => value.find(quote),
            None => value.find(|c: char| {
                c.is_whitespace() || matches!(c, '&' | ',' | ';' | ')' | '}' | '\'' | '"')
            }),
        }
        .unwrap_or(value.len());
        if let Some(quote) = open {
            out.push(quote);
        }
        out.push_str(MASK);
        rest = value.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_go() {
        for (text, expected) in [
            ("udp://user:pw@host:8125/x", "udp://***@host:8125/x"),
            (
                "http://h/?a=1&api_key=XYZ&b=2",
                "http://h/?a=1&api_key=***&b=2",
            ),
            ("--token=abc", "--token=***"),
            ("DB_PASSWORD=hunter2 make", "DB_PASSWORD=*** make"),
            (
                "Authorization: Bearer eyJhbGciOi.J9",
                "Authorization: *** ***",
            ),
            (
                "{'password': 'hunter2', 'a': 1}",
                "{'password': '***', 'a': 1}",
            ),
            (
                "connect to https://a:b@c failed",
                "connect to https://***@c failed",
            ),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_stays() {
        for text in [
            "loadtest.py",
            "--ramp-up=2m",
            "http://localhost:8080/products?page=2",
            "author: Tarek",
            "Basic usage: x",
            "assert token == expected",
            "p95<500ms for GET /x",
            "mail@example.org",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn the_word_after_a_secret_option_goes() {
        let command =
            masked_command(&["molotov", "--api-token", "abc", "-w", "2", "--secret", "-q"]);
        assert_eq!(
            command,
            ["molotov", "--api-token", "***", "-w", "2", "--secret", "-q"]
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", parts in "[a-z:/@=&'\" é]{0,40}") {
            let _ = masked(&text);
            let once = masked(&format!("{parts}token={parts}"));
            let _ = masked(&once);
        }
    }
}
