//! One account and region: credentials, endpoints, clients, and the calls that are signed here.
//!
//! Owns where each service answers, the clients with their credentials (loaded by Amazon's chain: environment, profiles,
//! assumed roles, processes, containers, the machine's role), and trying again, which is the same for all calls whoever
//! signs them. Made by the `ssm` target; every other file of this folder calls through it.

use std::env;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::answers::CutDown;
use super::credentials::Kept;
use super::error::{Error, Kind};
use super::retry::{TRIES, pause};
use super::xml;

/// One try of one call; more means that no answer comes.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// So often a call is signed anew because the service says that its credentials or its time are over.
const MOST_OUTDATED: u32 = 3;

/// What may be set by hand; the rest is as the environment and `~/.aws` say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Region, instead of `AWS_REGION` or the profile's.
    pub region: Option<String>,
    /// Profile, instead of `AWS_PROFILE`.
    pub profile: Option<String>,
}

/// Credentials, endpoints and clients.
pub struct Session {
    region: String,
    sdk: SdkConfig,
    connector: SharedHttpConnector,
    kept: Kept,
    /// Seconds that the services' clock is ahead of ours, as far as calls were refused for it.
    ahead: AtomicI64,
    /// Whether the endpoint cannot tell of one command on one instance, so that all of a command are listed.
    pub(super) only_lists: AtomicBool,
    /// Commands whose end was not seen yet, with their instances: for cancelling them where they cannot be listed.
    pub(super) in_flight: std::sync::Mutex<Vec<(String, String)>>,
    pub(super) ssm: aws_sdk_ssm::Client,
    pub(super) s3: aws_sdk_s3::Client,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// A call that is signed here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// As policies name it; what stands before the colon is the service in endpoints and signatures.
    pub(super) action: &'static str,
    pub(super) body: Body<'a>,
}

/// The two ways in which these services are asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    /// A form, answered by XML.
    Query(&'a str),
    /// JSON 1.1; the target names the operation.
    Json { target: &'static str, text: &'a str },
}

