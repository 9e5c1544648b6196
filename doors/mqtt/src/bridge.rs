//! A bridge to another broker: a client of both, which hands on what either says.
//!
//! It keeps nothing itself. What waits for the other broker waits in a session of this server, `$bridge/NAME`, and what waits
//! for this server in the session there; packet ids are handed on as they are, so that what one side repeats is known to the
//! other. When either connection ends, so does the other one, and both sessions are taken up again.

mod config;
pub(crate) mod fuzz;
mod link;
mod open;
mod relay;
mod route;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::watch;
use tracing::{info, warn};

use self::open::{OpenError, Standing};
use self::relay::Refusals;
use self::route::Route;
use crate::client::{Address, AddressError, Speech};
use crate::codec::Text;
use crate::door::Site;

pub use config::{BridgeConfig, BridgeTopic, BridgeVersion, Direction, Secret, Wrong};

/// What client ids of bridges' own sessions begin with; no other client may have one.
pub(crate) const CLIENT_ID_PREFIX: &str = "$bridge/";

/// A connection that has held for so long was a good one: the next attempt is made soon.
const GOOD: Duration = Duration::from_secs(10);

/// A side of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// This server.
    Local,
    /// The other broker.
    Remote,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Local => "this server",
            Self::Remote => "the other broker",
        }
    }

    /// Which way a message goes that comes from it.
    fn direction(self) -> &'static str {
        match self {
            Self::Local => "out",
            Self::Remote => "in",
        }
    }
}

/// What is counted of a bridge.
struct Meters {
    bridge: String,
    connected: Gauge,
    relayed_in: Counter,
    relayed_out: Counter,
}

impl Meters {
    fn new(bridge: &str) -> Self {
        let bridge = bridge.to_owned();
        let relayed = |direction: &'static str| counter!("sapwood_mqtt_bridge_relayed_total", "bridge" => bridge.clone(), "direction" => direction);
        Self {
            connected: gauge!("sapwood_mqtt_bridge_connected", "bridge" => bridge.clone()),
            relayed_in: relayed("in"),
            relayed_out: relayed("out"),
            bridge,
        }
    }

    fn relayed(&self, from: Side) {
        match from {
            Side::Local => self.relayed_out.increment(1),
            Side::Remote => self.relayed_in.increment(1),
        }
    }

    fn dropped(&self, from: Side, reason: &'static str) {
        counter!("sapwood_mqtt_bridge_dropped_total", "bridge" => self.bridge.clone(),
            "direction" => from.direction(), "reason" => reason)
        .increment(1);
    }
}

