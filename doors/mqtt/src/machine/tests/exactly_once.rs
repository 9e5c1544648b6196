//! QoS 2 both ways over connections that break and a server that dies at any moment (4.3.3, 4.4; reliability, C5).

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const MESSAGES: usize = 12;

/// What is durable: as a store would keep it, it changes by whole commits, in order.
#[derive(Default)]
struct Store {
    /// What clients' messages did, by their payloads.
    applied: Vec<usize>,
    unreleased: BTreeSet<PacketId>,
    in_flight: Vec<InFlight>,
    /// The first message that has not been given a packet id.
    cursor: usize,
    last_packet_id: u16,
}

/// What the store is asked for.
enum Commit {
    Write {
        tag: Tag,
        payload: usize,
        remember: Option<PacketId>,
    },
    Keep(Option<Tag>, Change),
}

impl Store {
    fn commit(&mut self, commit: &Commit) {
        match commit {
            Commit::Write {
                payload, remember, ..
            } => {
                self.applied.push(*payload);
                self.unreleased.extend(*remember);
            }
            Commit::Keep(_, change) => self.keep(change),
        }
    }

    fn keep(&mut self, change: &Change) {
        match change {
            Change::Forget(packet_id) => {
                self.unreleased.remove(packet_id);
            }
            Change::Assign {
                packet_id,
                delivery,
            } => {
                let (packet_id, reference) = (*packet_id, delivery.reference);
                self.last_packet_id = packet_id.get();
                self.cursor = reference as usize + 1;
                self.in_flight.push(InFlight {
                    packet_id,
                    qos: delivery.qos,
                    sent: true,
                    received: false,
                    reference,
                    delivery: None,
                });
            }
            Change::Received { packet_id, .. } => {
                let mut all = self.in_flight.iter_mut();
                all.find(|one| one.packet_id == *packet_id)
                    .unwrap()
                    .received = true;
            }
            Change::Settle { packet_id, .. } => {
                self.in_flight.retain(|one| one.packet_id != *packet_id);
            }
            Change::Skip { .. } => panic!("nothing expires here"),
        }
    }
}

/// A client that does as the standard says, and never forgets.
#[derive(Default)]
struct Client {
    got: Vec<usize>,
    unreleased: BTreeSet<PacketId>,
    /// Its own messages that are not done: id, payload, whether PUBREC has come.
    sending: VecDeque<(PacketId, usize, bool)>,
    next: usize,
}

fn numbered(packet_id: PacketId, payload: usize, dup: bool) -> Packet {
    Packet::Publish(Publish {
        dup,
        qos: Q2,
        retain: false,
        packet_id: Some(packet_id),
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: message("t", &payload.to_string()),
    })
}

fn number(message: &Message) -> usize {
    std::str::from_utf8(&message.payload)
        .unwrap()
        .parse()
        .unwrap()
}

impl Client {
    fn publish(&mut self) -> Option<Packet> {
        if self.next == MESSAGES || self.sending.len() == 3 {
            return None;
        }
        let free = (1..).find(|n| self.sending.iter().all(|one| one.0.get() != *n));
        let packet_id = id(free.unwrap());
        self.sending.push_back((packet_id, self.next, false));
        self.next += 1;
        Some(numbered(packet_id, self.next - 1, false))
    }

    fn again(&self) -> Vec<Packet> {
        let packet = |one: &(PacketId, usize, bool)| match one.2 {
            true => pubrel(one.0.get()),
            false => numbered(one.0, one.1, true),
        };
        self.sending.iter().map(packet).collect()
    }

    fn receive(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(publish) => {
                let packet_id = publish.packet_id.unwrap();
                if self.unreleased.insert(packet_id) {
                    self.got.push(number(&publish.message));
                }
                Some(pubrec(packet_id.get()))
            }
            Packet::Pubrel(ack) => {
                self.unreleased.remove(&ack.packet_id);
                Some(pubcomp(ack.packet_id.get()))
            }
            Packet::Pubrec(ack) => {
                let mut all = self.sending.iter_mut();
                let one = all.find(|one| one.0 == ack.packet_id)?;
                one.2 = true;
                Some(pubrel(ack.packet_id.get()))
            }
            Packet::Pubcomp(ack) => {
                self.sending.retain(|one| one.0 != ack.packet_id);
                None
            }
            Packet::Connack(_) => None,
            other => panic!("{other:?}"),
        }
    }
}

struct World {
    version: Version,
    /// Whether the session is in the store, or in memory only, where it outlives connections and no server.
    durable: bool,
    machine: Machine,
    now: Instant,
    store: Store,
    /// Commits that are not durable yet.
    pending: VecDeque<Commit>,
    client: Client,
    to_client: VecDeque<Packet>,
    to_server: VecDeque<Packet>,
    /// The next message to hand to the machine.
    next: usize,
    /// Messages whose time was over before the server was back: it does not send them, if it does not know that it has.
    expired: BTreeSet<usize>,
}

