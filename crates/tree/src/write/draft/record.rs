//! Record writes: what a retained publish does (design, 2.1).

use sapwood_value::Value;

use super::super::value::{prune, spell_out};
use super::{Draft, WriteError};
use crate::walk::{Cursor, inline, nearest};
use crate::{Below, Path, Payload, ReadError, Row, RowKind, Rows, RowsError, is_end};

impl Draft<'_> {
    /// Replaces the document at exactly this path. Records below and documents above stay as they are.
    pub(super) fn put_record(
        &mut self,
        path: &Path,
        document: &Value,
        payload: Option<&Payload>,
    ) -> Result<bool, WriteError> {
        if path.is_root() {
            return Err(WriteError::RecordAtRoot);
        }
        self.check_value(path, document)?;
        let mut document = document.clone();
        spell_out(&mut document);
        let old = self.row(path)?.filter(|row| row.is_record());
        let existed = old.is_some() || self.has_plain(path)?;
        let same = match &old {
            Some(old) => old.payload.as_deref() == payload && self.own_is(path, &document)?,
            None => false,
        };
        let mut row = match old {
            Some(old) => {
                self.clear_parts(path, &old)?;
                Row::clone(&old)
            }
            None => {
                let mut row = Row::new(RowKind::Record, document.clone(), self.seq);
                row.covered = self.cover(path)?.map(Box::new);
                row
            }
        };
        row.fragment = document;
        row.exploded = false;
        row.payload = payload.cloned().map(Box::new);
        row.below = self.find_below(path)?;
        row.records |= row.below != Below::Nothing;
        self.fill(path, row)?;
        if !same {
            self.touched.insert(path.clone());
        }
        Ok(existed)
    }

    /// Removes the document at exactly this path, or plain data there.
    pub(super) fn delete_record(&mut self, path: &Path) -> Result<bool, WriteError> {
        if path.is_root() {
            return Err(WriteError::RecordAtRoot);
        }
        if let Some(row) = self.row(path)?
            && row.is_record()
        {
            self.uncover(path, &row)?;
            return Ok(true);
        }
        if !self.has_plain(path)? {
            return Ok(false);
        }
        if let Some(row) = self.row(path)? {
            self.clear_parts(path, &row)?;
            self.remove(path)?;
            self.emptied_above(path);
        } else if let Some((at, _)) = nearest(self, path)? {
            self.remove_inline(&at, path)?;
        }
        Ok(true)
    }

    /// Whether plain data lies at a path.
    fn has_plain(&self, path: &Path) -> Result<bool, RowsError> {
        Ok(crate::own_exists(self, path)? && crate::record_of(self, path)?.is_none())
    }

    /// Clears the place for a new record: plain data goes, and what a document above keeps there in a row of its own
    /// is given back, to be kept by the record. What it keeps in a row further up is covered where it is.
    fn cover(&mut self, path: &Path) -> Result<Option<Value>, WriteError> {
        let plain = crate::record_of(self, path)?.is_none();
        match nearest(self, path)? {
            Some((at, row)) if at == *path => {
                let mut covered = if plain {
                    None
                } else {
                    self.read_covered(path)?
                };
                if covered.as_mut().is_none_or(|covered| !prune(covered)) {
                    covered = None;
                    self.emptied_above(path);
                }
                self.clear_parts(path, &row)?;
                Ok(covered)
            }
            Some((at, row)) if plain && inline(&at, &row, path).is_some() => {
                self.remove_inline(&at, path)?;
                Ok(None)
            }
            Some(_) | None => Ok(None),
        }
    }

    fn read_covered(&self, path: &Path) -> Result<Option<Value>, WriteError> {
        let limit = self.settings.limits.value_bytes;
        match crate::own(self, path, limit) {
            Ok(covered) => Ok(covered),
            Err(ReadError::Rows(error)) => Err(error.into()),
            Err(ReadError::TooLarge { limit }) => Err(WriteError::ValueTooLarge {
                path: path.clone(),
                got: limit + 1,
                limit,
            }),
        }
    }

    /// Removes a record; what it covered of the document above shows again, and records below stay.
    pub(super) fn uncover(&mut self, path: &Path, row: &Row) -> Result<(), RowsError> {
        self.clear_parts(path, row)?;
        match &row.covered {
            None => self.remove(path),
            Some(covered) => {
                let mut part = Row::new(RowKind::Part, (**covered).clone(), self.seq);
                part.below = self.find_below(path)?;
                self.fill(path, part)
            }
        }
    }

    /// Removes the parts of a row's document below it, and what records there cover of it.
    pub(super) fn clear_parts(&mut self, path: &Path, row: &Row) -> Result<(), RowsError> {
        if !row.exploded {
            return Ok(());
        }
        let few = self.settings.cut_rows;
        if row.is_record() && !row.records && !is_end(&self.scan(path, None, few + 1)?, few + 1) {
            self.cut(path);
            return Ok(());
        }
        let (mut parts, mut records) = (Vec::new(), Vec::new());
        let mut cursor = Cursor::new(path.clone());
        while let Some((at, below)) = cursor.next(self)? {
            if below.is_record() {
                cursor.skip_subtree(&at);
                records.push((at, below));
            } else {
                parts.push(at);
            }
        }
        if records.is_empty() && parts.len() > few {
            self.cut(path);
            return Ok(());
        }
        for part in parts {
            self.erase(&part)?;
        }
        for (at, record) in records.into_iter().filter(|(_, row)| row.covered.is_some()) {
            let mut record = Row::clone(&record);
            record.covered = None;
            self.set(&at, record);
        }
        if let Some(left) = self.row(path)?
            && left.below == Below::Children
        {
            // Records that lay below the parts are now next to this row.
            let mut left = Row::clone(&left);
            left.below = Below::Anywhere;
            self.set(path, left);
        }
        Ok(())
    }
}
