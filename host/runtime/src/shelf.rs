//! Finds again what somebody still holds, so that the same thing is made and kept once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Entries before the first look at which of them are gone.
const FEW: usize = 64;

/// Things by name, each for as long as somebody holds it. Names of things that are gone are dropped whenever there are
/// twice as many entries as there were things at the last look: it never holds more than twice what is in use.
pub(crate) struct Shelf<K, V>(Mutex<Entries<K, V>>);

struct Entries<K, V> {
    entries: HashMap<K, Weak<V>>,
    look_at: usize,
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Entries { entries: HashMap::new(), look_at: FEW }))
    }
}

impl<K: Eq + Hash, V> Shelf<K, V> {
    /// The thing `name`, if anybody holds it.
    pub(crate) fn get(&self, name: &K) -> Option<Arc<V>> {
        self.with(|shelf| shelf.entries.get(name).and_then(Weak::upgrade))
    }

    /// Puts it where others find it.
    pub(crate) fn put(&self, name: K, thing: &Arc<V>) {
        self.with(|shelf| shelf.put(name, thing));
    }

    /// The thing `name`, or the one that `make` makes.
    pub(crate) fn get_or(&self, name: K, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
        self.with(|shelf| match shelf.entries.get(&name).and_then(Weak::upgrade) {
            Some(thing) => thing,
            None => {
                let thing = make();
                shelf.put(name, &thing);
                thing
            }
        })
    }

    /// The names of all things that somebody holds.
    pub(crate) fn held(&self) -> Vec<K>
    where
        K: Clone,
    {
        let held = |(name, thing): (&K, &Weak<V>)| (thing.strong_count() > 0).then(|| name.clone());
        self.with(|shelf| shelf.entries.iter().filter_map(held).collect())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Entries<K, V>) -> T) -> T {
        // Nothing here is left half done.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Eq + Hash, V> Entries<K, V> {
    fn put(&mut self, name: K, thing: &Arc<V>) {
        if self.entries.len() >= self.look_at {
            self.entries.retain(|_, thing| thing.strong_count() > 0);
            self.look_at = self.entries.len().saturating_mul(2).max(FEW);
        }
        self.entries.insert(name, Arc::downgrade(thing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_holds_is_found_and_what_nobody_holds_is_not() {
        let shelf = Shelf::default();
        let one = shelf.get_or(1, || Arc::new("one"));
        assert!(Arc::ptr_eq(&one, &shelf.get_or(1, || Arc::new("another"))));
        assert_eq!(shelf.held(), [1]);
        drop(one);
        assert!(shelf.held().is_empty());
        assert_eq!(shelf.get(&1), None);
        assert_eq!(*shelf.get_or(1, || Arc::new("another")), "another");
    }

    #[test]
    fn names_of_what_is_gone_do_not_pile_up() {
        let shelf = Shelf::default();
        let held: Vec<_> = (0..10).map(|name| shelf.get_or(name, || Arc::new(()))).collect();
        for name in 10..10_000 {
            drop(shelf.get_or(name, || Arc::new(())));
        }
        assert!(shelf.with(|entries| entries.entries.len()) <= FEW + 1);
        assert!((0..10).all(|name| shelf.get(&name).is_some()));
        drop(held);
    }
}
