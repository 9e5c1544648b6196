//! Wills (3.1.2.5, 3.1.3.2).

use std::time::Duration;

use sapwood_core::CoreSettings;
use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Connect, ReasonCode, Version, Will};

use crate::server::{Q0, Q1, Server, hello, lasting, will};

fn with_will(connect: Connect, will: Will) -> Connect {
    Connect {
        will: Some(will),
        ..connect
    }
}

fn mortal(client_id: &str) -> Connect {
    with_will(hello(Version::V5, client_id), will("gone", client_id))
}

#[test]
fn a_will_is_published_when_the_connection_is_lost() {
    // 3.1.2-8
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let (client, _) = server.connect_as(mortal("c"));
    drop(client);
    assert_eq!(witness.told(), "gone c q1");
    let (mut client, _) = server.connect_as(mortal("d"));
    client.leave_with(ReasonCode::DisconnectWithWill);
    assert_eq!(witness.told(), "gone d q1");
}

#[test]
fn a_client_that_takes_its_leave_has_no_will() {
    // 3.14.4-3
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let (client, _) = server.connect_as(mortal("c"));
    client.leave();
    let (client, _) = server.connect_as(mortal("d"));
    drop(client);
    assert_eq!(witness.told(), "gone d q1");
}

#[test]
fn a_retained_will_is_a_record() {
    // 3.1.2-17
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("state", Q0);
    let retained = Will {
        retain: true,
        ..will("state", "offline")
    };
    let (client, _) = server.connect_as(with_will(hello(Version::V3_1_1, "c"), retained));
    drop(client);
    assert_eq!(witness.told(), "state offline q0");
    assert_eq!(server.get("state"), Some("offline".into()));
}

#[test]
fn a_takeover_publishes_the_will_of_who_had_the_id() {
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let (_first, _) = server.connect_as(mortal("c"));
    let (_second, _) = server.connect_as(mortal("c"));
    assert_eq!(witness.told(), "gone c q1");
    witness.silent();
}

#[test]
fn who_comes_back_in_time_makes_a_will_void() {
    // 3.1.3-9
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let delayed = Will {
        delay_s: 3600,
        ..will("gone", "late")
    };
    let (client, _) = server.connect_as(with_will(lasting("c"), delayed.clone()));
    drop(client);
    let (client, connack) = server.connect_as(with_will(lasting("c"), delayed));
    assert!(connack.session_present);
    drop(client);
    // A clean start ends the session, and that is the latest moment.
    let clean = Connect {
        clean_start: true,
        ..lasting("c")
    };
    let (_client, _) = server.connect_as(clean);
    assert_eq!(witness.told(), "gone late q1");
    witness.silent();
}

#[test]
fn a_delayed_will_is_published_in_its_time() {
    // 3.1.3.2.2
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let delayed = Will {
        delay_s: 1,
        ..will("gone", "late")
    };
    let (client, _) = server.connect_as(with_will(lasting("c"), delayed));
    let begin = std::time::Instant::now();
    drop(client);
    assert_eq!(witness.told(), "gone late q1");
    assert!(begin.elapsed() >= Duration::from_millis(900));
}

#[test]
fn a_will_of_a_server_that_stops_is_published() {
    let folder = std::env::temp_dir().join(format!("sapwood-will-{}", std::process::id()));
    let settings = CoreSettings::folder(folder.clone());
    let mut server = Server::over(MqttConfig::default(), settings.clone());
    let retained = Will {
        retain: true,
        ..will("state", "offline")
    };
    let (client, _) = server.connect_as(with_will(hello(Version::V5, "c"), retained));
    server.drain();
    drop(client);
    drop(server);
    let server = Server::over(MqttConfig::default(), settings);
    assert_eq!(server.get("state"), Some("offline".into()));
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
}
