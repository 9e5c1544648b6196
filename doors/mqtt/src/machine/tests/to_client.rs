//! Messages toward the client: flight, queue, resends, aliases, expiry, sizes (3.3, 4.3, 4.4, 4.6, 4.9).

use super::*;

/// A client of 5.0 that takes so many, with aliases, and packets of so many bytes.
fn client(receive: u16, aliases: u16, bytes_max: u32) -> Connect {
    let mut connect = hello(Version::V5);
    connect.properties.receive_maximum = NonZeroU16::new(receive);
    connect.properties.topic_alias_maximum = Some(aliases);
    connect.properties.packet_bytes_max = NonZeroU32::new(bytes_max);
    connect
}

fn taking(receive: u16) -> Dialogue {
    let connect = client(receive, 0, 1000);
    Dialogue::with(Settings::default(), connect, Accepted::default())
}

#[test]
fn qos_1_is_in_flight_until_puback() {
    // 4.3.2-1, 4.3.2-2
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.tell("a", Q0), ["PUBLISH a q0"]);
    assert_eq!(dialogue.tell("a", Q1), ["PUBLISH a q1 1"]);
    assert_eq!(dialogue.tell("a", Q1), ["PUBLISH a q1 2"]);
    assert!(dialogue.client(puback(1)).is_empty());
    assert_eq!(dialogue.machine.in_flight(), 1);
    // Once more: it is nobody's.
    assert!(dialogue.client(puback(1)).is_empty());
}

#[test]
fn qos_2_goes_in_two_steps() {
    // 4.3.3-1, 4.3.3-4, 4.3.3-5, 4.3.3-6
    let mut dialogue = Dialogue::connected(Version::V5);
    assert_eq!(dialogue.tell("a", Q2), ["PUBLISH a q2 1"]);
    assert_eq!(dialogue.client(pubrec(1)), ["PUBREL 1"]);
    assert_eq!(dialogue.client(pubrec(1)), ["PUBREL 1"]);
    assert!(dialogue.client(pubcomp(1)).is_empty());
    assert_eq!(dialogue.machine.in_flight(), 0);
    // 3.6.2.1; 3.x has no such reason.
    assert_eq!(dialogue.client(pubrec(1)), ["PUBREL 1 0x92"]);
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    assert_eq!(dialogue.client(pubrec(1)), ["PUBREL 1"]);
}

#[test]
fn an_answer_to_the_wrong_step_ends_the_connection() {
    // 3.3.4-1, 4.3.2-3, 4.3.3-3, 4.3.3-11
    for (qos, packet) in [
        (Q2, puback(1)),
        (Q1, pubrec(1)),
        (Q1, pubcomp(1)),
        (Q2, pubcomp(1)),
    ] {
        let mut dialogue = Dialogue::connected(Version::V5);
        dialogue.tell("a", qos);
        assert_eq!(dialogue.client(packet), ["DISCONNECT 0x82", "close"]);
    }
}

#[test]
fn a_client_that_does_not_want_a_message_is_done_with_it() {
    // 4.4.0-2
    let mut dialogue = taking(1);
    dialogue.tell("a", Q2);
    assert!(dialogue.tell("b", Q1).is_empty());
    let refused = Packet::Pubrec(ack(1, ReasonCode::QuotaExceeded));
    assert_eq!(dialogue.client(refused), ["PUBLISH b q1 2"]);
    let refused = Packet::Puback(ack(2, ReasonCode::NotAuthorized));
    assert!(dialogue.client(refused).is_empty());
    assert_eq!(dialogue.machine.in_flight(), 0);
}

#[test]
fn no_more_are_in_flight_than_the_client_takes() {
    // 3.3.4-9, 3.3.4-10, 4.9.0-1, 4.9.0-2
    let mut dialogue = taking(2);
    dialogue.tell("a", Q1);
    dialogue.tell("b", Q2);
    assert!(dialogue.tell("c", Q1).is_empty());
    assert!(dialogue.tell("d", Q1).is_empty());
    // PUBREC does not make room.
    assert_eq!(dialogue.client(pubrec(2)), ["PUBREL 2"]);
    assert_eq!(dialogue.client(puback(1)), ["PUBLISH c q1 3"]);
    assert_eq!(dialogue.client(pubcomp(2)), ["PUBLISH d q1 4"]);
    // 4.9.0-3: all else goes on.
    assert_eq!(dialogue.client(Packet::Pingreq), ["PINGRESP"]);
}

