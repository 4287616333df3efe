//! How much may pass between a connection and its hosts: for each pattern of the manifest, and in total.
//!
//! Why: a tenant is banned for what its connectors send, and what goes out unwatched is data that is gone. Invariants: 1. an
//! amount is for a host as it stands in the manifest, or for all together; 2. the smallest of request, grant and ceiling
//! counts.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Asked, Size, count};
use crate::egress::{self, HostPattern};

/// What an amount is for: one of the manifest's hosts, as it stands there, or all of them together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Scope {
    /// `*`: the whole connection.
    All,
    /// A host, or a pattern of hosts.
    Host(HostPattern),
}

impl TryFrom<String> for Scope {
    type Error = egress::Error;

    fn try_from(text: String) -> Result<Self, egress::Error> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::Host) }
    }
}

serialized_as_text!(Scope);

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Host(host) => host.fmt(f),
        }
    }
}

/// Amounts by host, such as `{ "api.github.com" = 80, "*" = 200 }`.
pub type PerHost<T> = BTreeMap<Scope, T>;

/// Reads amounts by host, and says what they look like where something else stands.
pub(super) fn by_host<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<PerHost<T>, D::Error> {
    struct Amounts<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Amounts<T> {
        type Value = PerHost<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("amounts by host, such as { \"api.example.com\" = …, \"*\" = … }")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PerHost<T>, A::Error> {
            PerHost::deserialize(MapAccessDeserializer::new(map))
        }
    }

    from.deserialize_map(Amounts(PhantomData))
}

/// What may pass between a connection and one of its hosts, or all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Requests in a minute.
    pub requests: NonZeroU32,
    /// Bytes of request bodies in a minute.
    pub bytes_out: Size,
    /// Bytes of response bodies in a minute.
    pub bytes_in: Size,
    /// Requests under way at once, the bodies of their responses included.
    pub concurrency: NonZeroU32,
}

impl Traffic {
    /// What a host has when the manifest asks nothing for it: enough for a busy sync, less than most services allow.
    pub const DEFAULT: Self =
        Self { requests: count(600), bytes_out: Size::mib(64), bytes_in: Size::mib(512), concurrency: count(12) };

    /// What neither a host nor a connection can exceed unless the operator raises it.
    pub const CEILING: Self =
        Self { requests: count(6000), bytes_out: Size::mib(2048), bytes_in: Size::mib(2048), concurrency: count(32) };

    /// What may pass for `scope`: what is asked, or `default`, but never above what the grant or the ceiling has.
    pub(crate) fn within(scope: &Scope, asked: &Asked, narrowed: &Asked, default: &Self, ceiling: &Self) -> Self {
        fn least<T: Ord + Copy>(scope: &Scope, asked: &PerHost<T>, narrowed: &PerHost<T>, default: T, ceiling: T) -> T {
            let wanted = asked.get(scope).copied().unwrap_or(default);
            wanted.min(narrowed.get(scope).copied().unwrap_or(wanted)).min(ceiling)
        }
        Self {
            requests: least(
                scope,
                &asked.requests_per_minute,
                &narrowed.requests_per_minute,
                default.requests,
                ceiling.requests,
            ),
            bytes_out: least(
                scope,
                &asked.bytes_out_per_minute,
                &narrowed.bytes_out_per_minute,
                default.bytes_out,
                ceiling.bytes_out,
            ),
            bytes_in: least(
                scope,
                &asked.bytes_in_per_minute,
                &narrowed.bytes_in_per_minute,
                default.bytes_in,
                ceiling.bytes_in,
            ),
            concurrency: least(
                scope,
                &asked.concurrency,
                &narrowed.concurrency,
                default.concurrency,
                ceiling.concurrency,
            ),
        }
    }

    /// Both together: what a connection has in total when the manifest does not say.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests.get()),
            bytes_out: Size(self.bytes_out.0.saturating_add(other.bytes_out.0)),
            bytes_in: Size(self.bytes_in.0.saturating_add(other.bytes_in.0)),
            concurrency: self.concurrency.saturating_add(other.concurrency.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn traffic_is_bounded_for_each_host_and_for_all_together() {
        let host = Scope::try_from("a.com".to_owned()).unwrap();
        let ask = |scope: &Scope, requests| Asked {
            requests_per_minute: BTreeMap::from([(scope.clone(), count(requests))]),
            ..Asked::default()
        };
        let of = |asked: &Asked, narrowed: &Asked| {
            Traffic::within(&host, asked, narrowed, &Traffic::DEFAULT, &Traffic::CEILING).requests.get()
        };
        let nothing = Asked::default();
        assert_eq!(of(&nothing, &nothing), Traffic::DEFAULT.requests.get());
        assert_eq!(of(&ask(&host, 80), &nothing), 80);
        assert_eq!(of(&ask(&Scope::All, 80), &nothing), Traffic::DEFAULT.requests.get());
        assert_eq!(of(&ask(&host, 80), &ask(&host, 20)), 20);
        assert_eq!(of(&ask(&host, 80), &ask(&host, 200)), 80);
        assert_eq!(of(&ask(&host, 1_000_000), &nothing), Traffic::CEILING.requests.get());
        let total = Limits::within(&ask(&Scope::All, 80), &nothing, &Traffic::DEFAULT, &Limits::CEILING);
        assert_eq!(total.traffic.requests.get(), 80);
    }
}
