//! `[limits]`: what one value, one session and one database may take. Every door keeps to them.

use sapwood_core::Limits;
use serde::{Deserialize, Serialize};

/// `[limits]` in sapwood.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// How deep the tree may be, in segments of a path.
    pub depth_max: usize,
    /// The longest segment of a path, in bytes.
    pub segment_bytes_max: usize,
    /// The largest value of one write, in bytes.
    pub value_bytes_max: usize,
    /// The longest string inside a value, in bytes.
    pub string_bytes_max: usize,
    /// How many writes may wait to be committed, in all; more are refused as busy.
    pub writes_waiting_max: usize,
    /// How many unanswered commands one session may have.
    pub requests_in_flight_max: usize,
    /// How many watches one session may have.
    pub watches_max: usize,
    /// How many writes and messages one session may leave to be done at its end.
    pub at_end_max: usize,
    /// What may wait for one slow client, in bytes; past it, state is conflated and messages are dropped and counted.
    pub outbox_bytes_max: usize,
    /// What may wait for one slow client, in events.
    pub outbox_events_max: usize,
    /// A first state larger than this many bytes is sent in pieces.
    pub first_state_bytes_max: usize,
    /// A value told only because something in it changed follows later where it is larger than this many bytes.
    pub record_bytes_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits {
            depth_max,
            segment_bytes_max,
            value_bytes_max,
            string_bytes_max,
            writes_waiting_max,
            requests_in_flight_max,
            watches_max,
            at_end_max,
            outbox_bytes_max,
            outbox_events_max,
            first_state_bytes_max,
            record_bytes_max,
        } = Limits::default();
        Self {
            depth_max,
            segment_bytes_max,
            value_bytes_max,
            string_bytes_max,
            writes_waiting_max,
            requests_in_flight_max,
            watches_max,
            at_end_max,
            outbox_bytes_max,
            outbox_events_max,
            first_state_bytes_max,
            record_bytes_max,
        }
    }
}

impl LimitsConfig {
    /// As the core takes them.
    pub fn to_core(&self) -> Limits {
        Limits {
            depth_max: self.depth_max,
            segment_bytes_max: self.segment_bytes_max,
            value_bytes_max: self.value_bytes_max,
            string_bytes_max: self.string_bytes_max,
            writes_waiting_max: self.writes_waiting_max,
            requests_in_flight_max: self.requests_in_flight_max,
            watches_max: self.watches_max,
            at_end_max: self.at_end_max,
            outbox_bytes_max: self.outbox_bytes_max,
            outbox_events_max: self.outbox_events_max,
            first_state_bytes_max: self.first_state_bytes_max,
            record_bytes_max: self.record_bytes_max,
        }
    }
}
