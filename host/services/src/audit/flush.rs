//! Writes what was chained: the one thread that does, for all tenants together.
//!
//! *Why a thread and an executor of its own*: a task would wait behind guests that compute, and [`super::SOON`] is a promise.
//! *Why together*: a disk is asked for one write that lasts, not for one for each entry; who waits for theirs meanwhile goes
//! with the next. *Invariants*: 1. segments and the chain's end are written in one batch, and only if the end is the one that
//! was written last; 2. what failed is written again as it was, before anything newer of that chain; 3. one chain that
//! somebody else changed does not hold up others.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_core::audit::Subject;
use bulkhead_storage::{Batch, Error as StoreError, Store};

use super::{Log, MOST_PENDING, SOON, Shared, rows};

/// How long entries are gathered: half of what was promised, so that the disk has the other half.
const GATHER: Duration = Duration::from_millis(SOON.as_millis() as u64 / 2);
/// Time between two tries of a store that fails.
const AGAIN: Duration = Duration::from_secs(1);
/// About how many rows, and how many bytes, are written together: small beside what a batch may have, since a single chain
/// may add [`MOST_PENDING`] entries at once.
const TOGETHER: (usize, usize) = (4096, 8 * 1024 * 1024);

/// What is written of one chain.
pub(super) struct Part {
    segments: Vec<(Vec<u8>, Vec<u8>)>,
    /// The chain's end before and after.
    ends: (Option<Vec<u8>>, Vec<u8>),
    /// How many entries there are then.
    length: u64,
    /// How many bytes they take.
    bytes: u64,
    places: usize,
}

/// Writes until it is told to stop, and once more.
pub(super) fn run(shared: &Arc<Shared>) {
    let Some(store) = shared.store.as_deref() else { return };
    match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(executor) => executor.block_on(async {
            until_stopped(shared, store).await;
            farewell(shared, store).await;
        }),
        Err(error) => fail(shared, &error.to_string()),
    }
}

