//! What every request passes on its way in, and every answer on its way out.
//!
//! In: an id, where it comes from, the name it was sent to, how often its address asks. Out: problems are written down, the headers that keep a browser
//! from making anything of an answer, and one line in the log.
//! *Never*: cross-origin headers. There is no page of another origin that this API is meant for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bulkhead_core::id::InvocationId;
use bulkhead_services::Control;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::actor;
use super::forwarded::{Proxies, Source};
use super::host::Names;
use super::idempotency::Idempotency;
use super::limits::{Left, Limits};
use super::problem::Problem;
use super::upload::Uploads;

/// The header with a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Two years: what browsers ask of those whose names they know beforehand.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Most fields that an answer's head gets here.
const MOST_ADDED: usize = 11;
/// Longest and shortest id of a request that a caller gives.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;

/// All that requests share.
pub(super) struct Shared {
    pub(super) control: Arc<Control>,
    pub(super) names: Names,
    pub(super) proxies: Proxies,
    pub(super) limits: Limits,
    pub(super) idempotency: Idempotency,
    pub(super) uploads: Uploads,
    /// Whether it speaks TLS itself.
    pub(super) tls: bool,
    /// Whether it takes no new requests.
    pub(super) draining: AtomicBool,
    /// The API's description.
    pub(super) document: bytes::Bytes,
}

/// What is known of a request before it is read.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Its id.
    pub(super) id: Arc<str>,
    /// Where it comes from: what it counts for, and what is recorded.
    pub(super) from: IpAddr,
    /// Whether a proxy handed it on.
    pub(super) forwarded: bool,
    /// Whether its client speaks TLS.
    pub(super) tls: bool,
    /// When it came.
    pub(super) now: SystemTime,
}

impl Head {
    /// The one that was made at the door.
    pub(super) fn of(parts: &Parts) -> Result<Self, Problem> {
        let missing = || Problem::internal("door", &"a request did not come through the door");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

/// Lets a request in, and its answer out.
pub(super) async fn pass(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let id = id_of(&parts.headers);
    let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>().copied() else {
        return Problem::internal("door", &"a request without an address").into_answer(&id);
    };
    let Source { from, forwarded, tls } = shared.proxies.source(peer.ip(), shared.tls, &parts.headers);
    let head = Head { id: Arc::clone(&id), from, forwarded, tls, now: SystemTime::now() };
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let response = match (shared.names.judge(&parts), shared.limits.address(from)) {
        (_, Err(problem)) => {
            actor::too_often_from(&shared, &head).await;
            problem.into_response()
        }
        (Err(problem), _) => problem.into_response(),
        (Ok(()), Ok(())) => {
            parts.extensions.insert(head);
            next.run(Request::from_parts(parts, body)).await
        }
    };
    let response = leave(&shared, &id, tls, response);
    log(&id, &method, &path, from, &response, began.elapsed());
    response
}

/// The id that a caller gave, if it is one, or a new one.
fn id_of(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let well_formed = |id: &&str| {
        LENGTHS.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match given.filter(well_formed) {
        Some(id) => id.into(),
        None => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            InvocationId::new(millis, rand::random()).to_string().into()
        }
    }
}

fn leave(shared: &Shared, id: &str, tls: bool, mut response: Response) -> Response {
    let left = response.extensions_mut().remove::<Left>();
    let problem = response.extensions_mut().remove::<Problem>();
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let problem = problem.or_else(|| failed.then(|| Problem::of_status(response.status())));
    if let Some(problem) = problem {
        let code = problem.code().to_owned();
        let mut answer = problem.into_answer(id);
        // What the router says of it: which methods there are.
        for (name, value) in response.headers() {
            if !answer.headers().contains_key(name) && *name != http::header::CONTENT_LENGTH {
                answer.headers_mut().append(name, value.clone());
            }
        }
        answer.extensions_mut().insert(Code(code));
        response = answer;
    }
    let draining = shared.draining.load(Ordering::Relaxed);
    let headers = response.headers_mut();
    // Room for all that is added here, at once.
    headers.reserve(MOST_ADDED);
    if let Some(left) = left
        && !headers.contains_key("ratelimit")
    {
        left.write(headers);
    }
    protect(headers, tls);
    if draining {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// A problem's code, for the log.
#[derive(Clone)]
struct Code(String);

/// The headers that keep a browser from making anything of an answer but what it is.
fn protect(headers: &mut HeaderMap, tls: bool) {
    let fixed = |value: &'static str| HeaderValue::from_static(value);
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, fixed("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"));
    headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(RESOURCE_POLICY, fixed("same-origin"));
    headers.insert(CACHE_CONTROL, fixed("no-store"));
    if tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
}

fn log(id: &str, method: &Method, path: &str, from: IpAddr, response: &Response, took: Duration) {
    let (status, micros) = (response.status().as_u16(), took.as_micros());
    match response.extensions().get::<Code>() {
        // No query, header or body: they may hold what is not for a log.
        Some(Code(problem)) => {
            tracing::info!(code = "request-refused", request = id, %method, path, %from, status, problem, micros);
        }
        None => tracing::debug!(code = "request", request = id, %method, path, %from, status, micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_id_is_taken_if_it_is_one() {
        let check = |given: &str, taken: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given.as_bytes()).unwrap());
            assert_eq!(&*id_of(&headers) == given, taken, "{given}");
        };
        check("0190a1b2-c3d4", true);
        check("trace.id_of-42", true);
        check("short", false);
        check(&"a".repeat(65), false);
        check("with spaces in it", false);
        check("quote\"quote\"", false);
        assert_ne!(id_of(&HeaderMap::new()), id_of(&HeaderMap::new()));
    }
}
