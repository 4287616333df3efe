//! How a verb fails: an exit code, one line, and what to do next.

use std::io::Write;
use std::process::ExitCode;

use bulkhead_capabilities::Capability;
use bulkhead_capabilities::credentials;
use bulkhead_capabilities::credentials::vault;
use bulkhead_core::text::plain;
use bulkhead_runtime::types::Kind;
use bulkhead_runtime::{Failure, Import, Refusal, Status, compile};
use bulkhead_services::{cache, connection, invocation, release, sync, vault as services_vault};

/// The way from nothing to a connection that runs, as help shows it.
pub(crate) const PATH: &str = "\
From nothing to a connection that runs:
  bulkhead serve                      in a terminal of its own; it says where the setup token is
  bulkhead login --setup              makes you the administrator
  bulkhead tenant create acme --use   a customer, which the next verbs act on
  bulkhead connect ./crm              installs the connector there, and shows what it asks for
  bulkhead grant crm --all            your consent, once you have read that
  bulkhead connection check crm       it runs";

/// The exit codes, as `--help` shows them.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done
    1  the host failed
    2  the command line is wrong
    3  a file is missing or cannot be read
    4  the file is not WebAssembly, or is damaged
    5  the file is a core module, not a component
    6  a manifest, grant, configuration, secret or state is not valid
    7  the component is not a connector, or lacks the role that is needed
    8  the component imports what it was not granted
    9  the connector reported an error
   10  the connector crashed or returned what it must not
   11  the connector, or compiling it, reached a limit
   12  the connector failed after something was denied, or let out a secret
   13  the connection was paused, as when the connector did wrong too often, or ended by a change
   14  the server does not know who asks: log in
   15  whoever asks may not do that
   16  what was asked for is not there, or not to be seen
   17  it was changed by somebody else, is there already, or is in the way
   18  the server cannot be reached; or there is too much to do here or there: try again
  130  interrupted
  141  the reader of stdout went away

Environment:
  BULKHEAD_LOG  what to log on stderr, as tracing directives, instead of -v (example: bulkhead_capabilities=info)
  `bulkhead config variables` lists those that change a server's configuration, and those of client verbs.";

/// What an exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Host = 1,
    Usage = 2,
    File = 3,
    NotWasm = 4,
    CoreModule = 5,
    Setup = 6,
    WrongWorld = 7,
    Imports = 8,
    Reported = 9,
    Crashed = 10,
    Limit = 11,
    Denied = 12,
    Ended = 13,
    Unknown = 14,
    Refused = 15,
    Missing = 16,
    Conflict = 17,
    Unreachable = 18,
    Interrupted = 130,
    Pipe = 141,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A failed verb.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) code: Code,
    message: String,
    next: Option<String>,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), next: None }
    }

    /// What a failure to write to stdout means: a reader that went away is no news to anyone, a full disk is.
    pub(crate) fn of_stdout(source: &std::io::Error, message: String) -> Self {
        let gone = source.kind() == std::io::ErrorKind::BrokenPipe;
        Self::new(if gone { Code::Pipe } else { Code::Host }, message)
    }

    /// With the next step.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }

    /// What it says, and the next step.
    pub(crate) fn told(&self) -> (&str, Option<&str>) {
        (&self.message, self.next.as_deref())
    }

    /// What a failed call means, given whether anything was denied during it.
    pub(crate) fn of_call(failure: &Failure, denied: bool) -> Self {
        let code = match failure {
            Failure::Host(_) => Code::Host,
            Failure::Busy(_) | Failure::Crowded(_) => Code::Unreachable,
            Failure::Leak(_) => Code::Denied,
            Failure::Paused(_) | Failure::Ended(_) => Code::Ended,
            failure if failure.is_limit() => Code::Limit,
            _ if denied => Code::Denied,
            Failure::Reported(_) => Code::Reported,
            _ => Code::Crashed,
        };
        let kind = match failure {
            Failure::Reported(error) => format!(": {}", word_of(error.kind)),
            _ => String::new(),
        };
        // What was denied was shown with what would allow it, and that is what to mend.
        // Nor does a permanent error say whose it is: it may be a name that was misspelled here.
        let unknown = matches!(failure, Failure::Reported(error) if matches!(error.kind, Kind::Permanent));
        let mend = match (denied, unknown) {
            // A limit has a next step of its own.
            (true, _) if !failure.is_limit() => "; see what was denied".to_owned(),
            (_, true) => String::new(),
            _ => format!("; to mend by: {}", failure.blame()),
        };
        let error = Self::new(code, format!("{failure} [{}{kind}{mend}]", failure.code()));
        match failure {
            Failure::Paused(_) => {
                error.next("mend the connector, then run it again: what counted against it ends with this process")
            }
            _ => failure.next_step().into_iter().fold(error, Self::next),
        }
    }

    /// What a compilation that failed means.
    fn of_compiler(failure: &compile::Failure) -> Self {
        let code = if failure.is_limit() { Code::Limit } else { Code::Host };
        let error = Self::new(code, format!("{failure} [{}]", failure.code()));
        match failure {
            failure if failure.is_limit() => error.next(
                "its functions may be too large or too many: build it with optimisation, and leave out what it does not need",
            ),
            compile::Failure::Unconfined(_) => error.next(
                "it takes Linux with seccomp on x86_64 or aarch64, and a container that allows the host to set a filter",
            ),
            compile::Failure::Crashed(_) => error.next("this should not happen: keep the component, and report it"),
            _ => error,
        }
    }

    /// Writes it to stderr.
    pub(crate) fn print(&self) {
        if self.code == Code::Pipe {
            return;
        }
        let mut err = std::io::stderr().lock();
        // There is nowhere left to say that stderr is closed.
        let _ = writeln!(err, "error: {}", plain(&self.message).replace('\n', " "));
        if let Some(next) = &self.next {
            for line in next.lines() {
                let _ = writeln!(err, "  {}", plain(line));
            }
        }
    }
}

