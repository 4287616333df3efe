//! Works out a connection's effective power: request ∩ grant, with the configuration filled in.
//!
//! Why: power is computed once, when a connection is loaded, so that every decision reads the same value.
//! Invariants: 1. nothing is in a [`Power`] that both manifest and grant do not name; 2. it never changes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;

use crate::denial::Remedy;
use crate::egress::{HostPattern, PathPattern, Rule, Target};
use crate::grant::{Grant, same_destination};
use crate::id::{ConnectorName, Digest, SecretName};
use crate::limits::{Asked, LARGEST_BODY, Limits, Scope, Size, Traffic};
use crate::manifest::Manifest;
use crate::secret::{Binding, Injection, Key, Place, SecretGrant, SecretRequest, Term, Way, is_plain};

/// Why no power could be worked out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the grant is for release {granted}, not for {actual}: consent to this release first")]
    AnotherRelease { granted: Digest, actual: Digest },
    #[error("`{host}` needs the configuration's `{key}` to be one DNS label: 1 to 63 letters, digits and hyphens")]
    Configuration { host: String, key: String },
    #[error("the grant has to say `{term}` under [secrets.{secret}], because the manifest leaves it to the operator")]
    Unsaid { secret: SecretName, term: &'static str },
    #[error(
        "`{term}` of the secret `{secret}` needs the configuration's `{key}` to be a text of printable ASCII characters"
    )]
    Unconfigured { secret: SecretName, term: &'static str, key: String },
    #[error(
        "`{term}` of the secret `{secret}` has to be a name such as `eu-central-1`: small letters, digits and hyphens"
    )]
    NotAName { secret: SecretName, term: &'static str },
}

/// What a connection may do.
#[derive(Debug, Clone)]
pub struct Power {
    /// What both sides agreed on for egress.
    pub(crate) openings: Vec<Opening>,
    /// Everything that was asked, so that a denial can tell "not asked" from "not granted".
    pub(crate) asked: Vec<Rule>,
    /// Secrets that may be used.
    pub(crate) secrets: BTreeMap<SecretName, Arc<SecretPower>>,
    log: bool,
    inert: Vec<String>,
    limits: Limits,
    /// What would allow a call more requests.
    more_requests: Option<Remedy>,
    hosts: Vec<(Arc<str>, Traffic)>,
}

/// One agreed way out.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// Which of the manifest's requests it answers, from 0.
    pub asked: usize,
    /// What was asked, narrowed to the grant's hosts and methods.
    pub rule: Rule,
    /// The grant's paths; as asked when absent.
    pub paths: Option<Vec<PathPattern>>,
    /// How the paths of the rule are written, in the same order.
    pub templates: Vec<Arc<str>>,
    /// Which of [`Power::hosts`] it belongs to.
    pub host: usize,
    pub addresses: Vec<IpNet>,
    pub public_suffix: bool,
    pub request_bytes: Size,
    pub response_bytes: Size,
}

/// One agreed use of a secret.
#[derive(Debug)]
pub struct SecretPower {
    /// Its name.
    pub name: SecretName,
    /// Whose manifest asks for it.
    pub connector: ConnectorName,
    /// The hosts that it may go to.
    pub hosts: Vec<HostPattern>,
    /// The paths there; all that are permitted when absent.
    pub paths: Option<Vec<PathPattern>>,
    /// How it gets into a request. A place in a body is here only if the operator agreed to it.
    pub way: Way<String>,
    /// Whether places in bodies were asked for, and the operator did not agree to them.
    pub body_places_withheld: bool,
    /// What it is.
    pub key: Key<String>,
    /// Whether it may travel without TLS.
    pub plain_http: bool,
    /// Whether it may have fewer than eight bytes.
    pub short: bool,
    /// Whether AWS's signature may leave out the body.
    pub unsigned_payload: bool,
}

