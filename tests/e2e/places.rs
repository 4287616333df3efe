//! Placeholders and signatures as a connector uses them: through the SDK, as ordinary text.

use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{
    GITHUB, HOSTILE_EGRESS, HOSTILE_LEAKS, HOSTILE_PLACES, HOSTILE_SIGNATURES, MINIMAL, Shipped,
};
use bulkhead_tests::upstream::upstream;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::canary::{self, AWKWARD, ORDINARY};
use crate::outside::{Laid, bulkhead};

#[tokio::test]
async fn a_connector_that_asks_for_no_secret_imports_nothing_of_them() -> anyhow::Result<()> {
    let imported = |connector: Shipped| async move {
        let path = connector.wasm().display().to_string();
        let ended = bulkhead(&std::env::temp_dir(), &["inspect", &path]).await?;
        let names = ["bulkhead:credentials/store@0.1.0", "bulkhead:credentials/signer@0.1.0"];
        anyhow::Ok(names.map(|name| ended.succeeded().stdout.contains(name)))
    };
    for (connector, expected) in [
        (MINIMAL, [false, false]),
        (GITHUB, [false, false]),
        (HOSTILE_EGRESS, [false, false]),
        (HOSTILE_LEAKS, [false, false]),
        (HOSTILE_PLACES, [true, false]),
        // The signer's errors are those of the store.
        (HOSTILE_SIGNATURES, [true, true]),
    ] {
        assert_eq!(imported(connector).await?, expected, "{}", connector.component);
    }
    Ok(())
}

#[tokio::test]
async fn a_placeholder_becomes_the_secret_on_the_wire_and_nowhere_else() -> anyhow::Result<()> {
    for token in [ORDINARY, AWKWARD] {
        let acme = Acme::start(Options { token: token.to_owned(), busy: None, ..Options::default() }).await?;
        let port = acme.address().port();
        let laid = Laid::new(HOSTILE_PLACES, port, &json!({}))?;
        let url = format!("http://localhost:{port}/v1/echo");
        let input = json!({ "url": url, "headers": [["authorization", "Bearer <secret:token>"]], "full": true });
        let ended = laid.run(&["invoke", ".", "fetch", "--input", &input.to_string()], Some(token)).await?;
        let sent: Vec<_> = acme.requests().into_iter().filter_map(|seen| seen.authorization).collect();
        assert_eq!(sent, [format!("Bearer {token}")]);
        assert!(ended.succeeded().stdout.contains(&"*".repeat(token.len())), "no echo:\n{}", ended.stdout);
        for text in [&ended.stdout, &ended.stderr] {
            assert_eq!(canary::found(token, text.as_bytes()), None, "{text}");
        }
        canary::search(laid.path(), token)?;
        // In another header the same text is denied, with the lines that would declare the place.
        let input = json!({ "url": url, "headers": [["x-note", "<secret:token>"]] });
        let ended = laid.run(&["invoke", ".", "fetch", "--input", &input.to_string()], Some(token)).await?;
        ended.says(&["secret-misplaced", "header:x-note"]);
        assert_eq!(acme.requests().len(), 1, "it was sent");
    }
    Ok(())
}

#[tokio::test]
async fn a_signature_is_made_by_the_host_and_the_connector_holds_a_placeholder() -> anyhow::Result<()> {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let address = upstream(move |mut socket, head| {
        let heads = heads.clone();
        async move {
            // The test is over when nobody listens.
            let _ = heads.send(head);
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await
        }
    })
    .await?;
    let laid = Laid::new(HOSTILE_SIGNATURES, address.port(), &json!({}))?;
    let (key, message) = ("key-of-at-least-8-bytes", "what do ya want for nothing?");
    let url = format!("http://localhost:{}/v1/contacts", address.port());
    let attempts = json!({ "attempts": [
        { "url": url, "headers": [["x-signature", format!("<hmac:token:{message}>")]] },
        { "exit": "tell", "text": format!("<hmac:token:{message}>") },
    ]});
    let ended = laid.run(&["invoke", ".", "attempts", "--input", &attempts.to_string()], Some(key)).await?;
    let told = ended.succeeded().json()?;
    let head = seen.recv().await.unwrap_or_default();
    assert!(head.contains(&format!("x-signature: {SIGNED}\r\n")), "{head}");
    let told = told.pointer("/1/told").and_then(|told| told.as_str()).unwrap_or_default();
    assert!(told.starts_with("bulkhead-") && !told.contains(SIGNED), "{told}");
    Ok(())
}

/// `printf '%s' 'what do ya want for nothing?' | openssl dgst -sha256 -hmac key-of-at-least-8-bytes`
const SIGNED: &str = "52c5a2a3834d5aebd0de7f940863976b68d11bac65ff50764e688c91579c2fd2";
