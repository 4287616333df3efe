//! Serves the API of a fresh host on a free port, until its standard input ends: for whoever tests it from outside.
//!
//! *Usage*: `served FOLDER`. It prints its address and the key of an administrator, on one line. The host has the tenant `acme`.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bulkhead::http::limits::{Rate, Rates};
use bulkhead::http::{Server, Settings};
use bulkhead_capabilities::credentials::vault::Source;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_runtime::{Runtime, Settings as Guests};
use bulkhead_services::access::Circumstances;
use bulkhead_services::identity::Seen;
use bulkhead_services::identity::setup::First;
use bulkhead_services::{Control, audit, control, tenants};
use bulkhead_tests::inside::compiler;
use secrecy::ExposeSecret as _;
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).context("name a folder")?);
    let guests = Guests { guests: NonZeroU32::MIN, ..Guests::SINGLE };
    let settings = control::Settings {
        data: folder.join("data"),
        keys: folder.join("keys"),
        master: Source::File,
        runtime: Runtime::new(guests, compiler()?).map_err(|error| anyhow::anyhow!("{error:#}"))?,
        transport: Arc::new(Transport::new(Resolver::system(Vec::new())?, [])?),
        audit: audit::Settings::DEFAULT,
    };
    let control = Arc::new(Control::open(settings).await?);
    let (key, now) = (admin(&control).await?, SystemTime::now());
    let actor = bulkhead_core::Actor {
        principal: "platform/service-account/admin".parse()?,
        roles: vec![bulkhead_core::Role::PlatformAdmin],
        scopes: bulkhead_core::Scopes::all(),
        credential: bulkhead_core::principal::Credential::Key("seed".to_owned()),
        proved: None,
        from: None,
    };
    let resource = bulkhead_core::Resource::named(bulkhead_core::id::TenantId::platform(), "acme");
    let wish = bulkhead_core::Wish { permission: bulkhead_core::Permission::TenantCreate, resource };
    let by = control.access.authorize(&actor, wish, Circumstances { now, request: "seed".to_owned() }).await?;
    control.tenants.create(by, tenants::Spec::default()).await?;
    let mut settings = Settings::on("127.0.0.1:0".parse()?);
    let free = Rate::new(1_000_000, 1_000_000);
    settings.rates = Rates { address: free, principal: free, failures: free };
    let server = Server::start(Arc::clone(&control), settings).await?;
    writeln!(std::io::stdout(), "http://{} {key}", server.address())?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    server.stop().await?;
    Ok(())
}

/// The key of the first administrator.
async fn admin(control: &Control) -> anyhow::Result<String> {
    let now = SystemTime::now();
    let path = control.identity.offer_setup(now).await?.context("it is set up")?;
    #[expect(clippy::disallowed_methods, reason = "it stands for whoever sets the host up, outside of it")]
    let token = std::fs::read_to_string(path)?;
    let seen = Seen { from: Some("127.0.0.1".parse()?), forwarded: false, now, request: "seed" };
    let made = control.identity.redeem_setup(token.trim(), First::Account("admin".parse()?), &seen).await?;
    Ok(made.key.context("no key")?.text.expose_secret().to_owned())
}