impl Power {
    /// The power of a connection to the release `digest`. `lookup` gives the configuration's text under a key;
    /// `ceiling` is the operator's.
    pub fn new<'a>(
        manifest: &Manifest,
        grant: &Grant,
        digest: Digest,
        lookup: impl Fn(&str) -> Option<&'a str>,
        ceiling: &Limits,
    ) -> Result<Self, Error> {
        if let Some(granted) = grant.release
            && granted != digest
        {
            return Err(Error::AnotherRelease { granted, actual: digest });
        }
        let resolve = |host: &HostPattern| {
            host.resolved(&lookup).map_err(|_| Error::Configuration {
                host: host.to_string(),
                key: match host {
                    HostPattern::Configured { key, .. } => key.clone(),
                    _ => String::new(),
                },
            })
        };
        let distinct = manifest.hosts();
        let mut openings = Vec::new();
        let mut asked = Vec::new();
        for (index, request) in manifest.egress.iter().enumerate() {
            for opening in grant.egress.iter().filter(|opening| same_destination(opening, &request.rule)) {
                let requested = resolve(&request.rule.host)?;
                let granted = resolve(&opening.host)?;
                let unagreed = opening.host.spans_public_suffix() && !opening.public_suffix;
                if unagreed || !requested.covers_all_of(&granted) {
                    continue;
                }
                let methods = match &opening.methods {
                    Some(methods) => {
                        request.rule.methods.iter().filter(|method| methods.contains(method)).cloned().collect()
                    }
                    None => request.rule.methods.clone(),
                };
                openings.push(Opening {
                    asked: index,
                    rule: Rule { host: granted, methods, ..request.rule.clone() },
                    paths: opening.paths.clone(),
                    templates: request.rule.paths.iter().map(|path| path.to_string().into()).collect(),
                    host: distinct.iter().position(|host| **host == request.rule.host).unwrap_or_default(),
                    public_suffix: opening.public_suffix,
                    addresses: opening.addresses.clone(),
                    request_bytes: request.request_bytes.min(LARGEST_BODY),
                    response_bytes: request.response_bytes.min(LARGEST_BODY),
                });
            }
            // A label that cannot be filled in is asked for, but covers nothing.
            let host = resolve(&request.rule.host).unwrap_or_else(|_| request.rule.host.clone());
            asked.push(Rule { host, ..request.rule.clone() });
        }
        let mut secrets = BTreeMap::new();
        for (name, request) in &manifest.secrets {
            if let Some(granted) = grant.secrets.get(name) {
                let hosts = request.hosts.iter().map(&resolve).collect::<Result<_, _>>()?;
                let asked = (name, request);
                let power = SecretPower::new(&manifest.connector.name, asked, granted, hosts, &lookup)?;
                secrets.insert(name.clone(), Arc::new(power));
            }
        }
        let limit = |host: &&HostPattern| {
            let scope = Scope::Host((*host).clone());
            Traffic::within(&scope, &manifest.limits, &grant.limits, &Traffic::DEFAULT, &ceiling.traffic)
        };
        let hosts: Vec<_> = distinct.iter().map(|host| (host.to_string().into(), limit(host))).collect();
        let traffic = hosts.iter().map(|(_, traffic)| *traffic).reduce(|a, b| a.plus(&b)).unwrap_or(Traffic::DEFAULT);
        let limits = Limits::within(&manifest.limits, &grant.limits, &traffic, ceiling);
        let unnarrowed = Limits::within(&manifest.limits, &Asked::default(), &traffic, ceiling);
        Ok(Self {
            openings,
            asked,
            secrets,
            log: manifest.log && grant.log.is_some(),
            inert: manifest.inert.iter().filter(|name| grant.wasi.inert.contains(name)).cloned().collect(),
            limits,
            more_requests: more_requests(limits.requests, unnarrowed.requests, ceiling.requests),
            hosts,
        })
    }

    /// What was granted of the manifest's request number `asked`, in plain words; nothing when nothing was.
    pub fn granted(&self, asked: usize) -> Vec<String> {
        self.openings.iter().filter(|opening| opening.asked == asked).map(Opening::describe).collect()
    }

    /// Whether any request could be permitted, so that `wasi:http` is linked.
    pub fn has_egress(&self) -> bool {
        !self.openings.is_empty()
    }

    /// Whether `wasi:logging` is linked.
    pub fn has_log(&self) -> bool {
        self.log
    }

    /// Interfaces that are linked although a call in them ends the invocation.
    pub fn inert(&self) -> &[String] {
        &self.inert
    }

    /// Secrets that may be used.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<SecretPower>> {
        self.secrets.values()
    }

    /// What may be done with the secret `name`; nothing when it was not granted.
    pub fn secret(&self, name: &SecretName) -> Option<&Arc<SecretPower>> {
        self.secrets.get(name)
    }

    /// Whether a connector is given placeholders of values, so that `bulkhead:credentials/store` is linked.
    pub fn has_placeholders(&self) -> bool {
        self.secrets().any(|secret| matches!(secret.way, Way::Places(_)) && secret.key == Key::Value)
    }

    /// Whether it may have something signed, so that `bulkhead:credentials/signer` is linked.
    pub fn has_signer(&self) -> bool {
        self.secrets().any(|secret| matches!(secret.way, Way::Places(_)) && secret.key != Key::Value)
    }

    /// The manifest's hosts, as they stand there, and what may pass between the connection and each.
    pub fn hosts(&self) -> &[(Arc<str>, Traffic)] {
        &self.hosts
    }

    /// Limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The lines that would allow a call twice the requests, where any could.
    pub(crate) fn more_requests(&self) -> Option<Remedy> {
        self.more_requests.clone()
    }
}

