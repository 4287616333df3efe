//! How much an invocation and a connection may use: what the author asks, never more than the operator's ceiling.
//! `traffic.rs` has what passes between a connection and its hosts.

mod traffic;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::egress::HostPattern;

pub use traffic::{PerHost, Scope, Traffic};

/// Why a size or duration was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("`{0}` is not a size: write for example \"64MiB\" or \"500kB\", more than zero")]
    Size(String),
    #[error("`{0}` is not a duration: write for example \"30s\" or \"1m 30s\", more than zero")]
    Time(String),
}

/// A number of bytes, more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// `count` mebibytes; at least one byte.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// `count` kibibytes; at least one byte.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Bytes, as large as this machine can address.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            _ => Err(Error::Size(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", bytesize::ByteSize::b(self.0).display().iec())
    }
}

/// A duration, more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(Duration);

impl Time {
    /// `count` seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// The duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Time {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match humantime::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err(Error::Time(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

parsed_from_text!(Size, Time);
serialized_as_text!(Time);

/// In bytes: what people are shown is rounded.
impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}B", self.0))
    }
}

/// The `[limits]` table of a manifest or grant; what is absent is not asked, or not narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    /// All memories and tables of one instance together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Wall clock of one call, host calls included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// CPU time of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Time>,
    /// Log, stdout and stderr text kept of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<Size>,
    /// Bytes that one call may return.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<Size>,
    /// Requests of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<NonZeroU32>,
    /// Requests in a minute.
    #[serde(default, deserialize_with = "traffic::by_host", skip_serializing_if = "PerHost::is_empty")]
    pub requests_per_minute: PerHost<NonZeroU32>,
    /// Bytes of request bodies in a minute.
    #[serde(default, deserialize_with = "traffic::by_host", skip_serializing_if = "PerHost::is_empty")]
    pub bytes_out_per_minute: PerHost<Size>,
    /// Bytes of response bodies in a minute.
    #[serde(default, deserialize_with = "traffic::by_host", skip_serializing_if = "PerHost::is_empty")]
    pub bytes_in_per_minute: PerHost<Size>,
    /// Requests under way at once.
    #[serde(default, deserialize_with = "traffic::by_host", skip_serializing_if = "PerHost::is_empty")]
    pub concurrency: PerHost<NonZeroU32>,
}

impl Asked {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same without amounts for hosts that have nothing in common with any of `hosts`.
    pub(crate) fn about(&self, hosts: &[&HostPattern]) -> Self {
        fn kept<T: Copy>(amounts: &PerHost<T>, hosts: &[&HostPattern]) -> PerHost<T> {
            let known = |scope: &Scope| match scope {
                Scope::All => true,
                Scope::Host(host) => hosts.iter().any(|known| known.meets(host)),
            };
            amounts.iter().filter(|(scope, _)| known(scope)).map(|(scope, amount)| (scope.clone(), *amount)).collect()
        }
        Self {
            requests_per_minute: kept(&self.requests_per_minute, hosts),
            bytes_out_per_minute: kept(&self.bytes_out_per_minute, hosts),
            bytes_in_per_minute: kept(&self.bytes_in_per_minute, hosts),
            concurrency: kept(&self.concurrency, hosts),
            ..self.clone()
        }
    }

    /// A key with an amount for a host that is none of `hosts`, and that host.
    pub(crate) fn stray_scope(&self, hosts: &[&HostPattern]) -> Option<(&'static str, &Scope)> {
        let all = [
            ("requests-per-minute", self.requests_per_minute.keys().collect::<Vec<_>>()),
            ("bytes-out-per-minute", self.bytes_out_per_minute.keys().collect()),
            ("bytes-in-per-minute", self.bytes_in_per_minute.keys().collect()),
            ("concurrency", self.concurrency.keys().collect()),
        ];
        let stray = |scope: &&Scope| matches!(scope, Scope::Host(host) if !hosts.contains(&host));
        all.into_iter().find_map(|(key, scopes)| scopes.into_iter().find(stray).map(|scope| (key, scope)))
    }
}

