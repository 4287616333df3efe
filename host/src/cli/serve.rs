//! `bulkhead serve`: opens everything, serves the API, and closes it all again.
//!
//! *Invariants*: 1. nothing is served before everything is open; 2. whoever stops it gets it back when what was begun is done, and
//! at once when they ask a second time; 3. what was recorded is on the disk when it has ended.
//! Callers: `cli/mod.rs` → here → `config`, `services::Control`, `http`.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bulkhead::http::{self, Server};
use bulkhead_capabilities::credentials::vault::Source;
use bulkhead_core::text::plain;
use bulkhead_runtime::Runtime;
use bulkhead_runtime::compile::Compiler;
use bulkhead_services::{Control, cache, control, identity};
use bulkhead_storage::own_folder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{Code, Error};
use super::settings::ConfigArguments;
use super::{network, vault};
use crate::config::{Config, MASTER_KEY, Rate};

/// The folder in the keys folder that holds the key of the cache.
const CACHE_KEYS: &str = "cache";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// How the log on stderr is written.
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub(crate) log: LogForm,
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<LogForm> for super::report::Log {
    fn from(form: LogForm) -> Self {
        match form {
            LogForm::Text => Self::Text,
            LogForm::Json => Self::Json,
        }
    }
}

/// What ends it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// What was heard.
enum Heard {
    /// Somebody wants it to end.
    End,
    /// Somebody wants the certificate read again.
    HangUp,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let loaded = arguments.config.load()?;
    let config = loaded.config;
    // From here on it is stopped in order, also while it opens.
    let mut signals = Signals::new()?;
    let control = tokio::select! {
        opened = open(&config) => Arc::new(opened?),
        () = signals.end() => return Err(Error::new(Code::Interrupted, "interrupted while it opened")),
    };
    let server = match Server::start(Arc::clone(&control), settings(&config)).await {
        Ok(server) => server,
        Err(error) => {
            close(control).await;
            return Err(error.into());
        }
    };
    let url = format!("{}://{}", if config.tls.is_some() { "https" } else { "http" }, server.address());
    tell(arguments.log, &config, &control, &url).await?;
    while let Heard::HangUp = signals.next().await {
        match server.reload() {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => {
                tracing::error!(%error, code = error.code(), "the certificate cannot be used: the one before goes on");
            }
        }
    }
    say(arguments.log, "stopping: what was begun is finished; once more to stop at once");
    let stopped = tokio::select! {
        stopped = server.stop() => stopped.map_err(Error::from),
        () = signals.end() => Err(Error::new(Code::Interrupted, "stopped at once")),
    };
    close(control).await;
    stopped
}

/// Opens everything that the configuration names.
async fn open(config: &Config) -> Result<Control, Error> {
    // Before anything else is made in it: it is its owner's alone.
    own_folder("keys folder", &config.keys).map_err(of_storage)?;
    let cache = match &config.cache {
        Some(path) => Some(cache::open(path, &config.keys.join(CACHE_KEYS)).await?),
        None => None,
    };
    let compiler = Compiler { cache, ..Compiler::default() };
    let runtime = Runtime::new(config.engine, compiler).map_err(|error| Error::new(Code::Host, error.to_string()))?;
    let master = match config.master_key.as_str() {
        MASTER_KEY => Source::File,
        place => Source::Given(vault::master("storage.master-key", place)?),
    };
    let settings = control::Settings {
        data: config.data.clone(),
        keys: config.keys.clone(),
        master,
        runtime,
        transport: network::transport(&config.dns, &config.reserve, config.ca.as_deref())?,
        audit: config.audit,
    };
    Ok(Control::open(settings).await?)
}

fn settings(config: &Config) -> http::Settings {
    let rate = |rate: Rate| http::limits::Rate { per_second: rate.per_second, burst: rate.burst };
    let count = |number: std::num::NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
    http::Settings {
        address: config.address,
        names: config.names.clone(),
        tls: config
            .tls
            .as_ref()
            .map(|tls| http::tls::Files { certificate: tls.certificate.clone(), key: tls.key.clone() }),
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

/// Says where it listens, and at first start what comes next. None of it is a secret: the token is in a file.
async fn tell(log: LogForm, config: &Config, control: &Control, url: &str) -> Result<(), Error> {
    let failed = |error: identity::Error| Error::new(Code::Host, error.to_string());
    let token = control.identity.offer_setup(SystemTime::now()).await.map_err(failed)?;
    let next = token.map(|path| next(url, &path));
    if log == LogForm::Json {
        let (data, keys) = (config.data.display(), config.keys.display());
        tracing::info!(address = %url, %data, %keys, setup = next, "serving");
        return Ok(());
    }
    let mut text = format!("bulkhead {} serves {url}\n", env!("CARGO_PKG_VERSION"));
    text.push_str(&format!("data in {}, keys in {}\n", config.data.display(), config.keys.display()));
    if let Some(next) = next {
        text.push_str(&format!("there is no administrator yet. On this machine, within the hour:\n  {next}\n"));
    }
    let _ = std::io::stderr().lock().write_all(plain(&text).as_bytes());
    Ok(())
}

/// The command that makes the first administrator.
fn next(url: &str, token: &Path) -> String {
    format!("bulkhead login --server {url} --setup @{}", token.display())
}

fn say(log: LogForm, text: &str) {
    match log {
        LogForm::Text => drop(writeln!(std::io::stderr(), "{text}")),
        LogForm::Json => tracing::info!("{text}"),
    }
}

/// Closes what nothing uses any more.
async fn close(control: Arc<Control>) {
    match Arc::into_inner(control) {
        Some(control) => control.close().await,
        None => tracing::warn!("something still runs: what it does from now on is not recorded"),
    }
}

fn of_storage(error: bulkhead_storage::Error) -> Error {
    let told = Error::new(Code::File, error.to_string());
    error.next_step().into_iter().fold(told, Error::next)
}

// === impl Signals ===

impl Signals {
    fn new() -> Result<Self, Error> {
        let of =
            |kind| signal(kind).map_err(|error| Error::new(Code::Host, format!("signals cannot be heard: {error}")));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hang_up: of(SignalKind::hangup())?,
        })
    }

    /// Until there is one.
    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.interrupt.recv() => Heard::End,
            _ = self.terminate.recv() => Heard::End,
            _ = self.hang_up.recv() => Heard::HangUp,
        }
    }

    /// Until somebody wants it to end.
    async fn end(&mut self) {
        while let Heard::HangUp = self.next().await {}
    }
}

// === errors ===

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
