//! One group of commits, told to the watches of paths.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sapwood_tree::{OpKind, Path, TopicValue};
use sapwood_value::{Text, Value, key_cmp};

use super::deferred::{Kind, Size};
use super::index::{PathIndex, Watcher};
use super::wakers::Wakers;
use super::{Hub, Published};
use crate::LogId;
use crate::event::{Body, Event, EventKind};
use crate::tell::{self, Touched};

impl Hub {
    /// Tells everybody whom these commits touch.
    pub(super) fn fan_out(&mut self, commits: &[Published]) {
        if !self.trees.is_empty() {
            for published in commits {
                tell_trees(&self.trees, published, self.settings.log, &mut self.wakers);
            }
        }
        if !self.children.is_empty() {
            self.tell_children(commits);
        }
        if !self.records.is_empty() {
            self.tell_records(commits);
        }
        self.topics.tell(
            commits,
            self.settings.log,
            &mut self.deferred,
            &mut self.wakers,
        );
    }

    fn tell_children(&mut self, commits: &[Published]) {
        let (touches, too_many) = child_touches(
            &self.children,
            commits,
            self.settings.limits.outbox_events_max,
        );
        // More than an outbox holds: they begin again, and read the children without keeping anybody waiting.
        for (parent, seq) in &too_many {
            let watchers = self.children.at(parent).iter();
            watchers
                .filter(|watcher| watcher.from < *seq)
                .for_each(Watcher::lose);
        }
        let mut newest: HashMap<(&Path, &Text), usize> = HashMap::new();
        for touch in &touches {
            newest.insert((&touch.parent, touch.what.child()), touch.commit);
        }
        for touch in &touches {
            let Some(published) = commits.get(touch.commit) else {
                continue;
            };
            let watchers = self.children.at(&touch.parent);
            let version = tell::version(
                self.settings.log,
                published.commit.seq,
                touch.part,
                touch.last,
            );
            let event = match &touch.what {
                // What a value in it says now, the newest touch of the group says for all.
                What::Inside(child)
                    if newest.get(&(&touch.parent, child)) != Some(&touch.commit) =>
                {
                    continue;
                }
                What::Inside(child) => {
                    let path = touch.parent.child_unchecked(child);
                    match self.deferred.value_now(Kind::Tree, &path, |limit| {
                        sapwood_tree::tree_value(&published.after, &path, limit)
                    }) {
                        Size::Told(value) => {
                            child_event(&touch.parent, child, value.map(Body::Value), version)
                        }
                        Size::Later => continue,
                    }
                }
                What::Whole(child, value) => child_event(
                    &touch.parent,
                    child,
                    value.clone().map(Body::Value),
                    version,
                ),
            };
            tell_all(
                watchers,
                published.commit.seq,
                &Arc::new(event),
                &mut self.wakers,
            );
        }
    }

    fn tell_records(&mut self, commits: &[Published]) {
        let mut newest: BTreeMap<Path, usize> = BTreeMap::new();
        for (index, published) in commits.iter().enumerate() {
            for op in &published.commit.ops {
                for (record, _) in self.records.at_or_above(&op.path) {
                    newest.insert(record, index);
                }
                for record in self.records.below(&op.path) {
                    if tell::reaches_below(&op.path, &op.kind, record)
                        && tell::whole(&published.before, record)
                            != tell::whole(&published.after, record)
                    {
                        newest.insert(record.clone(), index);
                    }
                }
            }
        }
        for (record, index) in newest {
            let Some(published) = commits.get(index) else {
                continue;
            };
            let version = tell::version(self.settings.log, published.commit.seq, 0, true);
            if let Size::Told(value) = self.deferred.value_now(Kind::Tree, &record, |limit| {
                sapwood_tree::tree_value(&published.after, &record, limit)
            }) {
                let event = record_event(&record, value.map(Body::Value), version);
                tell_all(
                    self.records.at(&record),
                    published.commit.seq,
                    &Arc::new(event),
                    &mut self.wakers,
                );
            }
        }
    }

    /// Tells the values that were too large to be told with every change, if their time has come.
    pub(super) fn tell_deferred(&mut self) {
        let view = &self.view;
        let due = self.deferred.take_due(|kind, path, limit| match kind {
            Kind::Tree => Ok(sapwood_tree::tree_value(view, path, limit)?.map(TopicValue::from)),
            Kind::Topic => TopicValue::read(view, path, limit),
        });
        for (kind, path, said) in due {
            let version = tell::version(self.settings.log, self.processed, 0, true);
            let body = || said.clone().map(Body::Shared);
            if kind == Kind::Topic {
                let event = tell::topic_event(&path, body().unwrap_or(Body::Absent), version);
                self.topics.tell_state(&Arc::new(event), &mut self.wakers);
                continue;
            }
            if let (Some(parent), Some(child)) = (path.parent(), path.last()) {
                let event = child_event(&parent, &child.into(), body(), version.clone());
                tell_all(
                    self.children.at(&parent),
                    u64::MAX,
                    &Arc::new(event),
                    &mut self.wakers,
                );
            }
            let event = record_event(&path, body(), version);
            tell_all(
                self.records.at(&path),
                u64::MAX,
                &Arc::new(event),
                &mut self.wakers,
            );
        }
    }
}