#[test]
fn our_own_bound_holds_for_version_3() {
    let settings = Settings {
        in_flight_max: 1,
        ..Settings::default()
    };
    let mut dialogue = Dialogue::with(settings, hello(Version::V3_1_1), Accepted::default());
    dialogue.tell("a", Q1);
    assert!(dialogue.tell("b", Q1).is_empty());
    assert_eq!(dialogue.client(puback(1)), ["PUBLISH b q1 2"]);
}

#[test]
fn messages_keep_their_order_whatever_their_qos() {
    // 4.6.0-5, 4.6.0-6
    let mut dialogue = taking(1);
    assert_eq!(dialogue.tell("a", Q1), ["PUBLISH a q1 1"]);
    assert!(dialogue.tell("a", Q2).is_empty());
    assert!(dialogue.tell("a", Q0).is_empty());
    assert!(dialogue.tell("a", Q1).is_empty());
    assert_eq!(
        dialogue.client(puback(1)),
        ["PUBLISH a q2 2", "PUBLISH a q0"]
    );
    dialogue.client(pubrec(2));
    assert_eq!(dialogue.client(pubcomp(2)), ["PUBLISH a q1 3"]);
}

#[test]
fn packet_ids_in_use_are_passed_over() {
    // 2.2.1-4, 4.3.2-1
    let mut dialogue = taking(2);
    dialogue.tell("stays", Q1);
    for _ in 0..2 * u32::from(u16::MAX) {
        let said = dialogue.tell("a", Q1);
        let number: u16 = said[0].rsplit(' ').next().unwrap().parse().unwrap();
        assert!(number > 1);
        dialogue.client(puback(number));
    }
}

#[test]
fn a_full_queue_drops_qos_0_first_and_then_says_so() {
    // Reliability, L7.
    let settings = Settings {
        in_flight_max: 1,
        queued_max: 2,
        ..Settings::default()
    };
    let mut dialogue = Dialogue::with(settings, hello(Version::V5), Accepted::default());
    dialogue.tell("flies", Q1);
    assert_eq!(dialogue.machine.room(), 2);
    dialogue.tell("b", Q1);
    dialogue.tell("a", Q0);
    assert_eq!(dialogue.machine.room(), 0);
    // In the place of «a».
    let delivery = dialogue.delivery(message("c", "x"), Q1);
    assert_eq!(dialogue.deliver(delivery).1, Delivered::Queued);
    let delivery = dialogue.delivery(message("d", "x"), Q0);
    assert_eq!(dialogue.deliver(delivery).1, Delivered::Dropped);
    let delivery = dialogue.delivery(message("e", "x"), Q1);
    assert_eq!(
        dialogue.deliver(delivery.clone()).1,
        Delivered::Full(delivery)
    );
    assert_eq!(dialogue.machine.counts().dropped_qos_0, 2);
    assert_eq!(dialogue.client(puback(1)), ["PUBLISH b q1 2"]);
    assert_eq!(dialogue.client(puback(2)), ["PUBLISH c q1 3"]);
}

#[test]
fn the_queue_is_bounded_in_bytes_but_takes_any_message_alone() {
    // Reliability, L6.
    let settings = Settings {
        in_flight_max: 1,
        queued_bytes_max: 1000,
        ..Settings::default()
    };
    let mut dialogue = Dialogue::with(settings, hello(Version::V5), Accepted::default());
    dialogue.tell("flies", Q1);
    let large = dialogue.delivery(message("a", &"x".repeat(5000)), Q1);
    assert_eq!(dialogue.deliver(large.clone()).1, Delivered::Queued);
    assert_eq!(dialogue.machine.room(), 0);
    assert!(matches!(dialogue.deliver(large).1, Delivered::Full(_)));
}

#[test]
fn what_was_not_acknowledged_is_sent_again_on_the_next_connection_only() {
    // 4.4.0-1, 3.3.1-1, 4.6.0-1
    let mut dialogue = Dialogue::connected(Version::V3_1_1);
    dialogue.tell("a", Q1);
    dialogue.tell("b", Q2);
    dialogue.tell("c", Q2);
    dialogue.tell("d", Q1);
    dialogue.client(pubrec(2));
    let later = dialogue.after(Duration::from_secs(30));
    assert!(later.is_empty());
    let session = dialogue.leave();
    let mut dialogue = Dialogue::new(Settings::default());
    dialogue.client(Packet::Connect(Box::new(hello(Version::V3_1_1))));
    assert_eq!(
        dialogue.accept(session),
        [
            "CONNACK 0x00 present",
            "PUBREL 2",
            "PUBLISH a q1 1 dup",
            "PUBLISH c q2 3 dup",
            "PUBLISH d q1 4 dup"
        ]
    );
    // New ones pass the old ids over.
    assert_eq!(dialogue.tell("e", Q1), ["PUBLISH e q1 5"]);
    assert!(dialogue.client(pubcomp(2)).is_empty());
}

