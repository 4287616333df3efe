//! Makes a connection: a release with a grant, a configuration and secrets.

use std::sync::Arc;

use bulkhead_capabilities::credentials::{self, Guard, Secrets};
use bulkhead_capabilities::egress::{Client, Transport};
use bulkhead_core::id::{ConnectionId, Owner, SecretName};
use bulkhead_core::limits::Limits;
use bulkhead_core::{Grant, Power, power};
use bulkhead_runtime::{Connection, Entry, Prepared, Refusal, Standing, Tenant, Thresholds};
use serde_json::Value;

use crate::release::Release;

/// Why there is no connection. Nothing of the connector has run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the configuration does not fit the connector's schema: {}", .0.join("; "))]
    Configuration(Vec<String>),
    #[error(transparent)]
    Power(#[from] power::Error),
    #[error("the secret `{0}` is granted but has no value")]
    NoValue(SecretName),
    #[error("the manifest has no secret `{0}`")]
    NoSuchSecret(SecretName),
    #[error(transparent)]
    Secret(#[from] credentials::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What a connection may do: what the release asks for and the grant allows, with a valid configuration filled in.
pub fn power(release: &Release, grant: &Grant, config: &Value) -> Result<Power, Error> {
    let complaints = release.complaints(config);
    if !complaints.is_empty() {
        return Err(Error::Configuration(complaints));
    }
    let lookup = |key: &str| config.get(key).and_then(Value::as_str);
    Ok(Power::new(&release.manifest, grant, release.digest, lookup, &Limits::CEILING)?)
}

/// Checks everything and links the connector, as the connection `id` of `tenant`.
pub fn connect(
    tenant: &Arc<Tenant>,
    id: ConnectionId,
    release: &Release,
    grant: &Grant,
    config: &Value,
    secrets: Secrets,
    transport: Arc<Transport>,
) -> Result<Connection, Error> {
    link(tenant, id, release, power(release, grant, config)?, config, secrets, transport)
}

/// The same with what the connection may do, where the configuration was held against the schema before.
pub(crate) fn link(
    tenant: &Arc<Tenant>,
    id: ConnectionId,
    release: &Release,
    power: Power,
    config: &Value,
    secrets: Secrets,
    transport: Arc<Transport>,
) -> Result<Connection, Error> {
    if let Some((name, _)) = secrets.entries().find(|(name, _)| !release.manifest.secrets.contains_key(*name)) {
        return Err(Error::NoSuchSecret(name.clone()));
    }
    // Before secrets: a connector that cannot be loaded should not ask for any.
    let prepared = Prepared::shared(tenant.runtime(), &release.candidate, &power)?;
    if let Some(secret) = power.secrets().find(|secret| secrets.value(&secret.name).is_none()) {
        return Err(Error::NoValue(secret.name.clone()));
    }
    for (name, value) in secrets.entries() {
        credentials::check(name, power.secret(name).map(AsRef::as_ref), value)?;
    }
    let guard = Guard::new(&secrets.guarded(&power))?;
    let owner = Owner { tenant: tenant.id().clone(), connection: id };
    let owner = Arc::new(owner);
    let client = Client::new(Arc::clone(&owner), transport, &power);
    Ok(Connection {
        entry: Arc::new(Entry::new(Arc::clone(tenant))),
        prepared,
        standing: Arc::new(Standing::new(owner, Thresholds::DEFAULT)),
        power: Arc::new(power),
        secrets: Arc::new(secrets),
        guard: Arc::new(guard),
        client: Arc::new(client),
        config: Arc::new(config.to_string()),
    })
}
