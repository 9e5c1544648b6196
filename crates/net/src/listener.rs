//! Listening sockets: who is let in, how many at once, and how it all ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tracing::{debug, error, warn};

use crate::life::Lives;
use crate::{Closed, Connection, Door, Info, Mount, Mounts, Socket, Transport, limit_met};

/// What bounds the connections, whatever they speak (reliability L9).
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many may be open in all. 0: as many as the process may have descriptors, less a reserve for files.
    pub connections_max: usize,
    /// How many may be open from one address (of IPv6, from one /64); loopback is exempt.
    pub connections_per_address_max: usize,
    /// How many of those may be open that have not sent a whole request yet (L2).
    pub waiting_per_address_max: usize,
    /// How long a client may take none of what is written to it.
    pub write_timeout: Duration,
    /// The slowest message of a WebSocket that is waited for, in bytes a second.
    pub message_rate_min: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 0,
            connections_per_address_max: 1000,
            waiting_per_address_max: 100,
            write_timeout: Duration::from_secs(60),
            message_rate_min: 500,
        }
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// The system's reason.
    #[source]
    pub source: io::Error,
}

/// Opens every port that `doors` mount.
///
/// # Errors
/// [`BindError`] for the first that can't be opened; none stays open then.
pub fn bind(doors: &[Arc<dyn Door>], limits: &Limits) -> Result<Bound, BindError> {
    let mut listeners = Vec::new();
    for door in doors {
        for mount in door.mounts() {
            match mount {
                Mount::Tcp(address) => {
                    let (listener, local) =
                        listen(address).map_err(|source| BindError { address, source })?;
                    listeners.push(Listener {
                        door: Arc::clone(door),
                        listener,
                        local,
                    });
                }
                Mount::Subprotocol(_) => {}
            }
        }
    }
    Ok(Bound {
        listeners,
        shared: Arc::new(Shared::new(Mounts::of(doors), limits)),
    })
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    const BACKLOG: u32 = 4096;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

/// Open ports that do not accept yet.
pub struct Bound {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

struct Listener {
    door: Arc<dyn Door>,
    listener: TcpListener,
    local: SocketAddr,
}

/// How the drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had not ended at the deadline.
    pub left: usize,
}

impl Bound {
    /// The doors' names with the addresses that they really listen on.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        self.listeners
            .iter()
            .map(|listener| (listener.door.name(), listener.local))
    }

    /// Accepts and serves until `drain` is ready; then closes the ports, tells the clients, and waits
    /// for them to go for at most `patience`.
    pub async fn run(self, drain: impl Future<Output = ()>, patience: Duration) -> Drained {
        let shared = self.shared;
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(accept_all(listener, Arc::clone(&shared)));
        }
        let watched = Arc::clone(&shared);
        tasks.spawn(async move { watched.lives.watch().await });
        drain.await;
        shared.lives.drain();
        // The ports close with their tasks; the watch over the deadlines goes, too: `patience` takes over.
        tasks.shutdown().await;
        let in_time = tokio::time::timeout(patience, shared.lives.emptied()).await;
        Drained {
            left: if in_time.is_ok() {
                0
            } else {
                shared.lives.len()
            },
        }
    }
}

/// What all listeners have in common.
struct Shared {
    lives: Lives,
    mounts: Arc<Mounts>,
    /// As the limit says, or as the system allows.
    connections_max: usize,
    limits: Arc<Limits>,
    per_address: Mutex<HashMap<IpAddr, Open>>,
    next_id: AtomicU64,
    metrics: Metrics,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    waiting: usize,
}

struct Metrics {
    accepted: Counter,
    open: Gauge,
    accept_failed: Counter,
    panicked: Counter,
}

impl Metrics {
    fn new() -> Self {
        Self {
            accepted: counter!("sapwood_connections_accepted_total"),
            open: gauge!("sapwood_connections_open"),
            accept_failed: counter!("sapwood_accept_failures_total"),
            panicked: counter!("sapwood_connection_panics_total"),
        }
    }
}

