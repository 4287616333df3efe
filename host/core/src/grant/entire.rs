//! Writes the grant of all that a manifest asks, for an operator to read, narrow and agree to.
//!
//! *Why*: whoever is told that a thing takes their own word should not have to find out how it is said.
//! *Invariant*: it fits the manifest, but for what only the operator can say: that is empty, and refused until they say it.
//! *Never*: used as a grant by itself. Callers: services → here.

use super::{EgressGrant, Grant, LogGrant, WasiGrant};
use crate::address::{self, Surroundings};
use crate::egress::{Host, HostPattern, Scheme};
use crate::limits::Asked;
use crate::manifest::{EgressRequest, Manifest};
use crate::secret::{SecretGrant, SecretRequest};

/// Where `localhost` leads (RFC 6761).
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

impl Grant {
    /// Everything that `manifest` asks, with what takes an operator's own word.
    pub fn entire(manifest: &Manifest) -> Self {
        let mut egress: Vec<EgressGrant> = Vec::new();
        for opening in manifest.egress.iter().map(opening) {
            // Two tables for one destination are opened together.
            if !egress.contains(&opening) {
                egress.push(opening);
            }
        }
        let in_the_clear = |asked: &SecretRequest| {
            let mut plain = manifest.egress.iter().filter(|request| request.rule.scheme == Scheme::Http);
            plain.any(|request| asked.hosts.contains(&request.rule.host))
        };
        let secrets = manifest.secrets.iter();
        Self {
            release: None,
            egress,
            secrets: secrets
                .map(|(name, asked)| (name.clone(), SecretGrant::entire(asked, in_the_clear(asked))))
                .collect(),
            log: manifest.log.then_some(LogGrant {}),
            limits: Asked::default(),
            wasi: WasiGrant { inert: manifest.inert.clone() },
        }
    }

    /// As TOML.
    pub fn written(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

fn opening(asked: &EgressRequest) -> EgressGrant {
    let rule = &asked.rule;
    let addresses = match &rule.host {
        HostPattern::Exactly(Host::Address(address)) if address::is_special(*address) => {
            address::destinations(*address, &Surroundings::default()).into_iter().map(ipnet::IpNet::from).collect()
        }
        HostPattern::Exactly(Host::Name(name)) if name.as_str() == "localhost" => {
            LOOPBACK.iter().filter_map(|block| block.parse().ok()).collect()
        }
        _ => Vec::new(),
    };
    EgressGrant {
        host: rule.host.clone(),
        scheme: rule.scheme,
        port: std::num::NonZeroU16::new(rule.port).filter(|port| port.get() != rule.scheme.default_port()),
        methods: None,
        paths: None,
        addresses,
        public_suffix: rule.host.spans_public_suffix(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n";

    fn written(text: &str) -> (Manifest, String) {
        let manifest = Manifest::parse(&format!("{HEAD}{text}")).unwrap();
        let written = Grant::entire(&manifest).written();
        (manifest, written)
    }

    #[test]
    fn what_takes_an_operators_own_word_is_said_and_fits() {
        let check = |text: &str, parts: &[&str]| {
            let (manifest, written) = written(text);
            assert!(Grant::parse(&written, &manifest).is_ok(), "{written}");
            for part in parts {
                assert!(written.contains(part), "{part}: {written}");
            }
        };
        let plain = "[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8080\npaths = [\"/\"]\nwhy = \"w\"\n";
        check(plain, &["scheme = \"http\"", "port = 8080", "\"127.0.0.0/8\", \"::1/128\""]);
        check("[[egress]]\nhost = \"127.0.0.1\"\npaths = [\"/\"]\nwhy = \"w\"\n", &["127.0.0.1/32"]);
        check("[[egress]]\nhost = \"*.github.io\"\npaths = [\"/\"]\nwhy = \"w\"\n", &["public-suffix = true"]);
        let secret = "[secrets.token]\nwhy = \"w\"\nhosts = [\"localhost\"]\nplaces = [\"header:x-token\", \"form:token\"]\n[log]\n";
        check(&format!("{plain}{secret}"), &["plain-http = true", "body-places = true", "[log]"]);
    }

    #[test]
    fn what_only_the_operator_can_say_is_refused_until_they_say_it() {
        let (manifest, written) = written(
            "[[egress]]\nhost = \"s3.example.com\"\npaths = [\"/\"]\nwhy = \"w\"\n[secrets.key]\nwhy = \"w\"\nhosts = [\"s3.example.com\"]\n\
             inject = { aws-sigv4 = { region = \"*\", service = \"s3\" } }\n",
        );
        assert!(written.contains("region = \"\"") && !written.contains("service"), "{written}");
        assert!(Grant::parse(&written, &manifest).is_err());
        assert!(Grant::parse(&written.replace("region = \"\"", "region = \"eu\""), &manifest).is_ok());
    }
}
