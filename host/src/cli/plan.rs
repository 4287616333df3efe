//! A configuration that was held against this machine: what a server would be started with, or why it would not start.
//!
//! *Why*: whoever asks `config check` wants to know whether `serve` would start, before the server that runs is stopped.
//! *Invariants*: 1. `serve` opens nothing but a plan, so that what the plan refuses is refused by both, in the same words; 2. to make
//! one changes nothing on the disk, and holds nothing that a running server has.
//! Callers: `config.rs`, `serve.rs`, `recover.rs` → here → `network.rs`, `vault.rs`, services, `http`.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead::http;
use bulkhead_capabilities::credentials::vault::Source;
use bulkhead_capabilities::egress::Transport;
use bulkhead_runtime::SetAside;
use bulkhead_runtime::compile::Compiler;
use bulkhead_services::{Control, cache, control, vault as folders};
use bulkhead_storage::own_folder;

use super::error::{Code, Error};
use super::{network, vault};
use crate::config::{Config, MASTER_KEY, Rate};

/// What only `serve` finds out, for the help of whoever relies on a plan.
pub(crate) const UNCHECKED: &str = "\
What only `serve` finds out: whether the address is free, whether another process has the folders, whether those that are missing can
be made, and what is in the store, as where it is damaged or was sealed with another master key.";

/// The folder in the keys folder that holds the key of the cache.
const CACHE_KEYS: &str = "cache";
/// What the folder is called in errors.
const KEYS: &str = "keys folder";

/// What a server is started with.
pub(crate) struct Plan<'a> {
    config: &'a Config,
    master: Source,
    transport: Arc<Transport>,
    space: SetAside,
    server: http::Settings,
}

impl<'a> Plan<'a> {
    /// Holds the configuration against this machine.
    pub(crate) fn new(config: &'a Config) -> Result<Self, Error> {
        let master = master(config)?;
        folders::check(&config.data, &config.keys, &master)?;
        if let Some(path) = &config.cache {
            cache::check(path, &cache_keys(config)).map_err(of_cache)?;
        }
        let server = server(config);
        server.check()?;
        let transport = network::transport(&config.dns, &config.reserve, config.ca.as_deref())?;
        let space = config.engine.set_aside().map_err(of_engine)?;
        Ok(Self { config, master, transport, space, server })
    }

    /// How it listens.
    pub(crate) fn server(&self) -> http::Settings {
        self.server.clone()
    }

    /// Opens everything that the configuration names.
    pub(crate) async fn open(self) -> Result<Control, Error> {
        let Self { config, master, transport, space, .. } = self;
        // Before anything else is made in it: it is its owner's alone.
        own_folder(KEYS, &config.keys).map_err(of_storage)?;
        let cache = match &config.cache {
            Some(path) => Some(cache::open(path, &cache_keys(config)).await.map_err(of_cache)?),
            None => None,
        };
        let compiler = Compiler { cache, ..Compiler::default() };
        let runtime = space.run(compiler).map_err(of_engine)?;
        let settings = control::Settings {
            data: config.data.clone(),
            keys: config.keys.clone(),
            master,
            runtime,
            transport,
            audit: config.audit,
        };
        Ok(Control::open(settings).await?)
    }
}

/// Where the configuration says that the master key comes from.
pub(super) fn master(config: &Config) -> Result<Source, Error> {
    Ok(match config.master_key.as_str() {
        MASTER_KEY => Source::File,
        place => Source::Given(vault::master("storage.master-key", place)?),
    })
}

fn cache_keys(config: &Config) -> PathBuf {
    config.keys.join(CACHE_KEYS)
}

fn server(config: &Config) -> http::Settings {
    let rate = |rate: Rate| http::limits::Rate { per_second: rate.per_second, burst: rate.burst };
    let count = |number: std::num::NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
    http::Settings {
        address: config.address,
        names: config.names.clone(),
        tls: config.tls.clone(),
        allow_plain_http: config.allow_plain_http,
        proxies: config.trusted_proxies.clone(),
        rates: http::limits::Rates {
            address: rate(config.rates.address),
            principal: rate(config.rates.principal),
            failures: rate(config.rates.failures),
        },
        connections: http::server::Connections {
            most: count(config.connections),
            most_of_one: count(config.connections_per_address),
        },
    }
}

// === errors ===

fn of_storage(error: bulkhead_storage::Error) -> Error {
    let told = Error::new(Code::File, error.to_string());
    error.next_step().into_iter().fold(told, Error::next)
}

fn of_engine(error: bulkhead_runtime::Unavailable) -> Error {
    Error::new(Code::Host, error.to_string())
}

/// A server has no `--no-cache`.
fn of_cache(error: cache::Error) -> Error {
    let named = error.next_step().unwrap_or_else(|| "name another folder: `cache` under [runtime]".to_owned());
    Error::from(error).next(named)
}

impl From<http::server::Error> for Error {
    fn from(error: http::server::Error) -> Self {
        let told = Self::new(Code::Setup, format!("{error} [{}]", error.code()));
        error.next_step().into_iter().fold(told, Self::next)
    }
}

impl From<control::Error> for Error {
    fn from(error: control::Error) -> Self {
        let next = error.next_step();
        let told = match error {
            control::Error::Vault(error) => return error.into(),
            control::Error::Store(error) => return of_storage(error),
            error => Self::new(Code::Host, error.to_string()),
        };
        next.into_iter().fold(told, Self::next)
    }
}