async fn until_stopped(shared: &Arc<Shared>, store: &dyn Store) {
    loop {
        tokio::select! {
            biased;
            () = shared.stop.notified() => return,
            () = reached(shared.due()) => {
                shared.settle(false);
                continue;
            }
            () = shared.wake.notified() => {}
        }
        let mut pause = GATHER;
        loop {
            tokio::select! {
                biased;
                () = shared.stop.notified() => return,
                () = shared.hurry.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            if flush(shared, store).await {
                break;
            }
            pause = AGAIN;
        }
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Lets nobody begin anything, writes what is there, and says that nothing is missing if that is so.
async fn farewell(shared: &Arc<Shared>, store: &dyn Store) {
    let logs: Vec<Arc<Log>> = {
        let mut logs = shared.logs.lock().await;
        logs.closed = true;
        logs.of.values().filter_map(std::sync::Weak::upgrade).collect()
    };
    // A place that somebody still has is for something that will be missing.
    let all_back = || logs.iter().all(|log| log.room.available_permits() == MOST_PENDING);
    let mut whole = flush(shared, store).await;
    logs.iter().for_each(|log| log.room.close());
    whole = whole && flush(shared, store).await && all_back();
    // Whoever was turned away gave back their place after they were counted: these sums are the last.
    shared.settle(true);
    whole = flush(shared, store).await && whole;
    logs.iter().for_each(|log| log.close());
    if !whole {
        tracing::warn!(code = "audit-unfinished", "the audit log was closed while something was yet to be written");
    } else if let Err(error) = rows::farewell(store, shared.session).await {
        fail(shared, &error.to_string());
    }
}

/// Writes what is pending; whether all of it was.
async fn flush(shared: &Arc<Shared>, store: &dyn Store) -> bool {
    let dirty = std::mem::take(&mut *shared.dirty.lock().unwrap_or_else(PoisonError::into_inner));
    let (mut written, mut waiting) = (true, Vec::new());
    let mut together = (0, 0);
    for log in dirty {
        let part = log.part(shared);
        together.0 += part.segments.len() + 1;
        together.1 += part.segments.iter().map(|(_, value)| value.len()).sum::<usize>();
        waiting.push((log, part));
        if together.0 >= TOGETHER.0 || together.1 >= TOGETHER.1 {
            written &= write(shared, store, std::mem::take(&mut waiting)).await;
            together = (0, 0);
        }
    }
    written &= write(shared, store, waiting).await;
    if written && shared.trouble.borrow().is_some() {
        tracing::info!(code = "audit-available", "the audit log is written again");
        shared.trouble.send_replace(None);
    }
    written
}

async fn write(shared: &Arc<Shared>, store: &dyn Store, parts: Vec<(Arc<Log>, Arc<Part>)>) -> bool {
    if parts.is_empty() {
        return true;
    }
    let batch = parts.iter().fold(Batch::new(), |batch, (log, part)| part.added(log, batch));
    let mut result = store.apply(batch).await;
    if matches!(result, Err(StoreError::Conflict)) {
        result = Ok(());
        for (log, part) in &parts {
            result = result.and(one_by_one(store, log, part).await);
        }
    } else if result.is_ok() {
        parts.iter().for_each(|(log, part)| log.is_written(part));
    }
    let Err(error) = result else { return true };
    fail(shared, &error.to_string());
    for (log, _) in parts {
        // It is in the list already where something came while the write failed: twice there, it would be written twice.
        let again = {
            let mut state = log.state();
            state.in_flight.is_some() && !std::mem::replace(&mut state.dirty, true)
        };
        if again {
            shared.is_dirty(log);
        }
    }
    false
}

/// Writes one chain after a conflict: that of a write which was done although it failed, or of somebody else.
async fn one_by_one(store: &dyn Store, log: &Arc<Log>, part: &Arc<Part>) -> Result<(), StoreError> {
    match store.apply(part.added(log, Batch::new())).await {
        Ok(()) => log.is_written(part),
        Err(StoreError::Conflict) => {
            let found = store.get(rows::HEADS, log.subject.name().as_bytes()).await?;
            if found.as_ref() == Some(&part.ends.1) {
                log.is_written(part);
            } else {
                log.is_changed();
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn fail(shared: &Shared, why: &str) {
    metrics::counter!("bulkhead_audit_failures_total").increment(1);
    tracing::error!(code = "audit-unavailable", error = why, "the audit log could not be written");
    shared.trouble.send_replace(Some(why.into()));
}

impl Part {
    fn added(&self, log: &Log, batch: Batch) -> Batch {
        let name = log.subject.name();
        let mut batch = batch.only_if(rows::HEADS, name.as_bytes(), self.ends.0.clone());
        for (key, value) in &self.segments {
            batch.put(rows::SEGMENTS, key, value.clone());
        }
        batch.put(rows::HEADS, name.as_bytes(), self.ends.1.clone());
        batch
    }
}

impl Log {
    /// What is to be written: what failed before, or what came since.
    fn part(&self, shared: &Shared) -> Arc<Part> {
        let mut state = self.state();
        state.dirty = false;
        if let Some(part) = &state.in_flight {
            return Arc::clone(part);
        }
        let segments = state.chain.cut();
        let head = state.chain.head();
        let segments: Vec<_> =
            segments.iter().map(|segment| (rows::key(&self.subject, segment.first()), segment.encoded())).collect();
        let added: usize = segments.iter().map(|(key, value)| key.len() + value.len()).sum();
        let bytes = self.bytes().saturating_add(added as u64);
        let part = Arc::new(Part {
            segments,
            ends: (state.stored.clone(), rows::end_row(head, shared.session, bytes)),
            length: head.length,
            bytes,
            places: std::mem::take(&mut state.used),
        });
        state.in_flight = Some(Arc::clone(&part));
        part
    }

    fn is_written(self: &Arc<Self>, part: &Arc<Part>) {
        let mut state = self.state();
        if !state.in_flight.as_ref().is_some_and(|own| Arc::ptr_eq(own, part)) {
            // Its places were given back before.
            return;
        }
        state.in_flight = None;
        state.stored = Some(part.ends.1.clone());
        // What came while an earlier try failed was not told to anybody.
        let more = state.chain.head().length > part.length && !std::mem::replace(&mut state.dirty, true);
        drop(state);
        // Counted as they are before anybody is told, and before they are no longer reserved.
        self.has_grown(part.bytes);
        self.progress.send_modify(|progress| progress.durable = part.length);
        self.room.add_permits(part.places);
        if more {
            self.shared.is_dirty(Arc::clone(self));
        }
    }

    /// Counts what is on the disk, and tells before it is too much.
    fn has_grown(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        let Subject::Tenant(tenant) = &self.subject else { return };
        #[expect(clippy::cast_precision_loss, reason = "a gauge does not care")]
        metrics::gauge!("bulkhead_audit_bytes", "tenant" => tenant.to_string()).set(bytes as f64);
        let quota = self.quota();
        // A tenth is what is left to act in.
        let nearly = quota - quota / 10;
        if (before..bytes).contains(&nearly) {
            tracing::warn!(code = "audit-nearly-full", %tenant, bytes, quota, "its audit log has nearly come to its quota");
        }
    }

    /// Somebody else writes to this chain: nothing more is recorded, since it could not be told which of the two is true.
    fn is_changed(&self) {
        tracing::error!(code = "audit-changed", tenant = %self.subject.name(), "somebody else changed the audit log");
        let mut state = self.state();
        state.changed = true;
        state.in_flight = None;
        drop(state);
        self.close();
    }
}
