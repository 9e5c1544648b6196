//! Messages toward the client (3.3, 4.3, 4.4, 4.9).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod answers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::{Action, Change, Deliver, InFlight, Machine, Published, Session, SubscriptionIds, Tag};
use crate::codec::{Alias, Head, PacketId, Qos, ReasonCode, SubscriptionId, Text};

/// A message for this client.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The message, which many connections share.
    pub message: Arc<Published>,
    /// The lower of the publisher's QoS and what was granted (3.8.4-8).
    pub qos: Qos,
    /// Whether it is a first state, or goes as published.
    pub retain: bool,
    /// By which subscriptions it comes.
    pub subscription_ids: SubscriptionIds,
    /// The door's own name for it, which [`Change`]s and [`InFlight`] bear. No two messages in flight have the same.
    pub reference: u64,
}

/// What has become of a [`Delivery`].
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Delivered {
    /// It goes out now, or is in flight.
    Sent,
    /// It waits for a place in flight.
    Queued,
    /// It is gone, and counted: QoS 0 without room, expired, or too large for the client.
    Dropped,
    /// There is no room: keep it and come again when [`room`](Machine::room) says so, or end the connection by 0x97.
    Full(Delivery),
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// What the client is not done with, in the order of sending.
    in_flight: VecDeque<Flying>,
    /// How many at the front of it have gone out on this connection.
    sent: usize,
    /// How many more may go out unacknowledged (4.9).
    quota: u16,
    queue: VecDeque<Delivery>,
    queued_bytes: usize,
    queued_qos_0: usize,
    last_packet_id: u16,
    aliases: HashMap<Text, u16>,
}

#[derive(Debug)]
struct Flying {
    packet_id: PacketId,
    qos: Qos,
    stage: Stage,
    reference: u64,
    /// None once the client has it.
    delivery: Option<Delivery>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its packet id waits until it would survive a crash.
    Assigning(Tag),
    /// It waits for its turn; whether it may have gone out on an earlier connection.
    Ready {
        dup: bool,
    },
    Sent,
    /// The client has it; that waits until it would survive a crash.
    Receiving(Tag),
    /// PUBREL has gone out.
    Released,
}

impl Outbound {
    fn position(&self, packet_id: PacketId) -> Option<usize> {
        let mut all = self.in_flight.iter();
        all.position(|flying| flying.packet_id == packet_id)
    }

    fn has_unsent(&self) -> bool {
        self.sent < self.in_flight.len()
    }

    fn push_queue(&mut self, delivery: Delivery) {
        self.queued_bytes += delivery.message.estimated_bytes();
        self.queued_qos_0 += usize::from(delivery.qos == Qos::AtMostOnce);
        self.queue.push_back(delivery);
    }

    fn forget_queued(&mut self, delivery: &Delivery) {
        self.queued_bytes -= delivery.message.estimated_bytes();
        self.queued_qos_0 -= usize::from(delivery.qos == Qos::AtMostOnce);
    }

    fn pop_queue(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.forget_queued(&delivery);
        Some(delivery)
    }

    /// Drops the oldest of QoS 0; `false` if there is none.
    fn drop_qos_0(&mut self) -> bool {
        if self.queued_qos_0 == 0 {
            return false;
        }
        let oldest = |delivery: &Delivery| delivery.qos == Qos::AtMostOnce;
        let at = self.queue.iter().position(oldest);
        match at.and_then(|at| self.queue.remove(at)) {
            Some(delivery) => {
                self.forget_queued(&delivery);
                true
            }
            None => false,
        }
    }

    /// The next packet id that is free (2.2.1-4). There are far more of them than may be in flight.
    fn next_packet_id(&mut self) -> PacketId {
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            if let Some(packet_id) = PacketId::new(self.last_packet_id)
                && self.position(packet_id).is_none()
            {
                return packet_id;
            }
        }
    }

    /// Takes out what the client is done with.
    fn settle(&mut self, at: usize) -> Option<Flying> {
        let flying = self.in_flight.remove(at)?;
        self.sent -= usize::from(at < self.sent);
        Some(flying)
    }

    pub(super) fn into_parts(self) -> (Vec<InFlight>, Vec<Delivery>, u16) {
        let mut in_flight = Vec::with_capacity(self.in_flight.len());
        for flying in self.in_flight {
            in_flight.push(InFlight {
                packet_id: flying.packet_id,
                qos: flying.qos,
                sent: !matches!(
                    flying.stage,
                    Stage::Assigning(_) | Stage::Ready { dup: false }
                ),
                received: matches!(flying.stage, Stage::Receiving(_) | Stage::Released),
                reference: flying.reference,
                delivery: flying.delivery,
            });
        }
        let mut queue = Vec::from(self.queue);
        queue.retain(|delivery| delivery.qos.is_acknowledged());
        (in_flight, queue, self.last_packet_id)
    }
}

