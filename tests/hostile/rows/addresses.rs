//! Addresses that are written out. The manifest asks for each, and the grant gives it; only its block is not opened.

use super::registry::{addresses, host};
use super::{ADDRESS, NOT_DECLARED};
use crate::attempt::get;
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege};

/// Rules for addresses in one manifest, which takes 64 in all.
const MOST: usize = 48;

pub(super) fn literals(siege: &Siege) -> anyhow::Result<Row> {
    let port = siege.witness.port();
    let addresses = addresses()?;
    let sitings = addresses.chunks(MOST).map(|addresses| {
        let hosts: Vec<String> = addresses.iter().map(|address| host(*address)).collect();
        let terms = hosts.iter().fold(siege.terms(), |terms, host| terms.opening(host, port, ""));
        let attempts = hosts.iter().map(|host| get(format!("http://{host}:{port}/")).denied(ADDRESS));
        Siting::new(siege, terms, attempts.collect())
    });
    Ok(Row::guest("Every special block and cloud, as a literal", sitings.collect::<Vec<_>>()))
}

/// Opening one block opens no other, and no other spelling of it.
pub(super) fn opened(siege: &Siege) -> Row {
    let port = siege.witness.port();
    let hosts = ["127.0.0.2", "[::ffff:127.0.0.2]", "[64:ff9b::127.0.0.1]", "[::127.0.0.1]", "[::1]", "0.0.0.0"];
    let terms = hosts.iter().fold(siege.terms(), |terms, host| terms.opening(host, port, OPEN));
    let terms =
        terms.opening("127.0.0.1", port, OPEN).opening("[64:ff9b::a9fe:a9fe]", port, "addresses = [\"64:ff9b::/96\"]");
    let mut attempts: Vec<_> = hosts.iter().map(|host| get(format!("http://{host}:{port}/")).denied(ADDRESS)).collect();
    // Behind a translator's prefix that is open, the metadata service is not.
    attempts.push(get(format!("http://[64:ff9b::a9fe:a9fe]:{port}/")).denied(ADDRESS));
    attempts.push(get(format!("http://127.0.0.3:{port}/")).denied(NOT_DECLARED));
    attempts.push(get(format!("http://127.0.0.1:{port}/")).answered(200));
    Row::guest("Other addresses than the block that was opened", [Siting::new(siege, terms, attempts)])
}
