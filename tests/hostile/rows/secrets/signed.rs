//! Signatures: made with the key, the algorithm and the claims that were agreed to, and of no use anywhere else.

use anyhow::Context;
use aws_lc_rs::hmac;
use bulkhead_tests::inside;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::super::CREDENTIAL;
use super::{MISPLACED, PLAIN, at_bank, banked};
use crate::attempt::{Attempt, get, send};
use crate::row::{Row, Siting};
use crate::siege::{Siege, Terms};

/// A key for HMACs.
const MAC: &str = "mac_key_8Jk4Wv0pTn62YsRb7Ud3";
/// Of what the guest has its HMACs made.
const MESSAGE: &str = "what is signed";
/// Code of the denial of a parameter that the host alone writes.
const PARAMETER: &str = "egress-parameter-credential";

/// Two keys, each for one thing, and what may be said with the second.
fn terms(siege: &Siege) -> anyhow::Result<Terms> {
    let key = KeyPair::generate()?.serialize_pem();
    let mac = "places = [\"header:x-signature\"]\nsign = { hmac = \"sha256\" }";
    let token = "places = [\"header:authorization\"]\nsign = { jwt = \"ES256\", iss = \"me\", sub = \"*\", aud = \"bank\", scope = \"read write\", lifetime = \"5m\" }";
    Ok(banked(siege).with_secret("mac", MAC, &at_bank(mac), PLAIN).with_secret(
        "id",
        &key,
        &at_bank(token),
        "plain-http = true\nsub = \"service\"\nscope = \"read\"\nlifetime = \"60s\"",
    ))
}

/// What is permitted: one of each, with what manifest and grant say together.
fn made(siege: &Siege) -> [Attempt; 2] {
    let host = siege.bank_authority();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, MAC.as_bytes()), MESSAGE.as_bytes());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let claims = json!({ "iss": "me", "sub": "service", "aud": "bank", "scope": "read" });
    [
        get(siege.bank("/read/mac")).header("x-signature", &format!("v1=<hmac:mac:{MESSAGE}>")).read(
            &json!({ "request": format!("GET {host} /read/mac"), "headers": [["x-signature", format!("v1={tag}")]] }),
        ),
        get(siege.bank("/read/token")).header("authorization", "Bearer <jwt:id>").read(&json!({
            "request": format!("GET {host} /read/token"),
            "headers": [["authorization", { "typ": "JWT", "alg": "ES256", "claims": claims, "seconds": 60 }]],
        })),
    ]
}

pub(crate) fn misused(siege: &Siege) -> anyhow::Result<Row> {
    let ask = |text: &str| get(siege.bank("/read/x")).header("x-signature", text);
    let mut attempts: Vec<Attempt> =
        ["<hmac512:mac:m>", "<jwt:mac>", "<hmac:id:m>", "<hmac512:id:m>", "<hmac:token:m>", "<jwt:token>"]
            .map(|text| ask(text).unplaced("nothing of that kind can be signed"))
            .into();
    attempts.extend(
        ["<hmac:other:m>", "<jwt:other>", "<jwt:>", "<jwt:../id>"].map(|text| ask(text).unplaced("was granted")),
    );
    for url in [siege.raw("/read/x"), siege.api("/v1/echo")] {
        attempts.push(get(url.clone()).header("x-signature", "<hmac:mac:m>").denied(MISPLACED));
        attempts.push(get(url).header("x-id", "<jwt:id>").denied(MISPLACED));
    }
    attempts.extend([
        ask("<jwt:id>").denied(MISPLACED),
        get(siege.bank("/read/x")).header("x-comment", "<hmac:mac:m>").denied(MISPLACED),
        get(siege.bank("/read/x?id=<jwt:id>")).denied(MISPLACED),
        get(siege.bank("/read/<hmac:mac:m>")).denied(MISPLACED),
        get(siege.bank("/read/x")).method("POST").with("body", "<jwt:id>".into()).denied(MISPLACED).in_mid_body(),
        get(siege.bank("/read/x"))
            .with("headers", json!([["authorization", "Bearer <jwt:id>"], ["authorization", "Bearer mine"]]))
            .denied(CREDENTIAL),
    ]);
    attempts.extend(made(siege));
    Ok(Row::guest("A signature of another kind, or sent elsewhere", [Siting::new(siege, terms(siege)?, attempts)]))
}

/// What the guest can emit of a signature is a placeholder, which means nothing to the next instance.
pub(crate) async fn emitted(siege: &Siege) -> anyhow::Result<Row> {
    let terms = terms(siege)?;
    let tell = |text: &str| send(json!({ "exit": "tell", "text": text })).placeholder();
    let mut attempts = vec![tell("<jwt:id>"), tell(&format!("<hmac:mac:{MESSAGE}>"))];
    let connection = siege.connect(&terms, &terms.config.clone().into())?;
    let input: Vec<&Value> = attempts.iter().map(|attempt| &attempt.input).collect();
    let (told, _) = inside::answer(&connection, "attempts", &json!({ "attempts": input })).await?;
    let host = siege.bank_authority();
    for (at, header, place) in [(0, "authorization", "x-comment"), (1, "x-signature", "x-signature")] {
        let kept = told.pointer(&format!("/{at}/told")).and_then(Value::as_str).context("nothing was told")?;
        let request = get(siege.bank("/read/kept"));
        attempts.push(match header == place {
            true => request
                .header(header, kept)
                .read(&json!({ "request": format!("GET {host} /read/kept"), "headers": [[header, kept]] })),
            // Text that is no placeholder is the guest's own word there.
            false => request.header(header, kept).denied(CREDENTIAL),
        });
    }
    attempts.extend(made(siege));
    Ok(Row::guest(
        "A signature emitted as a record, and used by another instance",
        [Siting::new(siege, terms, attempts)],
    ))
}

/// Where the host signs whole requests, nothing that speaks of a signature is the guest's.
pub(crate) fn requests(siege: &Siege) -> Row {
    let sign = at_bank("inject = { aws-sigv4 = { region = \"eu-central-1\", service = \"s3\" } }");
    let terms = banked(siege).with_secret("aws", "AKIDEXAMPLE:aws_secret_8Jk4Wv0pTn62YsRb7Ud3", &sign, PLAIN);
    let at = |path: &str| get(siege.bank(path));
    let mut attempts: Vec<Attempt> = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=mine"),
        ("x-amz-date", "20260101T000000Z"),
        ("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-security-token", "mine"),
        ("x_amz_date", "20260101T000000Z"),
        ("cookie", "a=b"),
    ]
    .iter()
    .map(|(name, value)| at("/read/x").header(name, value).denied(CREDENTIAL))
    .collect();
    for query in [
        "X-Amz-Signature=0",
        "x-amz-credential=mine",
        "X%2DAmz%2DAlgorithm=x",
        "a=1&AWSAccessKeyId=x",
        "Signature=0",
        "a;Expires=9",
    ] {
        attempts.push(at(&format!("/read/x?{query}")).denied(PARAMETER));
    }
    attempts.push(at("/x").answered(200));
    Row::guest("The guest's own parts of a request that the host signs", [Siting::new(siege, terms, attempts)])
}
