//! What an answer of AWS that is no success means.
//!
//! Owns the step from the services' error codes to a closed set of kinds, by which callers decide, and the text for the
//! user: which action failed, why, and which statement of the policy would allow it. Secrets never get into a text.
//! Made by every other file of this folder.

use std::fmt;

use super::policy;

/// What a failed call means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There are no credentials, or they cannot be loaded.
    NoCredentials,
    /// No region is set.
    NoRegion,
    /// The credentials are wrong, expired, or the clock is off.
    BadCredentials,
    /// The credentials may not do this.
    Denied,
    /// An instance profile that was made a moment ago is not known everywhere yet.
    NotPropagated,
    /// The zone has no such machine free.
    NoCapacity,
    /// The zone or region does not offer this.
    Unsupported,
    /// The endpoint does not know this call.
    NotOffered,
    /// The account may not have more of it.
    Quota,
    /// There is no such thing, or not yet.
    NotFound,
    /// It exists already.
    Duplicate,
    /// A dry run that would have succeeded.
    DryRun,
    /// Something else still uses it.
    InUse,
    /// Too many calls.
    Throttled,
    /// The service is in trouble.
    Service,
    /// No answer came: whether the call took effect is not known.
    NoAnswer,
    /// The answer cannot be understood.
    Answer,
    /// The time for it is over.
    TimedOut,
    /// Anything else: the request is wrong.
    Invalid,
}

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Error {
    /// The action as policies name it, such as `ec2:RunInstances`.
    pub action: &'static str,
    /// What it means.
    pub kind: Kind,
    /// The service's own code; empty where none came.
    pub code: String,
    /// What the service said, one line, without secrets.
    pub message: String,
}

/// No message of a service is longer than this in ours; an encoded authorisation failure is.
const LONGEST_MESSAGE: usize = 400;

impl Error {
    /// An error that a service sent.
    pub(super) fn of_service(action: &'static str, status: u16, code: &str, message: &str) -> Self {
        // JSON services prefix the shape's namespace, query services may add a type.
        let code = code.rsplit('#').next().unwrap_or(code);
        let code = code.split(':').next().unwrap_or(code).trim();
        let kind = kind(status, code, message);
        // These texts quote the request, its signature and token included.
        let quotes_request = matches!(
            code,
            "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature"
        );
        let message = if quotes_request {
            "the signature was refused: the secret key is wrong, or this machine's clock is"
                .to_owned()
        } else {
            shorten(message)
        };
        Self {
            action,
            kind,
            code: code.to_owned(),
            message,
        }
    }

    /// An error of our own.
    pub(crate) fn new(action: &'static str, kind: Kind, message: impl Into<String>) -> Self {
        Self {
            action,
            kind,
            code: String::new(),
            message: shorten(&message.into()),
        }
    }

    /// Whether the same call may succeed in a moment; it may have taken effect already.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Service | Kind::NoAnswer)
    }

    /// Whether it failed because the credentials have ended meanwhile or the clocks differ: with new ones, signed by the
    /// service's clock, it may succeed.
    pub fn is_outdated(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestExpired"
                | "RequestTimeTooSkewed"
                | "TokenRefreshRequired"
        )
    }

    /// Whether nothing that answers this call is there. An endpoint that stands in for AWS may do without those that a run
    /// can do without.
    pub fn is_absent(&self) -> bool {
        matches!(self.kind, Kind::NotOffered | Kind::Service)
    }
}

/// One line, not too long, without control characters.
fn shorten(message: &str) -> String {
    let mut line: String = message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    if let Some(at) = line.find("Encoded authorization failure message") {
        line.truncate(at);
    }
    if let Some((at, _)) = line.char_indices().nth(LONGEST_MESSAGE) {
        line.truncate(at);
        line.push('…');
    }
    line.trim().to_owned()
}

fn kind(status: u16, code: &str, message: &str) -> Kind {
    match code {
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "Forbidden"
        | "NotAuthorized"
        | "AuthorizationError"
        | "UnauthorizedAccess" => Kind::Denied,
        "AuthFailure"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "TokenRefreshRequired"
        | "InvalidAccessKeyId"
        | "InvalidToken" => Kind::BadCredentials,
        "DryRunOperation" => Kind::DryRun,
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "SpotMaxPriceTooLow" => Kind::NoCapacity,
        "VcpuLimitExceeded"
        | "InstanceLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "SecurityGroupLimitExceeded"
        | "RulesPerSecurityGroupLimitExceeded"
        | "VolumeLimitExceeded"
        | "PendingVerification"
        | "Blocked" => Kind::Quota,
        "UnknownOperationException"
        | "UnknownOperation"
        | "UnknownAction"
        | "InvalidAction"
        | "NotImplemented"
        | "NotImplementedError"
        | "NotImplementedException"
        | "MethodNotAllowed"
        | "UnsupportedOperationException" => Kind::NotOffered,
        "Unsupported"
        | "UnsupportedOperation"
        | "InvalidInstanceType"
        | "InvalidDocument"
        | "UnsupportedPlatformType" => Kind::Unsupported,
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "TooManyRequestsException"
        | "RateExceeded"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "EC2ThrottledException"
        | "PriorRequestNotComplete"
        | "BandwidthLimitExceeded" => Kind::Throttled,
        "DependencyViolation" | "ResourceInUse" => Kind::InUse,
        "InvalidInstanceId"
        | "InvocationDoesNotExist"
        | "InvalidCommandId"
        | "ParameterNotFound"
        | "NoSuchKey"
        | "NoSuchBucket"
        | "NoSuchResourceException"
        | "NotFound" => Kind::NotFound,
        "NoSuchEntity" | "InvalidParameterValue" if is_about_profile(message) => {
            Kind::NotPropagated
        }
        "NoSuchEntity" => Kind::NotFound,
        _ if code.ends_with(".NotFound") => Kind::NotFound,
        _ if code.ends_with(".Duplicate") => Kind::Duplicate,
        _ if code.ends_with(".InUse") => Kind::InUse,
        "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ServiceUnavailableException"
        | "ServerInternal" => Kind::Service,
        _ if matches!(status, 405 | 501) => Kind::NotOffered,
        _ if status == 404 => Kind::NotFound,
        _ if status == 403 => Kind::Denied,
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 => Kind::Service,
        _ => Kind::Invalid,
    }
}

