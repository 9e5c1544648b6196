//! Anything in any order: nothing panics, and what must hold always does.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::codec::tests::packets::any_packet;

#[derive(Debug, Clone)]
enum Event {
    Packet(Box<Packet>),
    Written(usize, bool),
    Kept(usize),
    Subscribed(usize),
    Deliver(u8),
    Wait(u16),
    Close,
}

fn packet_id() -> impl Strategy<Value = u16> {
    1u16..5
}

fn event(version: Version) -> impl Strategy<Value = Event> {
    let qos = prop::sample::select(vec![(Q0, 0), (Q1, 1), (Q2, 1)]);
    let topic = prop::sample::select(vec!["a", "a/b", ".x"]);
    let packet = prop_oneof![
        (topic, qos, packet_id()).prop_map(|(topic, (qos, n), id)| publish(topic, qos, n * id)),
        packet_id().prop_map(puback),
        packet_id().prop_map(pubrec),
        packet_id().prop_map(pubrel),
        packet_id().prop_map(pubcomp),
        packet_id().prop_map(|id| subscribing::subscribe(id, &["a/#", ".x"])),
        packet_id().prop_map(|id| subscribing::unsubscribe(id, &["a"])),
        Just(Packet::Pingreq),
    ];
    prop_oneof![
        20 => packet.prop_map(|packet| Event::Packet(Box::new(packet))),
        1 => any_packet(version).prop_map(|packet| Event::Packet(Box::new(packet))),
        8 => (0usize..6, any::<bool>()).prop_map(|(n, well)| Event::Written(n, well)),
        5 => (0usize..6).prop_map(Event::Kept),
        2 => (0usize..6).prop_map(Event::Subscribed),
        10 => any::<u8>().prop_map(Event::Deliver),
        2 => any::<u16>().prop_map(Event::Wait),
        1 => Just(Event::Close),
    ]
}

/// What a client can see, and what must hold for it.
#[derive(Default)]
struct Witness {
    closed: bool,
    in_flight: BTreeSet<PacketId>,
    flying_max: usize,
}

impl Witness {
    fn sees(&mut self, action: &Action) {
        assert!(!self.closed, "{action:?} behind the end");
        match action {
            Action::Close => self.closed = true,
            Action::Deliver(deliver) => {
                assert_eq!(deliver.packet_id.is_some(), deliver.qos != Q0);
                if let Some(packet_id) = deliver.packet_id {
                    assert!(self.in_flight.insert(packet_id), "{packet_id} is in use");
                    assert!(self.in_flight.len() <= self.flying_max);
                }
            }
            _ => {}
        }
    }

    /// The client says something that may end a flight.
    fn says(&mut self, packet: &Packet) {
        match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.in_flight.remove(&ack.packet_id);
            }
            Packet::Pubrec(ack) if ack.reason.is_failure() => {
                self.in_flight.remove(&ack.packet_id);
            }
            _ => {}
        }
    }
}

fn happen(dialogue: &mut Dialogue, event: &Event, out: &mut Vec<Action>) {
    let recent = |n: usize| dialogue.tags.iter().rev().nth(n).copied();
    match event {
        Event::Packet(packet) => dialogue
            .machine
            .received((**packet).clone(), dialogue.now, out),
        Event::Written(n, well) => {
            let reason = if *well {
                ReasonCode::Success
            } else {
                ReasonCode::NotAuthorized
            };
            if let Some(tag) = recent(*n) {
                dialogue.machine.written(tag, reason, out);
            }
        }
        Event::Kept(n) => {
            if let Some(tag) = recent(*n) {
                dialogue.machine.kept(tag, dialogue.now, out);
            }
        }
        Event::Subscribed(n) => {
            if let Some(tag) = recent(*n) {
                dialogue
                    .machine
                    .subscribed(tag, &[ReasonCode::GrantedQos1], out);
            }
        }
        Event::Deliver(kind) => {
            let mut message = message(if kind & 4 == 0 { "a" } else { "b" }, "x");
            message.properties.message_expiry_s = (kind & 8 != 0).then_some(u32::from(*kind));
            let qos = [Q0, Q1, Q2, Q1][usize::from(kind & 3)];
            let delivery = dialogue.delivery(message, qos);
            let delivered = dialogue.machine.deliver(delivery, dialogue.now, out);
            assert!(
                !matches!((qos, delivered), (Q0, Delivered::Full(_)))
                    || !dialogue.machine.is_connected()
            );
        }
        Event::Wait(ms) => {
            dialogue.now += Duration::from_millis(u64::from(*ms));
            dialogue.machine.tick(dialogue.now, out);
        }
        Event::Close => dialogue.machine.close(ReasonCode::SessionTakenOver, out),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_happens_the_rules_hold(
        (version, events) in prop::sample::select(vec![Version::V3_1_1, Version::V5])
            .prop_flat_map(|version| (Just(version), prop::collection::vec(event(version), 0..80))),
        durable in any::<bool>(),
        receive in 1u16..4,
    ) {
        let settings = Settings { in_flight_max: 3, queued_max: 4, open_writes_max: 5, ..Settings::default() };
        let mut connect = hello(version);
        connect.properties.receive_maximum = NonZeroU16::new(receive).filter(|_| version.is_5());
        connect.properties.topic_alias_maximum = Some(1);
        let mut session = Accepted { durable, ..Accepted::default() };
        let mut events = events.into_iter().peekable();
        // Two connections of one session.
        for _ in 0..2 {
            let mut dialogue = Dialogue::new(settings.clone());
            let mut witness = Witness { flying_max: if version.is_5() { usize::from(receive) } else { 3 }, ..Witness::default() };
            let mut out = Vec::new();
            dialogue.machine.received(Packet::Connect(Box::new(connect.clone())), dialogue.now, &mut out);
            dialogue.machine.accepted(session, dialogue.now, &mut out);
            while events.peek().is_some() || !out.is_empty() {
                out.iter().for_each(|action| witness.sees(action));
                let actions = std::mem::take(&mut out);
                dialogue.said(actions);
                prop_assert!(dialogue.machine.in_flight() <= 20);
                if dialogue.machine.is_closed() {
                    break;
                }
                if let Some(event) = events.next() {
                    if let Event::Packet(packet) = &event {
                        witness.says(packet);
                    }
                    happen(&mut dialogue, &event, &mut out);
                }
            }
            prop_assert_eq!(witness.closed, dialogue.machine.is_closed());
            session = dialogue.leave();
        }
    }
}
