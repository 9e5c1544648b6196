//! Messages from the client: PUBLISH, its answers, aliases, receive maximum (3.3, 4.3, 4.6, 4.9).

use super::*;
use crate::codec::SubscriptionId;

fn aliased(topic: &str, alias: u16) -> Packet {
    let Packet::Publish(mut packet) = publish(topic, Q0, 0) else {
        panic!("no PUBLISH");
    };
    packet.topic_alias = Some(alias);
    Packet::Publish(packet)
}

#[test]
fn qos_0_is_done_and_not_answered() {
    // 4.3.1
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.client(publish("a/b", Q0, 0)), ["publish /a/b q0"]);
    assert!(dialogue.written(0, ReasonCode::NotAuthorized).is_empty());
    assert_eq!(dialogue.machine.counts().refused_publishes, 1);
}

#[test]
fn qos_1_is_acknowledged_behind_its_outcome() {
    // 4.3.2-4, 3.4.2-1
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.client(publish("a", Q1, 7)), ["publish /a q1"]);
    let said = dialogue.written(0, ReasonCode::NoMatchingSubscribers);
    assert_eq!(said, ["PUBACK 7 0x10"]);
    // 4.3.2-5: the packet id is free again.
    assert_eq!(dialogue.client(publish("a", Q1, 7)), ["publish /a q1"]);
    assert_eq!(
        dialogue.written(1, ReasonCode::QuotaExceeded),
        ["PUBACK 7 0x97"]
    );
}

#[test]
fn answers_go_out_in_the_order_of_the_messages() {
    // 4.6.0-2, 4.6.0-3
    let mut dialogue = Dialogue::connected(Version::V5);
    for (packet_id, qos) in [(1, Q1), (2, Q2), (3, Q1)] {
        dialogue.client(publish("a", qos, packet_id));
    }
    assert!(dialogue.written(2, ReasonCode::Success).is_empty());
    assert!(dialogue.written(1, ReasonCode::Success).is_empty());
    assert_eq!(
        dialogue.written(0, ReasonCode::Success),
        ["PUBACK 1", "PUBREC 2", "PUBACK 3"]
    );
}

#[test]
fn qos_2_acts_once_until_it_is_released() {
    // 4.3.3-8, 4.3.3-10, 4.3.3-11, 4.3.3-12
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.client(publish("a", Q2, 7)), ["publish /a q2"]);
    assert!(dialogue.client(publish("a", Q2, 7)).is_empty());
    assert_eq!(
        dialogue.written(0, ReasonCode::Success),
        ["PUBREC 7", "PUBREC 7"]
    );
    assert_eq!(dialogue.client(publish("a", Q2, 7)), ["PUBREC 7"]);
    assert_eq!(dialogue.client(pubrel(7)), ["PUBCOMP 7"]);
    assert_eq!(dialogue.client(pubrel(7)), ["PUBCOMP 7 0x92"]);
    assert_eq!(dialogue.client(publish("a", Q2, 7)), ["publish /a q2"]);
}

#[test]
fn a_refused_qos_2_is_forgotten() {
    // 4.3.3-9
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(publish("a", Q2, 7));
    assert_eq!(
        dialogue.written(0, ReasonCode::NotAuthorized),
        ["PUBREC 7 0x87"]
    );
    assert_eq!(dialogue.client(publish("a", Q2, 7)), ["publish /a q2"]);
}

#[test]
fn a_durable_sessions_packet_ids_are_kept_with_the_write_and_forgotten_before_pubcomp() {
    // 4.3.3, method A
    let mut dialogue = Dialogue::durable(Version::V5);
    assert_eq!(
        dialogue.client(publish("a", Q2, 7)),
        ["publish /a q2 remember 7"]
    );
    assert_eq!(dialogue.written(0, ReasonCode::Success), ["PUBREC 7"]);
    assert_eq!(dialogue.client(pubrel(7)), ["forget 7"]);
    // Sent again meanwhile: it is answered once.
    assert!(dialogue.client(pubrel(7)).is_empty());
    assert_eq!(dialogue.kept(1), ["PUBCOMP 7"]);
    // QoS 1 has nothing to remember.
    assert_eq!(dialogue.client(publish("a", Q1, 8)), ["publish /a q1"]);
}

#[test]
fn a_later_connection_knows_what_was_not_released() {
    // 4.1, 4.3.3-10
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    dialogue.client(publish("a", Q2, 7));
    dialogue.written(0, ReasonCode::Success);
    let session = dialogue.leave();
    let mut dialogue = Dialogue::with(Settings::default(), hello(Version::V3_1_1), session);
    assert_eq!(dialogue.client(publish("a", Q2, 7)), ["PUBREC 7"]);
    assert_eq!(dialogue.client(pubrel(7)), ["PUBCOMP 7"]);
}

