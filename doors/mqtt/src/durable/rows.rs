//! A session's rows.
//!
//! | key | holds |
//! |---|---|
//! | `s` filter as sent | the subscription's options |
//! | `u` packet id | nothing: the client has not released this message yet |
//! | `w` | what the will of an earlier connection is found by, while it waits |
//!
//! What the client has in flight stands in the core's row of it ([`Held`]).

use bytes::Bytes;
use sapwood_core::SessionId;
use sapwood_tree::Limits;
use sapwood_value::Format;

use crate::codec::{PacketId, Qos, RetainHandling, SubscriptionId, Text};
use crate::machine::{Accept, Delivery, Subscription, SubscriptionIds};
use crate::topic::Filter;

/// A row's format.
const FORMAT: u8 = 1;

/// A row of a session.
#[derive(Debug)]
pub(crate) enum Row {
    Unreleased(PacketId),
    Subscription(Subscribed),
    Will,
}

pub(crate) const WILL: Bytes = Bytes::from_static(b"w");

pub(crate) fn will(key: &[u8], row: &[u8]) -> Option<SessionId> {
    let by = row.try_into().ok().map(SessionId::from_bytes);
    by.filter(|_| key == b"w")
}

/// A subscription, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Subscribed {
    pub(crate) asked: Subscription,
    pub(crate) id: Option<SubscriptionId>,
    /// Whether its first state is still to be told.
    pub(crate) first: bool,
}

pub(crate) fn unreleased_key(packet_id: PacketId) -> Bytes {
    let id = packet_id.get().to_be_bytes();
    Bytes::copy_from_slice(&[b'u', id[0], id[1]])
}

pub(crate) fn subscription_key(text: &Text) -> Bytes {
    [b"s", text.as_str().as_bytes()].concat().into()
}

/// Format, options (MQTT 5.0, 3.8.3.1, with bit 7 for a first state that is still to be told), identifier (4 bytes), and
/// the format in which data is to come; then 1 and the query, if there is one.
pub(crate) fn subscription_row(subscribed: &Subscribed) -> Bytes {
    let Subscribed { asked, id, first } = subscribed;
    let options = asked.qos as u8
        | u8::from(asked.no_local) << 2
        | u8::from(asked.retain_as_published) << 3
        | (asked.retain_handling as u8) << 4
        | u8::from(*first) << 7;
    let mut out = vec![FORMAT, options];
    out.extend_from_slice(&id.map_or(0, SubscriptionId::get).to_be_bytes());
    out.push(match asked.accept {
        Accept::Unsaid => 0,
        Accept::Anything => 1,
        Accept::Data(Format::Json) => 2,
        Accept::Data(Format::Cbor) => 3,
        Accept::Data(Format::MessagePack) => 4,
    });
    if let Some(query) = &asked.query {
        out.push(1);
        out.extend_from_slice(query.as_str().as_bytes());
    }
    out.into()
}

impl Row {
    pub(crate) fn read(key: &[u8], row: &[u8], limits: &Limits) -> Option<Self> {
        let (kind, name) = key.split_first()?;
        match kind {
            b'u' => {
                let id = u16::from_be_bytes(name.try_into().ok()?);
                PacketId::new(id).map(Self::Unreleased)
            }
            b'w' => will(key, row).map(|_| Self::Will),
            b's' => {
                let text = Text::new(std::str::from_utf8(name).ok()?).ok()?;
                subscribed(text, row, limits).map(Self::Subscription)
            }
            _ => None,
        }
    }
}

fn subscribed(text: Text, row: &[u8], limits: &Limits) -> Option<Subscribed> {
    let [FORMAT, options, rest @ ..] = row else {
        return None;
    };
    let (id, rest) = rest.split_first_chunk()?;
    let id = u32::from_be_bytes(*id);
    let (accept, query) = rest.split_first()?;
    let query = match query.split_first() {
        None => None,
        Some((_, text)) => Some(Text::new(std::str::from_utf8(text).ok()?).ok()?),
    };
    let asked = Subscription {
        query,
        filter: Filter::parse(text.as_str(), limits).ok()?,
        text,
        qos: Qos::from_u8(options & 3)?,
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        retain_handling: match options >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
        accept: match accept {
            0 => Accept::Unsaid,
            1 => Accept::Anything,
            2 => Accept::Data(Format::Json),
            3 => Accept::Data(Format::Cbor),
            _ => Accept::Data(Format::MessagePack),
        },
    };
    Some(Subscribed {
        asked,
        id: SubscriptionId::new(id),
        first: options & 0x80 != 0,
    })
}

/// What stands in the core's row of a message in flight.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) packet_id: PacketId,
    pub(crate) qos: Qos,
    /// Whether the client has it.
    pub(crate) received: bool,
    pub(crate) retain: bool,
    pub(crate) ids: SubscriptionIds,
    /// Where it was said, if the core does not keep it.
    pub(crate) topic: Option<Text>,
}

