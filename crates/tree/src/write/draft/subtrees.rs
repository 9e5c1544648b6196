//! Parts of the tree, by what lies above them.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::Path;

/// What lies strictly below some paths, none of which lies below another: so the last of them at or before a path is
/// the only one that can be above it, however many there are.
#[derive(Debug, Default)]
pub(super) struct Subtrees(BTreeSet<Path>);

impl Subtrees {
    /// Adds what lies strictly below a path.
    pub(super) fn insert(&mut self, path: &Path) {
        if self.above(path).is_none() {
            remove_below(&mut self.0, path);
            self.0.insert(path.clone());
        }
    }

    /// The path that a subtree here lies below, with `path` in it.
    pub(super) fn above(&self, path: &Path) -> Option<&Path> {
        let before = (Bound::Unbounded, Bound::Excluded(path));
        let last = self.0.range::<Path, _>(before).next_back();
        last.filter(|above| path.is_below(above))
    }

    /// Whether all strictly below a path lies here.
    pub(super) fn cover(&self, path: &Path) -> bool {
        self.0.contains(path) || self.above(path).is_some()
    }

    /// Whether some of what lies strictly below a path lies here.
    pub(super) fn reach_below(&self, path: &Path) -> bool {
        let next = self.0.range::<Path, _>(path..).next();
        next.is_some_and(|next| next.starts_with(path)) || self.above(path).is_some()
    }

    /// The paths, in tree order.
    pub(super) fn into_paths(self) -> Vec<Path> {
        self.0.into_iter().collect()
    }
}

/// Removes the paths strictly below one.
pub(super) fn remove_below(paths: &mut BTreeSet<Path>, path: &Path) {
    let behind = (Bound::Excluded(path), Bound::Unbounded);
    let below = paths.range::<Path, _>(behind);
    let below: Vec<Path> = below
        .take_while(|other| other.is_below(path))
        .cloned()
        .collect();
    for path in below {
        paths.remove(&path);
    }
}
