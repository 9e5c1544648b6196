//! The packets (chapter 3).

use std::num::NonZeroU16;

use bytes::Bytes;

use super::{
    AckProperties, AuthProperties, ConnackProperties, ConnectProperties, DisconnectProperties,
    MessageProperties, Qos, ReasonCode, SubscribeProperties, SubscriptionId, Text,
    UnsubscribeProperties, Version,
};

/// What an answer refers to (2.2.1).
pub type PacketId = NonZeroU16;

/// One packet. What a version can't say is not written, and empty when read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// 3.1
    Connect(Box<Connect>),
    /// A CONNECT of a version that nobody here speaks: its level. 3.x and 5.0 answer it differently (3.1.2-2).
    ConnectUnknown(u8),
    /// 3.2
    Connack(Box<Connack>),
    /// 3.3
    Publish(Publish),
    /// 3.4
    Puback(Ack),
    /// 3.5
    Pubrec(Ack),
    /// 3.6
    Pubrel(Ack),
    /// 3.7
    Pubcomp(Ack),
    /// 3.8
    Subscribe(Subscribe),
    /// 3.9
    Suback(Suback),
    /// 3.10
    Unsubscribe(Unsubscribe),
    /// 3.11
    Unsuback(Unsuback),
    /// 3.12
    Pingreq,
    /// 3.13
    Pingresp,
    /// 3.14
    Disconnect(Disconnect),
    /// 3.15
    Auth(Auth),
}

/// A client presents itself (3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// What it speaks.
    pub version: Version,
    /// Whether it is another broker's bridge: bit 7 of a 3.x level, as mosquitto sets it.
    pub bridge: bool,
    /// Whether an older session is to be thrown away; 3.x's clean session.
    pub clean_start: bool,
    /// The longest silence, in seconds; 0 is any.
    pub keep_alive_s: u16,
    /// Its name; empty if the server is to give one.
    pub client_id: Text,
    /// What to publish when it is gone.
    pub will: Option<Will>,
    /// Who it says it is.
    pub user_name: Option<Text>,
    /// What proves it.
    pub password: Option<Bytes>,
    /// 3.1.2.11
    pub properties: ConnectProperties,
}

/// What to publish when a client is gone (3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// How hard to try.
    pub qos: Qos,
    /// Whether it is a record.
    pub retain: bool,
    /// How long to wait for the client's return first, in seconds.
    pub delay_s: u32,
    /// What is published.
    pub message: Message,
}

/// What is published, from end to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Where.
    pub topic: Text,
    /// 3.3.2.3
    pub properties: MessageProperties,
    /// The bytes.
    pub payload: Bytes,
}

/// The server's answer to CONNECT (3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// Whether the client's session was still there.
    pub session_present: bool,
    /// Whether it is let in; 3.x says less.
    pub reason: ReasonCode,
    /// 3.2.2.3
    pub properties: ConnackProperties,
}

/// A message on its way (3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Whether it may have come before.
    pub dup: bool,
    /// How hard to try.
    pub qos: Qos,
    /// Whether it is a record.
    pub retain: bool,
    /// What to answer to; none at QoS 0.
    pub packet_id: Option<PacketId>,
    /// A number that stands for the topic on this connection. With it, the topic may be empty.
    pub topic_alias: Option<u16>,
    /// By which subscriptions it comes; never from a client.
    pub subscription_ids: Vec<SubscriptionId>,
    /// What is published.
    pub message: Message,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// What it answers.
    pub packet_id: PacketId,
    /// How it went; always success in 3.x.
    pub reason: ReasonCode,
    /// 3.4.2.2
    pub properties: AckProperties,
}

impl Ack {
    /// An answer without words.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: AckProperties::default(),
        }
    }
}

/// A client wants to be told (3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// What to answer to.
    pub packet_id: PacketId,
    /// 3.8.2.1
    pub properties: SubscribeProperties,
    /// Of what; at least one.
    pub filters: Vec<SubscribeFilter>,
}

/// One filter with its options (3.8.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// The filter.
    pub filter: Text,
    /// The highest QoS to deliver at.
    pub qos: Qos,
    /// Not what this client has published itself.
    pub no_local: bool,
    /// Whether RETAIN goes out as it came in.
    pub retain_as_published: bool,
    /// Whether the first state is sent.
    pub retain_handling: RetainHandling,
}

/// Whether the first state is sent (3.3.1-9 to 3.3.1-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RetainHandling {
    /// Always.
    #[default]
    Send = 0,
    /// If the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// The server's answer to SUBSCRIBE (3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// What it answers.
    pub packet_id: PacketId,
    /// 3.9.2.1
    pub properties: AckProperties,
    /// A reason for each filter, in order.
    pub reasons: Vec<ReasonCode>,
}

/// A client wants to be told no longer (3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// What to answer to.
    pub packet_id: PacketId,
    /// 3.10.2.1
    pub properties: UnsubscribeProperties,
    /// Of what; at least one.
    pub filters: Vec<Text>,
}

/// The server's answer to UNSUBSCRIBE (3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    /// What it answers.
    pub packet_id: PacketId,
    /// 3.11.2.1
    pub properties: AckProperties,
    /// A reason for each filter, in order; none in 3.x.
    pub reasons: Vec<ReasonCode>,
}

/// The connection ends (3.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; always normally in 3.x.
    pub reason: ReasonCode,
    /// 3.14.2.2
    pub properties: DisconnectProperties,
}

/// A step of extended authentication (3.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Which step.
    pub reason: ReasonCode,
    /// 3.15.2.2
    pub properties: AuthProperties,
}
