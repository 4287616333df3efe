//! The ground that attacks are made on: upstreams, names, listeners that must stay silent, and the guest, compiled once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use bulkhead_core::Manifest;
use bulkhead_runtime::{Connection, Runtime};
use bulkhead_services::Release;
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{
    HOSTILE_EGRESS, HOSTILE_LEAKS, HOSTILE_PLACES, HOSTILE_RESOURCES, HOSTILE_SIGNATURES, Shipped,
};
use bulkhead_tests::dns::{Dns, ZONE};
use bulkhead_tests::inside::{self, Network};
use bulkhead_tests::outside::Laid;
use bulkhead_tests::tls::Upstream;
use serde_json::{Map, Value, json};

use crate::attempt::arrival;
use crate::witness::{Tripwire, Witness};

/// The secret that is put into every request to a host that it is bound to.
pub(crate) const TOKEN: &str = "acme-token-0123456789";

/// The connector's name, in its manifest and in its syncs' states.
pub(crate) const CONNECTOR: &str = "hostile/egress";

/// How often a free port is looked for that is free on every address.
const TRIES: usize = 10;

/// Everything that attacks are made with and on.
pub(crate) struct Siege {
    pub(crate) runtime: Runtime,
    /// `api.bulkhead.test`, which wants the secret.
    pub(crate) acme: Acme,
    /// `raw.bulkhead.test`.
    pub(crate) witness: Witness,
    pub(crate) tripwire: Tripwire,
    pub(crate) dns: Dns,
    /// Upstreams that rows have started for themselves.
    pub(crate) secure: Mutex<Vec<Upstream>>,
    /// DNS servers that rows have started for themselves.
    pub(crate) other_dns: Mutex<Vec<Dns>>,
    /// Addresses of this machine's interfaces, but for those that mean nothing without one.
    pub(crate) own: Vec<IpAddr>,
    egress: Loaded,
    places: Loaded,
    signatures: Loaded,
    leaks: Loaded,
    resources: Loaded,
    /// Components that rows have written by hand.
    raw: Mutex<Vec<Arc<Loaded>>>,
    states: AtomicUsize,
}

/// A guest, compiled once, and its folder for the program.
struct Loaded {
    laid: Laid,
    release: Mutex<Release>,
}

impl Loaded {
    fn new(runtime: &Runtime, guest: Shipped, port: u16) -> anyhow::Result<Self> {
        let laid = Laid::new(guest, port, &json!({}))?;
        let release = Mutex::new(inside::open(runtime, laid.path(), None)?);
        Ok(Self { laid, release })
    }

    /// A component that is not built from a folder. It takes any configuration.
    fn crafted(runtime: &Runtime, component: &[u8]) -> anyhow::Result<Self> {
        let laid = Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?;
        std::fs::write(laid.path().join("connector.wasm"), component)?;
        laid.aimed.write("config.schema.json", "{}")?;
        let release = Mutex::new(inside::open(runtime, laid.path(), None)?);
        Ok(Self { laid, release })
    }

    /// Connects it.
    fn connect(&self, runtime: &Runtime, terms: &Terms, config: &Value) -> anyhow::Result<Connection> {
        let mut release = self.release.lock().unwrap_or_else(PoisonError::into_inner);
        release.manifest = Manifest::parse(&terms.manifest)?;
        inside::connected_with(runtime, &release, &terms.grant, config, &terms.values(), &terms.network)
    }
}

/// Who attacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Sends what it is told to.
    #[default]
    Egress,
    /// The same, with placeholders.
    Places,
    /// The same, with signatures.
    Signatures,
    /// Lets texts out besides, and has a log.
    Leaks,
    /// Takes all it can.
    Resources,
    /// One that was written by hand: what [`Siege::craft`] gave.
    Raw(usize),
}

