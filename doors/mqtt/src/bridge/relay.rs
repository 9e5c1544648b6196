//! What becomes of a packet of one side on the other. No I/O.
//!
//! Packet ids stay as they are, so each side's session remembers for the other (4.3): a message that one sent is only
//! acknowledged to it when the other has acknowledged it, and what either repeats, the other knows.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::HashSet;
use std::sync::Arc;

use bytes::BytesMut;
use tracing::{debug, warn};

use super::route::{self, Route};
use super::{Meters, Side};
use crate::client::{Lost, in_words, not_expected};
use crate::codec::{Ack, Connack, Packet, PacketId, Publish, Qos, ReasonCode, Version, encode};

/// How often a side may say that it has no room for a message before that one is given up.
const REFUSALS_MAX: u32 = 8;

/// What a side takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) version: Version,
    pub(super) qos_max: Qos,
    pub(super) retains: bool,
    pub(super) packet_bytes_max: usize,
}

impl Terms {
    /// What a broker has said in its CONNACK. `packet_bytes_max` is what we send at most, whatever it takes; 0 is anything.
    pub(super) fn of(version: Version, connack: &Connack, packet_bytes_max: u32) -> Self {
        let said = connack.properties.packet_bytes_max.map(u32::from);
        let set = Some(packet_bytes_max).filter(|max| *max > 0);
        let max = said.into_iter().chain(set).min();
        Self {
            version,
            qos_max: connack.properties.maximum_qos.unwrap_or(Qos::ExactlyOnce),
            retains: connack.properties.retain_available.unwrap_or(true),
            packet_bytes_max: max
                .and_then(|max| usize::try_from(max).ok())
                .unwrap_or(usize::MAX),
        }
    }
}

/// Messages that a side had no room for, over connections.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Option<(Side, PacketId)>,
    times: u32,
}

impl Refusals {
    /// Whether the message is to be tried again on another connection.
    fn may_try_again(&mut self, side: Side, packet_id: PacketId) -> bool {
        if self.last != Some((side, packet_id)) {
            (self.last, self.times) = (Some((side, packet_id)), 0);
        }
        self.times += 1;
        self.times < REFUSALS_MAX
    }
}

/// What is to be sent to either side.
pub(super) struct Outs<'a> {
    pub(super) local: &'a mut BytesMut,
    pub(super) remote: &'a mut BytesMut,
}

impl Outs<'_> {
    fn to(&mut self, side: Side) -> &mut BytesMut {
        match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        }
    }
}

