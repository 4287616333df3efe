//! `bulkhead check`: loads a connector, shows what it may do, and lets it try its configuration.

use std::fmt::Write as _;
use std::io::Write as _;

use bulkhead_core::limits::Traffic;
use bulkhead_core::secret::{Injection, Key, SecretGrant, SecretRequest, Way};
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
    let (release, grant, calls) = arguments.local.connect().await?;
    let roles: Vec<String> = calls.connection().prepared.roles().iter().map(ToString::to_string).collect();
    let connector = &release.manifest.connector;
    let mut text =
        format!("{} {} ({})\nroles: {}\n", connector.name, connector.version, release.digest, roles.join(", "));
    describe(&mut text, &release, &grant, &calls.connection().power);
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
        let paths: Vec<String> = secret.paths.iter().flatten().map(|path| format!(" {path}")).collect();
        let _ = writeln!(
            text,
            "secret {name}: {granted}, for {}{} only, {}\n    because \"{}\"",
            hosts.join(", "),
            paths.concat(),
            plain_way(secret, grant.secrets.get(name)),
            secret.why
        );
    }
    if release.manifest.log {
        let _ = writeln!(text, "may log: {}", if power.has_log() { "granted" } else { "NOT GRANTED" });
    }
    for interface in power.inert() {
        let _ = writeln!(text, "linked inert: {interface}");
    }
    describe_limits(text, release, power);
}

/// How a secret gets into a request, and what is made of it.
fn plain_way(secret: &SecretRequest, granted: Option<&SecretGrant>) -> String {
    let way = match &secret.way {
        Way::Inject(Injection::Header { header, format }) => {
            format!("as {}: {}…{}", header.as_http(), format.before, format.after)
        }
        Way::Inject(Injection::Query(name)) => format!("as the query parameter {name}"),
        Way::Inject(Injection::Basic(format)) => {
            format!("as basic authentication: {}…{}", format.before, format.after)
        }
        Way::Inject(Injection::AwsSigV4(scope)) => {
            let body = if granted.is_some_and(|granted| granted.unsigned_payload) { ", WITHOUT the body" } else { "" };
            format!("to sign requests for AWS ({} in {}){body}", scope.service, scope.region)
        }
        Way::Places(places) => {
            let agreed = granted.is_some_and(|granted| granted.body_places);
            let places = places.iter().map(|place| match place.is_in_body() && !agreed {
                true => format!("{place} (NOT GRANTED: body-places)"),
                false => place.to_string(),
            });
            format!("where the connector puts its placeholder: {}", places.collect::<Vec<_>>().join(", "))
        }
    };
    let short = if granted.is_some_and(|granted| granted.short) { ", even a SHORT one" } else { "" };
    match &secret.key {
        Key::Value => format!("{way}{short}"),
        Key::Hmac { hash, .. } => format!("{way}{short}: a key, of which only signatures go out (HMAC, {hash:?})"),
        Key::Jwt { algorithm, terms, lifetime } => {
            let said = terms.all().into_iter().filter_map(|(name, term)| term.map(|term| format!(" {name}={term}")));
            let said: String = said.collect();
            format!("{way}{short}: a key, of which only tokens go out ({algorithm:?}{said}, valid for {lifetime})")
        }
    }
}

/// The limits in force. Hosts with the same amounts share a line.
fn describe_limits(text: &mut String, release: &Release, power: &Power) {
    let limits = power.limits();
    let _ = writeln!(
        text,
        "limits: memory {}, time {}, cpu {}, log {}, output {}, {} requests a call",
        limits.memory, limits.time, limits.cpu, limits.log_bytes, limits.output_bytes, limits.requests
    );
    let mut lines: Vec<(Vec<&str>, &Traffic)> = Vec::new();
    for (name, traffic) in power.hosts().iter().filter(|(name, _)| is_granted(name, release, power)) {
        match lines.iter_mut().find(|(_, known)| *known == traffic) {
            Some((names, _)) => names.push(name),
            None => lines.push((vec![name], traffic)),
        }
    }
    match lines.as_slice() {
        [] => {}
        [(names, traffic)] if names.len() == 1 && **traffic == limits.traffic => {
            let _ = writeln!(text, "  {}, and in total: {}", names.concat(), plain_traffic(traffic));
        }
        _ => {
            for (names, traffic) in &lines {
                let each = if names.len() == 1 { "" } else { ", each" };
                let _ = writeln!(text, "  {}{each}: {}", names.join(", "), plain_traffic(traffic));
            }
            let _ = writeln!(text, "  in total: {}", plain_traffic(&limits.traffic));
        }
    }
}

fn is_granted(host: &str, release: &Release, power: &Power) -> bool {
    let mut asked = release.manifest.egress.iter().enumerate();
    asked.any(|(index, request)| request.rule.host.to_string() == host && !power.granted(index).is_empty())
}

fn plain_traffic(traffic: &Traffic) -> String {
    let Traffic { requests, bytes_out, bytes_in, concurrency } = traffic;
    let plural = if requests.get() == 1 { "" } else { "s" };
    format!("{requests} request{plural}, {bytes_out} out and {bytes_in} in a minute, {concurrency} at once")
}

/// The name that a component gives itself, where it gives one.
fn own_name(spec: String) -> Option<String> {
    let spec: serde_json::Value = serde_json::from_str(&spec).ok()?;
    spec.get("name")?.as_str().map(str::to_owned)
}
