//! Fetches a document for the host itself, through the gate that guests' requests go through.
//!
//! *Why through the gate*: what the host asks for by itself, such as an issuer's keys, is aimed by somebody's configuration. Addresses are
//! judged, TLS is checked, and sizes and times are bounded, as for a guest.
//! *Invariants*: 1. one GET without a body or a credential, and no redirect is followed; 2. over within [`LONGEST`].
//! Callers: services → here → `client.rs`.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_core::authorize::Egress;
use bulkhead_core::egress::Target;
use bulkhead_core::id::Owner;
use bulkhead_core::{Power, authorize};
use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt as _, Empty};

use super::client::{Client, Company, Failure};
use super::{Error, Transport};
use crate::credentials::{Guard, Placeholders, Secrets};
use crate::journal::Journal;
use crate::life::Generation;

/// Longest that a document may take. Somebody waits for it.
const LONGEST: Duration = Duration::from_secs(15);

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Unfetched {
    #[error("{0}")]
    Denied(bulkhead_core::Denial),
    #[error(transparent)]
    Failed(#[from] Error),
    #[error("the answer was {0}")]
    Status(u16),
    #[error("the answer broke off, or is too large")]
    BrokeOff,
    #[error("it took more than {} s", LONGEST.as_secs())]
    Late,
}

/// The document at `target`, for `owner`, who has this power.
pub async fn fetch(
    transport: &Arc<Transport>,
    owner: Arc<Owner>,
    power: Power,
    target: Target,
) -> Result<Bytes, Unfetched> {
    tokio::time::timeout(LONGEST, exchange(transport, owner, power, target)).await.unwrap_or(Err(Unfetched::Late))
}

async fn exchange(
    transport: &Arc<Transport>,
    owner: Arc<Owner>,
    power: Power,
    target: Target,
) -> Result<Bytes, Unfetched> {
    let placeholders = Arc::new(Placeholders::new(Arc::new(power), Arc::new(Secrets::default())));
    let guard = Arc::new(Guard::new([]).map_err(|_| Error::Unguarded)?);
    let headers = [(header::ACCEPT, http::HeaderValue::from_static("application/json"))].into_iter().collect();
    let request = Egress { method: http::Method::GET, target, headers, uses: Vec::new() };
    let permit = authorize(placeholders.power(), request).map_err(Unfetched::Denied)?;
    let client = Client::new(Arc::clone(&owner), Arc::clone(transport), placeholders.power());
    let journal = Journal::new(owner, Arc::clone(&guard), Generation::default());
    let company = Company { placeholders, guard, journal, options: Default::default() };
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let response = match client.send(permit, body, company).await {
        Ok(response) => response,
        Err(Failure::Denied(denial)) => return Err(Unfetched::Denied(denial)),
        Err(Failure::Failed(error)) => return Err(error.into()),
        // Nothing ends this generation.
        Err(Failure::Ended) => return Err(Unfetched::BrokeOff),
    };
    if response.status() != http::StatusCode::OK {
        return Err(Unfetched::Status(response.status().as_u16()));
    }
    let body = response.into_body().collect().await.map_err(|_| Unfetched::BrokeOff)?;
    Ok(body.to_bytes())
}
