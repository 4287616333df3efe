//! Reads `connector.toml`: what a connector's author asks for.
//!
//! Why: the manifest is the contract that people consent to, so it is strict. Invariants: 1. an unknown key is an error
//! with its line; 2. what is absent is not asked; 3. a secret is bound to hosts and paths that the egress rules name.
//! Callers: CLI, services → here → `egress`, `limits`, `secret`, `text`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::egress::{HostPattern, Method, PathPattern, Rule, Scheme};
use crate::id::{ConnectorName, SecretName};
use crate::limits::{Asked, Size};
use crate::secret::{Injection, Place, SecretRequest, Term, Way};
use crate::text::{self, Line, Problem};

/// Most egress rules in one manifest: more cannot be read by the person who consents.
pub const MOST_RULES: usize = 64;
/// Most secrets in one manifest, for the same reason.
pub const MOST_SECRETS: usize = 32;

/// A connector's request.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Identity and description.
    pub connector: Connector,
    /// Requests that the connector wants to make.
    pub egress: Vec<EgressRequest>,
    /// Secrets that it wants used for it.
    pub secrets: BTreeMap<SecretName, SecretRequest>,
    /// Whether it wants `wasi:logging`.
    pub log: bool,
    /// Limits that it asks for.
    pub limits: Asked,
    /// File name of its configuration's JSON Schema.
    pub schema: Option<String>,
    /// Interfaces that its language runtime imports without using.
    pub inert: Vec<String>,
}

/// The `[connector]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connector {
    /// `publisher/name`.
    pub name: ConnectorName,
    /// Semantic version.
    pub version: semver::Version,
    /// One line for people.
    #[serde(default)]
    pub description: Line,
    /// SPDX expression.
    #[serde(default)]
    pub license: Line,
}

/// One `[[egress]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRequest {
    /// What is asked.
    pub rule: Rule,
    /// Why, in the author's words.
    pub why: Line,
    /// Most bytes of one request's body.
    pub request_bytes: Size,
    /// Most bytes of one response's body.
    pub response_bytes: Size,
}

impl Manifest {
    /// Reads a manifest. The first thing wrong is reported, with its line.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let raw: Raw = text::parse(text)?;
        let problem = |path: &[&str], message: &str| text::problem(text, path, message);
        if raw.egress.len() > MOST_RULES {
            return Err(problem(&["egress"], &format!("more than {MOST_RULES} egress rules")));
        }
        if raw.secrets.len() > MOST_SECRETS {
            return Err(problem(&["secrets"], &format!("more than {MOST_SECRETS} secrets")));
        }
        for (name, secret) in &raw.secrets {
            for (index, host) in secret.hosts.iter().enumerate() {
                if !raw.egress.iter().any(|rule| rule.host.covers_all_of(host) || rule.host == *host) {
                    let index = index.to_string();
                    let path = ["secrets", name.as_str(), "hosts", &index];
                    return Err(problem(
                        &path,
                        &format!("no [[egress]] table asks for `{host}`, so the secret could not go there"),
                    ));
                }
            }
            if secret.hosts.is_empty() {
                return Err(problem(
                    &["secrets", name.as_str(), "hosts"],
                    "a secret without hosts can go nowhere: name the hosts it belongs to",
                ));
            }
            for (index, path) in secret.paths.iter().flatten().enumerate() {
                let reached = |rule: &RawEgress| {
                    rule.paths.iter().any(|asked| asked.covers_all_of(path) || path.covers_all_of(asked))
                        && secret.hosts.iter().any(|host| host.meets(&rule.host))
                };
                if !raw.egress.iter().any(reached) {
                    let message = format!(
                        "no [[egress]] table for these hosts asks for `{path}`, so the secret could not go there"
                    );
                    return Err(problem(&["secrets", name.as_str(), "paths", &index.to_string()], &message));
                }
            }
        }
        if let Some((first, second)) = rivals(&raw.secrets) {
            let message = format!("`{first}` goes into the same place at the same host; only one of them could");
            return Err(problem(&["secrets", second.as_str()], &message));
        }
        let hosts = distinct(raw.egress.iter().map(|egress| &egress.host));
        if let Some((key, scope)) = raw.limits.stray_scope(&hosts) {
            let message = format!(
                "no [[egress]] table asks for `{scope}`; write a host as it stands there, or `*` for all together"
            );
            return Err(problem(&["limits", key], &message));
        }
        if let Some(schema) = &raw.config.schema
            && (schema.contains(['/', '\\']) || schema.starts_with('.') || schema.is_empty())
        {
            return Err(problem(
                &["config", "schema"],
                "the schema is a file beside the manifest: write its name alone",
            ));
        }
        Ok(Self {
            connector: raw.connector,
            egress: raw.egress.into_iter().map(EgressRequest::from).collect(),
            secrets: raw.secrets,
            log: raw.log.is_some(),
            limits: raw.limits,
            schema: raw.config.schema,
            inert: raw.wasi.inert,
        })
    }
}

