//! Decides what a decoded text of a body is: a secret in its place, or text without any placeholder.

use bulkhead_core::id::SecretName;

use super::pieces::Encoded;
use crate::credentials::Placeholders;
use crate::egress::event::Fault;

/// What is written for a text.
pub(super) enum Meant {
    /// The text itself.
    Text,
    /// The value that it stands for.
    Secret(Encoded),
}

/// What `text` means at a place that secrets of which `fits` says so may take. A placeholder has to be the whole of it.
pub(super) fn meant(
    text: &[u8],
    placeholders: &Placeholders,
    fits: impl Fn(&SecretName) -> bool,
    encoded: impl FnOnce(&str) -> Encoded,
) -> Result<Meant, Fault> {
    let Some((range, placeholder, secret)) = placeholders.find(text).into_iter().next() else {
        return Ok(Meant::Text);
    };
    if range != (0..text.len()) || !fits(&secret) {
        return Err(Fault::Misplaced(secret));
    }
    placeholders.reveal(&placeholder, encoded).map(Meant::Secret).ok_or(Fault::Valueless(secret))
}
