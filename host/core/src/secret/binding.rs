//! Where a stored secret may go, written in one way.
//!
//! Why: a value that was entered for one host must not come out at another. Invariant: a [`Binding`] is written in one way
//! only, so that it can be sealed together with the value.

use std::fmt;

/// Where a secret may go: hosts and places, as texts in one order. A stored value is sealed together with its binding, so
/// that whoever changes where it may go has to enter the value again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    hosts: Vec<String>,
    places: Vec<String>,
}

impl Binding {
    /// A binding to `hosts` and, there, to `places`. The order in which they are given does not matter.
    pub fn new(hosts: impl IntoIterator<Item = String>, places: impl IntoIterator<Item = String>) -> Self {
        let ordered = |items: &mut dyn Iterator<Item = String>| {
            let mut items: Vec<String> = items.collect();
            items.sort();
            items.dedup();
            items
        };
        Self { hosts: ordered(&mut hosts.into_iter()), places: ordered(&mut places.into_iter()) }
    }

    /// The hosts.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The places.
    pub fn places(&self) -> &[String] {
        &self.places
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.places.join(", "), self.hosts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_written_in_one_way() {
        let texts = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        let one = Binding::new(texts(&["b.com", "a.com", "b.com"]), texts(&["header:x"]));
        assert_eq!(one, Binding::new(texts(&["a.com", "b.com"]), texts(&["header:x"])));
        assert_eq!(one.to_string(), "header:x at a.com, b.com");
    }
}
