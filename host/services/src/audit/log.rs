//! One chain's end: who may add to it, and how far it is written.
//!
//! *Two bounds*: places, for what is in memory alone, and the tenant's quota, for what is on the disk. A place stands for both:
//! an entry in it has its bytes reserved from when the place is given until the entry is written and counted as it is.
//! *Invariants*: 1. whoever has a place can record; 2. whoever gets none is told so at once or within [`PATIENCE`], and of those
//! who wait there are at most [`MOST_WAITING`]; 3. what outranks the quota needs no place, so that a tenant's flood does not
//! keep its operator from acting. It is few, and waits for the disk itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_core::audit::{Chain, Class, Event, Head, LARGEST_ENTRY, Subject, TooLarge};
use tokio::sync::{Semaphore, TryAcquireError, watch};

use super::flush::Part;
use super::summed::Sum;
use super::{Error, Shared, rows};

/// Most entries of one tenant that are in memory alone: at the pace of [`super::SOON`], some eighty thousand in a second.
pub const MOST_PENDING: usize = 4096;
/// Most of one tenant's calls that wait for a place: as many as may wait for an instance by default.
pub(super) const MOST_WAITING: usize = 1000;
/// Longest wait for a place: twenty times what a write may take. A disk that is slower than that is behind.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// What is reserved on the disk for an entry that has a place, in bytes: the largest there is, in a segment of its own, with
/// its key. A test pins it.
pub(super) const RESERVED: u64 = 1280;
/// What is kept beyond a tenant's quota for what outranks it, in bytes: all places at once (5 MiB), so that none of them counts
/// against it, and as much again, which is a hundred of the largest entries.
pub(super) const KEPT: u64 = 2 * MOST_PENDING as u64 * RESERVED;

/// One chain's end.
pub struct Log {
    pub(super) subject: Subject,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
    /// Places for entries that are in memory alone.
    pub(super) room: Semaphore,
    /// How many wait for one.
    waiting: AtomicUsize,
    /// Bytes on the disk.
    pub(super) bytes: AtomicU64,
    pub(super) progress: watch::Sender<Progress>,
    /// Denials that are summed up: see `summed.rs`.
    pub(super) sums: Mutex<Vec<Sum>>,
}

/// Room for one entry that is yet to happen.
pub struct Place(Option<Arc<Log>>);

/// Room for one entry that may be a large one, and may outrank the quota.
pub struct Reservation {
    log: Arc<Log>,
    /// Nothing for what outranks the quota.
    place: Option<Place>,
}

/// How far a chain is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// How many entries are on the disk.
    pub(super) durable: u64,
    /// Whether no more will be.
    pub(super) over: bool,
}

pub(super) struct State {
    pub(super) chain: Chain,
    /// The row that says how the stored chain ends, as it is.
    pub(super) stored: Option<Vec<u8>>,
    /// What is being written, and is written again when that fails.
    pub(super) in_flight: Option<Arc<Part>>,
    /// Places that were used since something was last taken to be written.
    pub(super) used: usize,
    /// Whether it is in the list of those with something to write.
    pub(super) dirty: bool,
    /// Whether somebody else changed what is stored.
    pub(super) changed: bool,
}

impl Log {
    /// The end of `subject`'s chain, and whether entries before it may have been lost. A chain of which nothing is stored has
    /// its end stored first: what it loses from now on is missed.
    pub(super) async fn load(shared: &Arc<Shared>, subject: &Subject) -> Result<(Self, bool), Error> {
        let (mut stored, mut head, mut bytes, mut gap) = (None, subject.genesis(), 0, false);
        if let Some(store) = shared.store.as_deref() {
            (stored, head) = rows::end(store, subject).await?;
            match &stored {
                Some(row) => {
                    gap = rows::lost(shared.session, row);
                    bytes = rows::bytes(store, subject, row).await?;
                }
                None => stored = Some(rows::found(store, subject, shared.session).await?),
            }
        }
        let state = State { chain: Chain::at(head), stored, in_flight: None, used: 0, dirty: false, changed: false };
        let log = Self {
            subject: subject.clone(),
            shared: Arc::clone(shared),
            state: Mutex::new(state),
            room: Semaphore::new(MOST_PENDING),
            waiting: AtomicUsize::new(0),
            bytes: AtomicU64::new(bytes),
            progress: watch::Sender::new(Progress { durable: head.length, over: false }),
            sums: Mutex::default(),
        };
        Ok((log, gap))
    }

    /// Where the chain ends now, durable or not.
    pub fn head(&self) -> Head {
        self.state().chain.head()
    }

