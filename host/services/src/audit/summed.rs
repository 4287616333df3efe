//! Records decisions and failed log-ins, and sums up those that repeat: a flood of denials is one entry in a while.
//!
//! *Why*: whoever is denied can ask again for nothing. If each denial left an entry, a flood of them would be a flood of writes,
//! and fill a log that somebody else pays for. The first of its kind is on the disk before it is answered, so that whoever looks
//! sees it; those after it, by the same principal, from the same address and for the same reason, are a number that is recorded when
//! the window is over.
//! Permits to look at the log are summed up as well, a minute long: who follows it would fill it with that.
//! *Invariants*: 1. each is counted once; 2. in any number of windows there are at most [`MOST_KINDS`] entries more than that many
//! times windows: kinds beyond them are one kind together; 3. the first of a kind is durable before this returns, and so is
//! a permit that carries a secret; 4. a sum that a kill loses has a first entry before it, and a gap marker behind it.
//! Callers: `access`, `identity` → here → `log.rs`.

use std::sync::{Arc, MutexGuard, PoisonError};

use bulkhead_core::Permission;
use bulkhead_core::audit::{Decided, Event, Subject, Text, Unknown, What, Who, Word};

use super::{Audit, Error, Log, Settle, now};

/// Most kinds that are told apart in one chain and window: enough to see a pattern, and some hundred megabytes a day at the worst.
pub(super) const MOST_KINDS: usize = 32;

/// Those of one kind that are not yet recorded.
pub(super) struct Sum {
    /// The first of them, without its number and its request.
    kind: What<'static>,
    times: u64,
    /// How many windows they are summed up for already.
    windows: u32,
}

/// For how many windows looks at the log are summed up: a minute, with windows of ten seconds. Who follows the log looks once a second,
/// and would otherwise see little but that.
const WINDOWS_OF_LOOKS: u32 = 6;

impl Audit {
    /// Records a decision. When this returns, a denial of a new kind, or a permit that carries a secret, is on the disk.
    pub async fn decided(&self, subject: &Subject, decided: Decided) -> Result<(), Error> {
        let log = self.kept(subject).await?;
        if decided.permitted && !is_a_look(&decided) {
            return log.record(&Event { at: now(), what: What::Decided(decided) }).await.map(|_| ());
        }
        if decided.permitted {
            return log.summed(What::Decided(decided)).await;
        }
        tracing::info!(
            code = "denied",
            principal = decided.who.principal.as_str(),
            permission = decided.permission.as_str(),
            resource = decided.resource.as_str(),
            request = decided.who.request.as_str(),
            "{}",
            decided.reason.as_str()
        );
        log.summed(What::Decided(decided)).await
    }

    /// Records that somebody could not show who they are. When this returns, one of a new kind is on the disk.
    pub async fn unknown(&self, subject: &Subject, unknown: Unknown) -> Result<(), Error> {
        tracing::info!(
            code = "unknown",
            principal = unknown.who.principal.as_str(),
            from = unknown.who.from.as_str(),
            door = unknown.door.as_str(),
            reason = unknown.reason.as_str(),
            request = unknown.who.request.as_str(),
            "somebody was not let in"
        );
        self.kept(subject).await?.summed(What::Unknown(unknown)).await
    }
}

impl Log {
    /// Records what was denied, unless one of its kind was in this window: then it is counted.
    async fn summed(self: &Arc<Self>, what: What<'static>) -> Result<(), Error> {
        if self.shared.store.is_none() {
            return self.record(&Event { at: now(), what }).await.map(|_| ());
        }
        let mut kind = kind(&what);
        let first = {
            let mut sums = self.sums();
            if !sums.iter().any(|sum| sum.kind == kind) && sums.len() >= MOST_KINDS {
                kind = others(&what);
            }
            match sums.iter_mut().find(|sum| sum.kind == kind) {
                Some(sum) => {
                    sum.times = sum.times.saturating_add(1);
                    return Ok(());
                }
                None => sums.push(Sum { kind: kind.clone(), times: 0, windows: 0 }),
            }
            sums.len() == 1
        };
        if first {
            let log: Arc<Self> = Arc::clone(self);
            self.shared.sum_up(log);
        }
        let recorded = self.record(&Event { at: now(), what }).await;
        if recorded.is_err() {
            // It was not told, and so it counts; the next one of its kind is the first again if nothing comes of that either.
            if let Some(sum) = self.sums().iter_mut().find(|sum| sum.kind == kind) {
                sum.times = sum.times.saturating_add(1);
            }
        }
        recorded.map(|_| ())
    }

    fn sums(&self) -> MutexGuard<'_, Vec<Sum>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settle for Log {
    fn settle(self: Arc<Self>, last: bool) -> bool {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.retain_mut(|sum| {
            sum.windows += 1;
            let looks = matches!(&sum.kind, What::Decided(decided) if decided.permitted);
            if looks && sum.windows < WINDOWS_OF_LOOKS && !last {
                return true;
            }
            sum.windows = 0;
            if sum.times == 0 {
                // A window without any: the next one is told at once again.
                return false;
            }
            let event = Event { at: now(), what: numbered(sum.kind.clone(), sum.times) };
            let written = if last {
                self.push(&event, false).is_ok()
            } else {
                match self.place_now() {
                    Ok(place) => place.is_some_and(|place| place.record(&event).is_ok()),
                    Err(Error::Full { .. }) => false,
                    // Nothing more of this chain is kept.
                    Err(_) => return false,
                }
            };
            sum.times = if written { 0 } else { sum.times };
            true
        });
        !sums.is_empty()
    }
}

/// Whether somebody was permitted to look at the log.
fn is_a_look(decided: &Decided) -> bool {
    decided.permitted && decided.permission.as_str() == Permission::AuditRead.name()
}

/// What makes two of them the same: all but when, by which request, and how many.
fn kind(what: &What<'static>) -> What<'static> {
    let mut kind = numbered(what.clone(), 0);
    if let What::Decided(Decided { who, .. }) | What::Unknown(Unknown { who, .. }) = &mut kind {
        who.request = Text::default();
    }
    kind
}

/// What those have in common that are of too many kinds.
fn others(what: &What<'static>) -> What<'static> {
    let who = Who { principal: Text::new("others"), ..Who::host() };
    match what {
        What::Decided(decided) => What::Decided(Decided {
            who,
            permission: Word::new("others"),
            resource: Text::default(),
            permitted: decided.permitted,
            carries_secret: false,
            reason: Text::new("decisions of more kinds than are told apart"),
            times: 0,
        }),
        _ => What::Unknown(Unknown { who, door: Word::new("others"), reason: Word::new("others"), times: 0 }),
    }
}

fn numbered(mut what: What<'static>, number: u64) -> What<'static> {
    if let What::Decided(Decided { times, .. }) | What::Unknown(Unknown { times, .. }) = &mut what {
        *times = number;
    }
    what
}