impl Machine {
    /// Takes up what the session left: its packets go out again in their order (4.4.0-1).
    pub(super) fn resume(&mut self, session: Session, now: Instant, out: &mut Vec<Action>) {
        self.outbound.quota = self
            .client
            .receive_maximum
            .min(self.settings.in_flight_max)
            .max(1);
        self.outbound.last_packet_id = session.last_packet_id;
        for one in session.in_flight {
            let gone = !one.received && one.delivery.is_none();
            if gone && !(one.sent && one.qos == Qos::ExactlyOnce) {
                self.keep_settled(one.packet_id, one.reference, out);
                continue;
            }
            // A client that may have the packet id of a message that is gone is told to release it, so that it does
            // not take the next one of that id for it.
            let stage = if one.received || gone {
                self.release(one.packet_id, ReasonCode::Success, out);
                Stage::Released
            } else {
                Stage::Ready { dup: one.sent }
            };
            self.outbound.in_flight.push_back(Flying {
                packet_id: one.packet_id,
                qos: one.qos,
                stage,
                reference: one.reference,
                delivery: one.delivery.filter(|_| !one.received),
            });
        }
        for delivery in session.queue {
            self.outbound.push_queue(delivery);
        }
        self.pump(now, out);
    }

    /// How many more messages can be taken without being refused: for a door that reads them from a store.
    pub fn room(&self) -> usize {
        if self.outbound.queued_bytes >= self.settings.queued_bytes_max {
            return 0;
        }
        let taken = self.outbound.queue.len() + self.outbound.in_flight.len();
        let all = self.settings.queued_max + self.window();
        all.saturating_sub(taken)
    }

    /// The first reference of what waits for a place in flight that `counts`.
    pub fn first_queued(&self, counts: impl Fn(u64) -> bool) -> Option<u64> {
        let mut waiting = self
            .outbound
            .queue
            .iter()
            .map(|delivery| delivery.reference);
        waiting.find(|reference| counts(*reference))
    }

    /// What is on its way to the client, or waits for it.
    pub fn references(&self) -> impl Iterator<Item = u64> {
        let in_flight = self
            .outbound
            .in_flight
            .iter()
            .map(|flying| flying.reference);
        let queued = self
            .outbound
            .queue
            .iter()
            .map(|delivery| delivery.reference);
        in_flight.chain(queued)
    }

    /// Forgets what waits for a place in flight and is `gone`: somebody else has it.
    pub fn forget_queued(&mut self, gone: impl Fn(u64) -> bool) {
        for delivery in std::mem::take(&mut self.outbound.queue) {
            if gone(delivery.reference) {
                self.outbound.forget_queued(&delivery);
            } else {
                self.outbound.queue.push_back(delivery);
            }
        }
    }

    /// The references of QoS 2 messages that are on their way to the client.
    pub fn in_flight_once(&self) -> impl Iterator<Item = u64> {
        let once = |flying: &&Flying| flying.qos == Qos::ExactlyOnce;
        let in_flight = self.outbound.in_flight.iter().filter(once);
        in_flight.map(|flying| flying.reference)
    }

    /// Whether anything waits for a place in flight.
    pub fn is_queue_empty(&self) -> bool {
        self.outbound.queue.is_empty()
    }

    /// Unacknowledged messages toward the client; 0 as long as nothing is in flight.
    pub fn in_flight(&self) -> usize {
        self.outbound.in_flight.len()
    }

    /// How many may be in flight: what the client takes, and what we keep (3.3.4-9).
    fn window(&self) -> usize {
        let window = self.client.receive_maximum.min(self.settings.in_flight_max);
        usize::from(window.max(1))
    }

