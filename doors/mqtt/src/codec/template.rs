//! A message, encoded once for all subscribers that speak one version at one kind of QoS.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::encode::{PacketTooLarge, packet_length, put_binary, put_varint, varint_len};
use super::{Message, PacketId, Qos, SubscriptionId, Version};

/// A PUBLISH for many: all bytes but those that differ between subscribers.
///
/// ```text
/// first byte │ length │ topic │ packet id │ length of properties │ expiry │ other properties │ payload
///            └ as a packet without alias and subscription ids has it ┘     └─────── shared ──────────┘
/// ```
///
/// A subscriber without alias and subscription ids gets a copy of these bytes with flags, packet id and expiry put in;
/// for the others the part in front is written anew. 3.1 and 3.1.1 are written alike.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Bytes,
    is_5: bool,
    acknowledged: bool,
    /// Where the topic's length stands.
    topic_at: usize,
    topic_bytes: usize,
    /// Where the seconds of the expiry stand.
    expiry_at: Option<usize>,
    /// Where that begins which is shared by all: the properties behind the expiry, else the payload.
    shared_at: usize,
    /// Bytes of the properties in it, the expiry included.
    properties_bytes: usize,
}

/// What differs between the subscribers of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Whether it may have come before (3.3.1-1).
    pub dup: bool,
    /// The QoS of this delivery. Whether it is acknowledged must be as the template has it.
    pub qos: Qos,
    /// Whether it is a first state, or goes as published.
    pub retain: bool,
    /// What to answer to; none at QoS 0.
    pub packet_id: Option<PacketId>,
    /// Whether a number stands for the topic.
    pub alias: Alias,
    /// By which subscriptions it comes.
    pub subscription_ids: &'a [SubscriptionId],
    /// What is left of the message's time, in seconds (3.3.2-6). Counts only where the message has an expiry.
    pub message_expiry_s: Option<u32>,
}

/// A number for a topic on one connection (3.3.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Alias {
    /// The topic as it is.
    #[default]
    None,
    /// The topic, and the number that stands for it from now on.
    Set(u16),
    /// The number instead of the topic.
    Use(u16),
}

const TOPIC_ALIAS: u8 = 0x23;
const MESSAGE_EXPIRY: u8 = 0x02;

impl Template {
    /// Encodes a message.
    ///
    /// # Errors
    /// If it is larger than the protocol can say.
    pub fn new(
        version: Version,
        acknowledged: bool,
        message: &Message,
    ) -> Result<Self, PacketTooLarge> {
        let is_5 = version.is_5();
        let properties_bytes = if is_5 { message.properties.size() } else { 0 };
        let id_bytes = if acknowledged { 2 } else { 0 };
        let topic_bytes = 2 + message.topic.len();
        let properties_len = packet_length(properties_bytes)?;
        let length_bytes = if is_5 { varint_len(properties_len) } else { 0 };
        let body = topic_bytes + id_bytes + length_bytes + properties_bytes + message.payload.len();
        let length = packet_length(body)?;

        let mut out = BytesMut::with_capacity(1 + varint_len(length) + body);
        out.put_u8(0x30);
        put_varint(length, &mut out);
        let topic_at = out.len();
        put_binary(message.topic.as_bytes(), &mut out);
        out.put_bytes(0, id_bytes);
        let mut expiry_at = None;
        let mut shared_at = out.len();
        if is_5 {
            put_varint(properties_len, &mut out);
            shared_at = out.len();
            // The expiry is the first of them.
            if message.properties.message_expiry_s.is_some() {
                expiry_at = Some(shared_at + 1);
                shared_at += 5;
            }
            message.properties.put_list(&mut out);
        }
        out.extend_from_slice(&message.payload);
        Ok(Self {
            bytes: out.freeze(),
            is_5,
            acknowledged,
            topic_at,
            topic_bytes,
            expiry_at,
            shared_at,
            properties_bytes,
        })
    }

    /// How many bytes the packet takes with that head; none if the protocol can't say it.
    pub fn packet_bytes(&self, head: &Head<'_>) -> Option<usize> {
        if self.is_plain(head) {
            return Some(self.bytes.len());
        }
        let body = self.body_bytes(head);
        let length = packet_length(body).ok()?;
        Some(1 + varint_len(length) + body)
    }

