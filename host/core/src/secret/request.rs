//! The `[secrets.NAME]` table of a manifest.

use serde::Deserialize;

use super::key::{Algorithm, Encoding, Hash, JwtTerms, Key, Term};
use super::place::Place;
use super::way::{Injection, Way};
use crate::egress::{HostPattern, PathPattern};
use crate::limits::Time;
use crate::text::Line;

/// Most places of one secret: more cannot be read by the person who consents.
const MOST_PLACES: usize = 16;
/// A token's life where the manifest does not say, and at most: what strict services accept, and what the others do.
const LIFETIME: (u64, u64) = (5 * 60, 60 * 60);

/// One `[secrets.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRequest {
    /// Why, in the author's words.
    pub why: Line,
    /// The only hosts it may ever go to.
    pub hosts: Vec<HostPattern>,
    /// The only paths there; every path that the rules permit when absent.
    pub paths: Option<Vec<PathPattern>>,
    /// How it gets into a request.
    pub way: Way,
    /// What it is.
    pub key: Key,
}

impl SecretRequest {
    /// What it says in signatures, or leaves to others to say.
    pub fn terms(&self) -> Vec<&Term> {
        let signed = match &self.key {
            Key::Jwt { terms, .. } => terms.all().into_iter().filter_map(|(_, term)| term).collect(),
            Key::Value | Key::Hmac { .. } => Vec::new(),
        };
        let scope: &[&Term] = match &self.way {
            Way::Inject(Injection::AwsSigV4(scope)) => &[&scope.region, &scope.service],
            _ => &[],
        };
        signed.into_iter().chain(scope.iter().copied()).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    why: Line,
    hosts: Vec<HostPattern>,
    paths: Option<Vec<PathPattern>>,
    inject: Option<Injection>,
    places: Option<Vec<Place>>,
    sign: Option<RawSign>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSign {
    hmac: Option<Hash>,
    encoding: Option<Encoding>,
    jwt: Option<Algorithm>,
    kid: Option<Term>,
    iss: Option<Term>,
    sub: Option<Term>,
    aud: Option<Term>,
    scope: Option<Term>,
    lifetime: Option<Time>,
}

impl TryFrom<Raw> for SecretRequest {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { why, hosts, paths, inject, places, sign } = raw;
        let way = match (inject, places) {
            (Some(injection), None) => Way::Inject(injection),
            (None, Some(places)) if (1..=MOST_PLACES).contains(&places.len()) => Way::Places(places),
            (None, Some(_)) => return Err(format!("a secret has 1 to {MOST_PLACES} places")),
            _ => return Err("a secret has either `inject`, where the host adds it, or `places`, where the connector puts its placeholder".to_owned()),
        };
        let key = sign.map_or(Ok(Key::Value), Key::try_from)?;
        match (&way, &key) {
            (Way::Inject(Injection::AwsSigV4(_)), Key::Hmac { .. } | Key::Jwt { .. }) => {
                Err("`aws-sigv4` signs by itself, without `sign`".to_owned())
            }
            (Way::Inject(_), Key::Hmac { .. }) => {
                Err("an HMAC needs the connector's message, so its result goes to `places`".to_owned())
            }
            _ => Ok(Self { why, hosts, paths, way, key }),
        }
    }
}

impl TryFrom<RawSign> for Key {
    type Error = String;

    fn try_from(raw: RawSign) -> Result<Self, String> {
        let RawSign { hmac, encoding, jwt, kid, iss, sub, aud, scope, lifetime } = raw;
        let terms = JwtTerms { kid, iss, sub, aud, scope };
        let says = terms.all().iter().any(|(_, term)| term.is_some()) || lifetime.is_some();
        match (hmac, jwt) {
            (Some(hash), None) if !says => Ok(Self::Hmac { hash, encoding: encoding.unwrap_or_default() }),
            (None, Some(algorithm)) if encoding.is_none() => {
                let (usual, longest) = (Time::seconds(LIFETIME.0), Time::seconds(LIFETIME.1));
                Ok(Self::Jwt { algorithm, terms, lifetime: lifetime.unwrap_or(usual).min(longest) })
            }
            _ => Err("write either `hmac` (with `encoding`) or `jwt` (with `kid`, `iss`, `sub`, `aud`, `scope` and `lifetime`)".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRequest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}
