//! AUTH (3.15, 4.12). There is no method yet, so what there is are refusals.

use sapwood_mqtt::codec::{Auth, AuthProperties, Packet, ReasonCode, Version};

use crate::server::{Server, hello, text};

fn auth(reason: ReasonCode, method: Option<&str>) -> Packet {
    let properties = AuthProperties {
        authentication_method: method.map(text),
        ..AuthProperties::default()
    };
    Packet::Auth(Auth { reason, properties })
}

#[test]
fn a_method_that_is_not_known_is_told_so() {
    // 4.12.0-1, 4.12.0-4, 4.13.2-1
    let server = Server::start();
    for method in ["SCRAM-SHA-256", "PLAIN", ""] {
        let mut connect = hello(Version::V5, "c");
        connect.properties.authentication_method = Some(text(method));
        connect.properties.authentication_data = Some("client first".into());
        let mut client = server.open(Version::V5);
        client.send(Packet::Connect(Box::new(connect)));
        assert_eq!(client.reason(), ReasonCode::BadAuthenticationMethod as u8);
        assert_eq!(client.next(), None);
    }
}

#[test]
fn who_names_no_method_is_sent_none_and_may_not_authenticate_again() {
    // 4.12.0-6, 4.12.0-7, 4.12.1-1, 4.12.1-2
    let server = Server::start();
    for reason in [
        ReasonCode::ReAuthenticate,
        ReasonCode::ContinueAuthentication,
        ReasonCode::Success,
    ] {
        for method in [None, Some("SCRAM-SHA-256")] {
            let (mut client, connack) = server.connect_as(hello(Version::V5, "c"));
            assert_eq!(connack.properties.authentication_method, None);
            client.send(auth(reason, method));
            assert_eq!(client.ends(), 0x82);
        }
    }
}

#[test]
fn what_is_no_auth_is_refused_as_such() {
    // 3.15.1-1, 3.15.2-1; AUTH is not in 3.1.1
    let server = Server::start();
    for (bytes, reason) in [
        (&[0xF1, 0][..], 0x81),
        (&[0xF8, 0], 0x81),
        (&[0xF0, 2, 0x80, 0], 0x82),
        (&[0xF0, 2, 0x55, 0], 0x81),
        // Authentication data twice, and a property of another packet.
        (
            &[0xF0, 10, 0x18, 8, 0x16, 0, 1, b'x', 0x16, 0, 1, b'y'],
            0x82,
        ),
        (&[0xF0, 7, 0x18, 5, 0x11, 0, 0, 0, 1], 0x81),
        (&[0xF0, 1, 0x18], 0x81),
    ] {
        let mut client = server.connect("c");
        client.bytes(bytes);
        assert_eq!(client.ends(), reason, "{bytes:x?}");
    }
    let (mut old, _) = server.connect_as(hello(Version::V3_1_1, "c"));
    old.bytes(&[0xF0, 0]);
    assert_eq!(old.next(), None);
    // 3.1.0-1
    let mut first = server.open(Version::V5);
    first.send(auth(ReasonCode::ContinueAuthentication, Some("x")));
    assert_eq!(first.next(), None);
}
