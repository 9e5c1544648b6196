//! What 3.1.1 and 3.1 say otherwise than 5.0. Numbers are those of 3.1.1.

use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Ack, Connect, Packet, ReasonCode, Version};

use crate::server::{Client, Q0, Q1, Q2, Server, filter, hello, id, message, publish, text};

const OLD: [Version; 2] = [Version::V3_1, Version::V3_1_1];

/// The next bytes, as many as are expected.
fn hears(client: &mut Client, expected: &[u8]) {
    assert_eq!(client.raw(expected.len()), expected);
}

#[test]
fn answers_have_neither_reasons_nor_properties() {
    // 3.1.1, 3.1.4-4, 3.2.0-1, 2.3.1-6, 2.3.1-7, 3.3.4-1, 3.8.4-1, 3.8.4-2, 3.10.4-4, 3.12.4-1
    let server = Server::start();
    for version in OLD {
        let mut client = server.open(version);
        client.send(Packet::Connect(Box::new(hello(version, "c"))));
        hears(&mut client, &[0x20, 2, 0, 0]);
        // Nobody listens: 5.0 would say 0x10.
        client.send(Packet::Publish(publish("a", "x", Q1, 7)));
        hears(&mut client, &[0x40, 2, 0, 7]);
        client.send(Packet::Publish(publish("a", "x", Q2, 8)));
        hears(&mut client, &[0x50, 2, 0, 8]);
        client.send(Packet::Pubrel(Ack::new(id(8), ReasonCode::Success)));
        hears(&mut client, &[0x70, 2, 0, 8]);
        // A release of nothing, too.
        client.send(Packet::Pubrel(Ack::new(id(9), ReasonCode::Success)));
        hears(&mut client, &[0x70, 2, 0, 9]);
        client.bytes(&[0x82, 6, 0, 3, 0, 1, b'b', 2]);
        hears(&mut client, &[0x90, 3, 0, 3, 2]);
        client.bytes(&[0xA2, 5, 0, 4, 0, 1, b'b']);
        hears(&mut client, &[0xB0, 2, 0, 4]);
        // 3.1.1, 3.10.4-5
        client.bytes(&[0xA2, 5, 0, 5, 0, 1, b'z']);
        hears(&mut client, &[0xB0, 2, 0, 5]);
        client.bytes(&[0xC0, 0]);
        hears(&mut client, &[0xD0, 0]);
        client.bytes(&[0xE0, 0]);
        assert_eq!(client.next(), None);
    }
}

#[test]
fn a_filter_that_is_not_served_is_0x80_and_the_others_count() {
    // 3.1.1, 3.8.4-4, 3.8.4-5, 3.9.3-1, 3.9.3-2
    let config = MqttConfig {
        subscriptions_max: 2,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    let all = [(".x", Q2), ("a", Q2), ("b", Q0), ("c", Q1)];
    let all = all.map(|(text, qos)| filter(text, qos)).to_vec();
    assert_eq!(client.subscribe_with(all, None), [0x80, 2, 0, 0x80]);
    server.connect("o").say_surely("a", "x");
    assert_eq!(client.told(), "a x q1");
}

#[test]
fn a_publish_that_is_refused_is_acknowledged_or_ends_the_connection() {
    // 3.1.1, 3.3.5-2
    for closes in [false, true] {
        let config = MqttConfig {
            close_on_refused_publish: closes,
            ..MqttConfig::default()
        };
        let server = Server::with(config);
        let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
        client.send(Packet::Publish(publish("$SYS/x", "x", Q1, 1)));
        if closes {
            assert_eq!(client.next(), None);
        } else {
            hears(&mut client, &[0x40, 2, 0, 1]);
        }
    }
}

#[test]
fn a_server_has_no_last_word() {
    // 3.1.1, 3.1.4-2, 4.8.0-1, 3.1.0-2
    let server = Server::start();
    for version in OLD {
        let (mut first, _) = server.connect_as(hello(version, "c"));
        let (mut second, _) = server.connect_as(hello(version, "c"));
        assert_eq!(first.next(), None);
        second.send(Packet::Connect(Box::new(hello(version, "c"))));
        assert_eq!(second.next(), None);
        let (mut wrong, _) = server.connect_as(hello(version, "c"));
        wrong.bytes(&[0x36, 6, 0, 1, b'a', 0, 1, 0]);
        assert_eq!(wrong.next(), None);
    }
}

#[test]
fn who_may_not_come_in_is_told_a_return_code() {
    // 3.1.1, 3.1.3-8, 3.1.3-9, 3.2.2-4, 3.2.2-5, 3.1.4-5
    let server = Server::start();
    let nameless = |version, clean_start| Connect {
        clean_start,
        ..hello(version, "")
    };
    for connect in [
        nameless(Version::V3_1_1, false),
        nameless(Version::V3_1, true),
    ] {
        let mut client = server.open(connect.version);
        client.send(Packet::Connect(Box::new(connect)));
        client.bytes(&[0x30, 4, 0, 1, b'a', b'x']);
        hears(&mut client, &[0x20, 2, 0, 2]);
        assert_eq!(client.next(), None);
    }
    // 3.1.1, 3.1.3-6, 3.1.3-5
    for name in ["", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW"] {
        let connect = Connect {
            client_id: text(name),
            ..nameless(Version::V3_1_1, true)
        };
        let (mut client, _) = server.connect_as(connect);
        client.silent();
    }
    // 3.1.1, 3.1.4-1
    let mut client = server.open(Version::V3_1_1);
    client.bytes(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 60, 0, 0]);
    assert_eq!(client.next(), None);
}