#[test]
fn a_returning_client_that_takes_less_gets_the_rest_later() {
    // 4.4.0-1 within 3.3.4-9
    let mut dialogue = Dialogue::connected(Version::V5);
    for topic in ["a", "b", "c"] {
        dialogue.tell(topic, Q1);
    }
    let session = dialogue.leave();
    let mut dialogue = Dialogue::new(Settings::default());
    dialogue.client(Packet::Connect(Box::new(client(1, 0, 1000))));
    assert_eq!(
        dialogue.accept(session),
        ["CONNACK 0x00 present", "PUBLISH a q1 1 dup"]
    );
    assert!(dialogue.tell("d", Q0).is_empty());
    assert_eq!(dialogue.client(puback(1)), ["PUBLISH b q1 2 dup"]);
    assert_eq!(
        dialogue.client(puback(2)),
        ["PUBLISH c q1 3 dup", "PUBLISH d q0"]
    );
}

#[test]
fn what_waited_waits_on() {
    // 4.1
    let mut dialogue = taking(1);
    dialogue.tell("a", Q1);
    dialogue.tell("b", Q1);
    dialogue.tell("zero", Q0);
    let session = dialogue.leave();
    let mut dialogue = Dialogue::with(Settings::default(), client(9, 0, 1000), session);
    assert_eq!(dialogue.machine.in_flight(), 2);
    assert!(dialogue.client(puback(2)).is_empty());
}

#[test]
fn a_durable_sessions_steps_are_kept_before_they_are_said() {
    // 4.3.3
    let mut dialogue = Dialogue::durable(Version::V5);
    assert_eq!(dialogue.tell("a", Q2), ["assign 1"]);
    // Order holds meanwhile, and QoS 1 waits for nothing of its own.
    assert_eq!(dialogue.tell("b", Q1), ["assign 2"]);
    assert!(dialogue.tell("c", Q0).is_empty());
    assert_eq!(
        dialogue.kept(0),
        ["PUBLISH a q2 1", "PUBLISH b q1 2", "PUBLISH c q0"]
    );
    assert_eq!(dialogue.client(pubrec(1)), ["received 1"]);
    assert!(dialogue.client(pubrec(1)).is_empty());
    assert_eq!(dialogue.kept(1), ["PUBREL 1"]);
    assert_eq!(dialogue.client(pubcomp(1)), ["settle 1"]);
    assert_eq!(dialogue.client(puback(2)), ["settle 2"]);
}

#[test]
fn a_message_that_is_gone_does_not_leave_its_packet_id_with_the_client() {
    let gone = |qos, sent| InFlight {
        packet_id: id(4),
        qos,
        sent,
        received: false,
        reference: 0,
        delivery: None,
    };
    for (one, expected) in [
        (gone(Q1, true), "settle 4"),
        (gone(Q2, false), "settle 4"),
        (gone(Q2, true), "PUBREL 4"),
    ] {
        let mut dialogue = Dialogue::new(Settings::default());
        dialogue.client(Packet::Connect(Box::new(hello(Version::V5))));
        let accepted = Accepted {
            durable: true,
            session: Session {
                in_flight: vec![one],
                ..Session::default()
            },
            ..Accepted::default()
        };
        assert_eq!(dialogue.accept(accepted), ["CONNACK 0x00", expected]);
    }
}

#[test]
fn the_first_topics_get_aliases() {
    // 3.1.2-26, 3.1.2-27, 3.3.2-11
    let mut dialogue = Dialogue::with(Settings::default(), client(9, 2, 1000), Accepted::default());
    assert_eq!(dialogue.tell("a", Q0), ["PUBLISH a q0 set 1"]);
    assert_eq!(dialogue.tell("b", Q1), ["PUBLISH b q1 1 set 2"]);
    assert_eq!(dialogue.tell("c", Q0), ["PUBLISH c q0"]);
    assert_eq!(dialogue.tell("a", Q0), ["PUBLISH a q0 use 1"]);
    // 3.3.2-7: another connection begins anew.
    let session = dialogue.leave();
    let mut dialogue = Dialogue::new(Settings::default());
    dialogue.client(Packet::Connect(Box::new(client(9, 2, 1000))));
    assert_eq!(dialogue.accept(session)[1], "PUBLISH b q1 1 set 1 dup");
    // And who takes none gets none.
    assert_eq!(taking(9).tell("a", Q0), ["PUBLISH a q0"]);
}

