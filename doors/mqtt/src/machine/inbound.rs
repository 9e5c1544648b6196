//! Messages from the client (3.3, 4.3).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Action, Change, Machine, Publication, Tag};
use crate::codec::{Ack, Fault, Message, Packet, PacketId, Publish, Qos, ReasonCode, Text};
use crate::topic;

#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// What the client's aliases stand for (3.3.2.3.4).
    aliases: HashMap<u16, Text>,
    /// PUBLISHes of QoS 1 and 2 in the order in which they came: answers go out in it (4.6.0-2, 4.6.0-3).
    unanswered: VecDeque<Unanswered>,
    /// Writes of any QoS whose outcome has not come.
    open_writes: usize,
    /// Packet ids that are remembered until their release, and whether they count against the receive maximum: those
    /// of an earlier connection don't (4.9).
    unreleased: BTreeMap<PacketId, bool>,
    /// Releases that wait until they would survive a crash.
    releases: VecDeque<(Tag, PacketId, bool)>,
    /// Messages that count against the receive maximum.
    held: usize,
}

#[derive(Debug)]
struct Unanswered {
    tag: Tag,
    packet_id: PacketId,
    qos: Qos,
    /// Whether it counts against the receive maximum.
    counts: bool,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The write goes on.
    Open,
    Done(ReasonCode),
    /// It repeats one further ahead, and has its outcome.
    Repeats,
}

impl Inbound {
    pub(super) fn open_writes(&self) -> usize {
        self.open_writes + self.releases.len()
    }

    pub(super) fn resume(&mut self, unreleased: &[PacketId]) {
        self.unreleased = unreleased.iter().map(|id| (*id, false)).collect();
    }

    /// The packet ids that the client must release, or be answered by PUBREC for: what was done acts once, whether or
    /// not the client could be told so.
    pub(super) fn into_unreleased(mut self) -> Vec<PacketId> {
        for one in &self.unanswered {
            let done = matches!(one.outcome, Outcome::Done(reason) if !reason.is_failure());
            if one.qos == Qos::ExactlyOnce && done {
                self.unreleased.insert(one.packet_id, false);
            }
        }
        self.unreleased.into_keys().collect()
    }

    /// Whether a PUBLISH of that packet id is not answered yet.
    pub(super) fn is_unanswered(&self, packet_id: PacketId) -> bool {
        self.find(packet_id).is_some()
    }

    fn find(&self, packet_id: PacketId) -> Option<&Unanswered> {
        let mut all = self.unanswered.iter();
        all.find(|one| one.packet_id == packet_id)
    }
}

impl Machine {
    pub(super) fn publish(
        &mut self,
        mut publish: Publish,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        if !publish.subscription_ids.is_empty() {
            return Err(Fault::protocol(
                "3.3.4-6",
                "a subscription identifier from a client",
            ));
        }
        self.resolve_alias(&mut publish)?;
        if let Some(packet_id) = publish.packet_id {
            if self.is_repeated(packet_id, publish.qos, out)? {
                return Ok(());
            }
            self.check_window()?;
        }
        let path = match topic::to_path(publish.message.topic.as_str(), &self.settings.paths) {
            Ok(_) if self.is_false_text(&publish.message) => {
                self.refuse(&publish, ReasonCode::PayloadFormatInvalid, out);
                return Ok(());
            }
            Err(_) => {
                self.refuse(&publish, ReasonCode::TopicNameInvalid, out);
                return Ok(());
            }
            Ok(path) => path,
        };
        let tag = self.tag();
        self.inbound.open_writes += 1;
        self.await_outcome(tag, &publish, Outcome::Open);
        let remember = publish
            .packet_id
            .filter(|_| self.client.durable && publish.qos == Qos::ExactlyOnce);
        out.push(Action::Publish(Box::new(Publication {
            tag,
            path,
            message: publish.message,
            qos: publish.qos,
            retain: publish.retain,
            remember,
        })));
        Ok(())
    }