/// What a connection is made of, besides the component.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) manifest: String,
    pub(crate) grant: String,
    pub(crate) config: Map<String, Value>,
    pub(crate) network: Network,
    pub(crate) guest: Guest,
    /// Names and values of secrets, besides [`TOKEN`].
    pub(crate) secrets: Vec<(String, String)>,
    /// What may not come out besides, although the host does not know it.
    pub(crate) watched: Vec<String>,
}

/// Where the upstreams and the names stand: what is sent afterwards can be told from what was sent before.
pub(crate) struct Mark {
    acme: usize,
    witness: usize,
    secure: Vec<usize>,
}

// === impl Siege ===

impl Siege {
    /// Starts everything, and compiles the guest.
    pub(crate) async fn begin() -> anyhow::Result<Self> {
        let own = if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).filter(is_routable).collect::<Vec<_>>();
        let mut silent = vec![IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        silent.extend(&own);
        let (mut tries, started) = (0, async || {
            let acme = Acme::start(Options { token: TOKEN.to_owned(), busy: None, ..Options::default() }).await?;
            let witness = Witness::start().await?;
            let tripwire = Tripwire::stretch(&silent, &[acme.address().port(), witness.port()]).await?;
            anyhow::Ok((acme, witness, tripwire))
        });
        let (acme, witness, tripwire) = loop {
            tries += 1;
            match started().await {
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => {}
                Ok(started) => break started,
            }
        };
        let dns = Dns::start(&["api", "raw", "bank"].map(|name| (name, "127.0.0.1"))).await?;
        // Who asks for the prefix of the network's translator is told that there is none.
        dns.answer("ipv4only.arpa.", &[&[]])?;
        let runtime = inside::runtime()?;
        let load = |guest| Loaded::new(&runtime, guest, acme.address().port());
        let (egress, places) = (load(HOSTILE_EGRESS)?, load(HOSTILE_PLACES)?);
        let (signatures, leaks, resources) =
            (load(HOSTILE_SIGNATURES)?, load(HOSTILE_LEAKS)?, load(HOSTILE_RESOURCES)?);
        let (secure, other_dns, states) = (Mutex::default(), Mutex::default(), AtomicUsize::new(0));
        Ok(Self {
            runtime,
            acme,
            witness,
            tripwire,
            dns,
            secure,
            other_dns,
            own,
            egress,
            places,
            signatures,
            leaks,
            resources,
            raw: Mutex::default(),
            states,
        })
    }