#[test]
fn what_is_larger_than_the_client_takes_is_as_if_it_had_been_sent() {
    // 3.1.2-24, 3.1.2-25
    let mut dialogue = Dialogue::with(Settings::default(), client(1, 9, 40), Accepted::default());
    let large = |dialogue: &Dialogue, qos| dialogue.delivery(message("a", &"x".repeat(40)), qos);
    let delivery = large(&dialogue, Q0);
    assert_eq!(dialogue.deliver(delivery).1, Delivered::Dropped);
    let delivery = large(&dialogue, Q1);
    assert!(dialogue.deliver(delivery).0.is_empty());
    assert_eq!(dialogue.machine.in_flight(), 0);
    assert_eq!(dialogue.machine.counts().too_large, 2);
    // It did not use up the alias.
    assert_eq!(dialogue.tell("b", Q0), ["PUBLISH b q0 set 1"]);
}

#[test]
fn a_messages_time_is_counted_down_and_ends() {
    // 3.3.2-5, 3.3.2-6
    let expiring = |dialogue: &Dialogue, s| {
        let mut message = message("a", "x");
        message.properties.message_expiry_s = Some(s);
        dialogue.delivery(message, Q1)
    };
    let mut dialogue = taking(1);
    dialogue.tell("flies", Q1);
    for s in [5, 100] {
        let delivery = expiring(&dialogue, s);
        assert_eq!(dialogue.deliver(delivery).1, Delivered::Queued);
    }
    dialogue.after(Duration::from_millis(9_500));
    let mut out = Vec::new();
    dialogue.machine.received(puback(1), dialogue.now, &mut out);
    let [Action::Deliver(deliver)] = &*out else {
        panic!("{out:?}");
    };
    assert_eq!(deliver.message_expiry_s, Some(91));
    assert_eq!(dialogue.machine.counts().expired, 1);
    // 4.3.3-7: what has gone out is seen through.
    let session = dialogue.leave();
    let mut dialogue = Dialogue::new(Settings::default());
    dialogue.now += Duration::from_secs(1000);
    dialogue.client(Packet::Connect(Box::new(hello(Version::V5))));
    assert_eq!(dialogue.accept(session)[1], "PUBLISH a q1 2 dup");
}

#[test]
fn an_expired_message_of_a_durable_session_is_told_to_be_done() {
    let mut dialogue = Dialogue::durable(Version::V5);
    let mut message = message("a", "x");
    message.properties.message_expiry_s = Some(1);
    let delivery = Delivery {
        reference: 9,
        ..dialogue.delivery(message, Q2)
    };
    dialogue.now += Duration::from_secs(1);
    assert_eq!(
        dialogue.deliver(delivery),
        (vec!["skip 9".to_owned()], Delivered::Dropped)
    );
}

#[test]
fn a_delivery_is_written_with_its_own_head() {
    // 3.3.4-4, 3.3.1-9
    use crate::codec::{DecodeLimits, Decoder, SubscriptionId};
    let dialogue = Dialogue::connected(Version::V5);
    let ids: Vec<SubscriptionId> = [3, 200]
        .into_iter()
        .filter_map(SubscriptionId::new)
        .collect();
    let deliver = Deliver {
        message: dialogue.delivery(message("a", "x"), Q1).message,
        dup: false,
        qos: Q1,
        retain: true,
        packet_id: Some(id(9)),
        alias: Alias::None,
        subscription_ids: SubscriptionIds::Many(ids.clone().into()),
        message_expiry_s: None,
    };
    let (mut whole, mut parts) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    deliver.write(Version::V5, &mut whole);
    let shared = deliver.write_head(Version::V5, &mut parts);
    parts.extend_from_slice(&shared);
    assert_eq!(whole, parts);
    let mut decoder = Decoder::with_version(Version::V5, DecodeLimits::default());
    let Ok(Some(Packet::Publish(publish))) = decoder.decode(&mut whole) else {
        panic!("no PUBLISH");
    };
    assert!(publish.retain);
    assert_eq!(publish.subscription_ids, ids);
}

