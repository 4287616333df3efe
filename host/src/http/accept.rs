//! Bounds how many connections there are: in all, and from one address.
//!
//! *Why*: a connection that says nothing costs whoever opens it nothing. Those beyond the bound are closed at once, so that one
//! address cannot take what others need.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use tokio::net::TcpStream;
use tower::Service;

use super::server::{Connections, caller};

/// The connections that there are.
#[derive(Clone)]
pub(super) struct Bounded(Arc<Inner>);

struct Inner {
    bounds: Connections,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// An acceptor that lets in no more than that.
#[derive(Clone)]
pub(super) struct Acceptor<A> {
    bounded: Bounded,
    inner: A,
}

/// What serves a connection, and holds its place.
#[derive(Clone)]
pub(super) struct Placed<S> {
    inner: S,
    _place: Arc<Place>,
}

/// One connection.
struct Place {
    of: Arc<Inner>,
    from: IpAddr,
}

impl Bounded {
    pub(super) fn new(bounds: Connections) -> Self {
        Self(Arc::new(Inner { bounds, open: Mutex::default() }))
    }

    pub(super) fn around<A>(&self, inner: A) -> Acceptor<A> {
        Acceptor { bounded: self.clone(), inner }
    }

    /// A place for a connection from there, if there is one.
    fn place(&self, from: IpAddr) -> Option<Arc<Place>> {
        let Inner { bounds, open } = &*self.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = open.of.get(&from).copied().unwrap_or_default();
        if open.all >= bounds.most || of_one >= bounds.most_of_one {
            return None;
        }
        open.all += 1;
        open.of.insert(from, of_one + 1);
        Some(Arc::new(Place { of: Arc::clone(&self.0), from }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.of.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        match open.of.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.of.remove(&self.from);
            }
        }
    }
}

impl<S, A> Accept<TcpStream, S> for Acceptor<A>
where
    A: Accept<TcpStream, Placed<S>>,
    A::Future: Send + 'static,
{
    type Stream = A::Stream;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(A::Stream, A::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let refused = |error| -> Self::Future { Box::pin(async { Err(error) }) };
        let from = match stream.peer_addr() {
            Ok(peer) => caller(peer),
            Err(error) => return refused(error),
        };
        let Some(place) = self.bounded.place(from) else {
            tracing::debug!(code = "connection-refused", %from, "there are as many connections as there may be");
            return refused(io::Error::other("too many connections"));
        };
        // Small answers go out at once.
        let _ = stream.set_nodelay(true);
        Box::pin(self.inner.accept(stream, Placed { inner: service, _place: place }))
    }
}

impl<S: Service<R>, R> Service<R> for Placed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_for_others() {
        let bounded = Bounded::new(Connections { most: 3, most_of_one: 2 });
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = bounded.place(one).unwrap();
        let _second = bounded.place(one).unwrap();
        assert!(bounded.place(one).is_none(), "it has two");
        let _third = bounded.place(other).unwrap();
        assert!(bounded.place(other).is_none(), "all are taken");
        drop(first);
        assert!(bounded.place(other).is_some());
        assert_eq!(bounded.0.open.lock().unwrap().all, 2, "what was given back is free");
    }
}
