//! The first lines that a person sees, on standard output. The first line always holds the address.

use std::net::SocketAddr;

use crate::{
    config::{Config, Durability},
    listen::Addresses,
};

/// What `dev` prints: the page's address, lines to paste, where the data is and what an answer means.
pub(crate) fn dev(at: &Addresses, config: &Config) -> String {
    let address = at.http;
    let mut text = format!(
        "http://{address}/  the live tree: open it in a browser\n\npaste these beside it:\n\n"
    );
    for line in paste_lines(address) {
        text += &format!("  {line}\n");
    }
    for line in at
        .mqtt
        .iter()
        .flat_map(|mqtt| mqtt_lines(&host_and_port(*mqtt)))
    {
        text += &format!("  {line}\n");
    }
    if at.mqtt.is_none()
        && let Some(path) = &at.socket
    {
        for line in mqtt_lines(&format!("--unix {}", path.display())) {
            text += &format!("  {line}\n");
        }
    }
    text.push('\n');
    text += &about(at, config);
    text
}

/// What `serve` prints.
pub(crate) fn serve(at: &Addresses, config: &Config) -> String {
    let address = at.http;
    let warning =
        "open: there are no rules, so whoever reaches this address reads and writes everything";
    format!("http://{address}/\n{warning}\n{}", about(at, config))
}

/// A write, a stream of events, a WebSocket.
pub(crate) fn paste_lines(address: SocketAddr) -> [String; 3] {
    [
        format!("curl -X PUT -d '{{\"temp\": 21.5}}' http://{address}/sensors/341"),
        format!("curl -N -H 'Accept: text/event-stream' http://{address}/sensors/"),
        format!(
            "node --experimental-websocket -e 'new WebSocket(\"ws://{address}/sensors/\").onmessage = e => console.log(e.data)'"
        ),
    ]
}

/// A subscription that sees what the other lines do, and a retained message.
fn mqtt_lines(place: &str) -> [String; 2] {
    [
        format!("mosquitto_sub {place} -v -t 'sensors/#'"),
        format!("mosquitto_pub {place} -r -t sensors/341 -m '{{\"temp\": 22}}'"),
    ]
}

fn host_and_port(address: SocketAddr) -> String {
    format!("-h {} -p {}", address.ip(), address.port())
}

fn about(at: &Addresses, config: &Config) -> String {
    let address = at.http;
    let mut text = match at.mqtt {
        Some(mqtt) => format!("mqtt://{mqtt}\n"),
        None => String::new(),
    };
    if let Some(path) = &at.socket {
        text += &format!("mqtt at the Unix socket {}\n", path.display());
    }
    text += &match config.store.durability {
        Durability::Sync => {
            format!(
                "data in {}, durability sync: an answered write is on disk\n",
                config.store.data.display()
            )
        }
        Durability::Interval => format!(
            "data in {}, durability interval: an answered write survives a kill; a power cut may take the last 100 ms\n",
            config.store.data.display()
        ),
        Durability::Memory => {
            "durability memory: nothing is on disk, and nothing is kept after the end\n".to_owned()
        }
    };
    let others: Vec<_> = config
        .databases
        .keys()
        .filter(|name| *name != "default")
        .collect();
    if !others.is_empty() {
        text += &format!("database default: http://{address}/\n");
    }
    if !others.is_empty() && (at.mqtt.is_some() || at.socket.is_some()) {
        text += "in MQTT the user name NAME/ chooses the database NAME\n";
    }
    for name in others {
        let port = address.port();
        text += &format!(
            "database {name}: http://{address}/?ns={name} or http://{name}.localhost:{port}/\n"
        );
    }
    text
}
