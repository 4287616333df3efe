//! How many components are compiled at once.
//!
//! *Why*: a compilation takes a processor, and may take all the memory that it is allowed. As many as there are processors
//! would together take more than a small machine has, and then the kernel ends whom it likes: the host, with all its guests.

use std::num::NonZeroUsize;

use crate::machine;

/// Of the memory there is, one part in so many is for compiling: half of it is for guests (`memory.rs`), and what then is left
/// for the host itself and its disk's cache.
const PART: u64 = 4;

/// Compilations at once, each with so many bytes of memory: one for each processor, so that a queue does not wait for one
/// that waits for memory, but no more than `memory` bytes hold. One at least: where there is too little for that, it ends by its
/// own limits or by the kernel's hand.
pub(super) fn slots(memory: u64, each: u64) -> usize {
    usize::try_from(memory / each.max(1)).unwrap_or(usize::MAX).clamp(1, processors())
}

/// How many there are.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Bytes of memory that compiling may take altogether: a part of what this process can have.
pub(super) fn memory() -> u64 {
    machine::memory() / PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_least_and_never_more_than_memory_or_processors_allow() {
        assert_eq!(slots(0, 2 << 30), 1);
        assert_eq!(slots((2 << 30) - 1, 2 << 30), 1);
        let processors = processors();
        assert_eq!(slots(u64::MAX, 2 << 30), processors);
        assert_eq!(slots(u64::MAX, 0), processors);
        assert_eq!(slots(2 << 30, 1 << 30), processors.min(2));
    }
}