/// EC2 says so of a profile that IAM has only just made (`Invalid IAM Instance Profile name`), or whose role it does
/// not see yet.
fn is_about_profile(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("instance profile") || message.contains("no associated iam roles")
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} failed: ", self.action)?;
        if !self.code.is_empty() {
            write!(formatter, "{}: ", self.code)?;
        }
        formatter.write_str(&self.message)?;
        match self.kind {
            Kind::Denied => match policy::statement_of(self.action) {
                Some(statement) => write!(
                    formatter,
                    "; the statement {statement:?} of `autosizer iam-policy` allows it"
                ),
                None => formatter.write_str("; the credentials in use may not do this"),
            },
            Kind::NoCredentials => formatter.write_str(
                "; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run on a machine with a role",
            ),
            Kind::NoRegion => formatter.write_str("; give --region or set AWS_REGION"),
            Kind::Quota => formatter.write_str(
                "; raise the quota in the Service Quotas console, or take a smaller instance type",
            ),
            Kind::NotOffered => formatter.write_str("; the endpoint does not know this call"),
            Kind::NoCapacity => {
                formatter.write_str("; try another --subnet, region or instance type, or later")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_meaning() {
        for (status, code, message, expected) in [
            (403, "UnauthorizedOperation", "", Kind::Denied),
            (
                400,
                "com.amazonaws.ssm#ThrottlingException",
                "",
                Kind::Throttled,
            ),
            (400, "InvalidInstanceID.NotFound", "", Kind::NotFound),
            (400, "InvalidPermission.Duplicate", "", Kind::Duplicate),
            (412, "DryRunOperation", "", Kind::DryRun),
            (500, "InsufficientInstanceCapacity", "", Kind::NoCapacity),
            (400, "VcpuLimitExceeded", "", Kind::Quota),
            (503, "SlowDown", "", Kind::Throttled),
            (400, "InvalidGroup.InUse", "", Kind::InUse),
            (400, "InvalidAction", "", Kind::NotOffered),
            (
                400,
                "com.amazonaws.ssm#UnknownOperationException",
                "",
                Kind::NotOffered,
            ),
            (501, "", "", Kind::NotOffered),
            (403, "RequestTimeTooSkewed", "", Kind::BadCredentials),
            (502, "", "", Kind::Service),
            (
                400,
                "InvalidParameterValue",
                "Invalid IAM Instance Profile name",
                Kind::NotPropagated,
            ),
            (
                400,
                "InvalidParameterValue",
                "Invalid value for portRange",
                Kind::Invalid,
            ),
            (400, "NoSomething", "", Kind::Invalid),
        ] {
            let error = Error::of_service("ec2:RunInstances", status, code, message);
            assert_eq!(error.kind, expected, "{code}");
        }
    }

    #[test]
    fn a_denial_names_action_and_statement() {
        let message = "You are not authorized. Encoded authorization failure message: AAAA";
        let error = Error::of_service("ec2:RunInstances", 403, "UnauthorizedOperation", message);
        let text = error.to_string();
        assert!(
            text.starts_with("ec2:RunInstances failed: UnauthorizedOperation: "),
            "{text}"
        );
        assert!(text.contains("statement \"Launch\""), "{text}");
        assert!(!text.contains("AAAA"), "{text}");
    }

    #[test]
    fn a_refused_signature_is_not_quoted() {
        let message = "canonical string: x-amz-security-token:SECRET";
        let error = Error::of_service("ssm:SendCommand", 403, "SignatureDoesNotMatch", message);
        assert!(!error.to_string().contains("SECRET"));
        assert_eq!(error.kind, Kind::BadCredentials);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = Error::new("s3:GetObject", Kind::Answer, "ä\n".repeat(1000));
        assert!(error.message.chars().count() <= LONGEST_MESSAGE + 1);
        assert_eq!(error.message.lines().count(), 1);
    }
}
