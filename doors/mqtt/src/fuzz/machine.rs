//! One client of a machine after the other: packets, outcomes and time, in any order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};

use super::LIMITS;
use crate::codec::{
    Alias, Connect, Decoder, Message, Packet, PacketId, Qos, ReasonCode, SubscriptionId, Text,
    Version, encode,
};
use crate::machine::{
    Accepted, Action, Deliver, Delivered, Delivery, Machine, Published, Session, Settings,
    SubscriptionIds, Tag,
};

/// What is done with an input in one go; more of the same would find nothing new.
const STEPS_MAX: usize = 1000;
const IN_FLIGHT_MAX: u16 = 4;
const OPEN_WRITES_MAX: usize = 6;
const OPEN_REQUESTS_MAX: usize = 3;

/// Runs a client's packets against a machine. A byte below 0x10 begins no packet: it, and the one behind it, say what
/// else happens.
///
/// # Panics
/// If the machine does what the standard forbids, or what it promises not to do.
pub fn machine(bytes: &[u8]) {
    let mut world = World::new();
    let mut input = BytesMut::from(bytes);
    for _ in 0..STEPS_MAX {
        let (Some(first), argument) = (input.first().copied(), input.get(1).copied()) else {
            break;
        };
        if first < 0x10 {
            world.happen(first, argument.unwrap_or_default());
            input.advance(input.len().min(2));
        } else if !world.take_packet(&mut input) {
            break;
        }
    }
    world.end();
}

struct World {
    machine: Machine,
    decoder: Decoder,
    now: Instant,
    settings: Arc<Settings>,
    /// Whether the next CONNECT is refused, and whether sessions are durable.
    refuses: bool,
    durable: bool,
    session: Session,
    client: Client,
    writes: VecDeque<Tag>,
    kept: VecDeque<Tag>,
    requests: VecDeque<(Tag, usize)>,
    references: u64,
}

/// What the client sees on one connection, and what must hold for it.
#[derive(Default)]
struct Client {
    version: Option<Version>,
    closed: bool,
    connacks: usize,
    in_flight: BTreeSet<PacketId>,
    flying_max: usize,
    bytes_max: Option<usize>,
    alias_max: u16,
    aliases: BTreeMap<u16, Text>,
    /// PUBLISHes that have no PUBACK or PUBREC yet, and requests without an answer, by packet id.
    published: BTreeMap<PacketId, usize>,
    asked: BTreeMap<PacketId, Vec<usize>>,
}

impl World {
    fn new() -> Self {
        let settings = Arc::new(Settings {
            in_flight_max: IN_FLIGHT_MAX,
            queued_max: 8,
            queued_bytes_max: 4 << 10,
            open_writes_max: OPEN_WRITES_MAX,
            open_requests_max: OPEN_REQUESTS_MAX,
            unreleased_max: 5,
            receive_maximum: NonZeroU16::new(5).unwrap_or(NonZeroU16::MIN),
            topic_alias_maximum: 3,
            given_aliases_max: 3,
            ..Settings::default()
        });
        let now = Instant::now();
        Self {
            machine: Machine::new(settings.clone(), now),
            decoder: Decoder::new(LIMITS),
            now,
            settings,
            refuses: false,
            durable: false,
            session: Session::default(),
            client: Client::default(),
            writes: VecDeque::new(),
            kept: VecDeque::new(),
            requests: VecDeque::new(),
            references: 0,
        }
    }

    /// `false` if the rest is no whole packet.
    fn take_packet(&mut self, input: &mut BytesMut) -> bool {
        if self.machine.is_closed() {
            self.reconnect();
        }
        if !self.machine.wants_input() {
            self.finish_all();
            assert!(self.machine.wants_input() || self.machine.is_closed());
            return true;
        }
        let mut out = Vec::new();
        match self.decoder.decode(input) {
            Ok(None) => return false,
            Ok(Some(packet)) => {
                self.client.says(&packet, &self.settings);
                self.machine.received(packet, self.now, &mut out);
            }
            Err(fault) => {
                let version = self.decoder.version();
                self.client.version = self.client.version.or(version);
                self.machine.faulted(&fault, version, &mut out);
                assert!(self.machine.is_closed());
                input.advance(input.len().min(1));
            }
        }
        self.carry_out(out);
        true
    }

