//! Making records of what tree writes wrote (design, 2.1).

use sapwood_value::{Text, Value};

use super::super::value::{prune, take_parts};
use super::Draft;
use super::tree::PutBelow;
use crate::declared::Pattern;
use crate::walk::{inline, nearest};
use crate::{Below, Path, Row, RowKind, RowsError, is_segment};

impl Draft<'_> {
    /// Marks what the HTTP door's PUT wrote, as far as it is not a record yet: the path itself; above two segments each
    /// path of two segments that the value has, and what ends higher.
    pub(super) fn mark_put(&mut self, path: &Path, value: &Value) -> Result<(), RowsError> {
        let mut marked = Vec::new();
        if path.len() > 1 || !path.is_root() && value.as_map().is_none() {
            marked.push(path.clone());
        } else {
            marked_in(path, value, &mut marked);
        }
        for path in marked {
            self.mark(&path, false)?;
        }
        Ok(())
    }

    /// Marks what the HTTP door's PATCH wrote: paths of two segments only, and nothing where it only removes.
    pub(super) fn mark_merge(
        &mut self,
        path: &Path,
        entries: &[(Text, Option<Value>)],
    ) -> Result<(), RowsError> {
        let written = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        if !entries.iter().any(|(_, value)| written(value)) {
            return Ok(());
        }
        match path.len() {
            0 => {
                for (key, value) in entries {
                    if let Some(value @ Value::Map(_)) = value {
                        self.mark_put(&path.child_unchecked(key), value)?;
                    }
                }
                Ok(())
            }
            1 => {
                for (key, _) in entries {
                    self.mark(&path.child_unchecked(key), false)?;
                }
                Ok(())
            }
            2 => self.mark(path, false),
            _ => Ok(()),
        }
    }

    /// Takes out of a value that is put at `path`, and out of what of it goes to `records` below, what becomes a record
    /// by itself: by declaration, or by a door's `mark` in the plain tree.
    pub(super) fn take_marked(
        &self,
        path: &Path,
        value: &mut Value,
        mark: bool,
        records: &mut Vec<PutBelow>,
    ) {
        let mut taken = Vec::new();
        for record in records.iter_mut() {
            let found = self.declared_below(&record.path, &record.document);
            take_records(&record.path, &mut record.document, found, &mut taken);
        }
        let mut found = self.declared_below(path, value);
        if mark {
            marked_in(path, value, &mut found);
        }
        take_records(path, value, found, &mut taken);
        records.append(&mut taken);
    }

    /// The declared resources below a path that a value put there has something for.
    fn declared_below(&self, path: &Path, value: &Value) -> Vec<Path> {
        let mut found = Vec::new();
        for pattern in self.settings.declared.patterns() {
            if pattern.len() > path.len() && pattern.matches_above(path) {
                declared_in(pattern, path, value, &mut found);
            }
        }
        found
    }

    /// Makes a record of the declared resource that a tree write put something at, or in.
    pub(super) fn mark_declared(&mut self, path: &Path) -> Result<(), RowsError> {
        let patterns = self.settings.declared.patterns().iter();
        let found: Vec<Path> = patterns
            .filter(|pattern| pattern.len() <= path.len())
            .filter(|pattern| pattern.matches(&path.prefix(pattern.len())))
            .map(|pattern| path.prefix(pattern.len()))
            .collect();
        for path in found {
            self.mark(&path, true)?;
        }
        Ok(())
    }

    /// Makes a record of what lies at a path, if something does: in the plain tree, or also `inside` a record.
    pub(super) fn mark(&mut self, path: &Path, inside: bool) -> Result<(), RowsError> {
        let Some((at, row)) = nearest(self, path)? else {
            return Ok(());
        };
        if path.is_root() || at == *path && row.is_record() {
            return Ok(());
        }
        let record = crate::record_of(self, path)?;
        if record.is_some() && !inside {
            return Ok(());
        }
        let marked = if at == *path {
            self.mark_row(path, &row)?
        } else {
            self.mark_inline(&at, &row, path)?
        };
        if marked {
            self.touched.insert(path.clone());
            if let Some(record) = record {
                self.touch_record(&record)?;
            }
        }
        Ok(())
    }

    /// A part that has a row of its own becomes a record as it stands, however large it is.
    fn mark_row(&mut self, path: &Path, row: &Row) -> Result<bool, RowsError> {
        if row.fragment.is_null() && !row.exploded || self.vanishes(path, row)? {
            return Ok(false);
        }
        let mut row = row.clone();
        row.kind = RowKind::Record;
        row.records = row.below != Below::Nothing;
        row.version = self.seq;
        self.place(path, row)?;
        self.emptied_above(path);
        Ok(true)
    }

    fn mark_inline(&mut self, at: &Path, row: &Row, path: &Path) -> Result<bool, RowsError> {
        let Some(value) = inline(at, row, path).filter(|value| !value.is_null()) else {
            return Ok(false);
        };
        let value = value.clone();
        if !prune(&mut value.clone()) {
            return Ok(false);
        }
        if self.emptied.contains(at) {
            self.emptied.insert(path.clone());
        }
        self.remove_inline(at, path)?;
        let mut row = Row::new(RowKind::Record, value, self.seq);
        row.below = self.find_below(path)?;
        row.records = row.below != Below::Nothing;
        self.fill(path, row)?;
        Ok(true)
    }
}

/// Takes what a value at `path` has at the paths found below it.
fn take_records(path: &Path, value: &mut Value, found: Vec<Path>, taken: &mut Vec<PutBelow>) {
    let found = found.into_iter().map(|at| (at, ())).collect();
    let parts = take_parts(path, value, found).into_iter();
    taken.extend(parts.map(|(path, (), document)| PutBelow {
        path,
        document,
        kept: None,
        same: false,
    }));
}

/// The paths of two segments that a value at a path above them has, and what ends higher.
fn marked_in(path: &Path, value: &Value, found: &mut Vec<Path>) {
    let Some(map) = value.as_map().filter(|_| path.len() < 2) else {
        return;
    };
    for (key, value) in map.iter().filter(|(key, _)| is_segment(key)) {
        let child = path.child_unchecked(key);
        if child.len() < 2 && value.as_map().is_some() {
            marked_in(&child, value, found);
        } else {
            found.push(child);
        }
    }
}

/// The paths of a pattern that a value written at `path`, above them, has something for. Arrays are kept whole.
fn declared_in(pattern: &Pattern, path: &Path, value: &Value, found: &mut Vec<Path>) {
    let Some(segment) = pattern.segment(path.len()) else {
        found.push(path.clone());
        return;
    };
    let Some(map) = value.as_map() else {
        return;
    };
    match segment {
        Some(literal) => {
            if let Some(value) = map.get(literal) {
                declared_in(pattern, &path.child_unchecked(literal), value, found);
            }
        }
        None => {
            for (key, value) in map.iter().filter(|(key, _)| is_segment(key)) {
                declared_in(pattern, &path.child_unchecked(key), value, found);
            }
        }
    }
}
