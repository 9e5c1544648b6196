//! Shared subscriptions (4.8.2).

use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Ack, Packet, ReasonCode, SubscribeFilter, Version};

use crate::server::{Q0, Q1, Q2, Server, filter, hello, lasting, publish};

#[test]
fn each_message_goes_to_one_member() {
    // 4.8.2, 4.8.2-1, 4.8.2-3
    let server = Server::start();
    let (mut one, mut two) = (server.connect("one"), server.connect("two"));
    for member in [&mut one, &mut two] {
        member.subscribe("$share/g/a/#", Q1);
    }
    let mut publisher = server.connect("p");
    for n in 0..10 {
        publisher.say_surely("a/b", &n.to_string());
    }
    let mut all: Vec<String> = (0..5).flat_map(|_| [one.told(), two.told()]).collect();
    all.sort();
    let expected: Vec<String> = (0..10).map(|n| format!("a/b {n} q1")).collect();
    assert_eq!(all, expected);
    one.silent();
    two.silent();
}

#[test]
fn groups_and_other_subscriptions_are_told_apart() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_with(vec![filter("$share/g/a", Q0)], Some(1));
    client.subscribe_with(vec![filter("$share/h/a", Q0)], Some(2));
    client.subscribe_with(vec![filter("a", Q0)], Some(3));
    let mut publisher = server.connect("p");
    publisher.say("a", "x");
    let mut told = [client.told(), client.told(), client.told()];
    told.sort();
    assert_eq!(told, ["a x q0 #1", "a x q0 #2", "a x q0 #3"]);
    client.silent();
}

#[test]
fn a_group_has_no_first_state_but_is_told_changes() {
    // 4.8.2
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("a", "1");
    let asked = SubscribeFilter {
        retain_as_published: true,
        ..filter("$share/g/a", Q0)
    };
    client.subscribe_with(vec![asked], None);
    client.silent();
    let mut publisher = server.connect("p");
    publisher.retain("a", "2");
    assert_eq!(client.told(), "a 2 q0 retain");
}

#[test]
fn what_a_member_that_goes_has_not_taken_goes_to_another() {
    // 4.8.2
    let server = Server::start();
    let (mut one, two) = (server.connect("one"), server.connect("two"));
    one.subscribe("$share/g/a", Q1);
    drop(two);
    let mut publisher = server.connect("p");
    for n in 0..4 {
        publisher.say_surely("a", &n.to_string());
        assert_eq!(one.told(), format!("a {n} q1"));
    }
}

#[test]
fn a_member_that_is_there_is_told_before_one_that_is_away() {
    let server = Server::start();
    let (mut away, _) = server.connect_as(lasting("away"));
    away.subscribe("$share/g/a", Q1);
    away.leave();
    let mut there = server.connect("there");
    there.subscribe("$share/g/a", Q1);
    let mut publisher = server.connect("p");
    for n in 0..6 {
        publisher.say_surely("a", &n.to_string());
        assert_eq!(there.told(), format!("a {n} q1"));
    }
    there.leave();
    publisher.say_surely("a", "last");
    let (mut away, _) = server.connect_as(lasting("away"));
    assert_eq!(away.told(), "a last q1");
}

#[test]
fn a_message_of_qos_2_that_has_gone_out_stays_with_its_member() {
    // 4.8.2-4, 4.8.2-5
    let server = Server::start();
    let (mut away, _) = server.connect_as(lasting("away"));
    away.subscribe("$share/g/a", Q2);
    let mut publisher = server.connect("p");
    publisher.send(Packet::Publish(publish("a", "x", Q2, 1)));
    assert_eq!(publisher.reason(), 0);
    let first = away.publish();
    let mut other = server.connect("other");
    other.subscribe("$share/g/a", Q2);
    drop(away);
    other.silent();
    let (mut away, _) = server.connect_as(lasting("away"));
    let again = away.publish();
    assert_eq!((again.dup, again.packet_id), (true, first.packet_id));
    // Its session ends: nobody else gets what it may have had.
    drop(away);
    let (mut clean, connack) = server.connect_as(hello(Version::V5, "away"));
    assert!(!connack.session_present);
    clean.silent();
    other.silent();
}

#[test]
fn what_a_member_refuses_is_nobody_s() {
    // 4.8.2-6
    let server = Server::start();
    let mut one = server.connect("one");
    one.subscribe("$share/g/a", Q1);
    let mut publisher = server.connect("p");
    publisher.say_surely("a", "x");
    let told = one.publish();
    let mut two = server.connect("two");
    two.subscribe("$share/g/a", Q1);
    let refused = Ack::new(
        told.packet_id.unwrap(),
        ReasonCode::ImplementationSpecificError,
    );
    one.send(Packet::Puback(refused));
    one.silent();
    two.silent();
    one.leave();
    two.silent();
}

