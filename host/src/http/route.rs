//! The table of routes: each is declared once, with the permission that it takes, and from that come what is served, what is
//! described and what is tested.
//!
//! *Why one declaration*: a check that each handler has to remember is the one that is forgotten. A handler of [`Route::cleared`]
//! is a function of a [`Call`], which holds a `Clearance`, which only `Access::authorize` makes: without one it cannot be called.
//! *Invariants*: 1. who asks is known before anything else of the request is read, and whether they may before its body is;
//! 2. a change that was begun is finished, also when whoever asked for it went away; 3. the doors that take no permission are few,
//! and each says why.
//! Callers: `mod.rs` → here → `ways.rs` (`actor.rs`, `Access::authorize`, `input.rs`, `idempotency.rs`), the nouns.

mod reply;
mod ways;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use bulkhead_core::{Actor, Permission, Resource};
use bulkhead_services::access::Clearance;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{HttpMethod, Parameter};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::{RefOr, Schema};

use super::door::{Head, Shared};
use super::etag::Wanted;
use super::input::Input;
use super::openapi::Schemas;
use super::problem::Problem;
pub(super) use reply::{Nothing, Output, Reply, Written};

/// Longest time for an answer, where nothing of a connector runs.
const USUAL_TIME: Duration = Duration::from_secs(30);
/// Longest time for one that compiles or calls a connector, which have limits of their own below it.
const LONG_TIME: Duration = Duration::from_secs(20 * 60);

/// What a route takes to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// This permission.
    Cleared(Permission),
    /// To be known: it is about whoever asks, and nobody else.
    Own,
    /// Nothing, for this reason.
    Open(&'static str),
}

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) door: Door,
    pub(super) query: Vec<Parameter>,
    pub(super) body: Option<RequestBody>,
    pub(super) answer: Option<(&'static str, RefOr<Schema>)>,
    pub(super) schemas: Schemas,
    /// The status of its answer.
    pub(super) status: StatusCode,
    /// The one of an answer that says something else, where there are two.
    pub(super) other: Option<StatusCode>,
    /// Whether it changes something that has a version, which the request has to name.
    pub(super) revised: bool,
    /// Whether its answer has a version.
    pub(super) tagged: bool,
    /// Whether its answer holds a secret that is shown once.
    secret: bool,
    named_by_body: bool,
    time: Duration,
    handler: Arc<Handler>,
}

type Handler = dyn Fn(Arc<Shared>, Arc<Terms>, Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync;

/// What of a route its handling depends on.
struct Terms {
    status: StatusCode,
    writes: bool,
    revised: bool,
    secret: bool,
    named_by_body: bool,
    time: Duration,
}

/// What a path's parts name.
pub(super) trait Place: DeserializeOwned + Send + 'static {
    /// The resource that it is about.
    fn resource(&self) -> Resource;

    /// The resource that is to be made there, by the name that the body gives it.
    fn making(&self, name: &str) -> Resource {
        Resource::named(self.resource().tenant, name)
    }
}

/// What a query may say.
pub(super) trait Searched: DeserializeOwned + Send + 'static {
    /// How the API's description says it.
    fn parameters() -> Vec<Parameter>;
}

/// A query that says nothing.
impl Searched for () {
    fn parameters() -> Vec<Parameter> {
        Vec::new()
    }
}

/// A request that may be answered.
pub(super) struct Call<P = (), B = (), Q = ()> {
    pub(super) shared: Arc<Shared>,
    /// That it may.
    pub(super) by: Clearance,
    /// What the path names.
    pub(super) at: P,
    pub(super) query: Q,
    pub(super) body: B,
    pub(super) head: Head,
    /// What the caller said makes it happen once.
    pub(super) key: Option<String>,
    wanted: Option<Wanted>,
}

/// A request of somebody about themselves.
pub(super) struct Own<B = ()> {
    pub(super) shared: Arc<Shared>,
    pub(super) actor: Actor,
    pub(super) body: B,
    pub(super) head: Head,
    pub(super) parts: Parts,
}

/// A request of whoever.
pub(super) struct Anybody<B = ()> {
    pub(super) shared: Arc<Shared>,
    pub(super) body: B,
    pub(super) head: Head,
    pub(super) parts: Parts,
}

// === impl Call ===

impl<P, B, Q> Call<P, B, Q> {
    /// Which version is to be changed; nothing, if whichever there is.
    pub(super) fn revision(&self) -> Option<u64> {
        match self.wanted {
            Some(Wanted::Revision(revision)) => Some(revision),
            Some(Wanted::Any) | None => None,
        }
    }
}

// === impl Door ===

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleared(permission) => permission.fmt(f),
            Self::Own => f.write_str("own"),
            Self::Open(_) => f.write_str("open"),
        }
    }
}

