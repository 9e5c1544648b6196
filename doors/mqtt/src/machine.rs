//! The protocol's state for one connection: packets, answers and time in; actions out. No I/O.
//!
//! The door decodes a packet when [`Machine::wants_input`] and hands it to [`Machine::received`]; carries out the
//! [`Action`]s in their order; tells the outcomes of what it was asked for by their [`Tag`]s; and asks
//! [`Machine::deadline`] when to call [`Machine::tick`]. Time is an argument, so a test replays an hour at once.
//!
//! What a kept session must remember leaves as [`Change`]s and comes back as a [`Session`]: plain data for whoever
//! stores it. Where the session is durable, an answer that promises memory waits for it (4.3.3): PUBREC for the write
//! that remembers its packet id, PUBREL for the memory of PUBREC, PUBCOMP for the forgetting, and a QoS 2 PUBLISH for
//! that of its own packet id.

mod action;
mod connect;
mod inbound;
mod options;
mod outbound;
mod published;
mod session;
mod settings;
mod subscribe;

#[cfg(test)]
mod tests;

pub use action::{
    Action, Change, Connecting, Deliver, Ended, Publication, Subscribing, Subscription,
    SubscriptionIds, Tag, Unsubscribing,
};
pub use connect::Accepted;
pub use options::Accept;
pub use outbound::{Delivered, Delivery};
pub use published::Published;
pub use session::{InFlight, Session};
pub use settings::{Counts, Settings};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::{
    AckProperties, Disconnect, DisconnectProperties, Fault, Packet, ReasonCode, Text, Version,
    encoded_len,
};

use connect::Client;
use inbound::Inbound;
use outbound::Outbound;
use subscribe::Requests;

/// One connection's state.
#[derive(Debug)]
pub struct Machine {
    settings: Arc<Settings>,
    phase: Phase,
    version: Option<Version>,
    /// When the last whole packet came, or the connection began.
    heard: Instant,
    tags: u64,
    client: Client,
    inbound: Inbound,
    outbound: Outbound,
    requests: Requests,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Silent,
    /// CONNECT has come, and is being judged.
    Connecting,
    Connected,
    /// The end has been said; whether the client had been let in.
    Closed {
        was_connected: bool,
    },
}

