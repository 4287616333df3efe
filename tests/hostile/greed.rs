//! A guest that takes without end: which limit it meets, who is to blame, and what that may cost the host.
//!
//! *Invariants*: 1. a limit is met by its own name, with the guest to blame, and never as a bare trap where it is the host's; 2. time
//! and the host's resident memory stay within a bound; 3. the same guest, or one like it, that stays within the limit comes to a
//! good end on the same terms, and that is judged once more as if it had to be stopped, which has to be a complaint.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bulkhead_capabilities::journal::Record;
use bulkhead_core::Blame;
use bulkhead_tests::peak::Growth;

use crate::siege::Siege;
use crate::taken::{Act, Ended, Taking};
use crate::ways::Way;

/// How much later than its limit a guest may end: machines that run tests are busy.
pub(crate) const SLACK: Duration = Duration::from_secs(3);
/// Most CPU time of a guest that computes without end, whose limit is 40 ms: a few slices more, or one bulk operation over
/// half a gibibyte that nobody touched before, which nothing interrupts (some 200 ms).
const LONGEST: Duration = Duration::from_millis(640);
/// What the host may grow by besides the guest's own memory, in bytes: stacks, and what allocators and warm slots keep.
const ROOM: u64 = 32 << 20;

/// What is taken without end, and its counterpart within the limit.
pub(crate) struct Greed {
    pub(crate) taking: Taking,
    pub(crate) ends: Ends,
    pub(crate) moderate: Taking,
    pub(crate) ways: &'static [Way],
    /// Longest time that it may take.
    pub(crate) time: Duration,
    /// Most bytes by which the host may grow.
    pub(crate) memory: u64,
}

/// How a guest that takes without end has to end.
#[derive(Clone, Copy)]
pub(crate) enum Ends {
    /// With a failure of this code, which says this.
    Stopped(&'static str, &'static str),
    /// The same, and whoever it asked is to blame: it waited for them all the time.
    KeptWaiting(&'static str, &'static str),
    /// With a request that failed with this code; the guest goes on.
    Failed(&'static str),
    /// Well, and something is true of it.
    Bounded(&'static str, fn(&Ended) -> bool),
    /// With a failure of this code, and this is true of the record.
    Recorded(&'static str, fn(&Record) -> bool),
}

impl Greed {
    /// Through every way, with three seconds and the memory of a small guest.
    pub(crate) fn new(taking: Taking, ends: Ends, moderate: Taking) -> Self {
        Self { taking, ends, moderate, ways: &Way::ALL, time: SLACK, memory: (16 << 20) + ROOM }
    }

    pub(crate) fn through(self, ways: &'static [Way]) -> Self {
        Self { ways, ..self }
    }

    /// With so many MiB of the guest's own.
    pub(crate) fn with_memory(self, mebibytes: u64) -> Self {
        Self { memory: (mebibytes << 20) + ROOM, ..self }
    }

    /// Tries it in one way.
    pub(crate) async fn attempt(&self, way: Way, siege: &Siege) -> anyhow::Result<()> {
        let connection = self.taking.connect(way, siege)?;
        let ended = self.taking.run(way, siege, &connection).await?;
        let what = || format!("{:.100}", format!("{:?}", self.taking.act));
        self.judge(way, &ended).with_context(what)?;
        ensure!(
            well(way, &self.taking.act, &ended).is_err() || self.is_bounded(),
            "{}: it passes for moderate",
            what()
        );
        // On the same connection, where it is the same guest that is told something else.
        let connection = self.moderate.connect(way, siege)?;
        let ended = self.moderate.run(way, siege, &connection).await?;
        well(way, &self.moderate.act, &ended).with_context(what).context("a permitted thing afterwards")?;
        let failed = ended.records.iter().find_map(|record| record.failure.as_ref());
        ensure!(failed.is_none(), "{}: a request of the moderate one failed: {failed:?}", what());
        ensure!(self.judge(way, &ended).is_err(), "{}: the moderate one passes for greedy", what());
        Ok(())
    }

    fn is_bounded(&self) -> bool {
        matches!(self.ends, Ends::Bounded(..) | Ends::Failed(_))
    }

    fn judge(&self, way: Way, ended: &Ended) -> anyhow::Result<()> {
        match self.ends {
            Ends::Stopped(code, words) | Ends::KeptWaiting(code, words) => {
                let failed = ended.failure.as_ref().with_context(|| format!("it came to an end without {code}"))?;
                ensure!(failed.code == code && failed.text.contains(words), "not {code} with {words:?}: {failed:?}");
                let whose = if let Ends::KeptWaiting(..) = self.ends { Blame::Upstream } else { Blame::Guest };
                ensure!(failed.blame == whose, "{} is to blame: {failed:?}", failed.blame);
            }
            Ends::Failed(code) => {
                well(way, &self.taking.act, ended)?;
                let found = ended.records.iter().rev().find_map(|record| record.failure.as_ref());
                ensure!(found.is_some_and(|(found, _)| *found == code), "no request failed with {code}: {found:?}");
            }
            Ends::Recorded(code, is_recorded) => {
                let failed = ended.failure.as_ref().with_context(|| format!("it came to an end without {code}"))?;
                ensure!(failed.code == code && failed.blame == Blame::Guest, "not {code}: {failed:?}");
                let last = ended.records.last();
                ensure!(last.is_some_and(is_recorded), "not what the record should be: {last:?}");
            }
            Ends::Bounded(what, is_bounded) => {
                well(way, &self.taking.act, ended)?;
                ensure!(is_bounded(ended), "not {what}: {ended:?}");
            }
        }
        ensure!(ended.cpu < LONGEST || ended.failure.is_none(), "it had {:?} of CPU time", ended.cpu);
        ensure!(ended.took < self.time, "it took {:?}", ended.took);
        ensure!(ended.grew < self.memory, "the host grew by {} MiB", ended.grew >> 20);
        Ok(())
    }
}

/// It came to its usual end. Whatever the guest that sends requests was told in a check, it reports.
fn well(way: Way, act: &Act, ended: &Ended) -> anyhow::Result<()> {
    let usual = (way == Way::Check && matches!(act, Act::Send(_))).then_some("connector-error");
    let found = ended.failure.as_ref();
    ensure!(found.map(|failed| failed.code) == usual, "it ended with {found:?}");
    Ok(())
}

/// A component that is too much for this host, and one like it that is not.
pub(crate) struct Shape {
    pub(crate) what: &'static str,
    pub(crate) component: Vec<u8>,
    pub(crate) words: &'static str,
    pub(crate) counterpart: Vec<u8>,
}

impl Shape {
    /// Tries to load it. Nothing of it runs.
    pub(crate) fn attempt(&self, siege: &Siege) -> anyhow::Result<()> {
        let Self { what, component, words, counterpart } = self;
        let (growth, began) = (Growth::begin()?, Instant::now());
        match siege.craft(component) {
            Ok(_) => bail!("{what}: it was taken"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains(words), "{what}: refused without {words:?}: {text}");
            }
        }
        let (took, grew) = (began.elapsed(), growth.most()?);
        ensure!(took < SLACK, "{what}: it took {took:?}");
        // It is read whole, and handed over to the process that compiles.
        let most = 3 * component.len() as u64 + ROOM;
        ensure!(grew < most, "{what}: the host grew by {} MiB", grew >> 20);
        siege.craft(counterpart).with_context(|| format!("{what}: the counterpart"))?;
        Ok(())
    }
}
