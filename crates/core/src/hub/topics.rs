//! The watches of topic filters.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sapwood_store::rows::View;
use sapwood_tree::{
    FilterIndex, Path, ReadError, Rows as _, Told, TopicFilter, What, told, told_value,
    written_value,
};
use sapwood_value::Value;

use super::Published;
use super::deferred::{Deferred, Kind, Size};
use super::index::Watcher;
use super::wakers::Wakers;
use crate::LogId;
use crate::event::{Body, Event, EventKind};
use crate::outbox::Slot;
use crate::session::SessionId;
use crate::tell;

#[derive(Debug, Default)]
pub(crate) struct Topics {
    filters: FilterIndex<Watcher>,
}

impl Topics {
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    pub(crate) fn insert(&mut self, filter: &TopicFilter, watcher: Watcher) {
        self.filters.remove(filter, &watcher);
        self.filters.insert(filter, watcher);
    }

    pub(crate) fn remove(&mut self, filter: &TopicFilter, session: SessionId, slot: Slot) {
        self.filters.remove(filter, &Watcher::named(session, slot));
    }

    /// Calls `each` with every watcher.
    pub(crate) fn for_each(&self, each: impl FnMut(&Watcher)) {
        self.filters.for_each(each);
    }

    /// Tells the topics that these commits touch: what was written at its commit, what follows from something in it once, at the
    /// last commit of the group that touches it.
    pub(super) fn tell(
        &self,
        commits: &[Published],
        log: LogId,
        deferred: &mut Deferred,
        wakers: &mut Wakers,
    ) {
        if self.filters.is_empty() {
            return;
        }
        let mut touched = Vec::new();
        for published in commits {
            match told(
                &published.before,
                &published.after,
                &published.commit.ops,
                &self.filters,
            ) {
                Ok(told) => touched.extend(told.into_iter().map(|told| (published, told))),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what a commit says could not be read"
                ),
            }
        }
        let newest: HashMap<&Path, u64> = touched
            .iter()
            .map(|(published, told)| (&told.topic, published.commit.seq))
            .collect();
        for (published, told) in &touched {
            let seq = published.commit.seq;
            if !told.written && newest.get(&told.topic) != Some(&seq) {
                continue;
            }
            if let Some(body) = body(published, told, deferred) {
                let version = tell::version(log, seq, 0, true);
                let event = Arc::new(topic_event(&told.topic, body, version));
                tell_once(
                    told.filters
                        .iter()
                        .copied()
                        .filter(|watcher| watcher.from < seq),
                    &event,
                    wakers,
                );
            }
        }
    }

    /// Tells something to all who watch its path as a topic; gives their sessions.
    pub(crate) fn tell_topic(&self, event: &Arc<Event>, wakers: &mut Wakers) -> HashSet<SessionId> {
        let mut watchers = Vec::new();
        self.filters
            .for_each_match(&event.path, |watcher| watchers.push(watcher));
        let message = event.kind == EventKind::Message;
        watchers.retain(|watcher| message || watcher.from != Watcher::MESSAGES);
        tell_once(watchers.into_iter(), event, wakers)
    }
}

/// Tells each session once, however many of its filters match.
fn tell_once<'a>(
    watchers: impl Iterator<Item = &'a Watcher>,
    event: &Arc<Event>,
    wakers: &mut Wakers,
) -> HashSet<SessionId> {
    let weight = event.weight();
    let mut sessions = HashSet::new();
    for watcher in watchers {
        if sessions.insert(watcher.session) {
            watcher.tell(event, weight, wakers);
        }
    }
    sessions
}

/// What a topic says; nothing if it says it later.
fn body(published: &Published, told: &Told<'_, Watcher>, deferred: &mut Deferred) -> Option<Body> {
    let ops = &published.commit.ops;
    match &told.what {
        What::Removed => Some(Body::Absent),
        What::Written { op, entry: None } => Some(Body::Op(Arc::clone(&published.commit), *op)),
        What::Written { .. } => Some(
            written_value(ops, &told.what)
                .cloned()
                .map_or(Body::Absent, Body::Value),
        ),
        what if told.written => {
            let value = told_value(&published.after, &told.topic, what, ops, usize::MAX)
                .ok()
                .flatten();
            Some(value.map_or(Body::Absent, Body::Value))
        }
        what => {
            let read = |limit| told_value(&published.after, &told.topic, what, ops, limit);
            match deferred.value_now(Kind::Topic, &told.topic, read) {
                Size::Told(value) => Some(value.map_or(Body::Absent, Body::Value)),
                Size::Later => None,
            }
        }
    }
}

/// A topic's value as it is now, whatever it was told for.
pub(super) fn topic_value(
    view: &View,
    topic: &Path,
    limit: usize,
) -> Result<Option<Value>, ReadError> {
    match view.row(topic)? {
        Some(row) if row.is_record() => sapwood_tree::document(view, topic, limit),
        Some(_) | None => sapwood_tree::own(view, topic, limit),
    }
}

pub(super) fn topic_event(topic: &Path, body: Body, version: crate::Version) -> Event {
    let kind = if matches!(body, Body::Absent) {
        EventKind::Delete
    } else {
        EventKind::Put
    };
    Event::new(kind, topic.clone(), Some(version), body)
}
