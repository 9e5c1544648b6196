//! Messages and records, from clients to the tree and to others (3.3, 4.3, 4.6).

use sapwood_mqtt::codec::{Ack, Packet, Publish, ReasonCode, Version};
use sapwood_tree::OpKind;
use sapwood_value::Value;

use crate::server::{Q0, Q1, Q2, Server, filter, hello, id, message, publish, spell, text};

#[test]
fn a_message_reaches_all_who_subscribe_and_is_not_kept() {
    // 3.3.1-8, 4.3.1-1, 4.5.0-1
    let server = Server::start();
    let (mut one, mut other) = (server.connect("one"), server.connect("other"));
    one.subscribe("a/+", Q0);
    other.subscribe("#", Q0);
    one.say("a/b", "hello");
    assert_eq!(one.told(), "a/b hello q0");
    assert_eq!(other.told(), "a/b hello q0");
    assert_eq!(server.get("a/b"), None);
    let mut late = server.connect("late");
    late.subscribe("a/+", Q0);
    late.silent();
}

#[test]
fn what_is_retained_is_a_record_with_its_bytes() {
    // 3.3.1-5, 3.3.2-1
    let server = Server::start();
    let mut client = server.connect("c");
    assert_eq!(client.retain("sensors/1", "{ \"t\" : 1.50 }"), 0);
    let t = server.get("sensors/1/t");
    assert_eq!(t, Some(Value::Float(1.5)));
    client.subscribe("sensors/+", Q0);
    assert_eq!(client.told(), "sensors/1 { \"t\" : 1.50 } q0 retain");
}

#[test]
fn an_empty_retained_message_removes_and_is_told() {
    // 3.3.1-6, 3.3.1-7
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("a", "1");
    client.subscribe("a", Q0);
    assert_eq!(client.told(), "a 1 q0 retain");
    client.send(Packet::Publish(Publish {
        retain: true,
        ..publish("a", "", Q0, 0)
    }));
    assert_eq!(client.told(), "a  q0");
    assert_eq!(server.get("a"), None);
    // Also where nothing lies.
    client.send(Packet::Publish(Publish {
        retain: true,
        ..publish("a", "", Q0, 0)
    }));
    assert_eq!(client.told(), "a  q0");
}

#[test]
fn records_at_a_path_and_below_it_live_side_by_side() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.retain("lamp", "{\"state\":\"ON\"}");
    client.retain("lamp/availability", "online");
    client.subscribe("lamp/#", Q0);
    assert_eq!(client.told(), "lamp {\"state\":\"ON\"} q0 retain");
    assert_eq!(client.told(), "lamp/availability online q0 retain");
}

#[test]
fn what_other_doors_write_comes_as_json() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("sensors/#", Q2);
    server.put("sensors/1", Value::Int(5));
    let publish = client.publish();
    assert_eq!(spell(&publish), "sensors/1 5 q2");
    let content_type = publish.message.properties.content_type;
    assert_eq!(content_type, Some(text("application/json")));
    server.write("sensors/1", OpKind::Delete);
    assert_eq!(client.publish().message.payload.len(), 0);
    assert_eq!(server.say("sensors/1", "ON"), 1);
    assert_eq!(client.publish().message.payload, "\"ON\"");
}

#[test]
fn a_message_comes_at_the_lower_of_both_qos() {
    // 3.8.4-8
    let server = Server::start();
    let mut client = server.connect("c");
    for (topic, granted) in [("zero", Q0), ("one", Q1), ("two", Q2)] {
        client.subscribe(topic, granted);
    }
    let mut publisher = server.connect("p");
    let mut come = Vec::new();
    for topic in ["zero", "one", "two"] {
        for qos in [Q0, Q1, Q2] {
            let number = if qos == Q0 { 0 } else { 1 };
            publisher.send(Packet::Publish(publish(topic, "x", qos, number)));
            match qos {
                Q0 => {}
                Q1 => assert_eq!(publisher.reason(), 0),
                Q2 => {
                    assert_eq!(publisher.reason(), 0);
                    publisher.send(Packet::Pubrel(Ack::new(id(1), ReasonCode::Success)));
                    assert_eq!(publisher.reason(), 0);
                }
            }
            come.push(client.publish().qos as u8);
        }
    }
    assert_eq!(come, [0, 0, 0, 0, 1, 1, 0, 1, 2]);
}

