//! Rows of recent commits, in memory, above the engine.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use sapwood_tree::Row;

use super::cache::Weigh;
use super::cuts::Cuts;
use super::stem::Key;

/// What an entry costs beside key and row: nodes, reference counts.
const ENTRY_BYTES: usize = 96;

/// A layer of rows over what lies below it. Cheap to clone; a clone shares all but what changes later.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    pub(crate) rows: RowMap,
    pub(crate) private: OrdMap<Key, Option<Bytes>>,
    /// Cuts made by the commits of this layer.
    pub(crate) cuts: Cuts,
    /// What the layer holds in memory, about.
    pub(crate) bytes: usize,
}

pub(crate) type RowMap = OrdMap<Key, Slot>;

/// What a layer says of a key.
#[derive(Clone)]
pub(crate) struct Slot {
    /// `None`: deleted, whatever lies below.
    pub(crate) row: Option<Arc<Row>>,
    pub(crate) weight: u32,
}

impl Layer {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.private.is_empty() && self.cuts.is_empty()
    }

    /// Lays a row (or its deletion) over what was there.
    pub(crate) fn set(&mut self, key: Key, slot: Slot) {
        let key_bytes = key.len();
        self.bytes += ENTRY_BYTES + key_bytes + slot.weight as usize;
        if let Some(old) = self.rows.insert(key, slot) {
            self.bytes -= ENTRY_BYTES + key_bytes + old.weight as usize;
        }
    }

    /// Takes a row out: what lies below shows again.
    pub(crate) fn unset(&mut self, key: &[u8]) {
        if let Some(old) = self.rows.remove(key) {
            self.bytes -= ENTRY_BYTES + key.len() + old.weight as usize;
        }
    }

    pub(crate) fn set_private(&mut self, key: Key, value: Option<Bytes>) {
        let key_bytes = key.len();
        self.bytes += ENTRY_BYTES + key_bytes + value.as_ref().map_or(0, Bytes::len);
        if let Some(old) = self.private.insert(key, value) {
            self.bytes -= ENTRY_BYTES + key_bytes + old.map_or(0, |old| old.len());
        }
    }

    pub(crate) fn unset_private(&mut self, key: &[u8]) {
        if let Some(old) = self.private.remove(key) {
            self.bytes -= ENTRY_BYTES + key.len() + old.map_or(0, |old| old.len());
        }
    }
}

impl Slot {
    pub(crate) fn new(row: Option<Arc<Row>>) -> Self {
        let weight = row.as_ref().map_or(0, Weigh::weigh);
        Self {
            row,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
        }
    }
}

/// An ordered walk over one map with its next entry in sight.
pub(crate) struct Peek<'a, V> {
    iter: imbl::ordmap::RangedIter<'a, Key, V, imbl::shared_ptr::DefaultSharedPtr>,
    pub(crate) head: Option<(&'a Key, &'a V)>,
}

impl<'a, V> Peek<'a, V> {
    pub(crate) fn new(map: &'a OrdMap<Key, V>, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Self {
        let mut iter = map.range::<_, [u8]>((from, to));
        let head = iter.next();
        Self { iter, head }
    }

    pub(crate) fn step(&mut self) {
        self.head = self.iter.next();
    }
}
