//! What a guest can be given, one folder a capability, and the one list of them.
//!
//! Why: what is linked, what `inspect` explains and what a refusal names must come from the same list.
//! Invariants: a capability's interfaces are linked only when [`Power`] has it; identity lives in the store's data.
//! Never: deciding. `bulkhead_core::authorize` decides.
#![forbid(unsafe_code)]

pub mod credentials;
pub mod egress;
pub mod journal;
pub mod life;
pub mod log;

use bulkhead_core::Power;
use wasmtime::component::Linker;
use wasmtime_wasi_http::WasiHttpView;

/// What a store's data must offer for capabilities to be linked.
pub trait View: WasiHttpView + credentials::View + log::View + 'static {}
impl<T: WasiHttpView + credentials::View + log::View + 'static> View for T {}

/// One kind of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Outbound HTTP, by rule.
    Egress,
    /// Placeholders of secrets.
    Credentials,
    /// Placeholders of what was signed with one.
    Signing,
    /// A bounded log.
    Log,
}

impl Capability {
    /// Every capability.
    pub const ALL: &[Self] = &[Self::Egress, Self::Credentials, Self::Signing, Self::Log];

    /// The exact interfaces it consists of, as a component names them; a `wasi` 0.2 interface matches by semver.
    pub fn interfaces(self) -> &'static [&'static str] {
        match self {
            Self::Egress => egress::INTERFACES,
            Self::Credentials => credentials::INTERFACES,
            Self::Signing => credentials::signer::INTERFACES,
            Self::Log => log::INTERFACES,
        }
    }

    /// The manifest lines that ask for it.
    pub fn manifest_lines(self) -> &'static str {
        match self {
            Self::Egress => egress::MANIFEST_LINES,
            Self::Credentials => credentials::MANIFEST_LINES,
            Self::Signing => credentials::signer::MANIFEST_LINES,
            Self::Log => log::MANIFEST_LINES,
        }
    }

    /// Whether `power` has it.
    pub fn is_in(self, power: &Power) -> bool {
        match self {
            Self::Egress => power.has_egress(),
            // A signer's errors are declared by the store, so that a component imports both.
            Self::Credentials => power.has_placeholders() || power.has_signer(),
            Self::Signing => power.has_signer(),
            Self::Log => power.has_log(),
        }
    }

    /// Links its interfaces.
    pub fn link<T: View>(self, linker: &mut Linker<T>) -> wasmtime::Result<()> {
        match self {
            Self::Egress => egress::link(linker),
            Self::Credentials => credentials::link(linker),
            Self::Signing => credentials::signer::link(linker),
            Self::Log => log::link(linker),
        }
    }

    /// The capability that `interface` belongs to.
    pub fn of(interface: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|capability| capability.interfaces().iter().any(|known| same_interface(known, interface)))
    }
}

/// Whether a component's import `asked` is served by the interface `known`: the same name, and the same version, where a
/// stable version is compatible with every lower one of its 0.x or x line, and a pre-release only with itself.
pub fn same_interface(known: &str, asked: &str) -> bool {
    let (known_name, known_version) = split(known);
    let (asked_name, asked_version) = split(asked);
    let (Some(known_version), Some(asked_version)) = (known_version, asked_version) else {
        return known == asked;
    };
    let exact = !known_version.pre.is_empty() || !asked_version.pre.is_empty();
    let compatible = if exact {
        known_version == asked_version
    } else {
        known_version.major == asked_version.major
            && (known_version.major > 0 || known_version.minor == asked_version.minor)
    };
    known_name == asked_name && compatible
}

fn split(interface: &str) -> (&str, Option<semver::Version>) {
    match interface.split_once('@') {
        Some((name, version)) => (name, version.parse().ok()),
        None => (interface, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_interfaces_match_by_semver_and_drafts_exactly() {
        let http = |asked| same_interface("wasi:http/types@0.2.12", asked);
        assert!(http("wasi:http/types@0.2.0") && http("wasi:http/types@0.2.12") && http("wasi:http/types@0.2.99"));
        assert!(!http("wasi:http/types@0.3.0") && !http("wasi:http/handler@0.2.0") && !http("wasi:http/types"));
        let log = |asked| same_interface("wasi:logging/logging@0.1.0-draft", asked);
        assert!(log("wasi:logging/logging@0.1.0-draft"));
        assert!(!log("wasi:logging/logging@0.1.0") && !log("wasi:logging/logging@0.1.0-draft2"));
    }

    #[test]
    fn each_interface_belongs_to_one_capability() {
        for capability in Capability::ALL {
            for interface in capability.interfaces() {
                assert_eq!(Capability::of(interface), Some(*capability));
            }
        }
        assert_eq!(Capability::of("wasi:sockets/tcp@0.2.0"), None);
    }
}
