//! The S3 connector against moto, which computes every signature anew with botocore.
//!
//! moto takes the hash of a payload on trust and knows no clock; that a payload has its hash, and that chunks are signed
//! as AWS documents, is for the tests of `credentials/sign` and of `egress/client`.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::aimed::{Aimed, Line};
use crate::peer::{self, Peer};
use crate::report::Report;

/// How many plain objects there are: three listings of a hundred.
const OBJECTS: usize = 250;

/// What else is below the prefix, with its contents: text, bytes, what is too large to read, and what stands for a folder.
const ODD: [(&str, Option<(&str, &str)>); 4] = [
    ("logs/odd name (1)+ü&=?#.txt", Some(("utf-8", "grüße"))),
    ("logs/bytes", Some(("base64", "/wA="))),
    ("logs/large", None),
    ("logs/folder/", None),
];

/// Runs it.
pub(crate) async fn cases(report: &mut Report) {
    if report.case("s3: packages installed", peer::install_python()).await.is_none() {
        return;
    }
    let count = OBJECTS.to_string();
    let Some(mut peer) =
        report.case("s3: moto starts and is seeded", Peer::start_python("stored.py", &["--objects", &count])).await
    else {
        return;
    };
    refused(report, &peer).await;
    signed(report, &mut peer).await;
    report.case("s3: stops", peer.stop()).await;
}

/// What shows that moto looks at signatures.
async fn refused(report: &mut Report, peer: &Peer) {
    let wrong = wrong_secret(peer.key()).map(|key| (key, "SignatureDoesNotMatch"));
    let stranger = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned();
    let cases = [("another secret key", wrong), ("another access key", Some((stranger, "InvalidAccessKeyId")))];
    for (name, case) in cases {
        let name = format!("s3: check fails with {name}");
        report.case(&name, async { check_fails(peer, case.context("no such key")?).await }).await;
    }
    let token = wrong_secret(peer.temporary()).map(|key| (key, "InvalidToken"));
    report
        .case("s3: check fails with another session token", async { check_fails(peer, token.context("no key")?).await })
        .await;
}

async fn check_fails(peer: &Peer, (key, code): (String, &str)) -> anyhow::Result<()> {
    let failure = Aimed::s3(peer).await?.check_fails(&key).await?;
    ensure!(failure.contains(code), "not by {code}: {failure}");
    Ok(())
}

/// The same with its last character changed.
fn wrong_secret(key: &str) -> Option<String> {
    let last = key.chars().last()?;
    let before = key.get(..key.len() - last.len_utf8())?;
    Some(format!("{before}{}", if last == 'A' { 'B' } else { 'A' }))
}

/// Everything, with two kinds of keys, then nothing, then exactly what changed.
async fn signed(report: &mut Report, peer: &mut Peer) {
    let key = peer.key().to_owned();
    let Some(connector) = report.case("s3: connector aimed", Aimed::s3(peer)).await else { return };
    report.case("s3: check passes", connector.check(&key)).await;
    let temporary = peer.temporary().to_owned();
    report.case("s3: check passes with a temporary key", connector.check(&temporary)).await;
    report.case("s3: lists all objects once", lists(&connector, &key)).await;
    report.case("s3: a second listing finds nothing", reads(&connector, "objects", &key, &[])).await;
    report.case("s3: reads what is in each object", contents(&connector, &key)).await;
    report.case("s3: a second read finds nothing", reads(&connector, "contents", &key, &[])).await;
    let changed = ["logs/0007.txt", "logs/0249.txt", "logs/9999.txt"];
    for object in changed {
        report.case(&format!("s3: {object} is written"), peer.tell(&json!({ "put": object, "body": "changed" }))).await;
    }
    report.case("s3: a third listing finds what changed", reads(&connector, "objects", &key, &changed)).await;
    report.case("s3: a third read finds what changed", reads(&connector, "contents", &key, &changed)).await;
}

async fn lists(connector: &Aimed, key: &str) -> anyhow::Result<()> {
    let found = by_key(connector.read("objects", key).await?)?;
    let plain = (0..OBJECTS).map(|number| format!("logs/{number:04}.txt"));
    let mut expected: Vec<String> = plain.chain(ODD.iter().map(|(key, _)| (*key).to_owned())).collect();
    expected.sort();
    ensure!(found.keys().eq(&expected), "{} of {} objects", found.len(), expected.len());
    let size = found.get("logs/large").and_then(|record| record.get("size")).and_then(Value::as_u64);
    ensure!(size == Some(5000), "the large one has {size:?} bytes");
    Ok(())
}

async fn contents(connector: &Aimed, key: &str) -> anyhow::Result<()> {
    let found = by_key(connector.read("contents", key).await?)?;
    let readable = ODD.iter().filter(|(_, contents)| contents.is_some()).count();
    ensure!(found.len() == OBJECTS + readable, "{} records", found.len());
    let is = |key: &str, field: &str, expected: &str| {
        let value = found.get(key).and_then(|record| record.get(field)).and_then(Value::as_str);
        ensure!(value == Some(expected), "{field} of {key} is {value:?}");
        Ok(())
    };
    is("logs/0123.txt", "content", "Line 123")?;
    is("logs/0123.txt", "content_type", "text/plain")?;
    for (key, contents) in ODD {
        if let Some((encoding, text)) = contents {
            is(key, "encoding", encoding)?;
            is(key, "content", text)?;
        }
    }
    Ok(())
}

async fn reads(connector: &Aimed, stream: &str, key: &str, expected: &[&str]) -> anyhow::Result<()> {
    let found = by_key(connector.read(stream, key).await?)?;
    ensure!(found.keys().eq(expected), "found {:?}", found.keys());
    Ok(())
}

/// Each record by its key, which comes once.
fn by_key(lines: Vec<Line>) -> anyhow::Result<BTreeMap<String, Value>> {
    let count = lines.len();
    let records: BTreeMap<String, Value> = lines.into_iter().map(|line| (line.key, line.record)).collect();
    ensure!(records.len() == count, "{count} records of {} objects", records.len());
    Ok(records)
}
