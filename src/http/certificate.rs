//! What a certificate says of itself, where rustls does not ask: its issuer and its common names.
//!
//! Owns as much of DER (X.690) and RFC 5280 as that takes. A certificate that it cannot read says nothing.
//! Nothing is verified here; called by `tls`, about certificates that webpki has looked at.

/// Object identifiers as they are encoded: 2.5.4.3 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const DNS_NAME: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// The fields of a certificate that matter here.
struct Certificate<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    extensions: Option<&'a [u8]>,
}

/// Whether a certificate names itself as its issuer (RFC 5280 section 4.1).
pub(super) fn is_self_signed(certificate: &[u8]) -> bool {
    read(certificate).is_some_and(|certificate| certificate.issuer == certificate.subject)
}

/// Whether a certificate without any alternative DNS name has a common name that stands for `host`.
///
/// OpenSSL takes the common name then; RFC 9525 section 2 no longer does, and neither does webpki.
pub(super) fn is_commonly_named(certificate: &[u8], host: &str) -> bool {
    read(certificate).is_some_and(|certificate| {
        !certificate.extensions.is_some_and(has_dns_name)
            && common_names(certificate.subject).any(|name| stands_for(name, host))
    })
}

fn read(certificate: &[u8]) -> Option<Certificate<'_>> {
    let (_, certificate, _) = element(certificate)?;
    let (_, to_be_signed, _) = element(certificate)?;
    let (tag, _, after_version) = element(to_be_signed)?;
    // The version is optional: without it, this was the serial number.
    let at_serial = if tag == 0xa0 {
        after_version
    } else {
        to_be_signed
    };
    let (_, _, at_algorithm) = element(at_serial)?;
    let (_, _, at_issuer) = element(at_algorithm)?;
    let (_, issuer, at_validity) = element(at_issuer)?;
    let (_, _, at_subject) = element(at_validity)?;
    let (_, subject, at_key) = element(at_subject)?;
    let (_, _, rest) = element(at_key)?;
    let extensions = elements(rest).find(|(tag, _)| *tag == EXTENSIONS);
    Some(Certificate {
        issuer,
        subject,
        extensions: extensions.and_then(|(_, wrapped)| element(wrapped).map(|(_, list, _)| list)),
    })
}

fn has_dns_name(extensions: &[u8]) -> bool {
    elements(extensions)
        .filter(|(_, extension)| {
            element(extension).is_some_and(|(_, name, _)| name == SUBJECT_ALTERNATIVE_NAME)
        })
        // The value comes last, after an optional mark of importance.
        .filter_map(|(_, extension)| elements(extension).last())
        .filter_map(|(_, value)| element(value))
        .any(|(_, names, _)| elements(names).any(|(tag, _)| tag == DNS_NAME))
}

fn common_names(subject: &[u8]) -> impl Iterator<Item = &str> {
    elements(subject)
        .flat_map(|(_, set)| elements(set))
        .filter_map(|(_, pair)| {
            let (_, kind, value) = element(pair)?;
            let (_, text, _) = element(value)?;
            (kind == COMMON_NAME).then(|| std::str::from_utf8(text).ok())?
        })
}

/// Whether a name, perhaps with a `*` as its first label, is that of `host` (RFC 6125 section 6.4).
fn stands_for(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((label, above))) = (name.strip_prefix("*."), host.split_once('.'))
    else {
        return false;
    };
    !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(above)
}

/// The elements that follow each other in `bytes`; ends at what is none.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, content))
    })
}

/// The DER element that `bytes` starts with: tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Longer lengths come in that many bytes; certificates are far below 16 MiB.
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 3 {
            return None;
        }
        (
            digits
                .iter()
                .fold(0, |length, &digit| length << 8 | usize::from(digit)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(common: &[&str], alternative: Vec<rcgen::SanType>) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.subject_alt_names = alternative;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            parameters
                .distinguished_name
                .push(rcgen::DnType::CommonName, *name);
        }
        parameters
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "somebody");
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn common_names_count_only_without_alternatives() {
        let plain = made(&["Service.test"], Vec::new());
        assert!(is_commonly_named(&plain, "service.test"));
        assert!(!is_commonly_named(&plain, "other.test"));
        assert!(!is_commonly_named(&plain, "somebody"));
        let address = rcgen::SanType::IpAddress([127, 0, 0, 1].into());
        assert!(is_commonly_named(
            &made(&["service.test"], vec![address]),
            "service.test"
        ));
        let other = rcgen::SanType::DnsName("other.test".try_into().unwrap());
        assert!(!is_commonly_named(
            &made(&["service.test"], vec![other]),
            "service.test"
        ));
        assert!(!is_commonly_named(&made(&[], Vec::new()), "service.test"));
        assert!(is_self_signed(&plain));
    }

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(stands_for("*.a.test", "x.a.test"));
        for (name, host) in [
            ("*.a.test", "a.test"),
            ("*.a.test", "x.y.a.test"),
            ("*.test", "a.test"),
            ("*", "test"),
            ("x*.a.test", "xy.a.test"),
        ] {
            assert!(!stands_for(name, host), "{name} {host}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (is_self_signed(&bytes), is_commonly_named(&bytes, "h"));
        }

        #[test]
        fn a_changed_certificate_is_read_without_a_panic(at in 0usize..300, byte in any::<u8>()) {
            let mut certificate = made(&["service.test"], Vec::new());
            let length = certificate.len();
            certificate[at % length] = byte;
            let _ = is_commonly_named(&certificate, "service.test");
        }
    }
}
