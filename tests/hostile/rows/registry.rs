//! The IANA IPv4 and IPv6 Special-Purpose Address Registries, their multicast ranges, and addresses on which clouds answer
//! their own machines.

use std::net::IpAddr;

use ipnet::IpNet;

/// Every block of the two registries. The host's own table is another list, so that a row that is missing there is found.
const REGISTRIES: &str = include_str!("../../../host/core/tests/registries.txt");

/// What stands in neither.
const BLOCKS: [&str; 15] = [
    "224.0.0.0/4",
    "::/96",
    "fec0::/10",
    "ff00::/8",
    // Clouds.
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "169.254.169.254/32",
    "169.254.170.2/32",
    "169.254.170.23/32",
    "fd00:ec2::254/128",
    "fd00:ec2::23/128",
    "fd20:ce::254/128",
    "fd00:42::42/128",
    // Nobody was given anything but 2000::/3.
    "4000::/2",
];

/// The first and the last address of each block, each once.
pub(super) fn addresses() -> anyhow::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for block in REGISTRIES.lines().chain(BLOCKS) {
        let block: IpNet = block.parse()?;
        for address in [block.network(), block.broadcast()] {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

/// An address as a URL has it.
pub(super) fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
