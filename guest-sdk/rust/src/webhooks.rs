//! Role `webhooks`: deliveries become entries.

use serde::de::DeserializeOwned;

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::bindings::webhooks_role::exports::bulkhead::connector::webhooks;
use crate::{Connector, Entry, Kind, Result, codec, connector};

/// A connector that turns webhook deliveries into entries.
pub trait Webhooks: Connector {
    /// Turns one delivery into entries; none where it says nothing of interest.
    fn handle(config: Self::Config, delivery: Delivery) -> Result<Vec<Entry>>;
}

/// A webhook delivery. The host has checked its signature already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    id: String,
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Delivery {
    /// The sender's name for this delivery: the same when it is sent again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The request's method, such as `POST`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The first header of this name, in any case, where it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::header(&self.headers, name)
    }

    /// The body, byte for byte as it was signed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as JSON. Fails, permanently, where it is not a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        codec::parse(&self.body, "webhook delivery", Kind::Permanent)
    }
}

impl From<wit::Delivery> for Delivery {
    fn from(delivery: wit::Delivery) -> Self {
        let wit::Delivery { id, method, path, headers, body } = delivery;
        Self { id, method, path, headers, body }
    }
}

impl<W: Webhooks> webhooks::Guest for W {
    fn handle(text: String, delivery: wit::Delivery) -> Result<Vec<wit::Entry>, wit::Error> {
        let entries = <W as Webhooks>::handle(connector::config::<W>(&text)?, delivery.into())?;
        Ok(entries.into_iter().map(wit::Entry::from).collect())
    }
}
