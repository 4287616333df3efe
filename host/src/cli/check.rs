//! `bulkhead check`: loads a connector, shows what it may do, and lets it try its configuration.

use std::fmt::Write as _;
use std::io::Write as _;

use bulkhead_core::text::plain;
use bulkhead_core::{Grant, Power};
use bulkhead_services::Release;

use super::error::Error;
use super::local::Local;
use super::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    local: Local,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (release, grant, connection) = arguments.local.connect()?;
    let roles: Vec<String> = connection.prepared.roles().iter().map(ToString::to_string).collect();
    let connector = &release.manifest.connector;
    let mut text =
        format!("{} {} ({})\nroles: {}\n", connector.name, connector.version, release.digest, roles.join(", "));
    describe(&mut text, &release, &grant, &connection.power);
    report::print(&text)?;
    if let Some(name) = own_name(report::settle(connection.spec().await)?)
        && name != connector.name.to_string()
    {
        let _ = writeln!(
            std::io::stderr(),
            "note: the component calls itself {}, and connector.toml {}",
            plain(&name),
            connector.name
        );
    }
    report::settle(connection.check().await)?;
    report::print("check: passed\n")
}

/// What was asked and what of it was granted, in plain words.
fn describe(text: &mut String, release: &Release, grant: &Grant, power: &Power) {
    let _ = writeln!(text, "may send:{}", if release.manifest.egress.is_empty() { " nothing" } else { "" });
    for (index, request) in release.manifest.egress.iter().enumerate() {
        let granted = power.granted(index);
        for opening in &granted {
            let _ = writeln!(text, "  granted: {opening}");
        }
        if granted.is_empty() {
            let rule = &request.rule;
            let _ = writeln!(text, "  NOT GRANTED: {}://{}:{}", rule.scheme, rule.host, rule.port);
        }
        let _ = writeln!(text, "    because \"{}\"", request.why);
    }
    for (name, secret) in &release.manifest.secrets {
        let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
        let granted = match grant.secrets.get(name) {
            Some(granted) if granted.plain_http => "granted, even without TLS",
            Some(_) => "granted",
            None => "NOT GRANTED",
        };
        let format = &secret.inject.format;
        let _ = writeln!(
            text,
            "secret {name}: {granted}, for {} only, as {}: {}…{}\n    because \"{}\"",
            hosts.join(", "),
            secret.inject.header.as_http(),
            format.before,
            format.after,
            secret.why
        );
    }
    if release.manifest.log {
        let _ = writeln!(text, "may log: {}", if power.has_log() { "granted" } else { "NOT GRANTED" });
    }
    for interface in power.inert() {
        let _ = writeln!(text, "linked inert: {interface}");
    }
    let limits = power.limits();
    let _ = writeln!(text, "limits: memory {}, time {}, cpu {}", limits.memory, limits.time, limits.cpu);
}

/// The name that a component gives itself, where it gives one.
fn own_name(spec: String) -> Option<String> {
    let spec: serde_json::Value = serde_json::from_str(&spec).ok()?;
    spec.get("name")?.as_str().map(str::to_owned)
}
