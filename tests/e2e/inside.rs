//! The same connectors through the runtime's own crates: quicker than a program for each case, and with the outcome as
//! data.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context;
use bulkhead_capabilities::credentials::DevelopmentVault;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::id::Owner;
use bulkhead_core::{Grant, Manifest};
use bulkhead_runtime::{Connection, Outcome, Runtime};
use bulkhead_services::{Release, connect};
use bulkhead_tests::aimed::{HOSTILE_EGRESS, repository};
use serde_json::{Value, json};

use crate::outside::Laid;
use crate::tls::Authority;

/// What stands for a secret unless a test has another.
pub(crate) const TOKEN: &str = "reach-token-0123456789";

/// Connects the connector in `laid`, with `token` as its secret.
pub(crate) fn connection(runtime: &Runtime, laid: &Laid, token: Option<&str>) -> anyhow::Result<Connection> {
    let release = Release::open(runtime, laid.path(), None)?;
    let grant = Grant::parse(&laid.aimed.read("grant.toml")?, &release.manifest)?;
    let config = serde_json::from_str(&laid.aimed.read("config.json")?)?;
    let mut vault = DevelopmentVault::default();
    if let Some(token) = token {
        vault.insert("token".parse()?, token.to_owned().into())?;
    }
    let owner = Owner::local(&release.manifest.connector.name);
    Ok(connect(runtime, owner, &release, &grant, &config, vault, transport(None, None)?)?)
}

/// A transport that asks this DNS server and trusts this authority besides the public ones.
pub(crate) fn transport(dns: Option<SocketAddr>, authority: Option<&Authority>) -> anyhow::Result<Arc<Transport>> {
    let resolver = match dns {
        Some(server) => Resolver::with_servers(&[server], Vec::new())?,
        None => Resolver::system(Vec::new())?,
    };
    Ok(Arc::new(Transport::new(resolver, authority.map(Authority::certificate))?))
}

/// What the guest that sends any request may reach, with loopback opened.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) scheme: &'static str,
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) port: u16,
    /// More blocks than loopback.
    pub(crate) opened: &'static str,
    /// Lines of each rule.
    pub(crate) rule: &'static str,
    /// Lines of `[limits]`.
    pub(crate) limits: &'static str,
    /// The secret, bound to every host.
    pub(crate) token: Option<&'static str>,
}

impl Reach {
    /// `localhost` over plain http, without a secret.
    pub(crate) fn plain(port: u16) -> Self {
        Self { scheme: "http", hosts: vec!["localhost"], port, opened: "", rule: "", limits: "", token: None }
    }

    /// `localhost` over TLS, with a secret.
    pub(crate) fn secure(port: u16) -> Self {
        Self { scheme: "https", token: Some(TOKEN), ..Self::plain(port) }
    }

    /// The URL of a path at the first host.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}:{}{path}", self.scheme, self.hosts.first().copied().unwrap_or_default(), self.port)
    }

    /// The manifest.
    pub(crate) fn manifest(&self) -> String {
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
    pub(crate) fn grant(&self) -> String {
        let opened = format!("addresses = [\"127.0.0.0/8\", \"::1/128\"{}]", self.opened);
        let rules: String = self.hosts.iter().map(|host| format!("{}{opened}\n", self.place(host))).collect();
        let secret = self.token.map_or("", |_| "[secrets.token]\nplain-http = true");
        format!("{rules}{secret}")
    }

    fn place(&self, host: &str) -> String {
        format!("[[egress]]\nscheme = {:?}\nhost = {host:?}\nport = {}\n", self.scheme, self.port)
    }

    /// Connects the guest for the tenant of this name. It is compiled once for all tests.
    pub(crate) fn connect(&self, tenant: &str, transport: &Arc<Transport>) -> anyhow::Result<Connection> {
        static COMPILED: OnceLock<(Runtime, Mutex<Release>)> = OnceLock::new();
        let compile = || {
            let runtime = runtime()?;
            let folder = repository().join(HOSTILE_EGRESS.folder);
            let release = Release::open(&runtime, &folder, Some(Path::new(&HOSTILE_EGRESS.wasm())))?;
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
        let grant = Grant::parse(&self.grant(), &release.manifest)?;
        let mut vault = DevelopmentVault::default();
        if let Some(token) = self.token {
            vault.insert("token".parse()?, token.to_owned().into())?;
        }
        let owner = Owner { tenant: tenant.parse()?, connection: "crm".parse()? };
        Ok(connect(runtime, owner, &release, &grant, &json!({}), vault, Arc::clone(transport))?)
    }
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
