//! The design's section 2 as the slowest obvious program: documents by path, told-what by comparing before and after.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_tree::{Op, OpKind, Path};
use sapwood_value::{Map, Text, VALUE_KEY, Value};

/// A path's segments.
pub type At = Vec<String>;
/// What one commit tells a filter: documents, or none where something went.
pub type Says = BTreeMap<At, Option<Value>>;

pub fn at(path: &Path) -> At {
    path.segments().map(str::to_owned).collect()
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub plain: Option<Value>,
    pub records: BTreeMap<At, Value>,
    pub declared: Vec<At>,
}

impl Model {
    // Reading.

    fn owner(&self, path: &[String]) -> Option<At> {
        (0..=path.len())
            .rev()
            .map(|n| path[..n].to_vec())
            .find(|at| self.records.contains_key(at))
    }

    fn document_of(&self, owner: Option<&At>) -> (Option<&Value>, usize) {
        match owner {
            Some(at) => (self.records.get(at), at.len()),
            None => (self.plain.as_ref(), 0),
        }
    }

    /// What the path's own document (or the plain tree) says there, without the records below.
    pub fn own(&self, path: &[String]) -> Option<&Value> {
        let owner = self.owner(path);
        let (document, depth) = self.document_of(owner.as_ref());
        step(document?, &path[depth..], true)
    }

    pub fn tree(&self, path: &[String]) -> Option<Value> {
        let mut value = self.own(path).cloned();
        let mut below: Vec<&At> = self.records.keys().filter(|r| is_below(path, r)).collect();
        below.sort_by_key(|record| record.len());
        for record in below {
            let document = self.records[record].clone();
            value = Some(overlay(value, &record[path.len()..], document));
        }
        value
    }

    // Writing. What empties is judged at the end, in `prune`.

    fn set_own(&mut self, owner: Option<At>, path: &[String], value: Option<Value>) {
        match owner {
            None => self.plain = put_in(self.plain.take(), path, value),
            Some(owner) => {
                let document = self.records.remove(&owner);
                if let Some(new) = put_in(document, &path[owner.len()..], value) {
                    self.records.insert(owner, new);
                }
            }
        }
    }

    fn put(&mut self, path: &[String], value: &Value) {
        let mut value = spelled(value.clone());
        for record in self.below(path) {
            let way = &record[path.len()..];
            match step(&value, way, false) {
                None | Some(Value::Null) => {
                    self.records.remove(&record);
                }
                Some(part) => {
                    self.records.insert(record.clone(), part.clone());
                    value = put_in(Some(value), way, None).unwrap();
                }
            }
        }
        self.set_own(self.owner(path), path, Some(value));
    }

    /// The records strictly below, the deepest first.
    fn below(&self, path: &[String]) -> Vec<At> {
        let below = self.records.keys().filter(|record| is_below(path, record));
        let mut below: Vec<At> = below.cloned().collect();
        below.sort_by_key(|record| std::cmp::Reverse(record.len()));
        below
    }

    fn delete(&mut self, path: &[String]) {
        for record in self.below(path) {
            self.records.remove(&record);
        }
        let mut owner = self.owner(path);
        loop {
            let (document, depth) = self.document_of(owner.as_ref());
            if document.is_none_or(|document| step(document, &path[depth..], true).is_none()) {
                return;
            }
            let above = owner.as_ref().map(|at| self.owner(&at[..at.len() - 1]));
            self.set_own(owner.clone(), path, None);
            let (left, _) = self.document_of(owner.as_ref());
            if left.is_some_and(|left| pruned(left.clone()).is_some()) {
                return;
            }
            // The document is gone, or will be: what it covered goes, too.
            match above {
                Some(above) => owner = above,
                None => return,
            }
        }
    }

    fn mark(&mut self, path: &[String], inside: bool) {
        if !path.iter().all(|key| sapwood_tree::is_segment(key)) {
            return;
        }
        let owner = self.owner(path);
        if owner.as_deref() == Some(path) || owner.is_some() && !inside {
            return;
        }
        let Some(value) = self.own(path).cloned().filter(|value| !value.is_null()) else {
            return;
        };
        if pruned(value.clone()).is_none() {
            return;
        }
        self.set_own(owner, path, None);
        self.records.insert(path.to_vec(), value);
    }

