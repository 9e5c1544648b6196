//! The design's sections 2.1 and 2.3 as the slowest obvious program: documents by path.

use std::collections::BTreeMap;

use sapwood_tree::{Op, OpKind, Path, Settings};
use sapwood_value::{Map, Text, VALUE_KEY, Value};

/// A path's segments.
pub type At = Vec<String>;
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
    /// An empty tree with the same declared resources.
    pub fn of(settings: &Settings) -> Self {
        let patterns = settings.declared.patterns().iter();
        Self {
            declared: patterns
                .map(|pattern| pattern.as_str().split('/').map(str::to_owned).collect())
                .collect(),
            ..Self::default()
        }
    }

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
