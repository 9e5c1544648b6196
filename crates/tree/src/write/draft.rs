//! A commit being made.

mod fill;
mod mark;
mod record;
mod subtrees;
mod tree;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use subtrees::{Subtrees, remove_below};

use super::value::{identical, prune};
use super::{Applied, Op, OpKind, RowChanges, Settings, WriteError};
use crate::rows::range_below;
use crate::walk::{Parts, nearest};
use crate::{Below, Path, Row, RowKind, Rows, RowsError, SCAN_BYTES, Skip, is_end};

/// A commit being made over rows: reads through to them, and holds what the commit changes.
///
/// Between operations a map that nobody spelled out may be empty: what empties is judged in [`Draft::finish`].
pub struct Draft<'a> {
    rows: &'a dyn Rows,
    seq: u64,
    settings: &'a Settings,
    changed: BTreeMap<Path, Option<Arc<Row>>>,
    cuts: Subtrees,
    /// Paths of large new values, strictly below which no rows were before.
    empty_below: Subtrees,
    /// Rows that were read, as they were before.
    read: RefCell<HashMap<Path, Option<Arc<Row>>>>,
    /// Records whose documents change.
    touched: BTreeSet<Path>,
    /// Rows in which a map that nobody spelled out may have emptied.
    emptied: BTreeSet<Path>,
}

impl<'a> Draft<'a> {
    /// Begins commit `seq` over `rows`.
    pub fn new(rows: &'a dyn Rows, seq: u64, settings: &'a Settings) -> Self {
        Self {
            rows,
            seq,
            settings,
            changed: BTreeMap::new(),
            cuts: Subtrees::default(),
            empty_below: Subtrees::default(),
            read: RefCell::default(),
            touched: BTreeSet::new(),
            emptied: BTreeSet::new(),
        }
    }

    /// Applies an operation behind those before it.
    ///
    /// # Errors
    /// If it says what can't be written, or the rows can't be read; the draft is then of no use.
    pub fn apply(&mut self, op: &Op) -> Result<Applied, WriteError> {
        let path = &op.path;
        if path.is_system() {
            return Err(WriteError::System { path: path.clone() });
        }
        if path.len() > self.settings.limits.depth {
            return Err(self.too_deep(path));
        }
        let existed = match &op.kind {
            OpKind::Put { value, mark } => self.put_marked(path, value, *mark)?,
            OpKind::Merge { entries, mark } => self.merge(path, entries, *mark)?,
            OpKind::Delete => self.delete(path)?,
            OpKind::PutRecord { document, payload } => {
                self.put_record(path, document, payload.as_ref())?
            }
            OpKind::DeleteRecord => self.delete_record(path)?,
            OpKind::Mark => {
                self.mark(path, true)?;
                crate::exists(self, path)?
            }
        };
        Ok(Applied { existed })
    }

    fn too_deep(&self, path: &Path) -> WriteError {
        WriteError::TooDeep {
            path: path.clone(),
            limit: self.settings.limits.depth,
        }
    }

    /// Judges what the write emptied, and gives what changes.
    ///
    /// # Errors
    /// If the rows can't be read.
    pub fn finish(mut self) -> Result<RowChanges, RowsError> {
        // The last in tree order lies deepest; what it empties lies above it.
        while let Some(path) = self.emptied.pop_last() {
            self.judge(&path)?;
        }
        self.settle_unchanged()?;
        self.settle_versions()?;
        Ok(RowChanges {
            rows: self.changed.into_iter().collect(),
            cuts: self.cuts.into_paths(),
        })
    }

    /// Removes what nobody spelled out and nothing is left of, in one row.
    fn judge(&mut self, path: &Path) -> Result<(), RowsError> {
        let Some(row) = self.row(path)? else {
            return Ok(());
        };
        if row.exploded && self.has_parts(path)? {
            return Ok(());
        }
        let mut fragment = row.fragment.clone();
        if !prune(&mut fragment) {
            return self.remove_emptied(path, &row);
        }
        if row.exploded && !path.is_root() || !identical(&fragment, &row.fragment) {
            let mut row = Row::clone(&row);
            row.fragment = fragment;
            row.exploded &= path.is_root();
            self.set(path, row);
        }
        Ok(())
    }

    /// Whether an exploded row has children in rows of their own, or covered ones.
    fn has_parts(&self, path: &Path) -> Result<bool, RowsError> {
        let mut parts = Parts::new(path.clone());
        Ok(parts.next(self)?.is_some())
    }

