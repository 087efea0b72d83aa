//! A URL taken apart into what a connection and a request line need.
//!
//! Owns two ways in. [`parse_simple`] takes a URL from a script, but only when yarl would keep it byte for
//! byte, so that nobody has to ask yarl. [`parse_encoded`] takes what yarl has already normalised. Neither
//! normalises anything itself. Called by the session.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::Error;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether the scheme is https (or wss).
    pub tls: bool,
    /// Lower-case host without brackets.
    pub host: String,
    /// Port, explicit or the scheme's.
    pub port: u16,
    /// The `Host` header: brackets around IPv6, no default port, no final dot.
    pub authority: String,
    /// The request target: path and query, at least `/`.
    pub path_and_query: String,
    /// User and password, still encoded, as in `user:password`.
    pub userinfo: Option<String>,
}

impl Target {
    fn new(tls: bool, host: &str, port: u16, path_and_query: &str, userinfo: Option<&str>) -> Self {
        let named = host.strip_suffix('.').unwrap_or(host);
        let mut authority = String::with_capacity(named.len() + 8);
        if named.contains(':') {
            authority.push('[');
            authority.push_str(named);
            authority.push(']');
        } else {
            authority.push_str(named);
        }
        if port != default_port(tls) {
            authority.push(':');
            authority.push_str(&port.to_string());
        }
        Self {
            tls,
            host: host.to_owned(),
            port,
            authority,
            path_and_query: path_and_query.to_owned(),
            userinfo: userinfo.map(str::to_owned),
        }
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// Whether the host is an address rather than a name.
    pub fn is_ip(&self) -> bool {
        is_ip(&self.host)
    }
}

/// Whether `host` is an IPv4 or IPv6 address.
pub fn is_ip(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok()
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Takes apart a URL that yarl would leave as it is; `None` for every other one, valid or not.
///
/// "As it is" means that `str(URL(url)) == url`, too, unless the path is empty.
pub fn parse_simple(url: &str) -> Option<Target> {
    let (tls, rest) = if let Some(rest) = url.strip_prefix("http://") {
        (false, rest)
    } else {
        (true, url.strip_prefix("https://")?)
    };
    let authority_end = rest.find('/')?;
    let (authority, path_and_query) = rest.split_at_checked(authority_end)?;
    let (host, port) = match authority.split_once(':') {
        None => (authority, default_port(tls)),
        Some((host, digits)) => {
            let port = parse_port(digits)?;
            // yarl drops the default port and zeros in front.
            if port == default_port(tls) || port == 0 || digits.starts_with('0') {
                return None;
            }
            (host, port)
        }
    };
    if !is_possible_host(host) || host.ends_with('.') || !host.bytes().all(is_plain_host) {
        return None;
    }
    if !path_and_query.bytes().all(is_plain_path) {
        return None;
    }
    let (path, query) = match path_and_query.split_once('?') {
        None => (path_and_query, None),
        Some((path, query)) => (path, Some(query)),
    };
    if query == Some("")
        || path
            .split('/')
            .any(|segment| segment == "." || segment == "..")
    {
        return None;
    }
    Some(Target::new(tls, host, port, path_and_query, None))
}

/// Takes apart an absolute http, https, ws or wss URL that is already encoded and normalised.
///
/// # Errors
/// [`Error::InvalidUrl`] with the URL when it is not one.
pub fn parse_encoded(url: &str) -> Result<Target, Error> {
    parse(url).ok_or_else(|| Error::InvalidUrl(url.to_owned()))
}

fn parse(url: &str) -> Option<Target> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return None,
    };
    let rest = rest.split('#').next()?;
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at_checked(authority_end)?;
    let (userinfo, host_and_port) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((userinfo, rest)) => (Some(userinfo), rest),
    };
    let (host, port) = if let Some(bracketed) = host_and_port.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        (host, port)
    } else {
        host_and_port.split_at_checked(host_and_port.find(':').unwrap_or(host_and_port.len()))?
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port(tls),
        None => return None,
        Some("") => default_port(tls),
        Some(digits) => parse_port(digits)?,
    };
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_possible_host(host) || !printable(host) || !printable(path_and_query) {
        return None;
    }
    let host = host.to_ascii_lowercase();
    Some(match path_and_query {
        "" => Target::new(tls, &host, port, "/", userinfo),
        query if query.starts_with('?') => {
            Target::new(tls, &host, port, &format!("/{query}"), userinfo)
        }
        path => Target::new(tls, &host, port, path, userinfo),
    })
}

