//! Subscriptions with a query: what is told, and what is not.

use std::collections::BTreeSet;

use sapwood_core::CoreSettings;
use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{
    Packet, Qos, RetainHandling, Subscribe, SubscribeProperties, SubscriptionId,
};
use sapwood_tree::OpKind;
use sapwood_value::Value;

use crate::server::{Client, Q0, Q1, Server, filter, id, lasting, text};

const WARM: (&str, &str) = ("query", "temp=gt=20");

fn temp(temp: i64) -> Value {
    Value::from_json(&format!("{{\"temp\":{temp}}}")).unwrap()
}

/// Subscribes with a query and an identifier, without the first state.
fn subscribe_numbered(client: &mut Client, at: &str, query: &str, number: u32, no_local: bool) {
    let mut properties = SubscribeProperties {
        subscription_id: SubscriptionId::new(number),
        ..SubscribeProperties::default()
    };
    if !query.is_empty() {
        properties
            .user_properties
            .push(&text("query"), &text(query));
    }
    let mut filter = filter(at, Q0);
    filter.no_local = no_local;
    filter.retain_handling = RetainHandling::DoNotSend;
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(1),
        properties,
        filters: vec![filter],
    }));
    assert!(matches!(client.next(), Some(Packet::Suback(_))));
}

/// Waits for this. Two subscriptions that are just beginning may both tell what is written meanwhile.
fn told_at_last(client: &mut Client, expected: &str) {
    let told: Vec<String> = std::iter::repeat_with(|| client.told())
        .take_while(|told| told != expected)
        .take(10)
        .collect();
    assert!(told.len() < 10, "{told:?}");
}

#[test]
fn a_query_is_a_live_stream_of_the_records_that_match() {
    let server = Server::start();
    server.put("s/warm", temp(25));
    server.put("s/cold", temp(5));
    let mut client = server.connect("c");
    assert_eq!(client.subscribe_asking("s/+", WARM), (0, String::new()));
    assert_eq!(client.told(), "s/warm {\"temp\":25} q0 retain");
    client.silent();
    // It enters, stays, and leaves: once.
    server.put("s/cold", temp(21));
    assert_eq!(client.told(), "s/cold {\"temp\":21} q0");
    server.put("s/cold/temp", Value::Int(22));
    assert_eq!(client.told(), "s/cold {\"temp\":22} q0");
    server.put("s/cold", temp(10));
    assert_eq!(client.told(), "s/cold  q0");
    server.put("s/cold", temp(11));
    server.put("s/other", temp(1));
    client.silent();
    // What goes is told if it had matched.
    server.write("s/other", OpKind::Delete);
    server.write("s/cold", OpKind::Delete);
    client.silent();
    server.write("s/warm", OpKind::Delete);
    assert_eq!(client.told(), "s/warm  q0");
    client.retain("s/none", "");
    client.silent();
}

#[test]
fn messages_are_judged_by_what_they_say() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_asking("#", WARM);
    client.say("a", "{\"temp\": 20}");
    client.say("a", "{\"temp\": 21}");
    client.say("a", "ON");
    client.say("b", "[{\"temp\": 1}, {\"temp\": 30}]");
    assert_eq!(client.told(), "a {\"temp\": 21} q0");
    assert_eq!(client.told(), "b [{\"temp\": 1}, {\"temp\": 30}] q0");
    client.silent();
}

#[test]
fn one_value_per_topic_is_asked_for_as_value() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_asking("+/temp", ("query", ".value=ge=20&lt=30"));
    for payload in ["19", "20", "29.5", "30", "31"] {
        client.say_retained("room/temp", payload);
    }
    let mut told = [const { String::new() }; 3];
    told.iter_mut().for_each(|told| *told = client.told());
    assert_eq!(
        told,
        ["room/temp 20 q0", "room/temp 29.5 q0", "room/temp  q0"]
    );
    client.silent();
}

