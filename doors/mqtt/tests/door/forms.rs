//! In which form data comes, by what the client and the configuration say.

use bytes::Bytes;
use sapwood_mqtt::codec::{Connect, Packet, Publish, ReasonCode, Version};
use sapwood_mqtt::{AcceptRule, DataFormat, Form, Listener, MqttConfig, PayloadRule, TopicPattern};
use sapwood_tree::OpKind;
use sapwood_value::{Format, Value};

use crate::server::{Client, Q0, Q1, Server, filter, hello, id, publish, text};

const ACCEPT_CBOR: (&str, &str) = ("accept", "application/cbor");

fn encoded(format: Format, value: impl Into<Value>) -> Bytes {
    let mut out = Vec::new();
    format.encode(&value.into(), &mut out);
    out.into()
}

/// The next PUBLISH: topic, content type, payload.
fn said(client: &mut Client) -> (String, Option<String>, Bytes) {
    let message = client.publish().message;
    let content_type = message.properties.content_type;
    (
        message.topic.to_string(),
        content_type.map(|text| text.to_string()),
        message.payload,
    )
}

fn accepting(client_id: &str, accept: &str) -> Connect {
    let mut connect = hello(Version::V5, client_id);
    let properties = &mut connect.properties.user_properties;
    properties.push(&text("accept"), &text(accept));
    connect
}

fn cbor(topic: &str, value: impl Into<Value>) -> (String, Option<String>, Bytes) {
    let content_type = Some("application/cbor".to_owned());
    (topic.to_owned(), content_type, encoded(Format::Cbor, value))
}

fn as_it_is(topic: &str, payload: &str) -> (String, Option<String>, Bytes) {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    (topic.to_owned(), None, payload)
}

fn typed(topic: &str, content_type: &str, payload: Bytes) -> Publish {
    let mut publish = publish(topic, "", Q0, 0);
    publish.message.properties.content_type = Some(text(content_type));
    publish.message.payload = payload;
    publish
}

#[test]
fn data_comes_in_the_format_that_a_subscription_names() {
    let server = Server::start();
    let (mut client, mut other) = (server.connect("c"), server.connect("o"));
    server.put("a/web", Value::Int(5));
    other.retain("a/mqtt", "[1.50]");
    assert_eq!(
        client.subscribe_asking("a/#", ACCEPT_CBOR),
        (0, String::new())
    );
    let list = || Value::Array(vec![Value::Float(1.5)]);
    let first = [said(&mut client), said(&mut client)];
    assert_eq!(first, [cbor("a/mqtt", list()), cbor("a/web", 5)]);
    other.subscribe("a/#", Q0);
    assert_eq!(said(&mut other), as_it_is("a/mqtt", "[1.50]"));
    assert_eq!(said(&mut other).1.as_deref(), Some("application/json"));
    other.say("a/m", "ON");
    assert_eq!(said(&mut client), cbor("a/m", "ON"));
    assert_eq!(said(&mut other), as_it_is("a/m", "ON"));
    // A removal has no form.
    server.write("a/web", OpKind::Delete);
    assert_eq!(said(&mut client), as_it_is("a/web", ""));
}

#[test]
fn bytes_stay_bytes_and_what_is_in_the_format_stays_as_it_is() {
    let server = Server::start();
    let (mut client, mut other) = (server.connect("c"), server.connect("o"));
    client.subscribe_asking("#", ACCEPT_CBOR);
    let png = Bytes::from_static(b"\x89PNG");
    other.send(Packet::Publish(typed("a", "image/png", png.clone())));
    let image = ("a".to_owned(), Some("image/png".to_owned()), png);
    assert_eq!(said(&mut client), image);
    // It claims to be JSON, and is not.
    let broken = Bytes::from_static(b"{");
    other.send(Packet::Publish(typed(
        "a",
        "application/json",
        broken.clone(),
    )));
    assert_eq!((said(&mut client).2), broken);
    // The number could be written shorter.
    let long = Bytes::from_static(b"\x18\x05");
    other.send(Packet::Publish(typed(
        "a",
        "application/cbor",
        long.clone(),
    )));
    assert_eq!(said(&mut client).2, long);
    other.say("a", "");
    assert_eq!(said(&mut client), as_it_is("a", ""));
}

#[test]
fn json_that_came_without_a_type_gets_it_and_keeps_its_bytes() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_asking("#", ("accept", "application/json"));
    client.say("a", "{ \"t\": 1.50 }");
    let (_, content_type, payload) = said(&mut client);
    assert_eq!(content_type.as_deref(), Some("application/json"));
    assert_eq!(payload, "{ \"t\": 1.50 }");
    client.say("a", "ON");
    assert_eq!(said(&mut client).2, "\"ON\"");
    let five = encoded(Format::MessagePack, 5);
    client.send(Packet::Publish(typed("a", "application/msgpack", five)));
    assert_eq!(said(&mut client).2, "5");
}

