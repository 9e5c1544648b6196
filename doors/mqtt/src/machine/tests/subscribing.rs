//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11).

use super::*;
use crate::codec::{Subscribe, SubscribeFilter, Unsubscribe};

pub(super) fn subscribe(packet_id: u16, filters: &[&str]) -> Packet {
    let filter = |filter: &&str| SubscribeFilter {
        filter: text(filter),
        qos: Q1,
        no_local: false,
        retain_as_published: false,
        retain_handling: Default::default(),
    };
    Packet::Subscribe(Subscribe {
        packet_id: id(packet_id),
        properties: Default::default(),
        filters: filters.iter().map(filter).collect(),
    })
}

pub(super) fn unsubscribe(packet_id: u16, filters: &[&str]) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: id(packet_id),
        properties: Default::default(),
        filters: filters.iter().map(|filter| text(filter)).collect(),
    })
}

fn subscribed(dialogue: &mut Dialogue, n: usize, reasons: &[ReasonCode]) -> Vec<String> {
    let mut out = Vec::new();
    dialogue
        .machine
        .subscribed(dialogue.tags[n], reasons, &mut out);
    dialogue.said(out)
}

#[test]
fn each_filter_has_its_reason_in_order() {
    // 3.8.4-1, 3.8.4-2, 3.8.4-6, 3.9.3-1
    let mut dialogue = Dialogue::connected(Version::V5);
    let deep = vec!["a"; 40].join("/");
    assert_eq!(
        dialogue.client(subscribe(7, &["a/#", &deep, "+"])),
        ["subscribe a/# +"]
    );
    let reasons = [ReasonCode::GrantedQos1, ReasonCode::NotAuthorized];
    assert_eq!(
        subscribed(&mut dialogue, 0, &reasons),
        ["SUBACK 7 0x01 0x8f 0x87"]
    );
    // Told once.
    assert!(subscribed(&mut dialogue, 0, &reasons).is_empty());
}

#[test]
fn what_the_door_leaves_open_is_a_failure() {
    // 3.8.4-7
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(subscribe(7, &["a", "b"]));
    let said = subscribed(&mut dialogue, 0, &[ReasonCode::GrantedQos2]);
    assert_eq!(said, ["SUBACK 7 0x02 0x80"]);
}

#[test]
fn filters_that_are_none_end_the_connection() {
    // 4.7.1-1, 4.7.1-2, 4.7.3-1, 4.8.2-2
    for filter in ["a/#/b", "a+", "", "$share/n"] {
        let mut dialogue = Dialogue::connected(Version::V5);
        let said = dialogue.client(subscribe(1, &["ok", filter]));
        assert_eq!(said, ["DISCONNECT 0x8f", "close"], "{filter}");
        let mut dialogue = Dialogue::connected(Version::V3_1_1);
        assert_eq!(dialogue.client(unsubscribe(1, &[filter])), ["close"]);
    }
}

#[test]
fn no_local_is_not_for_shared_subscriptions() {
    // 3.8.3-4
    let mut dialogue = Dialogue::connected(Version::V5);
    let Packet::Subscribe(mut packet) = subscribe(1, &["$share/n/a"]) else {
        panic!("no SUBSCRIBE");
    };
    packet.filters[0].no_local = true;
    assert_eq!(
        dialogue.client(Packet::Subscribe(packet)),
        ["DISCONNECT 0x82", "close"]
    );
}

#[test]
fn filters_that_cannot_be_there_are_gone_at_once() {
    // 3.10.4-4, 3.10.4-5
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(
        dialogue.client(unsubscribe(3, &[".x"])),
        ["UNSUBACK 3 0x11"]
    );
    assert_eq!(
        dialogue.client(unsubscribe(3, &["a", ".x", "b"])),
        ["unsubscribe a b"]
    );
    let mut out = Vec::new();
    let reasons = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    dialogue
        .machine
        .unsubscribed(dialogue.tags[0], &reasons, &mut out);
    assert_eq!(dialogue.said(out), ["UNSUBACK 3 0x00 0x11 0x11"]);
}

#[test]
fn a_packet_id_in_use_is_told() {
    // 2.2.1-3
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(subscribe(1, &["a"]));
    assert_eq!(
        dialogue.client(subscribe(1, &["b", "c"])),
        ["SUBACK 1 0x91 0x91"]
    );
    assert_eq!(dialogue.client(unsubscribe(1, &["b"])), ["UNSUBACK 1 0x91"]);
    dialogue.client(publish("a", Q1, 2));
    assert_eq!(dialogue.client(subscribe(2, &["a"])), ["SUBACK 2 0x91"]);
    // 3.x has no words for it.
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    dialogue.client(subscribe(1, &["a"]));
    assert_eq!(dialogue.client(subscribe(1, &["b"])), ["subscribe b"]);
}

#[test]
fn requests_without_an_outcome_stop_the_reading() {
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    for packet_id in 1..=10 {
        assert!(dialogue.machine.wants_input());
        dialogue.client(subscribe(packet_id, &["a"]));
    }
    assert!(!dialogue.machine.wants_input());
    subscribed(&mut dialogue, 3, &[ReasonCode::Success]);
    assert!(dialogue.machine.wants_input());
}
