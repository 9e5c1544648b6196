//! Listening sockets: who is let in, how many at once, and how it all ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tracing::{debug, error, info, warn};

use crate::life::Lives;
use crate::stream::Stream;
use crate::unix::{self, SocketError};
use crate::{
    Closed, Connection, Door, Info, Mount, Mounts, Peer, Proxied, Socket, Transport, limit_met,
    proxy,
};

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
pub enum BindError {
    /// A TCP port.
    #[error("cannot listen on {address}")]
    Tcp {
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A Unix socket.
    #[error(transparent)]
    Unix(#[from] SocketError),
}

/// How many connections wait in the system until they are accepted.
const BACKLOG: u32 = 4096;

/// Opens every port and every Unix socket that `doors` mount.
///
/// # Errors
/// [`BindError`] for the first that can't be opened; none stays open then.
pub fn bind(doors: &[Arc<dyn Door>], limits: &Limits) -> Result<Bound, BindError> {
    let mut listeners = Vec::new();
    for door in doors {
        for mount in door.mounts() {
            let (listening, proxied) = match mount {
                Mount::Tcp { address, proxied } => (Listening::tcp(address)?, proxied),
                Mount::Unix { file, proxied } => (
                    Listening::Unix(unix::Listening::open(&file, BACKLOG)?),
                    proxied,
                ),
                Mount::Subprotocol(_) => continue,
            };
            listeners.push(Listener {
                door: Arc::clone(door),
                listening,
                proxied: proxied.map(Arc::new),
            });
        }
    }
    Ok(Bound {
        listeners,
        shared: Arc::new(Shared::new(Mounts::of(doors), limits)),
    })
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
    listening: Listening,
    proxied: Option<Arc<Proxied>>,
}

/// An open socket.
enum Listening {
    Tcp {
        listener: TcpListener,
        local: SocketAddr,
    },
    Unix(unix::Listening),
}

impl Listening {
    fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let open = || {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let local = listener.local_addr()?;
            Ok(Self::Tcp { listener, local })
        };
        open().map_err(|source| BindError::Tcp { address, source })
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp { listener, .. } => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, %peer, "cannot set TCP_NODELAY");
                }
                Ok((Stream::Tcp(stream), Peer::At(peer)))
            }
            Self::Unix(listening) => {
                let (stream, _) = listening.listener().accept().await?;
                Ok((Stream::Unix(stream), Peer::Local))
            }
        }
    }
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
        let address = |listener: &Listener| match &listener.listening {
            Listening::Tcp { local, .. } => Some((listener.door.name(), *local)),
            Listening::Unix(_) => None,
        };
        self.listeners.iter().filter_map(address)
    }

    /// The doors' names with the Unix sockets that they listen at.
    pub fn sockets(&self) -> impl Iterator<Item = (&'static str, &Path)> + '_ {
        self.listeners
            .iter()
            .filter_map(|listener| match &listener.listening {
                Listening::Unix(listening) => Some((listener.door.name(), listening.path())),
                Listening::Tcp { .. } => None,
            })
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

    /// Counts a connection in, if there is room for one more.
    fn enter(self: &Arc<Self>) -> Option<Admitted> {
        if self.lives.len() >= self.connections_max {
            limit_met("http.connections_max");
            return None;
        }
        self.metrics.open.increment(1);
        Some(Admitted {
            shared: Arc::clone(self),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            address: None,
        })
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

impl Admitted {
    /// Counts the connection by its address, if there is room for it.
    fn count(&mut self, peer: Peer) -> Result<Option<Waiting>, TooMany> {
        let shared = &self.shared;
        let counted = peer.address().and_then(|peer| counted_address(peer.ip()));
        if let Some(address) = counted {
            let mut per_address = shared.per_address.lock();
            let open = per_address.entry(address).or_default();
            if open.all >= shared.limits.connections_per_address_max {
                limit_met("http.connections_per_address_max");
                return Err(TooMany);
            }
            if open.waiting >= shared.limits.waiting_per_address_max {
                limit_met("http.waiting_per_address_max");
                return Err(TooMany);
            }
            open.all += 1;
            open.waiting += 1;
        }
        self.address = counted;
        shared.metrics.accepted.increment(1);
        Ok(counted.map(|address| Waiting {
            shared: Arc::clone(shared),
            address,
        }))
    }
}

/// One address has as many connections as it may.
#[derive(Debug)]
struct TooMany;

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
    let name = listener.door.name();
    let mut failures = 0_u32;
    loop {
        match listener.listening.accept().await {
            Ok((stream, peer)) => {
                failures = 0;
                take(stream, peer, &listener, &shared);
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
                    warn!(%error, door = name, "cannot accept connections, trying again");
                }
                failures = failures.saturating_add(1);
                // Out of descriptors, most often: wait for some to close instead of spinning.
                tokio::time::sleep(Duration::from_millis(u64::from(failures.min(20)) * 50)).await;
            }
        }
    }
}

/// Lets a connection in, or drops it.
fn take(stream: Stream, peer: Peer, listener: &Listener, shared: &Arc<Shared>) {
    let door = &listener.door;
    if let Some(proxied) = &listener.proxied
        && !proxied.trusts(peer)
    {
        not_introduced(peer, door.name(), proxy::Refused::Stranger);
        return;
    }
    let Some(mut admitted) = shared.enter() else {
        too_many(peer, door.name());
        return;
    };
    let life = shared.lives.enter(admitted.id);
    let mut socket = Socket::new(stream, life, Arc::clone(&shared.limits));
    if let Some(proxied) = &listener.proxied {
        let (door, proxied) = (Arc::clone(door), Arc::clone(proxied));
        drop(tokio::spawn(serve_introduced(
            socket, peer, door, proxied, admitted,
        )));
        return;
    }
    let Ok(waiting) = admitted.count(peer) else {
        too_many(peer, door.name());
        return;
    };
    socket.waits(waiting);
    // Its end is awaited through `admitted`, which the drain counts.
    drop(tokio::spawn(serve(socket, peer, door, admitted)));
}

/// Serves a connection once its proxy has said whose it is.
async fn serve_introduced(
    socket: Socket,
    proxy: Peer,
    door: Arc<dyn Door>,
    proxied: Arc<Proxied>,
    mut admitted: Admitted,
) {
    // In memory of its own: what only the beginning needs, takes memory only then.
    let (mut socket, peer) = match proxied.introduce(socket, proxy).boxed().await {
        Ok(introduced) => introduced,
        Err(refused) => return not_introduced(proxy, door.name(), refused),
    };
    let Ok(waiting) = admitted.count(peer) else {
        return too_many(peer, door.name());
    };
    socket.waits(waiting);
    serve(socket, peer, &door, admitted).await;
}

fn too_many(peer: Peer, door: &str) {
    debug!(%peer, door, "connection refused: too many are open");
}

fn not_introduced(proxy: Peer, door: &str, refused: proxy::Refused) {
    counter!("sapwood_proxy_refusals_total").increment(1);
    info!(%proxy, door, reason = %refused, "connection refused");
}

fn serve(
    socket: Socket,
    peer: Peer,
    door: &Arc<dyn Door>,
    admitted: Admitted,
) -> impl Future<Output = ()> + use<> {
    let info = Arc::new(Info {
        id: admitted.id,
        peer,
        listener: door.name(),
    });
    let connection = Connection {
        info,
        transport: Transport::Tcp(socket),
        mounts: Arc::clone(&admitted.shared.mounts),
    };
    let serving = AssertUnwindSafe(door.serve(connection)).catch_unwind();
    async move {
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
    }
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

    fn admit(shared: &Arc<Shared>, peer: &str) -> Option<(Admitted, Option<Waiting>)> {
        let mut admitted = shared.enter()?;
        let waiting = admitted.count(Peer::At(peer.parse().unwrap())).ok()?;
        Some((admitted, waiting))
    }

    #[test]
    fn a_refused_connection_counts_by_its_limit() {
        let (by_all, by_address) = (shared(1, 10), shared(10, 1));
        let peer = "192.0.2.1:1000";
        let met = LimitsMet::default();
        by_all.lives.enter(1);
        let _first = admit(&by_address, peer).unwrap();
        metrics::with_local_recorder(&met, || {
            assert!(admit(&by_all, peer).is_none());
            assert!(admit(&by_address, peer).is_none());
        });
        assert_eq!(met.count("http.connections_max"), 1);
        assert_eq!(met.count("http.connections_per_address_max"), 1);
    }

    #[test]
    fn one_address_may_not_take_every_connection() {
        let shared = shared(100, 2);
        let peer = "192.0.2.1:1000";
        let first = admit(&shared, peer).unwrap();
        let _second = admit(&shared, peer).unwrap();
        assert!(admit(&shared, peer).is_none());
        assert!(admit(&shared, "192.0.2.2:1000").is_some());
        drop(first);
        assert!(admit(&shared, peer).is_some());
    }

    #[test]
    fn one_address_may_not_have_many_connections_that_say_nothing() {
        let limits = Limits {
            waiting_per_address_max: 2,
            ..Limits::default()
        };
        let shared = Arc::new(Shared::new(Mounts::default(), &limits));
        let peer = "192.0.2.1:1000";
        let (first, waiting) = admit(&shared, peer).unwrap();
        let second = admit(&shared, peer).unwrap();
        let met = LimitsMet::default();
        metrics::with_local_recorder(&met, || assert!(admit(&shared, peer).is_none()));
        assert_eq!(met.count("http.waiting_per_address_max"), 1);
        assert!(admit(&shared, "192.0.2.2:1000").is_some());
        drop(waiting); // it has sent a request
        let third = admit(&shared, peer).unwrap();
        assert!(admit(&shared, peer).is_none());
        drop((first, second, third));
        assert!(shared.per_address.lock().is_empty());
    }

    #[test]
    fn a_site_of_ipv6_counts_as_one_address_and_loopback_does_not_count() {
        let shared = shared(100, 1);
        let _site = admit(&shared, "[2001:db8::1]:1").unwrap();
        assert!(admit(&shared, "[2001:db8::2]:1").is_none());
        assert!(admit(&shared, "[2001:db8:0:1::1]:1").is_some());
        let _local = admit(&shared, "127.0.0.1:1").unwrap();
        assert!(admit(&shared, "127.0.0.1:2").is_some());
        assert!(admit(&shared, "[::ffff:127.0.0.1]:2").is_some());
    }
}
