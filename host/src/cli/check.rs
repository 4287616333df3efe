//! `bulkhead check`: loads a connector, shows what it may do, and lets it try its configuration.

use std::fmt::Write as _;
use std::io::Write as _;

use bulkhead_core::{Grant, Power};
use bulkhead_services::Release;

use super::error::{Code, Error};
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
    write(&text)?;
    report::settle(connection.check().await)?;
    write("check: passed\n")
}

/// What was asked and what of it was granted, in plain words.
fn describe(text: &mut String, release: &Release, grant: &Grant, power: &Power) {
    let _ = writeln!(text, "may send:");
    for request in &release.manifest.egress {
        let rule = &request.rule;
        let methods: Vec<String> = rule.methods.iter().map(ToString::to_string).collect();
        let paths: Vec<String> = rule.paths.iter().map(ToString::to_string).collect();
        let granted = if power.grants(rule) { "granted" } else { "NOT GRANTED" };
        let _ = writeln!(
            text,
            "  {granted}: {} {}://{}:{} {} ({})",
            methods.join(","),
            rule.scheme,
            rule.host,
            rule.port,
            paths.join(" "),
            request.why
        );
    }
    for opening in &grant.egress {
        let blocks: Vec<String> = opening.addresses.iter().map(ToString::to_string).collect();
        if !blocks.is_empty() {
            let _ =
                writeln!(text, "  opened by the grant for {}: private addresses {}", opening.host, blocks.join(", "));
        }
    }
    for (name, secret) in &release.manifest.secrets {
        let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
        let granted = match grant.secrets.get(name) {
            Some(granted) if granted.plain_http => "granted, even without TLS",
            Some(_) => "granted",
            None => "NOT GRANTED",
        };
        let _ = writeln!(text, "secret {name}: {granted}, for {} only ({})", hosts.join(", "), secret.why);
    }
    let limits = power.limits();
    let _ = writeln!(text, "limits: memory {}, time {}, cpu {}", limits.memory, limits.time, limits.cpu);
}

fn write(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Error::new(Code::Pipe, error.to_string()))
}
