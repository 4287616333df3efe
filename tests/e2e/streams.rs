//! Bodies as streams: what is coded is decoded where a secret could be in it, and length costs no memory. `make bench` passes
//! 1 GiB each way.

use std::sync::Arc;

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use bulkhead_tests::deluge::{self, Way};
use bulkhead_tests::peak;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::canary;
use crate::inside::{self, Reach, TOKEN, transport};
use crate::outside::peak_alone as alone;
use crate::sockets::{Talk, Upstream};

/// Few bytes, for what the program needs anyway.
const LITTLE: u64 = 1 << 20;
/// Many bytes: more than the program may need for them by far.
const MUCH: u64 = 192 << 20;
/// How much more memory many bytes may take than few, in bytes. Buffers on the way, and the system's whims.
const MORE: u64 = 24 << 20;

/// The codings that can be decoded.
const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// `plain` in that coding.
pub(crate) async fn encoded(coding: &str, plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut coded = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(plain).read_to_end(&mut coded).await?,
        "deflate" => ZlibEncoder::new(plain).read_to_end(&mut coded).await?,
        "br" => BrotliEncoder::new(plain).read_to_end(&mut coded).await?,
        _ => ZstdEncoder::new(plain).read_to_end(&mut coded).await?,
    };
    Ok(coded)
}

