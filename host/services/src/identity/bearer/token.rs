//! Reads a signed token (RFC 7515, RFC 7519): what it says of itself, strictly, and for whom and when it holds.
//!
//! *Why strictly*: whatever two readers can read differently has been an attack. So there is one spelling of base64url, one of each name,
//! and no header that tells where a key is to be had.
//! *Invariants*: 1. three parts, none empty, at most [`LARGEST`] bytes; 2. `alg` is one of a list, `kid` is only a name; 3. `exp` is there
//! and a number; 4. `iss`, `sub` and `aud` are text, compared to the byte.
//! *Never*: whether the signature is right; `keys.rs` says that. This room is pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::super::registered::LONGEST_SUBJECT;
use super::issuer::Algorithm;
use super::strict;

/// Largest token, in bytes: those of the large providers have about two thousand.
pub(super) const LARGEST: usize = 8 * 1024;
/// Longest name of a key, in bytes.
const LONGEST_KID: usize = 256;
/// Most audiences.
const MOST_AUDIENCES: usize = 32;
/// How much two clocks may differ, in seconds.
pub(super) const LEEWAY: u64 = 60;
/// The last second of the year 9999: a time beyond it is a mistake.
const LAST_OF_DATES: u64 = 253_402_300_799;
/// Headers that say where a key is, or that the token is to be read in another way. A token with one of them is refused.
const REFUSED_HEADERS: [&str; 10] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc", "cty", "epk"];

/// Why a token is none.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unfit {
    #[error("not three parts in base64url")]
    Form,
    #[error("its header is not one that is accepted")]
    Header,
    #[error("its claims are not what they have to be")]
    Claims,
    #[error("it is for others")]
    Audience,
    #[error("it is over")]
    Expired,
    #[error("it does not hold yet")]
    Early,
}

/// Header, claims and signature (RFC 7515 §3.1), before it is known whether the signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// Header and claims as they were signed.
    pub(super) text: String,
    /// The signature's text.
    pub(super) signature: String,
}

/// What a token says (RFC 7519 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) signed: Signed,
    pub(super) issuer: String,
    pub(super) subject: String,
    audiences: Vec<String>,
    /// The second in which it ends, since 1970.
    pub(super) expires: u64,
    not_before: Option<u64>,
    issued: Option<u64>,
}

impl Signed {
    /// The parts of `text`, and the claims as bytes.
    pub(super) fn read(text: &str) -> Result<(Self, Vec<u8>), Unfit> {
        if text.len() > LARGEST {
            return Err(Unfit::Form);
        }
        let mut parts = text.split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Unfit::Form);
        };
        let decoded = |part: &str| match URL_SAFE_NO_PAD.decode(part) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(Unfit::Form),
        };
        let (header, body) = (decoded(head)?, decoded(claims)?);
        decoded(signature)?;
        let (algorithm, kid) = read_header(&strict::object(&header).ok_or(Unfit::Header)?)?;
        Ok((Self { algorithm, kid, text: format!("{head}.{claims}"), signature: signature.to_owned() }, body))
    }
}

impl Token {
    /// What `text` says, before it is known whether that is true.
    pub(super) fn read(text: &str) -> Result<Self, Unfit> {
        let (signed, body) = Signed::read(text)?;
        let claims = strict::object(&body).ok_or(Unfit::Claims)?;
        let text_of = |name: &str, longest: usize| match claims.get(name) {
            Some(Value::String(text)) if !text.is_empty() && text.len() <= longest => Ok(text.clone()),
            _ => Err(Unfit::Claims),
        };
        let time_of = |name: &str| claims.get(name).map(|value| time(value).ok_or(Unfit::Claims)).transpose();
        Ok(Self {
            signed,
            issuer: text_of("iss", LONGEST_SUBJECT)?,
            subject: text_of("sub", LONGEST_SUBJECT)?,
            audiences: audiences(claims.get("aud").ok_or(Unfit::Claims)?)?,
            expires: time_of("exp")?.ok_or(Unfit::Claims)?,
            not_before: time_of("nbf")?,
            issued: time_of("iat")?,
        })
    }

    /// Whether it is for `audience`, and holds now.
    pub(super) fn holds(&self, audience: &str, now: u64) -> Result<(), Unfit> {
        if !self.audiences.iter().any(|known| known == audience) {
            return Err(Unfit::Audience);
        }
        if now >= self.expires.saturating_add(LEEWAY) {
            return Err(Unfit::Expired);
        }
        let early = |time: Option<u64>| time.is_some_and(|time| time > now.saturating_add(LEEWAY));
        if early(self.not_before) || early(self.issued) { Err(Unfit::Early) } else { Ok(()) }
    }
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), Unfit> {
    if REFUSED_HEADERS.iter().any(|name| header.contains_key(*name)) {
        return Err(Unfit::Header);
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) => {
            let kind = kind.to_ascii_lowercase();
            let kind = kind.strip_prefix("application/").unwrap_or(&kind);
            if !["jwt", "at+jwt"].contains(&kind) {
                return Err(Unfit::Header);
            }
        }
        Some(_) => return Err(Unfit::Header),
    }
    let Some(Value::String(algorithm)) = header.get("alg") else { return Err(Unfit::Header) };
    let algorithm = serde_json::from_value(Value::String(algorithm.clone())).map_err(|_| Unfit::Header)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= LONGEST_KID => Some(kid.clone()),
        Some(_) => return Err(Unfit::Header),
    };
    Ok((algorithm, kid))
}

fn audiences(value: &Value) -> Result<Vec<String>, Unfit> {
    let one = |value: &Value| value.as_str().map(str::to_owned).ok_or(Unfit::Claims);
    match value {
        Value::String(_) => Ok(vec![one(value)?]),
        Value::Array(list) if (1..=MOST_AUDIENCES).contains(&list.len()) => list.iter().map(one).collect(),
        _ => Err(Unfit::Claims),
    }
}

/// A NumericDate (RFC 7519 §2): a number, whole or not, of seconds that have a date.
fn time(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    let whole = number.as_u64().or_else(|| {
        let number = number.as_f64().filter(|number| (0.0..=LAST_OF_DATES as f64).contains(number))?;
        // Within the range of whole numbers that it holds exactly.
        Some(number.floor() as u64)
    })?;
    (whole <= LAST_OF_DATES).then_some(whole)
}

#[cfg(test)]
mod tests;
