//! A grant that is narrowed while a guest reads: an answer, a page, whatever it is in the middle of.
//!
//! *Why*: a permit is given once, and what it opened lives on: a body, a reader, a socket.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bulkhead_capabilities::life::End;
use bulkhead_tests::dns::ZONE;
use bulkhead_tests::upstream::upstream;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::siege::{OPEN, Siege};
use crate::taken::{Act, Taking};
use crate::ways::Way;

/// Within what it has to be felt.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What the upstream sees: a guest that reads, and one that went away.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Reading,
    Gone,
}

/// Narrows the grant in the middle of an answer.
pub(crate) async fn attempt(way: Way, siege: &Siege) -> anyhow::Result<()> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let address = upstream(move |mut socket, head| {
        let tell = tell.clone();
        async move {
            if head.starts_with("GET /brief") {
                return socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe first of it").await?;
            // Whoever waits for this has given up if nobody hears it.
            let _ = tell.send(Seen::Reading);
            let end = socket.read(&mut [0]).await;
            let _ = tell.send(Seen::Gone);
            end.map(drop)
        }
    });
    let port = address.await?.port();
    let taking = |path: &str, grant: &str| {
        let mut terms = siege.terms().opening(&format!("raw.{ZONE}"), port, grant);
        terms.manifest.push_str("[limits]\ntime = \"20s\"\n");
        Taking { terms, act: Act::Send(vec![json!({ "url": format!("http://raw.{ZONE}:{port}{path}") })]) }
    };
    let wide = taking("/long", OPEN);
    let connection = wide.connect(way, siege)?;
    let narrow = taking("/long", &format!("paths = [\"/brief\"]\n{OPEN}"));
    let run = wide.run(way, siege, &connection);
    let narrowed = async {
        let seen = told.recv().await;
        ensure!(seen == Some(Seen::Reading), "nobody reads: {seen:?}");
        let began = Instant::now();
        let narrower = narrow.connect(way, siege)?.replacing(&connection, End::Narrowed);
        let seen = tokio::time::timeout(AT_ONCE, told.recv()).await.context("the body stayed open")?;
        ensure!(seen == Some(Seen::Gone), "{seen:?}");
        Ok((narrower, began))
    };
    let (ended, narrowed) = tokio::join!(run, narrowed);
    let ((narrower, began), ended) = (narrowed?, ended?);
    ensure!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    let failed = ended.failure.context("it came to an end of its own")?;
    ensure!(failed.code == "connection-ended", "{failed:?}");

    // On the narrower terms the same is denied, and what is left is answered.
    let ended = narrow.run(way, siege, &narrower).await?;
    let denied: Vec<_> = ended.records.iter().flat_map(|record| &record.denials).collect();
    ensure!(denied.len() == 1 && ended.sent() == 0, "{ended:?}");
    let brief = taking("/brief", &format!("paths = [\"/brief\"]\n{OPEN}"));
    let ended = brief.run(way, siege, &brief.connect(way, siege)?).await?;
    ensure!(ended.sent() == 1 && ended.records.iter().all(|record| record.failure.is_none()), "{ended:?}");
    Ok(())
}
