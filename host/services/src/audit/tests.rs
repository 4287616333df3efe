//! What is acknowledged is there, what is missing is told, and a store that fails lets nothing pass as recorded.

use std::borrow::Cow;

use bulkhead_core::audit::{Finished, Used};
use bulkhead_core::id::{ConnectionId, Digest, InvocationId};
use bulkhead_storage::{Batch, Fault, MemoryStore, SledStore, Space};
use futures::FutureExt as _;

use super::*;

mod bounds;
mod slow;
mod summed;
mod turned;

fn acme() -> Subject {
    Subject::Tenant("acme".parse().unwrap())
}

fn soon(number: u64) -> Event<'static> {
    let connection: ConnectionId = "crm".parse().unwrap();
    let finished = Finished {
        connection: Cow::Owned(connection),
        invocation: InvocationId::new(number, [0; 10]),
        release: Digest::of(&[]),
        call: Word::new("actions.invoke"),
        outcome: Word::new("ok"),
        blame: None,
        used: Used { micros: number, ..Used::default() },
    };
    Event { at: number, what: What::Finished(finished) }
}

/// For want of a change, a kind that is durable.
fn durable() -> Event<'static> {
    Event { at: 0, what: What::Gap }
}

async fn entries(store: &dyn Store, subject: &Subject) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    let head = read(store, subject, |number, event| {
        assert_eq!(number, events.len() as u64);
        events.push(event);
    });
    let head = head.await.unwrap();
    assert_eq!(head.length, events.len() as u64);
    events
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "{what}");
}

#[tokio::test]
async fn what_has_to_be_durable_is_on_the_disk_when_it_is_acknowledged() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    for number in 0..20 {
        assert_eq!(log.record(&durable()).await.unwrap(), number);
        assert_eq!(verify(store.as_ref(), &acme()).await.unwrap(), log.head());
    }
}

#[tokio::test]
async fn what_need_not_be_is_there_soon_and_in_order() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    for number in 0..3000 {
        assert_eq!(log.place().await.unwrap().record(&soon(number)).unwrap(), number);
    }
    until("all of it is written", async || verify(store.as_ref(), &acme()).await.unwrap() == log.head()).await;
    assert_eq!(entries(store.as_ref(), &acme()).await, (0..3000).map(soon).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_reads_while_it_is_written_finds_it_whole() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    let writing = tokio::spawn(async move {
        for _ in 0..500 {
            log.record(&durable()).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < 500 {
        let length = verify(store.as_ref(), &acme()).await.unwrap().length;
        assert!(length >= seen);
        seen = length;
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn one_chain_has_one_end_whoever_asks() {
    let audit = Audit::passing();
    let logs = [audit.log(&acme()).await.unwrap(), audit.log(&acme()).await.unwrap()];
    assert!(Arc::ptr_eq(&logs[0], &logs[1]));
    logs[0].record(&durable()).await.unwrap();
    assert_eq!(logs[1].head().length, 1);
    let other = audit.log(&Subject::Tenant("globex".parse().unwrap())).await.unwrap();
    assert_eq!(other.head().length, 0);
}

#[tokio::test]
async fn a_chain_goes_on_after_a_farewell_without_a_gap() {
    let scratch = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let store = Arc::new(SledStore::open(&scratch.path().join("data")).await.unwrap());
        let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
        let log = audit.log(&acme()).await.unwrap();
        log.record(&soon(round)).await.unwrap();
        drop(log);
        audit.close().await;
        let seen = entries(store.as_ref(), &acme()).await;
        assert_eq!(seen, (0..=round).map(soon).collect::<Vec<_>>());
        let host = entries(store.as_ref(), &Subject::Host).await;
        assert!(host.iter().all(|event| matches!(event.what, What::Opened { .. })), "{host:?}");
        assert_eq!(host.len() as u64, round + 1);
    }
}

#[tokio::test]
async fn whoever_goes_without_a_farewell_leaves_a_gap() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store)).await.unwrap();
    let globex = Subject::Tenant("globex".parse().unwrap());
    audit.log(&acme()).await.unwrap().record(&durable()).await.unwrap();
    audit.log(&globex).await.unwrap().record(&durable()).await.unwrap();
    // Killed: it is neither closed nor dropped.
    std::mem::forget(audit);
    let kinds = async |subject| {
        let events = entries(store.as_ref(), &subject).await;
        events.iter().map(|event| matches!(event.what, What::Gap)).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let audit = Audit::open(Arc::clone(&store)).await.unwrap();
        audit.log(&acme()).await.unwrap().record(&soon(1)).await.unwrap();
        let fresh = audit.log(&Subject::Tenant("initech".parse().unwrap())).await.unwrap();
        fresh.record(&soon(1)).await.unwrap();
        drop(fresh);
        audit.close().await;
    }
    // The first entry is of the kind, too.
    assert_eq!(kinds(acme()).await, [true, true, false, false], "one marker, before anything else");
    assert_eq!(kinds(Subject::Host).await, [false, true, false, false], "the host's says so before it is opened");
    assert_eq!(kinds(Subject::Tenant("initech".parse().unwrap())).await, [false, false], "it had nothing to lose");
    assert_eq!(kinds(globex.clone()).await, [true]);
    let audit = Audit::open(Arc::clone(&store)).await.unwrap();
    audit.log(&globex).await.unwrap().record(&soon(1)).await.unwrap();
    audit.close().await;
    assert_eq!(kinds(globex).await, [true, true, false], "even where others wrote in between");
}

#[tokio::test]
async fn a_tenants_very_first_entries_are_missed_when_they_are_lost() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    // Nothing of it comes to the disk, and there the host ends.
    store.fail(Some(Fault::Always));
    log.record(&soon(0)).await.unwrap();
    let disk: Arc<dyn Store> = Arc::new(copied(&store).await);
    std::mem::forget(audit);
    let audit = Audit::open(Arc::clone(&disk)).await.unwrap();
    audit.log(&acme()).await.unwrap().record(&soon(1)).await.unwrap();
    audit.close().await;
    let [Event { what: What::Gap, .. }, second] = &entries(disk.as_ref(), &acme()).await[..] else {
        panic!("a gap, and what came after it");
    };
    assert_eq!(*second, soon(1));
}

