//! Says what a release asks for, and what of it was granted, in plain words: what a person reads before they consent.
//!
//! *Why one room*: the API, the command line and whoever reviews an upgrade must see the same words for the same thing.
//! *Invariant*: whatever a manifest asks is in it, with the author's reason beside it. *Never*: values of secrets or of the
//! configuration.
//! Callers: `connections`, `releases`, `cli/check.rs` → here → `core::Power`.

use std::fmt::Write as _;

use bulkhead_core::egress::{Host, HostPattern, Scheme};
use bulkhead_core::id::{Digest, SecretName};
use bulkhead_core::limits::Traffic;
use bulkhead_core::manifest::EgressRequest;
use bulkhead_core::secret::{Injection, Key, SecretGrant, SecretRequest, Way};
use bulkhead_core::{Grant, Manifest, Power};
use serde::Serialize;

/// A request for consent.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// `publisher/name`.
    pub connector: String,
    /// Its version.
    pub version: String,
    /// One line, in the author's words.
    pub description: String,
    /// The release, which is what is consented to.
    pub release: Digest,
    /// What it can be called for.
    pub roles: Vec<String>,
    /// Requests that it wants to send.
    pub egress: Vec<Egress>,
    /// Secrets that it wants used.
    pub secrets: Vec<Secret>,
    /// Whether it wants to write log lines.
    pub log: bool,
    /// Whether it may.
    pub log_granted: bool,
    /// Interfaces that it wants linked inert.
    pub inert: Vec<String>,
    /// Those that are.
    pub inert_granted: Vec<String>,
    /// How much one call may use.
    pub limits: String,
    /// How much may pass between it and its hosts, a line for those with the same amounts.
    pub traffic: Vec<String>,
    /// Places of its configuration that sound like credentials, which it would read.
    pub dubious: Vec<String>,
    /// Whether anything was granted at all.
    pub granted: bool,
    /// What takes the operator's own word, so that it is not part of granting all.
    pub own_word: Vec<String>,
    /// A grant of all of it, with what takes the operator's own word, in TOML. What only they can say is empty there.
    pub entire: String,
}

/// What takes the operator's own word of what `manifest` asks.
pub(crate) fn own_word(manifest: &Manifest) -> Vec<String> {
    let egress = manifest.egress.iter().filter_map(|asked| {
        let Egress { destination, needs, .. } = Egress::new(asked, Vec::new());
        needs.map(|needs| format!("{destination}, {needs}"))
    });
    let secrets = Grant::entire(manifest).secrets.into_iter().filter_map(|(name, granted)| {
        let words = granted.own_words();
        (!words.is_empty()).then(|| format!("the secret {name}: {}", words.join(", ")))
    });
    let mut all: Vec<String> = egress.chain(secrets).collect();
    all.dedup();
    all
}

/// A grant of all that `manifest` asks, with what takes the operator's own word, for this release.
pub(crate) fn entire(manifest: &Manifest, release: Digest) -> String {
    Grant { release: Some(release), ..Grant::entire(manifest) }.written()
}

/// Requests that it wants to send to one destination.
#[derive(Debug, Clone, Serialize)]
pub struct Egress {
    /// Methods, destination and paths.
    pub asks: String,
    /// Why, in the author's words.
    pub why: String,
    /// What takes the operator's own word, so that it is not part of granting all.
    pub needs: Option<&'static str>,
    /// What was granted of it.
    pub granted: Vec<String>,
    /// The destination alone.
    #[serde(skip)]
    destination: String,
}

/// A secret that it wants used.
#[derive(Debug, Clone, Serialize)]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// The only hosts that it may go to.
    pub hosts: Vec<String>,
    /// The only paths there; all that may be sent to when empty.
    pub paths: Vec<String>,
    /// How it gets into requests.
    pub way: String,
    /// Why, in the author's words.
    pub why: String,
    /// Whether it may be used.
    pub granted: bool,
    /// Whether it may travel without TLS.
    pub plain_http: bool,
}