    fn happen(&mut self, what: u8, argument: u8) {
        let mut out = Vec::new();
        match what {
            0 | 1 => {
                let unit = if what == 0 { 10 } else { 10_000 };
                self.now += Duration::from_millis(unit * u64::from(argument));
                self.tick(&mut out);
            }
            2 => self.write_ends(usize::from(argument / 8), argument & 7, &mut out),
            3 => {
                let at = usize::from(argument).min(self.kept.len().saturating_sub(1));
                if let Some(tag) = self.kept.remove(at) {
                    self.machine.kept(tag, self.now, &mut out);
                }
            }
            4 => self.request_ends(usize::from(argument), &mut out),
            5 | 6 => self.deliver(argument, what == 6, &mut out),
            7 => self.machine.close(ReasonCode::SessionTakenOver, &mut out),
            8 => return self.reconnect(),
            9 => self.refuses = argument & 1 != 0,
            10 => self.durable = argument & 1 != 0,
            _ => {}
        }
        self.carry_out(out);
    }

    /// At its deadline a machine ends, or has a later one.
    fn tick(&mut self, out: &mut Vec<Action>) {
        self.machine.tick(self.now, out);
        let late = self.machine.deadline().is_some_and(|at| at <= self.now);
        assert!(!late, "a deadline has passed without an end");
    }

    fn write_ends(&mut self, at: usize, how: u8, out: &mut Vec<Action>) {
        let at = at.min(self.writes.len().saturating_sub(1));
        if let Some(tag) = self.writes.remove(at) {
            let reason = match how {
                0 => ReasonCode::NotAuthorized,
                1 => ReasonCode::QuotaExceeded,
                2 => ReasonCode::NoMatchingSubscribers,
                _ => ReasonCode::Success,
            };
            self.machine.written(tag, reason, out);
        }
    }

    fn request_ends(&mut self, at: usize, out: &mut Vec<Action>) {
        let at = at.min(self.requests.len().saturating_sub(1));
        if let Some((tag, count)) = self.requests.remove(at) {
            let reasons = vec![ReasonCode::Success; count];
            self.machine.subscribed(tag, &reasons, out);
        }
    }

    /// Everything that was asked for has its outcome.
    fn finish_all(&mut self) {
        while !(self.writes.is_empty() && self.kept.is_empty() && self.requests.is_empty()) {
            let mut out = Vec::new();
            self.write_ends(0, 7, &mut out);
            self.request_ends(0, &mut out);
            if let Some(tag) = self.kept.pop_front() {
                self.machine.kept(tag, self.now, &mut out);
            }
            self.carry_out(out);
        }
    }

    fn deliver(&mut self, how: u8, short: bool, out: &mut Vec<Action>) {
        let mut message = Message {
            topic: Text::from_static(["a", "b", "a/b/c", "d"][usize::from(how >> 6)]),
            payload: Bytes::from(vec![b'x'; if how & 32 == 0 { 2 } else { 1500 }]),
            ..Message::default()
        };
        message.properties.message_expiry_s = (how & 16 != 0).then_some(3);
        let message = Arc::new(Published::new(message, self.now));
        let ids: Vec<SubscriptionId> = SubscriptionId::new(u32::from(how & 4))
            .into_iter()
            .collect();
        if short {
            let mut buffer = BytesMut::new();
            let written =
                self.machine
                    .write_now(&message, how & 8 != 0, &ids, self.now, &mut buffer);
            assert_eq!(written == Some(Delivered::Sent), !buffer.is_empty());
            self.client.hears(buffer);
            return;
        }
        self.references += 1;
        let delivery = Delivery {
            message,
            qos: Qos::from_u8(how & 3).unwrap_or(Qos::AtLeastOnce),
            retain: how & 8 != 0,
            subscription_ids: ids
                .first()
                .map_or(SubscriptionIds::None, |id| SubscriptionIds::One(*id)),
            reference: self.references,
        };
        let (qos, was_connected) = (delivery.qos, self.machine.is_connected());
        let delivered = self.machine.deliver(delivery, self.now, out);
        let full = matches!(delivered, Delivered::Full(_));
        assert!(!full || !was_connected || qos.is_acknowledged());
    }