// === impl SecretPower ===

impl SecretPower {
    fn new<'a>(
        connector: &ConnectorName,
        (name, request): (&SecretName, &SecretRequest),
        granted: &SecretGrant,
        hosts: Vec<HostPattern>,
        lookup: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, Error> {
        let say = |term: &'static str, asked: &Term| match asked {
            Term::Fixed(all) => Ok(granted.says(term).unwrap_or(all).to_owned()),
            Term::Configured(key) => lookup(key)
                .filter(|text| is_plain(text))
                .map(str::to_owned)
                .ok_or_else(|| Error::Unconfigured { secret: name.clone(), term, key: key.clone() }),
            Term::Granted => {
                granted.says(term).map(str::to_owned).ok_or_else(|| Error::Unsaid { secret: name.clone(), term })
            }
        };
        let say_name = |term: &'static str, asked: &Term| {
            let said = say(term, asked)?;
            let plain = said.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if plain && said.len() <= 63 { Ok(said) } else { Err(Error::NotAName { secret: name.clone(), term }) }
        };
        let way = match &request.way {
            Way::Inject(Injection::AwsSigV4(scope)) => Way::Inject(Injection::AwsSigV4(scope.said(say_name)?)),
            Way::Inject(Injection::Header { header, format }) => {
                Way::Inject(Injection::Header { header: header.clone(), format: format.clone() })
            }
            Way::Inject(Injection::Query(field)) => Way::Inject(Injection::Query(field.clone())),
            Way::Inject(Injection::Basic(format)) => Way::Inject(Injection::Basic(format.clone())),
            Way::Places(places) => {
                let agreed = |place: &&Place| granted.body_places || !place.is_in_body();
                Way::Places(places.iter().filter(agreed).cloned().collect())
            }
        };
        let key = match &request.key {
            Key::Value => Key::Value,
            Key::Hmac { hash, encoding } => Key::Hmac { hash: *hash, encoding: *encoding },
            Key::Jwt { algorithm, terms, lifetime } => Key::Jwt {
                algorithm: *algorithm,
                terms: terms.said(say)?,
                lifetime: granted.lifetime.map_or(*lifetime, |granted| granted.min(*lifetime)),
            },
        };
        Ok(Self {
            name: name.clone(),
            connector: connector.clone(),
            hosts,
            paths: request.paths.clone(),
            way,
            body_places_withheld: !granted.body_places
                && matches!(&request.way, Way::Places(places) if places.iter().any(Place::is_in_body)),
            key,
            plain_http: granted.plain_http,
            short: granted.short,
            unsigned_payload: granted.unsigned_payload,
        })
    }

    /// Whether it belongs to requests to this target.
    pub(crate) fn covers(&self, target: &Target) -> bool {
        let path = match &self.paths {
            Some(paths) => paths.iter().any(|pattern| pattern.covers(target.path())),
            None => true,
        };
        path && self.hosts.iter().any(|pattern| pattern.covers(target.host()))
    }

    /// Whether it is a key for AWS's signature, made of an identifier, the secret key and perhaps a token.
    pub fn is_aws_key(&self) -> bool {
        matches!(self.way, Way::Inject(Injection::AwsSigV4(_)))
    }

    /// Its paths and the target's, each in quotes, where the host is right and the path is not among them.
    pub(crate) fn paths_with(&self, target: &Target) -> Option<Vec<String>> {
        let host = self.hosts.iter().any(|pattern| pattern.covers(target.host()));
        let paths = self.paths.as_ref().filter(|_| host && !self.covers(target))?;
        let asked = paths.iter().map(|path| format!("\"{path}\""));
        Some(asked.chain([format!("\"{}\"", target.path())]).collect())
    }

    /// What a stored value is sealed together with: the connector, hosts and places, and what may be signed. Change one of these, and the
    /// value has to be entered again.
    pub fn binding(&self) -> Binding {
        let places = match &self.way {
            Way::Inject(injection) => vec![injection.place()],
            Way::Places(places) => places.iter().map(ToString::to_string).collect(),
        };
        let paths = self.paths.iter().flatten().map(|path| format!("path:{path}"));
        let places = places.into_iter().chain(paths).chain(self.key.purpose());
        let places = places.chain([format!("connector:{}", self.connector)]);
        Binding::new(self.hosts.iter().map(ToString::to_string), places)
    }
}

