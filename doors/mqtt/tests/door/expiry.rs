//! The time of records that go by themselves (3.3.2.3.3).

use std::sync::Arc;

use sapwood_core::{CoreSettings, ManualClock};
use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Packet, Publish, ReasonCode};

use crate::server::{Client, Q0, Q1, Server, publish};

fn with_clock() -> (Server, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let settings = CoreSettings {
        clock: clock.clone(),
        ..CoreSettings::memory()
    };
    (Server::over(MqttConfig::default(), settings), clock)
}

/// Retains a message, with a time if one is given.
fn retain(client: &mut Client, topic: &str, expiry_s: Option<u32>) {
    let mut publish = Publish {
        retain: true,
        ..publish(topic, "1", Q1, 5)
    };
    publish.message.properties.message_expiry_s = expiry_s;
    client.send(Packet::Publish(publish));
    assert_eq!(client.reason(), ReasonCode::Success as u8);
}

/// The next PUBLISH: its topic, and what is left of its time.
fn told(client: &mut Client) -> (String, Option<u32>) {
    let message = client.publish().message;
    (
        message.topic.to_string(),
        message.properties.message_expiry_s,
    )
}

#[test]
fn who_subscribes_later_is_told_what_is_left() {
    // 3.3.2-6
    let (server, clock) = with_clock();
    let mut client = server.connect("c");
    retain(&mut client, "a/1", Some(100));
    retain(&mut client, "a/2", None);
    retain(&mut client, "a/3", Some(1_000));
    clock.advance(39_500);
    client.subscribe("a/#", Q0);
    assert_eq!(told(&mut client), ("a/1".to_owned(), Some(61)));
    assert_eq!(told(&mut client), ("a/2".to_owned(), None));
    assert_eq!(told(&mut client), ("a/3".to_owned(), Some(961)));
    // Written again without a time, it has none.
    client.unsubscribe("a/#");
    retain(&mut client, "a/1", None);
    client.subscribe("a/1", Q0);
    assert_eq!(told(&mut client), ("a/1".to_owned(), None));
}

#[test]
fn who_is_there_is_told_the_time_of_a_record_too() {
    // 3.3.2-6
    let (server, _clock) = with_clock();
    let (mut client, mut other) = (server.connect("c"), server.connect("o"));
    client.subscribe("a", Q0);
    client.subscribe_asking("b", ("accept", "application/cbor"));
    for topic in ["a", "b"] {
        retain(&mut other, topic, Some(100));
        assert_eq!(told(&mut client), (topic.to_owned(), Some(100)));
        retain(&mut other, topic, None);
        assert_eq!(told(&mut client), (topic.to_owned(), None));
    }
}

#[test]
fn a_record_whose_time_is_over_is_not_told() {
    // 3.3.2-5
    let (server, clock) = with_clock();
    let mut client = server.connect("c");
    retain(&mut client, "a/1", Some(5));
    retain(&mut client, "a/2", None);
    clock.advance(5_000);
    client.subscribe("a/#", Q0);
    assert_eq!(told(&mut client), ("a/2".to_owned(), None));
    client.silent();
}
