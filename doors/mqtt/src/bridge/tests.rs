//! What goes over a bridge, packet by packet.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::relay::{Outs, Refusals, Relay, Terms};
use super::route::Route;
use super::{BridgeTopic, Meters, Side};
use crate::client::Lost;
use crate::codec::{
    Ack, DecodeLimits, Decoder, Message, Packet, PacketId, Publish, Qos, ReasonCode, Text, Version,
};

const ALL: Terms = Terms {
    version: Version::V5,
    qos_max: Qos::ExactlyOnce,
    retains: true,
    packet_bytes_max: usize::MAX,
};

fn routes() -> Vec<Route> {
    let topic = BridgeTopic {
        filter: "#".to_owned(),
        local_prefix: "here/".to_owned(),
        remote_prefix: "there/".to_owned(),
        qos: 2,
        ..BridgeTopic::default()
    };
    vec![topic.route(&sapwood_tree::Limits::default()).unwrap()]
}

/// What both sides are sent when one says something.
struct Told {
    local: Vec<Packet>,
    remote: Vec<Packet>,
}

struct Bench {
    routes: Vec<Route>,
    remote: Terms,
    refusals: Refusals,
}

impl Bench {
    fn new(remote: Terms) -> Self {
        Self {
            routes: routes(),
            remote,
            refusals: Refusals::default(),
        }
    }

    /// One connection's packets, each with who says it.
    fn says<const N: usize>(&mut self, said: [(Side, Packet); N]) -> Result<Told, Lost> {
        let meters = Arc::new(Meters::new("test"));
        let mut relay = Relay::new(&self.routes, ALL, self.remote, &mut self.refusals, meters);
        let (mut local, mut remote) = (BytesMut::new(), BytesMut::new());
        for (from, packet) in said {
            let mut outs = Outs {
                local: &mut local,
                remote: &mut remote,
            };
            relay.packet(from, packet, false, &mut outs)?;
        }
        Ok(Told {
            local: packets(Version::V5, local),
            remote: packets(self.remote.version, remote),
        })
    }
}

fn packets(version: Version, mut bytes: BytesMut) -> Vec<Packet> {
    let limits = DecodeLimits {
        packet_bytes_max: u32::MAX,
        filters_max: 0,
    };
    let mut decoder = Decoder::with_version(version, limits);
    std::iter::from_fn(|| decoder.decode(&mut bytes).unwrap()).collect()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(topic: &str, qos: Qos) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: true,
        packet_id: qos.is_acknowledged().then(|| id(7)),
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: Message {
            topic: Text::new(topic).unwrap(),
            payload: Bytes::from_static(b"payload"),
            ..Message::default()
        },
    }
}

fn ack(reason: ReasonCode) -> Ack {
    Ack::new(id(7), reason)
}

#[test]
fn a_message_and_its_answers_keep_their_packet_id() {
    let ok = || ack(ReasonCode::Success);
    let said = [
        (
            Side::Local,
            Packet::Publish(publish("here/a", Qos::ExactlyOnce)),
        ),
        (Side::Remote, Packet::Pubrec(ok())),
        (Side::Local, Packet::Pubrel(ok())),
        (Side::Remote, Packet::Pubcomp(ok())),
    ];
    let told = Bench::new(ALL).says(said).unwrap();
    let over = publish("there/a", Qos::ExactlyOnce);
    assert_eq!(told.remote, [Packet::Publish(over), Packet::Pubrel(ok())]);
    assert_eq!(told.local, [Packet::Pubrec(ok()), Packet::Pubcomp(ok())]);
}

#[test]
fn what_comes_from_the_other_broker_goes_the_same_way() {
    let said = [
        (
            Side::Remote,
            Packet::Publish(publish("there/a/b", Qos::AtLeastOnce)),
        ),
        (
            Side::Local,
            Packet::Puback(ack(ReasonCode::NoMatchingSubscribers)),
        ),
    ];
    let told = Bench::new(ALL).says(said).unwrap();
    assert_eq!(
        told.local,
        [Packet::Publish(publish("here/a/b", Qos::AtLeastOnce))]
    );
    assert_eq!(
        told.remote,
        [Packet::Puback(ack(ReasonCode::NoMatchingSubscribers))]
    );
}