/// Answers with this in chunks of so many bytes, coded like that.
async fn in_chunks(talk: &mut Talk, coding: &str, coded: &[u8], size: usize) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nvary: accept-encoding\r\ntransfer-encoding: chunked\r\ncontent-encoding:";
    talk.say(format!("{head} {coding}\r\n\r\n")).await?;
    for chunk in coded.chunks(size) {
        talk.say([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await?;
    }
    talk.say("0\r\n\r\n").await
}

/// The last part of the path.
fn asked(talk: &Talk) -> String {
    let path = talk.head.split(' ').nth(1).unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

// === Coded ===

#[tokio::test]
async fn a_secret_in_a_compressed_answer_is_masked_however_the_answer_is_cut() -> anyhow::Result<()> {
    for size in [1, 7, 1 << 20] {
        let upstream = Upstream::start(None, move |mut talk| async move {
            let secret = talk.head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
            let plain = format!("you said {secret}, and {}{secret}.", "again, ".repeat(2000));
            let coding = asked(&talk);
            let coded = encoded(&coding, plain.as_bytes()).await?;
            in_chunks(&mut talk, &coding, &coded, size).await?;
            Ok(Some(talk))
        });
        let upstream = upstream.await?;
        let reach = Reach { token: Some(TOKEN), ..Reach::plain(upstream.address.port()) };
        let connection = reach.connect("acme", &transport(None, None)?)?;
        for coding in CODINGS {
            let input = json!({ "url": reach.url(&format!("/{coding}")) });
            let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
            let body = answer.get("body").and_then(Value::as_str).unwrap_or_default();
            let mask = "*".repeat(TOKEN.len());
            assert!(body.starts_with(&format!("you said Bearer {mask}, and again")), "{coding}: {answer:.200}");
            assert!(body.ends_with(&format!("again, Bearer {mask}.")), "{coding}");
            assert_eq!(canary::found(TOKEN, answer.to_string().as_bytes()), None, "{coding}");
            assert_eq!(answer.pointer("/headers/content-encoding"), None, "{coding}");
            assert!(outcome.record.masked >= 2, "{coding}");
        }
        assert_eq!(upstream.counts(), [CODINGS.len()], "an answer was not read to its end");
    }
    Ok(())
}

#[tokio::test]
async fn a_compressed_answer_passes_untouched_where_no_secret_is_in_play() -> anyhow::Result<()> {
    let upstream = Upstream::start(None, |mut talk| async move {
        let coding = asked(&talk);
        let coded = encoded(&coding, b"hello, hello, hello").await?;
        in_chunks(&mut talk, &coding, &coded, 5).await?;
        Ok(Some(talk))
    });
    let upstream = upstream.await?;
    let reach = Reach::plain(upstream.address.port());
    let connection = reach.connect("acme", &transport(None, None)?)?;
    for coding in CODINGS.into_iter().chain(["compress", "gzip, gzip"]) {
        let path = format!("/{}", coding.rsplit(' ').next().unwrap_or_default());
        let input = json!({ "url": reach.url(&path), "headers": { "accept-encoding": coding } });
        let (answer, _) = inside::answer(&connection, "fetch", &input).await?;
        let coded = encoded(path.trim_start_matches('/'), b"hello, hello, hello").await?;
        assert_eq!(answer.get("body"), Some(&json!(String::from_utf8_lossy(&coded))), "{coding}");
        assert_eq!(answer.get("body_bytes"), Some(&json!(coded.len())), "{coding}");
        assert_eq!(answer.pointer("/headers/content-encoding"), Some(&json!(path.trim_start_matches('/'))));
        let asked = format!("accept-encoding: {coding}\r\n");
        let heads: Vec<String> = upstream.sockets().into_iter().flat_map(|seen| seen.requests).collect();
        assert!(heads.last().is_some_and(|head| head.contains(&asked)), "{heads:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_cannot_have_a_body_may_name_a_coding() -> anyhow::Result<()> {
    let upstream = Upstream::start(None, |mut talk| async move {
        let status = asked(&talk);
        let coded = "content-encoding: gzip\r\nvary: accept-encoding\r\netag: \"e\"";
        let length = if status == "200" { "\r\ncontent-length: 1234" } else { "" };
        talk.say(format!("HTTP/1.1 {status} X\r\n{coded}{length}\r\n\r\n")).await?;
        Ok(Some(talk))
    });
    let upstream = upstream.await?;
    for token in [None, Some(TOKEN)] {
        let reach = Reach { token, ..Reach::plain(upstream.address.port()) };
        let connection = reach.connect("acme", &transport(None, None)?)?;
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 304)] {
            let input = json!({ "method": method, "url": reach.url(&format!("/{status}")) });
            let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
            assert_eq!(answer.get("status"), Some(&json!(status)), "{method}: {answer}");
            assert_eq!(answer.pointer("/headers/content-encoding"), Some(&json!("gzip")), "{method}: {answer}");
            assert_eq!((answer.get("body_bytes"), outcome.record.failure), (Some(&json!(0)), None));
        }
    }
    assert_eq!(upstream.counts(), [4, 4]);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_decodes_to_too_much_or_not_at_all_is_an_error_that_the_operator_sees() -> anyhow::Result<()> {
    // A gigabyte, made of a thousand members where the coding has them, and else what one stream makes of many zeros.
    let mut bombs = Vec::new();
    for coding in CODINGS {
        let (size, members) = if ["gzip", "zstd"].contains(&coding) { (1 << 20, 1024) } else { (32 << 20, 1) };
        bombs.push(encoded(coding, &vec![0; size]).await?.repeat(members));
    }
    let bombs = Arc::new(bombs);
    let upstream = Upstream::start(None, move |mut talk| {
        let bombs = Arc::clone(&bombs);
        async move {
            let coding = asked(&talk);
            let place = CODINGS.iter().position(|known| *known == coding).unwrap_or_default();
            let bomb = bombs.get(place).map_or(&b"\0"[..], Vec::as_slice);
            let body = if talk.head.contains("/garbled/") { b"this is not it" } else { bomb };
            in_chunks(&mut talk, &coding, body, 1 << 16).await?;
            Ok(Some(talk))
        }
    });
    let upstream = upstream.await?;
    let rule = "response-bytes = \"2MiB\"";
    let reach = Reach { token: Some(TOKEN), rule, ..Reach::plain(upstream.address.port()) };
    let connection = reach.connect("acme", &transport(None, None)?)?;
    for coding in CODINGS {
        for (path, code, part) in [
            ("/bomb", "egress-too-large", "2097152 bytes (`response-bytes`"),
            ("/garbled", "egress-encoded", "encoding that cannot be decoded"),
        ] {
            let input = json!({ "url": reach.url(&format!("{path}/{coding}")) });
            let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
            assert_eq!(answer.get("stage"), Some(&json!("body")), "{coding}: {answer:.200}");
            let (found, message) = outcome.record.failure.unwrap_or_default();
            assert!(found == code && message.contains(part), "{coding}{path}: {found} {message}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_decodes_to_a_gigabyte_takes_no_memory() -> anyhow::Result<()> {
    let usual = alone("streams::a_secret_in_a_compressed_answer_is_masked_however_the_answer_is_cut").await?;
    let test = "streams::an_answer_that_decodes_to_too_much_or_not_at_all_is_an_error_that_the_operator_sees";
    let more = alone(test).await?.saturating_sub(usual) >> 20;
    assert!(more < 48, "{more} MiB more than usual");
    Ok(())
}

// === Large ===

/// Runs the program, which passes so many bytes; the most memory it ever had, in bytes.
async fn run(way: Way, bytes: u64) -> anyhow::Result<u64> {
    let upstream = deluge::start().await?;
    let laid = deluge::laid(upstream)?;
    let input = deluge::input(upstream, way, bytes).to_string();
    let command = laid.command(&["invoke", ".", "fetch", "--input", &input], Some("streams-token-0123456789"));
    let (ended, most) = peak::of(command).await?;
    anyhow::ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let answer = serde_json::from_slice(&ended.stdout)?;
    assert_eq!(deluge::arrived(way, &answer), Some(bytes), "{}", answer.get("error").unwrap_or_default());
    Ok(most)
}

#[tokio::test]
async fn a_large_answer_passes_in_constant_memory_although_it_is_searched_for_a_secret() -> anyhow::Result<()> {
    let (little, much) = (run(Way::In, LITTLE).await?, run(Way::In, MUCH).await?);
    assert!(much < little + MORE, "{much} bytes for much, {little} for little");
    Ok(())
}

#[tokio::test]
async fn a_large_request_passes_in_constant_memory() -> anyhow::Result<()> {
    let (little, much) = (run(Way::Out, LITTLE).await?, run(Way::Out, MUCH).await?);
    assert!(much < little + MORE, "{much} bytes for much, {little} for little");
    Ok(())
}
