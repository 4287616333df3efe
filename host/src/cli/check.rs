//! `bulkhead check`: loads a connector, shows what it may do, and lets it try its configuration.

use std::io::Write as _;

use bulkhead_core::text::plain;
use bulkhead_services::consent::Request;

use super::error::Error;
use super::local::Local;
use super::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    local: Local,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (release, grant, calls) = arguments.local.connect().await?;
    let roles: Vec<String> = calls.connection().prepared.roles().iter().map(ToString::to_string).collect();
    let connector = &release.manifest.connector;
    let mut text =
        format!("{} {} ({})\nroles: {}\n", connector.name, connector.version, release.digest, roles.join(", "));
    let request = Request::new(&release.manifest, release.digest, roles, Some(&grant), &calls.connection().power);
    text.push_str(&request.text());
    report::print(&text)?;
    for place in &release.dubious {
        let _ = writeln!(
            std::io::stderr(),
            "note: `{}` of the configuration sounds like a credential, and the connector reads its configuration; what it need not see belongs under [secrets] in connector.toml",
            plain(place)
        );
    }
    if let Some(name) = own_name(report::settle(calls.spec().await?)?)
        && name != connector.name.to_string()
    {
        let _ = writeln!(
            std::io::stderr(),
            "note: the component calls itself {}, and connector.toml {}",
            plain(&name),
            connector.name
        );
    }
    report::settle(calls.check().await?)?;
    report::print("check: passed\n")
}

/// The name that a component gives itself, where it gives one.
fn own_name(spec: String) -> Option<String> {
    let spec: serde_json::Value = serde_json::from_str(&spec).ok()?;
    spec.get("name")?.as_str().map(str::to_owned)
}
