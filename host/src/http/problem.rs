//! Says why a request was not answered as hoped: problem details (RFC 9457), with a code that stays and a next step.
//!
//! *Why two forms*: a handler does not know the request's id, and what axum or hyper refuse by themselves has no body at all.
//! So a [`Problem`] travels in the response's extensions, and `door.rs` writes it down once, for all of them.
//! *Invariants*: 1. what went wrong inside of the host is logged, and never told; 2. what somebody may not see, and what is not
//! there, are the same answer, to the byte.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bulkhead_core::Blame;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// Asks for a credential (RFC 6750 §3).
const CHALLENGE: &str = "Bearer realm=\"bulkhead\"";
/// Asks for a log-in that is not as old (RFC 9470 §3).
const STEP_UP: &str = "Bearer realm=\"bulkhead\", error=\"insufficient_user_authentication\", max_age=300";

/// A problem, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct Body {
    /// `urn:bulkhead:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, in a sentence.
    pub detail: String,
    /// The request's id, by which the host's log and the audit log know it.
    pub instance: String,
    /// A word for it that stays the same.
    pub code: String,
    /// What to do about it, where that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Who has to act: `connector`, `connection`, `upstream` or `host`; where a connector was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<String>,
    /// The call's id, where a connector was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// OAuth's word for it (RFC 6749 §5.2), where a token was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A problem on its way out.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    next_step: Option<String>,
    blame: Option<Blame>,
    invocation: Option<String>,
    error: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// One of this status and code.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            code: Cow::Borrowed(code),
            detail: detail.into(),
            next_step: None,
            blame: None,
            invocation: None,
            error: None,
            headers: Vec::new(),
        }))
    }

    /// The request's form is wrong.
    pub(super) fn malformed(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// The request's form is right, and what it says is not.
    pub(super) fn invalid(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// It is not there, or the asker may not know that it is.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing of this name that you may see")
    }

    /// Nobody is known by what was presented. It is told no more of that than `identity` tells.
    pub(super) fn unauthenticated(code: &'static str, detail: String, next: Option<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
            .next(next)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE))
    }

    /// A person has to prove again who they are.
    pub(super) fn stale(detail: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "reauthentication-needed", detail)
            .next(Some("POST /v1/sessions/current/reauthentication with the password and a code".to_owned()))
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(STEP_UP))
    }

    /// Something inside failed. What it was goes into the log, under the request's id.
    pub(super) fn internal(code: &'static str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(code, cause = %cause, "a request failed inside of the host");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the host failed; its log says why, under this id")
    }

    /// The host cannot do it now.
    pub(super) fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).after(retry_after)
    }

    /// With the next step.
    pub(super) fn next(mut self, step: Option<String>) -> Self {
        self.0.next_step = step;
        self
    }

    /// With who has to act.
    pub(super) fn blamed(mut self, blame: Blame) -> Self {
        self.0.blame = Some(blame);
        self
    }

    /// With the call that it is about.
    pub(super) fn of_invocation(mut self, id: String) -> Self {
        self.0.invocation = Some(id);
        self
    }

    /// With OAuth's word for it.
    pub(super) fn oauth(mut self, error: &'static str) -> Self {
        self.0.error = Some(error);
        self
    }

    /// Not before so much time has gone by.
    pub(super) fn after(self, wait: Duration) -> Self {
        // Rounded up: whoever comes at that second finds it true.
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.header(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }

    /// With this header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its code.
    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// As it is sent.
    pub(super) fn body(&self, request: &str) -> Body {
        let Inner { status, code, detail, next_step, blame, invocation, error, headers: _ } = &*self.0;
        Body {
            kind: format!("urn:bulkhead:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: detail.clone().into_owned(),
            instance: request.to_owned(),
            code: code.clone().into_owned(),
            next_step: next_step.clone(),
            blame: blame.map(|blame| blame.to_string()),
            invocation: invocation.clone(),
            error: error.map(str::to_owned),
        }
    }

    /// The answer to the request of this id.
    pub(super) fn into_answer(self, request: &str) -> Response {
        let body = serde_json::to_vec(&self.body(request)).unwrap_or_default();
        let mut response = (self.0.status, body).into_response();
        self.write_headers(response.headers_mut());
        response
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in &self.0.headers {
            headers.append(name, value.clone());
        }
    }

    /// What a bare status means that axum or a layer answered with.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => return Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method-not-allowed", "this path does not take this method: see `Allow`")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("body-too-large", "the body is larger than this path takes"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media-type", "the body is not of the type that this path takes"),
            StatusCode::REQUEST_TIMEOUT => ("timeout", "the request took too long"),
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "the host cannot answer now"),
            status if status.is_server_error() => ("internal", "the host failed; its log says why, under this id"),
            _ => ("malformed", "the request is not one that this path takes"),
        };
        Self::new(status, code, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_and_what_is_missing_read_alike() {
        let missing = Problem::of_status(StatusCode::NOT_FOUND).body("r-1");
        assert_eq!(missing, Problem::not_found().body("r-1"));
    }

    #[test]
    fn what_failed_inside_is_never_told() {
        let problem = Problem::internal("store-failed", &"disk /var/lib/x is full: hunter2");
        let body = serde_json::to_string(&problem.body("r-1")).unwrap();
        assert!(!body.contains("hunter2") && !body.contains("/var"), "{body}");
        assert!(body.contains("\"code\":\"internal\"") && body.contains("r-1"), "{body}");
    }

    #[test]
    fn a_wait_is_rounded_up_to_seconds() {
        let check = |millis: u64, expected: &str| {
            let problem = Problem::unavailable("busy", "busy", Duration::from_millis(millis));
            assert_eq!(problem.into_answer("r").headers()[RETRY_AFTER], expected);
        };
        check(0, "1");
        check(999, "1");
        check(1001, "2");
        check(60_000, "60");
    }
}