    /// Removes a row whose map emptied: a record shows again what it covered.
    fn remove_emptied(&mut self, path: &Path, row: &Row) -> Result<(), RowsError> {
        if row.is_record() {
            self.uncover(path, row)
        } else {
            self.remove(path)?;
            self.emptied_above(path);
            Ok(())
        }
    }

    /// Drops changes that change nothing, so that rows left equal are not written again.
    fn settle_unchanged(&mut self) -> Result<(), RowsError> {
        let mut changed = std::mem::take(&mut self.changed);
        let mut failed = None;
        changed.retain(|path, row| match self.before(path) {
            Ok(before) => match (&before, row) {
                (Some(before), Some(row)) => !same_row(before, row),
                (before, row) => before.is_some() || row.is_some(),
            },
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        self.changed = changed;
        failed.map_or(Ok(()), Err)
    }

    /// Gives this commit's version to the records whose documents it changed.
    fn settle_versions(&mut self) -> Result<(), RowsError> {
        for path in std::mem::take(&mut self.touched) {
            let Some(row) = self.row(&path)? else {
                continue;
            };
            let changed = self.changed.contains_key(&path)
                || self.cuts.reach_below(&path)
                || range_below(&self.changed, &path, Bound::Excluded(path.clone()))
                    .next()
                    .is_some();
            if row.is_record() && changed {
                let mut row = Row::clone(&row);
                row.version = self.seq;
                self.set(&path, row);
            }
        }
        Ok(())
    }

    /// The row as it was before this commit, unless a cut of this commit ended it.
    fn before(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        if self.cuts.above(path).is_some() || self.empty_below.above(path).is_some() {
            return Ok(None);
        }
        if let Some(row) = self.read.borrow().get(path) {
            return Ok(row.clone());
        }
        let row = self.rows.row(path)?;
        self.read.borrow_mut().insert(path.clone(), row.clone());
        Ok(row)
    }

    /// Writes a row.
    fn set(&mut self, path: &Path, mut row: Row) {
        row.written = self.seq;
        if row.kind == RowKind::Part {
            row.version = self.seq;
        }
        self.changed.insert(path.clone(), Some(Arc::new(row)));
    }

    /// Writes a row, and lets the rows above know of it if it is new.
    fn place(&mut self, path: &Path, row: Row) -> Result<(), RowsError> {
        let known = self.row(path)?;
        let new = known.is_none();
        let new_record = row.is_record() && known.is_none_or(|known| !known.is_record());
        self.set(path, row);
        if new {
            self.note_below(path, Below::Anywhere)?;
        }
        if new_record {
            self.note_record(path)?;
        }
        Ok(())
    }

    /// Removes a row. Those below it stay, and the row above learns of them.
    fn remove(&mut self, path: &Path) -> Result<(), RowsError> {
        let row = self.row(path)?;
        self.before(path)?;
        self.changed.insert(path.clone(), None);
        if row.is_some_and(|row| row.below != Below::Nothing) {
            self.note_below(path, Below::Anywhere)?;
        }
        Ok(())
    }

    /// Tells the nearest row above a path that rows lie there.
    fn note_below(&mut self, path: &Path, most: Below) -> Result<(), RowsError> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let Some((at, row)) = nearest(self, &parent)? else {
            return Ok(());
        };
        let below = if at == parent && self.changed.get(path).is_none_or(Option::is_some) {
            Below::Children
        } else {
            most
        };
        if row.below < below {
            let mut row = Row::clone(&row);
            row.below = below;
            self.set(&at, row);
        }
        Ok(())
    }

    /// Tells the record above a path that a record lies there.
    fn note_record(&mut self, path: &Path) -> Result<(), RowsError> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let Some(record) = crate::record_of(self, &parent)? else {
            return Ok(());
        };
        if let Some(row) = self.row(&record)?
            && !row.records
        {
            let mut row = Row::clone(&row);
            row.records = true;
            self.set(&record, row);
        }
        Ok(())
    }

    /// A child of the row above went: that row may have emptied.
    fn emptied_above(&mut self, path: &Path) {
        if let Some(parent) = path.parent() {
            self.emptied.insert(parent);
        }
    }

    /// Whether rows may lie strictly below a path, as the nearest row at or above it says.
    fn may_have_below(&self, path: &Path) -> Result<bool, RowsError> {
        Ok(match nearest(self, path)? {
            None => true,
            Some((at, _)) if at.is_root() => true,
            Some((at, row)) if at == *path => row.below != Below::Nothing,
            Some((_, row)) => row.below == Below::Anywhere,
        })
    }

