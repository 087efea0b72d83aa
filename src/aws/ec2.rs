//! EC2: instance types, subnets, security groups, instances.
//!
//! Owns the forms of the few calls that a run needs and the reading of their answers. Decides nothing: which subnet is
//! tried next, and what is removed when, is the caller's. Called by the `ssm` target, `check`, `gc` and `list`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roxmltree::Node;

use super::error::{Error, Kind};
use super::session::{Body, Call, Session};
use super::xml;

const VERSION: &str = "2016-11-15";

/// Tags in the order of their keys.
pub type Tags = BTreeMap<String, String>;

/// What an instance type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceType {
    /// Such as `m8g.large`.
    pub name: String,
    /// Virtual cores.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Such as `arm64`, `x86_64`.
    pub architectures: Vec<String>,
    /// Whether its CPU lives on credits.
    pub is_burstable: bool,
    /// Network in Amazon's words.
    pub network: String,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Such as `subnet-…`.
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

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Such as `sg-…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
}

/// What to launch.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Makes the call idempotent.
    pub token: &'a str,
    /// The image.
    pub image: &'a str,
    /// The instance type.
    pub instance_type: &'a str,
    /// The subnet.
    pub subnet: &'a str,
    /// The security group.
    pub group: &'a str,
    /// The instance profile by name, or by ARN.
    pub profile: &'a str,
    /// Whether it gets a public address.
    pub public: bool,
    /// Shell script of the first boot, plain.
    pub user_data: &'a str,
    /// Tags for the instance, its volume and its network interface.
    pub tags: &'a Tags,
    /// Size of the root volume.
    pub disk_gib: u32,
    /// Whether its CPU lives on credits: then unlimited ones, so that credits do not falsify the sizing.
    pub is_burstable: bool,
    /// Only ask whether it would be allowed.
    pub dry_run: bool,
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
#[derive(Debug, Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    fn filter(&mut self, number: usize, name: &str, values: &[&str]) {
        self.add(format!("Filter.{number}.Name"), name);
        for (position, value) in values.iter().enumerate() {
            self.add(format!("Filter.{number}.Value.{}", position + 1), *value);
        }
    }

    fn tags(&mut self, number: usize, kind: &str, tags: &Tags) {
        let prefix = format!("TagSpecification.{number}");
        self.add(format!("{prefix}.ResourceType"), kind);
        for (position, (key, value)) in tags.iter().enumerate() {
            self.add(format!("{prefix}.Tag.{}.Key", position + 1), key);
            self.add(format!("{prefix}.Tag.{}.Value", position + 1), value);
        }
    }
}

impl Session {
    async fn ec2(&self, action: &'static str, fields: Fields) -> Result<String, Error> {
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

    /// What the type is; an unknown one is [`Kind::Unsupported`].
    pub async fn instance_type(&self, name: &str) -> Result<InstanceType, Error> {
        let action = "ec2:DescribeInstanceTypes";
        let mut fields = Fields::default();
        fields.add("InstanceType.1", name);
        let answer = self.ec2(action, fields).await?;
        let document = xml::parse(action, &answer)?;
        let item = xml::items(document.root_element(), "instanceTypeSet")
            .next()
            .ok_or_else(|| {
                let why = format!("{} does not offer {name:?}", self.region());
                Error::new(action, Kind::Unsupported, why)
            })?;
        let architectures = item
            .children()
            .find(|child| child.tag_name().name() == "processorInfo")
            .into_iter()
            .flat_map(|info| xml::items(info, "supportedArchitectures"))
            .filter_map(|item| item.text().map(str::to_owned))
            .collect();
        Ok(InstanceType {
            name: name.to_owned(),
            vcpus: xml::text(item, &["vCpuInfo", "defaultVCpus"])
                .parse()
                .unwrap_or(0),
            memory_mib: xml::text(item, &["memoryInfo", "sizeInMiB"])
                .parse()
                .unwrap_or(0),
            architectures,
            is_burstable: xml::text(item, &["burstablePerformanceSupported"]) == "true",
            network: xml::text(item, &["networkInfo", "networkPerformance"]).to_owned(),
        })
    }

    /// The zones of the region that offer the type.
    pub async fn zones_with(&self, instance_type: &str) -> Result<Vec<String>, Error> {
        let action = "ec2:DescribeInstanceTypeOfferings";
        let mut fields = Fields::default();
        fields.add("LocationType", "availability-zone");
        fields.filter(1, "instance-type", &[instance_type]);
        let answer = self.ec2(action, fields).await?;
        let document = xml::parse(action, &answer)?;
        Ok(
            xml::items(document.root_element(), "instanceTypeOfferingSet")
                .map(|item| xml::text(item, &["location"]).to_owned())
                .collect(),
        )
    }

    /// The subnet of that id, or the default subnets of all zones.
    pub async fn subnets(&self, id: Option<&str>) -> Result<Vec<Subnet>, Error> {
        let action = "ec2:DescribeSubnets";
        let mut fields = Fields::default();
        match id {
            Some(id) => fields.add("SubnetId.1", id),
            None => fields.filter(1, "default-for-az", &["true"]),
        }
        let answer = self.ec2(action, fields).await?;
        let document = xml::parse(action, &answer)?;
        let mut subnets: Vec<Subnet> = xml::items(document.root_element(), "subnetSet")
            .map(|item| Subnet {
                id: xml::text(item, &["subnetId"]).to_owned(),
                vpc: xml::text(item, &["vpcId"]).to_owned(),
                zone: xml::text(item, &["availabilityZone"]).to_owned(),
            })
            .collect();
        subnets.sort_by(|one, other| one.zone.cmp(&other.zone));
        if subnets.is_empty() {
            let why = format!(
                "{} has no default subnet; give one by --subnet",
                self.region()
            );
            return Err(Error::new(action, Kind::NotFound, why));
        }
        Ok(subnets)
    }

    /// Makes a security group, or finds the one of that name that is there already.
    pub async fn make_group(&self, name: &str, vpc: &str, tags: &Tags) -> Result<String, Error> {
        let action = "ec2:CreateSecurityGroup";
        let mut fields = Fields::default();
        fields.add("GroupName", name);
        fields.add("GroupDescription", "autosizer: the load generator only");
        fields.add("VpcId", vpc);
        fields.tags(1, "security-group", tags);
        match self.ec2(action, fields).await {
            Ok(answer) => {
                let document = xml::parse(action, &answer)?;
                Ok(xml::text(document.root_element(), &["groupId"]).to_owned())
            }
            Err(error) if error.kind == Kind::Duplicate => {
                let found = self.groups("group-name", &[name]).await?;
                let first = found.into_iter().next();
                first.map(|group| group.id).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets addresses in to one TCP port; that they may already is fine.
    pub async fn let_in(&self, group: &str, port: u16, cidr: &str) -> Result<(), Error> {
        let action = "ec2:AuthorizeSecurityGroupIngress";
        let mut fields = Fields::default();
        fields.add("GroupId", group);
        fields.add("IpPermissions.1.IpProtocol", "tcp");
        fields.add("IpPermissions.1.FromPort", port.to_string());
        fields.add("IpPermissions.1.ToPort", port.to_string());
        let (list, name) = if cidr.contains(':') {
            ("Ipv6Ranges", "CidrIpv6")
        } else {
            ("IpRanges", "CidrIp")
        };
        fields.add(format!("IpPermissions.1.{list}.1.{name}"), cidr);
        match self.ec2(action, fields).await {
            Err(error) if error.kind != Kind::Duplicate => Err(error),
            _ => Ok(()),
        }
    }

    /// The security groups by a filter; `tag-key` with `sizer:run` finds all of ours.
    pub async fn groups(&self, filter: &str, values: &[&str]) -> Result<Vec<Group>, Error> {
        let action = "ec2:DescribeSecurityGroups";
        let mut fields = Fields::default();
        fields.filter(1, filter, values);
        let answer = self.ec2(action, fields).await?;
        let document = xml::parse(action, &answer)?;
        Ok(xml::items(document.root_element(), "securityGroupInfo")
            .map(|item| Group {
                id: xml::text(item, &["groupId"]).to_owned(),
                name: xml::text(item, &["groupName"]).to_owned(),
                tags: tags(item),
            })
            .collect())
    }

    /// Removes a security group; that it is gone is fine, that something uses it is [`Kind::InUse`].
    pub async fn remove_group(&self, id: &str) -> Result<(), Error> {
        let mut fields = Fields::default();
        fields.add("GroupId", id);
        match self.ec2("ec2:DeleteSecurityGroup", fields).await {
            Err(error) if error.kind != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Launches one instance.
    pub async fn launch(&self, launch: &Launch<'_>) -> Result<Instance, Error> {
        let action = "ec2:RunInstances";
        let answer = self.ec2(action, launch.fields()).await?;
        let document = xml::parse(action, &answer)?;
        xml::items(document.root_element(), "instancesSet")
            .map(instance)
            .next()
            .ok_or_else(|| Error::new(action, Kind::Answer, "no instance in the answer"))
    }

    /// The instance of that id.
    pub async fn instance(&self, id: &str) -> Result<Instance, Error> {
        let mut fields = Fields::default();
        fields.add("InstanceId.1", id);
        let found = self.describe(fields).await?;
        found.into_iter().next().ok_or_else(|| {
            let why = format!("there is no instance {id}");
            Error::new("ec2:DescribeInstances", Kind::NotFound, why)
        })
    }

    /// The instances by a filter, ended ones included for as long as EC2 remembers them.
    pub async fn instances(&self, filter: &str, values: &[&str]) -> Result<Vec<Instance>, Error> {
        let mut found = Vec::new();
        let mut next = String::new();
        loop {
            let mut fields = Fields::default();
            fields.filter(1, filter, values);
            fields.add("MaxResults", "200");
            if !next.is_empty() {
                fields.add("NextToken", &next);
            }
            let (page, token) = self.describe_page(fields).await?;
            found.extend(page);
            if token.is_empty() {
                return Ok(found);
            }
            next = token;
        }
    }

    async fn describe(&self, fields: Fields) -> Result<Vec<Instance>, Error> {
        Ok(self.describe_page(fields).await?.0)
    }

    async fn describe_page(&self, fields: Fields) -> Result<(Vec<Instance>, String), Error> {
        let action = "ec2:DescribeInstances";
        let answer = self.ec2(action, fields).await?;
        let document = xml::parse(action, &answer)?;
        let root = document.root_element();
        let found = xml::items(root, "reservationSet")
            .flat_map(|reservation| xml::items(reservation, "instancesSet"))
            .map(instance)
            .collect();
        Ok((found, xml::text(root, &["nextToken"]).to_owned()))
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

    /// Sets tags of an instance.
    pub async fn tag(&self, id: &str, tags: &Tags) -> Result<(), Error> {
        let mut fields = Fields::default();
        fields.add("ResourceId.1", id);
        for (position, (key, value)) in tags.iter().enumerate() {
            fields.add(format!("Tag.{}.Key", position + 1), key);
            fields.add(format!("Tag.{}.Value", position + 1), value);
        }
        self.ec2("ec2:CreateTags", fields).await.map(|_| ())
    }
}

impl Launch<'_> {
    fn fields(&self) -> Fields {
        use base64::Engine;
        let mut fields = Fields::default();
        let one = |fields: &mut Fields, name: &str, value: &str| fields.add(name, value);
        one(&mut fields, "MinCount", "1");
        one(&mut fields, "MaxCount", "1");
        one(&mut fields, "ClientToken", self.token);
        one(&mut fields, "ImageId", self.image);
        one(&mut fields, "InstanceType", self.instance_type);
        let profile = if self.profile.starts_with("arn:") {
            "Arn"
        } else {
            "Name"
        };
        fields.add(format!("IamInstanceProfile.{profile}"), self.profile);
        one(&mut fields, "NetworkInterface.1.DeviceIndex", "0");
        one(&mut fields, "NetworkInterface.1.SubnetId", self.subnet);
        one(
            &mut fields,
            "NetworkInterface.1.SecurityGroupId.1",
            self.group,
        );
        one(
            &mut fields,
            "NetworkInterface.1.DeleteOnTermination",
            "true",
        );
        let public = if self.public { "true" } else { "false" };
        one(
            &mut fields,
            "NetworkInterface.1.AssociatePublicIpAddress",
            public,
        );
        // The service in its container has no business with the instance's credentials: one hop does not reach it.
        one(&mut fields, "MetadataOptions.HttpTokens", "required");
        one(&mut fields, "MetadataOptions.HttpPutResponseHopLimit", "1");
        one(
            &mut fields,
            "InstanceInitiatedShutdownBehavior",
            "terminate",
        );
        one(&mut fields, "BlockDeviceMapping.1.DeviceName", "/dev/xvda");
        one(&mut fields, "BlockDeviceMapping.1.Ebs.VolumeType", "gp3");
        one(
            &mut fields,
            "BlockDeviceMapping.1.Ebs.DeleteOnTermination",
            "true",
        );
        fields.add(
            "BlockDeviceMapping.1.Ebs.VolumeSize",
            self.disk_gib.to_string(),
        );
        if self.is_burstable {
            one(&mut fields, "CreditSpecification.CpuCredits", "unlimited");
        }
        let user_data = base64::engine::general_purpose::STANDARD.encode(self.user_data);
        fields.add("UserData", user_data);
        for (position, kind) in ["instance", "volume", "network-interface"]
            .iter()
            .enumerate()
        {
            fields.tags(position + 1, kind, self.tags);
        }
        if self.dry_run {
            one(&mut fields, "DryRun", "true");
        }
        fields
    }
}

fn tags(item: Node<'_, '_>) -> Tags {
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

fn instance(item: Node<'_, '_>) -> Instance {
    let text = |path: &[&str]| xml::text(item, path).to_owned();
    Instance {
        id: text(&["instanceId"]),
        state: text(&["instanceState", "name"]),
        instance_type: text(&["instanceType"]),
        architecture: text(&["architecture"]),
        zone: text(&["placement", "availabilityZone"]),
        private_address: text(&["privateIpAddress"]).parse().ok(),
        public_address: text(&["ipAddress"]).parse().ok(),
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
    fn a_launch_is_hardened_and_tagged() {
        let tags = Tags::from([("sizer:run".to_owned(), "r1".to_owned())]);
        let launch = Launch {
            token: "t",
            image: "ami-1",
            instance_type: "t3.medium",
            subnet: "subnet-1",
            group: "sg-1",
            profile: "p",
            public: true,
            user_data: "#!/bin/sh\n",
            tags: &tags,
            disk_gib: 20,
            is_burstable: true,
            dry_run: true,
        };
        let fields = launch.fields().0;
        let has = |name: &str, value: &str| fields.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("MetadataOptions.HttpTokens", "required"));
        assert!(has("InstanceInitiatedShutdownBehavior", "terminate"));
        assert!(has("TagSpecification.3.Tag.1.Key", "sizer:run"));
        assert!(has("DryRun", "true"));
        assert!(!fields.iter().any(|(name, _)| name == "KeyName"));
    }
}
