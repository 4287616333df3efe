//! Keeps the connections of one connector's connection for its next requests.
//!
//! Why: a TLS handshake costs more than most requests. Invariants: 1. a pool belongs to one connection of one tenant, so
//! nothing in it is ever shared with another; 2. a kept socket serves the scheme, host and port that it was opened for, and
//! only while its address is among those that the request at hand was judged on; 3. what a generation of the connection opened
//! ends with it, whatever is under way there, and no later one uses it; 4. nothing is kept idle for long, or for ever; 5. what nobody uses or keeps is closed,
//! whether or not its upstream goes along with that.
//! Never: opening sockets; `transport.rs` does. Callers: `client.rs`, `answer.rs` → here.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bulkhead_core::egress::{Host, Scheme, Target};
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::task::JoinSet;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::body::{Outgoing, Upload};
use crate::life::Generation;

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
    generation: Generation,
}

impl Key {
    /// What a socket for `target` is kept under, as long as the generation lasts.
    pub(super) fn new(target: &Target, generation: &Generation) -> Self {
        Self {
            scheme: target.scheme(),
            host: target.host().clone(),
            port: target.port(),
            generation: generation.clone(),
        }
    }
}

/// An open connection to an upstream.
pub(super) struct Channel {
    pub(super) sender: Sender,
    /// The address that was judged and dialled.
    pub(super) address: IpAddr,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
    born: Instant,
    /// There is one as long as the body of the last request is going out. An answer may be over before that.
    uploading: Weak<Upload>,
    tasks: Arc<Tasks>,
}

/// What moves a channel's bytes. The last share's drop ends it, whether or not the other side reads what was left for it; and
/// so does the end of its generation, after which no byte is read or written.
pub(super) struct Tasks {
    set: Mutex<JoinSet<()>>,
    generation: Generation,
}

/// Has hyper's tasks run among a channel's.
#[derive(Clone)]
pub(super) struct Among(Weak<Tasks>);

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
    kept: Vec<Kept>,
    reaper: Option<AbortOnDropJoinHandle<()>>,
}

struct Kept {
    key: Key,
    channel: Channel,
    since: Instant,
}

impl Pool {
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
        let leads = |kept: &Kept| kept.key == *key && admitted.contains(&kept.channel.address);
        let fits = |kept: &Kept| leads(kept) && kept.channel.uploading.strong_count() == 0;
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
        state.prune(now);
        if key.generation.check().is_err() || channel.is_spent(now) {
            return;
        }
        // One that carries several requests at once was never taken out.
        if let Some(kept) = state.kept.iter_mut().find(|kept| kept.channel.is_share_of(&channel)) {
            kept.since = now;
            return;
        }
        if state.kept.len() >= MOST_KEPT {
            state.kept.remove(0);
        }
        state.kept.push(Kept { key, channel, since: now });
        if state.reaper.is_none() {
            let pool = Arc::downgrade(self);
            state.reaper = Some(wasmtime_wasi::runtime::spawn(reap(pool)));
        }
    }

    /// Closes a channel to all later requests: nothing came over it when something should have.
    pub(super) fn forget(&self, channel: &Channel) {
        self.state().kept.retain(|kept| !kept.channel.is_share_of(channel));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn prune(&mut self, now: Instant) {
        let lasts = |kept: &Kept| kept.key.generation.check().is_ok() && !kept.channel.is_spent(now);
        self.kept.retain(|kept| now.duration_since(kept.since) < LONGEST_IDLE && lasts(kept));
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
}

impl Channel {
    /// A channel that was just opened.
    pub(super) fn new(sender: Sender, address: IpAddr, tasks: Arc<Tasks>) -> Self {
        Self { sender, address, reused: false, born: Instant::now(), uploading: Weak::new(), tasks }
    }

    /// Hands a request over. An error gives it back if nothing of it was written.
    pub(super) fn send(
        &mut self,
        request: http::Request<Outgoing>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Outgoing>>>> + use<> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                self.uploading = request.body().upload();
                sender.try_send_request(request).left_future()
            }
            Sender::Http2(sender) => sender.try_send_request(request).right_future(),
        }
    }

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
            uploading: Weak::new(),
            tasks: Arc::clone(&self.tasks),
        })
    }

    fn is_share_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tasks, &other.tasks)
    }

    /// Whether a request can be written now, or very soon.
    async fn is_ready(&mut self) -> bool {
        // What lies unread on the socket, and above all its end, is seen before the request is written.
        tokio::task::yield_now().await;
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().left_future(),
            Sender::Http2(sender) => sender.ready().right_future(),
        };
        matches!(tokio::time::timeout(SETTLING, ready).await, Ok(Ok(())))
    }
}

impl Tasks {
    /// None yet.
    pub(super) fn new(generation: &Generation) -> Arc<Self> {
        Arc::new(Self { set: Mutex::default(), generation: generation.clone() })
    }

    /// An executor for these tasks.
    pub(super) fn executor(self: &Arc<Self>) -> Among {
        Among(Arc::downgrade(self))
    }