impl From<release::Error> for Error {
    fn from(error: release::Error) -> Self {
        let message = error.to_string();
        match error {
            release::Error::NoComponent { .. } => {
                Self::new(Code::File, message).next("build it: cargo build --release --target wasm32-wasip2")
            }
            release::Error::Unreadable { path, .. } if path.ends_with(release::MANIFEST) => {
                Self::new(Code::File, message).next("`bulkhead inspect FILE.wasm` prints one to begin with")
            }
            release::Error::Unreadable { .. } | release::Error::TooLarge { .. } => Self::new(Code::File, message),
            release::Error::Manifest { .. } | release::Error::Schema { .. } => Self::new(Code::Setup, message),
            release::Error::Component { source, .. } => Self { message, ..Self::from(source) },
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NotWasm | Refusal::Malformed(_) => Self::new(Code::NotWasm, message),
            Refusal::CoreModule => Self::new(Code::CoreModule, message),
            Refusal::TooMuch(_) => Self::new(Code::Limit, message)
                .next("leave out what it does not need, and build it with optimisation; or split the connector"),
            Refusal::Busy { .. } => Self::new(Code::Unreachable, message),
            Refusal::Compiler(failure) => Self::of_compiler(&failure),
            Refusal::WrongWorld { .. } | Refusal::WrongTypes { .. } | Refusal::NoRole(_) => {
                Self::new(Code::WrongWorld, message)
            }
            Refusal::Link(_) => Self::new(Code::Imports, message),
            Refusal::Imports(imports) => Self::new(Code::Imports, message).next(ways_to_load(&imports)),
        }
    }
}

/// The lines that would let a component with these imports load.
fn ways_to_load(imports: &[Import]) -> String {
    let mut capabilities: Vec<Capability> = Vec::new();
    let mut unknown = Vec::new();
    for import in imports {
        match import.status {
            Status::Capability(capability) if !capabilities.contains(&capability) => capabilities.push(capability),
            Status::Capability(_) => {}
            _ => unknown.push(format!("    \"{}\",", import.name)),
        }
    }
    let mut ways: Vec<String> = capabilities
        .iter()
        .map(|capability| {
            format!(
                "to use {}, ask for it in connector.toml, and have it granted:\n{}",
                word(*capability),
                indented(capability.manifest_lines())
            )
        })
        .collect();
    if !unknown.is_empty() {
        let lines = indented(&format!("[wasi]\ninert = [\n{}\n]", unknown.join("\n")));
        ways.push(format!(
            "not offered by this host. If the language runtime imports these without using them, list them in connector.toml:\n{lines}"
        ));
    }
    ways.join("\n")
}

