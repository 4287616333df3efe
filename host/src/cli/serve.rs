//! `bulkhead serve`: opens everything, serves the API, and closes it all again.
//!
//! *Invariants*: 1. nothing is served before everything is open; 2. whoever stops it gets it back when what was begun is done, and
//! at once when they ask a second time; 3. what was recorded is on the disk when it has ended.
//! Callers: `cli/mod.rs` → here → `plan.rs`, `services::Control`, `http`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bulkhead::http::{self, Server};
use bulkhead_core::text::plain;
use bulkhead_services::{Control, identity};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{Code, Error};
use super::plan::Plan;
use super::settings::ConfigArguments;
use crate::config::Config;

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
    let plan = Plan::new(&config)?;
    let server = plan.server();
    let control = tokio::select! {
        opened = plan.open() => Arc::new(opened?),
        () = signals.end() => return Err(Error::new(Code::Interrupted, "interrupted while it opened")),
    };
    let (server, token) = match start(&control, server).await {
        Ok(started) => started,
        Err(error) => {
            close(control).await;
            return Err(error);
        }
    };
    tell(arguments.log, &config, token.as_deref(), &config.url_at(server.address()));
    while let Heard::HangUp = signals.next().await {
        match server.reload() {
            Ok(()) => say(arguments.log, "the certificate was read again: new connections are shown it"),
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

/// Listens, and at first start writes the token for the first administrator: before it listens, so that whoever comes at once finds it.
async fn start(control: &Arc<Control>, settings: http::Settings) -> Result<(Server, Option<PathBuf>), Error> {
    let failed = |error: identity::Error| Error::new(Code::Host, error.to_string());
    let token = control.identity.offer_setup(SystemTime::now()).await.map_err(failed)?;
    Ok((Server::start(Arc::clone(control), settings).await?, token))
}

/// Says where it listens, and at first start what comes next. None of it is a secret: the token is in a file.
fn tell(log: LogForm, config: &Config, token: Option<&Path>, url: &str) {
    let next = token.map(|path| next(url, path));
    if log == LogForm::Json {
        let (data, keys) = (config.data.display(), config.keys.display());
        tracing::info!(address = %url, %data, %keys, setup = next, "serving");
        return;
    }
    let mut text = format!("bulkhead {} serves {url}\n", env!("CARGO_PKG_VERSION"));
    text.push_str(&format!("data in {}, keys in {}\n", config.data.display(), config.keys.display()));
    if let Some(next) = next {
        text.push_str(&format!(
            "there is no administrator yet, or one is to be let in again. On this machine, within the hour:\n  {next}\n"
        ));
    }
    let _ = std::io::stderr().lock().write_all(plain(&text).as_bytes());
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
