//! How a connection stands: whether it goes on, and what counts against it.
//!
//! Invariants: 1. nothing runs for a connection that is paused or ended, and what waits for its turn then is turned away at
//! once; 2. whatever ends a generation does so here or in [`Life`], and acts on the connection that goes on, through whichever
//! handle of its line it was asked for; 3. a quarantine is one event and one count, however many
//! calls add to it; 4. connections that take each other's place share what counts against them, and a quarantine pauses the
//! one that goes on, whichever of them did the wrong: the last call of the old one may end after the new one began. So do they
//! share what was used of their budgets.
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
    life: Arc<Life>,
    /// Shared with the connections that take its place: what is made anew is not forgiven.
    line: Arc<Mutex<Line>>,
}

/// What is common to connections that took each other's place.
struct Line {
    quarantine: Quarantine,
    /// The life of the one that goes on.
    current: Arc<Life>,
}

impl Standing {
    /// A good one.
    pub fn new(owner: Arc<Owner>, thresholds: Thresholds) -> Self {
        let life = Arc::<Life>::default();
        let line = Line { quarantine: Quarantine::new(thresholds), current: Arc::clone(&life) };
        Self { owner, life, line: Arc::new(Mutex::new(line)) }
    }

    /// Of a connection that takes this one's place, which ends: paused if this one is, with what counts against it.
    fn inherited(&self, why: End) -> Self {
        let life = Arc::<Life>::default();
        let mut line = self.line();
        if let Err(Reason::Paused(why)) = line.current.current() {
            life.pause(why);
        }
        // Also where it is no longer this one: one of a line goes on.
        line.current.end(why);
        line.current = Arc::clone(&life);
        Self { owner: Arc::clone(&self.owner), life, line: Arc::clone(&self.line) }
    }

    /// Pauses the connection, or the one that took its place, if what a call did was one too many.
    pub(crate) fn judge(&self, marks: Option<Marks>) {
        let Some(marks) = marks else { return };
        // Nobody takes its place between the count and the pause.
        let mut line = self.line();
        let Some(cause) = line.quarantine.note(marks, Instant::now()) else { return };
        let paused = line.current.pause(Pause::Quarantined(cause));
        drop(line);
        if paused {
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

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Ends what runs, closes what is open, and turns away every call until it is resumed. Where another has taken its place,
    /// that is the one.
    pub fn pause(&self) {
        self.standing.line().current.pause(Pause::Operator);
    }

    /// Lets calls in again, in a new generation, and forgets what counted against it. The error says what it was ended
    /// for, if it was: then it is to be made anew.
    pub fn resume(&self) -> Result<(), End> {
        let mut line = self.standing.line();
        // One that was replaced forgives nothing.
        self.standing.life.resume()?;
        line.quarantine.forget();
        Ok(())
    }

    /// Ends what runs, closes what is open, and turns away every call for good. Where another has taken its place, that is
    /// the one.
    pub fn end(&self, why: End) {
        self.standing.line().current.end(why);
    }

    /// The generation that goes on, for whoever waits on the connection's behalf.
    pub fn generation(&self) -> Result<Generation, Failure> {
        self.standing.life.current().map_err(Failure::unrun)
    }

    /// Takes the place of `old`, which ends. What is common to both goes on: a pause, what counts against it, how many calls it
    /// may have at once, and what was used of its budgets. Unless they are the same tenant's connection of the same name, nothing is common.
    #[must_use]
    pub fn replacing(self, old: &Self, why: End) -> Self {
        if self.client.owner() == old.client.owner() {
            let standing = Arc::new(old.standing.inherited(why));
            let client = Arc::new(self.client.replacing(&old.client));
            Self { standing, client, entry: Arc::clone(&old.entry), ..self }
        } else {
            old.standing.life.end(why);
            self
        }
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
        let new = old.inherited(End::Narrowed);
        assert!(new.life.current().is_ok());
        crash(&new);
        let quarantined = Err(Reason::Paused(Pause::Quarantined(Cause::Crashes)));
        assert_eq!(new.life.current(), quarantined);
        assert_eq!(new.inherited(End::Narrowed).life.current(), quarantined);
    }

    #[test]
    fn what_the_last_call_of_a_replaced_connection_does_pauses_whoever_took_its_place() {
        let old = standing();
        let newer = old.inherited(End::Rotated);
        let newest = newer.inherited(End::Narrowed);
        let mut record = bulkhead_capabilities::journal::Record::default();
        record.leaks.insert(bulkhead_capabilities::journal::Exit::Log);
        old.judge(Marks::of_abandoned(&record));
        assert_eq!(newest.life.current(), Err(Reason::Paused(Pause::Quarantined(Cause::Leaks))));
        // Those before it ended for good, and do not come back.
        assert_eq!(old.life.current(), Err(Reason::Ended(End::Rotated)));
        assert_eq!(newer.life.current(), Err(Reason::Ended(End::Narrowed)));
    }

    #[test]
    fn one_of_a_line_goes_on_and_whoever_replaced_an_older_one_has_the_pause_of_the_newer() {
        let old = standing();
        let first = old.inherited(End::Rotated);
        first.life.pause(Pause::Operator);
        let second = old.inherited(End::Narrowed);
        assert_eq!(first.life.current(), Err(Reason::Ended(End::Narrowed)));
        assert_eq!(second.life.current(), Err(Reason::Paused(Pause::Operator)));
    }
}
