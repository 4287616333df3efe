//! Upstreams on loopback that write bytes as they please, HTTP or not.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Listens on loopback and has `answer` write whatever it likes, given the head of a request.
pub async fn upstream<F>(answer: impl Fn(TcpStream, String) -> F + Send + 'static) -> anyhow::Result<SocketAddr>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            // Whoever is hung up on has nobody to tell.
            tokio::spawn(answer(socket, String::from_utf8_lossy(&head).into_owned()));
        }
    });
    Ok(address)
}

/// Writes these bytes and hangs up.
pub async fn canned(bytes: impl Into<Vec<u8>>) -> anyhow::Result<SocketAddr> {
    let bytes = bytes.into();
    upstream(move |mut socket, _| {
        let bytes = bytes.clone();
        async move { socket.write_all(&bytes).await }
    })
    .await
}

/// Writes `begin`, then `again` for ever.
pub async fn endless(begin: &'static str, again: &'static [u8]) -> anyhow::Result<SocketAddr> {
    upstream(move |mut socket, _| async move {
        socket.write_all(begin.as_bytes()).await?;
        loop {
            socket.write_all(again).await?;
        }
    })
    .await
}

/// An upstream that takes a request and says nothing for a minute.
pub async fn silent() -> anyhow::Result<SocketAddr> {
    upstream(|socket, _| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(socket);
        Ok(())
    })
    .await
}

/// An upstream whose answer comes byte by byte, one after each `pause`.
pub async fn dripping(pause: Duration) -> anyhow::Result<SocketAddr> {
    upstream(move |mut socket, _| async move {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
        loop {
            tokio::time::sleep(pause).await;
            socket.write_all(b"x").await?;
        }
    })
    .await
}
