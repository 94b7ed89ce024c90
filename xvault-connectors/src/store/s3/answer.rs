//! What a server's refusal means, and what to do about it.

use serde::Deserialize;
use xvault_core::Disposition;

use super::http::{Answer, Unanswered};
use crate::Error;

/// The longest text of a server that is repeated.
const MAX_SHOWN: usize = 300;

/// A refusal in the server's words, with ours beside them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server} says {code}{}{}", text(": ", message), text("; ", remedy(code)))]
pub(super) struct Refusal {
    server: String,
    /// `NoSuchBucket`; or `HTTP 403` where the answer had no more in it.
    code: String,
    message: String,
}

fn text(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

/// The answer as it is when it says yes, or what it says instead.
pub(super) fn checked(answer: Answer, server: &str, verb: &str, key: &str) -> Result<Answer, Error> {
    // What takes long, as finishing an upload does, is answered before it is done: the status says nothing then.
    let error = parse(&answer.body);
    if (200..300).contains(&answer.status) && error.is_none() {
        return Ok(answer);
    }
    let (code, message) = error.map_or_else(Default::default, |error| (error.code, error.message));
    Err(refused(server, verb, key, &code, &message, answer.status))
}

#[derive(Debug, Deserialize)]
#[serde(rename = "Error", rename_all = "PascalCase")]
struct ErrorXml {
    code: String,
    #[serde(default)]
    message: String,
}

fn parse(body: &[u8]) -> Option<ErrorXml> {
    let body = std::str::from_utf8(body).ok()?;
    // Any other document would do, too, if it had such elements.
    body.contains("<Error>").then(|| quick_xml::de::from_str(body).ok()).flatten()
}

/// An error of opendal as if we had asked ourselves.
pub(in crate::store) fn explained(server: &str, verb: &str, key: &str, error: &opendal::Error) -> Error {
    if let Some(unanswered) = cause::<Unanswered>(error) {
        return unanswered.clone().into_error(server, &format!("{verb} {key}"));
    }
    let (code, message) = (quoted(error.message(), "code"), quoted(error.message(), "message"));
    // What opendal has to say itself has no code.
    let message = if code.is_empty() { error.message() } else { message };
    refused(server, verb, key, code, message, status(error))
}

fn cause<T: std::error::Error + 'static>(error: &opendal::Error) -> Option<&T> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// opendal tells the server's answer as `S3Error { code: "NoSuchBucket", message: "…", … }`.
fn quoted<'a>(message: &'a str, field: &str) -> &'a str {
    let after = message.split_once(&format!("{field}: \"")).map_or("", |(_, after)| after);
    after.split_once("\", ").map_or("", |(value, _)| value)
}

/// As near as its kinds let us know.
fn status(error: &opendal::Error) -> u16 {
    match error.kind() {
        opendal::ErrorKind::NotFound => 404,
        opendal::ErrorKind::PermissionDenied => 403,
        opendal::ErrorKind::RateLimited => 429,
        _ if error.is_temporary() => 503,
        _ => 400,
    }
}

fn refused(server: &str, verb: &str, key: &str, code: &str, message: &str, status: u16) -> Error {
    if code == "NoSuchKey" || (status == 404 && code.is_empty()) {
        return Error::NotFound(key.to_owned());
    }
    let code = if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() };
    let denied = matches!(code.as_str(), "AccessDenied" | "HTTP 403");
    let disposition = if heals(&code, status) { Disposition::Transient } else { Disposition::Permanent };
    let message = message.chars().take(MAX_SHOWN).collect();
    let source = Box::new(Refusal { server: server.to_owned(), code, message });
    let action = format!("{verb} {key}");
    if denied { Error::Denied { action, source } } else { Error::Store { action, disposition, source } }
}

/// Whether an error is of this code.
pub(super) fn is(error: &Error, code: &str) -> bool {
    let (Error::Store { source, .. } | Error::Denied { source, .. }) = error else { return false };
    source.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == code)
}

