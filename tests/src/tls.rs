//! Upstreams on loopback that speak TLS, and certificates that are wrong in one way each.

#![expect(clippy::disallowed_methods, reason = "it prepares files for a server, outside of the host")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::ALT_SVC;
use axum::serve::Listener;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A certificate and its key.
pub type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that nobody trusts yet.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// The same as text.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name`, changed by `change`, and its key.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0)?;
        Ok((certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?))
    }
}

/// A certificate for `name` that `authority` signed, and its key, as files in `folder` that are written over.
pub fn lay(folder: &Path, authority: &Authority, name: &str) -> anyhow::Result<(String, String)> {
    let (certificate, key) = authority.issue(name, |_| {})?;
    let pem =
        |kind: &str, der: &[u8]| format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der));
    let path = |name: &str| folder.join(name).display().to_string();
    let paths = (path("certificate.pem"), path("key.pem"));
    std::fs::write(&paths.0, pem("CERTIFICATE", &certificate))?;
    std::fs::write(&paths.1, pem("PRIVATE KEY", key.secret_der()))?;
    std::fs::set_permissions(&paths.1, std::fs::Permissions::from_mode(0o600))?;
    Ok(paths)
}

/// A certificate for `name` that no authority signed.
pub fn self_signed(name: &str) -> anyhow::Result<Identity> {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((cert.der().clone(), key))
}

/// An upstream that speaks TLS and remembers the `Authorization` of each request.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Option<String>>>>,
    _program: Option<(Child, TempDir)>,
}

/// What a test without the openssl program says.
const NO_OPENSSL: &str = "openssl is missing: sudo apt-get install openssl";

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
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start(
        identity: Identity,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> anyhow::Result<Self> {
        Self::serve(serving(identity, versions)?, None).await
    }

    /// One that speaks HTTP/2 and nothing else, and says with each answer that it is better asked at `alternative`.
    pub async fn multiplexing(identity: Identity, alternative: SocketAddr) -> anyhow::Result<Self> {
        let mut config = serving(identity, rustls::ALL_VERSIONS)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::serve(config, Some(format!("h2=\":{0}\"; ma=3600, h2=\"{alternative}\"", alternative.port()))).await
    }

    async fn serve(config: rustls::ServerConfig, alternative: Option<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let ledger = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| async move {
            let authorization = request.headers().get("authorization");
            let text = authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            ledger.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            let headers: HeaderMap = alternative.iter().filter_map(|at| Some((ALT_SVC, at.parse().ok()?))).collect();
            (headers, "hello over TLS")
        });
        let serve = axum::serve(Handshakes(listener, TlsAcceptor::from(Arc::new(config))), router);
        tokio::spawn(serve.into_future());
        Ok(Self { address, seen, _program: None })
    }

    /// One that speaks exactly this version (`-tls1_1`, say), as rustls cannot: the openssl program.
    pub async fn legacy((certificate, key): Identity, version: &str) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        std::fs::write(folder.path().join("certificate"), &certificate)?;
        std::fs::write(folder.path().join("key"), key.secret_der())?;
        let mut program = Command::new("openssl");
        program.args(["s_server", "-accept", "127.0.0.1:0", "-www", version, "-cipher", "DEFAULT:@SECLEVEL=0"]);
        program.args(["-cert", "certificate", "-certform", "DER", "-key", "key", "-keyform", "DER"]);
        program.current_dir(folder.path()).kill_on_drop(true);
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = program.spawn().context(NO_OPENSSL)?;
        let mut lines = BufReader::new(program.stdout.take().context("no output")?).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                let address = address.parse()?;
                return Ok(Self { address, seen: Arc::default(), _program: Some((program, folder)) });
            }
        }
        anyhow::bail!("openssl s_server did not start with {version}")
    }

    /// A server at `address` that speaks no TLS, and so never sees a request here.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, seen: Arc::default(), _program: None }
    }

    /// The `Authorization` of each request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a server needs to speak TLS as `identity`.
pub fn serving(
    (certificate, key): Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> anyhow::Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    Ok(config.with_no_client_auth().with_single_cert(vec![certificate], key)?)
}
