//! Sockets, and how a protocol is reached through them: listeners with their limits, HTTP/1.1 on a
//! connection, the switch to a WebSocket, and the [`Door`] trait.
//!
//! Nothing here knows the tree: what a request means is a door's business.

mod connection;
mod door;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
mod life;
mod listener;
pub mod proxy;
mod stream;
mod unix;
pub mod websocket;

pub use connection::{Connection, Info, Peer, Socket, Transport};
pub use door::{Closed, Door, Mount, Mounts};
pub use life::{Life, Signal};
pub use listener::{BindError, Bound, Drained, Limits, bind};
pub use proxy::{Proxied, Proxies};
pub use unix::{SocketError, SocketFile};

/// Counts that a limit was met, by the full name of its setting: `http.head_timeout_s`.
pub fn limit_met(setting: &'static str) {
    metrics::counter!("sapwood_limits_total", "limit" => setting).increment(1);
}
