//! Reads a grant: what an operator agreed to, always within what a manifest asks.
//!
//! Why: consent must be able to give less than was asked, and alone can open what no manifest may: plain http, private
//! addresses, wildcards below a public suffix, secrets without TLS or in bodies. Invariants: 1. what is absent is not granted;
//! 2. an opening that the manifest does not ask for is an error, since it would read as power that does not exist.
//! Callers: CLI, services → here → `secret`, `power`.

mod entire;

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::egress::{HostPattern, Method, PathPattern, Scheme};
use crate::id::{Digest, SecretName};
use crate::limits::Asked;
use crate::manifest::{EgressRequest, Manifest};
use crate::secret::SecretGrant;
use crate::text::{self, Problem};

/// What was agreed to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The release that this grant is for; without it, whichever release it is used with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// Openings for egress.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressGrant>,
    /// Secrets that may be used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, SecretGrant>,
    /// Present when `wasi:logging` may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogGrant>,
    /// Narrower limits.
    #[serde(default, skip_serializing_if = "Asked::is_empty")]
    pub limits: Asked,
    /// Present when the manifest's inert interfaces may be linked.
    #[serde(default, skip_serializing_if = "WasiGrant::is_empty")]
    pub wasi: WasiGrant,
}

/// One `[[egress]]` table of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EgressGrant {
    /// Hosts, as asked or narrower.
    pub host: HostPattern,
    /// https unless plain http is opened here.
    #[serde(default)]
    pub scheme: Scheme,
    /// The scheme's own unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<std::num::NonZeroU16>,
    /// Methods; as asked when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<Method>>,
    /// Paths; as asked when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<PathPattern>>,
    /// Blocks of private or otherwise special addresses that may be dialled for this opening.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Whether the host may be a pattern directly below a public suffix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public_suffix: bool,
}

impl EgressGrant {
    /// The port, written or meant.
    pub fn port(&self) -> u16 {
        self.port.map_or(self.scheme.default_port(), Into::into)
    }
}

/// The `[log]` table of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogGrant {}

/// The `[wasi]` table of a grant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WasiGrant {
    /// Interfaces that may be linked inert.
    #[serde(default)]
    pub inert: Vec<String>,
}

impl WasiGrant {
    fn is_empty(&self) -> bool {
        self.inert.is_empty()
    }
}

/// Something in a grant that the manifest does not ask for, or leave to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
pub struct Misfit {
    /// Where: keys and list positions, from the outermost inward.
    pub path: Vec<String>,
    /// One sentence without a full stop.
    pub message: String,
}

impl Misfit {
    fn at<T>(path: &[&str], message: String) -> Result<T, Self> {
        Err(Self { path: path.iter().map(ToString::to_string).collect(), message })
    }
}

impl Grant {
    /// Reads a grant for `manifest`. The first thing wrong is reported, with its line.
    pub fn parse(text: &str, manifest: &Manifest) -> Result<Self, Problem> {
        let grant: Self = text::parse(text)?;
        grant.fits(manifest).map_err(|Misfit { path, message }| {
            text::problem(text, &path.iter().map(String::as_str).collect::<Vec<_>>(), message)
        })?;
        Ok(grant)
    }

    /// Whether it opens nothing that `manifest` does not ask for. The first thing wrong is reported, with its place.
    pub fn fits(&self, manifest: &Manifest) -> Result<(), Misfit> {
        for (index, opening) in self.egress.iter().enumerate() {
            let index = index.to_string();
            if opening.host.spans_public_suffix() != opening.public_suffix {
                let host = &opening.host;
                let (key, message) = if opening.public_suffix {
                    ("public-suffix", format!("`{host}` covers no public suffix, so there is nothing to agree to"))
                } else {
                    let why = "covers a public suffix, below which anyone can register a name";
                    ("host", format!("`{host}` {why}: to agree to that, add `public-suffix = true`"))
                };
                return Misfit::at(&["egress", &index, key], message);
            }
            if !manifest.egress.iter().any(|asked| lies_within(opening, asked)) {
                let message = format!(
                    "the manifest asks for nothing that covers {}://{}:{} with these methods and paths; a grant can only narrow",
                    opening.scheme,
                    opening.host,
                    opening.port(),
                );
                return Misfit::at(&["egress", &index, "host"], message);
            }
        }
        if let Some(name) = self.secrets.keys().find(|name| !manifest.secrets.contains_key(*name)) {
            let message = format!("the manifest asks for no secret `{name}`");
            return Misfit::at(&["secrets", name.as_str()], message);
        }
        for (name, granted) in &self.secrets {
            if let Some(asked) = manifest.secrets.get(name)
                && let Err((key, message)) = granted.within(asked)
            {
                return Misfit::at(&["secrets", name.as_str(), key], message);
            }
        }
        if let Some((key, scope)) = self.limits.stray_scope(&manifest.hosts()) {
            let message = format!(
                "the manifest has no [[egress]] table for `{scope}`; write a host as it stands there, or `*` for all together"
            );
            return Misfit::at(&["limits", key], message);
        }
        if self.log.is_some() && !manifest.log {
            return Misfit::at(&["log"], "the manifest does not ask for [log]".to_owned());
        }
        if let Some(name) = self.wasi.inert.iter().find(|name| !manifest.inert.contains(name)) {
            return Misfit::at(&["wasi", "inert"], format!("the manifest does not list `{name}` as inert"));
        }
        Ok(())
    }