/// Whether a name of these lengths can exist (RFC 1035 section 2.3.4): labels of 1 to 63 bytes, 253 in all.
///
/// Addresses pass. A final dot is the root's.
fn is_possible_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let fits = |label: &str| (1..=63).contains(&label.len());
    name.len() <= 253 && name.split('.').all(fits)
}

fn parse_port(digits: &str) -> Option<u16> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// Bytes of a host name that mean nothing else and are kept.
const fn is_plain_host(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_')
}

/// Bytes of a path or query that yarl 1.25 neither encodes nor decodes.
const fn is_plain_path(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\''
        | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/' | b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_urls_need_nobody() {
        let target = parse_simple("http://localhost:8888/v1/x;y?a=b&c=@:").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.tls),
            ("localhost", 8888, false)
        );
        assert_eq!(target.authority, "localhost:8888");
        assert_eq!(target.path_and_query, "/v1/x;y?a=b&c=@:");
        assert_eq!(target.path(), "/v1/x;y");
        let target = parse_simple("https://a-b.example.org/.well-known/..x").unwrap();
        assert_eq!((target.port, target.tls), (443, true));
        assert_eq!(target.authority, "a-b.example.org");
        assert!(parse_simple("http://127.0.0.1/").unwrap().is_ip());
    }

    #[test]
    fn what_yarl_would_change_is_left_to_it() {
        for url in [
            "",
            "/path",
            "http:/h/",
            "ftp://h/",
            "HTTP://h/",
            "http://H/",
            "http://h",
            "http://h?x",
            "http://h:80/",
            "https://h:443/",
            "http://h:08080/",
            "http://h:/",
            "http://h:0/",
            "http://h:+1/",
            "http://h:99999/",
            "http://h./",
            "http:///",
            "http://:80/",
            "http://[::1]/",
            "http://user@h/",
            "http://user:secret@h/",
            "http://h/?",
            "http://h/a#",
            "http://h/a#b",
            "http://h/./a",
            "http://h/a/.",
            "http://h/a/../b",
            "http://h/..",
            "http://h/a b",
            "http://h/a%20b",
            "http://h/\u{e9}",
            "http://b\u{fc}cher.de/",
            "http://h/a?b=\"",
            "http://h/a|b",
            "http://h/[a]",
            "http://h/a\\b",
            "http://h/\n",
            "http://h\\x/",
        ] {
            assert_eq!(parse_simple(url), None, "{url:?}");
        }
        for byte in "\"#%<>[\\]^`{|} \0\x7f".chars() {
            assert_eq!(parse_simple(&format!("http://h/a{byte}b")), None);
        }
    }

    #[test]
    fn names_that_cannot_exist_are_refused() {
        for host in ["a..b", ".a", "a..", &"a".repeat(64), &"ab.".repeat(85)] {
            assert_eq!(parse_simple(&format!("http://{host}/")), None);
            assert!(parse_encoded(&format!("http://{host}/")).is_err());
        }
        for host in ["a.b.", &"a".repeat(63), "[2001:db8::1]", "127.0.0.1"] {
            assert!(parse_encoded(&format!("http://{host}/")).is_ok());
        }
    }

    #[test]
    fn encoded_urls_may_have_everything() {
        let target =
            parse_encoded("https://us%40er:p%3A@[2001:db8::1]:8443/a%20b?c=%26#frag").unwrap();
        assert_eq!(target.userinfo.as_deref(), Some("us%40er:p%3A"));
        assert_eq!((target.host.as_str(), target.port), ("2001:db8::1", 8443));
        assert_eq!(target.authority, "[2001:db8::1]:8443");
        assert_eq!(target.path_and_query, "/a%20b?c=%26");
        assert!(target.is_ip());
        assert_eq!(parse_encoded("http://h").unwrap().path_and_query, "/");
        assert_eq!(parse_encoded("http://h?a").unwrap().path_and_query, "/?a");
        assert_eq!(parse_encoded("http://h:80/").unwrap().authority, "h");
        assert_eq!(parse_encoded("wss://h.:444/").unwrap().authority, "h:444");
        for url in [
            "h",
            "http://",
            "http:///a",
            "ftp://h/",
            "http://h:x/",
            "http://[::1/",
            "http://[::1]x/",
        ] {
            assert!(matches!(parse_encoded(url), Err(Error::InvalidUrl(text)) if text == url));
        }
        assert!(parse_encoded("http://h/a b").is_err());
        assert!(parse_encoded("http://h/a\r\nb").is_err());
    }
}