#[test]
fn what_a_member_had_no_room_for_goes_to_another_when_it_goes() {
    let server = Server::with(MqttConfig {
        in_flight_max: 1,
        queued_bytes_max: 10_000,
        ..MqttConfig::default()
    });
    let (mut away, _) = server.connect_as(lasting("away"));
    away.subscribe("$share/g/a", Q1);
    away.leave();
    let mut slow = server.connect("slow");
    slow.subscribe("$share/g/a", Q1);
    let mut publisher = server.connect("p");
    let payload = |n: usize| format!("{n}{}", "x".repeat(4000));
    for n in 0..8 {
        publisher.say_surely("a", &payload(n));
    }
    let first = slow.publish();
    assert_eq!(first.message.payload, payload(0).as_bytes());
    let mut other = server.connect("other");
    other.subscribe("$share/g/a", Q1);
    drop(slow);
    let mut told = Vec::new();
    for _ in 0..8 {
        let publish = other.publish();
        told.push(usize::from(publish.message.payload[0] - b'0'));
        let packet_id = publish.packet_id.unwrap();
        other.send(Packet::Puback(Ack::new(packet_id, ReasonCode::Success)));
    }
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3, 4, 5, 6, 7]);
    other.silent();
}

#[test]
fn what_waits_for_a_member_that_unsubscribes_is_told_to_one_and_once() {
    let server = Server::with(MqttConfig {
        in_flight_max: 1,
        ..MqttConfig::default()
    });
    let (mut away, _) = server.connect_as(lasting("away"));
    away.subscribe("$share/g/a", Q2);
    away.leave();
    let mut one = server.connect("one");
    one.subscribe("$share/g/a", Q2);
    let mut publisher = server.connect("p");
    for n in 0..4 {
        publisher.send(Packet::Publish(publish("a", &n.to_string(), Q2, n + 1)));
        assert_eq!(publisher.reason(), 0);
    }
    let first = one.publish();
    let mut two = server.connect("two");
    two.subscribe("$share/g/a", Q2);
    one.unsubscribe("$share/g/a");
    let release = |client: &mut crate::server::Client, packet_id| {
        client.send(Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)));
        assert!(matches!(client.next(), Some(Packet::Pubrel(_))));
        client.send(Packet::Pubcomp(Ack::new(packet_id, ReasonCode::Success)));
    };
    release(&mut one, first.packet_id.unwrap());
    for n in 1..4 {
        let publish = two.publish();
        assert_eq!(publish.message.payload, n.to_string().as_bytes());
        release(&mut two, publish.packet_id.unwrap());
    }
    one.silent();
    two.silent();
}

#[test]
fn what_a_kept_member_has_not_acknowledged_goes_to_another_when_it_goes() {
    // 4.8.2-6
    let server = Server::start();
    let (mut kept, _) = server.connect_as(lasting("kept"));
    kept.subscribe("$share/g/a", Q1);
    let mut publisher = server.connect("p");
    for n in 0..3 {
        publisher.say_surely("a", &n.to_string());
        assert_eq!(kept.publish().message.payload, n.to_string());
    }
    let (mut other, _) = server.connect_as(lasting("other"));
    other.subscribe("$share/g/a", Q1);
    other.silent();
    drop(kept);
    for n in 0..3 {
        assert_eq!(other.told(), format!("a {n} q1"));
    }
    // It ends with them in flight; they are not said once more.
    let clean = server.connect_as(hello(Version::V5, "kept"));
    assert!(!clean.1.session_present);
    other.silent();
}

#[test]
fn what_a_member_has_in_flight_comes_again_to_it_alone_if_it_is_alone() {
    let server = Server::start();
    let (mut kept, _) = server.connect_as(lasting("kept"));
    kept.subscribe("$share/g/a", Q1);
    server.connect("p").say_surely("a", "x");
    let first = kept.publish();
    drop(kept);
    let (mut kept, _) = server.connect_as(lasting("kept"));
    let again = kept.publish();
    assert_eq!((again.dup, again.packet_id), (true, first.packet_id));
    kept.send(Packet::Puback(Ack::new(
        first.packet_id.unwrap(),
        ReasonCode::Success,
    )));
    kept.silent();
    kept.leave();
    let (mut kept, _) = server.connect_as(lasting("kept"));
    kept.silent();
}
