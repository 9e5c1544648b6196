//! CONNECT and CONNACK (3.1, 3.2).

use super::*;
use crate::codec::{Connack, Will};

/// What a CONNECT gets, as far as the machine alone decides.
fn answer(connect: Connect) -> Vec<String> {
    Dialogue::new(Settings::default()).client(Packet::Connect(Box::new(connect)))
}

fn connack(settings: Settings, connect: Connect, accepted: Accepted) -> Connack {
    let mut machine = Machine::new(Arc::new(settings), Instant::now());
    let mut out = Vec::new();
    let now = Instant::now();
    machine.received(Packet::Connect(Box::new(connect)), now, &mut out);
    out.clear();
    machine.accepted(accepted, now, &mut out);
    match out.swap_remove(0) {
        Action::Send(Packet::Connack(connack)) => *connack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connect_is_judged_and_answered_once() {
    // 3.1.4-5, 3.2.0-1
    let mut dialogue = Dialogue::new(Settings::default());
    let connect = Packet::Connect(Box::new(hello(Version::V5)));
    assert_eq!(dialogue.client(connect), ["connect me"]);
    assert!(!dialogue.machine.wants_input());
    assert_eq!(dialogue.accept(Accepted::default()), ["CONNACK 0x00"]);
    assert!(dialogue.machine.wants_input());
    // 3.2.0-2
    assert!(dialogue.accept(Accepted::default()).is_empty());
}

#[test]
fn a_second_connect_ends_the_connection() {
    // 3.1.0-2
    let mut dialogue = Dialogue::connected(Version::V5);
    let connect = Packet::Connect(Box::new(hello(Version::V5)));
    assert_eq!(dialogue.client(connect), ["DISCONNECT 0x82", "close"]);
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    let connect = Packet::Connect(Box::new(hello(Version::V3_1_1)));
    assert_eq!(dialogue.client(connect), ["close"]);
}

#[test]
fn an_unknown_level_is_answered_in_the_form_of_its_time() {
    // 3.1.2-2; 3.1.1, 3.1.2-2
    for (level, version, bytes) in [
        (6, Version::V5, &[0x20, 3, 0, 0x84, 0][..]),
        (0x85, Version::V5, &[0x20, 3, 0, 0x84, 0]),
        (2, Version::V3_1_1, &[0x20, 2, 0, 1]),
        (0, Version::V3_1_1, &[0x20, 2, 0, 1]),
    ] {
        let mut machine = Machine::new(Arc::new(Settings::default()), Instant::now());
        let mut out = Vec::new();
        machine.received(Packet::ConnectUnknown(level), Instant::now(), &mut out);
        assert_eq!(machine.version(), version);
        let [Action::Send(packet), Action::Close] = &*out else {
            panic!("{out:?}");
        };
        let mut buffer = bytes::BytesMut::new();
        crate::codec::encode(packet, version, &mut buffer).unwrap();
        assert_eq!(&*buffer, bytes);
    }
}

#[test]
fn a_client_without_a_name_is_given_one_where_its_session_is_clean() {
    // 3.1.3-6, 3.1.3-7; 3.1.1, 3.1.3-8
    let nameless = |version, clean_start| {
        answer(Connect {
            client_id: Text::default(),
            clean_start,
            ..hello(version)
        })
    };
    assert_eq!(nameless(Version::V5, false), ["connect "]);
    assert_eq!(nameless(Version::V3_1_1, true), ["connect "]);
    assert_eq!(nameless(Version::V3_1_1, false), ["CONNACK 0x85", "close"]);
    assert_eq!(nameless(Version::V3_1, true), ["CONNACK 0x85", "close"]);
}

#[test]
fn an_assigned_name_is_told() {
    // 3.2.2-16
    let accepted = Accepted {
        assigned_client_id: Some(text("given")),
        ..Accepted::default()
    };
    let connack = connack(Settings::default(), hello(Version::V5), accepted);
    assert_eq!(connack.properties.assigned_client_id, Some(text("given")));
}

#[test]
fn extended_authentication_is_not_there_yet() {
    // 4.12.0-1, 4.12.0-4
    let mut connect = hello(Version::V5);
    connect.properties.authentication_method = Some(text("SCRAM"));
    assert_eq!(answer(connect), ["CONNACK 0x8c", "close"]);
    // 4.12.0-7
    let auth = Packet::Auth(crate::codec::Auth {
        reason: ReasonCode::ReAuthenticate,
        properties: Default::default(),
    });
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.client(auth), ["DISCONNECT 0x82", "close"]);
}

#[test]
fn a_fault_in_connect_is_answered_where_the_version_has_words() {
    // 3.1.4-1, 4.13.1-1
    let fault = Fault::malformed("3.1.2-3", "a test");
    for (version, expected) in [
        (Some(Version::V5), &["CONNACK 0x81", "close"][..]),
        (Some(Version::V3_1_1), &["close"]),
        (None, &["close"]),
    ] {
        let mut dialogue = Dialogue::new(Settings::default());
        let mut out = Vec::new();
        dialogue.machine.faulted(&fault, version, &mut out);
        assert_eq!(dialogue.said(out), expected);
    }
}

#[test]
fn a_refused_client_is_told_why_and_leaves_nothing() {
    // 3.2.2-6, 3.2.2-7; 3.1.1, 3.2.2-6; its will never fires
    for (version, reason, expected) in [
        (
            Version::V5,
            ReasonCode::BadUserNameOrPassword,
            &["CONNACK 0x86", "close"][..],
        ),
        (
            Version::V3_1_1,
            ReasonCode::NotAuthorized,
            &["CONNACK 0x87", "close"],
        ),
        (Version::V3_1_1, ReasonCode::UnspecifiedError, &["close"]),
    ] {
        let mut dialogue = Dialogue::new(Settings::default());
        let will = Some(will("gone", 0));
        let connect = Connect {
            will,
            ..hello(version)
        };
        dialogue.client(Packet::Connect(Box::new(connect)));
        let mut out = Vec::new();
        dialogue.machine.refused(reason, None, &mut out);
        assert_eq!(dialogue.said(out), expected);
        assert_eq!(dialogue.machine.ended(), Ended::default());
    }
}

pub(super) fn will(topic: &str, delay_s: u32) -> Will {
    Will {
        qos: Q1,
        retain: false,
        delay_s,
        message: message(topic, "bye"),
    }
}

#[test]
fn a_will_that_could_not_be_published_is_refused() {
    // 3.1.3.2.3 and 3.1.3.3
    let with = |will| {
        answer(Connect {
            will: Some(will),
            ..hello(Version::V5)
        })
    };
    assert_eq!(with(will(".system", 0)), ["CONNACK 0x90", "close"]);
    let mut false_text = will("a", 0);
    false_text.message.properties.payload_is_text = Some(true);
    false_text.message.payload = Bytes::from_static(b"\xFF");
    assert_eq!(with(false_text), ["CONNACK 0x99", "close"]);
}

#[test]
fn the_servers_limits_are_told() {
    // 3.2.2.3
    let settings = Settings {
        session_expiry_s_max: 100,
        keep_alive_s_max: Some(30),
        ..Settings::default()
    };
    let mut connect = hello(Version::V5);
    connect.properties.session_expiry_s = Some(u32::MAX);
    let accepted = Accepted {
        response_information: Some(text("replies/me")),
        ..Accepted::default()
    };
    let told = connack(settings.clone(), connect.clone(), accepted.clone()).properties;
    assert_eq!(told.session_expiry_s, Some(100));
    assert_eq!(told.server_keep_alive_s, Some(30));
    assert_eq!(told.receive_maximum, NonZeroU16::new(20));
    assert_eq!(told.packet_bytes_max, NonZeroU32::new(16 << 20));
    assert_eq!(told.topic_alias_maximum, Some(16));
    // 3.1.2-28: not asked for.
    assert_eq!(told.response_information, None);
    connect.properties.session_expiry_s = Some(50);
    connect.properties.request_response_information = Some(true);
    connect.keep_alive_s = 30;
    let told = connack(settings, connect, accepted).properties;
    assert_eq!(told.session_expiry_s, None);
    assert_eq!(told.server_keep_alive_s, None);
    assert_eq!(told.response_information, Some(text("replies/me")));
}

#[test]
fn session_present_is_told_where_there_is_a_flag_for_it() {
    // 3.2.2-3; 3.1.1, 3.2.2-2
    let accepted = Accepted {
        session_present: true,
        ..Accepted::default()
    };
    for (version, told) in [
        (Version::V5, true),
        (Version::V3_1_1, true),
        (Version::V3_1, false),
    ] {
        let connack = connack(Settings::default(), hello(version), accepted.clone());
        assert_eq!(connack.session_present, told);
    }
}

#[test]
fn a_reason_that_would_make_connack_too_large_is_left_out() {
    // 3.2.2-19
    let mut connect = hello(Version::V5);
    connect.properties.packet_bytes_max = NonZeroU32::new(30);
    connect.properties.authentication_method = Some(text("x"));
    let mut dialogue = Dialogue::new(Settings::default());
    let mut out = Vec::new();
    connect.properties.authentication_method = None;
    dialogue.client(Packet::Connect(Box::new(connect)));
    let words = Some(text(&"because ".repeat(9)));
    dialogue
        .machine
        .refused(ReasonCode::Banned, words, &mut out);
    let Some(Action::Send(Packet::Connack(connack))) = out.first() else {
        panic!("{out:?}");
    };
    assert_eq!(connack.properties.reason_string, None);
}

#[test]
fn connect_has_to_come_and_be_judged_in_time() {
    // Reliability, L2.
    let mut dialogue = Dialogue::new(Settings::default());
    assert!(dialogue.after(Duration::from_secs(9)).is_empty());
    assert_eq!(dialogue.after(Duration::from_secs(1)), ["close"]);
    assert_eq!(dialogue.machine.deadline(), None);
}

#[test]
fn a_bridges_subscriptions_are_as_bridges_need_them() {
    let connect = Connect {
        bridge: true,
        ..hello(Version::V3_1_1)
    };
    let mut dialogue = Dialogue::with(Settings::default(), connect, Accepted::default());
    let mut out = Vec::new();
    let subscribe = subscribing::subscribe(1, &["a/#"]);
    dialogue.machine.received(subscribe, dialogue.now, &mut out);
    let Some(Action::Subscribe(subscribing)) = out.first() else {
        panic!("{out:?}");
    };
    let subscription = &subscribing.subscriptions[0];
    assert!(subscription.no_local && subscription.retain_as_published);
}
