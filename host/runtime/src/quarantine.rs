//! Decides when a connection has done too much wrong to go on without a person's look.
//!
//! Why: a guest that crashes, leaks or is denied is ended each time; one that keeps doing it is broken or hostile, and its
//! next attempts cost others time and operators their sight. Invariants: 1. what counts is read from an outcome in one place;
//! 2. it trips when as much as its threshold falls within the window, and nothing older counts; 3. memory is bounded, and none is
//! taken for a connection that does nothing wrong; 4. `now` is an argument.
//! Never: time, CPU or output that was used up. There the host stopped a guest that ran; what such a call cost is bounded and
//! billed, the limit may be too low for honest work, and an upstream that is slow or answers much could put a connection into
//! quarantine with them. Nor what a connector reports.
//! *Why memory, stack and handles count all the same*: there the guest crashed, and the limit is the better name for it. The host
//! sees that growth was refused and that the guest trapped later, never whether the one was for the other: if it did not count, a
//! guest that asks once for more than there is could crash ever after unseen. Who reads more of an answer than fits has
//! `response-bytes` to say how much that is. *So does memory that its tenant has used up*, for the same reason; what the host has not
//! is nobody's fault but the host's, and excuses only what a guest does at once (`limiter.rs`).
//! Callers: `standing.rs` → here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bulkhead_capabilities::journal::Record;
use bulkhead_capabilities::life::Cause;

use crate::admission::Whose;
use crate::outcome::{Failure, Outcome};

/// How much a connection may do wrong within a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// How far back it counts.
    pub window: Duration,
    /// Crashes, also those for want of memory, stack or handles, and values that are not valid.
    pub crashes: u64,
    /// Attempts to let out a secret.
    pub leaks: u64,
    /// Invocations that were stopped after too many denials, or at an inert interface.
    pub stops: u64,
    /// Denials, equal ones included.
    pub denials: u64,
}

impl Thresholds {
    /// Ten minutes are some retries of a schedule that backs off. Twenty crashes within them are no single bad record, and a
    /// webhook's sender does not get there by chance. One leak is enough: a secret does not come into a guest by accident, and
    /// whoever may guess twice may guess on. Three stops are 1,500 denials of one kind, and a connector that is denied a thousand
    /// times in smaller portions is no better.
    pub const DEFAULT: Self = Self { window: Duration::from_secs(600), crashes: 20, leaks: 1, stops: 3, denials: 2000 };
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What one call did wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    crashes: u64,
    leaks: u64,
    stops: u64,
    denials: u64,
}

impl Marks {
    /// What counts of an outcome; nothing where nothing does.
    pub(crate) fn of<T>(outcome: &Outcome<T>) -> Option<Self> {
        let mut marks = Self { denials: outcome.record.denied, ..Self::default() };
        match &outcome.result {
            Err(Failure::Trap(_) | Failure::Malformed { .. }) => marks.crashes = 1,
            Err(Failure::Memory(_) | Failure::Stack | Failure::Handles) => marks.crashes = 1,
            Err(Failure::Crowded(Whose::Connection | Whose::Tenant)) => marks.crashes = 1,
            Err(Failure::Leak(_)) => marks.leaks = 1,
            Err(Failure::Denied | Failure::Inert) => marks.stops = 1,
            Ok(_) | Err(Failure::Reported(_) | Failure::Host(_) | Failure::Crowded(Whose::Host)) => {}
            Err(Failure::Time(_) | Failure::Cpu(_) | Failure::Output(_)) => {}
            Err(Failure::Busy(_) | Failure::Paused(_) | Failure::Ended(_)) => {}
        }
        marks.some()
    }

    /// The same of a call that its caller gave up: nobody is to be denied without end by calls that never end.
    pub(crate) fn of_abandoned(record: &Record) -> Option<Self> {
        let leaks = u64::from(!record.leaks.is_empty());
        Self { denials: record.denied, leaks, ..Self::default() }.some()
    }

