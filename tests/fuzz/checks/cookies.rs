//! The cookie jar: cookies go only where they belong, within bounds, and never start another header line.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use molotov::http::cookie::{Cookie, CookieJar};

use super::pieces::options;

/// A request's bounds, and the jar's.
const MAX_HEADER_BYTES: usize = 8190;
const MAX_COOKIES_PER_REQUEST: usize = 150;
const MAX_PER_DOMAIN: usize = 180;
const MAX_IN_TOTAL: usize = 3300;

pub(super) fn check(input: &[u8]) {
    let ([flags, later], text) = options(input);
    let text = String::from_utf8_lossy(text);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let quoting = flags & 2 == 0;
    let mut jar = CookieJar::new(flags & 1 != 0).with_quoting(quoting);
    // One response in each line: host, path and the cookie, with tabs between.
    let mut places = vec![
        ("example.com", "/"),
        ("www.example.com", "/a/b"),
        ("127.0.0.1", "/"),
    ];
    for line in text.split('\n') {
        let mut parts = line.splitn(3, '\t');
        let (Some(host), Some(path), Some(cookie)) = (parts.next(), parts.next(), parts.next())
        else {
            // A line without tabs is a cookie of the first place.
            jar.update("example.com", "/", line, now);
            continue;
        };
        jar.update(host, path, cookie, now);
        let before = names(&jar);
        jar.update(host, path, cookie, now);
        assert_eq!(names(&jar), before, "the same again adds nothing");
        places.push((host, path));
    }
    is_bounded(&jar);
    places.truncate(40);
    for (host, path) in places {
        for secure in [false, true] {
            belongs(&mut jar, host, path, secure, now);
        }
    }
    if quoting {
        comes_back(&jar, now);
    }
    expires(
        &mut jar,
        now + Duration::from_secs(u64::from(later) << (flags >> 3)),
    );
}

fn names(jar: &CookieJar) -> Vec<String> {
    jar.iter().map(|cookie| cookie.name.clone()).collect()
}

fn is_bounded(jar: &CookieJar) {
    assert!(jar.len() <= MAX_IN_TOTAL);
    let mut domains: HashMap<&str, usize> = HashMap::new();
    for cookie in jar.iter() {
        *domains.entry(&cookie.domain).or_default() += 1;
        assert!(cookie.name.len() + cookie.coded_value.len() <= 4096);
        assert!(cookie.path.starts_with('/'));
    }
    assert!(domains.values().all(|&count| count <= MAX_PER_DOMAIN));
}

/// RFC 6265 sections 5.1.3 and 5.1.4, read once more.
fn may_go(cookie: &Cookie, host: &str, path: &str, secure: bool) -> bool {
    let for_all = cookie.domain.is_empty() && cookie.path.trim_end_matches('/').is_empty();
    let domain = cookie.domain == host
        || (!cookie.host_only && host.ends_with(&format!(".{}", cookie.domain)));
    let prefix = cookie.path.trim_end_matches('/');
    let below = path == prefix || path.starts_with(&format!("{prefix}/"));
    (for_all || (domain && below)) && (secure || !cookie.secure)
}

/// The header for one request is well formed, bounded, stable, and only of cookies that may go there.
fn belongs(jar: &mut CookieJar, host: &str, path: &str, secure: bool, now: SystemTime) {
    let Some(header) = jar.header_for(host, path, secure, now) else {
        return;
    };
    assert_eq!(
        jar.header_for(host, path, secure, now).as_ref(),
        Some(&header)
    );
    assert!(
        !header.bytes().any(|byte| byte < b' ' || byte == 0x7f),
        "{header:?}"
    );
    assert!("Cookie: ".len() + header.len() <= MAX_HEADER_BYTES);
    let fitting: Vec<&Cookie> = jar
        .iter()
        .filter(|cookie| may_go(cookie, host, path, secure))
        .collect();
    let mut distinct: Vec<&str> = fitting.iter().map(|cookie| cookie.name.as_str()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    // Values may hold semicolons in quotes: the pairs are found by the names that may be there.
    let mut rest = header.as_str();
    let mut count = 0;
    for name in distinct {
        let Some(value) = rest
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
        else {
            continue;
        };
        count += 1;
        let of_name = fitting.iter().filter(|cookie| cookie.name == name);
        let longest = of_name
            .flat_map(|cookie| {
                [
                    written(&cookie.value),
                    cookie.coded_value.clone(),
                    cookie.value.clone(),
                ]
            })
            .filter(|text| {
                value
                    .strip_prefix(text.as_str())
                    .is_some_and(|end| end.is_empty() || end.starts_with("; "))
            })
            .max_by_key(String::len);
        let longest = longest.unwrap_or_else(|| panic!("{name} has a foreign value in {header:?}"));
        rest = &value[longest.len()..];
        rest = rest.strip_prefix("; ").unwrap_or(rest);
    }
    assert!(rest.is_empty(), "{rest:?} is nobody's, in {header:?}");
    assert!((1..=MAX_COOKIES_PER_REQUEST).contains(&count));
}

/// What the jar writes for a value, as another jar shows it.
fn written(value: &str) -> String {
    let mut jar = CookieJar::new(false);
    jar.insert("n", value);
    let all = jar.header_for("h", "/", false, SystemTime::UNIX_EPOCH);
    all.and_then(|header| header.strip_prefix("n=").map(str::to_owned))
        .unwrap_or_default()
}

/// A cookie sent back as a server would set it has the same value.
fn comes_back(jar: &CookieJar, now: SystemTime) {
    for cookie in jar.iter() {
        let mut other = CookieJar::new(false);
        other.update(
            "h",
            "/",
            &format!("{}={}", cookie.name, cookie.coded_value),
            now,
        );
        let again = other.iter().next().unwrap();
        assert_eq!((&again.name, &again.value), (&cookie.name, &cookie.value));
    }
}

/// Time only takes cookies away, and exactly those whose time has come.
fn expires(jar: &mut CookieJar, later: SystemTime) {
    let seconds = later
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let left: Vec<String> = jar
        .iter()
        .filter(|cookie| cookie.deadline.is_none_or(|deadline| deadline > seconds))
        .map(|cookie| cookie.name.clone())
        .collect();
    jar.expire_at(later);
    assert_eq!(names(jar), left);
    jar.clear();
    assert!(jar.is_empty());
}