#[test]
fn qos_2_goes_its_four_steps_on_both_sides() {
    // 4.3.3-1, 4.3.3-2, 4.3.3-4, 4.3.3-8, 4.3.3-11
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("a", Q2);
    let sent = Packet::Publish(publish("a", "x", Q2, 5));
    client.send(sent.clone());
    let (mut publishes, mut recs) = (Vec::new(), 0);
    for _ in 0..2 {
        match client.next().unwrap() {
            Packet::Publish(publish) => publishes.push(publish),
            Packet::Pubrec(ack) => {
                assert_eq!(ack.packet_id, id(5));
                recs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((publishes.len(), recs), (1, 1));
    // 4.3.3-10: again, and it does not act again.
    client.send(sent);
    assert_eq!(client.reason(), 0);
    client.send(Packet::Pubrel(Ack::new(id(5), ReasonCode::Success)));
    assert_eq!(client.reason(), 0);
    let packet_id = publishes[0].packet_id.unwrap();
    client.send(Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)));
    assert!(matches!(client.next(), Some(Packet::Pubrel(_))));
    client.send(Packet::Pubcomp(Ack::new(packet_id, ReasonCode::Success)));
    client.silent();
}

#[test]
fn who_publishes_to_nobody_is_told_so() {
    // 3.4.2.1
    let server = Server::start();
    let mut client = server.connect("c");
    assert_eq!(client.say_surely("a", "x"), 0x10);
    client.subscribe("a", Q0);
    client.send(Packet::Publish(publish("a", "x", Q1, 1)));
    let both = [client.next().unwrap(), client.next().unwrap()];
    let acknowledged = both
        .iter()
        .any(|packet| matches!(packet, Packet::Puback(ack) if ack.reason as u8 == 0));
    assert!(acknowledged, "{both:?}");
}

#[test]
fn properties_go_from_end_to_end() {
    // 3.3.2-4, 3.3.2-13, 3.3.2-15, 3.3.2-16, 3.3.2-17, 3.3.2-18, 3.3.2-19, 3.3.2-20
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("a", Q0);
    client.retain("b", "");
    let mut sent = publish("a", "x", Q0, 0);
    let properties = &mut sent.message.properties;
    properties.message_expiry_s = Some(100);
    properties.payload_is_text = Some(true);
    properties.content_type = Some(text("text/plain"));
    properties.response_topic = Some(text("answers/1"));
    properties.correlation_data = Some("\u{0}7".into());
    properties.user_properties.push(&text("k"), &text("1"));
    properties.user_properties.push(&text("k"), &text("2"));
    client.send(Packet::Publish(sent.clone()));
    let told = client.publish();
    assert_eq!(told.message, sent.message);
    // A record keeps what describes its payload.
    client.send(Packet::Publish(Publish {
        retain: true,
        ..sent.clone()
    }));
    let told = client.publish();
    let kept = told.message.properties;
    assert_eq!(kept.content_type, Some(text("text/plain")));
    assert_eq!(kept.payload_is_text, Some(true));
    assert_eq!(
        kept.user_properties,
        sent.message.properties.user_properties
    );
}

#[test]
fn order_holds_between_one_publisher_and_one_subscriber() {
    // 4.6.0-5
    let server = Server::start();
    let mut client = server.connect("c");
    let mut publisher = server.connect("p");
    client.subscribe("#", Q2);
    for n in 0..200 {
        let mut sent = publish("a", &n.to_string(), Q0, 0);
        sent.retain = n % 3 == 0;
        publisher.send(Packet::Publish(sent));
    }
    for n in 0..200 {
        let publish = client.publish();
        assert_eq!(publish.message.payload, n.to_string());
    }
}

#[test]
fn system_topics_are_the_servers_and_their_names_are_refused() {
    // 4.7.2-1; design, 2.4
    let server = Server::start();
    let mut client = server.connect("c");
    assert_eq!(client.say_surely("$SYS/broker/uptime", "1"), 0x87);
    assert_eq!(client.say_surely(".clients/x", "1"), 0x90);
    client.subscribe("$mine/#", Q0);
    client.subscribe("#", Q0);
    client.say("$mine/a", "x");
    assert_eq!(client.told(), "$mine/a x q0");
    client.silent();
}

#[test]
fn topics_may_be_empty_levels_dots_and_spaces() {
    // 4.7.3-1, 4.7.3-4
    let server = Server::start();
    let mut client = server.connect("c");
    let mut publisher = server.connect("p");
    client.subscribe("#", Q0);
    for topic in ["/", "a//b", " ", "a.b/c d", "~", "\u{e9}/\u{1f333}", "a/"] {
        publisher.say(topic, "x");
        assert_eq!(client.publish().message.topic, text(topic));
        publisher.retain(topic, "y");
        assert_eq!(client.publish().message.topic, text(topic));
    }
}

#[test]
fn versions_meet_in_one_tree() {
    let server = Server::start();
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        let (mut client, _) = server.connect_as(hello(version, "v"));
        client.subscribe("v/#", Q1);
        let mut other = server.connect("five");
        other.say_surely("v/a", "x");
        assert_eq!(client.told(), "v/a x q1", "{version:?}");
        client.send(Packet::Publish(Publish {
            message: message("v/b", "y"),
            ..publish("v/b", "y", Q1, 1)
        }));
        let mut seen = vec![client.next().unwrap(), client.next().unwrap()];
        seen.retain(|packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(seen.len(), 1, "{version:?}");
    }
}

#[test]
fn the_longest_topic_that_a_packet_can_say_is_refused_as_a_topic() {
    // 4.7.3-3; 3.1.1, 4.7.3-3
    let server = Server::start();
    let mut client = server.connect("c");
    let long = "x".repeat(usize::from(u16::MAX));
    assert_eq!(client.say_surely(&long, "x"), 0x90);
    assert_eq!(client.subscribe_with(vec![filter(&long, Q0)], None), [0x8F]);
    let level = "y".repeat(768);
    client.subscribe(&level, Q0);
    assert_eq!(server.connect("o").retain(&level, "x"), 0);
    assert_eq!(client.told(), format!("{level} x q0"));
}
