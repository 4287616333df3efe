//! An issuer's public keys (RFC 7517): fetched, kept for a while, and what signatures are checked with.
//!
//! *Invariants*: 1. a key confirms only algorithms of its own type, and only the one it names if it does; 2. shared secrets, private keys and
//! keys for encryption are passed over; 3. a key that is not known has them fetched again, at most once in [`PAUSE`]; 4. keys are
//! good for [`LONGEST_KEPT`] without being fetched again: one that an issuer withdrew dies with them.
//! Callers: `bearer/mod.rs` → here → `fetch.rs`.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::fetch::{Fetch, Source, Unfetched};
use super::issuer::{self, Algorithm, Issuer};
use super::strict;
use super::token::Signed;

/// After how many seconds they are fetched again.
const FRESH: u64 = 10 * 60;
/// Seconds for which they are good where that fails. Tokens of most issuers live for an hour: longer would help nobody.
const LONGEST_KEPT: u64 = 60 * 60;
/// Seconds between two fetches, whatever tokens come.
const PAUSE: u64 = 60;
/// Most keys of one issuer. Those of the large providers have about ten.
const MOST_KEYS: usize = 64;
/// Where an issuer's configuration is (OpenID Connect Discovery §4).
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// The keys of one issuer.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

struct Key {
    kid: Option<String>,
    kind: Kind,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// One issuer's keys, and when they were fetched.
#[derive(Default)]
pub(super) struct Ring {
    state: RwLock<State>,
    /// One fetches, the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    keys: Arc<Keys>,
    /// When these were fetched, in seconds since 1970.
    fetched: Option<u64>,
    /// When that was tried.
    tried: Option<u64>,
}

impl Ring {
    /// Keys that are good, with one of the name `kid` if there is one.
    pub(super) async fn keys(
        &self,
        kid: Option<&str>,
        now: u64,
        fetch: impl AsyncFnOnce() -> Result<Keys, Unfetched>,
    ) -> Result<Arc<Keys>, Unfetched> {
        if let Some(keys) = self.state().good(kid, now) {
            return Ok(keys);
        }
        let _turn = self.fetching.lock().await;
        // Whoever was before may have fetched them.
        let state = self.state();
        if let Some(keys) = state.good(kid, now) {
            return Ok(keys);
        }
        let held = |state: &State| {
            state.fetched.filter(|at| now < at.saturating_add(LONGEST_KEPT)).map(|_| Arc::clone(&state.keys))
        };
        if state.tried.is_some_and(|at| now < at.saturating_add(PAUSE)) {
            return held(&state).ok_or(Unfetched::Lately);
        }
        self.write(State { tried: Some(now), ..state.clone() });
        match fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                self.write(State { keys: Arc::clone(&keys), fetched: Some(now), tried: Some(now) });
                Ok(keys)
            }
            Err(error) => held(&state).ok_or(error),
        }
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl State {
    /// The keys, where they need not be fetched for that.
    fn good(&self, kid: Option<&str>, now: u64) -> Option<Arc<Keys>> {
        let fresh = self.fetched.is_some_and(|at| now < at.saturating_add(FRESH));
        let there = kid.is_none_or(|kid| self.keys.keys.iter().any(|key| key.kid.as_deref() == Some(kid)));
        (fresh && there).then(|| Arc::clone(&self.keys))
    }
}

impl Keys {
    /// The usable ones of a JWK set (RFC 7517 §5).
    pub(super) fn parse(text: &[u8]) -> Result<Self, Unfetched> {
        let set = strict::object(text).ok_or(Unfetched::Form("its key set is not JSON, or has a name twice"))?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err(Unfetched::Form("its key set has no list of keys"));
        };
        if list.len() > MOST_KEYS {
            return Err(Unfetched::Form("its key set has too many keys"));
        }
        Ok(Self { keys: list.iter().filter_map(Value::as_object).filter_map(key).collect() })
    }

    /// Whether the token's signature is by one of them that may have made it.
    pub(super) fn confirm(&self, token: &Signed) -> bool {
        let mut fitting = self.keys.iter().filter(|key| key.may_confirm(token));
        match (&token.kid, fitting.next(), fitting.next()) {
            // Without a name, a token is tried with the one key that it can be of, and not with one after the other.
            (_, Some(key), None) => key.confirms(token),
            (Some(_), Some(first), Some(second)) => {
                // Two of one name, as while a key is replaced.
                first.confirms(token) || second.confirms(token)
            }
            _ => false,
        }
    }
}

