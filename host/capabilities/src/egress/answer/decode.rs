//! Decodes an answer, so that secrets can be looked for in it.
//!
//! Why: a few kilobytes can decode to gigabytes, and megabytes to nothing. Invariants: 1. what comes out is cut off at the
//! answer's limit; 2. one coding at most, of those that are registered for HTTP and in use; 3. a decoder's memory is bounded
//! by its window, and the window by what the coding has for HTTP; 4. it never works for long without a pause, whether or not
//! anything comes out, so that the limits of whoever reads on are kept.
//! Callers: `answer.rs` → here → the `async-compression` crate.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, header};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio_util::io::{ReaderStream, StreamReader};
use wasmtime_wasi_http::Error as WasiError;

/// Largest window of a zstd answer, as a power of two: what RFC 9659 has for HTTP.
const ZSTD_WINDOW: u32 = 23;
/// How much is decoded at once, in bytes.
const CHUNK: usize = 16 * 1024;
/// How much a decoder takes in at once, in bytes. The costliest input there is, nothing packed again and again, takes a
/// millisecond of work for that much.
const SLICE: usize = 4 * 1024;
/// How a brotli stream begins whose window is larger than RFC 7932 has, up to a gigabyte: the seven lowest bits.
const LARGE_WINDOW: u8 = 0b001_0001;

/// A content coding (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// What the answer is coded in; an error when that cannot be decoded here.
pub(super) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ()> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().map_err(|_| ())?.split(',') {
            let coding = match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(()),
            };
            // Nothing in use is coded twice, but bombs are.
            if found.replace(coding).is_some() {
                return Err(());
            }
        }
    }
    Ok(found)
}

/// Why an answer could not be decoded to its end.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes did not arrive.
    Received(WasiError),
    /// They do not decode.
    Undecodable,
    /// They decode to more than the limit.
    TooLarge,
}

/// The decoded bytes, at most `limit` of them.
pub(super) fn decoded(
    pieces: impl Stream<Item = Result<Bytes, WasiError>> + Send + 'static,
    coding: Coding,
    limit: u64,
) -> impl Stream<Item = Result<Bytes, Fault>> + Send + 'static {
    let mut begins = coding == Coding::Brotli;
    let slices = pieces.flat_map(|piece| futures::stream::iter(sliced(piece))).map(move |slice| {
        let slice = slice.map_err(std::io::Error::other)?;
        match slice.first() {
            Some(first) if std::mem::take(&mut begins) && first & 0x7f == LARGE_WINDOW => Err(undecodable()),
            _ => Ok(slice),
        }
    });
    let reader = StreamReader::new(considerate(slices));
    let mut left = limit;
    ReaderStream::with_capacity(decoder(coding, reader), CHUNK).map(move |piece| {
        let piece = piece.map_err(fault)?;
        left = left.checked_sub(piece.len() as u64).ok_or(Fault::TooLarge)?;
        Ok(piece)
    })
}

fn decoder(coding: Coding, reader: impl AsyncBufRead + Send + 'static) -> Box<dyn AsyncRead + Send + Unpin> {
    // Several members in a row are one answer (RFC 1952 §2.2, RFC 8878 §3).
    macro_rules! each_member {
        ($decoder:expr) => {{
            let mut decoder = $decoder;
            decoder.multiple_members(true);
            Box::new(decoder)
        }};
    }
    let reader = Box::pin(reader);
    match coding {
        Coding::Gzip => each_member!(GzipDecoder::new(reader)),
        Coding::Deflate => Box::new(Alone { decoder: ZlibDecoder::new(reader), reader: ZlibDecoder::get_mut }),
        Coding::Brotli => Box::new(Alone { decoder: BrotliDecoder::new(reader), reader: BrotliDecoder::get_mut }),
        Coding::Zstd => each_member!(ZstdDecoder::with_params(reader, &[DParameter::window_log_max(ZSTD_WINDOW)])),
    }
}

/// A decoder of a coding that has no members (RFC 1950, RFC 7932): what comes after its end is an error. It is read to its
/// end, as a socket whose answer was not would serve no other request.
struct Alone<D, R> {
    decoder: D,
    reader: fn(&mut D) -> &mut R,
}

