//! Upstreams that give too much, or nothing, to a guest that takes whatever comes.

use std::time::Duration;

use async_compression::tokio::write::GzipEncoder;
use bulkhead_tests::dns::ZONE;
use bulkhead_tests::upstream::{dripping, endless, silent, upstream};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::greed::{Ends, Greed};
use crate::row::Row;
use crate::siege::{OPEN, Siege, rule};
use crate::taken::{Act, Taking};

/// What an answer may have.
const ANSWER: &str = "methods = [\"GET\"]\npaths = [\"/**\"]\nresponse-bytes = \"2MiB\"";
const TIME: Ends = Ends::KeptWaiting("limit-time", "250ms of wall-clock time");

/// Time for what is over by itself.
const PATIENT: &str = "3s";

/// The guest asks whoever listens at this port, and has this long for it.
fn asking(siege: &Siege, port: u16, time: &str) -> Taking {
    let rule = rule("http", &format!("raw.{ZONE}"), port);
    let mut terms = siege.terms();
    // Instead of the one that answers as it should, unless that is asked.
    if port != siege.witness.port() {
        terms = terms.asking(&rule, ANSWER).granting(&rule, OPEN);
    }
    terms.manifest.push_str(&format!("[limits]\ntime = \"{time}\"\ncpu = \"2s\"\n"));
    Taking { terms, act: Act::Send(vec![json!({ "url": format!("http://raw.{ZONE}:{port}/") })]) }
}

/// Ten gigabytes as they are, and as what ten megabytes decode to.
pub(in crate::rows) async fn floods(siege: &Siege) -> anyhow::Result<Row> {
    let plain = endless("HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n", &[b'x'; 1 << 16]).await?;
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(&vec![0; 10 << 20]).await?;
    encoder.shutdown().await?;
    let member = encoder.into_inner();
    let bomb = upstream(move |mut socket, _| {
        let member = member.clone();
        async move {
            let length = member.len() * 1024;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            for _ in 0..1024 {
                socket.write_all(&member).await?;
            }
            Ok(())
        }
    });
    let many = endless("HTTP/1.1 200 OK\r\n", b"x-filler: filler\r\n").await?;
    let long = endless("HTTP/1.1 200 OK\r\nx-filler: ", &[b'x'; 4096]).await?;
    let cases = [
        (plain, "egress-too-large"),
        (bomb.await?, "egress-too-large"),
        (many, "egress-exchange"),
        (long, "egress-exchange"),
    ];
    let greeds = cases.map(|(address, code)| {
        Greed::new(
            asking(siege, address.port(), PATIENT),
            Ends::Failed(code),
            asking(siege, siege.witness.port(), PATIENT),
        )
    });
    Ok(Row::greed("10 GB, a gigabyte in a megabyte, and heads without end", greeds))
}

/// A guest in a host call computes nothing, so that nothing but the clock ends it.
pub(in crate::rows) async fn silence(siege: &Siege) -> anyhow::Result<Row> {
    let informing = endless("", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
    let greeds = [silent().await?, dripping(Duration::from_secs(1)).await?, informing.await?].map(|address| {
        Greed::new(asking(siege, address.port(), "250ms"), TIME, asking(siege, siege.witness.port(), "250ms"))
    });
    Ok(Row::greed("No answer, a byte a second, and 1xx without end", greeds))
}
