//! A flood of calls that are turned away is a few entries, and its number is right.

use bulkhead_core::audit::TurnedAway;

use super::*;

/// So short that windows come to their end within a test, and so long that a flood fits into one.
const WINDOW: Duration = Duration::from_millis(100);

async fn opened(store: &Arc<MemoryStore>, window: Duration) -> Audit {
    let settings = Settings { window, ..Settings::DEFAULT };
    Audit::open_with(Arc::clone(store) as Arc<dyn Store>, settings).await.unwrap()
}

async fn of(audit: &Audit, connection: &str) -> Arc<Turned> {
    Turned::new(audit.log(&acme()).await.unwrap(), connection.parse().unwrap())
}

async fn told(store: &MemoryStore) -> Vec<TurnedAway<'static>> {
    let turned = |event: Event<'static>| match event.what {
        What::TurnedAway(turned) => Some(turned),
        _ => None,
    };
    entries(store, &acme()).await.into_iter().filter_map(turned).collect()
}

#[tokio::test]
async fn a_flood_leaves_its_first_call_at_once_and_the_rest_as_a_number() {
    let store = Arc::new(MemoryStore::default());
    let audit = opened(&store, WINDOW).await;
    let turned = of(&audit, "crm").await;
    turned.add("busy", Some(Blame::Tenant), 1, None);
    until("the first is told", async || told(&store).await.len() == 1).await;
    for at in 2..=10_000 {
        turned.add("busy", Some(Blame::Tenant), at, None);
    }
    let all = async || told(&store).await.iter().map(|turned| turned.calls).sum::<u64>();
    until("all are told", async || all().await == 10_000).await;
    let told = told(&store).await;
    let [first, rest @ ..] = told.as_slice() else { panic!("nothing") };
    let TurnedAway { connection, outcome, blame, calls, first, last } = first;
    assert_eq!((connection.as_str(), outcome.as_str(), *blame), ("crm", "busy", Some(Blame::Tenant)));
    assert_eq!((*calls, *first, *last), (1, 1, 1));
    // It may have lasted longer than a window, on a busy machine.
    assert!((1..100).contains(&rest.len()), "{}", rest.len());
    assert_eq!((rest[0].first, rest[rest.len() - 1].last), (2, 10_000));
    assert!(rest.windows(2).all(|two| two[0].last + 1 == two[1].first), "{rest:?}");
}

#[tokio::test]
async fn causes_and_connections_are_told_apart() {
    let store = Arc::new(MemoryStore::default());
    let audit = opened(&store, Duration::from_secs(3600)).await;
    let connections = [of(&audit, "crm").await, of(&audit, "mail").await];
    for turned in &connections {
        for outcome in ["busy", "connection-paused"] {
            for at in 0..3 {
                turned.add(outcome, None, at, None);
            }
        }
    }
    audit.close().await;
    let told = told(&store).await;
    let of = |connection: &str, outcome: &str| {
        let same = told.iter().filter(|one| one.connection.as_str() == connection && one.outcome.as_str() == outcome);
        same.map(|one| one.calls).collect::<Vec<_>>()
    };
    for (connection, outcome) in
        [("crm", "busy"), ("crm", "connection-paused"), ("mail", "busy"), ("mail", "connection-paused")]
    {
        assert_eq!(of(connection, outcome), [1, 2], "{connection} {outcome}");
    }
}

#[tokio::test]
async fn a_host_that_stops_in_order_tells_the_last_sum_and_a_killed_one_leaves_a_gap() {
    let hour = Duration::from_secs(3600);
    for killed in [false, true] {
        let store = Arc::new(MemoryStore::default());
        let audit = opened(&store, hour).await;
        let turned = of(&audit, "crm").await;
        let log = audit.log(&acme()).await.unwrap();
        for at in 0..5 {
            turned.add("busy", None, at, Some(log.place().await.unwrap()));
        }
        until("the first is told", async || told(&store).await.len() == 1).await;
        if killed {
            std::mem::forget(audit);
        } else {
            audit.close().await;
        }
        let audit = opened(&store, hour).await;
        audit.log(&acme()).await.unwrap().record(&soon(1)).await.unwrap();
        audit.close().await;
        let calls: Vec<u64> = told(&store).await.iter().map(|turned| turned.calls).collect();
        let gaps = entries(store.as_ref(), &acme()).await.iter().filter(|event| event.what == What::Gap).count();
        if killed {
            assert_eq!((calls.as_slice(), gaps), ([1].as_slice(), 1));
        } else {
            assert_eq!((calls.as_slice(), gaps), ([1, 4].as_slice(), 0));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_now_stays_in_the_sum() {
    let store = Arc::new(MemoryStore::default());
    let audit = opened(&store, WINDOW).await;
    let turned = of(&audit, "crm").await;
    let log = audit.log(&acme()).await.unwrap();
    let taken = places(&log, MOST_PENDING).await;
    for at in 1..=7 {
        turned.add("audit-busy", None, at, None);
    }
    assert_eq!(log.head().length, 0);
    drop(taken);
    until("they are told", async || !told(&store).await.is_empty()).await;
    let told = told(&store).await;
    assert_eq!((told.len(), told[0].calls, told[0].first, told[0].last), (1, 7, 1, 7));
}

#[tokio::test]
async fn nothing_is_left_of_a_flood_that_is_over() {
    let store = Arc::new(MemoryStore::default());
    let audit = opened(&store, WINDOW).await;
    let turned = of(&audit, "crm").await;
    let left = Arc::downgrade(&turned);
    for at in 0..2 {
        turned.add("busy", None, at, None);
    }
    drop(turned);
    until("it is let go of", async || left.strong_count() == 0).await;
    until("nothing is due", async || audit.shared.due().is_none()).await;
    assert_eq!(told(&store).await.iter().map(|turned| turned.calls).sum::<u64>(), 2);
}
