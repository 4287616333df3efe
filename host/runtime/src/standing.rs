//! How a connection stands: whether it goes on, and what counts against it.
//!
//! Invariants: 1. nothing runs for a connection that is paused or ended, and what waits for its turn then is turned away at
//! once; 2. whatever ends a generation does so here or in [`Life`]; 3. a quarantine is one event and one count, however many
//! calls add to it.
//! Callers: operators, through [`Connection`]; `invoke.rs` → here → `quarantine.rs`, `capabilities::life`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bulkhead_capabilities::life::{End, Generation, Life, Pause, Reason};
use bulkhead_core::id::Owner;

use crate::admission::Admitted;
use crate::invoke::Connection;
use crate::outcome::Failure;
use crate::quarantine::{Marks, Quarantine, Thresholds};

/// One connection's standing.
pub struct Standing {
    owner: Arc<Owner>,
    life: Life,
    /// Shared with the connections that take its place: what is made anew is not forgiven.
    quarantine: Arc<Mutex<Quarantine>>,
}

impl Standing {
    /// A good one.
    pub fn new(owner: Arc<Owner>, thresholds: Thresholds) -> Self {
        Self { owner, life: Life::default(), quarantine: Arc::new(Mutex::new(Quarantine::new(thresholds))) }
    }

    /// Of a connection that takes this one's place: paused if this one is, with what counts against it.
    fn inherited(&self) -> Self {
        let life = Life::default();
        if let Err(Reason::Paused(why)) = self.life.current() {
            life.pause(why);
        }
        Self { owner: Arc::clone(&self.owner), life, quarantine: Arc::clone(&self.quarantine) }
    }

    /// Pauses the connection if what a call did was one too many.
    pub(crate) fn judge(&self, marks: Option<Marks>) {
        let Some(marks) = marks else { return };
        let Some(cause) = self.quarantine().note(marks, Instant::now()) else { return };
        if self.life.pause(Pause::Quarantined(cause)) {
            metrics::counter!(
                "bulkhead_quarantines_total",
                "tenant" => self.owner.tenant.to_string(),
                "connection" => self.owner.connection.to_string(),
                "cause" => cause.code(),
            )
            .increment(1);
            tracing::warn!(owner = %self.owner, code = "quarantined", cause = cause.code(), "paused, because {cause}");
        }
    }

    fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Ends what runs, closes what is open, and turns away every call until it is resumed.
    pub fn pause(&self) {
        self.standing.life.pause(Pause::Operator);
    }

    /// Lets calls in again, in a new generation, and forgets what counted against it. The error says what it was ended
    /// for, if it was: then it is to be made anew.
    pub fn resume(&self) -> Result<(), End> {
        self.standing.quarantine().forget();
        self.standing.life.resume()
    }

    /// Ends what runs, closes what is open, and turns away every call for good.
    pub fn end(&self, why: End) {
        self.standing.life.end(why);
    }

    /// The generation that goes on, for whoever waits on the connection's behalf.
    pub fn generation(&self) -> Result<Generation, Failure> {
        self.standing.life.current().map_err(Failure::unrun)
    }

    /// Takes the place of `old`, which ends. What is common to both goes on: a pause, what counts against it, and how many
    /// calls it may have at once. Unless they are the same tenant's connection of the same name, nothing is common.
    #[must_use]
    pub fn replacing(self, old: &Self, why: End) -> Self {
        let new = if self.client.owner() == old.client.owner() {
            let standing = Arc::new(old.standing.inherited());
            Self { standing, entry: Arc::clone(&old.entry), ..self }
        } else {
            self
        };
        old.end(why);
        new
    }

    /// Lets a call in, when its turn comes, in the generation that goes on.
    pub(crate) async fn enter(&self) -> Result<(Admitted, Generation), Failure> {
        let generation = self.generation()?;
        let admitted = generation.outlast(self.entry.admit()).await.map_err(Failure::unrun)??;
        Ok((admitted, generation))
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_capabilities::life::Cause;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::outcome::Outcome;

    fn standing() -> Standing {
        Standing::new(Arc::new(Owner::local(&"acme/crm".parse().unwrap())), Thresholds::DEFAULT)
    }

    fn crash(standing: &Standing) {
        standing.judge(Marks::of(&Outcome::<()>::refused(Failure::Trap("unreachable".to_owned()))));
    }

    #[test]
    fn a_quarantine_is_counted_once_however_many_calls_add_to_it() {
        let (standing, recorder) = (standing(), DebuggingRecorder::new());
        metrics::with_local_recorder(&recorder, || {
            for _ in 0..Thresholds::DEFAULT.crashes + 5 {
                crash(&standing);
            }
        });
        let [(key, _, _, DebugValue::Counter(1))] = &recorder.snapshotter().snapshot().into_vec()[..] else {
            panic!("it is one count");
        };
        let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(key.key().name(), "bulkhead_quarantines_total");
        assert_eq!(labels, [("tenant", "local"), ("connection", "crm"), ("cause", "crashes")]);
    }

    #[test]
    fn whoever_takes_a_place_is_paused_as_well_and_has_the_same_held_against_it() {
        let old = standing();
        for _ in 1..Thresholds::DEFAULT.crashes {
            crash(&old);
        }
        let new = old.inherited();
        assert!(new.life.current().is_ok());
        crash(&new);
        let quarantined = Err(Reason::Paused(Pause::Quarantined(Cause::Crashes)));
        assert_eq!((new.life.current(), new.inherited().life.current()), (quarantined.clone(), quarantined));
    }
}
