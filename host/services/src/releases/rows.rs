//! The parts of a release, cut into rows, since a row has a largest size.
//!
//! *Invariant*: a part has as many bytes as the release's record says, or it is damaged.

use bulkhead_core::id::{Digest, TenantId};
use bulkhead_storage::record::key;
use bulkhead_storage::{Batch, LARGEST_PAGE, LARGEST_VALUE, Space, Store};

use super::{Error, Reference, Sizes};
use crate::release::{Parts, Places};

/// Where the parts lie, by tenant, digest, part and number.
pub const PARTS: Space = Space::new("release-parts");

pub(super) const MANIFEST: &str = "manifest";
pub(super) const SCHEMA: &str = "schema";
const COMPONENT: &str = "component";

/// Adds all parts to a batch.
pub(super) fn put(batch: &mut Batch, tenant: &TenantId, digest: &Digest, parts: Parts) {
    let Parts { manifest, schema, component, places: _ } = parts;
    for (part, bytes) in [(MANIFEST, manifest.into_bytes()), (SCHEMA, schema.into_bytes()), (COMPONENT, component)] {
        for (number, chunk) in bytes.chunks(LARGEST_VALUE).enumerate() {
            batch.put(PARTS, &at(tenant, digest, part, number), chunk.to_vec());
        }
    }
}

/// Removes all parts, which have these sizes.
pub(super) fn delete(batch: &mut Batch, tenant: &TenantId, digest: &Digest, sizes: Sizes) {
    for (part, size) in [(MANIFEST, sizes.manifest), (SCHEMA, sizes.schema), (COMPONENT, sizes.component)] {
        for number in 0..size.div_ceil(LARGEST_VALUE) {
            batch.delete(PARTS, &at(tenant, digest, part, number));
        }
    }
}

/// A part that is text.
pub(super) async fn text(store: &dyn Store, of: &Reference, part: &str, size: usize) -> Result<String, Error> {
    String::from_utf8(bytes(store, of, part, size).await?).map_err(|_| Error::Damaged(of.digest))
}

/// All parts.
pub(super) async fn parts(store: &dyn Store, of: &Reference, sizes: Sizes) -> Result<Parts, Error> {
    Ok(Parts {
        manifest: text(store, of, MANIFEST, sizes.manifest).await?,
        schema: text(store, of, SCHEMA, sizes.schema).await?,
        component: bytes(store, of, COMPONENT, sizes.component).await?,
        places: Places::default(),
    })
}

async fn bytes(store: &dyn Store, of: &Reference, part: &str, size: usize) -> Result<Vec<u8>, Error> {
    let prefix = key(&[of.of.as_str(), &of.digest.to_string(), part]);
    let (mut bytes, mut after) = (Vec::with_capacity(size), None);
    loop {
        let page = store.scan(PARTS, &prefix, after.as_deref(), LARGEST_PAGE).await?;
        after = page.entries.last().map(|(key, _)| key.clone());
        for (_, chunk) in page.entries {
            bytes.extend(chunk);
        }
        if !page.more || bytes.len() > size {
            break;
        }
    }
    if bytes.len() == size { Ok(bytes) } else { Err(Error::Damaged(of.digest)) }
}

fn at(tenant: &TenantId, digest: &Digest, part: &str, number: usize) -> Vec<u8> {
    // Wide enough for any part, and in the order of the numbers.
    let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    [key(&[tenant.as_str(), &digest.to_string(), part]), number.to_vec()].concat()
}
