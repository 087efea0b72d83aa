//! The permissions that `autosizer --on ssm` needs.
//!
//! Owns the two policies (of whoever runs it, and of the instance's role) as data, so that what is printed, what error
//! texts name and what the documentation shows cannot differ. Called by `iam-policy` and by the error texts.

use serde_json::{Value, json};

/// One statement of the operator's policy.
struct Statement {
    name: &'static str,
    actions: &'static [&'static str],
    scope: Scope,
}

/// What a statement is limited to.
enum Scope {
    /// These calls know no resources.
    Everything,
    /// Things that are being made with our tag on them.
    MadeWithTag,
    /// What an instance is made of besides itself.
    Parts,
    /// Only things that carry our tag.
    Tagged,
    /// Tags, at creation and on what is ours.
    Tags,
    /// The instance's role, to EC2.
    Role,
    /// The document that runs scripts.
    Document,
    /// Amazon's own public parameters.
    PublicParameters,
    /// Objects below the prefix.
    Objects,
    /// The bucket itself.
    Bucket,
}

const STATEMENTS: &[Statement] = &[
    Statement {
        name: "Look",
        actions: &[
            "ec2:DescribeInstances",
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:DescribeSubnets",
            "ec2:DescribeSecurityGroups",
            "ssm:DescribeInstanceInformation",
            "ssm:GetCommandInvocation",
            "ssm:ListCommands",
            "ssm:ListCommandInvocations",
            "ssm:CancelCommand",
            "pricing:GetProducts",
            "servicequotas:GetServiceQuota",
            "iam:GetInstanceProfile",
        ],
        scope: Scope::Everything,
    },
    Statement {
        name: "Launch",
        actions: &["ec2:RunInstances", "ec2:CreateSecurityGroup"],
        scope: Scope::MadeWithTag,
    },
    Statement {
        name: "LaunchParts",
        actions: &["ec2:RunInstances", "ec2:CreateSecurityGroup"],
        scope: Scope::Parts,
    },
    Statement {
        name: "Tag",
        actions: &["ec2:CreateTags"],
        scope: Scope::Tags,
    },
    Statement {
        name: "EndOwn",
        actions: &[
            "ec2:TerminateInstances",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:DeleteSecurityGroup",
        ],
        scope: Scope::Tagged,
    },
    Statement {
        name: "PassRole",
        actions: &["iam:PassRole"],
        scope: Scope::Role,
    },
    Statement {
        name: "Command",
        actions: &["ssm:SendCommand"],
        scope: Scope::Tagged,
    },
    Statement {
        name: "CommandDocument",
        actions: &["ssm:SendCommand"],
        scope: Scope::Document,
    },
    Statement {
        name: "Image",
        actions: &["ssm:GetParameter"],
        scope: Scope::PublicParameters,
    },
    Statement {
        name: "Output",
        actions: &["s3:GetObject", "s3:DeleteObject"],
        scope: Scope::Objects,
    },
    Statement {
        name: "OutputBucket",
        actions: &["s3:ListBucket"],
        scope: Scope::Bucket,
    },
];

/// What the policies are made for; the defaults are words in capitals to be replaced by hand.
#[derive(Debug, Clone)]
pub struct Names {
    /// The bucket for the outputs of commands.
    pub bucket: String,
    /// Where in it, without slashes around.
    pub prefix: String,
    /// The role of the instance.
    pub role: String,
    /// The account's number.
    pub account: String,
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            bucket: "BUCKET".to_owned(),
            prefix: "autosizer".to_owned(),
            role: "ROLE".to_owned(),
            account: "ACCOUNT".to_owned(),
            partition: "aws".to_owned(),
        }
    }
}

/// Which statement of the operator's policy allows the action.
pub fn statement_of(action: &str) -> Option<&'static str> {
    // A missing bucket permission shows as a failing HeadBucket, which no policy can name.
    let action = if action == "s3:HeadBucket" {
        "s3:ListBucket"
    } else {
        action
    };
    STATEMENTS
        .iter()
        .find(|statement| statement.actions.contains(&action))
        .map(|statement| statement.name)
}

