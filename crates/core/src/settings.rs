//! What the core is told when it starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sapwood_store::rows::RowSettings;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::gate::Gate;

/// What an acknowledgement means (design, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Flushed to disk before the answer.
    #[default]
    Sync,
    /// In the file before the answer, flushed every 100 ms: it survives a kill, not a power cut.
    Interval,
    /// Nothing on disk.
    Memory,
}

/// Everything the core needs to start.
#[derive(Clone)]
pub struct CoreSettings {
    /// The data folder; none with [`Durability::Memory`].
    pub data: Option<PathBuf>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// The databases; the one named `default` is there in any case.
    pub databases: Vec<DatabaseSettings>,
    /// What one value, one session and one database may take.
    pub limits: Limits,
    /// The change log's bounds.
    pub log: LogSettings,
    /// The rows' engine.
    pub rows: RowSettings,
    /// Rows larger than this, in bytes, are split.
    pub split_bytes: usize,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What decides.
    pub gate: Gate,
}

impl CoreSettings {
    /// A core that keeps everything in memory, open to all.
    pub fn memory() -> Self {
        Self {
            data: None,
            durability: Durability::Memory,
            databases: Vec::new(),
            limits: Limits::default(),
            log: LogSettings::default(),
            rows: RowSettings::default(),
            split_bytes: 4096,
            clock: Arc::new(SystemClock::default()),
            gate: Gate::Open,
        }
    }

    /// A core that keeps its data in a folder, open to all.
    pub fn folder(data: PathBuf) -> Self {
        Self {
            data: Some(data),
            durability: Durability::Sync,
            ..Self::memory()
        }
    }
}

/// One database.
#[derive(Debug, Clone, Default)]
pub struct DatabaseSettings {
    /// Its name.
    pub name: String,
    /// Declared resources, such as `sensors/{id}`.
    pub declared: Vec<String>,
}

/// Bounds of the change log.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// The size of a segment file.
    pub segment_bytes: u64,
    /// How much of the log is kept for clients that come back.
    pub keep_bytes: u64,
    /// How long it is kept.
    pub keep_age: Duration,
    /// How much of the newest is kept in memory.
    pub recent_bytes: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            keep_bytes: 1 << 30,
            keep_age: Duration::from_secs(7 * 24 * 3600),
            recent_bytes: 8 << 20,
        }
    }
}

/// `[limits]` in sapwood.toml: what one value, one session and one database may take. Every door keeps to them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How deep the tree may be, in segments of a path.
    pub depth_max: usize,
    /// The longest segment of a path, in bytes.
    pub segment_bytes_max: usize,
    /// The largest value of one write, in bytes.
    pub value_bytes_max: usize,
    /// The longest string inside a value, in bytes.
    pub string_bytes_max: usize,
    /// How deep maps and arrays may lie within each other in what a client sends.
    pub parse_depth_max: usize,
    /// The memory that one value may take once it is read, in bytes: small items take more there than on the wire.
    pub value_memory_bytes_max: usize,
    /// The memory that all large bodies together may take while they are read, in bytes; past it, they wait their turn.
    pub decode_bytes_max: usize,
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
    /// What may wait for one slow client for longer than `outbox_soft_s`, in bytes; then it is as if `outbox_bytes_max` were met.
    pub outbox_soft_bytes_max: usize,
    /// How long more than `outbox_soft_bytes_max` may wait for one slow client, in seconds.
    pub outbox_soft_s: u64,
    /// A first state larger than this many bytes is sent in pieces.
    pub first_state_bytes_max: usize,
    /// A value told only because something in it changed follows later where it is larger than this many bytes.
    pub record_bytes_max: usize,
    /// How many messages and changes are kept for durable sessions, in all; past it the oldest go.
    pub kept_messages_max: usize,
    /// What is kept for durable sessions, in bytes; past it the oldest go.
    pub kept_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 32,
            segment_bytes_max: 768,
            value_bytes_max: 16 << 20,
            string_bytes_max: 10 << 20,
            parse_depth_max: 64,
            value_memory_bytes_max: 192 << 20,
            decode_bytes_max: 192 << 20,
            writes_waiting_max: 8192,
            requests_in_flight_max: 256,
            watches_max: 1000,
            at_end_max: 100,
            outbox_bytes_max: 1 << 20,
            outbox_events_max: 1000,
            outbox_soft_bytes_max: 256 << 10,
            outbox_soft_s: 10,
            first_state_bytes_max: 256 << 10,
            record_bytes_max: 64 << 10,
            kept_messages_max: 1_000_000,
            kept_bytes_max: 1 << 30,
        }
    }
}

impl Limits {
    /// Counts that a limit was met, by the full name of its setting: `limits.value_bytes_max`.
    pub fn met(setting: &'static str) {
        metrics::counter!("sapwood_limits_total", "limit" => setting).increment(1);
    }

    /// The bounds of a value that a client sends, for its decoder.
    pub fn decoder(&self) -> sapwood_value::Limits {
        sapwood_value::Limits {
            depth: self.parse_depth_max,
            value_bytes: self.value_bytes_max,
            string_bytes: self.string_bytes_max,
            memory_bytes: self.value_memory_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_bounded_as_its_decoder_bounds_it_by_itself() {
        assert_eq!(
            Limits::default().decoder(),
            sapwood_value::Limits::default()
        );
    }

    #[test]
    fn a_body_of_ten_megabytes_of_small_numbers_is_taken() {
        let zeros = format!("[0{}]", ",0".repeat(5_000_000 - 1));
        let value =
            sapwood_value::Format::Json.decode(zeros.as_bytes(), &Limits::default().decoder());
        assert!(value.is_ok());
    }
}
