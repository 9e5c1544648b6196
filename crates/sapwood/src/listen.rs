//! Where the doors listen: what is asked for, and what came of it.

use std::net::SocketAddr;

use sapwood_net::Bound;

use crate::{
    Failure,
    address::{self, HTTP_PORT, MQTT_PORT},
    config::Loaded,
    run::Mode,
};

/// Where the doors are to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: Mqtt,
}

/// Where MQTT is to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mqtt {
    /// Nowhere; the door is closed.
    Off,
    /// Here.
    At(SocketAddr),
    /// At its usual port on loopback, or the next that is free.
    Usual,
}

impl Listen {
    /// Where the doors may listen under this command.
    pub(crate) fn of(mode: Mode, loaded: &Loaded) -> Result<Self, Failure> {
        if mode == (Mode::Serve { open: false }) {
            return Err(Failure::NotOpen);
        }
        let config = &loaded.config;
        let http = one(mode, loaded, "http", &config.http.listen, HTTP_PORT)?;
        let mqtt = match (config.mqtt.listen.trim(), mode) {
            ("off", _) | ("", Mode::Serve { .. }) => Mqtt::Off,
            ("", Mode::Dev) => Mqtt::Usual,
            (text, _) => Mqtt::At(one(mode, loaded, "mqtt", text, MQTT_PORT)?),
        };
        Ok(Self { http, mqtt })
    }
}

fn one(
    mode: Mode,
    loaded: &Loaded,
    door: &'static str,
    text: &str,
    default_port: u16,
) -> Result<SocketAddr, Failure> {
    let key = &[door, "listen"];
    let address =
        address::parse(text, default_port).map_err(|message| loaded.refuse(key, message))?;
    if mode == Mode::Dev && !address.ip().is_loopback() {
        return Err(Failure::DevBeyondLoopback {
            address,
            flag: flag(door),
            origin: loaded.origin(key).to_string(),
        });
    }
    Ok(address)
}

/// The flag that says where a door listens.
pub(crate) fn flag(door: &str) -> &'static str {
    if door == "mqtt" { "--mqtt" } else { "--http" }
}

/// Where the doors listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: Option<SocketAddr>,
}

impl Addresses {
    pub(crate) fn of(bound: &Bound, http: SocketAddr) -> Self {
        let of = |door| {
            let mut all = bound.addresses();
            all.find(|(name, _)| *name == door)
                .map(|(_, address)| address)
        };
        Self {
            http: of("http").unwrap_or(http),
            mqtt: of("mqtt"),
        }
    }
}
