//! Which topics a client holds by a query: so that it is told when one of them goes from it.

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use sapwood_core::{Limits, WatchId};
use sapwood_tree::Path;

/// The topics that a session was told by its queries, each as eight bytes.
///
/// They are bounded for all queries of a session together. Beyond that, it is forgotten for a query what it told: then
/// whatever changes and does not match is taken for something that did.
#[derive(Debug, Default)]
pub(super) struct Held {
    topics: HashSet<(WatchId, u64)>,
    forgotten: Vec<WatchId>,
}

impl Held {
    /// A topic has been told by a query.
    pub(super) fn insert(&mut self, by: WatchId, topic: &Path, max: usize) {
        if self.forgotten.contains(&by) {
            return;
        }
        self.topics.insert((by, self.hash(topic)));
        if self.topics.len() > max {
            Limits::met("mqtt.query_topics_max");
            self.forget(by);
        }
    }

    /// Whether the client may hold a topic by a query; it does no more.
    pub(super) fn remove(&mut self, by: WatchId, topic: &Path) -> bool {
        self.forgotten.contains(&by) || self.topics.remove(&(by, self.hash(topic)))
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