impl From<credentials::Error> for Error {
    fn from(error: credentials::Error) -> Self {
        let message = Self::new(Code::Setup, error.to_string());
        match error {
            credentials::Error::TooShort(name) => message.next(format!(
                "whoever insists on it adds to the grant, and then values that look like it are masked wherever they stand:\n{}",
                indented(&format!("[secrets.{name}]\nshort = true"))
            )),
            _ => message,
        }
    }
}

impl From<connection::Error> for Error {
    fn from(error: connection::Error) -> Self {
        let message = error.to_string();
        match error {
            connection::Error::NoValue(name) => Self::new(Code::Setup, message)
                .next(format!("give it one: --secret {name}=@FILE or --secret {name}=env:VARIABLE")),
            connection::Error::Secret(error) => error.into(),
            connection::Error::Refused(refusal) => refusal.into(),
            _ => Self::new(Code::Setup, message),
        }
    }
}

impl From<services_vault::Error> for Error {
    fn from(error: services_vault::Error) -> Self {
        match error {
            services_vault::Error::Vault(error) => error.into(),
            services_vault::Error::Together { .. } => Self::new(Code::Setup, error.to_string())
                .next("name a folder elsewhere, with --keys or as `keys` under [storage]: whoever copies the data must not copy the keys with it"),
            services_vault::Error::Path { .. } => Self::new(Code::File, error.to_string()),
        }
    }
}

impl From<cache::Error> for Error {
    fn from(error: cache::Error) -> Self {
        let code = match &error {
            cache::Error::Folder(_) | cache::Error::Path { .. } => Code::File,
            cache::Error::Random(_) => Code::Host,
            _ => Code::Setup,
        };
        let next = error.next_step().or_else(|| Some("or do without: --no-cache".to_owned()));
        Self { code, message: error.to_string(), next }
    }
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        use bulkhead_storage::Error as Store;
        let code = match &error {
            vault::Error::Store(Store::InUse { .. } | Store::Exposed { .. } | Store::Folder { .. }) => Code::File,
            vault::Error::Store(_) | vault::Error::Key(_) | vault::Error::Row(_) => Code::Host,
            _ => Code::Setup,
        };
        let next = match &error {
            vault::Error::NextMaster => Some("give another one: --next-master-key".to_owned()),
            error => error.next_step(),
        };
        Self { code, message: error.to_string(), next }
    }
}

impl From<invocation::Error> for Error {
    fn from(error: invocation::Error) -> Self {
        match error {
            invocation::Error::Refused(refusal) => refusal.into(),
            invocation::Error::Audit(_) => Self::new(Code::Host, error.to_string()),
        }
    }
}

impl From<sync::Error> for Error {
    fn from(error: sync::Error) -> Self {
        let message = error.to_string();
        match error {
            sync::Error::Connector(failure) => Self::of_call(&failure, false),
            sync::Error::WaitTooLong(_) => {
                Self::new(Code::Reported, message).next("run it again later: the state is kept")
            }
            sync::Error::Call(error) => error.into(),
            sync::Error::Sink(source) => Self::of_stdout(&source, message),
            sync::Error::State(_) => Self::new(Code::Setup, message),
        }
    }
}

/// The contract's word for a kind of error.
fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "config",
        Kind::Auth => "auth",
        Kind::Transient => "transient",
        Kind::RateLimited => "rate-limited",
        Kind::Permanent => "permanent",
        Kind::Internal => "internal",
    }
}

/// `capability` as a word.
pub(crate) fn word(capability: Capability) -> &'static str {
    match capability {
        Capability::Egress => "egress",
        Capability::Credentials => "credentials",
        Capability::Signing => "signing",
        Capability::Log => "log",
    }
}

pub(crate) fn indented(text: &str) -> String {
    text.lines()
        .map(|line| if line.is_empty() { String::new() } else { format!("  {line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_runtime::{Busy, Whose};

    use super::*;

    #[test]
    fn whoever_finds_it_busy_ends_with_one_code_whichever_way_in() {
        let busy = Failure::Busy(Busy { whose: Whose::Tenant, retry_after: Duration::from_secs(1) });
        for code in [
            Error::of_call(&busy, false).code,
            Error::of_call(&Failure::Crowded(Whose::Host), false).code,
            Error::from(Refusal::Busy { after: Duration::from_secs(1) }).code,
        ] {
            assert_eq!(code, Code::Unreachable);
        }
    }
}
