//! What a listener allows, and what has been counted.

use std::num::NonZeroU16;
use std::time::Duration;

use sapwood_tree::Limits;

/// What every connection of a listener may do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long CONNECT, and the judgement of it, may take (reliability, L2).
    pub connect_timeout: Duration,
    /// Unacknowledged messages that a client of 5.0 may have sent (3.2.2.3.3).
    pub receive_maximum: NonZeroU16,
    /// Packet ids of QoS 2 that a client of 3.x may leave unreleased.
    pub unreleased_max: usize,
    /// The largest packet that is taken, told to clients of 5.0; the decoder holds it.
    pub packet_bytes_max: u32,
    /// The highest topic alias that is taken.
    pub topic_alias_maximum: u16,
    /// Topics that are given an alias toward a client, if it takes that many.
    pub given_aliases_max: u16,
    /// Unacknowledged messages toward a client, if it takes that many (L7).
    pub in_flight_max: u16,
    /// Messages that wait for a place in flight (L7).
    pub queued_max: usize,
    /// Bytes of them.
    pub queued_bytes_max: usize,
    /// Writes that wait for their outcome.
    pub open_writes_max: usize,
    /// SUBSCRIBEs and UNSUBSCRIBEs that wait for theirs.
    pub open_requests_max: usize,
    /// The longest keep-alive; a client of 5.0 that wants a longer one, or none, is told so (3.2.2-21).
    pub keep_alive_s_max: Option<u16>,
    /// The longest life of a session without a connection, in seconds.
    pub session_expiry_s_max: u32,
    /// Whether a payload that claims to be text is checked (3.3.2.3.2).
    pub check_payload_format: bool,
    /// Whether a refused publish of 3.x ends the connection; else it is acknowledged as if it had been taken.
    pub close_on_refused_publish: bool,
    /// The limits of paths.
    pub paths: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            receive_maximum: NonZeroU16::new(20).unwrap_or(NonZeroU16::MIN),
            unreleased_max: 1000,
            packet_bytes_max: 16 << 20,
            topic_alias_maximum: 16,
            given_aliases_max: 16,
            in_flight_max: 20,
            queued_max: 1000,
            queued_bytes_max: 1 << 20,
            open_writes_max: 1000,
            open_requests_max: 10,
            keep_alive_s_max: None,
            session_expiry_s_max: 24 * 60 * 60,
            check_payload_format: true,
            close_on_refused_publish: false,
            paths: Limits::default(),
        }
    }
}

/// What has been dropped and refused on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Deliveries of QoS 0 that found no room.
    pub dropped_qos_0: u64,
    /// Deliveries whose time had passed (3.3.2-5).
    pub expired: u64,
    /// Deliveries larger than the client takes (3.1.2-25).
    pub too_large: u64,
    /// Publishes that were refused, with or without an answer that says so.
    pub refused_publishes: u64,
    /// Faults of the client.
    pub faults: u64,
    /// Keep-alives that ran out.
    pub timeouts: u64,
}
