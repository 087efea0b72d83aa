//! EC2: instance types, subnets, instances that are there.
//!
//! Owns the forms of the few calls that a run needs and the reading of their answers, all pages of them. What was asked for
//! by id, name or tag is looked at once more when it comes: whoever took an endpoint's word for a filter that it does not
//! know would end other people's machines. Decides nothing: which subnet is tried next, and what is removed when, is the
//! caller's. Called by the `ssm` target, `check`, `gc` and `list`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use roxmltree::Node;

use super::error::{Error, Kind};
pub use super::groups::Group;
pub use super::launch::Launch;
use super::retry::Poll;
use super::session::{Body, Call, Session};
use super::xml;

const VERSION: &str = "2016-11-15";
/// What was made a moment ago is known everywhere after this time.
pub(super) const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// An answer with more pages goes round in circles.
const MOST_PAGES: usize = 1000;

/// Tags in the order of their keys.
pub type Tags = BTreeMap<String, String>;

/// What an instance type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceType {
    /// Such as `m8g.large`.
    pub name: String,
    /// Virtual cores; 0 where that is not known.
    pub vcpus: u32,
    /// Memory in MiB; 0 where that is not known.
    pub memory_mib: u64,
    /// Such as `arm64`, `x86_64`.
    pub architectures: Vec<String>,
    /// Whether its CPU lives on credits.
    pub is_burstable: bool,
    /// Network in Amazon's words.
    pub network: String,
}

impl InstanceType {
    /// What its name tells, for an endpoint that tells nothing of types. After the number of the generation `g` stands for
    /// Amazon's own processor ("Amazon EC2 instance type naming conventions" in its guide); the first of them was `a1`.
    pub fn of_name(name: &str) -> Self {
        let family = name.split('.').next().unwrap_or_default();
        let series = family.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let attributes = family.strip_prefix(series).unwrap_or_default();
        let is_arm = family == "a1"
            || attributes
                .split('-')
                .next()
                .is_some_and(|own| own.contains('g'));
        let architecture = if is_arm { "arm64" } else { "x86_64" };
        Self {
            name: name.to_owned(),
            vcpus: 0,
            memory_mib: 0,
            architectures: vec![architecture.to_owned()],
            is_burstable: family.starts_with('t') && !family.starts_with("trn"),
            network: String::new(),
        }
    }
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnet {
    /// Such as `subnet-…`; empty leaves the choice to EC2.
    pub id: String,
    /// The VPC that it is in.
    pub vpc: String,
    /// Such as `eu-west-1a`.
    pub zone: String,
}

/// An instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// Such as `i-…`.
    pub id: String,
    /// `pending`, `running`, `shutting-down`, `terminated`, `stopping` or `stopped`.
    pub state: String,
    /// Such as `m8g.large`.
    pub instance_type: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Such as `eu-west-1a`.
    pub zone: String,
    /// Address inside the VPC.
    pub private_address: Option<IpAddr>,
    /// Address on the Internet, where it has one.
    pub public_address: Option<IpAddr>,
    /// When it was launched, as EC2 writes it.
    pub launched: String,
    /// Its security groups.
    pub groups: Vec<String>,
    /// Its tags.
    pub tags: Tags,
    /// Why it ended, as EC2 writes it; empty while it runs.
    pub reason: String,
}

impl Instance {
    /// Whether it has ended or is ending.
    pub fn is_gone(&self) -> bool {
        matches!(self.state.as_str(), "shutting-down" | "terminated")
    }
}

/// A form with its action.
pub(super) fn form(action: &str, version: &str, fields: &[(&str, &str)]) -> String {
    let mut text = format!("Action={action}&Version={version}");
    for (name, value) in fields {
        text.push('&');
        escape(&mut text, name);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn escape(text: &mut String, value: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for half in [byte >> 4, byte & 15] {
                text.push(char::from(
                    DIGITS.get(usize::from(half)).copied().unwrap_or(b'0'),
                ));
            }
        }
    }
}

