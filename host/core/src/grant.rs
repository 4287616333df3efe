//! Reads a grant: what an operator agreed to, always within what a manifest asks.
//!
//! Why: consent must be able to give less than was asked, and alone can open what no manifest may: plain http, private
//! addresses, wildcards below a public suffix, secrets without TLS or in bodies. Invariants: 1. what is absent is not granted;
//! 2. an opening that the manifest does not ask for is an error, since it would read as power that does not exist.
//! Callers: CLI, services → here → `secret`, `power`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;

use crate::egress::{HostPattern, Method, PathPattern, Scheme};
use crate::id::{Digest, SecretName};
use crate::limits::Asked;
use crate::manifest::Manifest;
use crate::secret::SecretGrant;
use crate::text::{self, Problem};

/// What was agreed to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The release that this grant is for; without it, whichever release it is used with.
    pub release: Option<Digest>,
    /// Openings for egress.
    #[serde(default)]
    pub egress: Vec<EgressGrant>,
    /// Secrets that may be used.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, SecretGrant>,
    /// Present when `wasi:logging` may be used.
    pub log: Option<LogGrant>,
    /// Narrower limits.
    #[serde(default)]
    pub limits: Asked,
    /// Present when the manifest's inert interfaces may be linked.
    #[serde(default)]
    pub wasi: WasiGrant,
}

/// One `[[egress]]` table of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EgressGrant {
    /// Hosts, as asked or narrower.
    pub host: HostPattern,
    /// https unless plain http is opened here.
    #[serde(default)]
    pub scheme: Scheme,
    /// The scheme's own unless written.
    pub port: Option<std::num::NonZeroU16>,
    /// Methods; as asked when absent.
    pub methods: Option<Vec<Method>>,
    /// Paths; as asked when absent.
    pub paths: Option<Vec<PathPattern>>,
    /// Blocks of private or otherwise special addresses that may be dialled for this opening.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Whether the host may be a pattern directly below a public suffix.
    #[serde(default)]
    pub public_suffix: bool,
}

impl EgressGrant {
    /// The port, written or meant.
    pub fn port(&self) -> u16 {
        self.port.map_or(self.scheme.default_port(), Into::into)
    }
}

/// The `[log]` table of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogGrant {}

/// The `[wasi]` table of a grant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WasiGrant {
    /// Interfaces that may be linked inert.
    #[serde(default)]
    pub inert: Vec<String>,
}

impl Grant {
    /// Reads a grant for `manifest`. The first thing wrong is reported, with its line.
    pub fn parse(text: &str, manifest: &Manifest) -> Result<Self, Problem> {
        let grant: Self = text::parse(text)?;
        for (index, opening) in grant.egress.iter().enumerate() {
            if opening.host.spans_public_suffix() != opening.public_suffix {
                let host = &opening.host;
                let (key, message) = if opening.public_suffix {
                    ("public-suffix", format!("`{host}` covers no public suffix, so there is nothing to agree to"))
                } else {
                    let why = "covers a public suffix, below which anyone can register a name";
                    ("host", format!("`{host}` {why}: to agree to that, add `public-suffix = true`"))
                };
                return Err(text::problem(text, &["egress", &index.to_string(), key], message));
            }
            if !manifest.egress.iter().any(|asked| lies_within(opening, asked)) {
                let position = index.to_string();
                let message = format!(
                    "the manifest asks for nothing that covers {}://{}:{} with these methods and paths; a grant can only narrow",
                    opening.scheme,
                    opening.host,
                    opening.port(),
                );
                return Err(text::problem(text, &["egress", &position, "host"], message));
            }
        }
        if let Some(name) = grant.secrets.keys().find(|name| !manifest.secrets.contains_key(*name)) {
            let message = format!("the manifest asks for no secret `{name}`");
            return Err(text::problem(text, &["secrets", name.as_str()], message));
        }
        for (name, granted) in &grant.secrets {
            if let Some(asked) = manifest.secrets.get(name)
                && let Err((key, message)) = granted.within(asked)
            {
                return Err(text::problem(text, &["secrets", name.as_str(), key], message));
            }
        }
        if let Some((key, scope)) = grant.limits.stray_scope(&manifest.hosts()) {
            let message = format!(
                "the manifest has no [[egress]] table for `{scope}`; write a host as it stands there, or `*` for all together"
            );
            return Err(text::problem(text, &["limits", key], message));
        }
        if grant.log.is_some() && !manifest.log {
            return Err(text::problem(text, &["log"], "the manifest does not ask for [log]"));
        }
        if let Some(name) = grant.wasi.inert.iter().find(|name| !manifest.inert.contains(name)) {
            let message = format!("the manifest does not list `{name}` as inert");
            return Err(text::problem(text, &["wasi", "inert"], message));
        }
        Ok(grant)
    }

    /// Everything that `manifest` asks, but for what takes an operator's own word: plain http, addresses written out,
    /// private addresses, patterns below a public suffix and secrets without TLS. What local verbs use when no grant is named.
    pub fn whole(manifest: &Manifest) -> Self {
        let egress = manifest
            .egress
            .iter()
            .map(|asked| &asked.rule)
            .filter(|rule| rule.scheme == Scheme::Https && !is_literal(&rule.host) && !rule.host.spans_public_suffix())
            .map(|rule| EgressGrant {
                host: rule.host.clone(),
                scheme: rule.scheme,
                port: std::num::NonZeroU16::new(rule.port),
                methods: None,
                paths: None,
                addresses: Vec::new(),
                public_suffix: false,
            })
            .collect();
        Self {
            release: None,
            egress,
            secrets: manifest.secrets.keys().map(|name| (name.clone(), SecretGrant::default())).collect(),
            log: manifest.log.then_some(LogGrant {}),
            limits: Asked::default(),
            wasi: WasiGrant { inert: manifest.inert.clone() },
        }
    }
}

