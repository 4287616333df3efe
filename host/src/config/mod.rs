//! Turns one file and the environment into the configuration of a server, or says what is wrong, and where.
//!
//! *Why*: most breaches of integrations begin with a setting that is not what its operator believes it is. So what is not known
//! is refused, what does not go together is refused, and each value can be asked where it comes from.
//! *Invariants*: 1. the environment goes before the file, and the file before the defaults; 2. the defaults are safe: loopback,
//! encrypted, authenticated; 3. the API is never served in the clear to other machines unless that was written down.
//! *Never*: read a file, the environment or a clock; and no value here is a secret.
//! Callers: `cli/settings.rs` → here → `document.rs` (which settings there are), `overlay.rs` (variables).

mod document;
mod error;
mod overlay;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use bulkhead::http::tls;
use bulkhead_core::limits::{Size, Time};
use bulkhead_core::text;
use bulkhead_runtime::Settings as Engine;
use bulkhead_services::audit;
use ipnet::IpNet;

use document::Document;

pub(crate) use document::{PREFIX, SETTINGS, Setting};
pub(crate) use error::Error;
pub(crate) use overlay::{OTHERS, Variables, known as known_variables};

/// Where the API is served unless said.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7411);
/// Most connections unless said: one takes some 50 KiB at the worst, and a descriptor.
const CONNECTIONS: NonZeroU32 = count(2048);
/// Most connections from one address unless said: it takes four addresses to take them all.
const CONNECTIONS_PER_ADDRESS: NonZeroU32 = count(512);
/// What is answered unless said otherwise. A thousand requests in a second are more than a program sends that waits for its
/// answers; behind an address there may be several of them; ten failures and one in a second after that are a person who looks
/// for the right key.
const RATES: Rates = Rates { principal: rate(1000, 2000), address: rate(4000, 8000), failures: rate(1, 10) };
/// The master key is a file in the keys folder unless said.
pub(crate) const MASTER_KEY: &str = "file";

const fn count(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

const fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second: count(per_second), burst: count(burst) }
}

