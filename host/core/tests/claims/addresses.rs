//! Addresses that carry other addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_core::address::{Surroundings, forbidden, is_special, opened};
use ipnet::{IpNet, Ipv6Net};
use proptest::prelude::*;

use crate::fuzz::addresses::{CARRIERS, opens_both};

/// An address that is special, as often as not.
fn v4() -> impl Strategy<Value = Ipv4Addr> {
    let known = prop::sample::select(vec![
        [169, 254, 169, 254],
        [127, 0, 0, 1],
        [10, 0, 0, 1],
        [192, 168, 1, 1],
        [100, 64, 0, 1],
        [168, 63, 129, 16],
        [8, 8, 8, 8],
    ]);
    // Zeros are no address that anything carries: `::1` is loopback, and carries nothing.
    prop_oneof![known.prop_map(Ipv4Addr::from), any::<Ipv4Addr>()].prop_filter("zeros", |v4| v4.octets()[0] != 0)
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    let known = prop::sample::select(vec![0xfe80, 0xfd00, 0xfc00, 0xff02, 0x2001, 0x2002, 0x2a00, 0x0064, 0]);
    (known, any::<u128>(), 0u32..=112)
        .prop_map(|(first, rest, zeros)| Ipv6Addr::from_bits(first << 112 | rest >> 16 >> zeros))
}

/// Blocks that an operator might open.
fn blocks() -> impl Strategy<Value = Vec<IpNet>> {
    let known = prop::sample::select(vec![
        "::/0",
        "0.0.0.0/1",
        "127.0.0.0/8",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "::/96",
        "::ffff:0:0/96",
        "10.0.0.0/8",
        "169.254.169.254/32",
        "2a00:1:2::/96",
    ]);
    prop::collection::vec(known.prop_map(|text| text.parse().unwrap()), 0..3)
}

/// `v4` under a translation prefix of `length` (RFC 6052 §2.2), and that prefix.
fn translated(v4: Ipv4Addr, length: u8) -> (Ipv6Addr, Ipv6Net) {
    let prefix: Ipv6Net = Ipv6Net::new("2a00:1:2:3:4:5:6:7".parse().unwrap(), length).unwrap().trunc();
    let mut octets = prefix.network().octets();
    let mut at = usize::from(length) / 8;
    for byte in v4.octets() {
        // The ninth octet is always zero.
        at += usize::from(at == 8);
        octets[at] = byte;
        at += 1;
    }
    (octets.into(), prefix)
}

const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_the_standard_library_calls_special_is_forbidden(v4 in v4(), v6 in v6()) {
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!special || is_special(v4.into()), "{}", v4);
        let special = v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unique_local()
            || v6.is_unicast_link_local();
        prop_assert!(!special || is_special(v6.into()), "{}", v6);
    }

    #[test]
    fn whatever_carries_an_ipv4_address_in_a_well_known_way_is_forbidden(v4 in v4()) {
        for (name, carrier) in CARRIERS {
            prop_assert!(is_special(carrier(v4).into()), "{} {}", name, carrier(v4));
        }
    }

    #[test]
    fn a_special_address_behind_a_translator_is_forbidden(v4 in v4(), length in prop::sample::select(&LENGTHS)) {
        let (address, prefix) = translated(v4, length);
        let surroundings = Surroundings { nat64: vec![prefix], ..Surroundings::default() };
        prop_assert_eq!(forbidden(address.into(), &surroundings), forbidden(v4.into(), &surroundings));
        let reserving = Surroundings { reserved: vec![IpNet::from(IpAddr::from(v4))], ..surroundings };
        prop_assert!(reserving.reserves(address.into()));
    }

    #[test]
    fn opening_what_carries_an_address_does_not_open_the_address(v4 in v4(), blocks in blocks()) {
        for (_, carrier) in CARRIERS {
            opens_both(carrier(v4).into(), &blocks, &Surroundings::default());
        }
        opens_both(v4.into(), &blocks, &Surroundings::default());
    }

    #[test]
    fn opening_a_translators_prefix_does_not_open_what_is_behind_it(
        v4 in v4(), length in prop::sample::select(&LENGTHS), blocks in blocks(),
    ) {
        let (address, prefix) = translated(v4, length);
        let surroundings = Surroundings { nat64: vec![prefix], ..Surroundings::default() };
        let mut blocks = blocks;
        blocks.push(prefix.into());
        let v4 = IpAddr::from(v4);
        let within = blocks.iter().any(|block| block.contains(&v4));
        prop_assert_eq!(opened(address.into(), &blocks, &surroundings), within || !is_special(v4));
    }

    #[test]
    fn no_carrier_leads_to_what_the_operator_reserved(v4 in v4()) {
        let surroundings = Surroundings { reserved: vec![IpNet::from(IpAddr::from(v4))], ..Surroundings::default() };
        for (name, carrier) in CARRIERS {
            prop_assert!(surroundings.reserves(carrier(v4).into()), "{} {}", name, carrier(v4));
        }
    }

    #[test]
    fn no_carrier_leads_to_this_machine(v4 in v4(), blocks in blocks()) {
        let surroundings = Surroundings { own: vec![v4.into()], ..Surroundings::default() };
        for (_, carrier) in CARRIERS {
            opens_both(carrier(v4).into(), &blocks, &surroundings);
        }
    }
}

#[test]
fn every_reading_of_the_prefix_for_local_translators_has_to_be_open() {
    let blocks: Vec<IpNet> = vec!["64:ff9b:1::/48".parse().unwrap()];
    let check = |address: &str, expected| {
        let address = address.parse().unwrap();
        assert_eq!(opened(address, &blocks, &Surroundings::default()), expected, "{address}");
    };
    check("64:ff9b:1::8.8.8.8", true);
    check("64:ff9b:1::169.254.169.254", false);
    // The metadata service under a prefix of 48, 56 and 64 bits, with a public address where one of 96 bits would look.
    check("64:ff9b:1:a9fe:a9:fe00:808:808", false);
    check("64:ff9b:1:a9:fe:a9fe:808:808", false);
    check("64:ff9b:1:0:a9:fea9:fe08:808", false);
}
