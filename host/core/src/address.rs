//! Which addresses no connector may reach unless an operator opened them.
//!
//! Why: a permitted name can resolve to the metadata service or to the operator's own network (SSRF). Every resolved
//! address is judged here before it is dialled.
//! Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries as of 2026-11, their multicast ranges, and the
//! metadata addresses of the large clouds, which mostly lie inside those blocks and are named for the message.
//! Invariants: an IPv6 address that carries an IPv4 address is judged as both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv6Net};

/// Single addresses that clouds serve credentials on.
const METADATA: &[&str] = &[
    "169.254.169.254/32", // AWS, Azure, Google Cloud, DigitalOcean, Oracle, OpenStack
    "169.254.170.2/32",   // AWS ECS task credentials
    "169.254.170.23/32",  // AWS EKS pod identity
    "168.63.129.16/32",   // Azure platform services
    "100.100.100.200/32", // Alibaba Cloud
    "192.0.0.192/32",     // Oracle Cloud
    "fd00:ec2::254/128",  // AWS
    "fd00:ec2::23/128",   // AWS EKS pod identity
    "fd20:ce::254/128",   // Google Cloud
    "fd00:42::42/128",    // Scaleway
];

/// Blocks, with the registry's own name for each.
const BLOCKS: &[(&str, &str)] = &[
    ("0.0.0.0/8", "\"this network\""),
    ("10.0.0.0/8", "private use"),
    ("100.64.0.0/10", "shared address space"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link local"),
    ("172.16.0.0/12", "private use"),
    ("192.0.0.0/24", "IETF protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112-v4"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "deprecated 6to4 relay anycast"),
    ("192.168.0.0/16", "private use"),
    ("192.175.48.0/24", "direct delegation AS112 service"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified address"),
    ("::1/128", "loopback address"),
    ("::/96", "IPv4-compatible address"),
    ("::ffff:0:0/96", "IPv4-mapped address"),
    ("::ffff:0:0:0/96", "IPv4-translated address"),
    ("64:ff9b::/96", "IPv4-IPv6 translation"),
    ("64:ff9b:1::/48", "IPv4-IPv6 translation"),
    ("100::/64", "discard-only address block"),
    ("100:0:0:1::/64", "dummy IPv6 prefix"),
    ("2001::/23", "IETF protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "direct delegation AS112 service"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing (SRv6) SIDs"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local unicast"),
    ("fec0::/10", "deprecated site-local"),
    ("ff00::/8", "multicast"),
];

/// What no table can know: which addresses belong to this machine and its operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Addresses of this machine's own interfaces.
    pub own: Vec<IpAddr>,
    /// Blocks that the operator names as its own.
    pub reserved: Vec<IpNet>,
    /// Prefixes under which a translator reaches IPv4 addresses (RFC 6052).
    pub nat64: Vec<Ipv6Net>,
}

impl Surroundings {
    /// Whether the operator keeps `address`, or one that it carries, from every connector, whatever a grant says.
    pub fn reserves(&self, address: IpAddr) -> bool {
        let within = |address: IpAddr| self.reserved.iter().any(|block| block.contains(&address));
        within(address) || self.carried(address).into_iter().any(|v4| within(v4.into()))
    }

    /// The IPv4 addresses that the network's translators reach under `address`.
    fn translated(&self, address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
        let prefixes = self.nat64.iter().filter(move |prefix| prefix.contains(&address));
        prefixes.filter_map(move |prefix| embedded(address, prefix.prefix_len()))
    }

    /// The IPv4 addresses that `address` carries, in every way in which a tunnel or a translator could read it.
    fn carried(&self, address: IpAddr) -> Vec<Ipv4Addr> {
        let IpAddr::V6(v6) = address else {
            return Vec::new();
        };
        let mut carried: Vec<Ipv4Addr> = self.translated(v6).collect();
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = v6.octets();
        let last = Ipv4Addr::from_bits(v6.to_bits() as u32);
        match [b0, b1, b2, b3, b4, b5] {
            [0x20, 0x02, ..] => carried.push(Ipv4Addr::new(b2, b3, b4, b5)),
            // Teredo: the server's address, and the client's with every bit turned (RFC 4380 §4).
            [0x20, 0x01, 0, 0, ..] => {
                carried.extend([Ipv4Addr::new(b4, b5, b6, b7), Ipv4Addr::from_bits(!last.to_bits())])
            }
            [0, 0x64, 0xff, 0x9b, 0, 1] => {
                // How long a translator's own prefix is under this one is nowhere said (RFC 8215 §3). Zeros are no address.
                let shorter = [48, 56, 64].into_iter().filter_map(|length| embedded(v6, length));
                carried.extend(shorter.filter(|v4| v4.octets()[0] != 0).chain([last]));
            }
            [0, 0x64, 0xff, 0x9b, ..] => carried.push(last),
            [0, 0, 0, 0, ..] if !v6.is_loopback() && !v6.is_unspecified() => carried.push(last),
            _ => {}
        }
        carried
    }
}

/// Whether an address is one of the special blocks, whatever surrounds the machine.
pub fn is_special(address: IpAddr) -> bool {
    special(address).is_some()
}

/// Why an address may not be dialled: the registry's name of the block it lies in, or whose it is. `None` when it is an
/// ordinary public address.
pub fn forbidden(address: IpAddr, surroundings: &Surroundings) -> Option<&'static str> {
    if surroundings.reserves(address) {
        return Some("reserved by the operator");
    }
    if let Some(name) = special(address) {
        return Some(name);
    }
    if surroundings.own.contains(&address) {
        return Some("this machine's own address");
    }
    let IpAddr::V6(v6) = address else {
        return None;
    };
    surroundings.translated(v6).find_map(|v4| forbidden(v4.into(), surroundings))
}

/// The IPv4 address that an IPv6 address under a translation prefix of this length carries (RFC 6052 §2.2).
fn embedded(address: Ipv6Addr, prefix_len: u8) -> Option<Ipv4Addr> {
    let [.., b4, b5, b6, b7, _, b9, b10, b11, b12, b13, b14, b15] = address.octets();
    let octets = match prefix_len {
        32 => [b4, b5, b6, b7],
        40 => [b5, b6, b7, b9],
        48 => [b6, b7, b9, b10],
        56 => [b7, b9, b10, b11],
        64 => [b9, b10, b11, b12],
        96 => [b12, b13, b14, b15],
        _ => return None,
    };
    Some(Ipv4Addr::from(octets))
}

/// The translation prefix under which `address` carries one of the two well-known IPv4 addresses that a resolver is asked
/// for to find it (RFC 7050 §3).
pub fn translation_prefix(address: Ipv6Addr) -> Option<Ipv6Net> {
    const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
    [96, 64, 56, 48, 40, 32]
        .into_iter()
        .find(|length| embedded(address, *length).is_some_and(|v4| WELL_KNOWN.contains(&v4)))
        .and_then(|length| Ipv6Net::new(address, length).ok())
        .map(|net| net.trunc())
}

/// The name of the special block that `address` lies in.
fn special(address: IpAddr) -> Option<&'static str> {
    /// Both tables, read once. The narrower metadata rows come first, for the better message.
    static TABLE: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
        let metadata = METADATA.iter().map(|block| (*block, "cloud metadata service"));
        let rows = metadata.chain(BLOCKS.iter().copied());
        rows.filter_map(|(block, name)| block.parse().ok().map(|block| (block, name))).collect()
    });
    if let Some((_, name)) = TABLE.iter().find(|(block, _)| block.contains(&address)) {
        return Some(name);
    }
    match address {
        // IANA has given out nothing but 2000::/3 for global unicast (RFC 4291 §2.4).
        IpAddr::V6(v6) if v6.octets()[0] >> 5 != 1 => Some("not global unicast"),
        _ => None,
    }
}