#[test]
fn what_is_no_query_is_refused_with_words() {
    let server = Server::with(MqttConfig {
        query_bytes_max: 40,
        query_terms_max: 2,
        ..MqttConfig::default()
    });
    let mut client = server.connect("c");
    for (at, query, words) in [
        (
            "a",
            "temp",
            "query: expected NAME=VALUE, or another comparison, at byte 0",
        ),
        (
            "a",
            "a=1&b=2&c=3",
            "query: more than 2 conditions, at byte 8",
        ),
        (
            "a",
            "sort(+a)",
            "query: sort(…) is not there yet, at byte 0",
        ),
        ("$share/g/a", "a=1", "query: not in a shared subscription"),
        (
            "a",
            "a=1111111111111111111111111111111111111111",
            "query: a query longer than 40 bytes, at byte 40",
        ),
    ] {
        let refused = client.subscribe_asking(at, ("query", query));
        assert_eq!(refused, (0x83, words.to_owned()));
    }
    client.say("a", "{\"a\":1}");
    client.silent();
}

#[test]
fn beyond_what_is_remembered_a_record_that_does_not_match_is_told_to_go() {
    let server = Server::with(MqttConfig {
        query_topics_max: 2,
        ..MqttConfig::default()
    });
    let mut client = server.connect("c");
    client.subscribe_asking("s/+", WARM);
    for name in ["a", "b"] {
        server.put(&format!("s/{name}"), temp(30));
        client.told();
    }
    server.put("s/cold", temp(1));
    client.silent();
    server.put("s/c", temp(30));
    assert_eq!(client.told(), "s/c {\"temp\":30} q0");
    server.put("s/a", temp(1));
    assert_eq!(client.told(), "s/a  q0");
    server.put("s/cold", temp(2));
    assert_eq!(client.told(), "s/cold  q0");
    // Who subscribes anew begins anew.
    client.unsubscribe("s/+");
    client.subscribe_asking("s/+", WARM);
    assert_eq!(client.told(), "s/b {\"temp\":30} q0 retain");
    assert_eq!(client.told(), "s/c {\"temp\":30} q0 retain");
    server.put("s/cold", temp(3));
    client.silent();
}

#[test]
fn a_session_that_comes_back_is_told_once_that_a_record_may_have_gone() {
    let server = Server::start();
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe_asking("q/#", WARM);
    server.put("q/held", temp(30));
    assert_eq!(client.told(), "q/held {\"temp\":30} q0");
    client.leave();
    let (mut client, connack) = server.connect_as(lasting("c"));
    assert!(connack.session_present);
    for name in ["q/new", "q/held"] {
        server.put(name, temp(0));
        assert_eq!(client.told(), format!("{name}  q0"));
        server.put(name, temp(1));
        client.silent();
    }
    // What matches again goes again, once.
    server.put("q/new", temp(30));
    assert_eq!(client.told(), "q/new {\"temp\":30} q0");
    server.put("q/new", temp(3));
    assert_eq!(client.told(), "q/new  q0");
    server.put("q/new", temp(2));
    client.silent();
}

#[test]
fn beyond_what_is_remembered_a_session_that_came_back_is_told_again_that_a_record_goes() {
    let server = Server::with(MqttConfig {
        query_topics_max: 2,
        ..MqttConfig::default()
    });
    let (mut client, _) = server.connect_as(lasting("c"));
    client.subscribe_asking("q/#", WARM);
    client.leave();
    let (mut client, _) = server.connect_as(lasting("c"));
    for name in ["q/a", "q/b", "q/c"] {
        server.put(name, temp(1));
        assert_eq!(client.told(), format!("{name}  q0"));
    }
    server.put("q/a", temp(2));
    client.silent();
    server.put("q/c", temp(2));
    assert_eq!(client.told(), "q/c  q0");
}

#[test]
fn where_another_subscription_tells_it_as_it_is_that_comes() {
    let server = Server::start();
    let mut client = server.connect("c");
    subscribe_numbered(&mut client, "s/+", "temp=gt=20", 1, false);
    subscribe_numbered(&mut client, "s/#", "temp=gt=25", 2, false);
    for (value, told) in [
        (30, "s/a {\"temp\":30} q0 #1 #2"),
        (22, "s/a {\"temp\":22} q0 #1"),
        (5, "s/a  q0 #1"),
        (30, "s/a {\"temp\":30} q0 #1 #2"),
        (6, "s/a  q0 #1 #2"),
    ] {
        server.put("s/a", temp(value));
        told_at_last(&mut client, told);
    }
    subscribe_numbered(&mut client, "+/a", "", 3, false);
    server.put("s/a", temp(7));
    told_at_last(&mut client, "s/a {\"temp\":7} q0 #3");
}

