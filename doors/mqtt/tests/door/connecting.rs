//! How connections begin and end (3.1, 3.2, 3.14).

use std::io::{Read, Write};
use std::time::Duration;

use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Packet, ReasonCode, Version};

use crate::server::{Q0, Server, hello, publish, text};

#[test]
fn a_client_without_an_id_is_given_one() {
    // 3.1.3-6, 3.2.2-16
    let server = Server::start();
    let (_one, first) = server.connect_as(hello(Version::V5, ""));
    let (_two, second) = server.connect_as(hello(Version::V5, ""));
    let id = |connack: sapwood_mqtt::codec::Connack| connack.properties.assigned_client_id;
    let (first, second) = (id(first).unwrap(), id(second).unwrap());
    assert_ne!(first, second);
    let (_three, third) = server.connect_as(hello(Version::V3_1_1, ""));
    assert_eq!(id(third), None);
}

#[test]
fn who_comes_with_an_id_in_use_takes_it_over() {
    // 3.1.4-3
    let server = Server::start();
    let mut first = server.connect("c");
    let mut second = server.connect("c");
    assert_eq!(first.ends(), 0x8E);
    second.silent();
    // In another database it is another client.
    let mut elsewhere = hello(Version::V5, "c");
    elsewhere.user_name = Some(text("other/somebody"));
    let (mut third, _) = server.connect_as(elsewhere);
    second.silent();
    third.silent();
}

#[test]
fn many_who_come_at_once_take_over_one_after_the_other() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut client = server.open(Version::V5);
                    client.send(Packet::Connect(Box::new(hello(Version::V5, "one"))));
                    client.connack();
                }
            });
        }
    });
    server.connect("one").silent();
}

#[test]
fn a_user_name_chooses_the_database() {
    // design, section 6
    let server = Server::start();
    let mut connect = hello(Version::V3_1_1, "c");
    connect.user_name = Some(text("other/me"));
    let (mut client, _) = server.connect_as(connect);
    client.retain("a", "1");
    assert_eq!(server.get("a"), None);
    let mut connect = hello(Version::V3_1_1, "d");
    connect.user_name = Some(text("nosuch/me"));
    let (mut client, _) = server.connect_as(connect);
    client.retain("a", "1");
    assert!(server.get("a").is_some());
}

#[test]
fn bytes_that_are_no_mqtt_end_the_connection() {
    // 3.1.0-1
    let server = Server::start();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x30\x03\x00\x01a",
        b"\x10\xff\xff\xff\xff\x7f",
    ] {
        let mut client = server.open(Version::V5);
        client.stream.write_all(bytes).unwrap();
        client
            .stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut rest = Vec::new();
        let read = client.stream.read_to_end(&mut rest);
        assert!(read.is_err() || rest.len() < 8, "{rest:?}");
    }
    server.connect("c").silent();
}

#[test]
fn an_unknown_level_is_answered_before_the_close() {
    // 3.1.2-2; 3.1.1, 3.1.2-2
    let server = Server::start();
    for (level, answer) in [(9, &[0x20, 3, 0, 0x84, 0][..]), (2, &[0x20, 2, 0, 1])] {
        let mut client = server.open(Version::V5);
        let connect = [
            0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 1, b'c',
        ];
        client.stream.write_all(&connect).unwrap();
        let mut got = Vec::new();
        client
            .stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client.stream.read_to_end(&mut got).unwrap();
        assert_eq!(got, answer, "{level}");
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    // 3.1.0-2
    let server = Server::start();
    let mut client = server.connect("c");
    client.send(Packet::Connect(Box::new(hello(Version::V5, "c"))));
    assert_eq!(client.ends(), 0x82);
}

#[test]
fn who_says_nothing_is_let_go() {
    // 3.1.2-22
    let server = Server::start();
    let mut connect = hello(Version::V5, "c");
    connect.keep_alive_s = 1;
    let (mut client, _) = server.connect_as(connect);
    assert_eq!(client.ends(), 0x8D);
    let config = MqttConfig {
        connect_timeout_s: 1,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    assert_eq!(server.open(Version::V5).next(), None);
}

#[test]
fn packets_cut_anywhere_are_packets() {
    let server = Server::start();
    let mut client = server.connect("c");
    client.subscribe("#", Q0);
    let mut bytes = bytes::BytesMut::new();
    for n in 0..20 {
        let packet = Packet::Publish(publish("a", &n.to_string(), Q0, 0));
        sapwood_mqtt::codec::encode(&packet, Version::V5, &mut bytes).unwrap();
    }
    for piece in bytes.chunks(3) {
        client.stream.write_all(piece).unwrap();
    }
    for n in 0..20 {
        assert_eq!(client.told(), format!("a {n} q0"));
    }
}

#[test]
fn a_server_that_stops_says_so() {
    // 3.14.2.1
    let mut server = Server::start();
    let mut client = server.connect("c");
    let (mut old, _) = server.connect_as(hello(Version::V3_1_1, "d"));
    server.drain();
    assert_eq!(client.ends(), ReasonCode::ServerShuttingDown as u8);
    assert_eq!(old.next(), None);
}
