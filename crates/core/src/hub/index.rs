//! Who watches what: found by path, at a cost that does not grow with the watches that a change leaves alone.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use sapwood_tree::Path;

use super::wakers::Wakers;
use crate::event::Event;
use crate::outbox::{Outbox, OutboxLimits, Slot};
use crate::session::SessionId;

/// One watch of one session, as the hub knows it.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    pub(crate) session: SessionId,
    pub(crate) slot: Slot,
    pub(crate) outbox: Arc<Outbox>,
    /// It has been told everything up to this commit already, or is not to be.
    pub(crate) from: u64,
}

impl Watcher {
    /// The commit that a watch has been told everything up to which is told messages only.
    pub(crate) const MESSAGES: u64 = u64::MAX;

    pub(crate) fn tell(&self, event: &Arc<Event>, weight: usize, wakers: &mut Wakers) {
        wakers.add(self.outbox.push(self.slot, event, weight));
    }

    /// Has it begin again.
    pub(crate) fn lose(&self) {
        self.outbox.lose(self.slot);
    }

    /// A stand-in for the watcher of that name, to find it by.
    pub(crate) fn named(session: SessionId, slot: Slot) -> Self {
        let limits = OutboxLimits {
            bytes_max: 0,
            events_max: 0,
        };
        Self {
            session,
            slot,
            outbox: Arc::new(Outbox::new(limits)),
            from: 0,
        }
    }

    pub(super) fn is(&self, session: SessionId, slot: Slot) -> bool {
        self.session == session && self.slot == slot
    }
}

/// A watcher is its session's and its slot's, whatever it has been told.
impl PartialEq for Watcher {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.session, other.slot)
    }
}

/// The watchers of paths.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    at: HashMap<Path, Vec<Watcher>>,
    in_order: BTreeSet<Path>,
}

impl PathIndex {
    /// Adds a watcher, or puts it in its own place.
    pub(crate) fn insert(&mut self, path: Path, watcher: Watcher) {
        let watchers = self.at.entry(path.clone()).or_default();
        if watchers.is_empty() {
            self.in_order.insert(path);
        }
        match watchers.iter_mut().find(|known| **known == watcher) {
            Some(known) => *known = watcher,
            None => watchers.push(watcher),
        }
    }

    pub(crate) fn remove(&mut self, path: &Path, session: SessionId, slot: Slot) {
        let Some(watchers) = self.at.get_mut(path) else {
            return;
        };
        if let Some(index) = watchers
            .iter()
            .position(|watcher| watcher.is(session, slot))
        {
            watchers.swap_remove(index);
        }
        if watchers.is_empty() {
            self.at.remove(path);
            self.in_order.remove(path);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    pub(crate) fn at(&self, path: &Path) -> &[Watcher] {
        self.at.get(path).map_or(&[], Vec::as_slice)
    }

    /// Calls `each` with every watcher.
    pub(crate) fn for_each(&self, each: impl FnMut(&Watcher)) {
        self.at.values().flatten().for_each(each);
    }

    /// Whether something is watched at or above `path`.
    pub(crate) fn any_at_or_above(&self, path: &Path) -> bool {
        !self.is_empty() && self.at_or_above(path).next().is_some()
    }

    /// The watched paths at or above `path`, deepest first.
    pub(crate) fn at_or_above(&self, path: &Path) -> impl Iterator<Item = (Path, &[Watcher])> {
        std::iter::successors(Some(path.clone()), Path::parent).filter_map(|above| {
            let watchers = self.at.get(&above)?;
            Some((above, watchers.as_slice()))
        })
    }

    /// The watched paths strictly below `path`, in path order.
    pub(crate) fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.in_order
            .range((Bound::Excluded(path), Bound::Unbounded))
            .take_while(|below| below.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(slot: u32) -> Watcher {
        Watcher::named(SessionId(1), Slot(slot))
    }

    fn path(text: &str) -> Path {
        Path::parse(text, &sapwood_tree::Limits::default()).unwrap()
    }

    #[test]
    fn a_change_finds_the_watches_on_its_way_and_below() {
        let mut index = PathIndex::default();
        for (slot, text) in ["", "/a", "/a/b", "/a/b/c", "/a/bc", "/b"]
            .iter()
            .enumerate()
        {
            index.insert(path(text), watcher(u32::try_from(slot).unwrap()));
        }
        let above: Vec<Path> = index
            .at_or_above(&path("/a/b"))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(above, [path("/a/b"), path("/a"), path("")]);
        assert_eq!(
            index.below(&path("/a/b")).collect::<Vec<_>>(),
            [&path("/a/b/c")]
        );
        index.remove(&path("/a/b/c"), SessionId(1), Slot(3));
        assert_eq!(index.below(&path("/a/b")).count(), 0);
    }
}
