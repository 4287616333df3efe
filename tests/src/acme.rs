//! Acme CRM: an upstream that the demo and the tests run on loopback.
//!
//! *Why*: a connector's sandbox is only proved against a server that can misbehave. This one pages, asks to be left
//! alone, dawdles, floods, redirects and leaks what it was sent, and it remembers every request, so that a test can say
//! what reached it, and above all what did not.
//!
//! *Invariants*: 1. every request is recorded before it is judged; 2. without the token only `/v1/echo` answers; 3. the
//! contacts are the same on every start.
//!
//! *Never*: an address other than 127.0.0.1, and TLS.

mod contacts;
mod echo;
mod gate;
mod shapes;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{any, get, post};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use contacts::{Contact, Note};

/// How many requests are remembered; older ones are forgotten. Enough for a flood, small enough to stay in memory.
pub const REMEMBERED: usize = 4096;

/// How long [`Acme::stop`] waits for answers under way, before it drops them: a test must not hang on `/v1/slow`.
const GRACE: Duration = Duration::from_secs(2);

/// What an [`Acme`] is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bearer token that everything but `/v1/echo` demands.
    pub token: String,
    /// How many contacts there are, `c-001` first.
    pub contacts: usize,
    /// How many contacts a page holds; at least one.
    pub page_size: usize,
    /// Every n-th request that carries the token is answered `429` with `Retry-After: 1`; `None` for never.
    pub busy: Option<u64>,
}

/// One request, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path, not decoded.
    pub path: String,
    /// Its query, not decoded, without the `?`.
    pub query: Option<String>,
    /// Each `Host` header it carried, in order; one is right.
    pub host_headers: Vec<String>,
    /// Its `Authorization`; several are joined by a comma.
    pub authorization: Option<String>,
}

/// A running Acme CRM. Dropping it stops it.
#[derive(Debug)]
pub struct Acme {
    address: SocketAddr,
    shop: Arc<Shop>,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

/// What the endpoints share.
#[derive(Debug)]
struct Shop {
    options: Options,
    ledger: Mutex<Ledger>,
}

/// What happened so far.
#[derive(Debug)]
struct Ledger {
    contacts: Vec<Contact>,
    notes: Vec<Note>,
    seen: VecDeque<Seen>,
    admitted: u64,
    throttled: u64,
    exports: u64,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { token: "acme-token-0123456789".to_owned(), contacts: 25, page_size: 10, busy: Some(3) }
    }
}

// === impl Acme ===

impl Acme {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shop = Arc::new(Shop::new(options));
        let (shutdown, asked) = oneshot::channel();
        // The sender's end counts as asking too: that is what stops a dropped `Acme`.
        let serve = axum::serve(listener, router(Arc::clone(&shop))).with_graceful_shutdown(async {
            let _ = asked.await;
        });
        let server = tokio::spawn(serve.into_future());
        Ok(Self { address, shop, shutdown, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The last [`REMEMBERED`] requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.shop.ledger().seen.iter().cloned().collect()
    }

    /// Every note written, oldest first.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        self.shop.ledger().notes.clone()
    }

    /// How many requests were answered `429`.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.shop.ledger().throttled
    }

    /// How often `/v1/admin/export` was reached, with or without the token. Anything but zero is a breach.
    #[must_use]
    pub fn exports(&self) -> u64 {
        self.shop.ledger().exports
    }

    /// Changes a contact, which makes it the most recently updated one. False when there is no such contact.
    #[must_use]
    pub fn touch(&self, id: &str) -> bool {
        contacts::touch(&mut self.shop.ledger().contacts, id)
    }

    /// Stops listening, and waits up to two seconds for the answers under way.
    pub async fn stop(self) {
        let Self { shutdown, mut server, .. } = self;
        let _ = shutdown.send(());
        if tokio::time::timeout(GRACE, &mut server).await.is_err() {
            server.abort();
        }
    }
}

// === impl Shop ===

impl Shop {
    fn new(options: Options) -> Self {
        let ledger = Ledger {
            contacts: contacts::deterministic(options.contacts),
            notes: Vec::new(),
            seen: VecDeque::new(),
            admitted: 0,
            throttled: 0,
            exports: 0,
        };
        Self { options, ledger: Mutex::new(ledger) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn router(shop: Arc<Shop>) -> Router {
    let guarded = Router::new()
        .route("/v1/whoami", get(contacts::whoami))
        .route("/v1/contacts", get(contacts::list))
        .route("/v1/contacts/{id}/notes", post(contacts::note))
        .route("/v1/admin/export", any(contacts::export))
        .route("/v1/slow", get(shapes::slow))
        .route("/v1/big", get(shapes::big))
        .route("/v1/redirect", any(shapes::redirect))
        .fallback(|| async { gate::problem(StatusCode::NOT_FOUND, "there is no such thing") })
        .layer(middleware::from_fn_with_state(Arc::clone(&shop), gate::admit));
    Router::new()
        .route("/v1/echo", any(echo::echo))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(Arc::clone(&shop), gate::remember))
        .with_state(shop)
}

#[cfg(test)]
mod tests;
