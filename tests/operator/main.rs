//! Changes what the control plane keeps until it is killed, and says of each change that it was acknowledged.
//!
//! Called by `tests/e2e/control/killed.rs` with a folder and the number of the first change. It prints `KIND NUMBER`.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use bulkhead_core::Permission as P;
use bulkhead_services::connections::{Agreement, Configuration, Consent, Spec};
use bulkhead_services::releases::Folder;
use bulkhead_services::{Control, tenants};
use bulkhead_tests::aimed::{ACME, repository};
use bulkhead_tests::plane::{may, open};

/// What the connector may do, without which it has no secrets.
const GRANT: &str =
    "[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8470\n[secrets.token]\nplain-http = true\n";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (folder, first) = arguments.next().zip(arguments.next()).context("operator FOLDER NUMBER")?;
    let first: u64 = first.to_str().context("a number")?.parse()?;
    let control = open(&folder).await?;
    prepare(&control).await?;
    let mut out = std::io::stdout();
    for number in first.. {
        let kind = change(&control, number).await?;
        writeln!(out, "{kind} {number}")?;
    }
    Ok(())
}

/// A tenant with a connection, unless they are there.
async fn prepare(control: &Control) -> anyhow::Result<()> {
    if control.environment(&"acme".parse()?).await?.is_none() {
        let by = may(control, P::TenantCreate, "platform/acme").await?;
        control.tenants.create(by, tenants::Spec::default()).await?;
    }
    let by = may(control, P::ConnectionRead, "acme/crm").await?;
    if control.connections.get(&by).await.is_ok() {
        return Ok(());
    }
    let folder = Folder { path: repository().join(ACME.folder), component: Some(ACME.wasm()) };
    let by = may(control, P::ReleaseInstall, "acme").await?;
    let release = control.releases.install(by, &folder).await?.found.installed.record.digest;
    let config = serde_json::json!({ "base_url": "http://localhost:8470" });
    let by = may(control, P::ConnectionCreate, "acme/crm").await?;
    control.connections.create(by, Spec { release, config, data_class: None }).await?;
    let by = may(control, P::ConnectionGrant, "acme/crm").await?;
    let agreement = Agreement { release: None, consent: Consent::Toml(GRANT.to_owned()) };
    control.connections.grant(by, None, agreement).await?;
    Ok(())
}

/// One change, which its number can be told by.
async fn change(control: &Control, number: u64) -> anyhow::Result<&'static str> {
    let name = format!("n{number}");
    match number % 5 {
        0 => {
            let by = may(control, P::TenantCreate, &format!("platform/{name}")).await?;
            control.tenants.create(by, tenants::Spec::default()).await?;
            Ok("tenant")
        }
        1 => {
            let spec = tenants::Spec { environment: Some(name.parse()?), allowance: None };
            control.tenants.update(may(control, P::TenantUpdate, "acme").await?, None, spec).await?;
            Ok("environment")
        }
        2 => {
            let by = may(control, P::PublisherAssign, &format!("platform/{name}")).await?;
            control.publishers.assign(by, "acme".parse()?, None).await?;
            Ok("publisher")
        }
        3 => {
            let to = Configuration { config: None, data_class: Some(Some(name.parse()?)) };
            let by = may(control, P::ConnectionConfigure, "acme/crm").await?;
            control.connections.configure(by, None, to).await?;
            Ok("class")
        }
        _ => {
            let by = may(control, P::SecretWrite, "acme/crm").await?;
            let value = format!("the value number {number}");
            control.connections.set_secret(by, &"token".parse()?, value.into()).await?;
            Ok("secret")
        }
    }
}
