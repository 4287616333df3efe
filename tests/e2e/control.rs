//! Stored connections, from installing a release to calling it: what runs is what was consented to, now and after a start.

mod ending;
mod killed;

use anyhow::{Context, ensure};
use bulkhead_core::Permission as P;
use bulkhead_core::id::Digest;
use bulkhead_runtime::{Failure, Thresholds};
use bulkhead_services::access::Clearance;
use bulkhead_services::connections::{self, Agreement, Configuration, Consent, State, Upgrade};
use bulkhead_services::invocation::Called;
use bulkhead_services::releases::{self, Folder, Installation};
use bulkhead_services::{Control, audit, publishers, tenants};
use bulkhead_storage::{Batch, record};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, HOSTILE_IMPORTS, HOSTILE_RESOURCES, Shipped};
use bulkhead_tests::plane::{may, open};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::outside::Laid;

/// A host with two tenants.
pub(crate) struct Plane {
    pub(crate) control: Control,
    folder: TempDir,
}

impl Plane {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let plane = Self { control: open(folder.path()).await?, folder };
        for name in ["acme", "beta"] {
            let by = plane.may(P::TenantCreate, &format!("platform/{name}")).await?;
            plane.control.tenants.create(by, tenants::Spec::default()).await?;
        }
        Ok(plane)
    }

    /// As the next host finds it.
    async fn reopened(self) -> anyhow::Result<Self> {
        let Self { control, folder } = self;
        control.close().await;
        Ok(Self { control: open(folder.path()).await?, folder })
    }

    pub(crate) async fn may(&self, permission: P, what: &str) -> anyhow::Result<Clearance> {
        may(&self.control, permission, what).await
    }

    pub(crate) async fn install(
        &self,
        tenant: &str,
        laid: &Laid,
    ) -> anyhow::Result<Result<Installation, releases::Error>> {
        let by = self.may(P::ReleaseInstall, tenant).await?;
        let folder = Folder { path: laid.path().to_owned(), component: None };
        Ok(self.control.releases.install(by, &folder).await)
    }

    /// A connection to what is in `laid`, granted as its `grant.toml` says.
    pub(crate) async fn connected(&self, name: &str, laid: &Laid, config: Value) -> anyhow::Result<Digest> {
        let tenant = name.split('/').next().unwrap_or_default();
        let release = self.install(tenant, laid).await??.found.installed.record.digest;
        let spec = connections::Spec { release, config, data_class: None };
        self.control.connections.create(self.may(P::ConnectionCreate, name).await?, spec).await?;
        self.grant(name, Consent::Toml(laid.aimed.read("grant.toml")?)).await??;
        Ok(release)
    }

    pub(crate) async fn grant(
        &self,
        name: &str,
        consent: Consent,
    ) -> anyhow::Result<Result<State, connections::Error>> {
        let by = self.may(P::ConnectionGrant, name).await?;
        let granted = self.control.connections.grant(by, None, Agreement { release: None, consent }).await;
        Ok(granted.map(|stored| stored.record.state()))
    }

    pub(crate) async fn set(&self, name: &str, secret: &str, value: &str) -> anyhow::Result<u32> {
        let by = self.may(P::SecretWrite, name).await?;
        Ok(self.control.connections.set_secret(by, &secret.parse()?, value.to_owned().into()).await?)
    }

    pub(crate) async fn call(
        &self,
        name: &str,
        action: &str,
        input: &Value,
    ) -> anyhow::Result<Result<Called<String>, connections::Error>> {
        let by = self.may(P::ConnectionInvoke, name).await?;
        Ok(self.control.live.invoke(by, action, &input.to_string(), "key").await)
    }

    /// A call that has to return.
    async fn answer(&self, name: &str, action: &str, input: &Value) -> anyhow::Result<Value> {
        let called = self.call(name, action, input).await??;
        let denied = called.outcome.record.denied;
        let text = called.outcome.result.with_context(|| format!("{action}, with {denied} denials"))?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn state(&self, name: &str) -> anyhow::Result<State> {
        let by = self.may(P::ConnectionRead, name).await?;
        Ok(self.control.connections.get(&by).await?.record.state())
    }
}

/// A connector in a folder, and its manifest's hosts aimed at `port`.
pub(crate) fn laid(shipped: Shipped, port: u16) -> anyhow::Result<Laid> {
    Laid::new(shipped, port, &json!({}))
}

/// The configuration that has a connector talk to it, by the name that its manifest asks for.
fn aimed(acme: &Acme) -> Value {
    json!({ "base_url": format!("http://localhost:{}", acme.address().port()) })
}

