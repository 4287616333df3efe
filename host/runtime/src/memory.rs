//! How much memory guests have together: each tenant's, and all.
//!
//! Why: each instance keeps to its own limit, and two hundred that do take a hundred gigabytes.
//! Invariants: 1. nothing is given out that is not there, neither a tenant's nor the host's; 2. what an instance took is given
//! back when its memory was wiped, and not before: a guest's memory never shrinks, and is the kernel's again only then.
//! Callers: `admission.rs` (is there any left), `limiter.rs` (growth, and what calls hand over) → here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::admission::Whose;
use crate::machine;

/// What an instance takes at once, in bytes: what a small guest needs in all is taken in two steps.
pub(crate) const STEP: usize = 1024 * 1024;
/// Of the host's memory, one part in so many is kept for tenants that have little.
const KEPT: usize = 8;
/// How much of it is little, in bytes: a dozen calls in Rust, or two in an interpreted language.
const LITTLE: usize = 64 * STEP;

/// Bytes that several share.
#[derive(Debug)]
pub(crate) struct Pot {
    all: usize,
    left: AtomicUsize,
}

impl Pot {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { all: bytes, left: AtomicUsize::new(bytes) }
    }

    /// Half of what the machine has: the other half is for the host, its compiler and its disk's cache.
    pub(crate) fn of_the_machine() -> Self {
        Self::new(usize::try_from(machine::memory() / 2).unwrap_or(usize::MAX))
    }

    /// What there is in all.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `bytes` where at least `kept` are left after it.
    fn take(&self, bytes: usize, kept: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes).filter(|left| *left >= kept);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one tenant may take of the host's memory.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) tenant: Arc<Pot>,
    pub(crate) host: Arc<Pot>,
}

impl Share {
    /// Whose memory is used up, if so many bytes would not be found.
    pub(crate) fn lacking(&self, bytes: usize) -> Option<Whose> {
        if self.tenant.left() < bytes {
            Some(Whose::Tenant)
        } else if self.host.left() < bytes.saturating_add(self.kept(bytes)) {
            Some(Whose::Host)
        } else {
            None
        }
    }

    /// What of the host's memory is to be left by this tenant, when it takes `bytes` more.
    fn kept(&self, bytes: usize) -> usize {
        let has = self.tenant.all() - self.tenant.left().min(self.tenant.all());
        if has.saturating_add(bytes) <= LITTLE { 0 } else { self.host.all() / KEPT }
    }

    fn take(&self, bytes: usize) -> Result<(), Whose> {
        let kept = self.kept(bytes);
        if !self.tenant.take(bytes, 0) {
            return Err(Whose::Tenant);
        }
        if !self.host.take(bytes, kept) {
            self.tenant.give_back(bytes);
            return Err(Whose::Host);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.host.give_back(bytes);
            self.tenant.give_back(bytes);
        }
    }
}

/// What one instance has of it. Whoever keeps it last gives it back.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: AtomicUsize,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn of(share: Arc<Share>) -> Arc<Self> {
        Arc::new(Self { share, bytes: AtomicUsize::new(0) })
    }

    /// So many bytes and never more, or whose are used up.
    pub(crate) fn exactly(share: &Arc<Share>, bytes: usize) -> Result<Self, Whose> {
        share.take(bytes)?;
        Ok(Self { share: Arc::clone(share), bytes: AtomicUsize::new(bytes) })
    }

    /// Has at least so many bytes from now on, or says whose are used up. One at a time asks.
    pub(crate) fn at_least(&self, bytes: usize) -> Result<(), Whose> {
        let has = self.bytes.load(Ordering::Relaxed);
        let Some(more) = bytes.checked_sub(has).filter(|more| *more > 0) else { return Ok(()) };
        let more = more.next_multiple_of(STEP);
        self.share.take(more)?;
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what it has beyond so many bytes.
    pub(crate) fn at_most(&self, bytes: usize) {
        let kept = bytes.next_multiple_of(STEP);
        let has = self.bytes.fetch_min(kept, Ordering::Relaxed);
        self.share.give_back(has.saturating_sub(kept));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.give_back(*self.bytes.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(tenant: usize, host: &Arc<Pot>) -> Arc<Share> {
        Arc::new(Share { tenant: Arc::new(Pot::new(tenant * STEP)), host: Arc::clone(host) })
    }

    #[test]
    fn a_tenant_has_its_share_and_all_of_them_what_there_is() {
        let host = Arc::new(Pot::new(6 * STEP));
        let (one, other) = (share(4, &host), share(4, &host));
        let (a, b, c) = (Held::of(Arc::clone(&one)), Held::of(Arc::clone(&one)), Held::of(Arc::clone(&other)));
        a.at_least(3 * STEP).unwrap();
        assert_eq!(b.at_least(STEP + 1), Err(Whose::Tenant));
        assert_eq!(c.at_least(4 * STEP), Err(Whose::Host));
        assert_eq!((other.tenant.left(), host.left()), (4 * STEP, 3 * STEP), "what was refused is not taken");
        c.at_least(3 * STEP).unwrap();
        assert_eq!((one.lacking(STEP), other.lacking(STEP)), (Some(Whose::Host), Some(Whose::Host)));
        drop(a);
        assert_eq!((one.lacking(STEP), host.left()), (None, 3 * STEP));
        drop((b, c));
        assert_eq!((one.tenant.left(), other.tenant.left(), host.left()), (4 * STEP, 4 * STEP, 6 * STEP));
    }

    #[test]
    fn the_last_of_it_is_for_those_who_have_little() {
        let host = Arc::new(Pot::new(800 * STEP));
        let (much, little) = (share(800, &host), share(800, &host));
        let (a, b, c) = (Held::of(Arc::clone(&much)), Held::of(much), Held::of(Arc::clone(&little)));
        a.at_least(700 * STEP).unwrap();
        assert_eq!(b.at_least(STEP), Err(Whose::Host));
        c.at_least(64 * STEP).unwrap();
        assert_eq!((c.at_least(65 * STEP), little.lacking(STEP)), (Err(Whose::Host), Some(Whose::Host)));
    }

    #[test]
    fn an_instance_takes_in_steps() {
        let host = Arc::new(Pot::new(6 * STEP));
        let held = Held::of(share(6, &host));
        for bytes in [1, 2, STEP] {
            held.at_least(bytes).unwrap();
            assert_eq!(host.left(), 5 * STEP);
        }
        held.at_least(STEP + 1).unwrap();
        assert_eq!(host.left(), 4 * STEP);
        held.at_most(STEP + 1);
        assert_eq!(host.left(), 4 * STEP);
        held.at_most(STEP);
        held.at_most(4 * STEP);
        assert_eq!(host.left(), 5 * STEP);
    }
}
