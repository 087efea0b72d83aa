//! What Systems Manager knows besides commands: parameters, and which instances have an agent that is connected.
//!
//! Owns these two questions and the paging of Systems Manager. Called by the `ssm` target.

use aws_sdk_ssm::types::InstanceInformationStringFilter;

use super::error::{Error, Kind};
use super::session::{Session, of_sdk};

/// The token to go on with; an empty one is none, and one that comes twice would lead round in circles.
pub(super) fn following(next: Option<&str>, last: Option<&str>) -> Option<String> {
    next.filter(|next| !next.is_empty() && Some(*next) != last)
        .map(str::to_owned)
}

impl Session {
    /// The value of a public parameter, such as the newest image.
    pub async fn parameter(&self, name: &str) -> Result<String, Error> {
        let action = "ssm:GetParameter";
        let request = self.ssm.get_parameter().name(name);
        let answer = self.again(async || {
            let answer = request.clone().send().await;
            answer.map_err(|error| of_sdk(action, &error))
        });
        let answer = answer.await.map_err(|mut error| {
            if error.kind == Kind::NotFound && error.message.is_empty() {
                error.message = format!("there is no parameter {name}");
            }
            error
        })?;
        answer
            .parameter()
            .and_then(|parameter| parameter.value().map(str::to_owned))
            .ok_or_else(|| Error::new(action, Kind::Answer, format!("{name} has no value")))
    }

    /// Whether the instance's agent is connected; `None` when it has never registered. A page may be empty and not the
    /// last.
    pub async fn is_connected(&self, instance: &str) -> Result<Option<bool>, Error> {
        let action = "ssm:DescribeInstanceInformation";
        let filter = InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .values(instance)
            .build()
            .map_err(|error| Error::new(action, Kind::Invalid, error.to_string()))?;
        let request = self.ssm.describe_instance_information().filters(filter);
        let mut token = None;
        loop {
            let page = self.again(async || {
                let request = request.clone().set_next_token(token.clone());
                request.send().await.map_err(|error| of_sdk(action, &error))
            });
            let page = page.await?;
            let mut listed = page.instance_information_list().iter();
            if let Some(ours) = listed.find(|known| known.instance_id() == Some(instance)) {
                let is_online = |ping: &str| ping.eq_ignore_ascii_case("Online");
                return Ok(Some(
                    ours.ping_status()
                        .is_some_and(|ping| is_online(ping.as_str())),
                ));
            }
            token = following(page.next_token(), token.as_deref());
            if token.is_none() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_on_only_once() {
        assert_eq!(following(Some("b"), Some("a")).as_deref(), Some("b"));
        assert_eq!(following(Some("a"), Some("a")), None);
        assert_eq!(following(Some(""), None), None);
        assert_eq!(following(None, Some("a")), None);
    }
}
