//! Budgets, and how a guest could hope to have more than one of them.

use bulkhead_tests::dns::ZONE;

use crate::attempt::{Attempt, get};
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege};

/// One request in ten seconds is a burst of one.
const ONE_IN_TEN_SECONDS: u32 = 6;

/// Fresh labels under a wildcard, which share the wildcard's budget.
pub(super) fn fresh_labels(siege: &Siege) -> anyhow::Result<Row> {
    let wildcard = format!("*.fresh.{ZONE}");
    let mut terms = siege.terms().opening(&wildcard, siege.witness.port(), OPEN);
    terms.manifest.push_str(&format!("[limits]\nrequests-per-minute = {{ \"{wildcard}\" = {ONE_IN_TEN_SECONDS} }}\n"));
    let mut attempts = Vec::new();
    for at in 0..8 {
        let name = format!("f{at}.fresh");
        siege.dns.answer(&name, &[&["127.0.0.1"]])?;
        let request = get(siege.named(&name, "/"));
        attempts.push(if at == 0 { request.answered(200) } else { held_back(request.answered(429)) });
    }
    Ok(Row::guest("A wildcard's budget spread over fresh labels", [Siting::new(siege, terms, attempts)]))
}

/// Answered by the host: nothing arrives.
fn held_back(mut attempt: Attempt) -> Attempt {
    attempt.arrives.clear();
    attempt
}