    /// What of it still means something for `manifest`, of another release: without secrets, limits and interfaces that are no
    /// longer asked for, and without openings where nothing is. It never opens more than it did.
    ///
    /// # Errors
    /// What does not fit any more, and cannot be left out without changing what was meant.
    pub fn carried(&self, manifest: &Manifest, release: Digest) -> Result<Self, Misfit> {
        let mut grant = self.clone();
        grant.release = Some(release);
        grant.egress.retain(|opening| {
            let meets = |asked: &EgressRequest| {
                let rule = &asked.rule;
                let near = |host: &HostPattern| *host == opening.host || opening.host.covers_all_of(host);
                same_destination(opening, rule)
                    || (rule.scheme == opening.scheme && rule.port == opening.port() && near(&rule.host))
            };
            manifest.egress.iter().any(meets)
        });
        grant.secrets.retain(|name, _| manifest.secrets.contains_key(name));
        grant.limits = grant.limits.about(&manifest.hosts());
        grant.log = grant.log.filter(|_| manifest.log);
        grant.wasi.inert.retain(|name| manifest.inert.contains(name));
        grant.fits(manifest)?;
        Ok(grant)
    }

    /// Whether nothing can be done with it: a secret alone goes nowhere.
    pub fn opens_nothing(&self) -> bool {
        self.egress.is_empty() && self.log.is_none() && self.wasi.is_empty()
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
fn lies_within(opening: &EgressGrant, asked: &EgressRequest) -> bool {
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
    fn a_grant_reads_back_what_it_writes() {
        for text in [
            "",
            "release = \"blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\"",
            "[[egress]]\nhost = \"a.example.com\"\nmethods = [\"GET\"]\npaths = [\"/v1/x\", \"/v1/*/**\"]",
            "[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8080\naddresses = [\"127.0.0.0/8\", \"::1/128\"]",
            "[[egress]]\nhost = \"*.github.io\"\npublic-suffix = true",
            "[[egress]]\nhost = \"{sub}.zendesk.com\"\n[secrets.token]\nplain-http = true",
            "[limits]\nmemory = \"12345678\"\ntime = \"1m 3s\"\nrequests-per-minute = { \"*.example.com\" = 5, \"*\" = 9 }\nbytes-in-per-minute = { \"*\" = \"3MiB\" }",
        ] {
            let grant = Grant::parse(text, &manifest()).unwrap();
            let written = toml::to_string(&grant).unwrap();
            assert_eq!(Grant::parse(&written, &manifest()).unwrap(), grant, "{text}\n{written}");
        }
    }

    #[test]
    fn a_grant_that_is_carried_to_another_release_keeps_what_is_still_asked_for() {
        let less = "[connector]\nname = \"acme/x\"\nversion = \"1.1.0\"\n[[egress]]\nhost = \"a.example.com\"\npaths = [\"/v1/**\"]\nwhy = \"w\"\n";
        let less = Manifest::parse(less).unwrap();
        let release = Digest::of(&[b"next"]);
        let carried = |text: &str| Grant::parse(text, &manifest()).unwrap().carried(&less, release);
        let kept = carried(
            "[[egress]]\nhost = \"a.example.com\"\n[[egress]]\nhost = \"acme.zendesk.com\"\n[secrets.token]\n[limits]\nconcurrency = { \"{sub}.zendesk.com\" = 5, \"*\" = 9 }",
        );
        let kept = kept.unwrap();
        assert_eq!((kept.release, kept.egress.len(), kept.secrets.len()), (Some(release), 1, 0));
        assert_eq!(kept.limits.concurrency.len(), 1);
        // What was agreed to was wider than what is asked for now: somebody has to say what is meant.
        assert!(carried("[[egress]]\nhost = \"*.example.com\"").is_err());
        // Nor may a limit be forgotten, because its host is written otherwise now.
        assert!(carried("[limits]\nconcurrency = { \"*.example.com\" = 5 }").is_err());
    }

    #[test]
    fn granting_the_whole_request_leaves_out_plain_http() {
        let grant = Grant::whole(&manifest());
        assert_eq!(grant.egress.len(), 2);
        assert!(grant.egress.iter().all(|opening| opening.scheme == Scheme::Https && opening.addresses.is_empty()));
        assert!(!grant.secrets.values().any(|secret| secret.plain_http));
    }
}
