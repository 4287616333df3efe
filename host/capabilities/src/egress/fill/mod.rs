//! Puts secrets into the declared places of a request's body, and lets no placeholder out anywhere else.
//!
//! Why: a guest that may post to a host could post its secret as a comment there. A place is a field of a form or a value of
//! a JSON document, so that a secret is read as what it is, and only there. Invariants: 1. a placeholder that is not
//! exactly the whole value of a place of its own secret breaks the body off before a byte of it has left; 2. what is sent
//! is what was read: a body with places is parsed, and written anew from what the parser said, so that no upstream reads
//! it differently; 3. a value goes through its place's one encoder, so that none changes the structure around it; 4. what
//! is held back of a body that is only watched depends on its length alone, never on its content; 5. more than a little is held
//! only where there is room for all of it.
//! Never: looking inside a compressed body; such a one is refused while placeholders are in play.
//! Callers: `client.rs` → here → `kind.rs`, then one of `json.rs`, `form.rs`, `watch.rs` → `credentials::Placeholders`.

mod form;
mod json;
mod kind;
mod pieces;
mod text;
mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bulkhead_core::id::SecretName;
use bulkhead_core::secret::Place;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use self::form::Form;
use self::json::Json;
use self::kind::Kind;
use self::pieces::Pieces;
use self::watch::Watch;
use super::event::Fault;
use super::room::Room;
use crate::credentials::Placeholders;
use crate::credentials::sign::sigv4::LARGEST_WHOLE;

/// How much of a rewritten body is kept to learn its length, in bytes: one piece of a guest's body. Requests that carry a
/// credential in their body are mostly shorter, and old servers refuse a login without `content-length`.
const SETTLED: u64 = 64 * 1024;

/// Longest string, number or form field, in bytes. A file that is sent inside JSON is base64 of at most 3 MB with this; a
/// larger one has an upload of its own at every API we know. It is held until its end is known.
const LONGEST_TOKEN: usize = 4 * 1024 * 1024;

/// How much memory a token may take for each of its bytes: as it came in, decoded, and as it goes out, where JSON writes six
/// characters for one that it does not show. The three encodings of a form take less.
const EXPANSION: u64 = 8;

/// The largest piece that a guest hands over, in bytes.
const LARGEST_PIECE: u64 = 64 * 1024;
const _: () = assert!(LONGEST_TOKEN as u64 * EXPANSION + LARGEST_WHOLE <= super::room::TOTAL);

/// What a request's body may carry, and what it must not.
pub(super) struct Terms {
    /// The instance's placeholders: those it has now, and those it will have before the body ends.
    pub(super) placeholders: Arc<Placeholders>,
    /// The places that each secret has at this request.
    pub(super) places: Vec<(SecretName, Place)>,
    /// Most bytes that the guest may hand over.
    pub(super) limit: u64,
    /// Room for what has to be held of it.
    pub(super) room: Room,
    /// Whether all of it has to be held, unless it says that it is too large for that.
    pub(super) sealed: bool,
}

/// A place in the terms of one kind of body.
struct Slot<P> {
    place: P,
    secret: SecretName,
}

/// Why a body ended early.
#[derive(Debug)]
pub(super) enum Broken<E> {
    /// It was broken off here.
    Fault(Fault),
    /// It broke off before it came here.
    Inner(E),
}

/// A guest's body with its secrets in place.
pub(super) struct Filled<B> {
    inner: B,
    way: Way,
    out: Pieces,
    left: u64,
    limit: u64,
    ended: bool,
    room: Room,
}

/// How a body is gone through.
enum Way {
    /// Nothing is in play.
    Open,
    Watched(Watch),
    Json(Box<Json>),
    Form(Form),
}

/// Takes a body and the head it goes out with. Where the body has places it is rewritten: the guest's claim of its length
/// is dropped, and up to 64 KiB are read before this returns, so that a body that ends within them has a length again, and
/// its faults are known before anything is sent. A guest that first waits for an answer to an unfinished body of that kind
/// waits in vain.
pub(super) async fn filled<B>(inner: B, head: &mut HeaderMap, terms: Terms) -> Result<Filled<B>, Broken<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Terms { placeholders, places, limit, mut room, sealed } = terms;
    let way = Way::of(head, placeholders, places).map_err(Broken::Fault)?;
    let rewritten = matches!(way, Way::Json(_) | Way::Form(_));
    if rewritten {
        room.expect(LONGEST_TOKEN as u64 * EXPANSION);
    }
    if sealed {
        // Rewriting makes it longer. What says that it is larger goes in chunks.
        let said = head.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let length = said.or_else(|| inner.size_hint().exact()).filter(|_| !rewritten).unwrap_or(LARGEST_WHOLE);
        room.expect(if length > LARGEST_WHOLE { 0 } else { length });
    }
    let (ended, out) = (inner.is_end_stream(), Pieces::default());
    let mut filled = Filled { inner, way, out, left: limit, limit, ended, room };
    if rewritten && !filled.ended {
        head.remove(header::CONTENT_LENGTH);
        std::future::poll_fn(|cx| filled.poll_settled(cx)).await?;
    }
    Ok(filled)
}

