//! Dialogues, a file for each chapter. Numbers are those of MQTT 5.0, unless they say 3.1.1.

mod connecting;
mod ending;
mod exactly_once;
mod from_client;
mod storm;
mod subscribing;
mod to_client;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::codec::{
    Ack, Alias, Connect, ConnectProperties, Message, PacketId, Publish, Qos, Version,
};

const Q0: Qos = Qos::AtMostOnce;
const Q1: Qos = Qos::AtLeastOnce;
const Q2: Qos = Qos::ExactlyOnce;

/// A machine, and what it has been told and has said.
struct Dialogue {
    machine: Machine,
    now: Instant,
    /// The tags of what was asked for, in order.
    tags: Vec<Tag>,
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn hello(version: Version) -> Connect {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: text("me"),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn message(topic: &str, payload: &str) -> Message {
    Message {
        topic: text(topic),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..Message::default()
    }
}

fn publish(topic: &str, qos: Qos, packet_id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(packet_id),
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: message(topic, "x"),
    })
}

fn ack(number: u16, reason: ReasonCode) -> Ack {
    Ack::new(id(number), reason)
}

fn puback(number: u16) -> Packet {
    Packet::Puback(ack(number, ReasonCode::Success))
}

fn pubrec(number: u16) -> Packet {
    Packet::Pubrec(ack(number, ReasonCode::Success))
}

fn pubrel(number: u16) -> Packet {
    Packet::Pubrel(ack(number, ReasonCode::Success))
}

fn pubcomp(number: u16) -> Packet {
    Packet::Pubcomp(ack(number, ReasonCode::Success))
}

impl Dialogue {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            machine: Machine::new(Arc::new(settings), now),
            now,
            tags: Vec::new(),
        }
    }

    /// One that has been let in.
    fn with(settings: Settings, connect: Connect, accepted: Accepted) -> Self {
        let mut dialogue = Self::new(settings);
        dialogue.client(Packet::Connect(Box::new(connect)));
        dialogue.accept(accepted);
        dialogue
    }

    fn connected(version: Version) -> Self {
        Self::with(Settings::default(), hello(version), Accepted::default())
    }

    /// One whose session is stored, so that promises wait.
    fn durable(version: Version) -> Self {
        let accepted = Accepted {
            durable: true,
            ..Accepted::default()
        };
        Self::with(Settings::default(), hello(version), accepted)
    }

    fn said(&mut self, actions: Vec<Action>) -> Vec<String> {
        actions.iter().map(|action| self.spell(action)).collect()
    }

    fn client(&mut self, packet: Packet) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.received(packet, self.now, &mut out);
        self.said(out)
    }

    fn accept(&mut self, accepted: Accepted) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.accepted(accepted, self.now, &mut out);
        self.said(out)
    }

    /// The outcome of the n-th thing that was asked for.
    fn written(&mut self, n: usize, reason: ReasonCode) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.written(self.tags[n], reason, &mut out);
        self.said(out)
    }

    fn kept(&mut self, n: usize) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.kept(self.tags[n], self.now, &mut out);
        self.said(out)
    }

    fn deliver(&mut self, delivery: Delivery) -> (Vec<String>, Delivered) {
        let mut out = Vec::new();
        let delivered = self.machine.deliver(delivery, self.now, &mut out);
        (self.said(out), delivered)
    }

    /// Delivers a message, and returns what goes out.
    fn tell(&mut self, topic: &str, qos: Qos) -> Vec<String> {
        let delivery = self.delivery(message(topic, "x"), qos);
        self.deliver(delivery).0
    }

    fn delivery(&self, message: Message, qos: Qos) -> Delivery {
        Delivery {
            message: Arc::new(Published::new(message, self.now)),
            qos,
            retain: false,
            subscription_ids: SubscriptionIds::None,
            reference: 0,
        }
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let mut out = Vec::new();
        self.machine.tick(self.now, &mut out);
        self.said(out)
    }

    fn close(&mut self, reason: ReasonCode) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.close(reason, &mut out);
        self.said(out)
    }

    /// The session, as another connection of it finds it.
    fn leave(self) -> Accepted {
        Accepted {
            session_present: true,
            durable: self.machine.client.durable,
            session: self.machine.into_session(),
            ..Accepted::default()
        }
    }

    fn spell(&mut self, action: &Action) -> String {
        match action {
            Action::Connect(connecting) => format!("connect {}", connecting.connect.client_id),
            Action::Publish(publication) => {
                self.tags.push(publication.tag);
                let remember = publication.remember.map(|id| format!(" remember {id}"));
                format!(
                    "publish {} q{}{}",
                    publication.path,
                    publication.qos as u8,
                    remember.unwrap_or_default()
                )
            }
            Action::Subscribe(subscribing) => {
                self.tags.push(subscribing.tag);
                let all = subscribing.subscriptions.iter();
                let all: Vec<&str> = all.map(|one| one.text.as_str()).collect();
                format!("subscribe {}", all.join(" "))
            }
            Action::Unsubscribe(unsubscribing) => {
                self.tags.push(unsubscribing.tag);
                let all = unsubscribing.filters.iter();
                let all: Vec<&str> = all.map(|(text, _)| text.as_str()).collect();
                format!("unsubscribe {}", all.join(" "))
            }
            Action::Send(packet) => spell_packet(packet),
            Action::Deliver(deliver) => spell_deliver(deliver),
            Action::Keep { tag, change } => {
                self.tags.extend(*tag);
                spell_change(change)
            }
            Action::Close => "close".to_owned(),
        }
    }
}

