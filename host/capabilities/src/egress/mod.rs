//! Outbound HTTP: from a guest's call to a request that was authorized, and back.
//!
//! Why: this is the only way out of a compartment. Invariants: 1. every request is parsed once, authorized, resolved,
//! checked and sent, in that order, in one place each; 2. a socket opens only for a permit, and to an address the permit
//! admits; 3. a secret is put in after the decision and masked in the answer.
//! Never: redirects, proxies, cookies, retries. The guest sees what the upstream said.
//! Order: `host.rs` (WIT call, with `uses.rs` → action → permit) → `client.rs` → `trouble.rs` and `budget.rs` (now, or `held.rs`) →
//! `fill` → `resolve.rs` → `inject.rs` → `seal.rs` → `pool.rs` or `transport.rs` → `body.rs` out, `answer.rs` in → `event.rs`.

mod answer;
mod body;
mod bounded;
mod budget;
mod client;
mod event;
mod fetch;
mod fill;
mod held;
mod host;
mod inject;
mod pool;
mod resolve;
mod room;
mod seal;
mod transport;
mod trouble;
mod uses;
mod vet;

use wasmtime::component::Linker;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

pub use body::abandon;
pub use client::Client;
pub use event::Fault;
pub use fetch::{Unfetched, fetch};
pub(crate) use held::Held;
pub use host::Gate;
pub use resolve::Resolver;
pub use transport::Transport;

/// The types a request is built from.
const TYPES: &str = "wasi:http/types@0.2.12";
pub(crate) const INTERFACES: &[&str] = &[TYPES, "wasi:http/outgoing-handler@0.2.12"];
pub(crate) const MANIFEST_LINES: &str =
    "[[egress]]\nhost = \"TODO\"\nmethods = [\"GET\"]\npaths = [\"/TODO\"]\nwhy = \"TODO\"";

/// Why a permitted request failed. What the guest sees is the `wasi:http` error code; what the operator sees is this.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the name of {host} could not be resolved: {reason}")]
    Resolve { host: String, reason: String },
    #[error("no connection to {host} within {} s", transport::CONNECT.as_secs())]
    ConnectTimeout { host: String },
    #[error("no connection to {host}")]
    Connect { host: String, source: std::io::Error },
    #[error("TLS with {host} failed: {source}")]
    Tls { host: String, source: std::io::Error },
    #[error("the secret `{0}` is granted but has no value, so the request was not sent")]
    SecretMissing(bulkhead_core::id::SecretName),
    #[error("the secret `{0}` cannot be written into its place: it has characters that the place cannot hold")]
    SecretUnfit(bulkhead_core::id::SecretName),
    #[error("the request could not be signed with the secret `{secret}`: {reason}")]
    Unsigned { secret: bulkhead_core::id::SecretName, reason: crate::credentials::sign::Error },
    #[error("what was signed is too much to be looked for in an answer, so the answer is withheld")]
    Unguarded,
    #[error("{host} answered in an encoding that cannot be decoded here, so secrets could not be looked for in it")]
    Encoded { host: String },
    #[error("{host} answered with a part of what was asked for, so a secret could come back in pieces")]
    Partial { host: String },
    #[error("the request to {host} was not sent whole, because {fault}")]
    Unsent { host: String, fault: Fault },
    #[error("the exchange with {host} broke off")]
    Exchange { host: String, source: hyper::Error },
    #[error("the answer of {host} broke off")]
    BrokeOff { host: String },
    #[error("the answer of {host} is larger than {limit} bytes (`response-bytes` under [[egress]])")]
    TooLarge { host: String, limit: u64 },
    #[error("{host} sent nothing for {:.1} s", .after.as_secs_f64())]
    Silent { host: String, after: std::time::Duration },
}

impl Error {
    /// Who has to act.
    pub fn blame(&self) -> bulkhead_core::Blame {
        use bulkhead_core::Blame;
        match self {
            Self::SecretMissing(_) | Self::SecretUnfit(_) | Self::Unguarded => Blame::Tenant,
            Self::Unsigned { reason, .. } => reason.blame(),
            Self::Unsent { .. } => Blame::Guest,
            _ => Blame::Upstream,
        }
    }

    /// Whether the host is at fault, so that it had better be left alone if that goes on.
    fn is_the_hosts(&self) -> bool {
        match self {
            Self::Exchange { source, .. } => !source.is_user(),
            Self::Resolve { .. } | Self::ConnectTimeout { .. } | Self::Connect { .. } | Self::Tls { .. } => true,
            Self::Silent { .. } => true,
            _ => false,
        }
    }

    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "egress-resolve",
            Self::ConnectTimeout { .. } => "egress-connect-timeout",
            Self::Connect { .. } => "egress-connect",
            Self::Tls { .. } => "egress-tls",
            Self::SecretMissing(_) => "secret-missing",
            Self::SecretUnfit(_) => "secret-unfit",
            Self::Unsigned { reason, .. } => reason.code(),
            Self::Unguarded => "secret-unguarded",
            Self::Encoded { .. } => "egress-encoded",
            Self::Partial { .. } => "egress-partial",
            Self::Unsent { .. } => "egress-unsent",
            Self::Exchange { .. } => "egress-exchange",
            Self::BrokeOff { .. } => "egress-broke-off",
            Self::TooLarge { .. } => "egress-too-large",
            Self::Silent { .. } => "egress-silent",
        }
    }
}

pub(crate) fn link<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p2::bindings::{LinkOptions, http};
    http::outgoing_handler::add_to_linker::<T, WasiHttp>(linker, T::http)?;
    http::types::add_to_linker::<T, WasiHttp>(linker, &(&LinkOptions::default()).into(), T::http)?;
    bounded::link(linker)
}