    /// Takes a message for the client. Messages go out in the order in which they come here, of whatever QoS, as long
    /// as none is dropped.
    pub fn deliver(
        &mut self,
        delivery: Delivery,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Delivered {
        if !self.is_connected() {
            return Delivered::Full(delivery);
        }
        let waits = !self.outbound.queue.is_empty();
        if delivery.qos == Qos::AtMostOnce && !waits && !self.outbound.has_unsent() {
            let sent = self.send_message(&delivery, None, false, now, out);
            return if sent {
                Delivered::Sent
            } else {
                Delivered::Dropped
            };
        }
        let fits = self.outbound.in_flight.len() < self.window();
        if delivery.qos.is_acknowledged() && !waits && fits {
            return if self.assign(delivery, now, out) {
                self.send_ready(now, out);
                Delivered::Sent
            } else {
                Delivered::Dropped
            };
        }
        self.enqueue(delivery)
    }

    /// The short way for QoS 0: writes a message straight behind what the buffer holds, without an action. `None` if it
    /// has to wait for others, and so must be [delivered](Self::deliver). What earlier actions wrote must be in the
    /// buffer already.
    pub fn write_now(
        &mut self,
        message: &Published,
        retain: bool,
        subscription_ids: &[SubscriptionId],
        now: Instant,
        buffer: &mut BytesMut,
    ) -> Option<Delivered> {
        if !self.is_connected() || !self.outbound.queue.is_empty() || self.outbound.has_unsent() {
            return None;
        }
        let Ok(message_expiry_s) = message.left_s(now) else {
            self.counts.expired += 1;
            return Some(Delivered::Dropped);
        };
        let (alias, new) = self.alias(&message.message().topic);
        let head = Head {
            dup: false,
            qos: Qos::AtMostOnce,
            retain,
            packet_id: None,
            alias,
            subscription_ids,
            message_expiry_s,
        };
        let bytes_max = self.client.packet_bytes_max.unwrap_or(usize::MAX);
        let template = message
            .template(self.version(), Qos::AtMostOnce)
            .filter(|template| {
                template
                    .packet_bytes(&head)
                    .is_some_and(|bytes| bytes <= bytes_max)
            });
        if template.is_none_or(|template| template.write(&head, buffer).is_err()) {
            self.counts.too_large += 1;
            return Some(Delivered::Dropped);
        }
        if let Some((topic, alias)) = new {
            self.outbound.aliases.insert(topic, alias);
        }
        Some(Delivered::Sent)
    }

    fn enqueue(&mut self, delivery: Delivery) -> Delivered {
        while self.is_full(&delivery) {
            if self.outbound.drop_qos_0() {
                self.counts.dropped_qos_0 += 1;
            } else if delivery.qos == Qos::AtMostOnce {
                self.counts.dropped_qos_0 += 1;
                return Delivered::Dropped;
            } else {
                return Delivered::Full(delivery);
            }
        }
        self.outbound.push_queue(delivery);
        Delivered::Queued
    }

    fn is_full(&self, delivery: &Delivery) -> bool {
        let (outbound, settings) = (&self.outbound, &self.settings);
        let bytes = outbound.queued_bytes + delivery.message.estimated_bytes();
        // A message above the bound goes alone.
        outbound.queue.len() >= settings.queued_max
            || bytes > settings.queued_bytes_max && !outbound.queue.is_empty()
    }

    /// Gives a message a packet id and a place in flight; `false` if it is gone instead.
    fn assign(&mut self, delivery: Delivery, now: Instant, out: &mut Vec<Action>) -> bool {
        if delivery.message.left_s(now).is_err() {
            self.counts.expired += 1;
            self.skip(&delivery, out);
            return false;
        }
        let packet_id = self.outbound.next_packet_id();
        let (qos, reference) = (delivery.qos, delivery.reference);
        let mut stage = Stage::Ready { dup: false };
        if self.client.durable {
            // Of QoS 2 the client must not take a later message for this one: its packet id is kept first.
            let tag = (qos == Qos::ExactlyOnce).then(|| self.tag());
            if let Some(tag) = tag {
                stage = Stage::Assigning(tag);
            }
            out.push(Action::Keep {
                tag,
                change: Change::Assign {
                    packet_id,
                    delivery: delivery.clone(),
                },
            });
        }
        self.outbound.in_flight.push_back(Flying {
            packet_id,
            qos,
            stage,
            reference,
            delivery: Some(delivery),
        });
        true
    }

    fn skip(&self, delivery: &Delivery, out: &mut Vec<Action>) {
        if self.client.durable && delivery.qos.is_acknowledged() {
            out.push(Action::Keep {
                tag: None,
                change: Change::Skip {
                    reference: delivery.reference,
                },
            });
        }
    }

    fn keep_settled(&self, packet_id: PacketId, reference: u64, out: &mut Vec<Action>) {
        if self.client.durable {
            out.push(Action::Keep {
                tag: None,
                change: Change::Settle {
                    packet_id,
                    reference,
                },
            });
        }
    }

    /// Sends all that may go out now, in order.
    fn pump(&mut self, now: Instant, out: &mut Vec<Action>) {
        loop {
            self.send_ready(now, out);
            let Some(next) = self.outbound.queue.front() else {
                return;
            };
            let may = if next.qos == Qos::AtMostOnce {
                !self.outbound.has_unsent()
            } else {
                self.outbound.in_flight.len() < self.window()
            };
            if !may || !self.is_connected() {
                return;
            }
            let Some(next) = self.outbound.pop_queue() else {
                return;
            };
            if next.qos == Qos::AtMostOnce {
                self.send_message(&next, None, false, now, out);
            } else {
                self.assign(next, now, out);
            }
        }
    }

    /// Sends what is in flight and has not gone out, up to the first that must wait.
    fn send_ready(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(flying) = self.outbound.in_flight.get_mut(self.outbound.sent) {
            let dup = match flying.stage {
                Stage::Assigning(_) => return,
                Stage::Ready { .. } if self.outbound.quota == 0 => return,
                Stage::Ready { dup } => dup,
                Stage::Sent | Stage::Receiving(_) | Stage::Released => {
                    self.outbound.sent += 1;
                    continue;
                }
            };
            let (packet_id, reference) = (flying.packet_id, flying.reference);
            let delivery = flying.delivery.take();
            let sent = delivery.as_ref().is_some_and(|delivery| {
                self.send_message(delivery, Some(packet_id), dup, now, out)
            });
            let at = self.outbound.sent;
            if !sent {
                // 3.1.2-25: as if it had been sent and acknowledged.
                self.outbound.settle(at);
                self.keep_settled(packet_id, reference, out);
            } else if let Some(flying) = self.outbound.in_flight.get_mut(at) {
                flying.stage = Stage::Sent;
                flying.delivery = delivery;
                self.outbound.sent += 1;
                self.outbound.quota -= 1;
            }
        }
    }

    /// Sends one message; `false` if its time is over, or it is larger than the client takes.
    fn send_message(
        &mut self,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
        dup: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let message_expiry_s = match delivery.message.left_s(now) {
            Ok(left) => left,
            // 4.3.3-7: what has gone out is seen through.
            Err(_) if dup => Some(0),
            Err(_) => {
                self.counts.expired += 1;
                return false;
            }
        };
        let (alias, new) = self.alias(&delivery.message.message().topic);
        let deliver = Deliver {
            message: delivery.message.clone(),
            dup,
            qos: delivery.qos,
            retain: delivery.retain,
            packet_id,
            alias,
            subscription_ids: delivery.subscription_ids.clone(),
            message_expiry_s,
        };
        let bytes_max = self.client.packet_bytes_max.unwrap_or(usize::MAX);
        let bytes = deliver.packet_bytes(self.version());
        if bytes.is_none_or(|bytes| bytes > bytes_max) {
            self.counts.too_large += 1;
            return false;
        }
        if let Some((topic, alias)) = new {
            self.outbound.aliases.insert(topic, alias);
        }
        out.push(Action::Deliver(deliver));
        true
    }

    /// The alias of a topic, and what is to be remembered if it is a new one. The first topics get one; who sends more
    /// topics than the client takes aliases would gain nothing by changing them all the time.
    fn alias(&self, topic: &Text) -> (Alias, Option<(Text, u16)>) {
        let max = self
            .client
            .alias_maximum
            .min(self.settings.given_aliases_max);
        if max == 0 || !self.version().is_5() {
            return (Alias::None, None);
        }
        if let Some(alias) = self.outbound.aliases.get(topic) {
            return (Alias::Use(*alias), None);
        }
        match u16::try_from(self.outbound.aliases.len() + 1) {
            Ok(next) if next <= max => (Alias::Set(next), Some((topic.detached(), next))),
            _ => (Alias::None, None),
        }
    }
}
