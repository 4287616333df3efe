//! Tokens that were made to be read in two ways, or to bring their own key.

use super::*;

const NOW: u64 = 1_800_000_000;
const HEADER: &str = r#"{"alg":"RS256"}"#;

fn encoded(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn text(header: &str, claims: &str) -> String {
    format!("{}.{}.c2ln", encoded(header), encoded(claims))
}

/// Claims that are good, and these.
fn claims(more: &str) -> String {
    let exp = NOW + 300;
    format!(r#"{{"iss":"https://id.example","sub":"ada","aud":"bulkhead","exp":{exp}{more}}}"#)
}

fn read(header: &str, claims: &str) -> Result<Token, Unfit> {
    Token::read(&text(header, claims))
}

#[test]
fn a_token_says_who_it_is_of_and_until_when() {
    let token =
        read(r#"{"alg":"ES256","kid":"1","typ":"JWT","x":1}"#, &claims(r#","nbf":1,"iat":2,"scope":"*""#)).unwrap();
    assert_eq!((token.signed.algorithm, token.signed.kid.as_deref()), (Algorithm::ES256, Some("1")));
    assert_eq!((token.issuer.as_str(), token.subject.as_str()), ("https://id.example", "ada"));
    assert_eq!(token.expires, NOW + 300);
    assert_eq!(token.holds("bulkhead", NOW), Ok(()));
    let header = encoded(r#"{"alg":"ES256","kid":"1","typ":"JWT","x":1}"#);
    assert!(token.signed.text.starts_with(&header) && token.signed.signature == "c2ln");
}

#[test]
fn no_algorithm_and_those_that_share_a_secret_are_none() {
    for algorithm in [
        "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "hs256", "RS256 ", "rs256", "", "RSA", "ES256K",
        "dir",
    ] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        assert_eq!(read(&header, &claims("")), Err(Unfit::Header), "{algorithm}");
    }
    for header in [r#"{}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#, r#"{"alg":1}"#, r#"{"ALG":"RS256"}"#] {
        assert_eq!(read(header, &claims("")), Err(Unfit::Header), "{header}");
    }
}

#[test]
fn a_header_that_tells_where_a_key_is_or_asks_for_more_is_refused() {
    for more in [
        r#""jku":"https://evil.example/jwks""#,
        r#""x5u":"https://evil.example/cert""#,
        r#""x5c":["MII"]"#,
        r#""jwk":{"kty":"RSA","n":"AQ","e":"AQAB"}"#,
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
        r#""enc":"A128GCM""#,
        r#""typ":"JWE""#,
        r#""typ":1"#,
        r#""kid":1"#,
        r#""kid":"""#,
        r#""kid":null"#,
        r#""kid":["1"]"#,
        r#""kid":{"1":1}"#,
        r#""alg":"RS256""#,
        r#""a":{"b":1,"b":2}"#,
    ] {
        assert_eq!(read(&format!(r#"{{"alg":"RS256",{more}}}"#), &claims("")), Err(Unfit::Header), "{more}");
    }
    let long = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(LONGEST_KID + 1));
    assert_eq!(read(&long, &claims("")), Err(Unfit::Header));
    // A name is only looked up; whatever it looks like, it is no path and no query.
    for kid in ["../../dev/null", "x' UNION SELECT 'k", "|whoami", "https://evil.example/jwks", "\\u0000"] {
        assert!(read(&format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), &claims("")).is_ok(), "{kid}");
    }
    for kind in ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT"] {
        assert!(read(&format!(r#"{{"alg":"RS256","typ":"{kind}"}}"#), &claims("")).is_ok(), "{kind}");
    }
}

#[test]
fn three_parts_in_one_spelling() {
    let good = text(HEADER, &claims(""));
    assert!(Token::read(&good).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, body, signature] = parts.as_slice() else { panic!("three") };
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{body}"),
        format!("{header}.{body}."),
        format!("{header}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!(".{good}"),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{good}="),
        format!("{header}=.{body}.{signature}"),
        format!("{header}.{body}==.{signature}"),
        format!("{header}\n.{body}.{signature}"),
        format!("{header}.{body}.c2l+"),
        format!("{header}.{body}.c2l/"),
        format!("{header}.{body}.c2x"),
        format!("{header}.{body}.c"),
    ] {
        assert_eq!(Token::read(&bad), Err(Unfit::Form), "{bad}");
    }
    let long = claims(&format!(r#","x":"{}""#, "x".repeat(LARGEST)));
    assert_eq!(read(HEADER, &long), Err(Unfit::Form));
    assert_eq!(read("[]", &claims("")), Err(Unfit::Header));
    assert_eq!(read("{\"alg\":\"RS256\"}x", &claims("")), Err(Unfit::Header));
    assert_eq!(read("\u{feff}{\"alg\":\"RS256\"}", &claims("")), Err(Unfit::Header));
}

#[test]
fn a_claim_stands_once_and_is_what_it_has_to_be() {
    for more in [
        r#","exp":99999999999"#,
        r#","\u0065xp":99999999999"#,
        r#","iss":"https://evil.example""#,
        r#","a":{"b":1,"b":2}"#,
        r#","nbf":"1""#,
        r#","nbf":null"#,
        r#","iat":"now""#,
        r#","nbf":-1"#,
        r#","nbf":1e300"#,
    ] {
        assert_eq!(read(HEADER, &claims(more)), Err(Unfit::Claims), "{more}");
    }
    let whole = |text: &str| read(HEADER, text);
    let base = r#""iss":"i","sub":"s","aud":"a""#;
    for exp in [
        "",
        r#","exp":null"#,
        r#","exp":"1900000000""#,
        r#","exp":"soon""#,
        r#","exp":[1900000000]"#,
        r#","exp":true"#,
        r#","exp":-1"#,
        r#","exp":1e999"#,
        r#","exp":1e30"#,
        r#","exp":18446744073709551615"#,
        r#","exp":184467440737095516160"#,
        r#","exp":99999999999999999999999999999999999999"#,
        r#","exp":253402300800"#,
        r#","exp":NaN"#,
        r#","exp":0x10"#,
    ] {
        assert_eq!(whole(&format!("{{{base}{exp}}}")), Err(Unfit::Claims), "{exp}");
    }
    for (exp, expected) in
        [("1900000000", 1_900_000_000), ("1900000000.9", 1_900_000_000), ("1.9e9", 1_900_000_000), ("0", 0)]
    {
        assert_eq!(whole(&format!("{{{base},\"exp\":{exp}}}")).unwrap().expires, expected, "{exp}");
    }
    for bad in [
        r#"{"sub":"s","aud":"a","exp":1}"#,
        r#"{"iss":["i"],"sub":"s","aud":"a","exp":1}"#,
        r#"{"iss":"","sub":"s","aud":"a","exp":1}"#,
        r#"{"iss":"i","aud":"a","exp":1}"#,
        r#"{"iss":"i","sub":"","aud":"a","exp":1}"#,
        r#"{"iss":"i","sub":1,"aud":"a","exp":1}"#,
        r#"{"iss":"i","sub":"s","exp":1}"#,
        r#"{"iss":"i","sub":"s","aud":[],"exp":1}"#,
        r#"{"iss":"i","sub":"s","aud":["a",1],"exp":1}"#,
        r#"{"iss":"i","sub":"s","aud":{"a":1},"exp":1}"#,
        r#"{"iss":"i","sub":"s","aud":null,"exp":1}"#,
        "[]",
        "null",
        "",
    ] {
        assert!(read(HEADER, bad).is_err(), "{bad}");
    }
}

#[test]
fn it_holds_for_its_audience_and_its_time_with_a_minutes_leeway() {
    let check = |claims: &str, now: u64, expected: Result<(), Unfit>| {
        let token = read(HEADER, claims).unwrap();
        assert_eq!(token.holds("bulkhead", now), expected, "{claims} at {now}");
    };
    let of = |aud: &str, more: &str| format!(r#"{{"iss":"i","sub":"s","aud":{aud},"exp":{}{more}}}"#, NOW + 300);
    check(&of(r#""bulkhead""#, ""), NOW, Ok(()));
    check(&of(r#"["other","bulkhead"]"#, ""), NOW, Ok(()));
    for aud in [r#""other""#, r#""Bulkhead""#, r#""bulkhead ""#, r#""bulk""#, r#"["other"]"#, r#""*""#] {
        check(&of(aud, ""), NOW, Err(Unfit::Audience));
    }
    let good = of(r#""bulkhead""#, "");
    check(&good, NOW + 300 + LEEWAY - 1, Ok(()));
    check(&good, NOW + 300 + LEEWAY, Err(Unfit::Expired));
    for claim in ["nbf", "iat"] {
        let later = |at: u64| of(r#""bulkhead""#, &format!(r#","{claim}":{at}"#));
        check(&later(NOW + LEEWAY), NOW, Ok(()));
        check(&later(NOW + LEEWAY + 1), NOW, Err(Unfit::Early));
    }
}
