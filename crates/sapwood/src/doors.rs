//! The list of doors: adding a protocol is a folder of its own, and a line here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use metrics_exporter_prometheus::PrometheusHandle;
use sapwood_core::Core;
use sapwood_http::{Folder, HttpDoor, Options};
use sapwood_mqtt::{Bridge, BridgeError, MqttDoor};
use sapwood_net::{BindError, Bound, Door, http::origin::Policy};
use tracing::warn;

use crate::{
    Failure,
    address::MQTT_PORT,
    config::Loaded,
    listen::{Listen, Mqtt, flag},
};

/// How many ports are tried from MQTT's usual one on before the system chooses.
const PORTS_TRIED: u16 = 16;

/// The open ports of all doors that are switched on.
pub(crate) struct Doors {
    pub(crate) bound: Bound,
    /// Reports about itself, if it is on.
    pub(crate) mqtt: Option<MqttDoor>,
    /// Its bridges to other brokers.
    pub(crate) bridges: Vec<Bridge>,
}

/// Opens the ports of all doors that are switched on.
pub(crate) fn open(
    loaded: &Loaded,
    listen: &Listen,
    core: &Core,
    folder: Arc<Folder>,
    metrics: PrometheusHandle,
) -> Result<Doors, Failure> {
    let http: Arc<dyn Door> = Arc::new(http(loaded, listen.http, core, folder, metrics)?);
    let mqtt = mqtt(loaded, listen, core)?;
    let bridges = bridges(loaded, mqtt.as_ref())?;
    let bind = |mqtt: Option<MqttDoor>| {
        let mut doors = vec![Arc::clone(&http)];
        doors.extend(mqtt.map(|door| Arc::new(door) as Arc<dyn Door>));
        sapwood_net::bind(&doors, &loaded.config.http.listener_limits())
    };
    let bound = match (&mqtt, listen.mqtt) {
        (Some(door), Mqtt::Usual) => bind_near(door, bind),
        _ => bind(mqtt.clone()),
    };
    let bound = bound.map_err(|error| match error {
        BindError::Tcp { address, source } => {
            let is_mqtt = address != listen.http;
            Failure::Listen {
                address,
                flag: flag(if is_mqtt { "mqtt" } else { "http" }),
                source,
            }
        }
        BindError::Unix(error) => Failure::Socket(error),
    })?;
    Ok(Doors {
        bound,
        mqtt,
        bridges,
    })
}

/// The bridges of the configuration, which need the door that is their one side.
fn bridges(loaded: &Loaded, mqtt: Option<&MqttDoor>) -> Result<Vec<Bridge>, Failure> {
    let Some(mqtt) = mqtt else {
        return match loaded.config.mqtt.bridge.first() {
            None => Ok(Vec::new()),
            Some(bridge) => {
                let message = format!(
                    "the bridge {:?} needs MQTT, which is off: say where it listens, such as --mqtt 127.0.0.1:1883",
                    bridge.name
                );
                Err(loaded.refuse(&["mqtt", "bridge"], message).into())
            }
        };
    };
    mqtt.bridges().map_err(|(at, error)| {
        let key = match &error {
            BridgeError::Password { .. } => "password_file",
            BridgeError::Database(_) => "database",
            _ => "address",
        };
        loaded
            .refuse_bridge(at, None, key, error.to_string())
            .into()
    })
}

/// Binds MQTT's usual port, or the next one that is free.
fn bind_near(
    door: &MqttDoor,
    bind: impl Fn(Option<MqttDoor>) -> Result<Bound, BindError>,
) -> Result<Bound, BindError> {
    let last = MQTT_PORT + PORTS_TRIED;
    for port in (MQTT_PORT..last).chain([0]) {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match bind(Some(door.at(Some(address)))) {
            Err(BindError::Tcp {
                address: at,
                source,
            }) if at == address && source.kind() == io::ErrorKind::AddrInUse => {}
            Ok(bound) => {
                if port != MQTT_PORT {
                    let at = bound.addresses().find(|(name, _)| *name == "mqtt");
                    let at = at.map(|(_, address)| tracing::field::display(address));
                    warn!(
                        at,
                        "port {MQTT_PORT} is in use by another program: MQTT listens elsewhere"
                    );
                }
                return Ok(bound);
            }
            Err(error) => return Err(error),
        }
    }
    bind(Some(door.at(None)))
}

fn http(
    loaded: &Loaded,
    listen: SocketAddr,
    core: &Core,
    folder: Arc<Folder>,
    metrics: PrometheusHandle,
) -> Result<HttpDoor, Failure> {
    let options = Options {
        address: listen,
        // What is open trusts whoever reaches it on loopback, and so must not be reached from pages elsewhere.
        policy: if listen.ip().is_loopback() {
            Policy::Loopback
        } else {
            Policy::Any
        },
        folder: Some(folder),
        metrics: Box::new(move || metrics.render()),
    };
    HttpDoor::new(core.clone(), loaded.config.http.clone(), options)
        .map_err(|error| Failure::Data(Box::new(error)))
}

fn mqtt(loaded: &Loaded, listen: &Listen, core: &Core) -> Result<Option<MqttDoor>, Failure> {
    let address = match listen.mqtt {
        Mqtt::Off => return Ok(None),
        Mqtt::At(address) => Some(address),
        Mqtt::Usual | Mqtt::Elsewhere => None,
    };
    MqttDoor::new(core.clone(), loaded.config.mqtt.clone(), address)
        .map(|door| Some(door.with_socket(listen.socket.clone())))
        .map_err(|error| Failure::Data(Box::new(error)))
}