/// The policy of whoever runs `autosizer`.
pub fn operator(names: &Names) -> Value {
    let statements: Vec<Value> = STATEMENTS
        .iter()
        .map(|statement| {
            let (resource, condition) = statement.scope.limits(names, statement.actions);
            let mut whole = serde_json::Map::new();
            whole.insert("Sid".to_owned(), statement.name.into());
            whole.insert("Effect".to_owned(), "Allow".into());
            whole.insert("Action".to_owned(), statement.actions.into());
            whole.insert("Resource".to_owned(), resource);
            if let Some(condition) = condition {
                whole.insert("Condition".to_owned(), condition);
            }
            Value::Object(whole)
        })
        .collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The policy of the instance's role, to be added to Amazon's `AmazonSSMManagedInstanceCore`, which gives no right to
/// write to any bucket.
pub fn instance(names: &Names) -> Value {
    let (bucket, objects) = names.bucket_and_objects();
    json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "Output", "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": objects },
            {
                "Sid": "OutputEncryption", "Effect": "Allow",
                "Action": ["s3:GetEncryptionConfiguration"], "Resource": bucket,
            },
        ],
    })
}

/// Who may take the instance's role.
pub fn trust() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "ec2.amazonaws.com" },
            "Action": "sts:AssumeRole",
        }],
    })
}

impl Names {
    fn bucket_and_objects(&self) -> (String, String) {
        let bucket = format!("arn:{}:s3:::{}", self.partition, self.bucket);
        let objects = format!("{bucket}/{}/*", self.prefix);
        (bucket, objects)
    }

    fn ec2(&self, what: &str) -> String {
        format!("arn:{}:ec2:*:{}:{what}/*", self.partition, self.account)
    }
}

impl Scope {
    /// Resources and condition.
    fn limits(&self, names: &Names, actions: &[&str]) -> (Value, Option<Value>) {
        let partition = &names.partition;
        let (bucket, objects) = names.bucket_and_objects();
        let tagged = || json!({ "Null": { "aws:ResourceTag/sizer:run": "false" } });
        match self {
            Self::Everything => (json!("*"), None),
            Self::MadeWithTag => (
                json!([
                    names.ec2("instance"),
                    names.ec2("volume"),
                    names.ec2("network-interface"),
                    names.ec2("security-group"),
                ]),
                Some(json!({ "Null": { "aws:RequestTag/sizer:run": "false" } })),
            ),
            Self::Parts => (
                json!([
                    format!("arn:{partition}:ec2:*::image/ami-*"),
                    names.ec2("subnet"),
                    names.ec2("vpc"),
                    names.ec2("security-group"),
                ]),
                None,
            ),
            Self::Tagged if actions.contains(&"ssm:SendCommand") => (
                json!(names.ec2("instance")),
                Some(json!({ "Null": { "ssm:resourceTag/sizer:run": "false" } })),
            ),
            Self::Tagged => (
                json!([names.ec2("instance"), names.ec2("security-group")]),
                Some(tagged()),
            ),
            Self::Tags => (
                json!([
                    names.ec2("instance"),
                    names.ec2("volume"),
                    names.ec2("network-interface"),
                    names.ec2("security-group"),
                ]),
                Some(json!({
                    "ForAllValues:StringLike": { "aws:TagKeys": ["sizer:*", "Name"] },
                })),
            ),
            Self::Role => (
                json!(format!(
                    "arn:{partition}:iam::{}:role/{}",
                    names.account, names.role
                )),
                Some(json!({ "StringEquals": { "iam:PassedToService": "ec2.amazonaws.com" } })),
            ),
            Self::Document => (
                json!(format!(
                    "arn:{partition}:ssm:*::document/AWS-RunShellScript"
                )),
                None,
            ),
            Self::PublicParameters => (
                json!(format!("arn:{partition}:ssm:*::parameter/aws/service/*")),
                None,
            ),
            Self::Objects => (json!(objects), None),
            Self::Bucket => (json!(bucket), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_complete() {
        let policy = operator(&Names::default());
        for statement in policy["Statement"].as_array().unwrap() {
            for key in ["Sid", "Effect", "Action", "Resource"] {
                assert!(!statement[key].is_null(), "{statement} lacks {key}");
            }
        }
        assert_eq!(statement_of("ec2:RunInstances"), Some("Launch"));
        assert_eq!(statement_of("s3:HeadBucket"), Some("OutputBucket"));
        assert_eq!(statement_of("ec2:StopInstances"), None);
    }

    #[test]
    fn names_get_into_the_resources() {
        let names = Names {
            bucket: "evidence".to_owned(),
            prefix: "sizing".to_owned(),
            ..Names::default()
        };
        let text = instance(&names).to_string();
        assert!(text.contains("arn:aws:s3:::evidence/sizing/*"), "{text}");
    }
}
