//! Sends whatever request it is told to (see `tests/hostile/requests`), with signatures wherever the test wants them:
//! `<hmac:NAME:MESSAGE>` and `<hmac512:NAME:MESSAGE>` are HMACs made with the secret of this name, and `<jwt:NAME>` is a token
//! that is signed with it.

#![forbid(unsafe_code)]

use bulkhead_sdk::secrets::{self, Hash};
use hostile_requests::{Fill, Requests, fill};

struct WithSignatures;

type Signatures = Requests<WithSignatures>;

bulkhead_sdk::export!(Signatures: source, actions);

impl Fill for WithSignatures {
    const NAME: &str = "hostile/signatures";

    fn fill(text: &str) -> Result<String, String> {
        fill(text, &["hmac", "hmac512", "jwt"], |word, argument| {
            let (key, message) = argument.split_once(':').unwrap_or((argument, ""));
            let signed = match word {
                "hmac" => secrets::hmac(key, Hash::Sha256, message),
                "hmac512" => secrets::hmac(key, Hash::Sha512, message),
                _ => secrets::jwt(argument),
            };
            signed.map_err(|error| error.to_string())
        })
    }
}
