//! Splits what a guest prints into lines.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::{LONGEST_LINE, Level, Log};

/// Most bytes taken in one write, so that a guest cannot make the host hold more.
const CHUNK: usize = 64 * 1024;

/// A guest's stdout or stderr.
#[derive(Clone)]
pub struct Capture {
    log: Log,
    of: Printed,
}

/// Where a guest prints.
#[derive(Debug, Clone, Copy)]
pub(super) enum Printed {
    Stdout,
    Stderr,
}

/// The line that was begun and not ended, of stdout and of stderr.
#[derive(Default)]
pub(super) struct Begun([Mutex<Vec<u8>>; 2]);

impl Capture {
    /// Lines of stdout, as `info`.
    pub fn stdout(log: Log) -> Self {
        Self { log, of: Printed::Stdout }
    }

    /// Lines of stderr, as `warn`.
    pub fn stderr(log: Log) -> Self {
        Self { log, of: Printed::Stderr }
    }

    fn take(&self, bytes: &[u8]) {
        let mut partial = self.log.begun(self.of);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            // One byte over the longest line is kept, so that the log can say it was cut; and a secret that lies across.
            let room = (LONGEST_LINE + 1 + self.log.0.journal.guard().longest()).saturating_sub(partial.len());
            partial.extend(text.iter().take(room));
            if ended {
                self.log.line(self.of, &partial);
                partial.clear();
            }
        }
    }
}

impl Log {
    /// Keeps the last lines of stdout and stderr that no newline ended.
    pub fn end_lines(&self) {
        for of in [Printed::Stdout, Printed::Stderr] {
            let rest = std::mem::take(&mut *self.begun(of));
            if !rest.is_empty() {
                self.line(of, &rest);
            }
        }
    }

    fn begun(&self, of: Printed) -> MutexGuard<'_, Vec<u8>> {
        let Begun([stdout, stderr]) = &self.0.begun;
        let line = match of {
            Printed::Stdout => stdout,
            Printed::Stderr => stderr,
        };
        line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, of: Printed, bytes: &[u8]) {
        let (level, name) = match of {
            Printed::Stdout => (Level::Info, "stdout"),
            Printed::Stderr => (Level::Warn, "stderr"),
        };
        self.write(level, name, &String::from_utf8_lossy(bytes));
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

#[async_trait::async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Capture {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::credentials::Guard;
    use crate::journal::{Exit, Journal};
    use bulkhead_core::id::Owner;
    use bulkhead_core::limits::Size;

    fn log(secret: Option<&str>) -> Log {
        let secret = secret.map(|secret| secret.to_owned().into());
        let guard = Arc::new(Guard::new(&secret).unwrap());
        let owner = Arc::new(Owner::local(&"acme/crm".parse().unwrap()));
        Log::new(Size::mib(1), Journal::new(owner, guard, crate::life::Generation::default()))
    }

    #[test]
    fn lines_are_put_together_over_writes_and_a_last_one_is_kept() {
        let log = log(None);
        let out = Capture::stdout(log.clone());
        for piece in ["one\ntw", "o\n\nthr", "ee"] {
            out.take(piece.as_bytes());
        }
        log.end_lines();
        let texts: Vec<_> = log.take().0.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_room() {
        let log = log(None);
        let out = Capture::stderr(log.clone());
        for _ in 0..1000 {
            out.take(&[b'x'; 1000]);
        }
        assert_eq!(log.begun(Printed::Stderr).len(), LONGEST_LINE + 1);
    }

    #[test]
    fn a_secret_that_lies_across_the_cut_of_a_line_is_masked_whole() {
        let log = log(Some("canary-secret"));
        let out = Capture::stdout(log.clone());
        out.take("x".repeat(LONGEST_LINE - 3).as_bytes());
        for piece in ["can", "ary-secret and more"] {
            assert_eq!(log.0.journal.leaked(), None);
            out.take(piece.as_bytes());
        }
        log.end_lines();
        assert_eq!(log.0.journal.leaked(), Some(Exit::Log));
        assert!(log.take().0[0].text.ends_with("x*** … (cut)"));
    }
}
