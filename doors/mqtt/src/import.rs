//! Takes over what another broker has retained: a client of that one, and a client of the broker that is to have it.
//!
//! A broker has no word for the end of what it has retained. It is taken to be over when no topic has come that had not come
//! before, for a while, and a ping that was sent behind the subscriptions has been answered.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{Address, DialError, Hello, Lost, Speech, Wire, dial, in_words, not_expected};
use crate::codec::{
    Message, Packet, PacketId, Publish, Qos, RetainHandling, Subscribe, SubscribeFilter,
    SubscribeProperties, Text, VARINT_MAX, encode,
};

/// How many messages are on their way to the target at most, if it takes so many.
const WINDOW_MAX: u16 = 256;

/// How many bytes of messages that have not been sent yet wait before no more is read.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// How many of the messages that were refused are named.
const NAMED_MAX: usize = 10;

/// How long the target may take for an acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);

const PING_INTERVAL: Duration = Duration::from_secs(1);

/// One broker of the two.
#[derive(Clone)]
pub struct Party {
    /// Where it is.
    pub address: Address,
    /// Who it is told that we are.
    pub user_name: Option<Text>,
    /// What proves it.
    pub password: Option<Vec<u8>>,
}

/// What is to be taken over.
#[derive(Clone)]
pub struct Import {
    /// Who has it.
    pub from: Party,
    /// Who is to have it.
    pub to: Party,
    /// Which topics.
    pub filters: Vec<Text>,
    /// What is put in front of each topic.
    pub prefix: String,
    /// How long no new topic may come before it is taken to be all.
    pub quiet: Duration,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Retained messages that came.
    pub received: u64,
    /// Of them, those that the target has acknowledged.
    pub acknowledged: u64,
    /// Those that the target has refused, or that could not be sent to it.
    pub refused: u64,
    /// Bytes of the payloads that came.
    pub bytes: u64,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// The figures at the end.
    pub progress: Progress,
    /// The first of the messages that were not taken: topic, and why.
    pub refused: Vec<(String, String)>,
}