/// What a commit says to the children of a watched path.
struct Touch {
    commit: usize,
    parent: Path,
    what: What,
    part: usize,
    last: bool,
}

enum What {
    /// Something in the child changed.
    Inside(Text),
    /// The child is this now, or gone.
    Whole(Text, Option<Value>),
}

impl What {
    fn child(&self) -> &Text {
        match self {
            Self::Inside(child) | Self::Whole(child, _) => child,
        }
    }
}

/// What commits say to the children of watched paths; and the paths of which one commit touches more children than `max`, with
/// its sequence.
fn child_touches(
    index: &PathIndex,
    commits: &[Published],
    max: usize,
) -> (Vec<Touch>, HashMap<Path, u64>) {
    let mut touches = Vec::new();
    let mut too_many = HashMap::new();
    for (number, published) in commits.iter().enumerate() {
        for (parent, changes) in touched_children(index, published, max) {
            let Some(changes) = changes else {
                too_many.insert(parent, published.commit.seq);
                continue;
            };
            let mut changes: Vec<What> = changes.into_values().collect();
            changes.sort_unstable_by(|one, other| key_cmp(one.child(), other.child()));
            let count = changes.len();
            for (part, what) in changes.into_iter().enumerate() {
                touches.push(Touch {
                    commit: number,
                    parent: parent.clone(),
                    what,
                    part,
                    last: part + 1 == count,
                });
            }
        }
    }
    touches.retain(|touch| !too_many.contains_key(&touch.parent));
    (touches, too_many)
}

/// The children that one commit touches, by watched path; each child once, as its last operation leaves it. None in place of
/// more than `max`.
fn touched_children(
    index: &PathIndex,
    published: &Published,
    max: usize,
) -> BTreeMap<Path, Option<HashMap<Text, What>>> {
    let mut touched: BTreeMap<Path, Option<HashMap<Text, What>>> = BTreeMap::new();
    let ops = &published.commit.ops;
    for op in ops {
        let parents = index
            .at_or_above(&op.path)
            .map(|(path, _)| path)
            .chain(index.below(&op.path).cloned());
        for parent in parents {
            let changes = match tell::touched(&op.path, &op.kind, &parent) {
                Touched::None => continue,
                Touched::Each(entries) if entries.len() > max => None,
                Touched::Inside(child) => Some(vec![What::Inside(child)]),
                Touched::Whole(child, value) if ops.len() == 1 => {
                    Some(vec![What::Whole(child, value.cloned())])
                }
                Touched::Each(entries) if ops.len() == 1 => {
                    let whole = |(child, value): &(Text, Option<Value>)| {
                        What::Whole(child.clone(), value.clone())
                    };
                    Some(entries.iter().map(whole).collect())
                }
                // Another operation of this commit may have written there, too: what counts is what they leave together.
                Touched::Whole(child, _) => Some(vec![after(published, &parent, child)]),
                Touched::Each(entries) => {
                    let left = |(child, _): &(Text, _)| after(published, &parent, child.clone());
                    Some(entries.iter().map(left).collect())
                }
                Touched::Any => changed_children(published, &parent, max),
            };
            let so_far = touched
                .entry(parent)
                .or_insert_with(|| Some(HashMap::new()));
            match (so_far.as_mut(), changes) {
                (Some(so_far), Some(changes)) if so_far.len() + changes.len() <= max => {
                    so_far.extend(changes.into_iter().map(|what| (what.child().clone(), what)));
                }
                _ => *so_far = None,
            }
        }
    }
    touched
}

fn after(published: &Published, parent: &Path, child: Text) -> What {
    let value = tell::whole(&published.after, &parent.child_unchecked(&child));
    What::Whole(child, value)
}

/// How many children are looked at together.
const CHILDREN: usize = 256;

/// The children whose values a write above them changed; none if more than `max` may have.
fn changed_children(published: &Published, parent: &Path, max: usize) -> Option<Vec<What>> {
    let list = |view| -> Vec<Text> { names(view, parent).take(max + 1).collect() };
    let (before, after) = (list(&published.before), list(&published.after));
    if before.len() > max || after.len() > max {
        return None;
    }
    let mut changed = Vec::new();
    for child in before {
        let path = parent.child_unchecked(&child);
        let (before, after) = (
            tell::whole(&published.before, &path),
            tell::whole(&published.after, &path),
        );
        if before != after {
            changed.push(What::Whole(child, after));
        }
    }
    for child in after {
        let path = parent.child_unchecked(&child);
        if tell::whole(&published.before, &path).is_none() {
            let value = tell::whole(&published.after, &path);
            changed.push(What::Whole(child, value));
        }
    }
    Some(changed)
}

