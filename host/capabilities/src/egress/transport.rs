//! Sends a permitted request: the only opener of sockets besides the resolver.
//!
//! Why: one place to read when asking what leaves and how. Invariants: 1. it consumes a permit, and sends the request
//! that permit owns; 2. it dials only addresses that the permit admits, and no name again after that; 3. exactly one
//! `Host`, written here; 4. TLS 1.2 or better, verified; no proxy, no redirect, no reuse between requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_core::authorize::Egress;
use bulkhead_core::egress::Scheme;
use bulkhead_core::{Denial, Permit};
use http::header;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::body::{Incoming, Outgoing};
use super::resolve::Resolver;
use super::{Error, inject};
use crate::credentials::{Guard, Vault};
use crate::journal::Journal;

/// Longest wait for a TCP and TLS connection. A healthy service answers within one; three leaves room for a lost packet.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence before the first byte and between bytes; the invocation's own deadline is usually nearer.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest response head, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// Most response header fields.
const MOST_HEADERS: usize = 100;

/// How requests leave.
pub struct Transport {
    tls: Arc<rustls::ClientConfig>,
    resolver: Resolver,
}

/// Why nothing came back.
pub(super) enum Failure {
    Denied(Denial),
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What accompanies a request and is not part of the decision.
pub(super) struct Company {
    pub(super) vault: Arc<dyn Vault>,
    pub(super) guard: Arc<Guard>,
    pub(super) journal: Journal,
    pub(super) options: RequestOptions,
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
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Nothing is resumed, so nothing is shared between connections.
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { tls: Arc::new(tls), resolver })
    }

    /// Sends the permitted request with `body`. Whoever holds `place` until the answer's body is dropped counts as one
    /// exchange under way.
    pub(super) async fn send(
        &self,
        permit: Permit<Egress>,
        body: WasiBody,
        company: Company,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<http::Response<WasiBody>, Failure> {
        let target = &permit.request().target;
        let host = target.authority();
        let addresses = self.resolver.addresses(target.host()).await?;
        let surroundings = self.resolver.surroundings(target.host(), &addresses).await?;
        permit.admits(&addresses, &surroundings).map_err(Failure::Denied)?;

        let patience = company.options.connect_timeout.unwrap_or(CONNECT).min(CONNECT);
        let connect = self.connect(&permit, &addresses, &host);
        let stream = tokio::time::timeout(patience, connect)
            .await
            .map_err(|_| Error::ConnectTimeout { host: host.clone() })??;

        let exchange = |source| Error::Exchange { host: host.clone(), source };
        let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(exchange)?;
        let driver = wasmtime_wasi::runtime::spawn(async move {
            // How the exchange ended is told by the response and its body.
            let _ = driver.await;
        });

        let request = assemble(&permit, body, &company)?;
        company.journal.count(|record| record.requests += 1);
        let patience = company.options.first_byte_timeout.unwrap_or(SILENCE).min(SILENCE);
        let response = tokio::time::timeout(patience, sender.send_request(request))
            .await
            .map_err(|_| Error::Silent { host: host.clone(), after: patience })?
            .map_err(exchange)?;
        // Never the query, which `target` does not show, nor a header.
        tracing::info!(method = %permit.request().method, %target, status = response.status().as_u16(), "sent");
        receive(response, &permit, company, (driver, place)).map_err(Into::into)
    }

    /// The first of `addresses` that answers, with TLS where the scheme wants it.
    async fn connect(
        &self,
        permit: &Permit<Egress>,
        addresses: &[IpAddr],
        host: &str,
    ) -> Result<Box<dyn Stream>, Error> {
        let target = &permit.request().target;
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in addresses {
            #[expect(clippy::disallowed_methods, reason = "this is the one place, and it has a permit")]
            let socket = match TcpStream::connect(SocketAddr::new(*address, target.port())).await {
                Ok(socket) => socket,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            // A request's head and first bytes should not wait for each other.
            let _ = socket.set_nodelay(true);
            tracing::debug!(%address, target = %target, "connected");
            return match target.scheme() {
                Scheme::Http => Ok(Box::new(socket)),
                Scheme::Https => {
                    let failed = |source| Error::Tls { host: host.to_owned(), source };
                    let name = ServerName::try_from(target.host().to_string().trim_matches(['[', ']']).to_owned())
                        .map_err(|error| failed(std::io::Error::other(error)))?;
                    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
                    let stream = connector.connect(name, socket).await.map_err(failed)?;
                    Ok(Box::new(stream))
                }
            };
        }
        Err(Error::Connect { host: host.to_owned(), source: last })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The request as it goes on the wire: the permit's head with our `Host` and the secrets, the guest's body.
fn assemble(
    permit: &Permit<Egress>,
    body: WasiBody,
    company: &Company,
) -> Result<http::Request<Outgoing<WasiBody>>, Failure> {
    let judged = permit.request();
    let unfit = || {
        let reason = bulkhead_core::egress::Error::Character;
        Failure::Denied(Denial::malformed(&judged.to_string(), &judged.target.authority(), reason))
    };
    let mut request = http::Request::new(Outgoing::new(body, permit.request_bytes().bytes(), company.journal.clone()));
    *request.method_mut() = judged.method.clone();
    *request.uri_mut() = judged.target.origin_form().parse().map_err(|_| unfit())?;
    *request.headers_mut() = judged.headers.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, judged.target.authority().parse().map_err(|_| unfit())?);
    if !company.guard.is_idle() {
        // Secrets can be looked for only in what is not compressed.
        headers.insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
    }
    inject::inject(permit, company.vault.as_ref(), headers)?;
    Ok(request)
}

/// The answer as the guest gets it: masked, bounded, framed anew.
fn receive(
    response: http::Response<hyper::body::Incoming>,
    permit: &Permit<Egress>,
    company: Company,
    hold: (AbortOnDropJoinHandle<()>, Option<OwnedSemaphorePermit>),
) -> Result<http::Response<WasiBody>, Error> {
    let (mut head, body) = response.into_parts();
    if !company.guard.is_idle() {
        let host = || permit.request().target.authority();
        let other = |name, plain: &str| head.headers.get_all(name).iter().any(|value| value != plain);
        if other(header::CONTENT_ENCODING, "identity") || other(header::TRANSFER_ENCODING, "chunked") {
            return Err(Error::Encoded { host: host() });
        }
        if head.status == http::StatusCode::PARTIAL_CONTENT {
            return Err(Error::Partial { host: host() });
        }
        let mut found = 0;
        let telling: Vec<http::HeaderName> = head
            .headers
            .keys()
            .filter(|name| company.guard.mask(&mut name.as_str().as_bytes().to_vec()) > 0)
            .cloned()
            .collect();
        for name in telling {
            head.headers.remove(name);
            found += 1;
        }
        for value in head.headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            let hits = company.guard.mask(&mut bytes);
            if hits > 0 {
                found += hits;
                *value = http::HeaderValue::from_bytes(&bytes).unwrap_or(http::HeaderValue::from_static(""));
            }
        }
        company.journal.count(|record| record.masked += found);
    }
    let silence = company.options.between_bytes_timeout.unwrap_or(SILENCE).min(SILENCE);
    let limit = permit.response_bytes().bytes();
    let body = Incoming::new(body, limit, silence, company.guard, company.journal, hold);
    Ok(http::Response::from_parts(head, body.boxed_unsync()))
}
