//! Rows with an HMAC-SHA-256 over what they are and what they say.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::error::{Error, Tampering};
use super::super::seal::{Context, Key, hex, unhex};
use super::{FORM, Row, encoded};

/// A row as it is stored, with its authentication.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    form: u32,
    tag: String,
    row: Box<RawValue>,
}

/// Writes a row with its authentication.
pub(in super::super) fn sign<R: Row>(key: &Key, row: &R) -> Result<Vec<u8>, Error> {
    let row = serde_json::value::to_raw_value(row).map_err(|error| Error::Row(error.to_string()))?;
    let tag = hex(&key.authenticate(&signing::<R>(&row)));
    encoded(&Signed { form: FORM, tag, row })
}

/// Reads a row whose authentication is still to be checked with [`confirm`].
pub(in super::super) fn peek<R: Row>(bytes: &[u8], what: &str) -> Result<R, Tampering> {
    let changed = || Tampering::Changed(what.to_owned());
    let signed: Signed = serde_json::from_slice(bytes).map_err(|_| changed())?;
    if signed.form != FORM {
        return Err(Tampering::LaterForm { what: what.to_owned(), form: signed.form });
    }
    serde_json::from_str(signed.row.get()).map_err(|_| changed())
}

/// Whether a row is as it was written.
pub(in super::super) fn confirm<R: Row>(key: &Key, bytes: &[u8], what: &str) -> Result<(), Tampering> {
    let changed = || Tampering::Changed(what.to_owned());
    let signed: Signed = serde_json::from_slice(bytes).map_err(|_| changed())?;
    let tag = unhex(&signed.tag).ok_or_else(changed)?;
    if key.confirms(&signing::<R>(&signed.row), &tag) { Ok(()) } else { Err(changed()) }
}

fn signing<R: Row>(row: &RawValue) -> Context {
    Context::new(R::KIND).number(FORM.into()).text(row.get())
}