    /// Writes the packet behind what the buffer holds.
    ///
    /// # Errors
    /// If alias and subscription ids make it larger than the protocol can say; nothing has been written then.
    pub fn write(&self, head: &Head<'_>, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        if !self.is_plain(head) {
            let shared = self.write_head(head, out)?;
            out.extend_from_slice(&shared);
            return Ok(());
        }
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let Some(packet) = out.get_mut(start..) else {
            return Ok(());
        };
        put_at(packet, 0, &[self.first_byte(head)]);
        if let Some(id) = head.packet_id.filter(|_| self.acknowledged) {
            put_at(
                packet,
                self.topic_at + self.topic_bytes,
                &id.get().to_be_bytes(),
            );
        }
        if let (Some(at), Some(left)) = (self.expiry_at, head.message_expiry_s) {
            put_at(packet, at, &left.to_be_bytes());
        }
        Ok(())
    }

    /// Writes what is this subscriber's own, and hands out the rest, which all share: for payloads that are better not
    /// copied.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_head(&self, head: &Head<'_>, out: &mut BytesMut) -> Result<Bytes, PacketTooLarge> {
        let length = packet_length(self.body_bytes(head))?;
        out.put_u8(self.first_byte(head));
        put_varint(length, out);
        match self.alias(head) {
            Alias::Use(_) => out.put_u16(0),
            Alias::None | Alias::Set(_) => {
                let topic = self.topic_at..self.topic_at + self.topic_bytes;
                out.extend_from_slice(self.bytes.get(topic).unwrap_or_default());
            }
        }
        if self.acknowledged {
            out.put_u16(head.packet_id.map_or(0, PacketId::get));
        }
        if self.is_5 {
            put_varint(packet_length(self.list_bytes(head))?, out);
            if let Some(at) = self.expiry_at {
                out.put_u8(MESSAGE_EXPIRY);
                match head.message_expiry_s {
                    Some(left) => out.put_u32(left),
                    None => out.extend_from_slice(self.bytes.get(at..at + 4).unwrap_or_default()),
                }
            }
            if let Alias::Set(alias) | Alias::Use(alias) = self.alias(head) {
                out.put_u8(TOPIC_ALIAS);
                out.put_u16(alias);
            }
            head.subscription_ids.iter().for_each(|id| id.put(out));
        }
        Ok(self.bytes.slice(self.shared_at..))
    }

    /// Whether the packet differs from the template's bytes in places of fixed length only.
    fn is_plain(&self, head: &Head<'_>) -> bool {
        !self.is_5 || head.alias == Alias::None && head.subscription_ids.is_empty()
    }

    fn alias(&self, head: &Head<'_>) -> Alias {
        if self.is_5 { head.alias } else { Alias::None }
    }

    fn first_byte(&self, head: &Head<'_>) -> u8 {
        debug_assert_eq!(head.qos.is_acknowledged(), self.acknowledged);
        debug_assert_eq!(head.packet_id.is_some(), self.acknowledged);
        0x30 | u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain)
    }

    fn list_bytes(&self, head: &Head<'_>) -> usize {
        let alias = if self.alias(head) == Alias::None {
            0
        } else {
            3
        };
        let ids = head.subscription_ids.iter();
        self.properties_bytes + alias + ids.map(|id| id.property_len()).sum::<usize>()
    }

    fn body_bytes(&self, head: &Head<'_>) -> usize {
        let topic = match self.alias(head) {
            Alias::Use(_) => 2,
            Alias::None | Alias::Set(_) => self.topic_bytes,
        };
        let id = if self.acknowledged { 2 } else { 0 };
        let shared = self.bytes.len() - self.shared_at;
        if !self.is_5 {
            return topic + id + shared;
        }
        let list = self.list_bytes(head);
        let expiry = if self.expiry_at.is_some() { 5 } else { 0 };
        let length = u32::try_from(list).map_or(4, varint_len);
        topic + id + length + (list - self.properties_bytes) + expiry + shared
    }
}

fn put_at(packet: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = packet.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