/// The names of all children of a path.
fn names(view: &sapwood_store::rows::View, parent: &Path) -> impl Iterator<Item = Text> {
    let mut chunk = Vec::new().into_iter();
    let mut newest: Option<Text> = None;
    let mut done = false;
    std::iter::from_fn(move || {
        if chunk.len() == 0 && !done {
            let names = sapwood_tree::children(view, parent, newest.as_deref(), CHILDREN)
                .unwrap_or_default();
            done = names.len() < CHILDREN;
            newest = names.last().cloned();
            chunk = names.into_iter();
        }
        chunk.next()
    })
}

/// What a commit says to those who watch a tree.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Telling {
    /// This operation, as it is.
    Op(usize),
    /// What lies here now, by this operation.
    State(Path, usize),
}

fn tell_trees(trees: &PathIndex, published: &Published, log: LogId, wakers: &mut Wakers) {
    let commit = &published.commit;
    let mut shared: HashMap<(Telling, bool), Option<Arc<Event>>> = HashMap::new();
    for (path, told) in tellings(trees, published) {
        let count = told.len();
        for (position, telling) in told.into_iter().enumerate() {
            let last = position + 1 == count;
            let event = shared
                .entry((telling, last))
                .or_insert_with_key(|(telling, last)| {
                    let version = |part| tell::version(log, commit.seq, part, *last);
                    let event = match telling {
                        Telling::Op(part) => tell::tree_event(commit, *part, version(*part)),
                        Telling::State(at, part) => Some(tell::state_event(
                            &published.after,
                            at.clone(),
                            Some(version(*part)),
                        )),
                    };
                    event.map(Arc::new)
                });
            if let Some(event) = event {
                tell_all(trees.at(&path), commit.seq, event, wakers);
            }
        }
    }
}

/// What a commit says to each watched path that it touches, in order.
fn tellings(trees: &PathIndex, published: &Published) -> BTreeMap<Path, Vec<Telling>> {
    let mut tellings: BTreeMap<Path, Vec<Telling>> = BTreeMap::new();
    let mut from_above: BTreeMap<&Path, usize> = BTreeMap::new();
    for (part, op) in published.commit.ops.iter().enumerate() {
        if matches!(op.kind, OpKind::Mark) {
            continue;
        }
        let mut state = None;
        for (path, _) in trees.at_or_above(&op.path) {
            let state = state.get_or_insert_with(|| {
                tell::state_path(&[&published.before, &published.after], &op.path, &op.kind)
            });
            let telling = match state {
                Some(at) if at.starts_with(&path) => Telling::State(at.clone(), part),
                Some(_) if tell::is_record_write(&op.kind) => Telling::State(op.path.clone(), part),
                Some(_) | None => Telling::Op(part),
            };
            tellings.entry(path).or_default().push(telling);
        }
        for path in trees
            .below(&op.path)
            .filter(|path| tell::reaches_below(&op.path, &op.kind, path))
        {
            from_above.insert(path, part);
        }
    }
    for (path, part) in from_above {
        // Where a write from above meets writes of the same commit here, what counts is what they leave together.
        let together = tellings.contains_key(path);
        if together || tell::whole(&published.before, path) != tell::whole(&published.after, path) {
            tellings.insert(path.clone(), vec![Telling::State(path.clone(), part)]);
        }
    }
    tellings
}

fn tell_all(watchers: &[Watcher], seq: u64, event: &Arc<Event>, wakers: &mut Wakers) {
    if watchers.is_empty() {
        return;
    }
    let weight = event.weight();
    for watcher in watchers.iter().filter(|watcher| watcher.from < seq) {
        watcher.tell(event, weight, wakers);
    }
}

fn child_event(parent: &Path, child: &Text, value: Option<Body>, version: crate::Version) -> Event {
    plain_event(&parent.child_unchecked(child), value, version).with_id(child.clone())
}

fn record_event(record: &Path, value: Option<Body>, version: crate::Version) -> Event {
    let event = plain_event(record, value, version);
    match record.last() {
        Some(id) => event.with_id(id.into()),
        None => event,
    }
}

fn plain_event(path: &Path, value: Option<Body>, version: crate::Version) -> Event {
    match value {
        Some(body) => Event::new(EventKind::Put, path.clone(), Some(version), body),
        None => Event::new(EventKind::Delete, path.clone(), Some(version), Body::Absent),
    }
}
