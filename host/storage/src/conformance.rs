//! The one suite that every adapter passes.

use crate::{Batch, Error, LARGEST_BATCH, LARGEST_PAGE, LARGEST_VALUE, LONGEST_KEY, MOST_STEPS, Space, Store};

const ONE: Space = Space::new("one");
const TWO: Space = Space::new("one-more");

/// Runs every check on an empty store.
pub(crate) async fn run(store: &dyn Store) {
    spaces_are_apart(store).await;
    a_scan_is_ordered_and_goes_on_from_its_cursor(store).await;
    a_batch_is_done_whole_or_not_at_all(store).await;
    of_two_writers_one_is_told(store).await;
    two_who_append_never_overwrite_one_another(store).await;
    the_last_step_on_a_key_counts(store).await;
    what_is_too_large_is_refused(store).await;
}

async fn put(store: &dyn Store, space: Space, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(space, key, value.to_vec());
    store.apply(batch).await.unwrap();
}

async fn spaces_are_apart(store: &dyn Store) {
    assert_eq!(store.get(ONE, b"k").await.unwrap(), None);
    put(store, ONE, b"k", b"1").await;
    put(store, TWO, b"k", b"2").await;
    put(store, ONE, b"", b"empty key").await;
    assert_eq!(store.get(ONE, b"k").await.unwrap().unwrap(), b"1");
    assert_eq!(store.get(TWO, b"k").await.unwrap().unwrap(), b"2");
    assert_eq!(store.get(ONE, b"").await.unwrap().unwrap(), b"empty key");
    let page = store.scan(ONE, b"", None, 10).await.unwrap();
    assert_eq!(page.entries, [(vec![], b"empty key".to_vec()), (b"k".to_vec(), b"1".to_vec())]);
    let mut batch = Batch::new();
    batch.delete(ONE, b"k");
    batch.delete(ONE, b"never there");
    store.apply(batch).await.unwrap();
    assert_eq!(store.get(ONE, b"k").await.unwrap(), None);
    assert_eq!(store.get(TWO, b"k").await.unwrap().unwrap(), b"2");
}