#[tokio::test]
async fn what_was_consented_to_runs_and_nothing_else_does() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let (plane, laid) = (Plane::new().await?, laid(ACME, acme.address().port())?);
    let installed = plane.install("acme", &laid).await??;
    ensure!(installed.fresh && installed.request.text().contains("because \"Reads contacts and adds notes to them\""));
    let release = installed.found.installed.record.digest;
    let spec = connections::Spec { release, config: aimed(&acme), data_class: None };
    let by = plane.may(P::ConnectionCreate, "acme/crm").await?;
    let (_, request) = plane.control.connections.create(by, spec).await?;
    ensure!(request.text().contains("without TLS, which takes your own word"), "{}", request.text());

    let count = json!({});
    let refused = plane.call("acme/crm", "count-contacts", &count).await?;
    ensure!(matches!(refused, Err(connections::Error::NoConsent(_))));
    // All is not all that an operator can open, and nothing is left out in silence.
    let refused = plane.grant("acme/crm", Consent::All).await?;
    ensure!(refused.is_err_and(|error| error.code() == "own-word-needed"
        && error.next_step().is_some_and(|next| next.contains("plain-http = true"))));
    // Nothing else is asked for: a grant of nothing is not what somebody means who says all.
    let refused = plane.grant("acme/crm", Consent::AllBut).await?;
    ensure!(refused.is_err_and(|error| error.to_string().contains("nothing else is asked for")
        && error.next_step().is_some_and(|next| next.contains("bulkhead revoke crm") && !next.contains("--all"))));
    let nowhere = Consent::Json(json!({ "secrets": { "token": {} } }));
    ensure!(plane.grant("acme/crm", nowhere).await?? == State::Granted);
    plane.set("acme/crm", "token", &Options::default().token).await?;
    let refused = plane.call("acme/crm", "count-contacts", &count).await?;
    ensure!(refused.is_err_and(|error| error.code() == "imports-not-granted"));
    plane.grant("acme/crm", Consent::Toml(laid.aimed.read("grant.toml")?)).await??;
    // It may travel without TLS from now on: that is no other place, so the value holds.
    let counted = plane.answer("acme/crm", "count-contacts", &count).await?;
    ensure!(counted == json!({ "count": 25 }), "{counted}");
    let note = json!({ "contact_id": "c-001", "text": "hello" });
    plane.answer("acme/crm", "add-note", &note).await?;

    let narrower = laid.aimed.read("grant.toml")?.replace("[[egress]]", "[[egress]]\nmethods = [\"GET\"]");
    plane.grant("acme/crm", Consent::Toml(narrower)).await??;
    plane.answer("acme/crm", "count-contacts", &count).await?;
    let called = plane.call("acme/crm", "add-note", &note).await??;
    ensure!(called.outcome.result.is_err() && called.outcome.record.denied == 1, "{called:?}");
    ensure!(acme.notes().len() == 1);

    // Nobody else's.
    let other = plane.call("beta/crm", "count-contacts", &count).await?;
    ensure!(matches!(other, Err(connections::Error::NotFound)));
    let by = plane.may(P::ConnectionCheck, "acme/crm").await?;
    ensure!(plane.control.live.check(by).await?.outcome.result.is_ok());
    let by = plane.may(P::ConnectionCheck, "acme/crm").await?;
    ensure!(plane.control.live.discover(by).await?.outcome.result?.len() == 1);
    ensure!(plane.control.live.len() == 1);
    Ok(())
}

/// That was done when it was stored, in its tenant's turn: a schema takes its time, and whoever is served here would wait.
#[tokio::test]
async fn a_connection_is_made_without_holding_its_configuration_against_the_schema_again() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let (plane, laid) = (Plane::new().await?, laid(ACME, acme.address().port())?);
    plane.connected("acme/crm", &laid, aimed(&acme)).await?;
    plane.set("acme/crm", "token", &Options::default().token).await?;
    let (store, at) = (plane.control.changes.store(), record::key(&["acme", "crm"]));
    let stored = record::load::<connections::Connection>(store.as_ref(), &at).await?.context("it is stored")?;
    let mut unfit = stored.record.clone();
    unfit.terms.config.as_object_mut().context("an object")?.insert("unheard-of".to_owned(), json!(1));
    store.apply(Batch::new().update(&at, &stored, &unfit)).await?;
    plane.answer("acme/crm", "count-contacts", &json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn what_could_not_run_or_is_somebody_elses_is_not_installed() -> anyhow::Result<()> {
    let plane = Plane::new().await?;
    let hidden = laid(HOSTILE_IMPORTS, 1)?;
    let refused = plane.install("acme", &hidden).await?.err().context("it imports sockets")?;
    ensure!(refused.code() == "release-refused" && refused.to_string().contains("wasi:sockets"), "{refused}");
    ensure!(refused.next_step().is_some_and(|step| step.contains("author")));
    // Nothing was claimed for it.
    let mine = laid(HOSTILE_RESOURCES, 1)?;
    ensure!(plane.install("beta", &mine).await??.fresh);
    ensure!(!plane.install("beta", &mine).await??.fresh, "the same is installed once");
    let refused = plane.install("acme", &mine).await?.err().context("it is somebody else's name")?;
    ensure!(
        matches!(&refused, releases::Error::Publisher(publishers::Error::Taken { owner, .. }) if owner.as_str() == "beta")
    );
    let by = plane.may(P::PublisherAssign, "platform/hostile").await?;
    plane.control.publishers.assign(by, "acme".parse()?, None).await?;
    ensure!(plane.install("acme", &mine).await??.fresh);
    mine.append("connector.toml", "[limits]\ncpu = \"1s\"")?;
    ensure!(plane.install("beta", &mine).await?.is_err(), "another one is");
    ensure!(plane.install("acme", &mine).await??.fresh);
    Ok(())
}

#[tokio::test]
async fn all_of_it_is_there_when_the_host_starts_again() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let (plane, laid) = (Plane::new().await?, laid(ACME, acme.address().port())?);
    plane.connected("acme/crm", &laid, aimed(&acme)).await?;
    plane.set("acme/crm", "token", &Options::default().token).await?;
    let counted = plane.answer("acme/crm", "count-contacts", &json!({})).await?;
    let plane = plane.reopened().await?;
    ensure!(plane.answer("acme/crm", "count-contacts", &json!({})).await? == counted);
    Ok(())
}

