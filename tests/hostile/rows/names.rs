//! Names that are permitted, and where they lead: a DNS server answers as an attacker would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::PoisonError;

use bulkhead_tests::dns::{Dns, ZONE};

use super::{ADDRESS, registry};
use crate::attempt::{Attempt, get};
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege, Terms};

/// What every name leads to that is to lead somewhere.
const OPENED: &str = "127.0.0.1";
/// Where a listener must stay silent.
const SILENT: &str = "127.0.0.2";

/// Everything below `NAME.bulkhead.test`.
fn below(siege: &Siege, name: &str, grant: &str) -> Terms {
    siege.terms().opening(&format!("*.{name}.{ZONE}"), siege.witness.port(), grant)
}

pub(super) fn special(siege: &Siege) -> anyhow::Result<Row> {
    let mut attempts = Vec::new();
    for (at, address) in registry::addresses()?.into_iter().enumerate() {
        let name = format!("a{at}.special");
        siege.dns.answer(&name, &[&[&address.to_string()]])?;
        attempts.push(get(siege.named(&name, "/")).denied(ADDRESS));
    }
    let siting = Siting::new(siege, below(siege, "special", ""), attempts);
    Ok(Row::guest("Every special block and cloud, as the answer for a name", [siting]))
}

pub(super) fn aliases(siege: &Siege) -> anyhow::Result<Row> {
    let mut attempts = Vec::new();
    for (at, address) in [SILENT, "169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254"].iter().enumerate() {
        siege.dns.answer(&format!("target{at}"), &[&[address]])?;
        siege.dns.alias(&format!("a{at}.alias"), &format!("b{at}.alias"));
        siege.dns.alias(&format!("b{at}.alias"), &format!("target{at}"));
        attempts.push(get(siege.named(&format!("a{at}.alias"), "/")).denied(ADDRESS));
    }
    siege.dns.alias("good.alias", "raw");
    attempts.push(get(siege.named("good.alias", "/")).answered(200));
    Ok(Row::guest("A private address behind two aliases", [Siting::new(siege, below(siege, "alias", OPEN), attempts)]))
}

pub(super) fn mixed(siege: &Siege) -> anyhow::Result<Row> {
    let public = "8.8.8.8";
    let many: Vec<String> = (1..=40).map(|last| format!("8.8.4.{last}")).collect();
    let mut long: Vec<&str> = many.iter().map(String::as_str).collect();
    long.push(SILENT);
    let sets: [&[&str]; 11] = [
        &[OPENED, SILENT],
        &[SILENT, OPENED],
        &[OPENED, public, "169.254.169.254"],
        &[OPENED, public, "10.0.0.1"],
        &[public, SILENT],
        &[OPENED, "::1"],
        &[OPENED, "fd00:ec2::254"],
        &[OPENED, "::ffff:192.168.0.1"],
        &[OPENED, "64:ff9b::a00:1"],
        &[OPENED, OPENED, SILENT],
        &long,
    ];
    let mut attempts = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        siege.dns.answer(&format!("m{at}.mixed"), &[set])?;
        attempts.push(get(siege.named(&format!("m{at}.mixed"), "/")).denied(ADDRESS));
    }
    let flood: Vec<String> = (1..=66).map(|last| format!("127.0.0.{last}")).collect();
    siege.dns.answer("flood.mixed", &[&flood.iter().map(String::as_str).collect::<Vec<_>>()])?;
    attempts.push(get(siege.named("flood.mixed", "/")).failed("egress-resolve", "Dns"));
    siege.dns.answer("good.mixed", &[&[OPENED]])?;
    attempts.push(get(siege.named("good.mixed", "/")).answered(200));
    Ok(Row::guest("One private address among others", [Siting::new(siege, below(siege, "mixed", OPEN), attempts)]))
}

/// The first answer is what was opened, and the next ones are not. The upstream hangs up after each answer, so that no
/// connection is left to be used again.
pub(super) fn rebinding(siege: &Siege) -> anyhow::Result<Row> {
    let later: [&[&str]; 6] =
        [&[SILENT], &["169.254.169.254"], &["10.0.0.1"], &[OPENED, SILENT], &["::1"], &["::ffff:127.0.0.2"]];
    let mut attempts = Vec::new();
    for (at, later) in later.iter().enumerate() {
        let name = format!("r{at}.rebinding");
        siege.dns.answer(&name, &[&[OPENED], later])?;
        attempts.push(get(siege.named(&name, "/first")).answered(200));
        attempts.push(get(siege.named(&name, "/second")).denied(ADDRESS));
    }
    siege.dns.answer("to-and-fro.rebinding", &[&[OPENED], &[SILENT], &[OPENED], &[SILENT]])?;
    for path in ["/1", "/2", "/3", "/4"] {
        let request = get(siege.named("to-and-fro.rebinding", path));
        attempts.push(if path == "/1" || path == "/3" { request.answered(200) } else { request.denied(ADDRESS) });
    }
    let siting = Siting::new(siege, below(siege, "rebinding", OPEN), attempts);
    Ok(Row::guest("Rebinding: what was opened first, something private next", [siting]))
}