impl<D: AsyncRead + Unpin, R: AsyncBufRead + Unpin> AsyncRead for Alone<D, R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.decoder).poll_read(cx, out))?;
        if out.filled().len() == before && out.remaining() > 0 {
            let rest = ready!(Pin::new((this.reader)(&mut this.decoder)).poll_fill_buf(cx))?;
            return Poll::Ready(if rest.is_empty() { Ok(()) } else { Err(undecodable()) });
        }
        Poll::Ready(Ok(()))
    }
}

/// The same stream, with a pause now and then although it may always be ready.
pub(super) fn considerate<T>(stream: impl Stream<Item = T> + Send + 'static) -> impl Stream<Item = T> + Send + 'static {
    let mut stream = Box::pin(stream);
    futures::stream::poll_fn(move |cx| {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let item = ready!(stream.as_mut().poll_next(cx));
        turn.made_progress();
        Poll::Ready(item)
    })
}

/// A piece in slices that a decoder can be given.
fn sliced(piece: Result<Bytes, WasiError>) -> impl Iterator<Item = Result<Bytes, WasiError>> {
    let mut left = Some(piece);
    std::iter::from_fn(move || match left.take()? {
        Ok(mut bytes) if bytes.len() > SLICE => {
            let slice = bytes.split_to(SLICE);
            left = Some(Ok(bytes));
            Some(Ok(slice))
        }
        last => Some(last),
    })
}

fn undecodable() -> std::io::Error {
    std::io::ErrorKind::InvalidData.into()
}

/// The error of the bytes themselves, or that they do not decode.
fn fault(error: std::io::Error) -> Fault {
    match error.into_inner() {
        Some(inner) => inner.downcast::<WasiError>().map_or(Fault::Undecodable, |error| Fault::Received(*error)),
        None => Fault::Undecodable,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use futures::TryStreamExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    const CODINGS: [(&str, Coding); 4] =
        [("gzip", Coding::Gzip), ("deflate", Coding::Deflate), ("br", Coding::Brotli), ("zstd", Coding::Zstd)];

    async fn encoded(coding: Coding, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => GzipEncoder::new(plain).read_to_end(&mut out).await,
            Coding::Deflate => ZlibEncoder::new(plain).read_to_end(&mut out).await,
            Coding::Brotli => BrotliEncoder::new(plain).read_to_end(&mut out).await,
            Coding::Zstd => ZstdEncoder::new(plain).read_to_end(&mut out).await,
        }
        .unwrap();
        out
    }

    async fn decode(coding: Coding, coded: &[u8], limit: u64) -> Result<Vec<u8>, Fault> {
        let pieces: Vec<_> = coded.chunks(3).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let out: Vec<Bytes> = decoded(futures::stream::iter(pieces), coding, limit).try_collect().await?;
        Ok(out.concat())
    }

    #[tokio::test]
    async fn each_coding_is_decoded_whatever_the_pieces() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        for (name, coding) in CODINGS {
            let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, name.parse().unwrap())]);
            assert_eq!(super::coding(&headers), Ok(Some(coding)));
            assert_eq!(decode(coding, &encoded(coding, &plain).await, 1 << 20).await.unwrap(), plain, "{name}");
        }
    }

    #[tokio::test]
    async fn what_comes_is_read_to_its_end() {
        for (name, coding) in CODINGS {
            let coded = encoded(coding, b"hello").await;
            let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let end = std::sync::Arc::clone(&ended);
            let pieces = futures::stream::iter([Ok(Bytes::from(coded))]).chain(futures::stream::poll_fn(move |_| {
                end.store(true, std::sync::atomic::Ordering::Relaxed);
                Poll::Ready(None)
            }));
            let out: Vec<Bytes> = decoded(pieces, coding, 1 << 20).try_collect().await.unwrap();
            assert_eq!(out.concat(), b"hello", "{name}");
            assert!(ended.load(std::sync::atomic::Ordering::Relaxed), "{name}");
        }
    }

    #[tokio::test]
    async fn a_bomb_is_cut_off_at_the_limit() {
        let bomb = vec![0; 64 << 20];
        for (name, coding) in CODINGS {
            let coded = encoded(coding, &bomb).await;
            assert!(coded.len() < 100_000, "{name}");
            let refused = decode(coding, &coded, 1 << 20).await;
            assert!(matches!(refused, Err(Fault::TooLarge)), "{name}");
        }
    }

    /// A brotli stream of one stored block of this many zeros, in a window of so many bits.
    fn stored(window: u8, zeros: usize) -> Vec<u8> {
        let (head, width) = match window {
            18..=24 => ((u64::from(window - 17) << 1) | 1, 4),
            _ => (u64::from(LARGE_WINDOW) | (u64::from(window) << 8), 14),
        };
        // Not the last, six digits of length, stored; then an empty last block.
        let block = (2 << 1) | ((zeros as u64 - 1) << 3) | (1 << 27);
        let head = (head | (block << width)).to_le_bytes();
        let whole = head.into_iter().take((width + 28_usize).div_ceil(8));
        whole.chain(std::iter::repeat_n(0, zeros)).chain([3]).collect()
    }

    #[tokio::test]
    async fn a_window_that_http_has_not_is_refused() {
        // So many that all of the digits are needed.
        let zeros = (1 << 20) + 1;
        assert_eq!(decode(Coding::Brotli, &stored(22, zeros), 1 << 21).await.unwrap(), vec![0; zeros]);
        for window in [25, 30] {
            let refused = decode(Coding::Brotli, &stored(window, zeros), 1 << 21).await;
            assert!(matches!(refused, Err(Fault::Undecodable)), "{window}");
        }
    }

    #[tokio::test]
    async fn members_in_a_row_are_one_answer_where_the_coding_has_them_and_an_error_elsewhere() {
        for (name, coding) in CODINGS {
            let twice = encoded(coding, b"hello").await.repeat(2);
            let decoded = decode(coding, &twice, 1 << 20).await;
            if matches!(coding, Coding::Gzip | Coding::Zstd) {
                assert_eq!(decoded.unwrap(), b"hellohello", "{name}");
            } else {
                assert!(matches!(decoded, Err(Fault::Undecodable)), "{name}: {decoded:?}");
            }
        }
    }

    #[tokio::test]
    async fn input_without_end_that_decodes_to_nothing_lets_others_go_on() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let piece = Bytes::from(encoded(coding, b"").await.repeat(4096));
            let pieces = futures::stream::repeat_with(move || Ok(piece.clone()));
            let endless = decoded(pieces, coding, 1 << 20).try_collect::<Vec<_>>();
            let ended = tokio::time::timeout(Duration::from_millis(50), endless).await;
            assert!(ended.is_err(), "{coding:?} is cut off from outside");
        }
    }

    #[tokio::test]
    async fn what_does_not_decode_is_an_error() {
        for (name, coding) in CODINGS {
            let mut coded = encoded(coding, b"hello, hello, hello, hello").await;
            coded.truncate(coded.len() - 3);
            for bytes in [&coded[..], b"hello", b""] {
                let refused = decode(coding, bytes, 1 << 20).await;
                assert!(matches!(refused, Err(Fault::Undecodable)), "{name} {bytes:?}: {refused:?}");
            }
        }
    }

    #[test]
    fn two_codings_or_an_unknown_one_are_refused() {
        let coding = |values: &[&str]| {
            let values = values.iter().map(|value| (header::CONTENT_ENCODING, value.parse().unwrap()));
            coding(&values.collect())
        };
        assert_eq!(coding(&[]), Ok(None));
        assert_eq!(coding(&["identity", ""]), Ok(None));
        assert_eq!(coding(&["GZIP , identity"]), Ok(Some(Coding::Gzip)));
        for values in [&["gzip, br"][..], &["gzip", "gzip"], &["compress"], &["aes128gcm"], &["gz\u{e9}p"]] {
            assert_eq!(coding(values), Err(()), "{values:?}");
        }
    }
}