#[test]
fn a_clean_session_leaves_nothing_and_finds_nothing() {
    // 3.1.1, 3.1.2-6, 3.1.3-2, 3.1.4-3, 3.2.2-1, 3.2.2-3, 4.1.0-1, 4.1.0-2
    let server = Server::start();
    let kept = Connect {
        clean_start: false,
        ..hello(Version::V3_1_1, "c")
    };
    let (mut client, connack) = server.connect_as(kept.clone());
    assert!(!connack.session_present);
    client.subscribe("a", Q1);
    client.leave();
    let (mut client, connack) = server.connect_as(hello(Version::V3_1_1, "c"));
    assert!(!connack.session_present);
    client.subscribe("b", Q1);
    client.leave();
    let (mut client, connack) = server.connect_as(kept);
    assert!(!connack.session_present);
    let mut other = server.connect("o");
    assert_eq!(other.say_surely("a", "x"), 0x10);
    assert_eq!(other.say_surely("b", "x"), 0x10);
    client.silent();
    // 3.1.1, 3.1.2-7: what is retained is nobody's session.
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "d"));
    client.retain("kept", "1");
    client.leave();
    assert!(server.get("kept").is_some());
}

#[test]
fn what_a_kept_session_missed_comes_in_order_with_what_was_in_flight_first() {
    // 3.1.1, 3.1.2-4, 3.1.2-5, 3.2.2-2, 4.4.0-1, 4.5.0-1, 4.6.0-1, 4.6.0-6
    let server = Server::start();
    let kept = Connect {
        clean_start: false,
        ..hello(Version::V3_1_1, "c")
    };
    let (mut client, _) = server.connect_as(kept.clone());
    client.subscribe("a", Q1);
    let mut other = server.connect("o");
    for n in 0..3 {
        other.say_surely("a", &n.to_string());
    }
    let first: Vec<_> = (0..3).map(|_| client.publish().packet_id).collect();
    // With a word, so that nothing more goes out to it.
    client.leave();
    for n in 3..6 {
        other.say_surely("a", &n.to_string());
    }
    let (mut client, connack) = server.connect_as(kept);
    assert!(connack.session_present);
    for n in 0..6 {
        let publish = client.publish();
        assert_eq!(publish.message.payload, n.to_string());
        // 3.1.1, 3.3.1-1
        assert_eq!(publish.dup, n < 3);
        if let Some(packet_id) = first.get(n) {
            assert_eq!(publish.packet_id, *packet_id);
        }
        client.send(Packet::Puback(Ack::new(
            publish.packet_id.unwrap(),
            ReasonCode::Success,
        )));
    }
    client.silent();
}

