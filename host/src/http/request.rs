//! What a release asks for, in JSON and in plain words: what a person reads before they consent.

use bulkhead_services::consent;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request for consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Request {
    /// All of it, in plain words, over several lines.
    pub text: String,
    /// `publisher/name`.
    pub connector: String,
    /// Its version.
    pub version: String,
    /// One line, in the author's words.
    pub description: String,
    /// The release, which is what is consented to.
    pub release: String,
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
    /// How much may pass between it and its hosts.
    pub traffic: Vec<String>,
    /// Places of its configuration that sound like credentials, which it would read.
    pub dubious: Vec<String>,
    /// Whether anything was granted at all.
    pub granted: bool,
    /// What takes the operator's own word, so that granting all is refused, or leaves it out.
    pub own_word: Vec<String>,
    /// A grant of all of it, with what takes the operator's own word, in TOML. What only they can say is empty there.
    pub entire: String,
}

/// Requests that it wants to send to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Egress {
    /// Methods, destination and paths.
    pub asks: String,
    /// Why, in the author's words.
    pub why: String,
    /// What takes the operator's own word, so that it is not part of granting all.
    pub needs: Option<String>,
    /// What was granted of it.
    pub granted: Vec<String>,
}

/// A secret that it wants used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SecretRequest)]
pub struct Secret {
    /// Its name.
    pub name: String,
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

impl From<consent::Request> for Request {
    fn from(request: consent::Request) -> Self {
        let egress = |egress: consent::Egress| Egress {
            asks: egress.asks,
            why: egress.why,
            needs: egress.needs.map(str::to_owned),
            granted: egress.granted,
        };
        let secret = |secret: consent::Secret| Secret {
            name: secret.name.to_string(),
            hosts: secret.hosts,
            paths: secret.paths,
            way: secret.way,
            why: secret.why,
            granted: secret.granted,
            plain_http: secret.plain_http,
        };
        Self {
            text: request.text(),
            connector: request.connector,
            version: request.version,
            description: request.description,
            release: request.release.to_string(),
            roles: request.roles,
            egress: request.egress.into_iter().map(egress).collect(),
            secrets: request.secrets.into_iter().map(secret).collect(),
            log: request.log,
            log_granted: request.log_granted,
            inert: request.inert,
            inert_granted: request.inert_granted,
            limits: request.limits,
            traffic: request.traffic,
            dubious: request.dubious,
            granted: request.granted,
            own_word: request.own_word,
            entire: request.entire,
        }
    }
}
