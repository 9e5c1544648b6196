//! `[store]`: where and how data is kept.

use std::path::PathBuf;

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
    /// The change log keeps at least this many bytes of commits, so that a client that was away can resume.
    pub retention_bytes: u64,
    /// A file of the commit log grows to this many bytes.
    pub segment_bytes: u64,
    /// Memory for records that are read often, in bytes.
    pub cache_bytes: u64,
    /// A document whose stored form is larger than this many bytes is cut into several rows.
    pub split_bytes: u64,
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
        Self {
            data: PathBuf::from(".sapwood"),
            durability: Durability::Sync,
            retention_bytes: 256 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            split_bytes: 4096,
        }
    }
}