impl World {
    fn new(version: Version, durable: bool) -> Self {
        let now = Instant::now();
        let mut world = Self {
            version,
            durable,
            machine: Machine::new(Arc::new(Settings::default()), now),
            now,
            store: Store::default(),
            pending: VecDeque::new(),
            client: Client::default(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            next: 0,
            expired: BTreeSet::new(),
        };
        world.connect(Session::default());
        world
    }

    fn outgoing(&self, n: usize) -> Delivery {
        Delivery {
            message: Arc::new(Published::new(message("t", &n.to_string()), self.now)),
            qos: Q2,
            retain: false,
            subscription_ids: SubscriptionIds::None,
            reference: n as u64,
        }
    }

    /// The session as the store has it.
    fn stored(&mut self) -> Session {
        let in_flight = self.store.in_flight.iter().cloned().map(|mut one| {
            one.delivery = Some(self.outgoing(one.reference as usize));
            one
        });
        let session = Session {
            unreleased: self.store.unreleased.iter().copied().collect(),
            in_flight: in_flight.collect(),
            queue: Vec::new(),
            last_packet_id: self.store.last_packet_id,
        };
        self.next = self.store.cursor;
        session
    }

    /// The socket breaks: what the store was asked for is done before the session is taken up again.
    fn break_off(&mut self) {
        let told = !self.durable;
        while self.commit(told) {}
        let session = if self.durable {
            self.stored()
        } else {
            let fresh = Machine::new(Arc::new(Settings::default()), self.now);
            std::mem::replace(&mut self.machine, fresh).into_session()
        };
        self.connect(session);
    }

    /// The server dies, and with it all that was under way: perhaps between a commit and its answer.
    fn die(&mut self, behind_a_commit: bool, expires: bool) {
        if behind_a_commit {
            self.commit(false);
        }
        self.pending.clear();
        if expires {
            self.expired.insert(self.store.cursor);
        }
        let session = self.stored();
        self.connect(session);
    }

    /// A new connection.
    fn connect(&mut self, session: Session) {
        self.to_client.clear();
        self.to_server.clear();
        self.machine = Machine::new(Arc::new(Settings::default()), self.now);
        let mut out = Vec::new();
        let mut hello = hello(self.version);
        hello.properties.receive_maximum = NonZeroU16::new(3);
        self.machine
            .received(Packet::Connect(Box::new(hello)), self.now, &mut out);
        out.clear();
        let accepted = Accepted {
            session_present: true,
            durable: self.durable,
            session,
            ..Accepted::default()
        };
        self.machine.accepted(accepted, self.now, &mut out);
        self.act(out);
        self.to_server.extend(self.client.again());
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(packet) => self.to_client.push_back(packet),
                Action::Deliver(deliver) => {
                    let payload = number(deliver.message.message());
                    let packet = numbered(deliver.packet_id.unwrap(), payload, deliver.dup);
                    self.to_client.push_back(packet);
                }
                Action::Publish(publication) => self.pending.push_back(Commit::Write {
                    tag: publication.tag,
                    payload: number(&publication.message),
                    remember: publication.remember,
                }),
                Action::Keep { tag, change } => self.pending.push_back(Commit::Keep(tag, change)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The store makes the first of what it was asked for durable. Nobody may hear of it.
    fn commit(&mut self, told: bool) -> bool {
        let Some(commit) = self.pending.pop_front() else {
            return false;
        };
        self.store.commit(&commit);
        let mut out = Vec::new();
        if told {
            match commit {
                Commit::Write { tag, .. } => {
                    self.machine.written(tag, ReasonCode::Success, &mut out);
                }
                Commit::Keep(Some(tag), _) => self.machine.kept(tag, self.now, &mut out),
                Commit::Keep(None, _) => {}
            }
        }
        self.act(out);
        true
    }

    fn serve(&mut self) -> bool {
        let Some(packet) = self.to_server.pop_front() else {
            return false;
        };
        let mut out = Vec::new();
        self.machine.received(packet, self.now, &mut out);
        self.act(out);
        true
    }

    fn listen(&mut self) -> bool {
        let Some(packet) = self.to_client.pop_front() else {
            return false;
        };
        let answer = self.client.receive(packet);
        self.to_server.extend(answer);
        true
    }

    fn publish(&mut self) -> bool {
        let packet = self.client.publish();
        let some = packet.is_some();
        self.to_server.extend(packet);
        some
    }

    fn deliver(&mut self) -> bool {
        if self.next == MESSAGES || self.machine.room() == 0 {
            return false;
        }
        let delivery = self.outgoing(self.next);
        self.next += 1;
        if self.expired.contains(&(self.next - 1)) {
            return true;
        }
        let mut out = Vec::new();
        let delivered = self.machine.deliver(delivery, self.now, &mut out);
        assert!(matches!(delivered, Delivered::Sent | Delivered::Queued));
        self.act(out);
        true
    }

    fn step(&mut self, choice: u8) {
        match choice {
            0..60 => drop(self.serve()),
            60..120 => drop(self.listen()),
            120..180 => drop(self.commit(true)),
            180..210 => drop(self.publish()),
            210..240 => drop(self.deliver()),
            _ if !self.durable || choice < 248 => self.break_off(),
            _ => self.die(choice.is_multiple_of(2), choice > 252),
        }
    }

    fn settle(&mut self) {
        while self.serve() || self.listen() || self.commit(true) || self.publish() || self.deliver()
        {
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_message_acts_once_and_in_order(choices in prop::collection::vec(any::<u8>(), 0..400), v5 in any::<bool>(), durable in any::<bool>()) {
        let mut world = World::new(if v5 { Version::V5 } else { Version::V3_1_1 }, durable);
        for choice in choices {
            world.step(choice);
        }
        world.settle();
        let all: Vec<usize> = (0..MESSAGES).collect();
        let got = |n: &usize| world.client.got.contains(n) || !world.expired.contains(n);
        let sent: Vec<usize> = all.iter().copied().filter(got).collect();
        prop_assert_eq!(&world.client.got, &sent);
        prop_assert_eq!(&world.store.applied, &all);
        prop_assert!(world.store.in_flight.is_empty());
        prop_assert!(world.store.unreleased.is_empty());
        prop_assert!(world.client.unreleased.is_empty());
    }
}
