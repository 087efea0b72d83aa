//! From a host name to its addresses, remembered for as long as the session wants.
//!
//! Owns the questions to the system and the memory of its answers. Which of the addresses is tried, and when,
//! is `connect`'s. One [`Resolver`] is shared by all sessions of a process.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::error::Error;

/// Which kind of address may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// Both kinds.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Whether `address` is of this kind.
    pub fn admits(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// How long an answer may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Not at all: the system is asked for every connection.
    Off,
    /// For this long.
    For(Duration),
    /// As long as the process lives.
    Forever,
}

impl Default for Memory {
    /// aiohttp's ten seconds.
    fn default() -> Self {
        Self::For(Duration::from_secs(10))
    }
}

/// What is known about a host.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) asked: Option<Instant>,
    pub(super) turn: usize,
}

/// Finds the addresses of hosts and remembers them.
///
/// One is meant to be shared by all sessions of a process: many workers that start at once then ask the
/// system once.
#[derive(Debug, Default)]
pub struct Resolver {
    // The inner lock is held while the system is asked, so that others wait for the same answer.
    pub(super) entries: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
}

impl Resolver {
    /// A resolver that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The addresses of `host` in the order to try them, which rotates from call to call; at least one.
    ///
    /// # Errors
    /// [`Error::Dns`], also when none of them is of the wanted family.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        family: Family,
        memory: Memory,
    ) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        if is_odd_address(host) {
            return Err(Error::OddAddress {
                host: host.to_owned(),
            });
        }
        let entry = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(entries.entry(host.to_owned()).or_default())
        };
        let mut entry = entry.lock().await;
        let fresh = match (entry.asked, memory) {
            (None, _) | (_, Memory::Off) => false,
            (Some(asked), Memory::For(time)) => asked.elapsed() < time,
            (Some(_), Memory::Forever) => true,
        };
        if !fresh {
            entry.addresses = look_up(host, port).await?;
            entry.asked = Some(Instant::now());
        }
        let mut addresses = entry.addresses.clone();
        // As aiohttp does: a host with several addresses gets connections to all of them.
        let turn = entry.turn % addresses.len().max(1);
        addresses.rotate_left(turn);
        entry.turn = turn + 1;
        drop(entry);
        addresses.retain(|address| family.admits(*address));
        if addresses.is_empty() {
            return Err(failed(host, port, -5, NO_ADDRESS));
        }
        Ok(addresses)
    }

    /// Forgets the addresses of `host`, or everything.
    pub fn forget(&self, host: Option<&str>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match host {
            Some(host) => {
                entries.remove(host);
            }
            None => entries.clear(),
        }
    }
}

/// Whether a host is made of numbers without being an address as such, as `127.1` and `2130706433`: the system would
/// take it for one, past whatever had looked at the host before. aiohttp refuses it as well.
fn is_odd_address(host: &str) -> bool {
    host.bytes().any(|byte| byte != b'.')
        && host
            .bytes()
            .all(|byte| byte == b'.' || byte.is_ascii_digit())
}

const NO_ADDRESS: &str = "No address associated with hostname";

fn failed(host: &str, port: u16, code: i32, message: &str) -> Error {
    Error::Dns {
        host: host.to_owned(),
        port,
        source: Arc::new(io::Error::other(message.to_owned())),
        code,
    }
}

async fn look_up(host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
    let question = (host.to_owned(), port);
    let answer = tokio::task::spawn_blocking(move || question.to_socket_addrs())
        .await
        .map_err(|error| failed(host, port, 0, &error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    match answer {
        Ok(found) => {
            for address in found {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
        }
        Err(error) => {
            let text = error.to_string();
            // The standard library's words before those of the resolver.
            let text = text
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&text);
            let code = error.raw_os_error().unwrap_or_else(|| resolver_code(text));
            return Err(failed(host, port, code, text));
        }
    }
    if addresses.is_empty() {
        return Err(failed(host, port, -5, NO_ADDRESS));
    }
    Ok(addresses)
}

/// glibc's number for its resolver messages, which the standard library does not pass on.
fn resolver_code(text: &str) -> i32 {
    match text {
        "Temporary failure in name resolution" => -3,
        "Non-recoverable failure in name resolution" => -4,
        NO_ADDRESS => -5,
        _ => -2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn remembering(two: &[IpAddr]) -> (Resolver, Arc<tokio::sync::Mutex<Entry>>) {
        let resolver = Resolver::new();
        let entry = Arc::new(tokio::sync::Mutex::new(Entry {
            addresses: two.to_vec(),
            asked: Some(Instant::now()),
            turn: 0,
        }));
        resolver
            .entries
            .lock()
            .unwrap()
            .insert("localhost".to_owned(), Arc::clone(&entry));
        (resolver, entry)
    }

    #[test]
    fn addresses_are_remembered_and_take_turns() {
        run(async {
            let two = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
            let (resolver, entry) = remembering(&two);
            let long = Memory::For(Duration::from_secs(1000));
            let ask = |memory| resolver.resolve("localhost", 80, Family::Any, memory);
            assert_eq!(ask(long).await.unwrap(), two);
            assert_eq!(ask(long).await.unwrap()[0], two[1]);
            assert_eq!(ask(Memory::Forever).await.unwrap()[0], two[0]);
            assert!(
                !ask(Memory::For(Duration::ZERO))
                    .await
                    .unwrap()
                    .contains(&two[1])
            );
            entry.lock().await.addresses = two.to_vec();
            assert!(!ask(Memory::Off).await.unwrap().contains(&two[1]));
            resolver.forget(Some("elsewhere"));
            assert!(ask(long).await.is_ok());
            assert_eq!(resolver.entries.lock().unwrap().len(), 1);
            resolver.forget(Some("localhost"));
            assert!(resolver.entries.lock().unwrap().is_empty());
            assert!(ask(long).await.is_ok());
            resolver.forget(None);
            assert!(resolver.entries.lock().unwrap().is_empty());
        });
    }

    #[test]
    fn only_the_wanted_family_is_given() {
        run(async {
            let two: [IpAddr; 2] = [IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()];
            let (resolver, entry) = remembering(&two);
            let ask = |family| resolver.resolve("localhost", 80, family, Memory::Forever);
            assert_eq!(ask(Family::V4).await.unwrap(), two[..1]);
            assert_eq!(ask(Family::V6).await.unwrap(), two[1..]);
            entry.lock().await.addresses = two[..1].to_vec();
            assert!(matches!(
                ask(Family::V6).await,
                Err(Error::Dns { code: -5, .. })
            ));
        });
    }

    #[test]
    fn addresses_need_no_question() {
        run(async {
            let asked = Resolver::new();
            assert_eq!(
                asked
                    .resolve("::1", 80, Family::Any, Memory::Off)
                    .await
                    .unwrap(),
                ["::1".parse::<IpAddr>().unwrap()]
            );
            for odd in [
                "2130706433",
                "127.1",
                "0177.0.0.1",
                "127.0.0.1.",
                "1.2.3.256",
            ] {
                let answer = asked.resolve(odd, 80, Family::Any, Memory::Off).await;
                assert!(matches!(answer, Err(Error::OddAddress { .. })), "{odd}");
            }
            assert!(asked.entries.lock().unwrap().is_empty());
        });
    }
}
