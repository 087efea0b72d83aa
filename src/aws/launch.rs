//! Launching an instance.
//!
//! Owns the form of `RunInstances`: what every instance of ours has, whoever asks for it. Called by the `ssm` target and by
//! `check`.

use super::ec2::{Fields, Instance, Tags, instance};
use super::error::{Error, Kind};
use super::session::Session;
use super::xml;

/// What to launch.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Makes the call idempotent.
    pub token: &'a str,
    /// The image.
    pub image: &'a str,
    /// The instance type.
    pub instance_type: &'a str,
    /// The subnet; empty for the one that EC2 chooses.
    pub subnet: &'a str,
    /// The security group; empty for the default one.
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

impl Session {
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
        for (name, value) in [("SubnetId", self.subnet), ("SecurityGroupId.1", self.group)] {
            if !value.is_empty() {
                fields.add(format!("NetworkInterface.1.{name}"), value);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(subnet: &str, tags: &Tags) -> Vec<(String, String)> {
        let launch = Launch {
            token: "t",
            image: "ami-1",
            instance_type: "t3.medium",
            subnet,
            group: "sg-1",
            profile: "p",
            public: true,
            user_data: "#!/bin/sh\n",
            tags,
            disk_gib: 20,
            is_burstable: true,
            dry_run: true,
        };
        launch.fields().0
    }

    #[test]
    fn a_launch_is_hardened_and_tagged() {
        let tags = Tags::from([("sizer:run".to_owned(), "r1".to_owned())]);
        let fields = fields("subnet-1", &tags);
        let has = |name: &str, value: &str| fields.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("MetadataOptions.HttpTokens", "required"));
        assert!(has("InstanceInitiatedShutdownBehavior", "terminate"));
        assert!(has("TagSpecification.3.Tag.1.Key", "sizer:run"));
        assert!(has("NetworkInterface.1.SubnetId", "subnet-1"));
        assert!(has("DryRun", "true"));
        assert!(!fields.iter().any(|(name, _)| name == "KeyName"));
    }

    #[test]
    fn without_a_subnet_the_choice_is_left_to_ec2() {
        let fields = fields("", &Tags::new());
        let is_there = |part: &str| fields.iter().any(|(name, _)| name.contains(part));
        assert!(!is_there("SubnetId"));
        assert!(is_there("SecurityGroupId"));
    }
}
