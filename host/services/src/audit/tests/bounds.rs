//! What one tenant can have pending, waiting and on the disk.

use bulkhead_core::audit::LARGEST_ENTRY;
use futures::FutureExt;
use futures::future::join_all;

use super::super::log::{KEPT, MOST_WAITING, PATIENCE, RESERVED};
use super::*;

/// A log with a quota.
async fn opened(store: &Arc<MemoryStore>, quota: u64) -> Audit {
    let settings = Settings { quota: Size::kib(quota), ..Settings::DEFAULT };
    Audit::open_with(Arc::clone(store) as Arc<dyn Store>, settings).await.unwrap()
}

fn globex() -> Subject {
    Subject::Tenant("globex".parse().unwrap())
}

/// Records until there is no more room; how many there were.
async fn fill(log: &Arc<Log>) -> u64 {
    let mut count = 0;
    loop {
        match log.record(&soon(count)).await {
            Ok(_) => count += 1,
            Err(Error::Full { .. }) => {
                // What was reserved for more than it took comes back when it is written.
                until("all is written", async || log.room.available_permits() == MOST_PENDING).await;
                if log.place_now().is_err() {
                    return count;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn memory_stays_bounded_while_the_disk_is_slow_and_whoever_waits_gets_what_comes_free() {
    let audit = Audit::open(Arc::new(MemoryStore::default())).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    let mut taken = places(&log, MOST_PENDING).await;
    assert_eq!(log.room.available_permits(), 0);
    assert!(log.place_now().unwrap().is_none());
    let mut waiting = std::pin::pin!(log.place());
    assert!(waiting.as_mut().now_or_never().is_none(), "there was room for one more");
    // An operator does not wait in that line.
    log.record(&durable()).await.unwrap();
    taken.pop();
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_wait_for_a_place_has_an_end_and_so_has_the_line() {
    let audit = Audit::passing();
    let log = audit.log(&acme()).await.unwrap();
    let _taken = places(&log, MOST_PENDING).await;
    let mut line: Vec<_> = (0..MOST_WAITING).map(|_| Box::pin(log.place())).collect();
    for waiting in &mut line {
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    let Some(Err(Error::Busy { subject, retry_after })) = log.place().now_or_never() else {
        panic!("one more waits");
    };
    assert_eq!((subject, retry_after), (acme(), PATIENCE));
    // Somebody leaves, and somebody else may come.
    line.pop();
    line.push(Box::pin(log.place()));
    assert!(line.last_mut().unwrap().as_mut().now_or_never().is_none());
    let began = tokio::time::Instant::now();
    for ended in join_all(line).await {
        assert!(matches!(ended, Err(Error::Busy { .. })));
    }
    assert!(began.elapsed() <= PATIENCE * 20, "it waited far longer than it should");
}

#[tokio::test]
async fn a_tenant_that_is_full_is_turned_away_and_nobody_else_and_its_operator_can_still_act() {
    let store = Arc::new(MemoryStore::default());
    let audit = opened(&store, 64).await;
    let logs = [audit.log(&acme()).await.unwrap(), audit.log(&globex()).await.unwrap()];
    let count = fill(&logs[0]).await;
    assert!(count > 100, "{count}");
    let text = logs[0].place().await.err().unwrap().to_string();
    assert_eq!(
        text,
        "the audit log of `acme` has come to its quota of 64.0 KiB, and nothing runs that is not recorded: raise the quota"
    );
    logs[1].record(&soon(1)).await.unwrap();
    logs[0].record(&durable()).await.unwrap();
    // Never beyond its quota, and all that is counted is there.
    assert!(logs[0].bytes() <= (64 << 10) + RESERVED, "{}", logs[0].bytes());
    assert_eq!(logs[0].bytes(), on_disk(&store, "acme").await);
    drop(logs);
    audit.close().await;
    // The next host knows as much, without counting.
    let audit = opened(&store, 64).await;
    let log = audit.log(&acme()).await.unwrap();
    assert_eq!(log.bytes(), on_disk(&store, "acme").await);
    assert!(matches!(log.place().await, Err(Error::Full { .. })));
    drop(log);
    audit.close().await;
    let audit = opened(&store, 128).await;
    audit.log(&acme()).await.unwrap().place().await.unwrap();
}

#[tokio::test]
async fn what_an_operator_may_still_do_on_a_full_tenant_ends_as_well() {
    let audit = opened(&Arc::new(MemoryStore::default()), 64).await;
    let log = audit.log(&acme()).await.unwrap();
    fill(&log).await;
    log.bytes.store((64 << 10) + KEPT - LARGEST_ENTRY as u64 - RESERVED, std::sync::atomic::Ordering::Relaxed);
    log.record(&durable()).await.unwrap();
    assert!(matches!(log.record(&durable()).await, Err(Error::Full { .. })));
}

#[tokio::test]
async fn bytes_that_an_older_host_did_not_count_are_counted_once() {
    let store = Arc::new(MemoryStore::default());
    let audit = opened(&store, 64).await;
    let log = audit.log(&acme()).await.unwrap();
    for _ in 0..40 {
        log.record(&durable()).await.unwrap();
    }
    drop(log);
    audit.close().await;
    // The row as it was before: its first form, without the number at its end.
    let mut row = store.get(rows::HEADS, b"acme").await.unwrap().unwrap();
    row[0] = 1;
    row.truncate(row.len() - 8);
    let mut batch = Batch::new();
    batch.put(rows::HEADS, b"acme", row);
    store.apply(batch).await.unwrap();
    let audit = opened(&store, 64).await;
    let log = audit.log(&acme()).await.unwrap();
    assert_eq!(log.bytes(), on_disk(&store, "acme").await);
    log.record(&durable()).await.unwrap();
    assert_eq!(log.bytes(), on_disk(&store, "acme").await);
    assert_eq!(entries(store.as_ref(), &acme()).await.len(), 41);
}

#[test]
fn the_largest_entry_that_needs_a_place_fits_into_what_is_reserved() {
    let tenant: TenantId = "t".repeat(63).parse().unwrap();
    let longest = "w".repeat(63);
    let word = || Word::new(Box::leak(longest.clone().into_boxed_str()));
    let connection: ConnectionId = "c".repeat(63).parse().unwrap();
    let finished = Finished {
        connection: Cow::Borrowed(&connection),
        invocation: InvocationId::new(u64::MAX, [0; 10]),
        release: Digest::of(&[]),
        call: word(),
        outcome: word(),
        blame: Some(Blame::Host),
        used: Used::default(),
    };
    let turned = bulkhead_core::audit::TurnedAway {
        connection: Cow::Borrowed(&connection),
        outcome: word(),
        blame: Some(Blame::Host),
        calls: u64::MAX,
        first: 0,
        last: 0,
    };
    let subject = Subject::Tenant(tenant);
    let long = || bulkhead_core::audit::Text::new(&"x".repeat(1000));
    let who = || bulkhead_core::audit::Who { principal: long(), credential: long(), from: long(), request: long() };
    let decided = bulkhead_core::audit::Decided {
        who: who(),
        permission: word(),
        resource: long(),
        permitted: true,
        carries_secret: false,
        reason: long(),
        times: u64::MAX,
    };
    let unknown = bulkhead_core::audit::Unknown { who: who(), door: word(), reason: word(), times: u64::MAX };
    for what in [What::Finished(finished), What::TurnedAway(turned), What::Decided(decided), What::Unknown(unknown)] {
        let mut chain = bulkhead_core::audit::Chain::at(subject.genesis());
        chain.append(&Event { at: 0, what }).unwrap();
        let segments = chain.cut();
        let stored = rows::key(&subject, 0).len() + segments[0].encoded().len();
        assert!(stored as u64 <= RESERVED, "{stored}");
    }
}

async fn on_disk(store: &MemoryStore, tenant: &str) -> u64 {
    let (mut bytes, mut after) = (0, None::<Vec<u8>>);
    loop {
        let page = store.scan(rows::SEGMENTS, tenant.as_bytes(), after.as_deref(), 100).await.unwrap();
        bytes += page.entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        after = page.entries.last().map(|(key, _)| key.clone());
        if !page.more {
            return bytes;
        }
    }
}
