//! Bounds the memory that request bodies take while the host holds them for one connection, to sign or to rewrite them.
//!
//! Why: what a guest writes lies in the guest's memory, which is limited, until it has to be seen whole before it may leave.
//! Invariants: 1. a body that holds more than a little has room for all that it may come to hold; 2. a request asks once, for
//! everything, so that no two wait for each other with their arms half full; 3. whoever asks for room waits for it, and the
//! invocation's deadline ends that; room comes free when its body is gone; 4. nobody asks for more than there is.
//! Callers: `fill`, `body.rs` → here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// What one connection's bodies may hold together, in bytes: eight of the largest that are signed whole, or the largest that
/// is rewritten and signed beside some smaller ones.
pub(super) const TOTAL: u64 = 64 * 1024 * 1024;
/// What a body may hold without room, in bytes: what a guest hands over at once, and as much again. Nearly all requests have less, and
/// there are no more of those than the connection may have requests at once.
pub(super) const UNASKED: u64 = 128 * 1024;
/// In what steps room is counted, in bytes.
const STEP: u64 = 1024;

/// One connection's room.
pub(super) struct Rooms(Arc<Semaphore>);

impl Rooms {
    /// All of it.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(steps(TOTAL) as usize)))
    }

    /// Whether nothing holds any.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.available_permits() == steps(TOTAL) as usize
    }

    /// What a request may ask for. Nothing is taken yet.
    pub(super) fn room(&self) -> Room {
        Room { rooms: Arc::clone(&self.0), most: 0, state: State::Unasked }
    }
}

/// What one request's body may hold.
pub(super) struct Room {
    rooms: Arc<Semaphore>,
    most: u64,
    state: State,
}

type Asking = dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send;

enum State {
    Unasked,
    Waiting(Pin<Box<Asking>>),
    Taken(OwnedSemaphorePermit),
}

impl Room {
    /// It may come to hold so much more, in bytes. To be said before anything is held.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.most = self.most.saturating_add(bytes);
    }

    /// Ready when so many bytes may be held.
    pub(super) fn poll_hold(&mut self, bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
        if bytes <= UNASKED {
            return Poll::Ready(());
        }
        loop {
            match &mut self.state {
                State::Taken(_) => return Poll::Ready(()),
                State::Unasked => {
                    let asking = Arc::clone(&self.rooms).acquire_many_owned(steps(self.most));
                    self.state = State::Waiting(Box::pin(asking));
                }
                // The semaphore is never closed. If it were, nothing would be held.
                State::Waiting(asking) => match ready!(asking.as_mut().poll(cx)) {
                    Ok(taken) => self.state = State::Taken(taken),
                    Err(_) => return Poll::Pending,
                },
            }
        }
    }

    /// It holds so much and will not hold more: the rest is others'.
    pub(super) fn settle(&mut self, bytes: u64) {
        if let State::Taken(taken) = &mut self.state {
            let kept = if bytes <= UNASKED { 0 } else { steps(bytes) as usize };
            drop(taken.split(taken.num_permits().saturating_sub(kept)));
        }
    }

    /// Whether it waits for others' bodies to go.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }
}

/// `bytes` in steps, at most all there are.
fn steps(bytes: u64) -> u32 {
    u32::try_from(bytes.min(TOTAL).div_ceil(STEP)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn hold(room: &mut Room, bytes: u64) -> bool {
        std::future::poll_fn(|cx| room.poll_hold(bytes, cx)).now_or_never().is_some()
    }

    fn expecting(rooms: &Rooms, bytes: u64) -> Room {
        let mut room = rooms.room();
        room.expect(bytes);
        room
    }

    #[test]
    fn a_little_is_held_without_room_and_more_waits_for_it() {
        let rooms = Rooms::new();
        let [mut first, mut second, mut third] = [TOTAL - STEP, STEP, STEP].map(|bytes| expecting(&rooms, bytes));
        assert!(hold(&mut first, UNASKED + 1) && hold(&mut second, UNASKED + 1));
        assert!(hold(&mut third, UNASKED) && !third.waits());
        assert!(!hold(&mut third, UNASKED + 1) && third.waits());
        drop(second);
        assert!(hold(&mut third, UNASKED + 1) && !third.waits());
        assert!(!hold(&mut expecting(&rooms, 1), UNASKED + 1));
    }

    #[test]
    fn what_is_not_needed_after_all_is_given_back() {
        let rooms = Rooms::new();
        let mut large = expecting(&rooms, TOTAL);
        assert!(hold(&mut large, UNASKED + 1));
        large.settle(TOTAL / 2);
        let mut half = expecting(&rooms, TOTAL / 2);
        assert!(hold(&mut half, UNASKED + 1));
        assert!(!hold(&mut expecting(&rooms, STEP), UNASKED + 1));
        half.settle(UNASKED);
        assert!(hold(&mut expecting(&rooms, TOTAL / 2), UNASKED + 1));
        assert!(hold(&mut half, TOTAL), "it has asked, once");
    }

    #[test]
    fn nobody_asks_for_more_than_there_is_or_waits_where_all_are_gone() {
        let rooms = Rooms::new();
        for _ in 0..1000 {
            let mut room = expecting(&rooms, u64::MAX);
            assert!(hold(&mut room, u64::MAX));
            let mut waiting = expecting(&rooms, 1);
            assert!(!hold(&mut waiting, UNASKED + 1));
            drop((waiting, room));
        }
        assert!(rooms.is_empty());
    }
}
