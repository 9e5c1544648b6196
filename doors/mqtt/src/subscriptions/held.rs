//! Which topics a client holds by a query: so that it is told when one of them goes from it.

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use sapwood_core::{Limits, WatchId};
use sapwood_tree::Path;

/// The topics that a session was told by its queries, each as eight bytes.
///
/// They are bounded for all queries of a session together. Beyond that, it is forgotten for a query what it told: then
/// whatever changes and does not match is taken for something that did, once for each topic as far as there is room.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What a query has told; of one that is forgotten, what it is known not to hold.
    topics: HashSet<(WatchId, u64)>,
    forgotten: Vec<WatchId>,
}

impl Held {
    /// A topic has been told by a query.
    pub(super) fn insert(&mut self, by: WatchId, topic: &Path, max: usize) {
        let told = (by, self.hash(topic));
        if self.forgotten.contains(&by) {
            self.topics.remove(&told);
            return;
        }
        self.topics.insert(told);
        if self.topics.len() > max {
            Limits::met("mqtt.query_topics_max");
            self.forget(by);
        }
    }

    /// Whether the client may hold a topic by a query; it does no more.
    pub(super) fn remove(&mut self, by: WatchId, topic: &Path, max: usize) -> bool {
        let gone = (by, self.hash(topic));
        if !self.forgotten.contains(&by) {
            return self.topics.remove(&gone);
        }
        if self.topics.contains(&gone) {
            return false;
        }
        if self.topics.len() < max {
            self.topics.insert(gone);
        } else {
            Limits::met("mqtt.query_topics_max");
        }
        true
    }

    fn hash(&self, topic: &Path) -> u64 {
        // The set's own keys, which nobody outside knows.
        self.topics.hasher().hash_one(topic)
    }

    /// It is not known what a query has told.
    pub(super) fn forget(&mut self, by: WatchId) {
        self.end(by);
        self.forgotten.push(by);
    }

    /// A query ends.
    pub(super) fn end(&mut self, by: WatchId) {
        let before = self.topics.len();
        self.topics.retain(|(other, _)| *other != by);
        if self.topics.len() < before {
            self.topics.shrink_to_fit();
        }
        self.forgotten.retain(|other| *other != by);
    }
}
