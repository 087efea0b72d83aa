//! Answers of Systems Manager, cut down to what is read of them.
//!
//! Owns one rule: a member that nobody here reads cannot spoil an answer. The SDK refuses an answer as a whole when a time
//! in it is a text where a number should be, although the command that it tells of was accepted; endpoints that stand in
//! for AWS write times in both ways. So everything but the members that `commands` uses is left out before the SDK reads
//! it, empty ones too, and numbers that came as texts are numbers again. Put by `session` between the SDK's client for
//! Systems Manager and the network.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::Value;

/// What is read of any answer, errors included.
const READ: [&str; 24] = [
    "__type",
    "code",
    "message",
    "Message",
    "NextToken",
    "Parameter",
    "Value",
    "InstanceInformationList",
    "InstanceId",
    "PingStatus",
    "Command",
    "Commands",
    "CommandId",
    "Comment",
    "Status",
    "StatusDetails",
    "InstanceIds",
    "ResponseCode",
    "StandardOutputContent",
    "StandardErrorContent",
    "CommandInvocations",
    "CommandPlugins",
    "Output",
    "StandardOutputUrl",
];
/// Whole numbers among them.
const NUMBERS: [&str; 1] = ["ResponseCode"];

/// A client whose answers are cut down.
#[derive(Debug)]
pub(super) struct CutDown(pub(super) SharedHttpClient);

#[derive(Debug)]
struct Connector(SharedHttpConnector);

impl HttpClient for CutDown {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let body = ByteStream::new(answer.take_body());
            let bytes = body
                .collect()
                .await
                .map_err(|error| ConnectorError::io(error.into()))?
                .into_bytes();
            *answer.body_mut() = match cut_down(&bytes) {
                Some(text) => {
                    // It tells of what came.
                    answer.headers_mut().remove("content-length");
                    SdkBody::from(text)
                }
                None => SdkBody::from(bytes),
            };
            Ok(answer)
        })
    }
}

/// The answer with nothing but what is read; `None` when it is no JSON.
fn cut_down(bytes: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    reduce(&mut value);
    Some(value.to_string())
}

fn reduce(value: &mut Value) {
    match value {
        Value::Array(members) => members.iter_mut().for_each(reduce),
        Value::Object(members) => {
            members.retain(|name, value| READ.contains(&name.as_str()) && !value.is_null());
            for (name, value) in members.iter_mut() {
                if NUMBERS.contains(&name.as_str()) {
                    *value = whole(value).into();
                } else {
                    reduce(value);
                }
            }
        }
        _ => {}
    }
}

/// The number that it means; -1, which is what AWS says of a command without exit code, for what means none.
fn whole(value: &Value) -> i64 {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    #[expect(clippy::cast_possible_truncation, reason = "within a range")]
    number
        .filter(|number| number.abs() < 1e9)
        .map_or(-1, |number| number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_read_stays() {
        let answer = json!({
            "Command": {
                "CommandId": "c-1", "RequestedDateTime": "2026-11-26T05:00:00Z", "ExpiresAfter": null,
                "InstanceIds": ["i-1"], "Status": "Pending", "StatusDetails": null, "Extra": { "Status": [1] },
            },
            "ResponseMetadata": { "RequestId": 7 },
        });
        let cut: Value =
            serde_json::from_str(&cut_down(answer.to_string().as_bytes()).unwrap()).unwrap();
        let wanted = json!({ "Command": { "CommandId": "c-1", "InstanceIds": ["i-1"], "Status": "Pending" } });
        assert_eq!(cut, wanted);
        assert_eq!(cut_down(b"<html>"), None);
    }

    #[test]
    fn exit_codes_are_numbers_however_they_came() {
        for (came, number) in [
            (json!(3), 3),
            (json!(-1), -1),
            (json!(3.0), 3),
            (json!("3"), 3),
            (json!("none"), -1),
            (json!([]), -1),
        ] {
            assert_eq!(whole(&came), number, "{came}");
        }
    }
}
