//! The door itself: what all its connections share.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sapwood_core::{Core, Database};
use sapwood_net::{Closed, Connection, Door, Info, Mount, Peer, SocketFile};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use crate::MqttConfig;
use crate::bridge::{Bridge, BridgeError};
use crate::link::Link;
use crate::machine::Settings;
use crate::registry::Registry;
use crate::reports::{self, Figures};
use crate::rules::Rules;
use crate::serve::Client;

/// The subprotocol of MQTT over WebSockets (6.0.0-3).
const SUBPROTOCOL: &str = "mqtt";

/// Where the server's own clients are said to come in.
pub(crate) const INSIDE: &str = "inside";

/// How many bytes wait between the server and a client of its own, each way.
const INSIDE_BYTES: usize = 64 << 10;

/// The MQTT door.
#[derive(Clone)]
pub struct MqttDoor {
    site: Arc<Site>,
    address: Option<SocketAddr>,
    socket: Option<SocketFile>,
}

/// What every connection needs.
pub(crate) struct Site {
    pub(crate) core: Core,
    pub(crate) default: Database,
    pub(crate) config: MqttConfig,
    pub(crate) settings: Arc<Settings>,
    /// Those of the clients that the server itself has: they are taken at their word.
    inside: Arc<Settings>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) figures: Figures,
    pub(crate) rules: Rules,
}

/// A core without a database named `default`.
#[derive(Debug, thiserror::Error)]
#[error("there is no database named default")]
pub struct MissingDefault;

impl MqttDoor {
    /// A door to `core`, which has a database named `default`, as every core has. Without an address it is reached over
    /// WebSockets only.
    ///
    /// # Errors
    /// If there is no such database.
    pub fn new(
        core: Core,
        config: MqttConfig,
        address: Option<SocketAddr>,
    ) -> Result<Self, MissingDefault> {
        let default = core.database("default").ok_or(MissingDefault)?;
        let open_writes_max = default.limits().requests_in_flight_max;
        let settings = config.settings(*default.tree_limits(), open_writes_max);
        let site = Site {
            registry: Arc::new(Registry::new()),
            inside: Arc::new(inside(&settings)),
            settings: Arc::new(settings),
            core,
            default,
            rules: Rules::new(&config.accept, &config.payload),
            config,
            figures: Figures::new(),
        };
        Ok(Self {
            site: Arc::new(site),
            address,
            socket: None,
        })
    }

    /// Tells `$SYS/broker/…` what there is to tell, for ever.
    pub async fn report(self) {
        reports::run(&self.site).await;
    }

    /// The bridges that the configuration names, ready to run.
    ///
    /// # Errors
    /// For the first that can't be made, with its place in the configuration.
    pub fn bridges(&self) -> Result<Vec<Bridge>, (usize, BridgeError)> {
        let configs = self.site.config.bridge.iter().cloned().enumerate();
        configs
            .map(|(at, config)| {
                Bridge::new(Arc::clone(&self.site), config).map_err(|error| (at, error))
            })
            .collect()
    }

    /// The same door at another address.
    #[must_use]
    pub fn at(&self, address: Option<SocketAddr>) -> Self {
        Self {
            site: Arc::clone(&self.site),
            address,
            socket: self.socket.clone(),
        }
    }

    /// The same door, reached at a Unix socket, too.
    #[must_use]
    pub fn with_socket(mut self, socket: Option<SocketFile>) -> Self {
        self.socket = socket;
        self
    }
}

impl Site {
    /// Serves a client of the server's own: its end of the connection, and the task of the other end.
    pub(crate) fn serve_inside(site: &Arc<Self>) -> (DuplexStream, JoinHandle<Closed>) {
        let (near, far) = tokio::io::duplex(INSIDE_BYTES);
        let info = Info {
            id: 0,
            peer: Peer::Local,
            listener: INSIDE,
        };
        let settings = Arc::clone(&site.inside);
        let client = Client::over(
            Arc::clone(site),
            settings,
            Arc::new(info),
            Link::inside(far),
        );
        (near, tokio::spawn(client.serve()))
    }
}

/// What a client of the server's own needs: packets with ids of any number, and sessions that live as long as it says.
fn inside(settings: &Settings) -> Settings {
    Settings {
        receive_maximum: NonZeroU16::MAX,
        topic_alias_maximum: 0,
        keep_alive_s_max: None,
        session_expiry_s_max: u32::MAX,
        ..settings.clone()
    }
}

impl Door for MqttDoor {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn mounts(&self) -> Vec<Mount> {
        let config = &self.site.config;
        let (proxies, timeout) = (&config.proxy_protocol, self.site.settings.connect_timeout);
        let setting = "mqtt.connect_timeout_s";
        let tcp = self.address.map(|address| Mount::Tcp {
            address,
            proxied: proxies.of_tcp(timeout, setting),
        });
        let unix = self.socket.clone().map(|file| Mount::Unix {
            file,
            proxied: proxies.of_unix(timeout, setting),
        });
        let subprotocol = config.websocket.then_some(Mount::Subprotocol(SUBPROTOCOL));
        tcp.into_iter().chain(unix).chain(subprotocol).collect()
    }

    fn serve(&self, connection: Connection) -> BoxFuture<'static, Closed> {
        let site = Arc::clone(&self.site);
        async move {
            site.figures.opened();
            let closed = Client::new(Arc::clone(&site), connection).serve().await;
            site.figures.closed();
            closed
        }
        .boxed()
    }
}
