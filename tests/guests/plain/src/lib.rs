//! A connector built with wit-bindgen alone: the contract needs none of our code.

#[allow(unsafe_code, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: r"
            package test:plain;

            world plain {
                include bulkhead:connector/meta-role@0.1.0;
                include bulkhead:connector/actions-role@0.1.0;
            }
        ",
        world: "test:plain/plain",
        generate_all,
    });

    use super::Plain;
    export!(Plain);
}

use bindings::bulkhead::connector::types::{Error, Kind};
use bindings::exports::bulkhead::connector::{actions, meta};

struct Plain;

impl meta::Guest for Plain {
    fn spec() -> String {
        r#"{"name":"bulkhead/plain"}"#.to_owned()
    }

    fn check(_config: String) -> Result<(), Error> {
        Ok(())
    }
}

impl actions::Guest for Plain {
    fn describe() -> String {
        r#"[{"name":"echo","description":"Returns its input.","input":{},"output":{}}]"#.to_owned()
    }

    fn invoke(name: String, _config: String, input: String, _idempotency_key: String) -> Result<String, Error> {
        if name == "echo" {
            return Ok(input);
        }
        let message = format!("no action `{name}`; there is echo");
        Err(Error { kind: Kind::Permanent, message, retry_after_ms: None, stream_name: None })
    }
}