/// Whoever set the limit can raise it: the grant up to what is asked, the manifest up to the ceiling.
fn more_requests(limit: NonZeroU32, asked: NonZeroU32, ceiling: NonZeroU32) -> Option<Remedy> {
    let lines = |most: NonZeroU32| format!("[limits]\nrequests = {}", limit.saturating_add(limit.get()).min(most));
    if limit < asked {
        return Some(Remedy::grant(lines(asked)));
    }
    (limit < ceiling).then(|| Remedy::manifest(lines(ceiling)))
}

impl Opening {
    fn describe(&self) -> String {
        let list = |items: &mut dyn Iterator<Item = String>, none: &str| {
            let joined = items.collect::<Vec<_>>().join(" ");
            if joined.is_empty() { none.to_owned() } else { joined }
        };
        let rule = &self.rule;
        let methods = list(&mut rule.methods.iter().map(ToString::to_string), "no method");
        // Both lists have to cover a path.
        let asked = list(&mut rule.paths.iter().map(ToString::to_string), "no path");
        let paths = match &self.paths {
            Some(paths) => list(&mut paths.iter().map(ToString::to_string), "no path"),
            None => asked,
        };
        let addresses = list(&mut self.addresses.iter().map(ToString::to_string), "");
        let addresses =
            if addresses.is_empty() { addresses } else { format!(", also at the private addresses {addresses}") };
        let suffix = if self.public_suffix { ", under names that ANYONE can register" } else { "" };
        format!("{methods} {}://{}:{} {paths}{suffix}{addresses}", rule.scheme, rule.host, rule.port)
    }
}
