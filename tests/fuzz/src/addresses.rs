//! Claim: an address that carries another leads nowhere that the other may not lead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_core::address::{Surroundings, forbidden, opened};
use ipnet::IpNet;

/// A way in which an IPv6 address carries an IPv4 address, by name.
pub type Carrier = (&'static str, fn(Ipv4Addr) -> Ipv6Addr);

/// Every well-known way.
pub const CARRIERS: [Carrier; 7] = [
    ("mapped", |v4| v4.to_ipv6_mapped()),
    ("compatible", |v4| after([0; 12], v4)),
    ("translated", |v4| after([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], v4)),
    ("NAT64", |v4| after([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0], v4)),
    ("local NAT64", |v4| after([0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0], v4)),
    ("6to4", |v4| {
        let [a, b, c, d] = v4.octets();
        Ipv6Addr::from([0x20, 0x02, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }),
    // RFC 4380 §4: server 65.54.227.120, no flags, port 40000, and the client, both with every bit turned.
    ("Teredo", |v4| after([0x20, 1, 0, 0, 65, 54, 227, 120, 0, 0, 0x63, 0xbf], Ipv4Addr::from_bits(!v4.to_bits()))),
];

fn after(prefix: [u8; 12], last: Ipv4Addr) -> Ipv6Addr {
    let mut octets = [0; 16];
    for (place, byte) in octets.iter_mut().zip(prefix.into_iter().chain(last.octets())) {
        *place = byte;
    }
    Ipv6Addr::from(octets)
}

/// Whether `blocks` open `address`; then they open what it carries as well.
pub fn opens_both(address: IpAddr, blocks: &[IpNet], surroundings: &Surroundings) -> bool {
    let within = |address: IpAddr| blocks.iter().any(|block| block.contains(&address));
    let open = opened(address, blocks, surroundings);
    if open {
        assert!(within(address) || carried(address).iter().any(|(_, v4)| within(*v4)), "{address} is not named");
        for (name, v4) in carried(address) {
            let harmless = forbidden(v4, surroundings).is_none();
            assert!(harmless || within(v4), "{address} is open, but not the {name} {v4}");
        }
    }
    open
}

/// The IPv4 address that `address` carries, and how, when it is one of the [`CARRIERS`]' own.
pub fn carried(address: IpAddr) -> Vec<(&'static str, IpAddr)> {
    let IpAddr::V6(v6) = address else {
        return Vec::new();
    };
    let octets = v6.octets();
    let windows = octets.windows(4).filter_map(|window| <[u8; 4]>::try_from(window).ok());
    let candidates = windows.flat_map(|window| [Ipv4Addr::from(window), Ipv4Addr::from(window.map(|byte| !byte))]);
    let mut found = Vec::new();
    for v4 in candidates {
        let ways =
            CARRIERS.iter().filter(|(_, carrier)| carrier(v4) == v6 && !v6.is_loopback() && !v6.is_unspecified());
        found.extend(ways.map(|(name, _)| (*name, IpAddr::from(v4))));
    }
    found
}