impl Machine {
    /// A connection that begins now.
    pub fn new(settings: Arc<Settings>, now: Instant) -> Self {
        Self {
            settings,
            phase: Phase::Silent,
            version: None,
            heard: now,
            tags: 0,
            client: Client::default(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            requests: Requests::default(),
            counts: Counts::default(),
        }
    }

    /// What packets are to be written in; 3.1.1 as long as nobody has said anything else.
    pub fn version(&self) -> Version {
        self.version.unwrap_or(Version::V3_1_1)
    }

    /// Whether the client has been let in and has not left.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether the connection has ended; what was sent before is still to go out.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// What has been dropped and refused on this connection.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a next packet may be read. While it may not, the door leaves bytes in the socket: that is how 3.x,
    /// which has no receive maximum, is slowed down.
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Silent => true,
            Phase::Connecting | Phase::Closed { .. } => false,
            Phase::Connected => {
                self.inbound.open_writes() < self.settings.open_writes_max
                    && self.requests.len() < self.settings.open_requests_max
            }
        }
    }

    /// Takes a packet. Only to be called while [`wants_input`](Self::wants_input).
    pub fn received(&mut self, packet: Packet, now: Instant, out: &mut Vec<Action>) {
        self.heard = now;
        match self.phase {
            Phase::Closed { .. } => {}
            Phase::Silent => self.first(packet, out),
            Phase::Connecting => self.faulted(
                &Fault::protocol("3.1.4-6", "a packet before CONNECT is answered"),
                None,
                out,
            ),
            Phase::Connected => {
                if let Err(fault) = self.next(packet, now, out) {
                    self.faulted(&fault, None, out);
                }
            }
        }
    }

    /// A packet of a client that has been let in.
    fn next(&mut self, packet: Packet, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        match packet {
            Packet::Publish(publish) => self.publish(publish, out),
            Packet::Puback(ack) => self.puback(&ack, now, out),
            Packet::Pubrec(ack) => self.pubrec(&ack, now, out),
            Packet::Pubrel(ack) => self.pubrel(&ack, out),
            Packet::Pubcomp(ack) => self.pubcomp(&ack, now, out),
            Packet::Subscribe(subscribe) => self.subscribe(subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, out),
            Packet::Pingreq => {
                self.send(Packet::Pingresp, out);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.disconnected(&disconnect, out),
            Packet::Connect(_) | Packet::ConnectUnknown(_) => {
                Err(Fault::protocol("3.1.0-2", "a second CONNECT"))
            }
            Packet::Auth(_) => Err(Fault::protocol(
                "4.12.0-7",
                "AUTH without a method in CONNECT",
            )),
            Packet::Connack(_) => Err(Fault::protocol("3.2", "a packet that only servers send")),
            Packet::Suback(_) => Err(Fault::protocol("3.9", "a packet that only servers send")),
            Packet::Unsuback(_) => Err(Fault::protocol("3.11", "a packet that only servers send")),
            Packet::Pingresp => Err(Fault::protocol("3.13", "a packet that only servers send")),
        }
    }

    /// The client broke the standard: says so where the version can, and ends (4.13). `version` is what the decoder
    /// knows by now, if it was the decoder that found it.
    pub fn faulted(&mut self, fault: &Fault, version: Option<Version>, out: &mut Vec<Action>) {
        if self.version.is_none() {
            self.version = version;
        }
        self.counts.faults += u64::from(!self.is_closed());
        self.end_with(fault.reason, Some(Text::from_static(fault.what)), out);
    }

    /// The server ends the connection: another one has the client id now (0x8E), the server stops (0x8B), or the like.
    /// Before the client was let in, this refuses it.
    pub fn close(&mut self, reason: ReasonCode, out: &mut Vec<Action>) {
        self.end_with(reason, None, out);
    }

    fn end_with(&mut self, reason: ReasonCode, words: Option<Text>, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Closed { .. } => return,
            Phase::Silent | Phase::Connecting => {
                // 3.x: only what has a return code of its own is said (3.1.1, 3.2.2.3).
                let is_5 = self.version.is_some_and(Version::is_5);
                if is_5 || self.has_return_code(reason) {
                    self.say_no(reason, words, out);
                }
            }
            // 3.14.0-1: only behind CONNACK, and only in 5.0.
            Phase::Connected if self.version().is_5() => {
                let properties = DisconnectProperties {
                    reason_string: words,
                    ..DisconnectProperties::default()
                };
                self.send(Packet::Disconnect(Disconnect { reason, properties }), out);
            }
            Phase::Connected => {}
        }
        self.shut(out);
    }

    /// Ends without a word.
    fn shut(&mut self, out: &mut Vec<Action>) {
        if !self.is_closed() {
            let was_connected = self.is_connected();
            self.phase = Phase::Closed { was_connected };
            out.push(Action::Close);
        }
    }

    /// When [`tick`](Self::tick) is to be called, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Silent | Phase::Connecting => Some(self.heard + self.settings.connect_timeout),
            Phase::Connected => {
                let keep_alive = self.client.keep_alive?;
                Some(self.heard + keep_alive * 3 / 2)
            }
            Phase::Closed { .. } => None,
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.phase {
            Phase::Connected => {
                self.counts.timeouts += 1;
                self.end_with(ReasonCode::KeepAliveTimeout, None, out);
            }
            Phase::Silent | Phase::Connecting | Phase::Closed { .. } => self.shut(out),
        }
    }

    /// What is to happen now that the socket is gone, whoever closed it. A client that was never let in leaves nothing.
    pub fn ended(&self) -> Ended {
        let was_connected = match self.phase {
            Phase::Silent | Phase::Connecting => false,
            Phase::Connected => true,
            Phase::Closed { was_connected } => was_connected,
        };
        if !was_connected {
            return Ended::default();
        }
        let session_expiry_s = self.client.session_expiry_s;
        let delay_s = self.client.will_delay_s;
        Ended {
            // The session's end is the latest moment (3.1.2-8).
            will_after: delay_s
                .map(|delay_s| Duration::from_secs(u64::from(delay_s.min(session_expiry_s)))),
            session_expiry_s,
        }
    }

    fn tag(&mut self) -> Tag {
        self.tags += 1;
        Tag(self.tags)
    }

    /// A change that was to be kept has been kept.
    pub fn kept(&mut self, tag: Tag, now: Instant, out: &mut Vec<Action>) {
        if self.is_connected() && !self.forgotten(tag, out) {
            self.remembered(tag, now, out);
        }
    }

    /// Sends a packet as this client wants it: without reasons if it does not want any (3.1.2-29), and without what
    /// would make it too large (3.2.2-19 and its like).
    fn send(&mut self, mut packet: Packet, out: &mut Vec<Action>) {
        if self.version().is_5() {
            conform(&mut packet);
            if !self.client.problem_information {
                strip(&mut packet, false);
            }
            if !self.fits(&packet) {
                strip(&mut packet, true);
                if !self.fits(&packet) {
                    // 3.1.2-24: it may not go out, and without it the client can't go on.
                    self.shut(out);
                    return;
                }
            }
        }
        out.push(Action::Send(packet));
    }

    fn fits(&self, packet: &Packet) -> bool {
        let Some(max) = self.client.packet_bytes_max else {
            return true;
        };
        match packet {
            // What goes out most needs no measuring.
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack)
                if max >= 5 && ack.properties.is_empty() =>
            {
                return true;
            }
            _ => {}
        }
        encoded_len(packet, self.version()).is_some_and(|bytes| bytes <= max)
    }
}

