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

#[cfg(test)]
mod tests {
    use sapwood_tree::{Limits, Path};

    use super::*;

    fn key(text: &str) -> Vec<u8> {
        Path::parse(text, &Limits::default()).unwrap().key()
    }

    fn cuts(all: &[(&str, u64)]) -> Cuts {
        let mut cuts = Cuts::default();
        for (at, seq) in all {
            cuts.insert(stem::stem(&key(at)), *seq);
        }
        cuts
    }

    #[test]
    fn a_cut_hides_what_is_strictly_below_it_and_older() {
        let cuts = cuts(&[("/a/7", 5), ("/a/b", 3)]);
        assert!(cuts.hides(&key("/a/7/x"), 4));
        assert!(cuts.hides(&key("/a/7/x/y/-3"), 4));
        assert!(!cuts.hides(&key("/a/7/x"), 5));
        for beside in ["", "/a", "/a/7", "/a/70", "/a/b", "/a/bc/d", "/b/7/x"] {
            assert!(!cuts.hides(&key(beside), 0), "{beside}");
        }
    }

    #[test]
    fn a_cut_of_the_root_hides_all_but_the_root() {
        let cuts = cuts(&[("", 2)]);
        assert!(cuts.hides(&key("/a"), 1));
        assert!(cuts.hides(&key("/"), 1), "a path of one empty segment");
        assert!(!cuts.hides(&key(""), 1));
    }

    #[test]
    fn the_newest_of_several_cuts_counts_and_the_outermost_is_skipped_as_a_whole() {
        let cuts = cuts(&[("/a", 2), ("/a/b", 9), ("/a/b", 4)]);
        assert!(cuts.hides(&key("/a/b/c"), 8));
        assert!(!cuts.hides(&key("/a/b"), 8));
        let below = key("/a/b/c");
        assert_eq!(cuts.outermost(&below), Some(stem::stem(&key("/a"))));
    }

    #[test]
    fn a_swept_cut_goes_unless_a_later_one_took_its_place() {
        let mut cuts = cuts(&[("/a", 2), ("/b", 5)]);
        cuts.remove_up_to(stem::stem(&key("/a")), 2);
        cuts.remove_up_to(stem::stem(&key("/b")), 4);
        assert_eq!(cuts.iter().map(|(_, seq)| seq).collect::<Vec<_>>(), [5]);
    }
}
