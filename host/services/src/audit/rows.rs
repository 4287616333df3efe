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
pub(super) const SESSIONS: Space = Space::new("audit-session");

/// Segments in one page of a scan: less than a megabyte.
const PAGE: usize = 16;
/// The form of a session's row. Another one gets another number.
const SESSION: u8 = 1;
/// The form of an end's row, and the one before it, which did not say how many bytes there are.
const END: u8 = 2;
const END_WITHOUT_BYTES: u8 = 1;

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

/// Where a chain ends.
struct End {
    head: Head,
    /// The session that wrote it.
    session: u64,
    /// How many bytes its segments take, with their keys; not known where the row is an older one.
    bytes: Option<u64>,
}

impl End {
    fn parse(row: &[u8]) -> Result<Self, std::io::Error> {
        let rest = &mut &*row;
        let version = u8::deserialize(rest)?;
        let (head, session) = <(Head, u64)>::deserialize(rest)?;
        let bytes = match version {
            END_WITHOUT_BYTES => None,
            END => Some(u64::deserialize(rest)?),
            _ => return Err(invalid(&format!("it is of form {version}"))),
        };
        if !rest.is_empty() {
            return Err(invalid("there is more than there should be"));
        }
        Ok(Self { head, session, bytes })
    }
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// Begins a session, and says whether the one before ended without a farewell.
pub(super) async fn begin(store: &dyn Store) -> Result<(Session, bool), Error> {
    let before = store.get(SESSIONS, b"").await?;
    let last = match &before {
        Some(row) => Session::try_from_slice(row).map_err(|error| unreadable("session", &error))?,
        None => Session::default(),
    };
    let unclean = if last.open { last.number } else { last.unclean };
    let session = Session { version: SESSION, number: last.number.saturating_add(1), unclean, open: true };
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
pub(super) fn lost(session: Session, end: &[u8]) -> bool {
    End::parse(end).is_ok_and(|end| end.session <= session.unclean)
}

/// Begins a chain without entries: its end's row, which is on the disk. Without one, a chain that lost its first entries
/// would look like one that never had any.
pub(super) async fn found(store: &dyn Store, subject: &Subject, session: Session) -> Result<Vec<u8>, Error> {
    let row = end_row(subject.genesis(), session, 0);
    let mut batch = Batch::new().only_if(HEADS, subject.name().as_bytes(), None);
    batch.put(HEADS, subject.name().as_bytes(), row.clone());
    match store.apply(batch).await {
        Ok(()) => Ok(row),
        Err(bulkhead_storage::Error::Conflict) => Err(Error::Changed(subject.clone())),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes a chain takes, by the row of its end. An older row does not say: then they are counted, once.
pub(super) async fn bytes(store: &dyn Store, subject: &Subject, end: &[u8]) -> Result<u64, Error> {
    let end = End::parse(end).map_err(|error| unreadable("end", &error))?;
    if let Some(bytes) = end.bytes {
        return Ok(bytes);
    }
    let (mut bytes, mut after): (u64, Option<Vec<u8>>) = (0, None);
    loop {
        let page = store.scan(SEGMENTS, &prefix(subject), after.as_deref(), PAGE).await?;
        bytes += page.entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        after = page.entries.last().map(|(key, _)| key.clone()).or(after);
        if !page.more {
            return Ok(bytes);
        }
    }
}

/// The row of a chain's end, as it is, and what it says.
pub(super) async fn end(store: &dyn Store, subject: &Subject) -> Result<(Option<Vec<u8>>, Head), Error> {
    let name = subject.name();
    let mut row = store.get(HEADS, name.as_bytes()).await?;
    loop {
        let head = match &row {
            Some(row) => End::parse(row).map_err(|error| unreadable("end", &error))?.head,
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
pub(super) fn end_row(head: Head, session: Session, bytes: u64) -> Vec<u8> {
    written(&(END, head, session.number, bytes))
}

/// The key of the segment that begins with the entry of this number.
pub(super) fn key(subject: &Subject, first: u64) -> Vec<u8> {
    [prefix(subject).as_slice(), &first.to_be_bytes()].concat()
}

pub(super) fn prefix(subject: &Subject) -> Vec<u8> {
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
        // Whoever serves requests on this thread goes on in between.
        tokio::task::yield_now().await;
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
