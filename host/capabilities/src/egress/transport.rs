//! Opens the sockets that permitted requests leave by: with the resolver the only opener.
//!
//! Why: one place to read when asking where a socket can lead. Invariants: 1. it dials only addresses that a permit admits,
//! and no name; 2. TLS 1.2 or better, verified against the name that was judged; 3. no proxy.
//! Callers: `client.rs` → here → hyper, rustls.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_core::authorize::Admitted;
use bulkhead_core::egress::{Host, Scheme};
use bulkhead_core::limits::Traffic;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Error;
use super::pool::{Channel, Sender, Tasks};
use super::resolve::Resolver;
use crate::life::Generation;

/// Longest wait for a TCP connection. A healthy service answers within one second; ten leave room for lost packets and for
/// several addresses.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for a TLS handshake after that.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long one address may take before the next is tried beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// How long an HTTP/2 upstream that owes answers may say nothing before it is asked for a sign of life, and how long that may
/// take. A socket that leads nowhere any more is shared by all requests, until it is found out.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Most addresses of one name that are tried at once. Whoever answers for it can name dozens that swallow packets, and each
/// holds one of the process's sockets.
const MOST_AT_ONCE: usize = 6;
/// Largest response head, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// Most response header fields.
const MOST_HEADERS: usize = 100;
/// TLS sessions remembered for one connection, for a quicker handshake with a host it spoke to.
const MOST_TICKETS: usize = 32;
/// How much of one answer an HTTP/2 upstream may send before the guest reads it, in bytes, and how much of one request is
/// kept until the upstream takes it.
const WINDOW: u32 = 256 * 1024;
/// The same of all answers on one socket. As many as there may be at once, or answers that nobody reads would keep others
/// from coming.
const WINDOWS: u32 = Traffic::CEILING.concurrency.get() * WINDOW;

/// How requests leave: what is common to all connections, and holds nothing of any.
pub struct Transport {
    tls: rustls::ClientConfig,
    pub(super) resolver: Resolver,
}

impl Transport {
    /// A transport that asks `resolver` for addresses, and trusts Mozilla's roots and `extra` ones.
    pub fn new(
        resolver: Resolver,
        extra: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in extra {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { tls, resolver })
    }

    /// The TLS settings for one connection, which remember its sessions and no other's.
    pub(super) fn tls(&self) -> Arc<rustls::ClientConfig> {
        let mut tls = self.tls.clone();
        tls.resumption = rustls::client::Resumption::in_memory_sessions(MOST_TICKETS);
        Arc::new(tls)
    }
}

/// A channel to one of the addresses that a permit admitted, which lasts as long as the generation at most.
pub(super) async fn open(
    admitted: &Admitted<'_>,
    tls: &Arc<rustls::ClientConfig>,
    patience: Option<Duration>,
    generation: &Generation,
) -> Result<Channel, Error> {
    let target = &admitted.request().target;
    let host = || target.authority();
    let patience = patience.unwrap_or(CONNECT).min(CONNECT);
    let (socket, address) = tokio::time::timeout(patience, dial(admitted.addresses(), target.port()))
        .await
        .map_err(|_| Error::ConnectTimeout { host: host() })?
        .map_err(|source| Error::Connect { host: host(), source })?;
    // A request's head and first bytes should not wait for each other.
    let _ = socket.set_nodelay(true);
    let exchange = |source| Error::Exchange { host: host(), source };
    let tasks = Tasks::new(generation);
    let stream: Box<dyn Stream> = match target.scheme() {
        Scheme::Http => Box::new(socket),
        Scheme::Https => {
            let stream =
                secure(target.host(), socket, tls).await.map_err(|source| Error::Tls { host: host(), source })?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let (sender, driver) = http2::Builder::new(tasks.executor())
                    .max_header_list_size(LARGEST_HEAD as u32)
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOWS)
                    .max_send_buf_size(WINDOW as usize)
                    .timer(TokioTimer::new())
                    .keep_alive_interval(SIGN_OF_LIFE)
                    .keep_alive_timeout(SIGN_OF_LIFE)
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(exchange)?;
                // How an exchange ended is told by its response and its body.
                tasks.spawn(async move { drop(driver.await) });
                return Ok(Channel::new(Sender::Http2(sender), address, tasks));
            }
            Box::new(stream)
        }
    };
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(exchange)?;
    tasks.spawn(async move { drop(driver.await) });
    Ok(Channel::new(Sender::Http1(sender), address, tasks))
}

/// The first of `addresses` that answers. The next one is tried as soon as one has failed or its head start is over, both
/// families in turn (RFC 8305 §4). Where there are more than may be tried at once, each has as long as it takes to come to its
/// turn.
async fn dial(addresses: &[IpAddr], port: u16) -> std::io::Result<(TcpStream, IpAddr)> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv6());
    let longest = v6.len().max(v4.len());
    let in_turn = (0..longest).flat_map(|at| [v6.get(at), v4.get(at)]).flatten().copied();
    let patience = if addresses.len() > MOST_AT_ONCE { HEAD_START * MOST_AT_ONCE as u32 } else { CONNECT };
    let mut waiting = in_turn.collect::<Vec<_>>().into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    loop {
        match if under_way.len() < MOST_AT_ONCE { waiting.next() } else { None } {
            Some(address) => under_way.push(attempt(address, port, patience)),
            None if under_way.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(outcome) = under_way.next() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 && under_way.len() < MOST_AT_ONCE => {}
        }
    }
}

async fn attempt(address: IpAddr, port: u16, patience: Duration) -> std::io::Result<(TcpStream, IpAddr)> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place, and the address was admitted")]
    let connect = TcpStream::connect(SocketAddr::new(address, port));
    let socket = tokio::time::timeout(patience, connect).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    Ok((socket, address))
}

/// TLS with the host that was judged.
async fn secure(
    host: &Host,
    socket: TcpStream,
    tls: &Arc<rustls::ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).map_err(std::io::Error::other)?,
        Host::Address(address) => ServerName::IpAddress((*address).into()),
    };
    let handshake = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, socket);
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no handshake in time");
    tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| late())?.map_err(plain)
}

/// What a person can do something with, of what the library says.
fn plain(error: std::io::Error) -> std::io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let outdated = matches!(
        cause,
        Some(
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
                | rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        )
    );
    if outdated { std::io::Error::other("it speaks neither TLS 1.2 nor TLS 1.3") } else { error }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
