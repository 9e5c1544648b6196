//! The watches of topic filters.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sapwood_tree::{
    FilterIndex, OpKind, Path, ReadError, Rows as _, Told, TopicFilter, TopicValue, What, told,
    told_value, written_value,
};

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
        let newest = newest(&touched);
        for (published, told) in &touched {
            let commit = &published.commit;
            let seq = commit.seq;
            let last = newest.get(&told.topic).filter(|last| last.seq == seq);
            let origin = match last {
                _ if told.written => commit.origin,
                Some(last) => last.origin,
                None => continue,
            };
            if let Some(body) = body(published, told, deferred) {
                let version = tell::version(log, seq, 0, true);
                let mut event = topic_event(&told.topic, body, version).with_origin(origin);
                event.expired = commit.is_expiry();
                let event = Arc::new(event);
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

/// The last of a group's commits that a topic is told of.
struct Last {
    seq: u64,
    /// Whose they were, if they were one's.
    origin: Option<SessionId>,
}

fn newest<'a>(touched: &'a [(&Published, Told<'_, Watcher>)]) -> HashMap<&'a Path, Last> {
    let mut newest: HashMap<&Path, Last> = HashMap::with_capacity(touched.len());
    for (published, told) in touched {
        let (seq, origin) = (published.commit.seq, published.commit.origin);
        newest
            .entry(&told.topic)
            .and_modify(|last| {
                last.seq = seq;
                last.origin = last.origin.filter(|known| Some(*known) == origin);
            })
            .or_insert(Last { seq, origin });
    }
    newest
}

/// What a topic says; nothing if it says it later.
fn body(published: &Published, told: &Told<'_, Watcher>, deferred: &mut Deferred) -> Option<Body> {
    let ops = &published.commit.ops;
    match &told.what {
        What::Removed => Some(Body::Absent),
        What::Written { op, .. } if !is_payload(ops.get(*op)) && keeps_payload(published, told) => {
            let said = TopicValue::read(&published.after, &told.topic, usize::MAX).ok();
            Some(said.flatten().map_or(Body::Absent, Body::Topic))
        }
        What::Written { op, entry: None } => Some(Body::Op(Arc::clone(&published.commit), *op)),
        What::Written { .. } => Some(
            written_value(ops, &told.what)
                .cloned()
                .map_or(Body::Absent, Body::Value),
        ),
        _ if told.written => {
            let said = said(published, told, usize::MAX).ok().flatten();
            Some(said.map_or(Body::Absent, Body::Topic))
        }
        _ => {
            let read = |limit| said(published, told, limit);
            match deferred.value_now(Kind::Topic, &told.topic, read) {
                Size::Told(said) => Some(said.map_or(Body::Absent, Body::Topic)),
                Size::Later => None,
            }
        }
    }
}

fn is_payload(op: Option<&sapwood_tree::Op>) -> bool {
    op.is_some_and(|op| matches!(op.kind, OpKind::PutRecord { .. }))
}

/// Whether the topic is a record that a payload made: its type goes on with whoever writes to it.
fn keeps_payload(published: &Published, told: &Told<'_, Watcher>) -> bool {
    let row = published.after.row(&told.topic).ok().flatten();
    row.is_some_and(|row| row.is_record() && row.payload.is_some())
}

fn said(
    published: &Published,
    told: &Told<'_, Watcher>,
    limit: usize,
) -> Result<Option<TopicValue>, ReadError> {
    let (after, topic) = (&published.after, &told.topic);
    if told.what == What::Document {
        return TopicValue::read(after, topic, limit);
    }
    let value = told_value(after, topic, &told.what, &published.commit.ops, limit)?;
    Ok(value.map(TopicValue::from))
}

pub(super) fn topic_event(topic: &Path, body: Body, version: crate::Version) -> Event {
    let kind = if matches!(body, Body::Absent) {
        EventKind::Delete
    } else {
        EventKind::Put
    };
    Event::new(kind, topic.clone(), Some(version), body)
}