/// Fields of a form under construction.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    pub(super) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    pub(super) fn filter(&mut self, number: usize, name: &str, values: &[&str]) {
        self.add(format!("Filter.{number}.Name"), name);
        for (position, value) in values.iter().enumerate() {
            self.add(format!("Filter.{number}.Value.{}", position + 1), *value);
        }
    }

    /// Asks for what has the tag, of that value if one is given.
    pub(super) fn tagged(&mut self, tag: &str, value: Option<&str>) {
        match value {
            Some(value) => self.filter(1, &format!("tag:{tag}"), &[value]),
            None => self.filter(1, "tag-key", &[tag]),
        }
    }

    pub(super) fn tags(&mut self, number: usize, kind: &str, tags: &Tags) {
        let prefix = format!("TagSpecification.{number}");
        self.add(format!("{prefix}.ResourceType"), kind);
        for (position, (key, value)) in tags.iter().enumerate() {
            self.add(format!("{prefix}.Tag.{}.Key", position + 1), key);
            self.add(format!("{prefix}.Tag.{}.Value", position + 1), value);
        }
    }
}

impl Session {
    pub(super) async fn ec2(&self, action: &'static str, fields: Fields) -> Result<String, Error> {
        let name = action.split(':').nth(1).unwrap_or_default();
        let fields: Vec<(&str, &str)> = fields
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let form = form(name, VERSION, &fields);
        self.call(Call {
            action,
            body: Body::Query(&form),
        })
        .await
    }

    /// The members of a list on all pages of an answer. A page may be empty and not the last.
    pub(super) async fn ec2_items<T>(
        &self,
        action: &'static str,
        fields: Fields,
        list: &str,
        read: impl Fn(Node<'_, '_>) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        let mut token = String::new();
        for _ in 0..MOST_PAGES {
            let mut fields = fields.clone();
            if !token.is_empty() {
                fields.add("NextToken", &token);
            }
            let answer = self.ec2(action, fields).await?;
            let document = xml::parse(action, &answer)?;
            let root = document.root_element();
            found.extend(xml::items(root, list).map(&read));
            let next = xml::text(root, &["nextToken"]);
            if next.is_empty() || next == token {
                return Ok(found);
            }
            next.clone_into(&mut token);
        }
        Err(Error::new(
            action,
            Kind::Answer,
            "the answer has no last page",
        ))
    }

    /// What the type is; an unknown one is [`Kind::Unsupported`].
    pub async fn instance_type(&self, name: &str) -> Result<InstanceType, Error> {
        let action = "ec2:DescribeInstanceTypes";
        let mut fields = Fields::default();
        fields.add("InstanceType.1", name);
        let found = self.ec2_items(action, fields, "instanceTypeSet", instance_type);
        let is_it = |kind: &InstanceType| kind.name == name || kind.name.is_empty();
        let found = found.await?.into_iter().find(is_it);
        let named = found.map(|kind| InstanceType {
            name: name.to_owned(),
            ..kind
        });
        named.ok_or_else(|| {
            let why = format!("{} does not offer {name:?}", self.region());
            Error::new(action, Kind::Unsupported, why)
        })
    }

    /// The zones of the region that offer the type.
    pub async fn zones_with(&self, instance_type: &str) -> Result<Vec<String>, Error> {
        let action = "ec2:DescribeInstanceTypeOfferings";
        let mut fields = Fields::default();
        fields.add("LocationType", "availability-zone");
        fields.filter(1, "instance-type", &[instance_type]);
        let offers = self.ec2_items(action, fields, "instanceTypeOfferingSet", |item| {
            let text = |name| xml::text(item, &[name]).to_owned();
            (text("instanceType"), text("location"))
        });
        let offers = offers.await?.into_iter();
        Ok(offers
            .filter(|(name, _)| name.is_empty() || name == instance_type)
            .map(|(_, location)| location)
            .collect())
    }

