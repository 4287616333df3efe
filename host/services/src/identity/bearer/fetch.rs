//! Fetches what an issuer publishes, through the gate that connectors' requests go through.
//!
//! *Why*: an issuer's address is configuration. It must not make this host ask the machine's own services, or read without end.
//! *Never*: a header, a cookie or a credential of the host's.

use std::sync::Arc;

use bulkhead_capabilities::egress::{self, Transport};
use bulkhead_core::egress::Target;
use bulkhead_core::id::{Digest, Owner, TenantId};
use bulkhead_core::limits::Limits;
use bulkhead_core::{Grant, Manifest, Power};

/// What is fetched.
#[derive(Debug, Clone)]
pub struct Source {
    /// From where.
    pub target: Target,
    /// Blocks of private addresses that it may have.
    pub addresses: Vec<String>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Unfetched {
    #[error("{0}")]
    Form(&'static str),
    #[error("it was tried within the last minute")]
    Lately,
    #[error("it could not be asked: {0}")]
    Unasked(String),
}

/// Fetches documents.
#[async_trait::async_trait]
pub trait Fetch: Send + Sync {
    /// What is there.
    async fn fetch(&self, source: &Source) -> Result<Vec<u8>, Unfetched>;
}

/// Fetches them over the network.
pub struct Gate(Arc<Transport>);

impl Gate {
    /// One that sends by `transport`.
    pub fn new(transport: Arc<Transport>) -> Self {
        Self(transport)
    }
}

#[async_trait::async_trait]
impl Fetch for Gate {
    async fn fetch(&self, source: &Source) -> Result<Vec<u8>, Unfetched> {
        let unasked = |error: &dyn std::fmt::Display| Unfetched::Unasked(error.to_string());
        let power = power(source).map_err(|error| unasked(&error))?;
        let connection = "issuer-keys".parse().map_err(|error| unasked(&error))?;
        let owner = Arc::new(Owner { tenant: TenantId::platform(), connection });
        let document = egress::fetch(&self.0, owner, power, source.target.clone()).await;
        document.map(|bytes| bytes.to_vec()).map_err(|error| unasked(&error))
    }
}

/// One GET at that host, for a quarter of a megabyte.
fn power(source: &Source) -> Result<Power, String> {
    let target = &source.target;
    let rule = format!(
        "[[egress]]\nscheme = \"{}\"\nhost = \"{}\"\nport = {}\nmethods = [\"GET\"]\n",
        target.scheme(),
        target.host(),
        target.port()
    );
    let manifest = format!(
        "[connector]\nname = \"bulkhead/issuer-keys\"\nversion = \"1.0.0\"\n{rule}paths = [\"/**\"]\n\
         response-bytes = \"256KiB\"\nwhy = \"to check the signatures of an issuer's tokens\"\n"
    );
    let manifest = Manifest::parse(&manifest).map_err(|problem| problem.to_string())?;
    let blocks: Vec<_> = source.addresses.iter().map(|block| format!("\"{block}\"")).collect();
    let grant = format!("{rule}addresses = [{}]\n", blocks.join(", "));
    let grant = Grant::parse(&grant, &manifest).map_err(|problem| problem.to_string())?;
    Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_an_issuer_may_have_can_be_asked() {
        for (url, plain) in [
            ("https://id.example/jwks", false),
            ("https://id.example:8443/jwks?p=b", false),
            ("http://localhost:8080/jwks", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080/", true),
        ] {
            let target = super::super::issuer::target(url, plain).unwrap();
            power(&Source { target, addresses: vec!["127.0.0.0/8".to_owned()] })
                .unwrap_or_else(|why| panic!("{url}: {why}"));
        }
    }
}
