//! `bulkhead inspect`: what a component really is, before anyone writes or reads a manifest.

use std::fmt::Write as _;
use std::path::PathBuf;

use bulkhead_capabilities::Capability;
use bulkhead_core::id::{Digest, TenantId};
use bulkhead_runtime::{Allowance, Candidate, Status};
use bulkhead_services::release;

use super::cache::CacheArguments;
use super::error::{Error, word};
use super::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The component.
    file: PathBuf,
    #[command(flatten)]
    cache: CacheArguments,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let bytes = release::read_component(&arguments.file)?;
    let (digest, length) = (Digest::of(&[&bytes]), bytes.len());
    let tenant = arguments.cache.runtime().await?.tenant(TenantId::local(), Allowance::DEFAULT);
    let candidate = report::while_compiling(Candidate::compile(&tenant, bytes)).await;
    let candidate =
        candidate.map_err(|refusal| release::Error::Component { path: arguments.file.clone(), source: refusal })?;
    let roles = candidate.roles();
    let mut text = format!("{}: component, {length} bytes\n{digest} (the component alone)\n", arguments.file.display());
    if let Ok(roles) = &roles {
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\nroles: {}", roles.join(", "));
    }
    let _ = writeln!(text, "\nimports:");
    for import in candidate.imports() {
        let meaning = match import.status {
            Status::Types => "types alone".to_owned(),
            Status::Baseline => "baseline: always linked, powerless".to_owned(),
            Status::Capability(capability) => format!("{}: linked when asked for and granted", word(capability)),
            Status::Unknown => "NOT OFFERED by this host: refused at load unless listed as inert".to_owned(),
        };
        let _ = writeln!(text, "  {:<44} {meaning}", import.name);
    }
    let _ = writeln!(text, "\nexports:");
    for export in candidate.exports() {
        let _ = writeln!(text, "  {export}");
    }
    if roles.is_ok() {
        let _ = write!(text, "\nconnector.toml, to begin with:\n\n{}", skeleton(&candidate));
    }
    report::print(&text)?;
    roles.map(|_| ()).map_err(Error::from)
}

/// A manifest that asks for what the component imports. Hosts and paths are not in a component, so they are to do.
fn skeleton(candidate: &Candidate) -> String {
    let mut text = String::from(
        "[connector]\nname = \"TODO/TODO\"\nversion = \"0.1.0\"\ndescription = \"TODO\"\nlicense = \"TODO\"\n",
    );
    for capability in Capability::ALL {
        if candidate.imports().iter().any(|import| import.status == Status::Capability(*capability)) {
            let _ = write!(text, "\n{}\n", capability.manifest_lines());
        }
    }
    text.push_str("\n# If it takes a configuration:\n# [config]\n# schema = \"config.schema.json\"\n");
    let unknown: Vec<String> = candidate
        .imports()
        .iter()
        .filter(|import| import.status == Status::Unknown)
        .map(|import| format!("    \"{}\",\n", import.name))
        .collect();
    if !unknown.is_empty() {
        let _ = write!(
            text,
            "\n# Not offered by this host. Keep a line only if the language runtime imports it without using it.\n[wasi]\ninert = [\n{}]\n",
            unknown.concat()
        );
    }
    text
}
