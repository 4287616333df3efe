//! Keeps the connections of one connector's connection for its next requests.
//!
//! Why: a TLS handshake costs more than most requests. Invariants: 1. a pool belongs to one connection of one tenant, so
//! nothing in it is ever shared with another; 2. a kept socket serves the scheme, host and port that it was opened for, and
//! only while its address is among those that the request at hand was judged on; 3. a new generation of the connection uses
//! nothing that an earlier one opened; 4. nothing is kept idle for long, or for ever.
//! Never: opening sockets; `transport.rs` does. Callers: `client.rs`, `answer.rs` → here.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bulkhead_core::egress::{Host, Scheme, Target};
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::body::Outgoing;

/// Most sockets that are kept for one connection: more than it may use at once is of no use.
const MOST_KEPT: usize = 32;
/// How long a socket is kept unused. Servers commonly hang up after some 60 seconds.
const LONGEST_IDLE: Duration = Duration::from_secs(30);
/// How long a socket is used at all. A certificate that is revoked, or a service that has moved, should not be used for hours.
const LONGEST_LIFE: Duration = Duration::from_secs(300);
/// How long a socket that has just been given back may take to be ready again.
const SETTLING: Duration = Duration::from_millis(20);

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    scheme: Scheme,
    host: Host,
    port: u16,
    generation: u64,
}

/// An open connection to an upstream.
pub(super) struct Channel {
    pub(super) sender: Sender,
    /// The address that was judged and dialled.
    pub(super) address: IpAddr,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
    pub(super) born: Instant,
    /// Moves the bytes; the last part's drop ends it.
    pub(super) driver: Arc<AbortOnDropJoinHandle<()>>,
}

/// How requests are written on a channel.
pub(super) enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

/// The idle channels of one connection.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    generation: u64,
    kept: Vec<Kept>,
    reaper: Option<AbortOnDropJoinHandle<()>>,
}

struct Kept {
    key: Key,
    channel: Channel,
    since: Instant,
}

impl Pool {
    /// What a socket for `target` is kept under, as long as the generation lasts.
    pub(super) fn key(&self, target: &Target) -> Key {
        let generation = self.state().generation;
        Key { scheme: target.scheme(), host: target.host().clone(), port: target.port(), generation }
    }

    /// A channel for `key` to one of these addresses, if one is kept and ready.
    pub(super) async fn take(&self, key: &Key, admitted: &[IpAddr]) -> Option<Channel> {
        loop {
            let mut channel = self.find(key, admitted)?;
            if channel.is_ready().await {
                channel.reused = true;
                return Some(channel);
            }
        }
    }

    /// Takes the most recently used, or a share of it where several requests can share one.
    fn find(&self, key: &Key, admitted: &[IpAddr]) -> Option<Channel> {
        let mut state = self.state();
        state.prune(Instant::now());
        let fits = |kept: &Kept| kept.key == *key && admitted.contains(&kept.channel.address);
        let at = state.kept.iter().rposition(fits)?;
        let mut kept = state.kept.remove(at);
        if let Some(share) = kept.channel.share() {
            kept.since = Instant::now();
            state.kept.push(kept);
            return Some(share);
        }
        Some(kept.channel)
    }

    /// Keeps a channel for the next request, unless its time is over.
    pub(super) fn keep(self: &Arc<Self>, key: Key, channel: Channel) {
        let now = Instant::now();
        let mut state = self.state();
        if key.generation != state.generation || channel.is_spent(now) {
            return;
        }
        state.prune(now);
        if state.kept.len() >= MOST_KEPT {
            state.kept.remove(0);
        }
        state.kept.push(Kept { key, channel, since: now });
        if state.reaper.is_none() {
            let pool = Arc::downgrade(self);
            state.reaper = Some(wasmtime_wasi::runtime::spawn(reap(pool)));
        }
    }

    /// Begins a new generation: closes what is kept, and keeps nothing of what is under way.
    pub(super) fn renew(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.kept.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn prune(&mut self, now: Instant) {
        self.kept.retain(|kept| now.duration_since(kept.since) < LONGEST_IDLE && !kept.channel.is_spent(now));
    }
}

/// Closes what nobody asks for any more.
async fn reap(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LONGEST_IDLE / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state();
        state.prune(Instant::now());
        if state.kept.is_empty() {
            state.reaper = None;
            return;
        }
    }
}

impl Sender {
    /// The protocol's name.
    pub(super) fn protocol(&self) -> &'static str {
        match self {
            Self::Http1(_) => "HTTP/1.1",
            Self::Http2(_) => "HTTP/2",
        }
    }

    /// Hands a request over. An error gives it back if nothing of it was written.
    pub(super) fn send(
        &mut self,
        request: http::Request<Outgoing>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Outgoing>>>> + use<> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).left_future(),
            Self::Http2(sender) => sender.try_send_request(request).right_future(),
        }
    }
}

impl Channel {
    /// Whether it is closed, or has been used long enough.
    fn is_spent(&self, now: Instant) -> bool {
        let closed = match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        };
        closed || now.duration_since(self.born) >= LONGEST_LIFE
    }

    /// The same channel once more, where it carries several requests at once.
    pub(super) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            address: self.address,
            reused: self.reused,
            born: self.born,
            driver: Arc::clone(&self.driver),
        })
    }

    /// Whether a request can be written now, or very soon.
    async fn is_ready(&mut self) -> bool {
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().left_future(),
            Sender::Http2(sender) => sender.ready().right_future(),
        };
        matches!(tokio::time::timeout(SETTLING, ready).await, Ok(Ok(())))
    }
}
