//! A subscriber that keeps its state as the standard wants it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::mpsc::Sender,
    thread,
    time::Duration,
};

use sapwood_mqtt::codec::{
    Ack, Message, Packet, PacketId, Publish, Qos, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilter, SubscribeProperties, Text, Version,
};

use crate::{Plan, client::Who, ledger::Ledger};

pub(crate) struct Subscriber<'a> {
    pub(crate) who: Who,
    pub(crate) filters: Vec<&'static str>,
    pub(crate) ledger: &'a Ledger,
    /// So many of its answers it holds back.
    pub(crate) lags: usize,
    /// How long each packet takes it.
    pub(crate) slow: Duration,
    /// What it has of QoS 2, and the server has not released.
    pub(crate) unreleased: BTreeMap<PacketId, Message>,
}

impl<'a> Subscriber<'a> {
    pub(crate) fn new(
        name: &str,
        version: Version,
        filters: &[&'static str],
        ledger: &'a Ledger,
        lags: usize,
    ) -> Self {
        Self {
            who: Who::new(name.to_owned(), version),
            filters: filters.to_vec(),
            ledger,
            lags,
            slow: Duration::ZERO,
            unreleased: BTreeMap::new(),
        }
    }

    /// Subscribes, and goes. With its farewell a session ends its work at the end.
    pub(crate) fn subscribe(&mut self, address: SocketAddr) {
        let mut client = self.who.connect(address).unwrap();
        let farewell = self.farewell();
        let mut filters: Vec<(&str, Qos)> = Vec::new();
        let granted = self.ledger.granted;
        filters.extend(self.filters.iter().map(|filter| (*filter, granted)));
        filters.push((&farewell, Qos::ExactlyOnce));
        let filters = filters.into_iter().map(|(filter, qos)| SubscribeFilter {
            filter: Text::new(filter).unwrap(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        });
        client.say(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            properties: SubscribeProperties::default(),
            filters: filters.collect(),
        }));
        let Some(Packet::Suback(suback)) = client.next() else {
            panic!("{}: no SUBACK", self.who.name);
        };
        assert!(suback.reasons.iter().all(|reason| !reason.is_failure()));
        client.leave();
    }

    pub(crate) fn farewell(&self) -> String {
        format!("farewell/{}", self.who.name)
    }

    pub(crate) fn run(&mut self, address: SocketAddr, plan: Plan, received: &Sender<()>) {
        let breaks_after = match plan {
            Plan::Away => return,
            Plan::Breaks(packets) => packets,
            Plan::Stays | Plan::Ends => u64::MAX,
        };
        if self.connection(address, plan, breaks_after, received) {
            self.connection(address, plan, u64::MAX, received);
        }
    }

    /// Whether it ended because it was to break.
    pub(crate) fn connection(
        &mut self,
        address: SocketAddr,
        plan: Plan,
        breaks_after: u64,
        received: &Sender<()>,
    ) -> bool {
        let Some(mut client) = self.who.connect(address) else {
            return false;
        };
        // It goes before the client does.
        let _connected = self.ledger.connects();
        let ends = matches!(plan, Plan::Ends);
        if ends {
            client.is_patient();
        }
        let lags = if ends { 0 } else { self.lags };
        let (mut held_back, mut farewell) = (VecDeque::new(), false);
        for _ in 0..breaks_after {
            let Some(packet) = client.next() else {
                assert!(!ends, "{}: the server is gone", self.who.name);
                return false;
            };
            if !ends {
                thread::sleep(self.slow);
            }
            farewell |= self.takes(packet, &mut held_back);
            received.send(()).ok();
            while held_back.len() > lags {
                client.say(&held_back.pop_front().unwrap());
            }
            if ends && farewell && self.unreleased.is_empty() {
                client.leave();
                return false;
            }
        }
        true
    }

    /// Takes what has come, and says what to answer; whether it was the farewell.
    pub(crate) fn takes(&mut self, packet: Packet, answers: &mut VecDeque<Packet>) -> bool {
        match packet {
            Packet::Publish(publish) => {
                let packet_id = publish.packet_id.unwrap();
                let ack = Ack::new(packet_id, ReasonCode::Success);
                answers.push_back(match publish.qos {
                    Qos::ExactlyOnce => Packet::Pubrec(ack),
                    _ => Packet::Puback(ack),
                });
                self.takes_message(packet_id, publish)
            }
            Packet::Pubrel(ack) => {
                self.unreleased.remove(&ack.packet_id);
                answers.push_back(Packet::Pubcomp(Ack::new(
                    ack.packet_id,
                    ReasonCode::Success,
                )));
                false
            }
            other => panic!("{}: {other:?}", self.who.name),
        }
    }

    pub(crate) fn takes_message(&mut self, packet_id: PacketId, publish: Publish) -> bool {
        let name = &self.who.name;
        assert!(!publish.retain, "{name}: {publish:?}");
        if let Some(known) = self.unreleased.get(&packet_id) {
            let again = publish.qos == Qos::ExactlyOnce
                && (&known.topic, &known.payload)
                    == (&publish.message.topic, &publish.message.payload);
            assert!(again, "{name}: {publish:?} has the packet id of {known:?}");
            assert!(
                publish.dup,
                "{name}: {publish:?} does not say that it repeats"
            );
            return false;
        }
        let is_farewell = publish.message.topic.as_str() == self.farewell();
        if !is_farewell {
            self.ledger.takes(&publish);
        }
        if publish.qos == Qos::ExactlyOnce {
            self.unreleased.insert(packet_id, publish.message);
        }
        is_farewell
    }
}
