//! Sessions that outlive their connections (4.1, 4.4).

use std::time::Duration;

use sapwood_core::CoreSettings;
use sapwood_mqtt::codec::{
    Ack, ConnectProperties, Disconnect, DisconnectProperties, Packet, ReasonCode, Subscribe,
    SubscribeProperties, Unsubscribe, UnsubscribeProperties, Version,
};
use sapwood_mqtt::{AwayDrops, MqttConfig};

use crate::server::{Client, Q0, Q1, Q2, Server, filter, hello, id, lasting, publish, spell, text};

#[test]
fn a_kept_session_finds_its_subscriptions_and_what_it_missed() {
    // 3.1.2-5, 3.1.2-6, 3.1.3-2, 3.2.2-3, 4.1.0-1, 4.5.0-1
    let server = Server::start();
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(!connack.session_present);
    client.subscribe("a/#", Q1);
    client.leave();
    let mut other = server.connect("o");
    other.say_surely("a/1", "one");
    other.say("a/2", "not kept");
    other.retain("a/3", "three");
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    assert_eq!(client.told(), "a/1 one q1");
    assert_eq!(client.told(), "a/3 three q1");
    other.say_surely("a/4", "four");
    assert_eq!(client.told(), "a/4 four q1");
    client.silent();
}

#[test]
fn in_3_1_1_a_session_that_is_not_clean_is_kept() {
    // 3.1.1, 3.1.2-4, 3.1.2-5, 3.1.2-6, 3.2.2-1, 3.2.2-2
    let server = Server::start();
    let mut connect = hello(Version::V3_1_1, "c");
    connect.clean_start = false;
    let (mut client, connack) = server.connect_as(connect.clone());
    assert!(!connack.session_present);
    client.subscribe("a", Q2);
    drop(client);
    let mut other = server.connect("o");
    other.say_surely("a", "x");
    let (mut client, connack) = server.connect_as(connect);
    assert!(connack.session_present);
    // It may have gone out just before the connection was seen to be gone.
    assert!(client.told().starts_with("a x q1"));
    // A clean one throws it away.
    let (mut client, connack) = server.connect_as(hello(Version::V3_1_1, "c"));
    assert!(!connack.session_present);
    other.say_surely("a", "y");
    client.silent();
}

#[test]
fn what_is_not_acknowledged_comes_again_with_its_packet_id() {
    // 4.4.0-1
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q2);
    let mut other = server.connect("o");
    other.say_surely("a", "x");
    other.send(Packet::Publish(publish("a", "y", Q2, 2)));
    assert_eq!(other.reason(), 0);
    let (one, two) = (client.publish(), client.publish());
    client.send(Packet::Pubrec(Ack::new(
        two.packet_id.unwrap(),
        ReasonCode::Success,
    )));
    assert!(matches!(client.next(), Some(Packet::Pubrel(_))));
    drop(client);
    let (mut client, _) = server.connect_as(lasting("c"));
    let (mut again, mut released) = (None, None);
    for _ in 0..2 {
        match client.next().unwrap() {
            Packet::Publish(publish) => again = Some(publish),
            Packet::Pubrel(ack) => released = Some(ack.packet_id),
            other => panic!("{other:?}"),
        }
    }
    let again = again.unwrap();
    assert_eq!(
        (spell(&again), again.packet_id),
        ("a x q1 dup".to_owned(), one.packet_id)
    );
    assert_eq!(released, two.packet_id);
}

#[test]
fn a_qos_2_message_acts_once_over_two_connections() {
    // 4.3.3-10
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("a", Q0);
    let (mut client, _) = server.connect_as(lasting("c"));
    client.send(Packet::Publish(publish("a", "x", Q2, 9)));
    drop(client);
    assert_eq!(witness.told(), "a x q0");
    let (mut client, _) = server.connect_as(lasting("c"));
    let mut again = publish("a", "x", Q2, 9);
    again.dup = true;
    client.send(Packet::Publish(again));
    assert_eq!(client.reason(), 0);
    client.send(Packet::Pubrel(Ack::new(id(9), ReasonCode::Success)));
    assert_eq!(client.reason(), 0);
    witness.silent();
}