    fn mark_put(&mut self, path: &[String], value: &Value) {
        match (path.len(), value) {
            (0, Value::Map(map)) => {
                for (key, value) in map {
                    self.mark_put(&child(path, key), value);
                }
            }
            (0, _) => {}
            (1, Value::Map(map)) => {
                for key in map.keys() {
                    self.mark(&child(path, key), false);
                }
            }
            _ => self.mark(path, false),
        }
    }

    fn mark_merge(&mut self, path: &[String], entries: &[(Text, Option<Value>)]) {
        if entries.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        for (key, value) in entries {
            match (path.len(), value) {
                (0, Some(value @ Value::Map(_))) => self.mark_put(&child(path, key), value),
                (1, _) => self.mark(&child(path, key), false),
                (2, _) => self.mark(path, false),
                _ => {}
            }
        }
    }

    /// Every declared path at, above or below what a tree write put is a record.
    fn mark_declared(&mut self, path: &[String], value: &Value) {
        for pattern in self.declared.clone() {
            let mut written = Vec::new();
            paths_of(value, path.to_vec(), &mut written);
            written.extend((0..path.len()).map(|n| path[..n].to_vec()));
            for at in written {
                let wild = |segment: &str| segment.starts_with('{');
                let mut pairs = at.iter().zip(&pattern);
                if at.len() == pattern.len() && pairs.all(|(s, p)| s == p || wild(p)) {
                    self.mark(&at, true);
                }
            }
        }
    }

    pub fn apply(&mut self, op: &Op) {
        let path = at(&op.path);
        match &op.kind {
            OpKind::Put {
                value: Value::Null, ..
            }
            | OpKind::Delete => self.delete(&path),
            OpKind::Put { value, mark } => {
                self.put(&path, value);
                if *mark {
                    self.mark_put(&path, value);
                }
                self.mark_declared(&path, value);
            }
            OpKind::Merge { entries, mark } => {
                for (key, value) in entries {
                    if let Some(value) = value {
                        self.put(&child(&path, key), value);
                    }
                }
                for (key, _) in entries.iter().filter(|(_, value)| value.is_none()) {
                    self.delete(&child(&path, key));
                }
                if *mark {
                    self.mark_merge(&path, entries);
                }
                for (key, value) in entries {
                    if let Some(value) = value {
                        self.mark_declared(&child(&path, key), value);
                    }
                }
            }
            OpKind::PutRecord { document, .. } => {
                let owner = self.owner(&path);
                if owner.is_none() {
                    self.set_own(None, &path, None);
                }
                self.records.insert(path, spelled(document.clone()));
            }
            OpKind::DeleteRecord => {
                if self.records.remove(&path).is_none() && self.owner(&path).is_none() {
                    self.set_own(None, &path, None);
                }
            }
            OpKind::Mark => self.mark(&path, true),
        }
    }

    /// What empties is judged after the whole write.
    pub fn prune(&mut self) {
        self.plain = self.plain.take().and_then(pruned);
        for (at, document) in std::mem::take(&mut self.records) {
            if let Some(document) = pruned(document) {
                self.records.insert(at, document);
            }
        }
    }

    /// Plain values by path, without records.
    fn plain_topics(&self) -> BTreeMap<At, Value> {
        let mut out = BTreeMap::new();
        if let Some(plain) = &self.plain {
            let mut paths = Vec::new();
            paths_with_items(plain, Vec::new(), &mut paths);
            for path in paths.into_iter().filter(|path| !path.is_empty()) {
                let value = step(plain, &path, true).unwrap();
                if value.as_map().is_none_or(|map| !map.is_empty()) {
                    out.insert(path, value.clone());
                }
            }
        }
        for record in self.records.keys() {
            out.remove(record);
        }
        out
    }

    /// What a new subscriber gets first.
    pub fn first(&self, filter: &[String]) -> BTreeMap<At, Value> {
        let records = self.records.iter().filter(|(at, _)| matches(filter, at));
        let mut out: BTreeMap<At, Value> = records.map(|(at, v)| (at.clone(), v.clone())).collect();
        if filter.iter().any(|segment| segment == "#") {
            return out;
        }
        let plain = self.plain_topics().into_iter();
        out.extend(plain.filter(|(at, _)| matches(filter, at)));
        let literal = filter.iter().all(|segment| segment != "+");
        if literal && !self.records.contains_key(filter) && self.owner(filter).is_some() {
            out.extend(self.own(filter).map(|own| (filter.to_vec(), own.clone())));
        }
        out
    }
}

