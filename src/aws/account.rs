//! What the account has: who we are in it, the instance's role, how many cores may run.
//!
//! Owns the calls of STS, IAM and Service Quotas and the question which address this machine has to the outside. Called
//! by `check` and before a launch.

use std::env;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::{Value, json};

use super::error::{Error, Kind};
use super::session::{Body, Call, Session};
use super::xml;

/// Whose credentials these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account's number.
    pub account: String,
    /// User or role.
    pub arn: String,
}

/// An instance profile and its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The profile's name.
    pub profile: String,
    /// The role's name; empty when the profile has none.
    pub role: String,
}

/// How many virtual cores of a class may run at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// Cores.
    pub vcpus: f64,
    /// Its code in Service Quotas.
    pub code: &'static str,
}

/// Tells the caller's address as plain text.
const OWN_ADDRESS_URL: &str = "https://checkip.amazonaws.com/";

impl Session {
    /// Who we are; the first call that proves the credentials.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let action = "sts:GetCallerIdentity";
        let body = Body::Query("Action=GetCallerIdentity&Version=2011-06-15");
        let answer = self.call(Call { action, body }).await?;
        let document = xml::parse(action, &answer)?;
        let result = xml::find(document.root(), "GetCallerIdentityResult")
            .ok_or_else(|| Error::new(action, Kind::Answer, "no identity in the answer"))?;
        Ok(Identity {
            account: xml::text(result, &["Account"]).to_owned(),
            arn: xml::text(result, &["Arn"]).to_owned(),
        })
    }

    /// The role of an instance profile, given by its name or its ARN.
    pub async fn role(&self, profile: &str) -> Result<Role, Error> {
        let action = "iam:GetInstanceProfile";
        let profile = profile.rsplit('/').next().unwrap_or(profile);
        let form = super::ec2::form(
            "GetInstanceProfile",
            "2010-05-08",
            &[("InstanceProfileName", profile)],
        );
        let answer = self
            .call(Call {
                action,
                body: Body::Query(&form),
            })
            .await?;
        let document = xml::parse(action, &answer)?;
        let role = xml::find(document.root(), "Roles")
            .and_then(|roles| xml::find(roles, "RoleName"))
            .and_then(|name| name.text())
            .unwrap_or_default();
        Ok(Role {
            profile: profile.to_owned(),
            role: role.trim().to_owned(),
        })
    }

    /// The quota that an on-demand instance of this type counts against.
    pub async fn vcpu_quota(&self, instance_type: &str) -> Result<Quota, Error> {
        let action = "servicequotas:GetServiceQuota";
        let code = quota_code(instance_type);
        let text = json!({ "ServiceCode": "ec2", "QuotaCode": code }).to_string();
        let body = Body::Json {
            target: "ServiceQuotasV20190624.GetServiceQuota",
            text: &text,
        };
        let answer = self.call(Call { action, body }).await?;
        let value: Value = serde_json::from_str(&answer)
            .map_err(|error| Error::new(action, Kind::Answer, error.to_string()))?;
        value
            .pointer("/Quota/Value")
            .and_then(Value::as_f64)
            .map(|vcpus| Quota { vcpus, code })
            .ok_or_else(|| Error::new(action, Kind::Answer, "no value in the answer"))
    }

    /// The address that a machine with this address sees us come from: for a private one that of our own interface,
    /// for a public one what Amazon's echo service says (another one's URL may be in `AUTOSIZER_ADDRESS_URL`). Where that
    /// cannot be asked our own interface's will do if it is a public one, or if the machine is none of Amazon's.
    pub async fn own_address(&self, seen_from: IpAddr, private: bool) -> Result<IpAddr, Error> {
        let action = "ec2:AuthorizeSecurityGroupIngress";
        let unknown = |why: String| {
            let hint = "; give the addresses that may connect by --allow-from";
            Error::new(
                action,
                Kind::NoAnswer,
                format!("own address unknown: {why}{hint}"),
            )
        };
        let own = address_towards(seen_from);
        if private || !is_public(seen_from) {
            return own.map_err(|error| unknown(error.to_string()));
        }
        let url = env::var("AUTOSIZER_ADDRESS_URL").unwrap_or_else(|_| OWN_ADDRESS_URL.to_owned());
        let told = self.plain(action, &url).await;
        let told = told.map_err(|error| error.message).and_then(|text| {
            let address = text.trim().parse();
            address.map_err(|_| format!("{url} does not tell an address"))
        });
        match (told, own) {
            (Ok(address), _) => Ok(address),
            (Err(_), Ok(own)) if is_public(own) || self.has_own_endpoint() => Ok(own),
            (Err(why), _) => Err(unknown(why)),
        }
    }
}

/// The address of our interface on the way to another. Connecting a UDP socket sends nothing, but chooses the route.
fn address_towards(other: IpAddr) -> io::Result<IpAddr> {
    let any = if other.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(SocketAddr::new(other, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether it is reached over the Internet (RFC 1918, 3927, 4193, 4291 and 6598 have those that are not).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [first, second, ..] = four.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_local = four.is_loopback() || four.is_link_local() || four.is_unspecified();
            !(four.is_private() || is_local || is_shared)
        }
        IpAddr::V6(six) => {
            let is_local = six.is_loopback() || six.is_unspecified();
            !(is_local || six.is_unique_local() || six.is_unicast_link_local())
        }
    }
}

/// Classes of instance families share a quota ("Running On-Demand … instances" in Service Quotas).
fn quota_code(instance_type: &str) -> &'static str {
    let family: String = instance_type
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    match family.as_str() {
        "g" | "gr" | "vt" => "L-DB2E81BA",
        "p" => "L-417A185B",
        "f" => "L-74FC7D96",
        "inf" => "L-1945791B",
        "trn" => "L-2C3B7624",
        "x" => "L-7295265B",
        "u" => "L-43DA4232",
        "hpc" => "L-F7808C92",
        "dl" => "L-6E869C2A",
        _ => "L-1216C47A",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_quota() {
        assert_eq!(quota_code("m8g.large"), "L-1216C47A");
        assert_eq!(quota_code("g6.xlarge"), "L-DB2E81BA");
        assert_eq!(quota_code("inf2.xlarge"), "L-1945791B");
    }

    #[test]
    fn addresses_inside_are_told_from_those_of_the_internet() {
        for (address, expected) in [
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.31.0.9", false),
            ("192.168.1.1", false),
            ("169.254.0.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("52.1.2.3", true),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("2a05:d018::1", true),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn the_way_to_oneself_is_ones_own_address() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(address_towards(loopback).unwrap(), loopback);
    }
}