impl Key {
    fn may_confirm(&self, token: &Signed) -> bool {
        let named = token.kid.as_ref().is_none_or(|kid| self.kid.as_ref() == Some(kid));
        let typed = self.kind == kind_of(token.algorithm);
        named && typed && self.algorithm.is_none_or(|own| own == token.algorithm)
    }

    fn confirms(&self, token: &Signed) -> bool {
        let algorithm = library(token.algorithm);
        let verified = jsonwebtoken::crypto::verify(&token.signature, token.text.as_bytes(), &self.key, algorithm);
        verified.unwrap_or(false)
    }
}

/// The key in a JWK, if it is public and for signatures.
fn key(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    // A private key that somebody published is everybody's.
    if ["d", "p", "q", "k"].iter().any(|private| jwk.contains_key(*private)) {
        return None;
    }
    let signs = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(purposes)) => purposes.iter().any(|purpose| purpose == "verify"),
        Some(_) => false,
    };
    if !signs || !verifies {
        return None;
    }
    let coordinate = |name: &str, length: usize| {
        text(name).filter(|text| URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == length))
    };
    let (kind, key) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (Kind::Rsa, DecodingKey::from_rsa_components(text("n")?, text("e")?)),
        ("EC", Some("P-256")) => {
            (Kind::P256, DecodingKey::from_ec_components(coordinate("x", 32)?, coordinate("y", 32)?))
        }
        ("EC", Some("P-384")) => {
            (Kind::P384, DecodingKey::from_ec_components(coordinate("x", 48)?, coordinate("y", 48)?))
        }
        ("OKP", Some("Ed25519")) => (Kind::Ed25519, DecodingKey::from_ed_components(coordinate("x", 32)?)),
        _ => return None,
    };
    let algorithm = match jwk.get("alg") {
        None => None,
        // One that is for something else is not used for this.
        Some(own) => Some(serde_json::from_value(own.clone()).ok()?),
    };
    Some(Key { kid: text("kid").map(str::to_owned), kind, algorithm, key: key.ok()? })
}

fn kind_of(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Kind::Rsa,
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => Kind::Rsa,
        Algorithm::ES256 => Kind::P256,
        Algorithm::ES384 => Kind::P384,
        Algorithm::EdDSA => Kind::Ed25519,
    }
}

fn library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// The keys of an issuer, from where its configuration says, or its record.
pub(super) async fn fetched(fetch: &dyn Fetch, issuer: &Issuer) -> Result<Keys, Unfetched> {
    let place = match &issuer.keys {
        Some(place) => place.clone(),
        None => {
            let url = format!("{}{CONFIGURATION}", issuer.url.strip_suffix('/').unwrap_or(&issuer.url));
            let configuration = fetch.fetch(&source(issuer, &url)?).await?;
            let said = strict::object(&configuration).ok_or(Unfetched::Form("its configuration is not JSON"))?;
            // Whoever serves another issuer's configuration has that issuer's keys believed here (Discovery §4.3).
            if said.get("issuer").and_then(Value::as_str) != Some(&issuer.url) {
                return Err(Unfetched::Form("its configuration is of another issuer"));
            }
            let place = said.get("jwks_uri").and_then(Value::as_str);
            let place = place.ok_or(Unfetched::Form("its configuration has no `jwks_uri`"))?.to_owned();
            let unusable = |_| Unfetched::Form("its `jwks_uri` is not an address that may be asked");
            let (own, keys) =
                (issuer::target(&issuer.url, issuer.plain_http), issuer::target(&place, issuer.plain_http));
            let (own, keys) = (own.map_err(unusable)?, keys.map_err(unusable)?);
            if (own.scheme(), own.host(), own.port()) != (keys.scheme(), keys.host(), keys.port()) {
                return Err(Unfetched::Form("its `jwks_uri` is at another host: name it as the issuer's `keys`"));
            }
            place
        }
    };
    Keys::parse(&fetch.fetch(&source(issuer, &place)?).await?)
}

fn source(issuer: &Issuer, url: &str) -> Result<Source, Unfetched> {
    let target = issuer::target(url, issuer.plain_http).map_err(|_| Unfetched::Form("not an address"))?;
    Ok(Source { target, addresses: issuer.addresses.clone() })
}

#[cfg(test)]
mod tests;
