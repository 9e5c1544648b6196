//! `[store]`: where and how data is kept.

use std::{path::PathBuf, time::Duration};

use sapwood_core::{LogSettings, RowSettings};
use serde::{Deserialize, Serialize};

/// `[store]` in sapwood.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The data folder; made if it is not there. One process at a time has it.
    pub data: PathBuf,
    /// What an answered write has survived: `"sync"` (flushed to disk before the answer), `"interval"` (in the file
    /// before the answer, flushed every 100 ms: it survives a kill, not a power cut), `"memory"` (nothing on disk).
    pub durability: Durability,
    /// The change log keeps this many bytes of commits at least, so that clients that were away can resume.
    pub retention_bytes: u64,
    /// The change log keeps commits for this many seconds at most, where that is more than one file.
    pub retention_s: u64,
    /// How many bytes of the newest commits are kept in memory, so that clients that come back soon cost no disk.
    pub recent_bytes: usize,
    /// A file of the commit log grows to this many bytes.
    pub segment_bytes: u64,
    /// Memory for records that are read often, in bytes.
    pub cache_bytes: u64,
    /// Memory for the engine's blocks, in bytes.
    pub block_cache_bytes: u64,
    /// Memory for the engine's newest rows, in bytes.
    pub memtable_bytes: u64,
    /// Recent rows in memory, in bytes: beyond it, writes wait for the disk.
    pub backlog_bytes_max: usize,
    /// Room on the disk that rows leave free, for the commit log and the engine's housekeeping, in bytes.
    pub reserve_bytes: u64,
    /// A document whose stored form is larger than this many bytes is cut into several rows.
    pub split_bytes: usize,
}

/// The level that an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Flushed to disk before the answer.
    #[default]
    Sync,
    /// In the file before the answer, flushed every 100 ms.
    Interval,
    /// Nothing on disk.
    Memory,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let (log, rows) = (LogSettings::default(), RowSettings::default());
        Self {
            data: PathBuf::from(".sapwood"),
            durability: Durability::Sync,
            retention_bytes: log.keep_bytes,
            retention_s: log.keep_age.as_secs(),
            recent_bytes: log.recent_bytes,
            segment_bytes: log.segment_bytes,
            cache_bytes: rows.cache_bytes,
            block_cache_bytes: rows.block_cache_bytes,
            memtable_bytes: rows.memtable_bytes,
            backlog_bytes_max: rows.backlog_bytes_max,
            reserve_bytes: rows.reserve_bytes,
            split_bytes: 4096,
        }
    }
}

impl StoreConfig {
    /// The change log's bounds, as the core takes them.
    pub fn log(&self) -> LogSettings {
        LogSettings {
            segment_bytes: self.segment_bytes,
            keep_bytes: self.retention_bytes,
            keep_age: Duration::from_secs(self.retention_s),
            recent_bytes: self.recent_bytes,
        }
    }

    /// The engine's bounds, as the core takes them.
    #[expect(
        clippy::field_reassign_with_default,
        reason = "the struct may grow, so only its own crate can write it out"
    )]
    pub fn rows(&self) -> RowSettings {
        let mut rows = RowSettings::default();
        rows.cache_bytes = self.cache_bytes;
        rows.block_cache_bytes = self.block_cache_bytes;
        rows.memtable_bytes = self.memtable_bytes;
        rows.backlog_bytes_max = self.backlog_bytes_max;
        rows.reserve_bytes = self.reserve_bytes;
        rows
    }
}

impl From<Durability> for sapwood_core::Durability {
    fn from(level: Durability) -> Self {
        match level {
            Durability::Sync => Self::Sync,
            Durability::Interval => Self::Interval,
            Durability::Memory => Self::Memory,
        }
    }
}
