//! Rewrites a JSON document, value by value, with secrets at their pointers.
//!
//! Why: parsers disagree on duplicate names, comments, escapes and numbers, and a secret that we put at one place could be
//! read at another. Invariants: 1. what is sent is written from what one strict parser read (RFC 8259), without space,
//! strings escaped by one encoder, numbers with their text; 2. an object on the way to a pointer names a step of it once;
//! 3. memory is bounded by the longest token and the depth, not by the document.
//! A placeholder is compared after decoding, so that one that is spelled with escapes is swapped, or found, like any other.

use std::sync::Arc;

use bulkhead_core::id::SecretName;
use bulkhead_core::secret::Pointer;
use json_event_parser::{JsonEvent, LowLevelJsonParser};
use zeroize::Zeroizing;

use super::pieces::{Encoded, Pieces};
use super::text::{Meant, meant};
use super::watch::absent;
use super::{LONGEST_TOKEN, SETTLED, Slot, extend};
use crate::credentials::Placeholders;
use crate::egress::event::Fault;

/// Deepest nesting of arrays and objects. Common parsers stop between 64 (.NET) and 512 (PHP).
const DEEPEST: usize = 128;

/// A document on its way through.
pub(super) struct Json {
    parser: LowLevelJsonParser,
    placeholders: Arc<Placeholders>,
    slots: Vec<Slot<Pointer>>,
    /// The arrays and objects around the next value.
    around: Vec<Container>,
    /// Slots whose pointer leads to the next value, or through it.
    ahead: Vec<usize>,
    /// What came in and was not read.
    unread: Vec<u8>,
    /// How much has to be unread before it is looked at again.
    enough: usize,
    /// Whether anything was read.
    begun: bool,
}

/// An array or object that has begun and not ended.
struct Container {
    empty: bool,
    /// The slots whose pointer leads into it, and whether their step was there.
    ways: Vec<(usize, bool)>,
    /// The next element's index, in an array.
    index: Option<u64>,
}

/// The value as a string of a document, with its quotes.
fn encoded(value: &str) -> Encoded {
    // Six characters for a byte at most, and the quotes: it is never reallocated.
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.len() * 6 + 2));
    string(&mut bytes, value);
    Encoded::new(bytes)
}

fn string(to: &mut Vec<u8>, text: &str) {
    // A long one is not to take twice its length, as a `Vec` does that grows.
    if text.len() as u64 > SETTLED {
        let mut length = Length(0);
        let _ = serde_json::to_writer(&mut length, text);
        to.reserve_exact(length.0);
    }
    // A string can be written, and so can a `Vec`.
    let _ = serde_json::to_writer(to, text);
}

