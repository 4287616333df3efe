//! How connectors' requests leave this machine, as options and a configuration say.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_services::release;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::{Code, Error};

/// The way out: whom to ask for addresses, which ones nobody may reach, and which authority to trust besides the public ones.
pub(crate) fn transport(dns: &[SocketAddr], reserved: &[IpNet], ca: Option<&Path>) -> Result<Arc<Transport>, Error> {
    let resolver = match dns {
        [] => Resolver::system(reserved.to_vec()),
        servers => Resolver::with_servers(servers, reserved.to_vec()),
    };
    let resolver = resolver.map_err(|error| Error::new(Code::Host, error.to_string()))?;
    let authorities = ca.map(authorities).transpose()?.unwrap_or_default();
    Transport::new(resolver, authorities)
        .map(Arc::new)
        .map_err(|error| Error::new(Code::Setup, format!("a certificate authority cannot be used: {error}")))
}

/// The certificates in the file, of which there is at least one.
pub(crate) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |reason: String| Error::new(Code::Setup, format!("{}: {reason}", path.display()));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(release::read_text(path)?.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(Error::new(Code::Setup, format!("{} holds no certificate in PEM", path.display()))),
        false => Ok(certificates),
    }
}
