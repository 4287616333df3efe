//! Records and judges each request before an endpoint sees it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{REMEMBERED, Seen, Shop};

/// Records a request, whatever becomes of it.
pub(super) async fn remember(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(ToOwned::to_owned),
        host_headers: values(request.headers(), &header::HOST),
        authorization: authorization(request.headers()),
    };
    {
        let mut ledger = shop.ledger();
        if seen.path == "/v1/admin/export" {
            ledger.exports += 1;
        }
        if ledger.seen.len() == REMEMBERED {
            ledger.seen.pop_front();
        }
        ledger.seen.push_back(seen);
    }
    next.run(request).await
}

/// Lets a request with the token through, except when it is time to be busy.
pub(super) async fn admit(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let expected = format!("Bearer {}", shop.options.token);
    if authorization(request.headers()).as_deref() != Some(expected.as_str()) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        let refusal = problem(StatusCode::UNAUTHORIZED, "this needs the account's bearer token");
        return (challenge, refusal).into_response();
    }
    let busy = {
        let mut ledger = shop.ledger();
        ledger.admitted += 1;
        let busy = shop.options.busy.is_some_and(|every| ledger.admitted.is_multiple_of(every));
        ledger.throttled += u64::from(busy);
        busy
    };
    if busy {
        let refusal = problem(StatusCode::TOO_MANY_REQUESTS, "try again in a second");
        return ([(header::RETRY_AFTER, "1")], refusal).into_response();
    }
    next.run(request).await
}

pub(super) fn authorization(headers: &HeaderMap) -> Option<String> {
    let values = values(headers, &header::AUTHORIZATION);
    (!values.is_empty()).then(|| values.join(", "))
}

pub(super) fn values(headers: &HeaderMap, name: &header::HeaderName) -> Vec<String> {
    let lossy = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.get_all(name).iter().map(lossy).collect()
}

/// Problem details, as RFC 9457 writes them.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}
