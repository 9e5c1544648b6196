//! What a protocol brings: a name, the places where clients reach it, and how it serves one of them.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Connection, Proxied, SocketFile};

/// One protocol's front. It translates, and decides nothing.
///
/// A door holds the handle of the core that it was made with.
pub trait Door: Send + Sync + 'static {
    /// A short lower-case word for logs, metrics and presence: `http`.
    fn name(&self) -> &'static str;

    /// Where clients reach it.
    fn mounts(&self) -> Vec<Mount>;

    /// Serves one connection until either side ends it.
    fn serve(&self, connection: Connection) -> BoxFuture<'static, Closed>;
}

/// A place where clients reach a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A TCP port of the door's own.
    Tcp {
        /// The address to listen on.
        address: SocketAddr,
        /// The proxies in front of it, if each connection comes from one that says for whom.
        proxied: Option<Proxied>,
    },
    /// A Unix socket of the door's own.
    Unix {
        /// Its file.
        file: SocketFile,
        /// The proxies in front of it.
        proxied: Option<Proxied>,
    },
    /// A WebSocket subprotocol on the HTTP port.
    Subprotocol(&'static str),
}

/// A connection that has ended, and why, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client left, or both sides agreed.
    Orderly,
    /// The server is draining.
    Drained,
    /// The client broke its protocol or a limit.
    Refused(&'static str),
    /// The socket failed, or the client was silent for too long.
    Lost,
}

/// The subprotocols that doors have mounted on the HTTP port.
#[derive(Default)]
pub struct Mounts {
    subprotocols: Vec<(&'static str, Arc<dyn Door>)>,
}

impl Mounts {
    /// Gathers what `doors` mount.
    pub fn of(doors: &[Arc<dyn Door>]) -> Self {
        let mut subprotocols = Vec::new();
        for door in doors {
            for mount in door.mounts() {
                match mount {
                    Mount::Subprotocol(name) => subprotocols.push((name, Arc::clone(door))),
                    Mount::Tcp { .. } | Mount::Unix { .. } => {}
                }
            }
        }
        Self { subprotocols }
    }

    /// The first of the `offered` subprotocols that a door has mounted.
    pub fn subprotocol<'a>(
        &self,
        offered: impl Iterator<Item = &'a str>,
    ) -> Option<(&'static str, Arc<dyn Door>)> {
        for name in offered {
            if let Some((name, door)) = self
                .subprotocols
                .iter()
                .find(|(mounted, _)| *mounted == name)
            {
                return Some((name, Arc::clone(door)));
            }
        }
        None
    }
}

impl std::fmt::Debug for Mounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.subprotocols.iter().map(|(name, _)| name))
            .finish()
    }
}
