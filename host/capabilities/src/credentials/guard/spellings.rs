//! How a secret may be spelled besides escapes: as it is, in lower case, base64 and what that decodes to, hexadecimal,
//! UTF-16.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::escapes;

/// Every spelling of `value`, each once. Escapes are undone in the value as well: what is looked into may have had them
/// undone, although they are the value's own.
pub(super) fn spellings(value: &str, shortest: usize) -> Vec<Vec<u8>> {
    let mut texts = vec![value.as_bytes().to_vec(), value.to_ascii_lowercase().into_bytes()];
    // A credential for basic authentication is often kept encoded, and echoed decoded.
    texts.extend([STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().filter_map(|e| e.decode(value).ok()));
    for _ in 0..super::LEVELS {
        let undone: Vec<_> = texts.iter().map(|text| undone(text)).collect();
        texts.extend(undone);
        texts.sort();
        texts.dedup();
    }
    let mut all = texts;
    all.extend(hexadecimal(value.as_bytes()));
    all.extend(base64(value.as_bytes()));
    all.push(value.encode_utf16().flat_map(u16::to_le_bytes).collect());
    all.push(value.encode_utf16().flat_map(u16::to_be_bytes).collect());
    all.retain(|spelling| spelling.len() >= shortest);
    all.sort();
    all.dedup();
    all
}

fn undone(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    escapes::undo(text, true, &mut out);
    out
}

fn hexadecimal(value: &[u8]) -> [Vec<u8>; 2] {
    let lower: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    [lower.to_uppercase().into_bytes(), lower.into_bytes()]
}

/// Base64 in both alphabets, at each of the three places a value can have among what stands before it.
fn base64(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let mut padded = vec![0; before];
            padded.extend_from_slice(value);
            let text = engine.encode(&padded).into_bytes();
            // The first characters mix in what stands before the secret, the last one what stands after it.
            let skip = [0, 2, 3].get(before).copied().unwrap_or(0);
            let end = text.len() - usize::from(padded.len() % 3 != 0);
            all.extend(text.get(skip..end).map(<[u8]>::to_vec));
        }
    }
    all
}
