//! A store that is slow to fail: what comes meanwhile is written once, and its places come back once.

use bulkhead_storage::Page;
use tokio::sync::Semaphore;

use super::super::log::MOST_PENDING;
use super::*;

/// Fails each batch, but only when it is let.
#[derive(Default)]
struct Slow {
    inner: MemoryStore,
    /// How many batches may fail; closed, all go through.
    failures: Option<Semaphore>,
    tried: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Slow {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, bulkhead_storage::Error> {
        self.inner.get(space, key).await
    }

    async fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, bulkhead_storage::Error> {
        self.inner.scan(space, prefix, after, limit).await
    }

    async fn apply(&self, batch: Batch) -> Result<(), bulkhead_storage::Error> {
        self.tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(failures) = &self.failures
            && let Ok(permit) = failures.acquire().await
        {
            permit.forget();
            return Err(bulkhead_storage::Error::Failed("it was told to".to_owned()));
        }
        self.inner.apply(batch).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_write_fails_has_its_place_back_once() {
    // Let through whatever opening needs.
    let store = Arc::new(Slow { failures: Some(Semaphore::new(0)), ..Slow::default() });
    let audit = Audit {
        shared: Arc::new(Shared::new(Some(store.clone()), Settings::DEFAULT, Session::default())),
        writer: None,
        recent: Mutex::default(),
        checks: Bench::default(),
    };
    let shared = Arc::clone(&audit.shared);
    let writer = std::thread::spawn(move || flush::run(&shared));
    let subject = acme();
    let loaded = Log::load(&audit.shared, &subject);
    // The chain's end is stored first, which is let fail or not by nobody: it is there already.
    let row = rows::end_row(acme().genesis(), Session::default(), 0);
    let mut end = Batch::new();
    end.put(rows::HEADS, b"acme", row);
    store.inner.apply(end).await.unwrap();
    let log = Arc::new(loaded.await.unwrap().0);

    let tried = |least: usize| {
        let store = Arc::clone(&store);
        async move || store.tried.load(std::sync::atomic::Ordering::Relaxed) >= least
    };
    log.place_now().unwrap().unwrap().record(&soon(1)).unwrap();
    for round in 1..=3 {
        until("it is being written", tried(round)).await;
        // While the write is under way, which then fails.
        log.place_now().unwrap().unwrap().record(&soon(10 + round as u64)).unwrap();
        store.failures.as_ref().unwrap().add_permits(1);
    }
    until("it is being written again", tried(4)).await;
    store.failures.as_ref().unwrap().close();
    until("all is written", async || log.bytes() > 0 && log.room.available_permits() >= MOST_PENDING).await;
    // A second return would come at once, or with the next write.
    log.place_now().unwrap().unwrap().record(&soon(20)).unwrap();
    until("the last one is written", async || log.progress.borrow().durable == 5).await;
    assert_eq!(log.room.available_permits(), MOST_PENDING);
    let events = entries(&store.inner, &acme()).await;
    assert_eq!(events.iter().map(|event| event.at).collect::<Vec<_>>(), [1, 11, 12, 13, 20]);
    audit.shared.stop.notify_one();
    writer.join().unwrap();
}
