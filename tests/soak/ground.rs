//! What the load runs on: one engine, tenants, releases, an audit log and upstreams.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::egress::Transport;
use bulkhead_core::audit::Subject;
use bulkhead_core::{Grant, Manifest};
use bulkhead_runtime::{Allowance, Connection, Runtime, Settings, Tenant};
use bulkhead_services::{Audit, Invocations, Release, connect};
use bulkhead_tests::aimed::{HOSTILE_EGRESS, HOSTILE_RESOURCES, MINIMAL, Shipped, repository};
use bulkhead_tests::inside::{self, Reach, TOKEN};
use bulkhead_tests::tls::Authority;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::chaos::{Speech, Upstream};
use crate::records::Records;

/// Tenants.
pub(crate) const TENANTS: usize = 8;
/// Instances at once of one tenant, and as many of one connection. Nobody waits, so that a place that is not given back shows.
const ALLOWANCE: Allowance =
    Allowance { running: 16, each: 16, waiting: 0, patience: Duration::ZERO, ..Allowance::DEFAULT };
/// Room for all of them: fewer than a server's, so that a slot that is not given back is missed soon.
const SETTINGS: Settings =
    Settings { guests: NonZeroU32::MIN.saturating_add(TENANTS as u32 * 16 * 8 / 7), warm: 16, memory: None };
/// How the guest that takes all it can is limited.
const GREEDY: &str = "[limits]\ncpu = \"20ms\"\ntime = \"400ms\"\nmemory = \"4MiB\"\nlog-bytes = \"8KiB\"";
/// How those that send requests are limited: short beside what an upstream's death may take.
const REACHING: &str = "time = \"3s\"\nrequests-per-minute = { \"localhost\" = 6000 }";

/// What can be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The smallest connector.
    Minimal,
    /// The guest that takes all it can.
    Greedy,
    /// The guest that sends any request, and what it speaks.
    Reaching(Speech),
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Minimal,
        Self::Greedy,
        Self::Reaching(Speech::Plain),
        Self::Reaching(Speech::Secure),
        Self::Reaching(Speech::Multiplexed),
    ];
}

/// A release, and what a connection to it is given.
struct Stock {
    kind: Kind,
    release: Release,
    grant: Grant,
    config: Value,
    token: bool,
}

pub(crate) struct Ground {
    pub(crate) upstreams: Arc<Vec<Upstream>>,
    tenants: Vec<Arc<Tenant>>,
    stock: Vec<Stock>,
    transport: Arc<Transport>,
    audit: Audit,
    records: Records,
    /// Calls of earlier runs on the same ground.
    earlier: AtomicU64,
    /// Connections made, which gives each a name of its own.
    made: AtomicU64,
}

impl Ground {
    pub(crate) async fn prepare() -> anyhow::Result<Self> {
        let runtime = Runtime::new(SETTINGS, inside::compiler()?).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let authority = Authority::new()?;
        let mut upstreams = Vec::new();
        for speech in [Speech::Plain, Speech::Secure, Speech::Multiplexed] {
            upstreams.push(Upstream::start(speech, &authority).await?);
        }
        let mut stock = vec![
            Stock::of(&runtime, Kind::Minimal, MINIMAL, "", "")?,
            Stock::of(&runtime, Kind::Greedy, HOSTILE_RESOURCES, GREEDY, "[log]")?,
        ];
        for upstream in &upstreams {
            stock.push(Stock::reaching(&runtime, upstream)?);
        }
        let tenants = (0..TENANTS).map(|number| Ok(runtime.tenant(format!("tenant-{number}").parse()?, ALLOWANCE)));
        let tenants = tenants.collect::<anyhow::Result<Vec<_>>>()?;
        let subjects = tenants.iter().map(|tenant| Subject::Tenant(tenant.id().clone()));
        let (records, audit) = Records::open(subjects.collect()).await?;
        Ok(Self {
            upstreams: Arc::new(upstreams),
            tenants,
            stock,
            transport: inside::transport(None, Some(&authority))?,
            audit,
            records,
            earlier: AtomicU64::new(0),
            made: AtomicU64::new(0),
        })
    }

