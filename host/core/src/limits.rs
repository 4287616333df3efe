//! How much an invocation may use: what the author asks, never more than the operator's ceiling.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

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

/// The `[limits]` table of a manifest or grant; what is absent is not asked, or not narrowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    /// All memories and tables of one instance together.
    pub memory: Option<Size>,
    /// Wall clock of one call, host calls included.
    pub time: Option<Time>,
    /// CPU time of one call.
    pub cpu: Option<Time>,
    /// Log, stdout and stderr text kept of one instance.
    pub log_bytes: Option<Size>,
    /// Bytes that one call may return.
    pub output_bytes: Option<Size>,
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
}

impl Limits {
    /// What a connector has when its manifest asks nothing: enough for a page of records, little enough to run many.
    pub const DEFAULT: Self = Self {
        memory: Size::mib(64),
        time: Time::seconds(30),
        cpu: Time::seconds(5),
        log_bytes: Size::kib(64),
        output_bytes: Size::mib(8),
    };

    /// What no manifest can exceed unless the operator raises it. Guests of interpreted languages need some 100 MiB.
    pub const CEILING: Self = Self {
        memory: Size::mib(512),
        time: Time::seconds(300),
        cpu: Time::seconds(60),
        log_bytes: Size::mib(1),
        output_bytes: Size::mib(64),
    };

    /// What `asked` asks, or the default, but never above `narrowed` or `ceiling`.
    pub fn within(asked: &Asked, narrowed: &Asked, ceiling: &Self) -> Self {
        fn least<T: Ord + Copy>(asked: Option<T>, default: T, narrowed: Option<T>, ceiling: T) -> T {
            let wanted = asked.unwrap_or(default);
            wanted.min(narrowed.unwrap_or(wanted)).min(ceiling)
        }
        let default = &Self::DEFAULT;
        Self {
            memory: least(asked.memory, default.memory, narrowed.memory, ceiling.memory),
            time: least(asked.time, default.time, narrowed.time, ceiling.time),
            cpu: least(asked.cpu, default.cpu, narrowed.cpu, ceiling.cpu),
            log_bytes: least(asked.log_bytes, default.log_bytes, narrowed.log_bytes, ceiling.log_bytes),
            output_bytes: least(asked.output_bytes, default.output_bytes, narrowed.output_bytes, ceiling.output_bytes),
        }
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
        let memory = |asked, narrowed| Limits::within(&ask(asked), &ask(narrowed), &Limits::CEILING).memory;
        assert_eq!(memory(None, None), Limits::DEFAULT.memory);
        assert_eq!(memory(Some(Size::mib(32)), None), Size::mib(32));
        assert_eq!(memory(Some(Size::mib(32)), Some(Size::mib(16))), Size::mib(16));
        assert_eq!(memory(Some(Size::mib(32)), Some(Size::mib(99))), Size::mib(32));
        assert_eq!(memory(Some(Size::mib(9999)), None), Limits::CEILING.memory);
    }
}
