//! Keep-alive, PINGREQ, DISCONNECT, wills and the session's end (3.1.2.10, 3.12, 3.14, 4.13).

use super::connecting::will;
use super::*;

fn disconnect(reason: ReasonCode, session_expiry_s: Option<u32>) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        properties: DisconnectProperties {
            session_expiry_s,
            ..DisconnectProperties::default()
        },
    })
}

/// With a will, a delay for it, and a session's life.
fn with_will(version: Version, delay_s: u32, session_expiry_s: u32) -> Dialogue {
    let mut connect = hello(version);
    connect.will = Some(will("gone", delay_s));
    connect.properties.session_expiry_s = Some(session_expiry_s);
    Dialogue::with(Settings::default(), connect, Accepted::default())
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    // 3.1.2-22, 3.2.2-22; 3.1.1, 3.1.2-24
    for (version, expected) in [
        (Version::V5, &["DISCONNECT 0x8d", "close"][..]),
        (Version::V3_1_1, &["close"]),
    ] {
        let mut dialogue = Dialogue::connected(version);
        assert!(dialogue.after(Duration::from_secs(80)).is_empty());
        // 3.12.4-1
        assert_eq!(dialogue.client(Packet::Pingreq), ["PINGRESP"]);
        assert!(dialogue.after(Duration::from_secs(89)).is_empty());
        assert_eq!(dialogue.after(Duration::from_secs(1)), expected);
        assert_eq!(dialogue.machine.counts().timeouts, 1);
    }
}

#[test]
fn a_keep_alive_of_zero_is_none() {
    // 3.1.2.10
    let connect = Connect {
        keep_alive_s: 0,
        ..hello(Version::V5)
    };
    let mut dialogue = Dialogue::with(Settings::default(), connect, Accepted::default());
    assert_eq!(dialogue.machine.deadline(), None);
    assert!(dialogue.after(Duration::from_secs(1 << 20)).is_empty());
}

#[test]
fn the_servers_keep_alive_holds() {
    // 3.1.2-21, 3.2.2-21
    let settings = Settings {
        keep_alive_s_max: Some(10),
        ..Settings::default()
    };
    let mut dialogue = Dialogue::with(settings, hello(Version::V5), Accepted::default());
    assert_eq!(
        dialogue.after(Duration::from_secs(15)),
        ["DISCONNECT 0x8d", "close"]
    );
}

#[test]
fn a_will_fires_unless_the_client_said_goodbye() {
    // 3.1.2-8, 3.14.4-3
    for version in [Version::V3_1_1, Version::V5] {
        let dialogue = with_will(version, 0, 0);
        assert_eq!(dialogue.machine.ended().will_after, Some(Duration::ZERO));
        let mut dialogue = with_will(version, 0, 0);
        assert_eq!(
            dialogue.client(disconnect(ReasonCode::Success, None)),
            ["close"]
        );
        assert_eq!(dialogue.machine.ended().will_after, None);
        // Takeover: 3.1.4-3
        let mut dialogue = with_will(version, 0, 0);
        dialogue.close(ReasonCode::SessionTakenOver);
        assert_eq!(dialogue.machine.ended().will_after, Some(Duration::ZERO));
    }
    // 3.14.2.1: 0x04
    let mut dialogue = with_will(Version::V5, 0, 0);
    dialogue.client(disconnect(ReasonCode::DisconnectWithWill, None));
    assert_eq!(dialogue.machine.ended().will_after, Some(Duration::ZERO));
}

#[test]
fn a_will_waits_no_longer_than_its_session_lives() {
    // 3.1.3.2.2, 3.1.2-8
    let after = |delay_s, expiry_s| {
        let dialogue = with_will(Version::V5, delay_s, expiry_s);
        dialogue
            .machine
            .ended()
            .will_after
            .map(|delay| delay.as_secs())
    };
    assert_eq!(after(10, 60), Some(10));
    assert_eq!(after(60, 10), Some(10));
    assert_eq!(after(60, 0), Some(0));
}

