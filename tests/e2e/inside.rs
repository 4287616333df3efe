//! The same connectors through the runtime's own crates: quicker than a program for each case, and with the outcome as
//! data.

use std::sync::Arc;

use anyhow::Context;
use bulkhead_capabilities::credentials::DevelopmentVault;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::Grant;
use bulkhead_core::id::Owner;
use bulkhead_runtime::{Connection, Outcome, Runtime};
use bulkhead_services::{Release, connect};
use serde_json::Value;

use crate::outside::Laid;

/// Connects the connector in `laid`, with `token` as its secret.
pub(crate) fn connection(runtime: &Runtime, laid: &Laid, token: Option<&str>) -> anyhow::Result<Connection> {
    let release = Release::open(runtime, laid.path(), None)?;
    let grant = Grant::parse(&laid.aimed.read("grant.toml")?, &release.manifest)?;
    let config = serde_json::from_str(&laid.aimed.read("config.json")?)?;
    let mut vault = DevelopmentVault::default();
    if let Some(token) = token {
        vault.insert("token".parse()?, token.to_owned().into())?;
    }
    let transport = Arc::new(Transport::new(Resolver::system(Vec::new())?, [])?);
    Ok(connect(runtime, Owner::local(&release.manifest.connector.name), &release, &grant, &config, vault, transport)?)
}

/// An engine.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Runtime::new().map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Calls an action.
pub(crate) async fn invoke(connection: &Connection, action: &str, input: &Value) -> anyhow::Result<Outcome<String>> {
    Ok(connection.invoke(action, &input.to_string(), "key").await?)
}

/// Calls an action that has to return.
pub(crate) async fn answer(
    connection: &Connection,
    action: &str,
    input: &Value,
) -> anyhow::Result<(Value, Outcome<()>)> {
    let Outcome { result, record, lines, dropped_lines, usage } = invoke(connection, action, input).await?;
    let text = result.with_context(|| format!("{action} {input}"))?;
    Ok((serde_json::from_str(&text)?, Outcome { result: Ok(()), record, lines, dropped_lines, usage }))
}
