//! Certificates that are wrong in one way each. The secret must not have been sent when that is found out.

use std::sync::PoisonError;

use bulkhead_tests::dns::ZONE;
use bulkhead_tests::tls::{Authority, Identity, Upstream, self_signed};
use rcgen::{CertificateParams, date_time_ymd};

use crate::attempt::{Attempt, get};
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege, rule};

pub(super) async fn failures(siege: &Siege) -> anyhow::Result<Row> {
    let (trusted, stranger) = (Authority::new()?, Authority::new()?);
    let name = |host: &str| format!("{host}.tls.{ZONE}");
    let period = |from: i32, to: i32| {
        move |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        }
    };
    let wrong: [(&str, Identity); 10] = [
        ("stranger", stranger.issue(&name("stranger"), |_| {})?),
        ("self-signed", self_signed(&name("self-signed"))?),
        ("expired", trusted.issue(&name("expired"), period(2020, 2021))?),
        ("early", trusted.issue(&name("early"), period(2190, 2191))?),
        ("other", trusted.issue("other.example", |_| {})?),
        ("sibling", trusted.issue(&name("good"), |_| {})?),
        ("parent", trusted.issue(&format!("tls.{ZONE}"), |_| {})?),
        ("below", trusted.issue(&format!("*.{}", name("below")), |_| {})?),
        ("longer", trusted.issue(&format!("{}.forbidden.test", name("longer")), |_| {})?),
        ("address", trusted.issue("127.0.0.1", |_| {})?),
    ];
    let mut terms = siege.terms().binding(&format!("*.tls.{ZONE}"));
    let wildcard = rule("https", &format!("*.tls.{ZONE}"), siege.acme.address().port());
    let mut ports = vec![("plain", siege.acme.address().port())];
    let good = Upstream::start(trusted.issue(&name("good"), |_| {})?, rustls::ALL_VERSIONS).await?;
    let good_port = good.address.port();
    let mut upstreams = vec![good];
    for (host, identity) in wrong {
        let upstream = Upstream::start(identity, rustls::ALL_VERSIONS).await?;
        ports.push((host, upstream.address.port()));
        upstreams.push(upstream);
    }
    // The same program speaks the version that is asked of it, so that the first shows that nothing else is wrong.
    for (host, version) in [("dated", "-tls1_2"), ("outdated", "-tls1_1"), ("antique", "-tls1")] {
        let upstream = Upstream::legacy(trusted.issue(&name(host), |_| {})?, version).await?;
        ports.push((host, upstream.address.port()));
        upstreams.push(upstream);
    }
    siege.secure.lock().unwrap_or_else(PoisonError::into_inner).extend(upstreams);
    terms.network.authorities = vec![trusted.certificate()];
    terms = terms.asking(&wildcard, "paths = [\"/\"]").granting(&wildcard, OPEN);
    let mut attempts = Vec::new();
    for (host, port) in ports.iter().chain(&[("good", good_port)]) {
        siege.dns.answer(&format!("{host}.tls"), &[&["127.0.0.1"]])?;
        let rule = rule("https", &name(host), *port);
        terms = terms.asking(&rule, "paths = [\"/\"]").granting(&rule, OPEN);
        let request = get(format!("https://{}:{port}/", name(host)));
        attempts.push(match *host {
            "good" => request.answered(200),
            // The program does not tell what arrived.
            "dated" => Attempt { arrives: Vec::new(), ..request.answered(200) },
            _ => request.failed("egress-tls", "Tls"),
        });
    }
    if let Some(good) = attempts.last_mut() {
        good.arrives = vec![format!("TLS {good_port}")];
    }
    Ok(Row::guest("TLS that is wrong in one way, or none at all", [Siting::new(siege, terms, attempts)]))
}
