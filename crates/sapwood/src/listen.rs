//! Where the doors listen: what is asked for, and what came of it.

use std::{net::SocketAddr, path::PathBuf};

use sapwood_net::{Bound, SocketFile};

use crate::{
    Failure,
    address::{self, HTTP_PORT, MQTT_PORT},
    config::Loaded,
    run::Mode,
};

/// Where the doors are to listen.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: Mqtt,
    /// MQTT's Unix socket.
    pub(crate) socket: Option<SocketFile>,
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
    /// At no TCP port of its own.
    Elsewhere,
}

impl Listen {
    /// Where the doors may listen under this command.
    pub(crate) fn of(mode: Mode, loaded: &Loaded) -> Result<Self, Failure> {
        if mode == (Mode::Serve { open: false }) {
            return Err(Failure::NotOpen);
        }
        let config = &loaded.config;
        let http = one(mode, loaded, "http", &config.http.listen, HTTP_PORT)?;
        let listen = config.mqtt.listen.trim();
        let instead = listen.strip_prefix("unix:");
        let socket = socket(loaded, instead)?;
        let mqtt = match (listen, mode) {
            ("off", _) => Mqtt::Off,
            _ if instead.is_some() => Mqtt::Elsewhere,
            ("", Mode::Serve { .. }) if socket.is_some() => Mqtt::Elsewhere,
            ("", Mode::Serve { .. }) => Mqtt::Off,
            ("", Mode::Dev) => Mqtt::Usual,
            (text, _) => Mqtt::At(one(mode, loaded, "mqtt", text, MQTT_PORT)?),
        };
        Ok(Self { http, mqtt, socket })
    }
}

/// MQTT's Unix socket: `mqtt.unix`, or what `mqtt.listen` says to be there instead of a port.
fn socket(loaded: &Loaded, instead: Option<&str>) -> Result<Option<SocketFile>, Failure> {
    let config = &loaded.config.mqtt;
    let path = match (instead, config.unix.as_str()) {
        (None, "") => return Ok(None),
        (None, path) => path,
        (Some(path), "") => path,
        (Some(_), _) => {
            let message = "mqtt.listen names a Unix socket, too: leave one of them out";
            return Err(loaded.refuse(&["mqtt", "unix"], message).into());
        }
    };
    if path.is_empty() || path.contains('\0') {
        let message = format!("expected unix:/path, got {:?}", config.listen);
        return Err(loaded.refuse(&["mqtt", "listen"], message).into());
    }
    let mode = mode_of(&config.unix_mode)
        .map_err(|message| loaded.refuse(&["mqtt", "unix_mode"], message))?;
    Ok(Some(SocketFile {
        path: path.into(),
        mode,
    }))
}

/// Permission bits as `chmod` takes them.
fn mode_of(text: &str) -> Result<u32, String> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    octal
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("expected permission bits such as \"0660\", got {text:?}"))
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
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: Option<SocketAddr>,
    /// MQTT's Unix socket.
    pub(crate) socket: Option<PathBuf>,
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
            socket: bound.sockets().next().map(|(_, path)| path.to_owned()),
        }
    }
}
