//! Secrets: where a placeholder may stand, what arrives in its stead, and what comes back.

pub(super) mod echoes;
pub(super) mod leaks;
pub(super) mod placed;
pub(super) mod signed;
pub(super) mod values;

use bulkhead_tests::dns::ZONE;

use crate::siege::{OPEN, Siege, Terms};

/// Code of the denial of a placeholder in the wrong place.
const MISPLACED: &str = "secret-misplaced";

/// A token as most services issue them, and unlike every other text here.
const VALUE: &str = "zqx_Live_8Jk4Wv0pTn62YsRb7Ud3";

/// What is usual, with the host `bank` besides, where secrets can be bound.
fn banked(siege: &Siege) -> Terms {
    siege.terms().opening(&format!("bank.{ZONE}"), siege.witness.port(), OPEN)
}

/// The lines that bind a secret to `bank`.
fn at_bank(more: &str) -> String {
    format!("hosts = [\"bank.{ZONE}\"]\n{more}")
}

/// Leave to send a secret without TLS, as nothing here speaks it.
const PLAIN: &str = "plain-http = true";
