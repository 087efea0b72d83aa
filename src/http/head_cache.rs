//! Response heads that come again byte for byte are parsed once.
//!
//! Under load a server answers the same URL with the same head over and over: until its `Date` moves on, every
//! byte is equal. One comparison then replaces the parser. Owns nothing of the parser's rules: what is remembered
//! was parsed by [`codec::parse_head`] from the very same bytes. One for each URL, kept by the session.

use super::codec::{self, Limits, ResponseHead};
use super::error::Error;

/// Longer heads are not remembered: a URL may be one of thousands.
const LONGEST_REMEMBERED_BYTES: usize = 1024;

/// The last head that was parsed.
#[derive(Debug, Default)]
pub struct HeadCache {
    bytes: Vec<u8>,
    parsed: Option<(ResponseHead, bool, Limits)>,
}

impl HeadCache {
    /// As [`codec::parse_head`], and the same for the same arguments.
    ///
    /// # Errors
    /// Those of [`codec::parse_head`].
    #[inline]
    pub fn parse(
        &mut self,
        buffer: &[u8],
        head_request: bool,
        limits: &Limits,
    ) -> Result<Option<ResponseHead>, Error> {
        if let Some((head, asked, under)) = &self.parsed
            && *asked == head_request
            && under == limits
            && buffer.starts_with(&self.bytes)
        {
            return Ok(Some(*head));
        }
        let parsed = codec::parse_head(buffer, head_request, limits)?;
        if let Some(head) = parsed {
            self.remember(buffer, head, head_request, limits);
        }
        Ok(parsed)
    }

    fn remember(&mut self, buffer: &[u8], head: ResponseHead, head_request: bool, limits: &Limits) {
        let bytes = buffer.get(..head.head_len).unwrap_or_default();
        self.parsed = None;
        if bytes.len() <= LONGEST_REMEMBERED_BYTES {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
            self.parsed = Some((head, head_request, *limits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok";
    const MOVED: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";

    fn both(cache: &mut HeadCache, buffer: &[u8], head_request: bool, limits: &Limits) {
        let expected = codec::parse_head(buffer, head_request, limits);
        let found = cache.parse(buffer, head_request, limits);
        match (expected, found) {
            (Ok(expected), Ok(found)) => assert_eq!(expected, found),
            (Err(expected), Err(found)) => assert_eq!(expected.to_string(), found.to_string()),
            (expected, found) => panic!("{expected:?} is not {found:?}"),
        }
    }

    #[test]
    fn a_head_is_the_same_again_and_with_another_body() {
        let mut cache = HeadCache::default();
        let limits = Limits::default();
        for _ in 0..3 {
            both(&mut cache, PLAIN, false, &limits);
        }
        let other = [&PLAIN[..PLAIN.len() - 2], b"no, and more"].concat();
        both(&mut cache, &other, false, &limits);
        both(&mut cache, &PLAIN[..20], false, &limits);
        both(&mut cache, MOVED, false, &limits);
        both(&mut cache, PLAIN, false, &limits);
    }

    #[test]
    fn what_a_head_means_depends_on_the_request_and_the_limits() {
        let mut cache = HeadCache::default();
        both(&mut cache, PLAIN, false, &Limits::default());
        both(&mut cache, PLAIN, true, &Limits::default());
        both(&mut cache, PLAIN, false, &Limits::default());
        let strict = Limits {
            max_headers: 1,
            ..Limits::default()
        };
        both(&mut cache, PLAIN, false, &strict);
    }

    #[test]
    fn a_long_head_is_not_remembered() {
        let mut cache = HeadCache::default();
        let long = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
            "x".repeat(LONGEST_REMEMBERED_BYTES)
        );
        both(&mut cache, PLAIN, false, &Limits::default());
        both(&mut cache, long.as_bytes(), false, &Limits::default());
        assert!(cache.parsed.is_none());
        both(&mut cache, PLAIN, false, &Limits::default());
    }

    proptest! {
        #[test]
        fn it_never_differs_from_the_parser(
            choices in prop::collection::vec((0_usize..3, 0_usize..80, any::<bool>(), any::<u8>()), 1..12)
        ) {
            let mut cache = HeadCache::default();
            for (which, cut, head_request, byte) in choices {
                let mut buffer = match which { 0 => PLAIN.to_vec(), 1 => MOVED.to_vec(), _ => PLAIN.to_vec() };
                if which == 2 {
                    let place = cut % buffer.len();
                    buffer[place] = byte;
                } else {
                    buffer.truncate(cut.max(1));
                }
                both(&mut cache, &buffer, head_request, &Limits::default());
            }
        }
    }
}
