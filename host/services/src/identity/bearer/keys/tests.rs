//! Signatures by the RFCs' own keys, keys that do not fit, and an issuer that is asked no more often than need be.

use std::cell::Cell;

use super::super::token::Signed;
use super::*;

/// RFC 7515, appendix A.2.
const RSA: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const BY_RSA: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
/// RFC 7515, appendix A.3.
const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const BY_P256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
/// RFC 8037, appendix A.4.
const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const BY_ED25519: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn keys(list: &[&str]) -> Keys {
    Keys::parse(format!(r#"{{"keys":[{}]}}"#, list.join(",")).as_bytes()).unwrap()
}

fn signed(text: &str) -> Signed {
    Signed::read(text).unwrap().0
}

/// A key with more members.
fn with(key: &str, more: &str) -> String {
    format!("{{{more},{}", key.strip_prefix('{').unwrap())
}

#[test]
fn the_vectors_of_rfc_7515_and_8037_pass_and_changed_ones_do_not() {
    let all = keys(&[RSA, P256, ED25519]);
    assert_eq!(all.keys.len(), 3);
    for text in [BY_RSA, BY_P256, BY_ED25519] {
        assert!(all.confirm(&signed(text)), "{text}");
        let (head, signature) = text.rsplit_once('.').unwrap();
        let mut changed = signed(text);
        changed.text.push('A');
        assert!(!all.confirm(&changed), "{text}");
        let swapped: String = signature.chars().rev().collect();
        assert!(!all.confirm(&Signed { signature: swapped, ..signed(text) }), "{head}");
        assert!(!all.confirm(&Signed { signature: String::new(), ..signed(text) }), "{head}");
    }
    // RFC 7515, A.1 shares a secret; A.5 has no signature.
    let shared = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let none = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    for text in [shared, none] {
        assert!(Signed::read(text).is_err(), "{text}");
    }
}

#[test]
fn a_key_confirms_only_its_own_kind_of_algorithm() {
    let all = keys(&[RSA, P256, ED25519]);
    for (text, algorithms) in [
        (BY_RSA, [Algorithm::PS256, Algorithm::RS384, Algorithm::ES256, Algorithm::EdDSA]),
        (BY_P256, [Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA, Algorithm::PS256]),
        (BY_ED25519, [Algorithm::ES256, Algorithm::RS256, Algorithm::PS512, Algorithm::ES384]),
    ] {
        for algorithm in algorithms {
            assert!(!all.confirm(&Signed { algorithm, ..signed(text) }), "{algorithm:?}");
        }
    }
    assert!(!keys(&[&with(RSA, r#""alg":"RS512""#)]).confirm(&signed(BY_RSA)));
    assert!(keys(&[&with(RSA, r#""alg":"RS256","use":"sig""#)]).confirm(&signed(BY_RSA)));
}

#[test]
fn keys_that_are_not_for_this_are_passed_over() {
    let check = |key: &str, expected: usize| assert_eq!(keys(&[key]).keys.len(), expected, "{key}");
    check(&with(RSA, r#""use":"enc""#), 0);
    check(&with(RSA, r#""key_ops":["encrypt"]"#), 0);
    check(&with(RSA, r#""key_ops":["verify"]"#), 1);
    check(&with(RSA, r#""alg":"RSA-OAEP""#), 0);
    check(&with(RSA, r#""alg":"HS256""#), 0);
    check(&with(P256, r#""d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI""#), 0);
    check(
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
        0,
    );
    check(r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, 0);
    check(r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#, 0);
    check(r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#, 0);
    check(r#"{"kty":"RSA"}"#, 0);
    check("1", 0);
    // The secret of an HMAC that would be the public key (RS/HS confusion) is no key, and HS256 no algorithm.
    for bad in ["", "[]", "{}", r#"{"keys":1}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(Keys::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(Keys::parse(format!(r#"{{"keys":[{}]}}"#, [RSA; MOST_KEYS + 1].join(",")).as_bytes()).is_err());
}

#[test]
fn a_name_finds_its_key_and_without_one_there_is_no_trying() {
    let (one, other) = (with(P256, r#""kid":"one""#), with(P256, r#""kid":"other""#));
    let named = |kid: Option<&str>| Signed { kid: kid.map(str::to_owned), ..signed(BY_P256) };
    let both = keys(&[&one, &other]);
    assert!(both.confirm(&named(Some("one"))) && both.confirm(&named(Some("other"))));
    assert!(!both.confirm(&named(Some("none"))));
    assert!(!both.confirm(&named(None)), "which one?");
    assert!(keys(&[&one, RSA]).confirm(&named(None)), "there is one of that kind");
    assert!(keys(&[&with(RSA, r#""kid":"one""#), &one]).confirm(&named(Some("one"))), "a name of two kinds");
}

#[test]
fn a_weak_key_confirms_nothing() {
    let weak = r#"{"kty":"RSA","e":"AQAB","n":"33TqqLR3eeUmDtHS89qF3p4MP7Wfqt2Zjj3lZjLjjCGDvwr9cJNlNDiuKboODgUiT4ZdPWbOiMAfDcDzlOxA04DDnEFGAf-kDQiNSe2ZtqC7bnIc8-KSG_qOGQIVaay4Ucr6ovDkykO5Hxn7OU7sJp9TP9H0JH8zMQA6YzijYH8"}"#;
    assert!(!keys(&[weak]).confirm(&signed(BY_RSA)));
    let tiny = r#"{"kty":"RSA","e":"AQ","n":"AQ"}"#;
    assert!(!keys(&[tiny]).confirm(&signed(BY_RSA)));
}

/// A ring, and how often its issuer was asked.
struct Asked {
    ring: Ring,
    times: Cell<u32>,
    answers: Cell<bool>,
}

impl Asked {
    fn new() -> Self {
        Self { ring: Ring::default(), times: Cell::new(0), answers: Cell::new(true) }
    }

    /// Whether there are keys for this name then.
    async fn keys(&self, kid: Option<&str>, now: u64) -> bool {
        let fetch = async || {
            self.times.set(self.times.get() + 1);
            if self.answers.get() { Ok(keys(&[&with(P256, r#""kid":"one""#)])) } else { Err(Unfetched::Form("down")) }
        };
        self.ring.keys(kid, now, fetch).await.is_ok()
    }
}

#[tokio::test]
async fn an_issuer_is_asked_again_for_a_new_name_once_in_a_minute() {
    let asked = Asked::new();
    let now = 1_000_000;
    for _ in 0..5 {
        assert!(asked.keys(Some("one"), now).await);
    }
    assert_eq!(asked.times.get(), 1);
    for at in 0..59 {
        assert!(asked.keys(Some(&format!("made-up-{at}")), now + at).await);
    }
    assert_eq!(asked.times.get(), 1, "tokens of somebody's making");
    for at in 60..119 {
        asked.keys(Some(&format!("made-up-{at}")), now + at).await;
    }
    assert_eq!(asked.times.get(), 2);
}

#[tokio::test]
async fn keys_are_fetched_anew_and_good_for_an_hour_without() {
    let asked = Asked::new();
    let now = 1_000_000;
    assert!(asked.keys(Some("one"), now).await);
    assert!(asked.keys(Some("one"), now + FRESH - 1).await);
    assert_eq!(asked.times.get(), 1);
    asked.answers.set(false);
    assert!(asked.keys(Some("one"), now + FRESH).await);
    assert!(asked.keys(Some("one"), now + FRESH + 1).await);
    assert_eq!(asked.times.get(), 2);
    assert!(asked.keys(Some("one"), now + LONGEST_KEPT - 1).await);
    assert!(!asked.keys(Some("one"), now + LONGEST_KEPT).await);
    asked.answers.set(true);
    assert!(asked.keys(Some("one"), now + LONGEST_KEPT + PAUSE).await);
    let down = Asked::new();
    down.answers.set(false);
    assert!(!down.keys(None, now).await);
    assert!(!down.keys(None, now + 1).await);
    assert_eq!(down.times.get(), 1, "an issuer that is down is left alone");
}
