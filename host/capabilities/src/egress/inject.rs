//! Puts secrets into a permitted request's headers, after the decision and just before sending.

use bulkhead_core::Permit;
use bulkhead_core::authorize::Egress;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use super::Error;
use crate::credentials::Vault;

/// Adds every injection that `permit` carries. A declared injection that cannot happen is an error: a request without
/// its credential would fail upstream in a way nobody understands.
pub(super) fn inject(permit: &Permit<Egress>, vault: &dyn Vault, headers: &mut HeaderMap) -> Result<(), Error> {
    for injection in permit.injections() {
        let secret = vault.value(&injection.secret).ok_or_else(|| Error::SecretMissing(injection.secret.clone()))?;
        let text = format!("{}{}{}", injection.format.before, secret.expose_secret(), injection.format.after);
        let mut value = HeaderValue::from_str(&text).map_err(|_| Error::SecretUnfit(injection.secret.clone()))?;
        value.set_sensitive(true);
        // Injection replaces nothing: not what the guest set, which was denied, and not another secret.
        if headers.insert(injection.header.clone(), value).is_some() {
            return Err(Error::SecretUnfit(injection.secret.clone()));
        }
    }
    Ok(())
}