/// Whether `opening` opens no more than `asked` asks.
fn lies_within(opening: &EgressGrant, asked: &crate::manifest::EgressRequest) -> bool {
    let rule = &asked.rule;
    let methods = opening.methods.iter().flatten().all(|method| rule.methods.contains(method));
    let paths = opening.paths.iter().flatten().all(|path| rule.paths.iter().any(|asked| asked.covers_all_of(path)));
    same_destination(opening, rule) && methods && paths
}

/// Whether `opening` and `rule` speak of the same scheme and port, and `opening` of the same hosts or fewer.
pub(crate) fn same_destination(opening: &EgressGrant, rule: &crate::egress::Rule) -> bool {
    rule.scheme == opening.scheme
        && rule.port == opening.port()
        && (rule.host == opening.host || rule.host.covers_all_of(&opening.host) || fills_in(&rule.host, &opening.host))
}

/// Whether `granted` is `asked` with its configured label filled in.
fn fills_in(asked: &HostPattern, granted: &HostPattern) -> bool {
    let HostPattern::Configured { before, parent, .. } = asked else {
        return false;
    };
    let HostPattern::Exactly(crate::egress::Host::Name(name)) = granted else {
        return false;
    };
    let behind = name.as_str().strip_prefix(before.as_str()).and_then(|rest| rest.split_once('.'));
    behind.is_some_and(|(_, rest)| rest == parent.as_str())
}

fn is_literal(host: &HostPattern) -> bool {
    matches!(host, HostPattern::Exactly(crate::egress::Host::Address(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest::parse(
            r#"
            [connector]
            name = "acme/x"
            version = "1.0.0"
            [[egress]]
            host = "*.example.com"
            methods = ["GET", "POST"]
            paths = ["/v1/**"]
            why = "w"
            [[egress]]
            scheme = "http"
            host = "localhost"
            port = 8080
            paths = ["/"]
            why = "w"
            [[egress]]
            host = "{sub}.zendesk.com"
            paths = ["/"]
            why = "w"
            [[egress]]
            host = "*.github.io"
            paths = ["/"]
            why = "w"
            [secrets.token]
            why = "w"
            hosts = ["*.example.com"]
            inject = { header = "x-key", format = "{}" }
            "#,
        )
        .unwrap()
    }

    fn check(text: &str, expected: Result<(), &str>) {
        match (Grant::parse(text, &manifest()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(problem), Err(part)) => assert!(problem.to_string().contains(part), "{text}: {problem}"),
            (other, expected) => panic!("{text}: {other:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_grant_can_give_less_than_was_asked() {
        check("[[egress]]\nhost = \"a.example.com\"\nmethods = [\"GET\"]\npaths = [\"/v1/x\"]", Ok(()));
        check(
            "[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8080\naddresses = [\"127.0.0.0/8\"]",
            Ok(()),
        );
        check("[[egress]]\nhost = \"acme.zendesk.com\"", Ok(()));
        check("[secrets.token]\nplain-http = true", Ok(()));
        check("[[egress]]\nhost = \"*.github.io\"\npublic-suffix = true", Ok(()));
        check("[[egress]]\nhost = \"acme.github.io\"", Ok(()));
        check("[limits]\nrequests-per-minute = { \"*.example.com\" = 5, \"*\" = 9 }", Ok(()));
        check("", Ok(()));
    }

    #[test]
    fn a_grant_cannot_give_more() {
        for (text, part) in [
            ("[[egress]]\nhost = \"evil.com\"", "line 2"),
            ("[[egress]]\nhost = \"*.com\"", "public suffix"),
            ("[[egress]]\nhost = \"*.github.io\"", "public-suffix = true"),
            ("[[egress]]\nhost = \"a.example.com\"\npublic-suffix = true", "nothing to agree to"),
            ("[limits]\nconcurrency = { \"a.example.com\" = 5 }", "no [[egress]] table for `a.example.com`"),
            ("[[egress]]\nhost = \"a.example.com\"\nmethods = [\"DELETE\"]", "can only narrow"),
            ("[[egress]]\nhost = \"a.example.com\"\npaths = [\"/**\"]", "can only narrow"),
            ("[[egress]]\nhost = \"a.example.com\"\nport = 8443", "can only narrow"),
            ("[[egress]]\nscheme = \"http\"\nhost = \"a.example.com\"", "can only narrow"),
            ("[[egress]]\nhost = \"a.b.zendesk.com\"", "can only narrow"),
            ("[secrets.other]", "no secret `other`"),
            ("[log]", "does not ask for [log]"),
            ("[wasi]\ninert = [\"wasi:sockets/tcp\"]", "as inert"),
            ("[[egres]]", "did you mean `egress`?"),
        ] {
            check(text, Err(part));
        }
    }

    #[test]
    fn granting_the_whole_request_leaves_out_plain_http() {
        let grant = Grant::whole(&manifest());
        assert_eq!(grant.egress.len(), 2);
        assert!(grant.egress.iter().all(|opening| opening.scheme == Scheme::Https && opening.addresses.is_empty()));
        assert!(!grant.secrets.values().any(|secret| secret.plain_http));
    }
}