/// What a commit tells one filter (design, 2.2).
pub fn told(before: &Model, after: &Model, filter: &[String], ops: &[Op]) -> Says {
    let mut out = Says::new();
    for op in ops {
        let path = at(&op.path);
        let record = matches!(op.kind, OpKind::PutRecord { .. } | OpKind::DeleteRecord);
        if record && matches(filter, &path) {
            out.insert(path.clone(), after.records.get(&path).cloned());
        }
    }
    // Rules 1 and 3: records whose document changed.
    let records: BTreeSet<&At> = before.records.keys().chain(after.records.keys()).collect();
    for record in records {
        let (a, b) = (before.records.get(record), after.records.get(record));
        if matches(filter, record) && a != b {
            out.insert(record.clone(), b.cloned());
        }
    }
    for path in changed_paths(before, after, ops) {
        tell_plain(before, after, filter, &path, &mut out);
    }
    tell_field(before, after, filter, &mut out);
    out
}

fn changed_paths(before: &Model, after: &Model, ops: &[Op]) -> Vec<At> {
    let mut paths = Vec::new();
    for op in ops {
        let path = at(&op.path);
        match &op.kind {
            OpKind::Merge { entries, .. } => {
                paths.extend(entries.iter().map(|(key, _)| child(&path, key)));
            }
            OpKind::Put { .. }
            | OpKind::Delete
            | OpKind::PutRecord { .. }
            | OpKind::DeleteRecord
            | OpKind::Mark => paths.push(path),
        }
    }
    let new = after.records.keys();
    let new = new.filter(|at| !before.records.contains_key(*at) && before.owner(at).is_none());
    paths.extend(new.cloned());
    // A put at the root is told per child.
    if paths.iter().any(Vec::is_empty) {
        for model in [before, after] {
            let tops = model.plain_topics().into_keys().map(|at| at[..1].to_vec());
            paths.extend(tops);
        }
    }
    paths
}

/// Rule 2: the path, or its longest prefix that the filter matches; and rule 3: a put above the filter.
fn tell_plain(before: &Model, after: &Model, filter: &[String], path: &[String], out: &mut Says) {
    let (a, b) = (before.owner(path), after.owner(path));
    if a.is_some() && a == b {
        return;
    }
    let (plain_before, plain_after) = (before.plain_topics(), after.plain_topics());
    let prefixes = (1..=path.len()).rev().map(|n| path[..n].to_vec());
    let topics: BTreeSet<At> = match prefixes.clone().find(|at| matches(filter, at)) {
        Some(at) => {
            let in_record = before.owner(&at).is_some() || after.owner(&at).is_some();
            if in_record {
                BTreeSet::new()
            } else {
                BTreeSet::from([at])
            }
        }
        None => {
            let all = plain_before.keys().chain(plain_after.keys());
            let below = all.filter(|at| is_below(path, at) && matches(filter, at));
            below
                .filter(|at| !after.records.contains_key(*at))
                .cloned()
                .collect()
        }
    };
    for topic in topics {
        let (a, b) = (plain_before.get(&topic), plain_after.get(&topic));
        if a != b {
            out.insert(topic, b.cloned());
        }
    }
}

/// Rule 4: a field, or what a record below had covered.
fn tell_field(before: &Model, after: &Model, filter: &[String], out: &mut Says) {
    let literal = filter
        .iter()
        .all(|segment| segment != "#" && segment != "+");
    let inside = before.owner(filter).is_some() || after.owner(filter).is_some();
    if !literal || !inside || after.records.contains_key(filter) {
        return;
    }
    let (a, b) = (before.own(filter), after.own(filter));
    if a != b || out.contains_key(filter) && b.is_some() {
        out.insert(filter.to_vec(), b.cloned());
    }
}

pub fn matches(filter: &[String], path: &[String]) -> bool {
    for (i, segment) in filter.iter().enumerate() {
        if segment == "#" {
            return true;
        }
        if i >= path.len() || segment != "+" && *segment != path[i] {
            return false;
        }
    }
    filter.len() == path.len()
}

