//! The command line: one verb a file, one way to fail.
//!
//! Invariants: records and results go to stdout, everything for people to stderr; a failure is one clear line, its next
//! step where there is one, and an exit code of its own.

mod cache;
mod check;
mod discover;
mod error;
mod inspect;
mod invoke;
mod local;
mod read;
mod report;
mod secret;
mod source;
mod vault;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, setrlimit};

use error::{Code, Error};

/// Longest wait for what was given up to go: a guest that computes yields every few milliseconds.
const LONGEST_FAREWELL: Duration = Duration::from_millis(500);

/// Runs other people's SaaS integrations, each in a compartment of its own: it can touch only the network hosts and
/// secrets that its manifest asks for and a grant allows.
#[derive(Parser)]
#[command(name = "bulkhead", version, after_long_help = error::TABLE)]
struct Arguments {
    /// Say more on stderr: -v for requests and denials as they happen, -vv for details.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show what a component imports and exports, and a manifest that would ask for it.
    Inspect(inspect::Arguments),
    /// Load a connector, show what it may do, and let it try its configuration and credentials.
    Check(check::Arguments),
    /// List the streams that a source offers, as JSON.
    Discover(discover::Arguments),
    /// Read records from a source as NDJSON, resuming from a state file.
    Read(read::Arguments),
    /// Run one of a connector's actions.
    Invoke(invoke::Arguments),
    /// Enter, list and remove secrets.
    Secret(secret::Arguments),
    /// Change the vault's keys, erase a tenant, check that all is in order.
    Vault(vault::Arguments),
}

/// Reads the command line and runs its verb.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    report::start_tracing(arguments.verbose);
    leave_no_memory();
    open_many_files();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(bulkhead_runtime::workers())
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Host, format!("the executor could not start: {error}")))
        .and_then(|executor| {
            let result = executor.block_on(run(arguments.verb));
            // What was given up is logged as it goes. What still computes after an interrupt is not waited for.
            executor.shutdown_timeout(LONGEST_FAREWELL);
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.code.into()
        }
    }
}

/// A crash leaves no image of the memory, where keys and secrets are, on the disk.
fn leave_no_memory() {
    // Lower is always permitted.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// As many descriptors as are permitted: sockets take them, and so does each component's memory image.
fn open_many_files() {
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    // What is permitted already does not fail for wanting more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
}

async fn run(verb: Verb) -> Result<(), Error> {
    // A task of its own, so that an interrupt is heard while it computes.
    let work = tokio::spawn(async move {
        match verb {
            Verb::Inspect(arguments) => inspect::run(&arguments).await,
            Verb::Check(arguments) => check::run(&arguments).await,
            Verb::Discover(arguments) => discover::run(&arguments).await,
            Verb::Read(arguments) => read::run(&arguments).await,
            Verb::Invoke(arguments) => invoke::run(&arguments).await,
            Verb::Secret(arguments) => secret::run(&arguments).await,
            Verb::Vault(arguments) => vault::run(&arguments).await,
        }
    });
    tokio::select! {
        result = work => result.unwrap_or_else(|error| Err(Error::new(Code::Host, format!("the verb broke off: {error}")))),
        _ = tokio::signal::ctrl_c() => Err(Error::new(Code::Interrupted, "interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getrlimit;

    use super::*;

    #[test]
    fn a_crash_leaves_no_image_of_the_memory() {
        // So that it can fail, where more is permitted.
        let most = getrlimit(Resource::Core).maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current: most, maximum: most });
        leave_no_memory();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