/// Why a bridge can't be made of its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The file with the password can't be read.
    #[error("can't read the password from {path}: {source}", path = path.display())]
    Password {
        /// As configured.
        path: std::path::PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// No such database.
    #[error("there is no database named {0}")]
    Database(String),
    /// See [`BridgeConfig::check`].
    #[error("{}: {}", .0.key, .0.message)]
    Wrong(Wrong),
    /// No address.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// One bridge, ready to run.
pub struct Bridge {
    site: Arc<Site>,
    config: BridgeConfig,
    address: Address,
    client_id: Text,
    password: Option<Bytes>,
    routes: Vec<Route>,
    meters: Arc<Meters>,
    /// How the other broker is spoken to, as far as is known.
    speech: Speech,
    /// It has closed the last connection instead of an answer.
    hung_up: bool,
    /// Since when both sides are connected.
    connected_at: Option<Instant>,
    refusals: Refusals,
    standing: Standing,
}

impl Bridge {
    /// A bridge of a server.
    pub(crate) fn new(site: Arc<Site>, config: BridgeConfig) -> Result<Self, BridgeError> {
        let paths = *site.default.tree_limits();
        config.check(&paths).map_err(BridgeError::Wrong)?;
        if site.core.database(&config.database).is_none() {
            return Err(BridgeError::Database(config.database));
        }
        let routes = config.topics.iter().map(|topic| topic.route(&paths));
        let routes = routes
            .collect::<Result<_, _>>()
            .map_err(BridgeError::Wrong)?;
        let password = config.password().map_err(|source| BridgeError::Password {
            path: config.password_file.clone(),
            source,
        })?;
        let client_id = if config.client_id.is_empty() {
            format!("{}.{}", machine_name(), config.name)
        } else {
            config.client_id.clone()
        };
        Ok(Self {
            address: config.address.parse()?,
            client_id: Text::new(&client_id).unwrap_or_default(),
            password,
            routes,
            meters: Arc::new(Meters::new(&config.name)),
            speech: first_speech(&config),
            hung_up: false,
            connected_at: None,
            refusals: Refusals::default(),
            standing: Standing::default(),
            config,
            site,
        })
    }

    /// Keeps both sides connected until `drain` says so; then takes leave of both.
    pub async fn run(mut self, mut drain: watch::Receiver<bool>) {
        self.meters.connected.set(0.0);
        tokio::select! {
            () = self.prepare() => {}
            () = told(&mut drain) => return,
        }
        let mut wait = Duration::from_secs(self.config.reconnect_s_min);
        while !*drain.borrow() {
            self.connected_at = None;
            let lost = match self.once(&mut drain).await {
                Ok(()) => return,
                Err(lost) => lost,
            };
            self.meters.connected.set(0.0);
            if self.tries_another_speech(&lost) {
                continue;
            }
            if self.connected_at.is_some_and(|at| at.elapsed() >= GOOD) {
                wait = Duration::from_secs(self.config.reconnect_s_min);
            }
            let next_try_s = jittered(wait).as_secs_f32();
            warn!(bridge = self.config.name, address = %self.address, cause = %lost, next_try_s, "bridge not connected");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs_f32(next_try_s)) => {}
                () = told(&mut drain) => return,
            }
            wait = (wait * 2).min(Duration::from_secs(self.config.reconnect_s_max));
        }
    }

    /// One connection of both sides, from its beginning to its end, which is none where the server drains.
    async fn once(&mut self, drain: &mut watch::Receiver<bool>) -> Result<(), OpenError> {
        let mut opened = tokio::select! {
            opened = self.open() => opened?,
            () = told(drain) => return Ok(()),
        };
        self.meters.connected.set(1.0);
        (self.connected_at, self.hung_up) = (Some(Instant::now()), false);
        info!(bridge = self.config.name, address = %self.address, version = ?opened.remote.version(), "bridge connected");
        let ended = self.relay(&mut opened, drain).await;
        self.meters.connected.set(0.0);
        opened.close().await;
        ended.map_err(OpenError::Lost)
    }

    /// Whether the other broker is to be spoken to in another way at once. That it closes the connection instead of an answer
    /// means something only if it does so twice.
    fn tries_another_speech(&mut self, lost: &OpenError) -> bool {
        let hung_up_before = std::mem::replace(&mut self.hung_up, lost.is_no_answer());
        let is_unknown = lost.is_unknown_version() || hung_up_before && self.hung_up;
        match self.speech {
            Speech::V5 if lost.is_unknown_version() => self.speech = Speech::Bridge3,
            Speech::Bridge3 if is_unknown => {
                self.speech = Speech::V3;
                warn!(
                    bridge = self.config.name,
                    "the other broker sends back what it was sent: what goes both ways is told twice here"
                );
            }
            // From the beginning, as it may have become another broker; but not at once.
            Speech::V3 if is_unknown => {
                self.speech = first_speech(&self.config);
                return false;
            }
            Speech::V5 | Speech::Bridge3 | Speech::V3 => return false,
        }
        self.hung_up = false;
        info!(bridge = self.config.name, speech = ?self.speech, "the other broker is spoken to in another way");
        true
    }
}

fn first_speech(config: &BridgeConfig) -> Speech {
    match config.version {
        BridgeVersion::V5 => Speech::V5,
        BridgeVersion::V3 => Speech::Bridge3,
    }
}

/// Waits until the server drains, or is gone.
async fn told(drain: &mut watch::Receiver<bool>) {
    drop(drain.wait_for(|drains| *drains).await);
}

/// A random time between half of it and all of it, so that many bridges don't come together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "sapwood" } else { name }.to_owned()
}
