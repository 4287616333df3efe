//! Rewrites a form, field by field, with secrets in their fields.
//!
//! Why: servers disagree on what separates fields (`;` once did) and on escapes that are none. Invariants: 1. names and
//! values are decoded as the URL standard says (<https://url.spec.whatwg.org/#urlencoded-parsing>) and written anew with
//! everything escaped that is not unreserved (RFC 3986 §2.3); 2. a field that is a place is there once.

use std::borrow::Cow;
use std::sync::Arc;

use bulkhead_core::id::SecretName;
use bulkhead_core::secret::FieldName;
use memchr::memchr;
use percent_encoding::{percent_decode, percent_encode};
use zeroize::Zeroizing;

use super::pieces::{Encoded, Pieces};
use super::text::{Meant, meant};
use super::watch::absent;
use super::{LONGEST_TOKEN, SETTLED, Slot, extend};
use crate::credentials::{ESCAPED, Placeholders};
use crate::egress::event::Fault;

/// A form on its way through.
pub(super) struct Form {
    placeholders: Arc<Placeholders>,
    slots: Vec<Slot<FieldName>>,
    /// Which slots' fields were there.
    seen: Vec<bool>,
    /// A field that has not ended.
    field: Vec<u8>,
    /// Whether a field was written.
    begun: bool,
}

/// The value as a field has it.
fn encoded(value: &str) -> Encoded {
    // Three characters for a byte at most: it is never reallocated.
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    write_escaped(&mut bytes, value.as_bytes());
    Encoded::new(bytes)
}

fn write_escaped(to: &mut Vec<u8>, text: &[u8]) {
    // A long one is not to take twice its length, as a `Vec` does that grows.
    if text.len() as u64 > SETTLED {
        to.reserve_exact(percent_encode(text, ESCAPED).map(str::len).sum());
    }
    for part in percent_encode(text, ESCAPED) {
        to.extend_from_slice(part.as_bytes());
    }
}

impl Form {
    pub(super) fn new(placeholders: Arc<Placeholders>, slots: Vec<Slot<FieldName>>) -> Self {
        Self { placeholders, seen: vec![false; slots.len()], slots, field: Vec::new(), begun: false }
    }

    /// Bytes of a field that has not ended.
    pub(super) fn unread(&self) -> u64 {
        self.field.len() as u64
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Pieces) -> Result<(), Fault> {
        let mut rest = piece;
        while let Some((field, after)) = memchr(b'&', rest).and_then(|end| rest.split_at_checked(end)) {
            self.keep(field)?;
            self.write(out)?;
            rest = after.get(1..).unwrap_or_default();
        }
        self.keep(rest)
    }

    pub(super) fn finish(&mut self, out: &mut Pieces) -> Result<(), Fault> {
        self.write(out)
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Fault> {
        if self.field.len() + part.len() > LONGEST_TOKEN {
            return Err(Fault::Unwieldy(LONGEST_TOKEN));
        }
        extend(&mut self.field, part);
        Ok(())
    }

    /// Writes the field that has ended. An empty one is none.
    fn write(&mut self, out: &mut Pieces) -> Result<(), Fault> {
        if self.field.is_empty() {
            return Ok(());
        }
        let mut parts = self.field.splitn(2, |byte| *byte == b'=');
        let name = decoded(parts.next().unwrap_or_default());
        // Some servers tell `a` from `a=`.
        let value = parts.next().map(decoded);
        absent(&self.placeholders, &name)?;
        let here = |slot: &Slot<FieldName>| slot.place.as_str().as_bytes() == &*name;
        for (slot, seen) in self.slots.iter().zip(&mut self.seen) {
            if here(slot) && std::mem::replace(seen, true) {
                return Err(Fault::Repeated(slot.secret.clone()));
            }
        }
        if std::mem::replace(&mut self.begun, true) {
            out.writer().push(b'&');
        }
        write_escaped(out.writer(), &name);
        if let Some(value) = value {
            out.writer().push(b'=');
            let fits = |secret: &SecretName| self.slots.iter().any(|slot| here(slot) && slot.secret == *secret);
            match meant(&value, &self.placeholders, fits, encoded)? {
                Meant::Secret(secret) => out.secret(secret),
                Meant::Text => write_escaped(out.writer(), &value),
            }
        }
        self.field.clear();
        Ok(())
    }
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        Cow::Owned(percent_decode(&spaced).collect())
    } else {
        percent_decode(text).into()
    }
}
