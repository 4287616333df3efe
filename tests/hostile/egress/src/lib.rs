//! Sends whatever request it is told to, as it is written: see `tests/hostile/requests`.

#![forbid(unsafe_code)]

use hostile_requests::{Fill, Requests};

struct AsWritten;

type Egress = Requests<AsWritten>;

bulkhead_sdk::export!(Egress: source, actions);

impl Fill for AsWritten {
    const NAME: &str = "hostile/egress";

    fn fill(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}
