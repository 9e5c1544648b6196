//! A view that is ahead of the published one: the committer's, while it decides a batch.

use std::sync::Arc;

use bytes::Bytes;
use sapwood_tree::{Row, RowChanges};

use super::overlay::{Layer, Slot};
use super::shared::Shared;
use super::stem::{self, Key};
use super::view::{self, Base, State, View};

/// Commits applied but not yet published. Dropping it forgets them.
pub struct Working {
    pub(crate) shared: Arc<Shared>,
    pub(crate) seq: u64,
    pub(crate) recent: Layer,
    pub(crate) base: Arc<Base>,
    /// Whether `recent` has anything that the published view has not.
    pub(crate) changed: bool,
    pub(crate) published: bool,
}

impl Working {
    /// Applies the commit `seq` and gives the view as of it.
    ///
    /// Blocks while more than `RowSettings::backlog_bytes_max` of rows wait for the disk and some are on their way to it.
    /// It does not block when the disk is full or has failed: [`RowStore::check`](super::RowStore::check) tells, and the
    /// committer refuses writes.
    pub fn apply(
        &mut self,
        seq: u64,
        changes: &RowChanges,
        private: &[(Bytes, Option<Bytes>)],
    ) -> View {
        debug_assert!(seq > self.seq, "commits come in order");
        self.wait_for_room();
        self.seq = seq;
        self.changed = true;
        for path in &changes.cuts {
            self.recent.cuts.insert(stem::stem(&path.key()), seq);
        }
        for (path, row) in &changes.rows {
            self.set(view::key_of(path), row.clone());
        }
        for (key, value) in private {
            self.set_private(Arc::from(&**key), value.clone());
        }
        self.view()
    }

    /// The view as of the last commit applied.
    #[must_use]
    pub fn view(&self) -> View {
        View(Arc::new(State {
            seq: self.seq,
            recent: self.recent.clone(),
            base: Arc::clone(&self.base),
            cache: Arc::clone(&self.shared.cache),
        }))
    }

    fn set(&mut self, key: Key, row: Option<Arc<Row>>) {
        if row.is_none() && self.shared.in_memory {
            self.recent.unset(&key);
        } else {
            self.recent.set(key, Slot::new(row));
        }
    }

    fn set_private(&mut self, key: Key, value: Option<Bytes>) {
        if value.is_none() && self.shared.in_memory {
            self.recent.unset_private(&key);
        } else {
            self.recent.set_private(key, value);
        }
    }

    fn wait_for_room(&mut self) {
        // The keeper swaps in newer bases that say the same with less in memory.
        if self.recent.bytes + self.base.bytes() > self.shared.settings.backlog_bytes_max {
            self.base = self.shared.wait_for_room(self.recent.bytes);
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.published {
            self.shared.line.lock().working = false;
            self.shared.wake.notify_one();
        }
    }
}
