//! A view that is ahead of the published one: the committer's, while it decides a batch.

use std::sync::Arc;

use bytes::Bytes;
use sapwood_tree::RowChanges;

use super::shared::Shared;
use super::view::View;

/// Commits applied but not yet published. Dropping it forgets them.
pub struct Working {
    pub(crate) shared: Arc<Shared>,
    /// Nobody else holds it once something has been applied, so that the next commit changes it in place.
    pub(crate) view: View,
    /// Whether it has anything that the published view has not.
    pub(crate) changed: bool,
    pub(crate) published: bool,
}

impl Working {
    /// Applies the commit `seq`.
    ///
    /// Blocks while more than `RowSettings::backlog_bytes_max` of rows wait for the disk and some are on their way to it.
    /// It does not block when the disk is full or has failed: [`RowStore::check`](super::RowStore::check) tells, and the
    /// committer refuses writes.
    pub fn apply(&mut self, seq: u64, changes: &RowChanges, private: &[(Bytes, Option<Bytes>)]) {
        self.wait_for_room();
        self.changed = true;
        let state = Arc::make_mut(&mut self.view.0);
        state.apply(seq, changes);
        for (key, value) in private {
            state.set_private(Arc::from(&**key), value.clone());
        }
    }

    /// The view as of the last commit applied. A clone of it that is kept makes the next commit copy what it changes.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    fn wait_for_room(&mut self) {
        // The keeper swaps in newer bases that say the same with less in memory.
        let state = &*self.view.0;
        if state.recent.bytes + state.base.bytes() > self.shared.settings.backlog_bytes_max {
            let base = self.shared.wait_for_room(state.recent.bytes);
            Arc::make_mut(&mut self.view.0).base = base;
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
