//! Tests of the jar. The expectations were compared with aiohttp 3.14's `CookieJar`.

use std::time::Duration;

use super::*;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// A jar after responses of (host, path, Set-Cookie).
fn jar(responses: &[(&str, &str, &str)]) -> CookieJar {
    let mut jar = CookieJar::new(false);
    for (host, path, text) in responses {
        jar.update(host, path, text, now());
    }
    jar
}

fn sent(jar: &mut CookieJar, host: &str, path: &str) -> String {
    jar.header_for(host, path, false, now()).unwrap_or_default()
}

#[test]
fn a_cookie_comes_back_to_its_host_only() {
    let mut jar = jar(&[("example.com", "/", "a=b")]);
    assert_eq!(sent(&mut jar, "example.com", "/x"), "a=b");
    assert_eq!(sent(&mut jar, "www.example.com", "/"), "");
    assert_eq!(sent(&mut jar, "com", "/"), "");
    assert_eq!(sent(&mut jar, "badexample.com", "/"), "");
}

#[test]
fn a_domain_opens_it_to_subdomains() {
    for domain in ["example.com", ".example.com"] {
        let mut jar = jar(&[("www.example.com", "/", &format!("a=b; Domain={domain}"))]);
        for (host, expected) in [
            ("example.com", "a=b"),
            ("x.example.com", "a=b"),
            ("badexample.com", ""),
            ("com", ""),
        ] {
            assert_eq!(sent(&mut jar, host, "/"), expected);
        }
    }
    // Another's domain is refused; one that only ends in the same letters is another's.
    assert!(jar(&[("example.com", "/", "a=b; Domain=other.org")]).is_empty());
    assert!(jar(&[("example.com", "/", "a=b; Domain=www.example.com")]).is_empty());
    assert!(jar(&[("badexample.com", "/", "a=b; Domain=example.com")]).is_empty());
    // A final dot makes it no domain at all.
    let mut dotted = jar(&[("example.com", "/", "a=b; Domain=example.com.")]);
    assert_eq!(sent(&mut dotted, "www.example.com", "/"), "");
}

#[test]
fn paths_are_whole_segments() {
    let mut jar = jar(&[("h", "/", "a=b; Path=/x")]);
    for (path, expected) in [("/x", "a=b"), ("/x/y", "a=b"), ("/xy", ""), ("/", "")] {
        assert_eq!(sent(&mut jar, "h", path), expected);
    }
    let mut slashed = self::jar(&[("h", "/", "a=b; Path=/x/")]);
    assert_eq!(
        (
            sent(&mut slashed, "h", "/x"),
            sent(&mut slashed, "h", "/x/")
        ),
        (String::new(), "a=b".into())
    );
    // Without one, the path of the response up to its last slash.
    let mut default = self::jar(&[
        ("h", "/x/y", "a=b"),
        ("h", "/x/y", "c=d; Path=nonsense"),
        ("h", "/x", "e=f"),
    ]);
    assert_eq!(sent(&mut default, "h", "/x/z"), "a=b; c=d; e=f");
    assert_eq!(sent(&mut default, "h", "/y"), "e=f");
}

#[test]
fn the_most_specific_cookie_of_a_name_wins_and_names_are_sorted() {
    let mut jar = jar(&[
        ("www.example.com", "/", "b=deep; Path=/x"),
        ("www.example.com", "/", "b=shallow; Path=/"),
        (
            "www.example.com",
            "/",
            "b=wide; Path=/x; Domain=example.com",
        ),
        ("www.example.com", "/", "a=1"),
    ]);
    assert_eq!(sent(&mut jar, "www.example.com", "/x"), "a=1; b=deep");
    assert_eq!(sent(&mut jar, "www.example.com", "/"), "a=1; b=shallow");
    assert_eq!(sent(&mut jar, "example.com", "/x"), "b=wide");
}

#[test]
fn secure_cookies_stay_on_secure_connections() {
    let mut jar = jar(&[("h", "/", "a=b; Secure")]);
    assert_eq!(jar.header_for("h", "/", false, now()), None);
    assert_eq!(
        jar.header_for("h", "/", true, now()).as_deref(),
        Some("a=b")
    );
}

#[test]
fn hosts_that_are_addresses_need_an_unsafe_jar() {
    for host in ["127.0.0.1", "::1"] {
        assert!(jar(&[(host, "/", "a=b")]).is_empty());
        let mut unsafe_jar = CookieJar::new(true);
        unsafe_jar.update(host, "/", "a=b", now());
        assert_eq!(sent(&mut unsafe_jar, host, "/"), "a=b");
        assert_eq!(sent(&mut unsafe_jar, "localhost", "/"), "");
    }
}

#[test]
fn cookies_for_everybody_go_everywhere() {
    let mut jar = CookieJar::new(false);
    jar.insert("a", "b c");
    jar.insert("q", "\"x y\"");
    for host in ["example.com", "127.0.0.1"] {
        assert_eq!(sent(&mut jar, host, "/any"), "a=\"b c\"; q=\"x y\"");
    }
    jar.update("example.com", "/", "a=own", now());
    assert_eq!(sent(&mut jar, "example.com", "/"), "a=own; q=\"x y\"");
}

