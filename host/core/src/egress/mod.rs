//! The language of egress: what a request is aimed at, and what a rule lets through.
//!
//! Why: manifest, grant and authorization must mean the same by "host" and "path", so they share one parser.
//! Invariants: a [`Target`] is parsed once; that value is decided on, logged and dialled.
//! Never: resolving names or opening sockets; `capabilities/egress` does.

mod host;
mod path;
mod rule;
mod target;

pub use host::{DnsName, Host, HostPattern};
pub use path::{Path, PathPattern};
pub(crate) use rule::destination_lines;
pub use rule::{Method, Miss, Rule, Scheme};
pub use target::{Target, folded, reserved_header};

/// Why a piece of a rule or a request was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("`{0}` is not a host name: labels of 1 to 63 letters, digits and hyphens, without scheme or port")]
    Name(String),
    #[error("`{0}` could be read as more than one address: write four decimal numbers from 0 to 255")]
    AmbiguousAddress(String),
    #[error("`{0}` is not a host pattern: write `host`, `*.domain` or `{{config-key}}.domain`")]
    Pattern(String),
    #[error("user information in an authority")]
    UserInfo,
    #[error("`{0}` is not a port from 1 to 65535")]
    Port(String),
    #[error("only http and https are schemes here, not `{0}`")]
    Scheme(String),
    #[error(
        "`{0}` is not a method that can be granted: write one such as GET, in capitals, and neither CONNECT nor TRACE"
    )]
    Method(String),
    #[error("the path does not begin with `/`")]
    Relative,
    #[error("the path is longer than {} bytes", path::LONGEST)]
    TooLong,
    #[error("the path has a character that must be percent-encoded")]
    Character,
    #[error("the path has a percent sign that encodes nothing, or an encoding that servers read in different ways")]
    Encoding,
    #[error("the path has an empty, `.` or `..` segment")]
    Segment,
    #[error(
        "`{0}` is not a path pattern: it begins with `/` and has whole segments, `*` for one of them, `**` last for any number"
    )]
    PathPattern(String),
}