/// What a server has lost of an upload does not come back; but whoever uploads all of it again may have more luck.
pub(super) fn begin_anew(error: Error) -> Error {
    let is_lost = ["NoSuchUpload", "InvalidPart"].iter().any(|code| is(&error, code));
    match error {
        Error::Store { action, source, .. } if is_lost => {
            Error::Store { action, disposition: Disposition::Transient, source }
        }
        error => error,
    }
}

fn heals(code: &str, status: u16) -> bool {
    let passing = [
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    ];
    passing.contains(&code) || matches!(status, 408 | 429 | 500 | 502..=599)
}

fn remedy(code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => "make the bucket, or correct its name",
        "AccessDenied" | "HTTP 403" => {
            "the credential may not do this: give it the right, or check key, secret, bucket and region"
        }
        "InvalidAccessKeyId" => "the server does not know this access key id, or knows it no more",
        "SignatureDoesNotMatch" => "the secret access key is wrong, or the region is not the server's",
        "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "HTTP 301"
        | "HTTP 307" => "the region or the endpoint is not this bucket's: correct them",
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            "the temporary credential has expired or was taken back: get a new one"
        }
        "RequestTimeTooSkewed" => "the clocks of this machine and of the server differ: set them right",
        "NoSuchUpload" => {
            "the unfinished upload is gone: somebody removed it, or it was older than the server keeps them"
        }
        "InvalidPart" => "the server has lost a part of the upload: it must be begun anew",
        "HTTP 400" => "is this an S3 server, with the right scheme (http or https) and port?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault_core::Dispose;
    use xvault_core::error::chain;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: http::HeaderMap::new(), body: body.to_owned().into() }
    }

    fn error(status: u16, body: &str) -> Error {
        checked(answer(status, body), "s3.example:443", "write", "a/b").unwrap_err()
    }

    #[test]
    fn a_refusal_names_what_to_do() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>Not there.</Message><RequestId>1</RequestId></Error>";
        let error = error(404, body);
        let line = chain(&error);
        assert_eq!(
            line,
            "write a/b: s3.example:443 says NoSuchBucket: Not there.; make the bucket, or correct its name"
        );
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(is(&error, "NoSuchBucket") && !is(&error, "NoSuchUpload"));
    }

    #[test]
    fn what_heals_is_told_from_what_does_not() {
        let slow = error(503, "<Error><Code>SlowDown</Code></Error>");
        let plain = error(502, "<html>Bad gateway</html>");
        assert_eq!([slow.disposition(), plain.disposition()], [Disposition::Transient; 2]);
        assert!(matches!(error(404, ""), Error::NotFound(key) if key == "a/b"));
        assert!(matches!(error(403, ""), Error::Denied { .. }));
        let wrong = error(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>");
        assert!(matches!(wrong, Error::Store { disposition: Disposition::Permanent, .. }));
    }

    #[test]
    fn an_upload_that_is_lost_may_be_begun_anew() {
        for (code, disposition) in [
            ("NoSuchUpload", Disposition::Transient),
            ("InvalidPart", Disposition::Transient),
            ("NoSuchBucket", Disposition::Permanent),
        ] {
            // The same request would fail again, and again.
            let lost = error(404, &format!("<Error><Code>{code}</Code></Error>"));
            assert_eq!(lost.disposition(), Disposition::Permanent);
            assert_eq!(begin_anew(lost).disposition(), disposition, "{code}");
        }
    }

    #[test]
    fn a_yes_with_an_error_in_it_is_a_no() {
        let error = error(200, "  <Error><Code>InternalError</Code><Message>late</Message></Error>");
        assert_eq!(error.disposition(), Disposition::Transient);
        let ok = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
        assert_eq!(checked(answer(200, ok), "s", "finish", "k").unwrap().status, 200);
    }

    #[test]
    fn the_code_is_found_in_what_opendal_tells() {
        let text =
            r#"S3Error { code: "InvalidAccessKeyId", message: "Unknown.", resource: "/b", request_id: "1" }"#;
        let error = opendal::Error::new(opendal::ErrorKind::PermissionDenied, text);
        let line = chain(&explained("s3.example:443", "read", "a/b", &error));
        assert!(
            line.starts_with("read a/b: s3.example:443 says InvalidAccessKeyId: Unknown.; the server"),
            "{line}"
        );
    }
}
