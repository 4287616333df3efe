//! Names with several addresses, of which some do not answer (RFC 8305).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::inside::{self, Reach, transport};
use crate::sockets::Upstream;
use bulkhead_tests::dns::Dns;

/// How long an address has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Well under the time that one address may take, and enough for each of those here to have a head start.
const SOON: Duration = Duration::from_secs(4);

/// A place where connections are neither taken nor refused: a listener whose queue is full.
pub(crate) struct BlackHole {
    listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) async fn at(ip: IpAddr, port: u16) -> anyhow::Result<Self> {
        let socket = if ip.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        socket.bind(SocketAddr::new(ip, port))?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(20), TcpStream::connect(address)).await {
            queued.push(connected?);
            anyhow::ensure!(queued.len() < 8, "the queue of {address} does not fill");
        }
        Ok(Self { listener, _queued: queued })
    }

    /// Its port.
    pub(crate) fn port(&self) -> anyhow::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }
}

/// How long it takes to be answered by the upstream on 127.0.0.1, whose name has `others` for addresses too.
async fn answered(port: u16, others: &[IpAddr]) -> anyhow::Result<Duration> {
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    let records = others.iter().map(|other| ("upstream", other.as_str())).chain([("upstream", "127.0.0.1")]);
    let dns = Dns::start(&records.collect::<Vec<_>>()).await?;
    let reach = Reach { hosts: vec!["upstream.bulkhead.test"], ..Reach::plain(port) };
    let connection = reach.connect("acme", &transport(Some(dns.address()), None)?)?;
    let began = Instant::now();
    let (answer, _) = inside::answer(&connection, "fetch", &json!({ "url": reach.url("/a") })).await?;
    assert_eq!(answer.get("body"), Some(&json!("ok")), "{answer}");
    Ok(began.elapsed())
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_keep_a_request_from_another() -> anyhow::Result<()> {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let v4 = [2, 3, 4].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let upstream = Upstream::start(None, |mut talk| async move {
        talk.answer("ok").await?;
        Ok(Some(talk))
    });
    let upstream = upstream.await?;
    let port = upstream.address.port();
    // Refused at once.
    let took = answered(port, &[v6, v4[0]]).await?;
    assert!(took < SOON, "{took:?}");
    // Swallowed, before the one that answers and after it. A machine may have no IPv6: then it is only refused.
    let mut holes = Vec::new();
    if let Ok(hole) = BlackHole::at(v6, port).await {
        holes.push(hole);
        let took = answered(port, &[v6]).await?;
        assert!(took >= HEAD_START && took < SOON, "{took:?}");
    }
    for ip in v4 {
        holes.push(BlackHole::at(ip, port).await?);
    }
    let took = answered(port, &[v6, v4[0], v4[1], v4[2]]).await?;
    assert!(took < SOON, "{took:?}");
    Ok(())
}
