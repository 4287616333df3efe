//! Says what a release asks for beyond another one, so that an upgrade which asks for more waits for consent.
//!
//! *Why*: consent to one release must not become consent to whatever its publisher ships next. *Invariants*: 1. whatever is not
//! provably within what was asked before counts as more, even where a cleverer proof would find that it is not; 2. between a
//! release and itself there is no difference.
//! *How it is proved*: each method at each path of each rule has to be covered by a rule of before, for the same scheme and port and
//! for all of its hosts; a secret has to go the same way to the same places, since where it may go is sealed together with its value;
//! limits are compared as they come into force.
//! Callers: `services/connections` → here.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::egress::HostPattern;
use crate::limits::{Asked, Limits, Scope, Size, Traffic};
use crate::manifest::{EgressRequest, Manifest};
use crate::secret::{Key, SecretRequest};

/// What a release asks for, as far as it is compared.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// The text of its configuration's schema; empty where it has none.
    pub schema: &'a str,
    /// What its component exports: what it can be called for.
    pub exports: &'a BTreeSet<String>,
}

/// What is more; empty when nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Difference(Vec<More>);

/// One thing that is more, or that cannot be shown not to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct More {
    /// What kind of thing.
    pub kind: Kind,
    /// For people, in one line.
    pub text: String,
}

/// What can be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Requests that could not be sent before.
    Egress,
    /// A secret that was not used, or not in this way.
    Secret,
    /// More of something that is limited.
    Limit,
    /// `wasi:logging`.
    Log,
    /// An interface that is linked inert.
    Inert,
    /// Another form of configuration.
    Configuration,
    /// Something that it can be called for.
    Export,
}

/// What `new` asks for beyond `old`.
pub fn difference(old: &Asking<'_>, new: &Asking<'_>) -> Difference {
    let mut found = Vec::new();
    let mut more = |kind, text: String| found.push(More { kind, text });
    for request in &new.manifest.egress {
        for text in unproved(request, &old.manifest.egress) {
            more(Kind::Egress, text);
        }
    }
    for (name, secret) in &new.manifest.secrets {
        match old.manifest.secrets.get(name) {
            None => more(Kind::Secret, format!("the secret `{name}`, because \"{}\"", secret.why)),
            Some(before) => {
                if let Some(what) = otherwise(before, secret) {
                    more(Kind::Secret, format!("the secret `{name}`: {what}"));
                }
            }
        }
    }
    for text in looser(old.manifest, new.manifest) {
        more(Kind::Limit, text);
    }
    if new.manifest.log && !old.manifest.log {
        more(Kind::Log, "to write log lines".to_owned());
    }
    for name in new.manifest.inert.iter().filter(|name| !old.manifest.inert.contains(name)) {
        more(Kind::Inert, format!("the interface `{name}`, linked inert"));
    }
    if new.schema != old.schema {
        more(Kind::Configuration, "its configuration has another schema".to_owned());
    }
    for name in new.exports.difference(old.exports) {
        more(Kind::Export, format!("it can be called for `{name}`"));
    }
    Difference(found)
}

// === egress ===

/// Methods at paths of `request` that no rule of `before` covers, and bodies that are larger.
fn unproved(request: &EgressRequest, before: &[EgressRequest]) -> Vec<String> {
    let rule = &request.rule;
    let destination = format!("{}://{}:{}", rule.scheme, rule.host, rule.port);
    let same: Vec<&EgressRequest> = before
        .iter()
        .filter(|old| old.rule.scheme == rule.scheme && old.rule.port == rule.port)
        .filter(|old| covers(&old.rule.host, &rule.host))
        .collect();
    let mut found = Vec::new();
    for path in &rule.paths {
        let at: Vec<_> =
            same.iter().filter(|old| old.rule.paths.iter().any(|known| known.covers_all_of(path))).collect();
        let fresh = rule.methods.iter().filter(|method| !at.iter().any(|old| old.rule.methods.contains(method)));
        let fresh: Vec<String> = fresh.map(ToString::to_string).collect();
        if !fresh.is_empty() {
            found.push(format!("{} {destination} {path}, because \"{}\"", fresh.join(" "), request.why));
            continue;
        }
        // By one rule that has room for the bodies as well.
        let roomy = |old: &&&&EgressRequest| {
            old.request_bytes >= request.request_bytes && old.response_bytes >= request.response_bytes
        };
        let tight =
            rule.methods.iter().any(|method| !at.iter().filter(roomy).any(|old| old.rule.methods.contains(method)));
        if tight {
            let (out, back) = (request.request_bytes, request.response_bytes);
            found.push(format!("larger bodies at {destination} {path}: up to {out} out and {back} in"));
        }
    }
    found
}

fn covers(old: &HostPattern, new: &HostPattern) -> bool {
    old == new || old.covers_all_of(new)
}

// === secrets ===

