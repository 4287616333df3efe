//! Tells people on stderr what a call did: log lines, denials with what would allow them, use.

use std::error::Error as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use bulkhead_capabilities::journal::Record;
use bulkhead_capabilities::log::Line;
use bulkhead_core::text::{plain, plain_json};
use bulkhead_runtime::Outcome;
use bulkhead_services::invocation::Called;
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::error::{Code, Error, indented};

/// How long compiling may take before anything is said of it.
const A_MOMENT: Duration = Duration::from_millis(300);
/// The variable that says what to log.
const LOG: &str = "BULKHEAD_LOG";

/// What is logged unless something is said, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// Nothing: a verb tells people itself what it did.
    Quiet,
    /// What a server's operator has to know, in text.
    Text,
    /// All that happens, one JSON object a line, for programs.
    Json,
}

/// Structured logs on stderr, as `-v` or `BULKHEAD_LOG` ask.
pub(crate) fn start_tracing(verbose: u8, log: Log) {
    let json = log == Log::Json;
    let default = match (verbose, log) {
        // An entry of the cache that is not as it was written may be somebody's attack.
        (0, Log::Quiet) => "off,bulkhead_runtime::cache=warn",
        (0, Log::Text) => "warn",
        (0 | 1, _) => "bulkhead=info,bulkhead_capabilities=info,bulkhead_runtime=info,bulkhead_services=info",
        _ => "bulkhead=debug,bulkhead_capabilities=debug,bulkhead_runtime=debug,bulkhead_services=debug",
    };
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|error| {
        // An error without this cause says that the variable is not set.
        if let Some(mistake) = error.source().filter(|cause| cause.is::<ParseError>()) {
            let _ = writeln!(std::io::stderr(), "note: {LOG} is not used: {}", plain(&mistake.to_string()));
        }
        EnvFilter::new(default)
    });
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !json)
        .with_writer(std::io::stderr);
    match json {
        true => subscriber.json().init(),
        false => subscriber.init(),
    }
}

/// Waits for what compiles a component, and tells people at a terminal when that takes longer than a moment.
pub(crate) async fn while_compiling<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(A_MOMENT, &mut work).await {
        return done;
    }
    // Where stderr is no terminal, nothing is drawn.
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message("compiling the component");
    bar.enable_steady_tick(Duration::from_millis(120));
    let done = work.await;
    bar.finish_and_clear();
    done
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Error::of_stdout(&error, error.to_string()))
}

/// Writes JSON to stdout, for people and programs.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::new(Code::Host, error.to_string()))?;
    text.push('\n');
    print(&plain_json(&text))
}

/// Shows an outcome and turns it into the verb's result.
pub(crate) fn settle<T>(called: Called<T>) -> Result<T, Error> {
    let outcome = called.outcome;
    show(&outcome);
    let denied = !outcome.record.denials.is_empty();
    outcome.result.map_err(|failure| Error::of_call(&failure, denied))
}

/// Shows what accompanied a call.
pub(crate) fn show<T>(outcome: &Outcome<T>) {
    let mut err = std::io::stderr().lock();
    let _ = lines(&mut err, &outcome.lines, outcome.dropped_lines).and_then(|()| denials(&mut err, &outcome.record));
}

fn lines(err: &mut impl Write, lines: &[Line], dropped: u64) -> std::io::Result<()> {
    for line in lines {
        let level = format!("{:?}", line.level).to_lowercase();
        let context = if line.context.is_empty() { String::new() } else { format!(" {}:", line.context) };
        writeln!(err, "{}", plain(&format!("connector {level}{context} {}", line.text)))?;
    }
    if dropped > 0 {
        writeln!(err, "connector: {dropped} more lines were dropped (`log-bytes` under [limits])")?;
    }
    Ok(())
}

fn denials(err: &mut impl Write, record: &Record) -> std::io::Result<()> {
    for denied in &record.denials {
        let times = if denied.times > 1 { format!(" ({} times)", denied.times) } else { String::new() };
        writeln!(err, "{} [{}]{times}", denied.denial, denied.denial.code())?;
        if let Some(remedy) = &denied.denial.remedy {
            writeln!(err, "  what would allow it, in {}:\n{}", remedy.file, indented(&indented(&remedy.lines)))?;
        }
    }
    if record.more_denials > 0 {
        let destinations: Vec<&str> = record.more_destinations.iter().map(String::as_str).collect();
        writeln!(
            err,
            "denied {} more different attempts, at {}",
            record.more_denials,
            plain(&destinations.join(", "))
        )?;
    }
    if let Some((code, message)) = &record.failure {
        writeln!(err, "request failed: {} [{code}]", plain(message))?;
    }
    if let Some((code, message)) = &record.held_because {
        let others = match record.held {
            0 | 1 => String::new(),
            held => format!(" ({held} requests in all)"),
        };
        writeln!(err, "held back: {} [{code}]{others}", plain(message))?;
    }
    if record.masked > 0 {
        let times = if record.masked == 1 { "once".to_owned() } else { format!("{} times", record.masked) };
        writeln!(err, "a secret stood {times} in what an upstream answered, and was masked")?;
    }
    Ok(())
}

/// Says something beside what was asked for, on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}
