//! Making records of what tree writes wrote (design, 2.1).

use sapwood_value::{Text, Value};

use super::super::value::prune;
use super::Draft;
use crate::declared::Pattern;
use crate::walk::{inline, nearest};
use crate::{Below, Path, Row, RowKind, RowsError, is_segment};

impl Draft<'_> {
    /// Marks what the HTTP door's PUT wrote: the path itself; above two segments each path of two segments that the
    /// value has, and what ends higher.
    pub(super) fn mark_put(&mut self, path: &Path, value: &Value) -> Result<(), RowsError> {
        match (path.len(), value) {
            (0, Value::Map(map)) => {
                for (key, value) in map.iter().filter(|(key, _)| is_segment(key)) {
                    self.mark_put(&path.child_unchecked(key), value)?;
                }
                Ok(())
            }
            (0, _) => Ok(()),
            (1, Value::Map(map)) => {
                for key in map.keys().filter(|key| is_segment(key)) {
                    self.mark(&path.child_unchecked(key), false)?;
                }
                Ok(())
            }
            _ => self.mark(path, false),
        }
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

    /// Makes records of the declared resources that a tree write put something at, above or below.
    pub(super) fn mark_declared(&mut self, path: &Path, value: &Value) -> Result<(), RowsError> {
        if self.settings.declared.is_empty() {
            return Ok(());
        }
        let mut found = Vec::new();
        for pattern in self.settings.declared.patterns() {
            if pattern.len() <= path.len() {
                let at = path.prefix(pattern.len());
                if pattern.matches(&at) {
                    found.push(at);
                }
            } else if pattern.matches_above(path) {
                declared_in(pattern, path, value, &mut found);
            }
        }
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
        self.remove_inline(at, path)?;
        let mut row = Row::new(RowKind::Record, value, self.seq);
        row.below = self.find_below(path)?;
        row.records = row.below != Below::Nothing;
        self.fill(path, row)?;
        Ok(true)
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
