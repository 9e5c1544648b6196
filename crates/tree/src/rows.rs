//! Reading rows, wherever they are.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Bound;
use std::sync::Arc;

use crate::{Path, Row, RowChanges};

/// Rows as of one commit: what the store's views, a commit being made and the tests' map have in common.
///
/// Two reads of the same rows say the same. Dead rows (those below a later cut) are not there.
pub trait Rows {
    /// The row at exactly this path.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError>;

    /// The next rows strictly below `under` in tree order, at most `max`; from the first, or from behind `after`.
    ///
    /// It may end with the row by which they come to [`SCAN_BYTES`] in memory. Fewer than `max` and less than that means that
    /// there are no more ([`is_end`]).
    ///
    /// # Errors
    /// If the rows can't be read.
    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError>;
}

/// Rows of so many bytes need not be held at once, whatever their number: documents may be large.
pub const SCAN_BYTES: usize = 1 << 20;

/// Whether a scan for at most `max` rows that gave these has come to the end.
pub fn is_end(rows: &[(Path, Arc<Row>)], max: usize) -> bool {
    rows.len() < max && bytes_of(rows) < SCAN_BYTES
}

/// What rows count for in [`SCAN_BYTES`].
pub(crate) fn bytes_of(rows: &[(Path, Arc<Row>)]) -> usize {
    rows.iter().map(|(_, row)| row.scan_bytes()).sum()
}

/// What a scan that goes on leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The path it stopped at: rows below that path come next.
    Row,
    /// The path it stopped at, and all below that path.
    Subtree,
}

/// Rows could not be read: the disk's fault, or damage.
#[derive(Debug, thiserror::Error)]
#[error("the rows can't be read")]
pub struct RowsError(#[source] Box<dyn Error + Send + Sync>);

impl RowsError {
    /// An error of whatever keeps the rows.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl<R: Rows + ?Sized> Rows for &R {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        (**self).row(path)
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        (**self).scan(under, after, max)
    }
}

/// Rows in a map: for tests, and for trees that fit.
#[derive(Debug, Clone, Default)]
pub struct MemoryRows {
    rows: BTreeMap<Path, Arc<Row>>,
}

impl MemoryRows {
    /// No rows: an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies what a commit changed.
    pub fn apply(&mut self, changes: &RowChanges) {
        for cut in &changes.cuts {
            let dead: Vec<Path> = range_below(&self.rows, cut, Bound::Excluded(cut.clone()))
                .map(|(path, _)| path.clone())
                .collect();
            for path in dead {
                self.rows.remove(&path);
            }
        }
        for (path, row) in &changes.rows {
            match row {
                Some(row) => self.rows.insert(path.clone(), Arc::clone(row)),
                None => self.rows.remove(path),
            };
        }
    }

    /// All rows in tree order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Arc<Row>)> {
        self.rows.iter()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// The entries strictly below `under`, from `start` on.
pub(crate) fn range_below<'a, T>(
    map: &'a BTreeMap<Path, T>,
    under: &Path,
    start: Bound<Path>,
) -> impl Iterator<Item = (&'a Path, &'a T)> + use<'a, T> {
    let under = under.clone();
    map.range((start, Bound::Unbounded))
        .take_while(move |(path, _)| path.is_below(&under))
}

impl Rows for MemoryRows {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        Ok(self.rows.get(path).cloned())
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        let start = after.map_or(under, |(path, _)| path);
        Ok(
            range_below(&self.rows, under, Bound::Excluded(start.clone()))
                .skip_while(|(path, _)| {
                    after.is_some_and(|(at, skip)| skip == Skip::Subtree && path.is_below(at))
                })
                .take(max)
                .map(|(path, row)| (path.clone(), Arc::clone(row)))
                .collect(),
        )
    }
}
