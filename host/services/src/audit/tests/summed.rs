//! Decisions and failed log-ins: the first of a kind at once, the rest as a number, and never more than a few kinds.

use bulkhead_core::audit::{Decided, Text, Unknown, Who};

use super::super::summed::MOST_KINDS;
use super::*;

fn who(principal: &str, request: u64) -> Who {
    Who { principal: Text::new(principal), request: Text::new(&request.to_string()), ..Who::host() }
}

fn decided(principal: &str, request: u64, permitted: bool) -> Decided {
    Decided {
        who: who(principal, request),
        permission: Word::new("connection:grant"),
        resource: Text::new("acme/crm"),
        permitted,
        carries_secret: false,
        reason: Text::new("no policy permits it"),
        times: 1,
    }
}

fn times(events: &[Event<'_>]) -> Vec<(String, u64)> {
    let times = events.iter().filter_map(|event| match &event.what {
        What::Decided(Decided { who, times, .. }) | What::Unknown(Unknown { who, times, .. }) => {
            Some((who.principal.as_str().to_owned(), *times))
        }
        _ => None,
    });
    times.collect()
}

#[tokio::test]
async fn the_first_denial_is_on_the_disk_at_once_and_the_rest_are_a_number() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    for request in 0..100 {
        audit.decided(&acme(), decided("acme/user/eve", request, false)).await.unwrap();
    }
    assert_eq!(times(&entries(store.as_ref(), &acme()).await), [("acme/user/eve".to_owned(), 1)]);
    audit.decided(&acme(), decided("acme/user/mallory", 0, false)).await.unwrap();
    audit.close().await;
    let all = times(&entries(store.as_ref(), &acme()).await);
    let own = |name: &str, times: u64| (name.to_owned(), times);
    assert_eq!(all, [own("acme/user/eve", 1), own("acme/user/mallory", 1), own("acme/user/eve", 99)]);
}

#[tokio::test]
async fn each_permit_is_recorded_and_only_one_with_a_secret_waits_for_the_disk() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    for request in 0..3 {
        audit.decided(&acme(), decided("acme/user/ada", request, true)).await.unwrap();
    }
    audit.decided(&acme(), Decided { carries_secret: true, ..decided("acme/user/ada", 3, true) }).await.unwrap();
    assert_eq!(times(&entries(store.as_ref(), &acme()).await).len(), 4);
    store.fail(Some(Fault::Always));
    audit.decided(&acme(), decided("acme/user/ada", 4, true)).await.unwrap();
    let refused = audit.decided(&acme(), Decided { carries_secret: true, ..decided("acme/user/ada", 5, true) }).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    let refused = audit.decided(&acme(), decided("acme/user/eve", 6, false)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn whoever_follows_the_log_leaves_one_entry_in_a_minute() {
    let store = Arc::new(MemoryStore::default());
    let settings = Settings { window: Duration::from_millis(20), ..Settings::DEFAULT };
    let audit = Audit::open_with(Arc::clone(&store) as Arc<dyn Store>, settings).await.unwrap();
    let look = |request| Decided { permission: Word::new("audit:read"), ..decided("acme/user/ada", request, true) };
    let began = std::time::Instant::now();
    let mut looks = 0;
    while began.elapsed() < Duration::from_millis(200) {
        looks += 1;
        audit.decided(&acme(), look(looks)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    audit.decided(&acme(), Decided { permitted: false, ..look(0) }).await.unwrap();
    audit.close().await;
    let all = times(&entries(store.as_ref(), &acme()).await);
    assert_eq!(all.iter().map(|(_, times)| times).sum::<u64>(), looks + 1, "each is counted");
    // The first, one in each six windows of the ten or so, what was left, and the denial, which is no look.
    assert!((3..=6).contains(&all.len()), "{all:?}");
}

#[tokio::test]
async fn kinds_beyond_the_most_are_one_kind() {
    let store = Arc::new(MemoryStore::default());
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let attempts = 10 * MOST_KINDS as u64;
    for number in 0..attempts {
        let unknown = Unknown {
            who: who(&format!("acme/user/u{number}"), number),
            door: Word::new("password"),
            reason: Word::new("wrong"),
            times: 1,
        };
        audit.unknown(&acme(), unknown).await.unwrap();
    }
    audit.close().await;
    let all = times(&entries(store.as_ref(), &acme()).await);
    assert!(all.len() <= MOST_KINDS + 2, "{}", all.len());
    assert_eq!(all.iter().map(|(_, times)| times).sum::<u64>(), attempts);
}
