//! Asks which addresses a permitted host stands for, and which addresses are this machine's own.
//!
//! Why: whoever answers for a name chooses where a request goes. Invariants: 1. a name is asked for as it stands, fully
//! qualified: no search domain can turn it into another; 2. every address of the answer is handed on, none is left out;
//! 3. an answer too long to be checked whole is no answer.
//! Never: judging addresses; the permit does. With `transport.rs` the only opener of sockets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_core::address::{Surroundings, is_special, translation_prefix};
use bulkhead_core::egress::{DnsName, Host};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use ipnet::{IpNet, Ipv6Net};
use tokio::sync::OnceCell;

use super::Error;

/// Longest wait for one server's answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Further attempts before a name counts as not resolvable.
const ATTEMPTS: usize = 1;
/// Most addresses looked at of one answer; a large service names about ten.
const MOST_ADDRESSES: usize = 64;
/// Names whose answers are kept, each for as long as it says, at most [`LONGEST_KEPT`].
const MOST_KEPT: u64 = 4096;
/// Longest that an answer is kept, whatever it says: a withdrawn address should not be dialled for a day.
const LONGEST_KEPT: Duration = Duration::from_secs(300);
/// How long the same answer is used without another look at the library's cache, which costs as much as the rest of the
/// gate. Never longer than the answer itself is good.
const AT_HAND: Duration = Duration::from_secs(1);
/// Most answers at hand.
const MOST_AT_HAND: usize = 256;
/// How long a list of this machine's own addresses is good. Interfaces change seldom.
const OWN_GOOD_FOR: Duration = Duration::from_secs(10);
/// The name that a translating resolver answers with its prefix (RFC 7050).
const TRANSLATED: &str = "ipv4only.arpa.";

/// A resolver with its cache, and what it knows of this machine's network.
pub struct Resolver {
    dns: TokioResolver,
    at_hand: Mutex<HashMap<DnsName, (Instant, Vec<IpAddr>)>>,
    reserved: Vec<IpNet>,
    own: Mutex<Option<(Instant, Vec<IpAddr>)>>,
    nat64: OnceCell<Vec<Ipv6Net>>,
}

/// The resolver could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the resolver could not be set up: {0}")]
pub struct Unavailable(String);

impl Resolver {
    /// A resolver that asks the servers of the system's configuration (`/etc/resolv.conf`) and its hosts file.
    /// `reserved` are blocks that the operator names as its own.
    pub fn system(reserved: Vec<IpNet>) -> Result<Self, Unavailable> {
        let unavailable = |error: &dyn std::fmt::Display| Unavailable(error.to_string());
        let (system, _) = hickory_resolver::system_conf::read_system_conf().map_err(|error| unavailable(&error))?;
        Self::asking(system.name_servers().to_vec(), reserved)
    }

    /// A resolver that asks exactly these servers, over UDP and TCP.
    pub fn with_servers(servers: &[SocketAddr], reserved: Vec<IpNet>) -> Result<Self, Unavailable> {
        let server = |address: &SocketAddr| {
            let with_port = |mut connection: ConnectionConfig| {
                connection.port = address.port();
                connection
            };
            let connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
            NameServerConfig::new(address.ip(), true, connections)
        };
        Self::asking(servers.iter().map(server).collect(), reserved)
    }

    fn asking(servers: Vec<NameServerConfig>, reserved: Vec<IpNet>) -> Result<Self, Unavailable> {
        // Without a domain and a search list: names are asked for as they stand.
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut options = ResolverOpts::default();
        options.timeout = PATIENCE;
        options.attempts = ATTEMPTS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = MOST_KEPT;
        options.positive_max_ttl = Some(LONGEST_KEPT);
        options.negative_max_ttl = Some(LONGEST_KEPT);
        options.case_randomization = true;
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| Unavailable(error.to_string()))?;
        Ok(Self { dns, at_hand: Mutex::default(), reserved, own: Mutex::new(None), nat64: OnceCell::new() })
    }

    /// Every address of `host`, at least one.
    pub(super) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Error> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        if let Some((until, addresses)) = self.at_hand().get(name)
            && *until > Instant::now()
        {
            return Ok(addresses.clone());
        }
        let failed = |reason: String| Error::Resolve { host: host.to_string(), reason };
        let answer = self.dns.lookup_ip(qualified(name).map_err(failed)?).await;
        let answer = answer.map_err(|error| failed(plain(&error)))?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in answer.iter() {
            if addresses.len() <= MOST_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses.len() {
            0 => Err(failed("the answer has no address".to_owned())),
            // More than can be checked is not cut short: an unchecked address must not be a second answer's first.
            count if count > MOST_ADDRESSES => Err(failed("the answer has too many addresses".to_owned())),
            _ => {
                let mut at_hand = self.at_hand();
                if at_hand.len() >= MOST_AT_HAND {
                    at_hand.clear();
                }
                let until = answer.valid_until().min(Instant::now() + AT_HAND);
                at_hand.insert(name.clone(), (until, addresses.clone()));
                Ok(addresses)
            }
        }
    }

    fn at_hand(&self) -> MutexGuard<'_, HashMap<DnsName, (Instant, Vec<IpAddr>)>> {
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of this machine's network, for judging `addresses`. Not knowing is an error, never an empty list.
    pub(super) async fn surroundings(&self, host: &Host, addresses: &[IpAddr]) -> Result<Surroundings, Error> {
        let failed = |reason: String| Error::Resolve { host: host.to_string(), reason };
        let own = self.own().map_err(|error| failed(format!("this machine's addresses cannot be read: {error}")))?;
        // What is special already needs no second reason.
        let nat64 = if addresses.iter().any(|address| address.is_ipv6() && !is_special(*address)) {
            self.translation_prefixes().await.map_err(|error| failed(format!("the translator's prefix: {error}")))?
        } else {
            Vec::new()
        };
        Ok(Surroundings { own, reserved: self.reserved.clone(), nat64 })
    }

    /// Addresses of this machine's interfaces.
    fn own(&self) -> std::io::Result<Vec<IpAddr>> {
        let mut kept = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, own)) = &*kept
            && read.elapsed() < OWN_GOOD_FOR
        {
            return Ok(own.clone());
        }
        let own: Vec<IpAddr> = if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect();
        *kept = Some((Instant::now(), own.clone()));
        Ok(own)
    }

    /// Prefixes under which the network's translator reaches IPv4 (RFC 7050). Asked for once; an answer that there are
    /// none is an answer, and a failure is asked for again.
    async fn translation_prefixes(&self) -> Result<Vec<Ipv6Net>, String> {
        let discover = async {
            let answer = match self.dns.lookup(TRANSLATED, RecordType::AAAA).await {
                Ok(answer) => answer,
                Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
                Err(error) => return Err(plain(&error)),
            };
            let found = answer.answers().iter().filter_map(|record| match &record.data {
                RData::AAAA(address) => translation_prefix(address.0),
                _ => None,
            });
            let mut found: Vec<Ipv6Net> = found.collect();
            found.dedup();
            Ok(found)
        };
        self.nat64.get_or_try_init(|| discover).await.cloned()
    }
}

/// What a person can do something with, of what the library says.
fn plain(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "there is no such name".to_owned(),
        error if error.is_no_records_found() => "the name has no address".to_owned(),
        NetError::Timeout => "the DNS servers did not answer in time (--dns names others)".to_owned(),
        _ => "the DNS servers gave no usable answer (--dns names others)".to_owned(),
    }
}

/// `name` with its final dot, so that nothing is appended to it.
fn qualified(name: &DnsName) -> Result<Name, String> {
    let mut name = Name::from_ascii(name.as_str()).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}
