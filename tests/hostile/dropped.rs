//! A call that is dropped while its guest is inside the host, a thousand times, and the guest called again.
//!
//! *Why*: what a call had begun must not be there for the next one (RUSTSEC-2026-0022: an instance that was left within an
//! import could be entered again, and the host panicked).

use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Connection, Reader};
use serde_json::json;

use crate::siege::Siege;
use crate::taken::Taking;
use crate::ways::Way;

/// How often.
pub(crate) const TIMES: usize = 1000;
/// By then the guest is in the host: it has little to do before.
const INSIDE: Duration = Duration::from_millis(1);

/// Drops a reader's call, and calls it again; as often drops a call of an action. Then both are made on the same connection.
pub(crate) async fn again_and_again(siege: &Siege, waiting: &Taking, brief: &Taking) -> anyhow::Result<()> {
    let (waiting, brief) = (waiting.connect(Way::Next, siege)?, brief.connect(Way::Next, siege)?);
    for _ in 0..TIMES {
        let mut reader = open(&waiting).await?;
        let input = json!({}).to_string();
        let page = tokio::time::timeout(INSIDE, reader.next(10, 1000));
        let call = tokio::time::timeout(INSIDE, waiting.invoke("spin-wait", &input, "key"));
        let (page, call) = tokio::join!(page, call);
        ensure!(page.is_err() && call.is_err(), "they did not wait: {page:?} {call:?}");
        let again = reader.next(10, 1000).await;
        let failure = again.result.err().context("it was entered again where it was left")?;
        ensure!(failure.code() == "host-error", "{failure}");
    }
    // The counterpart: a call that comes to its end can be followed by another, here and on a connection of which a thousand
    // were dropped.
    let mut reader = open(&brief).await?;
    for _ in 0..3 {
        reader.next(10, 1000).await.result.context("a reader's next page")?;
    }
    let input = json!({ "amount": 1 }).to_string();
    waiting.invoke("spin-wait", &input, "key").await?.result.context("a call afterwards")?;
    Ok(())
}

async fn open(connection: &Connection) -> anyhow::Result<Reader> {
    let selection = Selection { name: Way::Next.name().to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() };
    Ok(connection.open(&[selection], None).await?.result?)
}