/// Where a user's files of each kind lie, as far as that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Homes {
    /// `$XDG_DATA_HOME/bulkhead`.
    pub(crate) data: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME/bulkhead`.
    pub(crate) config: Option<PathBuf>,
    /// `$XDG_CACHE_HOME/bulkhead`.
    pub(crate) cache: Option<PathBuf>,
}

/// A file, by its path and its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

/// How a server is to be.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) address: SocketAddr,
    pub(crate) names: Vec<String>,
    pub(crate) tls: Option<tls::Files>,
    pub(crate) allow_plain_http: bool,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) connections: NonZeroU32,
    pub(crate) connections_per_address: NonZeroU32,
    pub(crate) data: PathBuf,
    pub(crate) keys: PathBuf,
    /// `file`, `env:VARIABLE` or `credential:NAME`.
    pub(crate) master_key: String,
    pub(crate) backup: Option<PathBuf>,
    pub(crate) dns: Vec<SocketAddr>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) reserve: Vec<IpNet>,
    pub(crate) engine: Engine,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) audit: audit::Settings,
    pub(crate) rates: Rates,
    effective: Document,
    origins: Vec<Origin>,
}

/// How many requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) principal: Rate,
    pub(crate) address: Rate,
    pub(crate) failures: Rate,
}

/// So many in a second, over time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { path: PathBuf, line: usize, column: usize },
    Variable(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}: line {line}, column {column}", path.display()),
            Self::Variable(variable) => write!(f, "the environment variable {variable}"),
        }
    }
}

impl Config {
    /// What the file, the variables and the defaults make together.
    pub(crate) fn new(file: Option<File<'_>>, variables: &Variables, homes: &Homes) -> Result<Self, Error> {
        let written = file.map(read).transpose()?.unwrap_or_default();
        let (overlay, said) = overlay::read(variables)?;
        let effective = overlay.over(written).over(defaults(homes));
        let origins = SETTINGS.iter().map(|setting| origin(setting, file, &said)).collect();
        let config = Self::from(effective, origins)?;
        config.check()?;
        Ok(config)
    }

    /// Each setting that has a value: its value as TOML, and where that comes from.
    pub(crate) fn lines(&self) -> Vec<(&'static Setting, String, &Origin)> {
        let values = SETTINGS.iter().zip(self.effective.shown()).zip(&self.origins);
        values.filter_map(|((setting, value), origin)| Some((setting, value?, origin))).collect()
    }

    /// Where the value of the setting `name` comes from.
    pub(crate) fn origin(&self, name: &str) -> &Origin {
        let mut all = SETTINGS.iter().zip(&self.origins);
        all.find(|(setting, _)| setting.name() == name).map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// Whether other machines can reach the server.
    pub(crate) fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// The base of its URLs for whoever is on this machine.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The same where it listens at `address`. With TLS it is called by its first name, since that is what its certificate is
    /// for. No address that stands for all of them is one to call.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        let (scheme, name) = match self.tls {
            Some(_) => ("https", self.names.first()),
            None => ("http", None),
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        match name {
            Some(name) if name.parse::<IpAddr>().is_err() => format!("{scheme}://{name}:{}", address.port()),
            _ => format!("{scheme}://{}", SocketAddr::new(ip, address.port())),
        }
    }

    fn from(effective: Document, origins: Vec<Origin>) -> Result<Self, Error> {
        let Document { server, storage, egress, runtime, audit, limits } = effective.clone();
        let server_set = Engine::SERVER;
        let tls = match (server.tls_certificate, server.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::Files { certificate, key }),
            (None, None) => None,
            (certificate, _) => {
                let (there, missing) = match certificate {
                    Some(_) => ("server.tls-certificate", "server.tls-key"),
                    None => ("server.tls-key", "server.tls-certificate"),
                };
                return Err(Error::Value {
                    place: place(there, &origins),
                    message: format!("`{there}` without `{missing}`"),
                    next: "TLS takes both: the certificate with its chain, and its private key",
                });
            }
        };
        Ok(Self {
            address: server.address.unwrap_or(ADDRESS),
            names: server.names.unwrap_or_default(),
            tls,
            allow_plain_http: server.allow_plain_http.unwrap_or(false),
            trusted_proxies: server.trusted_proxies.unwrap_or_default(),
            connections: server.connections.unwrap_or(CONNECTIONS),
            connections_per_address: server.connections_per_address.unwrap_or(CONNECTIONS_PER_ADDRESS),
            data: storage.data.ok_or(Error::Nowhere("storage.data"))?,
            keys: storage.keys.ok_or(Error::Nowhere("storage.keys"))?,
            master_key: storage.master_key.unwrap_or_else(|| MASTER_KEY.to_owned()),
            backup: storage.backup,
            dns: egress.dns.unwrap_or_default(),
            ca: egress.ca,
            reserve: egress.reserve.unwrap_or_default(),
            engine: Engine {
                guests: runtime.guests.unwrap_or(server_set.guests),
                memory: runtime.memory.map(Size::as_usize).or(server_set.memory),
                ..server_set
            },
            cache: runtime.cache,
            audit: audit::Settings {
                quota: audit.quota.unwrap_or(audit::Settings::DEFAULT.quota),
                window: audit.window.map_or(audit::Settings::DEFAULT.window, Time::duration),
            },
            rates: Rates {
                principal: RATES.principal.changed(limits.principal_per_second, limits.principal_burst),
                address: RATES.address.changed(limits.address_per_second, limits.address_burst),
                failures: RATES.failures.changed(limits.failures_per_second, limits.failures_burst),
            },
            effective,
            origins,
        })
    }

    /// What each value may be in itself is known; here is what they may be together.
    fn check(&self) -> Result<(), Error> {
        let refused =
            |name: &str, message: String, next| Err(Error::Value { place: place(name, &self.origins), message, next });
        if self.is_public() && self.tls.is_none() && !self.allow_plain_http {
            return refused(
                "server.address",
                format!("{} can be reached by other machines, and there is no TLS", self.address),
                "set `server.tls-certificate` and `server.tls-key`, or listen on 127.0.0.1; behind a proxy that speaks TLS, and \
                 only there, set `server.allow-plain-http = true`",
            );
        }
        if let Some(name) = self.names.iter().find(|name| !is_host_name(name)) {
            let shown: String = name.chars().take(80).collect();
            return refused(
                "server.names",
                format!("`{shown}` is no name of a host"),
                "write names as `bulkhead.example.com`: lower case, without scheme, port or path",
            );
        }
        if let Some(block) = self.trusted_proxies.iter().find(|block| **block != block.trunc()) {
            return refused(
                "server.trusted-proxies",
                format!("`{block}` is an address within `{}`, and it is not clear which is meant", block.trunc()),
                "write the block from its first address, or one address as `192.0.2.1/32`",
            );
        }
        if !matches!(self.master_key.as_str(), MASTER_KEY) && !leads_to_a_key(&self.master_key) {
            return refused(
                "storage.master-key",
                "this does not say where the master key is".to_owned(),
                "write `file`, `env:VARIABLE` or `credential:NAME`: the key itself does not belong into a configuration",
            );
        }
        for (name, path) in self.paths() {
            if path.starts_with("~") {
                return refused(
                    name,
                    "`~` stands for no folder here".to_owned(),
                    "write the path from `/`, or from the folder that the configuration lies in",
                );
            }
        }
        Ok(())
    }

    /// Each setting that is a path.
    fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let tls = self.tls.as_ref();
        let optional = [
            ("server.tls-certificate", tls.map(|tls| tls.certificate.as_path())),
            ("server.tls-key", tls.map(|tls| tls.key.as_path())),
            ("storage.data", Some(self.data.as_path())),
            ("storage.keys", Some(self.keys.as_path())),
            ("storage.backup", self.backup.as_deref()),
            ("egress.ca", self.ca.as_deref()),
            ("runtime.cache", self.cache.as_deref()),
        ];
        optional.into_iter().filter_map(|(name, path)| Some((name, path?)))
    }
}

impl Rate {
    fn changed(self, per_second: Option<NonZeroU32>, burst: Option<NonZeroU32>) -> Self {
        Self { per_second: per_second.unwrap_or(self.per_second), burst: burst.unwrap_or(self.burst) }
    }

    fn said(self) -> (Option<NonZeroU32>, Option<NonZeroU32>) {
        (Some(self.per_second), Some(self.burst))
    }
}

/// The configuration's own document. Its paths begin in its folder.
fn read(file: File<'_>) -> Result<Document, Error> {
    let parsed = text::parse::<Document>(file.text);
    let mut document = parsed.map_err(|problem| Error::Document { path: file.path.to_owned(), problem })?;
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let (server, storage) = (&mut document.server, &mut document.storage);
    let paths = [
        &mut server.tls_certificate,
        &mut server.tls_key,
        &mut storage.data,
        &mut storage.keys,
        &mut storage.backup,
        &mut document.egress.ca,
        &mut document.runtime.cache,
    ];
    // Joining leaves an absolute path as it is, and one from `~` for the check to refuse.
    for path in paths.into_iter().flatten().filter(|path| !path.starts_with("~")) {
        *path = folder.join(path.as_path());
    }
    Ok(document)
}

fn defaults(homes: &Homes) -> Document {
    let mut document = Document::default();
    let server = &mut document.server;
    server.address = Some(ADDRESS);
    server.allow_plain_http = Some(false);
    server.connections = Some(CONNECTIONS);
    server.connections_per_address = Some(CONNECTIONS_PER_ADDRESS);
    let storage = &mut document.storage;
    storage.data = homes.data.clone();
    storage.keys = homes.config.as_ref().map(|config| config.join("keys"));
    storage.master_key = Some(MASTER_KEY.to_owned());
    document.runtime.guests = Some(Engine::SERVER.guests);
    document.runtime.cache = homes.cache.as_ref().map(|cache| cache.join("artifacts"));
    document.audit.quota = Some(audit::Settings::DEFAULT.quota);
    document.audit.window = Some(Time::seconds(audit::Settings::DEFAULT.window.as_secs()));
    let limits = &mut document.limits;
    (limits.principal_per_second, limits.principal_burst) = RATES.principal.said();
    (limits.address_per_second, limits.address_burst) = RATES.address.said();
    (limits.failures_per_second, limits.failures_burst) = RATES.failures.said();
    document
}

fn origin(setting: &Setting, file: Option<File<'_>>, said: &[Setting]) -> Origin {
    if said.contains(setting) {
        return Origin::Variable(setting.variable());
    }
    let written = |file: &File<'_>| {
        let table = file.text.parse::<toml::Table>().unwrap_or_default();
        table.get(setting.section).and_then(|section| section.get(setting.key())).is_some()
    };
    match file.filter(written) {
        Some(file) => {
            let found = text::problem(file.text, &[setting.section, &setting.key()], "");
            Origin::File { path: file.path.to_owned(), line: found.line, column: found.column }
        }
        None => Origin::Default,
    }
}

/// Where the setting `name` stands, for an error.
fn place(name: &str, origins: &[Origin]) -> String {
    let mut all = SETTINGS.iter().zip(origins);
    match all.find(|(setting, _)| setting.name() == name) {
        None | Some((_, Origin::Default)) => format!("`{name}`, by default"),
        Some((_, origin)) => origin.to_string(),
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let address = name.parse::<IpAddr>().is_ok();
    address || (name.len() <= 253 && name.split('.').all(label))
}

fn leads_to_a_key(text: &str) -> bool {
    let named = |name: Option<&str>| name.is_some_and(|name| !name.is_empty() && !name.contains('/'));
    named(text.strip_prefix("env:")) || named(text.strip_prefix("credential:"))
}
