//! The watches of topic filters.

use sapwood_tree::{FilterIndex, Path, TopicFilter};

use super::Published;
use super::deferred::Deferred;
use super::index::Watcher;
use crate::LogId;
use crate::outbox::Slot;
use crate::session::SessionId;

#[derive(Debug, Default)]
pub(crate) struct Topics {
    filters: FilterIndex<Watcher>,
}

impl Topics {
    pub(crate) fn insert(&mut self, filter: &TopicFilter, watcher: Watcher) {
        self.filters.insert(filter, watcher);
    }

    pub(crate) fn remove(&mut self, filter: &TopicFilter, session: SessionId, slot: Slot) {
        self.filters.remove(filter, &Watcher::named(session, slot));
    }

    /// Calls `found` with every watcher of a filter that matches a topic.
    pub(crate) fn matching(&self, topic: &Path, found: impl FnMut(&Watcher)) {
        self.filters.for_each_match(topic, found);
    }

    /// Tells the topics that these commits touch.
    pub(crate) fn tell(&self, commits: &[Published], log: LogId, deferred: &mut Deferred) {
        let _ = (commits, log, deferred);
    }
}