#[test]
fn a_takeover_takes_the_session_along() {
    // 3.1.4-3
    let server = Server::start();
    let (mut first, _) = server.connect_as(lasting("c"));
    first.subscribe("a", Q1);
    let (mut second, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    assert_eq!(first.ends(), 0x8E);
    let mut other = server.connect("o");
    other.say_surely("a", "x");
    assert_eq!(second.told(), "a x q1");
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    // 3.1.2-23, 4.1.0-2
    let server = Server::start();
    let mut connect = lasting("c");
    connect.properties.session_expiry_s = Some(1);
    let (mut client, _) = server.connect_as(connect.clone());
    client.subscribe("a", Q1);
    client.leave();
    // Its last moment is that of its subscription.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    let mut other = server.connect("o");
    while other.say_surely("a", "x") == 0 {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    let (mut client, connack) = server.connect_as(connect);
    assert!(!connack.session_present);
    client.silent();
}

#[test]
fn a_client_that_leaves_may_change_how_long_it_is_kept() {
    // 3.14.2.2.2
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q1);
    client.send(Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: DisconnectProperties {
            session_expiry_s: Some(0),
            ..DisconnectProperties::default()
        },
    }));
    assert_eq!(client.next(), None);
    let (_client, connack) = server.connect_as(lasting("c"));
    assert!(!connack.session_present);
}

#[test]
fn a_session_without_time_ends_with_its_connection() {
    // 3.1.2-6, 3.2.2-3, 4.1.0-2
    let server = Server::start();
    let mut connect = hello(Version::V5, "c");
    connect.clean_start = false;
    let (mut client, _) = server.connect_as(connect.clone());
    client.subscribe("a", Q1);
    client.leave();
    let (_client, connack) = server.connect_as(connect);
    assert!(!connack.session_present);
}

#[test]
fn what_waits_for_a_client_that_is_away_is_bounded() {
    // reliability, L7
    for (away_drops, left) in [(AwayDrops::Oldest, 7..10), (AwayDrops::Newest, 0..3)] {
        bounded_away(away_drops, left);
    }
}

fn bounded_away(away_drops: AwayDrops, left: std::ops::Range<usize>) {
    let config = MqttConfig {
        away_messages_max: 3,
        away_drops,
        in_flight_max: 2,
        sessions_max: 1,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q1);
    client.leave();
    let mut other = server.connect("o");
    for n in 0..10 {
        other.say_surely("a", &n.to_string());
    }
    // As many are kept as may be.
    let mut refused = server.open(Version::V5);
    refused.send(Packet::Connect(Box::new(lasting("d"))));
    assert_eq!(refused.reason(), 0x97);
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    for n in left {
        assert_eq!(client.told(), format!("a {n} q1"));
    }
    client.silent();
    // What was left out is so for good.
    other.say_surely("a", "next");
    assert_eq!(client.told(), "a next q1");
}

#[test]
fn the_longest_time_is_told_to_who_asks_for_more() {
    // 3.2.2.3.2
    let config = MqttConfig {
        session_expiry_s_max: 100,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let mut connect = hello(Version::V5, "c");
    connect.properties = ConnectProperties {
        session_expiry_s: Some(1000),
        ..ConnectProperties::default()
    };
    let (_client, connack) = server.connect_as(connect);
    assert_eq!(connack.properties.session_expiry_s, Some(100));
}

#[test]
fn a_clean_start_throws_a_session_away_and_begins_another() {
    // 3.1.2-4, 3.1.4-4, 3.2.2-2
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q1);
    client.leave();
    let clean = sapwood_mqtt::codec::Connect {
        clean_start: true,
        ..lasting("c")
    };
    let (mut client, connack) = server.connect_as(clean);
    assert!(!connack.session_present);
    assert_eq!(server.connect("o").say_surely("a", "x"), 0x10);
    client.subscribe("b", Q1);
    client.leave();
    // 3.2.2-3: it is a session like any other.
    assert!(server.connect_as(lasting("c")).1.session_present);
}