#[test]
fn retained_messages_come_when_one_subscribes_and_again_when_one_does_again() {
    // 3.1.1, 3.3.1-5, 3.3.1-6, 3.3.1-8, 3.3.1-9, 3.3.1-10, 3.3.1-11, 3.3.1-12, 3.8.4-3
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.retain("a", "1");
    for qos in [Q0, Q1] {
        client.subscribe("a", qos);
        assert_eq!(client.told(), format!("a 1 q{} retain", qos as u8));
    }
    // 3.1.1, 3.3.1-9, 3.3.1-12
    client.say("a", "not kept");
    assert_eq!(client.told(), "a not kept q0");
    let mut other = server.connect("o");
    other.retain("a", "2");
    assert_eq!(client.told(), "a 2 q1");
    // 3.1.1, 3.3.1-7: one of QoS 0, too
    let mut zero = publish("a", "3", Q0, 0);
    zero.retain = true;
    other.send(Packet::Publish(zero));
    assert_eq!(client.told(), "a 3 q0");
    // 3.1.1, 3.3.1-10, 3.3.1-11
    other.retain("a", "");
    assert_eq!(client.told(), "a  q1");
    client.subscribe("a", Q1);
    client.silent();
}

#[test]
fn what_5_says_with_a_message_is_left_out() {
    // 3.1.1, 2.3.1-5, 3.3.2-1, 3.3.2-3, 4.3.1-1
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.subscribe("a", Q0);
    let mut other = server.connect("o");
    let mut said = publish("a", "x", Q0, 0);
    said.message.properties.content_type = Some(text("text/plain"));
    said.message
        .properties
        .user_properties
        .push(&text("k"), &text("v"));
    said.message.properties.message_expiry_s = Some(100);
    other.send(Packet::Publish(said));
    hears(&mut client, &[0x30, 4, 0, 1, b'a', b'x']);
}

#[test]
fn a_will_is_kept_for_a_broken_connection_only() {
    // 3.1.1, 3.1.2-8, 3.1.2-10, 3.1.2-12, 3.1.2-16, 3.14.4-3
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("gone", Q2);
    for version in OLD {
        for (qos, leaves) in [(Q0, false), (Q1, true), (Q2, false)] {
            let mut will = crate::server::will("gone", "x");
            will.qos = qos;
            will.message = message("gone", "x");
            let connect = Connect {
                will: Some(will),
                ..hello(version, "c")
            };
            let (client, _) = server.connect_as(connect);
            if leaves {
                client.leave();
                witness.silent();
            } else {
                drop(client);
                let told = witness.publish();
                assert_eq!((told.qos, told.retain), (qos, false));
            }
        }
    }
    let (client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    drop(client);
    witness.silent();
}

#[test]
fn version_3_1_may_send_again_with_dup() {
    // MQTT 3.1, 2.1: PUBREL, SUBSCRIBE and UNSUBSCRIBE, too.
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1, "c"));
    client.bytes(&[0x8A, 6, 0, 3, 0, 1, b'b', 2]);
    hears(&mut client, &[0x90, 3, 0, 3, 2]);
    client.bytes(&[0xAA, 5, 0, 4, 0, 1, b'b']);
    hears(&mut client, &[0xB0, 2, 0, 4]);
    client.send(Packet::Publish(publish("a", "x", Q2, 8)));
    hears(&mut client, &[0x50, 2, 0, 8]);
    client.bytes(&[0x6A, 2, 0, 8]);
    hears(&mut client, &[0x70, 2, 0, 8]);
}

