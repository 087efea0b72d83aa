//! The cookie jar of one session.
//!
//! Owns which cookies are kept, for how long, and which go with a request: RFC 6265 as aiohttp's `CookieJar`
//! does it, its bounds included. Cookies from hosts that are addresses are refused unless the jar is made
//! `unsafe`. Takes the time as an argument. `set_cookie` has the text forms. Called by the session, for
//! responses with a `Set-Cookie` and for requests once there are cookies.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    set_cookie::{self, SetCookie},
    target::is_ip,
};

/// Bounds against servers that never stop: when the first of a pair is reached, the least recently used
/// cookies go until there are no more than the second.
const PER_DOMAIN: (usize, usize) = (180, 150);
const IN_TOTAL: (usize, usize) = (3300, 3000);

/// Cookies that one response may set; more are ignored.
const MAX_COOKIES_PER_RESPONSE: usize = 50;

/// Bounds of one request.
const MAX_COOKIES_PER_REQUEST: usize = 150;
const MAX_HEADER_BYTES: usize = 8190;

/// The latest moment that Python's `datetime` knows, in seconds since 1970.
const END_OF_TIME: i64 = 253_402_300_798;

/// One cookie in the jar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Name.
    pub name: String,
    /// Value without quotes and escapes.
    pub value: String,
    /// Value as the server or the script wrote it.
    pub coded_value: String,
    /// The domain it belongs to; empty: every host.
    pub domain: String,
    /// Its path attribute, or the default path of the response that set it.
    pub path: String,
    /// Whether only exactly [`domain`](Self::domain) gets it.
    pub host_only: bool,
    /// Whether only encrypted connections carry it.
    pub secure: bool,
    /// Further attributes as received, by lower-case name; flags have an empty value.
    pub attributes: Vec<(&'static str, String)>,
    /// Seconds since 1970 after which it is gone; `None`: the end of the session.
    pub deadline: Option<i64>,
    used: u64,
}

impl Cookie {
    /// The path as a key: without the final slash.
    fn path_key(&self) -> &str {
        self.path.trim_end_matches('/')
    }
}

/// The cookies of a session.
#[derive(Debug, Clone)]
pub struct CookieJar {
    cookies: Vec<Cookie>,
    accept_addresses: bool,
    quote: bool,
    generation: u64,
}

impl Default for CookieJar {
    fn default() -> Self {
        Self::new(false)
    }
}

impl CookieJar {
    /// An empty jar. `unsafe_` accepts cookies from hosts that are IP addresses.
    pub fn new(unsafe_: bool) -> Self {
        Self {
            cookies: Vec::new(),
            accept_addresses: unsafe_,
            quote: true,
            generation: 0,
        }
    }

    /// Whether values are quoted on their way out; a new jar does so, as aiohttp's.
    #[must_use]
    pub fn with_quoting(mut self, quote: bool) -> Self {
        self.quote = quote;
        self
    }

