//! TLS: a certificate that is not right in every respect stops the request before its secret is sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use bulkhead_tests::aimed::HOSTILE_EGRESS;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::outside::{Ended, Laid};

const TOKEN: &str = "tls-token-0123456789";

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Its own certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name`, changed by `change`, and its key.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0)?;
        Ok((certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?))
    }
}

pub(crate) type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// An upstream that speaks TLS and remembers the `Authorization` of each request.
struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Option<String>>>>,
}

/// Accepts what completes a handshake.
struct Handshakes(TcpListener, TlsAcceptor);

impl Listener for Handshakes {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            if let Ok((socket, address)) = self.0.accept().await
                && let Ok(stream) = self.1.accept(socket).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Upstream {
    async fn start(identity: Identity, versions: &[&'static rustls::SupportedProtocolVersion]) -> anyhow::Result<Self> {
        let config = serving(identity, versions)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let ledger = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| async move {
            let authorization = request.headers().get("authorization");
            let text = authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            ledger.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            "hello over TLS"
        });
        let serve = axum::serve(Handshakes(listener, TlsAcceptor::from(Arc::new(config))), router);
        tokio::spawn(serve.into_future());
        Ok(Self { address, seen })
    }

    fn seen(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a server needs to speak TLS as `identity`.
pub(crate) fn serving(
    (certificate, key): Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> anyhow::Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    Ok(config.with_no_client_auth().with_single_cert(vec![certificate], key)?)
}

/// Has the guest fetch from `upstream` by `host`, trusting `authority` where there is one.
async fn fetch(upstream: &Upstream, host: &str, authority: Option<&Authority>) -> anyhow::Result<Ended> {
    let port = upstream.address.port();
    let laid = Laid::new(HOSTILE_EGRESS, port, &json!({}))?;
    laid.change("connector.toml", "scheme = \"http\"", "scheme = \"https\"")?;
    laid.change("connector.toml", "localhost", host)?;
    let opening = format!("[[egress]]\nhost = \"{host}\"\nport = {port}\naddresses = [\"127.0.0.0/8\", \"::1/128\"]");
    laid.aimed.write("grant.toml", &format!("{opening}\n[secrets.token]"))?;
    let input = json!({ "url": format!("https://{host}:{port}/v1/echo") }).to_string();
    let mut arguments = vec!["invoke", ".", "fetch", "--input", &input];
    if let Some(authority) = authority {
        laid.aimed.write("ca.pem", &authority.pem())?;
        arguments.extend(["--ca", "ca.pem"]);
    }
    laid.run(&arguments, Some(TOKEN)).await
}

/// The request failed for TLS, and the upstream was sent nothing.
fn refused(upstream: &Upstream, ended: &Ended, part: &str) -> anyhow::Result<()> {
    let answer = ended.succeeded().json()?;
    assert!(
        answer.get("error").and_then(|error| error.as_str()).is_some_and(|error| error.contains("Tls")),
        "{answer}"
    );
    ended.says(&["request failed: TLS with localhost:", part, "[egress-tls]"]);
    assert_eq!(upstream.seen(), []);
    Ok(())
}

#[tokio::test]
async fn a_secret_travels_over_tls_to_an_upstream_whose_authority_is_trusted() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let upstream = Upstream::start(authority.issue("localhost", |_| {})?, versions).await?;
        let ended = fetch(&upstream, "localhost", Some(&authority)).await?;
        assert_eq!(ended.succeeded().json()?.get("body"), Some(&json!("hello over TLS")), "{}", ended.stderr);
        assert_eq!(upstream.seen(), [Some(format!("Bearer {TOKEN}"))]);
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_an_address_is_checked_against_that_address() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start(authority.issue("127.0.0.1", |_| {})?, rustls::ALL_VERSIONS).await?;
    let ended = fetch(&upstream, "127.0.0.1", Some(&authority)).await?;
    assert_eq!(ended.succeeded().json()?.get("status"), Some(&json!(200)), "{}", ended.stderr);
    assert_eq!(upstream.seen(), [Some(format!("Bearer {TOKEN}"))]);
    Ok(())
}

#[tokio::test]
async fn an_authority_that_nobody_trusts_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS).await?;
    refused(&upstream, &fetch(&upstream, "localhost", None).await?, "certificate")?;
    refused(&upstream, &fetch(&upstream, "localhost", Some(&Authority::new()?)).await?, "certificate")
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let upstream = Upstream::start((cert.der().clone(), key), rustls::ALL_VERSIONS).await?;
    refused(&upstream, &fetch(&upstream, "localhost", Some(&authority)).await?, "certificate")
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_is_not_valid_yet_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for (from, to, part) in [(2020, 2021, "expired"), (2190, 2191, "not valid yet")] {
        let period = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        };
        let upstream = Upstream::start(authority.issue("localhost", period)?, rustls::ALL_VERSIONS).await?;
        refused(&upstream, &fetch(&upstream, "localhost", Some(&authority)).await?, part)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for name in ["example.com", "*.localhost", "localhost.example.com", "127.0.0.1"] {
        let upstream = Upstream::start(authority.issue(name, |_| {})?, rustls::ALL_VERSIONS).await?;
        refused(&upstream, &fetch(&upstream, "localhost", Some(&authority)).await?, "not valid for name")?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_without_tls_is_refused_where_tls_was_asked_for() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let acme = bulkhead_tests::acme::Acme::start(bulkhead_tests::acme::Options::default()).await?;
    let plain = Upstream { address: acme.address(), seen: Arc::default() };
    refused(&plain, &fetch(&plain, "localhost", Some(&authority)).await?, "TLS")?;
    assert_eq!(acme.requests(), []);
    Ok(())
}
