//! `bulkhead doctor`: looks for what is set up in a dangerous way, and says how to mend it.
//!
//! *Why*: most breaches of integrations begin with a setting that nobody looked at again.
//! *Invariants*: 1. it changes nothing, and makes no file; 2. what it could not look at it says; 3. a finding says what, where and
//! how to mend it; 4. it works while the server runs and while it does not: folders and machine are looked at from outside, what
//! the server keeps is asked for over its API.
//! Callers: `cli/mod.rs` → here → `files.rs`, `machine.rs` (this machine), `kept.rs` (what the server keeps).

mod files;
mod kept;
mod machine;

pub(crate) use files::SETUP_TOKEN;

use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use super::error::{Code, Error};
use super::remote::Asking;
use super::remote::show::Output;
use super::report;
use super::settings::ConfigArguments;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    asking: Asking,
    /// Look at this machine alone, and ask no server.
    #[arg(long)]
    offline: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Somebody can do what they should not, or something will be lost: the verb fails.
    Error,
    /// It is likely to become one.
    Warning,
    /// It is good to know.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// A stable word for it.
    pub(crate) code: &'static str,
    /// What is wrong, in a sentence.
    pub(crate) what: String,
    /// The file, setting or name that it is about.
    #[serde(rename = "where")]
    pub(crate) place: String,
    /// What to do.
    pub(crate) mend: String,
}

/// Findings as they come.
#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: impl ToString,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Finding { severity, code, what: what.into(), place: place.to_string(), mend: mend.into() });
    }

    pub(crate) fn error(
        &mut self,
        code: &'static str,
        place: impl ToString,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(Severity::Error, code, place, what, mend);
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        place: impl ToString,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(Severity::Warning, code, place, what, mend);
    }

    pub(crate) fn note(
        &mut self,
        code: &'static str,
        place: impl ToString,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(Severity::Note, code, place, what, mend);
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut findings = Findings::default();
    let now = SystemTime::now();
    match arguments.config.load() {
        Ok(loaded) => files::look(&loaded, now, &mut findings),
        // Without a configuration nobody knows which folders are meant.
        Err(error) => {
            let (what, mend) = error.told();
            findings.error("config-invalid", "the configuration", what, mend.unwrap_or("mend what is named"));
        }
    }
    files::look_at_logins(&mut findings);
    machine::look(&mut findings);
    if !arguments.offline {
        kept::look(&arguments.asking, now, &mut findings).await;
    }
    show(findings, arguments.asking.output)
}

fn show(mut findings: Findings, output: Output) -> Result<(), Error> {
    findings.0.sort_by_key(|finding| finding.severity);
    match output {
        Output::Json => report::print_json(&findings.0)?,
        Output::Table => report::print(&bulkhead_core::text::plain(&told(&findings.0)))?,
    }
    match findings.0.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        1 => Err(Error::new(Code::Setup, "one of these is an error").next("mend it, and run `bulkhead doctor` again")),
        count => {
            let message = format!("{count} of these are errors");
            Err(Error::new(Code::Setup, message).next("mend them, and run `bulkhead doctor` again"))
        }
    }
}

fn told(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let _ = writeln!(text, "{severity:<8} {}: {} [{}]", finding.place, finding.what, finding.code);
        for line in finding.mend.lines() {
            let _ = writeln!(text, "{:<8} mend: {line}", "");
        }
    }
    if findings.is_empty() {
        text.push_str("nothing was found\n");
    }
    text
}
