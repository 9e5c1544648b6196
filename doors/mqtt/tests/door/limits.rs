//! What a client may take, and what it is told at the limit (reliability, L1 to L8).

use std::io::Write;

use bytes::Bytes;
use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{ConnectProperties, Packet, Version};
use sapwood_value::{Text, Value};

use crate::server::{Q0, Q1, Q2, Server, filter, hello, publish};

#[test]
fn a_packet_above_the_limit_ends_the_connection() {
    // 3.2.2-15
    let config = MqttConfig {
        packet_bytes_max: 1000,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let (mut client, connack) = server.connect_as(hello(Version::V5, "c"));
    assert_eq!(
        connack.properties.packet_bytes_max.map(u32::from),
        Some(1000)
    );
    client.say("a", &"x".repeat(2000));
    assert_eq!(client.ends(), 0x95);
}

#[test]
fn before_connect_a_client_may_send_little() {
    // L2
    let server = Server::start();
    let mut client = server.open(Version::V5);
    client.stream.write_all(&[0x10, 0xff, 0xff, 0x7f]).unwrap();
    client.stream.write_all(&[0; 1000]).unwrap();
    assert!(matches!(client.next(), None | Some(Packet::Connack(_))));
}

#[test]
fn a_payload_of_megabytes_goes_through_whole() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("big", Q1);
    let mut sent = publish("big", "", Q0, 0);
    sent.message.payload = Bytes::from(vec![7; 4 << 20]);
    for retain in [false, true] {
        let mut sent = sent.clone();
        sent.retain = retain;
        client.send(Packet::Publish(sent.clone()));
        assert_eq!(client.publish().message.payload, sent.message.payload);
    }
}