/// All that the log has in `store`, as a disk that outlives its host has it.
async fn copied(store: &MemoryStore) -> MemoryStore {
    let (copy, mut batch) = (MemoryStore::default(), Batch::new());
    for space in [rows::SEGMENTS, rows::HEADS, rows::SESSIONS] {
        for (key, value) in store.scan(space, b"", None, 256).await.unwrap().entries {
            batch.put(space, &key, value);
        }
    }
    copy.apply(batch).await.unwrap();
    copy
}

#[tokio::test]
async fn a_place_that_is_still_out_is_no_farewell() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store)).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    log.record(&soon(0)).await.unwrap();
    let place = log.place().await.unwrap();
    audit.close().await;
    assert!(matches!(log.place().await, Err(Error::Closed)));
    assert!(matches!(log.record(&durable()).await, Err(Error::Closed)));
    place.record(&soon(1)).unwrap();
    drop(log);
    let audit = Audit::open(Arc::clone(&store)).await.unwrap();
    audit.log(&acme()).await.unwrap().record(&durable()).await.unwrap();
    assert_eq!(entries(store.as_ref(), &acme()).await.len(), 3, "the first, a gap, and the last");
}

#[tokio::test]
async fn a_store_that_fails_acknowledges_nothing_and_loses_nothing() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    log.record(&durable()).await.unwrap();
    store.fail(Some(Fault::Always));
    let error = log.record(&durable()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(why) if why.contains("it was told to")), "{error}");
    assert!(audit.trouble().is_some());
    assert_eq!(verify(store.as_ref(), &acme()).await.unwrap().length, 1);
    // What need not be durable is kept in memory, up to its bound.
    for number in 0..MOST_PENDING as u64 {
        log.record(&soon(number)).await.unwrap();
    }
    assert!(matches!(log.place().await, Err(Error::Unavailable(_))));
    store.fail(None);
    until("it is written again", async || verify(store.as_ref(), &acme()).await.unwrap() == log.head()).await;
    assert_eq!(log.head().length, MOST_PENDING as u64 + 2);
    until("it is well again", async || audit.trouble().is_none()).await;
    log.record(&durable()).await.unwrap();
    audit.close().await;
    assert_eq!(entries(store.as_ref(), &acme()).await.len(), MOST_PENDING + 3);
}

#[tokio::test]
async fn a_write_that_was_done_although_it_failed_is_not_done_twice() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    store.fail(Some(Fault::OnceDone));
    assert!(matches!(log.record(&durable()).await, Err(Error::Unavailable(_))));
    log.record(&soon(1)).await.unwrap();
    until("it is well again", async || audit.trouble().is_none()).await;
    log.record(&durable()).await.unwrap();
    audit.close().await;
    assert_eq!(entries(store.as_ref(), &acme()).await.len(), 3);
}