impl Shared {
    fn new(mounts: Mounts, limits: &Limits) -> Self {
        Self {
            lives: Lives::default(),
            mounts: Arc::new(mounts),
            connections_max: if limits.connections_max == 0 {
                connections_possible()
            } else {
                limits.connections_max
            },
            limits: Arc::new(limits.clone()),
            per_address: Mutex::default(),
            next_id: AtomicU64::new(1),
            metrics: Metrics::new(),
        }
    }

    /// Counts a connection in, if there is room for it.
    fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<(Admitted, Option<Waiting>)> {
        if self.lives.len() >= self.connections_max {
            limit_met("http.connections_max");
            return None;
        }
        let address = counted_address(peer.ip());
        if let Some(address) = address {
            let mut per_address = self.per_address.lock();
            let open = per_address.entry(address).or_default();
            if open.all >= self.limits.connections_per_address_max {
                limit_met("http.connections_per_address_max");
                return None;
            }
            if open.waiting >= self.limits.waiting_per_address_max {
                limit_met("http.waiting_per_address_max");
                return None;
            }
            open.all += 1;
            open.waiting += 1;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.metrics.accepted.increment(1);
        self.metrics.open.increment(1);
        let waiting = address.map(|address| Waiting {
            shared: Arc::clone(self),
            address,
        });
        let shared = Arc::clone(self);
        Some((
            Admitted {
                shared,
                id,
                address,
            },
            waiting,
        ))
    }

    /// Takes a connection out of the counts of its address.
    fn count_out(&self, address: IpAddr, take: impl FnOnce(&mut Open)) {
        let mut per_address = self.per_address.lock();
        if let Some(open) = per_address.get_mut(&address) {
            take(open);
            if open.all == 0 && open.waiting == 0 {
                per_address.remove(&address);
            }
        }
    }
}

/// A connection's place in the counts; gives it back when dropped.
struct Admitted {
    shared: Arc<Shared>,
    id: u64,
    address: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.shared
                .count_out(address, |open| open.all = open.all.saturating_sub(1));
        }
        self.shared.metrics.open.decrement(1);
        self.shared.lives.leave(self.id);
    }
}

/// A connection's place among those that have not sent a whole request yet; gives it back when dropped.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").field(&self.address).finish()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.count_out(self.address, |open| {
            open.waiting = open.waiting.saturating_sub(1);
        });
    }
}

/// The address that connections are counted by: none for loopback, the network of one site for IPv6.
fn counted_address(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => Some(IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & (u128::MAX << 64),
        ))),
    }
}

/// How many connections the descriptor limit leaves room for.
fn connections_possible() -> usize {
    const RESERVE: usize = 256;
    const IF_UNKNOWN: usize = 1024;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next());
    match soft.map(str::parse::<usize>) {
        Some(Ok(soft)) => soft.saturating_sub(RESERVE).max(soft / 2),
        Some(Err(_)) => usize::MAX, // "unlimited"
        None => IF_UNKNOWN - RESERVE,
    }
}

async fn accept_all(listener: Listener, shared: Arc<Shared>) {
    let Listener {
        door,
        listener,
        local,
    } = listener;
    let mut failures = 0_u32;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failures = 0;
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, %peer, "cannot set TCP_NODELAY");
                }
                match shared.admit(peer) {
                    Some((admitted, waiting)) => {
                        let life = shared.lives.enter(admitted.id);
                        let limits = Arc::clone(&shared.limits);
                        let socket = Socket::new(stream, life, waiting, limits);
                        start(socket, peer, local, &door, admitted);
                    }
                    None => {
                        debug!(%peer, door = door.name(), "connection refused: too many are open");
                    }
                }
            }
            // The client has gone again: the next one is not to blame.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                shared.metrics.accept_failed.increment(1);
                if failures == 0 {
                    warn!(%error, door = door.name(), "cannot accept connections, trying again");
                }
                failures = failures.saturating_add(1);
                // Out of descriptors, most often: wait for some to close instead of spinning.
                tokio::time::sleep(Duration::from_millis(u64::from(failures.min(20)) * 50)).await;
            }
        }
    }
}

