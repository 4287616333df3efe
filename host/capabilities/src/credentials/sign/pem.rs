//! Reads a private key out of a PEM text (RFC 7468).
//!
//! Why not a library: every copy of the key has to be wiped, also those that a reader makes on its way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Error;

/// What the label says about the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// PKCS#8 (RFC 5958), any kind of key.
    Pkcs8,
    /// PKCS#1 (RFC 8017), an RSA key.
    Pkcs1,
    /// SEC1 (RFC 5915), a key on an elliptic curve.
    Sec1,
}

/// The one private key in `text`. Parameters of its curve, a certificate and remarks may stand beside it, as `openssl`
/// writes them.
pub(super) fn private_key(text: &str) -> Result<(Form, Zeroizing<Vec<u8>>), Error> {
    let mut found = None;
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, body) = begun.split_once("-----").ok_or(Error::Pem)?;
        let (body, after) = body.split_once("-----END ").ok_or(Error::Pem)?;
        rest = after.strip_prefix(label).and_then(|after| after.strip_prefix("-----")).ok_or(Error::Pem)?;
        let form = match label {
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" => Form::Pkcs1,
            "EC PRIVATE KEY" => Form::Sec1,
            "ENCRYPTED PRIVATE KEY" => return Err(Error::Encrypted),
            other if other.ends_with("PRIVATE KEY") => return Err(Error::Pem),
            _ => continue,
        };
        // How OpenSSL marked an encrypted key before PKCS#8 (RFC 1421 §4.6.1.1).
        if body.contains("ENCRYPTED") {
            return Err(Error::Encrypted);
        }
        if found.replace((form, decode(body)?)).is_some() {
            return Err(Error::Pem);
        }
    }
    found.ok_or(Error::Pem)
}

fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Made as long as it can get: a buffer that grows leaves a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(&*text, &mut bytes).map_err(|_| Error::Pem)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(Form, &[u8]), Error>) {
        let read = private_key(text);
        assert_eq!(read.as_ref().map(|(form, key)| (*form, key.as_slice())), expected.as_ref().copied(), "{text}");
    }

    #[test]
    fn one_private_key_is_read_whatever_stands_beside_it() {
        check("-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n", Ok((Form::Pkcs8, &[1, 2, 3])));
        check(
            "-----BEGIN RSA PRIVATE KEY-----\r\nAQ\r\nID\r\n-----END RSA PRIVATE KEY-----",
            Ok((Form::Pkcs1, &[1, 2, 3])),
        );
        check(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n\
             -----BEGIN EC PRIVATE KEY-----\nAQID\n-----END EC PRIVATE KEY-----\n",
            Ok((Form::Sec1, &[1, 2, 3])),
        );
    }

    #[test]
    fn what_is_not_one_private_key_in_the_open_is_refused() {
        let one = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";
        for text in [
            "",
            "AQID",
            "-----BEGIN PRIVATE KEY-----\nAQID",
            "-----BEGIN PRIVATE KEY-----\nAQ!D\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAQID\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAQID\n-----END OPENSSH PRIVATE KEY-----",
            &format!("{one}{one}"),
        ] {
            check(text, Err(Error::Pem));
        }
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END RSA PRIVATE KEY-----",
        ] {
            check(text, Err(Error::Encrypted));
        }
    }
}