#[test]
fn disconnect_may_change_a_life_but_not_begin_one() {
    // 3.14.2.2.2
    let mut dialogue = with_will(Version::V5, 0, 60);
    dialogue.client(disconnect(ReasonCode::Success, Some(0)));
    assert_eq!(dialogue.machine.ended().session_expiry_s, 0);
    let mut dialogue = with_will(Version::V5, 0, 0);
    let answer = dialogue.client(disconnect(ReasonCode::Success, Some(9)));
    assert_eq!(answer, ["DISCONNECT 0x82", "close"]);
    // As it was a fault, the will is not void.
    assert_eq!(dialogue.machine.ended().will_after, Some(Duration::ZERO));
}

#[test]
fn a_clean_session_of_3_ends_with_its_connection_and_another_one_later() {
    // 3.1.1, 3.1.2-4, 3.1.2-6
    let life = |clean_start| {
        let connect = Connect {
            clean_start,
            ..hello(Version::V3_1_1)
        };
        let dialogue = Dialogue::with(Settings::default(), connect, Accepted::default());
        dialogue.machine.ended().session_expiry_s
    };
    assert_eq!(life(true), 0);
    assert_eq!(life(false), 24 * 60 * 60);
}

#[test]
fn nothing_goes_out_behind_the_end() {
    // 3.14.4-1, 3.14.4-2, 3.14.0-1
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(publish("a", Q1, 1));
    assert_eq!(
        dialogue.close(ReasonCode::ServerShuttingDown),
        ["DISCONNECT 0x8b", "close"]
    );
    assert!(dialogue.close(ReasonCode::ServerBusy).is_empty());
    assert!(dialogue.written(0, ReasonCode::Success).is_empty());
    assert!(dialogue.client(Packet::Pingreq).is_empty());
    let delivery = dialogue.delivery(message("a", "x"), Q0);
    assert!(matches!(dialogue.deliver(delivery), (out, Delivered::Full(_)) if out.is_empty()));
}

#[test]
fn packets_that_only_servers_send_end_the_connection() {
    // CVE-2021-28166
    use crate::codec::{Connack, Suback, Unsuback};
    let connack = Connack {
        session_present: false,
        reason: ReasonCode::Success,
        properties: Default::default(),
    };
    let suback = Suback {
        packet_id: id(1),
        properties: Default::default(),
        reasons: Vec::new(),
    };
    let unsuback = Unsuback {
        packet_id: id(1),
        properties: Default::default(),
        reasons: Vec::new(),
    };
    for packet in [
        Packet::Connack(Box::new(connack)),
        Packet::Suback(suback),
        Packet::Unsuback(unsuback),
        Packet::Pingresp,
    ] {
        let mut dialogue = Dialogue::connected(Version::V5);
        assert_eq!(dialogue.client(packet), ["DISCONNECT 0x82", "close"]);
    }
}

#[test]
fn a_reason_that_its_packet_cannot_have_becomes_one_that_it_can() {
    // 3.2.2-8, 3.4.2-1, 3.5.2-1, 3.9.3-2, 3.14.2-1
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(publish("a", Q1, 1));
    dialogue.client(publish("a", Q2, 2));
    assert_eq!(
        dialogue.written(0, ReasonCode::ServerBusy),
        ["PUBACK 1 0x80"]
    );
    assert_eq!(dialogue.written(1, ReasonCode::GrantedQos2), ["PUBREC 2"]);
    dialogue.client(subscribing::subscribe(3, &["a"]));
    let mut out = Vec::new();
    let reasons = [ReasonCode::ServerBusy];
    dialogue
        .machine
        .subscribed(dialogue.tags[2], &reasons, &mut out);
    assert_eq!(dialogue.said(out), ["SUBACK 3 0x80"]);
    assert_eq!(
        dialogue.close(ReasonCode::Banned),
        ["DISCONNECT 0x80", "close"]
    );
    let mut dialogue = Dialogue::new(Settings::default());
    dialogue.client(Packet::Connect(Box::new(hello(Version::V5))));
    assert_eq!(
        dialogue.close(ReasonCode::ServerShuttingDown),
        ["CONNACK 0x88", "close"]
    );
}