fn start(
    socket: Socket,
    peer: SocketAddr,
    local: SocketAddr,
    door: &Arc<dyn Door>,
    admitted: Admitted,
) {
    let shared = &admitted.shared;
    let info = Arc::new(Info {
        id: admitted.id,
        peer,
        local,
        listener: door.name(),
    });
    let connection = Connection {
        info,
        transport: Transport::Tcp(socket),
        mounts: Arc::clone(&shared.mounts),
    };
    let serving = AssertUnwindSafe(door.serve(connection)).catch_unwind();
    // Its end is awaited through `admitted`, which the drain counts.
    drop(tokio::spawn(async move {
        match serving.await {
            Ok(Closed::Orderly | Closed::Drained | Closed::Lost) => {}
            Ok(Closed::Refused(reason)) => {
                debug!(connection = admitted.id, %peer, reason, "connection refused");
            }
            Err(_) => {
                admitted.shared.metrics.panicked.increment(1);
                error!(connection = admitted.id, %peer, "a connection's task panicked: this is a bug");
            }
        }
        drop(admitted);
    }));
}

#[cfg(test)]
mod tests {
    use sapwood_testkit::LimitsMet;

    use super::*;

    fn shared(connections_max: usize, connections_per_address_max: usize) -> Arc<Shared> {
        Arc::new(Shared::new(
            Mounts::default(),
            &Limits {
                connections_max,
                connections_per_address_max,
                ..Limits::default()
            },
        ))
    }

    #[test]
    fn a_refused_connection_counts_by_its_limit() {
        let (by_all, by_address) = (shared(1, 10), shared(10, 1));
        let peer: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let met = LimitsMet::default();
        by_all.lives.enter(1);
        let _first = by_address.admit(peer).unwrap();
        metrics::with_local_recorder(&met, || {
            assert!(by_all.admit(peer).is_none());
            assert!(by_address.admit(peer).is_none());
        });
        assert_eq!(met.count("http.connections_max"), 1);
        assert_eq!(met.count("http.connections_per_address_max"), 1);
    }

    #[test]
    fn one_address_may_not_take_every_connection() {
        let shared = shared(100, 2);
        let peer: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let first = shared.admit(peer).unwrap();
        let _second = shared.admit(peer).unwrap();
        assert!(shared.admit(peer).is_none());
        assert!(shared.admit("192.0.2.2:1000".parse().unwrap()).is_some());
        drop(first);
        assert!(shared.admit(peer).is_some());
    }

    #[test]
    fn one_address_may_not_have_many_connections_that_say_nothing() {
        let limits = Limits {
            waiting_per_address_max: 2,
            ..Limits::default()
        };
        let shared = Arc::new(Shared::new(Mounts::default(), &limits));
        let peer: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let (first, waiting) = shared.admit(peer).unwrap();
        let second = shared.admit(peer).unwrap();
        let met = LimitsMet::default();
        metrics::with_local_recorder(&met, || assert!(shared.admit(peer).is_none()));
        assert_eq!(met.count("http.waiting_per_address_max"), 1);
        assert!(shared.admit("192.0.2.2:1000".parse().unwrap()).is_some());
        drop(waiting); // it has sent a request
        let third = shared.admit(peer).unwrap();
        assert!(shared.admit(peer).is_none());
        drop((first, second, third));
        assert!(shared.per_address.lock().is_empty());
    }

    #[test]
    fn a_site_of_ipv6_counts_as_one_address_and_loopback_does_not_count() {
        let shared = shared(100, 1);
        let _site = shared.admit("[2001:db8::1]:1".parse().unwrap()).unwrap();
        assert!(shared.admit("[2001:db8::2]:1".parse().unwrap()).is_none());
        assert!(
            shared
                .admit("[2001:db8:0:1::1]:1".parse().unwrap())
                .is_some()
        );
        let _local = shared.admit("127.0.0.1:1".parse().unwrap()).unwrap();
        assert!(shared.admit("127.0.0.1:2".parse().unwrap()).is_some());
        assert!(
            shared
                .admit("[::ffff:127.0.0.1]:2".parse().unwrap())
                .is_some()
        );
    }
}
