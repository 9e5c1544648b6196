//! The watches of topic filters.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use sapwood_tree::{
    FilterIndex, OpKind, Path, ReadError, Rows as _, Told, TopicFilter, TopicValue, What, told,
    told_value, written_value,
};
use sapwood_value::Text;

use super::Published;
use super::deferred::{Deferred, Kind, Size};
use super::groups::{GroupId, Groups};
use super::index::Watcher;
use super::wakers::Wakers;
use crate::LogId;
use crate::event::{Body, Event};
use crate::outbox::{Slot, Weighed};
use crate::session::SessionId;
use crate::tell;

/// So many receivers of known topics are remembered.
const KNOWN_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Topics {
    filters: FilterIndex<Listener>,
    groups: Groups,
    known: Known,
}

/// Who stands behind a filter.
#[derive(Debug, PartialEq)]
enum Listener {
    One(Watcher),
    Group(GroupId),
}

/// Who is told what is said to a topic.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    /// Each session once.
    pub(super) watchers: Vec<Watcher>,
    groups: Vec<GroupId>,
}

impl Receivers {
    pub(super) fn any_groups(&self) -> bool {
        !self.groups.is_empty()
    }
}

/// The receivers of topics that something was said to, until somebody comes or goes.
#[derive(Debug, Default)]
struct Known {
    topics: HashMap<Path, Arc<Receivers>>,
    /// How many receivers they have together.
    size: usize,
}

impl Known {
    fn insert(&mut self, topic: &Path, receivers: &Arc<Receivers>) {
        let size = 1 + receivers.watchers.len() + receivers.groups.len();
        if self.size + size > KNOWN_MAX {
            self.forget();
        }
        self.size += size;
        self.topics.insert(topic.clone(), Arc::clone(receivers));
    }

    fn forget(&mut self) {
        self.topics.clear();
        self.size = 0;
    }
}

impl Topics {
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    pub(crate) fn insert(&mut self, filter: &TopicFilter, watcher: Watcher) {
        self.known.forget();
        let listener = Listener::One(watcher);
        self.filters.remove(filter, &listener);
        self.filters.insert(filter, listener);
    }

    pub(crate) fn remove(&mut self, filter: &TopicFilter, session: SessionId, slot: Slot) {
        self.known.forget();
        let watcher = Listener::One(Watcher::named(session, slot));
        self.filters.remove(filter, &watcher);
    }

    /// A session joins a group.
    pub(crate) fn join(&mut self, name: &Text, filter: &TopicFilter, member: Watcher) {
        if let Some(id) = self.groups.join(name, filter, member) {
            self.known.forget();
            self.filters.insert(filter, Listener::Group(id));
        }
    }

    /// A session leaves a group; what it had not taken goes to the others.
    pub(crate) fn leave(
        &mut self,
        (name, filter): (&Text, &TopicFilter),
        member: (SessionId, Slot),
        left: &[Arc<Event>],
        wakers: &mut Wakers,
    ) {
        if let Some(id) = self.groups.leave((name, filter), member, left, wakers) {
            self.known.forget();
            self.filters.remove(filter, &Listener::Group(id));
        }
    }