impl Session {
    /// Loads region and credentials; neither is guessed. Nothing is called yet but what the credentials need.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let http = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(TRIES)
                    .with_initial_backoff(Duration::from_millis(200)),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(CALL_TIMEOUT)
                    .build(),
            );
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        let sdk = loader.load().await;
        let Some(region) = sdk.region().map(ToString::to_string) else {
            return Err(Error::new(
                "sts:GetCallerIdentity",
                Kind::NoRegion,
                "no region is set",
            ));
        };
        let missing = || {
            let why = "there are no credentials";
            Error::new("sts:GetCallerIdentity", Kind::NoCredentials, why)
        };
        let kept = Kept::new(sdk.credentials_provider().ok_or_else(missing)?);
        let connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build();
        // A bucket's name before the host is for Amazon's own names only.
        let own_endpoint = sdk.endpoint_url().is_some() || is_set("AWS_ENDPOINT_URL_S3");
        // What is tried again is decided here, for all services alike.
        let s3 = aws_sdk_s3::config::Builder::from(&sdk)
            .force_path_style(own_endpoint)
            .retry_config(RetryConfig::disabled())
            .credentials_provider(kept.clone())
            .identity_cache(IdentityCache::no_cache())
            .build();
        let mut ssm = aws_sdk_ssm::config::Builder::from(&sdk)
            .retry_config(RetryConfig::disabled())
            .credentials_provider(kept.clone())
            .identity_cache(IdentityCache::no_cache());
        if let Some(client) = sdk.http_client() {
            ssm = ssm.http_client(CutDown(client));
        }
        let session = Self {
            region,
            ssm: aws_sdk_ssm::Client::from_conf(ssm.build()),
            s3: aws_sdk_s3::Client::from_conf(s3),
            sdk,
            connector: SharedHttpConnector::new(connector),
            kept,
            ahead: AtomicI64::new(0),
            only_lists: AtomicBool::new(false),
            in_flight: std::sync::Mutex::default(),
        };
        session.credentials("sts:GetCallerIdentity").await?;
        Ok(session)
    }

    /// The region that everything happens in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub fn partition(&self) -> &'static str {
        if self.region.starts_with("cn-") {
            "aws-cn"
        } else if self.region.starts_with("us-gov-") {
            "aws-us-gov"
        } else {
            "aws"
        }
    }

    async fn credentials(&self, action: &'static str) -> Result<Credentials, Error> {
        let failed =
            |error: CredentialsError| Error::new(action, Kind::NoCredentials, chain(&error));
        self.kept.load().await.map_err(failed)
    }

    /// Whether EC2 is asked of somebody else than Amazon.
    pub(super) fn has_own_endpoint(&self) -> bool {
        self.sdk.endpoint_url().is_some() || is_set("AWS_ENDPOINT_URL_EC2")
    }

    /// Endpoint and signing region of a service.
    fn endpoint(&self, service: &str) -> (String, String) {
        let own = env::var(format!("AWS_ENDPOINT_URL_{}", endpoint_name(service)))
            .ok()
            .filter(|url| !url.is_empty())
            .or_else(|| self.sdk.endpoint_url().map(str::to_owned));
        let suffix = if self.partition() == "aws-cn" {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        // IAM is global and Pricing has three regions only.
        let (host, region) = match (service, self.partition()) {
            ("iam", "aws-cn") => (format!("iam.cn-north-1.{suffix}"), "cn-north-1"),
            ("iam", "aws-us-gov") => (format!("iam.us-gov.{suffix}"), "us-gov-west-1"),
            ("iam", _) => (format!("iam.{suffix}"), "us-east-1"),
            ("pricing", _) => {
                let region = match self.region.split('-').next() {
                    Some("eu" | "af" | "me" | "il") => "eu-central-1",
                    Some("ap") => "ap-south-1",
                    _ => "us-east-1",
                };
                (format!("api.pricing.{region}.{suffix}"), region)
            }
            _ => (format!("{service}.{}.{suffix}", self.region), self.region()),
        };
        (
            own.unwrap_or_else(|| format!("https://{host}")),
            region.to_owned(),
        )
    }

    /// Makes a call, again where that may help: after trouble and throttling, after answers that did not come, and with new
    /// credentials and by the service's clock where those were refused. Every call of ours may take effect twice without
    /// harm.
    pub(super) async fn again<T>(
        &self,
        mut once: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut failed, mut outdated) = (0, 0);
        loop {
            let error = match once().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failed += 1;
            if error.is_outdated() {
                outdated += 1;
                self.kept.forget().await;
            }
            let helps = error.is_transient() || error.is_outdated() && outdated < MOST_OUTDATED;
            if !helps || failed >= TRIES {
                return Err(error);
            }
            tokio::time::sleep(pause(failed)).await;
        }
    }

    /// A call that is signed here.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<String, Error> {
        self.again(async || self.call_once(call).await).await
    }

    async fn call_once(&self, call: Call<'_>) -> Result<String, Error> {
        let action = call.action;
        let service = action.split(':').next().unwrap_or_default();
        let (endpoint, region) = self.endpoint(service);
        let url = format!("{}/", endpoint.trim_end_matches('/'));
        let (body, kind, target) = match call.body {
            Body::Query(form) => (
                form,
                "application/x-www-form-urlencoded; charset=utf-8",
                None,
            ),
            Body::Json { target, text } => (text, "application/x-amz-json-1.1", Some(target)),
        };
        let unusable =
            |error: &dyn std::error::Error| Error::new(action, Kind::Invalid, chain(error));
        let mut request = http::Request::builder()
            .method("POST")
            .uri(&url)
            .header("content-type", kind);
        if let Some(target) = target {
            request = request.header("x-amz-target", target);
        }
        let mut request = request
            .body(body.to_owned())
            .map_err(|error| unusable(&error))?;
        if let Some(host) = request.uri().authority().map(ToString::to_string) {
            let host = host.parse().map_err(|error| unusable(&error))?;
            request.headers_mut().insert("host", host);
        }
        self.sign(action, service, &region, &mut request).await?;
        let request =
            HttpRequest::try_from(request.map(SdkBody::from)).map_err(|error| unusable(&error))?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, async {
            let answer = self
                .connector
                .call(request)
                .await
                .map_err(|error| chain(&error))?;
            let status = answer.status().as_u16();
            let date = answer.headers().get("date").map(str::to_owned);
            let body = collect(answer.into_body()).await?;
            Ok::<_, String>((status, date, body))
        });
        let (status, date, body) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(Error::new(action, Kind::NoAnswer, why)),
            Err(_) => {
                let why = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
                return Err(Error::new(action, Kind::NoAnswer, why));
            }
        };
        // Cut off on its way: asked once more it may come whole.
        let cut = || Error::new(action, Kind::NoAnswer, "the answer came in part only");
        if (200..300).contains(&status) {
            let is_whole = match call.body {
                Body::Query(_) => xml::is_whole(&body),
                Body::Json { .. } => serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok(),
            };
            return if is_whole { Ok(body) } else { Err(cut()) };
        }
        let told = match call.body {
            Body::Query(_) => xml::error(&body),
            Body::Json { .. } => json_error(&body),
        };
        let begins_well = ["<?xml", "<Response", "<ErrorResponse", "{"]
            .iter()
            .any(|begin| body.trim_start().starts_with(begin));
        if told.is_none() && begins_well {
            return Err(cut());
        }
        // Nothing of these services is found by its path: nobody there knows the call.
        let status = if told.is_none() && status == 404 {
            501
        } else {
            status
        };
        let (code, message) =
            told.unwrap_or_else(|| (String::new(), format!("HTTP status {status}")));
        let error = Error::of_service(action, status, &code, &message);
        if error.is_outdated() {
            let told = date.and_then(|date| seconds_ahead(&date, SystemTime::now()));
            self.ahead.store(told.unwrap_or(0), Ordering::Relaxed);
        }
        Err(error)
    }

    /// The time, by the services' clock as far as that is known.
    fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        let theirs = if ahead < 0 {
            now.checked_sub(by)
        } else {
            now.checked_add(by)
        };
        theirs.unwrap_or(now)
    }

    async fn sign(
        &self,
        action: &'static str,
        service: &str,
        region: &str,
        request: &mut http::Request<String>,
    ) -> Result<(), Error> {
        let credentials = self.credentials(action).await?;
        let identity = credentials.into();
        let unusable = |why: String| Error::new(action, Kind::Invalid, why);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(self.now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unusable(chain(&error)))?
            .into();
        let uri = request.uri().to_string();
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            "POST",
            uri,
            headers,
            SignableBody::Bytes(request.body().as_bytes()),
        )
        .map_err(|error| unusable(chain(&error)))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| unusable(chain(&error)))?
            .into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// The text at a plain address, unsigned; for Amazon's service that tells one's own address.
    pub(super) async fn plain(&self, action: &'static str, url: &str) -> Result<String, Error> {
        let failed = |why: String| Error::new(action, Kind::NoAnswer, why);
        let request = HttpRequest::get(url).map_err(|error| failed(chain(&error)))?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, async {
            let answer = self
                .connector
                .call(request)
                .await
                .map_err(|error| chain(&error))?;
            collect(answer.into_body()).await
        });
        answer
            .await
            .map_err(|_| failed(format!("{url} does not answer")))?
            .map_err(failed)
    }
}