    /// The subnet of that id, or the default subnets of all zones.
    pub async fn subnets(&self, id: Option<&str>) -> Result<Vec<Subnet>, Error> {
        let action = "ec2:DescribeSubnets";
        let mut fields = Fields::default();
        match id {
            Some(id) => fields.add("SubnetId.1", id),
            None => fields.filter(1, "default-for-az", &["true"]),
        }
        let found = self.ec2_items(action, fields, "subnetSet", |item| {
            let text = |name| xml::text(item, &[name]).to_owned();
            let subnet = Subnet {
                id: text("subnetId"),
                vpc: text("vpcId"),
                zone: text("availabilityZone"),
            };
            (subnet, text("defaultForAz"))
        });
        let mut subnets: Vec<Subnet> = found
            .await?
            .into_iter()
            .filter(|(subnet, is_default)| id.map_or(is_default != "false", |id| subnet.id == id))
            .map(|(subnet, _)| subnet)
            .collect();
        subnets.sort_by(|one, other| one.zone.cmp(&other.zone));
        if subnets.is_empty() {
            let why = match id {
                Some(id) => format!("there is no subnet {id}"),
                None => format!(
                    "{} has no default subnet; give one by --subnet",
                    self.region()
                ),
            };
            return Err(Error::new(action, Kind::NotFound, why));
        }
        Ok(subnets)
    }

    /// The instance of that id.
    pub async fn instance(&self, id: &str) -> Result<Instance, Error> {
        let mut fields = Fields::default();
        fields.add("InstanceId.1", id);
        let found = self.described(fields).await?;
        found
            .into_iter()
            .find(|instance| instance.id == id)
            .ok_or_else(|| {
                let why = format!("there is no instance {id}");
                Error::new("ec2:DescribeInstances", Kind::NotFound, why)
            })
    }

    /// The instances with a tag, of that value if one is given; ended ones included for as long as EC2 remembers them.
    pub async fn instances(&self, tag: &str, value: Option<&str>) -> Result<Vec<Instance>, Error> {
        let mut fields = Fields::default();
        fields.tagged(tag, value);
        fields.add("MaxResults", "200");
        let mut found = self.described(fields).await?;
        found.retain(|instance| has_tag(&instance.tags, tag, value));
        Ok(found)
    }

    /// The instances that are in a security group: asked for by it or, where the filter may not see the groups of network
    /// interfaces, found among all of the account.
    pub async fn instances_in(&self, group: &str, among_all: bool) -> Result<Vec<Instance>, Error> {
        let mut fields = Fields::default();
        if among_all {
            fields.add("MaxResults", "200");
        } else {
            fields.filter(1, "instance.group-id", &[group]);
        }
        let mut found = self.described(fields).await?;
        found.retain(|instance| instance.groups.iter().any(|other| other == group));
        Ok(found)
    }

    async fn described(&self, fields: Fields) -> Result<Vec<Instance>, Error> {
        let action = "ec2:DescribeInstances";
        let reservations = self.ec2_items(action, fields, "reservationSet", |reservation| {
            xml::items(reservation, "instancesSet")
                .map(instance)
                .collect::<Vec<_>>()
        });
        Ok(reservations.await?.into_iter().flatten().collect())
    }

