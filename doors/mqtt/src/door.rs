//! The door itself: what all its connections share.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::{Counter, Gauge, counter, gauge};
use sapwood_core::{Core, Database};
use sapwood_net::{Closed, Connection, Door, Mount};

use crate::MqttConfig;
use crate::machine::Settings;
use crate::registry::Registry;
use crate::serve::Client;

/// The subprotocol of MQTT over WebSockets (6.0.0-3).
const SUBPROTOCOL: &str = "mqtt";

/// The MQTT door.
#[derive(Clone)]
pub struct MqttDoor {
    site: Arc<Site>,
    address: Option<SocketAddr>,
}

/// What every connection needs.
pub(crate) struct Site {
    pub(crate) core: Core,
    pub(crate) default: Database,
    pub(crate) config: MqttConfig,
    pub(crate) settings: Arc<Settings>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Metrics,
}

/// What is counted.
pub(crate) struct Metrics {
    pub(crate) open: Gauge,
    /// Publishes from clients, and to them.
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
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
        let metrics = Metrics {
            open: gauge!("sapwood_mqtt_connections"),
            received: counter!("sapwood_mqtt_publishes_received_total"),
            sent: counter!("sapwood_mqtt_publishes_sent_total"),
        };
        let site = Site {
            registry: Arc::new(Registry::new(config.sessions_max)),
            settings: Arc::new(settings),
            core,
            default,
            config,
            metrics,
        };
        Ok(Self {
            site: Arc::new(site),
            address,
        })
    }

    /// The same door at another address.
    #[must_use]
    pub fn at(&self, address: Option<SocketAddr>) -> Self {
        Self {
            site: Arc::clone(&self.site),
            address,
        }
    }
}

impl Door for MqttDoor {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn mounts(&self) -> Vec<Mount> {
        let websocket = self.site.config.websocket;
        let subprotocol = websocket.then_some(Mount::Subprotocol(SUBPROTOCOL));
        let tcp = self.address.map(Mount::Tcp);
        tcp.into_iter().chain(subprotocol).collect()
    }

    fn serve(&self, connection: Connection) -> BoxFuture<'static, Closed> {
        let site = Arc::clone(&self.site);
        async move {
            site.metrics.open.increment(1);
            let open = site.metrics.open.clone();
            let closed = Client::new(site, connection).serve().await;
            open.decrement(1);
            closed
        }
        .boxed()
    }
}
