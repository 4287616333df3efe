//! Masks secrets in an answer, and tells of it once.
//!
//! Why: an upstream that repeats a secret is either careless or lies in wait, and its operator should know.
//! Invariants: 1. an answer is told of once, when its last part is done, by where it came from and how often, and never by
//! what it said; 2. length and order of the bytes stay.
//! Callers: `answer.rs` → here → `credentials::Masking`, `journal`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime_wasi_http::Error as WasiError;

use crate::credentials::{Guard, Masking};
use crate::journal::Journal;

/// How often one answer repeated a secret. It is told when this goes.
pub(super) struct Echoes {
    host: String,
    journal: Journal,
    places: u64,
}

impl Echoes {
    pub(super) fn new(host: String, journal: Journal) -> Self {
        Self { host, journal, places: 0 }
    }

    /// Counts more of them.
    pub(super) fn note(&mut self, places: u64) {
        self.places += places;
        self.journal.count(|record| record.masked += places);
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        if self.places > 0 {
            self.journal.echoed(&self.host, self.places);
        }
    }
}

/// Masks what repeats a secret, and drops fields whose name does; how many places there were.
pub(super) fn mask(headers: &mut HeaderMap, guard: &Guard) -> u64 {
    let mut places = 0;
    let tells = |name: &&HeaderName| guard.mask(&mut name.as_str().as_bytes().to_vec()).count > 0;
    let telling: Vec<HeaderName> = headers.keys().filter(tells).cloned().collect();
    for name in telling {
        headers.remove(name);
        places += 1;
    }
    for value in headers.values_mut() {
        let mut bytes = value.as_bytes().to_vec();
        let found = guard.mask(&mut bytes);
        if found.count > 0 {
            places += found.count;
            *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static(""));
        }
    }
    places
}

/// The same bytes with secrets masked.
pub(super) fn masked(
    pieces: impl Stream<Item = Result<Bytes, WasiError>> + Send + 'static,
    guard: Arc<Guard>,
    echoes: Echoes,
) -> impl Stream<Item = Result<Bytes, WasiError>> + Send + 'static {
    let begin = (Box::pin(pieces), Masking::new(guard), echoes, false);
    futures::stream::unfold(begin, async |(mut pieces, mut masking, mut echoes, mut ended)| {
        while !ended {
            let passed = match pieces.next().await {
                Some(Ok(piece)) => masking.push(&piece),
                Some(Err(error)) => return Some((Err(error), (pieces, masking, echoes, true))),
                None => {
                    ended = true;
                    masking.finish()
                }
            };
            echoes.note(passed.count);
            if !passed.bytes.is_empty() {
                return Some((Ok(passed.bytes.into()), (pieces, masking, echoes, ended)));
            }
        }
        None
    })
}
