//! Reads the certificate that the server shows, and its key.
//!
//! *Invariants*: TLS 1.2 at least; a key that other users may read is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, PermissionsExt as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Largest file, in bytes: a chain of ten certificates is some 20 KiB.
const LARGEST: u64 = 256 * 1024;

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those between it and a root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

impl Files {
    /// That TLS could be spoken with them.
    pub fn check(&self) -> Result<(), Error> {
        configured(self).map(drop)
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no {what} in PEM", path.display())]
    NotPem { path: PathBuf, what: &'static str },
    #[error("this certificate and this key cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl Error {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "tls-unreadable",
            Self::Exposed { .. } => "tls-exposed",
            Self::NotPem { .. } => "tls-not-pem",
            Self::Unusable(_) => "tls-unusable",
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::NotPem { .. } => {
                Some("convert it: openssl x509 -outform pem, or openssl pkey -outform pem".to_owned())
            }
            _ => None,
        }
    }
}

/// How TLS is spoken with what `files` hold.
pub(super) fn configured(files: &Files) -> Result<ServerConfig, Error> {
    let certificates = read(&files.certificate, false)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
    let not_pem = |path: &Path, what| Error::NotPem { path: path.to_owned(), what };
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| not_pem(&files.certificate, "certificate"))?;
    let key = read(&files.key, true)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| not_pem(&files.key, "private key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(Error::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The file there, which nobody else may read if it is `private`.
fn read(path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Unreadable { path: path.to_owned(), source };
    // Certificates that are renewed are links to those of today, in another folder.
    let real = path.canonicalize().map_err(failed)?;
    let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = real.file_name().ok_or_else(|| failed(std::io::Error::from(std::io::ErrorKind::InvalidInput)))?;
    let folder = Dir::open_ambient_dir(folder, ambient_authority()).map_err(failed)?;
    let file = folder.open(name).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if private && mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > LARGEST {
        return Err(failed(std::io::Error::from(std::io::ErrorKind::FileTooLarge)));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LARGEST), &mut bytes).map_err(failed)?;
    Ok(bytes)
}