    /// Puts the topic in the place of its alias, or learns what an alias stands for.
    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Fault> {
        let Some(alias) = publish.topic_alias.take() else {
            return Ok(());
        };
        if alias > self.settings.topic_alias_maximum {
            return Err(Fault::new(
                ReasonCode::TopicAliasInvalid,
                "3.2.2-17",
                "a topic alias above the maximum",
            ));
        }
        if publish.message.topic.is_empty() {
            let topic = self.inbound.aliases.get(&alias).ok_or(Fault::protocol(
                "3.3.2.3.4",
                "a topic alias that stands for nothing yet",
            ))?;
            publish.message.topic = topic.clone();
        } else {
            let topic = publish.message.topic.detached();
            self.inbound.aliases.insert(alias, topic);
        }
        Ok(())
    }

    /// Whether a PUBLISH has come before, or its packet id is in use: then it is answered, and does not act.
    fn is_repeated(
        &mut self,
        packet_id: PacketId,
        qos: Qos,
        out: &mut Vec<Action>,
    ) -> Result<bool, Fault> {
        let unreleased = self.inbound.unreleased.get(&packet_id).copied();
        let before = self.inbound.find(packet_id).map(|one| one.qos);
        let outcome = match (qos, unreleased, before) {
            // 4.3.3-10
            (Qos::ExactlyOnce, Some(counted), _) => {
                if !counted {
                    self.check_window()?;
                    self.inbound.held += 1;
                    self.inbound.unreleased.insert(packet_id, true);
                }
                Outcome::Done(ReasonCode::Success)
            }
            (Qos::ExactlyOnce, None, Some(Qos::ExactlyOnce)) => Outcome::Repeats,
            // 2.2.1-3. 3.1.1 sent again whenever it liked: at least once is what it gets.
            (_, _, Some(_)) | (_, Some(_), _) if self.version().is_5() => {
                Outcome::Done(ReasonCode::PacketIdentifierInUse)
            }
            _ => return Ok(false),
        };
        // Each is answered, but there are no more of them than writes may be open.
        if self.inbound.unanswered.len() > 2 * self.settings.open_writes_max {
            return Err(Fault::new(
                ReasonCode::ReceiveMaximumExceeded,
                "3.3.4-7",
                "more unanswered messages than are taken",
            ));
        }
        let tag = self.tag();
        self.inbound.unanswered.push_back(Unanswered {
            tag,
            packet_id,
            qos,
            counts: false,
            outcome,
        });
        self.answer(out);
        Ok(true)
    }

    /// That one more message of QoS 1 or 2 may come (3.3.4-7). 3.x has no such maximum, but its ids end somewhere, too.
    fn check_window(&self) -> Result<(), Fault> {
        let full = if self.version().is_5() {
            self.inbound.held >= usize::from(self.settings.receive_maximum.get())
        } else {
            self.inbound.unreleased.len() >= self.settings.unreleased_max
        };
        if full {
            return Err(Fault::new(
                ReasonCode::ReceiveMaximumExceeded,
                "3.3.4-7",
                "more messages in flight than the receive maximum",
            ));
        }
        Ok(())
    }

    /// Whether a payload claims to be text, and is not (3.3.2.3.2).
    pub(super) fn is_false_text(&self, message: &Message) -> bool {
        self.settings.check_payload_format
            && message.properties.payload_is_text == Some(true)
            && std::str::from_utf8(&message.payload).is_err()
    }

    /// Answers a PUBLISH that does not act, in its turn.
    fn refuse(&mut self, publish: &Publish, reason: ReasonCode, out: &mut Vec<Action>) {
        self.counts.refused_publishes += 1;
        let tag = self.tag();
        self.await_outcome(tag, publish, Outcome::Done(reason));
        if publish.packet_id.is_none() && self.closes_on_refusal() {
            self.close(reason, out);
        } else {
            self.answer(out);
        }
    }

    fn closes_on_refusal(&self) -> bool {
        self.settings.close_on_refused_publish && !self.version().is_5()
    }

    fn await_outcome(&mut self, tag: Tag, publish: &Publish, outcome: Outcome) {
        if let Some(packet_id) = publish.packet_id {
            self.inbound.held += 1;
            self.inbound.unanswered.push_back(Unanswered {
                tag,
                packet_id,
                qos: publish.qos,
                counts: true,
                outcome,
            });
        }
    }

