//! The commands that look at the account, as lines of text.
//!
//! Owns the words of `autosizer check`, `autosizer iam-policy`, and of `list` and `gc` with `--region`. Called by the
//! command line.

use serde_json::Value;

use super::super::failure::Failure;
use super::super::options::{Options as Asked, Row};
use super::{Options, Over, check, list, sweep};
use crate::aws::{Session, policy};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Whether a run would be allowed.
    Check,
    /// What is there.
    List,
    /// End what is over.
    Sweep,
    /// The policies.
    Policy,
}

/// Lines to show, and whether all is well.
pub async fn account(command: Command, asked: &Asked) -> Result<(Vec<String>, bool), Failure> {
    // A look at the account needs neither a type nor a bucket.
    let mut filled = asked.clone();
    for (name, value) in [("instance_profile", "ROLE"), ("bucket", "BUCKET")] {
        if command != Command::Check {
            filled
                .target
                .entry(name.to_owned())
                .or_insert_with(|| value.into());
        }
    }
    let given = asked
        .instance_type
        .as_deref()
        .and_then(|types| types.split(',').next());
    let row = Row {
        instance_type: Some(given.unwrap_or("c8g.large").trim().to_owned()),
        ..Row::default()
    };
    let options = Options::of(&filled, &row)?;
    match command {
        Command::Check => {
            let findings = check(&options).await;
            let is_fine = findings
                .iter()
                .all(|finding| finding.is_fine != Some(false));
            let lines = findings.into_iter().map(|finding| {
                let sign = match finding.is_fine {
                    Some(true) => "ok",
                    Some(false) => "NO",
                    None => "?",
                };
                format!("{sign:3} {}: {}", finding.question, finding.answer)
            });
            Ok((lines.collect(), is_fine))
        }
        Command::List => Ok((
            list(&options.session).await?.iter().map(line).collect(),
            true,
        )),
        Command::Sweep => {
            let swept = sweep(&options.session, &over(asked)).await?;
            Ok((
                swept
                    .iter()
                    .map(|left| format!("ended {}", line(left)))
                    .collect(),
                true,
            ))
        }
        Command::Policy => Ok((policies(&options).await, true)),
    }
}

/// What is to be ended besides what has expired.
fn over(asked: &Asked) -> Over {
    let text = |name: &str| {
        let value = asked.target.get(name).and_then(Value::as_str);
        value.map(str::to_owned).filter(|value| !value.is_empty())
    };
    let prefix = text("prefix").unwrap_or_else(|| Options::default().prefix);
    Over {
        all: asked.target.get("all").and_then(Value::as_bool) == Some(true),
        run: text("run"),
        bucket: text("bucket").map(|bucket| (bucket, prefix)),
    }
}

fn line(left: &super::Left) -> String {
    let over = if left.is_over { ", over" } else { "" };
    format!(
        "{} {} ({}) of run {} by {}, until {}{over}",
        left.what, left.id, left.details, left.run, left.owner, left.expires_at
    )
}

/// Account and partition where they can be found out; else words in capitals to fill in.
async fn policies(options: &Options) -> Vec<String> {
    let mut names = policy::Names {
        bucket: options.bucket.clone(),
        prefix: options.prefix.clone(),
        role: options.instance_profile.clone(),
        ..policy::Names::default()
    };
    if let Ok(session) = Session::connect(&options.session).await {
        session.partition().clone_into(&mut names.partition);
        if let Ok(identity) = session.identity().await {
            names.account = identity.account;
        }
        if let Ok(role) = session.role(&options.instance_profile).await
            && !role.role.is_empty()
        {
            names.role = role.role;
        }
    }
    let text = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap_or_default();
    vec![
        "# For whoever runs autosizer:".to_owned(),
        text(&policy::operator(&names)),
        "# For the instance's role, besides Amazon's AmazonSSMManagedInstanceCore:".to_owned(),
        text(&policy::instance(&names)),
        "# Who may take that role:".to_owned(),
        text(&policy::trust()),
    ]
}
