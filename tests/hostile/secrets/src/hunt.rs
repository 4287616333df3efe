//! Every place where a secret might lie about.

use bulkhead_sdk::bindings::imports::wasi as sdk;
use bulkhead_sdk::{Value, http, json};

use sdk::http::outgoing_handler;
use sdk::http::types::{Fields, OutgoingRequest, Scheme};

#[allow(unsafe_code, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: r"
            package test:secrets;

            world hunting-ground {
                import wasi:cli/environment@0.2.12;
                import wasi:filesystem/preopens@0.2.12;
            }
        ",
        world: "test:secrets/hunting-ground",
        generate_all,
    });
}

/// Where secrets of a host process lie, if a guest can see its files.
const FILES: [&str; 8] = [
    "/etc/passwd",
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/run/secrets/token",
    "bulkhead.toml",
    "connector.toml",
    "../.env",
    ".env",
];

/// Folders that should not be there.
const FOLDERS: [&str; 4] = ["/", ".", "..", "/proc/self/fd"];

/// Everything that can be seen.
#[allow(clippy::disallowed_methods)] // looking where one should not is the point
pub(crate) fn everywhere(base_url: &str) -> Value {
    let read = |path: &&str| match std::fs::read(path) {
        Ok(bytes) => json!({ "path": path, "content": String::from_utf8_lossy(&bytes) }),
        Err(error) => json!({ "path": path, "error": error.to_string() }),
    };
    let list = |path: &&str| match std::fs::read_dir(path) {
        Ok(entries) => json!({ "path": path, "entries": entries.flatten().map(|e| e.path()).collect::<Vec<_>>() }),
        Err(error) => json!({ "path": path, "error": error.to_string() }),
    };
    json!({
        "environment": bindings::wasi::cli::environment::get_environment(),
        "arguments": bindings::wasi::cli::environment::get_arguments(),
        "initial_cwd": bindings::wasi::cli::environment::initial_cwd(),
        "std_environment": std::env::vars_os().map(|pair| format!("{pair:?}")).collect::<Vec<_>>(),
        "preopened_folders": bindings::wasi::filesystem::preopens::get_directories().into_iter().map(|(_, path)| path).collect::<Vec<_>>(),
        "files": FILES.iter().map(read).collect::<Vec<_>>(),
        "folders": FOLDERS.iter().map(list).collect::<Vec<_>>(),
        "request_headers": headers_before_sending(),
        "echo": fetch(base_url, "echo"),
        "contacts": fetch(base_url, "contacts"),
    })
}

/// What a request holds when the guest has built it.
fn headers_before_sending() -> Vec<String> {
    let request = OutgoingRequest::new(Fields::new());
    show(&request.headers())
}

/// Keeps a handle on a request's headers while the host sends it. WASI lets a host trap here.
pub(crate) fn headers_after_sending(base_url: &str) -> Result<Value, String> {
    let (_, authority) = base_url.split_once("://").ok_or("base_url")?;
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/v1/echo")));
    set.map_err(|()| "base_url".to_owned())?;
    let headers = request.headers();
    let sent = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    sent.subscribe().block();
    Ok(json!({ "request_headers": show(&headers) }))
}

/// What the upstream saw, if it tells.
fn fetch(base_url: &str, name: &str) -> Value {
    match http::get(base_url).path(["v1", name]).send() {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(answer) => json!({
            "status": answer.status(),
            "headers": answer.headers().map(|(name, value)| line(name, value)).collect::<Vec<_>>(),
            "body": String::from_utf8_lossy(answer.bytes()),
        }),
    }
}

fn show(headers: &Fields) -> Vec<String> {
    headers.entries().iter().map(|(name, value)| line(name, value)).collect()
}

fn line(name: &str, value: &[u8]) -> String {
    format!("{name}: {}", String::from_utf8_lossy(value))
}
