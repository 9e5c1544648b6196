//! What a write says at its path and above it.

use std::sync::Arc;

use super::Teller;
use super::held::{Held, Pair};
use super::writes::Change;
use crate::{Path, Row, Rows, RowsError};

/// The places from the root to a written path.
struct Line {
    levels: Vec<Level>,
}

struct Level {
    path: Path,
    before: Side,
    after: Side,
}

/// A level in one of the two states.
struct Side {
    row: Option<Arc<Row>>,
    /// The level of the record that this one belongs to.
    record: Option<usize>,
    /// The level of the deepest row at or above this one.
    nearest: Option<usize>,
}

impl Line {
    fn read(before: &dyn Rows, after: &dyn Rows, path: &Path) -> Result<Self, RowsError> {
        let mut levels: Vec<Level> = Vec::with_capacity(path.len() + 1);
        for n in 0..=path.len() {
            let above = levels.last();
            let path = path.prefix(n);
            let before = Side::new(before.row(&path)?, above.map(|above| &above.before), n);
            let after = Side::new(after.row(&path)?, above.map(|above| &above.after), n);
            levels.push(Level {
                path,
                before,
                after,
            });
        }
        Ok(Self { levels })
    }

    fn end(&self) -> usize {
        self.levels.len() - 1
    }

    fn held(&self, side: impl Fn(&Level) -> &Side, n: usize) -> Held {
        let nearest = side(&self.levels[n]).nearest.map(|at| &self.levels[at]);
        let nearest = nearest.and_then(|level| {
            let row = side(level).row.as_ref()?;
            Some((level.path.clone(), Arc::clone(row)))
        });
        Held::new(nearest, &self.levels[n].path)
    }

    /// Whether two levels belong to the same documents, before and after.
    fn go_together(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.levels[a], &self.levels[b]);
        a.before.record == b.before.record && a.after.record == b.after.record
    }

    /// Whether the written path lay, and lies, in the same record: nothing in plain data changed.
    fn stays_inside(&self) -> bool {
        let end = &self.levels[self.end()];
        end.before.record.is_some() && end.before.record == end.after.record
    }
}

impl Side {
    fn new(row: Option<Arc<Row>>, above: Option<&Self>, level: usize) -> Self {
        let is_record = row.as_ref().is_some_and(|row| row.is_record());
        Self {
            record: is_record
                .then_some(level)
                .or(above.and_then(|above| above.record)),
            nearest: row
                .is_some()
                .then_some(level)
                .or(above.and_then(|above| above.nearest)),
            row,
        }
    }

    fn is_record(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.is_record())
    }
}

impl Level {
    /// Whether a record begins here in one of the states only.
    fn turns(&self) -> bool {
        self.before.is_record() != self.after.is_record()
    }

    /// Whether this lies in a record, before and after.
    fn inside(&self) -> (bool, bool) {
        (self.before.record.is_some(), self.after.record.is_some())
    }
}

impl<Id> Teller<'_, '_, Id> {
    /// Says what a write changed at its path, above it and below it.
    pub(super) fn tell_line(&mut self, path: &Path, change: Change) -> Result<(), RowsError> {
        if !self.filters.concerns(&path.prefix(1)) {
            return Ok(());
        }
        let line = Line::read(self.before, self.after, path)?;
        if change.record && self.filters.matches(path) {
            self.topic(path).record = true;
        }
        self.tell_records(&line)?;
        if !line.stays_inside() {
            self.tell_plain(&line)?;
        }
        self.tell_fields(&line)?;
        let Some((end, above)) = line.levels.split_last() else {
            return Ok(());
        };
        for level in above.iter().filter(|level| level.turns()) {
            self.tell_turned(&level.path, level.after.is_record())?;
        }
        self.tell_below(path, change, end.turns())
    }

    /// Rules 1 and 3: the records whose documents changed.
    fn tell_records(&mut self, line: &Line) -> Result<(), RowsError> {
        for n in 1..=line.end() {
            let level = &line.levels[n];
            let told = self
                .topics
                .get(&level.path)
                .is_some_and(|topic| topic.record);
            if told || !(level.before.is_record() || level.after.is_record()) {
                continue;
            }
            if self.filters.matches(&level.path) && self.record_changed(line, n)? {
                self.topic(&level.path).record = true;
            }
        }
        Ok(())
    }

    fn record_changed(&self, line: &Line, n: usize) -> Result<bool, RowsError> {
        let level = &line.levels[n];
        match (&level.before.row, &level.after.row) {
            (Some(before), Some(after)) if !level.turns() => {
                Ok(before.version != after.version && self.differs(line, n)?)
            }
            _ => Ok(true),
        }
    }

    /// Rule 2: the path itself, or the longest part of it that a filter matches.
    fn tell_plain(&mut self, line: &Line) -> Result<(), RowsError> {
        let end = line.end();
        for n in (1..=end).rev() {
            let level = &line.levels[n];
            let told = if n == end {
                self.filters.all(&level.path)
            } else {
                // Those that match below, too, were told of the path itself.
                self.filters.ending(&level.path)
            };
            if level.after.record.is_none() && !told.is_empty() && self.plain_changed(line, n)? {
                self.topic(&level.path).plain.extend(told);
            }
        }
        Ok(())
    }

    /// Whether the plain value at a level changed. What changed in it lies at the written path, or where a record
    /// begins or ends; or it was no map, and became one on the way there.
    fn plain_changed(&self, line: &Line, n: usize) -> Result<bool, RowsError> {
        let mut changed = self.plain_pair(line, line.end()).differs()?;
        for m in n..line.end() {
            let pair = self.plain_pair(line, m);
            changed = changed || pair.became_map() || line.levels[m].turns() && pair.differs()?;
        }
        // An empty map says nothing, so it may have become nothing.
        Ok(changed && self.plain_pair(line, n).gone((false, false))? != (true, true))
    }

    fn plain_pair<'s>(&'s self, line: &'s Line, n: usize) -> Pair<'s> {
        self.pair(line, n).plain(line.levels[n].inside())
    }

    fn pair<'s>(&'s self, line: &'s Line, n: usize) -> Pair<'s> {
        Pair {
            path: &line.levels[n].path,
            before: (self.before, line.held(|level| &level.before, n)),
            after: (self.after, line.held(|level| &level.after, n)),
        }
    }

    /// Rule 4: fields inside records.
    fn tell_fields(&mut self, line: &Line) -> Result<(), RowsError> {
        for n in 1..=line.end() {
            let level = &line.levels[n];
            let inside = level.inside();
            if inside == (false, false) || level.after.is_record() {
                continue;
            }
            if self.filters.literal(&level.path).is_empty() {
                continue;
            }
            if self.field_changed(line, n, inside)? {
                self.topic(&level.path).field = true;
            }
        }
        Ok(())
    }

    fn field_changed(
        &self,
        line: &Line,
        n: usize,
        inside: (bool, bool),
    ) -> Result<bool, RowsError> {
        let level = &line.levels[n];
        if level.before.record == level.after.record
            && let Some(record) = level.after.record
        {
            let version = |side: &Side| side.row.as_ref().map(|row| row.version);
            let record = &line.levels[record];
            return Ok(version(&record.before) != version(&record.after) && self.differs(line, n)?);
        }
        self.pair(line, n).field_other(inside)
    }

    /// Whether what is held at a level differs: if it does at the written path, it does above, in the same documents.
    fn differs(&self, line: &Line, n: usize) -> Result<bool, RowsError> {
        let end = line.end();
        if n < end && line.go_together(n, end) && self.pair(line, end).differs()? {
            return Ok(true);
        }
        self.pair(line, n).differs()
    }
}
