//! What a commit tells one filter, the slowest obvious way: by comparing the states before and after.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_tree::{MemoryRows, Op, OpKind, Path, document, own};
use sapwood_value::Value;

use crate::model::{At, Model, at, matches};

/// What one commit tells a filter: documents, or none where something went.
pub type Says = BTreeMap<At, Option<Value>>;

/// A state, and everything that a topic could say of it.
pub struct State {
    model: Model,
    /// Plain values by path, without records; empty maps say nothing.
    plain: BTreeMap<At, Value>,
}

impl State {
    pub fn new(model: Model) -> Self {
        let mut plain = BTreeMap::new();
        if let Some(value) = &model.plain {
            collect(value, &mut Vec::new(), &mut plain);
        }
        Self { model, plain }
    }

    /// What the rows hold: whether they hold what they should is another test's question.
    pub fn of(rows: &MemoryRows) -> Self {
        let records = rows.iter().filter(|(_, row)| row.is_record());
        let records = records.map(|(path, _)| {
            let document = document(rows, path, usize::MAX).unwrap().unwrap();
            (at(path), document)
        });
        Self::new(Model {
            records: records.collect(),
            plain: own(rows, &Path::root(), usize::MAX).unwrap(),
            declared: Vec::new(),
        })
    }

    /// What a new subscriber gets first.
    pub fn first(&self, filter: &[String]) -> BTreeMap<At, Value> {
        let mut all: Vec<(&At, &Value)> = self.model.records.iter().collect();
        if !filter.iter().any(|level| level == "#") {
            all.extend(&self.plain);
        }
        let all = all.into_iter().filter(|(at, _)| matches(filter, at));
        let mut out: BTreeMap<At, Value> = all.map(|(at, v)| (at.clone(), v.clone())).collect();
        if !filter.iter().any(|level| level == "#" || level == "+") {
            out.extend(self.named(filter).map(|v| (filter.to_vec(), v.clone())));
        }
        out
    }

    fn record(&self, path: &[String]) -> Option<&Value> {
        self.model.records.get(path)
    }

    fn owner<'p>(&self, path: &'p [String]) -> Option<&'p [String]> {
        let prefixes = (1..=path.len()).rev().map(|n| &path[..n]);
        prefixes.into_iter().find(|at| self.record(at).is_some())
    }

    /// What a filter that names a path hears of it.
    fn named(&self, path: &[String]) -> Option<&Value> {
        match self.owner(path) {
            Some(_) => self.model.own(path),
            None => self.plain.get(path),
        }
    }
}

fn collect(value: &Value, path: &mut At, out: &mut BTreeMap<At, Value>) {
    let mut inner = |key: &str, value: &Value| {
        path.push(key.to_owned());
        collect(value, path, out);
        path.pop();
    };
    match value {
        Value::Map(map) => map.iter().for_each(|(key, value)| inner(key, value)),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| inner(&index.to_string(), item));
        }
        _ => {}
    }
    let says = value.as_map().is_none_or(|map| !map.is_empty());
    let addressable = path.iter().all(|key| sapwood_tree::is_segment(key));
    if !path.is_empty() && addressable && says {
        out.insert(path.clone(), value.clone());
    }
}

/// The paths that a commit changed. Of a write at the root each child is one; a new record is one, too, if it was plain.
pub fn changed(before: &State, after: &State, ops: &[Op]) -> BTreeSet<At> {
    let mut paths = BTreeSet::new();
    for op in ops {
        let path = at(&op.path);
        match &op.kind {
            OpKind::Merge { entries, .. } => {
                let keys = entries.iter().map(|(key, _)| key.to_string());
                paths.extend(keys.map(|key| [path.clone(), vec![key]].concat()));
            }
            OpKind::Put { .. } | OpKind::Delete if path.is_empty() => {
                for state in [before, after] {
                    paths.extend(state.plain.keys().map(|at| at[..1].to_vec()));
                    paths.extend(state.model.records.keys().map(|at| at[..1].to_vec()));
                }
            }
            _ => {
                paths.insert(path);
            }
        }
    }
    let new = after.model.records.keys();
    let new = new.filter(|at| before.owner(at).is_none());
    paths.extend(new.cloned());
    paths
}

pub fn told(
    before: &State,
    after: &State,
    filter: &[String],
    ops: &[Op],
    changed: &BTreeSet<At>,
) -> Says {
    let mut out = Says::new();
    for op in ops {
        let path = at(&op.path);
        let record = matches!(op.kind, OpKind::PutRecord { .. } | OpKind::DeleteRecord);
        if record && matches(filter, &path) {
            out.insert(path.clone(), after.record(&path).cloned());
        }
    }
    let records = before
        .model
        .records
        .keys()
        .chain(after.model.records.keys());
    for record in records.filter(|record| matches(filter, record)) {
        if before.record(record) != after.record(record) {
            out.insert(record.clone(), after.record(record).cloned());
        }
    }
    for path in changed {
        tell_plain(before, after, filter, path, &mut out);
    }
    let literal = filter.iter().all(|level| level != "#" && level != "+");
    let inside = before.owner(filter).is_some() || after.owner(filter).is_some();
    if literal && inside && after.record(filter).is_none() {
        let (a, b) = (before.named(filter), after.named(filter));
        let other = before.model.own(filter) != after.model.own(filter);
        if other || a.is_some() != b.is_some() || out.contains_key(filter) && b.is_some() {
            out.insert(filter.to_vec(), b.cloned());
        }
    }
    out
}

fn tell_plain(before: &State, after: &State, filter: &[String], path: &[String], out: &mut Says) {
    let owner = before.owner(path);
    if owner.is_some() && owner == after.owner(path) {
        return;
    }
    let prefixes = (1..=path.len()).rev().map(|n| &path[..n]);
    let longest = prefixes.into_iter().find(|at| matches(filter, at));
    let topics: BTreeSet<&[String]> = match longest {
        Some(at) => [at]
            .into_iter()
            .filter(|at| after.owner(at).is_none())
            .collect(),
        None => {
            let all = before.plain.keys().chain(after.plain.keys());
            let below = all.filter(|at| at.len() > path.len() && at.starts_with(path));
            let below = below.filter(|at| matches(filter, at) && after.record(at).is_none());
            below.map(Vec::as_slice).collect()
        }
    };
    for topic in topics {
        let (a, b) = (before.plain.get(topic), after.plain.get(topic));
        if a != b {
            out.insert(topic.to_vec(), b.cloned());
        }
    }
}