    /// Whether there is nothing to send or to show.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty()
    }

    /// The number of cookies, ones that have just expired included.
    pub fn len(&self) -> usize {
        self.cookies.len()
    }

    /// Whether cookies from addresses are accepted.
    pub fn is_unsafe(&self) -> bool {
        self.accept_addresses
    }

    /// Takes the value of one `Set-Cookie` that `host` sent in answer to a request for `path`.
    ///
    /// What is no acceptable cookie is ignored, and told by `false`. An empty `host` stands for no host in
    /// particular.
    pub fn update(&mut self, host: &str, path: &str, set_cookie: &str, now: SystemTime) -> bool {
        if !self.accept_addresses && is_ip(host) {
            return false;
        }
        let Some(received) = set_cookie::parse(set_cookie) else {
            return false;
        };
        // A domain with a final dot counts as none.
        let domain = received
            .attribute("domain")
            .filter(|domain| !domain.ends_with('.'));
        let domain = domain
            .map(|domain| domain.strip_prefix('.').unwrap_or(domain))
            .unwrap_or_default();
        if !domain.is_empty() && !host.is_empty() && !domain_matches(domain, host) {
            return true;
        }
        let host_only = domain.is_empty() && !host.is_empty();
        let now = seconds(now);
        let cookie = Cookie {
            value: set_cookie::unquote(&received.coded_value),
            domain: if host_only {
                host.to_owned()
            } else {
                domain.to_owned()
            },
            path: match received.attribute("path") {
                Some(path) if path.starts_with('/') => path.to_owned(),
                _ => default_path(path).to_owned(),
            },
            host_only,
            secure: received.flag("secure"),
            deadline: deadline(&received, now),
            name: received.name,
            coded_value: received.coded_value,
            attributes: received.attributes,
            used: 0,
        };
        self.store(cookie, now);
        true
    }

    /// Takes the `Set-Cookie` values of one response as they came: at most fifty cookies, as aiohttp does.
    pub fn update_from<'a>(
        &mut self,
        host: &str,
        path: &str,
        values: impl Iterator<Item = &'a [u8]>,
        now: SystemTime,
    ) {
        let mut left = MAX_COOKIES_PER_RESPONSE;
        for value in values {
            if left == 0 {
                return;
            }
            // Bytes that are no text matter in the name and the value only.
            let pair = value.split(|&byte| byte == b';').next();
            if std::str::from_utf8(pair.unwrap_or_default()).is_ok() {
                let text = String::from_utf8_lossy(value);
                left -= usize::from(self.update(host, path, &text, now));
            }
        }
    }

    /// Adds a cookie for every host, as the session's `cookies` argument does. `value` is sent as
    /// [`quote`](CookieJar::with_quoting) has it unless it is already in quotes.
    pub fn insert(&mut self, name: &str, value: &str) {
        let cookie = Cookie {
            name: name.to_owned(),
            value: set_cookie::unquote(value),
            coded_value: value.to_owned(),
            domain: String::new(),
            path: "/".to_owned(),
            host_only: false,
            secure: false,
            attributes: Vec::new(),
            deadline: None,
            used: 0,
        };
        self.store(cookie, i64::MIN);
    }

    /// The `Cookie` header for a request; `None` when no cookie goes with it. `path` is without query.
    ///
    /// Several cookies of one name send the most specific one; the order is that of the names, as with aiohttp.
    pub fn header_for(
        &mut self,
        host: &str,
        path: &str,
        secure: bool,
        now: SystemTime,
    ) -> Option<String> {
        if self.cookies.is_empty() {
            return None;
        }
        self.expire(seconds(now));
        let address = is_ip(host);
        // By specificity: domain, then path, then age. The order of the jar is the age.
        let mut candidates: Vec<(usize, usize, usize)> = Vec::new();
        for (index, cookie) in self.cookies.iter().enumerate() {
            let fits = if cookie.domain.is_empty() && cookie.path_key().is_empty() {
                true
            } else {
                let host_fits = if address {
                    self.accept_addresses && cookie.domain == host
                } else {
                    domain_matches(&cookie.domain, host)
                };
                host_fits
                    && (!cookie.host_only || cookie.domain == host)
                    && path_matches(cookie.path_key(), path)
                    && cookie.path.len() <= path.len()
            };
            if fits && (secure || !cookie.secure) {
                candidates.push((cookie.domain.len(), cookie.path_key().len(), index));
            }
        }
        candidates.sort_unstable();
        let mut bytes = 0;
        let mut chosen: Vec<(usize, String)> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        // From the most specific one, so that these are kept where there are too many.
        for &(_, _, index) in candidates.iter().rev() {
            let Some(cookie) = self.cookies.get(index) else {
                continue;
            };
            if chosen.len() == MAX_COOKIES_PER_REQUEST || names.contains(&cookie.name.as_str()) {
                continue;
            }
            names.push(&cookie.name);
            let mut text = format!("{}=", cookie.name);
            if self.quote && !cookie.coded_value.starts_with('"') {
                text.push_str(&set_cookie::quote(&cookie.value));
            } else {
                text.push_str(if self.quote {
                    &cookie.coded_value
                } else {
                    &cookie.value
                });
            }
            // "Cookie: " in front of the first, "; " in front of the others.
            let added = text.len() + if chosen.is_empty() { 8 } else { 2 };
            if bytes + added > MAX_HEADER_BYTES {
                continue;
            }
            bytes += added;
            chosen.push((index, text));
        }
        self.generation += 1;
        for (index, _) in &chosen {
            if let Some(cookie) = self.cookies.get_mut(*index) {
                cookie.used = self.generation;
            }
        }
        let mut texts: Vec<&str> = chosen.iter().map(|(_, text)| text.as_str()).collect();
        // By name, not by the whole text: '=' would come before other bytes of a longer name.
        texts.sort_unstable_by_key(|text| text.split('=').next());
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// The cookies, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &Cookie> {
        self.cookies.iter()
    }

    /// Forgets the cookies that `keep` is false for.
    pub fn retain(&mut self, keep: impl FnMut(&Cookie) -> bool) {
        self.cookies.retain(keep);
    }

    /// Forgets every cookie.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// Forgets what has expired.
    pub fn expire_at(&mut self, now: SystemTime) {
        self.expire(seconds(now));
    }

    fn expire(&mut self, now: i64) {
        self.cookies
            .retain(|cookie| cookie.deadline.is_none_or(|deadline| deadline > now));
    }

    fn store(&mut self, mut cookie: Cookie, now: i64) {
        self.generation += 1;
        cookie.used = self.generation;
        let same = |other: &Cookie| {
            other.name == cookie.name
                && other.domain == cookie.domain
                && other.path_key() == cookie.path_key()
        };
        let expired = cookie.deadline.is_some_and(|deadline| deadline <= now);
        match self.cookies.iter().position(same) {
            Some(index) if expired => {
                self.cookies.remove(index);
            }
            Some(index) => {
                if let Some(slot) = self.cookies.get_mut(index) {
                    *slot = cookie;
                }
            }
            None if expired => {}
            None => {
                if self.make_room(&cookie, now) {
                    self.cookies.push(cookie);
                }
            }
        }
    }

    /// Evicts what has to go for `cookie`; `false` when it is the cookie itself that cannot stay.
    fn make_room(&mut self, cookie: &Cookie, now: i64) -> bool {
        let siblings = |jar: &Self| {
            jar.cookies
                .iter()
                .filter(|other| other.domain == cookie.domain)
                .count()
        };
        if self.cookies.len() < IN_TOTAL.0 && siblings(self) < PER_DOMAIN.0 {
            return true;
        }
        self.expire(now);
        let count = siblings(self);
        if count >= PER_DOMAIN.0 {
            // Encrypted sites' cookies only make room for their own kind.
            let victims_secure = self
                .cookies
                .iter()
                .all(|other| other.secure || other.domain != cookie.domain);
            if victims_secure && !cookie.secure {
                return false;
            }
            self.evict(count + 1 - PER_DOMAIN.1, |other| {
                other.domain == cookie.domain && other.secure == victims_secure
            });
        }
        let excess = self.cookies.len().saturating_sub(IN_TOTAL.1);
        if self.cookies.len() >= IN_TOTAL.0 {
            self.evict(excess, |_| true);
        }
        true
    }

    /// Forgets the `count` least recently used cookies among the eligible ones.
    fn evict(&mut self, count: usize, eligible: impl Fn(&Cookie) -> bool) {
        let mut ages: Vec<u64> = self
            .cookies
            .iter()
            .filter(|cookie| eligible(cookie))
            .map(|cookie| cookie.used)
            .collect();
        ages.sort_unstable();
        if let Some(&youngest) = ages.get(count.min(ages.len()).saturating_sub(1)) {
            self.cookies
                .retain(|cookie| !eligible(cookie) || cookie.used > youngest);
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// When a cookie ends: `Max-Age` before `Expires`, nonsense ignored.
fn deadline(received: &SetCookie, now: i64) -> Option<i64> {
    if let Some(text) = received.attribute("max-age") {
        let text = text.trim();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // Longer numbers than fit are as good as forever.
        let age: i64 = if text.starts_with('-') {
            0
        } else {
            digits.parse().unwrap_or(i64::MAX)
        };
        return Some(if age == 0 {
            0
        } else {
            now.saturating_add(age).min(END_OF_TIME)
        });
    }
    // aiohttp takes the very first second of 1970 for no date.
    set_cookie::parse_date(received.attribute("expires")?).filter(|&date| date != 0)
}

/// Whether a cookie of `domain` is for `host` (RFC 6265 section 5.1.3).
fn domain_matches(domain: &str, host: &str) -> bool {
    match host.strip_suffix(domain) {
        Some("") => true,
        Some(rest) => rest.ends_with('.') && !domain.is_empty() && !is_ip(host),
        None => false,
    }
}

/// Whether a request for `path` is below `prefix`, which has no final slash (section 5.1.4).
fn path_matches(prefix: &str, path: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// The path of a cookie without one: the response's up to its last slash.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(end) if end > 0 && path.starts_with('/') => path.get(..end).unwrap_or("/"),
        _ => "/",
    }
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;
