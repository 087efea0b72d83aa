//! Security groups.
//!
//! Owns making, opening, finding and removing them. Called by the `ssm` target and by its cleaning.

use std::time::Duration;

use super::ec2::{Fields, KNOWN_WITHIN, Tags, has_tag, tags as read_tags};
use super::error::{Error, Kind};
use super::retry::Poll;
use super::session::Session;
use super::xml;

const ALL: &str = "ec2:DescribeSecurityGroups";

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

impl Session {
    /// Makes a security group, or finds the one of that name that is there already, because the answer to its making got
    /// lost. Without a `vpc` it is in the default one.
    pub async fn make_group(&self, name: &str, vpc: &str, tags: &Tags) -> Result<Group, Error> {
        let action = "ec2:CreateSecurityGroup";
        let mut fields = Fields::default();
        fields.add("GroupName", name);
        fields.add("GroupDescription", "autosizer: the load generator only");
        if !vpc.is_empty() {
            fields.add("VpcId", vpc);
        }
        fields.tags(1, "security-group", tags);
        let error = match self.ec2(action, fields).await {
            Ok(answer) => {
                let document = xml::parse(action, &answer)?;
                let root = document.root_element();
                let id = xml::text(root, &["groupId"]).to_owned();
                if id.is_empty() {
                    return Err(Error::new(action, Kind::Answer, "no group in the answer"));
                }
                return Ok(Group {
                    id,
                    name: name.to_owned(),
                    tags: read_tags(root),
                });
            }
            Err(error) if error.kind == Kind::Duplicate => error,
            Err(error) => return Err(error),
        };
        let mut poll = Poll::within(KNOWN_WITHIN).at_most_every(Duration::from_secs(2));
        loop {
            if let Some(found) = self.groups_named(name).await?.into_iter().next() {
                return Ok(found);
            }
            if poll.wait(action, "the group to be listed").await.is_err() {
                return Err(error);
            }
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
        let mut poll = Poll::within(KNOWN_WITHIN).at_most_every(Duration::from_secs(2));
        loop {
            match self.ec2(action, fields.clone()).await {
                Err(error) if error.kind == Kind::NotFound => {
                    if poll.wait(action, group).await.is_err() {
                        return Err(error);
                    }
                }
                Err(error) if error.kind != Kind::Duplicate => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// The security groups with a tag, of that value if one is given.
    pub async fn groups(&self, tag: &str, value: Option<&str>) -> Result<Vec<Group>, Error> {
        let mut fields = Fields::default();
        fields.tagged(tag, value);
        let mut found = self.all_groups(fields).await?;
        found.retain(|group| has_tag(&group.tags, tag, value));
        Ok(found)
    }

    /// The security groups of that name; there may be one in each VPC.
    pub async fn groups_named(&self, name: &str) -> Result<Vec<Group>, Error> {
        let mut fields = Fields::default();
        fields.filter(1, "group-name", &[name]);
        let mut found = self.all_groups(fields).await?;
        found.retain(|group| group.name == name);
        Ok(found)
    }

    /// The default group of a VPC; without a `vpc` whichever comes first.
    pub async fn default_group(&self, vpc: &str) -> Result<Option<Group>, Error> {
        let mut fields = Fields::default();
        fields.filter(1, "group-name", &["default"]);
        if !vpc.is_empty() {
            fields.filter(2, "vpc-id", &[vpc]);
        }
        let found = self.all_groups(fields).await?;
        Ok(found.into_iter().find(|group| group.name == "default"))
    }

    async fn all_groups(&self, fields: Fields) -> Result<Vec<Group>, Error> {
        let groups = self.ec2_items(ALL, fields, "securityGroupInfo", |item| Group {
            id: xml::text(item, &["groupId"]).to_owned(),
            name: xml::text(item, &["groupName"]).to_owned(),
            tags: read_tags(item),
        });
        groups.await
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
}
