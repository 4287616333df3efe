//! Names who has to act when something fails.

/// The party whose action would mend a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The connector's code or its manifest.
    Guest,
    /// The customer: configuration, grant or secret.
    Tenant,
    /// The service the connector talks to.
    Upstream,
    /// Bulkhead or the machine it runs on.
    Host,
}

impl std::fmt::Display for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guest => "connector",
            Self::Tenant => "connection",
            Self::Upstream => "upstream",
            Self::Host => "host",
        })
    }
}