impl Manifest {
    /// Keys of the configuration that say where requests go, or what is signed: who changes one of these values re-aims what was
    /// granted.
    pub fn references(&self) -> BTreeSet<&str> {
        let hosts = self.egress.iter().map(|egress| &egress.rule.host);
        let hosts = hosts.chain(self.secrets.values().flat_map(|secret| &secret.hosts));
        let labels = hosts.filter_map(|host| match host {
            HostPattern::Configured { key, .. } => Some(key.as_str()),
            _ => None,
        });
        let terms = self.secrets.values().flat_map(SecretRequest::terms).filter_map(|term| match term {
            Term::Configured(key) => Some(key.as_str()),
            _ => None,
        });
        labels.chain(terms).collect()
    }

    /// The hosts that it asks for, each once, in the order in which they stand. Each has a budget of its own.
    pub fn hosts(&self) -> Vec<&HostPattern> {
        distinct(self.egress.iter().map(|egress| &egress.rule.host))
    }
}

fn distinct<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Vec<&'a HostPattern> {
    let mut distinct = Vec::new();
    for host in hosts {
        if !distinct.contains(&host) {
            distinct.push(host);
        }
    }
    distinct
}

/// Two secrets of which the host adds at least one, and that would go into one place of one request.
fn rivals(secrets: &BTreeMap<SecretName, SecretRequest>) -> Option<(&SecretName, &SecretName)> {
    let pairs = secrets
        .iter()
        .enumerate()
        .flat_map(|(at, first)| secrets.iter().skip(at + 1).map(move |second| (first, second)));
    pairs
        .filter(|((_, a), (_, b))| {
            a.hosts.iter().any(|x| b.hosts.iter().any(|y| x.meets(y))) && (collide(a, b) || collide(b, a))
        })
        .map(|((first, _), (second, _))| (first, second))
        .next()
}

/// Whether the host writes `a` where `b` could stand too.
fn collide(a: &SecretRequest, b: &SecretRequest) -> bool {
    let Way::Inject(injection) = &a.way else {
        return false;
    };
    let in_header = |name: &http::HeaderName| injection.headers().contains(name);
    let at_place = |place: &Place| match place {
        Place::Header(header) => in_header(header.as_http()),
        Place::User | Place::Password => in_header(&http::header::AUTHORIZATION),
        Place::Query(name) => injection.claims_parameter(name.as_str()),
        Place::Form(_) | Place::Json(_) => false,
    };
    match &b.way {
        Way::Inject(other @ Injection::Query(name)) => {
            injection.claims_parameter(name.as_str()) || other.headers().iter().any(in_header)
        }
        Way::Inject(other) => other.headers().iter().any(in_header),
        Way::Places(places) => places.iter().any(at_place),
    }
}

