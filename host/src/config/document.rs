//! Which settings there are: the one list from which the file is read, variables are named, and `config check` prints.
//!
//! *Invariants*: 1. a setting that is not in this list is refused, in the file and in the environment; 2. each has one name,
//! `section.key`, and one variable, `BULKHEAD_SECTION_KEY`; 3. no setting's value is a secret: those that lead to one say where
//! it lies.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use bulkhead_core::limits::{Size, Time};
use ipnet::IpNet;
use serde::Deserialize;

/// What stands before every variable of ours.
pub(crate) const PREFIX: &str = "BULKHEAD_";

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The table it stands in.
    pub(crate) section: &'static str,
    field: &'static str,
    pub(super) kind: Kind,
    /// One line for people.
    pub(crate) meaning: &'static str,
}

/// How a value is written in a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is; quoted in TOML.
    Text,
    /// As it is, in TOML too: a number, or `true` and `false`.
    Bare,
    /// Texts with commas between them.
    Texts,
}

/// How a value is shown, as TOML.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

/// Declares the settings once: tables, keys, types, and how each is written.
macro_rules! settings {
    ($($(#[doc = $about:literal])+ [$section:ident] $table:ident {
        $($(#[doc = $meaning:literal])+ $key:ident: $type:ty as $kind:ident;)+
    })+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, Default, Deserialize)]
            #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
            pub(super) struct $table {
                $($(#[doc = $meaning])+ pub(super) $key: Option<$type>,)+
            }
        )+

        /// What one source says; what it does not say is absent.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Document {
            $(pub(super) $section: $table,)+
        }

        impl Document {
            /// What this one says, and else what `below` says.
            pub(super) fn over(self, below: Self) -> Self {
                Self { $($section: $table { $($key: self.$section.$key.or(below.$section.$key),)+ },)+ }
            }

            /// Each value that is there, as TOML, in the order of [`SETTINGS`].
            pub(super) fn shown(&self) -> Vec<Option<String>> {
                vec![$($(self.$section.$key.as_ref().map(Shown::shown),)+)+]
            }
        }

        /// All of them, in the order in which they are shown.
        pub(crate) const SETTINGS: &[Setting] = &[
            $($(Setting {
                section: stringify!($section),
                field: stringify!($key),
                kind: Kind::$kind,
                meaning: concat!($($meaning),+),
            },)+)+
        ];
    };
}

settings! {
    /// Where and how the API is served.
    [server] Server {
        /// Where it listens; other than loopback only with TLS
        address: SocketAddr as Text;
        /// Names it is called by, besides the address and `localhost`: what a request's `Host` may say
        names: Vec<String> as Texts;
        /// The certificate and its chain, in PEM
        tls_certificate: PathBuf as Text;
        /// The certificate's private key, in PEM
        tls_key: PathBuf as Text;
        /// Listen without TLS even where others can listen in: behind a proxy that speaks TLS
        allow_plain_http: bool as Bare;
        /// Blocks of addresses of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed
        trusted_proxies: Vec<IpNet> as Texts;
        /// Most connections at once
        connections: NonZeroU32 as Bare;
        /// Most connections at once from one address
        connections_per_address: NonZeroU32 as Bare;
    }
    /// Where everything is kept.
    [storage] Storage {
        /// The data folder
        data: PathBuf as Text;
        /// The keys folder, outside of the data folder
        keys: PathBuf as Text;
        /// The master key: `file` in the keys folder, or `env:VARIABLE`, or `credential:NAME` of systemd
        master_key: String as Text;
        /// Where backups are put, so that `doctor` can tell how old the last one is
        backup: PathBuf as Text;
    }
    /// How connectors get out.
    [egress] Egress {
        /// DNS servers to ask instead of the system's
        dns: Vec<SocketAddr> as Texts;
        /// A certificate authority to trust besides the public ones, in PEM
        ca: PathBuf as Text;
        /// Addresses that no connector may reach, whatever a grant says
        reserve: Vec<IpNet> as Texts;
    }
    /// What connectors run on.
    [runtime] Engine {
        /// Guests that run or wait at once
        guests: NonZeroU32 as Bare;
        /// Memory of all guests together; half of the machine's unless said
        memory: Size as Text;
        /// Where compiled components are kept
        cache: PathBuf as Text;
    }
    /// The audit log.
    [audit] Log {
        /// Most bytes of one tenant's log
        quota: Size as Text;
        /// How long calls that were turned away are summed up before they are recorded
        window: Time as Text;
    }
    /// How many requests are answered.
    [limits] Rates {
        /// Requests of one principal in a second, over time
        principal_per_second: NonZeroU32 as Bare;
        /// Requests of one principal at once
        principal_burst: NonZeroU32 as Bare;
        /// Requests from one address in a second, over time
        address_per_second: NonZeroU32 as Bare;
        /// Requests from one address at once
        address_burst: NonZeroU32 as Bare;
        /// Requests from one address that are not let in, in a second, over time
        failures_per_second: NonZeroU32 as Bare;
        /// Requests from one address that are not let in, at once
        failures_burst: NonZeroU32 as Bare;
    }
}

impl Setting {
    /// Its key within its table.
    pub(crate) fn key(&self) -> String {
        self.field.replace('_', "-")
    }

    /// `section.key`.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.section, self.key())
    }

    /// The variable that says the same.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}_{}", self.section, self.field).to_ascii_uppercase()
    }
}

// === impl Shown ===

/// Those that are quoted.
macro_rules! quoted {
    ($($type:ty),+) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                toml::Value::String(self.to_string()).to_string()
            }
        })+
    };
}

quoted!(SocketAddr, IpNet, Size, Time, String);

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string().shown()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for NonZeroU32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> String {
        format!("[{}]", self.iter().map(Shown::shown).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_setting_has_a_name_and_a_variable_of_its_own() {
        let variables: BTreeSet<_> = SETTINGS.iter().map(Setting::variable).collect();
        let names: BTreeSet<_> = SETTINGS.iter().map(Setting::name).collect();
        assert_eq!((variables.len(), names.len()), (SETTINGS.len(), SETTINGS.len()));
        assert!(variables.contains("BULKHEAD_STORAGE_MASTER_KEY") && names.contains("storage.master-key"));
        assert_eq!(Document::default().shown().len(), SETTINGS.len());
    }
}
