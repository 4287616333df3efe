//! Tokens of OIDC issuers (RFC 7519, OpenID Connect Core): who they say it is, if that is somebody here.
//!
//! *Why an issuer belongs to one tenant*: whoever runs an identity provider can have it say anything. It must not be able to name another
//! tenant's users.
//! *Invariants*: 1. the issuer is found by `iss`, to the byte, and all else is that issuer's: its keys, its algorithms, its audience,
//! its identities; 2. keys come from the issuer's own address and nowhere that a token names; 3. a token without an end is none.
//! Callers: [`Identity::authenticate`], `exchange` → here → `token.rs` (what it says), `keys.rs` (whether it is the issuer's),
//! `fetch.rs` (the issuer's keys, through the egress gate).

mod fetch;
mod issuer;
mod keys;
mod strict;
mod token;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_core::id::Digest;
use bulkhead_core::principal::{Credential, Kind};
use bulkhead_core::{Actor, Principal, Scopes};
use bulkhead_storage::record;

pub use fetch::{Fetch, Gate, Source, Unfetched};
pub(super) use issuer::forget;
pub use issuer::{Algorithm, Issuer, Spec, Terms};

use super::error::Reason;
use super::found::Failed;
use super::known::Known;
use super::registered::{Registered, Subject, subject_key};
use super::{Identity, Proved, Seen, Unknown, holder, seconds};
use issuer::Url;
use keys::{Keys, Ring};
use token::Token;

/// Most issuers whose keys are at hand.
const MOST: usize = 256;

/// Seconds for which a token that was checked is remembered. A key that its issuer withdraws is good for longer than that anyway,
/// until the keys are fetched again.
const REMEMBERED: u64 = 30;

/// Issuers' keys, at hand.
pub struct Bearers {
    fetch: Arc<dyn Fetch>,
    /// By the issuer's id and the digest of what it says: one that was changed is another.
    rings: Mutex<HashMap<Digest, Arc<Ring>>>,
}

impl Bearers {
    /// None yet. Those that are needed are fetched by `fetch`.
    pub(super) fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch, rings: Mutex::default() }
    }

    /// Has all be fetched again.
    pub(super) fn forget(&self) {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn ring(&self, issuer: &Issuer) -> Arc<Ring> {
        let text = serde_json::to_vec(issuer).unwrap_or_default();
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if rings.len() >= MOST {
            rings.clear();
        }
        Arc::clone(rings.entry(Digest::of(&[issuer.id.as_bytes(), &text])).or_default())
    }

    /// The issuer's keys, fetched where they are too old or `kid` is not among them.
    async fn keys(&self, issuer: &Issuer, kid: Option<&str>, now: u64) -> Result<Arc<Keys>, Failed> {
        let ring = self.ring(issuer);
        let found = ring.keys(kid, now, async || keys::fetched(self.fetch.as_ref(), issuer).await).await;
        found.map_err(|error| {
            tracing::warn!(issuer = %issuer.name, %error, "the keys of an issuer could not be fetched");
            Failed::Because(Reason::Keys, None)
        })
    }
}

impl Identity {
    /// The actor alone, who is remembered for a moment: a program that calls often does not have each signature checked anew.
    pub(super) async fn actor_by_jwt(&self, text: &str, seen: &Seen<'_>) -> Result<Actor, Unknown> {
        let (now, digest) = (seconds(seen.now), Digest::of(&[b"bulkhead bearer 1", text.as_bytes()]));
        let id = digest.to_string();
        if let Some(known) = self.known.get(&id).filter(|known| now < known.until) {
            return Ok(Actor { from: seen.from, ..known.actor.clone() });
        }
        let epoch = self.known.epoch();
        let Proved { actor, until, .. } = self.by_token(text, seen).await?;
        let known = Known {
            digest,
            actor: Actor { from: None, ..actor.clone() },
            until: until.min(now.saturating_add(REMEMBERED)),
            noted: AtomicU64::new(0),
        };
        self.known.keep(epoch, &id, known);
        Ok(actor)
    }

    /// Who it is that this token of an issuer names.
    pub(super) async fn by_jwt(&self, text: &str, now: u64) -> Result<Proved, Failed> {
        let because = |reason| Failed::Because(reason, None);
        let token = Token::read(text).map_err(|_| because(Reason::Malformed))?;
        let Some(url) = record::load::<Url>(self.store(), &issuer::url_key(&token.issuer)).await? else {
            return Err(because(Reason::Issuer));
        };
        let Url { tenant, name } = url.record;
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        let issuer = record::load::<Issuer>(self.store(), &key).await?.ok_or_else(|| because(Reason::Issuer))?.record;
        // Before any key is fetched for it.
        if issuer.url != token.issuer || !issuer.algorithms.contains(&token.signed.algorithm) {
            return Err(because(Reason::Claims));
        }
        token
            .holds(&issuer.audience, now)
            .map_err(|unfit| because(if unfit == token::Unfit::Expired { Reason::Expired } else { Reason::Claims }))?;
        let keys = self.bearers.keys(&issuer, token.signed.kid.as_deref(), now).await?;
        if !keys.confirm(&token.signed) {
            return Err(because(Reason::Signature));
        }
        let subject = subject_key(&tenant, &name, &token.subject);
        let subject =
            record::load::<Subject>(self.store(), &subject).await?.ok_or_else(|| because(Reason::NotKnown))?;
        let principal = Principal { tenant, kind: Kind::Identity, name: subject.record.name };
        let failed = |reason| Failed::Because(reason, Some(principal.clone()));
        let registered = record::load::<Registered>(self.store(), &holder::key(&principal)).await?;
        let registered = registered.ok_or_else(|| failed(Reason::HolderGone))?.record;
        let is_theirs = registered.issuer == name && registered.subject == token.subject;
        if registered.disabled || !is_theirs || !self.is_there(&principal.tenant).await? {
            return Err(failed(Reason::HolderGone));
        }
        let actor = Actor {
            roles: registered.roles,
            scopes: Scopes::all(),
            credential: Credential::Bearer(name.as_str().to_owned()),
            proved: None,
            from: None,
            principal,
        };
        Ok(Proved { actor, until: token.expires, issued: Some((name, issuer.id)) })
    }
}