/// How long what is written is.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Json {
    pub(super) fn new(placeholders: Arc<Placeholders>, slots: Vec<Slot<Pointer>>) -> Self {
        Self {
            parser: LowLevelJsonParser::new().with_max_stack_size(DEEPEST - 1),
            placeholders,
            ahead: (0..slots.len()).collect(),
            slots,
            around: Vec::new(),
            unread: Vec::new(),
            enough: 1,
            begun: false,
        }
    }

    /// Bytes that came in and were not read.
    pub(super) fn unread(&self) -> u64 {
        self.unread.len() as u64
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Pieces) -> Result<(), Fault> {
        extend(&mut self.unread, piece);
        if self.unread.len() < self.enough {
            return Ok(());
        }
        self.parse(false, out)?;
        if self.unread.len() > LONGEST_TOKEN {
            return Err(Fault::Unwieldy(LONGEST_TOKEN));
        }
        // A token that has not ended is read from its beginning each time. To wait until there is twice as much keeps that
        // linear, however small the pieces are.
        self.enough = (self.unread.len() * 2).clamp(1, LONGEST_TOKEN + 1);
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Pieces) -> Result<(), Fault> {
        // Many clients declare a type for a body that they do not send.
        if !self.begun && self.unread.is_empty() {
            return Ok(());
        }
        self.parse(true, out)
    }

    /// Reads what can be read; all of it at the end.
    fn parse(&mut self, ending: bool, out: &mut Pieces) -> Result<(), Fault> {
        let mut unread = std::mem::take(&mut self.unread);
        let mut at = 0;
        loop {
            let step = self.parser.parse_next(unread.get(at..).unwrap_or_default(), ending);
            at += step.consumed_bytes;
            match step.event {
                None | Some(Ok(JsonEvent::Eof)) => break,
                Some(Ok(event)) => self.write(event, out)?,
                Some(Err(error)) => return Err(Fault::Malformed(error.location().start.offset)),
            }
        }
        unread.drain(..at.min(unread.len()));
        self.begun |= at > 0;
        self.unread = unread;
        Ok(())
    }

    fn write(&mut self, event: JsonEvent<'_>, out: &mut Pieces) -> Result<(), Fault> {
        match event {
            JsonEvent::ObjectKey(name) => return self.name(&name, out),
            JsonEvent::EndObject => {
                self.around.pop();
                out.writer().push(b'}');
                return Ok(());
            }
            JsonEvent::EndArray => {
                self.around.pop();
                out.writer().push(b']');
                return Ok(());
            }
            _ => {}
        }
        self.element(out);
        let depth = self.around.len();
        let ahead = std::mem::take(&mut self.ahead);
        match event {
            JsonEvent::String(text) => {
                let fits = |secret: &SecretName| {
                    let mut slots = ahead.iter().filter_map(|slot| self.slots.get(*slot));
                    slots.any(|slot| slot.place.steps().len() == depth && slot.secret == *secret)
                };
                match meant(text.as_bytes(), &self.placeholders, fits, encoded)? {
                    Meant::Secret(secret) => out.secret(secret),
                    Meant::Text => string(out.writer(), &text),
                }
            }
            JsonEvent::StartObject => self.begin(ahead, None, b'{', out),
            JsonEvent::StartArray => self.begin(ahead, Some(0), b'[', out),
            // No number looks like a placeholder.
            JsonEvent::Number(text) => out.writer().extend_from_slice(text.as_bytes()),
            JsonEvent::Boolean(true) => out.writer().extend_from_slice(b"true"),
            JsonEvent::Boolean(false) => out.writer().extend_from_slice(b"false"),
            JsonEvent::Null => out.writer().extend_from_slice(b"null"),
            JsonEvent::ObjectKey(_) | JsonEvent::EndObject | JsonEvent::EndArray | JsonEvent::Eof => {}
        }
        Ok(())
    }

    /// An object or array begins, with the slots that lead to it.
    fn begin(&mut self, ahead: Vec<usize>, index: Option<u64>, bracket: u8, out: &mut Pieces) {
        let depth = self.around.len();
        let leads_on = |slot: &usize| self.slots.get(*slot).is_some_and(|slot| slot.place.steps().len() > depth);
        let ways = ahead.into_iter().filter(leads_on).map(|slot| (slot, false)).collect();
        self.around.push(Container { empty: true, ways, index });
        out.writer().push(bracket);
    }

    /// A member of an object begins.
    fn name(&mut self, name: &str, out: &mut Pieces) -> Result<(), Fault> {
        absent(&self.placeholders, name.as_bytes())?;
        let depth = self.around.len();
        if let Some(object) = self.around.last_mut() {
            comma(&mut object.empty, out);
            for (index, seen) in &mut object.ways {
                let Some(slot) = self.slots.get(*index) else { continue };
                if slot.place.steps().get(depth - 1).is_some_and(|step| step == name) {
                    if std::mem::replace(seen, true) {
                        return Err(Fault::Repeated(slot.secret.clone()));
                    }
                    self.ahead.push(*index);
                }
            }
        }
        string(out.writer(), name);
        out.writer().push(b':');
        Ok(())
    }

    /// A value begins. In an array, it has no name to tell where it is.
    fn element(&mut self, out: &mut Pieces) {
        let depth = self.around.len();
        let Some(Container { empty, ways, index: Some(index) }) = self.around.last_mut() else { return };
        comma(empty, out);
        for (way, _) in ways {
            let step = self.slots.get(*way).and_then(|slot| slot.place.steps().get(depth - 1));
            if step.is_some_and(|step| is_index(step, *index)) {
                self.ahead.push(*way);
            }
        }
        *index += 1;
    }
}

fn comma(empty: &mut bool, out: &mut Pieces) {
    if !std::mem::replace(empty, false) {
        out.writer().push(b',');
    }
}

/// Whether a pointer's step is this index of an array. One with leading zeros is none (RFC 6901 §4).
fn is_index(step: &str, index: u64) -> bool {
    let canonical = step == "0" || !step.starts_with(['0', '+']);
    canonical && step.parse() == Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::placeholders;

    #[test]
    fn a_long_string_in_small_pieces_is_looked_at_a_few_times() {
        let mut json = Json::new(placeholders("v").0, Vec::new());
        let mut out = Pieces::default();
        let mut looks = 0;
        json.push(b"\"", &mut out).unwrap();
        for _ in 0..300_000 {
            looks += usize::from(json.unread.len() + 1 >= json.enough);
            json.push(b"x", &mut out).unwrap();
        }
        // Each is twice as long as the one before it.
        assert!((1..=18).contains(&looks), "{looks}");
        json.push(b"\"", &mut out).unwrap();
        json.finish(&mut out).unwrap();
        assert_eq!(out.len(), 300_002);
    }

    #[test]
    fn only_an_index_in_its_one_spelling_is_one() {
        for (step, index, expected) in [
            ("0", 0, true),
            ("10", 10, true),
            ("1", 10, false),
            ("01", 1, false),
            ("00", 0, false),
            ("+1", 1, false),
            ("-", 0, false),
            ("", 0, false),
        ] {
            assert_eq!(is_index(step, index), expected, "{step}");
        }
    }
}