/// Answers are small: at most a few hundred instances.
const LARGEST_ANSWER: usize = 64 << 20;

async fn collect(body: SdkBody) -> Result<String, String> {
    let bytes = aws_smithy_types::byte_stream::ByteStream::new(body)
        .collect()
        .await
        .map_err(|error| chain(&error))?
        .into_bytes();
    if bytes.len() > LARGEST_ANSWER {
        return Err("the answer is too large".to_owned());
    }
    String::from_utf8(bytes.into()).map_err(|error| error.to_string())
}

/// What a date of HTTP is ahead of ours in seconds; `None` when it is no date.
fn seconds_ahead(date: &str, now: SystemTime) -> Option<i64> {
    let theirs = DateTime::from_str(date, Format::HttpDate).ok()?.secs();
    let ours = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(theirs - i64::try_from(ours).ok()?)
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// As the SDKs name the variable of a service's endpoint.
fn endpoint_name(service: &str) -> String {
    match service {
        "servicequotas" => "SERVICE_QUOTAS".to_owned(),
        other => other.to_ascii_uppercase(),
    }
}

fn json_error(text: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let code = ["__type", "code", "Code"]
        .iter()
        .find_map(|key| value.get(key)?.as_str())?
        .to_owned();
    let message = ["message", "Message"]
        .iter()
        .find_map(|key| value.get(key)?.as_str())
        .unwrap_or_default();
    Some((code, message.to_owned()))
}

/// An error with its causes; the last ones say what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// An error of the SDK as ours.
pub(super) fn of_sdk<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    if let SdkError::ServiceError(service) = error {
        let code = service.err().code().unwrap_or_default();
        let message = match service.err().message() {
            Some(message) => message.to_owned(),
            None if code.is_empty() => format!("HTTP status {status}"),
            None => String::new(),
        };
        return Error::of_service(action, status, code, &message);
    }
    let kind = match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => Kind::NoAnswer,
        SdkError::ResponseError(_) if status >= 500 => Kind::Service,
        // Cut off on its way: asked once more it may come whole.
        SdkError::ResponseError(_) if (200..300).contains(&status) => Kind::NoAnswer,
        SdkError::ResponseError(_) => Kind::Answer,
        _ => Kind::Invalid,
    };
    Error::new(action, kind, chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_tells_how_far_their_clock_is_ahead() {
        let now = UNIX_EPOCH + Duration::from_mins(29_927_800);
        for (date, ahead) in [
            ("Thu, 26 Nov 2026 04:40:00 GMT", Some(0)),
            ("Thu, 26 Nov 2026 05:40:00 GMT", Some(3600)),
            ("Thu, 26 Nov 2026 04:39:50 GMT", Some(-10)),
            ("tomorrow", None),
        ] {
            assert_eq!(seconds_ahead(date, now), ahead, "{date}");
        }
    }

    #[test]
    fn errors_in_json_are_read_wherever_their_code_stands() {
        let read = |text: &str| json_error(text).map(|(code, message)| code + " " + &message);
        for (text, told) in [
            (r#"{"__type":"a#B","message":"m"}"#, Some("a#B m")),
            (r#"{"code":"B","Message":"m"}"#, Some("B m")),
            ("{}", None),
            ("<html>", None),
        ] {
            assert_eq!(read(text).as_deref(), told, "{text}");
        }
    }
}
