//! Keeps an instance, with all its memories and tables together, within its memory, and within what is left of its tenant's.
//!
//! Invariants: growth is counted before it happens and not given back before the instance is gone, since wasmtime also reports
//! failures of growth that it never announced.
//! Callers: wasmtime, before anything grows → here → `memory.rs`.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::admission::Whose;
use crate::engine::{MOST_INSTANCES, MOST_MEMORIES, MOST_TABLES};
use crate::memory::{Held, Share};

/// What one table element costs the host, in bytes: a pointer and its slot's bookkeeping.
const TABLE_ELEMENT: usize = 16;

#[derive(Debug)]
pub(crate) struct Limiter {
    left: usize,
    limit: usize,
    held: Held,
    refused: Option<Refused>,
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
    pub(crate) fn new(limit: usize, share: Arc<Share>) -> Self {
        Self { left: limit, limit, held: Held::of(share), refused: None }
    }

    /// Why growth was last refused, if it was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Most bytes in use so far.
    pub(crate) fn peak(&self) -> usize {
        self.limit - self.left
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
        self.held.at_least(self.limit - left).map_err(Refused::Shared)?;
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
    use crate::memory::{Pot, STEP};

    fn limiter(limit: usize, host: usize) -> Limiter {
        let [tenant, host] = [1 << 40, host].map(|bytes| Arc::new(Pot::new(bytes)));
        Limiter::new(limit, Arc::new(Share { tenant, host }))
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
}
