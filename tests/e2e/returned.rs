//! What a guest returns lies in the host's memory, and is its tenant's for as long as the call goes on.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Allowance, Connection, Failure, Runtime, Settings, Tenant, Whose};
use bulkhead_tests::aimed::HOSTILE_RESOURCES;
use bulkhead_tests::raw::Raw;
use serde_json::json;

use crate::outside::Laid;
use crate::{crafted, inside};

/// A page of 300 records, all of which are the same 200,000 bytes of the guest's memory: 60 MB for the host.
const REPEATED: &str = r#"(local $i i32) (local $p i32)
  (drop (memory.grow (i32.const 6)))
  (memory.fill (i32.const 200000) (i32.const 97) (i32.const 200000))
  (i32.store8 (i32.const 200000) (i32.const 34))
  (i32.store8 (i32.const 399999) (i32.const 34))
  (loop $l
    (local.set $p (i32.add (i32.const 140000) (i32.mul (local.get $i) (i32.const 28))))
    (i32.store (local.get $p) (i32.const 272))
    (i32.store offset=4 (local.get $p) (i32.const 2))
    (i32.store offset=8 (local.get $p) (i32.const 0))
    (i32.store offset=12 (local.get $p) (i32.const 200000))
    (i32.store offset=16 (local.get $p) (i32.const 200000))
    (i32.store offset=20 (local.get $p) (i32.const 272))
    (i32.store offset=24 (local.get $p) (i32.const 2))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const 300))))
  (i32.store (i32.const 68) (i32.const 140000))
  (i32.store (i32.const 72) (i32.const 300))"#;
/// Computes on without end once the host has read a page.
const ON_AND_ON: &str = "(if (global.get $pages) (then (loop $on (br $on))))";

/// A connection of `tenant` whose guest returns such pages, and does this afterwards.
fn returning(tenant: &Arc<Tenant>, afterwards: &str) -> anyhow::Result<Connection> {
    let laid = Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?;
    let limits = "memory = \"2MiB\"\noutput-bytes = \"64MiB\"\ncpu = \"60s\"\ntime = \"60s\"";
    laid.append("connector.toml", &format!("[limits]\n{limits}"))?;
    crafted::install(laid.path(), &Raw { acts: REPEATED, afterwards, ..Raw::default() }.component()?)?;
    let mut connection = inside::connection_of(tenant, &laid)?;
    connection.config = Arc::new(r#"{"moment":4}"#.to_owned());
    Ok(connection)
}

/// A tenant with so many MiB.
fn tenant(mebibytes: usize) -> anyhow::Result<Arc<Tenant>> {
    let runtime = Runtime::new(Settings { memory: Some(1 << 30), ..Settings::SERVER }, inside::compiler()?)?;
    Ok(runtime.tenant("acme".parse()?, Allowance { memory: Some(mebibytes << 20), ..Allowance::DEFAULT }))
}

/// How many entries come of two pages of one sync.
async fn pages(connection: &Connection) -> Result<usize, Failure> {
    let selection = Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() };
    let opened = connection.open(&[selection], None).await;
    let mut reader = opened.map_err(|refusal| Failure::Host(refusal.to_string()))?.result?;
    let mut entries = 0;
    for _ in 0..2 {
        entries += reader.next(1000, 1 << 20).await.result?.entries.len();
    }
    Ok(entries)
}

#[tokio::test]
async fn no_page_is_more_than_half_of_what_its_tenant_has() -> anyhow::Result<()> {
    assert!(matches!(pages(&returning(&tenant(100)?, "")?).await, Err(Failure::Output(_))));
    // With room for one at a time.
    let entries = pages(&returning(&tenant(130)?, "")?).await?;
    assert_eq!(entries, 600);
    Ok(())
}

#[tokio::test]
async fn what_was_returned_counts_while_its_guest_computes_on() -> anyhow::Result<()> {
    let tenant = tenant(130)?;
    let (honest, endless) = (returning(&tenant, "")?, returning(&tenant, ON_AND_ON)?);
    assert_eq!(pages(&honest).await?, 600);
    // A page that is not handed on, for as long as its guest computes.
    let computing = tokio::spawn(async move { pages(&endless).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = pages(&honest).await;
    assert!(matches!(refused, Err(Failure::Crowded(Whose::Tenant))), "{refused:?}");
    assert!(!computing.is_finished(), "it is no longer there");
    computing.abort();
    assert!(computing.await.is_err());
    assert_eq!(pages(&honest).await?, 600);
    Ok(())
}