    fn carry_out(&mut self, mut actions: Vec<Action>) {
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                self.client.sees(&action, &self.machine);
                self.act(action, &mut more);
            }
            actions = more;
        }
        assert_eq!(self.machine.is_closed(), self.client.closed);
        if self.machine.is_closed() {
            assert!(!self.machine.wants_input());
            assert_eq!(self.machine.deadline(), None);
        }
        assert!(self.writes.len() <= OPEN_WRITES_MAX);
        assert!(self.requests.len() <= OPEN_REQUESTS_MAX);
        assert!(self.machine.in_flight() <= usize::from(IN_FLIGHT_MAX).max(self.client.flying_max));
    }

    fn act(&mut self, action: Action, out: &mut Vec<Action>) {
        match action {
            Action::Connect(connecting) if self.refuses => {
                drop(connecting);
                self.machine.refused(ReasonCode::NotAuthorized, None, out);
            }
            Action::Connect(connecting) => {
                let clean = connecting.connect.clean_start;
                let session = std::mem::take(&mut self.session);
                let accepted = Accepted {
                    session_present: !clean,
                    durable: self.durable,
                    session: if clean { Session::default() } else { session },
                    ..Accepted::default()
                };
                self.machine.accepted(accepted, self.now, out);
            }
            Action::Publish(publication) => self.writes.push_back(publication.tag),
            Action::Subscribe(subscribing) => {
                let count = subscribing.subscriptions.len();
                self.requests.push_back((subscribing.tag, count));
            }
            Action::Unsubscribe(unsubscribing) => {
                let count = unsubscribing.filters.len();
                self.requests.push_back((unsubscribing.tag, count));
            }
            Action::Keep { tag, .. } => self.kept.extend(tag),
            Action::Send(_) | Action::Deliver(_) | Action::Close => {}
        }
    }

    /// The connection is gone, and its session goes on with another one.
    fn reconnect(&mut self) {
        let mut out = Vec::new();
        self.machine.close(ReasonCode::SessionTakenOver, &mut out);
        self.carry_out(out);
        // Outcomes that come behind the end say nothing.
        self.finish_all();
        assert!(!self.machine.has_open_writes());
        let next = Machine::new(self.settings.clone(), self.now);
        let ended = std::mem::replace(&mut self.machine, next);
        let life = ended.ended();
        assert!(
            life.will_after
                .is_none_or(|after| after.as_secs() <= u64::from(life.session_expiry_s))
        );
        let session = ended.into_session();
        let ids: BTreeSet<PacketId> = session.in_flight.iter().map(|one| one.packet_id).collect();
        assert_eq!(ids.len(), session.in_flight.len());
        if life.session_expiry_s > 0 {
            self.session = session;
        }
        self.decoder = Decoder::new(LIMITS);
        self.client = Client::default();
    }

    fn end(mut self) {
        self.reconnect();
        assert!(self.writes.is_empty() && self.kept.is_empty() && self.requests.is_empty());
    }
}