#[test]
fn a_subscription_without_own_messages_takes_no_removal_from_another() {
    let server = Server::start();
    let mut client = server.connect("c");
    subscribe_numbered(&mut client, "s/+", "temp=gt=20", 1, false);
    subscribe_numbered(&mut client, "s/#", "", 2, true);
    server.put("s/a", temp(30));
    told_at_last(&mut client, "s/a {\"temp\":30} q0 #1 #2");
    client.say_retained("s/a", "{\"temp\":5}");
    told_at_last(&mut client, "s/a  q0 #1");
}

#[test]
fn another_query_on_the_same_filter_tells_what_goes_from_it() {
    let server = Server::start();
    server.put("s/a", temp(22));
    server.put("s/b", temp(30));
    let mut client = server.connect("c");
    client.subscribe_asking("s/+", WARM);
    assert_eq!(client.told(), "s/a {\"temp\":22} q0 retain");
    assert_eq!(client.told(), "s/b {\"temp\":30} q0 retain");
    client.subscribe_asking("s/+", ("query", "temp=gt=25"));
    assert_eq!(client.told(), "s/a  q0");
    assert_eq!(client.told(), "s/b {\"temp\":30} q0 retain");
    // What was told without a query may be anything.
    client.subscribe("s/+", Q0);
    assert_eq!(client.told(), "s/a {\"temp\":22} q0 retain");
    assert_eq!(client.told(), "s/b {\"temp\":30} q0 retain");
    client.subscribe_asking("s/+", ("query", "temp=gt=40"));
    assert_eq!(client.told(), "s/a  q0");
    assert_eq!(client.told(), "s/b  q0");
}

#[test]
fn a_query_goes_with_a_format_and_any_qos() {
    let server = Server::start();
    let mut client = server.connect("c");
    let mut properties = SubscribeProperties::default();
    for (name, value) in [WARM, ("accept", "application/cbor")] {
        properties.user_properties.push(&text(name), &text(value));
    }
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(1),
        properties,
        filters: vec![filter("s/+", Q1)],
    }));
    assert!(matches!(client.next(), Some(Packet::Suback(_))));
    server.put("s/a", temp(30));
    let publish = client.publish();
    assert_eq!(publish.qos, Qos::AtLeastOnce);
    assert_eq!(&*publish.message.payload, b"\xa1\x64temp\x18\x1e");
    server.put("s/a", temp(3));
    let publish = client.publish();
    assert_eq!((publish.qos, publish.message.payload.len()), (Q1, 0));
    assert_eq!(publish.message.properties.content_type, None);
}

#[test]
fn a_slow_client_holds_in_the_end_what_matches() {
    let mut settings = CoreSettings::memory();
    settings.limits.outbox_events_max = 16;
    settings.limits.outbox_bytes_max = 32 << 10;
    let config = MqttConfig {
        outbound_bytes_max: 4 << 10,
        ..MqttConfig::default()
    };
    let server = Server::over(config, settings);
    let mut client = server.connect("c");
    client.subscribe_asking("s/+", WARM);
    let pad = "x".repeat(16 << 10);
    let document =
        |temp: u64| Value::from_json(&format!("{{\"temp\":{temp},\"pad\":\"{pad}\"}}")).unwrap();
    // Megabytes that it does not read, in which each record goes in and out.
    let (mut warm, mut told) = (BTreeSet::new(), 0);
    for n in 0..2_000_u64 {
        let (record, temp) = (n * 7 % 40, n * 13 % 41);
        server.put(&format!("s/{record}"), document(temp));
        let topic = format!("s/{record}");
        told += usize::from(if temp > 20 {
            warm.insert(topic);
            true
        } else {
            warm.remove(&topic)
        });
    }
    let (mut held, mut count) = (BTreeSet::new(), 0);
    for round in 0..20 {
        let mark = 100 + round;
        server.put("s/mark", temp(mark));
        let mark = format!("{{\"temp\":{mark}}}");
        loop {
            let message = client.publish().message;
            if message.payload == mark.as_bytes() {
                break;
            }
            count += 1;
            let topic = message.topic.to_string();
            if message.payload.is_empty() {
                held.remove(&topic);
            } else if topic != "s/mark" {
                held.insert(topic);
            }
        }
        if held == warm {
            break;
        }
    }
    assert_eq!(held, warm);
    assert!(count < told, "it was not slow: {count} of {told}");
}