#[test]
fn qos_1_and_2_go_their_steps_both_ways() {
    // 3.1.1, 2.3.1-4, 3.3.1-3, 4.3.2-1, 4.3.2-2, 4.3.3-1, 4.3.3-2, 4.5.0-1
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.subscribe("a", Q2);
    let (mut other, _) = server.connect_as(hello(Version::V3_1_1, "o"));
    for round in 0..2 {
        let mut one = publish("a", "one", Q1, 5);
        one.dup = round == 1;
        other.send(Packet::Publish(one));
        assert!(matches!(other.next(), Some(Packet::Puback(ack)) if ack.packet_id == id(5)));
        let told = client.publish();
        assert_eq!((told.qos, told.dup), (Q1, false));
        client.send(Packet::Puback(Ack::new(
            told.packet_id.unwrap(),
            ReasonCode::Success,
        )));
    }
    // Until it is released it is one message.
    for dup in [false, true] {
        let mut two = publish("a", "two", Q2, 5);
        two.dup = dup;
        other.send(Packet::Publish(two));
        assert!(matches!(other.next(), Some(Packet::Pubrec(ack)) if ack.packet_id == id(5)));
    }
    let told = client.publish();
    assert_eq!((told.qos, told.dup), (Q2, false));
    let done = Ack::new(told.packet_id.unwrap(), ReasonCode::Success);
    for _ in 0..2 {
        client.send(Packet::Pubrec(done.clone()));
        assert!(matches!(client.next(), Some(Packet::Pubrel(ack)) if ack == done));
    }
    client.send(Packet::Pubcomp(done));
    client.silent();
    other.send(Packet::Pubrel(Ack::new(id(5), ReasonCode::Success)));
    assert!(matches!(other.next(), Some(Packet::Pubcomp(ack)) if ack.packet_id == id(5)));
}

#[test]
fn answers_and_releases_keep_their_order() {
    // 3.1.1, 4.6.0-2, 4.6.0-3, 4.6.0-4, 4.6.0-5, 4.6.0-6
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    let (mut reader, _) = server.connect_as(hello(Version::V3_1_1, "r"));
    reader.subscribe("a", Q2);
    for number in 1..=15 {
        let qos = if number % 2 == 0 { Q1 } else { Q2 };
        let mut said = publish("a", &number.to_string(), qos, number);
        said.retain = number % 3 == 0;
        client.send(Packet::Publish(said));
    }
    for number in 1..=15 {
        match client.next() {
            Some(Packet::Puback(ack)) => assert_eq!((ack.packet_id, number % 2), (id(number), 0)),
            Some(Packet::Pubrec(ack)) => assert_eq!((ack.packet_id, number % 2), (id(number), 1)),
            other => panic!("{other:?}"),
        }
    }
    let told: Vec<_> = (1..=15).map(|_| reader.publish()).collect();
    let payloads: Vec<_> = told
        .iter()
        .map(|told| told.message.payload.clone())
        .collect();
    let expected: Vec<String> = (1..=15).map(|number| number.to_string()).collect();
    assert_eq!(payloads, expected);
    let twos: Vec<_> = told.iter().filter(|told| told.qos == Q2).rev().collect();
    for told in &twos {
        reader.send(Packet::Pubrec(Ack::new(
            told.packet_id.unwrap(),
            ReasonCode::Success,
        )));
    }
    for told in twos {
        assert!(
            matches!(reader.next(), Some(Packet::Pubrel(ack)) if Some(ack.packet_id) == told.packet_id)
        );
    }
}

#[test]
fn an_unsubscribe_takes_its_own_filters_and_lets_deliveries_end() {
    // 3.1.1, 3.10.4-1, 3.10.4-2, 3.10.4-3, 3.10.4-6
    let server = Server::start();
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.subscribe("a/+", Q2);
    client.subscribe("b", Q2);
    client.subscribe("c", Q2);
    let mut other = server.connect("o");
    other.send(Packet::Publish(publish("a/b", "x", Q2, 1)));
    assert_eq!(other.reason(), 0);
    let told = client.publish();
    client.bytes(b"\xa2\x0d\0\x07\0\x03a/b\0\x01b\0\x01c");
    hears(&mut client, &[0xB0, 2, 0, 7]);
    assert_eq!(other.say_surely("b", "x"), 0x10);
    assert_eq!(other.say_surely("c", "x"), 0x10);
    let done = Ack::new(told.packet_id.unwrap(), ReasonCode::Success);
    client.send(Packet::Pubrec(done.clone()));
    assert!(matches!(client.next(), Some(Packet::Pubrel(ack)) if ack == done));
    client.send(Packet::Pubcomp(done));
    assert_eq!(other.say_surely("a/b", "y"), 0);
    assert_eq!(client.told(), "a/b y q1");
}