/// Gives a packet a reason that it can have, where the door had another (3.2.2-8, 3.4.2-1 and their like).
fn conform(packet: &mut Packet) {
    let within = |reason: &mut ReasonCode, of: &[ReasonCode]| *reason = reason.within(of);
    match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) => within(&mut ack.reason, ReasonCode::OF_PUBACK),
        Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            within(&mut ack.reason, ReasonCode::OF_PUBREL);
        }
        Packet::Connack(connack) => within(&mut connack.reason, ReasonCode::OF_CONNACK),
        Packet::Disconnect(disconnect) => within(&mut disconnect.reason, ReasonCode::OF_DISCONNECT),
        Packet::Suback(suback) => {
            let all = suback.reasons.iter_mut();
            all.for_each(|reason| within(reason, ReasonCode::OF_SUBACK));
        }
        Packet::Unsuback(unsuback) => {
            let all = unsuback.reasons.iter_mut();
            all.for_each(|reason| within(reason, ReasonCode::OF_UNSUBACK));
        }
        Packet::Connect(_)
        | Packet::ConnectUnknown(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::Pingreq
        | Packet::Pingresp
        | Packet::Auth(_) => {}
    }
}

/// Takes reason string and user properties off; from CONNACK and DISCONNECT only if `all` are to go.
fn strip(packet: &mut Packet, all: bool) {
    match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            ack.properties = AckProperties::default();
        }
        Packet::Suback(suback) => suback.properties = AckProperties::default(),
        Packet::Unsuback(unsuback) => unsuback.properties = AckProperties::default(),
        Packet::Connack(connack) if all => {
            connack.properties.reason_string = None;
            connack.properties.user_properties = Default::default();
        }
        Packet::Disconnect(disconnect) if all => {
            disconnect.properties = DisconnectProperties::default();
        }
        Packet::Connack(_)
        | Packet::Disconnect(_)
        | Packet::Connect(_)
        | Packet::ConnectUnknown(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::Pingreq
        | Packet::Pingresp
        | Packet::Auth(_) => {}
    }
}
