//! What the audit log stores: segments of chains, where each chain ends, and whether the last host to write said farewell.
//!
//! *Keys*: a segment's is its tenant's name, a zero and the number of its first entry, so that one tenant's are together and in
//! order; the host's name is empty. *Why the end is a row*: without it, cutting off the last segment would leave no trace. It
//! is replaced only if it is what this host wrote last, so that two hosts cannot both go on with one chain.

use borsh::{BorshDeserialize, BorshSerialize};
use bulkhead_core::audit::{Broken, Event, Head, Subject, Verifier};
use bulkhead_storage::{Batch, Space, Store};

use super::Error;

/// Entries, segment by segment.
pub(super) const SEGMENTS: Space = Space::new("audit");
/// Where each chain ends.
pub(super) const HEADS: Space = Space::new("audit-heads");
/// The one row about the host that writes.
const SESSIONS: Space = Space::new("audit-session");

/// Segments in one page of a scan: less than a megabyte.
const PAGE: usize = 16;
/// The form of these rows. Another one gets another number.
const VERSION: u8 = 1;

/// One host's time of writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Session {
    version: u8,
    /// Its number, from 1.
    pub(super) number: u64,
    /// The last one that ended without a farewell; 0 for none.
    unclean: u64,
    /// Whether it still writes.
    open: bool,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct End {
    version: u8,
    head: Head,
    /// The session that wrote it.
    session: u64,
}

/// Begins a session, and says whether the one before ended without a farewell.
pub(super) async fn begin(store: &dyn Store) -> Result<(Session, bool), Error> {
    let before = store.get(SESSIONS, b"").await?;
    let last = match &before {
        Some(row) => Session::try_from_slice(row).map_err(|error| unreadable("session", &error))?,
        None => Session::default(),
    };
    let unclean = if last.open { last.number } else { last.unclean };
    let session = Session { version: VERSION, number: last.number.saturating_add(1), unclean, open: true };
    let mut batch = Batch::new().only_if(SESSIONS, b"", before);
    batch.put(SESSIONS, b"", written(&session));
    store.apply(batch).await?;
    Ok((session, last.open))
}

/// Ends a session of which everything was written.
pub(super) async fn farewell(store: &dyn Store, session: Session) -> Result<(), Error> {
    let mut batch = Batch::new().only_if(SESSIONS, b"", Some(written(&session)));
    batch.put(SESSIONS, b"", written(&Session { open: false, ..session }));
    Ok(store.apply(batch).await?)
}

/// Whether a chain, by the row of its end, may have lost entries before this session.
pub(super) fn lost(session: Session, end: Option<&[u8]>) -> bool {
    let written = end.and_then(|row| End::try_from_slice(row).ok());
    written.is_some_and(|end| end.session <= session.unclean)
}

/// The row of a chain's end, as it is, and what it says.
pub(super) async fn end(store: &dyn Store, subject: &Subject) -> Result<(Option<Vec<u8>>, Head), Error> {
    let name = subject.name();
    let mut row = store.get(HEADS, name.as_bytes()).await?;
    loop {
        let head = match &row {
            Some(row) => End::try_from_slice(row).map_err(|error| unreadable("end", &error))?.head,
            None => subject.genesis(),
        };
        // An end that was put back, or taken away, has segments behind it.
        if store.get(SEGMENTS, &key(subject, head.length)).await?.is_none() {
            return Ok((row, head));
        }
        // And so has one that moved on between the two looks.
        let again = store.get(HEADS, name.as_bytes()).await?;
        if again == row {
            let broken = Broken::Cut { expected: head.length.saturating_add(1), found: head.length };
            return Err(Error::Broken { subject: subject.clone(), broken });
        }
        row = again;
    }
}

/// The row of a chain's end.
pub(super) fn end_row(head: Head, session: Session) -> Vec<u8> {
    written(&End { version: VERSION, head, session: session.number })
}

/// The key of the segment that begins with the entry of this number.
pub(super) fn key(subject: &Subject, first: u64) -> Vec<u8> {
    [prefix(subject).as_slice(), &first.to_be_bytes()].concat()
}

fn prefix(subject: &Subject) -> Vec<u8> {
    [subject.name().as_bytes(), &[0]].concat()
}

/// Shows every stored entry of `subject`, in order, and checks that the chain is whole: where it ends.
pub async fn read(
    store: &dyn Store,
    subject: &Subject,
    mut show: impl FnMut(u64, Event<'static>),
) -> Result<Head, Error> {
    let broken = |broken| Error::Broken { subject: subject.clone(), broken };
    let (_, known) = end(store, subject).await?;
    let (mut verifier, mut after): (_, Option<Vec<u8>>) = (Verifier::new(subject), None);
    loop {
        let page = store.scan(SEGMENTS, &prefix(subject), after.as_deref(), PAGE).await?;
        for (at, segment) in &page.entries {
            // What came since the end was looked up is for the next reader.
            if verifier.head() == known {
                return Ok(known);
            }
            let expected = verifier.head().length;
            for (number, event) in verifier.next(segment).map_err(broken)? {
                show(number, event);
            }
            if *at != key(subject, expected) {
                return Err(broken(Broken::Unlinked { at: expected }));
            }
        }
        after = page.entries.last().map(|(key, _)| key.clone()).or(after);
        if !page.more {
            break;
        }
    }
    verifier.end(known).map_err(broken)?;
    Ok(known)
}

/// Checks that the stored chain of `subject` is whole: where it ends.
pub async fn verify(store: &dyn Store, subject: &Subject) -> Result<Head, Error> {
    read(store, subject, |_, _| {}).await
}

fn unreadable(what: &str, error: &std::io::Error) -> Error {
    Error::Store(bulkhead_storage::Error::Damaged(format!("the audit log's row of its {what}: {error}")))
}

fn written(row: &impl BorshSerialize) -> Vec<u8> {
    // Writing to memory does not fail.
    borsh::to_vec(row).unwrap_or_default()
}