impl Way {
    fn of(head: &HeaderMap, placeholders: Arc<Placeholders>, places: Vec<(SecretName, Place)>) -> Result<Self, Fault> {
        if !placeholders.may_exist() {
            return Ok(Self::Open);
        }
        if kind::is_encoded(head) {
            return Err(Fault::Encoded);
        }
        let (mut pointers, mut names) = (Vec::new(), Vec::new());
        for (secret, place) in places {
            match place {
                Place::Json(place) => pointers.push(Slot { place, secret }),
                Place::Form(place) => names.push(Slot { place, secret }),
                Place::Header(_) | Place::Query(_) | Place::User | Place::Password => {}
            }
        }
        Ok(match Kind::of(head) {
            Kind::Json if !pointers.is_empty() => Self::Json(Box::new(Json::new(placeholders, pointers))),
            Kind::Form if !names.is_empty() => Self::Form(Form::new(placeholders, names)),
            _ => Self::Watched(Watch::new(placeholders)),
        })
    }

    fn push(&mut self, piece: Bytes, out: &mut Pieces) -> Result<(), Fault> {
        match self {
            Self::Open => {
                out.piece(piece);
                Ok(())
            }
            Self::Watched(watch) => watch.push(&piece, out),
            Self::Json(json) => json.push(&piece, out),
            Self::Form(form) => form.push(&piece, out),
        }
    }

    /// Bytes of a token that has not ended.
    fn unread(&self) -> u64 {
        match self {
            Self::Open | Self::Watched(_) => 0,
            Self::Json(json) => json.unread(),
            Self::Form(form) => form.unread(),
        }
    }

    fn finish(&mut self, out: &mut Pieces) -> Result<(), Fault> {
        match self {
            Self::Open => Ok(()),
            Self::Watched(watch) => {
                watch.finish(out);
                Ok(())
            }
            Self::Json(json) => json.finish(out),
            Self::Form(form) => form.finish(out),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Filled<B> {
    /// What it may hold.
    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// Takes in the guest's next piece, or its end, when there is room for it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        ready!(self.room.poll_hold(self.way.unread() + self.out.len() + LARGEST_PIECE, cx));
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
            self.ended = true;
            return Poll::Ready(self.way.finish(&mut self.out).map_err(Broken::Fault));
        };
        // Trailers could carry what headers may not.
        let piece = frame.map_err(Broken::Inner)?.into_data().map_err(|_| Broken::Fault(Fault::Trailers))?;
        // Rewriting leaves out what says nothing, such as space, so it is counted here as well.
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or(Broken::Fault(Fault::TooLarge(self.limit)))?;
        Poll::Ready(self.way.push(piece, &mut self.out).map_err(Broken::Fault))
    }

    /// Ready when the length is known, or too much is kept to wait for it.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        while !self.ended && self.out.len() <= SETTLED {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Filled<B> {
    type Data = Bytes;
    type Error = Broken<B::Error>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.out.take() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Err(broken) = ready!(this.poll_more(cx)) {
                // What was judged before this is not sent either: the rest of it would never follow.
                this.ended = true;
                this.out = Pieces::default();
                return Poll::Ready(Some(Err(broken)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_kept = match &self.way {
            Way::Open => true,
            Way::Watched(watch) => watch.kept() == 0,
            Way::Json(_) | Way::Form(_) => false,
        };
        self.out.len() == 0 && (self.ended || nothing_kept && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.way {
            _ if self.ended => SizeHint::with_exact(self.out.len()),
            Way::Open => longer(&self.inner.size_hint(), self.out.len()),
            Way::Watched(watch) => longer(&self.inner.size_hint(), self.out.len() + watch.kept()),
            Way::Json(_) | Way::Form(_) => SizeHint::default(),
        }
    }
}

/// Appends to a token that may get long. It grows by doubling, but not past the longest with a piece.
fn extend(token: &mut Vec<u8>, part: &[u8]) {
    let needed = token.len() + part.len();
    if needed > token.capacity() {
        let roomy = (token.len() * 2).min(LONGEST_TOKEN + LARGEST_PIECE as usize).max(needed);
        token.reserve_exact(roomy - token.len());
    }
    token.extend_from_slice(part);
}

/// A hint of this much more.
pub(super) fn longer(hint: &SizeHint, more: u64) -> SizeHint {
    let mut longer = SizeHint::new();
    longer.set_lower(hint.lower().saturating_add(more));
    if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(more)) {
        longer.set_upper(upper);
    }
    longer
}

#[cfg(test)]
mod tests;
