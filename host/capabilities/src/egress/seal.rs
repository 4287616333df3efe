//! Signs a request that belongs to an AWS key, after its secrets were put in and just before it is sent.
//!
//! Why: the signature covers the whole request, so it has to be made when nothing changes any more. Invariants: 1. order:
//! swap, hash, sign, send; 2. a body is kept and hashed, or signed in chunks when it is too large to keep, or left unsigned
//! where the grant says so and over TLS; 3. a request that cannot be signed is not sent.
//! Callers: `client.rs` → here → `body.rs`, `credentials::sign::sigv4`.

use std::time::SystemTime;

use bulkhead_core::Permit;
use bulkhead_core::authorize::Egress;
use bulkhead_core::egress::Scheme;
use bulkhead_core::power::SecretPower;
use bulkhead_core::secret::{AwsScope, Injection, Way};
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body::Body;
use wasmtime_wasi_http::Error as WasiError;

use super::Error;
use super::body::Outgoing;
use super::event::Fault;
use super::fill::Broken;
use crate::credentials::Secrets;
use crate::credentials::sign::sigv4::{AwsKey, Chunks, Head, LARGEST_WHOLE, Payload, Signer};

/// The AWS key that a request belongs to.
pub(super) struct Seal<'a> {
    permit: &'a Permit<Egress>,
    secret: &'a SecretPower,
    scope: &'a AwsScope<String>,
}

impl<'a> Seal<'a> {
    /// The one of this request, if it belongs to any.
    pub(super) fn of(permit: &'a Permit<Egress>) -> Option<Self> {
        permit.injections().iter().find_map(|secret| match &secret.way {
            Way::Inject(Injection::AwsSigV4(scope)) => Some(Self { permit, secret, scope }),
            Way::Inject(_) | Way::Places(_) => None,
        })
    }

    /// Whether a body has to be seen before the head can be signed, unless it goes in chunks.
    pub(super) fn covers_body(&self) -> bool {
        !(self.secret.unsigned_payload && self.is_secure())
    }

    /// Reads as much of `body` as the signature needs before the head can be written, and writes its length into `head`.
    pub(super) async fn payload(
        &self,
        body: &mut Outgoing,
        head: &mut HeaderMap,
    ) -> Result<Payload, Broken<WasiError>> {
        let claimed = head.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let declared = claimed.or_else(|| body.size_hint().exact());
        if !self.covers_body() && !body.is_end_stream() {
            return Ok(Payload::Unsigned);
        }
        if let Some(length) = declared.filter(|length| *length > LARGEST_WHOLE) {
            return Ok(Payload::Chunks(length));
        }
        let Some((hash, length)) = body.keep_whole(declared.unwrap_or(LARGEST_WHOLE)).await? else {
            let fault = declared.map_or(Fault::Unmeasured(LARGEST_WHOLE), Fault::Mismeasured);
            return Err(Broken::Fault(fault));
        };
        if declared.is_some_and(|declared| declared != length) {
            return Err(Broken::Fault(Fault::Mismeasured(declared.unwrap_or_default())));
        }
        if length > 0 {
            head.insert(CONTENT_LENGTH, length.into());
        }
        Ok(Payload::Whole(hash))
    }

    /// Signs the request: `origin` is its path and query, and `headers` are final but for what this adds. What signs the
    /// body, if it goes in chunks.
    pub(super) fn sign(
        &self,
        origin: &str,
        headers: &mut HeaderMap,
        payload: Payload,
        secrets: &Secrets,
    ) -> Result<Option<Chunks>, Error> {
        let name = &self.secret.name;
        let unsigned = |reason| Error::Unsigned { secret: name.clone(), reason };
        let value = secrets.value(name).ok_or_else(|| Error::SecretMissing(name.clone()))?;
        let key = AwsKey::parse(value).map_err(unsigned)?;
        let request = self.permit.request();
        let authority = request.target.authority();
        let head = Head { method: &request.method, authority: &authority, target: origin, secure: self.is_secure() };
        let signer = Signer { key: &key, region: &self.scope.region, service: &self.scope.service };
        let signed = signer.sign(&head, headers, payload, SystemTime::now()).map_err(unsigned)?;
        Ok(match payload {
            Payload::Chunks(length) => Some(signed.chunks(length)),
            Payload::Whole(_) | Payload::Unsigned => None,
        })
    }

    fn is_secure(&self) -> bool {
        self.permit.request().target.scheme() == Scheme::Https
    }
}
