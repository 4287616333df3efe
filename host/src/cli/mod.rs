//! The command line: one verb a file, one way to fail.
//!
//! Invariants: records and results go to stdout, everything for people to stderr; a failure is one clear line, its next
//! step where there is one, and an exit code of its own.

mod cache;
mod check;
mod config;
mod discover;
mod doctor;
mod error;
mod examples;
mod inspect;
mod invoke;
mod local;
mod network;
mod plan;
mod read;
mod recover;
mod remote;
mod report;
mod secret;
mod serve;
mod settings;
mod source;
mod vault;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, setrlimit};

use error::{Code, Error};

/// Longest wait for what was given up to go: a guest that computes yields every few milliseconds.
const LONGEST_FAREWELL: Duration = Duration::from_millis(500);

/// Runs other people's SaaS integrations, each in a compartment of its own: it can touch only the network hosts and
/// secrets that its manifest asks for and a grant allows.
#[derive(Parser)]
#[command(name = "bulkhead", version, after_help = error::PATH, after_long_help = format!("{}\n\n{}", error::PATH, error::TABLE))]
struct Arguments {
    /// Say more on stderr: -v for requests and denials as they happen, -vv for details.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    // From nothing to a connection that runs, in this order.
    /// Serve: keep tenants, connections and secrets, and answer over HTTP.
    Serve(serve::Arguments),
    /// Log in at a server: with the setup token, an API key, or as a person.
    Login(remote::login::Arguments),
    /// Make a connection, which may do nothing yet, and show what it asks for.
    Connect(remote::connect::Arguments),
    /// Consent: grant a connection what it asks for, or some of it.
    Grant(remote::grant::Arguments),
    /// Run one of a connection's actions, or one of the connector's in a folder.
    Invoke(invoke::Arguments),
    /// Enter, rotate, list and remove secrets.
    Secret(secret::Arguments),

    // What a server keeps.
    /// Tenants: make, change, remove, choose one.
    Tenant(remote::tenant::Arguments),
    /// Releases: install, list, show, remove.
    Release(remote::release::Arguments),
    /// Connections: list, check, configure, pause, resume, upgrade, roll back, remove.
    Connection(remote::connection::Arguments),
    /// Take back what a connection was granted.
    Revoke(remote::grant::Revoke),
    /// People.
    User(remote::user::Arguments),
    /// Programs that call the API.
    ServiceAccount(remote::account::Arguments),
    /// API keys: make, rotate, revoke.
    Key(remote::key::Arguments),
    /// OIDC issuers, and who of theirs is somebody here.
    Issuer(remote::issuer::Arguments),
    /// Policies beside the roles, what they would decide, and which role may do what.
    Policy(remote::policy::Arguments),
    /// Who owns the names that connectors are published under.
    Publisher(remote::publisher::Arguments),
    /// What happened, and whether the record of it is whole.
    Audit(remote::audit::Arguments),
    /// Show who the server takes you for.
    Whoami(remote::login::Whoami),
    /// Forget a login.
    Logout(remote::login::Logout),

    // A connector in a folder.
    /// Show what a component imports and exports, and a manifest that would ask for it.
    Inspect(inspect::Arguments),
    /// Load a connector, show what it may do, and let it try its configuration and credentials.
    Check(check::Arguments),
    /// List the streams that a source offers, as JSON.
    Discover(discover::Arguments),
    /// Read records from a source as NDJSON, resuming from a state file.
    Read(read::Arguments),

    // This machine.
    /// Look for what is set up in a dangerous way, and say how to mend it.
    Doctor(doctor::Arguments),
    /// Check a server's configuration, and show where each setting comes from.
    Config(config::Arguments),
    /// Get back in where no administrator can log in, or policies deny everybody: while no server runs.
    Recover(recover::Arguments),
    /// Print the API's description: OpenAPI 3.1.
    Openapi,
    /// Change the vault's keys, erase a tenant, check that all is in order.
    Vault(vault::Arguments),
}

/// Reads the command line and runs its verb.
pub(crate) fn main() -> ExitCode {
    let matches = examples::with_examples(Arguments::command()).get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let log = match &arguments.verb {
        Verb::Serve(serve) => serve.log.into(),
        _ => report::Log::Quiet,
    };
    report::start_tracing(arguments.verbose, log);
    leave_no_memory();
    open_many_files();
    let result = tokio::runtime::Builder::new_multi_thread()
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
    if let Verb::Serve(arguments) = &verb {
        // It hears interrupts itself: what it began is finished first.
        return serve::run(arguments).await;
    }
    // A task of its own, so that an interrupt is heard while it computes.
    let work = tokio::spawn(async move {
        match verb {
            Verb::Serve(arguments) => serve::run(&arguments).await,
            Verb::Openapi => report::print_json(&bulkhead::http::document()),
            Verb::Login(arguments) => remote::login::run(&arguments).await,
            Verb::Connect(arguments) => remote::connect::run(&arguments).await,
            Verb::Grant(arguments) => remote::grant::run(&arguments).await,
            Verb::Invoke(arguments) => invoke::run(&arguments).await,
            Verb::Secret(arguments) => secret::run(&arguments).await,
            Verb::Tenant(arguments) => remote::tenant::run(&arguments).await,
            Verb::Release(arguments) => remote::release::run(&arguments).await,
            Verb::Connection(arguments) => remote::connection::run(&arguments).await,
            Verb::Revoke(arguments) => remote::grant::revoke(&arguments).await,
            Verb::User(arguments) => remote::user::run(&arguments).await,
            Verb::ServiceAccount(arguments) => remote::account::run(&arguments).await,
            Verb::Key(arguments) => remote::key::run(&arguments).await,
            Verb::Issuer(arguments) => remote::issuer::run(&arguments).await,
            Verb::Policy(arguments) => remote::policy::run(&arguments).await,
            Verb::Publisher(arguments) => remote::publisher::run(&arguments).await,
            Verb::Audit(arguments) => remote::audit::run(&arguments).await,
            Verb::Whoami(arguments) => remote::login::whoami(&arguments).await,
            Verb::Logout(arguments) => remote::login::logout(&arguments).await,
            Verb::Inspect(arguments) => inspect::run(&arguments).await,
            Verb::Check(arguments) => check::run(&arguments).await,
            Verb::Discover(arguments) => discover::run(&arguments).await,
            Verb::Read(arguments) => read::run(&arguments).await,
            Verb::Doctor(arguments) => doctor::run(&arguments).await,
            Verb::Config(arguments) => config::run(&arguments),
            Verb::Recover(arguments) => recover::run(&arguments).await,
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