// What serde reads, before the parts are checked against one another.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    connector: Connector,
    #[serde(default)]
    egress: Vec<RawEgress>,
    #[serde(default)]
    secrets: BTreeMap<SecretName, SecretRequest>,
    log: Option<RawLog>,
    #[serde(default)]
    limits: Asked,
    #[serde(default)]
    config: RawConfig,
    #[serde(default)]
    wasi: RawWasi,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawEgress {
    host: HostPattern,
    #[serde(default)]
    scheme: Scheme,
    port: Option<std::num::NonZeroU16>,
    #[serde(default = "Method::safe")]
    methods: Vec<Method>,
    paths: Vec<PathPattern>,
    why: Line,
    #[serde(default = "default_body")]
    request_bytes: Size,
    #[serde(default = "default_body")]
    response_bytes: Size,
}

impl From<RawEgress> for EgressRequest {
    fn from(raw: RawEgress) -> Self {
        Self {
            rule: Rule {
                scheme: raw.scheme,
                host: raw.host,
                port: raw.port.map_or(raw.scheme.default_port(), Into::into),
                methods: raw.methods,
                paths: raw.paths,
            },
            why: raw.why,
            request_bytes: raw.request_bytes,
            response_bytes: raw.response_bytes,
        }
    }
}

/// A body as large as a connector's memory can usually hold twice over.
fn default_body() -> Size {
    Size::mib(16)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    schema: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWasi {
    #[serde(default)]
    inert: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n";

    fn refused(rest: &str) -> Problem {
        Manifest::parse(&format!("{HEAD}{rest}")).unwrap_err()
    }

    #[test]
    fn the_smallest_manifest_asks_for_nothing() {
        let manifest = Manifest::parse(HEAD).unwrap();
        assert!(
            manifest.egress.is_empty() && manifest.secrets.is_empty() && manifest.inert.is_empty() && !manifest.log
        );
    }

    #[test]
    fn https_443_get_and_head_go_without_saying() {
        let manifest =
            Manifest::parse(&format!("{HEAD}[[egress]]\nhost = \"a.com\"\npaths = [\"/\"]\nwhy = \"w\"\n")).unwrap();
        let rule = &manifest.egress[0].rule;
        assert_eq!((rule.scheme, rule.port, &rule.methods), (Scheme::Https, 443, &Method::safe()));
    }

    #[test]
    fn an_unknown_key_has_a_line_and_a_suggestion() {
        let problem = refused("[[egress]]\nhots = \"a.com\"\n");
        assert_eq!(problem.line, 5);
        assert!(problem.message.contains("did you mean `host`?"), "{problem}");
    }

    #[test]
    fn each_bad_value_is_refused_at_its_line() {
        for (rest, line, part) in [
            ("[[egress]]\nhost = \"*.com*\"\n", 5, "not a host pattern"),
            ("[limits]\nrequests-per-minute = { \"a.com\" = 1 }\n", 5, "no [[egress]] table asks for `a.com`"),
            ("[limits]\nconcurrency = { \"*\" = 0 }\n", 5, "a whole number"),
            ("[limits]\nbytes-in-per-minute = { \"a b\" = \"1MiB\" }\n", 5, "not a host name"),
            ("[[egress]]\nhost = \"a.com\"\nmethods = [\"CONNECT\"]\n", 6, "CONNECT"),
            ("[[egress]]\nhost = \"a.com\"\npaths = [\"/a*\"]\n", 6, "path pattern"),
            ("[[egress]]\nhost = \"a.com\"\nscheme = \"ftp\"\n", 6, "ftp"),
            ("[[egress]]\nhost = \"a.com\"\nport = 0\n", 6, "nonzero"),
            ("[[egress]]\nhost = \"a.com\"\nwhy = \"w\"\n", 4, "paths"),
            ("[secrets.T]\n", 4, "is not a name"),
            ("[limits]\nmemory = \"lots\"\n", 5, "is not a size"),
            ("[limits]\nmemroy = \"1MiB\"\n", 5, "did you mean `memory`?"),
            ("[config]\nschema = \"../x.json\"\n", 5, "beside the manifest"),
            ("[log]\nlevel = 1\n", 5, "unknown"),
            ("[[egress]]\nhost = \"a.com\"\nwhy = \"\\u001b[2J\"\n", 6, "control and direction"),
        ] {
            let problem = refused(rest);
            assert!(problem.message.contains(part), "{rest}: {problem}");
            assert_eq!(problem.line, line, "{rest}: {problem}");
        }
    }

    #[test]
    fn a_secret_goes_only_to_hosts_that_egress_asks_for() {
        let secret = |hosts: &str| {
            refused(&format!(
                "[[egress]]\nhost = \"a.com\"\npaths = [\"/\"]\nwhy = \"w\"\n[secrets.token]\nwhy = \"w\"\ninject = {{ header = \"authorization\", format = \"Bearer {{}}\" }}\nhosts = [{hosts}]\n"
            ))
        };
        let problem = secret("\"a.com\", \"evil.com\"");
        assert!(problem.message.contains("`evil.com`") && problem.line == 11, "{problem}");
        assert!(secret("").message.contains("can go nowhere"));
    }

    #[test]
    fn what_of_the_configuration_aims_requests_and_signatures_is_known() {
        let manifest = Manifest::parse(&format!(
            "{HEAD}[[egress]]\nhost = \"s3.{{region}}.example.com\"\npaths = [\"/\"]\nwhy = \"w\"\n[secrets.key]\nwhy = \"w\"\n\
             hosts = [\"s3.{{region}}.example.com\"]\nplaces = [\"header:x-token\"]\n\
             sign = {{ jwt = \"RS256\", iss = \"{{client}}\", aud = \"fixed\", sub = \"*\" }}\n[secrets.aws]\nwhy = \"w\"\n\
             hosts = [\"s3.{{region}}.example.com\"]\npaths = [\"/\"]\ninject = {{ aws-sigv4 = {{ region = \"{{zone}}\", service = \"s3\" }} }}\n"
        ));
        assert_eq!(manifest.unwrap().references(), BTreeSet::from(["region", "client", "zone"]));
        assert!(Manifest::parse(HEAD).unwrap().references().is_empty());
    }

    #[test]
    fn two_secrets_cannot_go_into_one_header_of_one_request() {
        let secrets = |hosts: &str, header: &str| {
            let egress = "[[egress]]\nhost = \"*.a.com\"\npaths = [\"/\"]\nwhy = \"w\"\n";
            let secret = |name: &str, hosts: &str, header: &str| {
                format!("[secrets.{name}]\nwhy = \"w\"\nhosts = [\"{hosts}\"]\ninject = {{ header = \"{header}\" }}\n")
            };
            Manifest::parse(&format!(
                "{HEAD}{egress}{}{}",
                secret("one", "*.a.com", "x-key"),
                secret("two", hosts, header)
            ))
        };
        assert!(secrets("b.a.com", "X-Key").unwrap_err().message.contains("same place"));
        assert!(secrets("b.a.com", "x-other").is_ok());
    }

    #[test]
    fn a_secret_cannot_be_injected_where_it_would_change_the_request() {
        for inject in [
            "{ header = \"host\" }",
            "{ header = \"content-length\" }",
            "{ header = \"accept-encoding\" }",
            "{ header = \"x_forwarded_host\" }",
            "{ header = \"x y\" }",
            "{ header = \"x\", format = \"no hole\" }",
            "{ header = \"x\", format = \"{}{}\" }",
            "{ header = \"x\", format = \"a\\r\\nb {}\" }",
        ] {
            assert_eq!(refused(&format!("[secrets.token]\ninject = {inject}\n")).line, 5, "{inject}");
        }
    }
}
