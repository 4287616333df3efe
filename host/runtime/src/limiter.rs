//! Keeps an instance, with all its memories and tables together, within its memory.
//!
//! Invariants: growth is counted before it happens and never given back, since wasmtime also reports failures of growth
//! that it never announced.

use wasmtime::ResourceLimiter;

use crate::engine::{MOST_INSTANCES, MOST_MEMORIES, MOST_TABLES};

/// What one table element costs the host, in bytes: a pointer and its slot's bookkeeping.
const TABLE_ELEMENT: usize = 16;

#[derive(Debug)]
pub(crate) struct Limiter {
    left: usize,
    limit: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { left: limit, limit, refused: false }
    }

    /// Whether growth was refused.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Most bytes in use so far.
    pub(crate) fn peak(&self) -> usize {
        self.limit - self.left
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        match left {
            Some(left) => self.left = left,
            None => self.refused = true,
        }
        left.is_some()
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

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = Limiter::new(1000);
        assert!(limiter.memory_growing(0, 500, None).unwrap());
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(!limiter.table_growing(0, 10, None).unwrap());
        assert!(limiter.refused());
        assert_eq!(limiter.peak(), 900);
    }

    #[test]
    fn whoever_was_refused_much_may_have_little() {
        let mut limiter = Limiter::new(1000);
        assert!(!limiter.memory_growing(0, 2000, None).unwrap());
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert_eq!((limiter.refused(), limiter.peak()), (true, 600));
    }

    #[test]
    fn growth_beyond_a_memorys_own_maximum_costs_nothing() {
        let mut limiter = Limiter::new(1000);
        assert!(!limiter.memory_growing(0, 500, Some(400)).unwrap());
        assert!(!limiter.refused());
        assert_eq!(limiter.peak(), 0);
    }
}