impl Request {
    /// What `manifest`, of the release `digest`, asks for, and what of it is in `power`. Without a grant, nothing was granted.
    pub fn new(manifest: &Manifest, digest: Digest, roles: Vec<String>, grant: Option<&Grant>, power: &Power) -> Self {
        let connector = &manifest.connector;
        let egress = manifest.egress.iter().enumerate().map(|(index, asked)| Egress::new(asked, power.granted(index)));
        let secrets = manifest.secrets.iter().map(|(name, asked)| {
            let granted = grant.and_then(|grant| grant.secrets.get(name));
            Secret {
                name: name.clone(),
                hosts: asked.hosts.iter().map(ToString::to_string).collect(),
                paths: asked.paths.iter().flatten().map(ToString::to_string).collect(),
                way: plain_way(asked, granted, grant.is_some()),
                why: asked.why.to_string(),
                granted: granted.is_some(),
                plain_http: granted.is_some_and(|granted| granted.plain_http),
            }
        });
        Self {
            connector: connector.name.to_string(),
            version: connector.version.to_string(),
            description: connector.description.to_string(),
            release: digest,
            roles,
            egress: egress.collect(),
            secrets: secrets.collect(),
            log: manifest.log,
            log_granted: power.has_log(),
            inert: manifest.inert.clone(),
            inert_granted: power.inert().to_vec(),
            limits: plain_limits(power),
            traffic: plain_traffic(manifest, grant.is_some(), power),
            dubious: Vec::new(),
            granted: grant.is_some(),
            own_word: own_word(manifest),
            entire: entire(manifest, digest),
        }
    }

    /// The same, with places of its configuration that sound like credentials.
    #[must_use]
    pub fn with_dubious(self, dubious: &[String]) -> Self {
        Self { dubious: dubious.to_vec(), ..self }
    }

    /// In plain words, over several lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.granted {
            self.write_granted(&mut text)
        } else {
            self.write_asked(&mut text)
        }
        let _ = writeln!(text, "limits: {}", self.limits);
        for line in &self.traffic {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    fn write_asked(&self, text: &mut String) {
        let _ = writeln!(text, "asks to send:{}", if self.egress.is_empty() { " nothing" } else { "" });
        for egress in &self.egress {
            let needs = egress.needs.map(|needs| format!(" ({needs})")).unwrap_or_default();
            let _ = writeln!(text, "  {}{needs}\n    because \"{}\"", egress.asks, egress.why);
        }
        for secret in &self.secrets {
            let Secret { name, way, why, .. } = secret;
            let _ = writeln!(
                text,
                "asks for the secret {name}, for {} only, {way}\n    because \"{why}\"",
                secret.whereto()
            );
        }
        if self.log {
            let _ = writeln!(text, "asks to log");
        }
        for interface in &self.inert {
            let _ = writeln!(text, "asks to have linked inert: {interface}");
        }
    }

    fn write_granted(&self, text: &mut String) {
        let _ = writeln!(text, "may send:{}", if self.egress.is_empty() { " nothing" } else { "" });
        for egress in &self.egress {
            for opening in &egress.granted {
                let _ = writeln!(text, "  granted: {opening}");
            }
            if egress.granted.is_empty() {
                let _ = writeln!(text, "  NOT GRANTED: {}", egress.destination);
            }
            let _ = writeln!(text, "    because \"{}\"", egress.why);
        }
        for secret in &self.secrets {
            let granted = match secret {
                Secret { granted: true, plain_http: true, .. } => "granted, even without TLS",
                Secret { granted: true, .. } => "granted",
                Secret { granted: false, .. } => "NOT GRANTED",
            };
            let Secret { name, way, why, .. } = secret;
            let _ =
                writeln!(text, "secret {name}: {granted}, for {} only, {way}\n    because \"{why}\"", secret.whereto());
        }
        if self.log {
            let _ = writeln!(text, "may log: {}", if self.log_granted { "granted" } else { "NOT GRANTED" });
        }
        for interface in &self.inert_granted {
            let _ = writeln!(text, "linked inert: {interface}");
        }
    }
}

impl Egress {
    fn new(asked: &EgressRequest, granted: Vec<String>) -> Self {
        let rule = &asked.rule;
        let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
        let methods = list(&mut rule.methods.iter().map(ToString::to_string));
        let paths = list(&mut rule.paths.iter().map(ToString::to_string));
        let destination = format!("{}://{}:{}", rule.scheme, rule.host, rule.port);
        let needs = match (&rule.scheme, &rule.host) {
            (Scheme::Http, _) => Some("without TLS, which takes your own word"),
            (_, HostPattern::Exactly(Host::Address(_))) => Some("an address written out, which takes your own word"),
            (_, host) if host.spans_public_suffix() => {
                Some("names that ANYONE can register, which takes your own word")
            }
            _ => None,
        };
        let why = asked.why.to_string();
        Self { asks: format!("{methods} {destination} {paths}"), why, needs, granted, destination }
    }
}

impl Secret {
    fn whereto(&self) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| format!(" {path}")).collect();
        format!("{}{}", self.hosts.join(", "), paths.concat())
    }
}

