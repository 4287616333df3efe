//! Makes JSON Web Tokens (RFC 7519) in the compact form (RFC 7515 §3.1).
//!
//! Why not a library: what is hard about these tokens is reading them, and we read none. A library would parse the key
//! anew for each, and keep copies of it that nobody wipes. The tests read ours with one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_core::secret::Algorithm;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Error;
use super::pem::{Form, private_key};

/// Shortest lifetime: a request has to arrive in it.
pub const SHORTEST: Duration = Duration::from_secs(10);
/// Longest lifetime: what Google takes, whose limit is the widest among those that publish one.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How far a token is dated back at most, since other clocks are behind ours: what GitHub advises.
const DATED_BACK: Duration = Duration::from_secs(60);

/// What a token says, apart from when and which one it is. What is absent is left out of the token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claims<'a> {
    /// `kid` in the head: which of the issuer's keys signed.
    pub key_id: Option<&'a str>,
    /// `iss`.
    pub issuer: Option<&'a str>,
    /// `sub`.
    pub subject: Option<&'a str>,
    /// `aud`.
    pub audience: Option<&'a str>,
    /// `scope`.
    pub scope: Option<&'a str>,
    /// From `iat` to `exp`; from [`SHORTEST`] to [`LONGEST`].
    pub lifetime: Duration,
}

/// A private key that fits its algorithm. Its memory is wiped by the library that holds it.
pub struct SigningKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// Reads a PEM text: PKCS#8, or PKCS#1 for RSA, or SEC1 for P-256. Fails when the key is not of the algorithm's kind.
    pub fn parse(text: &SecretString, algorithm: Algorithm) -> Result<Self, Error> {
        let (form, der) = private_key(text.expose_secret())?;
        let unfit = |needs| Error::Key { algorithm: name(algorithm), needs };
        let pair = match algorithm {
            Algorithm::Rs256 => {
                let key = match form {
                    Form::Pkcs8 => RsaKeyPair::from_pkcs8(&der).ok(),
                    Form::Pkcs1 => RsaKeyPair::from_der(&der).ok(),
                    Form::Sec1 => None,
                };
                Pair::Rsa(Box::new(key.ok_or(unfit("an RSA key of 2048 to 8192 bits"))?))
            }
            Algorithm::Es256 => {
                let key = match form {
                    Form::Pkcs8 | Form::Sec1 => {
                        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()
                    }
                    Form::Pkcs1 => None,
                };
                Pair::P256(Box::new(key.ok_or(unfit("a key on the curve P-256"))?))
            }
            Algorithm::EdDsa => {
                let key = match form {
                    Form::Pkcs8 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok(),
                    Form::Pkcs1 | Form::Sec1 => None,
                };
                Pair::Ed25519(Box::new(key.ok_or(unfit("an Ed25519 key"))?))
            }
        };
        Ok(Self(pair))
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Pair::Rsa(_) => Algorithm::Rs256,
            Pair::P256(_) => Algorithm::Es256,
            Pair::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// A token that says `claims`, made at `now`. `id` becomes its `jti`: sixteen random bytes, so that an issuer who
    /// keeps track takes each token once. It is dated back by a tenth of its lifetime, by a minute at most, and ends its
    /// lifetime after that date. Fails on a lifetime out of bounds.
    pub fn token(&self, claims: Claims<'_>, now: SystemTime, id: [u8; 16]) -> Result<SecretString, Error> {
        if !(SHORTEST..=LONGEST).contains(&claims.lifetime) {
            return Err(Error::Lifetime { asked: claims.lifetime.as_secs() });
        }
        let now = now.duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?;
        let issued = now.saturating_sub(DATED_BACK.min(claims.lifetime / 10)).as_secs();
        let head = Head { typ: "JWT", alg: name(self.algorithm()), kid: claims.key_id };
        let body = Body {
            iss: claims.issuer,
            sub: claims.subject,
            aud: claims.audience,
            scope: claims.scope,
            iat: issued,
            exp: issued + claims.lifetime.as_secs(),
            jti: URL_SAFE_NO_PAD.encode(id),
        };
        let mut token = format!("{}.{}", part(&head)?, part(&body)?);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token.into())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| Error::Failed)?;
                Ok(signature)
            }
            Pair::P256(key) => {
                key.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| Error::Failed)
            }
            Pair::Ed25519(key) => {
                key.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(|_| Error::Failed)
            }
        }
    }
}

/// Whether `text` is a key for `algorithm`, for whoever stores one.
pub fn check_key(text: &SecretString, algorithm: Algorithm) -> Result<(), Error> {
    SigningKey::parse(text, algorithm).map(drop)
}

/// As `alg` has it (RFC 7518 §3.1, RFC 8037 §3.1).
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 => "RS256",
        Algorithm::Es256 => "ES256",
        Algorithm::EdDsa => "EdDSA",
    }
}

#[derive(Serialize)]
struct Head<'a> {
    typ: &'static str,
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iat: u64,
    exp: u64,
    jti: String,
}

fn part(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_vec(value).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| Error::Failed)
}

#[cfg(test)]
mod tests;