    /// `http://api.bulkhead.test:PORT/path`.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("http://api.{ZONE}:{}{path}", self.acme.address().port())
    }

    /// `http://raw.bulkhead.test:PORT/path`.
    pub(crate) fn raw(&self, path: &str) -> String {
        self.named("raw", path)
    }

    /// `http://NAME.bulkhead.test:PORT/path`, at the port of `raw`.
    pub(crate) fn named(&self, name: &str, path: &str) -> String {
        format!("http://{name}.{ZONE}:{}{path}", self.witness.port())
    }

    /// `http://bank.bulkhead.test:PORT/path`, where secrets of rows are bound.
    pub(crate) fn bank(&self, path: &str) -> String {
        self.named("bank", path)
    }

    /// The host and port of that.
    pub(crate) fn bank_authority(&self) -> String {
        format!("bank.{ZONE}:{}", self.witness.port())
    }

    /// What the guest is ordinarily given: some paths of `api`, every path of `raw`, and the secret for both.
    pub(crate) fn terms(&self) -> Terms {
        let head = format!(
            "[connector]\nname = \"{CONNECTOR}\"\nversion = \"1.0.0\"\n[config]\nschema = \"config.schema.json\"\n"
        );
        let secret = format!(
            "[secrets.token]\nwhy = \"w\"\nhosts = [\"api.{ZONE}\", \"raw.{ZONE}\"]\ninject = {{ header = \"authorization\", format = \"Bearer {{}}\" }}\n"
        );
        let terms = Terms {
            manifest: head + &secret,
            grant: "[secrets.token]\nplain-http = true\n".to_owned(),
            network: Network { dns: vec![self.dns.address()], ..Network::default() },
            ..Terms::default()
        };
        let api = rule("http", &format!("api.{ZONE}"), self.acme.address().port());
        terms
            .asking(&api, "methods = [\"GET\", \"POST\"]\npaths = [\"/v1/contacts\", \"/v1/whoami\", \"/v1/echo\"]")
            .granting(&api, OPEN)
            .opening(&format!("raw.{ZONE}"), self.witness.port(), OPEN)
    }

    /// Connects the guest.
    pub(crate) fn connect(&self, terms: &Terms, config: &Value) -> anyhow::Result<Connection> {
        match terms.guest {
            Guest::Raw(at) => {
                let loaded = self.raw.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned();
                loaded.context("it was not crafted")?.connect(&self.runtime, terms, config)
            }
            guest => self.loaded(guest).connect(&self.runtime, terms, config),
        }
    }

    /// Compiles a component that was written by hand.
    pub(crate) fn craft(&self, component: &[u8]) -> anyhow::Result<Guest> {
        let loaded = Arc::new(Loaded::crafted(&self.runtime, component)?);
        let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        raw.push(loaded);
        Ok(Guest::Raw(raw.len() - 1))
    }

    /// The folder for `bulkhead`, with these terms in it.
    pub(crate) fn lay(&self, terms: &Terms, config: &Value, input: &Value) -> anyhow::Result<&Laid> {
        let laid = &self.loaded(terms.guest).laid;
        laid.aimed.write("connector.toml", &terms.manifest)?;
        laid.aimed.write("grant.toml", &terms.grant)?;
        laid.aimed.write("config.json", &config.to_string())?;
        laid.aimed.write("input.json", &input.to_string())?;
        Ok(laid)
    }

    /// A file for the state of a sync that never ran before.
    pub(crate) fn fresh_state(&self) -> anyhow::Result<PathBuf> {
        Ok(self.egress.laid.path().join(format!("state-{}.json", self.states.fetch_add(1, Ordering::Relaxed))))
    }

    fn loaded(&self, guest: Guest) -> &Loaded {
        match guest {
            Guest::Egress => &self.egress,
            Guest::Places => &self.places,
            Guest::Signatures => &self.signatures,
            Guest::Leaks => &self.leaks,
            // Those are connected, and never laid.
            Guest::Resources | Guest::Raw(_) => &self.resources,
        }
    }

    /// Starts a count of what is sent, and each name's answers from the first.
    pub(crate) fn mark(&self) -> Mark {
        self.dns.rewind();
        let secure = self.secured().into_iter().map(|(_, count)| count).collect();
        Mark { acme: self.acme.requests().len(), witness: self.witness.seen().len(), secure }
    }

    /// What arrived since `mark`. Fails when someone came where nobody may, or asked for a name that nobody may ask for.
    pub(crate) async fn arrived(&self, mark: &Mark) -> anyhow::Result<Vec<String>> {
        self.witness.settle().await?;
        let trips = self.tripwire.take();
        ensure!(trips.is_empty(), "listeners that must stay silent were reached: {trips:?}");
        let strangers = self.dns.strangers();
        ensure!(strangers.is_empty(), "names were asked for that were never permitted: {strangers:?}");
        let acme = self.acme.requests().into_iter().skip(mark.acme).map(|seen| {
            let query = seen.query.map(|query| format!("?{query}")).unwrap_or_default();
            let secret = seen.authorization.is_some_and(|value| value == format!("Bearer {TOKEN}"));
            arrival(&seen.method, &seen.host_headers.join(" and "), &format!("{}{query}", seen.path), secret, 0)
        });
        let witness = self.witness.seen().into_iter().skip(mark.witness).filter(|seen| !seen.is_ours());
        let witness = witness.map(|seen| seen.arrival());
        let before = mark.secure.iter().copied().chain(std::iter::repeat(0));
        let secure = self.secured().into_iter().zip(before).flat_map(|((port, count), before)| {
            std::iter::repeat_n(format!("TLS {port}"), count.saturating_sub(before))
        });
        Ok(acme.chain(witness).chain(secure).collect())
    }

    /// Everything that `raw` and its like were sent since `mark`, as it came.
    pub(crate) fn seen(&self, mark: &Mark) -> String {
        let seen = self.witness.seen().into_iter().skip(mark.witness).filter(|seen| !seen.is_ours());
        seen.map(|seen| format!("{}{}{}\n", seen.head, seen.body, seen.rest)).collect()
    }

    /// The port of each upstream with TLS, and how many requests it saw.
    fn secured(&self) -> Vec<(u16, usize)> {
        let upstreams = self.secure.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.iter().map(|upstream| (upstream.address.port(), upstream.seen().len())).collect()
    }
}