// === impl Route ===

impl Route {
    /// One that takes `permission`.
    pub(super) fn cleared<P, B, Q, R, H, F>(
        (method, path): (Method, &'static str),
        (id, summary): (&'static str, &'static str),
        permission: Permission,
        handler: H,
    ) -> Self
    where
        P: Place,
        B: Input,
        Q: Searched,
        R: Output,
        H: Fn(Call<P, B, Q>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
    {
        let handle: Arc<Handler> = Arc::new(move |shared, terms, request| {
            let handler = handler.clone();
            Box::pin(ways::cleared(shared, terms, permission, handler, request))
        });
        let mut route = Self::new::<B, R>(method, path, (id, summary), Door::Cleared(permission), handle);
        route.query = Q::parameters();
        route
    }

    /// One about whoever asks.
    pub(super) fn own<B, R, H, F>(
        (method, path): (Method, &'static str),
        (id, summary): (&'static str, &'static str),
        handler: H,
    ) -> Self
    where
        B: Input,
        R: Output,
        H: Fn(Own<B>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
    {
        let handle: Arc<Handler> = Arc::new(move |shared, terms, request| {
            let handler = handler.clone();
            Box::pin(ways::own(shared, terms, handler, request))
        });
        Self::new::<B, R>(method, path, (id, summary), Door::Own, handle)
    }

    /// One for whoever comes, for this reason.
    pub(super) fn open<B, R, H, F>(
        (method, path): (Method, &'static str),
        (id, summary): (&'static str, &'static str),
        reason: &'static str,
        handler: H,
    ) -> Self
    where
        B: Input,
        R: Output,
        H: Fn(Anybody<B>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
    {
        let handle: Arc<Handler> = Arc::new(move |shared, terms, request| {
            let handler = handler.clone();
            Box::pin(ways::open(shared, terms, handler, request))
        });
        Self::new::<B, R>(method, path, (id, summary), Door::Open(reason), handle)
    }

    fn new<B: Input, R: Output>(
        method: Method,
        path: &'static str,
        (id, summary): (&'static str, &'static str),
        door: Door,
        handler: Arc<Handler>,
    ) -> Self {
        let mut schemas = Schemas::new();
        let body = B::describe(&mut schemas);
        let answer = R::describe(&mut schemas);
        let status = if answer.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
        Self {
            method,
            path,
            id,
            summary,
            door,
            query: Vec::new(),
            body,
            answer,
            schemas,
            status,
            other: None,
            revised: false,
            tagged: false,
            secret: false,
            named_by_body: false,
            time: USUAL_TIME,
            handler,
        }
    }

    /// It makes something, by the name that its body says.
    pub(super) fn makes(mut self) -> Self {
        self.named_by_body = true;
        self.made()
    }

    /// Its answer says that something was made.
    pub(super) fn made(mut self) -> Self {
        self.status = StatusCode::CREATED;
        self
    }

    /// It may also be answered with this status.
    pub(super) fn or(mut self, other: StatusCode) -> Self {
        self.other = Some(other);
        self
    }

    /// Its answer has a version.
    pub(super) fn tagged(mut self) -> Self {
        self.tagged = true;
        self
    }

    /// It changes something that has a version, and has to be told which.
    pub(super) fn revises(mut self) -> Self {
        (self.revised, self.tagged) = (true, true);
        self
    }

    /// Its answer holds what is shown once.
    pub(super) fn shows_a_secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// It compiles or calls a connector.
    pub(super) fn takes_long(mut self) -> Self {
        self.time = LONG_TIME;
        self
    }

    /// Whether a request may come with a key that makes it happen once.
    pub(super) fn takes_idempotency_key(&self) -> bool {
        self.writes() && matches!(self.door, Door::Cleared(_))
    }

    fn writes(&self) -> bool {
        !self.method.is_safe()
    }

    pub(super) fn http_method(&self) -> HttpMethod {
        match self.method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        }
    }

    /// What serves it.
    pub(super) fn served(&self, shared: &Arc<Shared>) -> MethodRouter {
        let terms = Arc::new(Terms {
            status: self.status,
            writes: self.writes(),
            revised: self.revised,
            secret: self.secret,
            named_by_body: self.named_by_body,
            time: self.time,
        });
        let filter = match self.method {
            Method::POST => MethodFilter::POST,
            Method::PUT => MethodFilter::PUT,
            Method::PATCH => MethodFilter::PATCH,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let (handler, shared) = (Arc::clone(&self.handler), Arc::clone(shared));
        on(filter, move |request: Request| handler(Arc::clone(&shared), Arc::clone(&terms), request))
    }
}
