//! One-time codes by the clock (RFC 6238), and codes to fall back on.
//!
//! *Invariants*: 1. a step is accepted once: whoever calls keeps the last one, and asks for a later one; 2. one step before and after
//! the current one is accepted, as RFC 6238 §5.2 recommends, and no more; 3. recovery codes are 80 random bits, of which only digests
//! are kept.
//! *Never*: counting attempts; `throttle` does that. This room is pure but for randomness.

use aws_lc_rs::rand;
use bulkhead_core::id::Digest;
use secrecy::SecretString;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use super::{Error, ticket};

/// Seconds of one step.
const STEP: u64 = 30;
/// Digits of a code: what every authenticator application shows.
const DIGITS: u8 = 6;
/// Bytes of a secret: what RFC 4226 §4 recommends.
const SECRET: usize = 20;
/// Codes to fall back on.
pub const RECOVERY_CODES: usize = 10;
/// Bytes of one.
const RECOVERY: usize = 10;
/// The digits of Crockford's base 32, which nobody mistakes for one another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What an authenticator application is given.
pub struct Enrolment {
    /// The secret in base 32, to be typed.
    pub secret: SecretString,
    /// The same as `otpauth://` URL, to be scanned.
    pub url: SecretString,
}

/// A new secret.
pub(super) fn new_secret() -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut secret = Zeroizing::new(vec![0; SECRET]);
    rand::fill(&mut secret).map_err(|_| Error::NoRandom)?;
    Ok(secret)
}

/// What is shown of a secret, once.
pub(super) fn enrolment(secret: &[u8], account: &str) -> Result<Enrolment, Error> {
    let totp = totp(secret, account)?;
    let url = totp.to_url().map_err(|_| unusable())?;
    Ok(Enrolment { secret: totp.secret().to_base32().into(), url: url.into() })
}

/// The step of which `code` is the code, if it is later than `last` and near `now`.
pub(super) fn step(secret: &[u8], code: &str, now: u64, last: u64) -> Result<Option<u64>, Error> {
    let totp = totp(secret, "")?;
    Ok(totp.check(code, now).filter(|step| *step > last))
}

fn totp(secret: &[u8], account: &str) -> Result<Totp, Error> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(1)
        .with_step_duration(STEP)
        .with_secret(secret.to_vec())
        .with_account_name(account)
        .with_issuer(Some("Bulkhead"))
        .build()
        .map_err(|_| unusable())
}

fn unusable() -> Error {
    Error::Invalid("the secret of the second factor cannot be used".to_owned())
}

/// Codes to fall back on, and their digests.
pub(super) fn recovery_codes() -> Result<(Vec<SecretString>, Vec<Digest>), Error> {
    let (mut codes, mut digests) = (Vec::new(), Vec::new());
    for _ in 0..RECOVERY_CODES {
        let mut bytes = Zeroizing::new([0; RECOVERY]);
        rand::fill(bytes.as_mut()).map_err(|_| Error::NoRandom)?;
        let code = spelled(bytes.as_ref());
        digests.push(recovery_digest(&code));
        codes.push(code.into());
    }
    Ok((codes, digests))
}

/// Which of `digests` is that of `code`. All are compared.
pub(super) fn recovers(code: &str, digests: &[Digest]) -> Option<usize> {
    let digest = recovery_digest(code);
    let compared = |found, (at, kept)| if ticket::same(kept, &digest) { Some(at) } else { found };
    digests.iter().enumerate().fold(None, compared)
}

/// Whether `code` looks like one to fall back on, and not like one by the clock.
pub(super) fn is_recovery(code: &str) -> bool {
    code.len() != usize::from(DIGITS)
}

/// As it is compared: however it was typed.
fn recovery_digest(code: &str) -> Digest {
    let plain: Zeroizing<String> = Zeroizing::new(
        code.chars().take(64).filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect(),
    );
    Digest::of(&[b"bulkhead recovery 1", plain.as_bytes()])
}

