//! An upstream that tells what it was sent, in whatever spelling the path asks for: `/echo/SPELLING`.
//!
//! *Why*: an allowed host is not a trustworthy one. What it knows it can tell the guest, written so that a search for the
//! plain text finds nothing.

use std::io;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// Every spelling of a body that the guest gets masked.
pub(crate) const SPELLINGS: [&str; 28] = [
    "plain",
    "lower",
    "base64",
    "base64-1",
    "base64-2",
    "base64url",
    "base64url-1",
    "base64url-2",
    "basic",
    "hex",
    "HEX",
    "percent",
    "percent-lower",
    "percent-all",
    "percent-some",
    "json",
    "json-slashes",
    "json-all",
    "json-ALL",
    "mixed",
    "html",
    "html-hex",
    "utf-16le",
    "utf-16be",
    "gzip",
    "deflate",
    "br",
    "zstd",
];

/// Spellings of the framing: the same plain text, in pieces or beside the body.
pub(crate) const FRAMINGS: [&str; 3] = ["chunks", "header", "location"];

/// `/drip/LENGTH/GUESS` is answered with so many bytes, of which the last are the guess, and with no end.
pub(crate) const DRIP: &str = "/drip/";

/// What stands before an echo.
pub(crate) const AROUND: &str = "you sent ";

/// The answer to a request with this target that carried `secret`, in pieces; nothing where it is not asked to echo.
pub(crate) async fn of(target: &str, secret: &str) -> io::Result<Option<Vec<Vec<u8>>>> {
    if let Some(wish) = target.strip_prefix(DRIP) {
        return Ok(Some(drip(wish)));
    }
    let Some(spelling) = target.strip_prefix("/echo/") else { return Ok(None) };
    let plain = format!("{AROUND}{secret} to me");
    Ok(Some(match spelling {
        "chunks" => chunks(&plain, ""),
        "trailer" => chunks("nothing here", &format!("x-echo: {secret}\r\n")),
        "header" => vec![answer("200 OK", &format!("x-echo: {secret}\r\n"), b"see above")],
        "location" => vec![answer("200 OK", &format!("location: /at?key={secret}\r\n"), b"see above")],
        "hint" => {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: <{secret}>\r\n\r\n");
            vec![hint.into_bytes(), answer("200 OK", "", b"nothing here")]
        }
        "reason" => vec![answer(&format!("200 {secret}"), "", b"nothing here")],
        "part" => vec![answer("206 Partial Content", "content-range: bytes 0-8/99\r\n", plain.as_bytes())],
        "unknown" => vec![answer("200 OK", "content-encoding: x-rot13\r\n", plain.as_bytes())],
        "gzip" | "deflate" | "br" | "zstd" => {
            let coded = coded(spelling, plain.as_bytes()).await?;
            vec![answer("200 OK", &format!("content-encoding: {spelling}\r\n"), &coded)]
        }
        "gzip-br" => {
            let coded = coded("br", &coded("gzip", plain.as_bytes()).await?).await?;
            vec![answer("200 OK", "content-encoding: gzip, br\r\n", &coded)]
        }
        _ => vec![answer("200 OK", "", &spelled(spelling, secret))],
    }))
}

/// The answer that waits, in two pieces.
fn drip(wish: &str) -> Vec<Vec<u8>> {
    let (length, guess) = wish.split_once('/').unwrap_or_default();
    let pairs = guess.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    let guess: Vec<u8> = pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    let filling = length.parse::<usize>().unwrap_or_default().saturating_sub(guess.len());
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n".to_vec();
    vec![[head, vec![b'.'; filling]].concat(), guess]
}

fn answer(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{more}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The body in chunks of one, two and three bytes, and these trailers.
fn chunks(body: &str, trailers: &str) -> Vec<Vec<u8>> {
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    let (mut rest, mut size) = (body.as_bytes(), 1);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        pieces.push([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        (rest, size) = (behind, size % 3 + 1);
    }
    pieces.push(format!("0\r\n{trailers}\r\n").into_bytes());
    pieces
}

async fn coded(coding: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    macro_rules! with {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(bytes).await?;
            encoder.shutdown().await?;
            encoder.into_inner()
        }};
    }
    Ok(match coding {
        "gzip" => with!(GzipEncoder),
        "deflate" => with!(ZlibEncoder),
        "br" => with!(BrotliEncoder),
        _ => with!(ZstdEncoder),
    })
}

/// The secret in this spelling, with text around it.
pub(crate) fn spelled(spelling: &str, secret: &str) -> Vec<u8> {
    let each = |write: &dyn Fn(usize, char) -> String| -> String {
        secret.chars().enumerate().map(|(at, character)| write(at, character)).collect()
    };
    let percent = |character: char| utf8_percent_encode(&character.to_string(), NON_ALPHANUMERIC).to_string();
    let every_byte =
        |character: char| character.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let escaped = |character: char| {
        character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>()
    };
    let json = || Value::from(secret).to_string().trim_matches('"').to_owned();
    let text = match spelling {
        "lower" => secret.to_ascii_lowercase(),
        "base64" => STANDARD.encode(secret),
        "base64-1" => STANDARD.encode(format!("u{secret}!")),
        "base64-2" => STANDARD.encode(format!("us{secret}!!")),
        "base64url" => URL_SAFE.encode(secret),
        "base64url-1" => URL_SAFE.encode(format!("u{secret}!")),
        "base64url-2" => URL_SAFE.encode(format!("us{secret}!!")),
        "basic" => STANDARD.encode(format!("user:{secret}")),
        "hex" => secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
        "HEX" => secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
        "percent" => each(&|_, character| percent(character)),
        "percent-lower" => each(&|_, character| match percent(character) {
            escape if escape.starts_with('%') => escape.to_ascii_lowercase(),
            plain => plain,
        }),
        "percent-all" => each(&|_, character| every_byte(character)),
        "percent-some" => {
            each(&|at, character| if at % 2 == 0 { every_byte(character) } else { character.to_string() })
        }
        "json" => json(),
        "json-slashes" => json().replace('/', "\\/"),
        "json-all" => each(&|_, character| escaped(character)),
        "json-ALL" => each(&|_, character| escaped(character).to_uppercase().replace("\\U", "\\u")),
        "mixed" => each(&|at, character| match at % 4 {
            0 => escaped(character),
            1 => every_byte(character),
            2 if character.is_ascii_alphanumeric() => character.to_string(),
            _ => format!("&#{};", u32::from(character)),
        }),
        "html" => each(&|_, character| format!("&#{};", u32::from(character))),
        "html-hex" => each(&|_, character| format!("&#x{:X};", u32::from(character))),
        "utf-16le" => return secret.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "utf-16be" => return secret.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ => secret.to_owned(),
    };
    format!("{AROUND}{text} to me").into_bytes()
}
