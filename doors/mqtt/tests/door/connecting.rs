//! How connections begin and end (3.1, 3.2, 3.14).

use std::io::{Read, Write};
use std::time::Duration;

use sapwood_mqtt::MqttConfig;
use sapwood_mqtt::codec::{Packet, ReasonCode, Version};

use crate::server::{Q0, Server, hello, publish, text};

#[test]
fn a_client_without_an_id_is_given_one() {
    // 3.1.3-6, 3.1.3-7, 3.2.2-16; 3.1.1, 3.1.3-6
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
    // 3.1.0-2; 3.1.1, 3.1.0-2
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

#[test]
fn connack_says_what_it_must_and_nothing_else() {
    // 3.2.2-1, 3.2.2-2, 3.2.2-6, 3.1.4-5, 3.2.0-1, 2.2.2-1
    let config = MqttConfig {
        packet_bytes_max: u32::MAX,
        receive_maximum: u16::MAX,
        topic_alias_maximum: 0,
        ..MqttConfig::default()
    };
    let server = Server::with(config);
    let mut client = server.open(Version::V5);
    client.send(Packet::Connect(Box::new(hello(Version::V5, "c"))));
    assert_eq!(&client.raw(5)[..], [0x20, 3, 0, 0, 0]);
    let mut client = server.open(Version::V5);
    let mut connect = hello(Version::V5, "c");
    connect.properties.authentication_method = Some(text("x"));
    client.send(Packet::Connect(Box::new(connect)));
    assert_eq!(&client.raw(5)[..], [0x20, 3, 0, 0x8C, 0]);
    assert_eq!(client.next(), None);
}

#[test]
fn what_comes_behind_a_refused_connect_is_not_heard() {
    // 3.1.4-2, 3.1.4-6
    let server = Server::start();
    let mut connect = hello(Version::V5, "c");
    connect.properties.authentication_method = Some(text("x"));
    let mut both = bytes::BytesMut::new();
    let mut retained = publish("a", "x", Q0, 0);
    retained.retain = true;
    for packet in [
        Packet::Connect(Box::new(connect)),
        Packet::Publish(retained),
        Packet::Pingreq,
    ] {
        sapwood_mqtt::codec::encode(&packet, Version::V5, &mut both).unwrap();
    }
    let mut client = server.open(Version::V5);
    client.bytes(&both);
    assert_eq!(client.connack().reason, ReasonCode::BadAuthenticationMethod);
    assert_eq!(client.next(), None);
    // What another client says then is behind it.
    server.connect("o").retain("b", "1");
    assert_eq!(server.get("a"), None);
}

#[test]
fn what_comes_behind_a_connect_that_is_taken_need_not_wait() {
    // 3.1.4.5: a client may go on before it is answered
    let server = Server::start();
    let mut all = bytes::BytesMut::new();
    let said = Packet::Publish(publish("a", "x", sapwood_mqtt::codec::Qos::AtLeastOnce, 5));
    for packet in [
        Packet::Connect(Box::new(hello(Version::V5, "c"))),
        said,
        Packet::Pingreq,
    ] {
        sapwood_mqtt::codec::encode(&packet, Version::V5, &mut all).unwrap();
    }
    let mut client = server.open(Version::V5);
    client.bytes(&all);
    assert_eq!(client.connack().reason, ReasonCode::Success);
    let mut rest = [client.next().unwrap(), client.next().unwrap()];
    rest.sort_by_key(|packet| matches!(packet, Packet::Pingresp));
    assert!(
        matches!(&rest, [Packet::Puback(_), Packet::Pingresp]),
        "{rest:?}"
    );
}

#[test]
fn client_ids_of_all_kinds_are_taken_and_told_apart() {
    // 3.1.3-2, 3.1.3-4, 3.1.3-5
    let server = Server::start();
    let long = "x".repeat(1000);
    let names = [
        "0",
        "0123456789abcdefghijklm",
        "NOPQRSTUVWXYZnopqrstuvw",
        "é/+#$",
        "é/+#",
        "A",
        "a",
        &long,
    ];
    let mut all: Vec<_> = names.iter().map(|name| server.connect(name)).collect();
    all.iter_mut().for_each(|client| client.silent());
}

#[test]
fn user_name_and_password_are_read_in_their_place() {
    // 3.1.2-16, 3.1.2-17, 3.1.2-18, 3.1.2-19, 3.1.3-1, 3.1.3-12
    let server = Server::start();
    for (user_name, password) in [
        (None, None),
        (Some("me"), None),
        (Some("me"), Some("secret")),
        (None, Some("secret")),
        (Some(""), Some("")),
    ] {
        let mut connect = hello(Version::V5, "c");
        connect.user_name = user_name.map(text);
        connect.password = password.map(|password| password.as_bytes().to_vec().into());
        connect.will = Some(crate::server::will("gone", "x"));
        server.connect_as(connect).0.silent();
    }
}
