//! A commit being made.

use std::sync::Arc;

use crate::{Applied, Op, Path, Row, RowChanges, Rows, RowsError, Settings, Skip, WriteError};

/// A commit being made over rows: reads through to them, and holds what the commit changes.
pub struct Draft<'a> {
    rows: &'a dyn Rows,
    _seq: u64,
    _settings: &'a Settings,
}

impl<'a> Draft<'a> {
    /// Begins commit `seq` over `rows`.
    pub fn new(rows: &'a dyn Rows, seq: u64, settings: &'a Settings) -> Self {
        Self {
            rows,
            _seq: seq,
            _settings: settings,
        }
    }

    /// Applies an operation behind those before it.
    ///
    /// # Errors
    /// If it says what can't be written, or the rows can't be read; the draft is then of no use.
    pub fn apply(&mut self, _op: &Op) -> Result<Applied, WriteError> {
        unimplemented!("coming")
    }

    /// Judges what the write emptied, and gives what changes.
    ///
    /// # Errors
    /// If the rows can't be read.
    pub fn finish(self) -> Result<RowChanges, RowsError> {
        unimplemented!("coming")
    }
}

impl Rows for Draft<'_> {
    fn row(&self, path: &Path) -> Result<Option<Arc<Row>>, RowsError> {
        self.rows.row(path)
    }

    fn scan(
        &self,
        under: &Path,
        after: Option<(&Path, Skip)>,
        max: usize,
    ) -> Result<Vec<(Path, Arc<Row>)>, RowsError> {
        self.rows.scan(under, after, max)
    }
}