    /// Bytes of it on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Room for an entry, if there is some now.
    pub fn place_now(self: &Arc<Self>) -> Result<Option<Place>, Error> {
        match self.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.within(Place(Some(Arc::clone(self)))).map(Some)
            }
            Err(TryAcquireError::Closed) => Err(self.closed()),
            Err(TryAcquireError::NoPermits) => Ok(None),
        }
    }

    /// Room for an entry. Waits while there is none, a second at the longest, unless that is because the store fails.
    pub async fn place(self: &Arc<Self>) -> Result<Place, Error> {
        if let Some(place) = self.place_now()? {
            return Ok(place);
        }
        let busy = || Error::Busy { subject: self.subject.clone(), retry_after: PATIENCE };
        let _waiting = Waiting::one_more(&self.waiting).ok_or_else(busy)?;
        self.shared.hurry.notify_one();
        let mut trouble = self.shared.trouble.subscribe();
        tokio::select! {
            failed = trouble.wait_for(Option::is_some) => {
                Err(failed.map_or(Error::Closed, |why| Error::Unavailable(why.clone().unwrap_or_default())))
            }
            permit = tokio::time::timeout(PATIENCE, self.room.acquire()) => {
                permit.map_err(|_| busy())?.map_err(|_| self.closed())?.forget();
                self.within(Place(Some(Arc::clone(self))))
            }
        }
    }

    /// Records `event`; the number of its entry. Returns when it is durable, where its class asks for that.
    pub async fn record(self: &Arc<Self>, event: &Event<'_>) -> Result<u64, Error> {
        self.reserve(event).await?.record(event).await
    }

    /// Room for `event`, so that afterwards nothing but the disk keeps it from being recorded: for whoever does what is recorded in between.
    pub async fn reserve(self: &Arc<Self>, event: &Event<'_>) -> Result<Reservation, Error> {
        self.reserve_as(event, event.outranks_quota()).await
    }

    /// The same for what was done already: it outranks the quota, whoever did it.
    pub(crate) async fn reserve_for_what_was_done(self: &Arc<Self>, event: &Event<'_>) -> Result<Reservation, Error> {
        self.reserve_as(event, true).await
    }

    async fn reserve_as(self: &Arc<Self>, event: &Event<'_>, outranks: bool) -> Result<Reservation, Error> {
        // For a small one its place stands for all of it.
        let small = !outranks && event.class() == Class::Soon;
        let own = LARGEST_ENTRY as u64 + RESERVED;
        if !small && own > self.left(if outranks { KEPT } else { 0 }) {
            return Err(self.full());
        }
        let place = if outranks { None } else { Some(self.place().await?) };
        Ok(Reservation { log: Arc::clone(self), place })
    }

    /// Chains `event`, and says that it is to be written.
    pub(super) fn push(self: &Arc<Self>, event: &Event<'_>, placed: bool) -> Result<u64, TooLarge> {
        let mut state = self.state();
        let number = state.chain.append(event)?;
        if self.shared.store.is_none() {
            state.chain.forget();
            self.room.add_permits(usize::from(placed));
            return Ok(number);
        }
        state.used += usize::from(placed);
        let first = !std::mem::replace(&mut state.dirty, true);
        drop(state);
        if first {
            self.shared.is_dirty(Arc::clone(self));
        }
        Ok(number)
    }

    /// `place`, whose bytes count already, unless they are too many.
    fn within(&self, place: Place) -> Result<Place, Error> {
        let fits = self.bytes().saturating_add(self.reserved()) <= self.quota();
        if fits { Ok(place) } else { Err(self.full()) }
    }

    /// What may still be reserved on the disk, when there is so much beyond the quota.
    fn left(&self, beyond: u64) -> u64 {
        self.quota().saturating_add(beyond).saturating_sub(self.bytes().saturating_add(self.reserved()))
    }

    /// What is reserved for those who have a place, and for entries of which it is not known that they are written.
    fn reserved(&self) -> u64 {
        MOST_PENDING.saturating_sub(self.room.available_permits()) as u64 * RESERVED
    }

    /// The host has none: what happens to it is few.
    pub(super) fn quota(&self) -> u64 {
        match self.subject {
            Subject::Host => u64::MAX,
            Subject::Tenant(_) => self.shared.settings.quota.bytes(),
        }
    }

    fn full(&self) -> Error {
        Error::Full { subject: self.subject.clone(), quota: self.shared.settings.quota }
    }

    /// Nothing more is written of this chain.
    pub(super) fn close(&self) {
        self.room.close();
        self.progress.send_modify(|progress| progress.over = true);
    }

    pub(super) fn closed(&self) -> Error {
        if self.state().changed { Error::Changed(self.subject.clone()) } else { Error::Closed }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Records `event` here; the number of its entry.
    pub fn record(mut self, event: &Event<'_>) -> Result<u64, Error> {
        let number = self.0.as_ref().ok_or(Error::Closed)?.push(event, true)?;
        // Given back when the entry is on the disk.
        self.0 = None;
        Ok(number)
    }
}

impl Reservation {
    /// Records `event`; the number of its entry. Returns when it is durable, where its class asks for that.
    pub async fn record(self, event: &Event<'_>) -> Result<u64, Error> {
        let Self { log, place } = self;
        let mut trouble = log.shared.trouble.subscribe();
        let failing = trouble.borrow_and_update().clone();
        let durable = event.class() != Class::Soon;
        if let Some(why) = failing.filter(|_| durable) {
            return Err(Error::Unavailable(why));
        }
        let mut progress = log.progress.subscribe();
        let number = match place {
            Some(place) => place.record(event)?,
            None if log.room.is_closed() => return Err(log.closed()),
            None => log.push(event, false)?,
        };
        if !durable || log.shared.store.is_none() {
            return Ok(number);
        }
        log.shared.hurry.notify_one();
        let over = tokio::select! {
            biased;
            reached = progress.wait_for(|so_far| so_far.durable > number || so_far.over) => {
                reached.is_ok_and(|so_far| so_far.durable <= number)
            }
            failed = trouble.wait_for(Option::is_some) => {
                return Err(failed.map_or(Error::Closed, |why| Error::Unavailable(why.clone().unwrap_or_default())));
            }
        };
        if over { Err(log.closed()) } else { Ok(number) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(log) = &self.0 {
            log.room.add_permits(1);
        }
    }
}

/// Someone who waits for a place.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// One more, unless there are enough.
    fn one_more(waiting: &'a AtomicUsize) -> Option<Self> {
        let one = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(one)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