    /// Ends all rows strictly below a path, those of this commit and all before it.
    fn cut(&mut self, path: &Path) {
        let ours: Vec<Path> = range_below(&self.changed, path, Bound::Excluded(path.clone()))
            .map(|(path, _)| path.clone())
            .collect();
        for path in ours {
            self.changed.remove(&path);
        }
        remove_below(&mut self.emptied, path);
        self.cuts.insert(path);
    }

    /// The record that a path's document is of has another document now.
    fn touch(&mut self, path: &Path) -> Result<(), RowsError> {
        if let Some(record) = crate::record_of(self, path)? {
            self.touch_record(&record)?;
        }
        Ok(())
    }

    /// The document of a record is another now, so the bytes that it came in are not it any more.
    fn touch_record(&mut self, record: &Path) -> Result<(), RowsError> {
        self.touched.insert(record.clone());
        if let Some(row) = self.row(record)?
            && row
                .payload
                .as_ref()
                .is_some_and(|payload| payload.bytes.is_some())
        {
            let mut row = Row::clone(&row);
            if let Some(payload) = &mut row.payload {
                payload.bytes = None;
            }
            self.set(record, row);
        }
        Ok(())
    }
}

/// Whether a row may stay as `a` instead of becoming `b`: they say the same.
fn same_row(a: &Row, b: &Row) -> bool {
    a.kind == b.kind
        && a.exploded == b.exploded
        // Too much may be said of what lies below; that alone is no reason to write a row.
        && a.below >= b.below
        && a.records >= b.records
        && a.payload == b.payload
        && identical(&a.fragment, &b.fragment)
        && match (&a.covered, &b.covered) {
            (Some(a), Some(b)) => identical(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
}

impl Rows for Draft<'_> {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        match self.changed.get(path) {
            Some(row) => Ok(row.clone()),
            None => self.before(path),
        }
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        let start = after.map_or(under, |(path, _)| path);
        let mut ours = range_below(&self.changed, under, Bound::Excluded(start.clone()))
            .skip_while(|(path, _)| {
                after.is_some_and(|(at, skip)| skip == Skip::Subtree && path.is_below(at))
            })
            .peekable();
        let mut theirs = Alive::new(self, under, after);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < max && bytes < SCAN_BYTES {
            let order = match (ours.peek(), theirs.peek((max - found.len()).max(4))?) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((ours, _)), Some((theirs, _))) => (*ours).cmp(theirs),
            };
            let their = if order.is_ge() { theirs.take() } else { None };
            match (order.is_le().then(|| ours.next()).flatten(), their) {
                (Some((path, Some(row))), _) => found.push((path.clone(), Arc::clone(row))),
                (None, Some(their)) => found.push(their),
                _ => continue,
            }
            bytes += found.last().map_or(0, |(_, row)| row.scan_bytes());
        }
        Ok(found)
    }
}

/// The rows of before that no cut of the draft ended.
struct Alive<'a> {
    draft: &'a Draft<'a>,
    under: &'a Path,
    batch: std::collections::VecDeque<(Path, Arc<Row>)>,
    resume: Option<(Path, Skip)>,
    done: bool,
}

impl<'a> Alive<'a> {
    fn new(draft: &'a Draft<'a>, under: &'a Path, after: Option<(&Path, Skip)>) -> Self {
        Self {
            draft,
            under,
            batch: std::collections::VecDeque::new(),
            resume: after.map(|(path, skip)| (path.clone(), skip)),
            // All that lies below a cut, or is one, was ended.
            done: draft.cuts.cover(under),
        }
    }

    fn peek(&mut self, max: usize) -> Result<Option<&(Path, Arc<Row>)>, RowsError> {
        while self.batch.is_empty() && !self.done {
            let after = self.resume.as_ref().map(|(path, skip)| (path, *skip));
            let batch = self.draft.rows.scan(self.under, after, max)?;
            self.done = is_end(&batch, max);
            for (path, row) in batch {
                if let Some(cut) = self.draft.cuts.above(&path) {
                    self.done = false;
                    self.resume = Some((cut.clone(), Skip::Subtree));
                    break;
                }
                self.resume = Some((path.clone(), Skip::Row));
                self.batch.push_back((path, row));
            }
        }
        Ok(self.batch.front())
    }

    fn take(&mut self) -> Option<(Path, Arc<Row>)> {
        self.batch.pop_front()
    }
}
