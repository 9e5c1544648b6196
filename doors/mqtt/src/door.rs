//! The door itself: what all its connections share.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sapwood_core::{Core, Database};
use sapwood_net::{Closed, Connection, Door, Mount, SocketFile};

use crate::MqttConfig;
use crate::machine::Settings;
use crate::registry::Registry;
use crate::reports::{self, Figures};
use crate::rules::Rules;
use crate::serve::Client;

/// The subprotocol of MQTT over WebSockets (6.0.0-3).
const SUBPROTOCOL: &str = "mqtt";

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
            registry: Arc::new(Registry::new(config.sessions_max)),
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
