//! The codes of an authenticator application.

use std::time::SystemTime;

use anyhow::Context;
use aws_lc_rs::hmac;

/// RFC 6238, by the clock.
pub(crate) fn code(secret: &str) -> anyhow::Result<String> {
    let mut bits = 0_u64;
    let (mut count, mut bytes) = (0, Vec::new());
    for letter in secret.bytes() {
        let value =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).context("not base 32")?;
        bits = bits << 5 | value as u64;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    let step = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() / 30;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag.last().context("an empty tag")? & 15);
    let four = tag.get(at..at + 4).context("a short tag")?;
    let number = u32::from_be_bytes(four.try_into()?) & 0x7fff_ffff;
    Ok(format!("{:06}", number % 1_000_000))
}
