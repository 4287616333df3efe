//! `bulkhead read`: records of a source as NDJSON on stdout, resuming from a state file.

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_core::text::{plain, plain_json};
use bulkhead_runtime::Outcome;
use bulkhead_runtime::types::{Entry, Operation, Selection, StreamDefinition, SyncMode};
use bulkhead_services::sync::{self, Sink, StateFile, Watch};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{Code, Error};
use super::local::Local;
use super::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    local: Local,
    /// A stream to read; may be given more than once.
    #[arg(long = "stream", value_name = "NAME", required = true)]
    streams: Vec<String>,
    /// Where the state is kept: the next run goes on from it. A missing file means from the beginning.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// How to read; without it, incrementally where the stream can.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Top-level fields wanted; all when none is named.
    #[arg(long = "field", value_name = "NAME")]
    fields: Vec<String>,
    /// No progress, no summary.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Mode {
    FullRefresh,
    Incremental,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (release, _, calls) = arguments.local.connect().await?;
    let name = release.manifest.connector.name.clone();
    let mut state = StateFile::open(&arguments.state, name, arguments.streams.clone())
        .map_err(|error| Error::from(sync::Error::State(error)))?;
    if let Some(twice) =
        arguments.streams.iter().enumerate().find(|(at, name)| arguments.streams.iter().take(*at).any(|n| n == *name))
    {
        return Err(Error::new(Code::Usage, format!("stream `{}` is named twice", twice.1)));
    }
    let offered = report::settle(calls.discover().await?)?;
    let selections =
        arguments.streams.iter().map(|stream| select(stream, &offered, arguments)).collect::<Result<Vec<_>, _>>()?;
    let mut sink = Ndjson(BufWriter::new(std::io::stdout()));
    let mut progress = Progress::new(arguments.quiet);
    let result = sync::run(&calls, &selections, &mut sink, &mut state, &mut progress).await;
    progress.bar.finish_and_clear();
    match result {
        Ok(summary) => {
            if !arguments.quiet {
                let _ = writeln!(
                    std::io::stderr(),
                    "read {} in {}; state kept in {}",
                    counted(summary.entries, "record"),
                    counted(summary.pages, "page"),
                    arguments.state.display()
                );
            }
            Ok(())
        }
        Err(sync::Error::Connector(failure)) => Err(Error::of_call(&failure, progress.denied)),
        Err(error) => Err(error.into()),
    }
}

fn select(name: &str, offered: &[StreamDefinition], arguments: &Arguments) -> Result<Selection, Error> {
    let Some(stream) = offered.iter().find(|stream| stream.name == name) else {
        let names: Vec<&str> = offered.iter().map(|stream| stream.name.as_str()).collect();
        return Err(Error::new(Code::Setup, format!("there is no stream `{name}`"))
            .next(format!("streams: {}", names.join(", "))));
    };
    let mode = match arguments.mode {
        Some(Mode::FullRefresh) => SyncMode::FullRefresh,
        Some(Mode::Incremental) => SyncMode::Incremental,
        None if stream.modes.contains(&SyncMode::Incremental) => SyncMode::Incremental,
        None => SyncMode::FullRefresh,
    };
    if !stream.modes.contains(&mode) {
        return Err(Error::new(Code::Setup, format!("stream `{name}` cannot be read in this mode")));
    }
    if let Some(field) = arguments.fields.iter().find(|field| !may_have(stream, field)) {
        return Err(Error::new(Code::Setup, format!("stream `{name}` has no field `{field}`"))
            .next("`bulkhead discover` shows its fields"));
    }
    Ok(Selection { name: name.to_owned(), mode, fields: arguments.fields.clone() })
}

fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Whether records of `stream` may have a top-level `field`. A schema that lists no properties rules none out.
fn may_have(stream: &StreamDefinition, field: &str) -> bool {
    let schema: serde_json::Value = serde_json::from_str(&stream.schema).unwrap_or_default();
    schema.get("properties").and_then(serde_json::Value::as_object).is_none_or(|fields| fields.contains_key(field))
}

/// One entry a line.
struct Ndjson(BufWriter<std::io::Stdout>);

#[derive(Serialize)]
struct Record<'a> {
    stream: &'a str,
    key: &'a str,
    operation: &'static str,
    record: &'a RawValue,
}

impl Sink for Ndjson {
    fn take(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        for entry in entries {
            let (operation, json) = match &entry.operation {
                Operation::Upsert(json) => ("upsert", json),
                Operation::Delete(json) => ("delete", json),
            };
            // Raw JSON may hold line breaks between its tokens, which would end the line.
            let value: &RawValue = serde_json::from_str(json)?;
            let compact = if value.get().contains(['\n', '\r']) {
                let value: serde_json::Value = serde_json::from_str(json)?;
                Some(serde_json::value::to_raw_value(&value)?)
            } else {
                None
            };
            let record = Record {
                stream: &entry.stream_name,
                key: &entry.key,
                operation,
                record: compact.as_deref().unwrap_or(value),
            };
            let line = serde_json::to_string(&record)?;
            self.0.write_all(plain_json(&line).as_bytes())?;
            self.0.write_all(b"\n")?;
        }
        self.0.flush()
    }
}

/// A line on stderr that moves, when someone is there to see it.
struct Progress {
    bar: ProgressBar,
    quiet: bool,
    denied: bool,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let bar =
            if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar.set_message("opening");
        Self { bar, quiet, denied: false }
    }
}

impl Watch for Progress {
    fn called<T>(&mut self, outcome: &Outcome<T>) {
        self.denied |= !outcome.record.denials.is_empty();
        self.bar.suspend(|| report::show(outcome));
    }

    fn advanced(&mut self, entries: u64, pages: u64) {
        self.bar.set_message(format!("{}, {}", counted(entries, "record"), counted(pages, "page")));
    }

    fn waiting(&mut self, pause: Duration, why: &str) {
        let pause =
            humantime::format_duration(Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)));
        if self.bar.is_hidden() && !self.quiet {
            let _ = writeln!(std::io::stderr(), "waiting {pause}: {}", plain(why));
        }
        self.bar.set_message(format!("waiting {pause}: {why}"));
    }
}
