//! The request head, written once into the connection's buffer.
//!
//! Owns the refusal of anything that would let a value start a new line or a new request. Which headers go
//! out, and in which order, is the session's business.

use super::error::Error;

/// The refusal of a header, in the words aiohttp's `ValueError` has.
const INJECTION: &str = "Newline, carriage return, or null byte detected in headers. Potential header injection attack.";

/// Appends a request line and its headers, empty line included, to `out`.
///
/// Names and values go out as they are: case, order, repetition. Nothing is added.
///
/// # Errors
/// [`Error::InvalidHeader`] for a CR, LF or NUL anywhere, or a method or target that is empty or has spaces;
/// `out` is then as it was.
#[inline]
pub fn write_head<'a>(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), Error> {
    let start = out.len();
    if !is_word(method.as_bytes()) || !is_word(target.as_bytes()) {
        return Err(refuse(
            out,
            start,
            "Method and target cannot be empty or contain spaces.",
        ));
    }
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        if let Err(error) = write_header(out, name, value) {
            out.truncate(start);
            return Err(error);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends one header line.
///
/// # Errors
/// [`Error::InvalidHeader`] for an empty name, or a CR, LF or NUL anywhere; nothing is appended then.
#[inline]
pub fn write_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Error> {
    if name.is_empty() || splits(name) || splits(value) {
        return Err(Error::InvalidHeader(INJECTION.to_owned()));
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[inline]
fn splits(text: &[u8]) -> bool {
    // No early exit: the compiler turns this into a few vector comparisons.
    text.iter().fold(false, |found, &byte| {
        found | matches!(byte, b'\r' | b'\n' | 0)
    })
}

#[inline]
fn is_word(text: &[u8]) -> bool {
    !text.is_empty()
        && !text.iter().fold(false, |found, &byte| {
            found | matches!(byte, 0..=b' ' | 0x7f)
        })
}

#[cold]
fn refuse(out: &mut Vec<u8>, length: usize, message: &str) -> Error {
    out.truncate(length);
    Error::InvalidHeader(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, target: &str, headers: &[(&[u8], &[u8])]) -> Result<Vec<u8>, Error> {
        let mut out = b"before".to_vec();
        write_head(&mut out, method, target, headers.iter().copied()).inspect_err(|_| {
            assert_eq!(out, b"before");
        })?;
        Ok(out)
    }

    #[test]
    fn a_head_keeps_order_and_case() {
        let out = head(
            "GET",
            "/a?b",
            &[(b"hOST", b"h"), (b"X", b""), (b"x", b"\xe9")],
        )
        .unwrap();
        assert_eq!(
            out,
            b"beforeGET /a?b HTTP/1.1\r\nhOST: h\r\nX: \r\nx: \xe9\r\n\r\n"
        );
    }

    #[test]
    fn nothing_starts_another_line() {
        for bad in [b"a\rb".as_slice(), b"a\nb", b"\0"] {
            assert!(matches!(
                head("GET", "/", &[(b"X", bad)]),
                Err(Error::InvalidHeader(_))
            ));
            assert!(matches!(
                head("GET", "/", &[(bad, b"x")]),
                Err(Error::InvalidHeader(_))
            ));
        }
        for bad in ["", "a b", "a\nb", "a\r\nb", "a\0", "\t"] {
            assert!(matches!(head(bad, "/", &[]), Err(Error::InvalidHeader(_))));
            assert!(matches!(
                head("GET", bad, &[]),
                Err(Error::InvalidHeader(_))
            ));
        }
        assert!(head("GET", "/", &[(b"", b"x")]).is_err());
    }
}