#[test]
fn ages_and_dates() {
    let later = |seconds| now() + Duration::from_secs(seconds);
    let mut jar = jar(&[
        ("h", "/", "age=1; Max-Age=100"),
        ("h", "/", "date=1; Expires=Tue, 14 Nov 2023 22:14:20 GMT"),
        (
            "h",
            "/",
            "both=1; Max-Age=200; Expires=Thu, 01 Jan 1980 00:00:00 GMT",
        ),
        ("h", "/", "odd=1; Max-Age=soon; Expires=whenever"),
        ("h", "/", "huge=1; Max-Age=99999999999999999999"),
        ("h", "/", "gone=1; Max-Age=0"),
        ("h", "/", "past=1; Expires=Wed, 09 Jun 2021 10:18:14 GMT"),
    ]);
    let mut at = |seconds| jar.header_for("h", "/", false, later(seconds)).unwrap();
    assert_eq!(at(0), "age=1; both=1; date=1; huge=1; odd=1");
    assert_eq!(at(60), "age=1; both=1; huge=1; odd=1");
    assert_eq!(at(100), "both=1; huge=1; odd=1");
    assert_eq!(at(200), "huge=1; odd=1");
    jar.update("h", "/", "odd=; Max-Age=-1", now());
    assert_eq!(
        jar.iter()
            .map(|cookie| cookie.name.as_str())
            .collect::<Vec<_>>(),
        ["huge"]
    );
    // A new value does not inherit the old one's end.
    let mut renewed = self::jar(&[("h", "/", "a=1; Max-Age=5"), ("h", "/", "a=2")]);
    assert_eq!(
        renewed.header_for("h", "/", false, later(10)).as_deref(),
        Some("a=2")
    );
}

#[test]
fn quoting_can_be_left_out() {
    let responses = ["a=x/y", "b=\"q z\"", "c="];
    let mut plain = CookieJar::new(false).with_quoting(false);
    let mut quoted = CookieJar::new(false);
    for text in responses {
        plain.update("h", "/", text, now());
        quoted.update("h", "/", text, now());
    }
    assert_eq!(sent(&mut plain, "h", "/"), "a=x/y; b=q z; c=");
    assert_eq!(sent(&mut quoted, "h", "/"), "a=\"x/y\"; b=\"q z\"; c=\"\"");
}

#[test]
fn what_scripts_see_of_a_cookie() {
    let jar = jar(&[("h", "/x/y", "a=\"b\"; HttpOnly; SameSite=Lax; Max-Age=5")]);
    let cookie = jar.iter().next().unwrap();
    assert_eq!(
        (cookie.value.as_str(), cookie.coded_value.as_str()),
        ("b", "\"b\"")
    );
    assert_eq!((cookie.domain.as_str(), cookie.path.as_str()), ("h", "/x"));
    assert!(cookie.host_only && !cookie.secure);
    assert!(cookie.attributes.contains(&("samesite", "Lax".to_owned())));
    assert_eq!(cookie.deadline, Some(1_700_000_005));
}

#[test]
fn a_server_cannot_fill_the_jar() {
    let mut jar = CookieJar::new(false);
    for number in 0..1000 {
        jar.update("h", "/", &format!("n{number}=x"), now());
        assert!(jar.len() <= PER_DOMAIN.0);
    }
    assert!(jar.iter().any(|cookie| cookie.name == "n999"));
    assert!(!jar.iter().any(|cookie| cookie.name == "n0"));
    for number in 0..5000 {
        jar.update(&format!("h{number}"), "/", "a=x", now());
        assert!(jar.len() <= IN_TOTAL.0);
    }
    // Unencrypted ones never push encrypted ones out.
    let mut secure = CookieJar::new(false);
    for number in 0..PER_DOMAIN.0 {
        secure.update("h", "/", &format!("n{number}=x; Secure"), now());
    }
    secure.update("h", "/", "plain=x", now());
    assert_eq!(secure.len(), PER_DOMAIN.0);
    secure.update("h", "/", "more=x; Secure", now());
    assert_eq!(secure.len(), PER_DOMAIN.1);
}

#[test]
fn a_response_sets_fifty_cookies_at_most() {
    let mut jar = CookieJar::new(false);
    let values: Vec<String> = (0..60).map(|number| format!("n{number}=x")).collect();
    let odd = [&b"a=\xff"[..], b"b\xff=x", b"", b"ok=1; Path=/\xff"];
    let values = odd.into_iter().chain(values.iter().map(String::as_bytes));
    jar.update_from("h", "/", values, now());
    assert_eq!(jar.len(), 50);
    assert!(jar.iter().any(|cookie| cookie.name == "ok"));
    assert!(jar.iter().any(|cookie| cookie.name == "n48"));
    assert!(!jar.iter().any(|cookie| cookie.name == "n49"));
}

#[test]
fn a_request_carries_a_bounded_header() {
    let mut jar = CookieJar::new(false);
    for number in 0..10 {
        jar.update("h", "/", &format!("n{number}={}", "x".repeat(2000)), now());
    }
    let header = sent(&mut jar, "h", "/");
    assert!(header.len() + 8 <= MAX_HEADER_BYTES && header.len() > 6000);
}

proptest::proptest! {
    #[test]
    fn headers_never_start_another_line(
        texts in proptest::collection::vec("[a-c]{1,2}=\\PC{0,12}(; [a-zA-Z-]{0,9}=?\\PC{0,9}){0,3}", 0..8),
        host in "[a-c.]{1,6}", path in "/[a-c/]{0,6}",
    ) {
        let mut jar = CookieJar::new(true);
        for text in &texts {
            jar.update(&host, &path, text, now());
        }
        let header = sent(&mut jar, &host, &path);
        proptest::prop_assert!(!header.bytes().any(|byte| byte < b' ' || byte == 0x7f));
    }
}
