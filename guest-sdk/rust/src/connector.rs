//! Role `meta`: what every connector is, whatever else it does.

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::bindings::meta_role::exports::bulkhead::connector::meta;
use crate::{Kind, Result, codec};

/// A connector. Roles are further traits on the same type: [`Source`](crate::Source), [`Sink`](crate::Sink),
/// [`Actions`](crate::Actions), [`Webhooks`](crate::Webhooks).
pub trait Connector: 'static {
    /// The connection's configuration, as the manifest's `[config] schema` describes it. A configuration that does not
    /// fit becomes an error of kind `config` that names the field, before any function of the connector runs.
    type Config: DeserializeOwned;

    /// Describes the connector to people and tools.
    fn spec() -> Spec;

    /// Tries the configuration and credentials with as few upstream calls as possible.
    fn check(config: Self::Config) -> Result<()>;
}

/// What a connector says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    name: String,
    documentation: Option<String>,
}

impl Spec {
    /// A connector of this name: publisher, slash, name, as in its manifest.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), documentation: None }
    }

    /// Where people read more: a URL.
    #[must_use]
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.documentation = Some(url.into());
        self
    }

    fn into_json(self) -> String {
        match self.documentation {
            Some(documentation) => json!({ "name": self.name, "documentation": documentation }),
            None => json!({ "name": self.name }),
        }
        .to_string()
    }
}

/// Parses a connection's configuration.
pub(crate) fn config<C: Connector>(text: &str) -> Result<C::Config> {
    codec::parse(text.as_bytes(), "configuration", Kind::Config)
}

impl<C: Connector> meta::Guest for C {
    fn spec() -> String {
        <C as Connector>::spec().into_json()
    }

    fn check(text: String) -> Result<(), wit::Error> {
        Ok(<C as Connector>::check(config::<C>(&text)?)?)
    }
}
