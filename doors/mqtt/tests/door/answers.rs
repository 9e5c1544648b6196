//! PUBACK, PUBREC, PUBREL, PUBCOMP, and messages that are sent again (3.4 to 3.7, 4.3, 4.4).

use std::num::NonZeroU16;

use sapwood_mqtt::codec::{Ack, Connect, Packet, PacketId, ReasonCode, Version};

use crate::server::{Client, Q0, Q1, Q2, Server, hello, id, lasting, publish, spell};

/// A client of 5.0 that takes one message at a time, so that the next one shows that an answer was taken.
fn taking_one(server: &Server) -> Client {
    let mut connect = hello(Version::V5, "c");
    connect.properties.receive_maximum = NonZeroU16::new(1);
    let (mut client, _) = server.connect_as(connect);
    client.subscribe("a", Q2);
    client
}

/// The packet id of the next PUBLISH, as two bytes.
fn next_id(client: &mut Client) -> [u8; 2] {
    client
        .publish()
        .packet_id
        .map_or(0, PacketId::get)
        .to_be_bytes()
}

#[test]
fn an_answer_may_be_short_or_say_everything() {
    // 3.4.2.1, 3.5.2.1, 3.7.2.1: without a reason, without properties, with none of them, and with some
    let server = Server::start();
    let mut publisher = server.connect("p");
    let mut client = taking_one(&server);
    let tails: [&[u8]; 4] = [&[], &[0], &[0, 0], &[0, 7, 0x1F, 0, 1, b'w', 0x26, 0, 0]];
    for tail in [tails[0], tails[1], tails[2], &[0, 4, 0x1F, 0, 1, b'w']] {
        publisher.say_surely("a", "one");
        let [high, low] = next_id(&mut client);
        client.bytes(&[&[0x40, 2 + tail.len() as u8, high, low], tail].concat());
    }
    for tail in [tails[0], tails[1], tails[2]] {
        publisher.send(Packet::Publish(publish("a", "two", Q2, 5)));
        publisher.reason();
        publisher.send(Packet::Pubrel(Ack::new(id(5), ReasonCode::Success)));
        publisher.reason();
        let [high, low] = next_id(&mut client);
        client.bytes(&[&[0x50, 2 + tail.len() as u8, high, low], tail].concat());
        assert!(matches!(client.next(), Some(Packet::Pubrel(_))));
        client.bytes(&[&[0x70, 2 + tail.len() as u8, high, low], tail].concat());
    }
    client.silent();
}

#[test]
fn answers_bear_the_packet_id_of_what_they_answer() {
    // 2.2.1-5, 2.2.1-6, 3.3.4-1
    let server = Server::start();
    let mut client = server.connect("c");
    for number in [1, 0x0100, 0xFFFF] {
        client.send(Packet::Publish(publish("a", "x", Q1, number)));
        assert!(matches!(client.next(), Some(Packet::Puback(ack)) if ack.packet_id == id(number)));
        client.send(Packet::Publish(publish("a", "x", Q2, number)));
        assert!(matches!(client.next(), Some(Packet::Pubrec(ack)) if ack.packet_id == id(number)));
        client.send(Packet::Pubrel(Ack::new(id(number), ReasonCode::Success)));
        assert!(matches!(client.next(), Some(Packet::Pubcomp(ack)) if ack.packet_id == id(number)));
    }
    client.bytes(&[0x82, 7, 0x12, 0x34, 0, 0, 1, b'a', 0]);
    assert!(
        matches!(client.next(), Some(Packet::Suback(suback)) if suback.packet_id == id(0x1234))
    );
    client.bytes(&[0xA2, 6, 0x12, 0x35, 0, 0, 1, b'a']);
    assert!(
        matches!(client.next(), Some(Packet::Unsuback(unsuback)) if unsuback.packet_id == id(0x1235))
    );
    // 2.2.1-2: at QoS 0 there is none, and what stands there is payload.
    client.subscribe("a", Q0);
    client.bytes(&[0x30, 6, 0, 1, b'a', 0, 0, 7]);
    let told = client.publish();
    assert_eq!(
        (told.packet_id, &told.message.payload[..]),
        (None, &[0, 7][..])
    );
}

#[test]
fn dup_is_the_sender_s_own() {
    // 3.3.1-3, 4.3.2-2, 4.3.3-2
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("a", Q2);
    let mut publisher = server.connect("p");
    for qos in [Q1, Q2] {
        let mut again = publish("a", "x", qos, 9);
        again.dup = true;
        publisher.send(Packet::Publish(again));
        assert_eq!(publisher.reason(), 0);
        assert!(!client.publish().dup);
    }
}

