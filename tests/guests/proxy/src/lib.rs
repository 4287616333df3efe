//! Answers every request with `{}`: the least that `wasmtime serve` can run, beside which the API is measured.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Proxy;

wasip2::http::proxy::export!(Proxy);

impl Guest for Proxy {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(answer, Ok(response));
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(b"{}");
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
