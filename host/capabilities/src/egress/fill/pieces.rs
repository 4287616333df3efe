//! Keeps what may leave of a body until it is asked for, in pieces, those with a secret apart from the others.

use std::collections::VecDeque;

use bytes::Bytes;
use zeroize::Zeroizing;

/// Largest piece that is handed on, in bytes: the largest that a guest hands over, which budgets are made for.
const LARGEST: usize = 64 * 1024;

/// Bytes on their way out.
#[derive(Default)]
pub(super) struct Pieces {
    done: VecDeque<Bytes>,
    /// Bytes in `done`.
    count: usize,
    open: Vec<u8>,
}

/// A secret as it is written into a body. Its memory is wiped when the last copy of the handle goes. What hyper and TLS copy
/// into their own write buffers is out of our reach.
pub(super) struct Encoded(Bytes);

impl Encoded {
    /// Takes bytes over. They must have been written without reallocating, which would leave copies behind.
    pub(super) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Bytes::from_owner(bytes))
    }
}

impl Pieces {
    /// What is written here is sent after everything before it. It holds no secret.
    pub(super) fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.open
    }

    /// Appends a piece as it is.
    pub(super) fn piece(&mut self, piece: Bytes) {
        if !self.open.is_empty() {
            let open = Bytes::from(std::mem::take(&mut self.open));
            self.count += open.len();
            self.done.push_back(open);
        }
        if !piece.is_empty() {
            self.count += piece.len();
            self.done.push_back(piece);
        }
    }

    /// Appends a secret.
    pub(super) fn secret(&mut self, value: Encoded) {
        self.piece(value.0);
    }

    /// Bytes kept.
    pub(super) fn len(&self) -> u64 {
        (self.count + self.open.len()) as u64
    }

    /// The next piece, never an empty one.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.done.is_empty() {
            self.piece(Bytes::new());
        }
        let first = self.done.front_mut()?;
        let piece = if first.len() > LARGEST { first.split_to(LARGEST) } else { self.done.pop_front()? };
        self.count -= piece.len();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_are_never_large_or_empty() {
        let mut out = Pieces::default();
        assert!(out.take().is_none());
        out.writer().extend_from_slice(&[b'a'; LARGEST + 1]);
        out.piece(Bytes::new());
        out.secret(Encoded::new(Zeroizing::new(b"secret".to_vec())));
        out.writer().push(b'z');
        assert_eq!(out.len(), LARGEST as u64 + 8);
        let mut pieces = Vec::new();
        while let Some(piece) = out.take() {
            pieces.push(piece);
        }
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [LARGEST, 1, 6, 1]);
        assert_eq!(pieces.concat(), [&[b'a'; LARGEST + 1][..], b"secretz"].concat());
        assert_eq!(out.len(), 0);
    }
}