#[test]
fn what_waits_too_long_for_a_client_that_is_away_is_gone_and_the_rest_has_less_time() {
    // 3.3.2-5, 3.3.2-6
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q1);
    client.leave();
    let mut other = server.connect("o");
    let expiring = |payload: &str, s| {
        let mut said = publish("a", payload, Q1, 5);
        said.message.properties.message_expiry_s = Some(s);
        Packet::Publish(said)
    };
    for (payload, s) in [("short", 1), ("long", 100)] {
        other.send(expiring(payload, s));
        other.reason();
    }
    // A record with the same time shows that it has passed.
    let mut clock = publish("clock", "x", Q1, 6);
    clock.retain = true;
    clock.message.properties.message_expiry_s = Some(1);
    other.send(Packet::Publish(clock));
    other.reason();
    while server.get("clock").is_some() {
        std::thread::yield_now();
    }
    let (mut client, _) = server.connect_as(lasting("c"));
    let told = client.publish();
    assert_eq!(told.message.payload, "long");
    let left = told.message.properties.message_expiry_s.unwrap();
    assert!((90..100).contains(&left), "{left}");
    client.silent();
}

#[test]
fn releases_go_out_in_the_order_of_what_they_release() {
    // 4.6.0-4, 4.3.3-4
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("a", Q2);
    let mut other = server.connect("o");
    for number in 1..=5 {
        other.send(Packet::Publish(publish("a", "x", Q2, number)));
        other.reason();
    }
    let ids: Vec<_> = (0..5)
        .map(|_| client.publish().packet_id.unwrap())
        .collect();
    for at in [3, 0, 4, 1, 2] {
        client.send(Packet::Pubrec(Ack::new(ids[at], ReasonCode::Success)));
    }
    for at in [3, 0, 4, 1, 2] {
        assert!(matches!(client.next(), Some(Packet::Pubrel(ack)) if ack.packet_id == ids[at]));
    }
}

#[test]
fn a_session_and_all_that_is_in_flight_outlive_the_server() {
    // 4.1.0-1, 4.4.0-1
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let settings = CoreSettings::folder(folder.path().to_owned());
        Server::over(MqttConfig::default(), settings)
    };
    let server = start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a/#", Q2);
    let mut other = server.connect("o");
    say_once(&mut other, "a/1", "one");
    let first = client.publish();
    // It is never answered. The next one is received, and not released.
    say_once(&mut other, "a/2", "two");
    let second = client.publish();
    client.send(Packet::Pubrec(Ack::new(
        second.packet_id.unwrap(),
        ReasonCode::Success,
    )));
    let next = client.next();
    assert!(matches!(next, Some(Packet::Pubrel(_))), "{next:?}");
    client.leave();
    other.say_surely("a/3", "three");
    drop(server);
    let server = start();
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    let Some(Packet::Pubrel(release)) = client.next() else {
        panic!("no release")
    };
    assert_eq!(Some(release.packet_id), second.packet_id);
    let again = client.publish();
    assert!(again.dup);
    assert_eq!(
        (again.packet_id, &again.message),
        (first.packet_id, &first.message)
    );
    let third = client.publish();
    assert_eq!(&third.message.payload[..], b"three");
    assert!(![first.packet_id, second.packet_id].contains(&third.packet_id));
}

#[test]
fn what_a_client_has_published_acts_once_over_a_restart() {
    // 4.3.3-10
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let settings = CoreSettings::folder(folder.path().to_owned());
        Server::over(MqttConfig::default(), settings)
    };
    let server = start();
    let (mut listener, _) = server.connect_as(lasting("l"));
    listener.subscribe("a", Q1);
    listener.leave();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.send(Packet::Publish(publish("a", "once", Q2, 7)));
    assert!(matches!(client.next(), Some(Packet::Pubrec(_))));
    client.leave();
    drop(server);
    let server = start();
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    let mut again = publish("a", "once", Q2, 7);
    again.dup = true;
    client.send(Packet::Publish(again));
    assert!(matches!(client.next(), Some(Packet::Pubrec(_))));
    client.send(Packet::Pubrel(Ack::new(id(7), ReasonCode::Success)));
    assert!(matches!(client.next(), Some(Packet::Pubcomp(_))));
    let (mut listener, _) = server.connect_as(lasting("l"));
    assert_eq!(listener.told(), "a once q1");
    listener.silent();
}

