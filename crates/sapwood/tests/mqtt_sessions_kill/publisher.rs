//! A publisher that keeps its state as the standard wants it.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::mpsc::Sender,
};

use sapwood_mqtt::codec::{
    Ack, Message, Packet, PacketId, Publish, Qos, ReasonCode, Text, Version,
};

use crate::{
    Plan, Told,
    client::{Client, Who},
};

/// How many unacknowledged messages a publisher has on their way.
const WINDOW: usize = 8;

/// A message that a publisher is not done with.
pub(crate) struct Flight {
    pub(crate) packet_id: PacketId,
    pub(crate) told: Told,
    /// Whether PUBREC has come.
    pub(crate) is_received: bool,
}

pub(crate) struct Publisher {
    pub(crate) who: Who,
    pub(crate) number: usize,
    /// The QoS of each topic. What goes to the first one is retained.
    pub(crate) topics: Vec<Qos>,
    /// How many messages each topic has had.
    pub(crate) sent: Vec<u64>,
    /// In the order in which they were sent.
    pub(crate) flight: VecDeque<Flight>,
    /// What went out more than once.
    pub(crate) resent: BTreeSet<Told>,
}

impl Publisher {
    pub(crate) fn new(number: usize, version: Version, topics: [Qos; 3]) -> Self {
        Self {
            who: Who::new(format!("p{number}"), version),
            number,
            topics: topics.to_vec(),
            sent: vec![0; topics.len()],
            flight: VecDeque::new(),
            resent: BTreeSet::new(),
        }
    }

    pub(crate) fn run(&mut self, address: SocketAddr, plan: Plan, acknowledged: &Sender<()>) {
        let breaks_after = match plan {
            Plan::Away => return,
            Plan::Breaks(packets) => packets,
            Plan::Stays | Plan::Ends => u64::MAX,
        };
        if self.connection(address, plan, breaks_after, acknowledged) {
            self.connection(address, plan, u64::MAX, acknowledged);
        }
    }

    /// Whether it ended because it was to break.
    pub(crate) fn connection(
        &mut self,
        address: SocketAddr,
        plan: Plan,
        breaks_after: u64,
        acknowledged: &Sender<()>,
    ) -> bool {
        let Some(mut client) = self.who.connect(address) else {
            return false;
        };
        self.send_again(&mut client);
        for _ in 0..breaks_after {
            if matches!(plan, Plan::Ends) {
                if self.flight.is_empty() {
                    return false;
                }
            } else {
                while self.flight.len() < WINDOW {
                    self.send_new(&mut client);
                }
            }
            let Some(packet) = client.next() else {
                return false;
            };
            self.answered(&packet, &mut client, acknowledged);
        }
        true
    }

    /// What is not acknowledged, in its order (4.4.0-1, 4.6.0-1).
    pub(crate) fn send_again(&mut self, client: &mut Client) {
        for flight in &self.flight {
            if flight.is_received {
                let release = Ack::new(flight.packet_id, ReasonCode::Success);
                client.say(&Packet::Pubrel(release));
            } else {
                self.resent.insert(flight.told);
                client.say(&self.publish(flight, true));
            }
        }
    }

    pub(crate) fn send_new(&mut self, client: &mut Client) {
        let topic = usize::try_from(self.sent.iter().sum::<u64>()).unwrap() % self.topics.len();
        self.sent[topic] += 1;
        let used: BTreeSet<_> = self.flight.iter().map(|one| one.packet_id).collect();
        // The lowest that is free: packet ids are used again as soon as they may be.
        let free = (1..)
            .filter_map(PacketId::new)
            .find(|id| !used.contains(id));
        let flight = Flight {
            packet_id: free.unwrap(),
            told: Told {
                publisher: self.number,
                topic,
                n: self.sent[topic],
            },
            is_received: false,
        };
        client.say(&self.publish(&flight, false));
        self.flight.push_back(flight);
    }

    pub(crate) fn publish(&self, flight: &Flight, dup: bool) -> Packet {
        let Told { topic, .. } = flight.told;
        Packet::Publish(Publish {
            dup,
            qos: self.topics[topic],
            retain: topic == 0,
            packet_id: Some(flight.packet_id),
            topic_alias: None,
            subscription_ids: Vec::new(),
            message: Message {
                topic: Text::new(&flight.told.topic()).unwrap(),
                payload: flight.told.payload().into(),
                ..Message::default()
            },
        })
    }

    pub(crate) fn answered(
        &mut self,
        packet: &Packet,
        client: &mut Client,
        acknowledged: &Sender<()>,
    ) {
        let (Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack)) = packet else {
            panic!("{}: {packet:?}", self.who.name);
        };
        let mut flight = self.flight.iter();
        let at = flight.position(|one| one.packet_id == ack.packet_id);
        let at = at.unwrap_or_else(|| panic!("{}: {packet:?}", self.who.name));
        let flight = &mut self.flight[at];
        let qos = self.topics[flight.told.topic];
        match packet {
            Packet::Puback(_) => assert_eq!(qos, Qos::AtLeastOnce),
            Packet::Pubrec(_) => assert!(qos == Qos::ExactlyOnce && !flight.is_received),
            _ => assert!(flight.is_received),
        }
        if matches!(packet, Packet::Pubcomp(_)) {
            // It may have forgotten the packet id before the crash.
            self.flight.remove(at);
            return;
        }
        assert!(!ack.reason.is_failure(), "{}: {packet:?}", self.who.name);
        acknowledged.send(()).ok();
        if matches!(packet, Packet::Puback(_)) {
            self.flight.remove(at);
        } else {
            flight.is_received = true;
            let release = Ack::new(ack.packet_id, ReasonCode::Success);
            client.say(&Packet::Pubrel(release));
        }
    }
}