/// Which line set a limit that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// None: it is the default.
    Default,
    /// The manifest's.
    Manifest,
    /// The grant's, which has less than the manifest.
    Grant,
    /// None that a manifest or a grant could raise: the host's ceiling, or what a tenant has of the host.
    Ceiling,
}

/// The lines that set those limits which end a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the limits of these names")]
pub struct Sources {
    pub memory: Source,
    pub time: Source,
    pub cpu: Source,
    pub output_bytes: Source,
}

impl Sources {
    const fn all(source: Source) -> Self {
        Self { memory: source, time: source, cpu: source, output_bytes: source }
    }
}

/// A limit that a call reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached<T> {
    /// How much there may be.
    pub most: T,
    /// What it is called under `[limits]`.
    pub key: &'static str,
    /// What set it.
    pub by: Source,
}

impl<T: fmt::Display> Reached<T> {
    /// Which line set it, and how it is raised.
    pub fn next_step(&self) -> String {
        let Self { most, key, by } = self;
        match by {
            Source::Default => format!(
                "{most} is the default: if the connector needs more, ask for it with `{key}` under [limits] in connector.toml"
            ),
            Source::Manifest => {
                format!(
                    "{most} is what `{key}` under [limits] in connector.toml says: if the connector needs more, raise it there"
                )
            }
            Source::Grant => {
                format!(
                    "{most} is what `{key}` under [limits] in the grant says, and connector.toml asks for more: raise it in the grant"
                )
            }
            Source::Ceiling => {
                format!(
                    "{most} is all that this host allows, whatever `{key}` under [limits] says: have the connector do less in one call"
                )
            }
        }
    }
}

impl<T: fmt::Display> fmt::Display for Reached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.most.fmt(f)
    }
}

const fn count(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// The limits in force for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All memories and tables of one instance together, in bytes.
    pub memory: Size,
    /// Wall clock of one call, host calls included.
    pub time: Time,
    /// CPU time of one call.
    pub cpu: Time,
    /// Log, stdout and stderr text kept of one instance, in bytes.
    pub log_bytes: Size,
    /// Bytes that one call may return.
    pub output_bytes: Size,
    /// Requests of one call.
    pub requests: NonZeroU32,
    /// What may pass between the connection and all of its hosts together.
    pub traffic: Traffic,
    /// Which lines set them.
    pub set_by: Sources,
}

/// The largest body that any rule can allow, whatever the manifest asks: more than an export of a large service.
pub const LARGEST_BODY: Size = Size::mib(4096);

impl Limits {
    /// What a connector has when its manifest asks nothing: enough for a page of records, little enough to run many.
    pub const DEFAULT: Self = Self {
        memory: Size::mib(64),
        time: Time::seconds(30),
        cpu: Time::seconds(5),
        log_bytes: Size::kib(64),
        output_bytes: Size::mib(8),
        requests: count(1000),
        traffic: Traffic::DEFAULT,
        set_by: Sources::all(Source::Default),
    };

    /// What no manifest can exceed unless the operator raises it. Guests of interpreted languages need some 100 MiB.
    pub const CEILING: Self = Self {
        memory: Size::mib(512),
        time: Time::seconds(300),
        cpu: Time::seconds(60),
        log_bytes: Size::mib(1),
        output_bytes: Size::mib(64),
        requests: count(10_000),
        traffic: Traffic::CEILING,
        set_by: Sources::all(Source::Ceiling),
    };