fn is_below(path: &[String], other: &[String]) -> bool {
    other.len() > path.len() && other.starts_with(path)
}

fn child(path: &[String], key: &str) -> At {
    let mut child = path.to_vec();
    child.push(key.to_owned());
    child
}

/// Every path at and below `path` that a value has something for; arrays are kept whole.
fn paths_of(value: &Value, path: At, out: &mut Vec<At>) {
    if let Some(map) = value.as_map() {
        for (key, value) in map {
            paths_of(value, child(&path, key), out);
        }
    }
    out.push(path);
}

fn paths_with_items(value: &Value, path: At, out: &mut Vec<At>) {
    if let Some(map) = value.as_map() {
        for (key, value) in map {
            paths_with_items(value, child(&path, key), out);
        }
    }
    for (index, item) in value.as_array().unwrap_or_default().iter().enumerate() {
        paths_with_items(item, child(&path, &index.to_string()), out);
    }
    out.push(path);
}

fn index(key: &str, len: usize) -> Option<usize> {
    let index: usize = key.parse().ok()?;
    (index.to_string() == key && index < len).then_some(index)
}

fn step<'a>(value: &'a Value, path: &[String], arrays: bool) -> Option<&'a Value> {
    let Some((key, rest)) = path.split_first() else {
        return Some(value);
    };
    let inner = match value {
        Value::Map(map) => map.get(key)?,
        Value::Array(items) if arrays => &items[index(key, items.len())?],
        _ => return None,
    };
    step(inner, rest, arrays)
}

fn put_in(document: Option<Value>, path: &[String], value: Option<Value>) -> Option<Value> {
    let Some((key, rest)) = path.split_first() else {
        return value;
    };
    let mut map = match document {
        Some(Value::Map(map)) => map,
        Some(Value::Array(items)) => {
            let old = index(key, items.len()).map(|i| items[i].clone());
            let inner = put_in(old.clone(), rest, value.clone()).and_then(pruned);
            let mut items = items;
            match (inner, old) {
                (None, None) => return Some(Value::Array(items)),
                (None, Some(_)) if key == &(items.len() - 1).to_string() => {
                    items.pop();
                    return Some(Value::Array(items));
                }
                (Some(inner), Some(_)) => {
                    items[key.parse::<usize>().unwrap()] = inner;
                    return Some(Value::Array(items));
                }
                (Some(inner), None) if key == &items.len().to_string() => {
                    items.push(inner);
                    return Some(Value::Array(items));
                }
                _ => {}
            }
            let items = items.into_iter().enumerate();
            items
                .map(|(i, item)| (i.to_string(), spelled(item)))
                .collect()
        }
        other if value.is_none() => return other,
        _ => Map::implied(),
    };
    if let Some(inner) = put_in(map.remove(key), rest, value) {
        map.insert(key.as_str().into(), inner);
    }
    Some(Value::Map(map))
}

fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Map(map) => {
            let mut out = Map::new();
            out.set_implied(map.is_implied());
            for (key, inner) in map {
                if let Some(inner) = pruned(inner) {
                    out.insert(key, inner);
                }
            }
            if out.is_empty() && out.is_implied() {
                None
            } else {
                Some(Value::Map(out))
            }
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(pruned).collect())),
        other => Some(other),
    }
}

fn spelled(value: Value) -> Value {
    match value {
        Value::Map(map) => Value::Map(map.into_iter().map(|(k, v)| (k, spelled(v))).collect()),
        Value::Array(items) => Value::Array(items.into_iter().map(spelled).collect()),
        other => other,
    }
}

fn overlay(value: Option<Value>, path: &[String], document: Value) -> Value {
    let Some((key, rest)) = path.split_first() else {
        return document;
    };
    let mut map = match value {
        None => Map::implied(),
        Some(Value::Map(map)) => map,
        Some(Value::Array(items)) => {
            let items = items.into_iter().enumerate();
            items.map(|(i, item)| (i.to_string(), item)).collect()
        }
        Some(scalar) => [(VALUE_KEY, scalar)].into_iter().collect(),
    };
    let inner = overlay(map.remove(key), rest, document);
    map.insert(key.as_str().into(), inner);
    Value::Map(map)
}
