//! Tree writes: put, merge, delete (design, 2.1).

use std::ops::Bound;
use std::sync::Arc;

use sapwood_value::{Text, Value, key_cmp};

use super::super::value::{Excess, check, prune, put_in, spell_out, take_parts};
use super::{Draft, WriteError};
use crate::rows::range_below;
use crate::walk::{Parts, inline, nearest};
use crate::{Below, Path, ReadError, Row, RowKind, Rows, RowsError, is_end, is_segment};

/// What lies strictly below a path that is written.
enum Under {
    /// All the rows there.
    Few(Vec<(Path, Arc<Row>)>),
    /// More than are removed one by one.
    Many,
}

/// A record below a put, with its part of the value.
pub(super) struct PutBelow {
    pub(super) path: Path,
    pub(super) document: Value,
    /// Its row, if it is kept.
    pub(super) kept: Option<Arc<Row>>,
    /// Whether its document stays the same.
    pub(super) same: bool,
}

/// A key of a merge, and what is put there; none removes.
type Entry<'a> = (&'a Text, Option<&'a Value>);

impl Draft<'_> {
    /// A put as a door asks for it: null deletes, and what was written may become records.
    pub(super) fn put_marked(
        &mut self,
        path: &Path,
        value: &Value,
        mark: bool,
    ) -> Result<bool, WriteError> {
        if value.is_null() {
            return self.delete(path);
        }
        let existed = self.put(path, value, mark)?;
        if mark {
            self.mark_put(path, value)?;
        }
        self.mark_declared(path)?;
        Ok(existed)
    }

    /// Puts and removes direct children; the removals last, so that they empty nothing that is filled.
    pub(super) fn merge(
        &mut self,
        path: &Path,
        entries: &[(Text, Option<Value>)],
        mark: bool,
    ) -> Result<bool, WriteError> {
        check_keys(path, entries)?;
        let existed = crate::exists(self, path)?;
        let (puts, deletes): (Vec<_>, Vec<_>) = entries
            .iter()
            .map(|(key, value)| (key, value.as_ref().filter(|value| !value.is_null())))
            .partition(|(_, value)| value.is_some());
        let in_order: Vec<Entry<'_>> = [puts.as_slice(), &deletes].concat();
        if !self.merge_array(path, &in_order)? {
            for (key, value) in in_order {
                let child = self.child(path, key)?;
                match value {
                    Some(value) => self.put(&child, value, false)?,
                    None => self.delete(&child)?,
                };
            }
        }
        if mark {
            self.mark_merge(path, entries)?;
        }
        for (key, _) in puts {
            self.mark_declared(&path.child_unchecked(key))?;
        }
        Ok(existed)
    }

    /// Merges into an array with nothing below it at one go, as each step alone would copy it. Whether that was done:
    /// not where the array becomes a map, or what is put may become records.
    fn merge_array(&mut self, path: &Path, entries: &[Entry<'_>]) -> Result<bool, WriteError> {
        let Some((at, row)) = nearest(self, path)? else {
            return Ok(false);
        };
        let own = if at == *path {
            Some(&row.fragment)
        } else {
            inline(&at, &row, path)
        };
        let Some(old) = own.filter(|own| own.as_array().is_some()) else {
            return Ok(false);
        };
        let mut declared = self.settings.declared.patterns().iter();
        if declared.any(|pattern| pattern.len() > path.len() && pattern.matches_above(path))
            || !matches!(self.under(path)?, Under::Few(rows) if rows.is_empty())
        {
            return Ok(false);
        }
        let mut new = Some(old.clone());
        for (key, value) in entries {
            self.check_value(&self.child(path, key)?, value.unwrap_or(&Value::Null))?;
            let mut value = value.cloned();
            value.iter_mut().for_each(spell_out);
            new = put_in(new, std::iter::once(key.as_str()), value);
        }
        let Some(new @ Value::Array(_)) = new else {
            return Ok(false);
        };
        if new != *old {
            self.touch(path)?;
        }
        self.set_own(path, new)?;
        if entries.iter().any(|(_, value)| value.is_none()) {
            self.emptied.insert(at);
        }
        Ok(true)
    }

    fn child(&self, path: &Path, key: &Text) -> Result<Path, WriteError> {
        let child = path.child_unchecked(key);
        if child.is_system() {
            return Err(WriteError::System { path: child });
        }
        if child.len() > self.settings.limits.depth {
            return Err(self.too_deep(&child));
        }
        if key.len() > self.settings.limits.segment_bytes {
            return Err(WriteError::Key {
                path: path.clone(),
                key: key.clone(),
            });
        }
        Ok(child)
    }

    /// Makes the tree value at a path exactly this, and keeps the records that it has something for. What becomes a
    /// record below the path, or in a place of its own, is written as one at once.
    fn put(&mut self, path: &Path, value: &Value, mark: bool) -> Result<bool, WriteError> {
        self.check_value(path, value)?;
        let mut value = value.clone();
        spell_out(&mut value);
        let under = self.under(path)?;
        let existed = self.existed(path, &under)?;
        let mut records = self.keep(path, &mut value, &under)?;
        if matches!(&under, Under::Few(rows) if rows.is_empty())
            && value.estimated_bytes() > self.settings.split_bytes
            && range_below(&self.changed, path, Bound::Excluded(path.clone()))
                .next()
                .is_none()
        {
            // Its many rows are all new: none has to be looked for.
            self.empty_below.insert(path);
        }
        let mark = mark && crate::record_of(self, path)?.is_none();
        self.take_marked(path, &mut value, mark, &mut records);
        for record in &mut records {
            record.same = record.kept.is_some() && self.own_is(&record.path, &record.document)?;
        }
        if !self.own_is(path, &value)? {
            self.touch(path)?;
        }
        self.clear(path, under)?;
        if mark
            && (path.len() > 1 || !path.is_root() && value.as_map().is_none())
            && self.is_free(path)?
        {
            self.fill(path, Row::new(RowKind::Record, value, self.seq))?;
        } else {
            self.set_own(path, value)?;
        }
        // From above, so that each finds the rows above it and tells them of itself.
        records.sort_by_key(|record| record.path.len());
        for record in records {
            self.put_below(record)?;
        }
        Ok(existed)
    }

    /// Whether a path has nothing of its own, and all above it are maps: then a record there changes nothing else.
    fn is_free(&self, path: &Path) -> Result<bool, RowsError> {
        Ok(nearest(self, path)?.is_none_or(|(at, row)| at != *path && row.exploded))
    }

    pub(super) fn check_value(&self, path: &Path, value: &Value) -> Result<(), WriteError> {
        let limits = &self.settings.limits;
        if path.is_root()
            && let Some(map) = value.as_map()
            && let Some(key) = map.keys().find(|key| key.starts_with('.'))
        {
            let path = path.child_unchecked(&key.replace(['/', '\0'], "?"));
            return Err(WriteError::System { path });
        }
        let path = path.clone();
        check(value, path.len(), limits).map_or_else(
            |excess| {
                Err(match excess {
                    Excess::Depth => self.too_deep(&path),
                    Excess::String(got) => WriteError::StringTooLarge {
                        path,
                        got,
                        limit: limits.string_bytes,
                    },
                    Excess::Value(got) => WriteError::ValueTooLarge {
                        path,
                        got,
                        limit: limits.value_bytes,
                    },
                })
            },
            |_| Ok(()),
        )
    }

    fn under(&self, path: &Path) -> Result<Under, RowsError> {
        if !self.may_have_below(path)? {
            return Ok(Under::Few(Vec::new()));
        }
        let max = self.settings.cut_rows.saturating_add(1);
        let rows = self.scan(path, None, max)?;
        // A few large ones are not looked at one by one, either.
        Ok(if is_end(&rows, max) {
            Under::Few(rows)
        } else {
            Under::Many
        })
    }

    fn existed(&self, path: &Path, under: &Under) -> Result<bool, RowsError> {
        match under {
            Under::Many => Ok(true),
            Under::Few(rows) => Ok(!rows.is_empty() || crate::own_exists(self, path)?),
        }
    }

    /// Takes out of a value what goes to the records below it.
    fn keep(
        &self,
        path: &Path,
        value: &mut Value,
        under: &Under,
    ) -> Result<Vec<PutBelow>, RowsError> {
        let records = match under {
            Under::Few(rows) => {
                let records = rows.iter().filter(|(_, row)| row.is_record());
                records.cloned().collect()
            }
            Under::Many => self.records_in(path, value)?,
        };
        let kept = take_parts(path, value, records).into_iter();
        let kept = kept.map(|(path, row, document)| PutBelow {
            path,
            document,
            kept: Some(row),
            same: false,
        });
        Ok(kept.collect())
    }

    /// The records that a value has something for: seen from the value, as there may be any number of others.
    fn records_in(&self, path: &Path, value: &Value) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        let mut found = Vec::new();
        let mut waiting = vec![(path.clone(), value)];
        while let Some((path, value)) = waiting.pop() {
            let Some(map) = value.as_map().filter(|map| !map.is_empty()) else {
                continue;
            };
            if !self.may_have_below(&path)? || self.scan(&path, None, 1)?.is_empty() {
                continue;
            }
            for (key, value) in map.iter().filter(|(key, _)| is_segment(key)) {
                let child = path.child_unchecked(key);
                if let Some(row) = self.row(&child)?.filter(|row| row.is_record()) {
                    found.push((child.clone(), row));
                }
                waiting.push((child, value));
            }
        }
        Ok(found)
    }

    /// Whether the document that a path belongs to has exactly this there.
    pub(super) fn own_is(&self, path: &Path, value: &Value) -> Result<bool, RowsError> {
        match nearest(self, path)? {
            Some((at, row)) if !row.exploded => {
                let own = if at == *path {
                    Some(&row.fragment)
                } else {
                    inline(&at, &row, path)
                };
                Ok(own == Some(value))
            }
            Some((at, _)) if at == *path => match crate::own(self, path, value.estimated_bytes()) {
                Ok(own) => Ok(own.as_ref() == Some(value)),
                Err(ReadError::TooLarge { .. }) => Ok(false),
                Err(ReadError::Rows(error)) => Err(error),
            },
            Some(_) | None => Ok(false),
        }
    }

    fn clear(&mut self, path: &Path, under: Under) -> Result<(), RowsError> {
        match under {
            Under::Few(rows) => {
                for (path, _) in rows {
                    self.erase(&path)?;
                }
            }
            Under::Many => self.cut(path),
        }
        Ok(())
    }

    /// Removes a row below which nothing stays that has to be known of.
    pub(super) fn erase(&mut self, path: &Path) -> Result<(), RowsError> {
        self.before(path)?;
        self.changed.insert(path.clone(), None);
        Ok(())
    }

    /// Changes the document that a path belongs to; no rows lie strictly below the path.
    fn set_own(&mut self, path: &Path, value: Value) -> Result<(), RowsError> {
        let (at, row) = match nearest(self, path)? {
            Some((at, row)) => (at, Some(row)),
            None => (Path::root(), None),
        };
        match row {
            Some(row) if at == *path => {
                let mut row = Row::clone(&row);
                row.fragment = value;
                row.below = Below::Nothing;
                row.records = false;
                self.fill(path, row)
            }
            None if path.is_root() => self.fill(path, Row::new(RowKind::Part, value, self.seq)),
            Some(row) if !row.exploded => {
                let mut row = Row::clone(&row);
                let Some(segments) = path.segments_below(&at) else {
                    return Ok(());
                };
                let fragment = std::mem::take(&mut row.fragment);
                row.fragment = put_in(Some(fragment), segments, Some(value)).unwrap_or_default();
                self.fill(&at, row)
            }
            Some(_) | None => self.set_own_part(&at, path, value),
        }
    }

    /// Puts a new child into an exploded row.
    fn set_own_part(&mut self, at: &Path, path: &Path, value: Value) -> Result<(), RowsError> {
        let part = path.prefix(at.len() + 1);
        let Some(segments) = path.segments_below(&part) else {
            return Ok(());
        };
        let below = if part == *path {
            Below::Nothing
        } else {
            self.find_below(&part)?
        };
        let value = put_in(None, segments, Some(value)).unwrap_or_default();
        let mut row = Row::new(RowKind::Part, value, self.seq);
        row.below = below;
        self.fill(&part, row)
    }

    fn put_below(&mut self, record: PutBelow) -> Result<(), RowsError> {
        let PutBelow {
            path,
            document,
            kept,
            same,
        } = record;
        let Some(row) = kept else {
            return self.fill(&path, Row::new(RowKind::Record, document, self.seq));
        };
        let mut row = Row::clone(&row);
        row.fragment = document;
        row.exploded = false;
        row.below = Below::Nothing;
        row.records = false;
        row.covered = None;
        self.fill(&path, row)?;
        if !same {
            self.touch_record(&path)?;
        }
        Ok(())
    }

    /// Removes all that lies at and below a path, with what was covered there.
    pub(super) fn delete(&mut self, path: &Path) -> Result<bool, WriteError> {
        let under = self.under(path)?;
        let existed = self.existed(path, &under)?;
        self.clear(path, under)?;
        self.delete_own(path)?;
        Ok(existed)
    }

    /// Removes what the path's document has there; and what shows then, if that document is gone with it.
    fn delete_own(&mut self, path: &Path) -> Result<(), RowsError> {
        if path.is_root() {
            return self.erase(path);
        }
        loop {
            let Some((at, row)) = nearest(self, path)? else {
                return Ok(());
            };
            if at == *path {
                self.erase(path)?;
                if row.is_record() && row.covered.is_none() {
                    continue;
                }
                self.emptied_above(path);
                self.touch(path)?;
            } else if inline(&at, &row, path).is_some() {
                self.touch(path)?;
                self.remove_inline(&at, path)?;
            } else {
                return Ok(());
            }
            return self.delete_covered(path);
        }
    }

    /// Removes what a row's fragment has at a path.
    pub(super) fn remove_inline(&mut self, at: &Path, path: &Path) -> Result<(), RowsError> {
        let (Some(row), Some(segments)) = (self.row(at)?, path.segments_below(at)) else {
            return Ok(());
        };
        let mut row = Row::clone(&row);
        let fragment = std::mem::take(&mut row.fragment);
        row.fragment = put_in(Some(fragment), segments, None).unwrap_or_default();
        self.set(at, row);
        self.emptied.insert(at.clone());
        Ok(())
    }

    /// While the document that a path belongs to is gone by what was removed: removes what it covered there, too.
    fn delete_covered(&mut self, path: &Path) -> Result<(), RowsError> {
        let mut record = crate::record_of(self, path)?;
        while let Some(at) = record {
            let Some(row) = self.row(&at)? else {
                return Ok(());
            };
            if !self.vanishes(&at, &row)? {
                return Ok(());
            }
            let Some(parent) = at.parent() else {
                return Ok(());
            };
            record = crate::record_of(self, &parent)?;
            if !self.remove_covered(&at, &row, path, &parent)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes what the document above a record has at a path below the record; whether something was there.
    fn remove_covered(
        &mut self,
        at: &Path,
        row: &Row,
        path: &Path,
        parent: &Path,
    ) -> Result<bool, RowsError> {
        if let Some(covered) = &row.covered {
            let Some(segments) = path.segments_below(at) else {
                return Ok(false);
            };
            if crate::walk::step(covered, segments.clone()).is_none() {
                return Ok(false);
            }
            let mut left = put_in(Some((**covered).clone()), segments, None);
            if left.as_mut().is_some_and(|left| !prune(left)) {
                left = None;
            }
            let mut row = row.clone();
            row.covered = left.map(Box::new);
            self.set(at, row);
            self.emptied_above(at);
        } else {
            match nearest(self, parent)? {
                Some((above, row)) if inline(&above, &row, path).is_some() => {
                    self.remove_inline(&above, path)?;
                }
                Some(_) | None => return Ok(false),
            }
        }
        self.touch(parent)?;
        Ok(true)
    }

    /// Whether nothing will be left of a row when it is judged what the write emptied.
    pub(super) fn vanishes(&self, path: &Path, row: &Row) -> Result<bool, RowsError> {
        if !row.is_implied() {
            return Ok(false);
        }
        if !row.exploded {
            return Ok(!prune(&mut row.fragment.clone()));
        }
        if row.fragment.as_map().is_some_and(|map| !map.is_empty()) {
            return Ok(false);
        }
        let mut parts = Parts::new(path.clone());
        while let Some((at, below)) = parts.next(self)? {
            if below.is_record() || !self.vanishes(&at, &below)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn check_keys(path: &Path, entries: &[(Text, Option<Value>)]) -> Result<(), WriteError> {
    let mut keys: Vec<&Text> = entries.iter().map(|(key, _)| key).collect();
    keys.sort_by(|a, b| key_cmp(a, b));
    let twice = keys.array_windows().find(|[a, b]| a == b);
    if let Some([key, _]) = twice {
        return Err(WriteError::KeyTwice {
            path: path.clone(),
            key: (*key).clone(),
        });
    }
    match keys.into_iter().find(|key| !is_segment(key)) {
        Some(key) => Err(WriteError::Key {
            path: path.clone(),
            key: key.clone(),
        }),
        None => Ok(()),
    }
}
