//! A proxy in the host's environment. Only a process has one, so the program is run as people run it.

use super::{ADDRESS, NOT_DECLARED};
use crate::attempt::get;
use crate::row::{Row, Siting, Trial};
use crate::siege::Siege;

/// What programs and libraries look at.
const VARIABLES: [&str; 8] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "FTP_PROXY", "CGI_HTTP_PROXY"];

pub(super) fn environment(siege: &Siege) -> Row {
    let port = siege.witness.port();
    let proxy = format!("http://127.0.0.2:{port}");
    let attempts = vec![
        get(siege.raw("/past-the-proxy")).answered(200),
        get(siege.api("/v1/contacts?page=2")).answered(200),
        get(siege.api("/v1/admin/export")).denied(NOT_DECLARED),
        get(format!("{proxy}/")).denied(ADDRESS),
    ];
    let siting = Siting::new(siege, siege.terms().opening("127.0.0.2", port, ""), attempts);
    let environment = VARIABLES.iter().map(|variable| (*variable, proxy.clone())).collect();
    Row { name: "HTTP_PROXY and its like in the host's environment", trial: Trial::Program(environment, siting) }
}
