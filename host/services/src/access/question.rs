//! Puts who asks for what, and when, into the words of the policies.
//!
//! *Invariants*: 1. what a question does not say is absent, and never empty; 2. an address that carries IPv4 within IPv6 is judged as
//! IPv4; 3. [`Question::key`] holds all that policies of that sight can see.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bulkhead_core::principal::Credential;
use bulkhead_core::{Actor, Wish};
use cedar_policy::{Context, Entities, Entity, Request, RestrictedExpression};

use super::FRESH;
use super::schema::Vocabulary;

/// The last second that has a date of four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) actor: &'a Actor,
    pub(super) wish: &'a Wish,
    pub(super) now: SystemTime,
}

/// How much of a question policies look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sees {
    /// Who asks for what.
    TheQuestion,
    /// Also the hour, the network and the credential.
    Circumstances,
    /// Also the second.
    TheClock,
}

impl Sees {
    /// What the policy with this text looks at. It can only name what it writes, be it with an escape in a string; the same word
    /// elsewhere costs time, and nothing else.
    pub(super) fn of(text: &str) -> Self {
        match (text.contains("context"), text.contains("now") || text.contains('\\')) {
            (false, _) => Self::TheQuestion,
            (true, false) => Self::Circumstances,
            (true, true) => Self::TheClock,
        }
    }
}

impl Question<'_> {
    /// Whether the person proved who they are a short while ago. A moment that is yet to come proves nothing.
    pub(super) fn is_fresh(&self) -> bool {
        let age = self.actor.proved.map(|proved| self.now.duration_since(proved));
        matches!(age, Some(Ok(age)) if age <= FRESH)
    }

    /// All that policies can see: each part behind its length, so that no two questions have one key.
    pub(super) fn key(&self, sees: Sees) -> Vec<u8> {
        let (principal, resource) = (&self.actor.principal, &self.wish.resource);
        let mut key = Vec::with_capacity(160);
        // Six roles, each a bit.
        let roles = self.actor.roles.iter().fold(0_u8, |roles, role| roles | 1 << (*role as u8));
        key.extend([roles, principal.kind as u8, self.wish.permission as u8]);
        let parts = [
            Some(principal.tenant.as_str()),
            Some(principal.name.as_str()),
            Some(resource.tenant.as_str()),
            resource.name.as_deref(),
            resource.environment.as_deref(),
            resource.data_class.as_deref(),
        ];
        for part in parts {
            // What is absent has a length that nothing has.
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            key.extend(length.to_le_bytes());
            key.extend(part.unwrap_or_default().bytes());
        }
        if sees >= Sees::Circumstances {
            // A time without a date is one, too: whatever is asked then fails.
            let seconds = self.seconds().unwrap_or(u64::MAX);
            let seen = if sees == Sees::TheClock { seconds } else { seconds / 3_600 };
            key.extend(seen.to_le_bytes());
            key.extend([u8::from(self.is_fresh())]);
            key.extend(credential(&self.actor.credential).bytes());
            match self.actor.from.map(|from| from.to_canonical()) {
                None => {}
                Some(IpAddr::V4(address)) => key.extend(address.octets()),
                Some(IpAddr::V6(address)) => key.extend(address.octets()),
            }
        }
        key
    }

    /// Seconds since 1970, where they are of a year of four digits.
    fn seconds(&self) -> Option<u64> {
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(since.as_secs()).filter(|seconds| *seconds <= LAST_SECOND)
    }

    /// The question as Cedar reads it, with its circumstances only where a policy looks at them.
    pub(super) fn put(&self, words: &Vocabulary, sees: Sees) -> Result<(Request, Entities), String> {
        let unknown = || "the question holds a name that the schema has not".to_owned();
        let action = words.action(self.wish.permission).ok_or_else(unknown)?;
        let asker = self.asker(words).ok_or_else(unknown)??;
        let thing = self.thing(words).ok_or_else(unknown)??;
        let context =
            if sees >= Sees::Circumstances { self.context(words).ok_or_else(unknown)?? } else { Context::empty() };
        let request = Request::new(asker.uid(), action.uid(), thing.uid(), context, None).map_err(said)?;
        let entities = Entities::from_entities([action.clone(), asker, thing], None).map_err(said)?;
        Ok((request, entities))
    }

    fn asker(&self, words: &Vocabulary) -> Option<Result<Entity, String>> {
        let principal = &self.actor.principal;
        let uid = words.asker(principal.kind, &format!("{}/{}", principal.tenant, principal.name))?;
        let roles = self.actor.roles.iter().map(|role| words.role(*role).cloned()).collect::<Option<HashSet<_>>>()?;
        let attributes = HashMap::from([
            ("tenant".to_owned(), RestrictedExpression::new_string(principal.tenant.to_string())),
            ("name".to_owned(), RestrictedExpression::new_string(principal.name.to_string())),
        ]);
        Some(Entity::new(uid, attributes, roles).map_err(said))
    }

    fn thing(&self, words: &Vocabulary) -> Option<Result<Entity, String>> {
        let resource = &self.wish.resource;
        let id = resource
            .name
            .as_ref()
            .map_or_else(|| resource.tenant.to_string(), |name| format!("{}/{name}", resource.tenant));
        let uid = words.thing(self.wish.permission, &id)?;
        let tenant = Some(resource.tenant.to_string());
        let attributes = [
            ("tenant", tenant.as_ref()),
            ("name", resource.name.as_ref()),
            ("environment", resource.environment.as_ref()),
            ("data_class", resource.data_class.as_ref()),
        ];
        let said_so = attributes.into_iter().filter_map(|(name, value)| {
            value.map(|value| (name.to_owned(), RestrictedExpression::new_string(value.clone())))
        });
        Some(Entity::new(uid, said_so.collect(), HashSet::new()).map_err(said))
    }

    fn context(&self, words: &Vocabulary) -> Option<Result<Context, String>> {
        let credential = words.credential(credential(&self.actor.credential))?.clone();
        let Some(seconds) = self.seconds() else {
            return Some(Err("the host's clock tells no time that has a date".to_owned()));
        };
        let mut now = String::with_capacity(20);
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        if write!(now, "{}", humantime::format_rfc3339_seconds(moment)).is_err() {
            return Some(Err("the host's clock tells no time that has a date".to_owned()));
        }
        let days = seconds / 86_400;
        let long = |number: u64| RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX));
        let mut pairs = vec![
            ("now".to_owned(), RestrictedExpression::new_datetime(now)),
            ("hour".to_owned(), long(seconds % 86_400 / 3_600)),
            // The first of January 1970 was a Thursday.
            ("weekday".to_owned(), long((days + 3) % 7 + 1)),
            ("credential".to_owned(), RestrictedExpression::new_entity_uid(credential)),
            ("fresh".to_owned(), RestrictedExpression::new_bool(self.is_fresh())),
        ];
        if let Some(from) = self.actor.from {
            pairs.push(("address".to_owned(), RestrictedExpression::new_ip(from.to_canonical().to_string())));
        }
        Some(Context::from_pairs(pairs).map_err(said))
    }
}

/// What kind of credential it is, as a policy calls it.
const fn credential(credential: &Credential) -> &'static str {
    match credential {
        Credential::Key(_) => "key",
        Credential::Session(_) => "session",
        Credential::Bearer(_) => "bearer",
        Credential::Token(_) => "token",
    }
}

fn said(error: impl ToString) -> String {
    error.to_string()
}
