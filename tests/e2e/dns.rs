//! What becomes of names: a DNS server on loopback answers as an attacker would.

use std::net::Ipv4Addr;
use std::time::Duration;

use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::HOSTILE_EGRESS;
use bulkhead_tests::dns::{Dns, ZONE};
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};

use crate::inside::{self, Reach};
use crate::outside::{Ended, Laid};
use crate::sockets::dialling;

/// Has the hostile guest ask `host` below the zone for its contacts, with loopback opened and this DNS server.
async fn fetch(dns: &Dns, acme: &Acme, host: &str, more: &[&str]) -> anyhow::Result<Ended> {
    let name = format!("{host}.{ZONE}");
    let laid = Laid::new(HOSTILE_EGRESS, acme.address().port(), &json!({}))?;
    for file in ["connector.toml", "grant.toml"] {
        laid.change(file, "\"localhost\"", &format!("\"{name}\""))?;
    }
    let url = format!("http://{name}:{}/v1/contacts", acme.address().port());
    let (input, server) = (json!({ "url": url }).to_string(), dns.address().to_string());
    let mut arguments = vec!["invoke", ".", "fetch", "--input", &input, "--dns", &server];
    arguments.extend(more);
    laid.run(&arguments, Some(&Options::default().token)).await
}

async fn acme() -> anyhow::Result<Acme> {
    Acme::start(Options { busy: None, ..Options::default() }).await
}

#[tokio::test]
async fn a_name_is_asked_for_as_it_stands() -> anyhow::Result<()> {
    let (dns, acme) = (Dns::start(&[("upstream", "127.0.0.1")]).await?, acme().await?);
    let ended = fetch(&dns, &acme, "upstream", &[]).await?;
    assert!(ended.stdout.contains("\"status\": 200"), "{ended:?}");
    assert_eq!(acme.requests().len(), 1);
    assert_eq!(dns.asked(), ["upstream.bulkhead.test."]);
    let ended = fetch(&dns, &acme, "missing", &[]).await?;
    assert!(ended.stderr.contains("egress-resolve") && ended.stdout.contains("Dns"), "{ended:?}");
    assert_eq!(dns.asked(), ["missing.bulkhead.test.", "upstream.bulkhead.test."], "no search domain was tried");
    Ok(())
}

#[tokio::test]
async fn one_private_address_among_public_ones_denies_them_all() -> anyhow::Result<()> {
    for other in ["169.254.169.254", "10.0.0.1", "fd00:ec2::254", "::ffff:192.168.0.1", "64:ff9b::a00:1"] {
        let dns = Dns::start(&[("mixed", "127.0.0.1"), ("mixed", "8.8.8.8"), ("mixed", other)]).await?;
        let acme = acme().await?;
        let ended = fetch(&dns, &acme, "mixed", &[]).await?;
        assert!(ended.stderr.contains("egress-address"), "{other}: {ended:?}");
        assert_eq!(acme.requests(), [], "{other}");
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_the_operator_reserved_is_denied() -> anyhow::Result<()> {
    let dns = Dns::start(&[("reserved", "198.41.0.4")]).await?;
    let ended = fetch(&dns, &acme().await?, "reserved", &["--reserve", "198.41.0.0/24"]).await?;
    assert!(ended.stderr.contains("egress-address") && ended.stderr.contains("reserved by the operator"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_behind_the_networks_translator_is_judged_as_what_it_carries() -> anyhow::Result<()> {
    // The resolver tells its prefix, 2a00:1:2::/96, by how it answers for ipv4only.arpa (RFC 7050).
    let dns = Dns::start(&[("ipv4only.arpa.", "2a00:1:2::c000:aa"), ("inside", "2a00:1:2::a9fe:a9fe")]).await?;
    let ended = fetch(&dns, &acme().await?, "inside", &[]).await?;
    assert!(ended.stderr.contains("egress-address") && ended.stderr.contains("cloud metadata"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_name_with_dozens_of_addresses_that_do_not_answer_holds_few_sockets() -> anyhow::Result<()> {
    // A listener that accepts nothing, and whose queue is full.
    let silent = TcpSocket::new_v4()?;
    silent.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let silent = silent.listen(1)?;
    let port = silent.local_addr()?.port();
    let mut queue = Vec::new();
    let brief = Duration::from_millis(100);
    while let Ok(socket) = tokio::time::timeout(brief, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await {
        queue.push(socket?);
    }
    let addresses: Vec<String> = (1..=60).map(|last| format!("127.0.0.{last}")).collect();
    let records: Vec<_> = addresses.iter().map(|address| ("upstream", address.as_str())).collect();
    let dns = Dns::start(&records).await?;
    let reach = Reach { hosts: vec!["upstream.bulkhead.test"], limits: "time = \"4s\"", ..Reach::plain(port) };
    let connection = reach.connect("acme", &inside::transport(Some(dns.address()), None)?)?;
    let mut most = 0;
    let count = async {
        loop {
            most = most.max(dialling(port)?);
            tokio::time::sleep(brief).await;
        }
    };
    let input = json!({ "url": reach.url("/a") });
    let counted: anyhow::Result<()> = tokio::select! {
        failed = count => failed,
        outcome = inside::invoke(&connection, "fetch", &input) => outcome.map(drop),
    };
    counted?;
    assert!((2..=6).contains(&most), "{most} at once");
    Ok(())
}
