//! Rows that show that a breach would be seen. Each gives the guest what an attack is after, and expects it to be reported.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use bulkhead_tests::dns::ZONE;

use super::{ADDRESS, NOT_DECLARED};
use crate::attempt::get;
use crate::row::{Row, Siting, Trial};
use crate::siege::Siege;

/// A request that is permitted where it was to be denied.
pub(super) fn a_permitted_request(siege: &Siege) -> Row {
    let attempts = vec![get(siege.api("/v1/contacts")).denied(NOT_DECLARED)];
    let siting = Siting::new(siege, siege.terms(), attempts);
    Row { name: "Self-check: a permitted request counts as a breach", trial: Trial::Breach(siting, "was to be Denied") }
}

/// A grant that opens the address of a listener that must stay silent.
pub(super) fn a_silent_listener(siege: &Siege) -> anyhow::Result<Row> {
    let silent = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let listens = |address: &&std::net::SocketAddr| address.ip() == silent && address.port() == siege.witness.port();
    siege.tripwire.addresses().iter().find(listens).context("nothing listens at 127.0.0.2")?;
    siege.dns.answer("tripped", &[&["127.0.0.2"]])?;
    let terms =
        siege.terms().opening(&format!("tripped.{ZONE}"), siege.witness.port(), "addresses = [\"127.0.0.2/32\"]");
    let siting = Siting::new(siege, terms, vec![get(siege.named("tripped", "/")).denied(ADDRESS)]);
    let trial = Trial::Breach(siting, "listeners that must stay silent were reached");
    Ok(Row { name: "Self-check: reaching a silent listener counts as a breach", trial })
}

/// More arrives than was to arrive.
pub(super) fn a_stranger(siege: &Siege) -> Row {
    let mut seen_by_none = get(siege.raw("/")).answered(200);
    seen_by_none.arrives.clear();
    let siting = Siting::new(siege, siege.terms(), vec![seen_by_none]);
    Row {
        name: "Self-check: a request too many counts as a breach",
        trial: Trial::Breach(siting, "upstreams were to see"),
    }
}
