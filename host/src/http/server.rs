//! Listens, and stops listening: the socket, TLS, and the bounds that hold before there is a request.
//!
//! *Invariants*: 1. without TLS it listens on loopback only, unless the operator wrote that it may be otherwise; 2. connections are
//! bounded, in all and for each address, and so is the time in which one has to say something; 3. whoever stops it gets it back
//! when what was begun is done, or half a minute later.
//! Callers: `cli/serve.rs` → here → `mod.rs`, axum-server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use bulkhead_services::Control;
use ipnet::IpNet;

use super::accept::Bounded;
use super::door::Shared;
use super::limits::Rates;
use super::tls;

/// Longest time in which the head of a request has to be there, and for which a connection may be idle.
const LONGEST_HEAD: Duration = Duration::from_secs(15);
/// Longest time for a TLS handshake.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
/// Most fields of a head: browsers send some twenty.
const MOST_FIELDS: usize = 64;
/// Largest head, in bytes: a token of 8 KiB, and what else there is.
const LARGEST_HEAD: usize = 32 * 1024;
/// Longest time that is waited for what was begun.
const LONGEST_FAREWELL: Duration = Duration::from_secs(30);

/// How it listens.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub address: SocketAddr,
    /// The names that it answers to, besides its address.
    pub names: Vec<String>,
    /// With which certificate.
    pub tls: Option<tls::Files>,
    /// Whether it may listen elsewhere than on loopback without one.
    pub allow_plain_http: bool,
    /// The proxies whose word is taken for where a request comes from. Connections count for the proxy all the same.
    pub proxies: Vec<IpNet>,
    /// How often may be asked.
    pub rates: Rates,
    /// Most connections, in all and for one address.
    pub connections: Connections,
}

/// Most connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// In all.
    pub most: usize,
    /// From one address.
    pub most_of_one: usize,
}

impl Connections {
    /// A connection takes some 50 KiB at the worst, and a descriptor. Four addresses are needed to take them all.
    pub const DEFAULT: Self = Self { most: 2048, most_of_one: 512 };
}

impl Settings {
    /// On this machine alone.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            names: Vec::new(),
            tls: None,
            allow_plain_http: false,
            proxies: Vec::new(),
            rates: Rates::DEFAULT,
            connections: Connections::DEFAULT,
        }
    }

    /// That nothing but the address could keep it from listening.
    pub fn check(&self) -> Result<(), Error> {
        self.acceptable().map(drop)
    }

    /// How TLS is spoken, where it is.
    fn acceptable(&self) -> Result<Option<rustls::ServerConfig>, Error> {
        match &self.tls {
            Some(files) => Ok(Some(tls::configured(files)?)),
            None if !self.address.ip().is_loopback() && !self.allow_plain_http => Err(Error::Plain(self.address)),
            None => Ok(None),
        }
    }
}

/// Why it does not listen.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("{0} is reached by others, and without TLS whoever is in between reads and changes what they send")]
    Plain(SocketAddr),
    #[error("{address} cannot be listened on: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("serving broke off: {0}")]
    Broke(String),
}

impl Error {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Plain(_) => "server-plain",
            Self::Listen { .. } => "server-listen",
            Self::Tls(error) => error.code(),
            Self::Broke(_) => "server-broke",
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Plain(_) => Some(
                "name `tls-certificate` and `tls-key` under [server], listen on 127.0.0.1 behind a proxy, or write `allow-plain-http = true`"
                    .to_owned(),
            ),
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some("another process listens there: stop it, or choose another port".to_owned())
            }
            Self::Tls(error) => error.next_step(),
            _ => None,
        }
    }
}

/// A server that listens.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    handle: Handle<SocketAddr>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    tls: Option<(tls::Files, RustlsConfig)>,
}

impl Server {
    /// Begins to listen.
    pub async fn start(control: Arc<Control>, settings: Settings) -> Result<Self, Error> {
        let Settings { address, tls: files, connections, .. } = &settings;
        let config = settings.acceptable()?.map(|config| RustlsConfig::from_config(Arc::new(config)));
        let failed = |source| Error::Listen { address: *address, source };
        // Port 0 is any that is free: the names that it answers to hold none.
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let tls = files.clone().zip(config);
        let (router, shared) = super::router(control, &settings, bound);
        let handle = Handle::new();
        let bounds = Bounded::new(*connections);
        let server = axum_server::from_tcp(listener).map_err(failed)?.handle(handle.clone());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = match &tls {
            Some((_, config)) => {
                let acceptor = RustlsAcceptor::new(config.clone()).handshake_timeout(LONGEST_HANDSHAKE);
                tokio::spawn(bounded(server.acceptor(bounds.around(acceptor))).serve(service))
            }
            None => tokio::spawn(bounded(server.acceptor(bounds.around(DefaultAcceptor::new()))).serve(service)),
        };
        Ok(Self { address: bound, shared, handle, task, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the certificate and its key again. What is wrong with them changes nothing.
    pub fn reload(&self) -> Result<(), Error> {
        if let Some((files, config)) = &self.tls {
            config.reload_from_config(Arc::new(tls::configured(files)?));
        }
        Ok(())
    }

    /// Takes no new requests, finishes those that were begun, and is gone.
    pub async fn stop(self) -> Result<(), Error> {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.handle.graceful_shutdown(Some(LONGEST_FAREWELL));
        self.ended().await
    }

    /// Gives up at once on all that was begun.
    pub fn abort(self) {
        self.handle.shutdown();
    }

    async fn ended(self) -> Result<(), Error> {
        match self.task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Broke(error.to_string())),
            Err(error) => Err(Error::Broke(error.to_string())),
        }
    }
}

/// With bounds on heads. HTTP/1.1 alone: there is nothing here that wants more than one request at a time on a connection, and
/// two ways to frame requests are what smuggling is made of.
fn bounded<A>(server: axum_server::Server<SocketAddr, A>) -> axum_server::Server<SocketAddr, A> {
    let mut server = server.http1_only().first_request_timeout(LONGEST_HEAD);
    server
        .http_builder()
        .http1()
        .header_read_timeout(LONGEST_HEAD)
        .max_headers(MOST_FIELDS)
        .max_buf_size(LARGEST_HEAD)
        .half_close(false);
    server
}

/// Who a connection counts for.
pub(super) fn caller(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// The router by itself, for tests that need no socket.
pub fn router(control: Arc<Control>, settings: &Settings) -> Router {
    super::router(control, settings, settings.address).0
}