/// How a secret gets into a request, and what is made of it. Where nothing was `decided` yet, nothing is said to be withheld.
fn plain_way(secret: &SecretRequest, granted: Option<&SecretGrant>, decided: bool) -> String {
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
                true if decided => format!("{place} (NOT GRANTED: body-places)"),
                true => format!("{place} (takes body-places in the grant)"),
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

fn plain_limits(power: &Power) -> String {
    let limits = power.limits();
    format!(
        "memory {}, time {}, cpu {}, log {}, output {}, {} requests a call",
        limits.memory, limits.time, limits.cpu, limits.log_bytes, limits.output_bytes, limits.requests
    )
}

/// The limits in force for hosts, of which those with the same amounts share a line.
fn plain_traffic(manifest: &Manifest, decided: bool, power: &Power) -> Vec<String> {
    let limits = power.limits();
    let mut lines: Vec<(Vec<&str>, &Traffic)> = Vec::new();
    for (name, traffic) in power.hosts().iter().filter(|(name, _)| !decided || is_granted(name, manifest, power)) {
        match lines.iter_mut().find(|(_, known)| *known == traffic) {
            Some((names, _)) => names.push(name),
            None => lines.push((vec![name], traffic)),
        }
    }
    match lines.as_slice() {
        [] => Vec::new(),
        [(names, traffic)] if names.len() == 1 && **traffic == limits.traffic => {
            vec![format!("{}, and in total: {}", names.concat(), amounts(traffic))]
        }
        _ => {
            let each = lines.iter().map(|(names, traffic)| {
                let each = if names.len() == 1 { "" } else { ", each" };
                format!("{}{each}: {}", names.join(", "), amounts(traffic))
            });
            each.chain([format!("in total: {}", amounts(&limits.traffic))]).collect()
        }
    }
}

fn is_granted(host: &str, manifest: &Manifest, power: &Power) -> bool {
    let mut asked = manifest.egress.iter().enumerate();
    asked.any(|(index, request)| request.rule.host.to_string() == host && !power.granted(index).is_empty())
}

fn amounts(traffic: &Traffic) -> String {
    let Traffic { requests, bytes_out, bytes_in, concurrency } = traffic;
    let plural = if requests.get() == 1 { "" } else { "s" };
    format!("{requests} request{plural}, {bytes_out} out and {bytes_in} in a minute, {concurrency} at once")
}

#[cfg(test)]
mod tests {
    use bulkhead_core::limits::Limits;

    use super::*;

    const MANIFEST: &str = r#"
        [connector]
        name = "acme/crm"
        version = "1.0.0"
        [[egress]]
        host = "api.acme.com"
        methods = ["GET", "POST"]
        paths = ["/v1/**"]
        why = "Reads contacts"
        [[egress]]
        scheme = "http"
        host = "localhost"
        paths = ["/"]
        why = "Talks to a neighbour"
        [secrets.token]
        why = "An API token"
        hosts = ["api.acme.com"]
        places = ["header:authorization", "form:token"]
        [log]
        "#;

    fn request(grant: Option<&str>) -> Request {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let grant = grant.map(|text| Grant::parse(text, &manifest).unwrap());
        let (nothing, digest) = (Grant::default(), Digest::of(&[]));
        let granted = grant.as_ref().unwrap_or(&nothing);
        let power = Power::new(&manifest, granted, digest, |_| None, &Limits::CEILING).unwrap();
        Request::new(&manifest, digest, vec!["actions".to_owned()], grant.as_ref(), &power)
    }

    #[test]
    fn whatever_is_asked_stands_there_with_its_reason_and_with_what_takes_ones_own_word() {
        let text = request(None).text();
        for part in [
            "  GET POST https://api.acme.com:443 /v1/**\n    because \"Reads contacts\"",
            "http://localhost:80 / (without TLS, which takes your own word)",
            "asks for the secret token, for api.acme.com only, where the connector puts its placeholder: header:authorization, form:token (takes body-places in the grant)\n    because \"An API token\"",
            "asks to log",
            "limits: memory 64.0 MiB",
            "  api.acme.com, localhost, each: 600 requests",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("NOT GRANTED"), "{text}");
    }

    #[test]
    fn what_was_granted_is_told_from_what_was_not() {
        let text = request(Some("[[egress]]\nhost = \"api.acme.com\"\nmethods = [\"GET\"]\n[secrets.token]")).text();
        for part in [
            "  granted: GET https://api.acme.com:443 /v1/**",
            "  NOT GRANTED: http://localhost:80",
            "secret token: granted, for api.acme.com only",
            "form:token (NOT GRANTED: body-places)",
            "may log: NOT GRANTED",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