const RECEIVED: u8 = 4;
const RETAIN: u8 = 8;
const TOPIC: u8 = 16;

impl Held {
    pub(crate) fn of(packet_id: PacketId, delivery: &Delivery) -> Self {
        let is_kept = super::is_kept(delivery.reference);
        Self {
            packet_id,
            qos: delivery.qos,
            received: false,
            retain: delivery.retain,
            ids: delivery.subscription_ids.clone(),
            topic: (!is_kept).then(|| delivery.message.message().topic.clone()),
        }
    }

    /// A message that its client has: only the release is left.
    pub(crate) fn received(packet_id: PacketId) -> Self {
        Self {
            packet_id,
            qos: Qos::ExactlyOnce,
            received: true,
            retain: false,
            ids: SubscriptionIds::None,
            topic: None,
        }
    }

    /// Format, QoS and flags, packet id (2 bytes), identifiers (their number in 2 bytes, 4 bytes each), topic.
    pub(crate) fn encode(&self) -> Bytes {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.received, RECEIVED)
            | flag(self.retain, RETAIN)
            | flag(self.topic.is_some(), TOPIC);
        let mut out = vec![FORMAT, self.qos as u8 | flags];
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        let ids = self.ids.as_slice();
        // A session has no more subscriptions than that.
        let count = u16::try_from(ids.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for id in ids.iter().take(count.into()) {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if let Some(topic) = &self.topic {
            out.extend_from_slice(topic.as_str().as_bytes());
        }
        out.into()
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let [FORMAT, flags, rest @ ..] = row else {
            return None;
        };
        let (packet_id, rest) = rest.split_first_chunk::<2>()?;
        let (count, rest) = rest.split_first_chunk::<2>()?;
        let (ids, topic) = rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * 4)?;
        let ids: Vec<SubscriptionId> = ids
            .chunks_exact(4)
            .map(|id| id.try_into().ok().map(u32::from_be_bytes))
            .map(|id| id.and_then(SubscriptionId::new))
            .collect::<Option<_>>()?;
        let topic = match flags & TOPIC {
            0 => None,
            _ => Some(Text::new(std::str::from_utf8(topic).ok()?).ok()?),
        };
        Some(Self {
            packet_id: PacketId::new(u16::from_be_bytes(*packet_id))?,
            qos: Qos::from_u8(flags & 3).filter(|qos| qos.is_acknowledged())?,
            received: flags & RECEIVED != 0,
            retain: flags & RETAIN != 0,
            ids: match *ids {
                [] => SubscriptionIds::None,
                [one] => SubscriptionIds::One(one),
                _ => SubscriptionIds::Many(ids.into()),
            },
            topic,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_reads_back() {
        let limits = Limits::default();
        let texts = ["a/+", "$share/g/a%2Bb/#"].map(|text| Text::new(text).unwrap());
        for (text, query) in texts.into_iter().zip([None, Text::new("a=1").ok()]) {
            let asked = Subscription {
                filter: Filter::parse(text.as_str(), &limits).unwrap(),
                text: text.clone(),
                qos: Qos::ExactlyOnce,
                no_local: true,
                retain_as_published: false,
                retain_handling: RetainHandling::SendIfNew,
                accept: Accept::Data(Format::Cbor),
                query,
            };
            for (id, first) in [(None, true), (SubscriptionId::new(268_435_455), false)] {
                let asked = asked.clone();
                let subscribed = Subscribed { asked, id, first };
                let row = subscription_row(&subscribed);
                let back = Row::read(&subscription_key(&text), &row, &limits);
                assert!(matches!(back, Some(Row::Subscription(back)) if back == subscribed));
            }
        }
    }

    #[test]
    fn a_message_in_flight_reads_back_and_damage_is_none() {
        let id = |n| SubscriptionId::new(n).unwrap();
        for ids in [
            SubscriptionIds::None,
            SubscriptionIds::One(id(1)),
            SubscriptionIds::Many([id(1), id(70_000)].into()),
        ] {
            let held = Held {
                packet_id: PacketId::new(65_535).unwrap(),
                qos: Qos::AtLeastOnce,
                received: false,
                retain: true,
                ids,
                topic: Text::new("a/b").ok(),
            };
            let row = held.encode();
            assert_eq!(Held::decode(&row), Some(held));
            for len in 0..row.len() - 3 {
                assert_eq!(Held::decode(&row[..len]), None, "cut at {len}");
            }
        }
        let received = Held::received(PacketId::new(1).unwrap());
        assert_eq!(Held::decode(&received.encode()), Some(received));
        assert_eq!(Held::decode(&[2, 1, 0, 1, 0, 0]), None, "another format");
    }
}
