//! Keeps what a guest says, line by line and within bounds: `wasi:logging`, stdout and stderr.
//!
//! Why: an author needs the lines, an operator must not be flooded, and neither should see a secret in them.
//! Invariants: 1. one budget for all three ways in, in bytes; 2. a line is masked before it is kept, and a secret in it ends
//! the invocation; 3. control characters never reach a terminal or a file.
//! Callers: the guest, through WASI → here → `credentials::Guard`, `journal`.

mod stream;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_core::limits::Size;
use wasmtime::component::{HasData, Linker};

use crate::credentials::{Found, Guard};
use crate::journal::{Exit, Journal};
use stream::Begun;
pub use stream::Capture;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package bulkhead:log-host; world log { import wasi:logging/logging@0.1.0-draft; }",
        world: "bulkhead:log-host/log",
    });
}

pub(crate) const INTERFACES: &[&str] = &["wasi:logging/logging@0.1.0-draft"];
pub(crate) const MANIFEST_LINES: &str = "[log]";

/// Longest line kept, in bytes; the rest of a longer one is dropped and said to be.
const LONGEST_LINE: usize = 8 * 1024;
/// What one line costs of the budget besides its text, so that empty lines are not free.
const LINE_COST: u64 = 16;

/// How serious a line is, in the words of `wasi:logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of wasi:logging")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How serious.
    pub level: Level,
    /// The guest's word for where it comes from; `stdout` and `stderr` for those.
    pub context: String,
    /// The text, without control characters.
    pub text: String,
}

/// An instance's log.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    begun: Begun,
    journal: Journal,
}

struct Kept {
    lines: VecDeque<Line>,
    budget: u64,
    dropped: u64,
}

impl Log {
    /// An empty log that keeps up to `budget`, and tells `journal` of secrets in it.
    pub fn new(budget: Size, journal: Journal) -> Self {
        let kept = Mutex::new(Kept { lines: VecDeque::new(), budget: budget.bytes(), dropped: 0 });
        Self(Arc::new(Shared { kept, begun: Begun::default(), journal }))
    }

    /// Keeps a line, or counts it as dropped when the budget is spent.
    pub fn write(&self, level: Level, context: &str, text: &str) {
        let guard = self.0.journal.guard();
        let [(context, first), (text, second)] = [context, text].map(|text| shown(guard, text, LONGEST_LINE));
        if first.leak || second.leak {
            self.0.journal.leak(Exit::Log);
        }
        let cost = (context.len() + text.len()) as u64 + LINE_COST;
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.budget.checked_sub(cost) {
            Some(left) => {
                kept.budget = left;
                kept.lines.push_back(Line { level, context, text });
            }
            None => {
                // A later, shorter line must not slip in after one that was dropped.
                kept.budget = 0;
                kept.dropped += 1;
            }
        }
    }

    /// The lines since the last call, and how many were dropped since.
    pub fn take(&self) -> (Vec<Line>, u64) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut kept.dropped);
        (kept.lines.drain(..).collect(), dropped)
    }
}

/// `text` as a person may see it: secrets masked, control characters replaced, no longer than `longest` bytes.
pub fn presentable(guard: &Guard, text: &str, longest: usize) -> String {
    shown(guard, text, longest).0
}

/// The same, and what was masked.
fn shown(guard: &Guard, text: &str, longest: usize) -> (String, Found) {
    // A secret that lies across the cut has to be seen whole to be masked.
    let mut masked = cut(text, longest.saturating_add(guard.longest())).to_owned();
    let found = guard.mask_text(&mut masked);
    let plain = cut(&masked, longest).chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
    let mut plain: String = plain.collect();
    if text.len() > longest {
        plain.push_str(" … (cut)");
    }
    (plain, found)
}

fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// How a store's data shows its log.
pub trait View: Send {
    /// The instance's log.
    fn log(&mut self) -> &mut Log;
}

struct HasLog;

impl HasData for HasLog {
    type Data<'a> = &'a mut Log;
}

impl bindings::wasi::logging::logging::Host for Log {
    fn log(&mut self, level: bindings::wasi::logging::logging::Level, context: String, message: String) {
        use bindings::wasi::logging::logging::Level as Wasi;
        let level = match level {
            Wasi::Trace => Level::Trace,
            Wasi::Debug => Level::Debug,
            Wasi::Info => Level::Info,
            Wasi::Warn => Level::Warn,
            Wasi::Error => Level::Error,
            Wasi::Critical => Level::Critical,
        };
        self.write(level, &context, &message);
    }
}

pub(crate) fn link<T: View + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::wasi::logging::logging::add_to_linker::<T, HasLog>(linker, T::log)
}

#[cfg(test)]
mod tests {
    use bulkhead_core::id::Owner;

    use super::*;

    fn log(budget: u64) -> Log {
        let secret = "canary-secret".to_owned().into();
        let guard = Arc::new(Guard::new([&secret]).unwrap());
        let owner = Arc::new(Owner::local(&"acme/crm".parse().unwrap()));
        Log::new(Size::kib(budget), Journal::new(owner, guard, crate::life::Generation::default()))
    }

    #[test]
    fn a_flood_fills_its_budget_and_no_more() {
        let log = log(1);
        for _ in 0..100_000 {
            log.write(Level::Info, "", "");
        }
        let (lines, dropped) = log.take();
        assert_eq!(lines.len() as u64, 1024 / LINE_COST);
        assert_eq!(dropped, 100_000 - 1024 / LINE_COST);
    }

    #[test]
    fn nothing_follows_a_dropped_line() {
        let log = log(1);
        log.write(Level::Info, "", &"x".repeat(2000));
        log.write(Level::Info, "", "short");
        assert_eq!(log.take(), (vec![], 2));
    }

    #[test]
    fn secrets_and_control_characters_do_not_reach_the_reader() {
        let log = log(64);
        log.write(Level::Info, "canary-secret", "a\x1b[2Jcanary-secret\n");
        assert_eq!(log.0.journal.leaked(), Some(Exit::Log));
        let (lines, _) = log.take();
        assert_eq!(
            (lines[0].context.as_str(), lines[0].text.as_str()),
            ("*************", "a\u{fffd}[2J*************\u{fffd}")
        );
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let log = log(64);
        log.write(Level::Info, "", &"ä".repeat(LONGEST_LINE));
        let (lines, _) = log.take();
        assert!(lines[0].text.ends_with("… (cut)") && lines[0].text.len() < LONGEST_LINE + 20);
    }
}
