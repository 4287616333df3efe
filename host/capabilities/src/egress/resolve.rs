//! Asks the resolver which addresses a permitted host stands for. With `transport.rs` the only opener of sockets.

use std::net::IpAddr;
use std::time::Duration;

use bulkhead_core::egress::Host;

use super::Error;

/// Longest wait for the resolver: two of glibc's default attempts.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most addresses looked at of one answer; a large service names about ten.
const MOST_ADDRESSES: usize = 64;

/// Every address of `host`, at least one.
pub(super) async fn addresses(host: &Host) -> Result<Vec<IpAddr>, Error> {
    if let Some(address) = host.literal() {
        return Ok(vec![address]);
    }
    let failed = |source| Error::Resolve { host: host.to_string(), source };
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let lookup = tokio::net::lookup_host((host.to_string(), 0));
    let answer = tokio::time::timeout(PATIENCE, lookup)
        .await
        .map_err(|_| failed(None))?
        .map_err(|source| failed(Some(source)))?;
    let mut addresses: Vec<IpAddr> = answer.map(|socket| socket.ip()).take(MOST_ADDRESSES + 1).collect();
    addresses.dedup();
    // More than can be checked is not cut short: an unchecked address must not be a second answer's first.
    if addresses.is_empty() || addresses.len() > MOST_ADDRESSES { Err(failed(None)) } else { Ok(addresses) }
}