impl Client {
    fn says(&mut self, packet: &Packet, settings: &Settings) {
        match packet {
            Packet::Connect(connect) if self.version.is_none() => self.begins(connect, settings),
            Packet::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    *self.published.entry(packet_id).or_default() += 1;
                }
            }
            Packet::Subscribe(subscribe) => {
                let asked = self.asked.entry(subscribe.packet_id).or_default();
                asked.push(subscribe.filters.len());
            }
            Packet::Unsubscribe(unsubscribe) => {
                let asked = self.asked.entry(unsubscribe.packet_id).or_default();
                asked.push(unsubscribe.filters.len());
            }
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.in_flight.remove(&ack.packet_id);
            }
            Packet::Pubrec(ack) if ack.reason.is_failure() => {
                self.in_flight.remove(&ack.packet_id);
            }
            _ => {}
        }
    }

    fn begins(&mut self, connect: &Connect, settings: &Settings) {
        self.version = Some(connect.version);
        let properties = &connect.properties;
        let receives = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        self.flying_max = usize::from(receives.min(settings.in_flight_max));
        self.bytes_max = properties.packet_bytes_max.map(|max| max.get() as usize);
        self.alias_max = properties.topic_alias_maximum.unwrap_or(0);
    }

    fn sees(&mut self, action: &Action, machine: &Machine) {
        assert!(!self.closed, "{action:?} behind the end");
        match action {
            Action::Close => self.closed = true,
            Action::Send(packet) => {
                let mut written = BytesMut::new();
                let encoded = encode(packet, machine.version(), &mut written);
                assert_eq!(encoded, Ok(()));
                self.is_told(packet);
                self.hears(written);
            }
            Action::Deliver(deliver) => self.is_delivered(deliver, machine.version()),
            _ => {}
        }
    }

    fn is_told(&mut self, packet: &Packet) {
        let is_5 = self.version.is_some_and(Version::is_5);
        match packet {
            Packet::Connack(_) => {
                self.connacks += 1;
                // 3.2.0-2
                assert_eq!(self.connacks, 1);
                return;
            }
            Packet::Puback(ack) | Packet::Pubrec(ack) => {
                let open = self.published.get_mut(&ack.packet_id);
                let open = open.filter(|open| **open > 0);
                *open.expect("an answer to what was not asked") -= 1;
            }
            Packet::Suback(suback) => {
                self.is_answered(suback.packet_id, Some(suback.reasons.len()));
            }
            Packet::Unsuback(unsuback) => {
                let count = is_5.then_some(unsuback.reasons.len());
                self.is_answered(unsuback.packet_id, count);
            }
            Packet::Pubrel(_) | Packet::Pubcomp(_) | Packet::Pingresp => {}
            // 3.14.0-1
            Packet::Disconnect(_) => assert!(is_5),
            other => panic!("a server sent {other:?}"),
        }
        // 3.2.0-1
        assert_eq!(self.connacks, 1, "{packet:?} before CONNACK");
    }

    fn is_answered(&mut self, packet_id: PacketId, count: Option<usize>) {
        let asked = self.asked.get_mut(&packet_id);
        let asked = asked.expect("an answer to what was not asked");
        let at = asked
            .iter()
            .position(|filters| count.is_none_or(|count| count == *filters));
        asked.remove(at.expect("a reason for each filter"));
    }

    fn is_delivered(&mut self, deliver: &Deliver, version: Version) {
        assert_eq!(self.connacks, 1, "PUBLISH before CONNACK");
        assert_eq!(deliver.packet_id.is_some(), deliver.qos.is_acknowledged());
        assert!(!deliver.dup || deliver.qos.is_acknowledged());
        if let Some(packet_id) = deliver.packet_id {
            // 2.2.1-4, 3.3.4-9
            assert!(self.in_flight.insert(packet_id), "{packet_id} is in use");
            assert!(self.in_flight.len() <= self.flying_max);
        }
        let (mut whole, mut parts) = (BytesMut::new(), BytesMut::new());
        deliver.write(version, &mut whole);
        let shared = deliver.write_head(version, &mut parts);
        parts.extend_from_slice(&shared);
        assert_eq!(whole, parts);
        assert_eq!(deliver.packet_bytes(version), Some(whole.len()));
        if let Alias::Set(alias) | Alias::Use(alias) = deliver.alias {
            assert!(version.is_5() && alias <= self.alias_max);
        }
        self.hears(whole);
    }

    /// Reads what goes out, as a client does.
    fn hears(&mut self, mut written: BytesMut) {
        if written.is_empty() {
            return;
        }
        // 3.1.2-24
        assert!(self.bytes_max.is_none_or(|max| written.len() <= max));
        let version = self.version.unwrap_or(Version::V3_1_1);
        let mut decoder = Decoder::with_version(version, LIMITS);
        // A level that nobody speaks is answered in the form of 5.0.
        if self.version.is_none() {
            return;
        }
        let read = decoder.decode(&mut written);
        assert!(written.is_empty());
        if let Ok(Some(Packet::Publish(publish))) = &read
            && let Some(alias) = publish.topic_alias
        {
            // 3.3.2-8, 3.1.2-26
            assert!(alias > 0 && alias <= self.alias_max);
            if publish.message.topic.is_empty() {
                assert!(self.aliases.contains_key(&alias));
            } else {
                self.aliases.insert(alias, publish.message.topic.clone());
            }
        }
        assert!(matches!(read, Ok(Some(_))), "{read:?}");
    }
}