    /// Calls `each` with every watcher.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Watcher)) {
        self.filters.for_each(|listener| match listener {
            Listener::One(watcher) => each(watcher),
            // What a group is told is no state that could be wrong.
            Listener::Group(_) => {}
        });
    }

    /// Tells the topics that these commits touch: what was written at its commit, what follows from something in it once, at the
    /// last commit of the group that touches it.
    pub(super) fn tell(
        &mut self,
        commits: &[Published],
        log: LogId,
        deferred: &mut Deferred,
        wakers: &mut Wakers,
    ) {
        if self.filters.is_empty() {
            return;
        }
        let touched = touched(commits, &self.filters);
        let newest = newest(&touched);
        let (mut of, mut numbers, mut expiries) = (0, HashMap::new(), HashMap::new());
        for (published, told) in &touched {
            let commit = &published.commit;
            let seq = commit.seq;
            if of != seq {
                (of, numbers, expiries) = (seq, commit.kept_numbers(), commit.expiries());
            }
            let last = newest.get(&told.topic).filter(|last| last.seq == seq);
            let origin = match last {
                _ if told.written => commit.origin,
                Some(last) => last.origin,
                None => continue,
            };
            if let Some(body) = body(published, told, deferred) {
                let version = tell::version(log, seq, 0, true);
                let mut event = tell::topic_event(&told.topic, body, version).with_origin(origin);
                event.expired = commit.is_expiry();
                event.kept = numbers.get(&told.topic).copied();
                event.expires_ms = expiries.get(&told.topic).copied();
                let listeners = told.filters.iter().copied();
                let told = once(listeners, |watcher| watcher.from < seq);
                tell_each(told, &mut self.groups, &Arc::new(event), seq, wakers);
            }
        }
    }

    /// Tells the value of a topic that was too large to be told at once.
    pub(super) fn tell_state(&mut self, event: &Arc<Event>, wakers: &mut Wakers) {
        let mut listeners = Vec::new();
        self.filters
            .for_each_match(&event.path, |listener| listeners.push(listener));
        let told = once(listeners.into_iter(), |watcher| {
            watcher.from != Watcher::MESSAGES
        });
        tell_each(told, &mut self.groups, event, u64::MAX, wakers);
    }

    /// Tells what was said to a topic.
    pub(super) fn tell_message(&mut self, told: &Weighed, wakers: &mut Wakers) -> Heard {
        let Weighed { event, weight } = told;
        let (receivers, weight) = (self.receivers_of(&event.path), *weight);
        for watcher in &receivers.watchers {
            watcher.tell(event, weight, wakers);
        }
        let groups = receivers.groups.iter();
        let in_groups = groups
            .filter_map(|id| self.groups.tell(*id, event, weight, u64::MAX, wakers))
            .collect();
        Heard {
            receivers,
            in_groups,
        }
    }

    /// Those who are told what is said to a topic.
    pub(super) fn receivers_of(&mut self, topic: &Path) -> Arc<Receivers> {
        if let Some(known) = self.known.topics.get(topic) {
            return Arc::clone(known);
        }
        let mut listeners = Vec::new();
        self.filters
            .for_each_match(topic, |listener| listeners.push(listener));
        let mut receivers = Receivers::default();
        for listener in once(listeners.into_iter(), |_| true) {
            match listener {
                Listener::One(watcher) => receivers.watchers.push(watcher.clone()),
                Listener::Group(id) => receivers.groups.push(*id),
            }
        }
        let receivers = Arc::new(receivers);
        self.known.insert(topic, &receivers);
        receivers
    }
}

/// Who was told a message.
pub(super) struct Heard {
    pub(super) receivers: Arc<Receivers>,
    /// For their groups.
    pub(super) in_groups: Vec<SessionId>,
}

/// Each session once, however many of its filters match; and the groups.
fn once<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    wants: impl Fn(&Watcher) -> bool,
) -> impl Iterator<Item = &'a Listener> {
    let mut seen = HashSet::<SessionId, BuildHasherDefault<ById>>::default();
    listeners.filter(move |listener| match listener {
        Listener::One(watcher) => wants(watcher) && seen.insert(watcher.session),
        Listener::Group(_) => true,
    })
}

fn tell_each<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    groups: &mut Groups,
    event: &Arc<Event>,
    seq: u64,
    wakers: &mut Wakers,
) {
    let weight = event.weight();
    for listener in listeners {
        match listener {
            Listener::One(watcher) => watcher.tell(event, weight, wakers),
            Listener::Group(id) => drop(groups.tell(*id, event, weight, seq, wakers)),
        }
    }
}

/// Hashes ids of sessions, which are random.
#[derive(Debug, Default)]
struct ById(u64);

impl Hasher for ById {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

/// What the commits say to filters.
fn touched<'a>(
    commits: &'a [Published],
    filters: &'a FilterIndex<Listener>,
) -> Vec<(&'a Published, Told<'a, Listener>)> {
    let mut touched = Vec::new();
    for published in commits {
        match told(
            &published.before,
            &published.after,
            &published.commit.ops,
            filters,
        ) {
            Ok(told) => touched.extend(told.into_iter().map(|told| (published, told))),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "what a commit says could not be read"
            ),
        }
    }
    touched
}

/// The last of a group's commits that a topic is told of.
struct Last {
    seq: u64,
    /// Whose they were, if they were one's.
    origin: Option<SessionId>,
}

fn newest<'a>(touched: &'a [(&Published, Told<'_, Listener>)]) -> HashMap<&'a Path, Last> {
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
fn body(published: &Published, told: &Told<'_, Listener>, deferred: &mut Deferred) -> Option<Body> {
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
fn keeps_payload(published: &Published, told: &Told<'_, Listener>) -> bool {
    let row = published.after.row(&told.topic).ok().flatten();
    row.is_some_and(|row| row.is_record() && row.payload.is_some())
}

fn said(
    published: &Published,
    told: &Told<'_, Listener>,
    limit: usize,
) -> Result<Option<TopicValue>, ReadError> {
    let (after, topic) = (&published.after, &told.topic);
    if told.what == What::Document {
        return TopicValue::read(after, topic, limit);
    }
    let value = told_value(after, topic, &told.what, &published.commit.ops, limit)?;
    Ok(value.map(TopicValue::from))
}