#[test]
fn a_subscription_says_more_than_connect() {
    let server = Server::start();
    let connect = accepting("c", "text/html, application/cbor;q=0.5");
    let (mut client, _) = server.connect_as(connect);
    client.subscribe("a", Q0);
    client.subscribe_asking("b", ("accept", "application/msgpack"));
    client.subscribe_asking("c", ("accept", "*/*"));
    client.say("a", "5");
    assert_eq!(said(&mut client), cbor("a", 5));
    client.say("b", "5");
    assert_eq!(said(&mut client).1.as_deref(), Some("application/msgpack"));
    client.say("c", "5");
    assert_eq!(said(&mut client), as_it_is("c", "5"));
}

#[test]
fn of_overlapping_subscriptions_the_longest_counts() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_asking("a/#", ACCEPT_CBOR);
    client.subscribe_asking("a/b/#", ("accept", "application/json"));
    client.subscribe("a/b/c", Q0);
    client.subscribe("+/+/d", Q0);
    for (topic, content_type) in [
        ("a/x", Some("application/cbor")),
        ("a/b/x", Some("application/json")),
        ("a/b/c", None),
        ("a/b/d", None),
    ] {
        client.say(topic, "5");
        let (said_at, said_type, _) = said(&mut client);
        assert_eq!((&*said_at, said_type.as_deref()), (topic, content_type));
    }
}

#[test]
fn a_format_that_nobody_speaks_is_refused_with_words() {
    let server = Server::start();
    let mut client = server.connect("c");
    for accept in ["application/xml", "cbor", "application/cbor;q=0"] {
        let (reason, words) = client.subscribe_asking("a", ("accept", accept));
        assert_eq!(reason, 0x83, "{accept}");
        assert!(words.contains("application/msgpack"), "{words}");
    }
    client.say("a", "5");
    client.silent();
    let mut client = server.open(Version::V5);
    client.send(Packet::Connect(Box::new(accepting("d", "image/png"))));
    let connack = client.connack();
    assert_eq!(connack.reason, ReasonCode::ImplementationSpecificError);
    assert!(connack.properties.reason_string.is_some());
    assert_eq!(client.next(), None);
}

fn rule(format: DataFormat) -> AcceptRule {
    AcceptRule {
        format,
        filter: None,
        client: None,
        listener: None,
    }
}

#[test]
fn the_configuration_says_it_by_topic_client_and_listener() {
    let topic = |text: &str| TopicPattern::try_from(text.to_owned()).unwrap();
    let server = Server::with(MqttConfig {
        accept: vec![
            AcceptRule {
                listener: Some(Listener::Tcp),
                ..rule(DataFormat::Json)
            },
            AcceptRule {
                client: Some("esp-*".to_owned()),
                ..rule(DataFormat::Cbor)
            },
            AcceptRule {
                filter: Some(topic("a/b%2Bc/+")),
                ..rule(DataFormat::Msgpack)
            },
        ],
        ..MqttConfig::default()
    });
    // 3.x can't say what it wants, nor be told what it gets.
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "esp-7"));
    client.subscribe_with(vec![filter("a/#", Q1)], None);
    client.say("a/x", "{\"t\":5}");
    let five: Value = sapwood_value::json::decode(b"{\"t\":5}", &Default::default()).unwrap();
    assert_eq!(said(&mut client).2, encoded(Format::Cbor, five.clone()));
    client.say("a/b%2Bc/x", "{\"t\":5}");
    assert_eq!(said(&mut client).2, encoded(Format::MessagePack, five));
    let mut client = server.connect("other");
    client.subscribe("a/#", Q0);
    client.say("a/x", "ON");
    assert_eq!(said(&mut client).2, "\"ON\"");
}

#[test]
fn members_of_a_group_get_it_each_in_their_format() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe_asking("$share/g/a", ACCEPT_CBOR);
    client.say("a", "5");
    assert_eq!(said(&mut client), cbor("a", 5));
}

fn payload_rule(filter: &str, form: Form, must: bool) -> PayloadRule {
    PayloadRule {
        filter: TopicPattern::try_from(filter.to_owned()).unwrap(),
        form,
        must,
    }
}

fn with_payload_rules() -> Server {
    Server::with(MqttConfig {
        payload: vec![
            payload_rule("#", Form::Text, false),
            payload_rule("json/#", Form::Json, true),
            payload_rule("json/any", Form::Auto, true),
            payload_rule("cbor", Form::Cbor, false),
            payload_rule("raw/+", Form::Bytes, false),
        ],
        ..MqttConfig::default()
    })
}