    fn some(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

/// What counts against one connection.
#[derive(Debug)]
pub(crate) struct Quarantine {
    thresholds: Thresholds,
    crashes: Count,
    leaks: Count,
    stops: Count,
    denials: Count,
}

impl Quarantine {
    pub(crate) fn new(thresholds: Thresholds) -> Self {
        let [crashes, leaks, stops, denials] = std::array::from_fn(|_| Count::default());
        Self { thresholds, crashes, leaks, stops, denials }
    }

    /// Counts what a call did wrong. For what it has to be paused now, if it has to.
    pub(crate) fn note(&mut self, marks: Marks, now: Instant) -> Option<Cause> {
        let Thresholds { window, crashes, leaks, stops, denials } = self.thresholds;
        // The worst first.
        [
            (Cause::Leaks, self.leaks.add(marks.leaks, now, window), leaks),
            (Cause::Crashes, self.crashes.add(marks.crashes, now, window), crashes),
            (Cause::Stops, self.stops.add(marks.stops, now, window), stops),
            (Cause::Denials, self.denials.add(marks.denials, now, window), denials),
        ]
        .into_iter()
        .find_map(|(cause, counted, threshold)| (counted >= threshold.max(1)).then_some(cause))
    }

    /// Forgets everything: an operator has looked at it.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.thresholds);
    }
}

/// Into how many steps a window is cut. What happens within one step is kept as one.
const STEPS: u32 = 64;

/// How often something happened within a window: when each step began, and how often within it.
#[derive(Debug, Default)]
struct Count(VecDeque<(Instant, u64)>);

impl Count {
    /// So often more; how often within the window in all. A step counts from its first event, so that it may be forgotten a
    /// little early and is never counted late.
    fn add(&mut self, times: u64, now: Instant, window: Duration) -> u64 {
        while self.0.front().is_some_and(|(then, _)| now.saturating_duration_since(*then) >= window) {
            self.0.pop_front();
        }
        if times > 0 {
            match self.0.back_mut() {
                Some((then, count)) if now.saturating_duration_since(*then) < window / STEPS => {
                    *count = count.saturating_add(times);
                }
                _ => self.0.push_back((now, times)),
            }
        }
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_capabilities::journal::Exit;
    use bulkhead_core::limits::Limits;

    use super::*;
    use crate::outcome::Late;

    const WINDOW: Duration = Thresholds::DEFAULT.window;

    fn outcome(result: Result<(), Failure>, denied: u64) -> Outcome<()> {
        let Outcome { lines, dropped_lines, usage, .. } = Outcome::<()>::refused(Failure::Stack);
        Outcome { result, record: Record { denied, ..Record::default() }, lines, dropped_lines, usage }
    }

    fn crash() -> Marks {
        Marks::of(&outcome(Err(Failure::Trap("unreachable".to_owned())), 0)).unwrap()
    }

    #[test]
    fn what_counts_is_crashes_leaks_stops_and_denials_and_nothing_else() {
        let reported = || crate::types::Error {
            kind: crate::types::Kind::Internal,
            message: String::new(),
            retry_after_ms: None,
            stream_name: None,
        };
        let none = Marks::default();
        let crashed = Some(Marks { crashes: 1, ..none });
        let stopped = Some(Marks { stops: 1, ..none });
        let late = Late { limit: Limits::DEFAULT.time_reached(), waited: None, computed: Duration::ZERO };
        for (failure, expected) in [
            (Failure::Trap(String::new()), crashed),
            (Failure::Malformed { role: "page", reason: String::new() }, crashed),
            (Failure::Leak(Exit::Log), Some(Marks { leaks: 1, ..none })),
            (Failure::Denied, stopped),
            (Failure::Inert, stopped),
            (Failure::Reported(reported()), None),
            (Failure::Host(String::new()), None),
            (Failure::Stack, crashed),
            (Failure::Handles, crashed),
            (Failure::Memory(Limits::DEFAULT.memory_reached()), crashed),
            (Failure::Crowded(Whose::Tenant), crashed),
            (Failure::Crowded(Whose::Host), None),
            (Failure::Output(Limits::DEFAULT.output_reached()), None),
            (Failure::Cpu(Limits::DEFAULT.cpu_reached()), None),
            (Failure::Time(late), None),
        ] {
            let code = failure.code();
            assert_eq!(Marks::of(&outcome(Err(failure), 0)), expected, "{code}");
        }
        assert_eq!(Marks::of(&outcome(Ok(()), 0)), None);
        assert_eq!(Marks::of(&outcome(Ok(()), 3)), Some(Marks { denials: 3, ..none }));
        let both = Marks::of(&outcome(Err(Failure::Denied), 500));
        assert_eq!(both, Some(Marks { stops: 1, denials: 500, ..none }));
        let mut record = Record::default();
        assert_eq!(Marks::of_abandoned(&record), None);
        record.denied = 499;
        record.leaks.insert(Exit::Log);
        assert_eq!(Marks::of_abandoned(&record), Some(Marks { leaks: 1, denials: 499, ..none }));
    }

    #[test]
    fn each_cause_trips_exactly_at_its_threshold() {
        let none = Marks::default();
        let Thresholds { crashes, leaks, stops, denials, .. } = Thresholds::DEFAULT;
        for (one, threshold, cause) in [
            (Marks { crashes: 1, ..none }, crashes, Cause::Crashes),
            (Marks { leaks: 1, ..none }, leaks, Cause::Leaks),
            (Marks { stops: 1, ..none }, stops, Cause::Stops),
            (Marks { denials: 1, ..none }, denials, Cause::Denials),
        ] {
            let (mut quarantine, begun) = (Quarantine::new(Thresholds::DEFAULT), Instant::now());
            for number in 1..=threshold {
                let now = begun + Duration::from_millis(number);
                assert_eq!(quarantine.note(one, now), (number == threshold).then_some(cause), "{number}");
            }
            quarantine.forget();
            for number in 1..=threshold {
                assert_eq!(quarantine.note(one, begun), (number == threshold).then_some(cause), "again {number}");
            }
        }
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let (mut quarantine, begun) = (Quarantine::new(Thresholds::DEFAULT), Instant::now());
        let most = Thresholds::DEFAULT.crashes;
        for _ in 1..most {
            assert_eq!(quarantine.note(crash(), begun), None);
        }
        // The first ones are forgotten just now, so that this is one of one.
        assert_eq!(quarantine.note(crash(), begun + WINDOW), None);
        let later = begun + WINDOW + WINDOW / 2;
        for _ in 2..most {
            assert_eq!(quarantine.note(crash(), later), None);
        }
        assert_eq!(quarantine.note(crash(), begun + WINDOW * 2 - Duration::from_millis(1)), Some(Cause::Crashes));
    }

    #[test]
    fn a_trickle_never_trips_and_a_flood_takes_no_memory() {
        let (mut quarantine, begun) = (Quarantine::new(Thresholds::DEFAULT), Instant::now());
        let apart = WINDOW / u32::try_from(Thresholds::DEFAULT.crashes - 1).unwrap() + Duration::from_millis(1);
        for number in 0..1000 {
            assert_eq!(quarantine.note(crash(), begun + apart * number), None, "{number}");
        }
        let marks = Marks { crashes: u64::MAX, leaks: 1, stops: 1, denials: u64::MAX };
        for number in 0..100_000 {
            quarantine.note(marks, begun + Duration::from_millis(number * 100));
        }
        for count in [&quarantine.crashes, &quarantine.leaks, &quarantine.stops, &quarantine.denials] {
            assert!(count.0.len() <= STEPS as usize + 1, "{}", count.0.len());
        }
    }
}
