//! Wills (3.1.2.5, 3.1.3.2).

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::{CoreSettings, ManualClock};
use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Connect, ReasonCode, Version, Will};

use crate::server::{Q0, Q1, Q2, Server, hello, lasting, text, will};

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
    // 3.1.2-15; 3.1.1, 3.1.2-17
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

#[test]
fn a_will_has_all_the_properties_of_a_message() {
    // 3.1.2-7, 3.1.2-9, 3.1.2-14, 3.1.3-10, 3.1.3.2
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q2);
    for qos in [Q0, Q1, Q2] {
        let mut said = Will {
            qos,
            ..will("gone", "{}")
        };
        let properties = &mut said.message.properties;
        properties.payload_is_text = Some(true);
        properties.message_expiry_s = Some(100);
        properties.content_type = Some(text("application/json"));
        properties.response_topic = Some(text("answers"));
        properties.correlation_data = Some("7".into());
        for n in ["3", "1", "2"] {
            properties.user_properties.push(&text("k"), &text(n));
        }
        let (client, _) = server.connect_as(with_will(hello(Version::V5, "c"), said.clone()));
        drop(client);
        let told = witness.publish();
        assert_eq!((told.qos, told.retain), (qos, false));
        assert_eq!(told.message, said.message);
    }
}

#[test]
fn a_will_may_be_empty_and_then_removes() {
    // 3.1.3.4; 3.3.1-6
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.retain("gone", "here");
    let empty = Will {
        retain: true,
        ..will("gone", "")
    };
    witness.subscribe("gone", Q1);
    assert_eq!(witness.told(), "gone here q1 retain");
    let (client, _) = server.connect_as(with_will(hello(Version::V5, "c"), empty));
    drop(client);
    assert_eq!(witness.told(), "gone  q1");
    assert_eq!(server.get("gone"), None);
}

#[test]
fn a_will_is_gone_once_it_was_published_or_the_client_took_its_leave() {
    // 3.1.2-10
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let (client, _) = server.connect_as(with_will(lasting("c"), will("gone", "first")));
    drop(client);
    assert_eq!(witness.told(), "gone first q1");
    // The session goes on, without one.
    let (client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    drop(client);
    let (client, _) = server.connect_as(with_will(lasting("c"), will("gone", "second")));
    client.leave();
    let (client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    drop(client);
    server.connect("last").say_surely("gone", "last");
    assert_eq!(witness.told(), "gone last q1");
}

#[test]
fn a_fault_of_its_client_publishes_the_will() {
    // 3.1.2-8, 4.13.1-1
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let (mut client, _) = server.connect_as(mortal("c"));
    client.bytes(&[0x36, 6, 0, 1, b'a', 0, 1, 0]);
    assert_eq!(client.ends(), 0x81);
    assert_eq!(witness.told(), "gone c q1");
}

#[test]
fn a_delayed_will_ends_with_its_session_at_the_latest() {
    // 3.1.2-8, 3.1.3.2.2
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q1);
    let delayed = Will {
        delay_s: 3600,
        ..will("gone", "late")
    };
    // No session: at once.
    let (client, _) = server.connect_as(with_will(hello(Version::V5, "c"), delayed.clone()));
    drop(client);
    assert_eq!(witness.told(), "gone late q1");
    let mut short = with_will(lasting("d"), delayed);
    short.properties.session_expiry_s = Some(1);
    let (client, _) = server.connect_as(short);
    drop(client);
    assert_eq!(witness.told(), "gone late q1");
}

#[test]
fn a_delayed_will_outlives_the_server_and_is_void_for_who_comes_back_in_time() {
    // 3.1.3-9, 3.1.2-8
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let start = || {
        let settings = CoreSettings {
            clock: clock.clone(),
            ..CoreSettings::folder(folder.path().to_owned())
        };
        Server::over(MqttConfig::default(), settings)
    };
    let delayed = |name: &str| {
        let delayed = Will {
            delay_s: 100,
            retain: true,
            ..will(name, "gone")
        };
        with_will(lasting(name), delayed)
    };
    let server = start();
    for name in ["late", "back", "anew"] {
        drop(server.connect_as(delayed(name)));
    }
    drop(server);
    let server = start();
    clock.advance(50_000);
    let mut other = server.connect("o");
    other.say_surely("wakes", "the committer");
    assert!(
        ["late", "back", "anew"]
            .iter()
            .all(|name| server.get(name).is_none())
    );
    assert!(server.connect_as(lasting("back")).1.session_present);
    let clean = Connect {
        clean_start: true,
        ..lasting("anew")
    };
    assert!(!server.connect_as(clean).1.session_present);
    assert_eq!(server.get("anew"), Some("gone".into()));
    clock.advance(50_000);
    other.retain("wakes", "the committer");
    while server.get("late").is_none() {
        other.retain("wakes", "it again");
    }
    assert_eq!(server.get("back"), None);
}
