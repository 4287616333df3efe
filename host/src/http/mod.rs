//! The HTTP API: `/v1`, one noun a file, one way in for all of them.
//!
//! *The way in*: `door.rs` (an id, the name it was sent to, how often its address asks) → `actor.rs` (who) → `limits.rs` (how often
//! they ask) → `Access::authorize` (whether they may) → `input.rs` (what they bring) → `idempotency.rs` (whether that was done
//! before) → a handler, which is a function of a clearance and calls one service → `door.rs` (problems, headers, the log).
//! *Invariants*: 1. routes are declared in one table (`route.rs`), from which they are served, described and tested; 2. a handler
//! decides nothing; 3. bytes that a guest made go out as JSON that no browser takes for a page.
//! Callers: `cli/serve.rs`, tests → here → services.

mod accept;
pub mod accounts;
mod actor;
mod attributes;
pub mod audit;
pub mod connections;
mod door;
mod etag;
mod forwarded;
pub mod grants;
pub mod health;
mod hidden;
mod host;
mod idempotency;
pub mod identities;
mod input;
pub mod invocations;
pub mod issuers;
mod json;
pub mod keys;
pub mod limits;
pub mod me;
mod openapi;
pub mod page;
mod place;
pub mod policies;
pub mod principals;
pub mod problem;
pub mod publishers;
mod refusal;
pub mod releases;
pub mod request;
mod route;
pub mod schema;
pub mod secrets;
pub mod server;
pub mod sessions;
pub mod setup;
pub mod tenants;
pub mod tls;
pub mod tokens;
mod upload;
pub mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use bulkhead_services::Control;
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;

use door::Shared;
use forwarded::Proxies;
use host::Names;
use idempotency::Idempotency;
use limits::Limits;
use problem::Problem;
use route::Route;
pub use server::{Server, Settings};
use upload::Uploads;

/// The table: every route there is.
fn table() -> Vec<Route> {
    [
        health::routes(),
        setup::routes(),
        sessions::routes(),
        tokens::routes(),
        me::routes(),
        tenants::routes(),
        publishers::routes(),
        releases::routes(),
        connections::routes(),
        grants::routes(),
        secrets::routes(),
        invocations::routes(),
        users::routes(),
        accounts::routes(),
        keys::routes(),
        issuers::routes(),
        identities::routes(),
        policies::routes(),
        audit::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The API's description, as it is served: OpenAPI 3.1.
pub fn document() -> serde_json::Value {
    openapi::document(&table())
}

/// What serves the API at `address`.
fn router(control: Arc<Control>, settings: &Settings, address: SocketAddr) -> (Router, Arc<Shared>) {
    let table = table();
    let shared = Arc::new(Shared {
        names: Names::new(&settings.names, address),
        proxies: Proxies::new(&settings.proxies),
        limits: Limits::new(settings.rates),
        idempotency: Idempotency::new(Arc::clone(control.changes.store())),
        uploads: Uploads::default(),
        tls: settings.tls.is_some(),
        draining: AtomicBool::new(false),
        document: openapi::document(&table).to_string().into(),
        control,
    });
    let mut router = Router::new();
    for route in &table {
        router = router.route(route.path, route.served(&shared));
    }
    let router = router
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&shared), door::pass));
    (router, shared)
}

/// What a request is answered whose handling broke off.
fn panicked(cause: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    let cause = cause.downcast_ref::<&str>().copied().unwrap_or("unknown");
    Problem::internal("panicked", &cause).into_response()
}