#[tokio::test]
async fn two_hosts_cannot_go_on_with_one_chain() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let audits = [Audit::open(Arc::clone(&store)).await.unwrap(), Audit::open(Arc::clone(&store)).await.unwrap()];
    let logs = [audits[0].log(&acme()).await.unwrap(), audits[1].log(&acme()).await.unwrap()];
    logs[0].record(&durable()).await.unwrap();
    assert!(matches!(logs[1].record(&durable()).await, Err(Error::Changed(_))));
    assert!(matches!(logs[1].place().await, Err(Error::Changed(_))));
    // Neither the first host nor the second one's other chains mind.
    logs[0].record(&durable()).await.unwrap();
    let other = audits[1].log(&Subject::Tenant("globex".parse().unwrap())).await.unwrap();
    other.record(&durable()).await.unwrap();
    assert_eq!(entries(store.as_ref(), &acme()).await.len(), 2);
}

#[tokio::test]
async fn chains_are_checked_one_at_a_time_for_a_tenant_a_few_for_all_and_in_pieces() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    for _ in 0..40 {
        log.record(&durable()).await.unwrap();
    }
    let tenant = |name: &str| name.parse::<TenantId>().unwrap();
    let (first, second) = (audit.checks.turn(&tenant("acme")).await, audit.checks.turn(&tenant("beta")).await);
    assert!(audit.verify(&tenant("gamma")).now_or_never().is_none(), "there are places for two");
    drop(second);
    assert!(audit.verify(&tenant("acme")).now_or_never().is_none(), "one of a tenant's at a time");
    assert!(audit.verify(&tenant("gamma")).now_or_never().unwrap().is_ok());
    drop(first);
    // The store never waits, and each entry has a segment of its own.
    assert!(audit.verify(&tenant("acme")).now_or_never().is_none(), "others go on after so many");
    assert_eq!(audit.verify(&tenant("acme")).await.unwrap().length, 40);
}

async fn places(log: &Arc<Log>, count: usize) -> Vec<Place> {
    let mut places = Vec::new();
    for _ in 0..count {
        places.push(log.place().await.unwrap());
    }
    places
}

/// What is stored under `space`, changed and put back.
async fn changed(store: &MemoryStore, space: Space, change: impl Fn(&mut Vec<(Vec<u8>, Vec<u8>)>)) {
    let mut rows = store.scan(space, b"acme", None, 100).await.unwrap().entries;
    let mut batch = Batch::new();
    rows.iter().for_each(|(key, _)| batch.delete(space, key));
    change(&mut rows);
    rows.into_iter().for_each(|(key, value)| batch.put(space, &key, value));
    store.apply(batch).await.unwrap();
}

#[tokio::test]
async fn what_is_changed_in_the_store_is_told() {
    let written = async || {
        let store = Arc::new(MemoryStore::default());
        let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
        let log = audit.log(&acme()).await.unwrap();
        for _ in 0..4 {
            log.record(&durable()).await.unwrap();
        }
        drop(log);
        audit.close().await;
        assert_eq!(verify(store.as_ref(), &acme()).await.unwrap().length, 4);
        store
    };
    type Rows = Vec<(Vec<u8>, Vec<u8>)>;
    type Change = (&'static str, Space, fn(&mut Rows));
    let changes: [Change; 8] = [
        ("the last is cut off", rows::SEGMENTS, |rows| drop(rows.pop())),
        ("all are", rows::SEGMENTS, |rows| rows.clear()),
        ("the first is", rows::SEGMENTS, |rows| drop(rows.remove(0))),
        ("one in the middle is", rows::SEGMENTS, |rows| drop(rows.remove(1))),
        ("two are swapped", rows::SEGMENTS, |rows| {
            let first = rows[1].1.clone();
            rows[1].1 = std::mem::replace(&mut rows[2].1, first);
        }),
        ("a byte is changed", rows::SEGMENTS, |rows| {
            if let Some(byte) = rows[2].1.last_mut() {
                *byte ^= 1;
            }
        }),
        ("one is moved", rows::SEGMENTS, |rows| rows[3].0[12] += 1),
        ("the end is taken away", rows::HEADS, |rows| rows.clear()),
    ];
    for (what, space, change) in changes {
        let store = written().await;
        changed(&store, space, change).await;
        let told = verify(store.as_ref(), &acme()).await;
        assert!(matches!(told, Err(Error::Broken { .. })), "{what}: {told:?}");
    }
}

#[tokio::test]
async fn an_end_that_was_put_back_is_told_before_anything_is_written() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let log = audit.log(&acme()).await.unwrap();
    log.record(&durable()).await.unwrap();
    let old = store.get(rows::HEADS, b"acme").await.unwrap().unwrap();
    log.record(&durable()).await.unwrap();
    drop(log);
    audit.close().await;
    let mut batch = Batch::new();
    batch.put(rows::HEADS, b"acme", old);
    store.apply(batch).await.unwrap();
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    assert!(matches!(audit.log(&acme()).await, Err(Error::Broken { .. })));
}
