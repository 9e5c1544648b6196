//! What outlives a connection, as plain data.

use crate::codec::{PacketId, Qos};

use super::{Delivery, Machine};

/// The protocol's part of a session (4.1): subscriptions and waiting messages are the door's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Session {
    /// Packet ids of QoS 2 messages from the client that it has not released yet.
    pub unreleased: Vec<PacketId>,
    /// Messages toward the client that it is not done with, in the order in which they were sent.
    pub in_flight: Vec<InFlight>,
    /// Messages of QoS 1 and 2 that wait for a place in flight, in order. Where the session is durable they are in its
    /// queue elsewhere, and this means nothing.
    pub queue: Vec<Delivery>,
    /// The last packet id that was given.
    pub last_packet_id: u16,
}

/// A message toward the client that it is not done with.
#[derive(Debug, Clone, PartialEq)]
pub struct InFlight {
    /// Its packet id, on every connection.
    pub packet_id: PacketId,
    /// 1 or 2.
    pub qos: Qos,
    /// Whether it may have gone out already.
    pub sent: bool,
    /// Whether the client has it (QoS 2), so that only the release is left.
    pub received: bool,
    /// [`Delivery::reference`].
    pub reference: u64,
    /// The message; none where it is no longer needed or not there any more.
    pub delivery: Option<Delivery>,
}

impl Machine {
    /// What outlives this connection, as of now.
    pub fn into_session(self) -> Session {
        let (in_flight, queue, last_packet_id) = self.outbound.into_parts();
        Session {
            unreleased: self.inbound.into_unreleased(),
            in_flight,
            queue,
            last_packet_id,
        }
    }
}