#[test]
fn pubrel_before_pubrec_is_a_fault() {
    // 4.3.3-4
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(publish("a", Q2, 7));
    assert_eq!(dialogue.client(pubrel(7)), ["DISCONNECT 0x82", "close"]);
}

#[test]
fn a_packet_id_in_use_does_not_act() {
    // 2.2.1-3
    let mut dialogue = Dialogue::connected(Version::V5);
    dialogue.client(publish("a", Q1, 7));
    assert!(dialogue.client(publish("b", Q1, 7)).is_empty());
    assert_eq!(
        dialogue.written(0, ReasonCode::Success),
        ["PUBACK 7", "PUBACK 7 0x91"]
    );
    dialogue.client(publish("a", Q2, 8));
    dialogue.written(1, ReasonCode::Success);
    assert_eq!(dialogue.client(publish("b", Q1, 8)), ["PUBACK 8 0x91"]);
    // 3.1.1, 4.3.2: it is a new message, or an old one again.
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    dialogue.client(publish("a", Q1, 7));
    assert_eq!(dialogue.client(publish("a", Q1, 7)), ["publish /a q1"]);
}

#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    // 3.3.4-7, 4.9
    let settings = Settings {
        receive_maximum: NonZeroU16::new(2).unwrap(),
        ..Settings::default()
    };
    let full = || {
        let mut dialogue =
            Dialogue::with(settings.clone(), hello(Version::V5), Accepted::default());
        dialogue.client(publish("a", Q1, 1));
        dialogue.client(publish("a", Q2, 2));
        dialogue
    };
    assert_eq!(
        full().client(publish("a", Q1, 3)),
        ["DISCONNECT 0x93", "close"]
    );
    assert_eq!(full().client(publish("a", Q0, 0)), ["publish /a q0"]);
    // PUBACK makes room, PUBREC does not, PUBCOMP does.
    let mut dialogue = full();
    dialogue.written(0, ReasonCode::Success);
    dialogue.written(1, ReasonCode::Success);
    assert_eq!(dialogue.client(publish("a", Q1, 1)), ["publish /a q1"]);
    dialogue.client(pubrel(2));
    assert_eq!(dialogue.client(publish("a", Q1, 3)), ["publish /a q1"]);
    assert_eq!(
        dialogue.client(publish("a", Q1, 4)),
        ["DISCONNECT 0x93", "close"]
    );
    // A refused QoS 2 makes room, too.
    let mut dialogue = full();
    dialogue.written(0, ReasonCode::Success);
    dialogue.written(1, ReasonCode::NotAuthorized);
    dialogue.client(publish("a", Q2, 3));
    assert_eq!(dialogue.client(publish("a", Q2, 4)), ["publish /a q2"]);
}

#[test]
fn what_an_earlier_connection_left_does_not_count() {
    // 4.9
    let settings = Settings {
        receive_maximum: NonZeroU16::new(1).unwrap(),
        ..Settings::default()
    };
    let session = Accepted {
        session: Session {
            unreleased: vec![id(5)],
            ..Session::default()
        },
        ..Accepted::default()
    };
    let mut dialogue = Dialogue::with(settings.clone(), hello(Version::V5), session.clone());
    assert_eq!(dialogue.client(publish("a", Q1, 1)), ["publish /a q1"]);
    // But sent again, it does.
    let mut dialogue = Dialogue::with(settings, hello(Version::V5), session);
    assert_eq!(dialogue.client(publish("a", Q2, 5)), ["PUBREC 5"]);
    assert_eq!(
        dialogue.client(publish("a", Q1, 1)),
        ["DISCONNECT 0x93", "close"]
    );
}

#[test]
fn version_3_is_slowed_down_and_its_ids_end_somewhere() {
    let settings = Settings {
        open_writes_max: 2,
        unreleased_max: 3,
        ..Settings::default()
    };
    let mut dialogue = Dialogue::with(settings, hello(Version::V3_1_1), Accepted::default());
    dialogue.client(publish("a", Q2, 1));
    assert!(dialogue.machine.wants_input());
    dialogue.client(publish("a", Q2, 2));
    assert!(!dialogue.machine.wants_input());
    dialogue.written(0, ReasonCode::Success);
    dialogue.written(1, ReasonCode::Success);
    assert!(dialogue.machine.wants_input());
    dialogue.client(publish("a", Q2, 3));
    dialogue.written(2, ReasonCode::Success);
    assert_eq!(dialogue.client(publish("a", Q2, 4)), ["close"]);
}

