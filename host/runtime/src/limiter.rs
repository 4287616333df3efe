//! Keeps an instance, with all its memories and tables together, within its memory, and within what is left of its tenant's.
//!
//! Invariants: growth is counted before it happens and not given back before the instance is gone, since wasmtime also reports
//! failures of growth that it never announced. What a call hands over to the host is counted beside it, and given back with the
//! call's end.
//! Callers: wasmtime, before anything grows → here → `memory.rs`.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::admission::Whose;
use crate::engine::{MOST_INSTANCES, MOST_MEMORIES, MOST_TABLES};
use crate::memory::Held;

/// What one table element costs the host, in bytes: a pointer and its slot's bookkeeping.
const TABLE_ELEMENT: usize = 16;

#[derive(Debug)]
pub(crate) struct Limiter {
    left: usize,
    limit: usize,
    held: Arc<Held>,
    /// Bytes that the host has for it beside its own.
    beside: usize,
    /// Bytes that the call in progress may be handing over.
    passing: usize,
    refused: Option<Refused>,
    /// Who had no room for that.
    unheld: Option<Whose>,
}

/// Why growth was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The instance has its most.
    Own,
    /// It does not, and these have theirs together.
    Shared(Whose),
}

impl Limiter {
    /// Of an instance that has nothing yet but `beside`, which is held already.
    pub(crate) fn new(limit: usize, beside: usize, held: Arc<Held>) -> Self {
        Self { left: limit, limit, held, beside, passing: 0, refused: None, unheld: None }
    }

    /// Why growth was last refused, if it was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Who had no room for what a call hands over, if that ended it: nothing that the guest did.
    pub(crate) fn unheld(&self) -> Option<Whose> {
        self.unheld
    }

    /// Most bytes in use so far.
    pub(crate) fn peak(&self) -> usize {
        self.limit - self.left
    }

    /// Time has passed since growth was refused, if it was: whatever happens from now on is not for the host's want of memory. One's
    /// own limit, and one's own tenant's, stay the better name for what they may have caused.
    pub(crate) fn moves_on(&mut self) {
        if self.refused == Some(Refused::Shared(Whose::Host)) {
            self.refused = None;
        }
    }

    /// Takes room for `bytes` that the call in progress hands over to the host, or says whose is used up.
    pub(crate) fn pass(&mut self, bytes: usize) -> Result<(), Whose> {
        if bytes <= self.passing {
            return Ok(());
        }
        let held = self.held.at_least(self.all(self.peak(), bytes));
        match held {
            Ok(()) => self.passing = bytes,
            Err(whose) => self.unheld = Some(whose),
        }
        held
    }

    /// Gives that room back.
    pub(crate) fn passed(&mut self) {
        if std::mem::take(&mut self.passing) > 0 {
            self.held.at_most(self.all(self.peak(), 0));
        }
    }

    /// All that is held, when the instance has `used` and hands over `passing`.
    fn all(&self, used: usize, passing: usize) -> usize {
        self.beside.saturating_add(used).saturating_add(passing)
    }

    fn take(&mut self, bytes: usize) -> bool {
        match self.try_take(bytes) {
            Ok(()) => true,
            Err(refused) => {
                self.refused = Some(refused);
                false
            }
        }
    }

    fn try_take(&mut self, bytes: usize) -> Result<(), Refused> {
        let left = self.left.checked_sub(bytes).ok_or(Refused::Own)?;
        self.held.at_least(self.all(self.limit - left, self.passing)).map_err(Refused::Shared)?;
        self.left = left;
        Ok(())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.take(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.take(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT)))
    }

    fn instances(&self) -> usize {
        MOST_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MOST_MEMORIES as usize
    }

    fn tables(&self) -> usize {
        MOST_TABLES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Pot, STEP, Share};

    fn held(host: usize) -> (Arc<Share>, Arc<Held>) {
        let [tenant, host] = [1 << 40, host].map(|bytes| Arc::new(Pot::new(bytes)));
        let share = Arc::new(Share { tenant, host });
        (Arc::clone(&share), Held::of(share))
    }

    fn limiter(limit: usize, host: usize) -> Limiter {
        Limiter::new(limit, 0, held(host).1)
    }

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = limiter(1000, STEP);
        assert!(limiter.memory_growing(0, 500, None).unwrap());
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(!limiter.table_growing(0, 10, None).unwrap());
        assert_eq!((limiter.refused(), limiter.peak()), (Some(Refused::Own), 900));
    }

    #[test]
    fn whoever_was_refused_much_may_have_little() {
        let mut limiter = limiter(1000, STEP);
        assert!(!limiter.memory_growing(0, 2000, None).unwrap());
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert_eq!((limiter.refused(), limiter.peak()), (Some(Refused::Own), 600));
    }

    #[test]
    fn growth_beyond_a_memorys_own_maximum_costs_nothing() {
        let mut limiter = limiter(1000, STEP);
        assert!(!limiter.memory_growing(0, 500, Some(400)).unwrap());
        assert_eq!((limiter.refused(), limiter.peak()), (None, 0));
    }

    #[test]
    fn nothing_is_had_that_all_together_do_not_have() {
        let mut limiter = limiter(9 * STEP, 2 * STEP);
        assert!(limiter.memory_growing(0, 2 * STEP, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
        assert_eq!((limiter.refused(), limiter.peak()), (Some(Refused::Shared(Whose::Host)), 2 * STEP));
    }

    #[test]
    fn what_an_instance_has_is_given_back_by_whoever_keeps_it_last() {
        let (share, held) = held(2 * STEP);
        let mut limiter = Limiter::new(9 * STEP, 0, Arc::clone(&held));
        assert!(limiter.memory_growing(0, 2 * STEP, None).unwrap());
        drop(limiter);
        assert_eq!(share.lacking(STEP), Some(Whose::Host), "its memory is not wiped yet");
        drop(held);
        assert_eq!(share.lacking(STEP), None);
    }

    #[test]
    fn the_hosts_want_of_memory_is_no_excuse_for_what_happens_later() {
        let mut limiter = limiter(9 * STEP, STEP);
        assert!(!limiter.memory_growing(0, 2 * STEP, None).unwrap());
        assert_eq!(limiter.refused(), Some(Refused::Shared(Whose::Host)));
        limiter.moves_on();
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(0, 10 * STEP, None).unwrap());
        limiter.moves_on();
        assert_eq!(limiter.refused(), Some(Refused::Own));
    }

    #[test]
    fn what_a_call_hands_over_counts_beside_what_its_instance_has() {
        let mut limiter = limiter(9 * STEP, 3 * STEP);
        assert!(limiter.memory_growing(0, STEP, None).unwrap());
        assert_eq!(limiter.pass(2 * STEP + 1), Err(Whose::Host));
        assert_eq!((limiter.unheld(), limiter.refused()), (Some(Whose::Host), None));
        limiter.pass(2 * STEP).unwrap();
        limiter.pass(STEP).unwrap();
        assert!(!limiter.memory_growing(STEP, 2 * STEP, None).unwrap());
        limiter.passed();
        assert!(limiter.memory_growing(STEP, 3 * STEP, None).unwrap());
        assert_eq!(limiter.peak(), 3 * STEP, "it is no memory of the instance");
    }
}
