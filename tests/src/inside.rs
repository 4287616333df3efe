//! Connectors through the host's own crates: quicker than a program for each case, and with the outcome as data.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::id::{Digest, Owner, TenantId};
use bulkhead_core::{Grant, Manifest};
use bulkhead_runtime::compile::Compiler;
use bulkhead_runtime::{Allowance, Connection, Outcome, Runtime, Settings, Tenant};
use bulkhead_services::{Audit, Invocations, Release, connect};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::aimed::{HOSTILE_EGRESS, program, repository};
use crate::outside::Laid;
use crate::tls::Authority;

/// What stands for a secret unless a test has another.
pub const TOKEN: &str = "reach-token-0123456789";

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

/// Makes a connection. The one place where tests do so in process.
fn joined(
    runtime: &Runtime,
    owner: Owner,
    release: &Release,
    grant: &str,
    config: &Value,
    values: &[(&str, &str)],
    transport: Arc<Transport>,
) -> anyhow::Result<Connection> {
    let grant = Grant::parse(grant, &release.manifest)?;
    let mut secrets = Secrets::default();
    for (name, value) in values {
        secrets.insert(name.parse()?, (*value).to_owned().into(), Vec::new());
    }
    let tenant = runtime.tenant(owner.tenant, Allowance::DEFAULT);
    Ok(connect(&tenant, owner.connection, release, &grant, config, secrets, transport)?)
}

/// Connects `release` on this network, with `token` as its secret.
pub fn connected(
    runtime: &Runtime,
    release: &Release,
    grant: &str,
    config: &Value,
    token: Option<&str>,
    network: &Network,
) -> anyhow::Result<Connection> {
    connected_with(runtime, release, grant, config, &named(token), network)
}

/// Connects `release` on this network, with these names and values of secrets.
pub fn connected_with(
    runtime: &Runtime,
    release: &Release,
    grant: &str,
    config: &Value,
    secrets: &[(&str, &str)],
    network: &Network,
) -> anyhow::Result<Connection> {
    let reserved = network.reserved.iter().map(|block| block.parse()).collect::<Result<Vec<_>, _>>()?;
    let resolver = match network.dns.as_slice() {
        [] => Resolver::system(reserved)?,
        servers => Resolver::with_servers(servers, reserved)?,
    };
    let transport = Arc::new(Transport::new(resolver, network.authorities.iter().cloned())?);
    let owner = Owner::local(&release.manifest.connector.name);
    joined(runtime, owner, release, grant, config, secrets, transport)
}

/// The secret that most connectors here have.
fn named(token: Option<&str>) -> Vec<(&str, &str)> {
    token.into_iter().map(|token| ("token", token)).collect()
}

/// Connects the connector in `laid`, with `token` as its secret.
pub fn connection(runtime: &Runtime, laid: &Laid, token: Option<&str>) -> anyhow::Result<Connection> {
    let release = open(runtime, laid.path(), None)?;
    let config = serde_json::from_str(&laid.aimed.read("config.json")?)?;
    connected(runtime, &release, &laid.aimed.read("grant.toml")?, &config, token, &Network::default())
}

/// Connects the connector in `laid` for `tenant`.
pub fn connection_of(tenant: &Arc<Tenant>, laid: &Laid) -> anyhow::Result<Connection> {
    let release = open_of(tenant, laid.path(), None)?;
    let grant = Grant::parse(&laid.aimed.read("grant.toml")?, &release.manifest)?;
    let config = serde_json::from_str(&laid.aimed.read("config.json")?)?;
    Ok(connect(tenant, "guest".parse()?, &release, &grant, &config, Secrets::default(), transport(None, None)?)?)
}

/// The same over this transport.
pub fn connection_over(
    runtime: &Runtime,
    laid: &Laid,
    token: Option<&str>,
    transport: Arc<Transport>,
) -> anyhow::Result<Connection> {
    let release = open(runtime, laid.path(), None)?;
    let config = serde_json::from_str(&laid.aimed.read("config.json")?)?;
    let owner = Owner::local(&release.manifest.connector.name);
    joined(runtime, owner, &release, &laid.aimed.read("grant.toml")?, &config, &named(token), transport)
}

/// A transport that asks this DNS server and trusts this authority besides the public ones.
pub fn transport(dns: Option<SocketAddr>, authority: Option<&Authority>) -> anyhow::Result<Arc<Transport>> {
    let resolver = match dns {
        Some(server) => Resolver::with_servers(&[server], Vec::new())?,
        None => Resolver::system(Vec::new())?,
    };
    Ok(Arc::new(Transport::new(resolver, authority.map(Authority::certificate))?))
}