/// What an operator has to open before `address` may be dialled although it is forbidden.
///
/// An IPv4-mapped address is the IPv4 address. Any other that carries IPv4 addresses is several destinations: a translation
/// prefix that is opened does not open the metadata service behind it.
pub fn destinations(address: IpAddr, surroundings: &Surroundings) -> Vec<IpAddr> {
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return vec![v4.into()];
    }
    let carried = surroundings.carried(address).into_iter().map(IpAddr::from);
    let closed = carried.filter(|v4| forbidden(*v4, surroundings).is_some());
    std::iter::once(address).chain(closed).collect()
}

/// Whether an operator's `opened` blocks let `address` through although it is forbidden.
pub fn opened(address: IpAddr, opened: &[IpNet], surroundings: &Surroundings) -> bool {
    destinations(address, surroundings).iter().all(|address| opened.iter().any(|block| block.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_a_block() {
        for (block, _) in BLOCKS {
            assert!(block.parse::<IpNet>().is_ok_and(|net| net.trunc() == net), "{block}");
        }
        for block in METADATA {
            assert!(block.parse::<IpNet>().is_ok(), "{block}");
        }
    }

    /// Every address block of the two registries, whether "globally reachable" or not.
    const REGISTRIES: &str = include_str!("../tests/registries.txt");

    #[test]
    fn every_row_of_the_registries_is_forbidden_from_its_first_address_to_its_last() {
        for row in REGISTRIES.lines() {
            let block: IpNet = row.parse().unwrap();
            assert!(special(block.network()).is_some(), "{row}");
            assert!(special(block.broadcast()).is_some(), "{row}");
        }
    }

    #[test]
    fn special_addresses_are_forbidden_by_name() {
        for (address, name) in [
            ("127.0.0.1", "loopback"),
            ("10.1.2.3", "private use"),
            ("169.254.169.254", "cloud metadata service"),
            ("168.63.129.16", "cloud metadata service"),
            ("169.254.1.1", "link local"),
            ("100.64.0.1", "shared address space"),
            ("0.0.0.0", "\"this network\""),
            ("255.255.255.255", "reserved"),
            ("::1", "loopback address"),
            ("::ffff:8.8.8.8", "IPv4-mapped address"),
            ("64:ff9b::a00:1", "IPv4-IPv6 translation"),
            ("2002:7f00:1::", "6to4"),
            ("2001::1", "IETF protocol assignments"),
            ("fd00:ec2::254", "cloud metadata service"),
            ("fe80::1", "link-local unicast"),
        ] {
            assert_eq!(special(address.parse().unwrap()), Some(name), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_not() {
        for address in ["8.8.8.8", "140.82.121.6", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert_eq!(special(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn what_belongs_to_this_machine_or_its_operator_is_forbidden() {
        let surroundings = Surroundings {
            own: vec!["198.41.0.4".parse().unwrap()],
            reserved: vec!["199.9.14.0/24".parse().unwrap()],
            nat64: vec!["2a00:1:2::/96".parse().unwrap(), "2a01:1::/32".parse().unwrap()],
        };
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(forbidden(address.parse().unwrap(), &surroundings), expected, "{address}");
        };
        check("198.41.0.4", Some("this machine's own address"));
        check("199.9.14.201", Some("reserved by the operator"));
        check("198.41.0.5", None);
        check("2a00:1:2::a9fe:a9fe", Some("cloud metadata service"));
        check("2a00:1:2::c629:4", Some("this machine's own address"));
        check("2a00:1:2::808:808", None);
        check("2a01:1:7f00:1::", Some("loopback"));
        check("2a01:1:808:808::", None);
    }

    #[test]
    fn a_translation_prefix_is_found_from_the_well_known_addresses() {
        // The examples of RFC 6052 §2.4, with 192.0.0.170 in place of theirs.
        for (address, prefix) in [
            ("2001:db8:c000:aa::", "2001:db8::/32"),
            ("2001:db8:1c0:0:aa::", "2001:db8:100::/40"),
            ("2001:db8:122:c000:0:aa00::", "2001:db8:122::/48"),
            ("2001:db8:122:3c0:0:aa::", "2001:db8:122:300::/56"),
            ("2001:db8:122:344:c0:0:aa00:0", "2001:db8:122:344::/64"),
            ("2001:db8:122:344::192.0.0.171", "2001:db8:122:344::/96"),
        ] {
            assert_eq!(translation_prefix(address.parse().unwrap()), Some(prefix.parse().unwrap()), "{address}");
        }
        assert_eq!(translation_prefix("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn an_operator_opens_exactly_the_blocks_named() {
        let check = |address: &str, blocks: &[&str], expected| {
            let surroundings = Surroundings {
                own: vec!["198.41.0.4".parse().unwrap()],
                nat64: vec!["2a00:1:2::/96".parse().unwrap()],
                ..Surroundings::default()
            };
            let blocks: Vec<IpNet> = blocks.iter().map(|block| block.parse().unwrap()).collect();
            assert_eq!(opened(address.parse().unwrap(), &blocks, &surroundings), expected, "{address} {blocks:?}");
        };
        check("127.0.0.1", &["127.0.0.0/8"], true);
        check("::ffff:127.0.0.1", &["127.0.0.0/8"], true);
        check("64:ff9b::7f00:1", &["127.0.0.0/8"], false);
        check("::1", &["127.0.0.0/8"], false);
        check("127.0.0.1", &[], false);
        check("64:ff9b::808:808", &["64:ff9b::/96"], true);
        check("64:ff9b::a9fe:a9fe", &["64:ff9b::/96"], false);
        check("64:ff9b::a9fe:a9fe", &["64:ff9b::/96", "169.254.169.254/32"], true);
        check("64:ff9b::c629:4", &["64:ff9b::/96"], false);
        check("2a00:1:2::a9fe:a9fe", &["2a00:1:2::/96"], false);
        check("2002:a9fe:a9fe::1", &["2002::/16"], false);
        check("2001:0:4136:e378:0:63bf:5601:5601", &["2001::/32"], false);
        check("2001:0:a00:1:0:63bf:f7f7:f7f7", &["2001::/32"], false);
        check("2001:0:4136:e378:0:63bf:f7f7:f7f7", &["2001::/32"], true);
    }

    #[test]
    fn what_the_operator_reserved_is_reserved_in_every_form_that_carries_it() {
        let surroundings = Surroundings {
            reserved: vec!["199.9.14.0/24".parse().unwrap()],
            nat64: vec!["2a00:1:2::/96".parse().unwrap()],
            ..Surroundings::default()
        };
        let reserves = |address: &str| surroundings.reserves(address.parse().unwrap());
        for form in ["199.9.14.201", "::ffff:199.9.14.201", "::199.9.14.201", "::ffff:0:199.9.14.201"] {
            assert!(reserves(form), "{form}");
        }
        for form in ["64:ff9b::199.9.14.201", "2a00:1:2::199.9.14.201", "2002:c709:ec9::1"] {
            assert!(reserves(form), "{form}");
        }
        assert!(!reserves("64:ff9b::199.9.15.201") && !reserves("2a00:1::199.9.14.201"));
    }
}
