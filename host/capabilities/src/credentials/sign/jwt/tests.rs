use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::*;

/// The keys of examples in RFCs, in each form that there is for them.
const RSA: &str = include_str!("rfc7515-a2.pkcs8.pem");
const RSA_PKCS1: &str = include_str!("rfc7515-a2.pkcs1.pem");
const P256: &str = include_str!("rfc7515-a3.pkcs8.pem");
const P256_SEC1: &str = include_str!("rfc7515-a3.sec1.pem");
const ED25519: &str = include_str!("rfc8037-a1.pkcs8.pem");

const NOW: u64 = 1_700_000_000;

fn parse(text: &str, algorithm: Algorithm) -> Result<SigningKey, Error> {
    SigningKey::parse(&text.to_owned().into(), algorithm)
}

/// The public half, as the RFCs have it.
fn public(algorithm: Algorithm) -> (jsonwebtoken::Algorithm, DecodingKey) {
    match algorithm {
        Algorithm::Rs256 => {
            let modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4\
                QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB\
                dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2\
                ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
            (jsonwebtoken::Algorithm::RS256, DecodingKey::from_rsa_components(modulus, "AQAB").unwrap())
        }
        Algorithm::Es256 => {
            let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
            (jsonwebtoken::Algorithm::ES256, DecodingKey::from_ec_components(x, y).unwrap())
        }
        Algorithm::EdDsa => {
            let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
            (jsonwebtoken::Algorithm::EdDSA, DecodingKey::from_ed_components(x).unwrap())
        }
    }
}

/// Reads a token with another party's library, which checks the signature.
fn read(token: &SecretString, algorithm: Algorithm) -> (jsonwebtoken::Header, Value) {
    let (algorithm, key) = public(algorithm);
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = decode::<Value>(token.expose_secret(), &key, &validation).unwrap();
    (token.header, token.claims)
}

#[test]
fn another_library_reads_a_token_of_each_kind_of_key() {
    let claims = Claims { issuer: Some("us"), lifetime: Duration::from_secs(600), ..Claims::default() };
    for (text, algorithm) in [
        (RSA, Algorithm::Rs256),
        (RSA_PKCS1, Algorithm::Rs256),
        (P256, Algorithm::Es256),
        (P256_SEC1, Algorithm::Es256),
        (ED25519, Algorithm::EdDsa),
    ] {
        let token = parse(text, algorithm).unwrap().token(claims, UNIX_EPOCH + Duration::from_secs(NOW), [7; 16]);
        let (head, body) = read(&token.unwrap(), algorithm);
        assert_eq!((head.typ.as_deref(), head.kid), (Some("JWT"), None));
        let expected = json!({ "iss": "us", "iat": NOW - 60, "exp": NOW + 540, "jti": "BwcHBwcHBwcHBwcHBwcHBw" });
        assert_eq!(body, expected);
    }
}

#[test]
fn a_token_says_what_was_granted_and_nothing_else() {
    let claims = Claims {
        key_id: Some("key-1"),
        issuer: Some("me@project.iam.example"),
        subject: Some("you@example.com"),
        audience: Some("https://a.example"),
        scope: Some("read write"),
        lifetime: LONGEST,
    };
    let key = parse(ED25519, Algorithm::EdDsa).unwrap();
    let said =
        |claims| read(&key.token(claims, UNIX_EPOCH + Duration::from_secs(NOW), [0; 16]).unwrap(), Algorithm::EdDsa);
    let (head, body) = said(claims);
    assert_eq!(head.kid.as_deref(), Some("key-1"));
    let expected = json!({
        "iss": "me@project.iam.example", "sub": "you@example.com", "aud": "https://a.example", "scope": "read write",
        "iat": NOW - 60, "exp": NOW - 60 + 3600, "jti": "AAAAAAAAAAAAAAAAAAAAAA",
    });
    assert_eq!(body, expected);
}

#[test]
fn a_token_lives_for_an_hour_at_most() {
    let key = parse(ED25519, Algorithm::EdDsa).unwrap();
    let check = |seconds, expected: Option<(u64, u64)>| {
        let claims = Claims { lifetime: Duration::from_secs(seconds), ..Claims::default() };
        let token = key.token(claims, UNIX_EPOCH + Duration::from_secs(NOW), [0; 16]);
        let body = token.ok().map(|token| read(&token, Algorithm::EdDsa).1);
        let times = body.map(|body| (body["iat"].as_u64().unwrap(), body["exp"].as_u64().unwrap()));
        assert_eq!(times, expected, "{seconds}");
    };
    check(9, None);
    check(10, Some((NOW - 1, NOW + 9)));
    check(3600, Some((NOW - 60, NOW + 3540)));
    check(3601, None);
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let weak = include_str!("weak.pem");
    let other_curve = include_str!("p384.pem");
    for (text, algorithm) in [
        (P256, Algorithm::Rs256),
        (P256_SEC1, Algorithm::Rs256),
        (ED25519, Algorithm::Rs256),
        (weak, Algorithm::Rs256),
        (RSA, Algorithm::Es256),
        (RSA_PKCS1, Algorithm::Es256),
        (ED25519, Algorithm::Es256),
        (other_curve, Algorithm::Es256),
        (RSA, Algorithm::EdDsa),
        (P256, Algorithm::EdDsa),
        (P256_SEC1, Algorithm::EdDsa),
    ] {
        let refused = check_key(&text.to_owned().into(), algorithm);
        assert!(matches!(refused, Err(Error::Key { .. })), "{algorithm:?}: {text}");
    }
    assert_eq!(check_key(&"correct horse battery staple".to_owned().into(), Algorithm::Rs256), Err(Error::Pem));
}

/// RFC 7515 appendix A.2, and RFC 8037 appendix A.4. An ECDSA signature differs each time.
#[test]
fn signatures_are_those_of_the_rfcs() {
    let check = |text: &str, algorithm, message: &str, expected: &str| {
        let signature = parse(text, algorithm).unwrap().sign(message.as_bytes()).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(signature), expected);
    };
    check(
        RSA,
        Algorithm::Rs256,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dn\
         ZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC\
         -eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    check(
        ED25519,
        Algorithm::EdDsa,
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    );
}
