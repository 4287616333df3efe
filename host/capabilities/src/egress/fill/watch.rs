//! Looks for placeholders in bytes that may not hold any.
//!
//! Why: a connector that misplaces a placeholder is broken or hostile, and what leaves at one place could come back at
//! another. Invariants: 1. one that is split over pieces is found before its first byte leaves; 2. always the same number of
//! bytes is held back, whatever they are.
//! Never: decoding. A placeholder in any other spelling is dead text, since nothing but a plain one is swapped in a head, and
//! nothing at all in a body that is only watched.

use std::sync::Arc;

use super::pieces::Pieces;
use crate::credentials::{PLACEHOLDER_BYTES, Placeholders};
use crate::egress::event::Fault;

/// Breaks off where a placeholder stands anywhere in `bytes`.
pub(super) fn absent(placeholders: &Placeholders, bytes: &[u8]) -> Result<(), Fault> {
    match placeholders.find(bytes).into_iter().next() {
        None => Ok(()),
        Some((_, _, secret)) => Err(Fault::Misplaced(secret)),
    }
}

/// A body that goes out as it is, if no placeholder is in it.
pub(super) struct Watch {
    placeholders: Arc<Placeholders>,
    /// What came in last and has not left.
    kept: Vec<u8>,
}

impl Watch {
    pub(super) fn new(placeholders: Arc<Placeholders>) -> Self {
        Self { placeholders, kept: Vec::new() }
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Pieces) -> Result<(), Fault> {
        self.kept.extend_from_slice(piece);
        absent(&self.placeholders, &self.kept)?;
        if let Some(free) = self.kept.len().checked_sub(PLACEHOLDER_BYTES - 1) {
            let kept = self.kept.split_off(free);
            out.piece(std::mem::replace(&mut self.kept, kept).into());
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Pieces) {
        out.piece(std::mem::take(&mut self.kept).into());
    }

    /// Bytes held back.
    pub(super) fn kept(&self) -> u64 {
        self.kept.len() as u64
    }
}
