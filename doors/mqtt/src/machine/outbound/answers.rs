//! What the client answers to messages, and what was kept of it (3.4 to 3.7, 4.3).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::time::Instant;

use super::{Flying, Stage};
use crate::codec::{Ack, Fault, Packet, PacketId, Qos, ReasonCode};
use crate::machine::{Action, Change, Machine, Tag};

impl Machine {
    /// A packet id, or that the client has a message, would now survive a crash.
    pub(in crate::machine) fn remembered(&mut self, tag: Tag, now: Instant, out: &mut Vec<Action>) {
        let waits = |flying: &Flying| match flying.stage {
            Stage::Assigning(other) | Stage::Receiving(other) => other == tag,
            Stage::Ready { .. } | Stage::Sent | Stage::Released => false,
        };
        let Some(flying) = self.outbound.in_flight.iter_mut().find(|one| waits(one)) else {
            return;
        };
        if matches!(flying.stage, Stage::Assigning(_)) {
            flying.stage = Stage::Ready { dup: false };
            self.pump(now, out);
        } else {
            flying.stage = Stage::Released;
            let packet_id = flying.packet_id;
            self.release(packet_id, ReasonCode::Success, out);
        }
    }

    pub(super) fn release(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        out: &mut Vec<Action>,
    ) {
        self.send(Packet::Pubrel(Ack::new(packet_id, reason)), out);
    }

    /// The client has a message of QoS 1.
    pub(in crate::machine) fn puback(
        &mut self,
        ack: &Ack,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let Some((at, flying)) = self.flying(ack.packet_id) else {
            // Answered before: nothing is left to be done.
            return Ok(());
        };
        let may = matches!(flying.stage, Stage::Sent | Stage::Ready { dup: true });
        if flying.qos != Qos::AtLeastOnce || !may {
            return Err(Fault::protocol(
                "3.3.4-1",
                "PUBACK for what was not sent at QoS 1",
            ));
        }
        self.done(at, now, out);
        Ok(())
    }

    fn flying(&self, packet_id: PacketId) -> Option<(usize, &Flying)> {
        let at = self.outbound.position(packet_id)?;
        Some((at, self.outbound.in_flight.get(at)?))
    }

    /// The client is done with a message: its packet id is free, and another one may go out.
    fn done(&mut self, at: usize, now: Instant, out: &mut Vec<Action>) {
        if let Some(flying) = self.outbound.settle(at) {
            self.keep_settled(flying.packet_id, flying.reference, out);
            self.give_back_quota();
            self.pump(now, out);
        }
    }

    /// 4.9: never above what it began with, as PUBCOMP for an earlier connection's message would do.
    fn give_back_quota(&mut self) {
        let max = self
            .client
            .receive_maximum
            .min(self.settings.in_flight_max)
            .max(1);
        self.outbound.quota = max.min(self.outbound.quota.saturating_add(1));
    }

    /// The client has a message of QoS 2, or does not want it.
    pub(in crate::machine) fn pubrec(
        &mut self,
        ack: &Ack,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let packet_id = ack.packet_id;
        let Some((at, flying)) = self.flying(packet_id) else {
            // 3.6.2.1; 3.x gets the release that lets it go on.
            if !ack.reason.is_failure() {
                let reason = if self.version().is_5() {
                    ReasonCode::PacketIdentifierNotFound
                } else {
                    ReasonCode::Success
                };
                self.release(packet_id, reason, out);
            }
            return Ok(());
        };
        let wrong = Err(Fault::protocol(
            "3.3.4-1",
            "PUBREC for what was not sent at QoS 2",
        ));
        match flying.stage {
            _ if flying.qos != Qos::ExactlyOnce => return wrong,
            Stage::Assigning(_) | Stage::Ready { dup: false } => return wrong,
            Stage::Receiving(_) => {}
            // 4.4.0-2
            Stage::Sent | Stage::Ready { dup: true } if ack.reason.is_failure() => {
                self.done(at, now, out);
            }
            Stage::Sent | Stage::Ready { dup: true } => self.has_received(at, packet_id, out),
            Stage::Released => self.release(packet_id, ReasonCode::Success, out),
        }
        Ok(())
    }

    /// 4.3.3-4, behind the memory of it where the session is durable.
    fn has_received(&mut self, at: usize, packet_id: PacketId, out: &mut Vec<Action>) {
        let tag = self.client.durable.then(|| self.tag());
        let mut reference = 0;
        if let Some(flying) = self.outbound.in_flight.get_mut(at) {
            flying.delivery = None;
            flying.stage = tag.map_or(Stage::Released, Stage::Receiving);
            reference = flying.reference;
        }
        match tag {
            None => self.release(packet_id, ReasonCode::Success, out),
            Some(_) => out.push(Action::Keep {
                tag,
                change: Change::Received {
                    packet_id,
                    reference,
                },
            }),
        }
    }

    /// The client is done with a message of QoS 2.
    pub(in crate::machine) fn pubcomp(
        &mut self,
        ack: &Ack,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let Some((at, flying)) = self.flying(ack.packet_id) else {
            return Ok(());
        };
        if flying.stage != Stage::Released {
            return Err(Fault::protocol("4.3.3-11", "PUBCOMP before PUBREL"));
        }
        self.done(at, now, out);
        Ok(())
    }
}