/// `xxxx-xxxx-xxxx-xxxx`.
fn spelled(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(19);
    let bits = bytes.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    for at in (0..16_u32).rev() {
        let digit = usize::try_from(bits >> (5 * at) & 31).unwrap_or_default();
        text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
        if at > 0 && at % 4 == 0 {
            text.push('-');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// RFC 6238, appendix B, for SHA-1: the last six of the eight digits.
    const VECTORS: [(u64, &str); 6] = [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ];
    const KEY: &[u8] = b"12345678901234567890";

    #[test]
    fn the_vectors_of_rfc_6238_pass() {
        for (at, code) in VECTORS {
            assert_eq!(step(KEY, code, at, 0).unwrap(), Some(at / STEP), "{at}");
        }
        // The same with all eight digits, in the three algorithms of the appendix.
        let full = |algorithm, key: &[u8], at: u64| {
            let totp = Builder::new().with_algorithm(algorithm).with_digits(8).with_secret(key.to_vec());
            totp.build().unwrap().generate(at).to_string()
        };
        let key = |length: usize| KEY.iter().copied().cycle().take(length).collect::<Vec<u8>>();
        for (at, sha1, sha256, sha512) in [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000, "65353130", "77737706", "47863826"),
        ] {
            assert_eq!(full(Algorithm::SHA1, &key(20), at), sha1);
            assert_eq!(full(Algorithm::SHA256, &key(32), at), sha256);
            assert_eq!(full(Algorithm::SHA512, &key(64), at), sha512);
        }
    }

    #[test]
    fn one_step_of_drift_is_accepted_and_no_more() {
        let (at, code) = VECTORS[3];
        for (drift, expected) in [(-60_i64, false), (-30, true), (0, true), (30, true), (60, false)] {
            let now = at.saturating_add_signed(drift);
            assert_eq!(step(KEY, code, now, 0).unwrap().is_some(), expected, "{drift}");
        }
    }

    #[test]
    fn a_step_is_never_accepted_again_nor_is_an_earlier_one() {
        let (at, code) = VECTORS[3];
        let matched = step(KEY, code, at, 0).unwrap().unwrap();
        assert_eq!(step(KEY, code, at, matched).unwrap(), None);
        assert_eq!(step(KEY, code, at + 30, matched).unwrap(), None);
        assert_eq!(step(KEY, code, at, matched + 1).unwrap(), None);
        assert_eq!(step(KEY, code, at, matched - 1).unwrap(), Some(matched));
    }

    #[test]
    fn what_is_no_code_is_not_one() {
        for code in ["", "28708", "2870820", "28708a", "+87082", " 287082", "287082\n", "２８７０８２", "94287082"]
        {
            assert_eq!(step(KEY, code, 59, 0).unwrap(), None, "{code}");
        }
    }

    #[test]
    fn an_application_is_told_all_it_needs() {
        let enrolment = enrolment(KEY, "acme/ada").unwrap();
        assert_eq!(enrolment.secret.expose_secret(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let url = enrolment.url.expose_secret();
        assert!(url.starts_with("otpauth://totp/Bulkhead:acme%2Fada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), "{url}");
        assert_eq!(new_secret().unwrap().len(), SECRET);
    }

    #[test]
    fn each_recovery_code_is_known_by_its_digest_however_it_is_typed() {
        let (codes, digests) = recovery_codes().unwrap();
        assert_eq!((codes.len(), digests.len()), (RECOVERY_CODES, RECOVERY_CODES));
        for (at, code) in codes.iter().enumerate() {
            let code = code.expose_secret();
            assert!(is_recovery(code) && code.len() == 19, "{code}");
            assert_eq!(recovers(code, &digests), Some(at));
            assert_eq!(recovers(&code.to_uppercase().replace('-', " "), &digests), Some(at));
        }
        assert_eq!(recovers("0000-0000-0000-0000", &digests), None);
        assert_eq!(recovers("", &digests), None);
        assert_eq!(spelled(&[0xff; RECOVERY]), "zzzz-zzzz-zzzz-zzzz");
    }
}