    /// How a publish went: a reason that is no failure if it was done, and is as durable as it will be.
    pub fn written(&mut self, tag: Tag, reason: ReasonCode, out: &mut Vec<Action>) {
        self.inbound.open_writes = self.inbound.open_writes.saturating_sub(1);
        self.counts.refused_publishes += u64::from(reason.is_failure());
        let closes = reason.is_failure() && self.closes_on_refusal();
        // Tags grow, so the list is in their order.
        let unanswered = &mut self.inbound.unanswered;
        let found = unanswered.binary_search_by_key(&tag, |one| one.tag);
        match found.ok().and_then(|at| unanswered.get_mut(at)) {
            Some(one) => {
                one.outcome = Outcome::Done(reason);
                self.answer(out);
            }
            None if closes => self.close(reason, out),
            None => {}
        }
    }

    /// Whether outcomes of writes are still to come. Who keeps a session that is not durable waits for them before
    /// [`into_session`](Self::into_session), also behind the connection's end.
    pub fn has_open_writes(&self) -> bool {
        self.inbound.open_writes > 0
    }

    /// Sends the answers that are due, in the order of the PUBLISHes.
    fn answer(&mut self, out: &mut Vec<Action>) {
        while self.is_connected()
            && let Some(one) = self.inbound.unanswered.front()
        {
            let reason = match one.outcome {
                Outcome::Open => return,
                Outcome::Done(reason) => reason,
                Outcome::Repeats if self.inbound.unreleased.contains_key(&one.packet_id) => {
                    ReasonCode::Success
                }
                Outcome::Repeats => ReasonCode::UnspecifiedError,
            };
            let Some(one) = self.inbound.unanswered.pop_front() else {
                return;
            };
            self.answer_one(&one, reason, out);
        }
    }

    fn answer_one(&mut self, one: &Unanswered, reason: ReasonCode, out: &mut Vec<Action>) {
        let is_5 = self.version().is_5();
        if reason.is_failure() && self.closes_on_refusal() {
            return self.close(reason, out);
        }
        // 3.x can only say yes.
        let failed = reason.is_failure() && is_5;
        let ack = Ack::new(
            one.packet_id,
            if is_5 { reason } else { ReasonCode::Success },
        );
        let kept = one.qos == Qos::ExactlyOnce && !failed;
        if kept {
            let before = self.inbound.unreleased.get(&one.packet_id).copied();
            let counts = one.counts || before == Some(true);
            self.inbound.unreleased.insert(one.packet_id, counts);
        } else if one.counts {
            self.inbound.held -= 1;
        }
        let packet = match one.qos {
            Qos::ExactlyOnce => Packet::Pubrec(ack),
            Qos::AtMostOnce | Qos::AtLeastOnce => Packet::Puback(ack),
        };
        self.send(packet, out);
    }

    /// The client releases a message (4.3.3-11).
    pub(super) fn pubrel(&mut self, ack: &Ack, out: &mut Vec<Action>) -> Result<(), Fault> {
        let packet_id = ack.packet_id;
        let Some(counts) = self.inbound.unreleased.remove(&packet_id) else {
            if self.inbound.is_unanswered(packet_id) {
                return Err(Fault::protocol("4.3.3-4", "PUBREL before PUBREC"));
            }
            let waits = |release: &(Tag, PacketId, bool)| release.1 == packet_id;
            if !self.inbound.releases.iter().any(waits) {
                self.complete(packet_id, ReasonCode::PacketIdentifierNotFound, out);
            }
            return Ok(());
        };
        if self.client.durable {
            let tag = self.tag();
            self.inbound.releases.push_back((tag, packet_id, counts));
            out.push(Action::Keep {
                tag: Some(tag),
                change: Change::Forget(packet_id),
            });
        } else {
            self.inbound.held -= usize::from(counts);
            self.complete(packet_id, ReasonCode::Success, out);
        }
        Ok(())
    }

    /// A release would now survive a crash; `false` if the tag is none's.
    pub(super) fn forgotten(&mut self, tag: Tag, out: &mut Vec<Action>) -> bool {
        let releases = &mut self.inbound.releases;
        let Some(at) = releases.iter().position(|release| release.0 == tag) else {
            return false;
        };
        if let Some((_, packet_id, counts)) = releases.remove(at) {
            self.inbound.held -= usize::from(counts);
            self.complete(packet_id, ReasonCode::Success, out);
        }
        true
    }

    fn complete(&mut self, packet_id: PacketId, reason: ReasonCode, out: &mut Vec<Action>) {
        self.send(Packet::Pubcomp(Ack::new(packet_id, reason)), out);
    }
}