#[test]
fn an_alias_stands_for_the_last_topic_it_was_sent_with() {
    // 3.3.2-7, 3.3.2-12
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.client(aliased("a", 1)), ["publish /a q0"]);
    assert_eq!(dialogue.client(aliased("", 1)), ["publish /a q0"]);
    assert_eq!(dialogue.client(aliased("b", 1)), ["publish /b q0"]);
    assert_eq!(dialogue.client(aliased("c", 16)), ["publish /c q0"]);
    assert_eq!(dialogue.client(aliased("", 1)), ["publish /b q0"]);
}

#[test]
fn an_alias_out_of_range_or_for_nothing_ends_the_connection() {
    // 3.2.2-17, 3.3.2-9, 3.3.2.3.4
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(
        dialogue.client(aliased("a", 17)),
        ["DISCONNECT 0x94", "close"]
    );
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(
        dialogue.client(aliased("", 2)),
        ["DISCONNECT 0x82", "close"]
    );
}

#[test]
fn a_client_sends_no_subscription_identifiers() {
    // 3.3.4-6
    let Packet::Publish(mut packet) = publish("a", Q0, 0) else {
        panic!("no PUBLISH");
    };
    packet.subscription_ids = vec![SubscriptionId::new(1).unwrap()];
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(
        dialogue.client(Packet::Publish(packet)),
        ["DISCONNECT 0x82", "close"]
    );
}

#[test]
fn topics_that_are_no_paths_are_refused_in_their_turn() {
    // 3.4.2.1, 3.5.2.1
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.client(publish(".x", Q1, 1)), ["PUBACK 1 0x90"]);
    assert_eq!(dialogue.client(publish(".x", Q2, 1)), ["PUBREC 1 0x90"]);
    assert!(dialogue.client(publish(".x", Q0, 0)).is_empty());
    dialogue.client(publish("a", Q1, 2));
    assert!(dialogue.client(publish(".x", Q1, 3)).is_empty());
    assert_eq!(
        dialogue.written(0, ReasonCode::Success),
        ["PUBACK 2", "PUBACK 3 0x90"]
    );
    assert_eq!(dialogue.machine.counts().refused_publishes, 4);
}

#[test]
fn version_3_can_only_say_yes_or_close() {
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    assert_eq!(dialogue.client(publish(".x", Q1, 1)), ["PUBACK 1"]);
    dialogue.client(publish("a", Q2, 2));
    assert_eq!(dialogue.written(0, ReasonCode::NotAuthorized), ["PUBREC 2"]);
    assert_eq!(dialogue.client(pubrel(2)), ["PUBCOMP 2"]);
    let settings = Settings {
        close_on_refused_publish: true,
        ..Settings::default()
    };
    for (packet_id, qos) in [(0, Q0), (1, Q1), (1, Q2)] {
        let mut dialogue = Dialogue::with(
            settings.clone(),
            hello(Version::V3_1_1),
            Accepted::default(),
        );
        dialogue.client(publish("a", qos, packet_id));
        assert_eq!(dialogue.written(0, ReasonCode::NotAuthorized), ["close"]);
    }
}

#[test]
fn a_payload_that_claims_to_be_text_is() {
    // 3.3.2.3.2
    let claim = |payload: &'static [u8]| {
        let Packet::Publish(mut packet) = publish("a", Q1, 1) else {
            panic!("no PUBLISH");
        };
        packet.message.properties.payload_is_text = Some(true);
        packet.message.payload = Bytes::from_static(payload);
        Dialogue::connected(Version::V5).client(Packet::Publish(packet))
    };
    assert_eq!(claim(b"\xFF"), ["PUBACK 1 0x99"]);
    assert_eq!(claim("é".as_bytes()), ["publish /a q1"]);
}

#[test]
fn a_message_whose_outcome_comes_behind_the_end_does_not_act_again() {
    // 4.3.3-10
    let mut dialogue = Dialogue::connected(Version::V5);
    for packet_id in [1, 2, 3] {
        dialogue.client(publish("a", Q2, packet_id));
    }
    assert!(dialogue.written(1, ReasonCode::Success).is_empty());
    dialogue.close(ReasonCode::SessionTakenOver);
    assert!(dialogue.machine.has_open_writes());
    assert!(dialogue.written(0, ReasonCode::Success).is_empty());
    assert!(dialogue.written(2, ReasonCode::NotAuthorized).is_empty());
    assert!(!dialogue.machine.has_open_writes());
    let session = dialogue.leave();
    assert_eq!(session.session.unreleased, [id(1), id(2)]);
}