/// How a secret is asked for otherwise than before, if it is.
fn otherwise(old: &SecretRequest, new: &SecretRequest) -> Option<String> {
    let hosts = |secret: &SecretRequest| secret.hosts.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let paths = |secret: &SecretRequest| {
        secret.paths.as_ref().map(|paths| paths.iter().map(ToString::to_string).collect::<BTreeSet<_>>())
    };
    let again = "so that its value has to be entered again";
    if hosts(old) != hosts(new) {
        let list = hosts(new).into_iter().collect::<Vec<_>>().join(", ");
        return Some(format!("it goes to other hosts: {list}, {again}"));
    }
    if paths(old) != paths(new) {
        let list = paths(new).map_or_else(
            || "all that may be sent to".to_owned(),
            |paths| paths.into_iter().collect::<Vec<_>>().join(" "),
        );
        return Some(format!("it goes to other paths: {list}, {again}"));
    }
    if old.way != new.way {
        return Some(format!("it gets into requests in another way, {again}"));
    }
    match (&old.key, &new.key) {
        (
            Key::Jwt { algorithm: before, terms: said, lifetime: shorter },
            Key::Jwt { algorithm, terms, lifetime: longer },
        ) if before == algorithm && said == terms => {
            (longer > shorter).then(|| format!("its tokens are valid for {longer} instead of {shorter}"))
        }
        (before, now) => (before != now).then(|| format!("something else is made of it, {again}")),
    }
}

// === limits ===

/// Limits that would be higher, as they come into force.
fn looser(old: &Manifest, new: &Manifest) -> Vec<String> {
    let (before, now) = (InForce::of(old), InForce::of(new));
    let mut found = Vec::new();
    let (a, b) = (&before.limits, &now.limits);
    let mut compare = |name: &str, higher: bool, value: &dyn fmt::Display| {
        if higher {
            found.push(format!("{name}: {value}"));
        }
    };
    compare("memory", b.memory > a.memory, &b.memory);
    compare("time of a call", b.time > a.time, &b.time);
    compare("CPU time of a call", b.cpu > a.cpu, &b.cpu);
    compare("log of a call", b.log_bytes > a.log_bytes, &b.log_bytes);
    compare("output of a call", b.output_bytes > a.output_bytes, &b.output_bytes);
    compare("requests of a call", b.requests > a.requests, &b.requests);
    if !now.hosts.is_empty() && !within(&b.traffic, &a.traffic) {
        found.push(format!("traffic in total: {}", plain(&b.traffic)));
    }
    for (host, was) in &before.hosts {
        // Every pattern that covers a request counts: as long as this one is still there, it holds for all below it.
        let same = now.hosts.iter().find(|(pattern, _)| pattern == host).map(|(_, traffic)| *traffic);
        let below = now.hosts.iter().filter(|(pattern, _)| covers(host, pattern)).map(|(_, traffic)| *traffic);
        let Some(is) = same.or_else(|| below.reduce(|sum, one| sum.plus(&one))) else { continue };
        if !within(&is, was) {
            found.push(format!("traffic with {host}: {}", plain(&is)));
        }
    }
    found
}

struct InForce<'a> {
    limits: Limits,
    hosts: Vec<(&'a HostPattern, Traffic)>,
}

impl<'a> InForce<'a> {
    /// As `power.rs` works them out, with nothing narrowed.
    fn of(manifest: &'a Manifest) -> Self {
        let (asked, nothing, ceiling) = (&manifest.limits, Asked::default(), Limits::CEILING);
        let traffic = |host: &HostPattern| {
            Traffic::within(&Scope::Host(host.clone()), asked, &nothing, &Traffic::DEFAULT, &ceiling.traffic)
        };
        let hosts: Vec<_> = manifest.hosts().into_iter().map(|host| (host, traffic(host))).collect();
        let total = hosts.iter().map(|(_, traffic)| *traffic).reduce(|a, b| a.plus(&b)).unwrap_or(Traffic::DEFAULT);
        Self { limits: Limits::within(asked, &nothing, &total, &ceiling), hosts }
    }
}

fn within(new: &Traffic, old: &Traffic) -> bool {
    new.requests <= old.requests
        && new.bytes_out <= old.bytes_out
        && new.bytes_in <= old.bytes_in
        && new.concurrency <= old.concurrency
}

fn plain(traffic: &Traffic) -> String {
    let Traffic { requests, bytes_out, bytes_in, concurrency } = traffic;
    let size = |size: &Size| size.to_string();
    format!("{requests} requests, {} out and {} in a minute, {concurrency} at once", size(bytes_out), size(bytes_in))
}

// === impl Difference ===

impl Difference {
    /// Whether nothing is more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is more, in the order in which the manifest has it.
    pub fn items(&self) -> &[More] {
        &self.0
    }

    /// The same with one more thing.
    #[must_use]
    pub fn and(mut self, kind: Kind, text: String) -> Self {
        self.0.push(More { kind, text });
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|more| writeln!(f, "  more: {}", more.text))
    }
}

#[cfg(test)]
mod tests;