/// Publishes at QoS 2, and sees it through.
fn say_once(client: &mut Client, topic: &str, payload: &str) {
    client.send(Packet::Publish(publish(topic, payload, Q2, 1)));
    assert!(matches!(client.next(), Some(Packet::Pubrec(_))));
    client.send(Packet::Pubrel(Ack::new(id(1), ReasonCode::Success)));
    assert!(matches!(client.next(), Some(Packet::Pubcomp(_))));
}

#[test]
fn who_unsubscribes_and_subscribes_at_once_misses_nothing_while_away() {
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q1);
    client.send(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(1),
        properties: UnsubscribeProperties::default(),
        filters: vec![text("a")],
    }));
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(2),
        properties: SubscribeProperties::default(),
        filters: vec![filter("a", Q1)],
    }));
    assert!(matches!(client.next(), Some(Packet::Unsuback(_))));
    assert!(matches!(client.next(), Some(Packet::Suback(_))));
    client.leave();
    server.connect("o").say_surely("a", "x");
    let (mut client, _) = server.connect_as(lasting("c"));
    assert_eq!(client.told(), "a x q1");
}

#[test]
fn large_messages_wait_for_a_client_that_acknowledges_late() {
    let server = Server::with(MqttConfig {
        in_flight_max: 1,
        queued_bytes_max: 10_000,
        ..MqttConfig::default()
    });
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q1);
    let mut other = server.connect("o");
    let payload = |n: usize| format!("{n}{}", "x".repeat(4000));
    for n in 0..8 {
        other.say_surely("a", &payload(n));
    }
    // Nothing but the first has gone out; the rest waits.
    let mut first = client.publish();
    client.silent();
    for n in 0..8 {
        assert_eq!(first.message.payload, payload(n).as_bytes());
        let packet_id = first.packet_id.unwrap();
        client.send(Packet::Puback(Ack::new(packet_id, ReasonCode::Success)));
        if n < 7 {
            first = client.publish();
        }
    }
    client.silent();
}

#[test]
fn a_subscription_of_qos_0_beside_durable_ones_is_told_while_these_catch_up() {
    let server = Server::start();
    let (mut keeps, _) = server.connect_as(lasting("keeps"));
    keeps.subscribe("#", Q1);
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("s", Q1);
    client.subscribe("p", Q0);
    let mut other = server.connect("o");
    for n in 0..20 {
        other.say_surely("s", &n.to_string());
        other.say_surely("p", &n.to_string());
    }
    let mut told = [Vec::new(), Vec::new()];
    for _ in 0..40 {
        let publish = client.publish();
        if let Some(packet_id) = publish.packet_id {
            client.send(Packet::Puback(Ack::new(packet_id, ReasonCode::Success)));
        }
        let of = usize::from(publish.message.topic.as_str() == "p");
        told[of].push(String::from_utf8(publish.message.payload.to_vec()).unwrap());
    }
    let all: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(told, [all.clone(), all]);
}

#[test]
fn a_slow_reader_finds_every_message_of_any_size_in_order() {
    let server = Server::with(MqttConfig {
        outbound_bytes_max: 4 << 10,
        in_flight_max: 10,
        queued_max: 10,
        ..MqttConfig::default()
    });
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("#", Q1);
    let mut other = server.connect("o");
    // More than the sockets, the connection and the outbox take; small ones find room where large ones do not.
    let payload = |n: usize| {
        format!(
            "{n} {}",
            "x".repeat(if n.is_multiple_of(3) { 10 } else { 90_000 })
        )
    };
    for n in 0..150 {
        if n % 5 == 0 {
            other.retain("r", &payload(n));
        } else {
            other.say_surely("a", &payload(n));
        }
    }
    for n in 0..150 {
        let publish = client.publish();
        let topic = if n % 5 == 0 { "r" } else { "a" };
        assert_eq!(publish.message.topic.as_str(), topic, "at {n}");
        assert!(publish.message.payload == payload(n).as_bytes(), "at {n}");
        let packet_id = publish.packet_id.unwrap();
        client.send(Packet::Puback(Ack::new(packet_id, ReasonCode::Success)));
    }
}
