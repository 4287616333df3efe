//! Redirects to elsewhere. The host follows none; a guest that follows one is judged anew.

use bulkhead_tests::dns::ZONE;

use super::{ADDRESS, NOT_DECLARED, registry};
use crate::attempt::{Request, get};
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// A request that is answered with a redirect, and carries a secret of the guest's own besides the host's.
fn redirected(siege: &Siege, status: u16, to: &str) -> Request {
    get(siege.raw(&format!("/answer/{status}?to={to}"))).header("x-secret", "of the guest")
}

/// Where upstreams would send a connector: inside, elsewhere, and to where the host may go but was not asked to.
fn targets(siege: &Siege) -> anyhow::Result<Vec<String>> {
    let port = siege.witness.port();
    let addresses = registry::addresses()?.into_iter();
    let mut targets: Vec<String> =
        addresses.map(|address| format!("http://{}:{port}/", registry::host(address))).collect();
    targets.push(format!("http://127.0.0.2:{port}/"));
    targets.push(format!("http://[::1]:{port}/"));
    targets.push(format!("http://forbidden.{ZONE}:{port}/"));
    targets.push(format!("https://raw.{ZONE}:{port}/"));
    Ok(targets)
}

pub(super) fn left_alone(siege: &Siege) -> anyhow::Result<Row> {
    let mut targets = targets(siege)?;
    targets.extend([siege.raw("/other"), siege.api("/v1/contacts"), "/v1/admin".into(), "//127.0.0.2/".into()]);
    let attempts = targets.iter().zip(STATUSES.iter().cycle());
    let attempts = attempts.map(|(to, status)| redirected(siege, *status, to).answered(*status)).collect();
    let siting = Siting::new(siege, siege.terms(), attempts);
    Ok(Row::guest("Redirects 301 302 303 307 308, to each block and elsewhere", [siting]))
}

/// The guest asks where it was sent to, with the headers of its first request.
pub(super) fn followed(siege: &Siege) -> anyhow::Result<Row> {
    let follow = |status: u16, to: &str| redirected(siege, status, to).with("follow", true.into());
    let mut attempts = Vec::new();
    for (to, status) in targets(siege)?.iter().zip(STATUSES.iter().cycle()) {
        attempts.push(follow(*status, to).denied(NOT_DECLARED).arriving(redirected(siege, *status, to).arrival()));
    }
    // Two names that are granted: one leads inside, and one to an upstream that the secret is not bound to.
    siege.dns.answer("inside", &[&["127.0.0.2"]])?;
    siege.dns.answer("unbound", &[&["127.0.0.1"]])?;
    let port = siege.witness.port();
    let terms =
        siege.terms().opening(&format!("inside.{ZONE}"), port, OPEN).opening(&format!("unbound.{ZONE}"), port, OPEN);
    for status in STATUSES {
        let (inside, unbound) = (siege.named("inside", "/"), siege.named("unbound", "/"));
        attempts.push(follow(status, &inside).denied(ADDRESS).arriving(redirected(siege, status, &inside).arrival()));
        attempts.push(follow(status, &unbound).answered(200).arriving(get(unbound).arrival()));
    }
    Ok(Row::guest("The same, followed by the guest", [Siting::new(siege, terms, attempts)]))
}