/// What the guest that sends any request may reach, with loopback opened.
#[derive(Debug, Clone)]
pub struct Reach {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The hosts; the first is what [`Self::url`] names.
    pub hosts: Vec<&'static str>,
    /// Their port.
    pub port: u16,
    /// More blocks than loopback.
    pub opened: &'static str,
    /// Lines of each rule.
    pub rule: &'static str,
    /// Lines of `[limits]`.
    pub limits: &'static str,
    /// The secret, bound to every host.
    pub token: Option<&'static str>,
}

impl Reach {
    /// `localhost` over plain http, without a secret.
    #[must_use]
    pub fn plain(port: u16) -> Self {
        Self { scheme: "http", hosts: vec!["localhost"], port, opened: "", rule: "", limits: "", token: None }
    }

    /// `localhost` over TLS, with a secret.
    #[must_use]
    pub fn secure(port: u16) -> Self {
        Self { scheme: "https", token: Some(TOKEN), ..Self::plain(port) }
    }

    /// The URL of a path at the first host.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}:{}{path}", self.scheme, self.hosts.first().copied().unwrap_or_default(), self.port)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        let identity =
            "[connector]\nname = \"hostile/egress\"\nversion = \"0.1.0\"\ndescription = \"d\"\nlicense = \"MIT\"";
        let methods = "methods = [\"GET\", \"HEAD\", \"POST\"]\npaths = [\"/**\"]\nwhy = \"w\"";
        let rules: String =
            self.hosts.iter().map(|host| format!("{}{methods}\n{}\n", self.place(host), self.rule)).collect();
        let inject = "inject = { header = \"authorization\", format = \"Bearer {}\" }";
        let secret = self.token.map(|_| format!("[secrets.token]\nwhy = \"w\"\nhosts = {:?}\n{inject}\n", self.hosts));
        format!("{identity}\n{rules}{}[limits]\n{}", secret.unwrap_or_default(), self.limits)
    }

    /// The grant.
    #[must_use]
    pub fn grant(&self) -> String {
        let opened = format!("addresses = [\"127.0.0.0/8\", \"::1/128\"{}]", self.opened);
        let rules: String = self.hosts.iter().map(|host| format!("{}{opened}\n", self.place(host))).collect();
        let secret = self.token.map_or("", |_| "[secrets.token]\nplain-http = true");
        format!("{rules}{secret}")
    }

    fn place(&self, host: &str) -> String {
        format!("[[egress]]\nscheme = {:?}\nhost = {host:?}\nport = {}\n", self.scheme, self.port)
    }

    /// Connects the guest for the tenant of this name. It is compiled once for all tests.
    pub fn connect(&self, tenant: &str, transport: &Arc<Transport>) -> anyhow::Result<Connection> {
        self.configured(tenant, transport, &json!({}))
    }

    /// The same with a configuration.
    pub fn configured(&self, tenant: &str, transport: &Arc<Transport>, config: &Value) -> anyhow::Result<Connection> {
        static COMPILED: OnceLock<(Runtime, Mutex<Release>)> = OnceLock::new();
        let compile = || {
            let runtime = runtime()?;
            let folder = repository().join(HOSTILE_EGRESS.folder);
            let release = open(&runtime, &folder, Some(&HOSTILE_EGRESS.wasm()))?;
            anyhow::Ok((runtime, Mutex::new(release)))
        };
        let (runtime, release) = match COMPILED.get() {
            Some(compiled) => compiled,
            None => {
                let compiled = compile()?;
                COMPILED.get_or_init(|| compiled)
            }
        };
        let mut release = release.lock().unwrap_or_else(PoisonError::into_inner);
        release.manifest = Manifest::parse(&self.manifest()).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let owner = Owner { tenant: tenant.parse()?, connection: "crm".parse()? };
        joined(runtime, owner, &release, &self.grant(), config, &named(self.token), Arc::clone(transport))
    }
}

/// Opens a release, and blocks until it is compiled: on a thread of its own, so that tests which are not async can.
pub fn open(runtime: &Runtime, folder: &Path, component: Option<&Path>) -> anyhow::Result<Release> {
    open_of(&runtime.tenant(TenantId::local(), Allowance::DEFAULT), folder, component)
}

/// The same for `tenant`.
fn open_of(tenant: &Arc<Tenant>, folder: &Path, component: Option<&Path>) -> anyhow::Result<Release> {
    let opened = || {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(executor.block_on(Release::open(tenant, folder, component))?)
    };
    std::thread::scope(|scope| scope.spawn(opened).join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))))
}

/// A compiler that starts the program that was built, without a cache. This test's own program cannot compile.
pub fn compiler() -> anyhow::Result<Compiler> {
    Ok(Compiler { program: program()?, ..Compiler::default() })
}

/// An engine.
pub fn runtime() -> anyhow::Result<Runtime> {
    Runtime::new(Settings::SERVER, compiler()?).map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// The calls of a connection, recorded nowhere.
pub async fn calls(connection: &Connection) -> anyhow::Result<Invocations> {
    Ok(Invocations::new(connection.clone(), Digest::of(&[]), &Audit::passing()).await?)
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