/// Both sides of a connected bridge.
pub(super) struct Relay<'a> {
    pub(super) routes: &'a [Route],
    pub(super) local: Terms,
    pub(super) remote: Terms,
    pub(super) refusals: &'a mut Refusals,
    pub(super) meters: Arc<Meters>,
    /// QoS 2 here and QoS 1 there.
    lowered: HashSet<PacketId>,
    /// Reasons that have had their line in the log.
    warned: HashSet<&'static str>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        routes: &'a [Route],
        local: Terms,
        remote: Terms,
        refusals: &'a mut Refusals,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            routes,
            local,
            remote,
            refusals,
            meters,
            lowered: HashSet::new(),
            warned: HashSet::new(),
        }
    }

    fn terms(&self, side: Side) -> &Terms {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// Takes a packet of one side. Where both sides take too little, messages of QoS 0 are dropped (`crowded`).
    ///
    /// # Errors
    /// If it ends the connection.
    pub(super) fn packet(
        &mut self,
        from: Side,
        packet: Packet,
        crowded: bool,
        outs: &mut Outs<'_>,
    ) -> Result<(), Lost> {
        let to = from.other();
        match packet {
            Packet::Publish(publish) if crowded && publish.qos == Qos::AtMostOnce => {
                self.dropped(from, "slow", publish.message.topic.as_str());
            }
            Packet::Publish(publish) => self.publish(from, publish, outs),
            Packet::Puback(ack) => {
                self.judge(from, &ack)?;
                let answer = Ack::new(ack.packet_id, ack.reason);
                let packet = if from == Side::Remote && self.lowered.remove(&ack.packet_id) {
                    Packet::Pubrec(answer)
                } else {
                    Packet::Puback(answer)
                };
                self.send(to, &packet, outs);
            }
            Packet::Pubrec(ack) => {
                self.judge(from, &ack)?;
                self.send(
                    to,
                    &Packet::Pubrec(Ack::new(ack.packet_id, ack.reason)),
                    outs,
                );
            }
            // Where it has gone over at a lower QoS, there is nothing to be released.
            Packet::Pubrel(ack) if self.terms(to).qos_max < Qos::ExactlyOnce => {
                let done = Ack::new(ack.packet_id, ReasonCode::Success);
                self.send(from, &Packet::Pubcomp(done), outs);
            }
            Packet::Pubrel(ack) => {
                self.send(
                    to,
                    &Packet::Pubrel(Ack::new(ack.packet_id, ack.reason)),
                    outs,
                );
            }
            Packet::Pubcomp(ack) => {
                self.send(
                    to,
                    &Packet::Pubcomp(Ack::new(ack.packet_id, ack.reason)),
                    outs,
                );
            }
            Packet::Pingresp => {}
            other => return Err(not_expected(&other)),
        }
        Ok(())
    }

    fn publish(&mut self, from: Side, mut publish: Publish, outs: &mut Outs<'_>) {
        let to = from.other();
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let Some(topic) = route::map(self.routes, from, publish.message.topic.as_str()) else {
            self.dropped(from, "unmatched", publish.message.topic.as_str());
            return self.settle(
                from,
                qos,
                packet_id,
                ReasonCode::ImplementationSpecificError,
                outs,
            );
        };
        let terms = *self.terms(to);
        publish.qos = qos.min(terms.qos_max);
        publish.message.topic = topic;
        publish.retain &= terms.retains;
        publish.topic_alias = None;
        publish.subscription_ids.clear();
        if !publish.qos.is_acknowledged() {
            (publish.packet_id, publish.dup) = (None, false);
        }
        let packet = Packet::Publish(publish);
        let out = outs.to(to);
        let begin = out.len();
        let encoded = encode(&packet, terms.version, out);
        if encoded.is_err() || out.len() - begin > terms.packet_bytes_max {
            out.truncate(begin);
            if let Packet::Publish(publish) = &packet {
                self.dropped(from, "too_large", publish.message.topic.as_str());
            }
            return self.settle(
                from,
                qos,
                packet_id,
                ReasonCode::ImplementationSpecificError,
                outs,
            );
        }
        self.meters.relayed(from);
        match (qos, terms.qos_max, packet_id) {
            (Qos::ExactlyOnce, Qos::AtLeastOnce, Some(packet_id)) => {
                self.lowered.insert(packet_id);
            }
            (_, Qos::AtMostOnce, _) => {
                self.settle(from, qos, packet_id, ReasonCode::Success, outs);
            }
            _ => {}
        }
    }

    /// Answers a message that nobody else answers. Where 3.x can't say no to QoS 2, its PUBREL gets its answer from the other
    /// side, which knows nothing of it.
    fn settle(
        &self,
        side: Side,
        qos: Qos,
        packet_id: Option<PacketId>,
        reason: ReasonCode,
        outs: &mut Outs<'_>,
    ) {
        let Some(packet_id) = packet_id else {
            return;
        };
        let ack = Ack::new(packet_id, reason);
        let packet = match qos {
            Qos::ExactlyOnce => Packet::Pubrec(ack),
            Qos::AtMostOnce | Qos::AtLeastOnce => Packet::Puback(ack),
        };
        self.send(side, &packet, outs);
    }

    /// Looks whether a message was refused. What there is only no room for now comes again on another connection, but not
    /// for ever; what is refused for good is done with.
    fn judge(&mut self, side: Side, ack: &Ack) -> Result<(), Lost> {
        if !ack.reason.is_failure() {
            return Ok(());
        }
        let may_work_later = ack.reason == ReasonCode::QuotaExceeded;
        if may_work_later && self.refusals.may_try_again(side, ack.packet_id) {
            return Err(Lost::Later(side.name()));
        }
        let words = ack.properties.reason_string.as_ref();
        let words = in_words(ack.reason, words.map_or("", |words| words.as_str()));
        self.dropped(side.other(), "refused", &words);
        Ok(())
    }

    fn dropped(&mut self, from: Side, reason: &'static str, what: &str) {
        self.meters.dropped(from, reason);
        let (bridge, direction) = (&self.meters.bridge, from.direction());
        if self.warned.insert(reason) {
            warn!(
                bridge,
                direction, reason, what, "message dropped; more are counted"
            );
        } else {
            debug!(bridge, direction, reason, what, "message dropped");
        }
    }

    fn send(&self, side: Side, packet: &Packet, outs: &mut Outs<'_>) {
        let encoded = encode(packet, self.terms(side).version, outs.to(side));
        debug_assert!(encoded.is_ok(), "answers are small");
    }
}