#[test]
fn what_a_client_refuses_is_not_sent_again() {
    // 4.4.0-2, 4.8.2-6
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q2);
    let mut publisher = server.connect("p");
    publisher.say_surely("a", "one");
    publisher.send(Packet::Publish(publish("a", "two", Q2, 2)));
    publisher.reason();
    let (one, two) = (client.publish(), client.publish());
    let refused =
        |packet_id: Option<PacketId>| Ack::new(packet_id.unwrap(), ReasonCode::QuotaExceeded);
    client.send(Packet::Puback(refused(one.packet_id)));
    client.send(Packet::Pubrec(refused(two.packet_id)));
    client.silent();
    drop(client);
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    client.silent();
}

#[test]
fn what_was_begun_is_seen_through_behind_an_unsubscribe() {
    // 3.10.4-2, 3.10.4-3, 4.3.3-5
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe("a", Q2);
    let mut publisher = server.connect("p");
    publisher.send(Packet::Publish(publish("a", "x", Q2, 2)));
    publisher.reason();
    let first = client.publish();
    assert_eq!(client.unsubscribe("a"), [0]);
    publisher.say_surely("a", "not for it");
    drop(client);
    let (mut client, _) = server.connect_as(lasting("c"));
    let again = client.publish();
    assert_eq!(
        (spell(&again), again.packet_id),
        ("a x q2 dup".to_owned(), first.packet_id)
    );
    let packet_id = first.packet_id.unwrap();
    client.send(Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)));
    assert!(matches!(client.next(), Some(Packet::Pubrel(ack)) if ack.packet_id == packet_id));
    // The release, too, until it is answered: 4.4.0-1
    drop(client);
    let (mut client, _) = server.connect_as(lasting("c"));
    assert!(matches!(client.next(), Some(Packet::Pubrel(ack)) if ack.packet_id == packet_id));
    client.send(Packet::Pubcomp(Ack::new(packet_id, ReasonCode::Success)));
    client.silent();
    drop(client);
    server.connect_as(lasting("c")).0.silent();
}

#[test]
fn a_packet_id_means_something_new_once_it_is_released() {
    // 4.3.3-9, 4.3.3-11, 4.3.3-12, 4.3.2-5
    let server = Server::start();
    let mut witness = server.connect("w");
    witness.subscribe("#", Q0);
    let mut client = server.connect("c");
    for topic in ["a", "b"] {
        client.send(Packet::Publish(publish(topic, "x", Q2, 1)));
        assert_eq!(client.reason(), 0);
        client.send(Packet::Pubrel(Ack::new(id(1), ReasonCode::Success)));
        assert_eq!(client.reason(), 0);
        assert_eq!(witness.told(), format!("{topic} x q0"));
    }
    client.send(Packet::Publish(publish("$SYS/x", "x", Q2, 1)));
    assert_eq!(client.reason(), 0x87);
    client.send(Packet::Publish(publish("c", "x", Q2, 1)));
    assert_eq!(client.reason(), 0);
    assert_eq!(witness.told(), "c x q0");
    for _ in 0..2 {
        let mut again = publish("d", "x", Q1, 2);
        again.dup = true;
        client.send(Packet::Publish(again));
        assert_eq!(client.reason(), 0);
        assert_eq!(witness.told(), "d x q0");
    }
}

#[test]
fn a_message_whose_time_is_over_is_acknowledged_to_its_end() {
    // 4.3.3-13, 4.3.3-7
    let server = Server::start();
    let mut client = server.connect("c");
    let mut expiring = publish("a", "x", Q2, 1);
    expiring.retain = true;
    expiring.message.properties.message_expiry_s = Some(1);
    client.send(Packet::Publish(expiring));
    assert_eq!(client.reason(), 0);
    while server.get("a").is_some() {
        std::thread::yield_now();
    }
    client.send(Packet::Pubrel(Ack::new(id(1), ReasonCode::Success)));
    assert_eq!(client.reason(), 0);
}

#[test]
fn a_wrong_answer_ends_the_connection_and_the_message_comes_again() {
    // 3.3.4-1, 4.3.2-3, 4.3.3-3
    for (qos, first) in [(Q1, 0x50), (Q1, 0x70), (Q2, 0x40), (Q2, 0x70)] {
        let server = Server::start();
        let (mut client, _) = server.connect_as(Connect {
            clean_start: true,
            ..lasting("c")
        });
        client.subscribe("a", qos);
        let mut publisher = server.connect("p");
        publisher.send(Packet::Publish(publish("a", "x", qos, 3)));
        publisher.reason();
        let [high, low] = next_id(&mut client);
        client.bytes(&[first, 2, high, low]);
        assert_eq!(client.ends(), 0x82, "{first:#x}");
        let (mut client, _) = server.connect_as(lasting("c"));
        assert_eq!(spell(&client.publish()), format!("a x q{} dup", qos as u8));
    }
}