#[test]
fn a_lower_qos_there_is_the_whole_qos_here() {
    let once = Terms {
        qos_max: Qos::AtLeastOnce,
        retains: false,
        ..ALL
    };
    let ok = || ack(ReasonCode::Success);
    let said = [
        (
            Side::Local,
            Packet::Publish(publish("here/a", Qos::ExactlyOnce)),
        ),
        (Side::Remote, Packet::Puback(ok())),
        (Side::Local, Packet::Pubrel(ok())),
    ];
    let told = Bench::new(once).says(said).unwrap();
    let lowered = Publish {
        retain: false,
        ..publish("there/a", Qos::AtLeastOnce)
    };
    assert_eq!(told.remote, [Packet::Publish(lowered)]);
    assert_eq!(told.local, [Packet::Pubrec(ok()), Packet::Pubcomp(ok())]);
    let never = Terms {
        qos_max: Qos::AtMostOnce,
        ..ALL
    };
    let said = [
        (
            Side::Local,
            Packet::Publish(publish("here/a", Qos::ExactlyOnce)),
        ),
        (Side::Local, Packet::Pubrel(ok())),
    ];
    let told = Bench::new(never).says(said).unwrap();
    assert_eq!(
        told.remote,
        [Packet::Publish(publish("there/a", Qos::AtMostOnce))]
    );
    assert_eq!(told.local, [Packet::Pubrec(ok()), Packet::Pubcomp(ok())]);
}

#[test]
fn what_can_not_go_over_is_answered_so_that_it_does_not_come_again() {
    let small = Terms {
        packet_bytes_max: 10,
        ..ALL
    };
    for (terms, topic) in [(small, "here/a"), (ALL, "elsewhere")] {
        for (qos, answer) in [
            (
                Qos::AtLeastOnce,
                Packet::Puback(ack(ReasonCode::ImplementationSpecificError)),
            ),
            (
                Qos::ExactlyOnce,
                Packet::Pubrec(ack(ReasonCode::ImplementationSpecificError)),
            ),
        ] {
            let said = [(Side::Local, Packet::Publish(publish(topic, qos)))];
            let told = Bench::new(terms).says(said).unwrap();
            assert_eq!((told.local, told.remote), (vec![answer], vec![]));
        }
    }
}

#[test]
fn what_is_refused_for_good_is_done_with() {
    let said = [
        (
            Side::Local,
            Packet::Publish(publish("here/a", Qos::ExactlyOnce)),
        ),
        (Side::Remote, Packet::Pubrec(ack(ReasonCode::NotAuthorized))),
    ];
    let told = Bench::new(ALL).says(said).unwrap();
    assert_eq!(told.local, [Packet::Pubrec(ack(ReasonCode::NotAuthorized))]);
}

#[test]
fn what_there_is_no_room_for_is_tried_again_but_not_for_ever() {
    let mut bench = Bench::new(ALL);
    let full = || [(Side::Local, Packet::Puback(ack(ReasonCode::QuotaExceeded)))];
    for _ in 0..7 {
        assert!(matches!(
            bench.says(full()),
            Err(Lost::Later("this server"))
        ));
    }
    let told = bench.says(full()).unwrap();
    assert_eq!(
        told.remote,
        [Packet::Puback(ack(ReasonCode::QuotaExceeded))]
    );
}

#[test]
fn a_version_without_properties_gets_the_message_without_them() {
    let old = Terms {
        version: Version::V3_1_1,
        ..ALL
    };
    let mut rich = publish("here/a", Qos::AtLeastOnce);
    rich.message.properties.content_type = Some(Text::from_static("text/plain"));
    let said = [
        (Side::Local, Packet::Publish(rich)),
        // It can't say no to what does not go over; what it releases then, nobody knows.
        (
            Side::Remote,
            Packet::Publish(publish("elsewhere", Qos::ExactlyOnce)),
        ),
        (Side::Remote, Packet::Pubrel(ack(ReasonCode::Success))),
        (
            Side::Local,
            Packet::Pubcomp(ack(ReasonCode::PacketIdentifierNotFound)),
        ),
    ];
    let told = Bench::new(old).says(said).unwrap();
    let ok = || ack(ReasonCode::Success);
    let over = publish("there/a", Qos::AtLeastOnce);
    assert_eq!(
        told.remote,
        [
            Packet::Publish(over),
            Packet::Pubrec(ok()),
            Packet::Pubcomp(ok())
        ]
    );
    assert_eq!(told.local, [Packet::Pubrel(ok())]);
}

#[test]
fn a_broker_that_takes_its_leave_is_believed() {
    let leave = Packet::Disconnect(crate::codec::Disconnect {
        reason: ReasonCode::ServerShuttingDown,
        properties: crate::codec::DisconnectProperties::default(),
    });
    let ended = Bench::new(ALL).says([(Side::Remote, leave)]).err().unwrap();
    assert_eq!(
        ended.to_string(),
        "the other side ended the connection: ServerShuttingDown (0x8B)"
    );
}