#[test]
fn filters_and_subscriptions_are_bounded() {
    // L8
    let config = MqttConfig {
        subscriptions_max: 3,
        filters_max: 2,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let mut client = server.connect("c");
    let both = |one, other| vec![filter(one, Q0), filter(other, Q1)];
    assert_eq!(client.subscribe_with(both("a", "b"), None), [0, 1]);
    assert_eq!(client.subscribe_with(both("c", "d"), None), [0, 0x97]);
    assert_eq!(client.subscribe_with(both("a", "d"), None), [0, 0x97]);
    client.unsubscribe("a");
    assert_eq!(client.subscribe_with(both("d", "e"), None), [0, 0x97]);
    let mut three = both("a", "b");
    three.push(filter("c", Q2));
    client.send(Packet::Subscribe(sapwood_mqtt::codec::Subscribe {
        packet_id: crate::server::id(1),
        properties: sapwood_mqtt::codec::SubscribeProperties::default(),
        filters: three,
    }));
    assert_eq!(client.ends(), 0x97);
}

#[test]
fn more_in_flight_than_the_receive_maximum_ends_the_connection() {
    // 3.3.4-7
    let config = MqttConfig {
        receive_maximum: 2,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let mut client = server.connect("c");
    for number in 1..=3 {
        client.send(Packet::Publish(publish("a", "x", Q2, number)));
    }
    assert_eq!(client.ends(), 0x93);
}

#[test]
fn a_client_s_receive_maximum_is_kept_to() {
    // 3.3.4-9
    let server = Server::start();
    let mut connect = hello(Version::V5, "c");
    connect.properties = ConnectProperties {
        receive_maximum: std::num::NonZeroU16::new(2),
        ..ConnectProperties::default()
    };
    let (mut client, _) = server.connect_as(connect);
    client.subscribe("a", Q1);
    let mut other = server.connect("o");
    for n in 0..10 {
        other.say_surely("a", &n.to_string());
    }
    let (one, two) = (client.publish(), client.publish());
    client.silent();
    for publish in [one, two] {
        let packet_id = publish.packet_id.unwrap();
        client.send(Packet::Puback(sapwood_mqtt::codec::Ack::new(
            packet_id,
            sapwood_mqtt::codec::ReasonCode::Success,
        )));
    }
    for n in 2..10 {
        assert_eq!(client.told(), format!("a {n} q1"));
    }
}

#[test]
fn a_reader_that_reads_nothing_disturbs_nobody() {
    // S3
    let server = Server::start();
    let mut slow = server.connect("slow");
    slow.subscribe("a", Q0);
    let mut good = server.connect("good");
    good.subscribe("a", Q0);
    let mut publisher = server.connect("p");
    let payload = "x".repeat(10_000);
    for n in 0..3000 {
        publisher.say("a", &format!("{n} {payload}"));
        if n % 50 == 49 {
            // The good one keeps up.
            for _ in 0..50 {
                good.told();
            }
        }
    }
    // The slow one has lost some, and goes on with what is new.
    let mut told = 0;
    loop {
        publisher.say("a", "last");
        if slow.publish().message.payload == "last" {
            break;
        }
        told += 1;
    }
    assert!(told < 3000);
}

#[test]
fn topic_aliases_work_both_ways() {
    // 3.3.2.3.4
    let server = Server::start();
    let mut connect = hello(Version::V5, "c");
    connect.properties.topic_alias_maximum = Some(5);
    let (mut client, connack) = server.connect_as(connect);
    assert_eq!(connack.properties.topic_alias_maximum, Some(16));
    client.subscribe("a/b", Q0);
    for topic in ["a/b", ""] {
        let mut sent = publish(topic, "x", Q0, 0);
        sent.topic_alias = Some(3);
        client.send(Packet::Publish(sent));
    }
    let (one, two) = (client.publish(), client.publish());
    assert_eq!(one.message.topic.as_str(), "a/b");
    assert_eq!(
        (two.message.topic.as_str(), two.topic_alias),
        ("", one.topic_alias)
    );
    let mut sent = publish("a/b", "x", Q0, 0);
    sent.topic_alias = Some(17);
    client.send(Packet::Publish(sent));
    assert_eq!(client.ends(), 0x94);
}

#[test]
fn a_first_state_of_qos_1_comes_as_fast_as_the_client_takes_it_and_whole() {
    let server = Server::start();
    let many = (0..5000).map(|n| (Text::from(format!("{n:05}")), Value::Int(n)));
    server.put("many", Value::Map(many.collect()));
    let mut client = server.connect("c");
    client.subscribe("many/+", Q1);
    for n in 0..5000 {
        assert_eq!(client.told(), format!("many/{n:05} {n} q1 retain"));
    }
    client.silent();
}

#[test]
fn what_changes_while_the_first_state_comes_is_told_behind_it() {
    let server = Server::start();
    let many = (0..5000).map(|n| (Text::from(format!("{n:05}")), Value::Int(n)));
    server.put("many", Value::Map(many.collect()));
    let mut client = server.connect("c");
    client.subscribe("many/+", Q1);
    server.put("many/00007", Value::Int(-7));
    for n in 0..5000 {
        assert_eq!(client.told(), format!("many/{n:05} {n} q1 retain"));
    }
    assert_eq!(client.told(), "many/00007 -7 q1");
    client.silent();
}

#[test]
fn a_client_that_acknowledges_nothing_is_told_when_too_much_waits() {
    // L7
    let config = MqttConfig {
        queued_max: 50,
        receive_maximum: 1000,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let mut slow = server.connect("slow");
    slow.subscribe("a", Q1);
    let mut good = server.connect("good");
    good.subscribe("a", Q1);
    let mut publisher = server.connect("p");
    for n in 0..3000 {
        publisher.say_surely("a", &n.to_string());
        assert_eq!(good.told(), format!("a {n} q1"));
    }
    assert_eq!(slow.ends(), 0x97);
    good.silent();
}

#[test]
fn a_message_larger_than_a_client_takes_is_only_kept_from_it() {
    // 3.1.2-24, 3.1.2-25
    let server = Server::start();
    let mut connect = hello(Version::V5, "small");
    connect.properties.packet_bytes_max = std::num::NonZeroU32::new(100);
    let (mut small, _) = server.connect_as(connect);
    let mut large = server.connect("large");
    for client in [&mut small, &mut large] {
        client.subscribe("a", Q1);
    }
    let mut publisher = server.connect("p");
    for payload in [&*"x".repeat(200), "y"] {
        publisher.say_surely("a", payload);
        assert_eq!(large.told(), format!("a {payload} q1"));
    }
    // As if it had been sent: what comes behind it comes.
    assert_eq!(small.told(), "a y q1");
    // A first state, too.
    publisher.retain("b/1", &"x".repeat(200));
    publisher.retain("b/2", "y");
    small.subscribe("b/+", Q0);
    assert_eq!(small.told(), "b/2 y q0 retain");
}

#[test]
fn a_full_window_holds_up_nothing_but_messages() {
    // 4.9.0-1, 4.9.0-2, 4.9.0-3, 3.3.4-10
    let server = Server::start();
    let mut connect = hello(Version::V5, "c");
    connect.properties.receive_maximum = std::num::NonZeroU16::new(1);
    let (mut client, _) = server.connect_as(connect);
    client.subscribe("a", Q2);
    let mut other = server.connect("o");
    for n in 0..3 {
        other.say_surely("a", &n.to_string());
    }
    let first = client.publish();
    assert_eq!(client.subscribe_with(vec![filter("b", Q0)], None), [0]);
    assert_eq!(client.unsubscribe("b"), [0]);
    assert_eq!(client.retain("c", "1"), 0);
    client.send(Packet::Publish(publish("d", "x", Q2, 4)));
    assert_eq!(client.reason(), 0x10);
    client.silent();
    let done = |packet_id| {
        Packet::Puback(sapwood_mqtt::codec::Ack::new(
            packet_id,
            sapwood_mqtt::codec::ReasonCode::Success,
        ))
    };
    client.send(done(first.packet_id.unwrap()));
    assert_eq!(client.told(), "a 1 q1");
    assert_eq!(client.told(), "a 2 q1");
}

#[test]
fn the_receive_maximum_is_for_what_has_no_answer_only() {
    // 3.3.4-7, 4.9
    let config = MqttConfig {
        receive_maximum: 2,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let (mut client, connack) = server.connect_as(hello(Version::V5, "c"));
    assert_eq!(connack.properties.receive_maximum.map(u16::from), Some(2));
    for round in 0..10 {
        for number in 1..=2 {
            client.send(Packet::Publish(publish(
                "a",
                &round.to_string(),
                Q2,
                number,
            )));
        }
        for _ in 0..2 {
            client.reason();
        }
        // QoS 0 is not counted.
        client.say("a", "zero");
        for number in 1..=2 {
            let ack = sapwood_mqtt::codec::Ack::new(
                crate::server::id(number),
                sapwood_mqtt::codec::ReasonCode::Success,
            );
            client.send(Packet::Pubrel(ack));
            assert_eq!(client.reason(), 0);
        }
    }
    client.silent();
}

#[test]
fn aliases_are_the_connection_s_own() {
    // 3.3.2-7, 3.1.2-26, 3.1.2-27, 3.3.2-10, 3.3.2-12
    let server = Server::start();
    let mut aliased = publish("a", "x", Q0, 0);
    aliased.topic_alias = Some(16);
    let mut bare = publish("", "x", Q0, 0);
    bare.topic_alias = Some(16);
    let mut witness = server.connect("w");
    witness.subscribe("#", Q0);
    let mut client = server.connect("c");
    client.send(Packet::Publish(aliased));
    client.send(Packet::Publish(bare.clone()));
    for _ in 0..2 {
        let told = witness.publish();
        // Who takes none is given none.
        assert_eq!((told.message.topic.as_str(), told.topic_alias), ("a", None));
    }
    client.leave();
    let mut client = server.connect("c");
    client.send(Packet::Publish(bare));
    assert_eq!(client.ends(), 0x82);
    let mut connect = hello(Version::V5, "one");
    connect.properties.topic_alias_maximum = Some(1);
    let (mut one, _) = server.connect_as(connect);
    one.subscribe("+", Q0);
    let mut other = server.connect("o");
    for topic in ["a", "b", "a", "b"] {
        other.say(topic, "x");
    }
    let told: Vec<_> = (0..4)
        .map(|_| one.publish())
        .map(|told| (told.message.topic.as_str().to_owned(), told.topic_alias))
        .collect();
    let expected = [("a", Some(1)), ("b", None), ("", Some(1)), ("b", None)];
    assert_eq!(
        told,
        expected.map(|(topic, alias)| (topic.to_owned(), alias))
    );
}