#[test]
fn who_wants_no_reasons_gets_none() {
    // 3.1.2-29
    let mut connect = hello(Version::V5);
    connect.properties.request_problem_information = Some(false);
    let mut dialogue = Dialogue::with(Settings::default(), connect, Accepted::default());
    let mut ack = ack(1, ReasonCode::Success);
    ack.properties.reason_string = Some(text("because"));
    let mut out = Vec::new();
    dialogue.machine.send(Packet::Puback(ack), &mut out);
    let [Action::Send(Packet::Puback(ack))] = &*out else {
        panic!("{out:?}");
    };
    assert!(ack.properties.is_empty());
    // DISCONNECT may have one.
    out.clear();
    dialogue
        .machine
        .faulted(&Fault::protocol("1", "why"), None, &mut out);
    let Some(Action::Send(Packet::Disconnect(disconnect))) = out.first() else {
        panic!("{out:?}");
    };
    assert_eq!(disconnect.properties.reason_string, Some(text("why")));
}

#[test]
fn the_short_way_writes_what_the_long_one_does_and_overtakes_nothing() {
    let mut expiring = message("a", "x");
    expiring.properties.message_expiry_s = Some(9);
    let large = message("a", &"x".repeat(40));
    let mut long = Dialogue::with(Settings::default(), client(1, 2, 40), Accepted::default());
    let mut short = Dialogue::with(Settings::default(), client(1, 2, 40), Accepted::default());
    let (mut expected, mut written) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    for message in [
        message("a", "x"),
        message("b", "x"),
        expiring,
        large,
        message("c", "x"),
    ] {
        let mut out = Vec::new();
        let delivery = long.delivery(message, Q0);
        let now = short.now;
        let published = delivery.message.clone();
        let by_short = short
            .machine
            .write_now(&published, false, &[], now, &mut written);
        assert_eq!(
            by_short,
            Some(long.machine.deliver(delivery, now, &mut out))
        );
        for action in out {
            let Action::Deliver(deliver) = action else {
                panic!("{action:?}");
            };
            deliver.write(Version::V5, &mut expected);
        }
    }
    assert_eq!(written, expected);
    assert_eq!(short.machine.counts(), long.machine.counts());
    short.tell("a", Q1);
    short.tell("a", Q1);
    let published = short.delivery(message("a", "x"), Q0).message;
    let now = short.now;
    assert_eq!(
        short
            .machine
            .write_now(&published, false, &[], now, &mut written),
        None
    );
}

#[test]
fn words_that_would_make_an_answer_too_large_are_left_out() {
    // 3.4.2-2, 3.4.2-3, 3.5.2-2, 3.5.2-3, 3.6.2-2, 3.6.2-3, 3.7.2-2, 3.7.2-3, 3.9.2-1, 3.9.2-2, 3.11.2-1, 3.11.2-2
    // 3.14.2-2, 3.14.2-3, 3.14.2-4, 3.2.2-19, 3.2.2-20
    use crate::codec::{Suback, Unsuback};
    let long = text(&"because ".repeat(9));
    let mut properties = AckProperties {
        reason_string: Some(long.clone()),
        ..AckProperties::default()
    };
    properties.user_properties.push(&long, &long);
    let ack = Ack {
        properties: properties.clone(),
        ..ack(1, ReasonCode::Success)
    };
    let mut disconnect = DisconnectProperties {
        reason_string: Some(long.clone()),
        ..DisconnectProperties::default()
    };
    disconnect.user_properties.push(&long, &long);
    let reasons = vec![ReasonCode::Success];
    let (packet_id, said) = (id(1), properties);
    for packet in [
        Packet::Puback(ack.clone()),
        Packet::Pubrec(ack.clone()),
        Packet::Pubrel(ack.clone()),
        Packet::Pubcomp(ack),
        Packet::Suback(Suback {
            packet_id,
            properties: said.clone(),
            reasons: reasons.clone(),
        }),
        Packet::Unsuback(Unsuback {
            packet_id,
            properties: said,
            reasons,
        }),
        Packet::Disconnect(Disconnect {
            reason: ReasonCode::ServerBusy,
            properties: disconnect,
        }),
    ] {
        for (bytes_max, kept) in [(300, true), (60, false)] {
            let connect = client(9, 0, bytes_max);
            let mut dialogue = Dialogue::with(Settings::default(), connect, Accepted::default());
            let mut out = Vec::new();
            dialogue.machine.send(packet.clone(), &mut out);
            let [Action::Send(sent)] = &*out else {
                panic!("{out:?}");
            };
            assert_eq!(*sent == packet, kept, "{sent:?}");
            assert!(encoded_len(sent, Version::V5).unwrap() <= bytes_max as usize);
        }
    }
}