pub(super) fn own(siege: &Siege) -> anyhow::Result<Row> {
    let mut attempts = Vec::new();
    for (at, address) in siege.own.iter().chain(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).enumerate() {
        let name = format!("o{at}.own");
        siege.dns.answer(&name, &[&[&address.to_string()]])?;
        attempts.push(get(siege.named(&name, "/")).denied(ADDRESS));
    }
    let siting = Siting::new(siege, below(siege, "own", ""), attempts);
    Ok(Row::guest("An address of this machine's own interfaces", [siting]))
}

/// What the operator keeps from every connector, although a grant opens it, in every form that carries it.
pub(super) fn reserved(siege: &Siege) -> anyhow::Result<Row> {
    let mut terms = below(
        siege,
        "reserved",
        "addresses = [\"127.0.0.0/8\", \"198.41.0.0/24\", \"2a0d:1::/32\", \"64:ff9b::/96\", \"2002::/16\", \"::/96\"]",
    );
    terms.network.reserved = vec!["127.0.0.2/31", "198.41.0.0/24", "2a0d:1::/32"];
    let carried = ["::ffff:198.41.0.4", "64:ff9b::198.41.0.4", "2002:c629:4::1", "::198.41.0.4", "2a0d:1::1"];
    let mut attempts = Vec::new();
    for (at, address) in [SILENT, "127.0.0.3", "198.41.0.4"].iter().chain(&carried).enumerate() {
        let name = format!("k{at}.reserved");
        siege.dns.answer(&name, &[&[address]])?;
        attempts.push(get(siege.named(&name, "/")).denied(ADDRESS));
    }
    siege.dns.answer("good.reserved", &[&[OPENED]])?;
    attempts.push(get(siege.named("good.reserved", "/")).answered(200));
    Ok(Row::guest("What the operator reserved, although a grant opens it", [Siting::new(siege, terms, attempts)]))
}

/// A network whose translator reaches IPv4 under 2a00:1:2::/96, as it tells whoever asks (RFC 7050).
pub(super) async fn translated(siege: &Siege) -> anyhow::Result<Row> {
    let behind = |v4: Ipv4Addr| {
        let [a, b, c, d] = v4.octets().map(u16::from);
        Ipv6Addr::new(0x2a00, 1, 2, 0, 0, 0, a << 8 | b, c << 8 | d)
    };
    let dns = Dns::start(&[("api", OPENED), ("ipv4only.arpa.", "2a00:1:2::c000:aa")]).await?;
    let own = siege.own.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let inside = [[169, 254, 169, 254], [10, 0, 0, 1], [127, 0, 0, 2], [168, 63, 129, 16], [198, 41, 0, 4]];
    let mut attempts = Vec::new();
    for (at, v4) in inside.map(Ipv4Addr::from).into_iter().chain(own).enumerate() {
        for kind in ["closed", "open"] {
            let name = format!("t{at}.{kind}");
            dns.answer(&name, &[&[&behind(v4).to_string()]])?;
            attempts.push(get(siege.named(&name, "/")).denied(ADDRESS));
        }
    }
    // To open the prefix is not to open what lies behind it.
    let mut terms = below(siege, "closed", "");
    terms = terms.opening(&format!("*.open.{ZONE}"), siege.witness.port(), "addresses = [\"2a00:1:2::/96\"]");
    terms.network.reserved = vec!["198.41.0.0/24"];
    Ok(elsewhere(siege, dns, terms, "Private addresses behind the network's own NAT64 prefix", attempts))
}

/// A network whose resolver does not say whether it has a translator.
pub(super) async fn untold(siege: &Siege) -> anyhow::Result<Row> {
    let dns = Dns::start(&[("api", OPENED), ("x.untold", "2a00:1:2::a9fe:a9fe")]).await?;
    dns.fail("ipv4only.arpa.");
    let attempts = vec![get(siege.named("x.untold", "/")).failed("egress-resolve", "Dns")];
    Ok(elsewhere(
        siege,
        dns,
        below(siege, "untold", ""),
        "An IPv6 address where the NAT64 prefix is kept secret",
        attempts,
    ))
}

/// A row on a network with its own DNS server.
fn elsewhere(siege: &Siege, dns: Dns, mut terms: Terms, name: &'static str, attempts: Vec<Attempt>) -> Row {
    terms.network.dns = vec![dns.address()];
    siege.other_dns.lock().unwrap_or_else(PoisonError::into_inner).push(dns);
    Row::guest(name, [Siting::new(siege, terms, attempts)])
}
