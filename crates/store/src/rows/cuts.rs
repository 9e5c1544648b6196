//! Cuts: subtrees whose rows are dead though they still lie in the store.

use std::sync::Arc;

use imbl::OrdMap;

use super::stem::{self, Key};

/// A set of cuts: by the stem of the path, the sequence of the commit that cut there.
///
/// A row is dead if a strict ancestor of its path was cut by a commit later than the one that wrote the row.
#[derive(Clone, Default)]
pub(crate) struct Cuts {
    by_stem: OrdMap<Key, u64>,
}

impl Cuts {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_stem.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_stem.len()
    }

    pub(crate) fn insert(&mut self, stem: &[u8], seq: u64) {
        let newest = self.by_stem.get(stem).map_or(seq, |old| seq.max(*old));
        self.by_stem.insert(Arc::from(stem), newest);
    }

    /// Takes the cut at a place out, unless it is later than `seq`.
    pub(crate) fn remove_up_to(&mut self, stem: &[u8], seq: u64) {
        if self.at(stem).is_some_and(|cut| cut <= seq) {
            self.by_stem.remove(stem);
        }
    }

    /// The sequence of the cut at exactly this place.
    pub(crate) fn at(&self, stem: &[u8]) -> Option<u64> {
        self.by_stem.get(stem).copied()
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        for (stem, seq) in &other.by_stem {
            self.insert(stem, *seq);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, u64)> {
        self.by_stem.iter().map(|(stem, seq)| (stem, *seq))
    }

    pub(crate) fn first(&self) -> Option<(Key, u64)> {
        self.by_stem.get_min().cloned()
    }

    /// Whether a row with this key, written by the commit `written`, is dead.
    pub(crate) fn hides(&self, key: &[u8], written: u64) -> bool {
        self.above(key).any(|(_, seq)| seq > written)
    }

    /// The stem of the outermost cut strictly above this key.
    pub(crate) fn outermost<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        self.above(key).next().map(|(stem, _)| stem)
    }

    fn above<'k>(&self, key: &'k [u8]) -> impl Iterator<Item = (&'k [u8], u64)> {
        // Nearly always there is no cut at all; the walk over the key is only for when there is.
        let key = if self.is_empty() { &[] } else { key };
        stem::ancestors(key).filter_map(|end| {
            let stem = key.get(..end)?;
            self.by_stem.get(stem).map(|seq| (stem, *seq))
        })
    }
}
