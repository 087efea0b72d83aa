//! The values of the service's variables, on their way to the instance.
//!
//! Owns sealing them for a key pair that the instance makes for one run. Systems Manager keeps every command for 30 days,
//! and whoever may read the account's history reads it: what it keeps of the values can be opened only by a private key
//! that never leaves the instance and goes away as soon as it was used. So there is no object, no file and no address that
//! could be left behind with them. X25519 (RFC 7748), PBKDF2 and AES-256 in counter mode, because `openssl` on the
//! instance is the other side. Called by `prepare` for the key and by `start` for the values.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

use super::super::failure::Failure;
use super::scripts::{quote, run_folder};

/// What stands before the 32 bytes of an X25519 key in a `SubjectPublicKeyInfo` (RFC 8410).
const KEY_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00,
];
/// Begins what `openssl enc` writes; eight bytes of salt follow.
const SALTED: &[u8] = b"Salted__";
const SALT_LEN: usize = 8;
/// The default of `openssl enc -pbkdf2`, said all the same. The password is a random key: more would gain nothing.
const ITERATIONS: u32 = 10_000;
/// The last line of the opened text, by which one that was damaged is told.
const END: &str = "# end of the values";
/// Exit code of a script that found no `openssl`.
pub(super) const NO_OPENSSL: i32 = 69;

/// A public key of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PublicKey([u8; 32]);

/// Makes the run's key pair on the instance and prints the public one. On an instance that is not ours nothing is
/// installed for it.
pub(super) fn make_key(run: &str, is_foreign: bool) -> String {
    let install = if is_foreign {
        ""
    } else {
        "command -v openssl >/dev/null 2>&1 || dnf -y -q install openssl >/dev/null 2>&1 || true\n"
    };
    format!(
        "{install}\
         command -v openssl >/dev/null 2>&1 || {{ echo 'there is no openssl' >&2; exit {NO_OPENSSL}; }}\n\
         folder={folder}\n\
         mkdir -p \"$folder\"\n\
         openssl genpkey -algorithm X25519 -out \"$folder/key\"\n\
         openssl pkey -in \"$folder/key\" -pubout\n",
        folder = run_folder(run),
    )
}

