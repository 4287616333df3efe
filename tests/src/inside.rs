//! Connectors through the host's own crates: quicker than a program for each case, and with the outcome as data.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bulkhead_capabilities::credentials::DevelopmentVault;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::Grant;
use bulkhead_core::id::Owner;
use bulkhead_runtime::{Connection, Outcome, Runtime};
use bulkhead_services::{Release, connect};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::outside::Laid;

/// The network that a connection sees.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// DNS servers that are asked; the system's where none is named.
    pub dns: Vec<SocketAddr>,
    /// Blocks that the operator keeps from every connector.
    pub reserved: Vec<&'static str>,
    /// Authorities that are trusted besides the public ones.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Connects `release`, with `token` as its secret. The one place where tests make a connection in process.
pub fn connected(
    runtime: &Runtime,
    release: &Release,
    grant: &str,
    config: &Value,
    token: Option<&str>,
    network: &Network,
) -> anyhow::Result<Connection> {
    let grant = Grant::parse(grant, &release.manifest)?;
    let mut vault = DevelopmentVault::default();
    if let Some(token) = token {
        vault.insert("token".parse()?, token.to_owned().into())?;
    }
    let reserved = network.reserved.iter().map(|block| block.parse()).collect::<Result<Vec<_>, _>>()?;
    let resolver = match network.dns.as_slice() {
        [] => Resolver::system(reserved)?,
        servers => Resolver::with_servers(servers, reserved)?,
    };
    let transport = Arc::new(Transport::new(resolver, network.authorities.iter().cloned())?);
    let owner = Owner::local(&release.manifest.connector.name);
    Ok(connect(runtime, owner, release, &grant, config, vault, transport)?)
}

/// Connects the connector in `laid`, with `token` as its secret.
pub fn connection(runtime: &Runtime, laid: &Laid, token: Option<&str>) -> anyhow::Result<Connection> {
    let release = Release::open(runtime, laid.path(), None)?;
    let config = serde_json::from_str(&laid.aimed.read("config.json")?)?;
    connected(runtime, &release, &laid.aimed.read("grant.toml")?, &config, token, &Network::default())
}

/// An engine.
pub fn runtime() -> anyhow::Result<Runtime> {
    Runtime::new().map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Calls an action.
pub async fn invoke(connection: &Connection, action: &str, input: &Value) -> anyhow::Result<Outcome<String>> {
    Ok(connection.invoke(action, &input.to_string(), "key").await?)
}

/// Calls an action that has to return.
pub async fn answer(connection: &Connection, action: &str, input: &Value) -> anyhow::Result<(Value, Outcome<()>)> {
    let Outcome { result, record, lines, dropped_lines, usage } = invoke(connection, action, input).await?;
    let text = result.with_context(|| format!("{action} {input}"))?;
    Ok((serde_json::from_str(&text)?, Outcome { result: Ok(()), record, lines, dropped_lines, usage }))
}
