//! Answers a request that may not go out now, in the host's own name.
//!
//! Why: a guest that is told when to come back can say so; an error would look like an outage. Invariants: 1. the answer is
//! 429 with `Retry-After`, which SDKs map to `rate-limited`; 2. `Proxy-Status` (RFC 9209) says that it is ours, and the body
//! (RFC 9457) why. No upstream's answer keeps that header.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use wasmtime_wasi_http::WasiBody;

use super::budget::Spent;

/// Who answered, where it was not the upstream (RFC 9209).
pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why a request was answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// A budget is used up.
    Spent(Spent),
    /// The host asked to be left alone.
    Asked { host: String, wait: Duration },
    /// The host keeps failing.
    Failing { host: String, wait: Duration },
}

impl Held {
    /// A stable name.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Spent(_) => "egress-budget",
            Self::Asked { .. } => "egress-paused",
            Self::Failing { .. } => "egress-failing",
        }
    }

    /// Whole seconds until it is worth another try, at least one.
    fn seconds(&self) -> u64 {
        let wait = match self {
            Self::Spent(spent) => spent.wait,
            Self::Asked { wait, .. } | Self::Failing { wait, .. } => *wait,
        };
        wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
    }

    /// The answer.
    pub(super) fn response(&self) -> http::Response<WasiBody> {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let problem = json!({
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let body = Full::new(Bytes::from(problem.to_string())).map_err(|never| match never {});
        let mut response = http::Response::new(body.boxed_unsync());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, self.seconds().into());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let ours = HeaderValue::from_str(&format!("bulkhead; details=\"{}\"", self.code()));
        headers.insert(PROXY_STATUS, ours.unwrap_or(HeaderValue::from_static("bulkhead")));
        response
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        match self {
            Self::Spent(Spent { scope, requests, .. }) => write!(
                f,
                "of {requests} requests a minute for `{scope}`, a sixth may come at once, and the next may go in {seconds} s (`requests-per-minute` under [limits] in connector.toml or the grant)"
            ),
            Self::Asked { host, .. } => write!(f, "{host} asked to be left alone for another {seconds} s"),
            Self::Failing { host, .. } => {
                write!(f, "{host} failed several times in a row and is left alone for another {seconds} s")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_says_when_to_come_back_and_that_it_is_ours() {
        let held = Held::Asked { host: "a.com".to_owned(), wait: Duration::from_millis(1200) };
        let response = held.response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers().get("retry-after").unwrap(), "2");
        assert_eq!(response.headers().get("proxy-status").unwrap(), "bulkhead; details=\"egress-paused\"");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["detail"], "a.com asked to be left alone for another 2 s");
    }
}
