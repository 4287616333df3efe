//! `bulkhead config`: what a server would be started with, and where each value comes from.

use std::fmt::Write as _;

use bulkhead_core::text::plain;

use super::error::Error;
use super::plan::Plan;
use super::remote::show::table;
use super::report;
use super::settings::{ConfigArguments, Loaded};
use crate::config::{OTHERS, Origin, SETTINGS};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Check whether `serve` would start with the configuration, and print each setting in force with where it comes from. No value
    /// in it is a secret.
    ///
    /// The folders and files that it names are looked at, and nothing is changed: it may be run beside the server.
    #[command(after_help = super::plan::UNCHECKED)]
    Check {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// List every setting with the environment variable that says the same.
    Variables,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    match &arguments.verb {
        Verb::Check { config } => check(&config.load()?),
        Verb::Variables => report::print(&variables()),
    }
}

fn check(loaded: &Loaded) -> Result<(), Error> {
    Plan::new(&loaded.config)?;
    let mut text = String::new();
    let mut section = "";
    for (setting, value, origin) in loaded.config.lines() {
        if setting.section != section {
            section = setting.section;
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{section}]");
        }
        let line = format!("{} = {value}", setting.key());
        let _ = writeln!(text, "{line:<48} # {}", said(origin));
    }
    let from = match &loaded.path {
        Some(path) => path.display().to_string(),
        None => "no file: the defaults".to_owned(),
    };
    let _ = writeln!(text, "\n# in order: {from}");
    report::print(&plain(&text))
}

fn said(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File { line, .. } => format!("line {line}"),
        Origin::Variable(variable) => variable.clone(),
    }
}

fn variables() -> String {
    let settings =
        SETTINGS.iter().map(|setting| vec![setting.variable(), setting.name(), setting.meaning.trim().to_owned()]);
    let others =
        OTHERS.iter().map(|(variable, meaning)| vec![(*variable).to_owned(), "-".to_owned(), (*meaning).to_owned()]);
    table(settings.chain(others).collect())
}
