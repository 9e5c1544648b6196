//! What telling needs to know of the filters' index.

use std::collections::HashSet;

use crate::filter::Walked;
use crate::{FilterIndex, Path};

/// The filters, by the topics that they match.
pub(super) struct Index<'f, Id>(&'f FilterIndex<Id>);

impl<Id> Clone for Index<'_, Id> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Id> Copy for Index<'_, Id> {}

impl<'f, Id> Index<'f, Id> {
    pub(super) const fn new(filters: &'f FilterIndex<Id>) -> Self {
        Self(filters)
    }

    pub(super) fn walk(self, path: &Path) -> Walked<'f, Id> {
        self.0.walk(path)
    }

    /// Whether filters match a path, or something above it or below it.
    pub(super) fn concerns(self, path: &Path) -> bool {
        self.walk(path).concerns()
    }

    pub(super) fn matches(self, path: &Path) -> bool {
        self.walk(path).matching().next().is_some()
    }

    /// Those that match a path.
    pub(super) fn all(self, path: &Path) -> Vec<&'f Id> {
        self.walk(path).matching().collect()
    }

    /// Those that match a path and nothing below it.
    pub(super) fn ending(self, path: &Path) -> Vec<&'f Id> {
        let walked = self.walk(path);
        walked.at().flat_map(|place| place.here()).collect()
    }

    /// Those that match a path and nothing as high as its first `base` levels.
    pub(super) fn beyond(self, path: &Path, base: usize) -> Vec<&'f Id> {
        let walked = self.walk(path);
        let ending = walked.at().flat_map(|place| place.here());
        open_beyond(&walked, base).chain(ending).collect()
    }

    /// Those that name a path.
    pub(super) fn literal(self, path: &Path) -> Vec<&'f Id> {
        let walked = self.walk(path);
        let places = walked.at().filter(|place| place.literal);
        places.flat_map(|place| place.here()).collect()
    }
}

/// Those that end with `#`, have more than `base` levels before it, and match.
pub(super) fn open_beyond<'f, Id>(
    walked: &Walked<'f, Id>,
    base: usize,
) -> impl Iterator<Item = &'f Id> {
    let places = walked.above().chain(walked.at());
    let beyond = places.filter(move |place| place.depth > base);
    beyond.flat_map(|place| place.all())
}

/// Filters by where they are in the index: an id need not be comparable.
pub(super) struct Picked<Id>(HashSet<*const Id>);

impl<Id> Picked<Id> {
    pub(super) fn none() -> Self {
        Self(HashSet::new())
    }

    /// Adds one; `false` if it was there.
    pub(super) fn add(&mut self, id: &Id) -> bool {
        self.0.insert(std::ptr::from_ref(id))
    }
}