    /// What `asked` asks, or the default, but never above `narrowed` or `ceiling`. `traffic` is the default of what may
    /// pass in total.
    pub fn within(asked: &Asked, narrowed: &Asked, traffic: &Traffic, ceiling: &Self) -> Self {
        fn least<T: Ord + Copy>(asked: Option<T>, default: T, narrowed: Option<T>, ceiling: T) -> (T, Source) {
            let mut least = asked.map_or((default, Source::Default), |asked| (asked, Source::Manifest));
            for (amount, source) in
                narrowed.map(|amount| (amount, Source::Grant)).into_iter().chain([(ceiling, Source::Ceiling)])
            {
                if amount < least.0 {
                    least = (amount, source);
                }
            }
            least
        }
        let default = &Self::DEFAULT;
        let memory = least(asked.memory, default.memory, narrowed.memory, ceiling.memory);
        let time = least(asked.time, default.time, narrowed.time, ceiling.time);
        let cpu = least(asked.cpu, default.cpu, narrowed.cpu, ceiling.cpu);
        let output = least(asked.output_bytes, default.output_bytes, narrowed.output_bytes, ceiling.output_bytes);
        Self {
            memory: memory.0,
            time: time.0,
            cpu: cpu.0,
            log_bytes: least(asked.log_bytes, default.log_bytes, narrowed.log_bytes, ceiling.log_bytes).0,
            output_bytes: output.0,
            requests: least(asked.requests, default.requests, narrowed.requests, ceiling.requests).0,
            traffic: Traffic::within(&Scope::All, asked, narrowed, traffic, &ceiling.traffic),
            set_by: Sources { memory: memory.1, time: time.1, cpu: cpu.1, output_bytes: output.1 },
        }
    }

    /// That the memory was reached.
    pub fn memory_reached(&self) -> Reached<Size> {
        Reached { most: self.memory, key: "memory", by: self.set_by.memory }
    }

    /// That the time was.
    pub fn time_reached(&self) -> Reached<Time> {
        Reached { most: self.time, key: "time", by: self.set_by.time }
    }

    /// That the CPU time was.
    pub fn cpu_reached(&self) -> Reached<Time> {
        Reached { most: self.cpu, key: "cpu", by: self.set_by.cpu }
    }

    /// That the bytes were that one call may return.
    pub fn output_reached(&self) -> Reached<Size> {
        Reached { most: self.output_bytes, key: "output-bytes", by: self.set_by.output_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        assert_eq!("64MiB".parse(), Ok(Size::mib(64)));
        assert_eq!("30s".parse(), Ok(Time::seconds(30)));
        assert_eq!(Size::mib(64).to_string(), "64.0 MiB");
        for bad in ["", "0", "-1MiB", "64 parsecs", "NaN"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        for bad in ["", "0s", "-1s", "30", "soon"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_smallest_of_request_grant_and_ceiling_wins() {
        let ask = |memory| Asked { memory, ..Asked::default() };
        let memory =
            |asked, narrowed| Limits::within(&ask(asked), &ask(narrowed), &Traffic::DEFAULT, &Limits::CEILING).memory;
        assert_eq!(memory(None, None), Limits::DEFAULT.memory);
        assert_eq!(memory(Some(Size::mib(32)), None), Size::mib(32));
        assert_eq!(memory(Some(Size::mib(32)), Some(Size::mib(16))), Size::mib(16));
        assert_eq!(memory(Some(Size::mib(32)), Some(Size::mib(99))), Size::mib(32));
        assert_eq!(memory(Some(Size::mib(9999)), None), Limits::CEILING.memory);
    }

    #[test]
    fn a_limit_that_was_reached_says_which_line_set_it() {
        let check = |asked, narrowed, by, step: &str| {
            let ask = |memory| Asked { memory, ..Asked::default() };
            let limits = Limits::within(&ask(asked), &ask(narrowed), &Traffic::DEFAULT, &Limits::CEILING);
            let reached = limits.memory_reached();
            assert_eq!(reached.by, by);
            assert!(reached.next_step().contains(step), "{}", reached.next_step());
        };
        let (small, large, huge) = (Some(Size::mib(16)), Some(Size::mib(99)), Some(Size::mib(9999)));
        check(None, None, Source::Default, "64.0 MiB is the default: ");
        check(large, None, Source::Manifest, "`memory` under [limits] in connector.toml says");
        check(large, large, Source::Manifest, "raise it there");
        check(large, small, Source::Grant, "16.0 MiB is what `memory` under [limits] in the grant says");
        check(None, small, Source::Grant, "raise it in the grant");
        check(huge, None, Source::Ceiling, "all that this host allows");
        check(huge, huge, Source::Ceiling, "512.0 MiB");
    }
}