impl PublicKey {
    /// From what [`make_key`] printed.
    pub(super) fn read(text: &str) -> Option<Self> {
        let inner = text
            .lines()
            .skip_while(|line| !line.starts_with("-----BEGIN PUBLIC KEY"))
            .nth(1)?;
        let der = STANDARD.decode(inner.trim()).ok()?;
        let key = der.strip_prefix(&KEY_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }
}

/// The shell text that sets the variables on the instance; nothing in it can be read without the instance's key. It may
/// be run once: key and all go away with it.
pub(super) fn export(
    run: &str,
    key: PublicKey,
    values: &BTreeMap<String, String>,
) -> Result<String, Failure> {
    let mut plain = String::new();
    for (name, value) in values {
        let _ = writeln!(plain, "export {name}={}", quote(value));
    }
    plain.push_str(END);
    let sealed =
        seal(key, &plain).ok_or_else(|| Failure::target("the values of --env cannot be sealed"))?;
    Ok(format!(
        "folder={folder}\n\
         trap 'rm -f \"$folder/key\" \"$folder/peer\" \"$folder/sealed\"' EXIT\n\
         cat >\"$folder/peer\" <<'__autosizer_peer'\n\
         -----BEGIN PUBLIC KEY-----\n\
         {peer}\n\
         -----END PUBLIC KEY-----\n\
         __autosizer_peer\n\
         echo {body} | base64 -d >\"$folder/sealed\"\n\
         values=$(openssl pkeyutl -derive -inkey \"$folder/key\" -peerkey \"$folder/peer\" | od -An -v -tx1 | tr -d ' \\n' |\n\
           openssl enc -d -aes-256-ctr -pbkdf2 -iter {ITERATIONS} -md sha256 -iv {iv} -pass stdin -in \"$folder/sealed\")\n\
         case \"$values\" in\n\
           *'{END}') ;;\n\
           *) echo 'the values of --env did not arrive whole' >&2; exit 1 ;;\n\
         esac\n\
         eval \"$values\"\n",
        folder = run_folder(run),
        peer = sealed.peer,
        body = sealed.body,
        iv = sealed.counter,
    ))
}

/// What is needed to open a text, besides the key.
struct Sealed {
    /// Our public key, as the middle of a PEM file.
    peer: String,
    /// Salt and ciphertext in base64, in the format of `openssl enc`.
    body: String,
    /// The first counter in hexadecimal digits.
    counter: String,
}

/// `None` where the machine has no randomness or the key is none.
fn seal(key: PublicKey, plain: &str) -> Option<Sealed> {
    let random = SystemRandom::new();
    let mut nonce = [0; NONCE_LEN];
    let mut salt = [0; SALT_LEN];
    random.fill(&mut nonce).ok()?;
    random.fill(&mut salt).ok()?;
    let own = EphemeralPrivateKey::generate(&X25519, &random).ok()?;
    let mut peer = KEY_PREFIX.to_vec();
    peer.extend_from_slice(own.compute_public_key().ok()?.as_ref());
    let other = UnparsedPublicKey::new(&X25519, key.0);
    let cipher = agree_ephemeral(own, &other, |shared| {
        let mut derived = [0; 32];
        let iterations = std::num::NonZeroU32::new(ITERATIONS)?;
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            hex(shared).as_bytes(),
            &mut derived,
        );
        UnboundKey::new(&AES_256_GCM, &derived).ok()
    })
    .ok()??;
    // GCM encrypts by counter mode from the nonce and a counter of 2 on (NIST SP 800-38D, 7.1); its tag, which the
    // program on the other side cannot check, is left away: whoever could change the command could run any other.
    let mut bytes = plain.as_bytes().to_vec();
    let _tag = LessSafeKey::new(cipher)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut bytes,
        )
        .ok()?;
    let body = [SALTED, salt.as_slice(), bytes.as_slice()].concat();
    Some(Sealed {
        peer: STANDARD.encode(peer),
        body: STANDARD.encode(body),
        counter: format!("{}00000002", hex(&nonce)),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a shell can set a variable of that name.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.next().is_some_and(is_first) && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::{Command, Output};

    struct Node(PathBuf);

    impl Node {
        fn new() -> Self {
            let name = format!("sealed-{}-{:x}", std::process::id(), fastrand::u64(..));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn run(&self, script: &str) -> Output {
            Command::new("sh")
                .args(["-euc", script])
                .env("AUTOSIZER_FOLDER", &self.0)
                .output()
                .unwrap()
        }

        fn key(&self) -> PublicKey {
            let output = self.run(&make_key("r1", true));
            PublicKey::read(&String::from_utf8(output.stdout).unwrap()).unwrap()
        }
    }

    impl Drop for Node {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn values_arrive_as_they_are_and_nothing_stays() {
        let node = Node::new();
        let values = values(&[
            ("PLAIN", "x"),
            (
                "NASTY",
                "it's \"$HOME\" `id` $(id)\\n\n second line\r\n\n{{ssm:x}} ä€😀\n",
            ),
            ("EMPTY", ""),
            ("LONG", &"0123456789".repeat(5000)),
        ]);
        let script = export("r1", node.key(), &values).unwrap();
        assert!(!script.contains("second line") && !script.contains("0123456789"));
        let output = node.run(&format!("{script}env -0"));
        let text = String::from_utf8(output.stdout).unwrap();
        let found: Vec<&str> = text.split('\0').collect();
        for (name, value) in &values {
            assert!(
                found.contains(&format!("{name}={value}").as_str()),
                "{name}"
            );
        }
        let left = std::fs::read_dir(node.0.join("r1")).unwrap().count();
        assert_eq!(left, 0);
    }

    #[test]
    fn another_key_opens_nothing() {
        let (node, other) = (Node::new(), Node::new());
        let values = values(&[("TOKEN", "value")]);
        let script = export("r1", node.key(), &values).unwrap();
        other.key();
        let output = other.run(&format!("{script}env"));
        assert!(!output.status.success());
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains("did not arrive whole"), "{complaint}");
        assert_eq!(std::fs::read_dir(other.0.join("r1")).unwrap().count(), 0);
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let key = Node::new().key();
        let values = values(&[("TOKEN", "value")]);
        assert_ne!(
            export("r1", key, &values).unwrap(),
            export("r1", key, &values).unwrap()
        );
    }

    #[test]
    fn only_a_key_is_read_as_one() {
        for text in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "no openssl",
        ] {
            assert_eq!(PublicKey::read(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_shell() {
        for (name, fits) in [
            ("A", true),
            ("_a1", true),
            ("", false),
            ("1a", false),
            ("a-b", false),
            ("a;reboot", false),
            ("ä", false),
        ] {
            assert_eq!(is_name(name), fits, "{name}");
        }
    }
}
