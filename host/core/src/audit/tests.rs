//! Every way of changing a stored chain is told from the chain that was written.

use proptest::prelude::*;

use super::*;
use crate::Blame;
use crate::id::{ConnectionId, Digest, InvocationId};

fn tenant(name: &str) -> Subject {
    Subject::Tenant(name.parse().unwrap())
}

fn finished(number: u64) -> Event<'static> {
    let connection: ConnectionId = "crm".parse().unwrap();
    let used = Used { micros: number, cpu_micros: 2, memory: 3, requests: 4, denied: 5, bytes_out: 6, bytes_in: 7 };
    let finished = Finished {
        connection: Cow::Owned(connection),
        invocation: InvocationId::new(number, [7; 10]),
        release: Digest::of(&[b"release"]),
        call: Word::new("actions.invoke"),
        outcome: Word::new("limit-cpu"),
        blame: Some(Blame::Guest),
        used,
    };
    Event { at: 1_700_000_000_000_000 + number, what: What::Finished(finished) }
}

/// A chain of `subject`, cut into segments of so many entries each.
fn written(subject: &Subject, segments: &[usize]) -> (Vec<Vec<u8>>, Head) {
    let mut chain = Chain::at(subject.genesis());
    let mut stored = Vec::new();
    for count in segments {
        for _ in 0..*count {
            let number = chain.head().length;
            assert_eq!(chain.append(&finished(number)), Ok(number));
        }
        stored.extend(chain.cut().iter().map(Segment::encoded));
    }
    (stored, chain.head())
}

fn read(subject: &Subject, stored: &[Vec<u8>], known: Head) -> Result<Vec<(u64, Event<'static>)>, Broken> {
    let mut verifier = Verifier::new(subject);
    let mut events = Vec::new();
    for segment in stored {
        events.extend(verifier.next(segment)?);
    }
    verifier.end(known).map(|()| events)
}

#[test]
fn what_was_written_is_read_back_with_its_numbers() {
    let (stored, head) = written(&tenant("acme"), &[3, 1, 2]);
    let events = read(&tenant("acme"), &stored, head).unwrap();
    assert_eq!(events, (0..6).map(|number| (number, finished(number))).collect::<Vec<_>>());
}

#[test]
fn a_chain_goes_on_where_it_ended() {
    let (mut stored, head) = written(&tenant("acme"), &[2]);
    let mut chain = Chain::at(head);
    assert_eq!(chain.append(&finished(2)), Ok(2));
    stored.extend(chain.cut().iter().map(Segment::encoded));
    assert_eq!(read(&tenant("acme"), &stored, chain.head()).unwrap().len(), 3);
    assert_eq!(chain.cut(), []);
}

#[test]
fn what_is_missing_swapped_or_somebody_elses_is_told() {
    let acme = tenant("acme");
    let (stored, head) = written(&acme, &[2, 3, 4]);
    let [first, second, third] = stored.as_slice() else { panic!("three segments") };
    let of = |list: &[&Vec<u8>]| read(&acme, &list.iter().map(|part| part.to_vec()).collect::<Vec<_>>(), head);
    assert!(of(&[first, second, third]).is_ok());
    assert_eq!(of(&[first, third]), Err(Broken::Missing { expected: 2, found: 5 }));
    assert_eq!(of(&[second, first, third]), Err(Broken::Missing { expected: 0, found: 2 }));
    assert_eq!(of(&[first, first, second, third]), Err(Broken::Missing { expected: 2, found: 0 }));
    assert_eq!(of(&[first, second]), Err(Broken::Cut { expected: 9, found: 5 }));
    assert_eq!(of(&[]), Err(Broken::Cut { expected: 9, found: 0 }));
    assert_eq!(read(&tenant("globex"), &stored, head), Err(Broken::Unlinked { at: 0 }));
    assert_eq!(read(&Subject::Host, &stored, head), Err(Broken::Unlinked { at: 0 }));
}

#[test]
fn a_suffix_that_was_computed_anew_is_told_by_a_head_from_elsewhere() {
    let acme = tenant("acme");
    let (stored, head) = written(&acme, &[2, 2]);
    let (mut forged, before) = written(&acme, &[2]);
    let mut chain = Chain::at(before);
    for number in [7, 8] {
        chain.append(&finished(number)).unwrap();
    }
    forged.extend(chain.cut().iter().map(Segment::encoded));
    assert_eq!((forged.len(), chain.head().length), (stored.len(), head.length));
    assert_eq!(read(&acme, &forged, head), Err(Broken::Altered { from: 0, to: 3 }));
}

#[test]
fn what_is_too_large_leaves_no_trace() {
    let mut chain = Chain::at(Subject::Host.genesis());
    let long: &'static str = Box::leak("x".repeat(LARGEST_ENTRY).into_boxed_str());
    let large = Event { at: 0, what: What::Opened { version: Word::new(long) } };
    assert!(matches!(chain.append(&large), Err(TooLarge(bytes)) if bytes > LARGEST_ENTRY));
    assert_eq!((chain.head(), chain.cut()), (Subject::Host.genesis(), Vec::new()));
}

#[test]
fn a_segment_fits_into_a_value_of_the_store() {
    let (stored, head) = written(&tenant("acme"), &[2000]);
    assert!(stored.len() > 1 && stored.iter().all(|segment| segment.len() <= 48 * 1024), "{}", stored.len());
    assert_eq!(read(&tenant("acme"), &stored, head).unwrap().len(), 2000);
}

#[test]
fn what_nobody_stores_is_forgotten_and_still_counts() {
    let (stored, head) = written(&Subject::Host, &[5]);
    let mut chain = Chain::at(Subject::Host.genesis());
    for number in 0..4 {
        chain.append(&finished(number)).unwrap();
        chain.forget();
    }
    chain.append(&finished(4)).unwrap();
    assert_eq!(chain.head(), head);
    let last = chain.cut();
    assert_eq!((last.len(), last[0].first(), last[0].head()), (1, 4, head));
    assert!(stored.len() == 1);
}

proptest! {
    #[test]
    fn no_byte_can_be_changed(segment in 0..3usize, at in any::<prop::sample::Index>(), change in 1..=255u8) {
        let (mut stored, head) = written(&tenant("acme"), &[2, 3, 4]);
        let place = at.index(stored[segment].len());
        stored[segment][place] ^= change;
        prop_assert!(read(&tenant("acme"), &stored, head).is_err());
    }

    #[test]
    fn whatever_is_read_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Verifier::new(&Subject::Host).next(&bytes);
    }
}