    /// Ends an instance; `false` when there is none, any more or yet.
    pub async fn terminate(&self, id: &str) -> Result<bool, Error> {
        let mut fields = Fields::default();
        fields.add("InstanceId.1", id);
        match self.ec2("ec2:TerminateInstances", fields).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets tags of an instance or a group. One that was made a moment ago gets some time to be known.
    pub async fn tag(&self, id: &str, tags: &Tags) -> Result<(), Error> {
        let action = "ec2:CreateTags";
        let mut fields = Fields::default();
        fields.add("ResourceId.1", id);
        for (position, (key, value)) in tags.iter().enumerate() {
            fields.add(format!("Tag.{}.Key", position + 1), key);
            fields.add(format!("Tag.{}.Value", position + 1), value);
        }
        let mut poll = Poll::within(KNOWN_WITHIN).at_most_every(Duration::from_secs(2));
        loop {
            match self.ec2(action, fields.clone()).await {
                Err(error) if error.kind == Kind::NotFound => {
                    if poll.wait(action, id).await.is_err() {
                        return Err(error);
                    }
                }
                tagged => return tagged.map(|_| ()),
            }
        }
    }
}

/// Whether the tag is among them, of that value if one is given.
pub(super) fn has_tag(tags: &Tags, tag: &str, value: Option<&str>) -> bool {
    tags.get(tag)
        .is_some_and(|found| value.is_none_or(|value| found == value))
}

pub(super) fn tags(item: Node<'_, '_>) -> Tags {
    xml::items(item, "tagSet")
        .map(|tag| {
            let part = |name| xml::text(tag, &[name]).to_owned();
            (part("key"), part("value"))
        })
        .collect()
}

/// The groups of the instance and of its network interfaces, each once: not every endpoint tells both.
fn groups(item: Node<'_, '_>) -> Vec<String> {
    let interfaces = xml::items(item, "networkInterfaceSet");
    let mut found: Vec<String> = std::iter::once(item)
        .chain(interfaces)
        .flat_map(|owner| xml::items(owner, "groupSet"))
        .map(|group| xml::text(group, &["groupId"]).to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn instance_type(item: Node<'_, '_>) -> InstanceType {
    let text = |path: &[&str]| xml::text(item, path).to_owned();
    let architectures = item
        .children()
        .filter(|child| child.tag_name().name() == "processorInfo")
        .flat_map(|info| xml::items(info, "supportedArchitectures"))
        .filter_map(|item| item.text().map(|name| name.trim().to_owned()))
        .collect();
    InstanceType {
        name: text(&["instanceType"]),
        vcpus: text(&["vCpuInfo", "defaultVCpus"]).parse().unwrap_or(0),
        memory_mib: text(&["memoryInfo", "sizeInMiB"]).parse().unwrap_or(0),
        architectures,
        is_burstable: text(&["burstablePerformanceSupported"]) == "true",
        network: text(&["networkInfo", "networkPerformance"]),
    }
}

/// The public address, which some tell of the network interface only.
fn public_address(item: Node<'_, '_>) -> Option<IpAddr> {
    let own = xml::text(item, &["ipAddress"]).parse().ok();
    own.or_else(|| {
        xml::items(item, "networkInterfaceSet")
            .find_map(|link| xml::text(link, &["association", "publicIp"]).parse().ok())
    })
}

fn private_address(item: Node<'_, '_>) -> Option<IpAddr> {
    let own = xml::text(item, &["privateIpAddress"]).parse().ok();
    own.or_else(|| {
        xml::items(item, "networkInterfaceSet")
            .find_map(|link| xml::text(link, &["privateIpAddress"]).parse().ok())
    })
}

pub(super) fn instance(item: Node<'_, '_>) -> Instance {
    let text = |path: &[&str]| xml::text(item, path).to_owned();
    Instance {
        id: text(&["instanceId"]),
        state: text(&["instanceState", "name"]),
        instance_type: text(&["instanceType"]),
        architecture: text(&["architecture"]),
        zone: text(&["placement", "availabilityZone"]),
        private_address: private_address(item),
        public_address: public_address(item),
        launched: text(&["launchTime"]),
        groups: groups(item),
        tags: tags(item),
        reason: text(&["stateReason", "message"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_escaped() {
        let text = form("X", "1", &[("Tag.1.Key", "sizer:run"), ("V", "a b&c=ä~")]);
        assert_eq!(
            text,
            "Action=X&Version=1&Tag.1.Key=sizer%3Arun&V=a%20b%26c%3D%C3%A4~"
        );
    }

    #[test]
    fn an_instance_is_read() {
        let answer = r"<DescribeInstancesResponse><reservationSet><item><groupSet/><instancesSet><item>
            <instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>
            <instanceType>m8g.large</instanceType><placement><availabilityZone>eu-west-1a</availabilityZone></placement>
            <privateIpAddress>10.0.0.7</privateIpAddress><ipAddress>192.0.2.1</ipAddress>
            <groupSet><item><groupId>sg-1</groupId></item></groupSet>
            <tagSet><item><key>sizer:run</key><value>r1</value></item></tagSet>
            <networkInterfaceSet><item><privateIpAddress>10.0.0.8</privateIpAddress>
            <groupSet><item><groupId>sg-2</groupId></item><item><groupId>sg-1</groupId></item></groupSet></item></networkInterfaceSet>
            </item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
        let document = xml::parse("ec2:DescribeInstances", answer).unwrap();
        let found: Vec<Instance> = xml::items(document.root_element(), "reservationSet")
            .flat_map(|reservation| xml::items(reservation, "instancesSet"))
            .map(instance)
            .collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, "i-1");
        assert_eq!(found[0].private_address, "10.0.0.7".parse().ok());
        assert_eq!(found[0].groups, ["sg-1", "sg-2"]);
        assert_eq!(found[0].tags["sizer:run"], "r1");
        assert!(!found[0].is_gone());
    }

    #[test]
    fn addresses_and_types_are_read_wherever_they_stand() {
        let answer = "<A xmlns='urn:x'>\n<set><item>\n <instanceType>\n m8g.large </instanceType><processorInfo><supportedArchitectures>
            <item> arm64 </item></supportedArchitectures></processorInfo>
            <networkInterfaceSet><item><privateIpAddress>10.0.0.8</privateIpAddress><association>
            <publicIp> 192.0.2.7 </publicIp></association></item></networkInterfaceSet><tagSet/></item></set></A>";
        let document = xml::parse("ec2:DescribeInstances", answer).unwrap();
        let item = xml::items(document.root_element(), "set").next().unwrap();
        assert_eq!(public_address(item), "192.0.2.7".parse().ok());
        assert_eq!(private_address(item), "10.0.0.8".parse().ok());
        let kind = instance_type(item);
        assert_eq!(
            (kind.name.as_str(), kind.architectures),
            ("m8g.large", vec!["arm64".to_owned()])
        );
        assert!(tags(item).is_empty());
    }

    #[test]
    fn a_name_tells_the_processor() {
        for (name, architecture, is_burstable) in [
            ("t3.medium", "x86_64", true),
            ("t4g.small", "arm64", true),
            ("trn1.2xlarge", "x86_64", false),
            ("m8g.large", "arm64", false),
            ("m8i-flex.large", "x86_64", false),
            ("c7gn.xlarge", "arm64", false),
            ("g4dn.xlarge", "x86_64", false),
            ("g5g.xlarge", "arm64", false),
            ("a1.large", "arm64", false),
            ("x2gd.metal", "arm64", false),
            ("u-6tb1.metal", "x86_64", false),
            ("odd", "x86_64", false),
        ] {
            let kind = InstanceType::of_name(name);
            assert_eq!(kind.architectures, [architecture], "{name}");
            assert_eq!(kind.is_burstable, is_burstable, "{name}");
        }
    }

    #[test]
    fn only_the_tag_that_was_asked_for_counts() {
        let tags = Tags::from([("sizer:run".to_owned(), "r1".to_owned())]);
        assert!(has_tag(&tags, "sizer:run", None) && has_tag(&tags, "sizer:run", Some("r1")));
        assert!(!has_tag(&tags, "sizer:run", Some("r2")) && !has_tag(&tags, "Name", None));
    }
}