async fn a_scan_is_ordered_and_goes_on_from_its_cursor(store: &dyn Store) {
    const MANY: Space = Space::new("many");
    let mut batch = Batch::new();
    for number in (0..LARGEST_PAGE as u32 + 50).rev() {
        batch.put(MANY, &[b"p/".as_slice(), &number.to_be_bytes()].concat(), number.to_le_bytes().to_vec());
    }
    for outside in [b"p".as_slice(), b"p0", b"o\xff", b"\xff\xff"] {
        batch.put(MANY, outside, b"outside".to_vec());
    }
    store.apply(batch).await.unwrap();
    let (mut after, mut seen): (Option<Vec<u8>>, Vec<u32>) = (None, Vec::new());
    loop {
        let page = store.scan(MANY, b"p/", after.as_deref(), 100).await.unwrap();
        assert!(page.entries.len() <= 100 && page.more == (page.entries.len() == 100 && seen.len() != 206));
        seen.extend(page.entries.iter().map(|(_, value)| u32::from_le_bytes(value.as_slice().try_into().unwrap())));
        after = page.entries.last().map(|(key, _)| key.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (0..LARGEST_PAGE as u32 + 50).collect::<Vec<_>>());
    let all = store.scan(MANY, b"p/", None, usize::MAX).await.unwrap();
    assert!(all.more && all.entries.len() == LARGEST_PAGE);
    let before = store.scan(MANY, b"p/", Some(b"a"), 1).await.unwrap();
    assert_eq!(before.entries[0].0, b"p/\0\0\0\0", "a cursor before the first excludes none");
    assert_eq!(store.scan(MANY, b"p/", Some(b"q"), 1).await.unwrap().entries, []);
    assert_eq!(store.scan(MANY, b"\xff", None, 5).await.unwrap().entries.len(), 1);
    assert_eq!(store.scan(MANY, b"none", None, 5).await.unwrap().entries, []);
}

async fn a_batch_is_done_whole_or_not_at_all(store: &dyn Store) {
    put(store, ONE, b"a", b"1").await;
    let change = |expected: Option<&[u8]>| {
        let mut batch = Batch::new().only_if(ONE, b"a", expected.map(<[u8]>::to_vec));
        batch.put(ONE, b"a", b"2".to_vec());
        batch.put(TWO, b"b", b"2".to_vec());
        batch.delete(TWO, b"k");
        batch
    };
    for wrong in [None, Some(b"2".as_slice()), Some(b"")] {
        assert!(matches!(store.apply(change(wrong)).await, Err(Error::Conflict)), "{wrong:?}");
    }
    assert_eq!(store.get(TWO, b"b").await.unwrap(), None);
    assert!(store.get(TWO, b"k").await.unwrap().is_some());
    store.apply(change(Some(b"1"))).await.unwrap();
    assert_eq!(store.get(ONE, b"a").await.unwrap().unwrap(), b"2");
    assert_eq!(store.get(TWO, b"b").await.unwrap().unwrap(), b"2");
    assert_eq!(store.get(TWO, b"k").await.unwrap(), None);
}

async fn of_two_writers_one_is_told(store: &dyn Store) {
    put(store, ONE, b"count", &0u64.to_le_bytes()).await;
    let count = || async {
        for _ in 0..20 {
            loop {
                let before = store.get(ONE, b"count").await.unwrap();
                let next = u64::from_le_bytes(before.clone().unwrap().try_into().unwrap()) + 1;
                let mut batch = Batch::new().only_if(ONE, b"count", before);
                batch.put(ONE, b"count", next.to_le_bytes().to_vec());
                match store.apply(batch).await {
                    Ok(()) => break,
                    Err(Error::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(count(), count(), count());
    assert_eq!(store.get(ONE, b"count").await.unwrap().unwrap(), 60u64.to_le_bytes());
}

async fn two_who_append_never_overwrite_one_another(store: &dyn Store) {
    const LOG: Space = Space::new("log");
    let append = async |who: u8| {
        for of_its_own in 0..20u8 {
            let mut next = 0u32;
            loop {
                let at = next.to_be_bytes();
                // The next number, if it is nobody's yet.
                let mut batch = Batch::new().only_if(LOG, &at, None);
                batch.put(LOG, &at, vec![who, of_its_own]);
                match store.apply(batch).await {
                    Ok(()) => break,
                    Err(Error::Conflict) => next += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(append(0), append(1));
    let entries = store.scan(LOG, b"", None, LARGEST_PAGE).await.unwrap().entries;
    let numbers: Vec<_> =
        entries.iter().map(|(key, _)| u32::from_be_bytes(key.as_slice().try_into().unwrap())).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "without a gap");
    for who in [0, 1] {
        let own: Vec<_> = entries.iter().filter(|(_, value)| value[0] == who).map(|(_, value)| value[1]).collect();
        assert_eq!(own, (0..20).collect::<Vec<_>>(), "all of them, in their order");
    }
}

async fn the_last_step_on_a_key_counts(store: &dyn Store) {
    let mut batch = Batch::new();
    batch.put(ONE, b"x", b"1".to_vec());
    batch.delete(ONE, b"x");
    batch.delete(ONE, b"y");
    batch.put(ONE, b"y", b"2".to_vec());
    store.apply(batch).await.unwrap();
    assert_eq!(store.get(ONE, b"x").await.unwrap(), None);
    assert_eq!(store.get(ONE, b"y").await.unwrap().unwrap(), b"2");
}

async fn what_is_too_large_is_refused(store: &dyn Store) {
    put(store, ONE, &[7; LONGEST_KEY], &vec![7; LARGEST_VALUE]).await;
    assert_eq!(store.get(ONE, &[7; LONGEST_KEY]).await.unwrap().unwrap().len(), LARGEST_VALUE);
    let refused = async |fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        batch.put(TWO, b"beside", b"1".to_vec());
        fill(&mut batch);
        assert!(matches!(store.apply(batch).await, Err(Error::TooLarge(_))));
        assert_eq!(store.get(TWO, b"beside").await.unwrap(), None);
    };
    refused(&|batch| batch.put(ONE, &[7; LONGEST_KEY + 1], vec![])).await;
    refused(&|batch| batch.delete(ONE, &[7; LONGEST_KEY + 1])).await;
    refused(&|batch| batch.put(ONE, b"k", vec![7; LARGEST_VALUE + 1])).await;
    refused(&|batch| (0..MOST_STEPS).for_each(|_| batch.delete(ONE, b"k"))).await;
    refused(&|batch| (0..=LARGEST_BATCH / LARGEST_VALUE).for_each(|_| batch.put(ONE, b"k", vec![7; LARGEST_VALUE])))
        .await;
    assert!(matches!(store.get(ONE, &[7; LONGEST_KEY + 1]).await, Err(Error::TooLarge(_))));
}