    /// A new connection of one of the tenants.
    pub(crate) async fn connection(&self, tenant: usize, kind: Kind) -> anyhow::Result<Invocations> {
        let tenant = self.tenants.get(tenant % TENANTS).context("no tenant")?;
        let stock = self.stock.iter().find(|stock| stock.kind == kind).context("no release")?;
        let mut secrets = Secrets::default();
        if stock.token {
            secrets.insert("token".parse()?, TOKEN.to_owned().into(), Vec::new());
        }
        let id = format!("c-{}", self.made.fetch_add(1, Ordering::Relaxed)).parse()?;
        let transport = Arc::clone(&self.transport);
        let (release, grant, config) = (&stock.release, &stock.grant, &stock.config);
        let connection: Connection = connect(tenant, id, release, grant, config, secrets, transport)?;
        Ok(Invocations::new(connection, release.digest, &self.audit).await?)
    }

    /// Whether each tenant can have as many instances at once as at the beginning.
    pub(crate) async fn places(&self) -> Result<String, String> {
        let full = async |tenant| {
            let calls = self.connection(tenant, Kind::Greedy).await?;
            let mut guests = JoinSet::new();
            for _ in 0..ALLOWANCE.running {
                let calls = calls.clone();
                guests.spawn(async move { calls.invoke("spin-wait", &"{}".to_owned(), "soak").await });
            }
            while let Some(ended) = guests.join_next().await {
                let result = ended??.outcome.result;
                let code = result.as_ref().map_or_else(|failure| failure.code(), |_| "ok");
                ensure!(code == "limit-time", "tenant {tenant}: {code}");
            }
            anyhow::Ok(())
        };
        for tenant in 0..TENANTS {
            full(tenant).await.map_err(|error| format!("{error:#}"))?;
            self.expect(ALLOWANCE.running as u64);
        }
        Ok(format!("{} at once for each of {TENANTS} tenants", ALLOWANCE.running))
    }

    /// So many calls were made, which have to be on record.
    pub(crate) fn expect(&self, calls: u64) {
        self.earlier.fetch_add(calls, Ordering::Relaxed);
    }

    /// Whether this many calls, and those of earlier, are on record.
    pub(crate) async fn records(&self, calls: u64) -> Result<String, String> {
        self.expect(calls);
        let expected = self.earlier.load(Ordering::Relaxed);
        self.records.judged(expected).await.map_err(|error| format!("{error:#}"))
    }
}

impl Stock {
    fn of(runtime: &Runtime, kind: Kind, connector: Shipped, limits: &str, grant: &str) -> anyhow::Result<Self> {
        let folder = repository().join(connector.folder);
        let mut release = inside::open(runtime, &folder, Some(&connector.wasm()))?;
        let manifest = std::fs::read_to_string(folder.join("connector.toml"))?;
        release.manifest = parsed(&format!("{manifest}\n{limits}"))?;
        let grant = Grant::parse(grant, &release.manifest).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        Ok(Self { kind, release, grant, config: json!({}), token: false })
    }

    fn reaching(runtime: &Runtime, upstream: &Upstream) -> anyhow::Result<Self> {
        let port = upstream.address.port();
        let reach = match upstream.speech {
            Speech::Plain => Reach::plain(port),
            Speech::Secure | Speech::Multiplexed => Reach::secure(port),
        };
        let reach = Reach { limits: REACHING, ..reach };
        let folder = repository().join(HOSTILE_EGRESS.folder);
        let mut release = inside::open(runtime, &folder, Some(&HOSTILE_EGRESS.wasm()))?;
        release.manifest = parsed(&reach.manifest())?;
        let grant = Grant::parse(&reach.grant(), &release.manifest).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        // What a sync sends.
        let attempts = json!([{ "url": reach.url("/small") }, { "url": reach.url("/long") }]);
        let config = json!({ "attempts": attempts, "moment": "next" });
        Ok(Self { kind: Kind::Reaching(upstream.speech), release, grant, config, token: reach.token.is_some() })
    }
}

fn parsed(manifest: &str) -> anyhow::Result<Manifest> {
    Manifest::parse(manifest).map_err(|problem| anyhow::anyhow!("{problem}"))
}