/// Opens the one address where the upstreams listen.
pub(crate) const OPEN: &str = "addresses = [\"127.0.0.1/32\"]";

/// The lines that name a destination.
pub(crate) fn rule(scheme: &str, host: &str, port: u16) -> String {
    format!("[[egress]]\nscheme = \"{scheme}\"\nhost = \"{host}\"\nport = {port}\n")
}

/// Whether an address means the same to everybody on this machine.
fn is_routable(address: &IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
    !address.is_loopback() && !link_local
}

// === impl Terms ===

impl Terms {
    /// Has the manifest ask for this as well.
    pub(crate) fn asking(mut self, rule: &str, more: &str) -> Self {
        self.manifest.push_str(&format!("{rule}{more}\nwhy = \"w\"\n"));
        self
    }

    /// Has the grant give this as well.
    pub(crate) fn granting(mut self, rule: &str, more: &str) -> Self {
        self.grant.push_str(&format!("{rule}{more}\n"));
        self
    }

    /// Asks for, and grants, GET and POST on every path of `host` over plain http; the grant with these lines besides.
    pub(crate) fn opening(self, host: &str, port: u16, grant: &str) -> Self {
        let rule = rule("http", host, port);
        self.asking(&rule, "methods = [\"GET\", \"POST\"]\npaths = [\"/**\"]").granting(&rule, grant)
    }

    /// With the secret bound to this host as well.
    pub(crate) fn binding(mut self, host: &str) -> Self {
        self.manifest = self.manifest.replacen("hosts = [", &format!("hosts = [\"{host}\", "), 1);
        self
    }

    /// With a secret of this name and value besides, `lines` in its table of the manifest, and `grant` in that of the grant.
    /// The guest is the one that can use it.
    pub(crate) fn with_secret(mut self, name: &str, value: &str, lines: &str, grant: &str) -> Self {
        self.manifest.push_str(&format!("[secrets.{name}]\nwhy = \"w\"\n{lines}\n"));
        self.grant.push_str(&format!("[secrets.{name}]\n{grant}\n"));
        self.secrets.push((name.to_owned(), value.to_owned()));
        match () {
            () if lines.contains("sign = ") => self.guest = Guest::Signatures,
            () if lines.contains("places = ") => self.guest = Guest::Places,
            () => {}
        }
        self
    }

    /// Names and values of all its secrets.
    pub(crate) fn values(&self) -> Vec<(&str, &str)> {
        let token = self.manifest.contains("[secrets.token]").then_some(("token", TOKEN));
        let more = self.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        token.into_iter().chain(more).collect()
    }

    /// What may not come out.
    pub(crate) fn told(&self) -> Vec<&str> {
        self.values().into_iter().map(|(_, value)| value).chain(self.watched.iter().map(String::as_str)).collect()
    }

    /// With this text in the configuration.
    pub(crate) fn configured(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.into());
        self
    }
}