fn spell_ack(name: &str, ack: &Ack) -> String {
    match ack.reason as u8 {
        0 => format!("{name} {}", ack.packet_id),
        code => format!("{name} {} {code:#04x}", ack.packet_id),
    }
}

fn spell_packet(packet: &Packet) -> String {
    let codes = |reasons: &[ReasonCode]| -> Vec<String> {
        reasons
            .iter()
            .map(|reason| format!("{:#04x}", *reason as u8))
            .collect()
    };
    match packet {
        Packet::Connack(connack) => {
            let present = if connack.session_present {
                " present"
            } else {
                ""
            };
            format!("CONNACK {:#04x}{present}", connack.reason as u8)
        }
        Packet::Puback(ack) => spell_ack("PUBACK", ack),
        Packet::Pubrec(ack) => spell_ack("PUBREC", ack),
        Packet::Pubrel(ack) => spell_ack("PUBREL", ack),
        Packet::Pubcomp(ack) => spell_ack("PUBCOMP", ack),
        Packet::Suback(suback) => {
            format!(
                "SUBACK {} {}",
                suback.packet_id,
                codes(&suback.reasons).join(" ")
            )
        }
        Packet::Unsuback(unsuback) => {
            format!(
                "UNSUBACK {} {}",
                unsuback.packet_id,
                codes(&unsuback.reasons).join(" ")
            )
        }
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:#04x}", disconnect.reason as u8),
        other => panic!("a server sent {other:?}"),
    }
}

fn spell_deliver(deliver: &Deliver) -> String {
    let mut text = format!(
        "PUBLISH {} q{}",
        deliver.message.message().topic,
        deliver.qos as u8
    );
    if let Some(packet_id) = deliver.packet_id {
        text += &format!(" {packet_id}");
    }
    match deliver.alias {
        Alias::None => {}
        Alias::Set(alias) => text += &format!(" set {alias}"),
        Alias::Use(alias) => text += &format!(" use {alias}"),
    }
    if deliver.dup {
        text += " dup";
    }
    if deliver.retain {
        text += " retain";
    }
    text
}

fn spell_change(change: &Change) -> String {
    match change {
        Change::Forget(packet_id) => format!("forget {packet_id}"),
        Change::Assign { packet_id, .. } => format!("assign {packet_id}"),
        Change::Received { packet_id, .. } => format!("received {packet_id}"),
        Change::Settle { packet_id, .. } => format!("settle {packet_id}"),
        Change::Skip { reference } => format!("skip {reference}"),
    }
}
