//! Signs whole requests to AWS, and to whatever speaks its protocol: Signature Version 4, in the `Authorization` header.
//!
//! Why at egress: a guest's ordinary `fetch` works, and the guest never holds a key, a signature or a signed URL to carry
//! elsewhere. Invariants: 1. method, host, path, query, body and every header that arrives as it was sent are under the
//! signature; 2. a payload is signed whole or in chunks, and left unsigned only where a grant says so, over TLS; 3. what
//! of the request is the signature's own is written here, and a request that has it already is refused.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
//! `key.rs` reads the key, `canonical.rs` says what is signed, `chunks.rs` signs a body as it goes.

mod canonical;
mod chunks;
mod key;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::Error;
use super::hmac::hexadecimal;

pub use canonical::Head;
pub use chunks::{CHUNK, Chunks, encoded_length};
pub use key::AwsKey;

/// Largest body that is kept and hashed whole, in bytes. Larger ones go in signed chunks.
pub const LARGEST_WHOLE: u64 = 8 * 1024 * 1024;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");

/// The first second of the year 10000.
const END_OF_DATES: u64 = 253_402_300_800;

/// The hash of a whole body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The hash of `pieces`, one after the other.
    pub fn of(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for piece in pieces {
            context.update(piece.as_ref());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    fn hexadecimal(self) -> String {
        hexadecimal(&self.0)
    }
}

/// What is signed of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// All of it, which was kept and has this hash. `Sha256::of([b""])` for none.
    Whole(Sha256),
    /// Each chunk of a body of this many bytes, by the [`Chunks`] that [`Signed`] starts. S3 alone can read that.
    Chunks(u64),
    /// Nothing. For an operator's explicit word, and over TLS only.
    Unsigned,
}

/// Signs one connection's requests to one service in one region.
pub struct Signer<'a> {
    /// With which key.
    pub key: &'a AwsKey,
    /// For which region: `eu-central-1`.
    pub region: &'a str,
    /// For which service: `s3`, `execute-api`.
    pub service: &'a str,
}

/// A request that was signed. From here the signatures of its chunks go on.
pub struct Signed {
    key: hmac::Key,
    date: String,
    scope: String,
    signature: String,
}

impl Signed {
    /// The signature of the head, in hexadecimal.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Signs a body of `decoded` bytes chunk by chunk.
    pub fn chunks(self, decoded: u64) -> Chunks {
        Chunks::new(self, decoded)
    }

    fn sign(&self, text: &[u8]) -> String {
        hexadecimal(hmac::sign(&self.key, text).as_ref())
    }
}

impl Signer<'_> {
    /// Signs `head` and `headers` as they will be sent at `now`, and adds to `headers` what the signature needs:
    /// `x-amz-date`, `authorization`, `x-amz-security-token` where the key has one, `x-amz-content-sha256` where the
    /// service reads it, and for chunks their coding and lengths. Fails, with nothing sent, when the request already has
    /// one of those, or a signature in its query.
    pub fn sign(
        &self,
        head: &Head<'_>,
        headers: &mut HeaderMap,
        payload: Payload,
        now: SystemTime,
    ) -> Result<Signed, Error> {
        for own in [AUTHORIZATION, DATE, CONTENT_SHA256, SECURITY_TOKEN, DECODED_LENGTH] {
            if headers.contains_key(&own) {
                return Err(Error::Taken(own));
            }
        }
        canonical::refuse_presigned(head)?;
        let date = timestamp(now)?;
        let hash = self.prepare(head, headers, payload)?;
        headers.insert(DATE, written(&date)?);
        if let Some(token) = self.key.token() {
            let mut value = written(token.expose_secret())?;
            value.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, value);
        }

        let (request, names) = canonical::request(head, headers, &hash, self.rules());
        let day = date.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", Sha256::of([&*request]).hexadecimal());
        let mut signed = Signed { key: self.derive(day), date, scope, signature: String::new() };
        signed.signature = signed.sign(text.as_bytes());

        let (id, scope, signature) = (self.key.id(), &signed.scope, &signed.signature);
        let credential = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        let mut value = written(&credential)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(signed)
    }

    /// Writes what says how the payload goes; what stands for it in the canonical request.
    fn prepare(&self, head: &Head<'_>, headers: &mut HeaderMap, payload: Payload) -> Result<String, Error> {
        let hash = match payload {
            Payload::Whole(hash) if !self.is_s3() => return Ok(hash.hexadecimal()),
            Payload::Whole(hash) => hash.hexadecimal(),
            Payload::Unsigned if head.secure => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Unsigned => return Err(Error::Clear),
            Payload::Chunks(_) if !self.is_s3() => return Err(Error::Unchunked(self.service.to_owned())),
            Payload::Chunks(decoded) => {
                let coding = match headers.get(CONTENT_ENCODING) {
                    None => HeaderValue::from_static("aws-chunked"),
                    Some(inner) => HeaderValue::from_bytes(&[b"aws-chunked,", inner.as_bytes()].concat())
                        .map_err(|_| Error::Failed)?,
                };
                headers.insert(CONTENT_ENCODING, coding);
                headers.insert(DECODED_LENGTH, decoded.into());
                headers.insert(CONTENT_LENGTH, encoded_length(decoded).into());
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned()
            }
        };
        headers.insert(CONTENT_SHA256, written(&hash)?);
        Ok(hash)
    }

    /// The key of one day, region and service.
    fn derive(&self, day: &str) -> hmac::Key {
        let secret = self.key.secret().expose_secret();
        let mut first = Zeroizing::new(Vec::with_capacity("AWS4".len() + secret.len()));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &first);
        [day, self.region, self.service, "aws4_request"].into_iter().fold(key, |key, part| {
            let mut tag = Zeroizing::new([0; 32]);
            tag.copy_from_slice(hmac::sign(&key, part.as_bytes()).as_ref());
            hmac::Key::new(hmac::HMAC_SHA256, &*tag)
        })
    }

    fn rules(&self) -> canonical::Rules {
        if self.is_s3() { canonical::Rules::S3 } else { canonical::Rules::Others }
    }

    /// Whether the service reads paths, hashes and chunks as S3 does.
    fn is_s3(&self) -> bool {
        matches!(self.service, "s3" | "s3express" | "s3-object-lambda" | "s3-outposts")
    }
}

fn written(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::Failed)
}

/// `20150830T123600Z`.
fn timestamp(now: SystemTime) -> Result<String, Error> {
    let since = now.duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?;
    if since.as_secs() >= END_OF_DATES {
        return Err(Error::Clock);
    }
    Ok(humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests;
