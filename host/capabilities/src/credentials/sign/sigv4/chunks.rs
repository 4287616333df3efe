//! Signs a body that is too large to keep, chunk by chunk, each chained to the one before.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>.

use bytes::{Bytes, BytesMut};

use super::{Sha256, Signed};
use crate::credentials::sign::Error;

/// Bytes of the body in each chunk but the last: what a guest hands over at once. S3 wants 8 KiB at least.
pub const CHUNK: usize = 64 * 1024;

/// `;chunk-signature=`, 64 digits, and an end of line before and after the data.
const AROUND: u64 = 17 + 64 + 4;

/// A body being signed. What [`Chunks::push`] and [`Chunks::finish`] give goes out in that order.
pub struct Chunks {
    signed: Signed,
    /// Bytes of the body that are still to come.
    left: u64,
    declared: u64,
    size: usize,
    pending: BytesMut,
}

impl Chunks {
    pub(super) fn new(signed: Signed, decoded: u64) -> Self {
        Self::sized(signed, decoded, CHUNK)
    }

    pub(super) fn sized(signed: Signed, decoded: u64, size: usize) -> Self {
        Self { signed, left: decoded, declared: decoded, size, pending: BytesMut::new() }
    }

    /// Takes a piece of the body; gives the chunks that it filled, signed. Fails on more than was declared.
    pub fn push(&mut self, piece: &[u8]) -> Result<Bytes, Error> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(Error::Length { expected: self.declared })?;
        self.pending.extend_from_slice(piece);
        let mut out = BytesMut::new();
        while self.pending.len() >= self.size {
            let chunk = self.pending.split_to(self.size);
            self.write(&chunk, &mut out);
        }
        Ok(out.freeze())
    }

    /// The last chunks: what is pending, and an empty one. Fails on less than was declared, so that the body has to be
    /// broken off.
    pub fn finish(mut self) -> Result<Bytes, Error> {
        if self.left > 0 {
            return Err(Error::Length { expected: self.declared });
        }
        let mut out = BytesMut::new();
        let last = self.pending.split();
        if !last.is_empty() {
            self.write(&last, &mut out);
        }
        self.write(&[], &mut out);
        Ok(out.freeze())
    }

    fn write(&mut self, chunk: &[u8], out: &mut BytesMut) {
        let Signed { date, scope, signature, .. } = &self.signed;
        let (nothing, hash) = (Sha256::of([b""]).hexadecimal(), Sha256::of([chunk]).hexadecimal());
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{signature}\n{nothing}\n{hash}");
        self.signed.signature = self.signed.sign(text.as_bytes());
        let head = format!("{:x};chunk-signature={}\r\n", chunk.len(), self.signed.signature);
        out.reserve(head.len() + chunk.len() + 2);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
}

/// How many bytes a body of `decoded` bytes has in chunks.
pub fn encoded_length(decoded: u64) -> u64 {
    sized_length(decoded, CHUNK as u64)
}

pub(super) fn sized_length(decoded: u64, size: u64) -> u64 {
    let chunk = |length: u64| u64::from(length.checked_ilog(16).unwrap_or(0)) + 1 + AROUND + length;
    let (full, rest) = (decoded / size, decoded % size);
    let last = if rest == 0 { 0 } else { chunk(rest) };
    full.saturating_mul(chunk(size)).saturating_add(last).saturating_add(chunk(0))
}
