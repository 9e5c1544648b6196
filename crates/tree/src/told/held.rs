//! What a document, or the plain tree, holds at a path; and whether that is the same in two states.

use std::sync::Arc;

use sapwood_value::Value;

use crate::walk::{Cursor, inline};
use crate::{Path, ReadError, Row, Rows, RowsError, own};

/// Values up to this size are compared; of larger ones only the rows.
const COMPARED_BYTES: usize = 64 << 10;
/// So many rows of a larger value are compared before it counts as changed.
const COMPARED_ROWS: usize = 1024;

/// What one state's documents hold at a path.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Nothing,
    /// The row at this path holds all of it.
    Whole(Path, Arc<Row>),
    /// The path's row is exploded.
    Split(Arc<Row>),
}

impl Held {
    /// As the deepest row at or above `path` has it.
    pub(super) fn new(nearest: Option<(Path, Arc<Row>)>, path: &Path) -> Self {
        match nearest {
            Some((at, row)) if row.exploded && at == *path => Self::Split(row),
            Some((at, row)) if inline(&at, &row, path).is_some() => Self::Whole(at, row),
            Some(_) | None => Self::Nothing,
        }
    }

    /// The value, where one row holds it.
    pub(super) fn value(&self, path: &Path) -> Option<&Value> {
        match self {
            Self::Whole(at, row) => inline(at, row, path),
            Self::Nothing | Self::Split(_) => None,
        }
    }

    pub(super) fn is_split(&self) -> bool {
        matches!(self, Self::Split(_))
    }

    /// Whether there is nothing for a topic to say: an empty map that is no part of a record is nothing, too.
    pub(super) fn is_gone(
        &self,
        rows: &dyn Rows,
        path: &Path,
        inside: bool,
    ) -> Result<bool, RowsError> {
        Ok(match self {
            Self::Nothing => true,
            Self::Whole(..) => !inside && self.value(path).is_some_and(is_empty),
            Self::Split(row) => !inside && is_empty(&row.fragment) && is_hollow(rows, path)?,
        })
    }
}

pub(super) fn is_empty(value: &Value) -> bool {
    value.as_map().is_some_and(|map| map.is_empty())
}

/// Whether an exploded row that has no entries of its own has no parts below it either.
fn is_hollow(rows: &dyn Rows, path: &Path) -> Result<bool, RowsError> {
    const EMPTY_MAP_BYTES: usize = 3;
    match own(rows, path, EMPTY_MAP_BYTES) {
        Ok(value) => Ok(value.is_none_or(|value| is_empty(&value))),
        Err(ReadError::TooLarge { .. }) => Ok(false),
        Err(ReadError::Rows(error)) => Err(error),
    }
}

/// What is held at a path before and after.
pub(super) struct Pair<'a> {
    pub(super) path: &'a Path,
    pub(super) before: (&'a dyn Rows, Held),
    pub(super) after: (&'a dyn Rows, Held),
}

impl Pair<'_> {
    /// Whether what is held differs; a large value that was touched does.
    pub(super) fn differs(&self) -> Result<bool, RowsError> {
        let (before, after) = (&self.before.1, &self.after.1);
        match (before, after) {
            (Held::Nothing, Held::Nothing) => Ok(false),
            (Held::Nothing, _) | (_, Held::Nothing) => Ok(true),
            (Held::Whole(a, x), Held::Whole(b, y)) if Arc::ptr_eq(x, y) && a == b => Ok(false),
            (Held::Whole(..), Held::Whole(..)) => {
                Ok(before.value(self.path) != after.value(self.path))
            }
            (Held::Split(x), Held::Split(y)) if x.fragment != y.fragment => Ok(true),
            (Held::Split(_), _) | (_, Held::Split(_)) => self.differs_inside(),
        }
    }

    /// Whether a topic has another plain value to say.
    pub(super) fn plain_other(&self) -> Result<bool, RowsError> {
        match self.gone((false, false))? {
            (true, true) => Ok(false),
            (false, false) => self.differs(),
            (true, false) | (false, true) => Ok(true),
        }
    }

    /// Whether a field changed that lies `inside` a record, before or after. It did, too, if a plain empty map, which says
    /// nothing, became the field, or the other way round.
    pub(super) fn field_other(&self, inside: (bool, bool)) -> Result<bool, RowsError> {
        let (before, after) = self.gone(inside)?;
        Ok(before != after || self.differs()?)
    }

    /// Whether a topic has nothing to say, before and after.
    pub(super) fn gone(&self, inside: (bool, bool)) -> Result<(bool, bool), RowsError> {
        let (before, after) = (&self.before, &self.after);
        let before = before.1.is_gone(before.0, self.path, inside.0)?;
        Ok((before, after.1.is_gone(after.0, self.path, inside.1)?))
    }

    /// Whether a map and something else are held, or something and nothing.
    pub(super) fn became_map(&self) -> bool {
        let is_map = |held: &Held| match held {
            Held::Nothing => None,
            Held::Whole(..) => Some(held.value(self.path).is_some_and(|v| v.as_map().is_some())),
            Held::Split(row) => Some(row.fragment.as_map().is_some()),
        };
        is_map(&self.before.1) != is_map(&self.after.1)
    }

    /// The same pair with only what is no part of a record.
    pub(super) fn plain(mut self, inside: (bool, bool)) -> Self {
        if inside.0 {
            self.before.1 = Held::Nothing;
        }
        if inside.1 {
            self.after.1 = Held::Nothing;
        }
        self
    }

    fn differs_inside(&self) -> Result<bool, RowsError> {
        let read = |rows: &dyn Rows| own(rows, self.path, COMPARED_BYTES);
        match (read(self.before.0), read(self.after.0)) {
            (Ok(before), Ok(after)) => Ok(before != after),
            (Err(ReadError::Rows(error)), _) | (_, Err(ReadError::Rows(error))) => Err(error),
            (Err(_), Err(_)) => self.rows_differ(),
            (Err(_), Ok(_)) | (Ok(_), Err(_)) => Ok(true),
        }
    }

    /// Whether the first rows are others; so many that nobody counts them are.
    fn rows_differ(&self) -> Result<bool, RowsError> {
        let mut before = Cursor::new(self.path.clone());
        let mut after = Cursor::new(self.path.clone());
        for _ in 0..COMPARED_ROWS {
            match (before.next(self.before.0)?, after.next(self.after.0)?) {
                (None, None) => return Ok(false),
                (Some((a, x)), Some((b, y))) if a == b && Arc::ptr_eq(&x, &y) => {}
                _ => return Ok(true),
            }
        }
        Ok(true)
    }
}