    /// Runs one more.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let generation = self.generation.clone();
        // Whoever waits for the exchange finds it broken off.
        tasks.spawn(async move { generation.outlast(task).await.unwrap_or_default() });
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Among {
    fn execute(&self, task: F) {
        // The tasks themselves hold an executor, so that it must not hold them.
        if let Some(tasks) = self.0.upgrade() {
            tasks.spawn(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::life::{End, Life, Pause};

    /// How long something is awaited before a test gives up on it.
    const PATIENCE: Duration = Duration::from_secs(10);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A channel, and the upstream's end of it.
    async fn open(is_h2: bool) -> (Channel, DuplexStream) {
        open_in(is_h2, &Generation::default()).await
    }

    async fn open_in(is_h2: bool, generation: &Generation) -> (Channel, DuplexStream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let tasks = Tasks::new(generation);
        let sender = if is_h2 {
            let (sender, driver) = http2::handshake(tasks.executor(), TokioIo::new(near)).await.unwrap();
            tasks.spawn(async move { drop(driver.await) });
            Sender::Http2(sender)
        } else {
            let (sender, driver) = http1::handshake(TokioIo::new(near)).await.unwrap();
            tasks.spawn(async move { drop(driver.await) });
            Sender::Http1(sender)
        };
        (Channel::new(sender, ADDRESS, tasks), far)
    }

    fn pool() -> (Arc<Pool>, Key) {
        (Arc::default(), key(&Generation::default()))
    }

    fn key(generation: &Generation) -> Key {
        Key::new(&Target::parse("https", "api.example.com", "/").unwrap(), generation)
    }

    fn kept(pool: &Pool) -> usize {
        pool.state().kept.len()
    }

    #[tokio::test]
    async fn nothing_is_kept_idle_for_long_or_used_for_ever() {
        for is_h2 in [false, true] {
            let (pool, key) = pool();
            let (channel, _far) = open(is_h2).await;
            let born = channel.born;
            pool.keep(key, channel);
            pool.state().prune(born + LONGEST_IDLE - SETTLING);
            assert_eq!(kept(&pool), 1);
            // Used all the time, it is not idle, and grows old.
            pool.state().kept[0].since = born + LONGEST_LIFE - SETTLING;
            pool.state().prune(born + LONGEST_LIFE - SETTLING);
            assert_eq!(kept(&pool), 1);
            pool.state().prune(born + LONGEST_LIFE);
            assert_eq!(kept(&pool), 0);
            let (pool, key) = self::pool();
            let (channel, _far) = open(is_h2).await;
            pool.keep(key, channel);
            let since = pool.state().kept[0].since;
            pool.state().prune(since + LONGEST_IDLE);
            assert_eq!(kept(&pool), 0);
        }
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_kept_and_the_oldest_go_first() {
        let (pool, key) = pool();
        let mut ends = Vec::new();
        for _ in 0..MOST_KEPT + 3 {
            let (channel, far) = open(false).await;
            ends.push(far);
            pool.keep(key.clone(), channel);
        }
        assert_eq!(kept(&pool), MOST_KEPT);
        for (number, mut end) in ends.into_iter().enumerate().take(4) {
            let mut byte = [0];
            let read = tokio::time::timeout(SETTLING, tokio::io::AsyncReadExt::read(&mut end, &mut byte)).await;
            assert_eq!(matches!(read, Ok(Ok(0))), number < 3, "{number}");
        }
    }

    #[tokio::test]
    async fn a_channel_that_many_requests_share_is_kept_once() {
        let (pool, key) = pool();
        let (channel, _far) = open(true).await;
        pool.keep(key.clone(), channel.share().unwrap());
        pool.keep(key.clone(), channel);
        assert_eq!(kept(&pool), 1);
        let (one, other) = (pool.take(&key, &[ADDRESS]).await.unwrap(), pool.take(&key, &[ADDRESS]).await.unwrap());
        pool.keep(key.clone(), one);
        pool.keep(key.clone(), other);
        assert_eq!(kept(&pool), 1);
    }

    #[tokio::test]
    async fn a_channel_that_went_silent_is_not_used_again() {
        let (pool, key) = pool();
        let (channel, _far) = open(true).await;
        pool.keep(key.clone(), channel.share().unwrap());
        pool.forget(&channel);
        assert!(pool.take(&key, &[ADDRESS]).await.is_none());
    }

    #[tokio::test]
    async fn a_new_generation_takes_and_keeps_nothing_of_an_earlier_one() {
        let (pool, life) = (Arc::<Pool>::default(), Life::default());
        let first = life.current().unwrap();
        let (old, new) = (key(&first), {
            life.pause(Pause::Operator);
            life.resume().unwrap();
            key(&life.current().unwrap())
        });
        // Its tasks are another generation's here, so that only the pool can tell.
        let (channel, _far) = open(false).await;
        pool.keep(old.clone(), channel);
        assert_eq!(kept(&pool), 0);
        let (channel, _other_far) = open(false).await;
        pool.keep(new.clone(), channel);
        assert!(pool.take(&old, &[ADDRESS]).await.is_none());
        life.end(End::Narrowed);
        assert!(pool.take(&new, &[ADDRESS]).await.is_none());
    }

    #[tokio::test]
    async fn a_socket_ends_with_its_generation_whatever_is_under_way() {
        for is_h2 in [false, true] {
            let life = Life::default();
            let (channel, mut far) = open_in(is_h2, &life.current().unwrap()).await;
            life.end(End::Revoked);
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(&mut far, &mut rest));
            ended.await.expect("it is open").unwrap();
            assert!(channel.is_spent(Instant::now()), "{is_h2}");
        }
    }

    #[tokio::test]
    async fn a_channel_serves_its_own_host_port_scheme_and_address_and_no_other() {
        let (pool, key) = pool();
        let (channel, _far) = open(true).await;
        pool.keep(key.clone(), channel);
        for (scheme, authority) in
            [("http", "api.example.com:443"), ("https", "api.example.com:444"), ("https", "www.example.com")]
        {
            let other = Key::new(&Target::parse(scheme, authority, "/").unwrap(), &key.generation);
            assert!(pool.take(&other, &[ADDRESS]).await.is_none(), "{scheme}://{authority}");
        }
        assert!(pool.take(&key, &["127.0.0.2".parse().unwrap()]).await.is_none());
        assert!(pool.take(&key, &["127.0.0.2".parse().unwrap(), ADDRESS]).await.is_some());
    }
}
