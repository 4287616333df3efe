//! HTTP/2, where one socket could serve several names, and an upstream can name another place.

use std::sync::PoisonError;

use anyhow::Context;
use bulkhead_tests::dns::ZONE;
use bulkhead_tests::tls::{Authority, Upstream};
use rcgen::SanType;

use super::NOT_DECLARED;
use crate::attempt::{Attempt, get};
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege, rule};

/// One upstream with a certificate for two names, of which one is permitted, that names a listener in its answers.
pub(super) async fn coalescing(siege: &Siege) -> anyhow::Result<Row> {
    let authority = Authority::new()?;
    let [permitted, other] = ["permitted", "other"].map(|name| format!("{name}.many.{ZONE}"));
    let second = SanType::DnsName(other.clone().try_into()?);
    let identity = authority.issue(&permitted, |params| params.subject_alt_names.push(second))?;
    let elsewhere = *siege.tripwire.addresses().first().context("no listener that stays silent")?;
    let upstream = Upstream::multiplexing(identity, elsewhere).await?;
    let port = upstream.address.port();
    siege.secure.lock().unwrap_or_else(PoisonError::into_inner).push(upstream);
    for name in ["permitted.many", "other.many"] {
        siege.dns.answer(name, &[&["127.0.0.1"]])?;
    }
    let rule = rule("https", &permitted, port);
    let mut terms = siege.terms().asking(&rule, "paths = [\"/\"]").granting(&rule, OPEN);
    terms.network.authorities = vec![authority.certificate()];
    let good = || Attempt {
        arrives: vec![format!("TLS {port}")],
        ..get(format!("https://{permitted}:{port}/")).answered(200)
    };
    let over = |host: &str| get(format!("https://{host}:{port}/")).denied(NOT_DECLARED);
    // The socket to the permitted name is open when the other is asked for, and its answer has named another place.
    let attempts = vec![good(), over(&other), good(), over("localhost"), over("127.0.0.1"), good()];
    Ok(Row::guest("HTTP/2: another name over the same socket, Alt-Svc", [Siting::new(siege, terms, attempts)]))
}
