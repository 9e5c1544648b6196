//! `rumqttc`, the MQTT client of most Rust programs: 3.1.1 and 5.

use sapwood_client_tests::{Client, Heard, Options, Server, Version};

const VERSIONS: [Version; 2] = [Version::V3, Version::V5];

#[test]
fn every_qos_goes_both_ways() {
    let server = Server::start("qos");
    for version in VERSIONS {
        let (client, _) = Client::connect(&server, Options::new(version, "c"));
        let (other, _) = Client::connect(&server, Options::new(version, "o"));
        client.subscribe("rust/said", 2);
        for qos in [1, 2] {
            other.publish("rust/said", &format!("q{qos}"), qos, false);
            assert_eq!(client.told(), format!("rust/said q{qos} {qos} false"));
        }
        other.say("rust/said", "q0", 0, false);
        assert_eq!(client.told(), "rust/said q0 0 false");
        client.leave();
        other.leave();
    }
}

#[test]
fn a_retained_message_is_a_record_and_a_record_a_retained_message() {
    let server = Server::start("record");
    for version in VERSIONS {
        let (client, _) = Client::connect(&server, Options::new(version, "c"));
        client.publish("rust/lamp", r#"{"on": true}"#, 1, true);
        assert_eq!(server.get("/rust/lamp").as_deref(), Some(r#"{"on":true}"#));
        client.subscribe("rust/#", 1);
        assert_eq!(client.told(), r#"rust/lamp {"on": true} 1 true"#);
        server.put("/rust/lamp/on", "false");
        assert_eq!(client.told(), r#"rust/lamp {"on":false} 1 false"#);
        client.say("rust/lamp", "", 1, true);
        assert_eq!(client.told(), "rust/lamp  1 false");
        assert_eq!(server.get("/rust/lamp"), None);
        client.leave();
    }
}

#[test]
fn a_kept_session_gets_what_it_missed_in_order() {
    let server = Server::start("session");
    for version in VERSIONS {
        let kept = Options {
            clean: false,
            ..Options::new(version, "kept")
        };
        let (client, present) = Client::connect(&server, kept);
        assert!(!present, "{version:?}");
        client.subscribe("rust/missed", 2);
        client.leave();
        let (other, _) = Client::connect(&server, Options::new(version, "o"));
        for n in 0..30 {
            other.publish("rust/missed", &n.to_string(), 1 + n % 2, false);
        }
        let (client, present) = Client::connect(&server, kept);
        assert!(present, "{version:?}");
        for n in 0..30 {
            assert_eq!(
                client.told(),
                format!("rust/missed {n} {} false", 1 + n % 2)
            );
        }
        client.leave();
        other.leave();
        // A clean one throws it away.
        let (client, present) = Client::connect(&server, Options::new(version, "kept"));
        assert!(!present);
        client.leave();
    }
}

#[test]
fn a_takeover_ends_the_first_and_publishes_the_will() {
    let server = Server::start("takeover");
    let (witness, _) = Client::connect(&server, Options::new(Version::V5, "w"));
    witness.subscribe("rust/gone", 1);
    let mortal = Options {
        will: Some(("rust/gone", "gone")),
        ..Options::new(Version::V5, "same")
    };
    let (first, _) = Client::connect(&server, mortal);
    let (_second, _) = Client::connect(&server, mortal);
    // It may tell the end of the socket only, where both come at once.
    assert!(matches!(first.next(), Heard::Ended(_)));
    assert_eq!(witness.told(), "rust/gone gone 1 false");
}

#[test]
fn a_thousand_messages_come_once_each_at_qos_2() {
    let server = Server::start("many");
    for version in VERSIONS {
        let (client, _) = Client::connect(&server, Options::new(version, "c"));
        let (other, _) = Client::connect(&server, Options::new(version, "o"));
        client.subscribe("rust/many", 2);
        let saying = std::thread::spawn(move || {
            for n in 0..1000 {
                other.say("rust/many", &n.to_string(), 2, false);
            }
            other
        });
        for n in 0..1000 {
            assert_eq!(client.told(), format!("rust/many {n} 2 false"));
        }
        saying.join().expect("it has said all").leave();
        client.leave();
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let mut server = Server::start("kill");
    let (client, _) = Client::connect(&server, Options::new(Version::V5, "c"));
    for qos in [1, 2] {
        client.publish(&format!("rust/q{qos}"), "kept", qos, true);
    }
    server.restart();
    assert_eq!(
        server.get("/rust").as_deref(),
        Some(r#"{"q1":"kept","q2":"kept"}"#)
    );
}