#[tokio::test]
async fn a_connection_moves_to_a_narrower_release_and_back_while_it_is_called() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let (plane, laid) = (Plane::new().await?, laid(ACME, acme.address().port())?);
    let first = plane.connected("acme/crm", &laid, aimed(&acme)).await?;
    plane.set("acme/crm", "token", &Options::default().token).await?;
    let note = json!({ "contact_id": "c-001", "text": "hello" });
    plane.answer("acme/crm", "add-note", &note).await?;

    laid.change("connector.toml", "\"GET\", \"POST\"", "\"GET\"")?;
    let next = plane.install("acme", &laid).await??.found.installed.record.digest;
    let by = plane.may(P::ConnectionUpgrade, "acme/crm").await?;
    let to = Upgrade { release: next, config: None };
    let upgraded = plane.control.connections.upgrade(by, None, to).await?;
    ensure!(upgraded.difference.is_empty(), "{}", upgraded.difference);
    plane.answer("acme/crm", "count-contacts", &json!({})).await?;
    let called = plane.call("acme/crm", "add-note", &note).await??;
    ensure!(called.outcome.result.is_err(), "it asks for that no more");

    let by = plane.may(P::ConnectionUpgrade, "acme/crm").await?;
    let back = plane.control.connections.rollback(by, None).await?;
    ensure!(back.record.terms.release.digest == first);
    plane.answer("acme/crm", "add-note", &note).await?;

    laid.append("connector.toml", "[log]")?;
    let wider = plane.install("acme", &laid).await??.found.installed.record.digest;
    let by = plane.may(P::ConnectionUpgrade, "acme/crm").await?;
    let upgraded = plane.control.connections.upgrade(by, None, Upgrade { release: wider, config: None }).await?;
    ensure!(upgraded.connection.record.state() == State::UpgradePending && !upgraded.difference.is_empty());
    plane.answer("acme/crm", "add-note", &note).await?;
    Ok(())
}

#[tokio::test]
async fn a_quarantine_holds_over_a_start_until_somebody_resumes() -> anyhow::Result<()> {
    let plane = Plane::new().await?;
    plane.connected("acme/guest", &laid(HOSTILE_RESOURCES, 1)?, json!({})).await?;
    for _ in 0..Thresholds::DEFAULT.crashes {
        let called = plane.call("acme/guest", "trap", &json!({})).await??;
        ensure!(matches!(called.outcome.result, Err(Failure::Trap(_))), "{called:?}");
    }
    // It is stored beside the call.
    while plane.state("acme/guest").await? != State::Quarantined {
        tokio::task::yield_now().await;
    }
    let plane = plane.reopened().await?;
    let refused = plane.call("acme/guest", "random", &json!({ "amount": 8 })).await?;
    ensure!(matches!(refused, Err(connections::Error::Paused { quarantined: true, .. })));
    let by = plane.may(P::ConnectionResume, "acme/guest").await?;
    plane.control.connections.resume(by).await?;
    plane.answer("acme/guest", "random", &json!({ "amount": 8 })).await?;
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_changes_is_what_the_next_call_sees() -> anyhow::Result<()> {
    let (one, other) =
        (Acme::start(Options { busy: None, ..Options::default() }).await?, Acme::start(Options::default()).await?);
    let (plane, laid) = (Plane::new().await?, laid(ACME, one.address().port())?);
    plane.connected("acme/crm", &laid, aimed(&one)).await?;
    plane.set("acme/crm", "token", &Options::default().token).await?;
    plane.answer("acme/crm", "count-contacts", &json!({})).await?;
    let by = plane.may(P::ConnectionConfigure, "acme/crm").await?;
    let to = Configuration { config: Some(aimed(&other)), data_class: Some(Some("secret".parse()?)) };
    plane.control.connections.configure(by, None, to).await?;
    // The guest goes where it is told, and what was granted is not there.
    let called = plane.call("acme/crm", "count-contacts", &json!({})).await??;
    ensure!(called.outcome.record.denied == 1 && other.requests().is_empty(), "{called:?}");
    let resource = plane.control.connections.resource(&"acme".parse()?, &"crm".parse()?).await?;
    ensure!(resource.data_class.as_deref() == Some("secret"));
    Ok(())
}