/// Why not all was taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The source does not let us in.
    #[error("{0}: {1}")]
    Source(Address, #[source] DialError),
    /// The target does not let us in.
    #[error("{0}: {1}")]
    Target(Address, #[source] DialError),
    /// The source does not let us subscribe.
    #[error("{0} refused the filter {1:?}: {2}")]
    Filter(Address, String, String),
    /// A connection has ended.
    #[error("{0}: {1}")]
    Lost(Address, #[source] Lost),
    /// The target does not acknowledge.
    #[error("{0} has not acknowledged anything for a minute")]
    Stuck(Address),
    /// The target can't retain.
    #[error("{0} does not retain messages")]
    Retain(Address),
}

/// Takes over what is retained. `tell` gets the figures now and then.
///
/// What changes at the source meanwhile is taken over, too, where it speaks 5.0: 3.1.1 does not tell changes of what is retained
/// from other messages.
///
/// # Errors
/// If it could not be done; what was acknowledged by then stays.
pub async fn import(import: Import, tell: impl FnMut(Progress)) -> Result<Imported, ImportError> {
    let source_lost = |lost| ImportError::Lost(import.from.address.clone(), lost);
    let (mut target, receive_maximum) = open_target(&import.to).await?;
    let (mut source, _) = open(&import.from)
        .await
        .map_err(|error| ImportError::Source(import.from.address.clone(), error))?;
    let early = subscribe(&mut source, &import).await?;
    let mut transfer = Transfer {
        import: &import,
        window: usize::from(receive_maximum.min(WINDOW_MAX)),
        tell,
        imported: Imported::default(),
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        in_flight: VecDeque::new(),
        last_packet_id: 0,
        hasher: RandomState::new(),
        seen: HashSet::new(),
        quiet_since: Instant::now(),
        acknowledged_at: Instant::now(),
        pinged: false,
    };
    for packet in early {
        transfer.received(packet).map_err(source_lost)?;
    }
    transfer.run(&mut source, &mut target).await?;
    source.part().await;
    target.part().await;
    Ok(transfer.imported)
}

/// Connects as somebody who leaves nothing behind, in 5.0 or, if need be, in 3.1.1.
async fn open(party: &Party) -> Result<(Wire<TcpStream>, crate::codec::Connack), DialError> {
    let hello = Hello {
        client_id: Text::new(&format!("sapwood-import-{:08x}", rand::random::<u32>()))
            .unwrap_or_default(),
        user_name: party.user_name.clone(),
        password: party.password.clone().map(Bytes::from),
        keep_alive_s: 60,
        clean_start: true,
        session_expiry_s: 0,
        receive_maximum: None,
        packet_bytes_max: NonZeroU32::new(VARINT_MAX),
    };
    match dial(&party.address, Speech::V5, hello.clone()).await {
        Err(DialError::Version(_)) => dial(&party.address, Speech::V3, hello).await,
        opened => opened,
    }
}

async fn open_target(party: &Party) -> Result<(Wire<TcpStream>, u16), ImportError> {
    let (wire, connack) = open(party)
        .await
        .map_err(|error| ImportError::Target(party.address.clone(), error))?;
    if connack.properties.retain_available == Some(false) {
        return Err(ImportError::Retain(party.address.clone()));
    }
    let window = connack.properties.receive_maximum.map_or(20, u16::from);
    Ok((wire, window))
}

/// Subscribes to all filters; what came before the answers.
///
/// At QoS 0: a broker bounds what waits for a client at QoS 1 and 2, and drops in silence what is more; here a connection that
/// fails is an error anyway.
async fn subscribe(
    wire: &mut Wire<TcpStream>,
    import: &Import,
) -> Result<Vec<Packet>, ImportError> {
    let address = &import.from.address;
    let lost = |lost| ImportError::Lost(address.clone(), lost);
    let mut early = Vec::new();
    for filter in &import.filters {
        let packet = Packet::Subscribe(Subscribe {
            packet_id: PacketId::MIN,
            properties: SubscribeProperties::default(),
            filters: vec![SubscribeFilter {
                filter: filter.clone(),
                qos: Qos::AtMostOnce,
                no_local: false,
                retain_as_published: true,
                retain_handling: RetainHandling::Send,
            }],
        });
        wire.send(&packet).map_err(lost)?;
        loop {
            match wire.next().await.map_err(lost)? {
                Packet::Suback(suback) => {
                    let failed = suback.reasons.first().filter(|reason| reason.is_failure());
                    if let Some(reason) = failed {
                        let (filter, reason) = (filter.as_str().to_owned(), in_words(*reason, ""));
                        return Err(ImportError::Filter(address.clone(), filter, reason));
                    }
                    break;
                }
                packet => early.push(packet),
            }
        }
    }
    Ok(early)
}

/// What goes from one to the other.
struct Transfer<'a, T> {
    import: &'a Import,
    window: usize,
    tell: T,
    imported: Imported,
    /// Not sent yet.
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    /// Sent, and not acknowledged: in the order of sending, in which a broker answers.
    in_flight: VecDeque<(PacketId, Text)>,
    last_packet_id: u16,
    hasher: RandomState,
    /// The topics that have come.
    seen: HashSet<u64>,
    /// When the last one came that had not come before.
    quiet_since: Instant,
    acknowledged_at: Instant,
    /// A ping is open at the source.
    pinged: bool,
}

impl<T: FnMut(Progress)> Transfer<'_, T> {
    async fn run(
        &mut self,
        source: &mut Wire<TcpStream>,
        target: &mut Wire<TcpStream>,
    ) -> Result<(), ImportError> {
        let (from, to) = (&self.import.from.address, &self.import.to.address);
        let source_lost = |lost| ImportError::Lost(from.clone(), lost);
        let target_lost = |lost| ImportError::Lost(to.clone(), lost);
        let mut tick = tokio::time::interval(PING_INTERVAL);
        while !self.is_over() {
            self.send(target);
            let has_room = self.waiting_bytes < WAITING_BYTES_MAX;
            tokio::select! {
                packet = source.next(), if has_room => {
                    let packet = packet.map_err(source_lost)?;
                    self.received(packet).map_err(source_lost)?;
                }
                packet = target.next() => {
                    let packet = packet.map_err(target_lost)?;
                    self.answered(packet).map_err(target_lost)?;
                }
                _ = tick.tick() => {
                    (self.tell)(self.imported.progress);
                    let now = Instant::now();
                    if !self.in_flight.is_empty() && now - self.acknowledged_at > ACK_TIMEOUT {
                        return Err(ImportError::Stuck(to.clone()));
                    }
                    if has_room {
                        self.pinged = true;
                        source.send(&Packet::Pingreq).map_err(source_lost)?;
                    }
                    target.send(&Packet::Pingreq).map_err(target_lost)?;
                }
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let is_done = self.waiting.is_empty() && self.in_flight.is_empty() && !self.pinged;
        is_done && self.quiet_since.elapsed() >= self.import.quiet
    }

    /// A packet of the source. What is not retained is none of ours.
    fn received(&mut self, packet: Packet) -> Result<(), Lost> {
        match packet {
            Packet::Publish(publish) if publish.retain => {
                let message = publish.message;
                if self
                    .seen
                    .insert(self.hasher.hash_one(message.topic.as_bytes()))
                {
                    self.quiet_since = Instant::now();
                }
                self.imported.progress.received += 1;
                self.imported.progress.bytes += message.payload.len() as u64;
                self.waiting_bytes += weight(&message);
                self.waiting.push_back(message);
                Ok(())
            }
            Packet::Publish(_) => Ok(()),
            Packet::Pingresp => {
                self.pinged = false;
                Ok(())
            }
            other => Err(not_expected(&other)),
        }
    }

    /// Sends what may be on its way.
    fn send(&mut self, target: &mut Wire<TcpStream>) {
        while self.in_flight.len() < self.window
            && let Some(message) = self.waiting.pop_front()
        {
            self.waiting_bytes -= weight(&message);
            if self.in_flight.is_empty() {
                self.acknowledged_at = Instant::now();
            }
            let topic = format!("{}{}", self.import.prefix, message.topic.as_str());
            let topic = match Text::new(&topic) {
                Ok(topic) => topic,
                Err(error) => {
                    self.refuse(topic, error.to_string());
                    continue;
                }
            };
            let packet_id = self.next_packet_id();
            let packet = Packet::Publish(Publish {
                dup: false,
                qos: Qos::AtLeastOnce,
                retain: true,
                packet_id: Some(packet_id),
                topic_alias: None,
                subscription_ids: Vec::new(),
                message: Message {
                    topic: topic.clone(),
                    ..message
                },
            });
            match encode(&packet, target.version(), &mut target.out) {
                Ok(()) => self.in_flight.push_back((packet_id, topic)),
                Err(error) => self.refuse(topic.as_str().to_owned(), error.to_string()),
            }
        }
    }

    fn next_packet_id(&mut self) -> PacketId {
        // The window is far smaller than there are ids, and answers come in order.
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_packet_id).unwrap_or(PacketId::MIN)
    }

    /// A packet of the target.
    fn answered(&mut self, packet: Packet) -> Result<(), Lost> {
        let ack = match packet {
            Packet::Puback(ack) => ack,
            Packet::Pingresp => return Ok(()),
            other => return Err(not_expected(&other)),
        };
        let is_it = |(packet_id, _): &(PacketId, Text)| *packet_id == ack.packet_id;
        let at = self.in_flight.iter().position(is_it);
        if let Some((_, topic)) = at.and_then(|at| self.in_flight.remove(at)) {
            self.acknowledged_at = Instant::now();
            if ack.reason.is_failure() {
                let words = ack.properties.reason_string.as_ref();
                let why = in_words(ack.reason, words.map_or("", |words| words.as_str()));
                self.refuse(topic.as_str().to_owned(), why);
            } else {
                self.imported.progress.acknowledged += 1;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, topic: String, why: String) {
        self.imported.progress.refused += 1;
        if self.imported.refused.len() < NAMED_MAX {
            self.imported.refused.push((topic, why));
        }
    }
}

fn weight(message: &Message) -> usize {
    256 + message.topic.len() + message.payload.len()
}