#[test]
fn the_configuration_says_what_payloads_without_a_type_are() {
    let server = with_payload_rules();
    let mut client = server.connect("c");
    for (topic, payload, value) in [
        ("a", "5", Value::String("5".into())),
        ("json/x", "5", Value::Int(5)),
        ("json/any", "ON", Value::String("ON".into())),
        ("cbor", "\u{5}", Value::Int(5)),
        ("cbor", "", Value::Null),
        ("raw/x", "5", Value::bytes("5")),
    ] {
        assert_eq!(client.retain(topic, payload), 0, "{topic}");
        assert_eq!(server.get(topic).unwrap_or_default(), value, "{topic}");
    }
    // What is not what it is said to be, is bytes.
    client.retain("cbor", "ON");
    assert_eq!(server.get("cbor"), Some(Value::bytes("ON")));
    // A content type says more.
    let typed = Publish {
        retain: true,
        qos: Q1,
        packet_id: Some(id(1)),
        ..typed("a", "application/json", "5".into())
    };
    client.send(Packet::Publish(typed));
    assert_eq!(client.reason(), 0);
    assert_eq!(server.get("a"), Some(Value::Int(5)));
    client.subscribe("a", Q0);
    assert_eq!(said(&mut client).2, "5");
}

#[test]
fn messages_are_read_by_the_same_rules() {
    let server = with_payload_rules();
    let mut client = server.connect("c");
    client.subscribe_asking("#", ACCEPT_CBOR);
    client.say("a", "5");
    assert_eq!(said(&mut client), cbor("a", "5"));
    client.say("json/x", "5");
    assert_eq!(said(&mut client), cbor("json/x", 5));
    client.say("raw/x", "5");
    assert_eq!(said(&mut client), as_it_is("raw/x", "5"));
}

#[test]
fn a_record_of_a_fixed_form_keeps_it_when_it_is_changed_elsewhere() {
    let server = with_payload_rules();
    let mut client = server.connect("c");
    client.retain("a", "5");
    server.put("a", Value::String("6".into()));
    client.retain("cbor", "\u{5}");
    server.put("cbor", Value::Int(6));
    client.subscribe("#", Q0);
    assert_eq!(said(&mut client), as_it_is("a", "6"));
    assert_eq!(said(&mut client), as_it_is("cbor", "\u{6}"));
}

#[test]
fn a_payload_that_is_not_what_it_must_be_is_refused() {
    // 3.4.2.1, 3.5.2.1
    let server = with_payload_rules();
    let mut client = server.connect("c");
    client.subscribe("json/#", Q0);
    assert_eq!(client.retain("json/x", "ON"), 0x99);
    assert_eq!(client.say_surely("json/x", "ON"), 0x99);
    let of_type = |topic, content_type, payload: &str| Publish {
        qos: Q1,
        packet_id: Some(crate::server::id(5)),
        ..typed(
            topic,
            content_type,
            Bytes::copy_from_slice(payload.as_bytes()),
        )
    };
    for (topic, content_type, payload) in [
        ("json/x", "application/cbor", "\u{5}"),
        ("json/x", "application/json", "ON"),
        ("json/any", "application/json", "ON"),
        ("json/any", "application/cbor", ""),
    ] {
        client.send(Packet::Publish(of_type(topic, content_type, payload)));
        assert_eq!(client.reason(), 0x99, "{topic} {content_type}");
    }
    // At QoS 0 nothing answers, and nothing is told.
    client.say("json/x", "ON");
    client.silent();
    assert_eq!(server.get("json"), None);
    client.say("json/any", "ON");
    assert_eq!(said(&mut client), as_it_is("json/any", "ON"));
    client.send(Packet::Publish(typed(
        "json/any",
        "application/cbor",
        "\u{5}".into(),
    )));
    assert_eq!(said(&mut client).2, "\u{5}");
    // A removal is always one.
    client.unsubscribe("json/#");
    assert_eq!(client.retain("json/x", ""), 0);
}

#[test]
fn a_will_that_is_not_what_it_must_be_is_refused_at_once() {
    let server = with_payload_rules();
    let mut client = server.open(Version::V5);
    client.send(Packet::Connect(Box::new(Connect {
        will: Some(crate::server::will("json/x", "ON")),
        ..hello(Version::V5, "c")
    })));
    assert_eq!(client.connack().reason, ReasonCode::PayloadFormatInvalid);
}

#[test]
fn a_client_of_3_x_is_answered_as_for_any_refused_publish() {
    let config = MqttConfig {
        payload: vec![payload_rule("#", Form::Json, true)],
        ..MqttConfig::default()
    };
    let server = Server::with(config.clone());
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.subscribe_with(vec![filter("#", Q0)], None);
    assert_eq!(client.retain("a", "ON"), 0);
    client.silent();
    assert_eq!(server.get("a"), None);
    let server = Server::with(MqttConfig {
        close_on_refused_publish: true,
        ..config
    });
    let (mut client, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    client.say("a", "ON");
    assert_eq!(client.next(), None);
}
